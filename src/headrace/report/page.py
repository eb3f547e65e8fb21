"""A run in, one HTML page out that opens anywhere: no script or style from elsewhere, nothing loaded, all text escaped.

Reads the outcomes once, in bounded memory. Knows neither store nor command line.
"""

import base64
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from headrace.core.errors import OutputError
from headrace.core.item import Outcome
from headrace.core.ports import Counts, RunInfo
from headrace.engine.snapshot import Snapshot
from headrace.report.html import asked_list, element, esc, figures
from headrace.report.limits import flow
from headrace.report.sections import answers, failures, items, slowest, stacked
from headrace.report.survey import Survey, survey
from headrace.report.text import duration, number, plural, rate


def render(
    info: RunInfo,
    counts: Counts,
    outcomes: Callable[[], Iterator[Outcome]],
    schema: Mapping[str, Any] | None = None,
    snapshot: Snapshot | None = None,
) -> str:
    """The page. `schema` is the JSON schema of an answer, `snapshot` the figures of the session that just ended."""
    found = survey(outcomes(), schema)
    name = info.name or info.source or info.id
    body = [
        _opening(name, info, counts, found),
        _totals(counts, found, snapshot, info),
        _section("What was asked", asked_list(info.source, info.spec)),
        _section("Answers", answers(found)),
        _section("Failures", failures(found)),
        _section("Limits and waiting", flow(snapshot)),
        _section("Items and answers", items(found, counts)),
        _section("Slowest calls", slowest(found)),
        _footer(info),
    ]
    script, style = _asset("page.js"), _asset("page.css")
    parts = {
        "title": esc(f"{name}, headrace"),
        "style": style,
        "script": script,
        "style_hash": _csp_hash(style),
        "script_hash": _csp_hash(script),
        "body": "\n".join(part for part in body if part),
    }
    # One pass: what is filled in is never searched for further places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def write(path: str | os.PathLike[str], page: str) -> None:
    """Put the page there in one step: a reader sees the old file or the new one. Raises OutputError."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(target, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where a report could not be written; for before the first call rather than after the last."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> OutputError:
    reason = (error.strerror or str(error)).lower()
    missing = not target.parent.is_dir()
    hint = f"Create the folder {target.parent} first." if missing else "Choose another file with --report."
    return OutputError(f"The report {target} cannot be written: {reason}.", hint=hint)


@cache
def _asset(name: str) -> str:
    return resources.files("headrace.report").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{esc(title)}</h2>\n{content}\n</section>" if content else ""


def _opening(name: str, info: RunInfo, counts: Counts, found: Survey) -> str:
    known = counts.ok + counts.failed + (counts.pending or 0)
    parts = [plural(known or found.items, "item")]
    model = info.spec.get("model")
    if isinstance(model, str):
        parts.append(esc(model))
    if info.started_at:
        parts.append(_date(info.started_at))
    line = f'<header>\n<h1 dir="auto">{esc(name)}</h1>\n<p class="soft">{" · ".join(parts)}</p>\n</header>'
    return line + _notice(info, counts)


def _notice(info: RunInfo, counts: Counts) -> str:
    """What a reader must know first: that the run is not complete."""
    pending = plural(counts.pending, "item") if counts.pending else ""
    words = {
        "running": "The run was still going when this page was written.",
        "interrupted": "The run was interrupted.",
    }
    first = words.get(info.status, "The run stopped early." if info.status == "stopped" else "")
    if not first and not pending:
        return ""
    reason = element("p", esc(info.reason)) if info.reason else ""
    rest = f"{pending} pending: the same command again takes them up." if pending else ""
    return f'<div class="notice"><p>{first or "The run is not complete."}</p>{reason}{element("p", rest)}</div>'


def _totals(counts: Counts, found: Survey, snapshot: Snapshot | None, info: RunInfo) -> str:
    pending = "unknown" if counts.pending is None else f"{counts.pending:,}"
    first = [("ok", f"{counts.ok:,}", ""), ("failed", f"{counts.failed:,}", "bad" if counts.failed else "")]
    first.append(("pending", pending, ""))
    first.append(("from the store", f"{found.cached:,}", ""))
    second = [("calls", f"{counts.calls:,}")]
    if counts.input_tokens or counts.output_tokens:
        second += [("tokens in", f"{counts.input_tokens:,}"), ("tokens out", f"{counts.output_tokens:,}")]
    if found.usd is not None:
        second.append(("US dollars", f"{found.usd:,.4f}" if found.usd < 1 else f"{found.usd:,.2f}"))
    second += _pace(snapshot, info)
    bar = stacked([("f-ok", counts.ok), ("f-bad", counts.failed), ("f-rest", counts.pending or 0)])
    return f"{figures('totals', first)}{bar}{figures('totals second', [(name, text, '') for name, text in second])}"


def _pace(snapshot: Snapshot | None, info: RunInfo) -> list[tuple[str, str]]:
    """How fast the last session was, from its own figures where they are known."""
    if snapshot is None:
        seconds = info.ended_at - info.started_at if info.ended_at is not None else 0.0
        return [("wall time of the last session", duration(seconds))] if seconds > 0 else []
    parts = [("wall time", duration(snapshot.seconds))]
    value, _, unit = rate(snapshot.rate).partition(" ")
    parts.append((unit, value))
    times = (("median call", snapshot.p50_s), ("P95 of calls", snapshot.p95_s), ("P99 of calls", snapshot.p99_s))
    parts += [(name, duration(seconds)) for name, seconds in times if seconds is not None]
    if snapshot.most_in_flight:
        parts.append(("most in flight", number(snapshot.most_in_flight)))
    if snapshot.retries:
        parts.append(("retries", f"{snapshot.retries:,}"))
    return parts


def _footer(info: RunInfo) -> str:
    session = f", session {info.session}" if info.session > 1 else ""
    ended = f", ended {_date(info.ended_at)}" if info.ended_at else ""
    return f'<footer>headrace run <span class="mono">{esc(info.id)}</span>{session}{ended}</footer>'


def _date(at: float) -> str:
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment.day} {moment:%B %Y, %H:%M} UTC</time>'
