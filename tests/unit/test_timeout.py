"""The time an attempt may take: right for many shapes of latency, learnt from answers alone."""

import math
import random
import time
import timeit
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.flow.timeout import CallTimeout

Draw = Callable[[random.Random], float]


def tail(chance: random.Random) -> float:
    return 8.0 if chance.random() < 0.02 else chance.uniform(0.2, 0.4)


def long_tail(chance: random.Random) -> float:
    return 80.0 if chance.random() < 0.02 else chance.uniform(2, 4)


def steady(_: random.Random) -> float:
    return 100.0


def two_kinds(chance: random.Random) -> float:
    return chance.uniform(50, 60) if chance.random() < 0.3 else chance.uniform(0.5, 1)


def some_slow(chance: random.Random) -> float:
    return chance.uniform(50, 60) if chance.random() < 0.05 else chance.uniform(0.5, 1)


def lognormal(median_s: float, sigma: float) -> Draw:
    return lambda chance: median_s * math.exp(chance.gauss(0, sigma))


def cut(draw: Draw, *, slots: int, calls: int = 3000, most_s: float = 300.0, seed: int = 0) -> tuple[float, float]:
    """The share of calls that are cut although they would be answered, and the bound in the end. `slots` callers, each
    call watched once a second as the engine does it; what is cut is tried again, with the same seconds to take."""
    chance, timeout = random.Random(seed), CallTimeout(most_s)
    ends: list[tuple[float, int]] = []
    flying: dict[int, tuple[float, float, int]] = {}
    again: list[tuple[float, int]] = []
    now_s, watch_s, begun, cuts, sent = 0.0, 1.0, 0, 0, 0
    while begun < calls or flying or again:
        while len(flying) < slots and (again or begun < calls):
            takes_s, timeouts = again.pop() if again else (draw(chance), 0)
            begun += timeouts == 0
            sent += 1
            flying[sent] = now_s, takes_s, timeouts
            heappush(ends, (now_s + takes_s, sent))
        if ends[0][0] <= watch_s:
            now_s, number = heappop(ends)
            if number in flying:
                timeout.learn(flying.pop(number)[1])
            continue
        now_s, watch_s = watch_s, watch_s + 1
        late = [n for n, (start_s, _, timeouts) in flying.items() if now_s - start_s >= timeout.of(timeouts)]
        for number in late:
            start_s, takes_s, timeouts = flying[number]
            if now_s - start_s >= timeout.of(timeouts, overdue=len(late), last=timeouts == 4):
                del flying[number]
                assert timeouts < 4, "an item was lost"
                again.append((takes_s, timeouts + 1))
                cuts += 1
    return cuts / calls, timeout.of()


@pytest.mark.parametrize("slots", [4, 40, 200])
@pytest.mark.parametrize(
    ("draw", "most_cut", "bound"),
    [
        (tail, 0.0, (10, 25)),
        (steady, 0.0, (240, 300)),
        (lognormal(2, 0.5), 0.0005, (14, 20)),
        (lognormal(2, 1.0), 0.002, (38, 75)),
        (lognormal(5, 1.0), 0.002, (95, 190)),
        (lognormal(0.02, 1.0), 0.0, (10, 10)),
    ],
    ids=["tail", "steady", "sigma 0.5", "sigma 1", "slow", "quick"],
)
def test_calls_that_would_be_answered_are_not_cut(
    draw: Draw, most_cut: float, bound: tuple[float, float], slots: int
) -> None:
    """Whatever the shape and however many are in flight, next to none is cut, and none is lost."""
    for seed in range(1):
        share, found_s = cut(draw, slots=slots, seed=seed, calls=1000 + 10 * slots)
        assert share <= most_cut
        assert bound[0] <= found_s <= bound[1]


@pytest.mark.parametrize("slots", [4, 40, 200])
@pytest.mark.parametrize("draw", [long_tail, two_kinds, some_slow], ids=["long tail", "two kinds", "some slow"])
def test_slow_ones_among_quick_ones_are_learnt(draw: Draw, slots: int) -> None:
    """Where a few calls take twenty times as long, the first are taken for hanging; then it is known. None is lost."""
    for seed in range(2):
        calls = 1000 + 50 * slots
        share, found_s = cut(draw, slots=slots, seed=seed, calls=calls)
        assert share * calls <= 10 + 4 * slots
        assert 120 <= found_s <= 300


def test_until_twenty_answers_it_is_what_the_user_allows() -> None:
    """Nineteen answers are no measure."""
    timeout = CallTimeout(120)
    for _ in range(19):
        timeout.learn(0.1)
        assert timeout.of() == 120
    timeout.learn(0.1)
    assert timeout.of() == 10
    assert repr(timeout) == "<CallTimeout 10 of 120 s>"


def test_it_doubles_with_each_attempt_that_timed_out() -> None:
    """Up to what the user allows, which the last attempt has in full."""
    timeout = CallTimeout(120)
    for _ in range(1000):
        timeout.learn(1.0)
    assert [timeout.of(timeouts) for timeouts in range(5)] == [10, 20, 40, 80, 120]
    assert timeout.of(1, last=True) == 120
    assert timeout.of(10**9) == 120
    assert timeout.of(-1) == 10


@pytest.mark.parametrize("most_s", [0.001, 5.0, 9.99])
def test_what_the_user_allows_is_never_passed(most_s: float) -> None:
    """Not even by the least of ten seconds."""
    timeout = CallTimeout(most_s)
    for _ in range(100):
        timeout.learn(100.0)
    assert timeout.of() == timeout.of(3) == timeout.of(overdue=50) == most_s


def test_many_late_ones_at_once_do_not_hang() -> None:
    """A few calls past their time are cut; more than a tenth of all calls wait as long as the user allows."""
    timeout = CallTimeout(300)
    for _ in range(90):
        timeout.learn(1.0)
    assert timeout.of(overdue=10) == 10
    assert timeout.of(overdue=11) == 300


def test_it_follows_calls_that_become_slower_and_quicker() -> None:
    """Old answers fade, however many there were."""
    timeout = CallTimeout(1000)
    for _ in range(100_000):
        timeout.learn(1.0)
    for _ in range(100):
        timeout.learn(40.0)
    assert timeout.of() > 90
    for _ in range(10_000):
        timeout.learn(1.0)
    assert timeout.of() == 10


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(), st.sampled_from([0.0, -1.0, math.inf, math.nan, 1e300])), max_size=100),
    st.one_of(st.floats(1e-3, 1e6), st.just(math.inf)),
    st.integers(0, 100),
    st.integers(0, 1000),
)
def test_any_durations_give_a_sound_bound(durations: list[float], most_s: float, timeouts: int, overdue: int) -> None:
    """Zero, negative, endless and absurd ones raise nothing, and the bound stays between its ends."""
    timeout = CallTimeout(most_s)
    for seconds in durations:
        timeout.learn(seconds)
        assert min(10, most_s) <= timeout.of(timeouts, overdue=overdue) <= most_s
        assert timeout.of(timeouts + 1) >= timeout.of(timeouts)


def test_learning_costs_little() -> None:
    """A few microseconds at most, the finding of the percentile shared out."""
    timeout, chance = CallTimeout(300), random.Random(1)
    durations = [chance.expovariate(1) for _ in range(5000)]

    def rounds() -> None:
        for seconds in durations:
            timeout.learn(seconds)

    assert min(timeit.repeat(rounds, number=1, repeat=5, timer=time.process_time)) / len(durations) < 5e-6
