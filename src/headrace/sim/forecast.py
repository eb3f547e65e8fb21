"""Rehearsals in, a forecast out: percentiles of time, calls and tokens, what binds, and what other limits would give.

Rules of this file:

1. The run is rehearsed once as a whole, up to `WHOLE` calls, with what was learnt taken at its word. What is longer goes
   on at the pace of the steady state, and the plan says so.
2. `TIMES` rehearsals of at most `SAMPLE` calls, each with what was learnt drawn anew, give the spread around it. Of a
   sample's deviation, what is the sample's own chance shrinks with the size of the run; what is uncertain stays.
3. What-ifs rehearse at most `SAMPLE` calls, with and without the change, by the same chance.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from statistics import fmean, median, pvariance

import msgspec

from headrace.core.limits import Unit
from headrace.engine.forecast import Plan, Range, StagePlan, Stone, WhatIf
from headrace.sim.likeness import Known
from headrace.sim.outlook import Outlook
from headrace.sim.part import Usd
from headrace.sim.rehearsal import Course, Work, rehearse

WHOLE = 100_000
SAMPLE = 1000
TIMES = 20
STONES = 20
BLOCKS = 10
STEADY = (0.3, 0.9)
"""Of the items of a rehearsal: between these its pace is steady."""
BINDS = 0.05
"""Of its time that a run waits for a limit: from here that limit binds."""
_SEED = 1
_LIMITS = {unit.value for unit in Unit}


def forecast(
    outlook: Outlook, work: Work, *, usd: Usd, deadline_s: float | None = None, seed: int = _SEED, times: int = TIMES,
    whole: int = WHOLE, sample: int = SAMPLE, going: Callable[[], None] = lambda: None,
) -> Plan:  # fmt: skip
    """What the run of this work will take. `going` is called between rehearsals, and may raise to end them."""
    return _Rehearsals(outlook, work, usd, seed, times, whole, sample, going).plan(deadline_s)


class _Rehearsals:
    def __init__(
        self, outlook: Outlook, work: Work, usd: Usd, seed: int, times: int, whole: int, sample: int,
        going: Callable[[], None],
    ) -> None:  # fmt: skip
        self._outlook, self._work, self._usd, self._seed, self._going = outlook, work, usd, seed, going
        self._all = len(work.tokens)
        each = max(1.0, calls_each(work))
        whole, sample = max(1, int(whole / each)), max(1, int(sample / each))
        self._whole = work if self._all <= whole else _sampled(work, whole, seed)
        self._small = work if self._all <= sample else _sampled(work, sample, seed)
        self._times = times

    def plan(self, deadline_s: float | None) -> Plan:
        if not self._all:
            nothing = Range(0.0, 0.0, 0.0)
            return Plan(
                items=0, seconds=nothing, calls=nothing, input_tokens=nothing, output_tokens=nothing,
                usd=nothing if self._price_of_nothing() is not None else None,
            )  # fmt: skip
        self._going()
        main = rehearse(self._whole, self._outlook.known, self._seed, certain=True)
        courses = [self._drawn(self._seed + 1 + nth) for nth in range(self._times)]
        likely_s, all_s = self._seconds(main, courses)
        seconds = range_of(all_s, around=likely_s)
        calls, into, out = self._amounts(courses)
        stage, waits = self._hardest(main)
        binding = max(waits.keys() & _LIMITS, key=waits.__getitem__, default="")
        binds = waits.get(binding, 0.0) >= BINDS
        stages = self._stages(main, courses)
        return Plan(
            items=self._all, seconds=seconds, calls=calls, input_tokens=into, output_tokens=out,
            usd=_together(stages) if stages else self._dollars(into, out, calls), binding=binding if binds else "",
            binding_stage=stage if binds else "", stages=stages,
            waits=waits, in_flight=main.in_flight, what_ifs=self._what_ifs(seconds.p50, waits, stage),
            course=self._course(main, seconds), assumed=self._outlook.assumed,
            notes=(*self._outlook.notes, *self._said()), rehearsals=1 + len(courses),
            rehearsed_calls=main.calls if main.parts else len(self._whole.tokens), deadline_s=deadline_s,
            in_time=None if deadline_s is None else fmean(each <= deadline_s for each in all_s),
        )  # fmt: skip

    def _price_of_nothing(self) -> float | None:
        if not self._work.parts:
            return self._usd(0.0, 0.0, 0)
        return 0.0 if all(part.usd is not None for part in self._work.parts if part.info.model) else None

    def _hardest(self, main: Course) -> tuple[str, Mapping[str, float]]:
        """The stage at which calls wait most, and the share of the run that they do."""
        if not main.parts:
            return "", {cause: s / main.seconds for cause, s in main.waited_s.items() if main.seconds > 0}
        waits = {
            part.name: {cause: s / main.seconds for cause, s in part.waited_s.items() if main.seconds > 0}
            for part in main.parts
        }
        most = {
            name: max((each[cause] for cause in each.keys() & _LIMITS), default=0.0) for name, each in waits.items()
        }
        stage = max(most, key=most.__getitem__)
        return stage, waits[stage]

    def _stages(self, main: Course, courses: Sequence[Course]) -> tuple[StagePlan, ...]:
        """Stage by stage, each with its own price."""
        factor = self._all / len(self._small.tokens)
        found = []
        for number, part in enumerate(self._work.parts):
            there = [course.parts[number] for course in courses]
            price = part.usd
            usd = None
            if price is not None and part.info.model:
                each = [price(one.input_tokens, one.output_tokens, one.calls) for one in there]
                usd = range_of([factor * one for one in each if one is not None]) if None not in each else None
            waited_s = main.parts[number].waited_s
            waits = {cause: waited_s[cause] / main.seconds for cause in waited_s.keys() & _LIMITS if main.seconds > 0}
            binding = max(waits, key=waits.__getitem__, default="")
            found.append(
                StagePlan(
                    name=part.info.name, kind=part.info.kind, model=part.info.model, usd=usd,
                    items=range_of([factor * one.items for one in there]),
                    calls=range_of([factor * one.calls for one in there]),
                    input_tokens=range_of([factor * one.input_tokens for one in there]),
                    output_tokens=range_of([factor * one.output_tokens for one in there]),
                    binding=binding if waits.get(binding, 0.0) >= BINDS else "", waits=waits,
                )
            )  # fmt: skip
        return tuple(found)

    def _said(self) -> list[str]:
        said = []
        what = "items" if self._work.parts else "calls"
        if len(self._small.tokens) < self._all:
            said.append(
                f"The spread and the what-ifs come from rehearsals of {len(self._small.tokens):,} of the "
                f"{self._all:,} {what}."
            )
        if len(self._whole.tokens) < self._all:
            said.append(
                f"{len(self._whole.tokens):,} {what} were rehearsed; the rest is taken to go on at the same pace."
            )
        return said

    def _drawn(self, seed: int) -> Course:
        """A rehearsal with what was learnt drawn anew."""
        self._going()
        chance, known, work = Random(seed), self._outlook.known, self._small  # noqa: S311
        if self._outlook.found:
            for unit in {quota.unit for each in _knowns(known, work) for quota in each.limits} - {Unit.CONCURRENCY}:
                factor = math.exp(chance.gauss(0.0, self._outlook.found))
                known, work = known.changed(unit, factor), work.changed(unit, factor)
        if self._outlook.guessed:
            factor = math.exp(chance.gauss(0.0, self._outlook.guessed))
            work = work.resized(factor)
        return rehearse(work, known, seed)

    def _seconds(self, main: Course, courses: Sequence[Course]) -> tuple[float | None, list[float]]:
        """How long it may take, and how long it is likely to, where that is known better than by their median."""
        whole_s = main.seconds
        if len(self._whole.tokens) < self._all:
            whole_s += len(main.ends_s) * (self._all / len(self._whole.tokens) - 1) / pace(main.ends_s)
        if len(self._small.tokens) == self._all:
            return None, [course.seconds for course in courses]
        paces = [pace(course.ends_s) for course in courses]
        own = fmean(_own_variance(course.ends_s) for course in courses)
        slowness = self._shrunk([-math.log(each) for each in paces], own)
        return whole_s, [whole_s * math.exp(each) for each in slowness]

    def _shrunk(self, deviations: Sequence[float], own: float) -> list[float]:
        """Of what samples deviate from their median (logarithms), what a run of all calls would: `own` is the variance
        that is a sample's chance."""
        middle, total = median(deviations), pvariance(deviations)
        if total <= 0:
            return [0.0 for _ in deviations]
        uncertain = max(0.0, total - own)
        left = uncertain + min(own, total) * len(self._small.tokens) / self._all
        return [(each - middle) * math.sqrt(left / total) for each in deviations]

    def _amounts(self, courses: Sequence[Course]) -> tuple[Range, Range, Range]:
        factor = self._all / len(self._small.tokens)
        exact = factor if self._work.parts else sum(self._work.tokens) / max(1, sum(self._small.tokens))
        into = range_of([course.input_tokens * exact for course in courses])
        out = [max(1e-9, course.output_tokens * factor) for course in courses]
        if factor > 1:
            spread = [math.log(each) for each in out]
            own = pvariance(spread) / 2 if sum(self._outlook.known.output_tokens.values()) > SAMPLE else 0.0
            middle = median(out)
            out = [middle * math.exp(each) for each in self._shrunk(spread, own)]
        return range_of([course.calls * factor for course in courses]), into, range_of(out)

    def _dollars(self, into: Range, out: Range, calls: Range) -> Range | None:
        """Of both kinds of tokens together, which rise and fall together."""
        each = [self._usd(into.p10, out.p10, round(calls.p10)), self._usd(into.p50, out.p50, round(calls.p50))]
        each.append(self._usd(into.p90, out.p90, round(calls.p90)))
        known = [usd for usd in each if usd is not None]
        return Range(*known) if len(known) == len(each) else None

    def _course(self, main: Course, seconds: Range) -> list[Stone]:
        """When each twentieth is done; an early one is as uncertain, relatively, as the end."""
        ends = main.ends_s
        if not ends:
            return []
        scale = seconds.p50 / main.seconds if main.seconds > 0 else 1.0
        low, high = (each / seconds.p50 if seconds.p50 else 1.0 for each in (seconds.p10, seconds.p90))
        stones = []
        for nth in range(1, STONES + 1):
            at_s = ends[max(0, math.ceil(len(ends) * nth / STONES) - 1)] * scale
            stones.append(Stone(nth / STONES, Range(at_s * low, at_s, at_s * high)))
        return stones

    def _what_ifs(self, p50_s: float, waits: Mapping[str, float], stage: str) -> list[WhatIf]:
        """Each known limit twice as large; the one that binds first. Of a pipeline, those of the stage that waits most."""
        known, work = self._outlook.known, self._small
        part = next((each for each in work.parts if each.info.name == stage and each.known is not None), None)
        limits = limits_of(known if part is None or part.known is None else part.known)
        if not limits or (work.parts and part is None):
            return []
        now_s = self._what_if_s(known, work)
        found = []
        for unit in sorted(limits, key=lambda each: -waits.get(each.value, 0.0)):
            account = None if part is None else part.account
            then_s = self._what_if_s(known.changed(unit, 2.0), work.changed(unit, 2.0, account))
            of_now = then_s / now_s if now_s > 0 else 1.0
            found.append(WhatIf(unit.value, limits[unit] * 2.0, p50_s * of_now, of_now, stage))
        return found

    def _what_if_s(self, known: Known, work: Work) -> float:
        """Seconds; of a sample, those at its steady pace."""
        self._going()
        course = rehearse(work, known, self._seed, certain=True)
        if len(work.tokens) == self._all:
            return course.seconds
        return len(course.ends_s) * (self._all / len(work.tokens)) / pace(course.ends_s)


def limits_of(known: Known) -> dict[Unit, float]:
    """The limits that hold: calls in flight, or so much a minute."""
    limits = dict(known.stated)
    for quota in known.limits:
        per = quota.limit if quota.unit is Unit.CONCURRENCY else quota.limit * 60.0 / quota.window_s
        limits[quota.unit] = min(per, limits.get(quota.unit, math.inf))
    if known.knee is not None:
        limits[Unit.CONCURRENCY] = min(known.knee, limits.get(Unit.CONCURRENCY, math.inf))
    return limits


def calls_each(work: Work) -> float:
    """Calls that an item will need, about: all that come to a stage that asks, and that are asked about there."""
    if not work.parts or not work.tokens:
        return 1.0
    begun = Counter(work.begins)
    coming = calls = 0.0
    for number, part in enumerate(work.parts):
        coming += begun[number]
        calls += coming * part.asked * part.samples if part.known is not None else 0.0
        coming = part.onward(coming)
    return calls / len(work.tokens)


def _knowns(known: Known, work: Work) -> list[Known]:
    return [part.known for part in work.parts if part.known is not None] if work.parts else [known]


def _together(stages: Sequence[StagePlan]) -> Range | None:
    """Of all stages that ask a model; None where the price of one is not known."""
    asking = [stage for stage in stages if stage.model]
    usd = [stage.usd for stage in asking if stage.usd is not None]
    if len(usd) < len(asking):
        return None
    return Range(sum(each.p10 for each in usd), sum(each.p50 for each in usd), sum(each.p90 for each in usd))


def _sampled(work: Work, count: int, seed: int) -> Work:
    """So many of its calls, in their order."""
    places = sorted(Random(seed).sample(range(len(work.tokens)), count))  # noqa: S311
    share = count / len(work.tokens)
    return msgspec.structs.replace(
        work, tokens=[work.tokens[place] for place in places],
        begins=[work.begins[place] for place in places] if work.begins else (),
        parts=tuple(part.scaled(share) for part in work.parts),
    )  # fmt: skip


def pace(ends_s: Sequence[float]) -> float:
    """Items per second in the steady part."""
    first, last = (min(len(ends_s) - 1, int(len(ends_s) * share)) for share in STEADY)
    seconds = ends_s[last] - ends_s[first] if ends_s else 0.0
    if not ends_s:
        return 1.0
    if last <= first or seconds <= 0:
        return len(ends_s) / max(1e-9, ends_s[-1])
    return (last - first) / seconds


def _own_variance(ends_s: Sequence[float]) -> float:
    """How much the logarithm of a sample's pace would vary by chance alone, from how its parts vary."""
    if not ends_s:
        return 0.0
    first, last = (ends_s[min(len(ends_s) - 1, int(len(ends_s) * share))] for share in STEADY)
    if last <= first:
        return 0.0
    edges = [bisect_left(ends_s, first + (last - first) * nth / BLOCKS) for nth in range(BLOCKS + 1)]
    done = [float(end - start) for start, end in pairwise(edges)]
    mean = fmean(done)
    return pvariance(done) / (mean * mean * (BLOCKS - 1)) if mean > 0 else 0.0


def range_of(values: Sequence[float], *, around: float | None = None) -> Range:
    """The percentiles that the next value keeps to: of n values, the k-th is the k / (n + 1) quantile."""
    ranked = sorted(values)

    def at(share: float) -> float:
        place = min(max(share * (len(ranked) + 1) - 1, 0.0), len(ranked) - 1.0)
        below = int(place)
        above = min(below + 1, len(ranked) - 1)
        return ranked[below] + (place - below) * (ranked[above] - ranked[below])

    middle = at(0.5) if around is None else around
    return Range(min(at(0.1), middle), middle, max(at(0.9), middle))
