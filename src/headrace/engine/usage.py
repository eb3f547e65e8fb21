"""Gauges and changes of limits in, how the endpoint is used out: limits, waits, what binds, and its history for charts.

A pure fold in bounded memory, as the tally is. Knows nothing of items.
"""

import math
from collections import deque
from collections.abc import Mapping

import msgspec

from headrace.core.event import Gauge, LimitChanged
from headrace.core.limits import Use
from headrace.engine.snapshot import LimitChange, LimitUse, Snapshot, Stretch, joined, thinned

STRETCHES_MAX = 300
"""Even: they are joined two by two."""
CHANGES_MAX = 200

_FIRST_STEP_S = 0.05
"""As the first gauges come: see the meter."""
_RECENT = 6
"""Gauges that say what binds and what the CPU does: one of them alone flickers."""
_LIMITS_MAX = 50
_CAUSES_MAX = 20
_TEXT_MAX = 500
_NAME_MAX = 60
_OTHER = "other"


class _Limit:
    """What is kept of one limit over the run."""

    __slots__ = ("known_s", "most", "most_allowed", "pace_s")

    def __init__(self) -> None:
        self.most = -1.0
        self.most_allowed: float | None = None
        self.known_s = self.pace_s = 0.0

    def add(self, most: float, allowed: float | None, seconds: float, pace: float | None) -> None:
        if most > self.most:
            self.most, self.most_allowed = most, allowed
        if pace is not None:
            self.known_s += seconds
            self.pace_s += seconds * pace


class _InFlight:
    """Calls in flight between two gauges: a moment says little of a short time."""

    __slots__ = ("_area", "_at_s", "_count", "_from_s", "_most")

    def __init__(self, at_s: float) -> None:
        self._from_s = self._at_s = at_s
        self._count = self._most = 0
        self._area = -1.0
        """Calls times seconds; below 0 where none began or ended."""

    def moved(self, at_s: float, by: int) -> None:
        self._area = max(0.0, self._area) + self._count * (at_s - self._at_s)
        self._count, self._at_s = max(0, self._count + by), at_s
        self._most = max(self._most, self._count)

    def since(self, at_s: float, told: int) -> tuple[float, int]:
        """How many there were on average and at most since the last gauge; as told, where nothing moved."""
        mean, most = float(told), told
        if self._area >= 0 and at_s > self._from_s:
            mean, most = (self._area + self._count * (at_s - self._at_s)) / (at_s - self._from_s), max(self._most, told)
        self._from_s = self._at_s = at_s
        self._area, self._most = -1.0, self._count
        return mean, most


class Usage:
    """Adds gauges up. `now_s` and times of events are of the run's clock."""

    def __init__(self) -> None:
        self._start_s: float | None = None
        self._recent: deque[Gauge] = deque(maxlen=_RECENT)
        self._limits: dict[tuple[str, float], _Limit] = {}
        self._changes: deque[LimitChange] = deque(maxlen=CHANGES_MAX)
        self._others = 0
        self._errors: dict[str, int] = {}
        """Calls that failed since the last gauge."""
        self._causes: set[str] = set()
        self._waited_s: Mapping[str, float] = {}
        self._history = History()
        self._in_flight = _InFlight(0.0)

    def start(self, at_s: float) -> None:
        self._start_s = at_s
        self._in_flight = _InFlight(at_s)

    def called(self, at_s: float, by: int) -> None:
        """A call began, or ended."""
        self._in_flight.moved(at_s, by)

    def gauge(self, event: Gauge, done: int) -> None:
        """`done` items of this run at that moment. A gauge from before it began is not of it."""
        if self._start_s is None:
            return
        after_s = event.at_s - self._start_s
        before_s = self._recent[-1].at_s if self._recent else self._start_s
        at_once = event.uses[0] if event.uses else None
        mean, most = self._in_flight.since(event.at_s, event.in_flight)
        others = (at_once.used if at_once is not None else event.in_flight) - event.in_flight
        self._others = max(0, round(others))
        for use in event.uses:
            place = (use.unit.value, use.window_s)
            limit = self._limits.get(place)
            if limit is None and len(self._limits) < _LIMITS_MAX:
                limit = self._limits[place] = _Limit()
            if limit is not None:
                peak, allowed = use.used, _known(use.allowed)
                if use is at_once:
                    use = msgspec.structs.replace(use, used=mean + others)  # noqa: PLW2901 - the same, of the whole time
                    peak = most + others
                    allowed = max(allowed, peak) if allowed else allowed  # it was allowed when there were so many
                limit.add(peak, allowed, max(0.0, event.at_s - before_s), _pace(use, after_s))
        self._waited_s = self._bounded(event.waited_s)
        allowed = _known(at_once.allowed) if at_once is not None else None
        self._history.add(after_s, done, mean + others, allowed, self._waited_s, self._errors)
        self._errors = {}
        self._recent.append(event)

    def error(self, kind: str, status: int | None) -> None:
        """A call failed."""
        name = kind if status is None else str(status)
        known = name in self._errors or len(self._errors) < _CAUSES_MAX
        name = name[:_NAME_MAX] if known else _OTHER
        self._errors[name] = self._errors.get(name, 0) + 1

    def change(self, event: LimitChanged) -> None:
        self._changes.append(
            LimitChange(
                self._after_s(event.at_s), event.unit[:_TEXT_MAX], event.limit, event.window_s, event.reason[:_TEXT_MAX]
            )
        )

    def end(self, at_s: float, done: int) -> None:
        """The run is over: what came since the last gauge is put to the last stretch."""
        self._history.finish(self._after_s(at_s), done, self._errors)
        self._errors = {}

    def _after_s(self, at_s: float) -> float:
        return 0.0 if self._start_s is None else at_s - self._start_s

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with all that is known here."""
        changes = tuple(self._changes)
        if not self._recent:
            return msgspec.structs.replace(snapshot, changes=changes) if changes else snapshot
        last = self._recent[-1]
        ended = snapshot.state == "ended"
        return msgspec.structs.replace(
            snapshot,
            uses=tuple(self._use(use, self._after_s(last.at_s)) for use in last.uses),
            others=self._others,
            queued=0 if ended else last.queued,
            binding="" if ended else self._binding(),
            waited_s=self._waited_s,
            cpu_s=last.cpu_s,
            cpu_share=self._cpu_share(whole=ended),
            memory_bytes=last.memory_bytes,
            changes=changes,
            history=self._history.stretches(),
        )

    def _bounded(self, waited_s: Mapping[str, float]) -> dict[str, float]:
        """The seconds by cause, those of ever new ones under one name."""
        found: dict[str, float] = {}
        for cause, seconds in waited_s.items():
            known = cause in self._causes or len(self._causes) < _CAUSES_MAX
            name = cause if known and len(cause) <= _NAME_MAX else _OTHER
            self._causes.add(name)
            found[name] = found.get(name, 0.0) + seconds
        return found

    def _use(self, use: Use, after_s: float) -> LimitUse:
        limit = self._limits.get((use.unit.value, use.window_s))
        return LimitUse(
            unit=use.unit.value,
            used=use.used,
            allowed=_known(use.allowed),
            window_s=use.window_s,
            learnt=use.learnt,
            most=limit.most if limit else use.used,
            most_allowed=limit.most_allowed if limit else _known(use.allowed),
            pace=_pace(use, after_s),
            mean_pace=limit.pace_s / limit.known_s if limit and limit.known_s else None,
        )

    def _binding(self) -> str:
        """What was waited for most over the recent gauges; the last one's word where they do not tell."""
        first, last = self._recent[0], self._recent[-1]
        late = {cause: seconds - first.waited_s.get(cause, 0.0) for cause, seconds in last.waited_s.items()}
        most = max(late, key=late.__getitem__, default="")
        return (most if late.get(most, 0.0) > 0 else last.binding)[:_TEXT_MAX]

    def _cpu_share(self, *, whole: bool) -> float | None:
        first, last = self._recent[0], self._recent[-1]
        if whole or len(self._recent) == 1:
            seconds, cpu_s = self._after_s(last.at_s), last.cpu_s
        else:
            seconds, cpu_s = last.at_s - first.at_s, last.cpu_s - first.cpu_s
        return max(0.0, cpu_s) / seconds if seconds > 0 else None


class History:
    """A run of any length in at most `STRETCHES_MAX` stretches of about one length, which doubles when they are too many."""

    def __init__(self) -> None:
        self._closed: list[Stretch] = []
        self._open: Stretch | None = None
        self._step_s = _FIRST_STEP_S
        self._done = 0
        self._waited_s: Mapping[str, float] = {}

    def add(
        self,
        after_s: float,
        done: int,
        in_flight: float,
        limit: float | None,
        waited_s: Mapping[str, float],
        errors: Mapping[str, int] = {},
    ) -> None:
        """What is true `after_s` into the run; `done` and `waited_s` are sums since it began, `errors` are new ones."""
        from_s = self._open.to_s if self._open else self._closed[-1].to_s if self._closed else 0.0
        late = {cause: s - self._waited_s.get(cause, 0.0) for cause, s in waited_s.items()}
        late = {cause: s for cause, s in late.items() if s > 0}
        new = Stretch(from_s, max(from_s, after_s), max(0, done - self._done), in_flight, limit, late, errors)
        self._done, self._waited_s = done, waited_s
        self._open = new if self._open is None else joined(self._open, new)
        if self._open.to_s - self._open.from_s >= 0.9 * self._step_s:  # gauges are not exact to the millisecond
            self._close(self._open)

    def finish(self, after_s: float, done: int, errors: Mapping[str, int] = {}) -> None:
        last = self._open or (self._closed[-1] if self._closed else None)
        if last is None:
            return
        if self._open is None:
            self._closed.pop()
        self._open = joined(
            last,
            msgspec.structs.replace(
                last, from_s=last.to_s, to_s=max(last.to_s, after_s), done=max(0, done - self._done), waited_s={},
                errors=errors,
            ),
        )  # fmt: skip
        self._done = done
        if self._closed and self._open.to_s - self._open.from_s < self._step_s / 2:  # its rate would be chance
            self._open = joined(self._closed.pop(), self._open)

    def stretches(self) -> tuple[Stretch, ...]:
        return (*self._closed, self._open) if self._open is not None else tuple(self._closed)

    def _close(self, stretch: Stretch) -> None:
        self._closed.append(stretch)
        self._open = None
        if len(self._closed) >= STRETCHES_MAX:
            self._closed = thinned(self._closed)
            self._step_s *= 2


def _pace(use: Use, after_s: float) -> float | None:
    """Percent of the limit; of its part for a run that is younger than the window, where 100 is the most it can mean."""
    allowed = _known(use.allowed)
    if not allowed:
        return None
    percent = 100 * use.used / allowed
    if after_s >= use.window_s or percent >= 100:
        return percent
    return min(100.0, percent * use.window_s / after_s) if after_s > 0 else percent


def _known(limit: float | None) -> float | None:
    return limit if limit is not None and math.isfinite(limit) else None
