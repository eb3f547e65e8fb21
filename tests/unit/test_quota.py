"""The limits of the simulated provider: each kind of window against its formula, and several limits together."""

import math
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.core.limits import Unit
from headrace.provider.limiter import SLACK_S, Bucket, Fixed, Limiter, Sliding, Trace
from headrace.provider.quota import UNITS, Quota, Quotas

MANY = max(30, int(400 * float(os.environ.get("HEADRACE_SCALE", "0.1"))))
Arrivals = list[tuple[float, float]]

steps = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(0.0, 40.0)), st.one_of(st.just(1.0), st.integers(0, 60).map(float))),
    min_size=1,
    max_size=120,
)
"""Seconds since the arrival before, and an amount."""


def times(steps: Arrivals, begin_s: float = 0.0) -> Arrivals:
    """The same with times since the beginning."""
    made, now_s = [], begin_s
    for pause_s, amount in steps:
        now_s += pause_s
        made.append((now_s, amount))
    return made


def greedy(limiter: Limiter, arrivals: Arrivals) -> Arrivals:
    """What is let in where everything that fits is taken."""
    admitted = []
    for now_s, amount in arrivals:
        if amount <= limiter.remaining(now_s):
            limiter.take(now_s, amount)
            admitted.append((now_s, amount))
    return admitted


# One window.


@given(steps, st.integers(1, 100), st.floats(0.5, 90))
@settings(max_examples=MANY, deadline=None)
def test_sliding_never_admits_more_than_its_limit_in_any_window(steps: Arrivals, limit: int, window_s: float) -> None:
    """Every half-open interval as long as the window holds at most the limit; and what was refused did not fit."""
    arrivals = times(steps)
    admitted = greedy(Sliding(limit, window_s), arrivals)
    for end_s, _ in admitted:
        assert sum(amount for at_s, amount in admitted if end_s - window_s + SLACK_S < at_s <= end_s) <= limit
    let_in: Arrivals = []
    for now_s, amount in arrivals:
        used = sum(each for at_s, each in let_in if at_s > now_s - window_s + SLACK_S)
        if used + amount <= limit:
            let_in.append((now_s, amount))
    assert let_in == admitted


@given(steps, st.integers(1, 100), st.floats(0.5, 90), st.floats(0, 1, exclude_max=True))
@settings(max_examples=MANY, deadline=None)
def test_fixed_admits_its_limit_in_each_of_its_windows(
    steps: Arrivals, limit: int, window_s: float, share: float
) -> None:
    """Counted from the phase, each window holds at most the limit, and all of it is there as the next one begins."""
    phase_s = share * window_s
    admitted = greedy(Fixed(limit, window_s, phase_s), times(steps))
    sums: dict[float, float] = {}
    for at_s, amount in admitted:
        number = (at_s - phase_s + SLACK_S) // window_s
        sums[number] = sums.get(number, 0.0) + amount
    assert all(each <= limit for each in sums.values())
    fixed = Fixed(limit, 10.0, 3.0)
    fixed.take(12.5, limit)
    assert fixed.wait_s(12.5, 1) == fixed.reset_s(12.5) == 0.5
    assert fixed.remaining(13.0) == limit


@given(steps, st.integers(1, 100), st.floats(0.5, 90), st.integers(1, 50))
@settings(max_examples=MANY, deadline=None)
def test_a_bucket_admits_its_rate_and_its_capacity(steps: Arrivals, limit: int, window_s: float, capacity: int) -> None:
    """In any t seconds at most rate x t + capacity; a bucket of one per beat takes them at that beat and not faster."""
    bucket = Bucket(limit, window_s, capacity)
    admitted = greedy(bucket, times(steps))
    for first, (begin_s, _) in enumerate(admitted):
        total = 0.0
        for at_s, amount in admitted[first:]:
            total += amount
            assert total <= limit / window_s * (at_s - begin_s + 2 * SLACK_S) + capacity + 1e-6
    beat = Bucket(60, 60, 1)
    assert greedy(beat, [(each / 2, 1.0) for each in range(20)]) == [(float(each), 1.0) for each in range(10)]


@given(
    steps,
    st.integers(1, 100),
    st.floats(0.5, 90),
    st.sampled_from(["sliding", "fixed", "bucket"]),
    st.integers(1, 120),
)
@settings(max_examples=MANY, deadline=None)
def test_a_wait_is_as_long_as_it_says(steps: Arrivals, limit: int, window_s: float, kind: str, amount: int) -> None:
    """After the wait it fits, shortly before it does not; infinity exactly where it can never fit; full after a reset."""
    makers: dict[str, Limiter] = {
        "sliding": Sliding(limit, window_s), "fixed": Fixed(limit, window_s), "bucket": Bucket(limit, window_s, 30),
    }  # fmt: skip
    limiter = makers[kind]
    arrivals = times(steps)
    greedy(limiter, arrivals)
    now_s = arrivals[-1][0]
    wait_s = limiter.wait_s(now_s, amount)
    assert (wait_s == 0) == (amount <= limiter.remaining(now_s))
    assert math.isinf(wait_s) == (amount > limiter.most)
    reset_s = limiter.reset_s(now_s)
    if 1e-3 < wait_s < math.inf:
        assert limiter.remaining(now_s + wait_s - 2e-6 - wait_s * 1e-6) < amount
        assert wait_s <= reset_s + 1e-6
    if wait_s < math.inf:
        assert limiter.remaining(now_s + wait_s + 1e-6) >= amount
    assert limiter.remaining(now_s + max(reset_s, wait_s if wait_s < math.inf else 0) + 1e-5) >= limiter.most - 1e-3


@given(steps, st.floats(0.5, 90))
@settings(max_examples=MANY, deadline=None)
def test_a_trace_knows_the_largest_sum_of_any_window(steps: Arrivals, window_s: float) -> None:
    """`most` and `used` are what a plain sum over all entries finds."""
    arrivals, trace = times(steps), Trace(window_s)
    for now_s, amount in arrivals:
        trace.add(now_s, amount)
    sums = [
        sum(amount for at_s, amount in arrivals[: last + 1] if at_s > now_s - window_s + SLACK_S)
        for last, (now_s, _) in enumerate(arrivals)
    ]
    assert trace.most == max(sums)
    assert trace.used(arrivals[-1][0]) == sums[-1]
    assert trace.used(arrivals[-1][0] + window_s) == 0


def test_a_trace_forgets() -> None:
    """Of a long run only the entries of one window are kept, more or less."""
    trace = Trace(1.0)
    for beat in range(200_000):
        trace.add(beat / 1000, 1.0)
    assert trace.most == trace.used(199.999) == 1000
    assert len(trace._times) <= 4096


def test_a_limit_changes() -> None:
    """What was charged stays charged; a bucket fills at the old rate until then and at the new one after."""
    sliding = Sliding(10, 60)
    sliding.take(0, 8)
    sliding.change(1, 5)
    assert (sliding.remaining(1), sliding.wait_s(1, 1), sliding.remaining(60)) == (-3, 59, 5)
    fixed = Fixed(10, 60)
    fixed.take(0, 8)
    fixed.change(1, 20)
    assert (fixed.remaining(1), fixed.remaining(60)) == (12, 20)
    bucket = Bucket(60, 60, 20)
    bucket.take(0, 20)
    bucket.change(5, 120)
    assert bucket.remaining(7) == pytest.approx(5 + 4)
    whole = Bucket(60, 60)
    whole.change(0, 30)
    assert whole.remaining(100) == pytest.approx(30)


# Words.


def test_limits_are_read() -> None:
    """Unit, number and window, then what else there is to say; a capacity alone makes a bucket."""
    assert Quota.parse("requests=1200/60,kind=bucket,capacity=20") == Quota(
        unit=Unit.REQUESTS, limit=1200, kind="bucket", capacity=20
    )
    assert Quota.parse("requests=20/1,capacity=5").kind == "bucket"
    assert Quota.parse("tokens=2e5,charge=sum") == Quota(unit=Unit.TOKENS, limit=200_000, charge="sum")
    assert Quota.parse("requests=600/10,kind=fixed,phase=3,refused=counted") == Quota(
        unit=Unit.REQUESTS, limit=600, window_s=10, kind="fixed", phase_s=3, counts_refused=True
    )
    assert Quota.parse("concurrency=37") == Quota(unit=Unit.CONCURRENCY, limit=37)
    assert {Quota.parse(f"{word}=5").unit for word in UNITS} == set(Unit)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not one limit"),
        ("kind=bucket", "is not one limit"),
        ("requests=5,tokens=5", "is not one limit"),
        ("calls=5", "does not know 'calls=5'"),
        ("requests", "does not know"),
        ("requests=many", "is no number"),
        ("requests=60/minute", "is no number"),
        ("requests=0", "allows no call"),
        ("requests=-5", "allows no call"),
        ("requests=nan", "allows no call"),
        ("requests=inf", "allows no call"),
        ("requests=5/0", "window of 0 s"),
        ("requests=5/-1", "window of -1 s"),
        ("requests=5/nan", "window of nan s"),
        ("requests=5,kind=leaky", "kind=leaky is not known"),
        ("requests=5,kind=sliding,capacity=5", "cannot have capacity=5"),
        ("requests=5,capacity=0.5", "cannot have capacity=0.5"),
        ("requests=5,phase=3", "cannot have phase=3"),
        ("requests=5,kind=fixed,phase=60", "cannot have phase=60"),
        ("requests=5,charge=usage", "takes no charge"),
        ("tokens=5,charge=later", "charge=later is not known"),
        ("tokens=5,refused=maybe", "refused=maybe is not known"),
        ("concurrency=5/60", "takes no window"),
        ("concurrency=5,kind=fixed", "takes no kind"),
        ("concurrency=2.5", "is no whole number"),
        ("requests=5,requests=6", "given twice"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, said: str) -> None:
    """One clear sentence, with a hint."""
    with pytest.raises(UsageError, match=said) as caught:
        Quota.parse(text)
    assert caught.value.hint


# What a call is charged.


@pytest.mark.parametrize(
    ("text", "most_output", "before", "after"),
    [
        ("requests=5", 50, 1, 0),
        ("tokens=5", 0, 30, 0),
        ("tokens=5", 20, 30, 0),
        ("tokens=5", 50, 50, 0),
        ("tokens=5,charge=sum", 50, 80, 0),
        ("tokens=5,charge=usage", 50, 30, 7),
        ("input_tokens=5", 50, 30, 0),
        ("output_tokens=5", 50, 50, 0),
        ("output_tokens=5,charge=usage", 50, 0, 7),
    ],
)
def test_charges(text: str, most_output: int, before: float, after: float) -> None:
    """By admission the larger of input and maximum output, or both; for usage the input first and the output later."""
    quota = Quota.parse(text)
    assert (quota.admission(30, most_output), quota.afterwards(7)) == (before, after)


def test_usage_may_pass_a_limit_and_is_a_debt_then() -> None:
    """Output that was not known of is charged afterwards; until the debt is gone nothing is let in."""
    quotas = Quotas([Quota.parse("tokens=100/60,charge=usage")])
    assert quotas.admit(0, 0, 10) is None
    quotas.produced(1, 500)
    refusal = quotas.admit(2, 0, 10)
    assert refusal is not None
    assert (refusal.used, refusal.requested, refusal.wait_s) == (510, 10, 59)
    assert quotas.levels(2)[0].remaining == 0
    assert quotas.admit(61, 0, 10) is None


# Several limits.


def test_a_refused_call_is_charged_nowhere() -> None:
    """Where one limit refuses, the others are as before; the refusal names the one that takes longest."""
    quotas = Quotas([Quota.parse("requests=2/10"), Quota.parse("tokens=100/60")])
    assert quotas.admit(0, 0, 90) is None
    refusal = quotas.admit(0, 0, 20)
    assert refusal is not None
    assert (refusal.unit, refusal.limit, refusal.used, refusal.requested, refusal.wait_s) == (
        Unit.TOKENS, 100, 90, 20, 60,
    )  # fmt: skip
    assert [level.remaining for level in quotas.levels(0)] == [1, 10]
    assert quotas.admit(0, 0, 10) is None
    refusal = quotas.admit(0, 0, 1)
    assert refusal is not None
    assert (refusal.unit, refusal.wait_s) == (Unit.TOKENS, 60)


def test_a_call_larger_than_a_limit_is_told_that_it_never_fits() -> None:
    """Its wait is infinite, and the limit that is named is what a bucket can hold at all."""
    refusal = Quotas([Quota.parse("tokens=1000/60,capacity=50")]).admit(0, 0, 51)
    assert refusal is not None
    assert (refusal.limit, refusal.wait_s) == (50, math.inf)


@pytest.mark.parametrize("kind", ["sliding", "fixed", "bucket"])
def test_refusals_that_count_keep_a_stubborn_client_out(kind: str) -> None:
    """Hammering gets less than patience does; but the debt has an end, and silence heals it."""
    counted = Quotas([Quota.parse(f"requests=10/10,kind={kind},refused=counted")])
    free = Quotas([Quota.parse(f"requests=10/10,kind={kind}")])
    beats = [beat / 10 for beat in range(1000)]
    got = [sum(each.admit(now_s, 0, 1) is None for now_s in beats) for each in (counted, free)]
    if kind == "fixed":
        assert got == [100, 100]  # a window that is full is full, however often one asks
    else:
        assert got[0] <= 20
        assert got[1] >= 95
    assert counted.levels(99.9)[0].remaining == 0
    assert counted.admit(120.0, 0, 1) is None


def test_calls_in_flight() -> None:
    """As many as there are places, told without a wait; a rate that refuses too is the one named."""
    quotas = Quotas([Quota.parse("concurrency=2"), Quota.parse("requests=3/60")])
    assert quotas.admit(0, 0, 1) is None
    assert quotas.admit(0, 1, 1) is None
    refusal = quotas.admit(0, 2, 1)
    assert refusal is not None
    assert (refusal.unit, refusal.limit, refusal.wait_s) == (Unit.CONCURRENCY, 2, None)
    assert quotas.admit(0, 1, 1) is None
    refusal = quotas.admit(0, 2, 1)
    assert refusal is not None
    assert refusal.unit is Unit.REQUESTS
    quotas.change(0, Unit.CONCURRENCY, 1)
    assert quotas.slots == 1


@given(steps, st.integers(1, 30), st.integers(1, 200))
@settings(max_examples=MANY, deadline=None)
def test_the_books_say_what_came_and_what_was_let_in(steps: Arrivals, requests: int, tokens: int) -> None:
    """The most admitted in any window is at most the limit, the most asked for is what came; a reset empties all."""
    quotas = Quotas([Quota(unit=Unit.REQUESTS, limit=requests), Quota(unit=Unit.TOKENS, limit=tokens, window_s=10.0)])
    refused = sum(quotas.admit(now_s, 0, int(amount)) is not None for now_s, amount in times(steps))
    calls, charged = quotas.as_json()
    asked = Trace(60.0)
    for now_s, _ in times(steps):
        asked.add(now_s, 1)
    assert calls["most_admitted"] <= requests
    assert charged["most_admitted"] <= tokens
    assert calls["most_asked"] == asked.most
    assert max(calls["refused"], charged["refused"]) <= refused <= calls["refused"] + charged["refused"]
    quotas.reset()
    empty: dict[str, Any] = quotas.as_json()[0]
    assert (empty["most_asked"], empty["most_admitted"], empty["refused"]) == (0, 0, 0)
