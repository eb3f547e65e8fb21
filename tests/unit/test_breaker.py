"""The breaker: its states one by one, whole outages in virtual time, and stories made up by hypothesis."""

import math
import random
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.flow.breaker import NEXT, PAUSES_S, PROBE_S, Breaker, Sign, State


def opened(at_s: float = 100.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(at_s, breaker.sent(at_s))
    assert breaker.state == "open"
    return breaker


def closed_again(breaker: Breaker, at_s: float) -> None:
    for _ in range(3):
        breaker.ok(at_s, breaker.sent(at_s))
    assert breaker.is_closed


def test_closed_lets_everything_go() -> None:
    """A breaker that has seen nothing, or only successes, never holds a call."""
    breaker = Breaker()
    assert breaker.is_closed
    assert breaker.opened_at_s is None
    for now_s in range(1000):
        assert breaker.earliest(now_s) <= now_s
        breaker.ok(now_s, breaker.sent(now_s))
    assert repr(breaker) == "<Breaker closed>"


def test_ten_failures_in_a_row_open_it() -> None:
    """Nine do not, nor do any number of them with successes between, as long as they are fewer than half."""
    breaker = Breaker()
    for number in range(300):
        now_s = number / 10
        if number % 10 in (0, 5, 7):
            breaker.failed(now_s, breaker.sent(now_s))
        else:
            breaker.ok(now_s, breaker.sent(now_s))
    for _ in range(9):
        breaker.failed(31, breaker.sent(31))
    assert breaker.is_closed
    breaker.failed(31, breaker.sent(31))
    assert not breaker.is_closed
    assert breaker.opened_at_s == 31


@pytest.mark.parametrize(("failed", "ok", "opens"), [(10, 10, True), (9, 11, False), (9, 10, False), (30, 29, True)])
def test_half_of_the_recent_outcomes_open_it(failed: int, ok: int, *, opens: bool) -> None:
    """Half of at least twenty within thirty seconds are too many, however they are mixed."""
    breaker = Breaker()
    left_ok, left_failed = ok, failed
    now_s = 0.0
    while left_ok or left_failed:
        now_s += 20 / (ok + failed)
        if left_ok and left_ok >= left_failed:
            left_ok -= 1
            breaker.ok(now_s, breaker.sent(now_s))
        else:
            left_failed -= 1
            breaker.failed(now_s, breaker.sent(now_s))
    assert breaker.is_closed is not opens


def test_old_outcomes_are_forgotten() -> None:
    """Failures of half a minute ago say nothing about now."""
    breaker = Breaker()
    for number in range(18):
        end = breaker.failed if number % 2 else breaker.ok
        end(number / 18, breaker.sent(0))
    for number in range(8):
        breaker.failed(40 + number, breaker.sent(40))
    assert breaker.is_closed


def test_one_moment_is_enough_for_everything() -> None:
    """With time standing still it opens, and waits for time to go on."""
    breaker = opened(0.0)
    assert breaker.earliest(0.0) == PAUSES_S[0]
    assert breaker.earliest(PAUSES_S[0]) <= PAUSES_S[0]


def test_pauses_grow_to_three_seconds_and_count_from_the_sending() -> None:
    """However long an endpoint takes to fail, probes are at most that far apart."""
    breaker = opened(100)
    at_s = 100.0
    for pause_s in (*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]):
        assert breaker.earliest(at_s) == at_s + pause_s
        at_s += pause_s
        assert breaker.earliest(at_s) <= at_s
        number = breaker.sent(at_s)
        breaker.failed(at_s + 0.9, number)
    number = breaker.sent(at_s + 3)
    breaker.failed(at_s + 3 + 20, number)
    assert breaker.earliest(at_s + 23) <= at_s + 23
    assert breaker.opened_at_s == 100


def test_half_open_admits_one_then_two_then_four_and_closes() -> None:
    """Each answered probe doubles the places; the third in a row closes it."""
    breaker = opened(100)
    first = breaker.sent(101)
    assert breaker.state == "half-open"
    assert breaker.earliest(101) == 101 + PROBE_S
    breaker.ok(102, first)
    second, third = breaker.sent(102), breaker.sent(102)
    assert len({first, second, third}) == 3
    assert breaker.earliest(102) == 102 + PROBE_S
    breaker.ok(103, second)
    assert not breaker.is_closed
    for _ in range(3):
        assert breaker.earliest(103) <= 103
        breaker.sent(103)
    assert breaker.earliest(103) > 103
    breaker.ok(104, third)
    assert breaker.is_closed
    assert breaker.opened_at_s is None
    assert breaker.earliest(104) <= 104


def test_a_failed_probe_opens_it_again() -> None:
    """Then there is one place again, and answers of the other probes of that round count no more."""
    breaker = opened(100)
    breaker.ok(101, breaker.sent(101))
    left, right = breaker.sent(101), breaker.sent(101)
    breaker.failed(101.5, left)
    assert breaker.state == "open"
    assert breaker.earliest(101.5) == 102
    breaker.ok(101.6, right)
    breaker.failed(101.7, right)
    assert breaker.state == "open"
    assert breaker.earliest(101.7) == 102
    breaker.sent(102)
    assert breaker.earliest(102) > 102


def test_outcomes_of_an_earlier_state_are_ignored() -> None:
    """Calls sent before it opened, or while it was half-open, neither open nor close it when they end."""
    breaker = Breaker()
    early = [breaker.sent(0) for _ in range(50)]
    for number in early[:10]:
        breaker.failed(1, number)
    assert breaker.state == "open"
    for number in early[10:30]:
        breaker.ok(1.5, number)
    assert breaker.state == "open"
    first = breaker.sent(2)
    breaker.ok(2, first)
    second, third, extra = breaker.sent(2), breaker.sent(2), breaker.sent(2)
    breaker.ok(3, second)
    breaker.ok(3, third)
    assert breaker.is_closed
    for number in [*early[30:], extra]:
        breaker.failed(4, number)
    assert breaker.is_closed


@pytest.mark.parametrize("probe_s", [PROBE_S, 0.5, 60.0])
def test_a_silent_probe_does_not_freeze_it(probe_s: float) -> None:
    """After its time another goes, one at a time, for ever."""
    breaker = Breaker(probe_s=probe_s)
    for _ in range(10):
        breaker.failed(0, breaker.sent(0))
    now_s = breaker.earliest(0)
    sent = []
    for _ in range(100):
        sent.append(breaker.sent(now_s))
        assert breaker.earliest(now_s) == pytest.approx(now_s + probe_s)
        now_s = breaker.earliest(now_s)
    for number in sent:  # they time out
        breaker.failed(now_s, number)
    assert breaker.earliest(now_s) <= now_s + PAUSES_S[-1]


def test_silent_probes_of_a_round_leave_one_place() -> None:
    """Four that hang are not replaced by four."""
    breaker = opened(0)
    breaker.ok(1, breaker.sent(1))
    second, _ = breaker.sent(1), breaker.sent(1)
    breaker.ok(1, second)
    for _ in range(3):
        breaker.sent(1)
    assert breaker.earliest(1) == 1 + PROBE_S
    breaker.sent(1 + PROBE_S)
    assert breaker.earliest(1 + PROBE_S) == 1 + 2 * PROBE_S


def test_without_a_deadline_only_a_probes_end_can_tell() -> None:
    """Infinity means that there is no time to wait for."""
    breaker = Breaker(probe_s=math.inf)
    for _ in range(10):
        breaker.failed(0, breaker.sent(0))
    probe = breaker.sent(1)
    assert breaker.earliest(1e9) == math.inf
    breaker.failed(1e9, probe)
    assert breaker.earliest(1e9) <= 1e9


def test_an_endpoint_slower_than_a_probes_time_closes_it_all_the_same() -> None:
    """An answer that came late is an answer, and later probes are given more time."""
    breaker = opened(0)
    slow_s, now_s = 100.0, 1.0
    flying: list[tuple[float, int]] = []
    while not breaker.is_closed:
        wake_s = breaker.earliest(now_s)
        if flying and flying[0][0] <= wake_s:
            now_s, number = heappop(flying)
            breaker.ok(now_s, number)
        else:
            now_s = max(now_s, wake_s)
            heappush(flying, (now_s + slow_s, breaker.sent(now_s)))
        assert now_s < 3 * slow_s


def test_refusals_count_neither_way() -> None:
    """A thousand of them never open it; as the end of a probe they give its place back."""
    breaker = Breaker()
    for _ in range(1000):
        breaker.ignore(1, breaker.sent(1))
    assert breaker.is_closed
    breaker = opened(1)
    for _ in range(1000):
        assert breaker.earliest(2) <= 2
        probe = breaker.sent(2)
        assert breaker.earliest(2) > 2
        breaker.ignore(2, probe)
    closed_again(breaker, 2)


def test_a_refusal_between_failures_does_not_interrupt_their_row() -> None:
    """A limiter that answers in front of a dead server hides nothing."""
    breaker = Breaker()
    for _ in range(10):
        breaker.ignore(1, breaker.sent(1))
        breaker.failed(1, breaker.sent(1))
    assert breaker.state == "open"


def test_it_starts_anew_once_closed() -> None:
    """After an outage the failures before it are forgotten, and the pauses are short again."""
    breaker = opened(100)
    for at_s in (101, 103, 106, 109):
        breaker.failed(at_s, breaker.sent(at_s))
    closed_again(breaker, 112)
    for _ in range(9):
        breaker.failed(113, breaker.sent(113))
    assert breaker.is_closed
    breaker.failed(113, breaker.sent(113))
    assert breaker.earliest(113) == 114


def test_it_says_how_it_stands() -> None:
    """The repr is a line for people."""
    breaker = opened(100)
    assert repr(breaker) == "<Breaker open since 100.0 s, 0/1 probes out, next at 101.0 s>"
    breaker.sent(101)
    assert "half-open" in repr(breaker)
    assert breaker.state == "half-open"


def test_the_table_of_states_has_no_dead_end() -> None:
    """From every state every other one can be reached, and each sign is used."""
    assert {sign for _, sign in NEXT} == set(Sign)
    for start in State:
        reached = {start}
        for _ in State:
            reached |= {after for (before, _), after in NEXT.items() if before in reached}
        assert reached == set(State)


STEPS = st.sampled_from(["ask", "ok", "failed", "ignore", "later", "much later", "drop"])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(STEPS, st.integers(0, 30)), max_size=300))
def test_no_story_freezes_it(story: list[tuple[str, int]]) -> None:
    """Whatever happens: half-open places are kept, numbers never confuse it, and it can always close again."""
    breaker, now_s = Breaker(), 0.0
    flying: list[int] = []
    for what, which in story:
        if what == "ask":
            was = breaker.is_closed
            if breaker.earliest(now_s) <= now_s:
                number = breaker.sent(now_s)
                assert was or number not in flying
                flying.append(number)
        elif what == "later":
            now_s += 0.5
        elif what == "much later":
            now_s += 20
        elif flying:
            number = flying.pop(which % len(flying))
            if what != "drop":  # dropped ones never end
                getattr(breaker, what)(now_s, number)
        assert breaker.is_closed == (breaker.opened_at_s is None) == (breaker.state == "closed")
        assert len(breaker._probes) <= 8
    for _ in range(12):
        if not breaker.is_closed:
            now_s = max(now_s, breaker.earliest(now_s))
            assert now_s < math.inf
            breaker.ok(now_s, breaker.sent(now_s))
    assert breaker.is_closed


def run(
    *, slots: int, latency_s: tuple[float, float], down: tuple[float, float], mode: str, seed: int
) -> tuple[list[float], float]:
    """When calls were answered, and since when all places are busy: `slots` callers with nothing else to do, through
    an outage that refuses at once, fails slowly or hangs until the attempt's timeout of 10 s."""
    chance, breaker = random.Random(seed), Breaker()
    flying: list[tuple[float, int, bool, int]] = []
    answered: list[float] = []
    now_s, full_s, sent = 0.0, 0.0, 0
    while now_s < down[1] + 40:
        while len(flying) < slots and breaker.earliest(now_s) <= now_s:
            takes_s, ok = chance.uniform(*latency_s), not down[0] <= now_s < down[1]
            if not ok:
                takes_s = {"refuse": 0.002, "slow": latency_s[1], "hang": 10.0}[mode]
            sent += 1
            heappush(flying, (now_s + takes_s, sent, ok, breaker.sent(now_s)))
        if len(flying) < slots:
            full_s = math.inf
        elif full_s == math.inf:
            full_s = now_s
        wake_s = breaker.earliest(now_s) if len(flying) < slots else math.inf
        if flying and flying[0][0] <= wake_s:
            now_s, _, ok, number = heappop(flying)
            (breaker.ok if ok else breaker.failed)(now_s, number)
            if ok:
                answered.append(now_s)
        else:
            assert now_s < wake_s < math.inf, "frozen"
            now_s = wake_s
    assert breaker.is_closed
    assert sent < len(answered) + slots * 3 + 30 + (down[1] - down[0])
    return answered, full_s


@pytest.mark.parametrize("slots", [1, 2, 10, 100])
@pytest.mark.parametrize("length_s", [20.0, 61.3, 540.0])
@pytest.mark.parametrize(("latency_s", "mode"), [((0.2, 0.4), "refuse"), ((1.0, 2.0), "slow"), ((2.0, 2.0), "slow")])
def test_full_rate_returns_within_ten_seconds(
    slots: int, length_s: float, latency_s: tuple[float, float], mode: str
) -> None:
    """Ten seconds after the end of an outage all places have been busy for the time of a call."""
    for seed in range(4):
        down = (15.0, 15.0 + length_s + seed * 0.77)
        answered, full_s = run(slots=slots, latency_s=latency_s, down=down, mode=mode, seed=seed)
        assert full_s <= down[1] + 10 - latency_s[1]
        after = sum(down[1] + 10 <= at_s < down[1] + 30 for at_s in answered)
        assert after >= 0.9 * slots * 20 / (sum(latency_s) / 2) - 1


@pytest.mark.parametrize("length_s", [20.0, 300.0])
def test_an_outage_that_hangs_is_left_within_ten_seconds(length_s: float) -> None:
    """Also where nothing is refused and calls just never end, as long as places are free for probes."""
    for seed in range(5):
        down = (15.0, 15.0 + length_s + seed * 1.31)
        answered, full_s = run(slots=50, latency_s=(0.5, 2.0), down=down, mode="hang", seed=seed)
        assert full_s <= down[1] + 10
        after = sum(down[1] + 10 <= at_s < down[1] + 30 for at_s in answered)
        assert after >= 0.9 * 50 * 20 / 1.25
