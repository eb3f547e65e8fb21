"""Waits for the gate and makes the call. Enters a request, leaves a reply or an error that no retry could mend.

The only place that sleeps between attempts. Waiting never holds a permit.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

import msgspec

from headrace.core.call import Call, Reply, Request, StillRunning
from headrace.core.errors import AttemptTimeout, CallError, HeadraceError, Stopped, SystemicFailure, Verdict
from headrace.core.event import CallEnded, CallStarted, Event, Held
from headrace.flow.gate import Gate, Refused, Ticket
from headrace.flow.retry import Retry

Emit = Callable[[Event], None]

STUCK_S = 30.0
"""How long all places may be held by calls that timed out and cannot be stopped."""


class _Abandoned(Exception):
    """A call that timed out goes on."""

    def __init__(self, error: AttemptTimeout) -> None:
        super().__init__(error.message)
        self.error = error


class Governor:
    """All calls to one endpoint go through its governor, first come first served."""

    def __init__(
        self,
        gate: Gate,
        *,
        retry: Retry,
        timeout_s: float,
        chance: Callable[[], float],
        emit: Emit,
    ) -> None:
        self.gate = gate
        self._retry = retry
        self._timeout_s = timeout_s
        self._chance = chance
        self._emit = emit
        self.late: Callable[[Request, Reply], None] | None = None
        """Told of replies that come after their call was given up."""
        self.fatal: Callable[[HeadraceError], None] | None = None
        """Told when no call can be made any more."""
        self._abandoned = 0
        self._stuck_alarm: asyncio.TimerHandle | None = None
        self._queue: deque[asyncio.Future[Ticket]] = deque()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = math.inf

    def close(self, reason: str) -> None:
        """Start no call any more: whoever waits or would try again gets Stopped. Calls in flight go on."""
        if self._stuck_alarm is not None:
            self._stuck_alarm.cancel()
        self.gate.close(reason)
        self._pump()
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(Stopped(reason))

    def govern(self, call: Call) -> Call:
        """`call`, made only when the gate lets it, retried as its errors ask for."""

        async def governed(request: Request) -> Reply:
            loop = asyncio.get_running_loop()
            attempts = failures = refusals = 0
            refused_since_s = math.inf
            while True:
                ticket = await self._admission()
                attempts += 1
                try:
                    reply, seconds = await self._attempt(call, request, ticket, attempts)
                except _Abandoned as abandoned:  # not again: the same item would be worked on twice at once
                    abandoned.error.attempts = attempts
                    raise abandoned.error from None
                except HeadraceError as error:
                    now_s = loop.time()
                    hint_s = error.retry_after_s if isinstance(error, CallError) else None
                    if error.verdict is Verdict.BACK_OFF:
                        refusals += 1
                        refused_since_s = min(refused_since_s, now_s)
                        if hint_s and self.gate.hold(now_s + hint_s, error.message):
                            self._emit(Held(now_s, now_s + hint_s, error.message))
                    else:
                        failures += 1
                    pause_s = self._retry.pause_s(
                        error.verdict,
                        failures=failures,
                        refusals=refusals,
                        hint_s=hint_s,
                        chance=self._chance,
                        waited_s=now_s - refused_since_s if refusals else 0.0,
                    )
                    if pause_s is None:
                        error.attempts = attempts
                        raise
                else:
                    return msgspec.structs.replace(reply, attempts=attempts, seconds=seconds)
                await self.pause(pause_s)

        return governed

    async def _attempt(self, call: Call, request: Request, ticket: Ticket, number: int) -> tuple[Reply, float]:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        self._emit(CallStarted(start_s, number))
        kind, said = "cancelled", ""
        settle = True
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                reply = await call(request)
            kind = ""
            return reply, round(loop.time() - start_s, 4)
        except TimeoutError:
            timed_out = self._timed_out()
            kind, said = timed_out.kind, timed_out.message
            raise timed_out from None
        except StillRunning as running:
            settle = False
            self._abandon(request, ticket, running.done)
            if not limit.expired():
                raise asyncio.CancelledError from None
            timed_out = self._timed_out(" Its thread goes on: it cannot be stopped.")
            kind, said = timed_out.kind, timed_out.message
            raise _Abandoned(timed_out) from None
        except HeadraceError as error:
            kind, said = error.kind, error.message
            if error.verdict is Verdict.STOP_RUN:
                self.close(error.message)  # before the next in line is let in
            raise
        finally:
            now_s = loop.time()
            self._emit(CallEnded(now_s, now_s - start_s, kind, said))
            if settle:
                self._settle(ticket)

    def _timed_out(self, more: str = "") -> AttemptTimeout:
        return AttemptTimeout(
            f"No answer within {self._timeout_s:g} s.{more}",
            hint="Allow more with --timeout (timeout=) if calls take that long.",
        )

    def _abandon(self, request: Request, ticket: Ticket, done: asyncio.Future[Reply]) -> None:
        """Leave a call to itself. It keeps its place; where such calls have all places, no run can go on."""
        self._abandoned += 1
        done.add_done_callback(lambda done: self._came_late(request, ticket, done))
        if self._abandoned >= self.gate.concurrency:
            self._stuck_alarm = done.get_loop().call_later(STUCK_S, self._stuck)

    def _stuck(self) -> None:
        if self.fatal is not None:
            self.fatal(
                SystemicFailure(
                    f"All {self._abandoned} calls that may be in flight are in threads that do not end.",
                    hint="Give the function a timeout of its own, or make it async; what is done is kept.",
                )
            )

    def _came_late(self, request: Request, ticket: Ticket, done: asyncio.Future[Reply]) -> None:
        self._abandoned -= 1
        if self._stuck_alarm is not None:
            self._stuck_alarm.cancel()
        self._settle(ticket)
        if not done.cancelled() and done.exception() is None and self.late is not None:
            self.late(request, done.result())

    def _settle(self, ticket: Ticket) -> None:
        self.gate.settle(ticket)
        self._pump()

    async def _admission(self) -> Ticket:
        if not self._queue:
            answer = self.gate.ask(asyncio.get_running_loop().time())
            if isinstance(answer, Ticket):
                return answer
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        self._pump()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._settle(place.result())
            raise

    def _pump(self) -> None:
        """Let in whoever the gate admits now, and set the alarm for when it may admit the next."""
        while self._queue:
            if self._queue[0].done():  # given up by its caller
                self._queue.popleft()
                continue
            loop = self._queue[0].get_loop()
            answer = self.gate.ask(loop.time())
            if isinstance(answer, Ticket):
                self._queue.popleft().set_result(answer)
            elif isinstance(answer, Refused):
                self._queue.popleft().set_exception(Stopped(answer.reason))
            else:
                self._wake_at(loop, answer.at_s)
                return

    def _wake_at(self, loop: asyncio.AbstractEventLoop, at_s: float) -> None:
        if at_s in (math.inf, self._alarm_at_s):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = at_s
        self._alarm = loop.call_at(at_s, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm, self._alarm_at_s = None, math.inf
        self._pump()

    async def pause(self, seconds: float) -> None:
        """Sleep, unless the governor closes first: then raises Stopped."""
        if self.gate.closed_for:
            raise Stopped(self.gate.closed_for)
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
