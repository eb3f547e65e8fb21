"""Backups: when one is due, how many are allowed, and what they save at the end of a run."""

import math
import random
import statistics
import time
import timeit
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.flow.backup import Backups


def test_nothing_is_due_before_twenty_answers() -> None:
    """Nineteen calls do not tell what is usual."""
    backups = Backups()
    for _ in range(19):
        backups.learn(100, 1.0)
        assert backups.due_s(100) is None
    backups.learn(100, 1.0)
    assert backups.due_s(100) == pytest.approx(1.5, rel=0.02)


def test_a_call_is_compared_with_calls_of_its_size() -> None:
    """What is long for a small request is usual for a large one."""
    backups = Backups()
    for _ in range(100):
        backups.learn(100, 1.0)
        backups.learn(10_000, 20.0)
    assert backups.due_s(120) == pytest.approx(1.5, rel=0.02)
    assert backups.due_s(9000) == pytest.approx(30, rel=0.02)


def test_a_size_that_is_not_known_takes_the_nearest() -> None:
    """The larger of two as near; all together where no size has enough answers."""
    backups = Backups()
    for _ in range(20):
        backups.learn(100, 1.0)
        backups.learn(1600, 20.0)
    assert backups.due_s(20) == pytest.approx(1.5, rel=0.02)
    assert backups.due_s(200) == pytest.approx(1.5, rel=0.02)
    assert backups.due_s(500) == pytest.approx(30, rel=0.02)
    assert backups.due_s(10**12) == pytest.approx(30, rel=0.02)
    few = Backups()
    for power in range(5):
        for _ in range(4):
            few.learn(2**power, float(power + 1))
    assert few.due_s(1) == pytest.approx(7.5, rel=0.02)


def test_a_tail_does_not_hide_itself() -> None:
    """Of calls with a few slow ones, the usual ones say when a backup is due."""
    backups = Backups()
    for number in range(1000):
        backups.learn(50, 8.0 if number % 50 == 0 else 0.3)
    assert backups.due_s(50) == pytest.approx(0.45, rel=0.02)


def test_what_was_found_is_found_anew_after_more_answers() -> None:
    """A due time never lags behind what is known."""
    backups = Backups()
    for seconds in (1.0, 5.0):
        for _ in range(1000):
            backups.learn(50, seconds)
        assert backups.due_s(50) == pytest.approx(1.5 * seconds, rel=0.02)


def test_backups_are_at_most_their_share() -> None:
    """Two in a hundred calls, the first one from fifty on."""
    backups = Backups(0.02)
    for calls, most in ((0, 0), (49, 0), (50, 1), (99, 1), (100, 2), (149, 2), (1000, 20)):
        while backups.allow(calls + backups.count):
            backups.sent()
        assert backups.count == most
    assert repr(backups) == "<Backups 20 sent, at most 2.0% of the calls>"


def test_no_share_allows_none() -> None:
    """Not even the first; a tiny one allows that."""
    assert not Backups(0.0).allow(10**9)
    assert Backups(1e-9).allow(50)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, math.inf])
def test_a_share_that_cannot_work_is_refused(share: float) -> None:
    """It lies between none and all."""
    with pytest.raises(UsageError, match="cannot work"):
        Backups(share)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=60), st.floats())
def test_any_size_and_duration_is_taken(answers: list[tuple[float, float]], size: float) -> None:
    """Absurd ones raise nothing; what is due is a time."""
    backups = Backups()
    for each, seconds in answers:
        backups.learn(each, seconds)
    due_s = backups.due_s(size)
    assert due_s is None or 0 < due_s < math.inf


class Ending:
    """Callers with nothing else to do, until the source is read and all is answered. Two in a hundred calls take 8 s,
    the others 0.3 s or so; a backup that is late itself gets another."""

    def __init__(self, share: float, seed: int) -> None:
        self.chance = random.Random(seed)
        self.backups = Backups(share)
        self.now_s = 0.0
        self.flying: list[tuple[float, int]] = []
        self.started: dict[int, float] = {}
        self.taken: list[float] = []

    def send(self, item: int) -> None:
        takes_s = 8.0 if self.chance.random() < 0.02 else 0.3 * math.exp(self.chance.gauss(0, 0.3))
        self.taken.append(takes_s)
        self.started[item] = self.now_s
        heappush(self.flying, (self.now_s + takes_s, item))

    def next_answer(self) -> None:
        self.now_s, item = heappop(self.flying)
        if item in self.started:
            self.backups.learn(50, self.now_s - self.started.pop(item))

    def back_up(self) -> float:
        """Send what is due; when the next is."""
        next_s = math.inf
        due_s = self.backups.due_s(50)
        for item, start_s in sorted(self.started.items(), key=lambda pair: pair[1]):
            if due_s is None or not self.backups.allow(len(self.taken)):
                break
            if self.now_s >= start_s + due_s:
                self.backups.sent()
                self.send(item)
            else:
                next_s = min(next_s, start_s + due_s)
        return next_s


def finish(*, slots: int, calls: int, share: float, seed: int) -> tuple[float, float]:
    """How long after the end of the source the last answer comes, in 95th percentiles, and the share of calls more."""
    ending = Ending(share, seed)
    for item in range(calls):
        if len(ending.started) == slots:
            ending.next_answer()
        ending.send(item)
    ended_s = ending.now_s
    while ending.started:
        wake_s = ending.back_up()
        if ending.flying[0][0] > wake_s:
            ending.now_s = wake_s
        else:
            ending.next_answer()
    usual_s = sorted(ending.taken)[int(0.95 * len(ending.taken))]
    return (ending.now_s - ended_s) / usual_s, ending.backups.count / calls


@pytest.mark.parametrize(("slots", "calls"), [(10, 500), (10, 2000), (50, 2000), (100, 10_000)])
def test_the_last_answer_comes_soon_after_the_source_is_exhausted(slots: int, calls: int) -> None:
    """Within 3 x the 95th percentile at no more than 2 % more calls, median of nine seeds; without backups it is 10."""
    ends = [finish(slots=slots, calls=calls, share=0.02, seed=seed) for seed in range(9)]
    assert statistics.median(late for late, _ in ends) <= 3
    assert all(more <= 0.02 for _, more in ends)


def test_without_backups_the_tail_decides() -> None:
    """The comparison: what the share of none would cost."""
    assert statistics.median(finish(slots=50, calls=2000, share=0.0, seed=seed)[0] for seed in range(9)) > 10


def test_learning_costs_little() -> None:
    """A few microseconds at most."""
    backups = Backups()
    seconds = min(timeit.repeat(lambda: backups.learn(800, 1.5), number=5000, repeat=5, timer=time.process_time))
    assert seconds / 5000 < 10e-6
