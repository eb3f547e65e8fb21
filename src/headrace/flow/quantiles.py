"""Durations in, quantiles out, in one small array. Knows no clock and keeps no single value."""

import math
from bisect import bisect_left
from itertools import accumulate

LEAST_S = 1e-4
MOST_S = 86_400.0
_LOG_STEP = math.log(1.02)
_STEPS = 1 / _LOG_STEP
_FIRST = 1 - math.log(LEAST_S) * _STEPS
_BINS = int(math.log(MOST_S) * _STEPS + _FIRST) + 2


class Quantiles:
    """Any number of durations in one array: bins that grow by 2 %, from 0.1 ms to a day."""

    def __init__(self) -> None:
        self.count = 0
        self._bins = [0] * _BINS

    def add(self, seconds: float) -> None:
        if seconds <= LEAST_S:
            index = 0
        elif seconds < MOST_S:
            index = int(math.log(seconds) * _STEPS + _FIRST)
        else:
            index = _BINS - 1
        self._bins[index] += 1
        self.count += 1

    def at(self, share: float) -> float | None:
        """The duration that this share of them does not pass; None where there is none."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        index = bisect_left(list(accumulate(self._bins)), min(rank, self.count))
        return LEAST_S * math.exp((index - 0.5) * _LOG_STEP) if index else LEAST_S

    def fade(self) -> None:
        """Forget half, so that what comes from now on counts for more than what came before."""
        halves = [seen // 2 for seen in accumulate(self._bins)]
        self._bins = [here - before for before, here in zip([0, *halves], halves, strict=False)]
        self.count = halves[-1]

    def bins(self) -> dict[int, int]:
        """What is in it, for keeping: how many in each bin that is not empty."""
        return {index: count for index, count in enumerate(self._bins) if count}


def middle(index: int) -> float:
    """The duration in the middle of a bin."""
    return LEAST_S * math.exp((min(max(index, 0), _BINS - 1) - 0.5) * _LOG_STEP) if index > 0 else 0.0


WIDTH = 1.02
"""From the lower end of a bin to its upper one."""
