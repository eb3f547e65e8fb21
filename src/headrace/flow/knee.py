"""How many calls in flight still pay for themselves. Enters calls as they begin and end, leaves a level.

Knows no refusals: it is for servers that queue instead (vLLM, llama.cpp), where more in flight only makes calls slower.
"""

import math
from collections.abc import Callable

import msgspec

DOUBLING_PAYS = 0.4
STEP_PAYS = 0.3
"""A step pays if throughput grows by more than this power of the growth in flight: 1 is no knee, 0 is flat."""
NOISE, NOISE_CALLS, NOISE_MOST = 0.55, 20, 1.5
"""Relative deviation of one call's time (lognormal, sigma 0.5: 0.53; stragglers make it more): so much is believed, with
the weight of so many calls, and measured. Over n calls that of throughput is this / sqrt(n)."""
USED = 0.75
"""Of the limit, in the mean of a round over time: below, the round says nothing."""
FEW, LEAST = 8, 20
"""Calls in a round: the first of a level while doubling, and others."""
PAID, FAILED = 1.0, 2.0
"""So many deviations above or below what it had to bring, and a doubling is judged by its first round; else by two."""
SETTLE, SETTLE_HOLD = 1.25, 4.0
"""Rounds after a change of level that are not measured: what ends then was sent before or is short. A hold has time."""
FIRST, FINER, FINEST, AGAIN = 2.0**0.5, 2.0**0.25, 1.15, 1.25
"""Steps of a search, which begins with the first and ends below the finest; a later one makes only this one."""
SURE = 2
"""So many times the calls before fewer in flight are taken to do: a wrong step down costs throughput, one up does not."""
HOLD_S = (60.0, 600.0)
HOLD_SEARCHES = (3.0, 16.0)
"""How long a level is kept: so many times what the search took, twice as long after each search that moved nothing, so
that searching costs about 1 % in the end."""
CHANGE = 0.25
"""So much more or less throughput at the same level is a changed server: searched at once."""


class Round(msgspec.Struct, frozen=True, gc=False):
    """What was delivered at one level."""

    in_flight: float
    """Mean over time."""
    calls: int
    calls_per_s: float
    tokens_per_s: float
    """0 where not every call told them."""
    seconds: float
    noise: float
    """Relative deviation of one call's time."""


class Knee:
    """Doubles while a doubling pays, then tries smaller steps, up and down, and holds. A trial that pays is kept.

    What counts is throughput, not latency: that follows the length of the answers. In a doubling phase it is counted
    over rounds that are alike (as many calls as the level, begun by a jump), so that what a jump distorts cancels out
    of their ratio. Later it is calls in flight over the mean time of a call (Little's law), which is the same without
    the error that calls which end together make at both ends of a count.
    """

    def __init__(self, start: int) -> None:
        self.level: float = start
        """Calls that may be in flight; infinity where a refusal has shown that something else is the limit."""
        self.found = False
        """Whether a doubling has failed to pay, or the level was recalled."""
        self.base: Round | None = None
        self._rest: float = start
        self._proven = False
        self._factor = FIRST
        self._up = 0
        self._left: list[int] = []
        self._over = math.inf
        """A level above that did not pay in this search."""
        self._hold_until_s = self._search_s = 0.0
        self._again = False
        self._held_anew = True
        self._patience = HOLD_SEARCHES[0]
        self._calm_until_s = -math.inf
        self._phase: Callable[[float, Round, float], None] = self._double
        self._calls = 0
        self._due = max(FEW, start)
        self._settling = False
        self._tokens: float = 0.0
        self._sum_s = self._squares = 0.0
        self._area = self._begun_s = self._last_s = 0.0
        self._in_flight = 0
        self._since_s = -math.inf
        """Calls that were sent before do not count: another level made them so slow."""

    def recall(self, level: int) -> None:
        """Begin there, as if it had been found."""
        self.level = self._rest = level
        self.found = True
        self._measure_base(0.0, AGAIN, [1, -1])
        self._again = True

    # As calls begin and end.

    def sent(self, now_s: float, in_flight: int) -> None:
        if not self._calls and not self._in_flight:
            self._begun_s = now_s
        if now_s > self._last_s:
            self._area += self._in_flight * (now_s - self._last_s)
            self._last_s = now_s
        self._in_flight = in_flight

    def ok(self, now_s: float, in_flight: int, bound: float, seconds: float, output_tokens: float) -> None:
        """`bound` is what all other limits allow."""
        self._area += self._in_flight * (now_s - self._last_s)
        self._last_s = now_s
        self._in_flight = in_flight
        if now_s - seconds < self._since_s:
            return  # sent at another level
        self._calls += 1
        self._sum_s += seconds
        self._squares += seconds * seconds
        self._tokens += output_tokens if output_tokens > 0 else -math.inf
        if self._calls >= self._due:
            self._look(now_s, bound)

    def disturbed(self, now_s: float, *, refused: bool = False) -> None:
        """Something else than load shapes this round: begin it anew. A trial or a doubling that met a refusal ends."""
        if self._phase == self._double and refused:
            self._leave(now_s)
        elif self._phase == self._try and (refused or self._up > 0):
            self.level = self._rest
            self._hold(now_s, HOLD_S[0])
        else:
            self._begin(now_s, self._due)

    def calm(self, now_s: float, seconds: float) -> None:
        """No round counts that ends before then."""
        self._calm_until_s = max(self._calm_until_s, now_s + seconds)
        self.disturbed(now_s)

    # Rounds.

    def _begin(self, now_s: float, due: float) -> None:
        self._calls, self._tokens, self._area, self._sum_s, self._squares = 0, 0.0, 0.0, 0.0, 0.0
        self._begun_s = self._last_s = now_s
        self._due = math.ceil(due)

    def _settle(self, now_s: float, rounds: float = SETTLE) -> None:
        self._since_s = -math.inf
        self._settling = True
        self._begin(now_s, rounds * max(self.level if self.level < math.inf else 1, self._in_flight))

    def _look(self, now_s: float, bound: float) -> None:
        limit = min(self.level, bound)
        if self._settling:
            self._settling, self._since_s = False, self._begun_s
            self._begin(now_s, max(2 * LEAST, limit))
            return
        if now_s < self._calm_until_s:
            self._begin(now_s, max(LEAST, limit))
            return
        seconds = max(now_s - self._begun_s, 1e-9)
        tokens = max(0.0, self._tokens)
        in_flight = self._area / seconds
        spent_s = seconds if self._phase == self._double else max(self._sum_s / max(in_flight, 1e-9), 1e-9)
        seen = Round(in_flight, self._calls, self._calls / spent_s, tokens / spent_s, seconds, self._noise())
        if seen.in_flight >= USED * limit:
            self._phase(now_s, seen, bound)
        elif self._phase == self._try:  # nobody needs so many
            self.level = self._rest
            self._hold(now_s, HOLD_S[0])
        else:
            self._begin(now_s, max(LEAST, limit))

    def _noise(self) -> float:
        square = max(0.0, self._calls * self._squares / max(self._sum_s * self._sum_s, 1e-9) - 1.0)
        square = (NOISE_CALLS * NOISE * NOISE + self._calls * square) / (NOISE_CALLS + self._calls)
        return min(math.sqrt(square), NOISE_MOST)

    # Phases: each is given what was seen at its level, and what all other limits allow.

    def _double(self, now_s: float, seen: Round, bound: float) -> None:
        if self.base is None:
            self._redouble(now_s, seen, bound)
            return
        gain, noise = _gain(self.base, seen, DOUBLING_PAYS), _noise(self.base, seen)
        most = math.ceil(2 * max(LEAST, self.level))
        if gain >= (PAID * noise if seen.calls < most else 0.0):
            self._proven = True
            self._redouble(now_s, seen, bound)
        elif gain <= -FAILED * noise:
            self._turn(now_s, _log_ratio(self.base, seen))
        elif seen.calls < most:
            self._due = min(2 * seen.calls, most)
        elif self.base.calls < LEAST:  # too few to compare with: measured again
            self.level, self.base = self._rest, None
            self._begin(now_s, 2 * LEAST)
        else:
            self._turn(now_s, _log_ratio(self.base, seen))

    def _redouble(self, now_s: float, seen: Round, bound: float) -> None:
        self.base, self._rest = seen, self.level
        if bound > self.level:
            self.level *= 2
            self._begin(now_s, max(FEW, self.level))
        elif self._proven:
            self._leave(now_s)
        else:
            self._measure_base(now_s, 2.0, [-1])

    def _turn(self, now_s: float, ratio: float) -> None:
        """A doubling did not pay: search between. If throughput stays flat past the knee, the knee is at `ratio` times the
        level below; if it falls, somewhat above that. Too much costs less than too little."""
        self.found = True
        self._over = self.level
        if self._proven:
            self.level = self._rest = round(self._rest * min(max(1.0, FINER * math.exp(ratio)), FIRST))
            self._measure_base(now_s, FINER, [1, -1])
        else:
            self.level = self._rest
            self._measure_base(now_s, 2.0, [-1])

    def _measure_base(self, now_s: float, factor: float, order: list[int]) -> None:
        self._factor, self._left, self._again = factor, order, False
        self._phase = self._take_base
        self._settle(now_s)

    def _take_base(self, now_s: float, seen: Round, bound: float) -> None:
        if seen.calls < _enough(self._factor, seen.noise):
            self._due = min(2 * seen.calls, _enough(self._factor, seen.noise))
            return
        self.base, self._search_s = seen, now_s - seen.seconds
        self._next(now_s, bound)

    def _next(self, now_s: float, bound: float) -> None:
        """Try the next direction, then a finer step, then hold."""
        here = int(min(self._rest, bound))
        if self._over < math.inf:  # between, or nowhere
            bound = min(bound, math.sqrt(here * self._over) if self._over > FINEST * here else here)
        while True:
            while self._left:
                self._up = self._left.pop(0)
                there = _step(here, self._factor, self._up, bound)
                if there >= 1 and there != here:
                    self.level = there
                    self._phase = self._try
                    self._settle(now_s)
                    return
            self._factor = self._factor**0.5
            if self._factor < FINEST or self._again:
                break
            self._left = [1, -1]
        self.level = self._rest
        self._patience = min(2 * self._patience, HOLD_SEARCHES[1])
        self._hold(now_s, min(max(self._patience * (now_s - self._search_s), HOLD_S[0]), HOLD_S[1]))

    def _try(self, now_s: float, seen: Round, bound: float) -> None:
        base = self.base or seen
        gain = _gain(base, seen, STEP_PAYS)
        ratio = max(self.level, base.in_flight) / max(1.0, min(self.level, base.in_flight))
        enough = _enough(ratio, max(base.noise, seen.noise))
        if self._up < 0:
            enough *= SURE
        if seen.calls < enough and abs(gain) < 2 * _noise(base, seen):
            self._due = min(2 * seen.calls, enough)
            return
        if gain >= 0.0:
            self.base, self._rest = seen, self.level
            if self.level >= int(bound):
                self._leave(now_s)
                return
            self._left = [self._up]
            self._factor = min(2.0, self._factor**2)
            self._again = False
            self._patience = HOLD_SEARCHES[0] / 2
            self.found = True
        else:
            if self._up > 0:
                self._over = self.level
            self.level = self._rest
        self._next(now_s, bound)

    def _leave(self, now_s: float) -> None:
        """Something else is the limit."""
        self.level = self._rest = math.inf
        self._hold(now_s, HOLD_S[0])

    def _hold(self, now_s: float, seconds: float) -> None:
        self._phase = self._keep
        self._over = math.inf
        self._held_anew = True
        self._hold_until_s = now_s + seconds
        self._settle(now_s, SETTLE_HOLD)

    def _keep(self, now_s: float, seen: Round, bound: float) -> None:
        """A changed server ends the hold at once, else its time does. What another limit lets grow has to pay as well."""
        enough = SURE * _enough(AGAIN, seen.noise)
        if seen.calls < enough:
            self._due = min(2 * seen.calls, enough)
            return
        base = self.base or seen
        noise = _noise(base, seen)
        grown = math.log(seen.in_flight / max(base.in_flight, 1e-9))
        gain = _gain(base, seen, STEP_PAYS)
        if grown > CHANGE / 2 and gain < -2 * noise:
            self.found, self._rest = True, max(1, round(base.in_flight))
            self.level = self._rest
            self._measure_base(now_s, FIRST, [1, -1])
            return
        anew, self._held_anew = self._held_anew and abs(grown) < CHANGE / 2, False
        if anew or grown < -CHANGE / 2 or (grown > CHANGE / 2 and gain > 2 * noise):
            self.base = base = seen
        change = _log_ratio(base, seen) if abs(grown) < CHANGE / 2 else 0.0
        if abs(change) > CHANGE + 3 * noise:
            self._measure_base(now_s, FIRST, [1, -1] if change > 0 else [-1, 1])  # the round may have begun before
        elif now_s >= self._hold_until_s and self._rest < math.inf:
            self.base, self._search_s, self._again = seen, now_s, True
            self._factor, self._left = AGAIN, [1, -1]
            self._next(now_s, bound)
        else:
            self._begin(now_s, max(2 * LEAST, min(self.level, bound)))


def _log_ratio(base: Round, seen: Round) -> float:
    """Of delivered tokens where both tell them, else of calls."""
    if base.tokens_per_s and seen.tokens_per_s:
        return math.log(seen.tokens_per_s / base.tokens_per_s)
    return math.log(seen.calls_per_s / base.calls_per_s)


def _gain(base: Round, seen: Round, pays: float) -> float:
    """By how much (logarithmic) throughput is above what the change in flight had to bring."""
    return _log_ratio(base, seen) - pays * math.log(max(seen.in_flight, 1e-9) / max(base.in_flight, 1e-9))


def _noise(base: Round, seen: Round) -> float:
    """Deviation of the logarithm of their ratio."""
    return math.sqrt(base.noise * base.noise / base.calls + seen.noise * seen.noise / seen.calls)


def _enough(ratio: float, noise: float) -> int:
    """Calls on each side that tell a step of this ratio that pays (power 1) from one that does not (power 0)."""
    return math.ceil(2 * (noise / (STEP_PAYS * math.log(max(ratio, 1.08)))) ** 2)


def _step(here: int, factor: float, up: int, bound: float) -> int:
    """At least one call more, as far as other limits allow, or one less."""
    if up > 0:
        return min(max(round(here * factor), here + 1), max(int(bound), here))
    return min(round(here / factor), here - 1)
