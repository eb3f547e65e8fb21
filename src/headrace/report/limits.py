"""A snapshot in, the page's section on flow control out: what was in flight, what bound the run, what it cost twice.

Drawn as SVG with plain attributes, as the other sections are. Colours are classes of the page, never made of text.
"""

from collections.abc import Callable, Iterable, Sequence

from headrace.engine.snapshot import LimitChange, LimitUse, Snapshot, Stretch
from headrace.engine.usage import joined
from headrace.report.html import element, esc, figures
from headrace.report.text import allowance, duration, limit_of, number, percent, plural, rate, size

_WIDTH = 600
_HEIGHT = 100
_COLUMNS = 150
_HEADROOM = 1.08
_LIMIT_SEEN = 2.0
"""A limit further above the most that was in flight is off the chart, or nothing else would be seen."""
_CAUSES = {
    "concurrency": "w-concurrency",
    "requests": "w-requests",
    "tokens": "w-tokens",
    "input tokens": "w-input",
    "output tokens": "w-output",
    "breaker": "w-breaker",
    "backoff": "w-backoff",
}
_OTHER_CAUSE = "w-other"
_CAUSE_WORDS = {"breaker": "circuit breaker"}


def flow(snapshot: Snapshot | None) -> str:
    """Nothing where no calls were made, or where their session is over and told elsewhere."""
    if snapshot is None:
        return ""
    history = _thinned(snapshot.history)
    span_s = history[-1].to_s if history else 0.0
    charts = [
        _in_flight(snapshot, history, span_s),
        _rate(snapshot, history, span_s),
        _waits(snapshot, history, span_s),
    ]
    rest = [_errors(snapshot), _paid_again(snapshot), _process(snapshot)]
    parts = [_grid(charts), _limits(snapshot), _changes(snapshot.changes, snapshot.uses), _grid(rest)]
    return "\n".join(part for part in parts if part)


def _grid(cards: Iterable[str]) -> str:
    return element("div", "\n".join(card for card in cards if card), "fields")


def _card(title: str, note: str, content: str) -> str:
    return f'<div class="field"><h3>{esc(title)}</h3>{element("p", esc(note), "soft small")}{content}</div>'


def _thinned(history: Sequence[Stretch]) -> list[Stretch]:
    """No more stretches than a chart has room for."""
    stretches = [each for each in history if each.to_s > each.from_s]
    while len(stretches) > _COLUMNS:
        pairs = zip(stretches[::2], stretches[1::2], strict=False)
        stretches = [joined(first, second) for first, second in pairs] + stretches[len(stretches) & ~1 :]
    return stretches


def _in_flight(snapshot: Snapshot, history: Sequence[Stretch], span_s: float) -> str:
    most = max((each.in_flight for each in history), default=0.0)
    if not most:
        return ""
    limits = [each.limit for each in history if each.limit is not None]
    top = _HEADROOM * max([most, *(limit for limit in limits if limit <= _LIMIT_SEEN * most)])
    area = _area(history, lambda each: each.in_flight / top, span_s, "f-flow")
    last = snapshot.uses[0] if snapshot.uses else None
    of = f", {allowance(last.allowed, 0.0)} allowed at the end" if last is not None and last.allowed is not None else ""
    note = f"{number(round(most))} at most{of}"
    drawn = _chart(area + _line(history, top, span_s), f"Calls in flight over time: {note}", span_s)
    return _card("Calls in flight, and the limit", note, drawn)


def _rate(snapshot: Snapshot, history: Sequence[Stretch], span_s: float) -> str:
    top = _HEADROOM * max((each.rate for each in history), default=0.0)
    if not top:
        return ""
    note = f"{rate(snapshot.rate)} on average, {rate(top / _HEADROOM)} at most"
    area = _area(history, lambda each: each.rate / top, span_s, "f-flow")
    return _card("Items done", note, _chart(area, f"Items done over time: {note}", span_s))


def _waits(snapshot: Snapshot, history: Sequence[Stretch], span_s: float) -> str:
    """Shares of the time that the head of the line waited, one cause on the other."""
    ranked = sorted(((cause, s) for cause, s in snapshot.waited_s.items() if s > 0), key=lambda pair: -pair[1])
    if not ranked or not span_s:
        return ""
    below = [0.0] * len(history)
    areas = []
    for cause, _ in ranked:
        shares = [each.waited_s.get(cause, 0.0) / (each.to_s - each.from_s) for each in history]
        tops = [min(1.0, low + share) for low, share in zip(below, shares, strict=True)]
        areas.append(_band(history, below, tops, span_s, _CAUSES.get(cause, _OTHER_CAUSE)))
        below = tops
    note = f"{percent(min(sum(s for _, s in ranked), span_s), span_s)} of the time something was in the way"
    legend = "".join(_cause(cause, s, span_s) for cause, s in ranked)
    drawn = _chart("".join(areas), f"What calls waited for over time: {note}", span_s)
    return _card("What calls waited for", note, f'{drawn}<ul class="legend small">{legend}</ul>')


def _cause(cause: str, waited_s: float, span_s: float) -> str:
    swatch = (
        f'<svg aria-hidden="true"><rect class="{_CAUSES.get(cause, _OTHER_CAUSE)}" width="100%" height="100%"/></svg>'
    )
    said = f"{_CAUSE_WORDS.get(cause, cause)} {duration(waited_s)}, {percent(min(waited_s, span_s), span_s)}"
    return f"<li>{swatch}{esc(said)}</li>"


def _limits(snapshot: Snapshot) -> str:
    uses = [use for use in snapshot.uses if use.allowed is not None or use.most_allowed is not None or use.most > 0]
    if not uses:
        return ""
    last = {(each.unit, each.window_s): each for each in snapshot.changes}
    rows = "".join(_limit(use, last.get((use.unit, use.window_s))) for use in uses)
    heads = "".join(
        f'<th scope="col"{css}>{name}</th>'
        for name, css in (("Limit", ""), ("", ""), ("used at most", ' class="n"'), ("on average", ' class="n"'))
    )
    return f'<table class="limits"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _limit(use: LimitUse, change: LimitChange | None) -> str:
    known = change.reason if change is not None else "" if use.learnt else "stated"
    if use.learnt and (change is None or change.limit != use.allowed):  # it has moved since, in small steps
        known = "found"
    if use.allowed is None:
        known = (change.reason if change is not None else "") or "none known"
    most = allowance(use.most, 0.0)
    if use.most_allowed:
        most += f" of {allowance(use.most_allowed, 0.0)} ({percent(use.most, use.most_allowed)})"
    mean = "" if use.mean_pace is None else percent(use.mean_pace, 100)
    return (
        f'<tr><th scope="row">{esc(limit_of(use.unit, use.allowed, use.window_s, about=use.learnt))}</th>'
        f'<td class="soft" dir="auto">{esc(known)}</td><td class="n">{esc(most)}</td><td class="n">{esc(mean)}</td></tr>'
    )


def _changes(changes: Sequence[LimitChange], uses: Sequence[LimitUse]) -> str:
    if not changes:
        return ""
    learnt = {(use.unit, use.window_s) for use in uses if use.learnt}
    rows = "".join(
        f'<tr><td class="n">{esc(duration(max(0.0, each.after_s)))}</td>'
        f"<td>{esc(limit_of(each.unit, each.limit, each.window_s, about=(each.unit, each.window_s) in learnt))}</td>"
        f'<td class="soft" dir="auto">{esc(each.reason)}</td></tr>'
        for each in changes
    )
    said = plural(len(changes), "change")
    return (
        f'<details class="changes"><summary>{said} of a limit, with the reason</summary>'
        f'<table class="limits"><tbody>{rows}</tbody></table></details>'
    )


def _errors(snapshot: Snapshot) -> str:
    if not snapshot.call_errors:
        return ""
    failed = sum(each.count for each in snapshot.call_errors)
    most = max(each.count for each in snapshot.call_errors)
    rows = "".join(
        _bar(
            each.kind if each.status is None else f"{each.status} {each.kind}", each.count / most, f"{each.count:,}",
            percent(each.count, max(snapshot.calls, failed)), "breaker",
        )
        for each in snapshot.call_errors
    )  # fmt: skip
    return _card(
        "Failed calls by status",
        f"of {plural(max(snapshot.calls, failed), 'call')}",
        f'<table class="bars">{rows}</table>',
    )


def _paid_again(snapshot: Snapshot) -> str:
    if not snapshot.paid_again:
        return ""
    ranked = sorted(snapshot.paid_again.items(), key=lambda pair: -pair[1])
    most = ranked[0][1]
    rows = "".join(
        _bar(cause, count / most, f"{count:,}", percent(count, max(snapshot.calls, count)), "")
        for cause, count in ranked
    )
    note = plural(snapshot.backups, "backup") + " sent" if snapshot.backups else ""
    return _card("Perhaps paid twice", note, f'<table class="bars">{rows}</table>')


def _process(snapshot: Snapshot) -> str:
    entries = []
    if snapshot.cpu_s:
        entries.append(("CPU", duration(snapshot.cpu_s), ""))
    if snapshot.cpu_share is not None:
        entries.append(("of one core", percent(snapshot.cpu_share, 1.0), ""))
    if snapshot.memory_bytes:
        entries.append(("most memory", size(snapshot.memory_bytes), ""))
    return _card("This process", "", figures("figures", entries)) if entries else ""


def _bar(name: str, share: float, amount: str, part: str, cause: str) -> str:
    css = _CAUSES.get(cause, _OTHER_CAUSE)
    return (
        f'<tr><th scope="row" dir="auto" title="{esc(name)}">{esc(name)}</th>'
        f'<td><svg aria-hidden="true"><rect class="{css}" width="{100 * min(share, 1.0):.2f}%" height="100%"/></svg></td>'
        f'<td class="n">{esc(amount)}</td><td class="p">{esc(part)}</td></tr>'
    )


def _chart(drawn: str, label: str, span_s: float) -> str:
    times = "".join(f"<span>{esc(text)}</span>" for text in ("0", duration(span_s / 2), duration(span_s)))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{esc(label)}">{drawn}</svg><div class="times soft small" aria-hidden="true">{times}</div>'
    )


def _area(history: Sequence[Stretch], share: Callable[[Stretch], float], span_s: float, css: str) -> str:
    return _band(history, [0.0] * len(history), [min(1.0, share(each)) for each in history], span_s, css)


def _band(history: Sequence[Stretch], lows: Sequence[float], highs: Sequence[float], span_s: float, css: str) -> str:
    """What lies between the two, as shares of the height, in steps."""
    there = list(zip(history, lows, highs, strict=True))
    forth = "".join(f"L{_x(e.from_s, span_s)} {_y(high)}H{_x(e.to_s, span_s)}" for e, _, high in there)
    back = "".join(f"L{_x(e.to_s, span_s)} {_y(low)}H{_x(e.from_s, span_s)}" for e, low, _ in reversed(there))
    return f'<path class="{css}" d="M{forth[1:]}{back}Z"/>' if there else ""


def _line(history: Sequence[Stretch], top: float, span_s: float) -> str:
    """The limit in steps, with gaps where none was known or it is off the chart."""
    steps: list[str] = []
    drawing = False
    for each in history:
        seen = each.limit is not None and each.limit <= top
        if each.limit is not None and seen:
            move = "L" if drawing else "M"
            steps.append(f"{move}{_x(each.from_s, span_s)} {_y(each.limit / top)}H{_x(each.to_s, span_s)}")
        drawing = seen
    return f'<path class="limit" d="{"".join(steps)}"/>' if steps else ""


def _x(at_s: float, span_s: float) -> str:
    return f"{_WIDTH * at_s / span_s:.1f}"


def _y(share: float) -> str:
    return f"{_HEIGHT * (1 - share):.1f}"
