"""`headrace runs`: what ran, on what, how far; its answers again, and its rest."""

import argparse
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from headrace.api import write_result
from headrace.cli.display import printable
from headrace.cli.pipe import send
from headrace.cli.run import add_run_arguments, execute, settings_of, wishes_of
from headrace.cli.words import headers_of, returns_of
from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.core.ports import RunInfo
from headrace.data.columns import columns_of
from headrace.data.sink import check_output
from headrace.settings import DEFAULT_STORE
from headrace.store.history import SqliteHistory
from headrace.task.work import Ask

_SENT_AT_ONCE = 200


def add_arguments(words: argparse.ArgumentParser) -> None:
    verbs = words.add_subparsers(title="verbs", metavar="VERB", required=True)
    listed = verbs.add_parser("list", help="all runs of this store, the last one first")
    listed.set_defaults(command=_list)
    shown = verbs.add_parser("show", help="one run: what was asked, how far it is, what failed")
    shown.set_defaults(command=_show)
    exported = verbs.add_parser("export", help="a run's answers as a file")
    exported.add_argument(
        "-o", "--output", metavar="FILE", help="as .jsonl, .csv or .parquet; without it, JSON Lines on standard output"
    )
    exported.set_defaults(command=_export)
    for parser in (listed, shown, exported):
        parser.add_argument("--store", type=Path, default=DEFAULT_STORE, metavar="FILE")
        parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    resumed = verbs.add_parser("resume", help="go on with a run that ended early, or try again what failed")
    add_run_arguments(resumed)
    resumed.set_defaults(command=_resume)
    for parser in (shown, exported, resumed):
        parser.add_argument("run", metavar="RUN", help="a run's name or id, or how it begins")


def _list(args: argparse.Namespace) -> int:
    history = SqliteHistory(args.store)
    rows = [("RUN", "STARTED", "STATUS", "OK", "FAILED", "PENDING", "SOURCE")]
    for info in history.runs():
        counts = history.counts(info.id)
        pending = "?" if counts.pending is None else str(counts.pending)
        source = printable(_source(info), 200)
        rows.append(
            (
                printable(info.name, 60),
                _time(info.started_at),
                info.status,
                str(counts.ok),
                str(counts.failed),
                pending,
                source,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        _say("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
    return 0


def _show(args: argparse.Namespace) -> int:
    history = SqliteHistory(args.store)
    info = _found(history, args.run)
    counts = history.counts(info.id)
    spec = info.spec
    lines: list[tuple[str, Any]] = [
        ("run", f"{info.name} ({info.id})"), ("status", f"{info.status}{f': {info.reason}' if info.reason else ''}"),
        ("started", _time(info.started_at)), ("source", _source(info)), ("model", spec.get("model")),
        ("asked", spec.get("prompt")), ("system", spec.get("system")), ("returns", spec.get("returns")),
        ("ok", counts.ok), ("failed", counts.failed),
        ("pending", "unknown: its source was not read to the end" if counts.pending is None else counts.pending),
        ("calls", counts.calls), ("tokens", f"{counts.input_tokens} in, {counts.output_tokens} out"),
    ]  # fmt: skip
    for name, value in lines:
        if value is not None:
            _say(f"{name:9}{printable(str(value), 400)}")
    for kind, (count, message, key) in _failures(history, info).items():
        _say(f"{count} x {kind}: {printable(message, 300)} (first: {printable(key, 60)})")
    return 0


def _failures(history: SqliteHistory, info: RunInfo) -> dict[str, tuple[int, str, str]]:
    kinds: dict[str, tuple[int, str, str]] = {}
    for outcome in history.scan(info.id):
        if outcome.error is not None:
            count, message, key = kinds.get(outcome.error.kind, (0, outcome.error.message, outcome.key))
            kinds[outcome.error.kind] = (count + 1, message, key)
    return kinds


def _export(args: argparse.Namespace) -> int:
    history = SqliteHistory(args.store)
    info = _found(history, args.run)
    if args.output is not None:
        check_output(args.output)
        _say(f"{write_result(args.output, info, history)} rows in {args.output}")
        return 0
    columns = columns_of(info.spec.get("fields"), info.spec.get("schema"))
    outcomes = history.scan(info.id)
    while batch := list(islice(outcomes, _SENT_AT_ONCE)):
        send(batch, columns)
    return 0


def _resume(args: argparse.Namespace) -> int:
    info = _found(SqliteHistory(args.store), args.run)
    spec = info.spec
    if spec.get("work") != "ask":
        raise UsageError(
            f"The run {info.name} called a function, which only its program has.", hint="Run that program again."
        )
    if not spec.get("path"):
        raise UsageError(
            f"The source of the run {info.name} cannot be read again.",
            hint="Run the same command over the same rows again.",
        )
    if spec["typed"] and not spec["returns"]:
        raise UsageError(
            f"The answers of the run {info.name} have a Python type that only its program has.",
            hint="Run that program again.",
        )
    work = Ask(
        spec["prompt"], system=spec["system"], returns=returns_of(spec["returns"]) if spec["typed"] else spec["returns"], temperature=spec["temperature"],
        model=Model(spec["model"], base_url=spec["base_url"], headers=headers_of(args.header)),
        max_tokens=spec["max_tokens"], params=spec["params"],
    )  # fmt: skip
    name = info.name if spec["named"] else None
    return execute(
        work,
        spec["path"],
        settings_of(args, key=spec["key"], name=name, first=spec["first"]),
        wishes_of(args, spec["path"]),
    )


def _found(history: SqliteHistory, word: str) -> RunInfo:
    runs = history.runs()
    exact = [info for info in runs if word in (info.name, info.id)]
    found = exact or [info for info in runs if word and (info.name.startswith(word) or info.id.startswith(word))]
    if len(found) == 1 or exact:
        return found[0]
    names = ", ".join(info.name for info in (found or runs)[:10]) or "none"
    wrong = f"There is no run {word!r}." if not found else f"{word!r} begins the names of {len(found)} runs."
    raise UsageError(wrong, hint=f"Runs: {names}.")


def _source(info: RunInfo) -> str:
    """Where its items are, which is no part of a named run's identity."""
    return info.spec.get("path") or info.source or "(unnamed)"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _say(text: str) -> None:
    print(text)
