"""Quantiles of any number of durations: exact enough, and able to forget."""

import math
import time
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.flow.quantiles import Quantiles


def of(seconds: list[float]) -> Quantiles:
    quantiles = Quantiles()
    for value in seconds:
        quantiles.add(value)
    return quantiles


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=300), st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_the_value_of_its_rank(seconds: list[float], share: float) -> None:
    """Within 2 % of what stands there in the sorted list."""
    exact = sorted(seconds)[max(1, math.ceil(share * len(seconds))) - 1]
    assert of(seconds).at(share) == pytest.approx(exact, rel=0.02)


def test_there_is_none_of_nothing() -> None:
    """Nor after all was forgotten."""
    quantiles = of([1.0])
    quantiles.fade()
    assert quantiles.count == 0
    assert quantiles.at(0.5) is None


@pytest.mark.parametrize("odd", [0.0, -5.0, 1e12, math.inf, math.nan])
def test_absurd_durations_fall_into_the_outer_bins(odd: float) -> None:
    """They raise nothing, and the answer is a time."""
    found = of([odd]).at(0.5)
    assert found is not None
    assert 0 < found < 100_000


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e4), min_size=2, max_size=300), st.sampled_from([0.25, 0.5, 0.9]))
def test_fading_halves_and_keeps_the_shape(seconds: list[float], share: float) -> None:
    """Half are left, and each quantile is that of a neighbouring rank."""
    quantiles, ordered = of(seconds), sorted(seconds)
    quantiles.fade()
    assert quantiles.count == len(seconds) // 2
    found = quantiles.at(share)
    assert found is not None
    rank = share * len(ordered)
    low, high = max(0, math.floor(rank) - 2), min(len(ordered) - 1, math.ceil(rank) + 2)
    assert ordered[low] * 0.97 <= found <= ordered[high] * 1.03


def test_new_ones_outweigh_old_ones_that_faded() -> None:
    """After a few times nothing is left of what was."""
    quantiles = of([1.0] * 1000)
    for _ in range(12):
        for _ in range(100):
            quantiles.add(50.0)
        quantiles.fade()
    assert quantiles.at(0.01) == pytest.approx(50, rel=0.02)


def test_adding_costs_little() -> None:
    """About a third of a microsecond where the machine is free."""
    quantiles = Quantiles()
    seconds = min(timeit.repeat(lambda: quantiles.add(1.5), number=5000, repeat=5, timer=time.process_time))
    assert seconds / 5000 < 5e-6
