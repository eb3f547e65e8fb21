"""The guard's proof and the pacer's evenness, against plain lists."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.flow.window import BUCKETS, BURST_S, Guard, Pacer, slack_s

AMOUNTS = st.one_of(st.just(1.0), st.floats(0.0, 40.0), st.integers(1, 100).map(float))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "send", "send", "send", "settle", "refuse"]),
        st.floats(0.0, 20.0),
        AMOUNTS,
        st.integers(0, 30),
    ),
    max_size=120,
)


def recount(guard: Guard) -> float:
    """The charge in the window, added up anew."""
    return math.fsum(bucket[1] for bucket in guard._buckets)


class Plain:
    """What the guard is held to: every charge by itself."""

    def __init__(self) -> None:
        self.sent: list[list[float]] = []

    def most(self, window_s: float) -> float:
        return max(
            (sum(q for t, q in self.sent if at < t + 1e-9 and t < at + window_s) for at, _ in self.sent), default=0.0
        )


@given(STEPS, st.sampled_from([60.0, 1.0, 10.0]), st.integers(40, 400))
def test_p1_no_window_holds_more_than_its_limit_refunds_included(
    steps: list[tuple[str, float, float, int]], window_s: float, limit: int
) -> None:
    """P1: whatever is sent, refunded and waited, no span of W + slack holds more than the limit; P4 at every step."""
    guard, plain, marks, now_s = Guard(window_s), Plain(), [], 0.0
    for what, wait_s, amount, which in steps:
        if what == "wait":
            now_s += wait_s
        elif what == "send":
            amount = min(amount, limit)  # noqa: PLW2901
            at_s = guard.earliest(now_s, amount, limit)
            if at_s > now_s:
                assert at_s <= now_s + guard.span_s + window_s / BUCKETS + 1e-6
                now_s = at_s
                assert guard.earliest(now_s, amount, limit) <= now_s  # P7: what it said is so
            marks.append((guard.add(now_s, amount), amount, len(plain.sent)))
            plain.sent.append([now_s, amount])
        elif marks:
            bucket, amount_was, index = marks.pop(which % len(marks))
            if what == "settle":
                less = amount_was * (which % 4) / 4
                guard.settle(now_s, bucket, -less)
                plain.sent[index][1] -= less
            else:
                guard.refuse(now_s, bucket, amount_was)
                guard.settle(now_s, bucket, -amount_was, accepted=False)
                plain.sent[index][1] = 0.0
        assert guard.charged == pytest.approx(recount(guard), abs=1e-6)
        assert guard.charged >= -1e-6
        assert -1e-6 <= guard.accepted <= guard.charged + 1e-6
    assert plain.most(guard.span_s) <= limit * (1 + 1e-9) + 1e-6


def test_p4_a_long_run_leaves_no_rounding_behind() -> None:
    """P4: after 100,000 fractional charges the sum is the sum, and nothing once all has left."""
    guard, now_s = Guard(60.0), 0.0
    for number in range(100_000):
        now_s += 0.013
        guard.add(now_s, 0.1 + (number % 7) / 3)
    assert guard.charged == pytest.approx(recount(guard), abs=1e-6)
    guard.expire(now_s + 100)
    assert guard.charged == guard.accepted == 0.0


def test_a_late_refund_is_dropped_and_a_late_surcharge_counts_now() -> None:
    """A refund of a charge that has left the window makes no room; a surcharge of it is charged when it is known."""
    guard = Guard(60.0)
    bucket = guard.add(0.0, 10.0)
    guard.settle(100.0, bucket, -10.0)
    assert guard.charged == 0.0
    guard.settle(100.0, bucket, 5.0)
    assert guard.charged == 5.0
    assert guard.earliest(100.0, 6.0, 10.0) == pytest.approx(160.6, abs=0.2)


def test_a_refund_goes_to_where_the_charge_was() -> None:
    """Room that a refund makes at once does not come again when the charge leaves the window."""
    guard = Guard(60.0)
    bucket = guard.add(0.0, 10.0)
    guard.settle(30.0, bucket, -4.0)
    assert guard.earliest(30.0, 4.0, 10.0) <= 30.0
    guard.add(30.0, 4.0)
    guard.expire(70.0)
    assert guard.charged == 4.0


def test_an_amount_over_the_limit_never_has_room() -> None:
    """Infinity for an amount that alone is larger than the limit."""
    guard = Guard(60.0)
    guard.add(0.0, 1.0)
    assert guard.earliest(1.0, 11.0, 10.0) == math.inf
    assert Guard(60.0).earliest(1.0, 11.0, 10.0) == math.inf


def test_memory_is_bounded() -> None:
    """A window keeps some 600 parts, whatever goes through it."""
    guard = Guard(60.0)
    for number in range(200_000):
        guard.add(number * 0.001, 1.0)
    assert len(guard._buckets) <= BUCKETS * guard.span_s / guard.window_s + 2


def test_the_best_window_of_the_last_three_is_remembered_and_then_forgotten() -> None:
    """What was let in within one window is proof for three windows, without what was refused."""
    guard = Guard(60.0)
    marks = [guard.add(i * 0.5, 1.0) for i in range(100)]
    for bucket in marks[90:]:
        guard.refuse(50.0, bucket, 1.0)
    for at_s in (60.0, 100.0, 200.0, 230.0):
        guard.expire(at_s)
        assert guard.best(at_s) == pytest.approx(90.0, abs=2)
    guard.expire(400.0)
    assert guard.best(400.0) == 0.0


def test_what_a_window_held_is_known_for_as_long_as_it_matters() -> None:
    """What was charged around a send is known until that send has left the window."""
    guard = Guard(60.0)
    for second in range(10):
        guard.add(float(second), 2.0)
    assert guard.most_at(4.0, 0.5) == 10.0
    assert guard.most_at(4.0, 2.0) == 14.0
    guard.add(66.0, 1.0)
    assert guard.most_at(4.0, 0.5) is None


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.1, 9.0)), min_size=2, max_size=150), st.floats(0.5, 50.0))
def test_the_pacer_keeps_its_pace(gaps: list[tuple[float, float]], rate: float) -> None:
    """In any interval at most rate * (t + burst) and two amounts, whatever the gaps between the asking."""
    pacer, now_s, sent = Pacer(), 0.0, []
    for gap_s, amount in gaps:
        now_s = max(now_s + gap_s, pacer.due_s - BURST_S)
        pacer.add(now_s, amount, rate)
        sent.append((now_s, amount))
    largest = max(amount for _, amount in sent)
    for first, (from_s, _) in enumerate(sent):
        total = 0.0
        for at_s, amount in sent[first:]:
            total += amount
            assert total <= rate * (at_s - from_s + BURST_S) + 2 * largest + 1e-6


def test_the_slack_of_short_windows_is_short() -> None:
    """Half a second of a minute, a fifth of a second, never more."""
    assert [slack_s(window_s) for window_s in (1.0, 10.0, 60.0, 86_400.0)] == [0.2, 0.2, 0.5, 0.5]
