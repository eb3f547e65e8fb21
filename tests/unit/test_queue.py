"""The fair queue: order, shares by weight and priority, and nobody left behind."""

import math
import os
import random
import time
import timeit
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.flow.queue import WEIGHT, FairQueue, Priority

SCALE = float(os.environ.get("HEADRACE_SCALE", "0.1"))


def filled(weights: dict[str, float], each: int) -> FairQueue[str, str]:
    queue: FairQueue[str, str] = FairQueue()
    for lane, weight in weights.items():
        queue.join(lane, weight=weight)
        for _ in range(each):
            queue.push(lane, lane)
    return queue


def test_first_come_first_served_within_a_lane() -> None:
    """Entries leave in the order they came; an empty queue has no head."""
    queue: FairQueue[str, int] = FairQueue()
    assert queue.head() is None
    for number in range(10):
        queue.push("a", number)
    assert len(queue) == 10
    assert [queue.pop() for _ in range(10)] == list(range(10))
    assert queue.head() is None
    assert len(queue) == 0


def test_popping_an_empty_queue_is_an_error() -> None:
    """There is nobody to let in."""
    queue: FairQueue[str, int] = FairQueue()
    for take in (queue.pop, queue.drop):
        with pytest.raises(LookupError):
            take()


def test_the_head_stays_until_it_is_taken() -> None:
    """Nothing overtakes it: not what is put in front, not a lane of more weight."""
    queue: FairQueue[str, str] = FairQueue()
    queue.push("a", "first")
    queue.push("a", "second")
    assert queue.head() == "first"
    queue.join("b", priority="interactive")
    queue.push("b", "urgent")
    queue.push("a", "again", front=True)
    assert queue.head() == "first"
    assert queue.pop() == "first"
    assert queue.pop() == "urgent"
    assert queue.pop() == "again"
    assert queue.pop() == "second"


def test_a_dropped_head_costs_nothing() -> None:
    """A lane does not pay for an entry that was given up."""
    queue = filled({"a": 1, "b": 1}, 10)
    assert queue.pop() == "a"
    assert [queue.drop() for _ in range(3)] == ["b", "b", "b"]
    assert len(queue) == 16
    assert queue.pop() == "b"
    taken = Counter(queue.pop() for _ in range(10))
    assert taken["a"] == taken["b"]


def test_priorities_are_weights() -> None:
    """Interactive work gets ten times what normal work gets, that ten times what waits in the background: all get some."""
    queue: FairQueue[str, str] = FairQueue()
    names: tuple[Priority, ...] = ("background", "normal", "interactive")
    for name in names:
        queue.join(name, priority=name)
        for _ in range(1200):
            queue.push(name, name)
    taken = Counter(queue.pop() for _ in range(1110))
    for name in names:
        assert abs(taken[name] - 10 * WEIGHT[name]) <= 3


def test_who_comes_late_is_owed_nothing() -> None:
    """A lane that joins, or was away, shares from then on; it does not catch up."""
    queue = filled({"a": 1, "b": 1}, 3000)
    for _ in range(2000):
        queue.pop()
    queue.join("c")
    for _ in range(1000):
        queue.push("c", "c")
    taken = Counter(queue.pop() for _ in range(300))
    assert all(abs(taken[lane] - 100) <= 1 for lane in "abc")


def test_who_worked_alone_is_not_punished() -> None:
    """What a lane got while nobody else waited is not held against it."""
    queue = filled({"a": 1, "b": 1}, 0)
    for _ in range(5000):
        queue.charge("a")
    for _ in range(5000):
        queue.push("a", "a")
        queue.pop()
    for _ in range(100):
        queue.push("b", "b")
        queue.push("a", "a")
    taken = Counter(queue.pop() for _ in range(100))
    assert abs(taken["a"] - taken["b"]) <= 2


def test_leaving_and_coming_back_gains_nothing() -> None:
    """A lane that empties itself after each entry gets no more than its part."""
    queue = filled({"a": 1, "b": 1}, 2000)
    queue.join("c")
    taken: Counter[str] = Counter()
    for _ in range(900):
        if not any(entry == "c" for entry in queue._lanes["c"].entries):
            queue.push("c", "c")
        taken[queue.pop()] += 1
    assert taken["c"] <= 302


def test_costs_count() -> None:
    """Of two lanes of one weight, the one with entries ten times as large gets a tenth as many in."""
    queue = filled({"small": 1, "large": 1}, 2000)
    taken: Counter[str] = Counter()
    for _ in range(1100):
        lane = queue.head()
        assert lane is not None
        taken[queue.pop(10 if lane == "large" else 1)] += 1
    assert abs(taken["large"] - 100) <= 2


@pytest.mark.parametrize("cost", [0.0, -1.0, 1e-300, math.nan, math.inf, -math.inf, 1e300])
def test_no_cost_starves_anyone(cost: float) -> None:
    """Free, negative, endless or senseless costs of one lane leave the other its turns, and the lane its own."""
    queue = filled({"odd": 1, "plain": 1}, 3000)
    taken: Counter[str] = Counter()
    for _ in range(3000):
        lane = queue.head()
        assert lane is not None
        taken[queue.pop(cost if lane == "odd" else 1.0)] += 1
    assert taken["plain"] >= 20
    assert taken["odd"] >= 20


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 1e9, 1e-9])
def test_a_weight_that_cannot_work_is_refused(weight: float) -> None:
    """It is a number of sound size."""
    with pytest.raises(UsageError, match="cannot work"):
        FairQueue[str, int]().join("a", weight=weight)


def test_a_priority_that_is_none_is_refused() -> None:
    """The error names those that there are."""
    with pytest.raises(UsageError, match="no priority 'urgent'.*interactive, normal, background"):
        FairQueue[str, int]().join("a", priority="urgent")  # type: ignore[arg-type]


def test_a_lane_can_be_emptied_and_forgotten() -> None:
    """All that waited in it is given back, in order, the head too; the others go on."""
    queue: FairQueue[str, str] = FairQueue()
    for number in range(3):
        queue.push("a", f"a{number}")
        queue.push("b", f"b{number}")
    assert queue.head() == "a0"
    assert queue.clear("a") == ["a0", "a1", "a2"]
    assert len(queue) == 3
    assert queue.head() == "b0"
    assert queue.leave("b") == ["b0", "b1", "b2"]
    assert queue.leave("b") == queue.clear("nobody") == []
    assert queue.head() is None
    queue.push("a", "anew")
    assert queue.pop() == "anew"
    assert len(queue) == 0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=8),
    st.integers(1, int(3000 * SCALE)),
)
def test_p8_each_lane_gets_its_part(weights: list[float], admissions: int) -> None:
    """P8: with constant backlog a lane of weight w gets at least (w / W) * n - lanes of n admissions."""
    queue: FairQueue[int, int] = FairQueue()
    for lane, weight in enumerate(weights):
        queue.join(lane, weight=weight)
        queue.push(lane, lane)
    taken: Counter[int] = Counter()
    for _ in range(admissions):
        lane = queue.pop()
        taken[lane] += 1
        queue.push(lane, lane)
    for lane, weight in enumerate(weights):
        assert taken[lane] >= weight / sum(weights) * admissions - len(weights) - 1e-6


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_p8_none_starves_among_lanes_that_come_and_go(seed: int, lanes: int) -> None:
    """P8: whoever waits is let in after a bounded number of others, however they come, pay and give up."""
    chance, queue = random.Random(seed), FairQueue[int, tuple[int, int]]()
    weights = [chance.choice([0.1, 1.0, 10.0]) for _ in range(lanes)]
    for lane, weight in enumerate(weights):
        queue.join(lane, weight=weight)
    since: dict[int, int] = {}
    step = 0
    for step in range(int(4000 * SCALE)):
        lane = chance.randrange(lanes)
        queue.push(lane, (lane, step), front=chance.random() < 0.1)
        since.setdefault(lane, step)
        if chance.random() < 0.9:
            lane, _ = queue.drop() if chance.random() < 0.2 else queue.pop()
            since.pop(lane)
            if queue._lanes[lane].entries:
                since[lane] = step
        for lane, first in since.items():
            assert step - first <= 4 * (sum(weights) / weights[lane] + lanes) + 10


STEPS = st.sampled_from(["push", "front", "pop", "drop", "head", "clear", "leave", "charge", "join"])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=200))
def test_nothing_is_lost_or_doubled(story: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, each entry leaves once, in the order of its lane."""
    queue: FairQueue[int, int] = FairQueue()
    waiting: dict[int, list[int]] = {lane: [] for lane in range(4)}
    head: int | None = None
    for number, (what, lane) in enumerate(story):
        if what == "push":
            queue.push(lane, number)
            waiting[lane].append(number)
        elif what == "front":
            queue.push(lane, number, front=True)
            waiting[lane].insert(int(head is not None and head in waiting[lane]), number)
        elif what in ("pop", "drop") and len(queue):
            out = queue.pop() if what == "pop" else queue.drop()
            assert head in (None, out)
            head = None
            assert out == next(line for line in waiting.values() if out in line).pop(0)
        elif what == "head":
            found = queue.head()
            assert head in (None, found)
            head = found
        elif what in ("clear", "leave"):
            left = queue.clear(lane) if what == "clear" else queue.leave(lane)
            assert left == waiting[lane]
            head = None if head in left else head
            waiting[lane].clear()
        elif what == "charge":
            queue.charge(lane)
        elif what == "join":
            queue.join(lane, weight=0.5 + number % 3)
        assert len(queue) == sum(map(len, waiting.values()))
    rest = [queue.pop() for _ in range(len(queue))]
    assert sorted(rest) == sorted(entry for line in waiting.values() for entry in line)


@pytest.mark.parametrize("lanes", [1, 100])
def test_taking_turns_costs_little(lanes: int) -> None:
    """Ten microseconds an entry at most, in and out."""
    queue: FairQueue[int, int] = FairQueue()

    def rounds() -> None:
        for number in range(10_000):
            queue.push(number % lanes, number)
            if number >= lanes:
                queue.head()
                queue.pop()

    assert min(timeit.repeat(rounds, number=1, repeat=3, timer=time.process_time)) / 10_000 < 20e-6
