"""Stages that are for some items, stages at which items may fail, and how many items are in flight: in virtual time."""

import asyncio
from typing import Any

import pytest

import headrace as hr
from headrace.core.errors import UsageError
from headrace.core.item import Outcome
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from sim.lines import Work, all_of, ends, line
from sim.world import Rows


def went(pipeline: hr.Pipeline[Any], count: int, memory: Memory | None = None) -> list[Outcome]:
    async def main() -> list[Outcome]:
        rows = Rows([f"t{number}" for number in range(count)])
        return await all_of(line(pipeline, rows, MemoryStore(memory or Memory()), in_flight=pipeline.in_flight))

    return run(main())


def test_a_stage_is_for_the_items_for_which_its_condition_holds() -> None:
    """The others pass by as they are, and no call is made for them."""
    work = Work(1.0)
    found = went(hr.Pipeline(hr.Map(work, when='text in ["t1", "t3"]'), hr.Map(Work(0.1))), 5)
    assert work.done == 2
    assert {outcome.item["text"] for outcome in found if outcome.item.get("after_1")} == {"t1", "t3"}
    assert len(found) == 5


def test_an_item_that_fails_may_go_on_with_why() -> None:
    """With a column for it nothing fails: the next stage knows by it, and leaves the item out."""
    first, second = Work(1.0, fails=frozenset({"t2"})), Work(0.1)
    memory = Memory()
    found = went(
        hr.Pipeline(hr.Map(first, failure="why"), hr.Map(second, when="why == null"), hr.Map(Work(0.2))), 4, memory
    )
    assert all(outcome.ok for outcome in found)
    assert (first.done, second.done) == (4, 3)
    fell = next(outcome for outcome in found if outcome.item["text"] == "t2")
    assert "no t2" in fell.item["why"]
    assert fell.attempts == 2
    assert len(ends(memory)) == 4


def test_an_item_that_fails_at_the_last_stage_may_be_a_result() -> None:
    """It ends with the value that it had before."""
    found = went(hr.Pipeline(hr.Map(Work(0.1)), hr.Map(Work(1.0, fails=frozenset({"t0"})), failure="why")), 2)
    assert [outcome.ok for outcome in found] == [True, True]


def test_so_many_items_of_the_source_are_in_flight() -> None:
    """With all that is made of them: the next is begun when one has ended."""
    at_work: set[str] = set()
    most = 0

    async def begin(row: dict[str, Any]) -> list[int]:
        nonlocal most
        at_work.add(row["text"])
        most = max(most, len(at_work))
        return [1, 2, 3]

    async def gathered(rows: list[dict[str, Any]]) -> dict[str, Any]:
        at_work.discard(rows[0]["text"])
        return {"count": len(rows)}

    work = Work(1.0)
    found = went(hr.Pipeline(hr.Expand(begin), hr.Map(work), hr.Reduce(gathered, each=True), in_flight=3), 20)
    assert len(found) == 20
    assert all(outcome.value == {"count": 3} for outcome in found)
    assert most <= 3
    assert work.most <= 9


def test_a_run_that_waits_for_room_can_be_stopped() -> None:
    """What was not begun is pending."""

    async def main() -> int:
        made = line(
            hr.Pipeline(Work(1.0), in_flight=2), Rows([f"t{n}" for n in range(9)]), MemoryStore(Memory()), in_flight=2
        )
        asyncio.get_running_loop().call_later(1.5, made.interrupt)
        return len(await all_of(made))

    assert run(main()) == 4


@pytest.mark.parametrize(
    "made",
    [
        lambda: hr.Pipeline(hr.Reduce(), in_flight=2),
        lambda: hr.Pipeline(hr.Top(1, by="n"), in_flight=2),
        lambda: hr.Pipeline(hr.Filter("a"), in_flight=0),
        lambda: hr.Pipeline(hr.Filter("a"), in_flight=True),
        lambda: hr.Ask("{a}", when="a ="),
        lambda: hr.Map(print, when=7),  # type: ignore[call-overload]
        lambda: hr.Fetch(when="import os"),
    ],
)
def test_what_cannot_work_is_told(made: Any) -> None:
    """Before anything is run, as a UsageError."""
    with pytest.raises(UsageError):
        made()


def test_it_is_written_and_read() -> None:
    """As TOML has it: conditions, columns for failures and the number in flight."""
    made = hr.Pipeline(
        hr.Fetch(failure="why"),
        hr.Extract(when="why == null"),
        hr.Ask("{text}", model="sim:", when="text"),
        in_flight=4,
    )
    assert hr.Pipeline.from_dict(made.to_dict()) == made
    assert hr.Pipeline(made, hr.Filter("a")).in_flight == 4
    assert made != hr.Pipeline(*made.stages)
