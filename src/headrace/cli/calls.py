"""`headrace calls`: an insight for each call of a table, and a report on all; words in, exit status out."""

import argparse
from typing import Any

from headrace.cli.flags import add_application
from headrace.core.errors import UsageError


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace calls TABLE --model MODEL [-o FILE] [--report R.html] [...]"
    words.add_argument(
        "input", metavar="TABLE",
        help="a table of calls (CSV, XLSX, Parquet ...); its columns agent and duration_s are used where they are there",
    )  # fmt: skip
    words.add_argument(
        "--text", metavar="COLUMN", default="transcript", help="the column of what was said (transcript)"
    )
    words.add_argument("--no-themes", action="store_true", help="do not ask what the calls have in common")
    add_application(words)
    words.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    import headrace as hr  # noqa: PLC0415 - the help needs nothing of it
    from headrace.api import run_sync  # noqa: PLC0415 - as above
    from headrace.apps import calls  # noqa: PLC0415 - as above
    from headrace.cli.application import asked_of, carry_out, model_of_application, shared_budget  # noqa: PLC0415 - as above

    if not args.text or set(args.text) & set("{}"):
        raise UsageError(f"The column {args.text!r} cannot be asked about.", hint="Name a column of the table.")
    model, asked = model_of_application(args), asked_of(args)

    def ending(run: Any) -> tuple[bool, list[str]]:
        report = run_sync(
            calls.report_of(
                run, None if args.no_themes else model, asked=asked, store=args.store, timeout=args.timeout,
                limits=hr.Limits(args.concurrency, rpm=args.rpm, tpm=args.tpm), fresh=args.fresh,
                keep_prompts=not args.keep_no_prompts, prices=args.prices, budget=shared_budget(args),
            )
        )  # fmt: skip
        if args.report is not None:
            run.report(args.report, sections=calls.sections(report), title="Call performance")
        return not report.lacks_themes, _told(report)

    def added(outcome: Any) -> dict[str, Any]:
        return {"category": calls.category(outcome.item), "analysis_success": outcome.ok}

    return carry_out(args, calls.question(model, text=args.text, **asked), ending, added)


def _told(report: Any) -> list[str]:
    from headrace.apps.calls import counts  # noqa: PLC0415 - see above
    from headrace.report.text import one_line  # noqa: PLC0415 - see above

    said = []
    for name in ("category", "topic", "sentiment"):
        found = ", ".join(f"{count:,} {value}" for value, count in counts(report.insights, name).items())
        said += [f"{name}: {found}"] if found else []
    themes = "; ".join(report.themes.themes) if report.themes else f"none. {report.without_themes}"
    return [*said, one_line(f"themes: {themes}")]
