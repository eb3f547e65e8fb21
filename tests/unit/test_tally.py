"""The tally: figures from events, checked by hand-made stories and by generated ones."""

import math
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.event import CallEnded, CallStarted, Event, Held, ItemsRead, RunEnded, RunStarted, Settled, Stopping
from headrace.core.item import Failure, Outcome
from headrace.engine.tally import Quantiles, Tally


def outcome(
    position: int = 0,
    *,
    cached: bool = False,
    attempts: int = 1,
    error: Failure | None = None,
    tokens: tuple[int, int] | None = None,
) -> Outcome:
    """An outcome with just what the tally looks at."""
    return Outcome(
        key=f"k{position}",
        position=position,
        item=None,
        cached=cached,
        attempts=0 if cached else attempts,
        error=error,
        input_tokens=tokens[0] if tokens else None,
        output_tokens=tokens[1] if tokens else None,
    )


def tally_of(*events: Event, total: int | None = None, at_s: float = 0.0) -> Tally:
    """A started run that met these events."""
    tally = Tally()
    tally.add(RunStarted(at_s, "r1", "calls", "calls.csv", total, 10))
    for event in events:
        tally.add(event)
    return tally


def asked(tally: Tally, at_s: float, count: int = 1) -> None:
    """So many items read, called and settled at this moment."""
    tally.add(ItemsRead(at_s, count))
    for _ in range(count):
        tally.add(CallStarted(at_s, 1))
        tally.add(CallEnded(at_s, 0.5, ""))
    tally.add(Settled(at_s, tuple(outcome() for _ in range(count))))


def stored(tally: Tally, at_s: float, count: int) -> None:
    """So many items read and settled from the store."""
    tally.add(ItemsRead(at_s, count))
    tally.add(Settled(at_s, tuple(outcome(cached=True) for _ in range(count))))


def test_nothing_happened_yet() -> None:
    """Before its first event a tally answers with zeros and the state 'starting'."""
    snapshot = Tally().snapshot(5.0)
    assert snapshot.state == "starting"
    assert (snapshot.done, snapshot.pending, snapshot.rate, snapshot.eta_s, snapshot.p50_s) == (0, 0, 0.0, None, None)


def test_counts_of_a_short_story() -> None:
    """Read, called, retried, answered and failed items come out in the right figures."""
    bad = Failure("timeout", "No answer within 30 s.", "Raise --timeout.")
    snapshot = tally_of(
        ItemsRead(0.1, 4),
        CallStarted(0.2, 1),
        CallStarted(0.2, 1),
        CallEnded(0.5, 0.3, "throttled"),
        CallStarted(0.9, 2),
        CallEnded(1.0, 0.1, ""),
        Settled(
            1.0,
            (
                outcome(0, tokens=(100, 7)),
                outcome(1, cached=True, tokens=(50, 50)),
                outcome(2, error=bad, tokens=(10, 0)),
            ),
        ),
        total=10,
    ).snapshot(2.0)
    assert (snapshot.read, snapshot.ok, snapshot.failed, snapshot.cached, snapshot.pending) == (4, 2, 1, 1, 7)
    assert (snapshot.calls, snapshot.retries, snapshot.in_flight, snapshot.most_in_flight) == (3, 1, 1, 2)
    assert (snapshot.input_tokens, snapshot.output_tokens) == (110, 7)
    assert snapshot.call_errors == {"throttled": 1}
    assert snapshot.seconds == 2.0
    assert snapshot.concurrency == 10


def test_failures_are_grouped_with_the_first_message_and_few_keys() -> None:
    """A kind keeps the message and hint of its first failure and the keys of its first few."""
    tally = tally_of()
    for position in range(100):
        kind = "answer" if position % 4 == 0 else "timeout"
        tally.add(Settled(1.0, (outcome(position, error=Failure(kind, f"message {position}", "do this")),)))
    groups = tally.snapshot(2.0).failures
    assert [(g.kind, g.count, g.message) for g in groups] == [("timeout", 75, "message 1"), ("answer", 25, "message 0")]
    assert groups[0].keys == ("k1", "k2", "k3", "k5", "k6")
    assert groups[0].hint == "do this"


def test_a_source_that_grew_is_not_negative() -> None:
    """More items than the source announced raise the total, never a negative count of pending ones."""
    snapshot = tally_of(ItemsRead(0.0, 8), Settled(1.0, tuple(outcome(i) for i in range(6))), total=5).snapshot(1.0)
    assert (snapshot.total, snapshot.pending) == (8, 2)


def test_unknown_total_counts_what_was_read() -> None:
    """Where the source cannot tell its size, pending is what was read and has no outcome; there is no ETA."""
    tally = tally_of(ItemsRead(0.0, 30))
    for second in range(1, 20):
        asked(tally, float(second))
    snapshot = tally.snapshot(20.0)
    assert (snapshot.total, snapshot.pending, snapshot.eta_s) == (None, 30, None)


def test_hold_shows_until_it_is_over() -> None:
    """A hold is told with the seconds left; a shorter one does not replace it; afterwards it is gone."""
    tally = tally_of(Held(10.0, 40.0, "429"), Held(11.0, 20.0, "shorter"))
    hold = tally.snapshot(28.0).hold
    assert hold is not None
    assert (hold.reason, hold.wait_s) == ("429", 12.0)
    assert tally.snapshot(40.0).hold is None
    tally.add(Held(41.0, math.inf, "an outage"))
    forever = tally.snapshot(50.0).hold
    assert forever is not None
    assert forever.wait_s == math.inf


def test_states_in_order() -> None:
    """Running, stopping with its reason, ended with status and reason; time stands still after the end."""
    tally = tally_of(total=10)
    assert tally.snapshot(1.0).state == "running"
    tally.add(Stopping(2.0, "quota gone"))
    assert (tally.snapshot(2.0).state, tally.snapshot(2.0).reason) == ("stopping", "quota gone")
    tally.add(RunEnded(4.0, "stopped", ""))
    snapshot = tally.snapshot(100.0)
    assert (snapshot.state, snapshot.status, snapshot.reason) == ("ended", "stopped", "quota gone")
    assert (snapshot.seconds, snapshot.eta_s, snapshot.hold) == (4.0, None, None)


def test_rate_of_a_fast_run_follows_the_last_seconds() -> None:
    """A run that slows down from 100 to 10 items/s shows 10 once the last ten seconds are slow."""
    tally = tally_of(total=10_000)
    for tick in range(300):
        asked(tally, tick * 0.1, 10)
    assert tally.snapshot(30.0).rate == pytest.approx(100, rel=0.05)
    for tick in range(15):
        asked(tally, 30.0 + tick, 10)
    assert tally.snapshot(45.0).rate == pytest.approx(10, rel=0.15)


def test_rate_of_a_slow_run_is_not_zero_between_items() -> None:
    """One item every 20 s is 0.05 items/s, also in the seconds between two of them."""
    tally = tally_of(total=100)
    for index in range(1, 12):
        asked(tally, index * 20.0)
    for now_s in (221.0, 230.0, 239.0):
        assert tally.snapshot(now_s).rate == pytest.approx(0.05, rel=0.25)


def test_rate_falls_in_an_outage() -> None:
    """When nothing settles any more the rate sinks instead of staying at its last good value."""
    tally = tally_of(total=10_000)
    for tick in range(100):
        asked(tally, tick * 0.1, 5)
    assert tally.snapshot(60.0).rate < 3


def test_eta_of_a_steady_run() -> None:
    """At 5 items/s, 500 items left take about 100 s."""
    tally = tally_of(total=600)
    for tick in range(100):
        asked(tally, tick * 0.2)
    assert tally.snapshot(20.0).eta_s == pytest.approx(100, rel=0.1)


def test_eta_says_nothing_before_it_means_something() -> None:
    """No ETA without calls, in the first seconds, or while the run stops; zero when nothing is left."""
    tally = tally_of(total=100)
    assert tally.snapshot(1.0).eta_s is None
    stored(tally, 1.0, 50)
    assert tally.snapshot(2.0).eta_s is None
    asked(tally, 2.0, 20)
    assert tally.snapshot(2.5).eta_s is None
    asked(tally, 6.0, 20)
    assert tally.snapshot(6.5).eta_s is not None
    tally.add(Stopping(7.0, "Ctrl-C"))
    assert tally.snapshot(7.0).eta_s is None
    asked(tally, 8.0, 10)
    assert tally.snapshot(8.0).eta_s == 0.0


def test_eta_of_a_resume_is_not_fooled_by_the_store() -> None:
    """900 items come from the store at once, 100 take 0.2 s each: the ETA is of the slow ones from the start."""
    tally = tally_of(total=1_000)
    for tick in range(9):
        stored(tally, tick * 0.05, 100)
    for tick in range(1, 101):
        now_s = 0.5 + tick * 0.2
        asked(tally, now_s)
        eta_s = tally.snapshot(now_s).eta_s
        if eta_s is not None:
            assert eta_s == pytest.approx((100 - tick) * 0.2, rel=0.3, abs=0.5)
    assert tally.snapshot(20.5).eta_s == 0.0


def test_eta_of_a_resume_with_the_failed_ones_in_between() -> None:
    """Every tenth item needs a call: the ETA does not charge the time of a call for the other nine."""
    tally = tally_of(total=2_000)
    for tick in range(100):
        asked(tally, tick * 0.2)
        stored(tally, tick * 0.2 + 0.1, 9)
    assert tally.snapshot(20.0).eta_s == pytest.approx(20, rel=0.3)


def test_eta_waits_for_a_hold() -> None:
    """A hold of a minute is part of the time that is left."""
    tally = tally_of(total=200)
    for tick in range(100):
        asked(tally, tick * 0.2)
    before = tally.snapshot(20.0).eta_s
    tally.add(Held(20.0, 80.0, "slow down"))
    after = tally.snapshot(20.0).eta_s
    assert before is not None
    assert after == pytest.approx(before + 60)


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_two_percent(seconds: list[float], share: float) -> None:
    """A quantile is within 2 % of the value of that rank in the sorted list."""
    quantiles = Quantiles()
    for value in seconds:
        quantiles.add(value)
    exact = sorted(seconds)[max(1, math.ceil(share * len(seconds))) - 1]
    assert quantiles.at(share) == pytest.approx(exact, rel=0.02)


@given(st.lists(st.one_of(st.just(0.0), st.floats(0, 1e12)), max_size=30))
def test_quantiles_take_any_duration(seconds: list[float]) -> None:
    """Zero and absurdly long calls fall into the outer bins and raise nothing."""
    quantiles = Quantiles()
    for value in seconds:
        quantiles.add(value)
    assert (quantiles.at(0.5) is None) == (not seconds)


steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "start", "end", "settle", "cached", "fail", "hold", "stop"]),
        st.integers(1, 50),
        st.floats(0, 30),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(steps, st.one_of(st.none(), st.integers(0, 500)))
def test_any_story_stays_consistent(story: list[tuple[str, int, float]], total: int | None) -> None:
    """Whatever happens in whatever order: nothing negative, parts sum up, calls in flight are right."""
    tally = tally_of(total=total)
    now_s, flying, most, settled = 0.0, 0, 0, 0
    for what, count, step_s in story:
        now_s += step_s
        if what == "read":
            tally.add(ItemsRead(now_s, count))
        elif what == "start":
            tally.add(CallStarted(now_s, count))
            flying += 1
            most = max(most, flying)
        elif what == "end" and flying:
            tally.add(CallEnded(now_s, step_s, "timeout" if count % 3 == 0 else ""))
            flying -= 1
        elif what in {"settle", "cached", "fail"}:
            error = Failure(f"kind{count}", "m") if what == "fail" else None
            tally.add(Settled(now_s, tuple(outcome(cached=what == "cached", error=error) for _ in range(count))))
            settled += count
        elif what == "hold":
            tally.add(Held(now_s, now_s + count, "429"))
        elif what == "stop":
            tally.add(Stopping(now_s, "reason"))
        snapshot = tally.snapshot(now_s)
        assert snapshot.ok + snapshot.failed == settled
        assert snapshot.failed == sum(group.count for group in snapshot.failures)
        assert snapshot.total is None or snapshot.total == settled + snapshot.pending
        assert (snapshot.in_flight, snapshot.most_in_flight) == (flying, most)
        assert min(snapshot.pending, snapshot.rate, snapshot.eta_s or 0.0) >= 0
        assert math.isfinite(snapshot.rate)


def test_memory_is_bounded() -> None:
    """A long run with ever new kinds and huge messages leaves a tally of a bounded size."""
    tally = tally_of()
    for index in range(5_000):
        error = Failure(f"kind{index}", "x" * 5_000, "y" * 5_000)
        tally.add(CallStarted(index * 1.0, 1))
        tally.add(CallEnded(index * 1.0, 1.0, f"kind{index}"))
        tally.add(Settled(index * 1.0, (outcome(index, error=error),)))
    snapshot = tally.snapshot(5_000.0)
    assert len(snapshot.failures) <= 51
    assert len(snapshot.call_errors) <= 51
    assert sum(sys.getsizeof(group.message) for group in snapshot.failures) < 60_000
    assert snapshot.failed == 5_000


def test_adding_is_cheap() -> None:
    """An event costs about a microsecond (held to ten here, so that a busy machine does not fail the test)."""
    tally = tally_of()
    start, end = CallStarted(1.0, 1), CallEnded(2.0, 0.5, "")
    batch = Settled(2.0, tuple(outcome(i, tokens=(10, 10)) for i in range(50)))
    begin = time.process_time()
    for _ in range(20_000):
        tally.add(start)
        tally.add(end)
    for _ in range(400):
        tally.add(batch)
    assert (time.process_time() - begin) / 60_400 < 10e-6
