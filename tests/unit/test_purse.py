"""A purse and the books it draws on: never more than the budget, whoever dies, and nobody waits for ever."""

import math
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.core.call import Image, Message, Reply, Request
from headrace.core.digest import digest_of
from headrace.core.errors import Truncated
from headrace.core.item import Item
from headrace.core.ports import Drawn
from headrace.flow.budget import AHEAD_SHARE, NANO, Draw, Next, Purse, dollars, nanos
from headrace.flow.estimate import size_of
from headrace.flow.most import A_SCHEMA, AN_IMAGE, CAP, Most
from headrace.store import purses
from headrace.task.ask import AskTask
from headrace.task.price import Price, Rate
from headrace.task.prompt import Template
from headrace.task.schema import returns_of

LIMIT = 10_000


class Books:
    """A budget in a store, as the stores keep it."""

    def __init__(self) -> None:
        self.budget: purses.Budget | None = None
        self.alive: set[str] = set()
        self.draws = 0

    def draw(self, owner: str, purse: str, spent: int, hold: int, limit: int | None = None) -> Drawn:
        self.draws += 1
        asked = purses.Draw("b", purse, spent, hold, limit)
        self.budget, drawn = purses.drawn(self.budget, asked, owner, self.alive.__contains__)
        return drawn


class Process:
    """One purse with its calls; a draw may be under way."""

    def __init__(self, books: Books, name: str, purse: str, limit: int) -> None:
        self.books, self.name, self.purse_name = books, name, purse
        books.alive.add(name)
        self.purse = Purse(limit)
        self.calls: list[int] = []
        self.drawing: tuple[Draw, int] | None = None
        self.need = 0
        first = self.purse.first()
        self.purse.begin(first)
        self.purse.filled(books.draw(name, purse, 0, first.hold, limit))

    def begin(self) -> Draw | Next:
        order = self.purse.next(self.need)
        if isinstance(order, Draw):
            self.purse.begin(order)
            self.drawing = order, self.purse.spent
        return order

    def fill(self) -> None:
        assert self.drawing is not None
        order, spent = self.drawing
        self.drawing = None
        self.purse.filled(self.books.draw(self.name, self.purse_name, spent, order.hold))

    def ask(self, worst: int) -> bool:
        if self.purse.take(worst):
            self.calls.append(worst)
            self.need = 0
            return True
        self.need = self.need or worst
        return False

    def settle_down(self) -> Next:
        """All draws that there are to make, polling as often as is needed."""
        for _ in range(100):
            if self.drawing is not None:
                self.fill()
            order = self.begin()
            if isinstance(order, Next):
                return order
            self.fill()
        raise AssertionError("it draws for ever")


class Machine(RuleBasedStateMachine):
    """Processes that call, settle, draw, die and come back, in any order; a draw may be half done at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.numbers = count()
        self.limit = LIMIT
        self.processes: list[Process] = []
        self.gone = 0
        """What calls of dead processes may have cost, and what was spent by them."""
        self.spent = 0

    @rule(purse=st.sampled_from("abc"))
    @precondition(lambda self: len(self.processes) < 3)
    def start(self, purse: str) -> None:
        """A run starts, or one that died is resumed; a run is one process's at a time."""
        if all(process.purse_name != purse for process in self.processes):
            self.processes.append(Process(self.books, f"p{next(self.numbers)}", purse, self.limit))

    @rule(data=st.data(), worst=st.integers(1, LIMIT // 4))
    @precondition(lambda self: self.processes)
    def ask(self, data: st.DataObject, worst: int) -> None:
        """A call asks for its worst case."""
        data.draw(st.sampled_from(self.processes)).ask(worst)

    @rule(data=st.data(), share=st.one_of(st.none(), st.floats(0, 1)))
    @precondition(lambda self: any(process.calls for process in self.processes))
    def settle(self, data: st.DataObject, share: float | None) -> None:
        """A call ends, and came to its worst case or less; or nobody knows."""
        process = data.draw(st.sampled_from([process for process in self.processes if process.calls]))
        worst = process.calls.pop(data.draw(st.integers(0, len(process.calls) - 1)))
        cost = None if share is None else int(worst * share)
        process.purse.settle(worst, cost)
        self.spent += worst if cost is None else cost

    @rule(data=st.data())
    @precondition(lambda self: self.processes)
    def draw(self, data: st.DataObject) -> None:
        """A draw begins, or the one that is under way ends."""
        process = data.draw(st.sampled_from(self.processes))
        if process.drawing is None:
            process.begin()
        else:
            process.fill()

    @rule(data=st.data(), written=st.booleans())
    @precondition(lambda self: self.processes)
    def die(self, data: st.DataObject, written: bool) -> None:
        """kill -9, maybe after its draw was written and before it heard of that. Its calls may have been paid."""
        process = data.draw(st.sampled_from(self.processes))
        if process.drawing is not None and written:
            process.fill()
        self.spent += sum(process.calls)
        self.processes.remove(process)
        self.books.alive.discard(process.name)

    @rule(data=st.data())
    @precondition(lambda self: self.processes)
    def close(self, data: st.DataObject) -> None:
        """A run ends in order: calls that go on count in full, the rest goes back."""
        process = data.draw(st.sampled_from(self.processes))
        if process.drawing is not None:
            process.fill()
        self.spent += sum(process.calls)
        process.purse.spend_reserved()
        self.books.draw(process.name, process.purse_name, process.purse.spent, 0)
        self.processes.remove(process)
        self.books.alive.discard(process.name)

    @rule(more=st.integers(1, LIMIT))
    @precondition(lambda self: self.processes and self.limit < 5 * LIMIT)
    def raise_limit(self, more: int) -> None:
        """One of them is run again with more."""
        self.limit += more
        process = self.processes.pop(0)
        self.spent += sum(process.calls)
        self.books.alive.discard(process.name)
        self.processes.append(Process(self.books, f"p{next(self.numbers)}", process.purse_name, self.limit))

    @invariant()
    def never_passed(self) -> None:
        """What is spent in truth, and what calls in flight may cost, is within the budget, and in the books."""
        in_flight = sum(sum(process.calls) for process in self.processes)
        assert self.spent + in_flight <= self.limit
        if self.books.budget is not None:
            booked = self.books.budget.spent + sum(held.taken for held in self.books.budget.purses.values())
            assert self.spent + in_flight <= booked <= self.limit
        for process in self.processes:
            assert process.purse.reserved == sum(process.calls)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def alone(limit: int = LIMIT) -> Process:
    return Process(Books(), "p", "r", limit)


def test_a_call_that_fits_goes_and_one_that_does_not_ends_the_run() -> None:
    """Of a budget of 10,000 with calls of 300 that all cost that, 33 are made, and then it is spent."""
    process = alone()
    made = 0
    while True:
        while not process.ask(300):
            if process.settle_down() is Next.SPENT:
                assert made == 33
                assert process.purse.left == LIMIT - 33 * 300
                return
        process.purse.settle(process.calls.pop(), None)
        made += 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 1)), min_size=1, max_size=60))
def test_alone_it_spends_until_the_next_does_not_fit(calls: list[tuple[int, float]]) -> None:
    """With one call at a time: a call is refused only where what is left is less than its worst case."""
    process, spent = alone(), 0
    for worst, share in calls:
        if not process.ask(worst):
            verdict = process.settle_down()
            if not process.ask(worst):
                assert verdict is Next.SPENT
                assert LIMIT - spent < worst
                return
        process.calls.pop()
        process.purse.settle(worst, int(worst * share))
        spent += int(worst * share)


@settings(max_examples=60)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 9000))
def test_two_that_wait_do_not_wait_for_each_other(one: int, two: int, spent: int) -> None:  # noqa: C901 - two of everything
    """Whoever can go on with what both hold goes on; only where none can both are told that it is spent."""
    books = Books()
    first, second = Process(books, "p1", "a", LIMIT), Process(books, "p2", "b", LIMIT)
    if spent:
        assert first.ask(spent) or first.settle_down() is not None
        assert not first.need or first.ask(spent)
        first.purse.settle(first.calls.pop(), None)
    ended: dict[str, Any] = {}
    for _ in range(20):
        for process, need in ((first, one), (second, two)):
            if process.name not in ended and not process.calls:
                process.ask(need)
            if process.name not in ended:
                order = process.begin()
                if isinstance(order, Draw):
                    process.fill()
                elif order is Next.SPENT:
                    ended[process.name] = LIMIT - spent - sum(first.calls) - sum(second.calls)
    for process, need in ((first, one), (second, two)):
        if process.name in ended:
            assert ended[process.name] < need
        elif not process.calls:  # it waits for what the other holds, which is little beside its calls
            other = second if process is first else first
            assert other.calls
            assert need > LIMIT - spent - sum(other.calls) - 6 * max(LIMIT // AHEAD_SHARE, *other.calls)


def test_a_process_that_dies_takes_little_with_it() -> None:
    """What is lost beside the calls in flight is at most four hundredths of the budget, or six calls."""
    for limit, worst, in_flight in ((1_000_000, 10, 100), (1_000_000, 2000, 50), (100_000, 2000, 3)):
        books = Books()
        process = Process(books, "p", "r", limit)
        for number in range(400):
            while not process.ask(worst):
                assert process.settle_down() is Next.GO_ON
            if number >= in_flight:
                process.purse.settle(process.calls.pop(0), worst // 20)
            process.settle_down()
        lost = process.purse.taken - process.purse.spent - sum(process.calls)
        assert lost <= max(limit * 4 / AHEAD_SHARE, 6 * worst)


def test_draws_are_few_and_no_call_waits_for_one() -> None:
    """10,000 calls, 50 in flight, each draw as long as 20 calls: fewer than one draw for ten calls, and after the start
    no call finds the purse empty."""
    process = alone(1_000_000)
    process.books.draws = 0
    waited = since = 0
    for number in range(10_000):
        while not process.ask(100):
            waited += number > 200
            process.settle_down()
        if len(process.calls) > 50:
            process.purse.settle(process.calls.pop(0), 60)
        since += 1
        if process.drawing is None:
            process.begin()
            since = 0
        elif since >= 20:
            process.fill()
    assert waited == 0
    assert process.books.draws < 1000


def test_a_limit_that_was_lowered_pre_empts_nothing() -> None:
    """Another run lowers the limit: calls in flight go on, what is held ahead goes back, and no more is taken."""
    books = Books()
    first = Process(books, "p1", "a", LIMIT)
    for _ in range(8):
        while not first.ask(500):
            first.settle_down()
    second = Process(books, "p2", "b", 3000)
    assert not second.ask(100)
    for _ in range(10):
        assert second.begin() is not Next.SPENT, "what the other's calls leave may be enough"
        second.fill()
        assert not second.ask(100)
    first.need = 0
    first.purse.settle(first.calls.pop(), 500)
    first.settle_down()
    while first.ask(100):
        first.settle_down()
    assert sum(first.calls) + 500 <= 8 * 500 + 500
    while first.calls:
        first.purse.settle(first.calls.pop(), None)
        first.settle_down()
    assert first.settle_down() is Next.SPENT
    assert second.settle_down() is Next.SPENT
    assert books.budget is not None
    assert books.budget.limit == 3000


def test_what_cost_more_than_its_worst_case_is_counted() -> None:
    """A provider that charges more than anybody could know: the books have it all, and nothing more is taken."""
    process = alone()
    if not process.ask(100):
        process.settle_down()
        assert process.ask(100)
    process.purse.settle(process.calls.pop(), 20_000)
    assert process.settle_down() is Next.GO_ON
    assert not process.ask(1)
    assert process.settle_down() is Next.SPENT
    assert process.purse.left == 0
    process.books.draw("p", "r", process.purse.spent, 0)
    assert process.books.budget is not None
    assert process.books.budget.purses["r"].taken == 20_000


def test_money_is_counted_in_whole_billionths() -> None:
    """Rounded up, so that a million small amounts are never less than their sum."""
    usd = 0.000_000_123_4
    assert dollars(sum(nanos(usd) for _ in range(1_000_000))) >= usd * 1_000_000
    assert nanos(5.0) == 5 * NANO
    assert nanos(0.0) == 0


def request(text: str, **changes: Any) -> Request:
    return Request(digest_of(text), **{"model": "m", "messages": (Message("user", text),), **changes})


@given(st.text(max_size=200))
def test_no_text_is_more_tokens_than_bytes(text: str) -> None:
    """The bound of any text is at least its bytes, also where it is no Unicode, and says what comes out at most."""
    asked = request(text, params={"max_tokens": 50})
    into, out = Most().tokens(asked, size_of(asked))
    assert into >= len(text.encode("utf-8", "surrogatepass"))
    assert out == 50


def test_the_most_of_a_call_has_schema_pictures_and_every_answer() -> None:
    """A schema counts twice and what comes with it, a picture as much as any provider names, `n` answers n times."""
    plain = request("q")
    known, out = Most().tokens(plain, size_of(plain))
    assert out == CAP
    picture = request("q", messages=(Message("user", "q", (Image("https://a/b.png"), Image("https://a/c.png"))),))
    assert Most().tokens(picture, size_of(picture))[0] == known + 2 * AN_IMAGE
    mini = request("q", messages=picture.messages, model="gpt-4o-mini-2024-07-18")
    assert Most().tokens(mini, size_of(mini))[0] == known + 100_000
    typed = request("q", schema={"type": "object"}, params={"max_completion_tokens": 10, "n": 3})
    most = Most()
    assert most.tokens(typed, size_of(typed)) == (known + A_SCHEMA + 2 * len('{"type":"object"}'), 30)
    assert most.tokens(plain, size_of(plain))[0] == known, "what is remembered of a schema is that schema's"


@pytest.mark.parametrize("tokens", [(0, 0), (1, 1), (100, 4096), (199_999, 10), (200_001, 10), (1_000_000, 64_000)])
def test_no_answer_costs_more_than_its_worst_case(tokens: tuple[int, int]) -> None:
    """Whatever part was cached, written into the cache or thought, a call within its bounds costs its worst at most."""
    price = Price((Rate(0, 3.0, 0.3, 3.75, 15.0, 20.0), Rate(200_000, 6.0, 0.6, 7.5, 22.5, 22.5)), call=0.01)
    worst = price.worst(*tokens)
    for into in {0, tokens[0] // 2, tokens[0]}:
        for out in {0, tokens[1]}:
            for part in (None, 0, into, into // 3):
                usd = price.usd(into, out, part, min(out, part or 0), part)
                assert usd is not None
                assert usd <= worst * (1 + 1e-12)
    assert math.isfinite(worst)


CAPPED = {"endpoint": ("sim", ""), "model": "m", "cap": {"max_tokens": CAP}}


def test_a_maximum_output_of_our_own_is_sent_and_is_no_part_of_the_identity() -> None:
    """With it or without, a request is known by the same digest; the provider gets it, and it counts as the most."""
    item = Item("k", 0, {"text": "hello"})
    free = AskTask(Template("{text}"), endpoint=("sim", ""), model="m").request(item)
    capped = AskTask(Template("{text}"), **CAPPED).request(item)  # type: ignore[arg-type]
    assert capped.digest == free.digest
    assert (free.params, capped.params) == ({}, {"max_tokens": CAP})
    assert size_of(capped).max_output == CAP


@pytest.mark.parametrize("returns", [None, "label: good|bad"])
def test_an_answer_cut_by_our_own_maximum_says_so(returns: str | None) -> None:
    """As text it fails instead of being served short, and typed it names whose maximum it was; what was stored before is
    served as it is."""
    typed = None if returns is None else returns_of(returns)
    task = AskTask(Template("{text}"), returns=typed, **CAPPED)  # type: ignore[arg-type]
    with pytest.raises(
        Truncated, match=r"cut off at 4,096 tokens, which headrace set because there is a budget"
    ) as cut:
        task.value(Reply('{"label": "go', finish="length"))
    assert "--max-tokens" in cut.value.hint
    assert cut.value.raw
    if returns is None:
        assert task.value(Reply("a long st", finish="length", attempts=0)) == "a long st"
    else:
        assert task.value(Reply('{"label": "good"}', finish="length")) == {"label": "good"}
