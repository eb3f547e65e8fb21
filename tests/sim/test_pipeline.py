"""Pipelines in virtual time: stages overlap, hold each other back and nothing else, and lose nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from threading import Lock
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import InputError, UsageError
from headrace.core.event import Event, ItemsMade, ItemsServed, StageEnded, StageStarted
from headrace.core.item import Item, Outcome
from headrace.engine import stage as stage_module
from headrace.engine.snapshot import snapshot_of
from headrace.report.signs import UNICODE
from headrace.report.stages import stage_lines
from headrace.report.stages import stages as stages_told
from headrace.settings import Settings
from headrace.sim.loop import run
from headrace.staging import staged
from headrace.store.memory import Memory, MemoryStore
from headrace.task.pipeline import Cascade, Pipeline
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Map
from sim.lines import Work, all_of, ends, kinds, line
from sim.world import Rows


def texts(count: int) -> list[str]:
    return [f"t{number:03}" for number in range(count)]


def value_of(outcome: Outcome[Any]) -> Any:
    return outcome.value


def went(pipeline: Pipeline[Any], rows: Rows, memory: Memory, **more: Any) -> tuple[list[Outcome[Any]], float]:
    """All results, and how many virtual seconds they took."""

    async def main() -> tuple[list[Outcome[Any]], float]:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        found = await all_of(line(pipeline, rows, MemoryStore(memory), **more))
        return found, loop.time() - begun_s

    return run(main())


def test_three_stages_take_what_the_slowest_of_them_takes() -> None:
    """A run of three stages of 1 s, 2 s and 1 s at ten at once ends within 5 % of the slowest stage's own time."""
    stages = [Work(1.0), Work(2.0), Work(1.0)]
    found, seconds = went(Pipeline(*stages), Rows(texts(500)), Memory())
    ideal_s = 500 / 10 * 2.0
    assert len(found) == 500
    assert seconds <= 1.05 * ideal_s
    assert all(outcome.ok for outcome in found)
    assert found[0].item == {"text": found[0].item["text"], "after_1": True, "after_2": True}


def test_the_first_item_is_finished_before_the_last_is_read() -> None:
    """Stages work on what the one before has handed on: the last stage begins while the source is being read."""
    last = Work(0.1)
    rows = Rows(texts(200), batch=10, gap_s=1.0)
    went(Pipeline(Work(0.1), last), rows, Memory())
    assert last.first_s < 3.0
    assert last.last_s > 19.0


def test_a_slow_stage_slows_those_before_it_in_bounded_memory() -> None:
    """The source is read no further than the places and inboxes between it and the slow stage can hold."""
    slow, fast = Work(100.0), Work(0.001)

    async def main() -> int:
        rows = Rows(texts(20_000), batch=50)
        made = line(Pipeline(fast, slow), rows, MemoryStore(Memory()), concurrency=2)
        batches = made.outcomes()
        await anext(batches)
        given: int = rows.given
        await batches.aclose()
        return given

    assert run(main()) < 1500


def test_a_slow_stage_slows_those_before_it_and_nothing_else() -> None:
    """What is behind it, and a run beside it on the same store, keep their own time; what is before it waits."""
    before, slow, after = Work(0.1), Work(50.0), Work(1.0)
    other, last = Work(1.0), Work(0.5)

    async def main() -> tuple[list[Outcome[Any]], float, float]:
        loop, store, rows = asyncio.get_running_loop(), MemoryStore(Memory()), Rows(texts(3000), batch=10)
        begun_s = loop.time()
        first = line(Pipeline(before, slow, after), rows, store)
        slowed = asyncio.ensure_future(all_of(first))
        beside = await all_of(line(Pipeline(other, last), Rows(texts(100)), store, name="beside"))
        took_s = loop.time() - begun_s
        assert slow.done == 0
        while slow.done < 40:
            await asyncio.sleep(1.0)
        assert before.done < 1200
        assert rows.given < 1500
        slow_s = slow.last_s
        first.interrupt()
        await slowed
        return beside, took_s, slow_s

    beside, took_s, slow_s = run(main())
    assert len(beside) == 100
    assert took_s <= 1.05 * (100 / 10 * 1.0 + 0.5)
    assert slow_s == pytest.approx(4 * 50.0, rel=0.01)
    assert after.done >= 40
    assert after.last_s <= slow.last_s + 1.1


def test_what_fails_at_one_stage_leaves_there_and_the_others_go_on() -> None:
    """A failed item ends with the error and the name of its stage; no later stage sees it."""
    first, second = Work(0.1, fails=frozenset({"t003"})), Work(0.1, fails=frozenset({"t007"}))
    memory = Memory()
    found, _ = went(Pipeline(first, second), Rows(texts(20)), memory)
    failed = {outcome.item["text"]: outcome for outcome in found if not outcome.ok}
    assert set(failed) == {"t003", "t007"}
    assert (failed["t003"].stage, failed["t007"].stage) == ("map", "map 2")
    assert failed["t007"].item == {"text": "t007", "after_0.1": True}
    assert second.done == 19


def test_filtered_items_end_in_an_outcome_outside_the_results() -> None:
    """A Filter's condition, and a Filter's function, take items out; each has an outcome that says so."""

    async def even(row: Any) -> bool:
        return int(row["text"][1:]) % 2 == 0

    memory = Memory()
    found, _ = went(Pipeline(Filter(even), Filter('text != "t004"'), Work(0.1)), Rows(texts(10)), memory)
    assert sorted(outcome.item["text"] for outcome in found) == ["t000", "t002", "t006", "t008"]
    assert kinds(list(ends(memory).values())) == {"ok": 4, "dropped": 6}
    assert {outcome.dropped for outcome in ends(memory).values() if outcome.dropped} == {
        "filtered by filter", "filtered by filter 2",
    }  # fmt: skip
    assert MemoryStore(memory).counts("r").dropped == 6


def test_what_was_never_asked_about_did_not_come_from_the_store() -> None:
    """Items that a condition takes out, and those that another is expanded into, took no call: nor was one spared."""

    async def two(row: Any) -> list[Any]:
        return [{"n": 1}, {"n": 2}]

    memory = Memory()
    found, _ = went(Pipeline(Filter('text != "t001"'), Expand(two)), Rows(texts(3)), memory)
    assert len(found) == 4
    assert not any(outcome.cached for outcome in [*found, *ends(memory).values()])


def test_an_item_becomes_several_whose_keys_say_of_which() -> None:
    """An Expand over a function and over a column: children carry their parent's columns, and the parent its end."""

    async def parts(row: Any) -> dict[str, Any]:
        return {"part": [f"{row['text']}-{letter}" for letter in "abc"]}

    memory = Memory()
    found, _ = went(Pipeline(parts, Expand("part"), Work(0.1)), Rows(["x", "y"]), memory, ordered=True)
    assert [outcome.item["part"] for outcome in found] == ["x-a", "x-b", "x-c", "y-a", "y-b", "y-c"]
    assert [outcome.key for outcome in found[:3]] == ["0-x::0", "0-x::1", "0-x::2"]
    assert ends(memory)["0-x"].dropped == "made into 3 by expand"
    assert MemoryStore(memory).counts("r").pending == 0


@pytest.mark.parametrize("of_column", [False, True])
def test_one_item_becomes_very_many_in_bounded_memory(of_column: bool) -> None:
    """Children are made as the next stage takes them, and no more parents are worked on than their children allow."""
    parents: list[str] = []

    async def parts(row: Any) -> Any:
        parents.append(row["text"])
        values = [{"n": number} for number in range(100_000)]
        return {"part": values} if of_column else values

    events: list[Event] = []

    async def main() -> int:
        stages = [parts, Expand("part")] if of_column else [Expand(parts)]
        slow = Work(10.0)
        made = line(Pipeline(*stages, slow), Rows(texts(3)), MemoryStore(Memory()), concurrency=2, events=events)
        batches = made.outcomes()
        while slow.done < 100:
            await anext(batches)
        await batches.aclose()
        return slow.done

    assert run(main()) < 110
    assert sum(event.count for event in events if isinstance(event, ItemsMade)) <= 5000


def test_a_stage_that_makes_very_many_works_on_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many are made into others at once follows how many those are: after the first few, one at a time."""
    monkeypatch.setattr(stage_module, "_CHILDREN", 1000)
    at_once: list[int] = []
    work = Work(1.0)

    async def parts(row: Any) -> list[int]:
        await work(row)
        at_once.append(work.at_work + 1)
        return [0] * 1000

    found, _ = went(Pipeline(Expand(parts), Filter("result > 0")), Rows(texts(20)), Memory(), concurrency=100)
    assert not found
    assert work.most == 16
    assert at_once[-1] == 1
    assert work.done == 20


def test_the_best_go_on_and_the_others_say_that_they_are_not() -> None:
    """Top keeps the best by a number at the end of the source; of equals the earlier."""

    async def score(row: Any) -> dict[str, float]:
        return {"score": float(int(row["text"][1:]) % 7)}

    memory = Memory()
    after = Work(1.0)
    found, _ = went(Pipeline(score, Top(3, "score"), after), Rows(texts(30)), memory)
    assert sorted(outcome.item["text"] for outcome in found) == ["t006", "t013", "t020"]
    assert after.most == 3
    assert kinds(list(ends(memory).values())) == {"ok": 3, "dropped": 27}


def test_the_best_so_far_go_on_at_once() -> None:
    """With so_far nothing waits for the end: the first items pass at once, worse ones later do not."""

    async def score(row: Any) -> dict[str, int]:
        return {"score": int(row["text"][1:])}

    after = Work(0.1)
    rows = Rows(texts(40)[::-1], batch=1, gap_s=1.0)
    found, _ = went(Pipeline(score, Top(2, "score", so_far=True), after), rows, Memory(), concurrency=1)
    assert [outcome.item["text"] for outcome in found] == ["t039", "t038"]
    assert after.first_s < 3.0


def test_the_best_within_a_time_go_on_while_the_source_goes_on() -> None:
    """With `within` the best of what came until then go on, and the source is read no further."""

    async def score(row: Any) -> dict[str, int]:
        return {"score": int(row["text"][1:])}

    after = Work(0.1)
    rows = Rows(texts(40), batch=1, gap_s=1.0)
    memory = Memory()
    found, _ = went(Pipeline(score, Top(2, "score", within=10.5), after), rows, memory)
    assert sorted(outcome.item["text"] for outcome in found) == ["t008", "t009"]
    assert after.first_s < 12
    assert rows.given == 10
    assert kinds(list(ends(memory).values())) == {"ok": 2, "dropped": 8}


class Endless(Rows):
    """Rows without end, one a tenth of a second; tells when it is let go."""

    let_go = False

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        try:
            for position in count():
                await asyncio.sleep(0.1)
                self.given += 1
                yield [Item(f"k{position}", position, {"text": f"t{position}"})]
        finally:
            self.let_go = True


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("slow_s", [0.05, 3.0])
def test_the_best_within_a_time_end_a_source_without_end(slow_s: float, ordered: bool) -> None:
    """When the time is over the source is let go, nothing more is asked on the way there, and the run is finished."""
    before, after = Work(slow_s), Work(1.0)
    rows, memory = Endless([]), Memory()
    found, seconds = went(
        Pipeline(before, Top(2, lambda row: int(row["text"][1:]), within=10.05), after), rows, memory, concurrency=2,
        ordered=ordered,
    )  # fmt: skip
    assert rows.let_go
    assert rows.given == 100
    assert len(found) == 2
    assert seconds < 10.05 + slow_s + 1.5
    assert after.done == 2
    assert before.done <= min(100, 2 * 10.05 / slow_s + 3)
    assert sum(kinds(list(ends(memory).values())).values()) == 100
    assert memory.runs["r"].status == "finished"
    assert MemoryStore(memory).counts("r").pending == 0


def test_a_function_of_groups_is_not_called_when_the_best_are_known() -> None:
    """Groups that wait for their turn when the time of a later Top is over end there, without a call."""
    calls = 0

    async def summed(rows: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(5.0)
        return {"n": len(rows)}

    rows, memory = Endless([]), Memory()
    _, seconds = went(Pipeline(Reduce(summed, every=1), Top(2, "n", within=10.05)), rows, memory)
    assert calls <= 3 * 16
    assert seconds < 16.0
    assert memory.runs["r"].status == "finished"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_the_best_of_each_are_what_sorting_gives(rows: list[tuple[int, int]], most: int) -> None:
    """With `distinct` the best of each value, of these the best few; of equals the earlier. Lists are values too."""

    async def told(row: Any) -> dict[str, Any]:
        kind, score = row["text"].split()[1:]
        return {"kind": [int(kind)], "score": int(score)}

    given_rows = [f"{number:02} {kind} {score}" for number, (kind, score) in enumerate(rows)]
    memory = Memory()
    found, _ = went(Pipeline(told, Top(most, "score", distinct="kind")), Rows(given_rows), memory, concurrency=1)
    best: dict[int, tuple[int, int]] = {}
    for number, (kind, score) in enumerate(rows):
        best[kind] = max(best.get(kind, (-1, 0)), (score, -number))
    expected = sorted(best.values(), reverse=True)[:most]
    assert sorted(outcome.position for outcome in found) == sorted(-number for _, number in expected)
    assert len(ends(memory)) == len(rows)


def test_there_is_a_best_of_each_window() -> None:
    """With `window` a source that does not end gives its best again and again, and none waits longer than that."""

    async def score(row: Any) -> dict[str, int]:
        return {"score": int(row["text"][1:])}

    after = Work(0.1)
    rows = Rows(texts(40), batch=1, gap_s=1.0)
    memory = Memory()
    found, _ = went(Pipeline(score, Top(2, "score", window=9.5), after), rows, memory)
    assert sorted(outcome.item["text"] for outcome in found) == [
        "t008", "t009", "t018", "t019", "t028", "t029", "t038", "t039"
    ]  # fmt: skip
    assert after.first_s < 12
    assert kinds(list(ends(memory).values())) == {"ok": 8, "dropped": 32}


def test_the_best_are_distinct_whatever_comes_first() -> None:
    """Of items with the same value in `distinct` the earliest alone is among the best; all others end as dropped."""

    async def score(row: Any) -> dict[str, int]:
        await asyncio.sleep(int(row["text"][1:]) % 3)
        return {"score": int(row["text"][1:]) // 4, "who": int(row["text"][1:]) // 4}

    memory = Memory()
    found, _ = went(Pipeline(score, Top(3, "score", distinct="who"), Work(0.1)), Rows(texts(40)), memory)
    assert sorted(outcome.item["text"] for outcome in found) == ["t028", "t032", "t036"]
    assert kinds(list(ends(memory).values())) == {"ok": 3, "dropped": 37}


def test_many_become_one_by_group_and_by_number() -> None:
    """A Reduce gathers by a column, by so many, or all; with a fold it keeps no rows."""

    async def group(row: Any) -> dict[str, Any]:
        return {"group": row["text"][-1], "n": int(row["text"][1:])}

    async def total(rows: list[Any]) -> dict[str, int]:
        return {"sum": sum(row["n"] for row in rows)}

    found, _ = went(Pipeline(group, Reduce(total, by="group")), Rows(texts(40)), Memory())
    assert {outcome.item["group"]: value_of(outcome)["sum"] for outcome in found} == {
        str(last): sum(range(last, 40, 10)) for last in range(10)
    }
    found, _ = went(Pipeline(group, Reduce(every=16)), Rows(texts(40)), Memory())
    assert sorted(len(value_of(outcome)) for outcome in found) == [8, 16, 16]
    fold = Reduce(fold=lambda value, row: value + row["n"], start=0)
    memory = Memory()
    found, _ = went(Pipeline(group, fold), Rows(texts(40)), memory)
    assert [outcome.value for outcome in found] == [sum(range(40))]
    assert kinds(list(ends(memory).values())) == {"ok": 1, "dropped": 40}


def test_what_was_made_of_one_item_is_gathered_as_soon_as_it_is_complete() -> None:
    """A Reduce with `each` gives the first item's result long before the source is read, also where parts failed."""

    async def parts(row: Any) -> list[dict[str, str]]:
        return [{"part": f"{row['text']}-{letter}"} for letter in "abc"]

    async def read(row: Any) -> dict[str, bool]:
        if row["part"] == "t001-b":
            raise ValueError("broken")
        return {"read": True}

    seen: list[tuple[float, str, int]] = []

    async def together(rows: list[Any]) -> int:
        seen.append((asyncio.get_running_loop().time(), rows[0]["text"], len(rows)))
        return len(rows)

    memory = Memory()
    rows = Rows(texts(20), batch=1, gap_s=5.0)
    found, _ = went(Pipeline(Expand(parts), read, Reduce(together, each=True)), rows, memory)
    assert len([outcome for outcome in found if outcome.ok]) == 20
    assert seen[0][:2] < (8.0, "t001")
    assert {text: count for _, text, count in seen} == {text: 2 if text == "t001" else 3 for text in texts(20)}
    assert kinds(list(ends(memory).values())) == {"ok": 20, "failed": 1, "dropped": 20 + 59}


def test_a_cascade_asks_the_dear_stage_only_where_the_cheap_one_is_unsure() -> None:
    """The second stage of a Cascade sees the unsure items alone, and its answer replaces the first one's."""
    dear: list[str] = []

    async def cheap(row: Any) -> dict[str, Any]:
        return {"label": "?", "confidence": int(row["text"][1:]) / 10}

    async def costly(row: Any) -> dict[str, Any]:
        dear.append(row["text"])
        return {"label": "sure", "confidence": 1.0}

    found, _ = went(Pipeline(Cascade(Map(cheap), Map(costly), unsure="confidence < 0.5")), Rows(texts(10)), Memory())
    assert sorted(dear) == texts(5)
    assert {outcome.item["text"]: value_of(outcome)["label"] for outcome in found} == {
        text: "sure" if text in dear else "?" for text in texts(10)
    }


def test_stages_are_announced_with_counts() -> None:
    """Each stage's start and end are events, with how many came and what became of them."""
    events: list[Event] = []

    async def score(row: Any) -> dict[str, int]:
        return {"score": int(row["text"][1:])}

    after = Work(0.1, fails=frozenset({"t019"}))
    went(Pipeline(score, Top(3, "score"), after), Rows(texts(20)), Memory(), events=events)
    started = {event.stage: event.items for event in events if isinstance(event, StageStarted)}
    ended = {
        event.stage: (event.taken, event.passed, event.failed, event.dropped)
        for event in events
        if isinstance(event, StageEnded)
    }
    assert started == {"map": 20, "top": 20, "map 2": 3}
    assert ended == {"map": (20, 20, 0, 0), "top": (20, 3, 0, 17), "map 2": (3, 2, 1, 0)}


def test_what_a_stage_need_not_ask_is_counted() -> None:
    """Of each stage it is told how many items the store, or an equal item's call in flight, served."""
    events: list[Event] = []
    memory = Memory()
    work = Work(1.0)
    stages = Pipeline(Map(work, name="look", version="1"), Work(0.1))
    rows = [f"t{number % 10}" for number in range(40)]
    went(stages, Rows(rows, batch=20, gap_s=1.5), memory, events=events)

    def told() -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        counts: Counter[str] = Counter()
        for event in events:
            if isinstance(event, ItemsServed):
                counts[event.stage] += event.count
        ended = {event.stage: (event.served, event.taken) for event in events if isinstance(event, StageEnded)}
        return dict(counts), ended

    assert work.done == 10
    assert told() == ({"look": 30}, {"look": (30, 40), "map": (0, 40)})
    figures = snapshot_of(memory.runs["r"].figures)
    assert figures is not None
    assert {stage.name: stage.served for stage in figures.stages} == {"look": 30, "map": 0}
    lines = ["".join(text for text, _ in parts) for parts in stage_lines(figures, UNICODE)]
    assert ["30 of 40 from the store" in each for each in lines] == [True, False]
    assert "30" in stages_told(figures)
    events.clear()
    went(stages, Rows(rows), memory, events=events)
    assert told() == ({"look": 40}, {"look": (40, 40), "map": (0, 40)})


def test_a_repeated_key_comes_to_no_stage() -> None:
    """What ends before the first stage is not counted as having come to it."""
    events: list[Event] = []
    went(Pipeline(Work(0.1), Work(0.1)), Rows(texts(3), keys=["a", "b", "a"]), Memory(), events=events, keyed=True)
    assert [(event.stage, event.taken) for event in events if isinstance(event, StageEnded)] == [
        ("map", 2), ("map 2", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (Pipeline(Filter("nothing > 1")), "names 'nothing', and there is no such column. There are: text."),
        (Pipeline(Top(3, "score")), "names 'score'"),
        (Pipeline(Expand("parts")), "names 'parts'"),
        (Pipeline(Reduce(by="brand")), "names 'brand'"),
        (
            Pipeline(Reduce(fold=min, start=object())),
            "The start of reduce is object, which cannot be copied and written",
        ),
        (Pipeline(Reduce(fold=min, start=Lock())), "The start of reduce is lock, which cannot be copied and written"),
    ],
)
def test_a_pipeline_is_checked_before_it_runs(pipeline: Pipeline[Any], said: str) -> None:
    """A column that neither the source nor a stage gives is told before the first call."""
    with pytest.raises(UsageError, match=said):
        staged(pipeline, ["text"], Settings(), {})


def test_a_condition_over_columns_that_nobody_knew_is_checked_at_the_first_item() -> None:
    """Behind a function, a Filter that names what is not there stops the run with a sentence, and drops nothing."""

    async def more(row: Any) -> dict[str, int]:
        return {"score": 1}

    memory = Memory()
    with pytest.raises(UsageError, match="names 'scor'"):
        went(Pipeline(more, Filter("scor > 0")), Rows(texts(5)), memory)
    assert not ends(memory)


def test_an_ordered_run_goes_on_where_a_stage_waits_for_the_end() -> None:
    """Top and Reduce hold items until the source is read; ordering must not wait for them meanwhile."""
    for stage in (Top(3, _length), Reduce()):
        found, _ = went(Pipeline(stage), Rows(texts(3000)), Memory(), ordered=True, concurrency=1)
        assert len(found) in (3, 1)


def test_a_deadline_ends_a_reduce_that_hangs() -> None:
    """A function of a Reduce is given up with the run; groups that were not begun are pending."""
    begun: list[int] = []

    async def hang(rows: list[Any]) -> int:
        begun.append(len(rows))
        await asyncio.sleep(1e6)
        return 1

    memory = Memory()
    for stage in (Reduce(hang), Reduce(hang, every=1)):
        begun.clear()
        _, seconds = went(Pipeline(stage), Rows(texts(100)), memory, deadline_s=5.0)
        assert seconds < 6
        assert 0 < len(begun) <= 16
        assert MemoryStore(memory).counts("r").pending or memory.runs["r"].status == "stopped"


def test_a_failure_that_goes_on_leaves_its_reason_also_at_the_end() -> None:
    """With `failure` at the last stage the outcome has the reason as a column, and no value of an earlier stage."""
    found, _ = went(
        Pipeline(Work(0.1), Map(Work(0.2, fails=frozenset({"t001"})), failure="why")), Rows(texts(3)), Memory()
    )
    told = {outcome.item["text"]: (outcome.item.get("why"), outcome.value) for outcome in found}
    assert told["t001"] == ("ValueError: no t001", None)
    assert told["t000"] == (None, {"after_0.2": True})


def test_a_fold_that_raises_fails_its_items_alone() -> None:
    """Groups go on with what came before and after; where nothing came to a group there is none."""

    def fold(value: int, row: Any) -> int:
        if row["text"] == "t004":
            raise ValueError("seeded")
        return value + 1

    def never(_value: int, _row: Any) -> int:
        raise ValueError("always")

    found, _ = went(Pipeline(Reduce(fold=fold, start=0, every=5)), Rows(texts(12)), Memory())
    assert sorted(value_of(outcome) for outcome in found if outcome.ok) == [1, 5, 5]
    found, _ = went(Pipeline(Reduce(fold=never, start=0)), Rows(texts(3)), Memory())
    assert [outcome.ok for outcome in found] == [False] * 3
    found, _ = went(Pipeline(Reduce(fold=lambda _value, _row: object())), Rows(texts(3)), Memory())
    assert [outcome.ok for outcome in found] == [False]


def test_of_equals_the_earlier_part_is_better() -> None:
    """Parts of one item that score the same: the first ones stay."""

    async def parts(row: Any) -> list[dict[str, str]]:
        return [{"part": letter} for letter in "abcd"]

    found, _ = went(Pipeline(Expand(parts), Top(2, lambda _row: 10)), Rows(["x"]), Memory())
    assert sorted(outcome.item["text"] + str(value_of(outcome)["part"]) for outcome in found) == ["xa", "xb"]
    found, _ = went(Pipeline(Top(2, lambda _row: 10**400)), Rows(["x"]), Memory())
    assert [outcome.ok for outcome in found] == [False]


def test_a_column_that_some_items_lack_is_null_to_a_condition() -> None:
    """The first item may lack it; only a name that is nearly another one is a mistake."""

    async def some(row: Any) -> dict[str, int]:
        return {"label": 3} if row["text"] == "t001" else {}

    found, _ = went(Pipeline(some, Filter("label == null")), Rows(texts(3)), Memory())
    assert len(found) == 2


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Pipeline[Any], int]:
    """Stages at random, of functions that fail, filter, expand and gather by a seed; and how often they crash."""

    def failing(share: int) -> Any:
        async def work(row: Any) -> dict[str, Any]:
            await asyncio.sleep((hash(str(row)) % 7) / 10)
            if share and sum(map(ord, str(row["text"]))) % share == 0:
                raise ValueError("seeded")
            return {f"w{share}": True}

        return Map(work, name=f"w{share}", version="1")

    async def three(row: Any) -> list[dict[str, Any]]:
        return [{"n": number} for number in range(len(row["text"]) % 3)]

    async def some(row: Any) -> bool:
        return sum(map(ord, str(row))) % 3 > 0

    choice = st.sampled_from(
        [
            failing(0), failing(5), failing(9), Filter(Map(some, name="some", version="1")),
            Expand(Map(three, name="three", version="1")), Reduce(every=3), Reduce(each=True), Top(4, _length),
        ]
    )  # fmt: skip
    stages: list[Any] = draw(st.lists(choice, min_size=1, max_size=5))
    if not any(isinstance(stage, Map) for stage in stages):
        stages.insert(0, failing(0))
    kept = []
    for stage in stages:  # what is gathered has no text
        kept.append(stage)
        if isinstance(stage, Reduce):
            break
    return Pipeline(*kept), draw(st.integers(0, 3))


def _length(row: Any) -> int:
    return len(str(row))


@settings(max_examples=60, deadline=None)
@given(pipelines(), st.integers(0, 60), st.integers(1, 12))
def test_any_pipeline_ends_every_item_once_and_as_one_at_a_time_would(
    made: tuple[Pipeline[Any], int], count: int, concurrency: int
) -> None:
    """Random stages over random failures, crashed and resumed: every item read or made has one outcome (G2), places
    bound what is open (G5), and values are those of a run one after another (G8)."""
    pipeline, crashes = made

    async def crashed(memory: Memory, after_s: float) -> None:
        store = MemoryStore(memory, commit_s=0.02)
        work = asyncio.ensure_future(all_of(line(pipeline, Rows(texts(count)), store, concurrency=concurrency)))
        await asyncio.sleep(after_s)
        store.crash()
        work.cancel()
        await asyncio.wait([work], timeout=1)

    memory, alone = Memory(), Memory()
    for number in range(crashes):
        run(crashed(memory, 0.7 * number))
    found, _ = went(pipeline, Rows(texts(count)), memory, concurrency=concurrency)
    expected, _ = went(pipeline, Rows(texts(count)), alone, concurrency=1)
    every = any(isinstance(stage, Reduce) and stage.every for stage in pipeline)
    assert len(found) == len({outcome.key for outcome in found})
    assert MemoryStore(memory).counts("r").pending == 0
    assert memory.runs["r"].status == "finished"
    if not every:  # which items come together is as they complete
        values = {outcome.key: (outcome.value, outcome.item, outcome.error) for outcome in found}
        assert values == {outcome.key: (outcome.value, outcome.item, outcome.error) for outcome in expected}
        assert ends(memory).keys() == ends(alone).keys()


class Own(BaseException):
    """Of a user's own, and no Exception."""


ENDS = [SystemExit, Own, asyncio.CancelledError]


@pytest.mark.parametrize("error", ENDS)
@pytest.mark.parametrize("where", ["map", "filter", "when", "top", "fold", "reduce"])
def test_a_function_that_would_end_the_program_fails_its_item(where: str, error: type[BaseException]) -> None:
    """What is no Exception is told as a sentence like any other; the other items go on."""

    def plain(row: Any) -> int:
        if row["text"] == "t002":
            raise error("seeded")
        return 1

    async def work(row: Any) -> int:
        return plain(row)

    async def of_rows(rows: list[Any]) -> int:
        return sum(map(plain, rows))

    stages: dict[str, Any] = {
        "map": Map(work), "filter": Filter(work), "when": Map(Work(1.0), when=plain), "top": Top(9, plain),
        "fold": Reduce(fold=lambda value, row: value + plain(row), start=0, every=2), "reduce": Reduce(of_rows, every=2),
    }  # fmt: skip
    memory = Memory()
    found, _ = went(Pipeline(stages[where], Filter("true or text")), Rows(texts(5)), memory)
    (failed,) = [outcome.error for outcome in found if outcome.error]
    assert failed.kind == "function"
    assert "seeded" in str(failed) or "cancelled itself" in str(failed)
    assert memory.runs["r"].status == "finished"


def test_a_stage_alone_has_its_name_in_sentences() -> None:
    """What it says of an item begins with what it is."""

    async def wrong(_row: Any) -> int:
        return 7

    async def nothing(_row: Any) -> list[int]:
        return []

    async def no(_row: Any) -> bool:
        return False

    said = []
    for stage in (Expand(wrong), Expand(nothing), Filter(no)):
        memory = Memory()
        went(Pipeline(stage), Rows(["x"]), memory)
        (outcome,) = ends(memory).values()
        said.append(outcome.dropped or outcome.error.message)  # type: ignore[union-attr]
    assert said == ["expand gave int, no list of items.", "made into 0 by expand", "filtered by filter"]


def test_a_reduce_does_not_run_again_what_has_a_name_and_a_version() -> None:
    """Not for what it was given before; anew where rows, version or the user's word (fresh) differ."""
    ran: list[int] = []

    async def total(rows: list[Any]) -> int:
        ran.append(len(rows))
        return len(rows)

    memory = Memory()
    for version, many, fresh, expected in [
        ("1", 6, False, [3, 3]), ("1", 6, False, []), ("1", 7, False, [1]), ("2", 6, False, [3, 3]),
        ("2", 6, True, [3, 3]), ("", 6, False, [3, 3]), ("", 6, False, [3, 3]),
    ]:  # fmt: skip
        ran.clear()
        stage = Reduce(Map(total, name="total", version=version), every=3)
        found, _ = went(Pipeline(stage), Rows(texts(many)), memory, fresh=fresh)
        assert sum(map(value_of, found)) == many
        assert ran == expected


def test_an_interrupt_in_a_function_stays_one() -> None:
    """It is the user's word, whoever hears it first."""

    def interrupted(_row: Any) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        went(Pipeline(Top(1, interrupted)), Rows(texts(3)), Memory())


class Breaking(Rows):
    """Raises after its first rows."""

    error: type[BaseException] = SystemExit

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        async for batch in super().__aiter__():
            yield batch
        raise self.error("seeded")


@pytest.mark.parametrize("error", ENDS)
def test_a_source_that_would_end_the_program_ends_the_run(error: type[BaseException]) -> None:
    """With a sentence, after what was read; it is not taken for the end of the source."""
    rows, memory = Breaking(texts(5)), Memory()
    rows.error = error
    with pytest.raises(InputError, match="The source (broke: .*seeded|cancelled itself)"):
        went(Pipeline(Work(1.0)), rows, memory)
    assert len(ends(memory)) == 5
    assert memory.runs["r"].status == "stopped"
    assert memory.runs["r"].reason.startswith("The source")
