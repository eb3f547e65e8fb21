"""Request and token limits in virtual time: the invariants of the rate side, by name, over servers, hints and seeds.

A known limit (P1 to P7, P20) is exact; a hidden one (P9 to P18) is found and held.
"""

import math
import os
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.limits import Cost, End, Hints, Told, Unit
from headrace.flow.concurrency import Concurrency
from headrace.flow.gate import Gate, NotBefore
from headrace.flow.rate import Mark, Rate
from sim.traffic import (
    Bucket,
    Fault,
    Fixed,
    Item,
    Limiter,
    Result,
    Server,
    Sliding,
    fixed,
    lognormal,
    simulate,
    tail,
    tokens,
)

SCALE = float(os.environ.get("HEADRACE_SCALE", "0.1"))
SEEDS = range(max(1, round(3 * SCALE)))
REQUESTS, TOKENS = Unit.REQUESTS, Unit.TOKENS
Make = Callable[[float, Unit], Limiter]
MINUTES: dict[str, Make] = {
    "sliding": lambda limit, unit: Sliding(limit, unit=unit),
    "fixed": lambda limit, unit: Fixed(limit, unit=unit, phase_s=17.0),
    "bucket": lambda limit, unit: Bucket(limit, unit=unit),
}
SECONDS: dict[str, Make] = {
    "bucket of a second": lambda limit, unit: Bucket(limit, unit=unit, capacity=max(1.0, limit / 60)),
    "fixed second": lambda limit, unit: Fixed(limit / 60, 1.0, unit=unit),
    "fixed ten seconds": lambda limit, unit: Fixed(limit / 6, 10.0, unit=unit),
}
HINTS: list[str | float] = ["exact", "none", 1.0]


class Account:
    """Rates behind a concurrency that begins at 20 and doubles; every refusal is blamed on the first rate."""

    def __init__(self, *rates: Rate, most: int = 4096, start: int = 20) -> None:
        self.rates, self.most, self.limit = rates, most, start
        self.in_flight = self.ok = 0
        self.until_s: list[tuple[float, float]] = []

    def ask(self, now_s: float, cost: Cost) -> "NotBefore | list[tuple[Rate, float, Mark]]":
        if self.in_flight >= min(self.most, self.limit):
            return NotBefore(math.inf, "concurrency")
        at_s = max(rate.earliest(now_s, cost.of(rate.unit)) for rate in self.rates)
        if at_s > now_s:
            return NotBefore(at_s, "rate")
        self.in_flight += 1
        return [(rate, now_s, rate.take(now_s, cost.of(rate.unit))) for rate in self.rates]

    def settle(
        self,
        ticket: "list[tuple[Rate, float, Mark]]",
        now_s: float,
        end: End,
        *,
        cost: Cost | None = None,
        hints: Hints | None = None,
    ) -> None:
        self.in_flight -= 1
        if end is End.OK:
            self.ok += 1
            if self.ok >= self.limit:
                self.limit, self.ok = 2 * self.limit, 0
        for told in hints.told if hints else ():
            for rate, sent_s, _ in ticket:
                if rate.unit is told.unit and rate.window_s == told.window_s:
                    rate.hear(now_s, told, sent_s=sent_s)
        blamed = (hints.blamed if hints else None) or self.rates[0].unit
        for rate, _, mark in ticket:
            actual = cost.of(rate.unit) if cost else mark.amount
            if end is End.THROTTLED:
                actual = mark.amount if rate.unit is REQUESTS else 0.0
                if rate.unit is blamed:
                    rate.throttled(now_s, mark, mark.amount, hints.retry_after_s if hints else None)
                    if hints and hints.retry_after_s:
                        self.until_s.append((now_s, now_s + hints.retry_after_s))
            rate.settle(now_s, mark, mark.amount, actual, accepted=end is End.OK)


def hidden() -> Rate:
    return Rate(REQUESTS, 60.0)


def stated(limit: float, unit: Unit = REQUESTS) -> Rate:
    rate = Rate(unit, 60.0)
    rate.state(limit)
    return rate


# A limit that is known.


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(kind, limit) for kind in MINUTES for limit in (60, 300, 600, 1200)]
    + [("bucket of a second", limit) for limit in (300, 600, 1200)],
)
def test_p1_p5_p6_a_known_limit_is_used_to_the_full_without_a_refusal(kind: str, limit: int) -> None:
    """P1, P5, P6: none refused, never more than the limit in any minute, 98 % of it used from the first minute on."""
    for seed in SEEDS:
        server = Server([(MINUTES | SECONDS)[kind](limit, REQUESTS)])
        result = simulate(Account(stated(limit)), server, seconds=400.0, seed=seed)
        assert result.refused() == 0
        assert result.most() <= limit
        assert result.used(limit, from_s=60.0) >= 0.98


def test_p6_twelve_hundred_a_minute_by_a_bucket_of_twenty() -> None:
    """The seed case: stated, a bucket that holds one second; none refused, 98 % used, ramp included."""
    result = simulate(Account(stated(1200)), Server([Bucket(1200, capacity=20)]), seconds=600.0, latency=fixed(0.5))
    assert result.refused() == 0
    assert result.used(1200) >= 0.98


@pytest.mark.parametrize("kind", MINUTES)
@pytest.mark.parametrize(("median", "sigma", "most", "least"), [(1250, 0.6, 20_000, 0.97), (1000, 1.5, 20_000, 0.95)])
def test_p6_a_known_token_limit_with_large_items(
    kind: str, median: float, sigma: float, most: float, least: float
) -> None:
    """P6: items of up to a tenth of the limit; none refused, 95 % used (97 % where few are large)."""
    for seed in SEEDS:
        result = simulate(
            Account(stated(200_000, TOKENS)),
            Server([MINUTES[kind](200_000, TOKENS)]),
            items=tokens(seed + 5, median=median, sigma=sigma, most=most),
            seconds=600.0,
            seed=seed,
        )
        assert result.refused() == 0
        assert result.most(unit=TOKENS) <= 200_000
        assert result.used(200_000, from_s=60.0, unit=TOKENS) >= least


@settings(max_examples=max(10, int(150 * SCALE)))
@given(st.data())
def test_p1_p5_no_window_is_passed_whatever_the_traffic(data: st.DataObject) -> None:
    """P1, P5: random limits of both units, sizes, refunds, latencies, faults, delays up to half a second apart, shares."""
    seed = data.draw(st.integers(0, 1 << 30))
    chance = random.Random(seed)
    requests, budget = data.draw(st.integers(5, 400)), data.draw(st.integers(1000, 100_000))
    reserve = data.draw(st.sampled_from([1.0, 1.5, 4.0]))
    largest = budget / reserve * data.draw(st.sampled_from([0.01, 0.1, 1.0]))
    kind = data.draw(st.sampled_from(sorted(MINUTES)))
    share = data.draw(st.sampled_from([1.0, 0.5]))
    near_s = chance.random() * 0.1
    rates = stated(requests), stated(budget, TOKENS)
    for rate in rates:
        rate.lend(0.0, share * rate.most)
    server = Server(
        [MINUTES[kind](requests, REQUESTS), MINUTES[kind](budget, TOKENS)],
        faults=[Fault(50.0, 80.0, End.FAILED, 0.3)],
    )
    latency = data.draw(st.sampled_from([fixed(0.05), lognormal(2.0), tail(lognormal(1.0), share=0.05, seconds=70.0)]))
    result = simulate(
        Account(*rates),
        server,
        items=tokens(seed, median=largest / 4, sigma=1.0, most=largest, reserve=reserve),
        latency=latency,
        network_s=(near_s, near_s + 0.49),
        seconds=200.0,
        seed=seed,
    )
    assert result.arrived
    faults = sum(50.0 <= at_s < 80.0 for at_s, _, ok in result.arrived if not ok)
    assert result.refused() == faults
    assert result.most() <= max(1, requests * share)
    assert result.most(unit=TOKENS) <= budget * max(share, min(1.0, largest * reserve / budget)) * (1 + 1e-9)


def test_limits_that_headers_tell_are_as_good_as_stated_ones() -> None:
    """Nothing is known; the first answers tell. Not one refusal, full use from the second minute on."""
    for make in MINUTES.values():
        result = simulate(Account(hidden()), Server([make(600, REQUESTS)], headers=True), seconds=400.0)
        assert result.refused() == 0
        assert result.used(600, from_s=60.0) >= 0.98


@pytest.mark.parametrize("kind", MINUTES)
def test_p20_headers_that_lie_high_change_nothing(kind: str) -> None:
    """P20: a stated limit beside headers of ten times as much and all of it left: the very same calls."""
    lies = [None, lambda told: Told(told.unit, 10 * told.limit, 10 * told.limit, 0.0, told.window_s)]
    digests = set()
    for lie in lies:
        server = Server([MINUTES[kind](300, REQUESTS)], headers=lie is not None, lie=lie)
        digests.add(simulate(Account(stated(300)), server, seconds=200.0).digest)
    assert len(digests) == 1


def test_p20_headers_that_lie_low_cost_a_window_each() -> None:
    """P20: one answer claims that nothing is left: a minute is lost at most, and none where it is not believed again."""
    told: list[Told] = []

    def once(truth: Told) -> Told:
        told.append(truth)
        return Told(truth.unit, truth.limit, 0.0, 9e9, truth.window_s) if len(told) == 700 else truth

    server = Server([Sliding(600)], headers=True, lie=once)
    result = simulate(Account(stated(600)), server, seconds=600.0)
    assert result.refused() == 0
    assert result.accepted() >= 600 * 10 * 0.98 - 600
    assert result.used(600, from_s=240.0) >= 0.98


def test_foreign_traffic_is_seen_in_headers_and_yielded_to() -> None:
    """Someone else takes 30 %: the rest is used, refusals stay rare."""
    for make in MINUTES.values():
        server = Server([make(600, REQUESTS)], headers=True)
        result = simulate(Account(hidden()), server, seconds=600.0, foreign_per_s=3.0)
        assert result.used(420, from_s=60.0) >= 0.9
        assert result.refused_share(60.0) <= 0.02


def test_a_finite_load_ends_as_soon_as_the_limit_allows() -> None:
    """1,500 items at 600 a minute: 150 s and the last answer; and no item is asked for in between for nothing."""
    account = Account(stated(600))
    result = simulate(account, Server([Sliding(600)]), items=[Item(Cost()) for _ in range(1500)], latency=fixed(1.0))
    assert result.delivered == 1500
    assert result.finished_s <= 150 * 60.6 / 60 + 2.0
    assert result.asked <= 4 * 1500
    assert account.in_flight == 0
    assert account.rates[0].used(result.finished_s + 61.0) == 0.0


# A limit that is hidden.


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("kind", MINUTES)
@pytest.mark.parametrize("limit", [60, 600])
def test_p11_a_hidden_limit_is_used_from_the_first_minute_on(limit: int, kind: str, hint: str | float) -> None:
    """P11: 95 % used in ten minutes, the ramp included, and 93 % in each of the later halves; refusals stay few."""
    for seed in SEEDS:
        result = simulate(Account(hidden()), Server([MINUTES[kind](limit, REQUESTS)], hint=hint), seed=seed)
        assert result.used(limit) >= 0.95
        assert result.used(limit, from_s=300.0) >= 0.93
        assert result.refused_share(300.0) <= (0.015 if limit >= 300 else 0.08)


@pytest.mark.parametrize("kind", MINUTES)
def test_p11_a_large_hidden_limit(kind: str) -> None:
    """P11: 3,000 a minute without a hint: 95 % used over ten minutes, 1.5 % refused once it is found."""
    for seed in SEEDS:
        result = simulate(Account(hidden()), Server([MINUTES[kind](3000, REQUESTS)]), seed=seed)
        assert result.used(3000) >= 0.95
        assert result.refused_share(120.0) <= 0.015


@pytest.mark.parametrize("kind", SECONDS)
def test_p11_hidden_limits_that_are_kept_by_the_second(kind: str) -> None:
    """P11: whatever the window, 85 % from minute five on without a hint (a second of phase unknown costs a tenth)."""
    for seed in SEEDS:
        result = simulate(Account(hidden()), Server([SECONDS[kind](600, REQUESTS)]), seed=seed)
        assert result.used(600, from_s=300.0) >= 0.85
        assert result.refused_share(300.0) <= 0.015


@pytest.mark.parametrize("kind", MINUTES)
@pytest.mark.parametrize(("median", "sigma", "least"), [(1250, 0.6, 0.91), (1000, 1.5, 0.87)])
def test_p11_a_hidden_token_limit(kind: str, median: float, sigma: float, least: float) -> None:
    """Items of up to a tenth of the limit, no hint: nine tenths are used, some refused for their size alone."""
    for seed in SEEDS:
        result = simulate(
            Account(Rate(TOKENS, 60.0)),
            Server([MINUTES[kind](200_000, TOKENS)]),
            items=tokens(seed + 5, median=median, sigma=sigma, most=20_000),
            seed=seed,
        )
        assert result.used(200_000, unit=TOKENS) >= least, result.per_minute(200_000, unit=TOKENS)
        assert result.refused_share(120.0) <= 0.06


@pytest.mark.parametrize("kind", MINUTES)
def test_p13_a_limit_that_falls_to_a_third_and_rises_again(kind: str) -> None:
    """P13: at most 60 refusals in two minutes and 85 % of the new limit after them; up again: 75 % over 200-400 s."""
    for seed in SEEDS:
        limit = MINUTES[kind](600, REQUESTS)

        def become(now: int, limit: Limiter = limit) -> None:
            limit.limit = now
            if isinstance(limit, Bucket):
                limit.capacity = now

        script = [(300.0, lambda become=become: become(200)), (700.0, lambda become=become: become(600))]
        result = simulate(Account(hidden()), Server([limit]), seconds=1100.0, seed=seed, script=script)
        assert result.refused(300.0, 420.0) <= 60
        assert result.used(200, from_s=420.0, until_s=700.0) >= 0.85
        assert result.used(600, from_s=900.0, until_s=1100.0) >= 0.75


@pytest.mark.parametrize("hint", [None, 3.0, 40.0])
def test_p17_after_an_outage_of_refusals_work_goes_on_at_once(hint: float | None) -> None:
    """P17: for 200 s everything is refused; then the first call is let in after at most 16 s and the hint."""
    fault = Fault(100.0, 300.0, End.THROTTLED, retry_after_s=hint)
    result = simulate(Account(hidden()), Server([Sliding(600)], faults=[fault]), seconds=600.0)
    first_s = min(at_s for at_s, _, ok in result.arrived if ok and at_s >= 300.0)
    assert first_s <= 300.0 + 16.0 + (hint or 0.0) + 1.0
    assert result.refused(110.0, 300.0) <= 200 / max(1.0, hint or 0.0) + 5
    assert result.used(600, from_s=420.0) >= 0.5


@pytest.mark.parametrize(("share", "most_s"), [(0.01, 50.0), (0.05, 450.0), (0.1, 250.0), (0.2, 600.0)])
def test_refusals_at_random_do_not_take_the_pace_down(share: float, most_s: float) -> None:
    """A gateway that refuses so large a share whatever is sent, without limits: 1,000 calls of a second are done soon."""
    for seed in range(max(2, round(20 * SCALE))):
        server = Server(faults=[Fault(0.0, math.inf, End.THROTTLED, share=share)])
        gate = Gate(Concurrency(start=20, most=1000))
        items = [Item(Cost()) for _ in range(1000)]
        result = simulate(gate, server, latency=lognormal(1.0), seconds=3600.0, seed=seed, items=items)
        assert result.delivered == 1000
        assert result.finished_s <= most_s


@pytest.mark.parametrize(("kind", "least"), [("sliding", 0.4), ("fixed", 0.7), ("bucket", 0.4)])
def test_a_limit_is_used_although_one_in_ten_is_refused_at_random(kind: str, least: float) -> None:
    """Chance on top of a hidden limit: neither takes the pace down to nothing, nor is the limit run against for long."""
    for seed in range(max(1, round(5 * SCALE))):
        server = Server([MINUTES[kind](600, REQUESTS)], faults=[Fault(0.0, math.inf, End.THROTTLED, share=0.1)])
        gate = Gate(Concurrency(start=20, most=1000))
        result = simulate(gate, server, latency=lognormal(1.0), seconds=900.0, seed=seed)
        assert result.used(600, from_s=120.0) >= least
        assert result.refused_share(120.0) <= 0.3


@settings(max_examples=max(10, int(100 * SCALE)))
@given(st.integers(0, 1 << 30), st.sampled_from(sorted(MINUTES | SECONDS)), st.sampled_from(["exact", 1.0, 7.0, 40.0]))
def test_p10_a_hint_is_never_gone_before(seed: int, kind: str, hint: str | float) -> None:
    """P10: after an answer that asks to wait, nothing is sent until then, whichever call it was for."""
    account = Account(hidden())
    server = Server([(MINUTES | SECONDS)[kind](random.Random(seed).randint(10, 400), REQUESTS)], hint=hint)
    result = simulate(account, server, seconds=200.0, seed=seed)
    sent = [at_s for at_s, _ in result.sent]
    for from_s, until_s in account.until_s:
        assert not any(from_s < at_s < until_s - 1e-9 for at_s in sent)


def test_p10_a_fixed_window_that_says_40_seconds_gets_40_seconds() -> None:
    """P10: refused with 40 s to go, nothing is sent before they are over; then at the rate that was found."""
    server = Server([Fixed(100, phase_s=50.0)], hint="exact")
    result = simulate(Account(hidden()), server, seconds=50.0)
    last_s = max(at_s for at_s, _ in result.sent)
    assert last_s < 20.0
    assert result.refused() <= 100


def test_p18_the_same_seed_is_the_same_run() -> None:
    """P18: two runs of one seed are one trace; another seed is another."""
    runs = [
        simulate(Account(hidden()), Server([Fixed(600)], hint=1.0), seconds=200.0, seed=seed).digest
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]


# Together with the rest of the gate.


def gate(limits: dict[Unit, float]) -> Gate:
    account = Gate(Concurrency(start=20, most=1000))
    account.state(limits, most=1000)
    return account


@pytest.mark.parametrize("kind", MINUTES)
def test_the_gate_holds_two_known_limits_at_once(kind: str) -> None:
    """Requests and tokens stated: none refused, neither passed, the tighter one used to 95 %."""
    for per_item, binding in ((100.0, REQUESTS), (1000.0, TOKENS)):
        server = Server([MINUTES[kind](600, REQUESTS), MINUTES[kind](200_000, TOKENS)])
        result = simulate(
            gate({REQUESTS: 600, TOKENS: 200_000}),
            server,
            items=(Item(Cost(tokens=per_item)) for _ in range(1 << 30)),
            seconds=300.0,
        )
        assert result.refused() == 0
        assert result.most() <= 600
        assert result.most(unit=TOKENS) <= 200_000
        assert result.used(600 if binding is REQUESTS else 200_000, from_s=60.0, unit=binding) >= 0.95


def test_the_gate_finds_a_limit_that_refusals_name() -> None:
    """A hidden limit whose refusals say that it is one of requests: 95 % over ten minutes."""
    for make in MINUTES.values():
        result = simulate(gate({}), Server([make(600, REQUESTS)], names=True), seconds=600.0)
        assert result.used(600) >= 0.95
        assert result.refused_share(120.0) <= 0.02


def test_the_gate_never_waits_for_an_item_that_is_too_large() -> None:
    """An item over the token limit is refused at once; those around it go on."""
    sizes: Sequence[float] = [10.0, 5000.0, 20.0]
    result: Result = simulate(
        gate({TOKENS: 1000}), Server([Sliding(1000, unit=TOKENS)]), items=[Item(Cost(tokens=size)) for size in sizes]
    )
    assert (result.too_large, result.delivered) == (1, 2)
