"""When a run is given up: nothing works, nothing works any more, or too much fails. Enters calls and items as they
begin and end, leaves yes or no."""

import math

from headrace.core.errors import UsageError

_CRUMB = 1e-9
"""A share of exactly what is allowed is allowed, however it is rounded."""


class _Failing:
    """Nothing but failures, since when. Calls that began before the first of them may still succeed."""

    __slots__ = ("_begun_before", "count", "in_flight", "since_s")

    def __init__(self) -> None:
        self.since_s: float | None = None
        self.count = 0
        self.in_flight = 0
        self._begun_before = 0

    def ended(self, start_s: float) -> None:
        """A call that began at `start_s` is over, however, while failures are counted."""
        if self.since_s is not None and start_s <= self.since_s and self._begun_before:
            self._begun_before -= 1

    def failure(self, now_s: float) -> float:
        """How long nothing but failures came; minus infinity while an earlier call may still succeed."""
        if self.since_s is None:
            self.since_s = now_s
            self._begun_before = self.in_flight
        self.count += 1
        return -math.inf if self._begun_before > 0 else now_s - self.since_s

    def over(self) -> None:
        self.since_s = None
        self.count = 0
        self._begun_before = 0


class FirstSuccess:
    """Nothing but failures for `patience_s` before a first success means a systemic fault: a wrong address, a server
    that is down, a request that this model never accepts. After a first success it has no more to say.

    Calls that began before the first failure may still succeed, so the verdict waits for them. Where earlier answers
    came from the store, a request of this kind has worked once: then only failures of the endpoint itself count.
    """

    def __init__(self, patience_s: float = 30.0) -> None:
        self.patience_s = patience_s
        self._failing = _Failing()
        self._succeeded = False
        self._served = False

    def began(self) -> None:
        self._failing.in_flight += 1

    def ended(self, start_s: float) -> None:
        """A call that began at `start_s` is over, however."""
        failing = self._failing
        failing.in_flight -= 1
        if failing.since_s is not None:
            failing.ended(start_s)

    def success(self) -> None:
        self._succeeded = True

    def served(self) -> None:
        """An answer came from the store."""
        self._served = True

    def failure(self, now_s: float, *, of_endpoint: bool) -> bool:
        """True where this failure is the one too many."""
        if self._succeeded or (self._served and not of_endpoint):
            return False
        return self._failing.failure(now_s) >= self.patience_s


class Outage:
    """After a first success, an endpoint that answers nothing any more is waited for, but not for ever: nothing but its
    failures and refusals for `patience_s` is too long. Before a first success it has nothing to say.

    Any answer ends an outage, also one that no item can use. Three failures are the least: a source that gives an item
    now and then may have two of them ten minutes apart. As above, the verdict waits for calls that may still succeed,
    where it is told of them.
    """

    LEAST = 3

    def __init__(self, patience_s: float = 600.0) -> None:
        self.patience_s = patience_s
        self._failing = _Failing()
        self._succeeded = False

    @property
    def since_s(self) -> float | None:
        """When the present outage began."""
        return self._failing.since_s if self._succeeded else None

    def began(self) -> None:
        self._failing.in_flight += 1

    def ended(self, start_s: float) -> None:
        """A call that began at `start_s` is over, however."""
        failing = self._failing
        failing.in_flight -= 1
        if failing.since_s is not None:
            failing.ended(start_s)

    def success(self) -> None:
        """The endpoint answered."""
        self._succeeded = True
        if self._failing.since_s is not None:
            self._failing.over()

    def failure(self, now_s: float) -> bool:
        """The endpoint failed or refused; true where that is the one too many."""
        if not self._succeeded:
            return False
        return self._failing.failure(now_s) >= self.patience_s and self._failing.count >= self.LEAST


class FailureRate:
    """More failed items than the user allows stop a run: what fails for all shall not burn the rest of the list.

    Judged from `least_items` on, for a share of a few items says nothing; where none may fail, from the first. What came
    from the store is not counted: it was failed, or paid for, before.
    """

    def __init__(self, most: float, least_items: int = 20) -> None:
        if not 0 <= most <= 1:
            raise UsageError(
                f"A failure rate of {most:g} cannot be allowed.", hint="Give a share from 0 to 1, such as 0.05."
            )
        self.most = most
        self.least_items = 1 if most == 0 else least_items
        self.items = 0
        self.failed = 0

    def add(self, *, ok: bool, cached: bool = False) -> bool:
        """An item ended; true where too many have failed."""
        if cached:
            return False
        self.items += 1
        self.failed += not ok
        return not ok and self.items >= self.least_items and self.failed > self.most * self.items + _CRUMB

    @property
    def said(self) -> str:
        """How many of how many, for people."""
        return f"{self.failed} of {self.items} items"
