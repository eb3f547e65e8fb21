"""The `headrace` command: words in, exit status out. Errors become one sentence here, and nowhere else.

Imports only what the command at hand needs: the help should be there at once.
"""

import argparse
import atexit
import errno
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from headrace.cli import flags
from headrace.cli.words import Words
from headrace.core.errors import INTERNAL, HeadraceError, UsageError
from headrace.report.text import one_line

if TYPE_CHECKING:
    from headrace.cli.events import Events

_ATTENDED = (["run"], ["tweets"], ["calls"], ["audit"], ["documents"])
_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)
"""A reader that left, a terminal that is closed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all items ok, 1 some failed, 2 bad usage or input, 3 stopped early, 130 interrupted."""
    atexit.register(gc.freeze)  # the end of a process is no time to look for garbage: that took 50 ms
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started us: it leads nowhere
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    status = 0
    try:
        try:
            status = _commanded(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except OSError as error:  # of standard output: all else is told by whoever meets it
        _to_nowhere(sys.stdout)
        if error.errno in _GONE:  # nobody is there to be told
            return status
        _say(f"headrace: Standard output could not be written: {error.strerror}. Write elsewhere. [output]")
        return 2
    return status


def _commanded(argv: Sequence[str]) -> int:
    """The command's status. What went wrong is told as a sentence, or to a program as events."""
    args = argparse.Namespace(debug="--debug" in argv, events=_events() if _are_wanted(argv) else None)
    status = 3
    try:
        status = _run(args, argv)
    except HeadraceError as error:
        status = error.exit_status
        _tell(args, error, f"headrace: {one_line(str(error))} [{error.kind}]")
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 0
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours is no reason to show a user its inside
        told = f"headrace: this should not happen ({type(error).__name__}: {one_line(str(error))}). What was answered is in "
        _tell(args, error, f"{told}the store. Please report it with what --debug shows. [{INTERNAL}]")
    finally:
        if args.events is not None:
            args.events.ended(status)
    return status


def _run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    word = next((word for word in argv if not word.startswith("-")), "")
    _parser(word).parse_args(argv, args)
    if hasattr(args, "flags"):
        from headrace.cli.configuration import configured  # noqa: PLC0415 - the help decides nothing

        args.configuration = configured(args, os.environ, _working_folder())
    if getattr(args, "attended", False):
        if args.json and args.events is None:
            args.events = _events()
        if args.events is not None:
            args.events.is_quiet = args.quiet
    status: int = args.command(args)
    return status


def _are_wanted(argv: Sequence[str]) -> bool:
    """Whether a program reads along: it is to be told also that its words are wrong."""
    return "--json" in argv and (argv[:1] in _ATTENDED or argv[:2] == ["runs", "resume"])


def _events() -> "Events":
    from headrace.cli.events import Events  # noqa: PLC0415 - for programs alone

    return Events(sys.stderr)


def _tell(args: argparse.Namespace, error: Exception, sentence: str) -> None:
    if args.debug:
        import traceback  # noqa: PLC0415 - for who looks for a fault alone

        for line in "".join(traceback.format_exception(error)).rstrip().splitlines():
            (args.events.notice if args.events is not None else _say)(line)
    if args.events is not None:
        args.events.error(error)
    else:
        _say(sentence)


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # whoever read it has left
        _to_nowhere(sys.stderr)


def _to_nowhere(stream: IO[str]) -> None:
    """What the interpreter itself flushes at its end must not fail."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise UsageError("The working folder is not there any more.", hint="Change to another one.") from None


def _parser(word: str | None = None) -> argparse.ArgumentParser:
    """The words of this command, and the names of all others; those of all commands where none is named."""
    import headrace  # noqa: PLC0415 - for its version alone

    parser = Words(prog="headrace", description="Run a language model over everything you have.")
    parser.add_argument("--version", action="version", version=f"headrace {headrace.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Words)
    for name, told, add in (
        ("run", "ask a model about every row of a table", _add_run),
        ("plan", "forecast what a run would take, before anything is spent", _add_plan),
        ("runs", "list, show, export and resume runs", _add_runs),
        ("tweets", "find the tweets of a feed that are worth a closer look, and take it", _add_tweets),
        ("calls", "an insight for each phone call of a table, and a report on all of them", _add_calls),
        ("audit", "how visible brands are in what models answer", _add_audit),
        ("quality", "find what is wrong with a folder of tests", _add_quality),
        ("documents", "what documents are and say, one by one and together", _add_documents),
        ("config", "show which settings hold, and where each was said", _add_config),
        ("local", "the small model that runs on this machine", _add_local),
        ("simulate", "a provider to test against, over HTTP", _add_simulate),
    ):
        words = commands.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        if word in (None, name):
            add(words)
    return parser


def _add_run(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace run INPUT --ask TEXT --model MODEL [-o FILE] [...]"
    flags.add_all(words)
    words.set_defaults(command=_later("headrace.cli.run", "run"))


def _add_plan(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace plan INPUT --ask TEXT --model MODEL [--pilot N] [the words of headrace run]"
    flags.add_all(words)
    words.add_argument("--pilot", metavar="N", help="pay for the first N rows, keep their answers, and plan with them")
    words.set_defaults(command=_later("headrace.cli.plan", "run"), attended=False)


def _add_runs(words: argparse.ArgumentParser) -> None:
    from headrace.cli import runs  # noqa: PLC0415 - see above

    runs.add_arguments(words)


def _add_tweets(words: argparse.ArgumentParser) -> None:
    from headrace.cli import tweets  # noqa: PLC0415 - see above

    tweets.add_arguments(words)


def _add_calls(words: argparse.ArgumentParser) -> None:
    from headrace.cli import calls  # noqa: PLC0415 - see above

    calls.add_arguments(words)


def _add_audit(words: argparse.ArgumentParser) -> None:
    from headrace.cli import audit  # noqa: PLC0415 - see above

    audit.add_arguments(words)


def _add_documents(words: argparse.ArgumentParser) -> None:
    from headrace.cli import documents  # noqa: PLC0415 - see above

    documents.add_arguments(words)


def _add_quality(words: argparse.ArgumentParser) -> None:
    from headrace.cli import quality  # noqa: PLC0415 - see above

    quality.add_arguments(words)


def _add_config(words: argparse.ArgumentParser) -> None:
    words.usage = "headrace config [the words of headrace run]"
    flags.add_all(words)
    words.set_defaults(command=_later("headrace.cli.config", "run"), attended=False)


def _add_local(words: argparse.ArgumentParser) -> None:
    from headrace.cli import local  # noqa: PLC0415 - see above

    local.add_arguments(words)
    words.set_defaults(command=local.run)


def _add_simulate(words: argparse.ArgumentParser) -> None:
    from headrace.sim import command  # noqa: PLC0415 - see above

    command.add_arguments(words)
    words.set_defaults(command=command.run)


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def command(args: argparse.Namespace) -> int:
        status: int = getattr(importlib.import_module(module), name)(args)
        return status

    return command
