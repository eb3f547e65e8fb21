"""G7 in virtual time: whatever fails, dies and comes back, spent and reserved never pass the budget; and nobody waits for
money that will not come."""

import asyncio
import math
import os
import random
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.core.call import Reply, Request
from headrace.core.errors import (
    BudgetSpent,
    HeadraceError,
    Overloaded,
    Rejected,
    StoreError,
    SystemicFailure,
    Throttled,
    Transient,
)
from headrace.core.event import BudgetUsed, CallStarted, Event, Gauge
from headrace.core.item import Outcome
from headrace.core.limits import Unit
from headrace.core.ports import Drawn
from headrace.engine.governor import Account
from headrace.engine.purse import Allowance, Treasurer
from headrace.engine.runner import Runner
from headrace.flow.retry import Retry
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from headrace.task.ask import AskTask
from headrace.task.price import Price, Rate
from headrace.task.prompt import Template
from sim.world import Rows, collect, runner

SCALE = float(os.environ.get("HEADRACE_SCALE", "0.1"))
RUNS = 10_000
PRICE = Price((Rate(0, 100.0, 10.0, 125.0, 1000.0, 1000.0),))
MOST_OUT = 50
WORST = PRICE.worst(256 + 16 + 2, MOST_OUT)
"""Of a call for `t0`: what the engine has to reserve for it."""


class Bank:
    """A provider that keeps books: every call that it might charge for counts from the moment it begins."""

    def __init__(self, seed: int, *, faults: float = 0.0, mean_s: float = 1.0) -> None:
        self._chance = random.Random(seed)
        self._faults, self._mean_s = faults, mean_s
        self.charged = 0.0
        """What it might ask for now, calls in flight included: never more than the budget."""
        self.most = math.inf
        self.calls = 0
        self.in_flight = 0

    async def __call__(self, request: Request) -> Reply:
        chance = self._chance
        text = request.messages[-1].content
        into = chance.randint(1, len(text.encode()) + 200)
        out = MOST_OUT if chance.random() < 0.2 else chance.randint(0, MOST_OUT)
        usd = PRICE.usd(into, out, written_tokens=into if chance.random() < 0.3 else None) or 0.0
        self.calls += 1
        self.in_flight += 1
        self.charge(usd)
        try:
            await asyncio.sleep(
                math.inf if chance.random() < self._faults / 4 else chance.expovariate(1 / self._mean_s)
            )
            if chance.random() < self._faults:
                free, error = chance.choice(_FAILURES)
                self.charge(-usd if free else 0.0)
                raise error
            told = None if chance.random() < self._faults / 4 else into
            return Reply(f"ok {text}", input_tokens=told, output_tokens=out, usd=None if told is None else usd)
        finally:
            self.in_flight -= 1

    def charge(self, usd: float) -> None:
        self.charged += usd
        assert self.charged <= self.most * (1 + 1e-9), f"{self.charged} of {self.most}"


_FAILURES: Sequence[tuple[bool, HeadraceError]] = (
    (True, Transient("500", status=500)),
    (True, Overloaded("529", status=529)),
    (True, Throttled("429", status=429)),
    (True, Rejected("400", status=400)),
    (False, Transient("reset")),
    (False, Transient("504", status=504)),
)
"""Whether nothing is charged for it, and how it fails."""


def funded(
    bank: Bank, texts: Sequence[str], store: MemoryStore, usd: float, *, budget: str = "run r", **settings: Any
) -> Runner:
    """A run within a budget, whose answers have 50 tokens at most."""
    task = AskTask(Template("{text}"), endpoint=("test", ""), model="m", params={"max_tokens": MOST_OUT})
    bank.most = usd
    return runner(
        bank, Rows(texts), store, task=task, price=PRICE, allowance=Allowance(budget, usd),
        **{"retry": Retry(), "timeout_s": 20.0, **settings},
    )  # fmt: skip


def texts(count: int, name: str = "t") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


def booked(memory: Memory, budget: str = "run r") -> float:
    """Dollars that are spent or held by somebody, as the store has it."""

    async def look() -> Drawn | None:
        return await MemoryStore(memory).budget(budget)

    drawn = run(look())
    return 0.0 if drawn is None else (drawn.spent + drawn.others) / 1e9


async def _session(made: Runner, store: MemoryStore, end_s: float | None) -> list[Outcome]:
    """The run to its end, or killed after `end_s`."""
    task = asyncio.ensure_future(collect(made))
    if end_s is not None:
        await asyncio.wait([task], timeout=end_s)
        if not task.done():
            store.crash()
            task.cancel()
            await asyncio.wait([task], timeout=1)
            return []
    return await task


def _seeded(seed: int) -> bool:
    """One world: a run with faults, backups and a budget, killed and resumed, at last with more. True where its budget
    was in the way."""
    chance = random.Random(seed)
    memory, rows = Memory(), texts(chance.randint(1, 12))
    bank = Bank(seed, faults=chance.choice([0.0, 0.1, 0.4]), mean_s=chance.choice([0.1, 1.0, 3.0]))
    usd = WORST * chance.choice([0.5, 1.0, 2.5, 6.0, 20.0, 100.0]) * chance.uniform(1.0, 1.5)
    settings = {
        "concurrency": chance.choice([1, 3, 10]), "backup_share": chance.choice([0.0, 0.5]),
        "retry": Retry(attempts=chance.choice([1, 3])), "seed": seed,
    }  # fmt: skip
    stopped = False
    for end_s in (*[chance.expovariate(1 / 3) for _ in range(chance.randint(0, 2))], None, None):
        store = MemoryStore(memory, commit_s=0.02)

        async def session(store: MemoryStore = store, end_s: float | None = end_s, usd: float = usd) -> Runner:
            made = funded(bank, rows, store, usd, **settings)  # type: ignore[arg-type]
            await _session(made, store, end_s)
            if end_s is None:
                await store.close()
            return made

        made = run(session())
        if end_s is not None:
            bank.in_flight = 0
        elif isinstance(made.error, BudgetSpent):
            stopped = True
        assert bank.charged <= booked(memory) * (1 + 1e-9) + 1e-12
        assert booked(memory) <= usd + 1e-9
        if end_s is None:
            assert isinstance(made.error, BudgetSpent | SystemicFailure) or made.info.status == "finished", made.info
        usd += chance.choice([0.0, 3 * WORST]) if end_s is None else 0.0
    return stopped


@pytest.mark.parametrize("part", range(10))
def test_g7_seeded_runs_never_pass_their_budget(part: int) -> None:
    """G7: 10,000 seeded runs with faults, time-outs, backups, answers without usage, kills and resumptions (a tenth in
    `make test`): what a provider might charge is never more than the budget, at no moment, and what the books of the
    store say is at least that."""
    count = int(RUNS * SCALE / 10)
    stopped = sum(_seeded(part * RUNS + number) for number in range(count))
    assert count // 10 <= stopped <= count - count // 10, "some budgets must be in the way, and some not"


def test_a_run_stops_where_the_next_call_does_not_fit_and_a_larger_budget_goes_on() -> None:
    """It says what is spent and what is left; the rerun takes up the rest, and pays for nothing twice."""
    memory, rows = Memory(), texts(60)

    async def once(bank: Bank, usd: float) -> tuple[Runner, list[Outcome]]:
        store = MemoryStore(memory)
        made = funded(bank, rows, store, usd)
        outcomes = await collect(made)
        await store.close()
        return made, outcomes

    bank = Bank(1)
    made, outcomes = run(once(bank, 20 * WORST))
    assert isinstance(made.error, BudgetSpent)
    assert made.info.status == "stopped"
    assert made.error.exit_status == 3
    assert "has no room for another call" in made.error.message
    assert "--budget" in made.error.hint
    assert 20 * WORST - bank.charged < WORST
    first = len(outcomes)
    assert 20 <= first < 60
    again, rest = run(once(bank, 200 * WORST))
    assert again.error is None
    assert len([outcome for outcome in rest if not outcome.cached]) == 60 - first
    assert bank.calls == 60


def test_runs_in_two_processes_share_a_budget_of_one_name() -> None:
    """Both spend of it, together no more than it, and both stop; what one gives back the other still uses."""
    memory = Memory()
    bank = Bank(2, faults=0.1)
    usd = 40 * WORST

    async def main() -> list[Runner]:
        stores = [MemoryStore(memory, commit_s=0.02) for _ in range(2)]
        both = [
            funded(
                bank, texts(100, name), store, usd, budget="name team", name=name, seed=number, account=Account(name)
            )
            for number, (name, store) in enumerate(zip("ab", stores, strict=True))
        ]
        await asyncio.gather(*(collect(each) for each in both))
        for store in stores:
            await store.close()
        return both

    both = run(main())
    assert all(isinstance(made.error, BudgetSpent) for made in both)
    assert 0.9 * usd <= booked(memory, "name team") <= usd + 1e-9


def test_a_call_without_money_holds_up_no_other_run() -> None:
    """Beside a run whose money is out while its calls are slow, another at the same account goes on at full pace."""
    memory = Memory()
    poor, rich = Bank(3, mean_s=50.0), Bank(4, mean_s=1.0)

    async def main() -> float:
        store = MemoryStore(memory)
        first = funded(poor, texts(30, "p"), store, 3.2 * WORST, concurrency=10, name="p", timeout_s=500)
        second = runner(rich, Rows(texts(100, "r")), store, concurrency=10, name="r")
        waiting = asyncio.ensure_future(collect(first))
        await asyncio.sleep(0.5)
        await collect(second)
        ended = asyncio.get_running_loop().time()
        await waiting
        return ended

    assert run(main()) < 30
    assert rich.calls == 100


def test_waiting_for_money_holds_no_permit_and_is_told() -> None:
    """While calls wait for money, none of them is in flight, and the gauge says what is in the way."""
    events: list[Event] = []
    bank = Bank(5, mean_s=5.0)

    async def main() -> Runner:
        made = funded(bank, texts(40), MemoryStore(), 4.5 * WORST, concurrency=20, events=events)
        await collect(made)
        return made

    assert isinstance(run(main()).error, BudgetSpent)
    gauges = [event for event in events if isinstance(event, Gauge)]
    assert all(gauge.in_flight <= 4 or gauge.in_flight == bank.in_flight for gauge in gauges[:5])
    assert any(gauge.binding == "budget" for gauge in gauges)
    assert gauges[-1].waited_s["budget"] > 1
    used = [event for event in events if isinstance(event, BudgetUsed)]
    assert used[-1].limit_usd == pytest.approx(4.5 * WORST)
    assert used[-1].own_usd == pytest.approx(bank.charged, rel=1e-6)
    assert used[-1].reserved_usd == 0.0


def test_what_a_limit_refuses_costs_nothing_and_takes_no_money_meanwhile() -> None:
    """Calls refused by the hundred, and calls that wait for their turn, hold no money: all of it becomes answers."""

    class Narrow(Bank):
        refused = 0

        async def __call__(self, request: Request) -> Reply:
            if self.in_flight >= 2:
                self.refused += 1
                raise Throttled("two at a time", status=429)
            return await super().__call__(request)

    bank = Narrow(6)

    async def main() -> list[Outcome]:
        return await collect(funded(bank, texts(30), MemoryStore(), 31 * WORST, concurrency=None))

    assert sum(outcome.ok for outcome in run(main())) == 30
    assert bank.refused > 0


def test_a_cancelled_call_counts_in_full() -> None:
    """A deadline drops what is in flight: nobody knows what it cost, so the books have its worst case."""
    memory, bank, events = Memory(), Bank(7, mean_s=1e6), []  # type: ignore[var-annotated]

    async def main() -> None:
        store = MemoryStore(memory)
        await collect(
            funded(bank, texts(5), store, 10 * WORST, concurrency=5, deadline_s=3, events=events, timeout_s=500)
        )
        await store.close()

    run(main())
    assert sum(isinstance(event, CallStarted) for event in events) == 5
    assert booked(memory) == pytest.approx(5 * WORST, rel=1e-6)


def test_a_store_that_breaks_ends_the_run() -> None:
    """Where nothing can be drawn any more, the run stops with the store's error, and no call goes on its own account."""

    class Broken(MemoryStore):
        async def draw(self, budget: str, purse: str, *, spent: int, hold: int, limit: int | None = None) -> Drawn:
            if limit is None and hold:
                raise StoreError("The disk is full.")
            return await super().draw(budget, purse, spent=spent, hold=hold, limit=limit)

    bank = Bank(8)

    async def main() -> Runner:
        made = funded(bank, texts(40), Broken(), 50 * WORST)
        await collect(made)
        return made

    made = run(main())
    assert isinstance(made.error, StoreError)
    assert bank.charged <= 50 * WORST / 100 + WORST


class Even(Bank):
    """Every call costs its worst case; every third of the first takes very long."""

    async def __call__(self, request: Request) -> Reply:
        self.calls += 1
        self.charge(EVEN)
        await asyncio.sleep(500.0 if self.calls in (70, 75, 79) else 1.0)
        return Reply("ok", input_tokens=10, output_tokens=MOST_OUT, usd=EVEN)


EVEN = PRICE.worst(256 + 16 + 3, MOST_OUT)


@pytest.mark.parametrize("more", [0.5, 3.5])
def test_a_backup_is_paid_for_as_any_call(more: float) -> None:
    """Second calls for stragglers are sent where the budget has room for their worst case, and not where it has none."""
    bank = Even(9)

    async def main() -> Runner:
        rows = [f"{number:03}" for number in range(80)]
        made = funded(
            bank, rows, MemoryStore(), (80 + more) * EVEN, concurrency=5, backup_share=0.2, timeout_s=400,
            retry=Retry(attempts=1),
        )  # fmt: skip
        await collect(made)
        return made

    made = run(main())
    assert bank.calls == 80 + int(more)
    assert made.tally.snapshot(0.0).backups == int(more)
    assert isinstance(made.error, BudgetSpent | None)


def test_what_goes_on_at_the_end_counts_in_full_and_nothing_after_it() -> None:
    """A purse is closed while a call of it goes on: its worst case is spent, whatever is told of it later."""
    memory = Memory()

    async def main() -> None:
        store = MemoryStore(memory)
        treasurer = Treasurer(store, Allowance("b", 5.0), "r", emit=lambda _: None, fatal=lambda _: None)
        await treasurer.open()
        assert treasurer.take(0.03)
        await treasurer.close()
        treasurer.settle(0.03, 0.01)
        await store.close()

    run(main())
    assert booked(memory, "b") == pytest.approx(0.03)


@pytest.mark.parametrize("stated", [5, None])
def test_a_run_that_dies_takes_little_with_it(stated: int | None) -> None:
    """However many items wait for a permit: whenever it is killed, no more is lost than its calls in flight might cost
    and what six calls might, or four hundredths of the budget."""
    for end_s in (0.03, 0.05, 0.1, 0.3, 1.0, 3.0):
        memory, bank = Memory(), Bank(10, mean_s=0.5)

        async def session(memory: Memory = memory, bank: Bank = bank, end_s: float = end_s) -> None:
            store = MemoryStore(memory, commit_s=0.02)
            made = funded(bank, texts(600), store, 200 * WORST, concurrency=stated)
            await _session(made, store, end_s)

        run(session())
        in_flight = 20 if stated is None else stated
        assert booked(memory) - bank.charged <= (in_flight + max(6, 8)) * WORST


def test_what_is_left_goes_to_the_call_that_still_waits_for_its_turn() -> None:
    """Two calls, money for one, and a limit of one a minute: the first is not given up because the second is too dear."""
    bank = Bank(11)
    cheap, dear = "t0", "t" * 400

    async def main() -> list[Outcome]:
        made = funded(
            bank, [cheap, cheap + "1", dear], MemoryStore(), 2.3 * WORST, concurrency=2, limits={Unit.REQUESTS: 1.0}
        )
        return await collect(made)

    assert [outcome.item["text"] for outcome in run(main()) if outcome.ok] == [cheap, cheap + "1"]
