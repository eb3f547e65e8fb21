"""`headrace plan`: what a run would take, before anything is spent. The same words as `headrace run`."""

import argparse
import os
import shutil
import sys

import msgspec

from headrace.cli.kinds import WHOLE, Wrong
from headrace.cli.run import asked_of, settings_of, table_of
from headrace.core.errors import UsageError
from headrace.engine.forecast import Plan
from headrace.report.planned import plan_lines
from headrace.report.signs import glyphs_of
from headrace.report.text import one_line
from headrace.sim.plan import plan

_WIDTH = 80
_OF_A_RUN = ("output", "report", "ordered", "show-prompt")
"""What comes of a run, and nothing of a plan."""


def run(args: argparse.Namespace) -> int:
    for name in _OF_A_RUN:
        if args.configuration.found[name].origin == "flag":
            raise UsageError(
                f"A plan has no --{name}: it makes no run.", hint="Leave it out here, and give it to headrace run."
            )
    work = asked_of(args)
    settings = settings_of(args, key=args.key, name=args.name, first=args.first)
    made = plan(work, table_of(args), settings, os.environ, pilot=_pilot(args), tell=None if args.quiet else _say)
    if args.json:
        print(msgspec.json.encode(made).decode())
    else:
        _show(made)
    return 0


def _pilot(args: argparse.Namespace) -> int:
    if args.pilot is None:
        return 0
    try:
        count = int(WHOLE.of_word(args.pilot))
    except Wrong as wrong:
        raise UsageError(f"--pilot: {wrong.reason}.", hint=wrong.hint) from None
    if count < 1:
        raise UsageError(f"A pilot of {count} rows is none.", hint="Give a number from 1 up, such as --pilot 50.")
    return count


def _show(made: Plan) -> None:
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    for line in plan_lines(made, width, glyphs_of(sys.stdout, os.environ)):
        print(line)


def _say(notice: str) -> None:
    print(one_line(notice), file=sys.stderr)
