"""What a run cost, in virtual time, against the books of a provider that knows what it charged: with retries, backups,
time-outs, answers asked again, equal items, failures and reruns."""

import asyncio
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Reply, Request
from headrace.core.errors import Throttled, Transient
from headrace.core.event import AskedAgain, CallEnded, Event
from headrace.core.item import Outcome
from headrace.engine.runner import Runner
from headrace.engine.snapshot import Snapshot, figures_of, snapshot_of
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from headrace.task.ask import AskTask
from headrace.task.price import FREE, Price, Rate
from headrace.task.prompt import Template
from headrace.task.schema import returns_of
from sim.world import Rows, collect, runner

PRICE = Price((Rate(0, 2.0, 0.5, 2.5, 8.0, 8.0), Rate(150, 4.0, 1.0, 5.0, 16.0, 16.0)), call=0.0001)


class Books:
    """Answers after a while, and charges what `PRICE` says: for answers, and the input of calls that were left."""

    def __init__(self, seed: int = 0, *, slow: float = 0.0, wrong: float = 0.0, faults: float = 0.0) -> None:
        self._chance = random.Random(seed)
        self._slow, self._wrong, self._faults = slow, wrong, faults
        self.answered = self.left = 0.0
        self.calls = 0

    async def __call__(self, request: Request) -> Reply:
        self.calls += 1
        into, out = self._chance.randint(1, 300), self._chance.randint(1, 40)
        cached = self._chance.choice([None, 0, into // 2])
        luck = self._chance.random()
        seconds = 200.0 if self._chance.random() < self._slow else self._chance.uniform(0.5, 1.5)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.left += PRICE.usd(1, 0) or 0.0
            raise
        if luck < self._faults / 2:
            raise Throttled("slow down", retry_after_s=0.1, status=429)
        if luck < self._faults:
            raise Transient("oops", status=500)
        self.answered += PRICE.usd(into, out, cached) or 0.0
        text = "nonsense" if self._chance.random() < self._wrong else '{"n": 1}'
        return Reply(text, input_tokens=into, output_tokens=out, cached_tokens=cached)


def done(
    books: Any, count: int = 60, *, memory: Memory | None = None, price: Price | None = PRICE, rows: Any = None, **more: Any
) -> tuple[list[Outcome], Snapshot, list[Event], Memory]:  # fmt: skip
    memory = memory or Memory()
    events: list[Event] = []
    asked = AskTask(Template("{text}"), endpoint=("test", ""), model="m", returns=returns_of("n: int"))

    async def main() -> tuple[list[Outcome], Runner]:
        made = runner(
            books, Rows(rows or [f"t{number}" for number in range(count)]), MemoryStore(memory), task=asked,
            events=events, price=price, **more,
        )  # fmt: skip
        return await collect(made), made

    outcomes, made = run(main())
    return outcomes, made.tally.snapshot(0.0), events, memory


def paid(outcomes: list[Outcome]) -> float:
    return sum(outcome.usd or 0.0 for outcome in outcomes if not outcome.cached)


def test_a_run_costs_what_its_answers_cost() -> None:
    """Each outcome has its own dollars, the run their sum, an item the mean; so says the store afterwards."""
    books = Books()
    outcomes, found, events, memory = done(books)
    assert found.usd == pytest.approx(books.answered)
    assert paid(outcomes) == pytest.approx(books.answered)
    assert found.usd_an_item == pytest.approx(books.answered / 60)
    assert (found.unpriced, found.paid_again_usd, found.given_up_usd) == (0, {}, 0.0)
    assert MemoryStore(memory).counts("r").usd == pytest.approx(books.answered)
    ended = [event for event in events if isinstance(event, CallEnded)]
    assert all(event.usd and event.input_tokens and event.output_tokens for event in ended)
    assert snapshot_of(figures_of(found)) is not None
    kept = snapshot_of(figures_of(found))
    assert kept is not None
    assert (kept.usd, kept.stage_usd) == (found.usd, found.stage_usd)


def test_what_is_in_the_store_costs_nothing() -> None:
    """Equal items are paid for once, and a rerun pays for nothing; the run's dollars stay those that were paid."""
    books = Books()
    rows = [f"t{number % 7}" for number in range(40)]
    outcomes, found, _, memory = done(books, rows=rows)
    assert books.calls == 7
    assert found.usd == pytest.approx(books.answered)
    assert paid(outcomes) == pytest.approx(books.answered)
    again, later, _, _ = done(Books(seed=9), rows=rows, memory=memory)
    assert len(again) == 40
    assert (later.usd, later.calls) == (None, 0)
    assert MemoryStore(memory).counts("r").usd == pytest.approx(books.answered)


def test_an_answer_asked_again_is_paid_twice() -> None:
    """The outcome costs both answers; the first is told as paid again, and is a part of the sum."""
    books = Books(wrong=0.3)
    outcomes, found, events, _ = done(books, 200)
    assert found.usd == pytest.approx(books.answered)
    assert paid(outcomes) == pytest.approx(books.answered)
    firsts = [event.usd for event in events if isinstance(event, AskedAgain)]
    assert len(firsts) > 20
    assert found.paid_again_usd["asked again"] == pytest.approx(sum(usd or 0.0 for usd in firsts))
    assert found.given_up_usd == 0.0
    assert any(not outcome.ok and outcome.usd for outcome in outcomes), "both answers of some item were wrong, and paid"


def test_failed_calls_cost_nothing() -> None:
    """Refusals and failures are no part of what was paid, and of no unknown cost either."""
    books = Books(faults=0.3)
    outcomes, found, _, _ = done(books, 150)
    assert found.retries > 20
    assert found.usd == pytest.approx(books.answered)
    assert found.usd == pytest.approx(paid(outcomes))
    assert found.unpriced == 0


@pytest.mark.parametrize(("cause", "more"), [("timeout", {"timeout_s": 10.0}), ("backup", {"backup_share": 0.1})])
def test_a_call_given_up_may_have_been_paid_for(cause: str, more: dict[str, Any]) -> None:
    """What it may have cost at most is told by its cause, beside what the answers cost, and covers what was charged."""
    books = Books(slow=0.03)
    outcomes, found, events, _ = done(books, 300, timeout_s=more.pop("timeout_s", 400.0), **more)
    assert all(outcome.ok for outcome in outcomes)
    assert found.usd == pytest.approx(books.answered)
    assert found.paid_again[cause] > 0
    assert 0 < found.paid_again_usd[cause] <= found.given_up_usd
    assert books.left <= found.given_up_usd
    given_up = [event for event in events if isinstance(event, CallEnded) and event.paid]
    assert all(event.usd and event.usd > 0 for event in given_up)


def test_without_a_price_nothing_is_taken_for_free() -> None:
    """Then there are no dollars, and each answered call is of unknown cost."""
    outcomes, found, _, memory = done(Books(), price=None)
    assert (found.usd, found.unpriced, found.usd_an_item, found.stage_usd) == (None, 60, None, {})
    assert all(outcome.usd is None for outcome in outcomes)
    assert MemoryStore(memory).counts("r").usd is None


def test_what_is_free_costs_zero() -> None:
    """The local model costs 0, which is known: it is not nothing."""
    outcomes, found, _, memory = done(Books(), price=FREE)
    assert (found.usd, found.unpriced) == (0.0, 0)
    assert {outcome.usd for outcome in outcomes} == {0.0}
    assert MemoryStore(memory).counts("r").usd == 0.0


def test_an_answer_that_tells_no_tokens_is_of_unknown_cost() -> None:
    """The sum is then at least what is known, and says of how many calls it is not."""

    class Shy(Books):
        async def __call__(self, request: Request) -> Reply:
            reply = await super().__call__(request)
            if self.calls % 3:
                return reply
            self.answered -= PRICE.usd(reply.input_tokens, reply.output_tokens, reply.cached_tokens) or 0.0
            return Reply(reply.text)

    books = Shy()
    outcomes, found, _, _ = done(books, 30, concurrency=1)
    assert found.unpriced == 10
    assert found.usd == pytest.approx(books.answered)
    assert sum(outcome.usd is None for outcome in outcomes) == 10


def test_a_provider_that_tells_what_it_charged_is_believed() -> None:
    """A reply with dollars of its own keeps them."""

    class Tells(Books):
        async def __call__(self, request: Request) -> Reply:
            reply = await super().__call__(request)
            return Reply(reply.text, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens, usd=0.25)

    _, found, _, _ = done(Tells(), 8)
    assert found.usd == 2.0


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1 << 20), st.sampled_from([0.0, 0.05]), st.sampled_from([0.0, 0.2]), st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.2]), st.integers(1, 30),
)  # fmt: skip
def test_the_books_agree_whatever_happens(
    seed: int, slow: float, wrong: float, faults: float, backup: float, concurrency: int
) -> None:
    """Faults, time-outs, backups and wrong answers together: what answers cost is exact, what was left is covered."""
    books = Books(seed, slow=slow, wrong=wrong, faults=faults)
    outcomes, found, _, _ = done(
        books, 80, timeout_s=20.0, backup_share=backup, concurrency=concurrency, seed=seed
    )  # fmt: skip
    assert found.usd == pytest.approx(books.answered)
    assert paid(outcomes) <= books.answered * (1 + 1e-9)
    assert books.left <= found.given_up_usd + 1e-12
    assert math.isclose(sum(found.stage_usd.values()), found.usd or 0.0)
