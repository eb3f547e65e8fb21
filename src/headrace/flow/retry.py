"""Whether a failed attempt is made again, and after how long; and how many of all calls may be such attempts.

Enters verdicts, leaves seconds. Knows neither the call nor why it failed.
"""

import math
from collections.abc import Callable

import msgspec

from headrace.core.errors import UsageError, Verdict


class Retry(msgspec.Struct, frozen=True):
    """How often and how patiently a call is tried again.

    The pause is drawn from U(0, min(cap_s, base_s * 2**n)): full jitter, which in Amazon's simulation did the least
    work of all back-offs (M. Brooker, "Exponential Backoff And Jitter", 2015). A provider's Retry-After is the floor.
    Where the gate decides when calls go, as after a refusal, a call has no pause of its own.
    """

    attempts: int = 5
    """Attempts that failed for the call's own sake; being told to slow down is not counted."""
    base_s: float = 0.5
    cap_s: float = 30.0
    patience_s: float = 600.0
    """How long one call waits for an endpoint that is throttled, overloaded or away."""

    def __post_init__(self) -> None:
        if not self.attempts >= 1:
            raise UsageError(
                f"{self.attempts} attempts are none.", hint="Give a number from 1 up; 1 never tries again."
            )
        for name, seconds in (("base", self.base_s), ("cap", self.cap_s)):
            if not 0 <= seconds < math.inf:
                raise UsageError(f"A {name} of {seconds:g} s cannot work.", hint="Give a number of seconds from 0 up.")
        if not self.patience_s >= 0:
            raise UsageError(
                f"A patience of {self.patience_s:g} s cannot work.", hint="Give a number of seconds from 0 up."
            )
        if self.cap_s < self.base_s:
            raise UsageError(
                f"No pause can have a base of {self.base_s:g} s and a cap of {self.cap_s:g} s.",
                hint="Give a cap that is no smaller than the base.",
            )

    def pause_s(
        self,
        verdict: Verdict,
        *,
        failures: int,
        refusals: int,
        waited_s: float,
        governed: bool = False,
        hint_s: float | None = None,
        chance: Callable[[], float],
    ) -> float | None:
        """Seconds until the next attempt may be made, None to give up.

        `failures` counts the attempts that ended in RETRY so far, `refusals` those that ended in BACK_OFF, this one
        included; `waited_s` is the time since the first refusal. `governed` says that the gate decides when it goes:
        after a refusal for a limit, and while the breaker is not closed. `chance` draws from [0, 1).
        """
        if verdict is Verdict.RETRY:
            if failures >= self.attempts:
                return None
            step = failures
        elif verdict is Verdict.BACK_OFF:
            if waited_s >= self.patience_s:
                return None
            step = refusals
        else:
            return None
        if governed:
            return 0.0
        most_s = min(self.cap_s, self.base_s * 2.0 ** max(0, min(step - 1, 30)))
        return max(0.0, hint_s or 0.0) + chance() * most_s


class RetryBudget:
    """How many calls may be second and further attempts: a bucket of 100 that starts with 20. A retry takes one, a call
    that was answered gives a fifth, ten seconds give one.

    So a run makes at most 1.2 calls an item, and 20, and one every ten seconds, whatever fails, and never stands still
    for want of retries. A fifth is what Finagle's budgets allow; that such a bucket beats a breaker where part of the
    calls fail is M. Brooker's result ("Fixing retries with token buckets and circuit breakers", 2022).
    """

    START = 20.0
    MOST = 100.0
    EACH_ANSWER = 0.2
    EACH_S = 0.1
    _CRUMB = 1e-6
    """What rounding may take: far too little for a retry more or less."""

    def __init__(self) -> None:
        self._left = self.START
        self._at_s: float | None = None
        """When `_left` was what there is; time counts from the first retry."""

    def left(self, now_s: float) -> float:
        if self._at_s is None:
            return self._left
        return min(self.MOST, self._left + max(0.0, now_s - self._at_s) * self.EACH_S)

    def earliest(self, now_s: float) -> float:
        """When the next retry may go; `now_s` where that is now."""
        left = self.left(now_s)
        return now_s if left >= 1.0 - self._CRUMB else now_s + (1.0 - left) / self.EACH_S

    def withdraw(self, now_s: float) -> None:
        """A retry goes."""
        self._left = self.left(now_s) - 1.0
        self._at_s = now_s if self._at_s is None else max(now_s, self._at_s)

    def deposit(self) -> None:
        """A call was answered."""
        self._left = min(self.MOST, self._left + self.EACH_ANSWER)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._left:.1f}/{self.MOST:.0f}>"
