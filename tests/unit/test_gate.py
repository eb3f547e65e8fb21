"""All limits of an endpoint, decided together: numbers in, numbers out."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.limits import Cost, End, Hints, Learnt, Told, Unit
from headrace.flow.concurrency import Concurrency
from headrace.flow.gate import Gate, NotBefore, Refused, Ticket


def gate_of(concurrency: int | None = None, *, rpm: float | None = None, tpm: float | None = None) -> Gate:
    """A gate with these limits stated."""
    gate = Gate(Concurrency(start=20, most=1000))
    stated = {Unit.CONCURRENCY: concurrency, Unit.REQUESTS: rpm, Unit.TOKENS: tpm}
    gate.state({unit: float(limit) for unit, limit in stated.items() if limit is not None}, most=1000)
    return gate


def let_in(gate: Gate, now_s: float, cost: Cost = Cost()) -> Ticket:
    answer = gate.ask(now_s, cost)
    assert isinstance(answer, Ticket), answer
    return answer


def until(gate: Gate, now_s: float, cost: Cost = Cost()) -> NotBefore:
    answer = gate.ask(now_s, cost)
    assert isinstance(answer, NotBefore), answer
    return answer


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["ask", "ask", "settle", "hold", "refuse", "give back", "later"]), max_size=200),
    st.integers(1, 5),
    st.sampled_from([None, 6.0, 60.0]),
)
def test_the_gate_never_passes_its_limits(steps: list[str], concurrency: int, rpm: float | None) -> None:
    """G1, P1, P2, P3: at every admission calls in flight stay within the limit, no minute sees more requests than
    stated, none starts during a hold, and when all is settled nothing is in flight."""
    gate, now_s = gate_of(concurrency, rpm=rpm), 0.0
    tickets: list[Ticket] = []
    starts: list[float] = []
    for step in steps:
        if step == "ask":
            answer = gate.ask(now_s)
            if isinstance(answer, Ticket):
                assert now_s >= gate.held_until_s
                assert len(tickets) < concurrency
                tickets.append(answer)
                starts.append(now_s)
            else:
                assert isinstance(answer, NotBefore)
                assert answer.at_s > now_s
        elif step == "settle" and tickets:
            gate.settle(tickets.pop(), now_s, End.OK)
        elif step == "give back" and tickets:
            starts.remove(tickets[-1].at_s)
            gate.give_back(tickets.pop(), now_s)
        elif step == "refuse" and tickets:
            gate.settle(tickets.pop(), now_s, End.THROTTLED, hints=Hints(retry_after_s=2.0))
        elif step == "hold":
            gate.hold(now_s + 3, "429")
        else:
            now_s += 1
        assert gate.in_flight == len(tickets) <= concurrency
        if rpm is not None:
            assert sum(start_s > now_s - 60 for start_s in starts) <= rpm
    for ticket in tickets:
        gate.settle(ticket, now_s, End.IGNORED)
    assert gate.in_flight == 0


def test_a_ticket_is_settled_once() -> None:
    """A free place is given at once; a settled one is free again; settling twice is a fault."""
    gate = gate_of(2)
    first, _ = let_in(gate, 0), let_in(gate, 0)
    assert until(gate, 0) == NotBefore(math.inf, "concurrency")
    gate.settle(first, 1, End.OK)
    let_in(gate, 1)
    with pytest.raises(KeyError):
        gate.settle(first, 1, End.OK)


def test_a_lowered_limit_preempts_nobody() -> None:
    """Those in flight go on; nobody new comes in until they are fewer."""
    gate = gate_of(3)
    tickets = [let_in(gate, 0) for _ in range(3)]
    gate.state({Unit.CONCURRENCY: 1.0}, most=1000)
    assert gate.in_flight == 3
    for ticket in tickets[:2]:
        gate.settle(ticket, 1, End.OK)
    assert until(gate, 1).at_s == math.inf
    gate.settle(tickets[2], 2, End.OK)
    let_in(gate, 2)


def test_a_hold_is_never_shortened() -> None:
    """The longest pause a provider asked for counts, and its reason is told."""
    gate = gate_of(1)
    gate.hold(10, "It asks to wait.")
    gate.hold(5, "sooner")
    assert until(gate, 7) == NotBefore(10, "backoff")
    assert gate.why("backoff") == "It asks to wait."
    let_in(gate, 10)


@pytest.mark.parametrize("end", [End.THROTTLED, End.OVERLOADED])
def test_retry_after_holds_the_endpoint(end: End) -> None:
    """P10: nothing is sent before the time that the provider named."""
    gate = gate_of(5)
    gate.settle(let_in(gate, 0), 0.2, end, hints=Hints(retry_after_s=7.0))
    assert until(gate, 0.3).at_s >= 7.2


def test_a_call_larger_than_a_limit_is_refused_for_good() -> None:
    """It would never fit, so it does not wait; a smaller one goes."""
    gate = gate_of(tpm=1000)
    answer = gate.ask(0, Cost(tokens=1001))
    assert isinstance(answer, Refused)
    assert "1000" in answer.reason
    let_in(gate, 0, Cost(tokens=900))


def test_tokens_are_settled_to_the_truth() -> None:
    """G1: what was reserved too much is there again; what was too little is charged."""
    gate = gate_of(tpm=6000)
    ticket = let_in(gate, 0, Cost(tokens=5000))
    assert until(gate, 0, Cost(tokens=2000)).at_s > 1
    gate.settle(ticket, 1, End.OK, cost=Cost(tokens=100))
    used = {use.unit: use.used for use in gate.uses(1)}
    assert used[Unit.TOKENS] == pytest.approx(100)


def test_a_refused_call_counts_but_its_tokens_do_not() -> None:
    """A request counts whatever becomes of it; tokens only where the call was let in."""
    gate = gate_of(rpm=100, tpm=6000)
    gate.settle(let_in(gate, 0, Cost(tokens=3000)), 1, End.THROTTLED, hints=Hints(blamed=Unit.REQUESTS))
    used = {use.unit: use.used for use in gate.uses(1)}
    assert used[Unit.TOKENS] == pytest.approx(0)
    assert used[Unit.REQUESTS] == pytest.approx(1)


def test_what_headers_tell_holds_from_then_on() -> None:
    """A limit is learnt from the first answer's headers, and shown as told."""
    gate = gate_of()
    hints = Hints(told=(Told(Unit.REQUESTS, limit=60, remaining=59, reset_s=1.0),))
    gate.settle(let_in(gate, 0), 0.5, End.OK, hints=hints)
    use = next(use for use in gate.uses(1) if use.unit is Unit.REQUESTS)
    assert (use.allowed, use.learnt) == (60, False)
    sent, now_s = 0, 1.0
    while now_s < 60:
        answer = gate.ask(now_s)
        if isinstance(answer, Ticket):
            sent += 1
            gate.settle(answer, now_s, End.OK)
        else:
            assert isinstance(answer, NotBefore)
            now_s = max(answer.at_s, now_s + 1e-6)
    assert 55 <= sent <= 60


def test_what_is_stated_is_never_passed() -> None:
    """A header that tells a higher limit than the user states changes nothing."""
    gate = gate_of(rpm=60)
    hints = Hints(told=(Told(Unit.REQUESTS, limit=6000, remaining=6000),))
    gate.settle(let_in(gate, 0), 0.5, End.OK, hints=hints)
    use = next(use for use in gate.uses(1) if use.unit is Unit.REQUESTS)
    assert use.allowed == 60


def test_a_named_limit_alone_is_cut() -> None:
    """Never two for one refusal: a refusal that names its limit leaves the others as they are."""
    gate = gate_of()
    tickets = [let_in(gate, 0) for _ in range(20)]
    gate.settle(tickets.pop(), 0.2, End.THROTTLED, hints=Hints(blamed=Unit.TOKENS))
    assert gate.concurrency.limit(0.2) == 20
    assert until(gate, 0.2).at_s > 0.2
    for ticket in tickets:
        gate.settle(ticket, 1.0, End.OK)
    assert gate.concurrency.limit(1.0) >= 20


def test_the_next_run_starts_where_this_one_ended() -> None:
    """What was found is remembered: limits told by headers, and what refusals showed."""
    gate = gate_of()
    told = Told(Unit.TOKENS, limit=90_000)
    gate.settle(let_in(gate, 0), 0.5, End.OK, hints=Hints(told=(told,)))
    learnt = gate.learnt(0.0)
    assert [each.limit for each in learnt.told] == [90_000]
    again = gate_of()
    again.recall(learnt)
    assert {use.unit: use.allowed for use in again.uses(0)}[Unit.TOKENS] == 90_000


def test_what_was_recalled_is_no_bound_for_what_is_told() -> None:
    """A limit that has been raised since is used as soon as it is told."""
    gate = gate_of()
    gate.recall(Learnt(told=(Told(Unit.REQUESTS, limit=60),)))
    gate.settle(let_in(gate, 0), 0.5, End.OK, hints=Hints(told=(Told(Unit.REQUESTS, limit=600, remaining=599),)))
    assert {use.unit: use.allowed for use in gate.uses(1)}[Unit.REQUESTS] == 600


def test_what_an_earlier_run_charged_counts_until_its_minute_is_over() -> None:
    """G1: a run that begins ten seconds after another has what that one left of the minute."""
    gate = gate_of(rpm=60)
    gate.recall(Learnt(spent={"requests": 59.0}), 100.0, 10.0)
    let_in(gate, 100.0)
    assert until(gate, 100.0).at_s >= 150.0


def test_one_refusal_among_many_is_the_calls_own() -> None:
    """A gateway that refuses at random cuts nothing and holds nobody; one that goes on refusing does."""
    gate = gate_of(100)
    tickets = [let_in(gate, 0) for _ in range(100)]
    assert gate.settle(tickets.pop(), 1.0, End.THROTTLED, hints=Hints(retry_after_s=5.0))
    let_in(gate, 1.0)
    assert gate.concurrency.limit(1.0) == 100
    alone = [gate.settle(tickets.pop(), 1.0, End.THROTTLED, hints=Hints(retry_after_s=5.0)) for _ in range(30)]
    assert not all(alone)
    assert until(gate, 1.1).at_s >= 6.0


@pytest.mark.parametrize("remaining", [1100, 0])
def test_a_refusal_that_tells_of_room_lowers_no_pace(remaining: int) -> None:
    """A limit of requests is told, and the refusal itself shows much of it left: it was not that. None left: it was."""
    gate = gate_of(100)
    told = Told(Unit.REQUESTS, limit=1200, remaining=1150, reset_s=1.0)
    for number in range(20):
        gate.settle(let_in(gate, number), number + 0.1, End.OK, hints=Hints(told=(told,)))
    refusal = Hints(told=(Told(Unit.REQUESTS, limit=1200, remaining=remaining, reset_s=1.0),))
    assert gate.settle(let_in(gate, 20.0), 20.1, End.THROTTLED, hints=refusal) is (remaining > 0)
    assert isinstance(gate.ask(20.2), Ticket) is (remaining > 0)


def test_a_probe_that_is_given_back_is_not_taken_for_let_in() -> None:
    """After a refusal one call goes; where it was not made after all, its silence opens nothing: another one goes."""
    gate = gate_of(100)
    tickets = [let_in(gate, 0.0) for _ in range(9)]
    gate.settle(tickets.pop(), 0.1, End.THROTTLED)
    for ticket in tickets[2:]:
        gate.settle(ticket, 0.2, End.FAILED)
    gate.give_back(let_in(gate, 0.3), 0.3)
    let_in(gate, 5.0)
    assert until(gate, 5.1).at_s > 5.1


def test_a_probe_of_a_rate_that_is_given_back_is_not_taken_for_let_in() -> None:
    """The same after a refusal that names its limit: one call at a time, until one was truly sent."""
    gate = gate_of(100)
    gate.settle(let_in(gate, 0.0), 0.1, End.THROTTLED, hints=Hints(blamed=Unit.REQUESTS))
    probe_s = until(gate, 0.1).at_s
    gate.give_back(let_in(gate, probe_s), probe_s)
    let_in(gate, probe_s + 5.0)
    assert until(gate, probe_s + 5.1).at_s > probe_s + 5.1


def test_dead_endpoints_are_not_asked_by_all() -> None:
    """After ten failures in a row the gate waits, and then lets one call through."""
    gate = gate_of(20)
    for ticket in [let_in(gate, 0) for _ in range(20)]:
        gate.settle(ticket, 1.0, End.FAILED)
    answer = until(gate, 1.0)
    assert answer.cause == "breaker"
    let_in(gate, answer.at_s)
    assert until(gate, answer.at_s).cause == "breaker"


def test_a_part_is_lent() -> None:
    """P19: of what is known, only the part that is this process's own is used; the rest when it comes back."""
    gate = gate_of(10, rpm=600)
    assert gate.limits() == {Unit.CONCURRENCY: 10, Unit.REQUESTS: 600}
    gate.lend(0.0, {Unit.CONCURRENCY: 3.0, Unit.REQUESTS: 300.0})
    assert gate.concurrency.limit(0) == 3
    assert gate.limits() == {Unit.CONCURRENCY: 10, Unit.REQUESTS: 600}
    gate.lend(0.0, {Unit.CONCURRENCY: 0.5})
    assert until(gate, 0.0).cause == "concurrency"
    gate.lend(0.0, {})
    assert gate.concurrency.limit(0) == 10


def test_the_gate_says_how_it_stands() -> None:
    """The repr is a status line."""
    gate = gate_of(3)
    let_in(gate, 0)
    assert repr(gate).startswith("<Gate 1/")
    assert "closed" in repr(gate)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000))
def test_nothing_stays_charged(seed: int) -> None:
    """P3: whatever ends come in whatever order, once all is settled and a window has passed nothing is used."""
    chance, now_s = random.Random(seed), 0.0
    gate = gate_of(8, rpm=600, tpm=60_000)
    tickets: list[Ticket] = []
    for _ in range(200):
        now_s += chance.random()
        answer = gate.ask(now_s, Cost(tokens=chance.uniform(1, 2000)))
        if isinstance(answer, Ticket):
            tickets.append(answer)
        if tickets and chance.random() < 0.6:
            ticket = tickets.pop(chance.randrange(len(tickets)))
            if chance.random() < 0.1:
                gate.give_back(ticket, now_s)
            else:
                end = chance.choice(list(End))
                truth = Cost(tokens=chance.uniform(1, 3000)) if end is End.OK else None
                gate.settle(ticket, now_s, end, cost=truth)
    for ticket in tickets:
        gate.settle(ticket, now_s, End.IGNORED)
    assert gate.in_flight == 0
    used = {use.unit: use.used for use in gate.uses(now_s + 200)}
    assert used[Unit.REQUESTS] == pytest.approx(0, abs=1e-6)
    assert used[Unit.TOKENS] == pytest.approx(0, abs=1e-6)
