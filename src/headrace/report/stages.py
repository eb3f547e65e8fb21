"""The stages of a pipeline, for people: a line for each on a terminal, a table on the page, and which of them set the
pace. Enters a snapshot, leaves words and markup."""

from collections.abc import Iterator

from headrace.engine.snapshot import Snapshot, StageFigures
from headrace.report.chart import shares
from headrace.report.html import element, esc, note
from headrace.report.signs import Glyphs, Part, printable
from headrace.report.text import dollars, duration, number, percent, plural, rate

_NAME_WIDTH = 24
_BOUND_LEAST = 0.1
_HEADS = (
    "Stage",
    "in",
    "on",
    "failed",
    "out",
    "served",
    "calls",
    "a call, P50",
    "P95",
    "items/s",
    "at work",
    "cost",
    "waited for",
)


def stage_lines(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[list[Part]]:
    """Each stage at this moment, or at the end."""
    ended = snapshot.state == "ended"
    width = min(_NAME_WIDTH, max((len(stage.name) for stage in snapshot.stages), default=0))
    for stage in snapshot.stages:
        name = printable(stage.name, width, glyphs.more).ljust(width)
        parts = [(f"{name} {stage.taken:,} in, {stage.passed:,} on", "")]
        if stage.failed:
            parts.append((f"{stage.failed:,} failed", "red"))
        if stage.dropped:
            parts.append((f"{stage.dropped:,} out", "dim"))
        if stage.served:
            parts.append((f"{stage.served:,} of {stage.taken:,} from the store", "dim"))
        if stage.in_flight and not ended:
            parts.append((f"{stage.in_flight:,} in flight", ""))
        if ended and stage.calls:
            parts.append((plural(stage.calls, "call"), "dim"))
            parts.append((f"at work {percent(stage.busy_s, max(snapshot.seconds, stage.busy_s))} of the time", "dim"))
        if stage.rate:
            parts.append((rate(stage.rate), "dim"))
        if stage.p50_s is not None:
            parts.append((f"P50 {duration(stage.p50_s)}", "dim"))
        if stage.usd is not None:
            parts.append((dollars(stage.usd), "dim"))
        yield parts


def slowest(snapshot: Snapshot) -> StageFigures | None:
    """The stage that was at work most of the time; of those the one that did most."""
    working = [stage for stage in snapshot.stages if stage.calls]
    return max(working, key=lambda stage: (round(stage.busy_s, 3), stage.work_s)) if len(working) > 1 else None


def stages(snapshot: Snapshot | None) -> str:
    """Nothing where there is only one."""
    if snapshot is None or not snapshot.stages:
        return ""
    found, worked_s = slowest(snapshot), sum(stage.work_s for stage in snapshot.stages)
    said = ""
    if found is not None:
        said = (
            f"{found.name} was at work {percent(found.busy_s, max(snapshot.seconds, found.busy_s))} of the time, and "
            f"{percent(found.work_s, worked_s)} of all seconds of calls are its."
        )
    parts = [
        (f"b{place % 6}", stage.work_s, f"{stage.name}: {duration(stage.work_s)}, {percent(stage.work_s, worked_s)}")
        for place, stage in enumerate(snapshot.stages)
        if stage.work_s > 0
    ]
    bar = shares(parts, "; ".join(words for _, _, words in parts)) if len(parts) > 1 else ""
    heads = "".join(f'<th scope="col"{"" if name == "Stage" else _NUMBER}>{name}</th>' for name in _HEADS)
    rows = "".join(_row(stage, snapshot.seconds) for stage in snapshot.stages)
    table = f'<div class="scroll"><table class="plain limits"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    return (
        element("p", esc(said)) * bool(said)
        + bar
        + table
        + note(
            "In: items that came to it. On: those that went on, with those that it made. Out: taken out although nothing "
            "failed. Served: those for which no call was made, because the store or an equal item's call gave what came. "
            "At work: the share of the session in which it had a call in flight."
        )
    )


_NUMBER = ' class="n"'


def _row(stage: StageFigures, seconds: float) -> str:
    kind = stage.model or stage.kind
    waited = [
        f"{cause} {percent(s, seconds)}" for cause, s in stage.waited_s.items() if s >= _BOUND_LEAST * seconds > 0
    ]  # fmt: skip
    cells = [
        number(stage.taken), number(stage.passed), number(stage.failed), number(stage.dropped), number(stage.served),
        number(stage.calls),
        "" if stage.p50_s is None else duration(stage.p50_s), "" if stage.p95_s is None else duration(stage.p95_s),
        rate(stage.rate) if stage.rate else "", percent(stage.busy_s, max(seconds, stage.busy_s)) if stage.calls else "",
        "" if stage.usd is None else dollars(stage.usd), ", ".join(waited),
    ]  # fmt: skip
    told = "".join(f'<td class="n">{esc(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{esc(stage.name)} <span class="soft">{esc(kind)}</span></th>{told}</tr>'
