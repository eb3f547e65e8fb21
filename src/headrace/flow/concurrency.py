"""How many calls may be in flight. Enters sends, answers and refusals, leaves a number; starts and stops nothing."""

import math
from collections import deque

import msgspec

from headrace.flow.knee import Knee

BETA = 0.9
"""A cut goes so far below the measured ceiling: shallow, for that is known, not guessed."""
REGROW_S, REGROW_GAPS, REGROW_MOST_S = 30.0, 50.0, 300.0
"""From a cut back to the ceiling: so long, or so many mean gaps between answers, so that probing is 2 % of the calls."""
FRESH_S = 0.1
"""It changes over tens of seconds, and is asked for several times a call."""
COOL_S = 2.0
"""No growth after a cut; refusals of older calls that come in meanwhile belong to it."""
MEMORY_S = 60.0
"""How long an accepted level is remembered, and a cut can be taken back."""
USED, IDLE = 0.8, 0.5
"""Of the limit in flight: from here it grows, below that its clock stands still."""
ILL, ILL_WEIGHT = 0.2, 0.05
"""Share of failed calls (mean over the last 20 or so) from which growth pauses: a few broken calls say nothing."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """What a call remembers of its start."""

    generation: int
    in_flight: int
    """This one included."""


class Pauses:
    """A clock that stands still while growth is paused."""

    def __init__(self) -> None:
        self.until_s = -math.inf
        self._since_s = 0.0
        self._before_s = 0.0

    def pause(self, now_s: float, seconds: float) -> None:
        if now_s >= self.until_s:
            if self.until_s > -math.inf:
                self._before_s += self.until_s - self._since_s
            self._since_s = self.until_s = now_s
        self.until_s = max(self.until_s, now_s + seconds)

    def read(self, now_s: float) -> float:
        if self.until_s == -math.inf:
            return now_s
        return now_s - self._before_s - (min(now_s, self.until_s) - self._since_s)


class Ceiling:
    """Where refusals say the limit is: a cubic around the level that was measured to be accepted.

    w(t) = W * (1 + (1 - beta) * (t / K - 1)**3): from beta * W back to W in K seconds, flat around W, faster far above
    it (RFC 9438, made free of units). W is what was in flight at the first refusal without those refused; it is cut
    once per episode, never below half of what was accepted within the last minute, so that no series of refusals for
    another limit takes it to 1; below that half it doubles per clean round.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        self.generation = 0
        self.pauses = Pauses()
        self._least = 1.0
        self._before = 1.0
        self._cut_s = -math.inf
        self._from_s = 0.0
        self._limit = math.inf
        self._fresh_until_s = -math.inf
        self._gap_s = 0.0
        self._last_ok_s = -math.inf
        self._peaks: deque[tuple[float, int]] = deque()
        self._clean = 0
        self._peak = 0

    @property
    def accepted(self) -> int:
        """The most in flight that was let in within the last minute of calls."""
        return self._peaks[0][1] if self._peaks else 0

    @property
    def _regrow_s(self) -> float:
        return max(REGROW_S, min(REGROW_MOST_S, REGROW_GAPS * self._gap_s))

    def limit(self, now_s: float) -> float:
        if now_s < self._fresh_until_s:
            return self._limit
        if self.level is None:
            return math.inf
        x = max(0.0, self.pauses.read(now_s) - self._from_s) / self._regrow_s - 1.0
        self._limit = self.level * (1.0 + (1.0 - BETA) * x * x * x) + 0.5
        self._fresh_until_s = now_s + FRESH_S
        return self._limit

    def sent(self, in_flight: int) -> Mark:
        self._peak = max(self._peak, in_flight)
        return Mark(self.generation, in_flight)

    def ok(self, now_s: float, mark: Mark, in_flight: int, limit: int) -> None:
        level = min(mark.in_flight, in_flight + 1)
        peaks = self._peaks
        while peaks and peaks[-1][1] <= level:
            peaks.pop()
        peaks.append((now_s, level))
        while peaks[0][0] < now_s - MEMORY_S:
            peaks.popleft()
        if self._last_ok_s > -math.inf:
            gap_s = now_s - self._last_ok_s
            self._gap_s += 0.05 * (min(gap_s, MEMORY_S) - self._gap_s)
            if limit + 1 < self._limit:  # something else is in the way: nothing is learnt here meanwhile
                self._from_s += gap_s
        self._last_ok_s = now_s
        if self.level is None or mark.generation != self.generation:
            return
        if self._peak < IDLE * limit:
            self._from_s = max(self._from_s, self.pauses.read(now_s) - self._regrow_s)
        self._clean += 1
        if self._clean >= max(4, limit):
            if self._peak >= USED * limit and limit < 0.5 * self.accepted:
                self._set(min(2.0 * self.level, 0.5 * self.accepted))
            self._clean, self._peak = 0, in_flight

    def refused(self, now_s: float, mark: Mark, in_flight: int, limit: int, retry_after_s: float | None) -> bool:
        if mark.generation != self.generation:
            if self.level is not None and now_s < self._cut_s + COOL_S:
                self._set(max(self._least, self.level - 1.0))
            return False
        if now_s > self._cut_s + MEMORY_S:
            self._before = float(limit)
        self.generation += 1
        self._least = max(1.0, 0.5 * min(limit, self.accepted))
        self._set(max(self._least, float(in_flight)))
        self._cut_s = now_s
        self._from_s = self.pauses.read(now_s) + max(COOL_S, retry_after_s or 0.0)
        self._clean, self._peak = 0, in_flight
        return True

    @property
    def is_met(self) -> bool:
        """Whether refusals showed it, and nothing has cleared it of them."""
        return self.level is not None and self._cut_s > -math.inf

    def _set(self, level: float) -> None:
        self.level = level
        self._fresh_until_s = -math.inf

    def forget(self) -> None:
        """Nothing was refused."""
        self.level, self._cut_s = None, -math.inf
        self._fresh_until_s = -math.inf

    def acquit(self, now_s: float) -> None:
        """The cuts of the last minute were for another limit: stand where the first of them was made."""
        if self.level is not None and now_s <= self._cut_s + MEMORY_S:
            self._set(self._before)
            self._cut_s = -math.inf
            self._from_s = self.pauses.read(now_s) - self._regrow_s


class Concurrency:
    """The limit on calls in flight: stated, or searched for between 1 and `most`.

    Searched: it doubles from `start` as long as that is used, not refused and pays, then stands where `Knee` and
    `Ceiling` agree. Stated: `most` from the first call; a provider that refuses still lowers it for a while.
    """

    def __init__(self, *, start: int, most: int, adaptive: bool = True, learnt: int | None = None) -> None:
        self.adaptive = adaptive
        self.most = most
        self.ceiling = Ceiling()
        self._start = start
        self._knee = Knee(min(start, most))
        self._lent: float = math.inf
        self._allowed: float = most
        """What is stated and lent: asked for five times a call."""
        self._ill = 0.0
        if learnt is not None:
            self.recall(learnt)

    # What is known before the first call, or lent.

    def state(self, stated: int | None, *, most: int) -> None:
        """From now on so many, or, where None are stated, a search up to `most`. Lowering never pre-empts."""
        self.adaptive = stated is None
        self.most = most if stated is None else stated
        self._allowed = min(self.most, self._lent)

    def recall(self, learnt: int) -> None:
        """Begin where an earlier run ended."""
        self._knee.recall(max(1, learnt))

    def cap(self, most: float) -> None:
        """The share that is lent to this process; infinity for all of it."""
        self._lent = most
        self._allowed = min(self.most, most)

    # As calls begin and end.

    def limit(self, now_s: float) -> int:
        limit = self._bound(now_s)
        if self.adaptive and self._knee.level < limit:
            limit = self._knee.level
        if limit >= 1.0:
            return int(limit)
        return 0 if self._lent < 1.0 else 1  # what is not lent is another process's

    def _bound(self, now_s: float) -> float:
        """What is stated, lent and not refused."""
        if self.ceiling.level is None:
            return self._allowed
        return min(self._allowed, self.ceiling.limit(now_s))

    def sent(self, now_s: float, in_flight: int) -> Mark:
        """`in_flight` counts this call."""
        if self.adaptive:
            self._knee.sent(now_s, in_flight)
        return self.ceiling.sent(in_flight)

    def ok(self, now_s: float, mark: Mark, in_flight: int, seconds: float, output_tokens: float) -> None:
        bound = self._bound(now_s)
        limit = min(bound, self._knee.level) if self.adaptive else bound  # as `limit`, without asking twice
        self._ill -= ILL_WEIGHT * self._ill
        self.ceiling.ok(now_s, mark, in_flight, max(1, int(limit)))
        if self.adaptive:
            self._knee.ok(now_s, in_flight, bound, seconds, output_tokens)

    def failed(self, now_s: float) -> None:
        """A call got no answer, for a reason that may be the endpoint's."""
        self._ill += ILL_WEIGHT * (1.0 - self._ill)
        if self._ill > ILL:
            self.calm(now_s)

    def throttled(self, now_s: float, mark: Mark, in_flight: int, retry_after_s: float | None) -> bool:
        """A refusal for calls in flight; `in_flight` are those let in beside it. True where it begins an episode."""
        begins = self.ceiling.refused(now_s, mark, in_flight, self.limit(now_s), retry_after_s)
        if begins:
            self._knee.disturbed(now_s, refused=True)
        return begins

    def acquit(self, now_s: float) -> None:
        """The refusals of the last minute were for another limit."""
        self.ceiling.acquit(now_s)

    def forget(self) -> None:
        """No refusal so far was for calls in flight."""
        self.ceiling.forget()

    def calm(self, now_s: float, seconds: float = 15.0) -> None:
        """No growth for so long."""
        self.ceiling.pauses.pause(now_s, seconds)
        self._knee.calm(now_s, seconds)

    @property
    def accepted(self) -> int:
        """The most in flight that was let in within the last minute of calls."""
        return self.ceiling.accepted

    @property
    def learnt(self) -> int | None:
        """Where the next run may begin; None while nothing was found, and little used."""
        found = [level for level in (self.ceiling.level, self._knee.level if self._knee.found else None) if level]
        if not found and self._knee.base is not None and self._knee.base.in_flight > self._start:
            found = [self._knee.base.in_flight]
        return max(1, int(min(*found, self.most, math.inf))) if found else None

    @property
    def held_by(self) -> str:
        """What showed that no more in flight would do: refused, knee, or nothing."""
        if self.ceiling.is_met:
            return "refused"
        return "knee" if self.adaptive and self._knee.found else ""

    def __repr__(self) -> str:
        known = min(self.most, self._lent, self.ceiling.level or math.inf)
        level = min(known, self._knee.level) if self.adaptive else known
        return f"{max(1, int(level))}"
