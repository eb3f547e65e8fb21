"""The tally: figures from events, checked by hand-made stories and by generated ones."""

import math
import sys
import time
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.event import (
    AskedAgain,
    CallEnded,
    CallStarted,
    Event,
    Gauge,
    Held,
    ItemsRead,
    LimitChanged,
    RunEnded,
    RunStarted,
    Settled,
    Stopping,
)
from headrace.core.item import Failure, Outcome
from headrace.core.limits import Unit, Use
from headrace.engine.snapshot import FIGURES_MAX_BYTES, CallErrors, LimitChange, figures_of, snapshot_of
from headrace.engine.tally import Tally
from headrace.engine.usage import CHANGES_MAX, STRETCHES_MAX
from headrace.flow.quantiles import Quantiles


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


def gauge(
    at_s: float,
    in_flight: float = 0,
    allowed: float | None = 40,
    *more: Use,
    queued: int = 0,
    waited_s: Mapping[str, float] | None = None,
    binding: str = "",
    cpu_s: float = 0.0,
    memory_bytes: int = 0,
    own: int | None = None,
) -> Gauge:
    """How the endpoint is used at this moment."""
    uses = (Use(Unit.CONCURRENCY, in_flight, allowed), *more)
    return Gauge(
        at_s, uses, round(in_flight) if own is None else own, queued, waited_s or {}, binding, cpu_s, memory_bytes
    )


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
    assert snapshot.call_errors == (CallErrors("throttled", None, 1),)
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


def test_errors_are_counted_by_status_and_by_kind_where_there_is_none() -> None:
    """Two kinds with one status are told apart, and are one figure by status; the most frequent come first."""
    tally = tally_of(
        *(CallEnded(1.0, 0.1, "throttled", "slow down", 429) for _ in range(3)),
        CallEnded(1.0, 0.1, "quota", "no credit", 429),
        *(CallEnded(1.0, 30.0, "timeout") for _ in range(2)),
        CallEnded(1.0, 0.5, ""),
    )
    snapshot = tally.snapshot(2.0)
    assert snapshot.call_errors == (
        CallErrors("throttled", 429, 3),
        CallErrors("timeout", None, 2),
        CallErrors("quota", 429, 1),
    )
    assert snapshot.errors_by_status == {"429": 4, "timeout": 2}


def test_what_may_be_paid_twice_is_counted_by_cause() -> None:
    """A timeout is an error and paid again; what a backup overtook, or the user cancelled, is no error."""
    snapshot = tally_of(
        CallStarted(0.0, 1),
        CallStarted(0.0, 1),
        CallStarted(5.0, 1, backup=True),
        CallEnded(6.0, 1.0, ""),
        CallEnded(6.0, 6.0, "overtaken", paid=True),
        CallEnded(30.0, 30.0, "timeout", paid=True),
        CallStarted(31.0, 2),
        CallEnded(31.5, 0.5, "cancelled", paid=True),
        AskedAgain(31.6, "answer"),
    ).snapshot(32.0)
    assert snapshot.paid_again == {"backup": 1, "timeout": 1, "cancelled": 1, "asked again": 1}
    assert snapshot.errors_by_status == {"timeout": 1}
    assert (snapshot.backups, snapshot.retries, snapshot.in_flight) == (1, 1, 0)
    assert snapshot.p99_s == pytest.approx(1.0, rel=0.02)


def test_a_gauge_says_how_much_of_each_limit_is_in_use() -> None:
    """Used, allowed and percent of each limit, the most of the run, the mean over time, the queue and the process."""
    tally = tally_of(at_s=100.0)
    requests = [Use(Unit.REQUESTS, used, 1200.0, 60.0, learnt=True) for used in (300.0, 1176.0, 600.0)]
    tokens = Use(Unit.TOKENS, 500.0, None, 60.0)
    tally.add(gauge(101.0, 20, 40, requests[0], tokens, queued=3, cpu_s=0.1, memory_bytes=100))
    tally.add(gauge(103.0, 40, 40, requests[1], tokens, queued=212, cpu_s=0.5, memory_bytes=200))
    tally.add(gauge(104.0, 10, 80, requests[2], tokens, queued=7, cpu_s=0.7, memory_bytes=200))
    snapshot = tally.snapshot(104.5)
    assert [use.unit for use in snapshot.uses] == ["concurrency", "requests", "tokens"]
    at_once, request, token = snapshot.uses
    assert (at_once.used, at_once.allowed, at_once.percent, at_once.most, at_once.most_allowed) == (
        10,
        80,
        12.5,
        40,
        40,
    )
    assert (request.percent, request.most, request.window_s, request.learnt) == (50, 1176, 60.0, True)
    assert at_once.mean_pace == pytest.approx((50 * 1 + 100 * 2 + 12.5 * 1) / 4)
    assert (token.allowed, token.percent, token.pace, token.mean_pace) == (None, None, None, None)
    assert (snapshot.queued, snapshot.memory_bytes, snapshot.cpu_s) == (7, 200, 0.7)
    assert snapshot.cpu_share == pytest.approx(0.6 / 3)


def test_a_young_run_at_the_pace_of_its_limit_is_at_its_limit() -> None:
    """Ten seconds at 10 calls a second are a sixth of 600 a minute, and all of the pace that it allows."""
    tally = tally_of()
    for second in range(1, 121):
        used = min(9.9 * second, 594.0) if second <= 90 else 60.0
        tally.add(gauge(float(second), 5, 20, Use(Unit.REQUESTS, used, 600.0, 60.0)))
        request = tally.snapshot(float(second)).uses[1]
        assert request.percent == pytest.approx(used / 6)
        assert request.pace == pytest.approx(99.0 if second <= 90 else 10.0)
    assert tally.snapshot(120.0).uses[1].mean_pace == pytest.approx((99 * 90 + 10 * 30) / 120)
    burst = tally_of(gauge(2.0, 5, 20, Use(Unit.REQUESTS, 300.0, 600.0, 60.0), Use(Unit.TOKENS, 700.0, 600.0, 60.0)))
    assert [use.pace for use in burst.snapshot(2.0).uses[1:]] == [100.0, pytest.approx(700 / 6)]


def test_before_the_first_gauge_nothing_is_claimed() -> None:
    """Without a gauge there is no use, no history, no CPU: a short run, or an engine that tells none."""
    tally = tally_of()
    asked(tally, 0.2)
    tally.add(RunEnded(0.3, "finished", ""))
    snapshot = tally.snapshot(1.0)
    assert (snapshot.uses, snapshot.history, snapshot.binding, snapshot.cpu_share) == ((), (), "", None)
    assert (snapshot.queued, snapshot.waited_s, snapshot.memory_bytes) == (0, {}, 0)


def test_places_that_others_hold_are_told() -> None:
    """Where the endpoint has more calls in flight than this run holds permits, the rest is somebody else's."""
    tally = tally_of(CallStarted(0.5, 1), CallStarted(0.5, 1))
    for second, held, others in ((1, 12, 10), (2, 20, 18), (3, 2, 0), (4, 1, 0)):
        tally.add(gauge(float(second), held, own=2))
        assert (tally.snapshot(float(second)).in_flight, tally.snapshot(float(second)).others) == (2, others)


def test_what_binds_is_what_was_waited_for_most_of_late() -> None:
    """One second of another cause does not change the word; a few do; nothing binds once the run has ended."""
    tally = tally_of()
    waited = {"requests": 0.0, "tokens": 0.0}
    for second in range(1, 31):
        cause = "tokens" if second == 10 or second > 20 else "requests"
        waited[cause] += 0.9
        tally.add(gauge(float(second), waited_s=dict(waited), binding=cause))
        expected = "tokens" if second > 23 else "requests"
        if second not in range(21, 24):
            assert tally.snapshot(float(second)).binding == expected, second
    assert tally.snapshot(30.0).waited_s == pytest.approx({"requests": 19 * 0.9, "tokens": 11 * 0.9})
    tally.add(gauge(40.0, waited_s=dict(waited)))
    for second in range(41, 47):
        tally.add(gauge(float(second), waited_s=dict(waited)))
    assert tally.snapshot(46.0).binding == ""
    assert tally_of(gauge(1.0, binding="breaker")).snapshot(1.0).binding == "breaker"
    tally.add(RunEnded(47.0, "finished", ""))
    assert (tally.snapshot(50.0).binding, tally.snapshot(50.0).queued) == ("", 0)


def test_changes_of_limits_are_kept_with_their_reasons() -> None:
    """The last 200, seconds into the run, also before the first gauge."""
    tally = tally_of(LimitChanged(103.0, "requests", 598.3, 60.0, "found by refusals"), at_s=100.0)
    assert tally.snapshot(104.0).changes == (LimitChange(3.0, "requests", 598.3, 60.0, "found by refusals"),)
    for index in range(1_000):
        tally.add(LimitChanged(200.0 + index, "concurrency", float(index), 0.0, "r" * 5_000))
    changes = tally.snapshot(2_000.0).changes
    assert len(changes) == CHANGES_MAX == 200
    assert (changes[-1].limit, changes[0].limit) == (999.0, 800.0)
    assert max(len(each.reason) for each in changes) <= 500


def test_what_was_in_flight_between_gauges_is_not_what_is_at_one() -> None:
    """160 calls that all ended just before the last gauge were in flight for most of it, and the most at once are told."""
    tally = tally_of(*[CallStarted(0.0, 1)] * 160, gauge(0.0, 20, 20), at_s=0.0, total=160)
    for _ in range(160):
        tally.add(CallEnded(0.3, 0.3, ""))
    tally.add(gauge(0.4, 0, 160))
    tally.add(RunEnded(0.4, "finished", ""))
    snapshot = tally.snapshot(1.0)
    assert [each.in_flight for each in snapshot.history] == [pytest.approx(120)]
    concurrency = snapshot.uses[0]
    assert (concurrency.most, concurrency.most_allowed) == (160, 160)
    assert concurrency.mean_pace == pytest.approx(75)


def test_the_pace_is_of_what_the_store_did_not_serve() -> None:
    """300 items come from the store at once and 40 are asked in 10 s: 4 items a second, live and at the end; of a run that
    the store served whole, no pace is told."""
    tally = tally_of(at_s=0.0, total=340)
    stored(tally, 0.01, 300)
    assert not tally.snapshot(0.1).has_pace
    for number in range(40):
        asked(tally, (number + 1) / 4)
    assert tally.snapshot(10.0).rate == pytest.approx(4)
    tally.add(RunEnded(10.0, "finished", ""))
    snapshot = tally.snapshot(10.0)
    assert (snapshot.done, snapshot.has_pace) == (340, True)
    assert snapshot.rate == pytest.approx(4)


def test_history_is_exact_while_it_is_short() -> None:
    """A stretch for each gauge, with what was done, in flight, allowed and waited for in it, and the rest at the end."""
    tally = tally_of(*[CallStarted(10.0, 1)] * 5, at_s=10.0, total=100)
    asked(tally, 10.5, 3)
    tally.add(gauge(11.0, 5, 8, waited_s={"concurrency": 0.4}))
    for _ in range(3):
        tally.add(CallStarted(11.0, 1))
    asked(tally, 11.2, 7)
    tally.add(gauge(12.0, 8, 16, waited_s={"concurrency": 1.0, "requests": 0.3}))
    asked(tally, 12.4, 2)
    tally.add(RunEnded(12.5, "finished", ""))
    first, second = tally.snapshot(99.0).history
    assert (first.from_s, first.to_s, first.done, first.in_flight, first.limit) == (0.0, 1.0, 3, 5.0, 8.0)
    assert first.waited_s == {"concurrency": 0.4}
    assert (second.from_s, second.to_s, second.done, second.rate) == (1.0, 2.5, 9, 6.0)
    assert second.waited_s == pytest.approx({"concurrency": 0.6, "requests": 0.3})
    assert (second.in_flight, second.limit) == (8.0, 16.0)


def test_the_last_moment_is_no_stretch_of_its_own() -> None:
    """A last gauge a blink before the end joins what was before it: a rate over a blink is chance."""
    tally = tally_of()
    for second in range(1, 6):
        tally.add(gauge(float(second), 5))
        asked(tally, second + 0.01, 10)
    tally.add(gauge(5.02, 0))
    tally.add(RunEnded(5.02, "finished", ""))
    last = tally.snapshot(9.0).history[-1]
    assert (last.from_s, last.to_s, last.done) == (4.0, 5.02, 20)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 3), st.integers(0, 40), st.floats(0, 1)), max_size=40),
    st.integers(1, 60),
)
def test_history_of_any_length_keeps_its_sums(story: list[tuple[float, int, int, float]], times: int) -> None:
    """However long: at most 300 stretches without a gap, that sum up to all that was done and waited for."""
    tally = tally_of()
    now_s, done, waited = 0.0, 0, 0.0
    for step_s, count, flying, share in story * times:
        now_s += step_s
        waited += share * step_s
        done += count
        tally.add(Settled(now_s, tuple(outcome() for _ in range(count))))
        tally.add(gauge(now_s, flying, 40 if flying else None, waited_s={"requests": waited}))
    tally.add(RunEnded(now_s + 0.5, "finished", ""))
    history = tally.snapshot(now_s).history
    assert len(history) <= STRETCHES_MAX
    assert sum(each.done for each in history) == done
    assert sum(each.waited_s.get("requests", 0.0) for each in history) == pytest.approx(waited)
    assert all(before.to_s == after.from_s for before, after in pairwise(history))
    assert all(0 <= each.in_flight <= 40 for each in history)
    if history:
        assert history[0].from_s == 0.0
        assert history[-1].to_s == pytest.approx(now_s + 0.5)
        longest = max(each.to_s - each.from_s for each in history[:-1] or history)
        assert len(history) < 4 or longest <= now_s / 25 + 16


def test_what_was_told_before_the_run_began_is_not_of_it() -> None:
    """A gauge before the first event of a run lengthens neither its history nor its means; a change counts as at 0."""
    tally = Tally()
    tally.add(LimitChanged(999.0, "requests", 600.0, 60.0, "remembered"))
    tally.add(gauge(999.5, 0, 40, cpu_s=5.0))
    assert (tally.snapshot(999.6).uses, tally.snapshot(999.6).history) == ((), ())
    tally.add(RunStarted(1_000.0, "r1", "calls", "calls.csv", None, 10))
    tally.add(gauge(1_002.0, 20, 40, cpu_s=1.0))
    snapshot = tally.snapshot(1_002.0)
    assert [(each.from_s, each.to_s) for each in snapshot.history] == [(0.0, 2.0)]
    assert (snapshot.uses[0].mean_pace, snapshot.cpu_share, snapshot.changes[0].after_s) == (50.0, 0.5, 0.0)


def test_odd_gauges_do_no_harm() -> None:
    """Infinite limits, a limit of nothing, no uses, times that stand still and sums that shrink raise nothing."""
    tally = tally_of(
        gauge(1.0, 3, math.inf, Use(Unit.REQUESTS, 5.0, math.inf, 60.0), waited_s={"requests": 5.0}),
        gauge(1.0, 3, 0, Use(Unit.REQUESTS, 5.0, 0.0, 60.0), waited_s={"requests": 1.0}),
        Gauge(1.0, (), 0, 0, {}, "", 0.0, 0),
        gauge(0.5, 3, 4, cpu_s=-1.0),
    )
    snapshot = tally.snapshot(2.0)
    assert all(each.rate >= 0 and each.waited_s.get("requests", 0.0) >= 0 for each in snapshot.history)
    assert tally_of(gauge(1.0, 3, math.inf)).snapshot(1.0).uses[0].allowed is None


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
        tally.add(CallEnded(index * 1.0, 1.0, f"kind{index}", "", index, paid=index % 2 == 0))
        tally.add(gauge(index * 1.0, waited_s={f"cause{index}": index * 1.0}))
        tally.add(LimitChanged(index * 1.0, f"unit{index}", 1.0, 60.0, "z" * 5_000))
        tally.add(Settled(index * 1.0, (outcome(index, error=error),)))
    snapshot = tally.snapshot(5_000.0)
    assert len(snapshot.failures) <= 51
    assert len(snapshot.call_errors) <= 51
    assert len(snapshot.paid_again) <= 51
    assert len(snapshot.uses) == 1
    assert len(snapshot.waited_s) <= 21
    assert len({cause for each in snapshot.history for cause in each.waited_s}) <= 21
    assert sum(sys.getsizeof(group.message) for group in snapshot.failures) < 60_000
    assert snapshot.failed == 5_000


def test_adding_is_cheap() -> None:
    """An event costs about a microsecond (held to ten here, so that a busy machine does not fail the test).

    A gauge costs more, and comes once a second; so does a snapshot of a long run.
    """
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
    requests = Use(Unit.REQUESTS, 300.0, 600.0, 60.0)
    begin = time.process_time()
    for second in range(2_000):
        tally.add(gauge(float(second), 20, 40, requests, waited_s={"requests": second * 0.5}))
        tally.snapshot(float(second))
    assert (time.process_time() - begin) / 2_000 < 2e-3


def test_errors_are_told_by_when_they_happened() -> None:
    """Each stretch of the history has the calls that failed in it, by status; those after the last gauge too."""
    tally = tally_of(gauge(1.0), CallEnded(1.2, 0.1, "throttled", status=429), CallEnded(1.4, 0.1, "timeout"))
    for event in (gauge(2.0), CallEnded(2.5, 0.1, "throttled", status=429), RunEnded(9.0, "finished", "")):
        tally.add(event)
    history = tally.snapshot(9.0).history
    assert [dict(each.errors) for each in history] == [{}, {"429": 2, "timeout": 1}]


def test_a_pause_is_no_slower_pace() -> None:
    """While the provider asks to wait, what is left is the pause and the rest at the pace of before, not of the pause."""
    tally = tally_of(total=200)
    for second in range(1, 11):
        asked(tally, float(second), 10)
    tally.add(Held(10.0, 70.0, "The provider asks to wait."))
    for now_s in (11.0, 40.0, 69.0):
        eta_s = tally.snapshot(now_s).eta_s
        assert eta_s is not None
        assert eta_s == pytest.approx(70 - now_s + 10, abs=3)
    tally.add(Held(40.0, 100.0, "The provider asks to wait longer."))  # one pause, not two
    eta_s = tally.snapshot(60.0).eta_s
    assert eta_s == pytest.approx(50, abs=3)


def busy(lengthy: str) -> Tally:
    """A long run with as much to tell as there can be."""
    tally = tally_of()
    for at in range(2_000):
        waited_s = {f"{lengthy} {cause}": float(at) for cause in range(20)}
        tally.add(gauge(float(at), 5, waited_s=waited_s, binding=lengthy))
        tally.add(CallEnded(float(at), 0.1, f"{lengthy} {at % 30}", status=None))
        tally.add(LimitChanged(float(at), lengthy, 3.0, 60.0, lengthy))
        failure = Failure(f"{lengthy} {at % 60}", lengthy, lengthy)
        tally.add(Settled(float(at), (outcome(at, error=failure),)))
    tally.add(Stopping(2_000.0, lengthy))
    return tally


@pytest.mark.parametrize("lengthy", ["requests", "\x00" * 900, "\U0001f600" * 900, '"\\' * 900])
def test_figures_are_bounded_whatever_there_is_to_tell(lengthy: str) -> None:
    """What is kept of a run has a few hundred thousand bytes at most, and can be read again."""
    tally = busy(lengthy)
    figures = figures_of(tally.snapshot(2_000.0))
    assert len(figures) <= FIGURES_MAX_BYTES
    kept = snapshot_of(figures)
    assert kept is not None
    assert (kept.failed, kept.calls, kept.state) == (2_000, 0, "stopping")


def test_figures_are_the_snapshot_again() -> None:
    """What a report needs comes back as it was; what only mattered at the moment does not."""
    tally = tally_of(gauge(1.0, 3), Held(1.0, math.inf, "nobody knows"), CallStarted(1.0, 1), total=10)
    asked(tally, 2.0, 4)
    before = tally.snapshot(2.0)
    after = snapshot_of(figures_of(before))
    assert after is not None
    assert before.hold is not None
    assert after.hold is None
    for field in ("history", "uses", "p95_s", "ok", "calls", "waited_s", "changes", "seconds", "most_in_flight"):
        assert getattr(after, field) == getattr(before, field), field


@pytest.mark.parametrize(
    "figures", [None, b"", b"{}", b"[]", b"null", b"\xff", b'{"ok": "many"}', b'{"new": 1, "ok": 3}']
)
def test_figures_of_others_are_read_as_far_as_they_can_be(figures: bytes | None) -> None:
    """What another version kept, or nothing, is never an error."""
    kept = snapshot_of(figures)
    assert kept is None or kept.ok in (0, 3)
