"""Waits for the gate. All calls to one account at one endpoint pass here, from whatever run they come.

The only place that waits for a permit or a moment. Waiting never holds a permit.
"""

import asyncio
import math
from collections.abc import Callable, Mapping

import msgspec

from headrace.core.errors import HeadraceError, LargerThanLimit, QuotaExhausted, Stopped, SystemicFailure, spoken
from headrace.core.event import Event, Held
from headrace.core.limits import LONGEST_WAIT_S, Cost, End, Hints, Learnt, Unit
from headrace.engine.meter import Meter, Since
from headrace.flow.concurrency import Concurrency
from headrace.flow.gate import Gate, NotBefore, Refused, Ticket
from headrace.flow.queue import FairQueue, Priority

Emit = Callable[[Event], None]

STUCK_S = 30.0
"""How long all places may be held by calls that timed out and cannot be stopped."""
TOLD_AFTER_S = 2.0
"""A shorter pause is not worth an event."""


class Account(msgspec.Struct, frozen=True):
    """Whose limits they are: provider, base URL, model and key as one name, which holds no secret."""

    name: str
    start: int = 20
    """Calls in flight to begin a search with."""
    most: int = 1024
    """And to end it at the latest."""
    lasting: bool = True
    """Whether other processes and later runs know it by this name."""


class Lane:
    """One run's way through the governor: what the run states, how much it weighs, and whom to tell."""

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


class _Place(asyncio.Future[Ticket]):
    """A place in the queue: what asks, and what for."""

    lane: Lane
    cost: Cost


class Governor:
    """Serves its lanes fairly, each first come first served."""

    def __init__(self, gate: Gate, account: Account) -> None:
        self.gate = gate
        self.account = account
        self.lanes: list[Lane] = []
        self.meter = Meter(gate)
        self.lending = asyncio.Lock()
        """Held by the one run that shares this account's limits with other processes."""
        self.ready = asyncio.Event()
        """Set once its part of the limits is known."""
        self._loop = asyncio.get_running_loop()
        self._queue: FairQueue[Lane, _Place] = FairQueue()
        self._retries: FairQueue[Lane, _Place] = FairQueue()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = math.inf
        self._stuck = 0
        self._stuck_alarm: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return self.gate.concurrency.limit(self._loop.time())

    def enter(self, lane: Lane) -> None:
        lane.since = self.meter.since()
        self.lanes.append(lane)
        self._queue.join(lane, weight=lane.weight, priority=lane.priority)
        self._retries.join(lane, weight=lane.weight, priority=lane.priority)
        self._restate()
        self._watch_stuck()

    def leave(self, lane: Lane) -> None:
        self.close(lane, "The run has ended.")
        self.lanes.remove(lane)
        self._queue.leave(lane)
        self._retries.leave(lane)
        self._restate()
        self._watch_stuck()

    def close(self, lane: Lane, reason: str) -> None:
        """Start none of this lane's calls any more."""
        lane.close(reason)
        for place in self._queue.clear(lane) + self._retries.clear(lane):
            if not place.done():
                place.set_exception(Stopped(lane.closed_for))
        self.pump()

    def _restate(self) -> None:
        """The strictest statement of all lanes holds for all of them: the limits are the account's."""
        stated: dict[Unit, float] = {}
        for lane in self.lanes:
            for unit, limit in lane.stated.items():
                stated[unit] = min(limit, stated.get(unit, math.inf))
        self.gate.state(stated, most=self.account.most)

    async def admit(self, lane: Lane, cost: Cost, *, again: bool = False, retry: bool = False) -> Ticket:
        """The right to call, once all limits allow it. `again` goes to the front: that item has waited before. A
        `retry` of what failed for its own sake waits for the retry budget first, and holds up nobody meanwhile.

        Raises Stopped where the lane closes first, LargerThanLimit where no limit will ever allow it.
        """
        if lane.closed_for:
            raise Stopped(lane.closed_for)
        answer: NotBefore | None = None
        if not retry and self._queue.head() is None:
            now_s = self._loop.time()
            asked = self.gate.ask(now_s, cost)
            if isinstance(asked, Ticket):
                self._queue.charge(lane)
                self.meter.admitted(now_s)
                lane.in_flight += 1
                return asked
            if isinstance(asked, Refused):
                raise _larger(asked)
            answer = asked
        place = _Place(loop=self._loop)
        place.lane, place.cost = lane, cost
        lane.queued += 1
        if retry:
            self._retries.push(lane, place)
            self.pump()
        else:
            self._queue.push(lane, place, front=again)
            if answer is not None:  # the first in line: whoever is in line before waits for something already
                self._wait(now_s, answer)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.gate.give_back(place.result(), self._loop.time())
                lane.in_flight -= 1
                self.pump()
            raise
        finally:
            lane.queued -= 1

    def ask(self, lane: Lane, cost: Cost) -> Ticket | None:
        """The right to call at once, where nobody waits for it."""
        if lane.closed_for or self._queue.head() is not None:
            return None
        answer = self.gate.ask(self._loop.time(), cost)
        if not isinstance(answer, Ticket):
            return None
        lane.in_flight += 1
        return answer

    def settle(
        self,
        lane: Lane,
        ticket: Ticket,
        end: End,
        *,
        cost: Cost | None = None,
        hints: Hints | None = None,
        again: bool = False,
    ) -> bool:
        """The call is off the wire: its place is the next one's. True where it was refused for no limit of others."""
        lane.in_flight -= 1
        alone = self.gate.settle(ticket, self._loop.time(), end, cost=cost, hints=hints, again=again)
        self.pump()
        return alone

    def pump(self) -> None:
        """Let in whoever the gate admits now, and set the alarm for when it may admit the next."""
        now_s = self._loop.time()
        self._let_retries_in(now_s)
        queue = self._queue
        while (place := queue.head()) is not None:
            if place.done():  # given up by its caller
                queue.drop()
                continue
            answer = self.gate.ask(now_s, place.cost)
            if isinstance(answer, Ticket):
                queue.pop()
                place.lane.in_flight += 1
                place.set_result(answer)
                self.meter.admitted(now_s)
            elif isinstance(answer, Refused):
                queue.drop()
                place.set_exception(_larger(answer))
            else:
                self._wait(now_s, answer)
                break
        else:
            self._idle(now_s)
        if self.ready.is_set():
            self.meter.tell(now_s, self.lanes)

    def _let_retries_in(self, now_s: float) -> None:
        """From the line for the retry budget into that for a permit."""
        while (place := self._retries.head()) is not None:
            if not place.done():
                until_s = self.gate.retries.earliest(now_s)
                if until_s > now_s:
                    self._wake_at(until_s)
                    return
                self.gate.retries.withdraw(now_s)
            self._retries.pop()
            self._queue.push(place.lane, place, front=True)

    def _wait(self, now_s: float, answer: NotBefore) -> None:
        if now_s + LONGEST_WAIT_S < answer.at_s < math.inf:
            self._give_up(answer.at_s - now_s, answer.cause)
        if self.meter.waiting(now_s, answer) and math.inf > answer.at_s > now_s + TOLD_AFTER_S:
            for lane in self.lanes:
                lane.emit(Held(now_s, answer.at_s, self.gate.why(answer.cause)))
        self._wake_at(answer.at_s)

    def _idle(self, now_s: float) -> None:
        """Nobody is in line for a permit; maybe for the retry budget."""
        if self._retries.head() is None:
            self.meter.admitted(now_s)
        else:
            self.meter.waiting(now_s, NotBefore(self._alarm_at_s, "retries"))

    @property
    def retries_waiting(self) -> int:
        """Calls in line for the retry budget."""
        return len(self._retries)

    def _give_up(self, wait_s: float, cause: str) -> None:
        """A limit that comes back so late is a quota that is gone."""
        for lane in self.lanes:
            lane.fatal(
                QuotaExhausted(
                    self.gate.why(cause),
                    hint=f"It comes back in {spoken(wait_s)}: run again then. What is done is kept.",
                    retry_after_s=wait_s,
                )
            )

    def _wake_at(self, at_s: float) -> None:
        """Look again at this time at the latest; waking too early does no harm."""
        if at_s >= self._alarm_at_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = at_s
        self._alarm = self._loop.call_at(at_s, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm, self._alarm_at_s = None, math.inf
        self.pump()

    # Sharing with other processes.

    def learnt(self) -> Learnt:
        """What the next run may begin with."""
        return self.gate.learnt(self._loop.time())

    def limits(self) -> Mapping[Unit, float]:
        """What is known of the account's limits, whole."""
        return self.gate.limits()

    def wants(self, now_s: float) -> dict[Unit, float]:
        """How much of each it would use: all there is while calls wait, else what it uses."""
        if any(lane.queued for lane in self.lanes):
            return dict.fromkeys(self.gate.limits(), math.inf)
        return {use.unit: use.used for use in self.gate.uses(now_s)}

    def holds(self, _now_s: float) -> dict[Unit, float]:
        """What cannot be given back at once."""
        return {Unit.CONCURRENCY: self.gate.in_flight}

    def lend(self, amounts: Mapping[Unit, float]) -> None:
        """From now on use no more than so much of each limit."""
        self.gate.lend(self._loop.time(), amounts)
        self._watch_stuck()
        self.pump()

    # Calls that timed out and cannot be taken off their thread.

    def stuck(self) -> None:
        """One more keeps its place although nobody waits for it; where such calls have all places, no run can go on."""
        self._stuck += 1
        self._watch_stuck()

    def unstuck(self) -> None:
        """One of them has ended."""
        self._stuck -= 1
        self._watch_stuck()

    def _watch_stuck(self) -> None:
        waited_for = bool(self.lanes) and 0 < self.limit <= self._stuck
        if waited_for and self._stuck_alarm is None:
            self._stuck_alarm = self._loop.call_later(STUCK_S, self._all_stuck)
        elif not waited_for and self._stuck_alarm is not None:
            self._stuck_alarm.cancel()
            self._stuck_alarm = None

    def _all_stuck(self) -> None:
        for lane in self.lanes:
            lane.fatal(
                SystemicFailure(
                    f"All {self._stuck} calls that may be in flight are in threads that do not end.",
                    hint="Give the function a timeout of its own, or make it async; what is done is kept.",
                )
            )


_governors: dict[asyncio.AbstractEventLoop, dict[str, Governor]] = {}


def governor_of(account: Account) -> Governor:
    """The one governor of this account on the running event loop. It outlives its lanes as long as calls of theirs
    are in flight or count in a window."""
    for loop in [loop for loop in _governors if loop.is_closed()]:
        del _governors[loop]
    loop = asyncio.get_running_loop()
    known = _governors.setdefault(loop, {})
    for name in [name for name, each in known.items() if not each.lanes and not each.gate.is_warm(loop.time())]:
        del known[name]
    if account.name not in known:
        known[account.name] = Governor(Gate(Concurrency(start=account.start, most=account.most)), account)
    return known[account.name]


def _larger(answer: Refused) -> LargerThanLimit:
    return LargerThanLimit(answer.reason, hint="Shorten the item or lower --max-tokens, or raise the limit.")


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
