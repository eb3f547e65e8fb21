"""Runs as a person reads them, and as programs do. Enters what the store remembers, leaves lines or plain values.

All that names and messages hold is foreign text.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import msgspec

from headrace.cli.choice import the_run
from headrace.cli.screen import is_coloured, painted, size_of
from headrace.core.ports import Counts, History, RunInfo
from headrace.engine.snapshot import Snapshot, snapshot_of
from headrace.report.signs import Glyphs, Part, glyphs_of, printable
from headrace.report.text import cells, clean, dollars, duration, keys_told, plural, rate
from headrace.report.text import shown as as_text
from headrace.store.history import KILLED, SqliteHistory

_COLUMNS = ("RUN", "STATUS", "OK", "FAILED", "PENDING", "CALLS", "TOKENS", "COST", "TIME", "STARTED", "MODEL", "SOURCE")
_NUMBERS = frozenset(("OK", "FAILED", "PENDING", "CALLS", "TOKENS", "COST", "TIME"))
_SPARED = ("MODEL", "CALLS", "TOKENS", "COST", "TIME", "SOURCE", "STARTED", "PENDING")
"""What a narrow terminal does without, the first at first."""
_YIELDING = {"SOURCE": 12, "RUN": 40}
"""What is cut before a column is left out, and how narrow at most: a run's name is what the other commands take."""
_RUN_LEAST = 10
"""Where nothing else is left to leave out."""
_GAP = 2
_STYLES = {"finished": "green", "running": "cyan", "stopped": "yellow", "interrupted": "yellow", "killed": "red"}
_KEYS_SHOWN, _MESSAGE_WIDTH, _KEY_WIDTH = 3, 500, 60
_TEXT_LINES = 40
_SETTINGS = ("temperature", "max_tokens", "key", "first", "sheet", "encoding", "delimiter", "query", "images")


def list_runs(args: argparse.Namespace, stream: IO[str], now: float) -> int:
    history = SqliteHistory(args.store)
    runs = ((info, history.counts(info.id)) for info in history.runs())
    if args.json:
        for info, counts in runs:
            stream.write(_json(as_json(info, counts)))
    else:
        listed(list(runs), stream, now)
    return 0


def show_run(args: argparse.Namespace, stream: IO[str], now: float) -> int:
    history = SqliteHistory(args.store)
    info = the_run(history, args.run)
    counts, failures = history.counts(info.id), failures_of(history, info.id)
    if args.json:
        stream.write(_json(detailed(info, counts, failures)))
    else:
        shown(info, counts, failures, stream, now)
    return 0


class Failures(msgspec.Struct):
    """The items of a run that failed for one kind of reason. Message and hint are the first one's."""

    kind: str
    count: int
    message: str
    hint: str
    keys: list[str]
    """The first few."""


def failures_of(history: History, run: str) -> list[Failures]:
    """The most frequent first."""
    kinds: dict[str, Failures] = {}
    for outcome in history.scan(run, failed_only=True):
        error = outcome.error
        if error is None:
            continue
        group = kinds.setdefault(error.kind, Failures(error.kind, 0, error.message, error.hint, []))
        group.count += 1
        if len(group.keys) < _KEYS_SHOWN:
            group.keys.append(outcome.key)
    return sorted(kinds.values(), key=lambda group: -group.count)


def as_json(info: RunInfo, counts: Counts) -> dict[str, Any]:
    """One run as a program reads it."""
    return {
        "id": info.id, "name": info.name, "status": info.status, "reason": info.reason, "source": _source(info),
        "model": info.spec.get("model"), "started_at": _instant(info.started_at), "ended_at": _instant(info.ended_at),
        "seconds": None if info.ended_at is None else round(max(info.ended_at - info.started_at, 0.0), 3),
        "session": info.session, "items": info.total, "ok": counts.ok, "failed": counts.failed,
        "pending": counts.pending, "calls": counts.calls, "input_tokens": counts.input_tokens,
        "output_tokens": counts.output_tokens, "usd": None if counts.usd is None else round(counts.usd, 9),
    }  # fmt: skip


def detailed(info: RunInfo, counts: Counts, failures: Sequence[Failures]) -> dict[str, Any]:
    """All that is known of one run: also what it was told, what failed, and its figures."""
    figures = snapshot_of(info.figures)
    told = {name: value for name, value in info.spec.items() if name != "arrow_schema"}
    return {**as_json(info, counts), "asked": told, "failures": list(failures), "figures": figures}


def listed(runs: Sequence[tuple[RunInfo, Counts]], stream: IO[str], now: float) -> None:
    """A table; on a terminal one that fits it."""
    if not runs:
        stream.write("There are no runs in this store.\n")
        return
    rows = [_cells(info, counts, now) for info, counts in runs]
    glyphs = glyphs_of(stream, os.environ)
    width = size_of(stream)[0] - 1 if stream.isatty() else None
    columns, widths = _fitted(rows, width)
    coloured = is_coloured(stream, os.environ)
    for row in [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows]:
        stream.write(painted(_line(row, columns, widths, glyphs), stream, coloured=coloured).rstrip() + "\n")


def shown(info: RunInfo, counts: Counts, failures: Sequence[Failures], stream: IO[str], now: float) -> None:
    """One run on plain lines."""
    coloured = is_coloured(stream, os.environ)
    for name, value, style in _facts(info, counts, now):
        lines = [line for line in clean(value).split("\n") if line.strip()] or [""]
        if len(lines) > _TEXT_LINES:
            lines = [*lines[:_TEXT_LINES], f"and {plural(len(lines) - _TEXT_LINES, 'more line')}; --json has all"]
        for place, line in enumerate(lines):
            parts = [(f"{name if not place else '':10}", "dim"), (line, style)]
            stream.write(painted(parts, stream, coloured=coloured).rstrip() + "\n")
    for group in failures:
        keys = keys_told([printable(key, _KEY_WIDTH) for key in group.keys], group.count)
        told = f"{group.count:,} x {group.kind}: {printable(group.message, _MESSAGE_WIDTH)} ({keys})"
        stream.write(painted([(told, "red")], stream, coloured=coloured) + "\n")
        if group.hint:
            stream.write(f"    {printable(group.hint, _MESSAGE_WIDTH)}\n")
    if _may_go_on(info, counts):
        stream.write(f"Go on with it: headrace runs resume {printable(info.name, _MESSAGE_WIDTH)}\n")


def status_of(info: RunInfo) -> str:
    """Its status as a person reads it: a run whose process was killed could not say that it was interrupted."""
    return "killed" if info.status == "interrupted" and info.reason == KILLED else info.status


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _cells(info: RunInfo, counts: Counts, now: float) -> dict[str, str]:
    took_s = _took_s(info, now)
    return {
        "RUN": info.name, "STATUS": status_of(info), "OK": f"{counts.ok:,}", "FAILED": f"{counts.failed:,}",
        "PENDING": "?" if counts.pending is None else f"{counts.pending:,}", "CALLS": f"{counts.calls:,}",
        "TOKENS": f"{counts.input_tokens + counts.output_tokens:,}",
        "COST": "?" if counts.usd is None else dollars(counts.usd), "TIME": "?" if took_s is None else duration(took_s),
        "STARTED": moment(info.started_at), "MODEL": str(info.spec.get("model") or "a function"),
        "SOURCE": _source(info) or "(unnamed)",
    }  # fmt: skip


def _fitted(rows: Sequence[Mapping[str, str]], width: int | None) -> tuple[list[str], dict[str, int]]:
    """Which columns there are, and how wide each is. Without a width, all of them in full."""
    columns = [column for column in _COLUMNS if column != "COST" or any(row["COST"] != "?" for row in rows)]
    widths = {column: max(len(column), *(_width(row[column], 500) for row in rows)) for column in columns}
    if width is None:
        return columns, widths
    over = 0
    for spared in ("", *_SPARED):
        columns = [column for column in columns if column != spared]
        over = sum(widths[column] + _GAP for column in columns) - _GAP - width
        if over <= sum(max(widths[column] - least, 0) for column, least in _YIELDING.items() if column in columns):
            break
    for column, least in (*_YIELDING.items(), ("RUN", _RUN_LEAST)):
        if column in columns and over > 0:
            less = min(over, max(widths[column] - least, 0))
            widths[column] -= less
            over -= less
    return columns, widths


def _line(row: Mapping[str, str], columns: Sequence[str], widths: Mapping[str, int], glyphs: Glyphs) -> Iterator[Part]:
    for place, column in enumerate(columns):
        text, width = row[column], widths[column]
        cut = _end_of(text, width, glyphs.more) if column == "SOURCE" else printable(text, width, glyphs.more)
        room = " " * (width - _width(cut, width))
        gap = " " * _GAP if place else ""
        yield (f"{gap}{room}{cut}" if column in _NUMBERS else f"{gap}{cut}{room}", _style(column, text))


def _style(column: str, text: str) -> str:
    if text == column:
        return "bold"
    if column == "FAILED" and text != "0":
        return "red"
    return _STYLES.get(text, "") if column == "STATUS" else ""


def _end_of(text: str, width: int, more: str) -> str:
    """Of a path, the end tells most."""
    line = printable(text, 10 * max(width, 1) + 500)
    return line if _width(line, 10**6) <= width else f"{more}{line[len(more) - width :]}"


def _width(text: str, most: int) -> int:
    return sum(map(cells, printable(text, most)))


_OF_STAGE = ("model", "prompt", "name", "keep", "into", "count", "by", "every", "each", "url", "source")
"""What is told of a stage."""


def _facts(info: RunInfo, counts: Counts, now: float) -> Iterator[tuple[str, str, str]]:
    """Name, value and style of each line."""
    spec, status = info.spec, status_of(info)
    yield "run", f"{info.name} ({info.id})", "bold"
    why = f": {info.reason}" if info.reason and info.reason != status else ""
    yield "status", f"{status}{why}", _STYLES[status]
    took_s = _took_s(info, now)
    again = f", session {info.session}" if info.session > 1 else ""
    took = "" if took_s is None else f", took {duration(took_s)}"
    yield "started", f"{moment(info.started_at)}{took}{again}", ""
    yield "source", _source(info) or "(unnamed)", ""
    if spec.get("model"):
        at = f" at {spec['base_url']}" if spec.get("base_url") else ""
        yield "model", f"{spec['model']}{at}", ""
    elif spec.get("work") == "function":
        yield "function", f"{spec.get('name')} {spec.get('version') or ''}".rstrip(), ""
    if not spec.get("keep_prompts", True):
        yield "asked", "(prompts and items were not kept)", "dim"
    yield from [("stage", _stage(stage), "") for stage in spec.get("stages") or ()]
    for name, place in (("asked", "prompt"), ("system", "system"), ("returns", "returns")):
        if spec.get(place):
            yield name, as_text(spec[place]), ""
    settings = [f"{name.replace('_', ' ')} {as_text(spec[name])}" for name in _SETTINGS if spec.get(name)]
    settings += [f"{name}={as_text(value)}" for name, value in (spec.get("params") or {}).items()]
    if settings:
        yield "settings", ", ".join(settings), ""
    unknown = "an unknown number pending: its source was not read to the end"
    pending = unknown if counts.pending is None else f"{counts.pending:,} pending"
    yield "items", f"{counts.ok:,} ok, {counts.failed:,} failed, {pending}", ""
    yield "calls", f"{counts.calls:,}", ""
    yield "tokens", f"{counts.input_tokens:,} in, {counts.output_tokens:,} out", ""
    if counts.usd is not None:
        yield "cost", dollars(counts.usd), ""
    if budget := _budget(info):
        yield "budget", budget, ""
    figures = snapshot_of(info.figures)
    if figures is not None and figures.calls:
        yield "pace", _pace(figures), ""


def _stage(told: Mapping[str, Any]) -> str:
    """A stage of a pipeline in one line: its name, what it is, and what it does."""
    name, kind = told.get("stage"), told.get("kind")
    said = [str(name) if name == kind else f"{name} ({kind})"]
    said += [f"{each} {as_text(told[each])}" for each in _OF_STAGE if told.get(each)]
    return ", ".join(said)


def _budget(info: RunInfo) -> str:
    """What of it was spent when the last session told."""
    told = info.spec.get("budget")
    if not told:
        return ""
    figures = snapshot_of(info.figures)
    spent = f"{dollars(figures.budget_spent_usd)} of " if figures is not None and figures.budget_usd else ""
    name = f", shared as {printable(told['name'], _MESSAGE_WIDTH)}" if told.get("name") else ""
    return f"{spent}{dollars(told['usd'])}{name}"


def _pace(figures: Snapshot) -> str:
    """How the last session that made calls went."""
    parts = [f"{plural(figures.calls, 'call')} in {duration(figures.seconds)}", rate(figures.rate)]
    parts += [
        f"{name} {duration(seconds)}"
        for name, seconds in (("median call", figures.p50_s), ("P95", figures.p95_s))
        if seconds is not None
    ]
    if figures.most_in_flight:
        parts.append(f"at most {figures.most_in_flight:,} in flight")
    if figures.retries:
        parts.append("1 retry" if figures.retries == 1 else f"{figures.retries:,} retries")
    session = f" (session {figures.session})" if figures.session else ""
    return f"{', '.join(parts)}{session}"


def _took_s(info: RunInfo, now: float) -> float | None:
    """Of the last session; None where nobody noted its end."""
    if info.ended_at is not None:
        return max(info.ended_at - info.started_at, 0.0)
    return max(now - info.started_at, 0.0) if info.status == "running" else None


def _may_go_on(info: RunInfo, counts: Counts) -> bool:
    rest = info.status in ("stopped", "interrupted") or counts.failed
    known = info.spec.get("work") == "ask" and info.spec.get("path") and info.spec.get("keep_prompts", True)
    return bool(rest and known and info.status != "running")


def _source(info: RunInfo) -> str:
    """Where its items are, which is no part of a named run's identity."""
    return str(info.spec.get("path") or info.source)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _json(value: Any) -> str:
    return f"{msgspec.json.encode(value).decode()}\n"
