"""A run and what was found of it in; the head of the page out: what it is, how far it came, what it took."""

from datetime import UTC, datetime

from headrace.core.ports import Counts, RunInfo
from headrace.engine.snapshot import Snapshot
from headrace.report.chart import legend, shares
from headrace.report.html import element, esc, excerpt, figures, note
from headrace.report.survey import Survey
from headrace.report.text import dollars, duration, percent, plural, rate

_MODEL_MAX = 70


def opening(info: RunInfo, counts: Counts, found: Survey) -> str:
    known = counts.ok + counts.failed + (counts.pending or 0)
    parts = [plural(known or found.items, "item")]
    model = info.spec.get("model")
    if isinstance(model, str) and model:
        parts.append(f'<span dir="auto">{esc(excerpt(model, _MODEL_MAX))}</span>')
    if info.started_at:
        parts.append(date_of(info.started_at))
    name = info.name or info.source or info.id
    line = f'<header>\n<h1 dir="auto">{esc(name)}</h1>\n<p class="soft">{" · ".join(parts)}</p>\n</header>'
    return line + _notice(info, counts)


def _notice(info: RunInfo, counts: Counts) -> str:
    """What a reader must know first: that the run is not complete."""
    pending = plural(counts.pending, "item") if counts.pending else ""
    words = {
        "running": "The run was still going when this page was written.",
        "interrupted": "The run was interrupted.",
        "stopped": "The run stopped early.",
    }
    first = words.get(info.status, "")
    if not first and not pending:
        return ""
    said = info.reason if info.reason != info.status else ""
    reason = f'<p dir="auto">{esc(said)}</p>' if said else ""
    rest = f"{pending} pending: the same command again takes them up." if pending else ""
    return f'<div class="notice"><p>{first or "The run is not complete."}</p>{reason}{element("p", rest)}</div>'


def totals(info: RunInfo, counts: Counts, found: Survey, snapshot: Snapshot | None) -> str:
    done = counts.ok + counts.failed + counts.dropped
    first = [("answered", f"{counts.ok:,}", ""), ("failed", f"{counts.failed:,}", "bad" if counts.failed else "")]
    if counts.dropped:
        first.append(("taken out", f"{counts.dropped:,}", ""))
    if counts.pending != 0:
        first.append(("pending", "unknown" if counts.pending is None else f"{counts.pending:,}", ""))
    if found.cached:
        first.append(("from the store", f"{found.cached:,}", ""))
    seconds = snapshot.seconds if snapshot is not None else (info.ended_at or 0.0) - info.started_at
    if seconds > 0:
        first.append(("wall time" if info.session <= 1 else "wall time, last session", duration(seconds), ""))
    second = [("calls", f"{counts.calls:,}", "")]
    if counts.input_tokens or counts.output_tokens:
        second += [("tokens in", f"{counts.input_tokens:,}", ""), ("tokens out", f"{counts.output_tokens:,}", "")]
    if counts.usd is not None:
        second.append(("cost", dollars(counts.usd), ""))
    second += _pace(snapshot)
    parts = [
        ("f-ok", float(counts.ok), f"{counts.ok:,} answered"),
        ("f-bad", float(counts.failed), f"{counts.failed:,} failed"),
        ("f-out", float(counts.dropped), f"{counts.dropped:,} taken out"),
        ("f-rest", float(counts.pending or 0), f"{counts.pending or 0:,} pending"),
    ]
    told = [(css, said) for css, amount, said in parts if amount]
    keys = legend(told) if len(told) > 1 else ""
    share = percent(counts.ok, done + (counts.pending or 0))
    bar = shares(parts, f"{', '.join(said for _, said in told)}: {share} answered")
    return f"{figures('totals', first)}{bar}{keys}{figures('totals second', second)}"


def _pace(snapshot: Snapshot | None) -> list[tuple[str, str, str]]:
    if snapshot is None or not snapshot.calls:
        return []
    value, _, unit = rate(snapshot.rate).partition(" ")
    parts = [(unit, value, "")]
    times = (("median call", snapshot.p50_s), ("P95 of calls", snapshot.p95_s), ("P99 of calls", snapshot.p99_s))
    parts += [(name, duration(seconds), "") for name, seconds in times if seconds is not None]
    if snapshot.most_in_flight:
        parts.append(("most in flight", f"{snapshot.most_in_flight:,}", ""))
    if snapshot.retries:
        parts.append(("retries", f"{snapshot.retries:,}", ""))
    return parts


def of_session(info: RunInfo, snapshot: Snapshot | None) -> str:
    """Which session the figures that follow are of, where that is not plain."""
    if snapshot is None:
        return note("How the run went over time was not kept: its session ended at once, or is of an earlier headrace.")
    said = []
    if info.session > 1 and snapshot.session:
        said.append(
            f"From here on: session {snapshot.session} of {info.session}, the last one that made calls. "
            "What is above counts all sessions."
        )
    if snapshot.state != "ended" and info.status != "running":
        said.append(f"Its process ended without a word: these figures are of {duration(snapshot.seconds)} into it.")
    return note(" ".join(said))


def footer(info: RunInfo) -> str:
    session = f", session {info.session}" if info.session > 1 else ""
    ended = f", ended {date_of(info.ended_at)}" if info.ended_at else ""
    return f'<footer>headrace run <span class="mono">{esc(info.id)}</span>{session}{ended}</footer>'


def date_of(at: float) -> str:
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment.day} {moment:%B %Y, %H:%M} UTC</time>'
