"""Whether a straggler gets a second call. Enters sizes and seconds of answered calls, leaves when a backup is due.

Rules of this file:

1. A backup is due when a call has taken 1.5 times the 95th percentile of calls of its size.
2. Sizes are sorted into powers of two. A size with fewer than 20 answers takes the nearest one that has them, the larger
   of two as near; where none has, all together.
3. Backups are at most a share of all calls, but one is allowed from 50 calls on.

That the source is read to its end, that no call waits and that a place is free is for the caller to see to: before that,
a second call would take another item's place. Dean and Barroso, "The Tail at Scale" (2013), send it at the 95th
percentile, for about 5 % more calls; theirs are not paid for by the piece.
"""

import math

from headrace.core.errors import UsageError
from headrace.flow.quantiles import Quantiles

FACTOR = 1.5
QUANTILE = 0.95
LEAST_ANSWERS = 20
LEAST_CALLS = 50
_SIZES = 40


class Backups:
    """Of the calls of one run."""

    def __init__(self, share: float = 0.02) -> None:
        if not 0 <= share <= 1:
            raise UsageError(
                f"A share of {share:g} for backups cannot work.", hint="Give a share from 0 to 1, such as 2%."
            )
        self.share = share
        self.count = 0
        """Backups sent."""
        self._of_size: dict[int, Quantiles] = {}
        self._of_all = Quantiles()
        self._due_s: dict[int, tuple[int, float | None]] = {}
        """What was found for each size, and from how many answers."""

    def learn(self, size: float, seconds: float) -> None:
        """A call of this size (tokens in, as estimated) was answered after so long."""
        if not 0 <= seconds < math.inf:
            return
        place = _place(size)
        known = self._of_size.get(place)
        if known is None:
            known = self._of_size[place] = Quantiles()
        known.add(seconds)
        self._of_all.add(seconds)

    def due_s(self, size: float) -> float | None:
        """How long a call of this size takes until a backup is due; None where too little is known."""
        place = _place(size)
        found = self._due_s.get(place)
        if found is None or found[0] != self._of_all.count:
            usual_s = self._like(place).at(QUANTILE) if self._of_all.count >= LEAST_ANSWERS else None
            found = self._due_s[place] = (self._of_all.count, None if usual_s is None else FACTOR * usual_s)
        return found[1]

    def _like(self, place: int) -> Quantiles:
        """Calls of about this size."""
        enough = [(abs(near - place), -near) for near, q in self._of_size.items() if q.count >= LEAST_ANSWERS]
        return self._of_size[-min(enough)[1]] if enough else self._of_all

    def allow(self, calls: int) -> bool:
        """Whether one more backup is within the allowance, of so many calls sent so far, the backups among them."""
        if not self.share:
            return False
        others = calls - self.count
        return self.count < max(1 if others >= LEAST_CALLS else 0, math.floor(self.share * others))

    def sent(self) -> None:
        """A backup was sent."""
        self.count += 1

    def __repr__(self) -> str:
        return f"<Backups {self.count} sent, at most {self.share:.1%} of the calls>"


def _place(size: float) -> int:
    return min(_SIZES, int(size).bit_length()) if 0 <= size < math.inf else 0
