"""A run's answers again: as a file, as a report, and its rest asked. Enters words, leaves an exit status."""

import argparse
import re
from itertools import islice
from typing import Any

from headrace.api import write_result
from headrace.cli.choice import the_run
from headrace.cli.execute import execute
from headrace.cli.pipe import send
from headrace.cli.run import settings_of, wishes_of
from headrace.cli.words import returns_of
from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.core.ports import RunInfo
from headrace.data.columns import columns_of
from headrace.data.sink import check_output
from headrace.data.table import Table
from headrace.store.history import SqliteHistory
from headrace.task.pipeline import Pipeline
from headrace.task.work import Ask

_SENT_AT_ONCE = 200
_READING = ("sheet", "encoding", "delimiter", "query")


def export(args: argparse.Namespace) -> int:
    history = SqliteHistory(args.store)
    info = the_run(history, args.run)
    if args.output not in (None, "-"):
        check_output(args.output)
        _say(f"{write_result(args.output, info, history)} rows in {args.output}")
        return 0
    columns = columns_of(info.spec.get("fields"), info.spec.get("schema"))
    outcomes = history.scan(info.id)
    while batch := list(islice(outcomes, _SENT_AT_ONCE)):
        send(batch, columns)
    return 0


def report(args: argparse.Namespace) -> int:
    from headrace.report import page  # noqa: PLC0415 - only who wants a report needs it

    history = SqliteHistory(args.store)
    info = the_run(history, args.run)
    path = args.output or f"{re.sub(r'[^-.a-zA-Z0-9_]+', '-', info.name).strip('-.') or 'run'}.html"
    page.check_writable(path)
    page.report(path, info, history)
    _say(f"The report is {path}")
    return 0


def resume(args: argparse.Namespace) -> int:
    info = the_run(SqliteHistory(args.store), args.run)
    spec = info.spec
    _check(info)
    work: Ask[Any] | Pipeline[Any] = Pipeline.from_dict(spec["pipeline"]) if spec["work"] == "pipeline" else Ask(
        spec["prompt"], system=spec["system"],
        returns=returns_of(spec["returns"]) if spec["typed"] else spec["returns"], temperature=spec["temperature"],
        model=Model(spec["model"], base_url=spec["base_url"], headers=args.header), max_tokens=spec["max_tokens"],
        params=spec["params"], images=tuple(spec.get("images") or ()), samples=spec.get("samples", 1),
    )  # fmt: skip
    how: dict[str, Any] = {name: spec[name] for name in _READING if spec.get(name) is not None}
    name = info.name if spec["named"] else None
    return execute(
        work,
        Table(spec["path"], **how),
        settings_of(args, key=spec["key"], name=name, first=spec["first"]),
        wishes_of(args, spec["path"]),
    )


def _check(info: RunInfo) -> None:
    """Raises UsageError where only whoever started it can go on with the run."""
    spec = info.spec
    if spec.get("work") == "pipeline" and spec.get("pipeline") is None and spec.get("keep_prompts", True):
        raise UsageError(
            f"The run {info.name} called functions that only its program has.", hint="Run that program again."
        )
    if spec.get("work") not in ("ask", "pipeline"):
        raise UsageError(
            f"The run {info.name} called a function, which only its program has.", hint="Run that program again."
        )
    if not spec.get("keep_prompts", True):
        raise UsageError(
            f"The run {info.name} kept no prompts, so what it asked is not known.",
            hint="Run the same command again: it goes on from there.",
        )
    if not spec.get("path"):
        raise UsageError(
            f"The source of the run {info.name} cannot be read again.",
            hint="Run the same command over the same rows again.",
        )
    if spec.get("typed") and not spec["returns"]:
        raise UsageError(
            f"The answers of the run {info.name} have a Python type that only its program has.",
            hint="Run that program again.",
        )


def _say(text: str) -> None:
    print(text)
