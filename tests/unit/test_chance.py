"""Refusals that come whatever the pace, told from a limit's: the rules of chance.py without a gate."""

import random

import pytest

from headrace.flow.chance import LONG, PROOF, Chance


class Calls:
    """Calls that are sent one after the other, and refused at once."""

    def __init__(self) -> None:
        self.chance = Chance()
        self.number, self.now_s = 0, 0.0

    def send(self, count: int, per_s: float) -> None:
        for _ in range(count):
            self.number += 1
            self.now_s += 1.0 / per_s
            self.chance.sent(self.now_s, self.number)

    def refuse(self, after: int, per_s: float, in_flight: int) -> bool:
        """The last of so many calls."""
        self.send(after, per_s)
        return self.chance.refused(self.number, self.now_s, in_flight)

    def proven(self, paces: list[tuple[int, float, int]]) -> bool:
        return sum(self.refuse(*each) for each in paces) > 0


def test_what_goes_on_at_a_third_of_the_pace_is_chance() -> None:
    """Refusals that stand alone, as often at a third of the pace and of the calls in flight: their share is known."""
    calls = Calls()
    assert not calls.proven([(10, 12.0, 12)] * 3)
    assert calls.proven([(10, 4.0, 4)] * 5)
    assert calls.chance.share == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "refusals",
    [
        pytest.param([(10, 12.0, 12)] * 100, id="always at the same pace"),
        pytest.param([(10, 12.0, 12)] * 3 + [(10, 4.0, 12)] * 100, id="as many in flight"),
        pytest.param([(10, 12.0, 12)] * 3 + [(10, 12.0, 4)] * 100, id="as fast"),
        pytest.param([(10, 12.0, 12)] * 3 + [(40, 4.0, 4)] * 100, id="few"),
        pytest.param([(10, 12.0, 12)] * 3 + [(10, 4.0, 4), (1, 4.0, 4)] * 100, id="two in a row"),
        pytest.param([(10, 12.0, 12)] * 3 + [(3, 4.0, 4)] * 100, id="a third"),
    ],
)
def test_what_may_be_a_limits_is_not_taken_for_chance(refusals: list[tuple[int, float, int]]) -> None:
    """A limit refuses no less at the same pace, or with as many in flight; seldom once it was found; or one by one."""
    assert not Calls().proven(refusals)


def test_what_was_sent_before_a_refusal_was_known_proves_nothing() -> None:
    """Calls overtake each other: refusals of a burst come out of order and look as if they stood alone."""
    calls = Calls()
    assert not calls.proven([(10, 12.0, 12)] * 3)
    for _ in range(20):
        calls.send(100, 4.0)
        burst = list(range(calls.number - 40, calls.number))
        random.Random(1).shuffle(burst)
        assert not any(calls.chance.refused(number, calls.now_s, 4) for number in burst)


def test_more_than_the_share_is_no_chance_and_the_next_proof_takes_twice_as_much() -> None:
    """A proof that soon fails makes the next one harder; one that held for long does not."""
    calls = Calls()

    def refusals_until_proven() -> int:
        assert not calls.proven([(10, 120.0, 120)] * 3)
        for count in range(1, 200):
            if calls.refuse(10, 4.0, 4):
                return count
        raise AssertionError("never proven")

    def fail() -> None:
        for _ in range(50):
            if not calls.chance.explains():
                break
            calls.send(1, 4.0)
        assert calls.chance.share == 0.0

    first = refusals_until_proven()
    fail()
    assert refusals_until_proven() >= 2 * PROOF - 3 > first  # the three before count as well
    for _ in range(LONG // 10):
        calls.send(10, 4.0)
        assert calls.chance.explains()
    fail()
    assert refusals_until_proven() == first
