"""`headrace runs prune`: says what would go, asks, removes it, and says what came of it."""

import argparse
import sys
import time
from collections.abc import Sequence

from headrace.cli.choice import meant
from headrace.cli.listing import moment, status_of
from headrace.core.errors import RunIsLive, UsageError
from headrace.core.ports import RunInfo
from headrace.report.signs import printable
from headrace.report.text import plural, size
from headrace.store.history import SqliteHistory
from headrace.store.prune import Amount, Pruning

_SHOWN = 10


def prune(args: argparse.Namespace) -> int:
    if not args.runs and args.older_than is None and args.keep_last is None:
        raise UsageError(
            "It is not said what may go.", hint="Name runs, or give --older-than 30d or --keep-last 20; see --help."
        )
    if args.answers and args.older_than is None:
        raise UsageError(
            "It is not said which answers may go.",
            hint="Answers belong to no run, only to a question: give their age too, as --older-than 30d (0d is all).",
        )
    history = SqliteHistory(args.store)
    now = time.time()
    before = None if args.older_than is None else now - args.older_than
    chosen = _chosen(history.runs(), args.runs, before, args.keep_last)
    pruning = Pruning(args.store)
    try:
        ids, answers_before = [info.id for info in chosen], before if args.answers else None
        amount = pruning.amount(ids, answers_before=answers_before)
        if amount.is_nothing:
            _say("There is nothing to remove.")
            return 0
        _announce(chosen, amount, args)
        if args.dry_run or not _is_agreed(args):
            _say("Nothing was removed.")
            return 0
        pruned = pruning.prune(ids, answers_before=answers_before)
    finally:
        pruning.close()
    _say(f"Removed. The store has {_size(pruned.bytes_after)} now; it had {_size(pruned.bytes_before)}.")
    if not pruned.shrunk:
        _say("Others use it, so its file stays as large for now: what is stored next takes the room.")
    return 0


def _chosen(runs: list[RunInfo], words: Sequence[str], before: float | None, keep_last: int | None) -> list[RunInfo]:
    """The runs that may go. One that goes on is refused where it is named, and else stays."""
    named = [info for word in words for info in meant(runs, word)]
    chosen = list(dict.fromkeys(info.id for info in named)) if words else [info.id for info in runs]
    if not words and before is None and keep_last is None:
        return []
    kept = {info.id for info in runs[: keep_last or 0]}
    found = [info for info in runs if info.id in chosen and info.id not in kept]
    for info in found:
        if info.status == "running" and words:
            raise RunIsLive(f"The run {info.name!r} goes on.", hint="Wait for it or end it; nothing was removed.")
    old = [info for info in found if before is None or (info.ended_at or info.started_at) < before]
    return [info for info in old if info.status != "running"]


def _announce(chosen: Sequence[RunInfo], amount: Amount, args: argparse.Namespace) -> None:
    for info in chosen[:_SHOWN]:
        _say(f"  {printable(info.name, 60)}  {status_of(info)}, started {moment(info.started_at)}")
    if len(chosen) > _SHOWN:
        _say(f"  and {plural(len(chosen) - _SHOWN, 'more run')}")
    parts = [(amount.runs, "run"), (amount.outcomes, "outcome"), (amount.evidence, "rejected answer")]
    told = ", ".join(plural(count, noun) for count, noun in parts if count)
    if args.answers:
        told = f"{told}{', ' if told else ''}{plural(amount.answers, 'stored answer')}"
    _say(f"To be removed from {args.store}: {told}; about {_size(amount.bytes)}.")
    if amount.outcomes and not amount.runs:
        _say("They are what a pruning that was broken off has left.")
    if args.answers and amount.answers:
        _say("Runs that stay keep their outcomes; run again, they ask and pay anew for what is removed here.")


def _is_agreed(args: argparse.Namespace) -> bool:
    if args.yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("Nobody can be asked here, so nothing was removed.", hint="Say --yes where it is meant.")
    sys.stdout.write("Remove this? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _size(count: int) -> str:
    return size(count) if count >= 1000 else plural(count, "byte")


def _say(text: str) -> None:
    print(text)
