"""How much may be charged now so that no window holds more than its limit: the guard proves it, the pacer smooths it.

Rules of this file, with W the window and d the slack for calls that the network brings closer together:

1. The guard lets what is sent in any W + d seconds be at most the limit, so what arrives in any W seconds is, as long as
   delays differ by less than d. This holds for sliding windows, for fixed ones of any phase and for buckets of one limit.
2. A refund goes back to where the charge was made, and is lost if that has left the window: given back now, it would
   leave less than nothing behind and let the window after it be overdrawn.
3. The pacer spreads the limit over the window, for servers that count in shorter ones. It never proves anything.
"""

import math
from collections import deque

BUCKETS = 600
"""A window is kept in so many parts: 0.1 s of a minute, which costs 1/600 of the limit."""
BURST_S = 0.25
"""How far ahead of its pace a known limit may be: what a busy event loop is late, made up for."""

Bucket = list[float]
"""When it leaves the window; what was charged in it; what of that was not refused; the window's charge when it was."""
_ENDS, _CHARGED, _ACCEPTED, _SUM = range(4)


def slack_s(window_s: float) -> float:
    """0.5 s for a minute: no refusals with delays that differ by 0.18 s, at 0.8 % of the limit. 0.2 s for short ones."""
    return min(0.5, max(0.2, 0.02 * window_s))


class Guard:
    """The charge of the last `span_s` seconds, O(1) a call. It never lets a window pass a limit; a surcharge may."""

    __slots__ = ("_buckets", "_grain_s", "_key", "_peaks", "_popped", "accepted", "charged", "span_s", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.span_s = window_s + slack_s(window_s)
        self.charged = 0.0
        self.accepted = 0.0
        """Of the charge in the window, what was not refused."""
        self._grain_s = window_s / BUCKETS
        self._buckets: deque[Bucket] = deque()
        self._key = -math.inf
        self._popped = 0
        self._peaks: deque[tuple[float, float]] = deque()

    def earliest(self, now_s: float, amount: float, limit: float) -> float:
        """When `amount` has room under `limit`: `now_s` for now, infinity for never."""
        buckets = self._buckets
        if buckets and buckets[0][0] <= now_s:
            self.expire(now_s)
        need = self.charged + amount - limit
        if need <= 1e-9 * limit:
            return now_s
        for ends_s, charged, _, _ in buckets:
            need -= charged
            if need <= 1e-9 * limit:
                return ends_s
        return buckets[-1][_ENDS] if buckets and amount <= limit else math.inf  # rounding must not make it never

    def add(self, now_s: float, amount: float) -> Bucket:
        """Charge `amount`; the bucket is for `settle` and `refuse`."""
        buckets = self._buckets
        if buckets and buckets[0][0] <= now_s:
            self.expire(now_s)
        self.accepted += amount
        self.charged = charged = self.charged + amount
        key = now_s // self._grain_s
        if key != self._key or not buckets:
            self._key = key
            bucket = [(key + 1.0) * self._grain_s + self.span_s, amount, amount, charged]
            buckets.append(bucket)
            return bucket
        bucket = buckets[-1]
        bucket[1] += amount
        bucket[2] += amount
        bucket[3] = charged
        return bucket

    def settle(self, now_s: float, bucket: Bucket, more: float, *, accepted: bool = True) -> None:
        """The charge was `more` than thought, or less: corrected where it was made; a late surcharge counts now."""
        self.expire(now_s)
        if bucket[0] > now_s:
            bucket[1] += more
            self.charged += more
            if accepted:
                bucket[2] += more
                self.accepted += more
        elif more > 0:
            self.add(now_s, more)

    def refuse(self, now_s: float, bucket: Bucket, amount: float) -> None:
        """`amount` was not let in. It stays charged until it is settled: some providers count what they refuse."""
        self.expire(now_s)
        if bucket[0] > now_s:
            bucket[2] -= amount
            self.accepted -= amount

    def expire(self, now_s: float) -> None:
        """Forget what has left the window."""
        buckets, peaks = self._buckets, self._peaks
        if not buckets or buckets[0][0] > now_s:
            return
        while buckets and buckets[0][0] <= now_s:
            while peaks and peaks[-1][1] <= self.accepted:
                peaks.pop()
            ends_s, charged, accepted, _ = buckets.popleft()
            peaks.append((ends_s, self.accepted))
            self.charged -= charged
            self.accepted -= accepted
            self._popped += 1
        if self._popped > 10 * BUCKETS or not buckets:  # so that rounding never adds up
            self.charged = math.fsum(bucket[_CHARGED] for bucket in buckets)
            self.accepted = math.fsum(bucket[_ACCEPTED] for bucket in buckets)
            self._popped = 0

    def best(self, now_s: float) -> float:
        """The most that was let in within one window, of the last three."""
        peaks = self._peaks
        while peaks and peaks[0][0] < now_s - 3 * self.window_s:
            peaks.popleft()
        return max(self.accepted, peaks[0][1] if peaks else 0.0)

    def accepted_at(self, now_s: float, amount: float, limit: float) -> float:
        """As `earliest`, of what was let in."""
        self.expire(now_s)
        need = self.accepted + amount - limit
        if need <= 0:
            return now_s
        for bucket in self._buckets:
            need -= bucket[_ACCEPTED]
            if need <= 1e-9 * limit:
                return bucket[_ENDS]
        return now_s

    def freed_s(self, now_s: float, amount: float) -> float:
        """When `amount` has room again under the most that was let in, as in a sliding window; infinity: no telling."""
        need = self.accepted + amount - self.best(now_s)
        if need > 0:
            for bucket in self._buckets:
                need -= bucket[_ACCEPTED]
                if need <= 0:
                    return bucket[_ENDS]
        return math.inf

    def most_at(self, at_s: float, slack_s: float) -> float | None:
        """The most that the window held from `at_s` to `slack_s` after, when something was charged; None: too long ago."""
        most = None
        for bucket in reversed(self._buckets):
            from_s = bucket[_ENDS] - self.span_s - self._grain_s
            if from_s <= at_s + slack_s:
                most = max(most or 0.0, bucket[_SUM])
            if from_s <= at_s + 1e-6:
                return most
        return None


class Pacer:
    """Evenly `rate` a second, as debts: an amount may start once those before it are paid off (GCRA).

    In any t seconds at most rate * (t + burst) and two amounts: what waited for the guard need not be waited for again.
    """

    __slots__ = ("due_s",)

    def __init__(self) -> None:
        self.due_s = -math.inf
        """When all that was sent is paid off."""

    def add(self, now_s: float, amount: float, rate: float) -> float:
        """Returns for how many seconds nothing was owed before: the time that went unused."""
        takes_s = amount / rate
        idle_s = now_s - self.due_s
        self.due_s = takes_s + (self.due_s if idle_s <= takes_s else now_s - takes_s)
        return idle_s - takes_s
