"""The likeness of an endpoint: what is known of its calls and limits enters, a provider in this process leaves.

What was learnt of few calls is uncertain: each draw takes shares that might have brought what was seen (the Bayesian
bootstrap: a Dirichlet over the bins that were met).
"""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import HeadraceError, Overloaded, Rejected, Transient
from headrace.core.limits import Learnt, Unit
from headrace.flow.quantiles import WIDTH, middle
from headrace.provider.chance import Fault
from headrace.provider.ledger import Ledger
from headrace.provider.quota import Quota
from headrace.provider.simulated import After, Simulated, Step, Visit, most_output
from headrace.provider.weather import Knee

_HALF = math.log(WIDTH) / 2
_BATCH = 256
_WALL_S = 1.7e9
"""What the calendar says as a rehearsal begins: any time will do."""
_OWN_FAULT = frozenset({"rejected", "filtered", "context-too-long"})
_SAID = "As an earlier call failed."


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a rehearsal takes for granted of an endpoint."""

    seconds: Mapping[int, int]
    """Answered calls by how long they take, in the bins of flow.quantiles."""
    output_tokens: Mapping[int, int] = {}
    ended: Mapping[str, int] = {}
    failed_s: Mapping[str, float] = {}
    limits: tuple[Quota, ...] = ()
    """What the provider holds."""
    headers: str = "plain"
    """Whose headers tell of the limits."""
    knee: float | None = None
    """So many calls in flight are as many as pay."""
    stated: Mapping[Unit, float] = {}
    """What the run is told of it."""
    learnt: Learnt = Learnt()
    """What the run remembers of it."""
    start: int = 20
    most: int = 1024

    def changed(self, unit: Unit, factor: float) -> "Known":
        """The same with one limit larger: what the provider holds, what the run is told, and what it remembers."""
        learnt = self.learnt
        per_s = {name: rate * (factor if name == unit.value else 1.0) for name, rate in learnt.per_s.items()}
        told = tuple(
            msgspec.structs.replace(
                each, limit=None if each.limit is None else each.limit * factor,
                remaining=None if each.remaining is None else each.remaining * factor,
            )
            if each.unit is unit
            else each
            for each in learnt.told
        )  # fmt: skip
        slots = learnt.concurrency
        if unit is Unit.CONCURRENCY and slots is not None:
            slots = round(slots * factor)
        return msgspec.structs.replace(
            self,
            limits=tuple(
                msgspec.structs.replace(quota, limit=max(1.0, float(round(quota.limit * factor))))
                if quota.unit is unit
                else quota
                for quota in self.limits
            ),
            knee=self.knee * factor if self.knee is not None and unit is Unit.CONCURRENCY else self.knee,
            stated={each: limit * (factor if each is unit else 1.0) for each, limit in self.stated.items()},
            learnt=msgspec.structs.replace(learnt, per_s=per_s, told=told, concurrency=slots),
        )


class Draws:
    """Values as often as they were seen, or as often as they might have been meant to be."""

    def __init__(self, bins: Mapping[int, int], chance: Random, *, certain: bool = False) -> None:
        places = sorted(bins)
        weights = [float(bins[place]) if certain else chance.gammavariate(bins[place], 1.0) for place in places]
        self._middles = [middle(place) for place in places]
        self._sums = list(accumulate(weights))
        self._random = chance.random
        self._drawn: list[float] = []

    def mean(self) -> float:
        if not self._sums:
            return 0.0
        shares = (end - start for start, end in zip([0.0, *self._sums], self._sums, strict=False))
        return sum(share * value for share, value in zip(shares, self._middles, strict=True)) / self._sums[-1]

    def next(self) -> float:
        if not self._drawn:
            self._drawn = self._batch()
        return self._drawn.pop()

    def _batch(self) -> list[float]:
        """One by one they take twice as long."""
        if not self._sums:
            return [0.0] * _BATCH
        middles, random, total, ends = self._middles, self._random, self._sums[-1], self._sums[:-1]
        return [
            middles[bisect_right(ends, random() * total)] * math.exp(_HALF * (2.0 * random() - 1.0))
            for _ in range(_BATCH)
        ]


class Kind:
    """The calls of one stage: how long they take, how much they answer, how they fail. `certain`: exactly as they were
    seen, and not as they may have been meant to be."""

    def __init__(self, known: Known, chance: Random, *, max_output: int | None = None, certain: bool = False) -> None:
        self.seconds = Draws(known.seconds, chance, certain=certain)
        self.output_tokens = Draws(known.output_tokens, chance, certain=certain)
        self._has_output = bool(known.output_tokens)
        self._max_output = max_output
        self._random = chance.random
        self._faults = _faults(known, chance, certain=certain)
        self.talks = True
        """Whether its tokens count: a function's do not."""
        self.calls = self.paid = self.into = self.out = 0
        """Sent; answered, and the tokens of those."""

    def fault(self) -> Step | None:
        if self._faults:
            share = self._random()
            for below, fault in self._faults:
                if share < below:
                    return fault
        return None

    def tokens_out(self) -> int:
        if not self._has_output:
            return 0
        found = round(self.output_tokens.next())
        return found if self._max_output is None else min(found, self._max_output)


class Likeness:
    """A provider that holds what the endpoint's limits are, for the calls of all stages that ask it."""

    def __init__(self, known: Known) -> None:
        self.provider = Simulated(
            limits=known.limits, headers=known.headers, ledger=Ledger(per_item=False),
            knee=Knee(known.knee) if known.knee is not None else None,
        )  # fmt: skip

    def call_of(self, kind: Kind, ends_s: list[float] | None = None) -> Call:
        """For a stage whose calls are of this kind; `ends_s` is when each was answered, where that is asked for."""
        door, ledger = self.provider.door, self.provider.ledger
        simple, clock = not door.watched and door.knee is None, self.provider.clock

        async def call(request: Request) -> Reply:
            kind.calls += 1
            content = request.messages[0].content
            step = kind.fault()
            if step is not None or not simple:
                reply = await self._met(kind, _Visit(request, content), step)
                if ends_s is not None:
                    ends_s.append(clock())
                return reply
            into, out, seconds = len(content) // 4, kind.tokens_out(), kind.seconds.next()
            ledger.in_flight += 1
            try:
                await _pass(seconds)
            finally:
                ledger.in_flight -= 1
            if ends_s is not None:
                ends_s.append(clock())
            return _paid(kind, into, out)

        return call

    async def _met(self, kind: Kind, visit: "_Visit", step: Step | None) -> Reply:
        """A call that fails, or that meets a limit."""
        provider, door, ledger = self.provider, self.provider.door, self.provider.ledger
        if door.watched:
            visit.ending = door.stop(provider.clock(), ledger.in_flight, visit.asked, most_output(visit.request) or 0)
        refused = visit.ending is not None
        if not refused:
            self._begin(kind, visit, step)
        ledger.arrived()
        try:
            if visit.ending is Fault.HANG:
                await asyncio.get_running_loop().create_future()
            if visit.latency_s or not (refused or visit.ending is Fault.THROTTLED_429):
                await _pass(visit.latency_s)
            reply = provider.outcome(visit)
        finally:
            ledger.in_flight -= 1
        if provider.tells:
            clock_s = provider.clock()
            hints = provider.notice.hints(door.levels(clock_s), _WALL_S + door.now_s(clock_s))
            reply = msgspec.structs.replace(reply, hints=hints)
        _paid(kind, visit.asked, reply.output_tokens or 0)
        return reply

    def _begin(self, kind: Kind, visit: "_Visit", step: Step | None) -> None:
        if isinstance(step, After):
            visit.latency_s = step.latency_s
            visit.ending = step.step if not isinstance(step.step, str) else None
        elif isinstance(step, Fault):
            visit.ending = step
        else:
            visit.ending = Reply("", "stop", visit.asked, kind.tokens_out())
            visit.latency_s = kind.seconds.next()
        door = self.provider.door
        if door.knee is not None:
            visit.latency_s *= door.stretch(self.provider.ledger.in_flight + 1)


def _paid(kind: Kind, into: int, out: int) -> Reply:
    kind.paid += 1
    kind.into += into
    kind.out += out
    return Reply("", "stop", into, out)


async def _pass(seconds: float) -> None:
    """As asyncio.sleep, for what is cancelled hardly ever."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    alarm = loop.call_later(seconds, _wake, waiter)
    try:
        await waiter
    except BaseException:
        alarm.cancel()
        raise


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Visit(Visit):
    """A hash of its prompt costs more than all else of it."""

    __slots__ = ()

    def __init__(self, request: Request, content: str) -> None:
        self.request, self.text, self.prompt = request, "", b""
        self.asked = len(content) // 4
        self.latency_s = 0.0
        self.ending = None


def _faults(known: Known, chance: Random, *, certain: bool) -> Sequence[tuple[float, Step]]:
    """How calls fail, each with the upper end of its share. An outage is not expected to come back."""
    counts = {kind: count for kind, count in known.ended.items() if not kind or _fault(kind, 0.0) is not None}
    if known.limits:  # they are what refuses
        counts.pop("throttled", None)
    weights = {
        kind: float(count) if certain else chance.gammavariate(count, 1.0) for kind, count in counts.items() if count
    }
    total = sum(weights.values())
    below, faults = 0.0, list[tuple[float, Step]]()
    for kind, weight in weights.items():
        fault = _fault(kind, known.failed_s.get(kind, 0.0))
        if kind and fault is not None:
            below += weight / total
            faults.append((below, fault))
    return faults


def _fault(kind: str, seconds: float) -> Step | None:
    """A call that fails so; None where that is no matter of chance, but of limits or of an outage."""
    error: HeadraceError
    if kind == "timeout":
        return Fault.HANG
    if kind == "transient":
        error = Transient(_SAID)
    elif kind == "overloaded":
        error = Overloaded(_SAID)
    elif kind in _OWN_FAULT:
        error = Rejected(_SAID)
    else:
        return Fault.THROTTLED_429 if kind == "throttled" else None
    return After(seconds, error)
