"""Whether a failed attempt is made again, and after how long. Enters a verdict, leaves seconds or None."""

from collections.abc import Callable

import msgspec

from headrace.core.errors import Verdict


class Retry(msgspec.Struct, frozen=True):
    """How often and how patiently a call is tried again.

    The pause is drawn from U(0, min(cap_s, base_s * 2**n)): full jitter, which in Amazon's simulation did the least
    work of all back-offs (M. Brooker, "Exponential Backoff And Jitter", 2015). A provider's Retry-After is the floor.
    """

    attempts: int = 5
    """Attempts that failed for the call's own sake; being told to slow down is not counted."""
    base_s: float = 0.5
    cap_s: float = 30.0
    patience_s: float = 600.0
    """How long one call waits for an endpoint that is throttled, overloaded or away."""

    def pause_s(
        self,
        verdict: Verdict,
        *,
        failures: int,
        refusals: int,
        waited_s: float,
        hint_s: float | None,
        chance: Callable[[], float],
    ) -> float | None:
        """Seconds until the next attempt, None to give up.

        `failures` counts the attempts that ended in RETRY so far, `refusals` those that ended in BACK_OFF, this one
        included; `waited_s` is the time since the first refusal; `chance` draws from [0, 1).
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
        jitter_s = chance() * min(self.cap_s, self.base_s * 2.0 ** min(step - 1, 30))
        return (hint_s or 0.0) + jitter_s
