"""Waits for the gate. All calls to one account at one endpoint pass here, from whatever run they come.

The only place that waits for a permit or a moment. Waiting never holds a permit.
"""

import asyncio
import math
from collections.abc import Mapping

import msgspec

from headrace.core.errors import LargerThanLimit, QuotaExhausted, Stopped, SystemicFailure, spoken
from headrace.core.event import Held
from headrace.core.limits import LONGEST_WAIT_S, Cost, End, Hints, Learnt, Unit
from headrace.engine.lane import Lane
from headrace.engine.meter import Meter
from headrace.engine.purse import Waiting
from headrace.flow.concurrency import Concurrency
from headrace.flow.experience import Experience
from headrace.flow.gate import Gate, NotBefore, Refused, Ticket
from headrace.flow.queue import FairQueue

__all__ = ["Account", "Governor", "Lane", "governor_of"]

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


class _Place(asyncio.Future[Ticket]):
    """A place in the queue: what asks, and what for."""

    lane: Lane
    cost: Cost
    waiting: Waiting | None = None
    """For money, or has been."""


class Governor:
    """Serves its lanes fairly, each first come first served."""

    def __init__(self, gate: Gate, account: Account) -> None:
        self.gate = gate
        self.account = account
        self.lanes: list[Lane] = []
        self.meter = Meter(gate)
        self.experience = Experience()
        self.lending = asyncio.Lock()
        """Held by the one run that shares this account's limits with other processes."""
        self.ready = asyncio.Event()
        """Set once its part of the limits is known."""
        self._loop = asyncio.get_running_loop()
        self._queue: FairQueue[Lane, _Place] = FairQueue()
        self._retries: FairQueue[Lane, _Place] = FairQueue()
        self._poor: dict[_Place, None] = {}
        """They wait for money, not in line: they would be in the way of other runs."""
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
        poor = [place for place in self._poor if place.lane is lane]
        for place in self._queue.clear(lane) + self._retries.clear(lane) + poor:
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
        place: _Place
        if retry:
            place = self._new_place(lane, cost)
            self._retries.push(lane, place)
            self.pump()
        elif self._queue.head() is not None:  # whoever is in line before waits for something already
            place = self._new_place(lane, cost)
            self._queue.push(lane, place, front=again)
        else:
            now_s = self._loop.time()
            answer = self._ask(now_s, lane, cost)
            if isinstance(answer, Ticket):
                self._queue.charge(lane)
                self.meter.admitted(now_s)
                lane.in_flight += 1
                return answer
            if isinstance(answer, Refused):
                raise _larger(answer)
            place = self._new_place(lane, cost)
            if answer is None:
                self._let_earn(place)
            else:
                self._queue.push(lane, place, front=again)
                self._wait(now_s, answer)
        return await self._admitted(place)

    def _new_place(self, lane: Lane, cost: Cost) -> _Place:
        place = _Place(loop=self._loop)
        place.lane, place.cost = lane, cost
        lane.queued += 1
        return place

    async def _admitted(self, place: _Place) -> Ticket:
        lane = place.lane
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back(lane, place.result())
            raise
        finally:
            lane.queued -= 1
            if place.waiting is not None and lane.purse is not None:
                self._poor.pop(place, None)
                lane.purse.look()

    def ask(self, lane: Lane, cost: Cost) -> Ticket | None:
        """The right to call at once, where nobody waits for it."""
        if lane.closed_for or self._queue.head() is not None:
            return None
        answer = self._ask(self._loop.time(), lane, cost)
        if not isinstance(answer, Ticket):
            return None
        lane.in_flight += 1
        return answer

    def _ask(
        self, now_s: float, lane: Lane, cost: Cost, waited: Waiting | None = None
    ) -> Ticket | NotBefore | Refused | None:
        """What the gate says; None where there is no money. Neither is held while the other is waited for."""
        purse = lane.purse
        if purse is None:
            return self.gate.ask(now_s, cost)
        if not purse.take(cost.usd, waited):
            return None
        answer = self.gate.ask(now_s, cost)
        if not isinstance(answer, Ticket):
            purse.give_back(cost.usd, waited)
        return answer

    def _let_earn(self, place: _Place) -> None:
        """Out of the line until there is money for it; then it is the first of its lane."""
        again = place.waiting is not None
        if place.waiting is None:
            place.waiting = Waiting(place.cost.usd, place.done, lambda: self._back_in_line(place))
        self._poor[place] = None
        if place.lane.purse is not None:
            place.lane.purse.wait(place.waiting, again=again)

    def _back_in_line(self, place: _Place) -> None:
        self._poor.pop(place, None)
        self._queue.push(place.lane, place, front=True)
        self._loop.call_soon(self.pump)

    def _give_back(self, lane: Lane, ticket: Ticket) -> None:
        """The call was not made."""
        self.gate.give_back(ticket, self._loop.time())
        lane.in_flight -= 1
        if lane.purse is not None:
            lane.purse.give_back(ticket.cost.usd)
            lane.purse.look()
        self.pump()

    def settle(
        self,
        lane: Lane,
        ticket: Ticket,
        end: End,
        *,
        cost: Cost | None = None,
        hints: Hints | None = None,
        again: bool = False,
        usd: float | None = None,
    ) -> bool:
        """The call is off the wire: its place is the next one's. True where it was refused for no limit of others.
        `usd` is what it came to; None where that is unknown."""
        lane.in_flight -= 1
        alone = self.gate.settle(ticket, self._loop.time(), end, cost=cost, hints=hints, again=again)
        if lane.purse is not None:
            lane.purse.settle(ticket.cost.usd, usd)
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
            answer = self._ask(now_s, place.lane, place.cost, place.waiting)
            if isinstance(answer, Ticket):
                queue.pop()
                place.lane.in_flight += 1
                place.set_result(answer)
                self.meter.admitted(now_s)
            elif isinstance(answer, Refused):
                queue.drop()
                place.set_exception(_larger(answer))
            elif answer is None:
                queue.drop()
                self._let_earn(place)
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
        """Nobody is in line for a permit; maybe for the retry budget, or for money."""
        if self._retries.head() is not None:
            self.meter.waiting(now_s, NotBefore(self._alarm_at_s, "retries"))
        elif self._poor:
            self.meter.waiting(now_s, NotBefore(math.inf, "budget"))
        else:
            self.meter.admitted(now_s)

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
        return msgspec.structs.replace(self.gate.learnt(self._loop.time()), calls=self.experience.calls())

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
