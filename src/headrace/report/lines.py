"""Snapshots of a run in, the words and signs for it out: live lines, lines of a log, the summary, failures.

Names, messages and keys are foreign text: see `printable`. Knows no terminal, no notebook and no rich.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from headrace.engine.snapshot import ASKED_AGAIN, CallErrors, LimitChange, LimitUse, Snapshot
from headrace.report.signs import Glyphs, Part, printable
from headrace.report.stages import stage_lines
from headrace.report.text import allowance, cells, dollars, duration, limit_of, percent, plural, rate, size

_MESSAGE_WIDTH = 300
_NAME_WIDTH = 200
_KINDS_SHOWN = 3
_BAR_MOST = 48
_BAR_LEAST = 5
_LIMITS_SHOWN = 4
_NEWS_S = 20.0
"""A change of a limit is told for so long."""
_BUSY = 0.9
"""Of a core: from here on this process itself may be what bounds the run."""
_WAITING = {"breaker": "held by the breaker", "backoff": "held by backoff", "retries": "held by the budget of retries"}
_FAILING = 0.1
"""From this share of failed items on, all is not well."""

Health = Literal["well", "waiting", "failing", "busy", "stopping"]


def live_lines(snapshot: Snapshot, width: int, glyphs: Glyphs, height: int | None = None) -> Iterator[list[Part]]:
    """The run at this moment, each line at most `width` columns; where there is room for `height` lines only, those
    that matter most."""
    ranked = [(rank, line) for rank, line in _ranked_lines(snapshot, width, glyphs) if line]
    last = sorted(rank for rank, _ in ranked)[: max(height, 1)][-1] if height is not None else math.inf
    yield from (line for rank, line in ranked if rank <= last)


def _ranked_lines(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Iterator[tuple[int, list[Part]]]:
    """Each line with how early it is missed: 1 is the last that one would do without."""

    def whole(text: str, style: str) -> list[Part]:
        return [(printable(text, width, glyphs.more), style)] if text else []

    name = printable(snapshot.name or snapshot.run or "starting", width, glyphs.more)
    source = printable(snapshot.source, max(width, 4), glyphs.more)
    yield 7, _fit([(name, "bold"), (source if source != name else "", "dim")], width, glyphs)
    yield 1, _bar(snapshot, width, glyphs)
    if snapshot.state != "starting":
        yield 2, _fit([verdict(snapshot), *_flow(snapshot)], width, glyphs)
    yield 4, _fit(_pace(snapshot), width, glyphs)
    yield 6, _fit(_counts(snapshot), width, glyphs)
    if snapshot.state != "starting":
        yield 8, _limit_line(snapshot, width, glyphs)
        yield 9, _fit(_vitals(snapshot), width, glyphs)
    for line in stage_lines(snapshot, glyphs):
        yield 5, _fit(line, width, glyphs)
    yield 10, whole(_news(snapshot, snapshot.seconds - _NEWS_S), "cyan")
    waits = _waits(snapshot)
    yield 3, whole(waits, "yellow")
    if snapshot.call_errors and not waits:
        yield 11, whole(failed_calls(snapshot.call_errors), "dim")
    if snapshot.failures:
        kinds = _kinds((group.kind, group.count) for group in snapshot.failures)
        yield 5, whole(f"failed: {kinds}: {snapshot.failures[0].message}", "red")


def health(snapshot: Snapshot) -> Health:
    """Whether all is well. A limit that is used to the full is as it should be."""
    if snapshot.state == "stopping":
        return "stopping"
    if snapshot.failed >= _FAILING * snapshot.done > 0:
        return "failing"
    if snapshot.hold is not None or snapshot.binding in _WAITING:
        return "waiting"
    return "busy" if snapshot.cpu_share is not None and snapshot.cpu_share >= _BUSY else "well"


def verdict(snapshot: Snapshot) -> Part:
    """The same in a word or two."""
    found = health(snapshot)
    if found == "failing":
        return (f"{percent(snapshot.failed, snapshot.done)} failed", "bold red")
    return {
        "well": ("all well", "bold green"),
        "waiting": ("waiting", "bold yellow"),
        "busy": ("this process is the limit", "bold yellow"),
        "stopping": ("stopping", "bold yellow"),
    }[found]


def log_line(snapshot: Snapshot, told_s: float = 0.0) -> str:
    """The run at this moment as one line of a log, with what became of limits since `told_s`."""
    of_total = f" of {snapshot.total:,}" if snapshot.total is not None else ""
    parts = [f"{_whole(math.floor(snapshot.seconds))}: {snapshot.done:,}{of_total} done", f"{snapshot.ok:,} ok"]
    parts += [text for text, _ in _outcomes(snapshot)[1:]]
    if snapshot.usd is not None:
        parts.append(_paid(snapshot, snapshot.usd))
    if snapshot.has_pace:
        parts.append(rate(snapshot.rate))
    if snapshot.eta_s is not None:
        parts.append(f"about {_left(snapshot.eta_s)} left")
    groups = [", ".join(text for text, _ in group) for group in (_flow(snapshot), _limits(snapshot), _vitals(snapshot))]
    if snapshot.call_errors:
        groups.append(failed_calls(snapshot.call_errors))
    groups += [_news(snapshot, told_s), _waits(snapshot)]
    return "; ".join([", ".join(parts), *(printable(text, _MESSAGE_WIDTH, "...") for text in groups if text)])


def opening_line(snapshot: Snapshot) -> str:
    name = printable(snapshot.name or snapshot.run, _NAME_WIDTH, "...")
    source = printable(snapshot.source, _NAME_WIDTH, "...")
    of = f" of {source}" if source and source != name else ""
    what = f"{plural(snapshot.total, 'item')}{of}" if snapshot.total is not None else f"items{of or ' as they come'}"
    if not snapshot.concurrency:
        return f"{name}: {what}, as many calls at a time as the provider takes"
    return f"{name}: {what}, at most {plural(snapshot.concurrency, 'call')} at a time"


def _bar(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Part]:
    if snapshot.total is None:
        return [(printable(f"{plural(snapshot.done, 'item')} done, {snapshot.read:,} read", width, ""), "")]
    total = max(snapshot.total, 1)
    label = f"{snapshot.done:,} / {snapshot.total:,}"
    share = percent(snapshot.done, snapshot.total)
    room = min(width - len(label) - len(share) - 4, _BAR_MOST)
    if room < _BAR_LEAST:
        return [(printable(f"{label}  {share}", width, ""), "")]
    full = min(room, int(room * snapshot.done / total))
    bad = min(full, math.ceil(full * snapshot.failed / max(snapshot.done, 1)))
    return [
        (glyphs.full * (full - bad), "cyan"),
        (glyphs.full * bad, "red"),
        (glyphs.rest * (room - full), "dim"),
        (f"  {label}", "bold"),
        (f"  {share}", ""),
    ]


def _pace(snapshot: Snapshot) -> list[Part]:
    parts = [(rate(snapshot.rate), "")] if snapshot.has_pace else []
    if snapshot.eta_s is not None:
        parts.append((f"about {_left(snapshot.eta_s)} left", ""))
    parts.append((f"{_whole(math.floor(snapshot.seconds))} so far", "dim"))
    return parts


def _left(eta_s: float) -> str:
    return _whole(max(1, math.ceil(eta_s)))


def _whole(seconds: int) -> str:
    return duration(seconds).replace(".0 s", " s")


def _outcomes(snapshot: Snapshot) -> list[Part]:
    parts = [(f"{snapshot.ok:,} ok", "green" if snapshot.ok else "dim")]
    if snapshot.failed:
        parts.append((f"{snapshot.failed:,} failed", "red"))
    if snapshot.dropped:
        parts.append((f"{snapshot.dropped:,} taken out", "dim"))
    if snapshot.cached:
        parts.append((f"{snapshot.cached:,} from the store", ""))
    return parts


def _counts(snapshot: Snapshot) -> list[Part]:
    parts = _outcomes(snapshot)
    if snapshot.retries:
        parts.append((retries_told(snapshot.retries), "dim"))
    if snapshot.backups:
        parts.append((plural(snapshot.backups, "backup"), "dim"))
    tokens = snapshot.input_tokens + snapshot.output_tokens
    if tokens:
        parts.append((f"{tokens:,} tokens", "dim"))
    if snapshot.usd is not None:
        parts.append((_paid(snapshot, snapshot.usd), ""))
    return parts


def _paid(snapshot: Snapshot, usd: float) -> str:
    paid, most = f"{'at least ' if snapshot.unpriced else ''}{dollars(usd)}", snapshot.budget_usd
    if most is None:
        return paid
    spent = dollars(snapshot.budget_spent_usd)
    return (
        f"{paid} of the {dollars(most)} budget" if spent == paid else f"{paid} ({spent} of the {dollars(most)} budget)"
    )


def cost_line(snapshot: Snapshot) -> str:
    """What was paid, of which model's calls that is not known, and what an item came to."""
    if snapshot.usd is None:
        return ""
    parts = [_paid(snapshot, snapshot.usd)]
    if snapshot.usd_an_item:
        parts.append(f"{dollars(snapshot.usd_an_item)} an item")
    if snapshot.unpriced:
        parts.append(f"{plural(snapshot.unpriced, 'call')} of unknown cost")
    return ", ".join(parts)


def paid_again_line(snapshot: Snapshot) -> str:
    """What was paid more than once, or for nothing, and why."""
    if not snapshot.paid_again:
        return ""
    usd, parts = snapshot.paid_again_usd, []
    for cause, count in sorted(snapshot.paid_again.items(), key=lambda pair: -pair[1])[:_KINDS_SHOWN]:
        most = "" if cause == ASKED_AGAIN else "at most "
        parts.append(f"{count:,} {cause}" + (f" ({most}{dollars(usd[cause])})" if cause in usd else ""))
    more = ", ..." if len(snapshot.paid_again) > _KINDS_SHOWN else ""
    return f"{', '.join(parts)}{more}"


def retries_told(count: int) -> str:
    return "1 retry" if count == 1 else f"{count:,} retries"


def _flow(snapshot: Snapshot) -> list[Part]:
    """What is on the wire, what is in the way of more, and how much waits for it."""
    allowed = snapshot.uses[0].allowed if snapshot.uses else snapshot.concurrency or None
    held = snapshot.in_flight + snapshot.others
    shown = allowed is not None and held <= allowed and not snapshot.stages  # it moves, and each stage has its own
    of = f"/{allowance(allowed, 0.0)}" if shown and allowed is not None else ""
    parts = [(f"{held:,}{of} in flight", "")]
    if snapshot.binding in _WAITING:
        parts.append((_WAITING[snapshot.binding], "yellow"))
    elif snapshot.binding:
        parts.append((f"bound by {printable(snapshot.binding, _NAME_WIDTH)}", "bold"))
    if snapshot.queued:
        parts.append((f"{snapshot.queued:,} waiting", "dim"))
    if snapshot.others:
        parts.append((f"{snapshot.others:,} of them held elsewhere", "dim"))
    return parts


def _limits(snapshot: Snapshot) -> list[Part]:
    """How much of each request and token limit is in use."""
    known = [use for use in snapshot.uses[1:] if use.allowed is not None]
    return [(limit_used(use, use.pace), "" if use.unit == snapshot.binding else "dim") for use in known[:_LIMITS_SHOWN]]


def _limit_line(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Part]:
    """All limits in their own order; where they do not fit, what binds comes first."""
    parts = _limits(snapshot)
    line = _fit(parts, width, glyphs)
    if len(line) < 2 * len(parts) - 1:
        line = _fit(sorted(parts, key=lambda part: part[1]), width, glyphs)
    return line


def limit_used(use: LimitUse, pace: float | None) -> str:
    of = allowance(use.allowed or 0.0, use.window_s, about=use.learnt)
    return f"{use.unit} {of}" if pace is None else f"{use.unit} {percent(pace, 100)} of {of}"


def _vitals(snapshot: Snapshot) -> list[Part]:
    """How long calls take, and what this process takes."""
    parts: list[Part] = []
    if snapshot.p50_s is not None and snapshot.p95_s is not None and snapshot.p99_s is not None:
        parts = [(f"calls P50 {duration(snapshot.p50_s)}", "dim")]
        parts += [(f"P95 {duration(snapshot.p95_s)}", "dim"), (f"P99 {duration(snapshot.p99_s)}", "dim")]
    if snapshot.cpu_share is not None:
        parts.append((f"CPU {100 * snapshot.cpu_share:.0f} %", "yellow" if snapshot.cpu_share >= _BUSY else "dim"))
    if snapshot.memory_bytes:
        parts.append((size(snapshot.memory_bytes), "dim"))
    return parts


def _news(snapshot: Snapshot, since_s: float) -> str:
    """The last thing that became of each limit since then."""
    last = {(each.unit, each.window_s): each for each in snapshot.changes if each.after_s > since_s}
    return f"limit: {', '.join(change_line(each, snapshot.uses) for each in last.values())}" if last else ""


def change_line(change: LimitChange, uses: Sequence[LimitUse] = ()) -> str:
    about = any(use.learnt for use in uses if (use.unit, use.window_s) == (change.unit, change.window_s))
    reason = f" ({change.reason})" if change.reason else ""
    return f"{limit_of(change.unit, change.limit, change.window_s, about=about)}{reason}"


def failed_calls(errors: Sequence[CallErrors]) -> str:
    named = [(each.kind if each.status is None else f"{each.kind} ({each.status})", each.count) for each in errors]
    return f"failed calls: {_kinds(named)}"


def _waits(snapshot: Snapshot) -> str:
    if snapshot.state == "stopping":
        calls = f", {plural(snapshot.in_flight, 'call')} still in flight" if snapshot.in_flight else ""
        return f"stopping: {snapshot.reason}{calls}"
    if snapshot.hold is None:
        return ""
    wait = f" {math.ceil(snapshot.hold.wait_s):,} s" if math.isfinite(snapshot.hold.wait_s) else ""
    return f"waiting{wait}: {snapshot.hold.reason}"


def _kinds(counts: Iterable[tuple[str, int]]) -> str:
    ranked = sorted(counts, key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {kind}" for kind, count in ranked[:_KINDS_SHOWN]) + (
        ", ..." if len(ranked) > _KINDS_SHOWN else ""
    )


def _fit(parts: Sequence[Part], width: int, glyphs: Glyphs) -> list[Part]:
    """As many of the parts as fit, the first at least, with a sign between them."""
    line: list[Part] = []
    room = width
    for text, style in parts:
        if not text:
            continue
        between = glyphs.dot if line else ""
        needed = len(between) + sum(map(cells, text))
        if needed > room:
            if not line:
                return [(printable(text, width, glyphs.more), style)]
            continue
        line += [(between, "dim"), (text, style)] if between else [(text, style)]
        room -= needed
    return line
