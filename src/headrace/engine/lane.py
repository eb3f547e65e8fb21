"""One run's way through a governor: what it states, how much it weighs, what pays for it, and whom to tell."""

import asyncio
from collections.abc import Callable, Mapping

from headrace.core.errors import HeadraceError, Stopped
from headrace.core.event import Event
from headrace.core.limits import Unit
from headrace.engine.meter import Since
from headrace.engine.purse import Treasurer
from headrace.flow.queue import Priority

Emit = Callable[[Event], None]


class Lane:
    """One run's, or where it is a pipeline one of its stages'."""

    def __init__(
        self,
        *,
        stated: Mapping[Unit, float],
        emit: Emit,
        fatal: Callable[[HeadraceError], None],
        weight: float = 1.0,
        priority: Priority = "normal",
    ) -> None:
        self.stated = stated
        self.emit = emit
        self.fatal = fatal
        self.weight = weight
        self.priority: Priority = priority
        self.closed_for = ""
        self.queued = 0
        self.in_flight = 0
        self.since: Since | None = None
        self.purse: Treasurer | None = None
        """What pays for its calls, where there is a budget."""
        self._sleepers: set[asyncio.Future[None]] = set()

    def close(self, reason: str) -> None:
        """Start no call any more: whoever waits or would try again gets Stopped. Calls in flight go on."""
        self.closed_for = self.closed_for or reason
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(Stopped(reason))

    async def pause(self, seconds: float) -> None:
        """Sleep, unless the lane closes first: then raises Stopped."""
        if self.closed_for:
            raise Stopped(self.closed_for)
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        self._sleepers.add(sleeper)
        alarm = loop.call_later(seconds, _wake, sleeper)
        try:
            await sleeper
        finally:
            alarm.cancel()
            self._sleepers.discard(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
