"""A snapshot in; where the time went, and how the run went over time, out."""

from collections.abc import Callable, Mapping, Sequence

from headrace.engine.snapshot import LimitChange, LimitUse, Snapshot, Stretch, thinned
from headrace.report.chart import Axes, Step, band, framed, hovered, legend, line, marker, shares
from headrace.report.html import element, esc, note
from headrace.report.scale import Ticks, clock, clock_ticks, ticks
from headrace.report.text import allowance, duration, limit_of, number, percent, rate

_COLUMNS = 150
_HEADROOM = 1.06
_LIMIT_SEEN = 2.5
"""A limit further above the most that was in flight is off the chart, or nothing else would be seen."""
_MARKS = 40
_ERRORS = 6
_BUSY = 0.85
_MUCH, _SOME = 0.5, 0.1
CAUSES = {
    "concurrency": "w-concurrency",
    "requests": "w-requests",
    "tokens": "w-tokens",
    "input tokens": "w-input",
    "output tokens": "w-output",
    "breaker": "w-breaker",
    "backoff": "w-backoff",
    "retries": "w-retries",
}
OTHER_CAUSE = "w-other"
_WORDS = {
    "concurrency": "a place among the calls in flight",
    "requests": "the limit of requests",
    "tokens": "the limit of tokens",
    "input tokens": "the limit of input tokens",
    "output tokens": "the limit of output tokens",
    "breaker": "the endpoint to come back",
    "backoff": "a pause that the provider asked for",
    "retries": "the budget of retries",
    "budget": "money: calls in flight had the rest of the budget reserved",
}
_ERROR_COLOURS = ("w-breaker", "w-requests", "w-backoff", "w-concurrency", "w-tokens", "w-input")


def bound(snapshot: Snapshot | None) -> str:
    """In one sentence or two, what set the pace; as a bar, what calls waited for."""
    if snapshot is None or not snapshot.calls or snapshot.seconds <= 0:
        return ""
    waits = _waits(snapshot)
    span_s = max(snapshot.seconds, sum(s for _, s in waits))
    parts = [(CAUSES.get(cause, OTHER_CAUSE), s, _share(cause, s, span_s)) for cause, s in waits]
    free_s = span_s - sum(s for _, s in waits)
    if free_s > 0:
        parts.append(("f-rest", free_s, f"nothing in the way: {duration(free_s)}, {percent(free_s, span_s)}"))
    said = _verdict(snapshot, waits, span_s)
    label = "; ".join(words for _, _, words in parts)
    return (
        f"<p>{esc(said)}</p>{shares(parts, label)}{legend((css, words) for css, _, words in parts)}"
        f"{note('What the next call in line waited for, over the time of the session. Others behind it wait too.')}"
    )


def _share(cause: str, waited_s: float, span_s: float) -> str:
    return f"{_WORDS.get(cause, cause)}: {duration(waited_s)}, {percent(waited_s, span_s)}"


def _waits(snapshot: Snapshot) -> list[tuple[str, float]]:
    """Seconds by cause, the most first."""
    return sorted(((cause, s) for cause, s in snapshot.waited_s.items() if s > 0), key=lambda pair: -pair[1])


def _verdict(snapshot: Snapshot, waits: Sequence[tuple[str, float]], span_s: float) -> str:
    busy = snapshot.cpu_share is not None and snapshot.cpu_share >= _BUSY and snapshot.seconds >= 1
    cpu = f"This process was busy: {percent(snapshot.cpu_share or 0.0, 1.0)} of one core." if busy else ""
    cause, waited_s = waits[0] if waits else ("", 0.0)
    share = waited_s / span_s
    if share < _SOME:
        median = f" (the median took {duration(snapshot.p50_s)})" if snapshot.p50_s is not None else ""
        return cpu or f"Hardly anything held calls back: the time is that of the calls themselves{median}."
    mostly = "Most" if share >= _MUCH else percent(waited_s, span_s)
    what = f"{'the end of ' if cause == 'backoff' else ''}{_WORDS.get(cause, cause)}"
    said = f"{mostly} of the time the next call waited for {what}. {_advice(cause, snapshot)}"
    return f"{said} {cpu}".strip()


def _advice(cause: str, snapshot: Snapshot) -> str:
    """What would have made the run faster."""
    use = next((use for use in snapshot.uses if use.unit == cause), None)
    if cause == "concurrency":
        if use is None or use.learnt or not snapshot.concurrency:
            return "How many calls are worth having in flight was found by trying."
        return f"More calls at once than the stated {snapshot.concurrency:,} may be faster, where the provider allows them."
    if cause in ("requests", "tokens", "input tokens", "output tokens"):
        if use is None or use.allowed is None:
            return "A higher limit would have made the run faster."
        there = limit_of(use.unit, use.allowed, use.window_s, about=use.learnt)
        return f"A higher limit than {there} would make such a run faster."
    if cause == "budget":
        return "A larger budget, or a lower maximum output, lets more calls be in flight towards its end."
    if cause == "breaker":
        return "Calls were held back while the endpoint failed."
    return "A limit that is stated need not be found by such refusals." if cause == "backoff" else ""


def course(snapshot: Snapshot | None) -> str:
    """Charts over the time of the session."""
    if snapshot is None:
        return ""
    history = [each for each in snapshot.history if each.to_s > each.from_s]
    while len(history) > _COLUMNS:
        history = thinned(history)
    if not history:
        return ""
    span_s = history[-1].to_s
    over = _Over(history, span_s)
    charts = [
        _done(snapshot, over),
        _in_flight(snapshot, over),
        _waiting(snapshot, over),
        _errors(over),
    ]
    cards = "\n".join(chart for chart in charts if chart)
    return element("div", cards, "fields two")


class _Over:
    """A history with its axis of time."""

    def __init__(self, history: Sequence[Stretch], span_s: float) -> None:
        self.history, self.span_s = history, span_s
        self.steps: list[Step] = [(each.from_s / span_s, each.to_s / span_s) for each in history]

    def ticks(self) -> Ticks:
        return tuple((at_s / self.span_s, text) for at_s, text in clock_ticks(self.span_s))

    def area(self, share: Callable[[Stretch], float], css: str) -> str:
        return band(self.steps, [0.0] * len(self.steps), [min(1.0, share(each)) for each in self.history], css)

    def stacked(self, layers: Sequence[tuple[str, Callable[[Stretch], float]]]) -> str:
        """One area on the other: class and share of each."""
        below = [0.0] * len(self.steps)
        drawn = ""
        for css, share in layers:
            above = [min(1.0, low + share(each)) for low, each in zip(below, self.history, strict=True)]
            drawn += band(self.steps, below, above, css)
            below = above
        return drawn

    def told(self, say: Callable[[Stretch], str]) -> str:
        return "".join(
            hovered(a, b, f"{clock(each.from_s)} to {clock(each.to_s)}: {say(each)}")
            for (a, b), each in zip(self.steps, self.history, strict=True)
        )

    def card(self, title: str, said: str, drawn: str, y: Ticks, y_title: str, keys: str = "") -> str:
        axes = Axes(label=f"{title}: {said}", x=self.ticks(), y=y, x_title="time into the session", y_title=y_title)
        return f'<article class="field"><h3>{esc(title)}</h3>{note(said)}{framed(drawn, axes)}{keys}</article>'


def _scaled(top: float) -> Ticks:
    return tuple((value / top, text) for value, text in ticks(0.0, top, 4))


def _done(snapshot: Snapshot, over: _Over) -> str:
    most = max(each.rate for each in over.history)
    if not most:
        return ""
    top = most * _HEADROOM
    drawn = over.area(lambda each: each.rate / top, "f-flow") + over.told(
        lambda each: f"{rate(each.rate)}, {each.done:,} done"
    )
    stored = f"; without {snapshot.cached:,} from the store" if snapshot.cached else ""
    said = f"{rate(snapshot.rate)} on average, {rate(most)} at most{stored}"
    return over.card("Items done", said, drawn, _scaled(top), "items per second")


def _in_flight(snapshot: Snapshot, over: _Over) -> str:
    most = max(each.in_flight for each in over.history)
    if not most:
        return ""
    limits = [each.limit for each in over.history if each.limit is not None]
    top = _HEADROOM * max([most, *(limit for limit in limits if limit <= _LIMIT_SEEN * most)])
    allowed = [None if each.limit is None or each.limit > top else each.limit / top for each in over.history]
    drawn = over.area(lambda each: each.in_flight / top, "f-flow") + line(over.steps, allowed, "limit")
    drawn += over.told(
        lambda each: (
            f"{number(round(each.in_flight, 1))} in flight on average"
            f"{'' if each.limit is None else f', {allowance(each.limit, 0.0)} allowed'}"
        )
    )
    drawn += _marks(snapshot.changes, snapshot.uses, over.span_s)
    last = snapshot.uses[0] if snapshot.uses else None
    of = f", {allowance(last.allowed, 0.0)} allowed at the end" if last is not None and last.allowed is not None else ""
    keys = [("f-flow", "calls in flight")]
    if any(share is not None for share in allowed):
        keys.append(("k-limit", "how many were allowed"))
    if any(0 <= each.after_s <= over.span_s for each in snapshot.changes):
        keys.append(("k-mark", "a limit changed"))
    peak = max(most, last.most if last is not None and last.unit == "concurrency" else 0)
    said = f"{number(round(peak))} at most{of}"
    return over.card("Calls in flight, and the limit", said, drawn, _scaled(top), "calls", legend(keys))


def _marks(changes: Sequence[LimitChange], uses: Sequence[LimitUse], span_s: float) -> str:
    """Where limits changed; those that are near each other as one."""
    learnt = {(use.unit, use.window_s) for use in uses if use.learnt}
    near: dict[int, list[str]] = {}
    for each in changes:
        if 0 <= each.after_s <= span_s:
            about = (each.unit, each.window_s) in learnt
            said = (
                f"{clock(each.after_s)}: {limit_of(each.unit, each.limit, each.window_s, about=about)}, {each.reason}"
            )
            near.setdefault(int(_MARKS * each.after_s / span_s), []).append(said)
    at = {int(_MARKS * each.after_s / span_s): each.after_s / span_s for each in changes if span_s}
    return "".join(marker(at[place], "\n".join(said[:_MARKS])) for place, said in near.items())


def _waiting(snapshot: Snapshot, over: _Over) -> str:
    """Shares of the time that the head of the line waited, one cause on the other."""
    waits = _waits(snapshot)
    if not waits:
        return ""
    drawn = over.stacked([(CAUSES.get(cause, OTHER_CAUSE), _waited(cause)) for cause, _ in waits])
    drawn += over.told(
        lambda each: (
            ", ".join(
                f"{cause} {percent(min(s, each.to_s - each.from_s), each.to_s - each.from_s)}"
                for cause, s in each.waited_s.items()
                if s > 0
            )
            or "nothing"
        )
    )
    total = min(sum(s for _, s in waits), over.span_s)
    said = f"{percent(total, over.span_s)} of the time something was in the way"
    keys = legend(
        (CAUSES.get(cause, OTHER_CAUSE), _share(cause, min(s, over.span_s), over.span_s)) for cause, s in waits
    )
    y = ((0.0, "0"), (0.5, "50 %"), (1.0, "100 %"))
    return over.card("What calls waited for", said, drawn, y, "share of the time", keys)


def _waited(cause: str) -> Callable[[Stretch], float]:
    return lambda each: each.waited_s.get(cause, 0.0) / (each.to_s - each.from_s)


def _errors(over: _Over) -> str:
    """Failed calls a second, one status on the other."""
    totals: dict[str, int] = {}
    for each in over.history:
        for name, count in each.errors.items():
            totals[name] = totals.get(name, 0) + count
    if not totals:
        return ""
    ranked = sorted(totals, key=lambda name: -totals[name])
    names = ranked[:_ERRORS]
    colours = dict(zip(names, _ERROR_COLOURS, strict=False))
    most = max(sum(each.errors.values()) / (each.to_s - each.from_s) for each in over.history)
    top = most * _HEADROOM
    layers = [(colours[name], _failed([name], top)) for name in names]
    if rest := ranked[_ERRORS:]:
        layers.append((OTHER_CAUSE, _failed(rest, top)))
    drawn = over.stacked(layers) + over.told(lambda each: _counted(each.errors) or "none")
    keys = [(colours[name], f"{name}: {totals[name]:,}") for name in names]
    keys += [(OTHER_CAUSE, f"others: {sum(totals[name] for name in rest):,}")] if rest else []
    said = f"{sum(totals.values()):,} in all, also those that were tried again"
    return over.card("Failed calls by status", said, drawn, _scaled(top), "per second", legend(keys))


def _failed(names: Sequence[str], top: float) -> Callable[[Stretch], float]:
    return lambda each: sum(each.errors.get(name, 0) for name in names) / (each.to_s - each.from_s) / top


def _counted(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in errors.items() if count)
