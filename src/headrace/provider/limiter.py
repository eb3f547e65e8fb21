"""One limit's window as a provider keeps it: amounts and their times come in, what remains and how long to wait goes out.

Pure: time is an argument and never goes back. Rules, each for amounts that fitted as they came, and up to `SLACK_S`:
1. Sliding: no half-open interval of `window_s` has more than `limit`.
2. Fixed: no window that begins at `phase_s` plus a multiple of `window_s` has; across a border it may be twice that.
3. Bucket: no interval of t seconds has more than limit / window_s * t + capacity.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from typing import Protocol

SLACK_S = 1e-6
"""Who comes back this much too early is on time: timers and the sums of times are no finer."""
_ROUNDING = 1e-9
"""Of a bucket's level, as a share of its capacity."""
_COMPACT = 1024
"""Entries that are forgotten together."""


class Trace:
    """The amounts of the last `window_s`, exactly, in 16 bytes an entry; `most` is the largest sum of any window."""

    __slots__ = ("_first", "_gone", "_sums", "_times", "_total", "most", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.most = 0.0
        self._times = array("d")
        self._sums = array("d")
        self._first = 0
        self._total = 0.0
        self._gone = 0.0

    def add(self, now_s: float, amount: float) -> None:
        if not amount:
            return
        used = self.used(now_s) + amount
        self._total += amount
        self._times.append(now_s)
        self._sums.append(self._total)
        self.most = max(self.most, used)

    def used(self, now_s: float) -> float:
        times, first = self._times, self._first
        edge_s = now_s - self.window_s + SLACK_S
        if first < len(times) and times[first] <= edge_s:
            self._first = first = bisect_right(times, edge_s, first)
            self._gone = self._sums[first - 1]
            if first == len(times):
                self._total = self._gone = 0.0
            if first == len(times) or (first > _COMPACT and 2 * first > len(times)):
                del times[:first], self._sums[:first]
                self._first = 0
        return self._total - self._gone

    def empty_s(self, now_s: float) -> float:
        """Seconds until nothing is used."""
        return max(0.0, self._times[-1] + self.window_s - now_s) if self.used(now_s) else 0.0

    def until_s(self, now_s: float, room: float) -> float:
        """Seconds until at most `room` is used; infinity for less than none."""
        if self.used(now_s) <= room:
            return 0.0
        place = bisect_left(self._sums, self._total - room, self._first)
        return math.inf if place == len(self._sums) else max(0.0, self._times[place] + self.window_s - now_s)


class Limiter(Protocol):
    """One kind of window. `remaining` below 0 is a debt."""

    limit: float

    @property
    def most(self) -> float:
        """The largest amount that is ever admitted."""
        ...

    def remaining(self, now_s: float) -> float: ...

    def take(self, now_s: float, amount: float) -> None: ...

    def wait_s(self, now_s: float, amount: float) -> float:
        """Until it would fit if nobody else came; infinity for more than ever fits."""
        ...

    def reset_s(self, now_s: float) -> float:
        """Until all of it is there again."""
        ...

    def change(self, now_s: float, limit: float) -> None:
        """What was charged before stays charged."""
        ...


class Sliding:
    """What was charged in the last `window_s` counts."""

    def __init__(self, limit: float, window_s: float) -> None:
        self.limit = limit
        self.trace = Trace(window_s)

    @property
    def most(self) -> float:
        return self.limit

    def remaining(self, now_s: float) -> float:
        return self.limit - self.trace.used(now_s)

    def take(self, now_s: float, amount: float) -> None:
        self.trace.add(now_s, amount)

    def wait_s(self, now_s: float, amount: float) -> float:
        return self.trace.until_s(now_s, self.limit - amount)

    def reset_s(self, now_s: float) -> float:
        return self.trace.empty_s(now_s)

    def change(self, now_s: float, limit: float) -> None:  # noqa: ARG002 - nothing flows in meanwhile
        self.limit = limit


class Fixed:
    """Windows one after the other; what was charged is forgotten as the next one begins."""

    def __init__(self, limit: float, window_s: float, phase_s: float = 0.0) -> None:
        self.limit = limit
        self.window_s = window_s
        self.phase_s = phase_s
        self._number = -math.inf
        self._used = 0.0

    @property
    def most(self) -> float:
        return self.limit

    def remaining(self, now_s: float) -> float:
        number = (now_s - self.phase_s + SLACK_S) // self.window_s
        if number > self._number:
            self._number, self._used = number, 0.0
        return self.limit - self._used

    def take(self, now_s: float, amount: float) -> None:
        self.remaining(now_s)
        self._used += amount

    def wait_s(self, now_s: float, amount: float) -> float:
        if amount <= self.remaining(now_s):
            return 0.0
        return math.inf if amount > self.limit else self._left_s(now_s)

    def reset_s(self, now_s: float) -> float:
        return self._left_s(now_s) if self.remaining(now_s) < self.limit else 0.0

    def change(self, now_s: float, limit: float) -> None:
        self.remaining(now_s)
        self.limit = limit

    def _left_s(self, now_s: float) -> float:
        return max(0.0, self.phase_s + (self._number + 1) * self.window_s - now_s)


class Bucket:
    """Holds at most `capacity`, full at first, and is filled with `limit` in `window_s`."""

    def __init__(self, limit: float, window_s: float, capacity: float | None = None) -> None:
        self.limit = limit
        self.window_s = window_s
        self._capacity = capacity
        self._level = self.most
        self._at_s = -math.inf

    @property
    def most(self) -> float:
        return self.limit if self._capacity is None else self._capacity

    def remaining(self, now_s: float) -> float:
        if now_s > self._at_s:
            filled = (now_s - self._at_s) * self.limit / self.window_s
            self._level, self._at_s = min(self.most, self._level + filled), now_s
        return self._level + SLACK_S * self.limit / self.window_s + _ROUNDING * self.most

    def take(self, now_s: float, amount: float) -> None:
        self.remaining(now_s)
        self._level -= amount

    def wait_s(self, now_s: float, amount: float) -> float:
        lacking = amount - self.remaining(now_s)
        if lacking <= 0:
            return 0.0
        return math.inf if amount > self.most else lacking * self.window_s / self.limit

    def reset_s(self, now_s: float) -> float:
        return max(0.0, self.most - self.remaining(now_s)) * self.window_s / self.limit

    def change(self, now_s: float, limit: float) -> None:
        self.remaining(now_s)
        self.limit = limit
        self._level = min(self._level, self.most)
