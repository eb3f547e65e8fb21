"""Why a run ends before its source does: nothing works, nothing works any more, or too much fails. Events in, error out."""

from collections.abc import Callable
from typing import cast

from headrace.core.errors import HeadraceError, Overloaded, SystemicFailure, Throttled, Unreachable
from headrace.core.event import CallEnded, CallStarted, Event, ItemsPassed, Settled
from headrace.flow.patience import FailureRate, FirstSuccess, Outage

_OF_ENDPOINT = frozenset({Unreachable.kind, Throttled.kind, Overloaded.kind})
_MAYBE_OF_ENDPOINT = frozenset({"transient", "timeout"})
"""Of the endpoint where it is down; else of the item."""
_NOT_FAILED = frozenset({"", "cancelled", "overtaken"})
_OF_ITEM = frozenset({"page", "document", "worker-died"})
"""Says nothing of the next item: that is another server's, or another document."""
_AGAIN = "Mend the cause and run again: what failed is tried again."


class Reasons:
    """Reads the events of one stage; gives the error that ends the run, once there is one."""

    def __init__(self, stage: str, is_down: Callable[[], bool]) -> None:
        """`is_down` tells whether the endpoint is taken to be down."""
        self._stage, self._is_down = stage, is_down
        self._first_success = FirstSuccess()
        self._outage = Outage()

    def add(self, event: Event) -> HeadraceError | None:
        kind = type(event)
        if kind is CallStarted:
            self._first_success.began()
            self._outage.began()
        elif kind is CallEnded:
            return self._ended(cast("CallEnded", event))
        elif kind is Settled:
            return self._settled(cast("Settled", event))
        elif kind is ItemsPassed and cast("ItemsPassed", event).stage == self._stage:
            self._first_success.success()
        return None

    def _ended(self, event: CallEnded) -> HeadraceError | None:
        start_s = event.at_s - event.seconds
        self._first_success.ended(start_s)
        self._outage.ended(start_s)
        if not event.error:
            self._outage.success()
            return None
        if event.error in _NOT_FAILED:
            return None
        if event.error in _OF_ITEM:
            self._outage.success()
            return None
        in_outage = event.error in _OF_ENDPOINT or (event.error in _MAYBE_OF_ENDPOINT and self._is_down())
        if event.error not in _OF_ENDPOINT | _MAYBE_OF_ENDPOINT:
            self._outage.success()  # it answers, even if with a no
        elif in_outage and self._outage.failure(event.at_s):
            return SystemicFailure(
                f"Nothing but failures for {self._outage.patience_s / 60:.0f} min. The last: {event.message}",
                hint="Run again when the provider answers again: what is not done is taken up then.",
            )
        return self._failed(event.at_s, event.message, of_endpoint=event.error in _OF_ENDPOINT)

    def _settled(self, event: Settled) -> HeadraceError | None:
        found = None
        for outcome in event.outcomes:
            if outcome.stage != self._stage:
                continue
            if outcome.cached:
                if outcome.ok:
                    self._first_success.served()
                continue
            if outcome.ok:
                self._first_success.success()
            elif outcome.error is not None and outcome.attempts and outcome.error.kind not in _OF_ITEM:
                found = found or self._failed(event.at_s, outcome.error.message, of_endpoint=False)
        return found

    def _failed(self, at_s: float, what: str, *, of_endpoint: bool) -> HeadraceError | None:
        if not self._first_success.failure(at_s, of_endpoint=of_endpoint):
            return None
        seconds = self._first_success.patience_s
        return SystemicFailure(f"Nothing but failures for {seconds:.0f} s. The last: {what}", hint=_AGAIN)


class TooMany:
    """More of a run's items fail than the user allows."""

    def __init__(self, most: float) -> None:
        """`most` is the share that may fail."""
        self._failures = FailureRate(most)

    def add(self, event: Event) -> HeadraceError | None:
        found = None
        for outcome in event.outcomes if isinstance(event, Settled) else ():
            if not outcome.cached and not outcome.dropped and self._failures.add(ok=outcome.ok):
                found = found or SystemicFailure(
                    f"{self._failures.said} failed: more than the {self._failures.most:.0%} that are allowed. "
                    f"The last: {outcome.error.message if outcome.error else ''}",
                    hint=f"{_AGAIN} --max-failure-rate allows more.",
                )
        return found
