"""How long one attempt may take. Enters how long the answered ones took, leaves seconds.

Rules of this file:

1. Until 20 calls were answered, and whenever in doubt, an attempt may take what the user allows at most.
2. Then it may take 2.5 times the 99th percentile of the last one to two thousand answers, and 10 s at least, so that
   the tail of a quick endpoint is never cut. Few answers hold no tail: of n, the factor is 2.5 * (1 + 40 / n).
3. Only answers are learnt from. A call that hangs would teach that calls take long; one that was cut too early is given
   twice the time with each attempt, the last one all of it, and teaches when it is answered.
4. Where more than a tenth of all calls are past their time at once, they do not hang: it is the quick ones that were
   answered first. Then all wait as long as the user allows.

Of a lognormal distribution with a sigma of 1, one call in 1,700 is past the bound of rule 2; of one with 0.5, one in 60,000.
"""

import math

from headrace.flow.quantiles import Quantiles

LEAST_ANSWERS = 20
LEAST_S = 10.0
FACTOR = 2.5
QUANTILE = 0.99
DOUBT = 40
"""So many answers make the factor twice as large."""
MEMORY = 2000
"""At so many answers the older half is forgotten."""
HANGING_SHARE = 0.1
"""More than this share of all calls does not hang."""
_GROWTH = 1.2
"""The percentile is found again when there are so many times the answers there were."""
_OFTEN = 100
"""And after so many more at the latest."""


class CallTimeout:
    """For the calls of one task: what is learnt follows them when they change."""

    def __init__(self, most_s: float, *, learns: bool = True) -> None:
        """Where it does not learn, `most_s` is what each attempt may take."""
        self.most_s = most_s
        self._learns = learns
        self._seconds = Quantiles()
        self._answers = 0
        self._next_answers = LEAST_ANSWERS
        self._usual_s = math.inf

    def learn(self, seconds: float) -> None:
        """An attempt was answered after so long."""
        if not (self._learns and 0 <= seconds < math.inf):
            return
        self._seconds.add(seconds)
        self._answers += 1
        if self._answers >= self._next_answers:
            self._find()

    def _find(self) -> None:
        self._next_answers = min(math.ceil(self._answers * _GROWTH), self._answers + _OFTEN)
        factor = FACTOR * (1 + DOUBT / self._seconds.count)
        self._usual_s = max(LEAST_S, factor * (self._seconds.at(QUANTILE) or 0.0))
        if self._seconds.count >= MEMORY:
            self._seconds.fade()

    def of(self, timeouts: int = 0, *, overdue: int = 0, last: bool = False) -> float:
        """Seconds for an attempt of a call that timed out so often before.

        `overdue` counts the calls that are now past what this says without it; `last` is said of the last attempt
        that is allowed.
        """
        if last or overdue > HANGING_SHARE * (self._answers + overdue):
            return self.most_s
        return min(self.most_s, self._usual_s * 2.0 ** max(0, min(timeouts, 60)))

    def __repr__(self) -> str:
        return f"<CallTimeout {self.of():.4g} of {self.most_s:.4g} s>"
