"""How many calls may be in flight: numbers in, a number out."""

import heapq
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.flow.concurrency import BETA, COOL_S, MEMORY_S, REGROW_S, Ceiling, Concurrency, Mark, Pauses
from headrace.flow.knee import Knee


class Client:
    """Keeps as many calls in flight as the limit allows, and as are wanted; each takes its time at a server."""

    def __init__(self, concurrency: Concurrency, *, seconds: Callable[[int], float], wanted: int = 10**6) -> None:
        self.concurrency, self.seconds, self.wanted = concurrency, seconds, wanted
        self.now_s = 0.0
        self.in_flight = self.most = self.done = 0
        self._ends: list[tuple[float, int, Mark, float]] = []
        self._number = 0

    def send(self) -> None:
        while self.in_flight < min(self.wanted, self.concurrency.limit(self.now_s)):
            self.in_flight += 1
            self._number += 1
            mark = self.concurrency.sent(self.now_s, self.in_flight)
            end_s = self.now_s + self.seconds(self.in_flight)
            heapq.heappush(self._ends, (end_s, self._number, mark, self.now_s))
        self.most = max(self.most, self.in_flight)

    def run(self, until_s: float) -> "Client":
        self.send()
        while self._ends and self._ends[0][0] <= until_s:
            self.now_s, _, mark, began_s = heapq.heappop(self._ends)
            self.in_flight -= 1
            self.done += 1
            self.concurrency.ok(self.now_s, mark, self.in_flight, self.now_s - began_s, 0.0)
            self.send()
        self.now_s = until_s
        self.send()
        return self


def noisy(
    seed: int, *, knee: float = math.inf, slope: float = 0.0, sigma: float = 0.5, slow: float = 0.0
) -> Callable[[int], float]:
    """A lognormal second, or eight for a share of the calls; past the knee so much longer that throughput is flat, or
    falls."""
    chance = random.Random(seed)

    def seconds(in_flight: int) -> float:
        own_s: float = 8.0 if slow and chance.random() < slow else math.exp(chance.gauss(-0.5 * sigma * sigma, sigma))
        slower: float = max(1.0, in_flight / knee) ** (1.0 + slope)
        return own_s * slower

    return seconds


def end(concurrency: Concurrency, how: str, now_s: float, marks: list[Mark], chance: random.Random) -> None:
    """One of the calls in flight ends."""
    mark = marks.pop(chance.randrange(len(marks)))
    if how == "ok":
        concurrency.ok(now_s, mark, len(marks), chance.random(), chance.choice([0.0, 5.0]))
    elif how == "refuse":
        concurrency.throttled(now_s, mark, len(marks), chance.choice([None, 0.0, 3.0]))
    else:
        concurrency.failed(now_s)


def refuse(concurrency: Concurrency, now_s: float, in_flight: int) -> bool:
    return concurrency.throttled(now_s, concurrency.sent(now_s, in_flight + 1), in_flight, None)


def test_a_stated_limit_holds_from_the_first_call() -> None:
    """Neither a ramp nor a search: what is stated is what is used, also where fewer would do as well."""
    stated = Concurrency(start=20, most=1024, adaptive=False)
    assert stated.limit(0.0) == 1024
    client = Client(stated, seconds=noisy(0, knee=5)).run(2000.0)
    assert client.most == stated.limit(2000.0) == 1024


def test_a_stated_limit_that_is_refused_comes_back_and_never_passes() -> None:
    """A refusal lowers it to what was let in; then it grows back to what is stated, no further."""
    stated = Concurrency(start=20, most=100, adaptive=False)
    client = Client(stated, seconds=lambda _: 1.0).run(10.0)
    assert refuse(stated, 10.0, 60)
    assert stated.limit(10.0) == round(BETA * 60)
    client.run(400.0)
    assert stated.limit(400.0) == 100
    assert client.most == 100


def test_a_statement_can_change_during_the_search() -> None:
    """A run that states a limit ends the search; when it has left, the search goes on."""
    concurrency = Concurrency(start=20, most=1024)
    concurrency.state(7, most=1024)
    assert (concurrency.limit(0.0), concurrency.adaptive, concurrency.most) == (7, False, 7)
    concurrency.state(None, most=512)
    assert (concurrency.limit(0.0), concurrency.adaptive, concurrency.most) == (20, True, 512)


def test_what_is_lent_bounds_it() -> None:
    """A lease lowers the limit at once and gives it back; nothing lent is no call."""
    concurrency = Concurrency(start=20, most=1024)
    for lent, limit in ((5, 5), (0, 0), (1, 1), (math.inf, 20)):
        concurrency.cap(lent)
        assert concurrency.limit(0.0) == limit
    assert concurrency.most == 1024


def test_it_doubles_per_round() -> None:
    """Calls of one second, no limit at all: once a second until all that is allowed is used; few need two for a round."""
    client = Client(Concurrency(start=20, most=1024), seconds=lambda _: 1.0)
    assert [client.run(s + 0.5).most for s in (0, 1, 2, 3)] == [20, 40, 80, 160]
    assert client.run(8.0).most == 1024
    client = Client(Concurrency(start=4, most=1024), seconds=lambda _: 1.0)
    assert [client.run(s + 0.5).most for s in (0, 1, 2, 3, 4)] == [4, 4, 8, 16, 32]


def test_waiting_for_the_first_call_is_no_part_of_the_ramp() -> None:
    """An hour between the start and the first call changes nothing."""
    client = Client(Concurrency(start=20, most=1024), seconds=lambda _: 1.0)
    client.now_s = 3600.0
    assert [client.run(3600.5 + s).most for s in (0, 1, 2, 3)] == [20, 40, 80, 160]


def test_it_does_not_grow_while_it_is_not_used() -> None:
    """Ten calls in flight of twenty that are allowed prove nothing about more."""
    concurrency = Concurrency(start=20, most=1024)
    Client(concurrency, seconds=lambda _: 1.0, wanted=10).run(500.0)
    assert concurrency.limit(500.0) == 20


def test_one_episode_is_one_cut() -> None:
    """Sixty refusals of calls sent together cut once, to what was let in beside them."""
    concurrency = Concurrency(start=160, most=1024)
    marks = [concurrency.sent(0.0, n) for n in range(1, 161)]
    begins = [concurrency.throttled(0.1 + i / 1000, marks[100 + i], 159 - i, None) for i in range(60)]
    assert begins == [True] + [False] * 59
    assert concurrency.limit(0.2) == 90
    assert concurrency.limit(0.2 + COOL_S + REGROW_S) == 100


def test_a_call_sent_before_the_cut_does_not_cut_again() -> None:
    """However late its refusal comes; one sent since then does."""
    concurrency = Concurrency(start=100, most=1024)
    old = concurrency.sent(0.0, 100)
    assert refuse(concurrency, 1.0, 80)
    assert not concurrency.throttled(20.0, old, 40, None)
    assert concurrency.limit(20.0) > 70
    assert refuse(concurrency, 21.0, 70)


def test_refusals_never_take_it_below_half_of_what_was_let_in() -> None:
    """Within a minute: so that a minute of refusals for another limit leaves something to come back from."""
    concurrency = Concurrency(start=100, most=1024)
    Client(concurrency, seconds=lambda _: 1.0, wanted=100).run(5.0)
    assert concurrency.accepted == 100
    assert refuse(concurrency, 6.0, 1)
    assert concurrency.limit(6.0) == 45


def test_cuts_for_another_limit_are_taken_back() -> None:
    """Once it is clear that a window refused, the limit stands where it stood before the first of them."""
    concurrency = Concurrency(start=100, most=1024)
    Client(concurrency, seconds=lambda _: 1.0, wanted=100).run(0.5)
    for second, in_flight in ((1, 60), (4, 20), (8, 4), (12, 1)):
        assert refuse(concurrency, second, in_flight)
    assert concurrency.limit(13.0) <= 4
    concurrency.acquit(13.0)
    assert concurrency.limit(13.0) == 100
    refuse(concurrency, 14.0, 50)
    concurrency.acquit(14.0 + MEMORY_S + 1)
    assert concurrency.limit(14.0 + MEMORY_S + 1) < 60


def test_a_hint_to_wait_delays_the_way_back() -> None:
    """Growth begins after it, not during it."""
    hinted, plain = (Concurrency(start=100, most=1024) for _ in range(2))
    for concurrency, hint in ((hinted, 30.0), (plain, None)):
        concurrency.throttled(0.0, concurrency.sent(0.0, 100), 80, hint)
    assert hinted.limit(32.0) < plain.limit(32.0) == 80
    assert hinted.limit(60.0) == 80


def test_growth_is_paused_in_calm() -> None:
    """Neither doubled nor grown back, and afterwards continued from there."""
    concurrency = Concurrency(start=20, most=1024)
    client = Client(concurrency, seconds=lambda _: 1.0)
    for tenth in range(40):
        client.run(tenth / 10)
        concurrency.calm(tenth / 10)
    assert concurrency.limit(4.0) == 20
    client.run(40.0)
    assert concurrency.limit(40.0) > 500
    ceiling = Ceiling()
    ceiling.refused(0.0, ceiling.sent(100), 100, 100, None)
    calm = ceiling.limit(10.0)
    ceiling.pauses.pause(10.0, 15.0)
    assert ceiling.limit(24.9) == calm
    assert ceiling.limit(40.0) == pytest.approx(100 * (1 - 0.1 * (1 - 23 / 30) ** 3) + 0.5)


def test_a_few_broken_calls_do_not_pause_growth() -> None:
    """One in twenty fails: the search goes on; most fail: it stands."""
    for every, grows in ((20, True), (2, False)):
        concurrency = Concurrency(start=20, most=1024)
        client = Client(concurrency, seconds=noisy(1))
        for step in range(1, 4000):
            before = client.done
            client.run(step / 200)
            for _ in range(before // every, client.done // every):
                concurrency.failed(client.now_s)
        assert (concurrency.limit(20.0) >= 800) is grows


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 30)), max_size=30))
def test_a_paused_clock_stands_still_exactly_while_it_is_paused(pauses: list[tuple[float, float]]) -> None:
    """It never runs backwards, and all pauses together are what it is behind."""
    clock, now_s, behind_s, until_s, last_s = Pauses(), 0.0, 0.0, -math.inf, -math.inf
    for wait_s, seconds in pauses:
        now_s += wait_s
        clock.pause(now_s, seconds)
        behind_s += max(0.0, now_s + seconds - max(now_s, until_s))
        until_s = max(until_s, now_s + seconds)
        assert clock.read(now_s) >= last_s - 1e-9
        last_s = clock.read(now_s)
    assert clock.read(now_s + 1000) == pytest.approx(now_s + 1000 - behind_s)


def test_the_way_back_stops_where_something_else_is_in_the_way() -> None:
    """What was not used for an hour is not the right to a burst afterwards."""
    concurrency = Concurrency(start=100, most=1024)
    client = Client(concurrency, seconds=lambda _: 1.0, wanted=100).run(1.5)
    assert refuse(concurrency, 1.5, 80)
    client.wanted = 20
    client.run(1800.0)
    assert concurrency.limit(1800.0) <= 80
    client.wanted = 1000
    concurrency.cap(20)
    client.run(3600.0)
    concurrency.cap(math.inf)
    assert concurrency.limit(3600.0) <= 81


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["send", "send", "send", "ok", "ok", "refuse", "fail", "calm", "acquit", "state", "lend", "later"]
        ),
        max_size=300,
    ),
    st.integers(1, 50),
    st.integers(1, 60),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_whatever_happens_the_limit_is_a_number_in_its_bounds(
    story: list[str], start: int, most: int, adaptive: bool, seed: int
) -> None:
    """At least one, at most what is stated and lent, and nothing is ever sent beyond it (P2); it never raises."""
    chance = random.Random(seed)
    concurrency = Concurrency(start=start, most=most, adaptive=adaptive, learnt=chance.choice([None, None, 1, 17, 900]))
    marks: list[Mark] = []
    now_s, lent = 0.0, math.inf
    for word in story:
        limit = concurrency.limit(now_s)
        assert 1 <= limit <= min(concurrency.most, lent)
        if word == "send" and len(marks) < limit:
            marks.append(concurrency.sent(now_s, len(marks) + 1))
        elif word in {"ok", "refuse", "fail"} and marks:
            end(concurrency, word, now_s, marks, chance)
        elif word == "lend":
            lent = chance.choice([1, 5, math.inf])
            concurrency.cap(lent)
        elif word == "later":
            now_s += chance.choice([0.0, 0.01, 1.0, 100.0])
        elif word == "state":
            concurrency.state(chance.choice([None, 1, 9]), most=chance.choice([1, 30]))
        elif word in {"calm", "acquit"}:
            getattr(concurrency, word)(now_s)
        learnt = concurrency.learnt
        assert learnt is None or 1 <= learnt <= concurrency.most


def test_what_was_found_is_where_the_next_search_begins() -> None:
    """Nothing found, nothing remembered; a level that was recalled holds at once, without doubling past it."""
    fresh = Concurrency(start=20, most=1024)
    assert fresh.learnt is None
    Client(fresh, seconds=noisy(0, knee=40, slope=0.5)).run(200.0)
    learnt = fresh.learnt
    assert learnt is not None
    assert 30 <= learnt <= 55
    recalled = Concurrency(start=20, most=1024, learnt=learnt)
    client = Client(recalled, seconds=noisy(1, knee=40, slope=0.5)).run(60.0)
    assert client.most <= 1.6 * learnt
    assert client.done / 60 >= 0.85 * 40


def test_a_recalled_level_that_is_too_low_is_left_behind() -> None:
    """The server of today has no knee: the steps upwards grow as they pay."""
    recalled = Concurrency(start=20, most=1024, learnt=10)
    Client(recalled, seconds=noisy(2)).run(300.0)
    assert recalled.limit(90.0) >= 400


@pytest.mark.parametrize(
    ("knee", "slope", "start", "seconds"), [(4, 0.5, 4, 1500), (40, 0.0, 20, 300), (40, 0.5, 20, 300)]
)
def test_growth_that_does_not_pay_is_taken_back(knee: int, slope: float, start: int, seconds: float) -> None:
    """Past a knee, without any refusal: within a tenth of the throughput at the knee, in the mean of five seeds."""
    shares = []
    for seed in range(5):
        client = Client(Concurrency(start=start, most=1024), seconds=noisy(seed, knee=knee, slope=slope))
        before = client.run(seconds / 2).done
        shares.append((client.run(seconds).done - before) / (seconds / 2) / knee)
    assert sum(shares) / len(shares) >= 0.9


def test_noise_does_not_stop_growth() -> None:
    """Without a knee: from 20 to four fifths of 1024 within 12 mean latencies, for each of twenty seeds."""
    for seed in range(20):
        client = Client(Concurrency(start=20, most=1024), seconds=noisy(seed)).run(12.0)
        assert client.most >= 0.8 * 1024


@pytest.mark.parametrize(
    ("knee", "sigma", "share"),
    [(8, 0.02, 0.92), (8, 0.5, 0.86), (40, 0.02, 0.84), (40, 0.2, 0.77), (40, 0.5, 0.79), (200, 0.02, 0.70),
     (200, 0.5, 0.67)],
)  # fmt: skip
def test_ramp_and_search_cost_little(knee: int, sigma: float, share: float) -> None:
    """From 4, 40 mean latencies: so much of what the knee gives, half the servers flat past it, half falling; and never
    more than four times the knee in flight. (Sitting at each level for 20 calls, and at the levels beside the knee until
    a default of noise was beaten, made 0.55 to 0.70 of a knee of 40.)"""
    shares = []
    for seed in range(3):
        for slope in (0.0, 0.5):
            seconds = noisy(seed, knee=knee, slope=slope, sigma=sigma)
            client = Client(Concurrency(start=4, most=1024), seconds=seconds).run(40.0)
            assert client.most <= 4 * knee
            shares.append(client.done / 40.0 / knee)
    assert sum(shares) / len(shares) >= share


def test_calls_that_end_together_do_not_mislead() -> None:
    """All take the same time, so that whole batches fall in a round or out of it: near the knee after 12 s, and there."""
    for slope in (0.0, 0.5):
        concurrency = Concurrency(start=4, most=1024)
        client = Client(concurrency, seconds=noisy(0, knee=40, slope=slope, sigma=0.002)).run(12.0)
        before = client.done
        for second in range(13, 120):
            client.run(float(second))
            assert 30 <= concurrency.limit(second) <= 64
        assert (client.done - before) / 107.0 >= 0.9 * 40


def test_slow_calls_left_over_from_too_many_in_flight_do_not_count() -> None:
    """What is measured at a level is what was sent at it: a tenth more than the knee is not taken for too few."""
    knee = Knee(20)
    knee.recall(20)
    now_s = 0.0
    for number in range(400):
        now_s += 0.05
        knee.sent(now_s, 20)
        knee.ok(now_s, 20, 1024, 30.0 if number % 2 else 1.0, 0.0)
        if knee.base is not None:
            break
    assert knee.base is not None
    assert knee.base.calls_per_s == pytest.approx(20.0)


def test_heavy_tails_do_not_stop_growth() -> None:
    """No knee, from 4, where eight calls are a round: of 2 % of 8 s: most of twenty seeds pass 800 in 16 s, all in 35."""
    times = []
    for seed in range(20):
        client = Client(Concurrency(start=4, most=1024), seconds=noisy(seed, slow=0.02))
        times.append(next(s for s in range(41) if s == 40 or client.run(float(s)).most >= 800))
    assert sorted(times)[15] <= 16
    assert max(times) <= 35


def test_what_something_else_limits_is_not_searched_without_need() -> None:
    """All that is allowed is used and nothing changes, stragglers or not: it stays so for the minute of a hold."""
    for slow in (0.0, 0.02):
        concurrency = Concurrency(start=20, most=1024)
        client = Client(concurrency, seconds=noisy(5, slow=slow)).run(12.0)
        for second in range(13, 60):
            assert concurrency.limit(second) == 1024
            client.run(float(second))


def test_tokens_count_where_they_are_told() -> None:
    """Answers ten times as long are no knee: as many tokens a second come from each call in flight."""
    levels = []
    for told in (True, False):
        knee, now_s, in_flight, chance = Knee(20), 0.0, 0, random.Random(3)
        ends: list[tuple[float, float, float]] = []
        while now_s < 40.0:
            while in_flight < min(512, knee.level):
                in_flight += 1
                knee.sent(now_s, in_flight)
                long = 10.0 if now_s > 1.0 else 1.0
                heapq.heappush(ends, (now_s + long * math.exp(chance.gauss(0.0, 0.3)), now_s, 100.0 * long))
            now_s, began_s, tokens = heapq.heappop(ends)
            in_flight -= 1
            knee.ok(now_s, in_flight, 512, now_s - began_s, tokens if told else 0.0)
        levels.append(min(512, knee.level))
    assert levels[0] > levels[1]


def test_a_doubling_that_meets_a_refusal_leaves_the_limit_to_it() -> None:
    """And a step up that meets one is taken back."""
    knee = Knee(20)
    knee.disturbed(0.0, refused=True)
    assert knee.level == math.inf
    knee.recall(50)
    now_s = 0.0
    for _ in range(100_000):
        if knee.level != 50:
            break
        now_s += 0.02
        knee.sent(now_s, 50)
        knee.ok(now_s, 50, 1024, 1.0, 0.0)
    assert knee.level > 50
    knee.disturbed(now_s, refused=True)
    assert knee.level == 50


def test_its_repr_is_its_limit() -> None:
    """For the gate's line."""
    concurrency = Concurrency(start=20, most=1024)
    assert repr(concurrency) == "20"
    concurrency.cap(3)
    assert repr(concurrency) == "3"
