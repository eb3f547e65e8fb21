"""Rehearsals and forecasts in virtual time: what the engine would do, how sure that is, and whether it comes true."""

import math
import os
import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from headrace.core.limits import Calls, Learnt, Line, Unit
from headrace.core.limits import Told as Hint
from headrace.flow.estimate import Charge, Size
from headrace.flow.experience import ENOUGH, Experience, tokens_in, with_earlier
from headrace.flow.quantiles import Quantiles
from headrace.provider.quota import Quota
from headrace.sim.forecast import forecast, pace, range_of
from headrace.sim.likeness import Draws, Known
from headrace.sim.loop import Deadlock
from headrace.sim.outlook import Asked, Outlook, Told, outlook
from headrace.sim.rehearsal import Course, Work, rehearse

SCALE = float(os.environ.get("HEADRACE_SCALE", "0.1"))


def bins(draw: Any, count: int = 20_000) -> Mapping[int, int]:
    """What a sketch of so many draws holds."""
    chance, sketch = random.Random(9), Quantiles()
    for _ in range(count):
        sketch.add(draw(chance))
    return sketch.bins()


SECONDS = bins(lambda chance: chance.lognormvariate(0, 0.5))
TOKENS = bins(lambda chance: chance.lognormvariate(3, 0.6))
TAIL = bins(lambda chance: 5.0 if chance.random() < 0.05 else chance.lognormvariate(0, 0.3))
FAULTS: dict[str, Any] = {"ended": {"": 940, "transient": 60}, "failed_s": {"transient": 0.5}}
SLOTS = {Unit.CONCURRENCY: 20.0}
WORLDS: dict[str, tuple[dict[str, Any], bool]] = {
    "requests": (
        {"seconds": SECONDS, "limits": (Quota(unit=Unit.REQUESTS, limit=600),), "headers": "openai"}, False,
    ),
    "tokens": (
        {"seconds": SECONDS, "limits": (Quota(unit=Unit.TOKENS, limit=60_000, charge="usage"),), "headers": "openai"},
        False,
    ),
    "concurrency": ({"seconds": SECONDS, "limits": (Quota(unit=Unit.CONCURRENCY, limit=25),)}, False),
    "tail": ({"seconds": TAIL, "stated": SLOTS}, False),
    "faults": ({"seconds": SECONDS, "stated": SLOTS, **FAULTS}, False),
    "mixed": (
        {"seconds": SECONDS, "limits": (Quota(unit=Unit.TOKENS, limit=60_000, charge="usage"),), "headers": "openai"},
        True,
    ),
}  # fmt: skip


def prompts(count: int, seed: int, *, mixed: bool) -> list[int]:
    chance = random.Random(seed)
    return [int(chance.lognormvariate(4, 1)) + 1 if mixed else 60 for _ in range(count)]


def seen(known: Known, learnt: Learnt, tokens: list[int]) -> Outlook:
    """What a plan would take for granted after an earlier run."""
    asked = Asked(sizes=[Size(4 * each, 1) for each in tokens], items=len(tokens), stored=0, unaskable=0, params={})
    told = Told(
        stated=known.stated, learnt=learnt, work=Calls(), charge=Charge("usage"), start=20, most=1024, max_output=None
    )
    return outlook(asked, told)


def free(into: float, out: float, calls: int) -> float:
    del calls
    return (into + 4 * out) / 1e6


def foretold(name: str, seed: int, count: int, *, times: int = 20) -> tuple[Any, Course]:
    """A forecast after an earlier run over other items, and what then happened."""
    words, mixed = WORLDS[name]
    true = Known(output_tokens=TOKENS, **words)
    earlier = rehearse(
        Work(tokens=prompts(count, seed, mixed=mixed), timeout_s=300.0), true, 7 * seed + 1, certain=True
    )
    learnt = msgspec.structs.replace(earlier.learnt, spent={})  # an hour ago
    tokens = prompts(count, seed + 1000, mixed=mixed)
    plan = forecast(
        seen(true, learnt, tokens), Work(tokens=tokens, timeout_s=300.0), usd=free, seed=13 * seed + 5, times=times
    )
    reality = msgspec.structs.replace(true, learnt=learnt)
    return plan, rehearse(Work(tokens=tokens, timeout_s=300.0), reality, 101 * seed + 3, certain=True)


@pytest.mark.parametrize("name", WORLDS)
def test_the_middle_of_a_forecast_is_near_what_happens(name: str) -> None:
    """In each of six settings, learnt and not told, time and cost come out near P50: runs as short as this one differ
    by a tenth among themselves, where calls fail by more."""
    plan, course = foretold(name, 1, 600, times=5)
    assert plan.seconds.p50 == pytest.approx(course.seconds, rel=0.15 if name == "faults" else 0.1)
    assert plan.usd is not None
    assert plan.usd.p50 == pytest.approx(free(course.input_tokens, course.output_tokens, 0), rel=0.06)
    binding = {"tail": "concurrency", "faults": "concurrency", "mixed": "tokens"}.get(name, name)
    assert plan.binding == binding


def test_eight_of_ten_outcomes_are_between_p10_and_p90() -> None:
    """Over 100 virtual seeds, each with its own earlier run, the time is inside in 70 to 90."""
    seeds = max(10, round(100 * SCALE))
    inside = 0
    for seed in range(seeds):
        plan, course = foretold("tail", 50 + seed, 150, times=19)
        inside += plan.seconds.p10 <= course.seconds <= plan.seconds.p90
    slack = 0.0 if seeds >= 100 else 0.25  # of ten, seven to nine come out as five to ten
    assert 0.7 - slack <= inside / seeds <= 0.9 + slack


def test_a_rehearsal_replays_exactly() -> None:
    """The same seed gives the same course to the last digit, and another another."""
    known = Known(seconds=SECONDS, output_tokens=TOKENS, stated=SLOTS)
    work = Work(tokens=[50] * 200, timeout_s=300.0)
    first = rehearse(work, known, 1)
    assert first.ends_s == rehearse(work, known, 1).ends_s
    assert first.ends_s != rehearse(work, known, 2).ends_s


def test_a_stated_limit_is_kept_in_the_rehearsal() -> None:
    """With 20 in flight and calls of a second, 200 calls take ten seconds and no less."""
    one = Quantiles()
    one.add(1.0)
    course = rehearse(Work(tokens=[10] * 200, timeout_s=300.0), Known(seconds=one.bins(), stated=SLOTS), 1)
    assert course.calls == 200
    assert course.seconds == pytest.approx(10.0, rel=0.03)


def test_faults_are_rehearsed_as_often_as_they_were_met() -> None:
    """Six calls of a hundred failed, so about as many more are made."""
    known = Known(seconds=SECONDS, stated=SLOTS, **FAULTS)
    course = rehearse(Work(tokens=[10] * 1000, timeout_s=300.0), known, 1, certain=True)
    assert 1030 <= course.calls <= 1100
    assert course.failed <= 2


def test_a_provider_that_never_answers_does_not_hang_the_plan() -> None:
    """Every call times out: the rehearsal ends as the run would, and says so by its failures."""
    known = Known(seconds=SECONDS, stated=SLOTS, ended={"": 1, "timeout": 10_000})
    course = rehearse(Work(tokens=[10] * 30, timeout_s=5.0), known, 1, certain=True)
    assert course.input_tokens == 0
    assert course.seconds < 3600


def test_few_calls_leave_more_doubt_than_many() -> None:
    """What was learnt of 20 calls is drawn further apart than what was learnt of 2,000."""
    few, many = Quantiles(), Quantiles()
    chance = random.Random(1)
    for place in range(2000):
        value = chance.lognormvariate(0, 0.5)
        many.add(value)
        if place < 20:
            few.add(value)
    means = [[Draws(sketch.bins(), random.Random(seed)).mean() for seed in range(200)] for sketch in (few, many)]
    spread = [max(each) / min(each) for each in means]
    assert spread[0] > 1.2 > spread[1]


def test_an_unknown_endpoint_is_said_to_be_unknown() -> None:
    """Nothing learnt, nothing stated: what is assumed is named as assumed, and the notes say so."""
    found = seen(Known(seconds={}), Learnt(), [50] * 10)
    assert {each.origin for each in found.assumed} == {"assumed"}
    assert found.known.stated == {Unit.CONCURRENCY: 20.0}
    assert any("Nothing is known" in note for note in found.notes)


def test_what_is_told_stated_and_learnt_is_told_apart() -> None:
    """Each limit is named with where it comes from, and a told one goes before a learnt one of its unit."""
    learnt = Learnt(
        12, (Hint(Unit.REQUESTS, 600.0),), {"requests": 5.0, "tokens": 100.0}, at=1.0, held_by="refused",
    )  # fmt: skip
    found = seen(Known(seconds={}, stated={Unit.TOKENS: 9000.0}), learnt, [5] * 10)
    origins = {(each.what, each.origin) for each in found.assumed}
    assert {("tokens", "stated"), ("requests", "told"), ("concurrency", "learnt"), ("tokens", "learnt")} <= origins
    limits = {(quota.unit, quota.limit) for quota in found.known.limits}
    assert limits == {(Unit.REQUESTS, 600.0), (Unit.CONCURRENCY, 12), (Unit.TOKENS, 6000.0)}


def test_a_twice_as_large_limit_that_binds_halves_the_time() -> None:
    """The what-if of the limit that binds comes first, and says about half; one that does not bind gives nothing."""
    known = Known(
        seconds=SECONDS, output_tokens=TOKENS, stated={Unit.CONCURRENCY: 10.0, Unit.REQUESTS: 1e6}
    )  # fmt: skip
    plan = forecast(
        Outlook(known=known, tokens=[10] * 400, guessed=0.0, found=0.0, assumed=(), notes=()),
        Work(tokens=[10] * 400, timeout_s=300.0), usd=lambda *_: None, times=3,
    )  # fmt: skip
    first, second = plan.what_ifs
    assert first.limit == "concurrency" == plan.binding
    assert 0.45 < first.of_now < 0.65
    assert second.of_now == pytest.approx(1.0, abs=0.02)
    assert plan.usd is None


def test_a_large_plan_goes_on_at_the_steady_pace() -> None:
    """Of 3,000 calls 600 are rehearsed, and the forecast is that of all of them within a few percent, and says so."""
    known = Known(seconds=SECONDS, output_tokens=TOKENS, stated=SLOTS)
    work = Work(tokens=[10] * 3000, timeout_s=300.0)
    plan = forecast(
        Outlook(known=known, tokens=work.tokens, guessed=0.0, found=0.0, assumed=(), notes=()), work,
        usd=free, times=6, whole=1000, sample=600,
    )  # fmt: skip
    whole = rehearse(work, known, 5, certain=True)
    assert plan.seconds.p50 == pytest.approx(whole.seconds, rel=0.05)
    assert plan.calls.p50 == pytest.approx(3000)
    assert plan.input_tokens.p50 == pytest.approx(30_000)
    assert plan.rehearsed_calls == 1000
    assert len(plan.notes) == 2


def test_nothing_to_ask_is_a_plan_of_nothing() -> None:
    """No call, no second, no dollar, and no rehearsal."""
    nothing = Outlook(known=Known(seconds=SECONDS), tokens=[], guessed=0.0, found=0.0, assumed=(), notes=())
    plan = forecast(nothing, Work(tokens=[], timeout_s=1.0), usd=free)
    assert (plan.seconds.p90, plan.calls.p90, plan.rehearsals) == (0.0, 0.0, 0)


def test_percentiles_are_those_of_the_next_value() -> None:
    """Of nineteen values the second and the eighteenth hold eight of ten between them."""
    found = range_of([float(each) for each in range(1, 20)])
    assert (found.p10, found.p50, found.p90) == (2.0, 10.0, 18.0)
    assert range_of([3.0]).p10 == 3.0


def test_the_pace_is_that_of_the_steady_part() -> None:
    """A slow beginning and a slow end do not count."""
    ends = [*(10.0 + each for each in range(20)), *(30 + 0.1 * each for each in range(100)), 100.0]
    assert pace(ends) == pytest.approx(10.0, rel=0.05)


def test_experience_learns_what_calls_are_like() -> None:
    """Latency, length and kinds of errors are kept; what headrace took off itself says nothing."""
    experience = Experience()
    for place in range(100):
        experience.add("", 1.0 + place / 100, Size(400 + place, 1), 110 + place // 4, 7)
    experience.add("transient", 0.5, Size(10, 1))
    experience.add("overtaken", 9.0, Size(10, 1))
    calls = experience.calls()
    assert calls.ended == {"": 100, "transient": 1}
    assert calls.failed_s == {"transient": 0.5}
    assert sum(calls.seconds.values()) == 100
    assert tokens_in(calls.input_tokens, 800) == pytest.approx(210, rel=0.02)
    assert msgspec.json.decode(msgspec.json.encode(calls), type=Calls) == calls


def test_what_was_learnt_before_fades() -> None:
    """Of earlier calls as many count as are missing to enough; a run without calls keeps them all."""
    earlier = Calls({100: 5000}, {50: 5000}, Line(5000, 5e5, 5e4, 5e7, 5e6), {"": 5000})
    now = Calls({200: 400}, {60: 400}, Line(400, 4e4, 4e3, 4e6, 4e5), {"": 400})
    both = with_earlier(now, earlier)
    assert sum(both.seconds.values()) == pytest.approx(ENOUGH, rel=0.01)
    assert both.seconds[200] == 400
    assert with_earlier(Calls(), earlier) == earlier
    assert with_earlier(earlier, now) == earlier


def test_bytes_of_an_earlier_version_are_read() -> None:
    """What was remembered before calls were, still decodes."""
    old = b'{"concurrency":12,"told":[],"per_s":{},"spent":{},"at":5.0}'
    found = msgspec.json.decode(old, type=Learnt)
    assert (found.concurrency, found.held_by, found.calls) == (12, "", Calls())


def test_a_deadlock_is_told_and_not_waited_for() -> None:
    """The swift loop, too, ends where nothing can happen any more."""
    import asyncio

    from headrace.sim.swift import SwiftLoop

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=SwiftLoop) as runner, pytest.raises(Deadlock):
        runner.run(waits())


def test_timers_and_callbacks_come_in_order() -> None:
    """Equal times in the order in which they were set, cancelled ones not at all, and time stands still between."""
    import asyncio

    from headrace.sim.swift import SwiftLoop

    async def main() -> tuple[list[int], float]:
        loop = asyncio.get_running_loop()
        called: list[int] = []
        for place, delay in enumerate((2.0, 1.0, 1.0, 3.0)):
            loop.call_later(delay, called.append, place)
        loop.call_later(1.5, called.append, 9).cancel()
        await asyncio.sleep(4.0)
        return called, loop.time()

    with asyncio.Runner(loop_factory=SwiftLoop) as runner:
        called, now_s = runner.run(main())
    assert called == [1, 2, 0, 3]
    assert math.isclose(now_s, 4.0)
