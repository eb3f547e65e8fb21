"""When a run is given up: before a first success, after it, and for too many failed items."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.flow.patience import FailureRate, FirstSuccess, Outage


def fails(patience: FirstSuccess, at_s: float, *, of_endpoint: bool = True) -> bool:
    """A call that ends at once, as a failure."""
    patience.began()
    patience.ended(at_s)
    return patience.failure(at_s, of_endpoint=of_endpoint)


def test_patience_counts_from_the_first_failure() -> None:
    """Thirty seconds of failures are too many, unless a success came before."""
    patience = FirstSuccess(30)
    assert not fails(patience, 100)
    assert not fails(patience, 129.9)
    assert fails(patience, 130)
    patience.success()
    assert not fails(patience, 1000)


def test_patience_waits_for_calls_that_may_still_succeed() -> None:
    """A call that began before the first failure keeps the verdict open until it ends."""
    patience = FirstSuccess(30)
    patience.began()
    assert not fails(patience, 100)
    assert not fails(patience, 140)
    patience.ended(95)
    assert fails(patience, 141)


def test_after_answers_from_the_store_only_the_endpoint_can_be_at_fault() -> None:
    """Such a request has worked once: an item that never will fails by itself."""
    patience = FirstSuccess(30)
    patience.served()
    assert not fails(patience, 100, of_endpoint=False)
    assert not fails(patience, 200, of_endpoint=False)
    assert not fails(patience, 210)
    assert fails(patience, 240)


def test_without_patience_the_first_failure_is_too_many() -> None:
    """But an earlier call is waited for even then."""
    assert fails(FirstSuccess(0), 5)
    waits = FirstSuccess(0)
    waits.began()
    assert not fails(waits, 5)


def test_an_outage_is_waited_out_for_ten_minutes() -> None:
    """G11: then it is given up; an answer in between starts the time anew."""
    outage = Outage()
    outage.success()
    for at_s in range(100, 700, 3):
        assert not outage.failure(at_s)
    assert outage.since_s == 100
    outage.success()
    assert outage.since_s is None
    for at_s in range(700, 1300, 3):
        assert not outage.failure(at_s)
    assert outage.failure(1300)
    assert outage.failure(5000)


def test_before_a_first_success_it_is_no_outage() -> None:
    """That is for the other rule to say, sooner."""
    outage = Outage()
    for at_s in range(0, 5000, 10):
        assert not outage.failure(at_s)
    outage.success()
    assert not outage.failure(5000)
    assert outage.since_s == 5000


def test_two_failures_far_apart_are_no_outage() -> None:
    """A source that gives an item every ten minutes may see two fail at first; three in that time are one."""
    outage = Outage()
    outage.success()
    assert not outage.failure(0)
    assert not outage.failure(601)
    assert outage.failure(602)


def test_an_outage_waits_for_calls_that_may_still_succeed() -> None:
    """Calls of a quarter of an hour are not given up because a quick one failed."""
    outage = Outage()
    outage.success()
    for _ in range(4):
        outage.began()
    for at_s in (100, 400, 701, 750):
        outage.began()
        outage.ended(at_s - 1)
        assert not outage.failure(at_s)
    for _ in range(4):
        outage.ended(50)
    assert outage.failure(800)


def test_time_standing_still_is_no_outage() -> None:
    """Any number of failures in one moment say nothing."""
    outage = Outage()
    outage.success()
    assert not any(outage.failure(7.0) for _ in range(10_000))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["ok", "failed", "later", "began", "ended"]), st.floats(0, 400)), max_size=80)
)
def test_an_outage_is_never_shorter_than_its_patience(story: list[tuple[str, float]]) -> None:
    """Whatever happens, it gives up only where nothing but failures came for ten minutes, after a success."""
    outage, now_s, last_ok_s, flying = Outage(), 0.0, math.inf, []
    first_failed_s: float | None = None
    for what, seconds in story:
        if what == "later":
            now_s += seconds
        elif what == "began":
            outage.began()
            flying.append(now_s)
        elif what == "ended" and flying:
            outage.ended(flying.pop(0))
        elif what == "ok":
            outage.success()
            last_ok_s, first_failed_s = now_s, None
        elif what == "failed":
            if last_ok_s < math.inf and first_failed_s is None:
                first_failed_s = now_s
            if outage.failure(now_s):
                assert first_failed_s is not None
                assert now_s - first_failed_s >= 600
                assert not [start_s for start_s in flying if start_s < first_failed_s]


def test_too_many_failed_items_stop_a_run() -> None:
    """T10: past the share that the user allows, from twenty items on, with figures to say."""
    rate = FailureRate(0.1)
    assert not any(rate.add(ok=False) for _ in range(19))
    assert rate.add(ok=False)
    assert rate.said == "20 of 20 items"
    assert rate.most == 0.1


@pytest.mark.parametrize("most", [0.05, 0.07, 0.1, 0.29, 1 / 3, 0.5, 0.999])
def test_exactly_what_is_allowed_is_allowed(most: float) -> None:
    """One more is not."""
    rate = FailureRate(most)
    allowed = round(most * 3000)
    for _ in range(3000 - allowed):
        assert not rate.add(ok=True)
    for _ in range(allowed - 1):
        assert not rate.add(ok=False)
    assert not rate.add(ok=False)
    many = [rate.add(ok=False) for _ in range(1000)]
    assert any(many)


def test_where_none_may_fail_the_first_is_one_too_many() -> None:
    """Whatever comes after, its share cannot be none again."""
    rate = FailureRate(0)
    assert not rate.add(ok=True)
    assert rate.add(ok=False)
    assert rate.said == "1 of 2 items"


def test_where_all_may_fail_nothing_stops() -> None:
    """A share of 1 is never passed."""
    rate = FailureRate(1)
    assert not any(rate.add(ok=False) for _ in range(1000))


def test_what_came_from_the_store_is_not_counted() -> None:
    """Neither for nor against: a rerun over a thousand good answers still sees that all the rest fails."""
    rate = FailureRate(0.5)
    for _ in range(1000):
        assert not rate.add(ok=True, cached=True)
        assert not rate.add(ok=False, cached=True)
    assert [rate.add(ok=False) for _ in range(20)] == [False] * 19 + [True]
    assert rate.said == "20 of 20 items"


@pytest.mark.parametrize("most", [-0.1, 1.1, 5, math.nan, math.inf])
def test_a_rate_that_cannot_be_is_refused(most: float) -> None:
    """It is a share from none to all."""
    with pytest.raises(UsageError, match="cannot be allowed"):
        FailureRate(most)
