"""The `headrace` command: words in, exit status out. Errors become one sentence here, and nowhere else."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from headrace.cli import run, runs
from headrace.cli.words import Words
from headrace.core.errors import HeadraceError
from headrace.report.text import one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all items ok, 1 some failed, 2 bad usage or input, 3 stopped early, 130 interrupted."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started us: it leads nowhere
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    try:
        try:
            return _commanded(argv)
        finally:
            sys.stdout.flush()
    except OSError as error:  # of standard output: all else is told by whoever meets it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        if isinstance(error, BrokenPipeError):  # whoever read it has left
            return 0
        print(f"headrace: Standard output could not be written: {error.strerror}. Write elsewhere.", file=sys.stderr)
        return 2


def _commanded(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        status: int = args.command(args)
    except HeadraceError as error:
        if args.debug:
            traceback.print_exc()
        print(f"headrace: {one_line(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours is no reason to show a user its inside
        if args.debug:
            traceback.print_exc()
        print(
            f"headrace: this should not happen ({type(error).__name__}: {one_line(str(error))}). What was answered is in "
            "the store. Please report it with what --debug shows.",
            file=sys.stderr,
        )
        return 3
    return status


def _parser() -> argparse.ArgumentParser:
    import headrace  # noqa: PLC0415 - for its version alone

    parser = Words(prog="headrace", description="Run a language model over everything you have.")
    parser.add_argument("--version", action="version", version=f"headrace {headrace.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Words)
    for name, module, told in (
        ("run", run, "ask a model about every row of a table"),
        ("runs", runs, "list, show, export and resume runs"),
    ):
        words = commands.add_parser(name, help=told, description=told[0].upper() + told[1:] + ".")
        module.add_arguments(words)
    _add_lazily(commands)
    return parser


def _add_lazily(commands: "argparse._SubParsersAction[Words]") -> None:
    """Commands whose modules are slow to import are imported when their word is there."""
    from headrace.cli import local  # noqa: PLC0415 - see above
    from headrace.sim import command  # noqa: PLC0415 - see above

    words = commands.add_parser("local", help="the small model that runs on this machine")
    local.add_arguments(words)
    words.set_defaults(command=local.run, debug=False)
    words = commands.add_parser("simulate", help="a provider to test against, over HTTP")
    command.add_arguments(words)
    words.set_defaults(command=command.run, debug=False)
