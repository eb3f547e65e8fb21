"""A forecast in words and signs, for a terminal of any width. Enters a Plan, leaves lines without colour."""

from collections.abc import Iterator, Sequence

from headrace.engine.forecast import Plan, Range
from headrace.report.signs import ASCII, Glyphs, printable
from headrace.report.text import dollars, duration, number, one_line, plural

LEAST_WIDTH, MOST_WIDTH = 40, 100
_LABEL = 14
_ROWS = 10
"""Of the picture: one for each tenth of the items."""
_WIDE = 64
"""From so many columns there are tokens for each stage."""
_NARROW = 60
"""Below this many columns there is no picture."""
_UNITS = {
    "concurrency": "calls in flight", "requests": "requests a minute", "tokens": "tokens a minute",
    "input tokens": "input tokens a minute", "output tokens": "output tokens a minute",
}  # fmt: skip


def plan_lines(plan: Plan, width: int, glyphs: Glyphs) -> Iterator[str]:
    """Every line fits `width`, but never less than 40 columns."""
    width = min(max(width, LEAST_WIDTH), MOST_WIDTH)
    for line in _lines(plan, width, glyphs):
        yield from _wrapped(line, width)


def _lines(plan: Plan, width: int, glyphs: Glyphs) -> Iterator[str]:
    yield _opening(plan)
    if not plan.calls.p50:
        yield "Nothing is left to ask: a run would cost nothing more."
        yield from plan.notes
        return
    yield ""
    yield from _table(plan)
    if plan.stages:
        yield ""
        yield from _stages(plan, width)
    if width >= _NARROW and plan.course and plan.seconds.p90 > 0:
        yield ""
        yield from _picture(plan, width, glyphs)
    yield ""
    yield _bound(plan)
    yield from _reach(plan)
    yield from _what_ifs(plan)
    yield from _assumed(plan)
    for note in plan.notes:
        yield f"* {one_line(note)}"


def _opening(plan: Plan) -> str:
    stored = f", {plural(plan.stored, 'answer')} in the store" if plan.stored else ""
    kept = "; its answers are among them" if plan.stored else ""
    spent = (
        f"The pilot asked about {plural(plan.pilot, 'item')}{kept}."
        if plan.pilot
        else "Nothing was spent on this forecast."
    )
    return f"{plural(plan.items, 'item')}{stored}. {spent}"


def _table(plan: Plan) -> Iterator[str]:
    yield f"{'':{_LABEL}}{'likely':>12}{'P10':>12}{'P90':>12}"
    usd = plan.usd
    rows = [
        ("time", plan.seconds, duration),
        ("calls", plan.calls, _whole),
        ("tokens in", plan.input_tokens, _whole),
        ("tokens out", plan.output_tokens, _whole),
    ]
    for label, amount, said in rows:
        yield f"{label:{_LABEL}}{said(amount.p50):>12}{said(amount.p10):>12}{said(amount.p90):>12}"
    if usd is None:
        yield f"{'cost':{_LABEL}}{'unknown':>12}"
    else:
        yield f"{'cost':{_LABEL}}{dollars(usd.p50):>12}{dollars(usd.p10):>12}{dollars(usd.p90):>12}"


def _stages(plan: Plan, width: int) -> Iterator[str]:
    """What is likely, stage by stage: on a narrow terminal without tokens."""
    wide = width >= _WIDE
    yield (
        f"{'stage':{_LABEL}}{'items':>9}{'calls':>9}"
        + (f"{'tokens in':>12}{'tokens out':>12}" if wide else "")
        + f"{'cost':>8}"
    )
    for stage in plan.stages:
        cost = dollars(stage.usd.p50) if stage.usd is not None else "unknown" if stage.model else ""
        tokens = (stage.input_tokens.p50, stage.output_tokens.p50)
        said = "".join(f"{_whole(each) if stage.model else '':>12}" for each in tokens) if wide else ""
        calls = _whole(stage.calls.p50) if stage.calls.p50 else ""
        name = printable(stage.name, _LABEL - 1)
        yield f"{name:{_LABEL}}{_whole(stage.items.p50):>9}{calls:>9}{said}{cost:>8}".rstrip()


def _whole(value: float) -> str:
    return number(float(round(value)))


def _picture(plan: Plan, width: int, glyphs: Glyphs) -> Iterator[str]:
    """A bar for each tenth of the items: to P10 it is certain enough, from there to P90 it may be."""
    room = width - 6
    scale = room / plan.seconds.p90
    full, maybe = ("#", ".") if glyphs is ASCII else ("█", "░")
    for stone in plan.course[1::2] if len(plan.course) == 2 * _ROWS else plan.course:
        yield f"{100 * stone.share:4.0f}% {_bar(stone.seconds, scale, full, maybe)}"
    end = duration(plan.seconds.p90)
    yield f"{'':6}0{end:>{room - 1}}"
    yield f"{'':6}{full} until P10, {maybe} until P90: when so much is done"


def _bar(seconds: Range, scale: float, full: str, maybe: str) -> str:
    low, high = round(seconds.p10 * scale), round(seconds.p90 * scale)
    return full * low + maybe * (high - low)


def _bound(plan: Plan) -> str:
    if not plan.binding:
        return "No limit binds: it takes as long as the calls take."
    if plan.binding == "budget":
        return "The budget binds."
    share = 100 * plan.waits.get(plan.binding, 0.0)
    where = f" at {one_line(plan.binding_stage)}" if plan.binding_stage else ""
    return f"What binds: {plan.binding}{where} ({share:.0f} % of the time calls wait for it)."


def _reach(plan: Plan) -> Iterator[str]:
    if plan.budget_usd is not None:
        if plan.budget_calls is None:
            yield f"How far {dollars(plan.budget_usd)} reach is not known: the model's price is not."
        elif plan.binding == "budget":
            yield f"{dollars(plan.budget_usd)} pay for {number(plan.budget_calls)} of {_whole(plan.calls.p50)} calls."
        else:
            yield f"{dollars(plan.budget_usd)} are enough."
    if plan.deadline_s is not None and plan.in_time is not None:
        yield f"Within the deadline of {duration(plan.deadline_s)}: {100 * plan.in_time:.0f} of 100 times."


def _what_ifs(plan: Plan) -> Iterator[str]:
    for each in plan.what_ifs:
        unit = _UNITS.get(each.limit, each.limit)
        change = "no faster" if each.of_now > 0.97 else f"{100 * (1 - each.of_now):.0f} % less time"
        unit = f"{unit} at {one_line(each.stage)}" if each.stage else unit
        yield f"With {number(each.to)} {unit}: {duration(each.seconds)}, {change}."


def _assumed(plan: Plan) -> Iterator[str]:
    if plan.assumed:
        yield ""
    for each in plan.assumed:
        yield f"{one_line(each.what)}: {each.value} ({each.origin})"


def _wrapped(line: str, width: int) -> Sequence[str]:
    """Sentences over several lines; what is laid out is cut."""
    if len(line) <= width:
        return [line]
    if line.startswith(" ") or "  " in line:
        return [printable(line, width)]
    lines, rest = list[str](), ""
    for word in line.split(" "):
        if rest and len(rest) + 1 + len(word) > width:
            lines.append(rest)
            rest = word
        else:
            rest = f"{rest} {word}".strip()
    return [*lines, rest]
