"""Retries: how long after a failure, how often, and how many a run may make in all."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError, Verdict
from headrace.flow.retry import Retry, RetryBudget


def pause_s(
    verdict: Verdict,
    *,
    retry: Retry = Retry(),
    failures: int = 1,
    refusals: int = 0,
    waited_s: float = 0.0,
    governed: bool = False,
    hint_s: float | None = None,
    draw: float = 0.5,
) -> float | None:
    return retry.pause_s(
        verdict,
        failures=failures,
        refusals=refusals,
        waited_s=waited_s,
        governed=governed,
        hint_s=hint_s,
        chance=lambda: draw,
    )


@pytest.mark.parametrize(("failures", "most_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0)])
def test_backoff_is_full_jitter_that_doubles(failures: int, most_s: float) -> None:
    """A pause is drawn from zero to a bound that doubles with each failure."""
    assert pause_s(Verdict.RETRY, failures=failures, draw=0.0) == 0.0
    assert pause_s(Verdict.RETRY, failures=failures, draw=0.5) == most_s / 2


def test_attempts_are_counted_for_the_calls_own_faults_only() -> None:
    """Five failures are enough; a thousand refusals are not counted, but ten minutes of them are enough."""
    assert pause_s(Verdict.RETRY, failures=5) is None
    assert pause_s(Verdict.BACK_OFF, failures=4, refusals=1000) == 15.0
    assert pause_s(Verdict.BACK_OFF, refusals=1, waited_s=600) is None
    assert pause_s(Verdict.RETRY, retry=Retry(attempts=1)) is None


@given(st.integers(0, 10_000), st.floats(0, 0.999), st.floats(0, 500) | st.none())
def test_a_hint_is_the_floor_and_the_cap_the_bound(refusals: int, draw: float, hint_s: float | None) -> None:
    """Retry-After is never violated; jitter never passes 30 s."""
    wait_s = pause_s(Verdict.BACK_OFF, refusals=refusals, hint_s=hint_s, draw=draw)
    assert wait_s is not None
    assert (hint_s or 0) <= wait_s <= (hint_s or 0) + 30


@pytest.mark.parametrize("hint_s", [-5.0, math.nan])
def test_a_senseless_hint_is_none(hint_s: float) -> None:
    """No pause is negative, or no number."""
    assert pause_s(Verdict.BACK_OFF, refusals=1, hint_s=hint_s) == 0.25


def test_where_the_gate_decides_there_is_no_pause() -> None:
    """A refused call waits in the queue, not on its own; the bounds on trying again hold all the same."""
    assert pause_s(Verdict.BACK_OFF, refusals=30, governed=True, draw=0.9) == 0.0
    assert pause_s(Verdict.RETRY, failures=4, governed=True, draw=0.9) == 0.0
    assert pause_s(Verdict.BACK_OFF, refusals=1, waited_s=600, governed=True) is None
    assert pause_s(Verdict.RETRY, failures=5, governed=True) is None


@pytest.mark.parametrize("verdict", [Verdict.FAIL_ITEM, Verdict.STOP_RUN, Verdict.LEAVE_PENDING])
@pytest.mark.parametrize("governed", [True, False])
def test_other_verdicts_are_never_retried(verdict: Verdict, governed: bool) -> None:
    """Only RETRY and BACK_OFF are tried again (P14)."""
    assert pause_s(verdict, failures=0, governed=governed) is None


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Retry(attempts=0),
        lambda: Retry(attempts=-3),
        lambda: Retry(base_s=-1),
        lambda: Retry(base_s=math.nan),
        lambda: Retry(cap_s=math.inf),
        lambda: Retry(cap_s=0.1),
        lambda: Retry(base_s=31),
        lambda: Retry(patience_s=-1),
        lambda: Retry(patience_s=math.nan),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: Callable[[], Retry]) -> None:
    """Negative, endless, unordered or empty ones get a sentence and a hint."""
    with pytest.raises(UsageError) as caught:
        bad()
    assert caught.value.message.endswith(".")
    assert caught.value.hint.endswith(".")


@given(st.floats(0, 1e300), st.floats(0, 1e300), st.integers(1, 10**9))
def test_huge_settings_make_no_senseless_pause(base_s: float, more_s: float, failures: int) -> None:
    """Any base and cap give a finite pause within the cap."""
    retry = Retry(attempts=10**10, base_s=base_s, cap_s=base_s + more_s)
    wait_s = pause_s(Verdict.RETRY, retry=retry, failures=failures, draw=0.0)
    assert wait_s == 0.0
    wait_s = pause_s(Verdict.RETRY, retry=retry, failures=failures, draw=0.999)
    assert wait_s is not None
    assert wait_s <= base_s + more_s


def test_a_budget_starts_with_twenty_and_refills_with_time() -> None:
    """After twenty retries one more goes every ten seconds."""
    budget, now_s = RetryBudget(), 1000.0
    for _ in range(20):
        assert budget.earliest(now_s) <= now_s
        budget.withdraw(now_s)
    for _ in range(50):
        at_s = budget.earliest(now_s)
        assert at_s == pytest.approx(now_s + 10)
        budget.withdraw(at_s)
        now_s = at_s


def test_five_answers_pay_for_a_retry() -> None:
    """And no more than a hundred are ever saved up."""
    budget = RetryBudget()
    for _ in range(20):
        budget.withdraw(5.0)
    for number in range(100):
        for _ in range(5):
            assert budget.earliest(5.0) > 5.0, number
            budget.deposit()
        assert budget.earliest(5.0) == 5.0
        budget.withdraw(5.0)
    for _ in range(10_000):
        budget.deposit()
    assert budget.left(5.0) == 100
    assert budget.left(1e12) == 100
    assert repr(budget) == "<RetryBudget 100.0/100>"


def test_a_clock_that_steps_back_creates_nothing() -> None:
    """Time gives no retries twice."""
    budget = RetryBudget()
    for _ in range(20):
        budget.withdraw(100.0)
    budget.withdraw(110.0)
    budget.withdraw(0.0)
    assert budget.left(110.0) <= 0


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 400), st.floats(0, 1), st.floats(0, 3), st.integers(0, 2**32), st.floats(0, 1e6))
def test_p15_calls_stay_within_the_budget(
    items: int, failing: float, latency_s: float, seed: int, start_s: float
) -> None:
    """P15: at most 1.2 calls an item, 20, and one every ten seconds, at every moment; and it never deadlocks."""
    chance, budget = random.Random(seed), RetryBudget()
    now_s, calls, given_up = start_s, 0, 0
    for done in range(items):
        attempts = 0
        while True:
            if attempts:
                at_s = budget.earliest(now_s)
                assert now_s <= at_s <= now_s + 10.1
                now_s = at_s
                assert budget.earliest(now_s) <= now_s + 1e-6
                budget.withdraw(now_s)
            attempts, calls = attempts + 1, calls + 1
            now_s += latency_s
            assert calls <= 1.2 * (done + 1) + 20 + (now_s - start_s) / 10 + 1e-6
            if chance.random() >= failing:
                budget.deposit()
                break
            if attempts == 5:
                given_up += 1
                break
    assert calls <= 1.2 * items + 20 + (now_s - start_s) / 10 + 1e-6
    assert given_up == 0 or failing > 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["answer", "retry", "wait"]), st.floats(0, 100)), max_size=300))
def test_p15_holds_for_any_story(story: list[tuple[str, float]]) -> None:
    """P15: whatever comes in whatever order, retries are within a fifth of the answers, 20 and a tenth of the time."""
    budget, now_s, answers, retries = RetryBudget(), 0.0, 0, 0
    for what, seconds in story:
        if what == "answer":
            answers += 1
            budget.deposit()
        elif what == "wait":
            now_s += seconds
        elif budget.earliest(now_s) <= now_s:
            retries += 1
            budget.withdraw(now_s)
        assert retries <= 0.2 * answers + 20 + now_s / 10 + 1e-3
        assert budget.earliest(now_s) <= now_s + 10.1
