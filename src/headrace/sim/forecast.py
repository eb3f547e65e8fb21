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
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from statistics import fmean, median, pvariance

import msgspec

from headrace.core.limits import Unit
from headrace.engine.forecast import Plan, Range, Stone, WhatIf
from headrace.sim.likeness import Known
from headrace.sim.outlook import Outlook
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

Usd = Callable[[float, float, int], float | None]
"""Dollars of so many tokens in and out in so many calls."""


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
        self._whole = work if self._all <= whole else _sampled(work, whole, seed)
        self._small = work if self._all <= sample else _sampled(work, sample, seed)
        self._times = times

    def plan(self, deadline_s: float | None) -> Plan:
        if not self._all:
            nothing = Range(0.0, 0.0, 0.0)
            return Plan(
                items=0, seconds=nothing, calls=nothing, input_tokens=nothing, output_tokens=nothing,
                usd=nothing if self._usd(0.0, 0.0, 0) is not None else None,
            )  # fmt: skip
        self._going()
        main = rehearse(self._whole, self._outlook.known, self._seed, certain=True)
        courses = [self._drawn(self._seed + 1 + nth) for nth in range(self._times)]
        likely_s, all_s = self._seconds(main, courses)
        seconds = range_of(all_s, around=likely_s)
        calls, into, out = self._amounts(courses)
        waits = {cause: waited_s / main.seconds for cause, waited_s in main.waited_s.items() if main.seconds > 0}
        binding = max(waits.keys() & _LIMITS, key=waits.__getitem__, default="")
        return Plan(
            items=self._all, seconds=seconds, calls=calls, input_tokens=into, output_tokens=out,
            usd=self._dollars(into, out, calls), binding=binding if waits.get(binding, 0.0) >= BINDS else "",
            waits=waits, in_flight=main.in_flight, what_ifs=self._what_ifs(seconds.p50, waits),
            course=self._course(main, seconds), assumed=self._outlook.assumed,
            notes=(*self._outlook.notes, *self._said()), rehearsals=1 + len(courses),
            rehearsed_calls=len(self._whole.tokens), deadline_s=deadline_s,
            in_time=None if deadline_s is None else fmean(each <= deadline_s for each in all_s),
        )  # fmt: skip

    def _said(self) -> list[str]:
        said = []
        if len(self._small.tokens) < self._all:
            said.append(
                f"The spread and the what-ifs come from rehearsals of {len(self._small.tokens):,} of the "
                f"{self._all:,} calls."
            )
        if len(self._whole.tokens) < self._all:
            said.append(
                f"{len(self._whole.tokens):,} calls were rehearsed; the rest is taken to go on at the same pace."
            )
        return said

    def _drawn(self, seed: int) -> Course:
        """A rehearsal with what was learnt drawn anew."""
        self._going()
        chance, known, work = Random(seed), self._outlook.known, self._small  # noqa: S311
        if self._outlook.found:
            for unit in {quota.unit for quota in known.limits} - {Unit.CONCURRENCY}:
                known = known.changed(unit, math.exp(chance.gauss(0.0, self._outlook.found)))
        if self._outlook.guessed:
            factor = math.exp(chance.gauss(0.0, self._outlook.guessed))
            work = msgspec.structs.replace(work, tokens=[round(factor * size) for size in work.tokens])
        return rehearse(work, known, seed)

    def _seconds(self, main: Course, courses: Sequence[Course]) -> tuple[float | None, list[float]]:
        """How long it may take, and how long it is likely to, where that is known better than by their median."""
        whole_s = main.seconds
        if len(self._whole.tokens) < self._all:
            whole_s += (self._all - len(self._whole.tokens)) / pace(main.ends_s)
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
        exact = sum(self._work.tokens) / max(1, sum(self._small.tokens))
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
        scale = seconds.p50 / main.seconds if main.seconds > 0 else 1.0
        low, high = (each / seconds.p50 if seconds.p50 else 1.0 for each in (seconds.p10, seconds.p90))
        stones = []
        for nth in range(1, STONES + 1):
            at_s = ends[max(0, math.ceil(len(ends) * nth / STONES) - 1)] * scale
            stones.append(Stone(nth / STONES, Range(at_s * low, at_s, at_s * high)))
        return stones

    def _what_ifs(self, p50_s: float, waits: Mapping[str, float]) -> list[WhatIf]:
        """Each known limit twice as large; the one that binds first."""
        known = self._outlook.known
        limits = dict(known.stated)
        for quota in known.limits:
            per = quota.limit if quota.unit is Unit.CONCURRENCY else quota.limit * 60.0 / quota.window_s
            limits[quota.unit] = min(per, limits.get(quota.unit, math.inf))
        if known.knee is not None:
            limits[Unit.CONCURRENCY] = min(known.knee, limits.get(Unit.CONCURRENCY, math.inf))
        if not limits:
            return []
        now_s = self._what_if_s(known)
        found = []
        for unit in sorted(limits, key=lambda each: -waits.get(each.value, 0.0)):
            of_now = self._what_if_s(known.changed(unit, 2.0)) / now_s if now_s > 0 else 1.0
            found.append(WhatIf(unit.value, limits[unit] * 2.0, p50_s * of_now, of_now))
        return found

    def _what_if_s(self, known: Known) -> float:
        """Seconds; of a sample, those at its steady pace."""
        self._going()
        course = rehearse(self._small, known, self._seed, certain=True)
        return course.seconds if len(self._small.tokens) == self._all else self._all / pace(course.ends_s)


def _sampled(work: Work, count: int, seed: int) -> Work:
    """So many of its calls, in their order."""
    places = sorted(Random(seed).sample(range(len(work.tokens)), count))  # noqa: S311
    return msgspec.structs.replace(work, tokens=[work.tokens[place] for place in places])


def pace(ends_s: Sequence[float]) -> float:
    """Items per second in the steady part."""
    first, last = (min(len(ends_s) - 1, int(len(ends_s) * share)) for share in STEADY)
    seconds = ends_s[last] - ends_s[first]
    if last <= first or seconds <= 0:
        return len(ends_s) / max(1e-9, ends_s[-1])
    return (last - first) / seconds


def _own_variance(ends_s: Sequence[float]) -> float:
    """How much the logarithm of a sample's pace would vary by chance alone, from how its parts vary."""
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
