"""The engine in virtual time: what it promises, attacked with seeds."""

import asyncio
import random
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Reply, Request
from headrace.core.errors import (
    AnswerError,
    Credentials,
    HeadraceError,
    InputError,
    Rejected,
    SystemicFailure,
    Throttled,
    Transient,
    Unreachable,
)
from headrace.core.event import CallEnded, CallStarted, Event, Gauge, Held, Settled
from headrace.core.item import Item
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from headrace.task.ask import AskTask
from headrace.task.function import FunctionTask
from headrace.task.prompt import Template
from sim.world import Provider, Rows, collect, runner, stored


def seeded_fault(seed: int, share: float) -> Any:
    """A fault for some prompts and attempts, the same whatever the order."""

    def fault(text: str, nth: int) -> HeadraceError | None:
        if text == "t0":  # a first success, so that the run is not given up as a whole
            return None
        draw = random.Random(f"{seed} {text} {nth}").random()
        if draw < share / 2:
            return Transient("a passing fault")
        if draw < share * 0.8:
            return Throttled("slow down", retry_after_s=draw * 3)
        return Rejected("never") if draw < share else None

    return fault


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(0, 120),
    distinct=st.integers(1, 60),
    concurrency=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    ordered=st.booleans(),
    commit_s=st.sampled_from([0.0, 0.02, 3.0]),
)
def test_every_item_ends_once(
    seed: int, items: int, distinct: int, concurrency: int, share: float, ordered: bool, commit_s: float
) -> None:
    """G1, G2, G3, G4, G8: whatever fails, each item has one outcome of its own, in order where asked, and no more
    calls are in flight, and none made, than allowed."""
    chance = random.Random(seed)
    texts = [f"t{chance.randrange(distinct) if position else 0}" for position in range(items)]
    memory, provider = Memory(), Provider(seed=seed, fault=seeded_fault(seed, share))

    async def main() -> list[Any]:
        made = runner(
            provider, Rows(texts), MemoryStore(memory, commit_s=commit_s), concurrency=concurrency, ordered=ordered
        )
        taken = []
        async with aclosing(made.outcomes()) as batches:
            async for batch in batches:
                durable = {outcome.key for outcome in stored(memory)}
                assert {outcome.key for outcome in batch} <= durable
                taken += batch
        # where nine of ten calls fail, nothing may work for ten minutes: then the run stops, as it should
        assert made.info.status == "finished" or (share == 0.9 and isinstance(made.error, SystemicFailure))
        return taken

    outcomes = run(main())
    positions = [outcome.position for outcome in outcomes]
    assert len(set(positions)) == len(positions) == len(stored(memory))
    assert len(positions) == items or share == 0.9
    assert all(outcome.value == f"ok {texts[outcome.position]}" for outcome in outcomes if outcome.ok)
    assert not ordered or positions == sorted(positions)
    assert provider.most_in_flight <= concurrency
    assert all(count == 1 for count in provider.paid.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), crashes=st.integers(1, 5), concurrency=st.integers(1, 12))
def test_crashes_repeat_only_what_was_not_committed(seed: int, crashes: int, concurrency: int) -> None:
    """G2, G4, G10: after each crash the rerun pays again for no more than was paid and not yet committed."""
    chance = random.Random(seed)
    texts = [f"t{number}" for number in range(80)]
    memory, provider = Memory(), Provider(seed=seed, fault=seeded_fault(seed, 0.2))
    allowed: dict[str, int] = dict.fromkeys(texts, 1)

    async def session(end_s: float | None) -> None:
        store = MemoryStore(memory, commit_s=0.02)
        task = asyncio.ensure_future(collect(runner(provider, Rows(texts), store, concurrency=concurrency, seed=seed)))
        if end_s is None:
            await task
            return
        await asyncio.sleep(end_s)
        store.crash()
        task.cancel()
        await asyncio.wait([task], timeout=1)

    for _ in range(crashes):
        before = dict(provider.paid)
        run(session(chance.uniform(0, 12)))
        kept = {reply.text.removeprefix("ok ") for _, reply in memory.answers.values()}
        for text in texts:
            if provider.paid[text] > before.get(text, 0) and text not in kept:
                allowed[text] += 1
    run(session(None))
    assert len(stored(memory)) == len(texts)
    assert all(provider.paid[text] <= allowed[text] for text in texts)
    assert all(outcome.value == f"ok {outcome.item['text']}" for outcome in stored(memory) if outcome.ok)


def test_a_rerun_asks_nothing_and_keeps_what_the_first_took() -> None:
    """G4: the second run is all from the store, and its outcomes are the first one's."""
    memory, provider = Memory(), Provider()

    async def once() -> list[Any]:
        return await collect(runner(provider, Rows([f"t{n}" for n in range(30)]), MemoryStore(memory)))

    first, calls = run(once()), sum(provider.asked.values())
    before = stored(memory)
    again = run(once())
    assert sum(provider.asked.values()) == calls == 30
    assert all(outcome.cached and outcome.attempts == 0 for outcome in again)
    assert {o.key: o.value for o in again} == {o.key: o.value for o in first}
    assert stored(memory) == before


def test_failures_are_tried_again_or_kept_as_asked() -> None:
    """A rerun asks for what failed, and with `retry_failed` off for nothing."""
    memory, provider = Memory(), Provider(fault=lambda text, nth: Rejected("no") if text == "t3" and nth < 3 else None)

    async def once(**settings: Any) -> list[Any]:
        return await collect(runner(provider, Rows([f"t{n}" for n in range(5)]), MemoryStore(memory), **settings))

    assert [o.key for o in run(once()) if not o.ok] == ["3-t3"]
    kept = run(once(retry_failed=False))
    assert provider.asked["t3"] == 1
    assert [(o.key, o.error.kind) for o in kept if o.error] == [("3-t3", "rejected")]
    assert [o.key for o in run(once()) if not o.ok] == ["3-t3"]
    assert all(o.ok for o in run(once()))
    assert provider.asked["t3"] == 3


def test_fresh_asks_anew_once_for_equal_items() -> None:
    """`fresh` serves no old answer, and still pays once for equal items of one run."""
    memory, provider = Memory(), Provider()

    async def once(**settings: Any) -> None:
        await collect(runner(provider, Rows(["a", "b", "a", "a"], batch=1, gap_s=30), MemoryStore(memory), **settings))

    run(once())
    run(once(fresh=True))
    assert provider.paid == {"a": 2, "b": 2}


def test_a_changed_prompt_asks_only_what_changed() -> None:
    """Identity is what is sent: a template that gives some items the same text pays only for the others."""
    memory, provider = Memory(), Provider()

    async def once(texts: list[str]) -> None:
        await collect(runner(provider, Rows(texts), MemoryStore(memory)))

    run(once(["a", "b", "c"]))
    run(once(["a", "b changed", "c"]))
    assert provider.paid == {"a": 1, "b": 1, "c": 1, "b changed": 1}
    assert [outcome.item["text"] for outcome in stored(memory)] == ["a", "b changed", "c"]


def test_equal_items_of_two_processes_cause_one_call() -> None:
    """G4: a claim in the store makes the second process wait for the first one's answer."""
    memory, provider = Memory(), Provider(mean_s=5)

    async def main() -> None:
        one = runner(provider, Rows([f"t{n}" for n in range(20)]), MemoryStore(memory, commit_s=0.02))
        two = runner(provider, Rows([f"t{n}" for n in range(20)]), MemoryStore(memory, commit_s=0.02))
        two.info = two.info.__class__(id="s", name="s", source="other", spec={})
        await asyncio.gather(collect(one), collect(two))

    run(main())
    assert set(provider.paid.values()) == {1}
    assert len(stored(memory, "r")) == len(stored(memory, "s")) == 20


def test_a_claim_dies_with_its_process() -> None:
    """G4: what a dead process had claimed is asked by the next that needs it."""
    memory, provider = Memory(), Provider(mean_s=1)

    async def main() -> None:
        dead = MemoryStore(memory)
        task = AskTask(Template("{text}"), endpoint=("test", ""), model="m")
        assert await dead.claim([task.request(Item("k", 0, {"text": "a"})).digest]) == {}
        waiting = asyncio.ensure_future(collect(runner(provider, Rows(["a"]), MemoryStore(memory), task=task)))
        await asyncio.sleep(100)
        assert not waiting.done()
        dead.crash()
        assert [outcome.value for outcome in await waiting] == ["ok a"]

    run(main())


def test_a_second_process_on_a_live_run_is_refused() -> None:
    """Two processes never write one run."""

    async def main() -> None:
        memory = Memory()
        first = asyncio.ensure_future(collect(runner(Provider(mean_s=9), Rows(["a"]), MemoryStore(memory))))
        await asyncio.sleep(0.1)
        with pytest.raises(HeadraceError, match="another process"):
            await collect(runner(Provider(), Rows(["a"]), MemoryStore(memory)))
        await first

    run(main())


def test_waiting_never_holds_a_permit() -> None:
    """While one item backs off, another has its place: two items of 10 s each take 20 s at one in flight, not 30."""
    provider = Provider(mean_s=0, fault=lambda text, nth: Throttled("wait") if text == "a" and nth == 1 else None)

    async def main() -> float:
        await collect(runner(provider, Rows(["a", "b", "c"]), MemoryStore(), concurrency=1))
        return asyncio.get_running_loop().time()

    run(main())
    assert provider.most_in_flight == 1
    assert provider.asked == {"a": 2, "b": 1, "c": 1}


def test_retry_after_holds_the_whole_endpoint() -> None:
    """A 429 with Retry-After is obeyed by every call, and told as an event."""
    events: list[Event] = []
    provider = Provider(
        mean_s=0.1, fault=lambda text, nth: Throttled("slow", retry_after_s=20) if (text, nth) == ("t0", 1) else None
    )

    async def main() -> None:
        await collect(runner(provider, Rows([f"t{n}" for n in range(40)]), MemoryStore(), concurrency=2, events=events))

    run(main())
    held = next(event for event in events if isinstance(event, Held))
    assert not [start for start in provider.starts if held.at_s < start < held.until_s]
    assert held.until_s - held.at_s == pytest.approx(20)


def test_a_hung_call_is_given_up_and_tried_again() -> None:
    """G6: an attempt that never answers costs one timeout, not the run."""

    async def call(request: Request) -> Reply:
        if request.messages[-1].content == "hang" and not hung:
            hung.append(1)
            await asyncio.get_running_loop().create_future()
        return Reply("ok")

    hung: list[int] = []

    async def main() -> tuple[list[Any], float]:
        outcomes = await collect(runner(call, Rows(["hang", "b"]), MemoryStore(), timeout_s=30))
        return outcomes, asyncio.get_running_loop().time()

    outcomes, took_s = run(main())
    assert all(outcome.ok for outcome in outcomes)
    assert [outcome.attempts for outcome in outcomes if outcome.position == 0] == [2]
    assert 30 <= took_s < 32


def test_attempts_end() -> None:
    """What fails for ever is an outcome after five attempts, with the reason."""
    provider = Provider(fault=lambda text, _nth: Transient("always") if text == "a" else None)

    async def main() -> list[Any]:
        return await collect(runner(provider, Rows(["a", "b"]), MemoryStore()))

    outcomes = {outcome.position: outcome for outcome in run(main())}
    assert outcomes[0].error.kind == "transient"
    assert outcomes[0].attempts == provider.asked["a"] == 5
    assert outcomes[1].ok


def test_refused_credentials_stop_the_run() -> None:
    """G11: a 401 ends the run with its reason; no item is failed for it, and the rest is pending."""
    provider = Provider(fault=lambda _text, nth: Credentials("bad key") if nth else None)

    async def main() -> tuple[Any, list[Any]]:
        made = runner(provider, Rows([f"t{n}" for n in range(500)]), MemoryStore(memory), concurrency=4)
        return made, await collect(made)

    memory = Memory()
    made, outcomes = run(main())
    assert made.error.kind == "credentials"
    assert made.info.status == "stopped"
    assert outcomes == []
    assert sum(provider.asked.values()) <= 4


@pytest.mark.parametrize("error", [Unreachable("nothing answers"), Rejected("no such parameter"), Transient("500")])
def test_nothing_but_failures_stop_the_run(error: HeadraceError) -> None:
    """G11: 30 s of nothing but failures before a first success end the run; what was not given up stays pending."""
    provider = Provider(mean_s=1, fault=lambda _text, _nth: error.__class__(error.message))

    async def main() -> tuple[Any, float]:
        made = runner(provider, Rows([f"t{n}" for n in range(5000)]), MemoryStore())
        await collect(made)
        return made, asyncio.get_running_loop().time()

    made, took_s = run(main())
    assert made.error.kind == "systemic-failure"
    assert made.info.status == "stopped"
    assert 30 <= took_s < 40


def test_a_first_success_ends_that_patience() -> None:
    """After one good answer, failures are the items' own."""
    provider = Provider(mean_s=1, fault=lambda text, _nth: None if text == "t0" else Rejected("no"))

    async def main() -> Any:
        made = runner(provider, Rows([f"t{n}" for n in range(400)]), MemoryStore(), concurrency=4)
        await collect(made)
        return made

    made = run(main())
    assert made.error is None
    assert made.info.status == "finished"


def test_interrupt_drains_then_drops() -> None:
    """G10: the first interrupt finishes what is in flight and begins nothing; a rerun does the rest."""
    memory, provider = Memory(), Provider(mean_s=5)

    async def main() -> Any:
        made = runner(provider, Rows([f"t{n}" for n in range(100)]), MemoryStore(memory, commit_s=0.02))
        asyncio.get_running_loop().call_later(12, made.interrupt)
        outcomes = await collect(made)
        return made, outcomes

    made, outcomes = run(main())
    assert made.info.status == "interrupted"
    assert 0 < len(outcomes) < 100
    assert len(outcomes) == sum(provider.paid.values()) == sum(provider.asked.values())
    assert len(stored(memory)) == len(outcomes)
    again = run(collect_again(provider, memory))
    assert len(again) == 100
    assert set(provider.paid.values()) == {1}


async def collect_again(provider: Provider, memory: Memory) -> list[Any]:
    return await collect(runner(provider, Rows([f"t{n}" for n in range(100)]), MemoryStore(memory)))


def test_a_second_interrupt_ends_now() -> None:
    """G10: twice means now, also with calls that never answer."""

    async def hang(_request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def main() -> float:
        made = runner(hang, Rows(["a", "b"]), MemoryStore(), timeout_s=1000)
        loop = asyncio.get_running_loop()
        loop.call_later(5, made.interrupt)
        loop.call_later(7, made.interrupt)
        assert await collect(made) == []
        assert made.info.status == "interrupted"
        return loop.time()

    assert run(main()) == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("ordered", [False, True])
def test_an_interrupt_ends_a_source_that_waits(ordered: bool) -> None:
    """G10: a stream that gives nothing for an hour does not hold up the end."""

    async def main() -> float:
        made = runner(Provider(), Rows(["a", "b"], batch=1, gap_s=3600), MemoryStore(), ordered=ordered)
        asyncio.get_running_loop().call_later(5000, made.interrupt)
        assert len(await collect(made)) == 1
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(5000, abs=1)


def test_ordered_ends_when_its_first_item_stays_pending() -> None:
    """A head that never ends holds the order back, not the interrupt; what stands behind it is still given."""

    async def call(request: Request) -> Reply:
        if request.messages[-1].content == "t0":
            await asyncio.sleep(10_000)
        return Reply("ok")

    async def main() -> list[Any]:
        made = runner(
            call, Rows([f"t{n}" for n in range(5000)]), MemoryStore(), ordered=True, timeout_s=20_000, concurrency=2
        )
        loop = asyncio.get_running_loop()
        loop.call_later(50, made.interrupt)
        loop.call_later(60, made.interrupt)
        return await collect(made)

    outcomes = run(main())
    assert 0 < len(outcomes) < 1500
    assert [outcome.position for outcome in outcomes] == list(range(1, len(outcomes) + 1))


@pytest.mark.parametrize("ordered", [False, True])
def test_reading_runs_ahead_by_a_bound(ordered: bool) -> None:
    """G5: a consumer that stops taking stops the reading, whatever the order."""
    rows = Rows([f"t{n}" for n in range(100_000)], batch=20)

    async def main() -> None:
        made = runner(Provider(mean_s=0.1), rows, MemoryStore(), ordered=ordered)
        async with aclosing(made.outcomes()) as batches:
            async for _ in batches:
                await asyncio.sleep(5000)
                break

    run(main())
    assert rows.given < 1500


def test_leaving_the_loop_leaves_a_resumable_run() -> None:
    """Who stops iterating loses nothing: the rerun finds what was done."""
    memory, provider = Memory(), Provider()

    async def main() -> None:
        made = runner(provider, Rows([f"t{n}" for n in range(100)]), MemoryStore(memory))
        async with aclosing(made.outcomes()) as batches:
            async for _ in batches:
                break
        assert made.info.status == "interrupted"
        assert provider.in_flight == 0

    run(main())
    assert len(run(collect_again(provider, memory))) == 100
    assert all(count <= 2 for count in provider.asked.values())


def test_repeated_keys_are_error_outcomes() -> None:
    """An item's key is its identity: the second item with one is an error, wherever it stands."""
    keys = ["a", "b", "a", "c", "d", "e", "b"]

    async def main(memory: Memory) -> list[Any]:
        rows = Rows([f"t{n}" for n in range(7)], keys=keys, batch=3, gap_s=10)
        return await collect(runner(Provider(), rows, MemoryStore(memory), keyed=True))

    memory = Memory()
    for _ in range(2):
        outcomes = {outcome.position: outcome for outcome in run(main(memory))}
        assert {position for position, outcome in outcomes.items() if not outcome.ok} == {2, 6}
        assert outcomes[2].error.kind == "repeated-key"
        assert len(stored(memory)) == 7


def test_a_source_that_breaks_loses_nothing_paid_for() -> None:
    """A bad row in the middle ends the run with its error at once; what was in flight is finished and stored."""

    class Broken(Rows):
        async def __aiter__(self) -> Any:
            async for batch in super().__aiter__():
                yield batch
                raise InputError("line 51 is ragged")

    memory, provider = Memory(), Provider(mean_s=5)

    async def main() -> None:
        with pytest.raises(InputError, match="line 51"):
            await collect(runner(provider, Broken([f"t{n}" for n in range(100)]), MemoryStore(memory)))

    run(main())
    assert 0 < len(stored(memory)) == sum(provider.paid.values()) <= 50


def test_a_rejected_answer_is_kept_as_evidence_and_not_served() -> None:
    """An answer that does not validate fails its item, is stored as evidence, and is asked again by a rerun."""
    memory, provider = Memory(), Provider()
    task = FunctionTask(len, name="f", version="1")

    async def main() -> list[Any]:
        return await collect(runner(bad, Rows(["a"]), MemoryStore(memory), task=_Refusing(task)))

    async def bad(_request: Request) -> Reply:
        provider.asked["a"] += 1
        return Reply("nonsense", input_tokens=7, output_tokens=2)

    for _ in range(2):
        outcome = run(main())[0]
        assert (outcome.error.kind, outcome.error.raw, outcome.attempts) == ("answer", "nonsense", 1)
        assert (outcome.input_tokens, outcome.output_tokens) == (7, 2), "it was paid for"
    assert provider.asked["a"] == 2
    assert len(memory.evidence) == 2
    assert not memory.answers
    assert not memory.claims


class _Refusing:
    def __init__(self, task: FunctionTask) -> None:
        self.digest, self.request, self.reusable = task.digest, task.request, True
        self.samples, self.again, self.agreed = task.samples, task.again, task.agreed

    def value(self, reply: Reply) -> Any:
        raise AnswerError("does not fit", raw=reply.text)


def test_a_rerun_is_not_stopped_by_the_one_item_that_never_ends() -> None:
    """G11 is about a fault of the whole: where the rest comes from the store, a hanging item fails by itself."""
    memory = Memory()

    async def call(request: Request) -> Reply:
        if request.messages[-1].content == "t7":
            await asyncio.Event().wait()
        return Reply("ok")

    async def main() -> Any:
        made = runner(call, Rows([f"t{n}" for n in range(20)]), MemoryStore(memory), timeout_s=10)
        return made, await collect(made)

    for _ in range(2):
        made, outcomes = run(main())
        assert (made.info.status, made.error, len(outcomes)) == ("finished", None, 20)
        assert [outcome.error.kind for outcome in outcomes if not outcome.ok] == ["timeout"]


def test_an_answer_that_is_no_longer_accepted_is_asked_again() -> None:
    """A type that became stricter makes its old answers evidence: never served, never a failure for ever."""
    memory, provider = Memory(), Provider()
    task = AskTask(Template("{text}"), endpoint=("test", ""), model="m")
    run(collect(runner(provider, Rows(["a", "b"]), MemoryStore(memory), task=task)))
    strict = _Stricter(task)
    for expected in (2, 2):
        outcomes = run(collect(runner(provider, Rows(["a", "b"]), MemoryStore(memory), task=strict)))
        assert all(outcome.ok for outcome in outcomes)
        assert provider.paid["a"] == expected
        assert provider.paid["b"] == 1
    assert len(memory.evidence) == 1


class _Stricter:
    """Refuses the first answer about `a`."""

    def failed(self, value: Any) -> None:
        """None is a failure."""

    def __init__(self, task: AskTask) -> None:
        self.digest, self.request, self.reusable = task.digest, task.request, True
        self.samples, self.again, self.agreed = task.samples, task.again, task.agreed
        self._refused = False

    def value(self, reply: Reply) -> Any:
        if reply.text == "ok a" and not self._refused:
            self._refused = True
            raise AnswerError("no longer accepted", raw=reply.text)
        return reply.text


def test_a_value_that_cannot_be_stored_fails_its_item_alone() -> None:
    """What has no JSON form is a failure of that item, from a call and from the store."""
    memory, provider = Memory(), Provider()

    class Odd(_Stricter):
        def value(self, reply: Reply) -> Any:
            return object() if reply.text == "ok b" else reply.text

    task = Odd(AskTask(Template("{text}"), endpoint=("test", ""), model="m"))
    for _ in range(2):
        outcomes = run(collect(runner(provider, Rows(["a", "b", "c"]), MemoryStore(memory), task=task)))
        assert {outcome.position for outcome in outcomes if not outcome.ok} == {1}
        assert len(stored(memory)) == 3


def test_an_ordered_rerun_reads_ahead_by_a_bound() -> None:
    """G5: a new slow first row holds back the order, and with it the reading, also of what the store has."""
    memory = Memory()
    rows = [f"t{n}" for n in range(20_000)]
    run(collect(runner(Provider(mean_s=0), Rows(rows, batch=250), MemoryStore(memory), concurrency=200)))
    again = Rows(["new", *rows[1:]], batch=250)

    async def main() -> None:
        slow = runner(_slow_first, again, MemoryStore(memory), ordered=True, timeout_s=10_000)
        async with aclosing(slow.outcomes()) as batches:
            async for batch in batches:
                assert batch[0].position == 0
                break

    async def _slow_first(_request: Request) -> Reply:
        await asyncio.sleep(1000)
        assert again.given < 3000
        return Reply("ok")

    run(main())


def test_events_tell_the_whole_story() -> None:
    """What the events say adds up to what happened."""
    events: list[Event] = []
    provider = Provider(fault=seeded_fault(5, 0.4))

    async def main() -> None:
        await collect(runner(provider, Rows([f"t{n}" for n in range(60)]), MemoryStore(), events=events))

    run(main())
    started = [event for event in events if isinstance(event, CallStarted)]
    ended = [event for event in events if isinstance(event, CallEnded)]
    settled = [outcome for event in events if isinstance(event, Settled) for outcome in event.outcomes]
    assert len(started) == len(ended) == sum(provider.asked.values())
    assert sum(not event.error for event in ended) == sum(provider.paid.values())
    assert len(settled) == 60
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)


def test_the_same_seed_replays_the_same_run() -> None:
    """Seed and code decide everything."""

    def once() -> list[Event]:
        events: list[Event] = []
        provider = Provider(seed=3, fault=seeded_fault(3, 0.4))
        run(
            collect(
                runner(provider, Rows([f"t{n}" for n in range(80)]), MemoryStore(commit_s=0.02), events=events, seed=9)
            )
        )
        return [
            msgspec.structs.replace(event, cpu_s=0.0, memory_bytes=0) if isinstance(event, Gauge) else event
            for event in events
        ]

    assert once() == once()
