"""What a run keeps of how it went: figures at its end and now and then before, in virtual time."""

import asyncio

import pytest

from headrace.core.event import Event, RunEnded
from headrace.engine.snapshot import Snapshot, snapshot_of
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore
from sim.world import Provider, Rows, collect, runner


def kept(memory: Memory) -> Snapshot:
    """The figures that the store has of the run."""
    info = MemoryStore(memory).run("r")
    assert info is not None
    figures = snapshot_of(info.figures)
    assert figures is not None
    return figures


def test_a_run_leaves_its_figures() -> None:
    """The store has what the tally knew at the end: calls, waits, the whole course, and which session it was."""

    async def story() -> None:
        memory = Memory()
        made = runner(Provider(mean_s=5.0), Rows([f"t{i}" for i in range(200)]), MemoryStore(memory), concurrency=10)
        await collect(made)
        figures = kept(memory)
        assert (figures.state, figures.status, figures.ok, figures.calls) == ("ended", "finished", 200, 200)
        assert (figures.session, figures.started_at) == (1, made.info.started_at)
        assert figures.seconds == made.tally.snapshot(0.0).seconds > 50
        assert figures.waited_s["concurrency"] > 0
        assert sum(each.done for each in figures.history) == 200

    run(story())


def test_a_rerun_without_calls_leaves_the_figures_of_the_one_that_made_them() -> None:
    """A second session that the store alone answers has nothing to tell; a third that calls again has."""

    async def story() -> None:
        memory = Memory()
        rows = [f"t{i}" for i in range(30)]
        await collect(runner(Provider(), Rows(rows), MemoryStore(memory)))
        await collect(runner(Provider(), Rows(rows), MemoryStore(memory)))
        assert (kept(memory).session, kept(memory).calls) == (1, 30)
        await collect(runner(Provider(), Rows([*rows, "new"]), MemoryStore(memory)))
        assert (kept(memory).session, kept(memory).calls) == (3, 1)

    run(story())


def test_a_run_that_is_killed_has_figures_too() -> None:
    """They are at most half a minute old."""

    async def story() -> None:
        memory = Memory()
        rows = Rows([f"t{i}" for i in range(10_000)])
        running = asyncio.create_task(collect(runner(Provider(mean_s=2.0), rows, MemoryStore(memory), concurrency=20)))
        await asyncio.sleep(100)
        figures = kept(memory)  # what there would be, were it killed now
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert figures.state == "running"
        assert 68 <= figures.seconds <= 100
        assert figures.calls > 500

    run(story())


@pytest.mark.parametrize("breaks", [False, True])
def test_the_tally_hears_of_all_before_anyone_else(breaks: bool) -> None:
    """Whoever is told of an event finds it counted, also where an earlier listener broke."""

    async def story() -> None:
        memory = Memory()
        made = runner(Provider(), Rows([f"t{i}" for i in range(50)]), MemoryStore(memory))
        heard: list[Event] = []

        def listen(event: Event) -> None:
            heard.append(event)
            counted = made.tally.snapshot(event.at_s)
            assert counted.state == ("ended" if isinstance(event, RunEnded) else counted.state)
            assert counted.calls == sum(type(each).__name__ == "CallStarted" for each in heard)
            if breaks and counted.done > 10:
                raise ValueError("broken")

        made._callback = listen
        if breaks:
            with pytest.raises(ValueError, match="broken"):
                await collect(made)
        else:
            await collect(made)
        assert kept(memory).calls == made.tally.snapshot(0.0).calls >= 10

    run(story())
