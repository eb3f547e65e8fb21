"""`headrace quality`: what is wrong with a folder of tests, as rules and a model find it; words in, exit status out."""

import argparse
import os
import sys
from pathlib import Path

import headrace as hr
from headrace.apps.quality import (
    FORMATS,
    SEVERITIES,
    STRATEGIES,
    QualityReport,
    analyse,
    concurrency_of,
    format_of,
    rendered,
    write_page,
)
from headrace.cli.flags import add_flags
from headrace.core.errors import OutputError, UsageError
from headrace.report.signs import encodable

TIMEOUT_S = 120.0
FOUND = 4
"""The exit status where a finding is as severe as `--fail-on` says."""
_TAKEN = (
    "model", "base-url", "temperature", "max-tokens", "param", "header", "rpm", "tpm", "deadline",
    "backup", "max-failure-rate", "fresh", "store", "keep-no-prompts", "report", "quiet", "debug",
)  # fmt: skip


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace quality PATH [--strategy rules|model|hybrid] [--model MODEL] [--fail-on SEVERITY] [...]"
    words.add_argument("path", metavar="PATH", help="a folder of tests (test_*.py, *_test.py), or one file")
    words.add_argument(
        "--strategy", choices=STRATEGIES, default="hybrid",
        help="rules alone; hybrid: the model looks at tests that rules cannot judge (default); model: at all, without rules",
    )  # fmt: skip
    words.add_argument(
        "--concurrency",
        metavar="N",
        help="most calls in flight, 1 to 50 (10); HEADRACE_QUALITY_CONCURRENCY says it too",
    )
    words.add_argument(
        "--timeout", metavar="S", type=float, default=TIMEOUT_S, help="most seconds for one attempt (120)"
    )
    words.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out paths below PATH, such as 'data/*' (repeatable)",
    )
    words.add_argument(
        "--ignore",
        metavar="RULES",
        action="append",
        default=[],
        help="rules that have no say: HQ009,HQ034 (repeatable)",
    )
    words.add_argument(
        "--fail-on",
        choices=SEVERITIES,
        metavar="SEVERITY",
        help="low, medium or high: exit with 4 where a finding is as severe",
    )
    words.add_argument("--format", choices=FORMATS, help="text (default), json or sarif")
    words.add_argument(
        "-o", "--output", metavar="FILE", help="write the findings into a file: .txt, .json or .sarif says the format"
    )
    add_flags(words, *_TAKEN)
    words.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """0; 1 where something was not read or not answered; 3 where the provider refused; 4 as `--fail-on` says."""
    from headrace.cli.run import model_of  # noqa: PLC0415 - rules alone start at once

    form = _form(args)
    number = concurrency_of(args.concurrency)
    asks = args.strategy != "rules"
    if asks and args.model is None:
        raise UsageError(
            f"the strategy {args.strategy} asks a model, and none is named.", hint="Give --model, or --strategy rules."
        )
    report = analyse(
        args.path, strategy=args.strategy, model=model_of(args) if asks else None,
        timeout=args.timeout, params=args.param, temperature=args.temperature,
        max_tokens=args.max_tokens, exclude=args.exclude,
        ignore=[each for word in args.ignore for each in word.replace(",", " ").split()],
        limits=hr.Limits(number, rpm=args.rpm, tpm=args.tpm), deadline=args.deadline, backup=args.backup,
        max_failure_rate=args.max_failure_rate, fresh=args.fresh, store=args.store,
        keep_prompts=not args.keep_no_prompts, progress=not args.quiet,
    )  # fmt: skip
    _write(args, form, report)
    return _status(args, report)


def _form(args: argparse.Namespace) -> str:
    """The format of the findings. What cannot be written is told now, before the first call."""
    if args.report is not None:
        from headrace.report.page import check_writable  # noqa: PLC0415 - only who wants a report needs it

        check_writable(args.report)
    if args.output in (None, "-"):
        return args.format or "text"
    if not Path(args.output).resolve().parent.is_dir() or Path(args.output).is_dir():
        raise OutputError(
            f"{args.output} cannot be written: there is no such folder, or it is one.", hint="Name a file."
        )
    return format_of(args.output, args.format)


def _write(args: argparse.Namespace, form: str, report: QualityReport) -> None:
    if args.output in (None, "-"):
        sys.stdout.write(encodable(rendered(report, form, coloured=form == "text" and _is_coloured()), sys.stdout))
    else:
        try:
            Path(args.output).write_text(rendered(report, form), "utf-8")
        except OSError as error:
            raise OutputError(f"{args.output} cannot be written ({error.strerror}).", hint="Write elsewhere.") from None
        _say(args, f"The findings are in {args.output}")
    if args.report is not None:
        write_page(args.report, report, args.store)
        _say(args, f"The report is {args.report}")


def _is_coloured() -> bool:
    from headrace.cli.screen import is_coloured  # noqa: PLC0415 - for a terminal alone

    return is_coloured(sys.stdout, os.environ)


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        print(text, file=sys.stderr)


def _status(args: argparse.Namespace, report: QualityReport) -> int:
    if args.fail_on is not None and report.reaches(args.fail_on):
        return FOUND
    return 3 if report.stopped else 1 if report.is_partial else 0
