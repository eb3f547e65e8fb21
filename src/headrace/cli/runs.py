"""The words of `headrace runs`: what ran, on what, how far, and what it used; its answers again, and its rest.

Imports nothing that is slow: what a verb does is imported when its word is there.
"""

import argparse
import sys
import time

from headrace.cli.flags import add_flags, add_run_arguments

_RUN = "a run's name or id, or how it begins; `last` is the one that was started last"


def add_arguments(words: argparse.ArgumentParser) -> None:
    verbs = words.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="all runs of this store, the last one first")
    showing = verbs.add_parser("show", help="one run: what was asked, how far it is, what failed, what it used")
    exporting = verbs.add_parser("export", help="a run's answers as a file")
    reporting = verbs.add_parser("report", help="a run as a page that opens anywhere")
    resuming = verbs.add_parser("resume", help="go on with a run that ended early, or try again what failed")
    pruning = verbs.add_parser("prune", help="remove runs, and answers of some age, and give their room back")
    for parser in (showing, exporting, reporting, resuming):
        parser.add_argument("run", metavar="RUN", help=_RUN)
    for parser in (listing, showing):
        parser.add_argument("--json", action="store_true", help="for programs: JSON, one object a line")
    exporting.add_argument(
        "-o", "--output", metavar="FILE",
        help="the format is in its name, as for headrace run; without it, or with -, JSON Lines on standard output",
    )  # fmt: skip
    reporting.add_argument("-o", "--output", metavar="FILE", help="the page (the run's name, ending in .html)")
    _add_pruning(pruning)
    for parser in (listing, showing, exporting, reporting, pruning):
        add_flags(parser, "store")
        parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
        parser.set_defaults(attended=False)
    add_run_arguments(resuming)
    for parser, command in ((listing, _list), (showing, _show), (exporting, _export), (reporting, _report)):
        parser.set_defaults(command=command)
    resuming.set_defaults(command=_resume)
    pruning.set_defaults(command=_prune)


def _add_pruning(words: argparse.ArgumentParser) -> None:
    words.add_argument("runs", nargs="*", metavar="RUN", help="names or ids; without one, all runs that the words mean")
    words.add_argument(
        "--older-than", type=_age_of, metavar="AGE", help="only what ended longer ago than this: 30d, 12h, 90m, 2w"
    )
    words.add_argument("--keep-last", type=_number_of, metavar="N", help="keep the N runs that were started last")
    words.add_argument(
        "--answers", action="store_true",
        help="stored answers too that are older than --older-than, whichever runs they were for",
    )  # fmt: skip
    words.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    words.add_argument("--yes", action="store_true", help="do not ask")


def _list(args: argparse.Namespace) -> int:
    from headrace.cli import listing  # noqa: PLC0415 - see above

    return listing.list_runs(args, sys.stdout, time.time())


def _show(args: argparse.Namespace) -> int:
    from headrace.cli import listing  # noqa: PLC0415 - see above

    return listing.show_run(args, sys.stdout, time.time())


def _export(args: argparse.Namespace) -> int:
    from headrace.cli import again  # noqa: PLC0415 - see above

    return again.export(args)


def _report(args: argparse.Namespace) -> int:
    from headrace.cli import again  # noqa: PLC0415 - see above

    return again.report(args)


def _resume(args: argparse.Namespace) -> int:
    from headrace.cli import again  # noqa: PLC0415 - see above

    return again.resume(args)


def _prune(args: argparse.Namespace) -> int:
    from headrace.cli import prune  # noqa: PLC0415 - see above

    return prune.prune(args)


_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def _age_of(word: str) -> float:
    """Seconds."""
    number, unit = word[:-1], word[-1:]
    try:
        age_s = float(number) * _UNITS_S[unit]
    except (ValueError, KeyError):
        age_s = -1.0
    if not 0 <= age_s < 1e12:
        raise argparse.ArgumentTypeError(f"{word!r} is no age such as 30d, 12h, 90m or 2w")
    return age_s


def _number_of(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is no number of runs")
    return int(word)
