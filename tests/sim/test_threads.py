"""Calls that cannot be stopped, in virtual time: counted, not made twice, and no reason to wait for ever."""

import asyncio
from typing import Any

from headrace.core.call import Reply, Request, StillRunning
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from sim.world import Rows, collect, runner, stored


class Unstoppable:
    """Calls that go on when they are cancelled, each for as long as `took_s` says of its text."""

    def __init__(self, took_s: dict[str, float]) -> None:
        self._took_s = took_s
        self.asked: list[str] = []
        self.in_flight = self.most_in_flight = 0

    async def __call__(self, request: Request) -> Reply:
        text = request.messages[-1].content
        self.asked.append(text)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Reply] = loop.create_future()
        loop.call_later(self._took_s.get(text, 1.0), self._end, done, text)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            raise StillRunning(done) from None

    def _end(self, done: "asyncio.Future[Reply]", text: str) -> None:
        self.in_flight -= 1
        done.set_result(Reply(f"ok {text}"))


def once(calls: Unstoppable, memory: Memory, texts: list[str]) -> tuple[Any, float]:
    async def main() -> tuple[Any, float]:
        made = runner(calls, Rows(texts), MemoryStore(memory), concurrency=4, timeout_s=5)
        await collect(made)
        return made, asyncio.get_running_loop().time()

    return run(main())


def test_it_is_not_made_again_and_stays_counted() -> None:
    """G1, G6: a call that timed out and goes on is not made a second time, and keeps its place; the rest is done."""
    memory, calls = Memory(), Unstoppable({"t3": 100.0, "t7": 100.0})
    made, _ = once(calls, memory, [f"t{number}" for number in range(40)])
    assert made.info.status == "finished"
    assert sorted(calls.asked) == sorted(f"t{number}" for number in range(40))
    assert calls.most_in_flight == 4
    errors = {outcome.position: outcome.error for outcome in stored(memory) if outcome.error}
    assert {position: error.kind for position, error in errors.items()} == {3: "timeout", 7: "timeout"}
    assert "cannot be stopped" in errors[3].message


def test_a_late_answer_is_kept() -> None:
    """What comes after its call was given up is stored where it may be used again: the rerun does not ask."""
    memory, calls = Memory(), Unstoppable({"slow": 8.0, "last": 4.9})
    once(calls, memory, ["slow", *[f"t{number}" for number in range(20)], "last"])
    assert "slow" in [reply.text.removeprefix("ok ") for _, reply in memory.answers.values()]
    once(calls, memory, ["slow", *[f"t{number}" for number in range(20)], "last"])
    assert calls.asked.count("slow") == 1
    assert all(outcome.ok for outcome in stored(memory))


def test_when_they_hold_every_place() -> None:
    """Where such calls hold all places for 30 s the run ends and says so; what it did not reach is pending."""
    memory, calls = Memory(), Unstoppable({f"t{number}": 10_000.0 for number in range(10, 20)})
    made, took_s = once(calls, memory, [f"t{number}" for number in range(40)])
    assert made.info.status == "stopped"
    assert made.error.kind == "systemic-failure"
    assert "All 4 calls that may be in flight are in threads that do not end" in made.error.message
    assert 30 < took_s < 60
    assert sum(outcome.ok for outcome in stored(memory)) == 10
    assert sum(not outcome.ok for outcome in stored(memory)) == 4


def test_when_they_hold_every_place_for_a_while() -> None:
    """Places that come free in time are used: slow is not stuck."""
    memory, calls = Memory(), Unstoppable({f"t{number}": 20.0 for number in range(10, 20)})
    made, _ = once(calls, memory, [f"t{number}" for number in range(40)])
    assert made.info.status == "finished"
    assert made.error is None
    assert sum(outcome.ok for outcome in stored(memory)) == 30
