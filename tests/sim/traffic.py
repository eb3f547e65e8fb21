"""A saturated or finite client that drives a gate against servers with limits: events on a heap, no loop, no clock.

The same seed gives the same trace. Limits here are written apart from the ones in src: they are what the gate is held to.
"""

import hashlib
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol

from headrace.core.limits import Cost, End, Hints, Told, Unit
from headrace.flow.gate import NotBefore, Refused

Latency = Callable[[random.Random], float]

# Latencies and items.


def fixed(seconds: float) -> Latency:
    return lambda _: seconds


def lognormal(median_s: float = 2.0, sigma: float = 0.5) -> Latency:
    mu = math.log(median_s)
    return lambda chance: math.exp(chance.gauss(mu, sigma))


def tail(of: Latency, *, share: float = 0.02, seconds: float = 8.0) -> Latency:
    """A share of the calls takes so long instead; infinity for those that never answer (give `timeout_s`)."""
    return lambda chance: seconds if chance.random() < share else of(chance)


@dataclass(slots=True)
class Item:
    cost: Cost
    truth: Cost | None = None
    """What it takes in truth, where that is not `cost`: what servers charge and what is settled."""
    failures: int = 0
    refusals: int = 0


def tokens(seed: int, *, median: float, sigma: float, most: float, reserve: float = 1.0) -> Iterator[Item]:
    """Items of lognormal sizes without end, reserved at `reserve` times the truth (all in Unit.TOKENS)."""
    chance = random.Random(seed)
    while True:
        amount = min(most, max(1.0, median * math.exp(chance.gauss(0.0, sigma))))
        truth = Cost(tokens=amount)
        yield Item(truth if reserve == 1.0 else Cost(tokens=amount * reserve), truth)


# Limits, as servers keep them.


class Limiter(Protocol):
    """`wait_s` is 0 where the amount is let in now, else the exact time until it would be."""

    unit: Unit
    limit: float
    window_s: float

    def wait_s(self, now_s: float, amount: float) -> float: ...

    def take(self, now_s: float, amount: float) -> None: ...

    def leave(self, now_s: float) -> None: ...

    def remaining(self, now_s: float) -> float: ...

    def reset_s(self, now_s: float) -> float: ...


class Sliding:
    """At most `limit` in any `window_s` seconds."""

    def __init__(self, limit: float, window_s: float = 60.0, *, unit: Unit = Unit.REQUESTS) -> None:
        self.unit, self.limit, self.window_s = unit, limit, window_s
        self._log: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def _expire(self, now_s: float) -> None:
        while self._log and self._log[0][0] <= now_s - self.window_s:
            self._sum -= self._log.popleft()[1]
        if not self._log:
            self._sum = 0.0

    def wait_s(self, now_s: float, amount: float) -> float:
        self._expire(now_s)
        need = self._sum + amount - self.limit
        if need <= 1e-6:
            return 0.0
        for at_s, was in self._log:
            need -= was
            if need <= 1e-6:
                return at_s + self.window_s - now_s
        return math.inf

    def take(self, now_s: float, amount: float) -> None:
        self._log.append((now_s, amount))
        self._sum += amount

    def leave(self, now_s: float) -> None: ...

    def remaining(self, now_s: float) -> float:
        self._expire(now_s)
        return max(0.0, self.limit - self._sum)

    def reset_s(self, now_s: float) -> float:
        return self._log[-1][0] + self.window_s - now_s if self._log else 0.0


class Fixed:
    """At most `limit` in each window; windows begin at `phase_s` + k * `window_s`."""

    def __init__(
        self, limit: float, window_s: float = 60.0, *, phase_s: float = 0.0, unit: Unit = Unit.REQUESTS
    ) -> None:
        self.unit, self.limit, self.window_s, self.phase_s = unit, limit, window_s, phase_s
        self._window, self._sum = -1, 0.0

    def _roll(self, now_s: float) -> None:
        window = math.floor((now_s - self.phase_s) / self.window_s)
        if window != self._window:
            self._window, self._sum = window, 0.0

    def wait_s(self, now_s: float, amount: float) -> float:
        self._roll(now_s)
        if self._sum + amount <= self.limit + 1e-6:
            return 0.0
        return self.reset_s(now_s) if amount <= self.limit else math.inf

    def take(self, now_s: float, amount: float) -> None:
        self._sum += amount

    def leave(self, now_s: float) -> None: ...

    def remaining(self, now_s: float) -> float:
        self._roll(now_s)
        return max(0.0, self.limit - self._sum)

    def reset_s(self, now_s: float) -> float:
        return max(1e-6, (self._window + 1) * self.window_s + self.phase_s - now_s)


class Bucket:
    """Refilled at `limit` per `window_s`, holds `capacity` (all of `limit` unless given), begins full."""

    def __init__(
        self, limit: float, window_s: float = 60.0, *, capacity: float | None = None, unit: Unit = Unit.REQUESTS
    ) -> None:
        self.unit, self.limit, self.window_s = unit, limit, window_s
        self.capacity = limit if capacity is None else capacity
        self._level, self._at_s = self.capacity, 0.0

    def _fill(self, now_s: float) -> None:
        self._level = min(self.capacity, self._level + (now_s - self._at_s) * self.limit / self.window_s)
        self._at_s = now_s

    def wait_s(self, now_s: float, amount: float) -> float:
        self._fill(now_s)
        if amount <= self._level + 1e-6:
            return 0.0
        return (amount - self._level) * self.window_s / self.limit if amount <= self.capacity else math.inf

    def take(self, now_s: float, amount: float) -> None:
        self._level -= amount

    def leave(self, now_s: float) -> None: ...

    def remaining(self, now_s: float) -> float:
        self._fill(now_s)
        return max(0.0, self._level)

    def reset_s(self, now_s: float) -> float:
        return (self.capacity - self._level) * self.window_s / self.limit


class Slots:
    """At most `limit` calls in flight. What else it cannot say: when one becomes free."""

    unit, window_s = Unit.CONCURRENCY, 0.0

    def __init__(self, limit: float) -> None:
        self.limit, self._held = limit, 0

    def wait_s(self, now_s: float, amount: float) -> float:
        return 0.0 if self._held < self.limit else 1.0

    def take(self, now_s: float, amount: float) -> None:
        self._held += 1

    def leave(self, now_s: float) -> None:
        self._held -= 1

    def remaining(self, now_s: float) -> float:
        return self.limit - self._held

    def reset_s(self, now_s: float) -> float:
        return 0.0


# Servers.


@dataclass(slots=True)
class Fault:
    """Between two times, a share of the calls ends so, after `after_s` at the server."""

    from_s: float
    until_s: float
    end: End = End.FAILED
    share: float = 1.0
    after_s: float = 0.05
    retry_after_s: float | None = None


@dataclass
class Server:
    """Limits asked all at once. `hint`: "exact", "none", "lying" (0 s), or a constant number of seconds."""

    limits: Sequence[Limiter] = ()
    hint: str | float = "none"
    headers: bool = False
    """Every answer tells limit, remaining and reset of each window limit."""
    names: bool = False
    """A refusal says which limit it is for."""
    knee: float = math.inf
    """Calls in flight past which the whole throughput falls, as (knee / n) ** `slope`."""
    slope: float = 0.5
    faults: Sequence[Fault] = ()
    counts_refused: bool = False
    """A refused call counts against request limits, as OpenAI's does."""
    lie: Callable[[Told], Told] | None = None
    """What the headers are made into."""
    in_flight: int = 0

    @property
    def follows(self) -> bool:
        """Whether it must be told when a call is over."""
        return self.knee < math.inf or any(limit.unit is Unit.CONCURRENCY for limit in self.limits)

    def admit(self, now_s: float, cost: Cost) -> Limiter | None:
        """The limit that refuses, or None: let in and charged."""
        for limit in self.limits:
            if limit.wait_s(now_s, _amount(limit, cost)) > 0:
                if self.counts_refused:
                    self._count(now_s)
                return limit
        for limit in self.limits:
            limit.take(now_s, _amount(limit, cost))
        self.in_flight += 1
        return None

    def _count(self, now_s: float) -> None:
        for limit in self.limits:
            if limit.unit is Unit.REQUESTS and limit.wait_s(now_s, 1.0) == 0:
                limit.take(now_s, 1.0)

    def leave(self, now_s: float) -> None:
        self.in_flight -= 1
        for limit in self.limits:
            limit.leave(now_s)

    def slower(self) -> float:
        """By what factor calls take longer, with those now in flight."""
        return max(1.0, self.in_flight / self.knee) ** (1.0 + self.slope) if self.knee < math.inf else 1.0

    def told(self, now_s: float) -> tuple[Told, ...]:
        if not self.headers:
            return ()
        told = (
            Told(limit.unit, limit.limit, math.floor(limit.remaining(now_s)), limit.reset_s(now_s), limit.window_s)
            for limit in self.limits
            if limit.unit is not Unit.CONCURRENCY
        )
        return tuple(map(self.lie, told)) if self.lie else tuple(told)

    def refusal(self, now_s: float, by: Limiter, cost: Cost) -> Hints:
        wait_s: float | None
        if self.hint == "exact":
            wait_s = by.wait_s(now_s, _amount(by, cost))
            wait_s = wait_s if wait_s < math.inf else None
        elif self.hint == "none":
            wait_s = None
        else:
            wait_s = 0.0 if self.hint == "lying" else float(self.hint)
        return Hints(self.told(now_s), wait_s, by.unit if self.names else None)


def _amount(limit: Limiter, cost: Cost) -> float:
    return 1.0 if limit.unit in (Unit.REQUESTS, Unit.CONCURRENCY) else cost.of(limit.unit)


# What came of it.


@dataclass
class Result:
    seconds: float
    sent: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many were then in flight at the client, the new one included."""
    arrived: list[tuple[float, Cost, bool]] = field(default_factory=list)
    """When at the server, at what cost, whether let in."""
    ended: list[tuple[float, End, float]] = field(default_factory=list)
    """When, how, and how long it took."""
    waits: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    too_large: int = 0
    finished_s: float = math.nan
    """When the last item ended, where they do."""
    delivered: int = 0

    def accepted(self, from_s: float = 0.0, until_s: float = math.inf, unit: Unit = Unit.REQUESTS) -> float:
        return sum(cost.of(unit) for at_s, cost, ok in self.arrived if ok and from_s <= at_s < until_s)

    def used(self, limit: float, *, window_s: float = 60.0, from_s: float = 0.0, until_s: float | None = None,
             unit: Unit = Unit.REQUESTS) -> float:  # fmt: skip
        """What was let in, of `limit` per `window_s`."""
        until_s = self.seconds if until_s is None else until_s
        return self.accepted(from_s, until_s, unit) / (limit * (until_s - from_s) / window_s)

    def per_minute(self, limit: float, *, unit: Unit = Unit.REQUESTS) -> list[float]:
        """`used` of each minute (a limit per minute)."""
        sums = [0.0] * math.ceil(self.seconds / 60)
        for at_s, cost, ok in self.arrived:
            if ok and at_s < self.seconds:
                sums[int(at_s // 60)] += cost.of(unit)
        return [amount / limit for amount in sums]

    def refused(self, from_s: float = 0.0, until_s: float = math.inf) -> int:
        return sum(not ok for at_s, _, ok in self.arrived if from_s <= at_s < until_s)

    def refused_share(self, from_s: float = 0.0, until_s: float = math.inf) -> float:
        all_of_them = sum(from_s <= at_s < until_s for at_s, _, _ in self.arrived)
        return self.refused(from_s, until_s) / max(1, all_of_them)

    def most(self, window_s: float = 60.0, *, unit: Unit = Unit.REQUESTS) -> float:
        """The most that arrived within any `window_s`, refused or not; at its two ends the window is half open."""
        most = total = 0.0
        first = 0
        for at_s, cost, _ in self.arrived:
            total += cost.of(unit)
            while self.arrived[first][0] <= at_s - window_s:
                total -= self.arrived[first][1].of(unit)
                first += 1
            most = max(most, total)
        return most

    def mean_in_flight(self, from_s: float = 0.0, until_s: float = math.inf) -> float:
        """Over time, as the client counts."""
        changes = [(at_s, 1) for at_s, _ in self.sent] + [(at_s, -1) for at_s, _, _ in self.ended]
        changes.sort()
        until_s = min(until_s, self.seconds)
        area, count, last = 0.0, 0, from_s
        for at_s, step in changes:
            if at_s > from_s:
                area += count * (min(at_s, until_s) - last)
                last = min(at_s, until_s)
            count += step
        return area / (until_s - from_s)

    @property
    def digest(self) -> str:
        """Of everything that was sent and how it ended: equal for equal traces."""
        return hashlib.sha256(repr((self.sent, self.ended)).encode()).hexdigest()


# The client.

_ARRIVE, _LEAVE, _REPLY, _WAKE, _FOREIGN, _SCRIPT, _AGAIN = range(7)


def simulate(
    gate: Any,
    server: Server,
    *,
    latency: Latency | None = None,
    seconds: float = 600.0,
    seed: int = 0,
    items: Iterable[Item] | None = None,
    network_s: tuple[float, float] = (0.02, 0.2),
    timeout_s: float = math.inf,
    foreign_per_s: float = 0.0,
    script: Sequence[tuple[float, Callable[[], object]]] = (),
    watch: Callable[[float], object] | None = None,
) -> Result:
    """Drive `gate` (ask, settle) for so long or until `items` are done; a refused item is asked for again at once.

    `items` None: calls of no tokens without end. `script`: what happens at a time ("the limit becomes 200").
    `watch` is called after every event at the client. A call past `timeout_s` ends FAILED; a failed one waits U(0, 0.5 * 2**n).
    """
    return _Traffic(gate, server, latency or lognormal(), seconds, seed, items, network_s, timeout_s).go(
        foreign_per_s, script, watch
    )


class _Traffic:
    def __init__(self, gate: Any, server: Server, latency: Latency, seconds: float, seed: int,
                 items: Iterable[Item] | None, network_s: tuple[float, float], timeout_s: float) -> None:  # fmt: skip
        self.gate, self.server, self.latency, self.timeout_s = gate, server, latency, timeout_s
        self.chance = random.Random(seed)
        self.foreign_chance = random.Random(seed + 1)
        self.items = iter(items) if items is not None else map(Item, repeat(Cost()))
        self.near_s, self.spread_s = network_s[0], network_s[1] - network_s[0]
        self.result = Result(seconds)
        self.heap: list[tuple[float, int, int, Any]] = []
        self.numbers = iter(range(1 << 62))
        self.again: deque[Item] = deque()
        self.head: Item | None = None
        self.wake_s = math.inf
        self.in_flight = self.pending = 0
        self.exhausted = False

    def at(self, when_s: float, kind: int, payload: Any = None) -> None:
        heapq.heappush(self.heap, (when_s, next(self.numbers), kind, payload))

    def net_s(self) -> float:
        return self.near_s + self.spread_s * self.chance.random()

    def go(self, foreign_per_s: float, script: Sequence[tuple[float, Callable[[], object]]],
           watch: Callable[[float], object] | None) -> Result:  # fmt: skip
        for when_s, action in script:
            self.at(when_s, _SCRIPT, action)
        if foreign_per_s:
            self.at(self.foreign_chance.expovariate(foreign_per_s), _FOREIGN, foreign_per_s)
        self.dispatch(0.0)
        handlers = (self.arrive, self.leave, self.reply, self.woken, self.foreign, self.act, self.ready)
        heap, seconds = self.heap, self.result.seconds
        while heap and heap[0][0] <= seconds and not self.over():
            now_s, _, kind, payload = heapq.heappop(heap)
            if handlers[kind](now_s, payload):
                self.dispatch(now_s)
                if watch is not None:
                    watch(now_s)
        return self.result

    def over(self) -> bool:
        return self.exhausted and not (self.in_flight or self.pending or self.again or self.head)

    def dispatch(self, now_s: float) -> None:
        """Send while the gate says go. The item at the head stays at the head."""
        while True:
            if self.head is None:
                self.head = self.again.popleft() if self.again else next(self.items, None)
                if self.head is None:
                    self.exhausted = True
                    return
            item = self.head
            answer = self.gate.ask(now_s, item.cost)
            self.result.asked += 1
            if isinstance(answer, NotBefore):
                self.result.waits[answer.cause] = self.result.waits.get(answer.cause, 0) + 1
                if answer.at_s != self.wake_s:
                    self.wake_s = answer.at_s
                    if answer.at_s < math.inf:
                        self.at(answer.at_s, _WAKE)
                return
            if isinstance(answer, Refused):
                self.head = None
                self.result.too_large += 1
                continue
            self.head = None
            self.in_flight += 1
            self.result.sent.append((now_s, self.in_flight))
            self.at(now_s + self.net_s(), _ARRIVE, (now_s, item, answer))

    # What happens; True where something may be sent since.

    def woken(self, now_s: float, _: None) -> bool:
        if now_s != self.wake_s:
            return False  # a later answer took its place
        self.wake_s = math.inf
        return True

    def ready(self, now_s: float, item: Item) -> bool:
        self.pending -= 1
        self.again.append(item)
        return True

    def act(self, now_s: float, action: Callable[[], object]) -> bool:
        action()
        return True

    def leave(self, now_s: float, _: None) -> bool:
        self.server.leave(now_s)
        return False

    def arrive(self, now_s: float, call: tuple[float, Item, Any]) -> bool:
        sent_s, item, ticket = call
        server, chance = self.server, self.chance
        cost = item.truth or item.cost
        for fault in server.faults:
            if fault.from_s <= now_s < fault.until_s and (fault.share >= 1.0 or chance.random() < fault.share):
                self.result.arrived.append((now_s, cost, False))
                hints = Hints(retry_after_s=fault.retry_after_s) if fault.retry_after_s is not None else None
                self.answer(now_s + fault.after_s, sent_s, item, ticket, fault.end, hints)
                return False
        refused_by = server.admit(now_s, cost)
        self.result.arrived.append((now_s, cost, refused_by is None))
        if refused_by is not None:
            self.answer(now_s, sent_s, item, ticket, End.THROTTLED, server.refusal(now_s, refused_by, cost))
            return False
        told = server.told(now_s)
        over_s = now_s + self.latency(chance) * server.slower()
        if over_s > sent_s + self.timeout_s:
            over_s = sent_s + self.timeout_s
            self.at(over_s, _REPLY, (sent_s, item, ticket, End.FAILED, None))
        else:
            self.answer(over_s, sent_s, item, ticket, End.OK, Hints(told) if told else None)
        if server.follows:
            self.at(over_s, _LEAVE)
        return False

    def answer(self, left_s: float, sent_s: float, item: Item, ticket: Any, end: End, hints: Hints | None) -> None:
        self.at(left_s + self.net_s(), _REPLY, (sent_s, item, ticket, end, hints))

    def reply(self, now_s: float, call: tuple[float, Item, Any, End, Hints | None]) -> bool:
        sent_s, item, ticket, end, hints = call
        self.in_flight -= 1
        self.result.ended.append((now_s, end, now_s - sent_s))
        self.gate.settle(ticket, now_s, end, cost=item.truth if end is End.OK else None, hints=hints)
        if end is End.OK:
            self.result.delivered += 1
            self.result.finished_s = now_s
        elif end is End.THROTTLED:
            item.refusals += 1
            if self.head is None:
                self.head = item
            else:
                self.again.append(item)
        elif end is not End.IGNORED:
            item.failures += 1
            self.pending += 1
            self.at(now_s + self.chance.random() * min(30.0, 0.5 * 2.0 ** min(10, item.failures)), _AGAIN, item)
        return True

    def foreign(self, now_s: float, per_s: float) -> bool:
        """A call of someone else that uses the same limits."""
        if self.server.admit(now_s, Cost()) is None:
            self.server.in_flight -= 1
            for limit in self.server.limits:
                if limit.unit is Unit.CONCURRENCY:
                    limit.leave(now_s)
        self.at(now_s + self.foreign_chance.expovariate(per_s), _FOREIGN, per_s)
        return False
