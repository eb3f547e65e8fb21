"""The likeness of an endpoint: what is known of its calls and limits enters, a provider in this process leaves.

What was learnt of few calls is uncertain: each draw takes shares that might have brought what was seen (the Bayesian
bootstrap: a Dirichlet over the bins that were met).
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.errors import HeadraceError, Overloaded, Rejected, Transient
from headrace.core.limits import Learnt, Unit
from headrace.flow.quantiles import WIDTH, middle
from headrace.provider.chance import Fault
from headrace.provider.ledger import Ledger
from headrace.provider.quota import Quota
from headrace.provider.simulated import After, Simulated, Step, Visit, most_output
from headrace.provider.weather import Knee

_HALF = math.log(WIDTH) / 2
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

    def mean(self) -> float:
        if not self._sums:
            return 0.0
        shares = (end - start for start, end in zip([0.0, *self._sums], self._sums, strict=False))
        return sum(share * value for share, value in zip(shares, self._middles, strict=True)) / self._sums[-1]

    def next(self) -> float:
        if not self._sums:
            return 0.0
        at = self._random() * self._sums[-1]
        value = self._middles[min(bisect_right(self._sums, at), len(self._middles) - 1)]
        return value * math.exp(_HALF * (2.0 * self._random() - 1.0))


class Likeness:
    """A provider that answers as the endpoint did. `certain`: exactly so, and not as it may have been meant to."""

    def __init__(self, known: Known, seed: int, *, max_output: int | None = None, certain: bool = False) -> None:
        chance = Random(seed)  # noqa: S311 - a rehearsal
        self.seconds = Draws(known.seconds, chance, certain=certain)
        self.output_tokens = Draws(known.output_tokens, chance, certain=certain)
        self._max_output = max_output
        self._random = chance.random
        self._faults = _faults(known, chance, certain=certain)
        self.provider = _Understudy(
            script=self._step, limits=known.limits, headers=known.headers, ledger=Ledger(per_item=False),
            knee=Knee(known.knee) if known.knee is not None else None,
        )  # fmt: skip

    def _step(self, request: Request) -> Step:
        if self._faults:
            share = self._random()
            for below, fault in self._faults:
                if share < below:
                    return fault
        output_tokens = round(self.output_tokens.next())
        if self._max_output is not None:
            output_tokens = min(output_tokens, self._max_output)
        content = request.messages[0].content
        return After(self.seconds.next(), Reply("", "stop", len(content) // 4, output_tokens))


class _Understudy(Simulated):
    """The simulated provider without what names an item: its script looks at sizes alone."""

    def arrive(self, request: Request) -> Visit:
        visit = _Visit(request)
        door, in_flight = self.door, self.ledger.in_flight
        if door.watched:
            visit.ending = door.stop(self.clock(), in_flight, visit.asked, most_output(request) or 0)
        if visit.ending is None:
            self._follow_script(visit)
            if door.knee is not None:
                visit.latency_s *= door.stretch(in_flight + 1)
        self.ledger.arrived()
        return visit


class _Visit(Visit):
    """A hash of its prompt costs more than all else of it."""

    __slots__ = ()

    def __init__(self, request: Request) -> None:
        self.request, self.text, self.prompt = request, "", b""
        self.asked = len(request.messages[0].content) // 4
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
