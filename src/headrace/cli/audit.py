"""`headrace audit`: how visible brands are in what models answer; words in, exit status out."""

import argparse
from pathlib import Path
from typing import Any

from headrace.cli.flags import add_application
from headrace.core.errors import OutputError


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.usage = (
        "headrace audit BRANDS --model MODEL [--assistant MODEL ...] [--responses FILE] [--report R.html] [...]"
    )
    words.add_argument(
        "input", metavar="BRANDS", help="a table (CSV, XLSX, JSON Lines ...) with the columns brand and product, and site"
    )  # fmt: skip
    words.add_argument(
        "--assistant", metavar="MODEL", action="append", default=[],
        help="a model whose answers are audited (repeatable); left out, --model, which writes the queries and judges",
    )  # fmt: skip
    words.add_argument("--queries", metavar="N", type=int, default=8, help="for each brand, put to each assistant (8)")
    words.add_argument(
        "--responses", metavar="FILE",
        help="responses that were collected before (CSV, JSON Lines: brand, query, model, response), in place of asking",
    )  # fmt: skip
    words.add_argument(
        "--allow", metavar="HOST", action="append", default=[], help="a private host that may be fetched (repeatable)"
    )
    words.add_argument("--dashboard", metavar="FILE", help="the dashboard's data, as JSON")
    add_application(words)
    words.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    from headrace.apps import audit  # noqa: PLC0415 - the help needs no types of answers
    from headrace.cli.application import asked_of, carry_out, model_of_application  # noqa: PLC0415 - as above

    if args.dashboard is not None and not Path(args.dashboard).resolve().parent.is_dir():
        raise OutputError(f"{args.dashboard} cannot be written: there is no such folder.", hint="Create it first.")
    analyst = model_of_application(args)
    assistants = [model_of_application(argparse.Namespace(**{**vars(args), "model": each})) for each in args.assistant]
    work = audit.pipeline(
        assistants or [analyst], analyst=analyst, queries=args.queries, allow=args.allow,
        responses=None if args.responses is None else audit.read_responses(args.responses), **asked_of(args),
    )  # fmt: skip

    def ending(run: Any) -> tuple[bool, list[str]]:
        report = audit.report_of(run)
        if args.dashboard is not None:
            audit.write_dashboard(args.dashboard, report)
        if args.report is not None:
            run.report(args.report, sections=audit.sections(report), title="Visibility of brands")
        return True, [report.sentence]

    return carry_out(args, work, ending)
