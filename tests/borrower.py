"""A gate as small as can be for tests of leases: calls in flight, and requests paced at the rate that is lent."""

import math
from collections.abc import Mapping

from headrace.core.limits import Learnt, Unit

CALLS, REQUESTS = Unit.CONCURRENCY, Unit.REQUESTS
BURST_S = 0.25


class Till:
    """Lets a call start where both limits allow it; what is lent to it counts from the moment that it is told."""

    def __init__(self, limits: Mapping[Unit, float]) -> None:
        self.known = dict(limits)
        self.lent: dict[Unit, float] = {}
        self.lendings: list[dict[Unit, float]] = []
        self.in_flight = 0
        self.waiting = 0
        self.wanted: dict[Unit, float] | None = None
        self.learned = Learnt()
        self._credit, self._at_s = 0.0, 0.0

    def learnt(self) -> Learnt:
        return self.learned

    def limits(self) -> Mapping[Unit, float]:
        return self.known

    def wants(self, now_s: float) -> Mapping[Unit, float]:
        if self.wanted is not None:
            return self.wanted
        calls = self.in_flight + self.waiting
        return {CALLS: calls} if self.waiting else {CALLS: calls, REQUESTS: 0.0}

    def holds(self, now_s: float) -> Mapping[Unit, float]:
        return {CALLS: self.in_flight}

    def lend(self, amounts: Mapping[Unit, float]) -> None:
        self.lent = dict(amounts)
        self.lendings.append(self.lent)
        self._credit = min(self._credit, self.burst)

    @property
    def burst(self) -> float:
        """Requests that may start at once."""
        return max(1.0, self._per_s * BURST_S)

    @property
    def _per_s(self) -> float:
        return self._allowed(REQUESTS) / 60

    def tick(self, now_s: float) -> None:
        """Before what is lent changes, and before a call: what has come in since at the rate until now."""
        earned = (now_s - self._at_s) * self._per_s if math.isfinite(self._per_s) else math.inf
        self._credit = min(self.burst, self._credit + earned)
        self._at_s = now_s

    def start(self, now_s: float) -> bool:
        self.tick(now_s)
        if self.in_flight + 1 > self._allowed(CALLS) or self._credit < 1 - 1e-9:
            return False
        self.in_flight += 1
        self._credit -= 1
        return True

    def end(self) -> None:
        self.in_flight -= 1

    def _allowed(self, unit: Unit) -> float:
        return min(self.known.get(unit, math.inf), self.lent.get(unit, math.inf))
