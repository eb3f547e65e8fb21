"""Whether calls are refused by chance, so many at any pace. Enters what was sent and refused, leaves a share. Rules:

1. Past a limit, one refusal follows the other; those of chance stand alone, with calls let in between.
2. A limit that refuses at one pace, or so many in flight, does not far below; chance does. A gate slows down after each
   refusal anyway: so where those that stand alone go on when both have fallen to `SLOW` of it, slower is no cure.
3. That may be wrong: it holds until more are refused than the share explains, and the next time takes twice the proof.
"""

import math
from collections import deque

APART, RECENT = 2, 16
"""Calls let in at either side of a refusal that stands alone. They come out of order: so many are remembered."""
PROOF, PROOF_MOST = 5, 40
"""So many more refusals that stand alone than others; twice as many each time that it soon proved wrong."""
SLOW, SLOW_LEAST = 0.4, 3
"""So many of them at no more than this part of the pace, and of the calls in flight, at which others came."""
TIMES, CERTAIN = 2.0, 5.0
"""So many times the share is more than chance: CUSUM (Page, 1954), and the likelihood ratio (its logarithm) from which."""
LONG = 1000
"""What held for so many calls was no error."""
SHARE_LEAST, SHARE_MOST = 0.03, 0.3
"""Of all calls. Fewer are borne as it is, and so few are refused by a limit that was found; of more most are a limit's."""


class Chance:
    """The share of calls that is refused whatever the pace; 0 until that is proven."""

    __slots__ = ("_began", "_excess", "_first", "_first_s", "_held", "_level", "_pace", "_pending", "_proof", "_recent",
                 "_refusals", "_score", "_slow", "share")  # fmt: skip

    def __init__(self) -> None:
        self.share = 0.0
        self._proof = PROOF
        self._recent: deque[int] = deque(maxlen=RECENT)  # calls that were refused
        self._first, self._first_s = 1, math.nan  # the first sent since
        self._excess, self._held = 0.0, 0  # more refusals than the share explains; calls that it held for
        self._begin(0)

    def _begin(self, number: int) -> None:
        """From this call on."""
        self._restart(number)
        self._pace, self._level = 0.0, 0  # the most at which one stood alone: calls a second, and in flight

    def _restart(self, number: int) -> None:
        self._began, self._refusals, self._score, self._slow = number, 0, 0, 0
        self._pending: tuple[float, int] | None = None  # of one that stands alone if no other is near

    def sent(self, now_s: float, number: int) -> None:
        if math.isnan(self._first_s):
            self._first, self._first_s = number, now_s
        if self.share:
            self._held += 1
            self._excess = max(0.0, self._excess + math.log((1.0 - TIMES * self.share) / (1.0 - self.share)))

    def refused(self, number: int, sent_s: float, in_flight: int) -> bool:
        """True where this refusal has proven it. `in_flight` when it was sent."""
        is_apart = all(abs(number - each) > APART for each in self._recent)
        is_new = not math.isnan(self._first_s) and number >= self._first  # sent after the one before was known
        calls, seconds = number - self._first, sent_s - self._first_s
        self._recent.append(number)
        self._first_s = math.nan
        self._refusals += 1
        if not (is_apart and is_new):
            self._score -= not is_apart
            self._pending = None
            if self._score <= 0:
                self._restart(number)
            return False
        self._score += 1
        if self._pending is not None:
            self._stood_alone(number, *self._pending)
        self._pending = (calls / seconds, in_flight) if seconds > 0 else None
        return self._is_proven(number)

    def _stood_alone(self, number: int, pace: float, level: int) -> None:
        if pace <= SLOW * self._pace and level <= SLOW * self._level:
            self._slow += 1
            if self._slow == 1:
                self._began, self._refusals = number, 0
        self._pace, self._level = max(self._pace, pace), max(self._level, level)

    def _is_proven(self, number: int) -> bool:
        if self._score < self._proof or self._slow < SLOW_LEAST:
            return False
        share = self._refusals / (number - self._began)
        if not SHARE_LEAST <= share <= SHARE_MOST:
            return False
        self.share, self._excess, self._held = share, 0.0, 0
        self._begin(number)
        return True

    def explains(self) -> bool:
        """Whether one more refusal is to be expected. Where it is not, what was proven is void."""
        self._excess += math.log(TIMES)
        if self._excess < CERTAIN:
            return True
        self._proof = PROOF if self._held >= LONG else min(PROOF_MOST, 2 * self._proof)
        self.share = 0.0
        self._begin(self._recent[-1])
        return False
