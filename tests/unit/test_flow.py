"""Flow decisions, as numbers in and numbers out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import Verdict
from headrace.flow.gate import Gate, NotBefore, Refused, Ticket
from headrace.flow.patience import FirstSuccess
from headrace.flow.retry import Retry


def pause_s(
    verdict: Verdict,
    *,
    retry: Retry = Retry(),
    failures: int = 1,
    refusals: int = 0,
    waited_s: float = 0.0,
    hint_s: float | None = None,
    draw: float = 0.5,
) -> float | None:
    return retry.pause_s(
        verdict, failures=failures, refusals=refusals, waited_s=waited_s, hint_s=hint_s, chance=lambda: draw
    )


@given(st.lists(st.sampled_from(["ask", "settle", "hold", "later"]), max_size=200), st.integers(1, 5))
def test_the_gate_never_passes_its_limit(steps: list[str], concurrency: int) -> None:
    """G1: at every admission, calls in flight stay within the limit, and none starts during a hold."""
    gate, now_s = Gate(concurrency), 0.0
    tickets: list[Ticket] = []
    for step in steps:
        if step == "ask":
            answer = gate.ask(now_s)
            if isinstance(answer, Ticket):
                assert now_s >= gate.held_until_s
                tickets.append(answer)
            else:
                assert isinstance(answer, NotBefore)
                assert answer.at_s == (gate.held_until_s if now_s < gate.held_until_s else math.inf)
        elif step == "settle" and tickets:
            gate.settle(tickets.pop())
        elif step == "hold":
            gate.hold(now_s + 3, "429")
        else:
            now_s += 1
        assert gate.in_flight == len(tickets) <= concurrency


def test_the_gate_lets_in_whenever_it_can() -> None:
    """A free place is given at once; a settled one is free again; a ticket is settled once."""
    gate = Gate(2)
    first, second = gate.ask(0), gate.ask(0)
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert gate.ask(0) == NotBefore(math.inf)
    gate.settle(first)
    assert isinstance(gate.ask(0), Ticket)
    with pytest.raises(KeyError):
        gate.settle(first)


def test_a_lowered_limit_preempts_nobody() -> None:
    """Those in flight go on; nobody new comes in until they are fewer."""
    gate = Gate(3)
    tickets = [gate.ask(0) for _ in range(3)]
    gate.concurrency = 1
    assert gate.in_flight == 3
    for ticket in tickets[:2]:
        assert isinstance(ticket, Ticket)
        gate.settle(ticket)
    assert gate.ask(0) == NotBefore(math.inf)


def test_a_hold_is_never_shortened() -> None:
    """The longest pause a provider asked for counts."""
    gate = Gate(1)
    assert gate.hold(10, "429")
    assert not gate.hold(5, "429")
    assert gate.ask(7) == NotBefore(10)
    assert isinstance(gate.ask(10), Ticket)


def test_a_closed_gate_says_why() -> None:
    """The first reason stays, in the answer and in the repr."""
    gate = Gate(1)
    gate.close("credentials refused")
    gate.close("interrupted")
    assert gate.ask(0) == Refused("credentials refused")
    assert repr(gate) == "<Gate 0/1 in flight, closed: credentials refused>"
    assert repr(Gate(4)) == "<Gate 0/4 in flight, open>"


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


@given(st.integers(1, 10_000), st.floats(0, 0.999), st.floats(0, 500) | st.none())
def test_a_hint_is_the_floor_and_the_cap_the_bound(refusals: int, draw: float, hint_s: float | None) -> None:
    """Retry-After is never violated; jitter never passes 30 s."""
    wait_s = pause_s(Verdict.BACK_OFF, refusals=refusals, hint_s=hint_s, draw=draw)
    assert wait_s is not None
    assert (hint_s or 0) <= wait_s <= (hint_s or 0) + 30


@pytest.mark.parametrize("verdict", [Verdict.FAIL_ITEM, Verdict.STOP_RUN, Verdict.LEAVE_PENDING])
def test_other_verdicts_are_never_retried(verdict: Verdict) -> None:
    """Only RETRY and BACK_OFF are tried again."""
    assert pause_s(verdict, failures=0) is None


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
