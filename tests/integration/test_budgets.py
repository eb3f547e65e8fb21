"""Budgets in both stores: one contract, and real processes that share one and are killed."""

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.core.ports import Drawn
from headrace.store.memory import Memory, MemoryStore
from headrace.store.sqlite import SqliteStore

CHILD = Path(__file__).with_name("budget_child.py")
DEADLINE_S = 60.0
Open = Callable[[], Any]


class World:
    """Opens stores on one place, and lets them die."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind, self._path, self._memory = kind, folder / "store.db", Memory()

    def open(self) -> Any:
        return SqliteStore(self._path) if self._kind == "file" else MemoryStore(self._memory)

    async def die(self, store: Any) -> None:
        """As `kill -9` leaves it: nothing is given back."""
        if isinstance(store, SqliteStore):
            store._owner.close()
            await store._writer.close()
            store._reader.shutdown()
            store._reads.close()
            store._connection.close()
        else:
            store.crash()


@pytest.fixture(params=["file", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(request.param, tmp_path)


def test_a_purse_gets_what_there_is_and_gives_back(world: World) -> None:
    """A draw settles, takes up to what is left, and gives back, in one step; who looks sees the same."""

    async def main() -> None:
        store = world.open()
        assert await store.budget("b") is None
        assert await store.draw("b", "r", spent=0, hold=60, limit=100) == Drawn(100, 0, 60, 0)
        assert await store.draw("b", "r", spent=50, hold=30) == Drawn(100, 50, 80, 0)
        assert await store.draw("b", "r", spent=50, hold=500) == Drawn(100, 50, 100, 0)
        assert await store.draw("b", "r", spent=70, hold=10) == Drawn(100, 70, 80, 0)
        assert await store.budget("b") == Drawn(100, 70, 0, 10)
        assert await store.draw("b", "r", spent=70, hold=0) == Drawn(100, 70, 70, 0)
        await store.close()

    asyncio.run(main())


def test_purses_share_a_budget_and_budgets_are_apart(world: World) -> None:
    """What one purse holds another cannot have; another budget is none of its business."""

    async def main() -> None:
        one, two = world.open(), world.open()
        await one.draw("b", "r1", spent=0, hold=70, limit=100)
        assert await two.draw("b", "r2", spent=0, hold=70, limit=100) == Drawn(100, 0, 30, 70)
        assert await one.draw("b", "r1", spent=20, hold=0) == Drawn(100, 20, 20, 30)
        assert await two.draw("b", "r2", spent=0, hold=100) == Drawn(100, 20, 80, 0)
        assert await two.draw("c", "r2", spent=0, hold=100, limit=100) == Drawn(100, 0, 100, 0)
        await one.close()
        await two.close()

    asyncio.run(main())


def test_who_dies_has_spent_all_that_it_held(world: World) -> None:
    """A purse whose process is gone counts in full; one that was closed counts what it told."""

    async def main() -> None:
        dead, closed, last = world.open(), world.open(), world.open()
        await dead.draw("b", "r1", spent=0, hold=40, limit=100)
        await closed.draw("b", "r2", spent=0, hold=30, limit=100)
        await closed.draw("b", "r2", spent=5, hold=0)
        await closed.close()
        await world.die(dead)
        assert await last.draw("b", "r3", spent=0, hold=100, limit=100) == Drawn(100, 45, 55, 0)
        await last.close()

    asyncio.run(main())


def test_a_resumed_run_opens_its_purse_anew(world: World) -> None:
    """Whether its process died or only its run ended: what it held before counts as spent."""

    async def main() -> None:
        first = world.open()
        await first.draw("b", "r", spent=0, hold=40, limit=100)
        await first.draw("b", "r", spent=10, hold=20)
        assert await first.draw("b", "r", spent=0, hold=10, limit=100) == Drawn(100, 30, 10, 0)
        await world.die(first)
        second = world.open()
        assert await second.draw("b", "r", spent=0, hold=100, limit=150) == Drawn(150, 40, 100, 0)
        await second.close()
        third = world.open()
        assert await third.draw("b", "r", spent=0, hold=5, limit=150) == Drawn(150, 140, 5, 0)
        await third.close()

    asyncio.run(main())


def test_the_last_limit_holds(world: World) -> None:
    """Raised, there is more for all; lowered, nobody loses what it holds and nobody gets more."""

    async def main() -> None:
        one, two = world.open(), world.open()
        await one.draw("b", "r1", spent=0, hold=80, limit=100)
        assert await two.draw("b", "r2", spent=0, hold=50, limit=200) == Drawn(200, 0, 50, 80)
        assert await one.draw("b", "r1", spent=0, hold=200) == Drawn(200, 0, 150, 50)
        assert await two.draw("b", "r2", spent=0, hold=60, limit=90) == Drawn(90, 50, 0, 150)
        assert await one.draw("b", "r1", spent=0, hold=200) == Drawn(90, 50, 150, 0)
        assert await one.draw("b", "r1", spent=30, hold=10) == Drawn(90, 80, 40, 0)
        assert await one.draw("b", "r1", spent=30, hold=30) == Drawn(90, 80, 40, 0)
        await one.close()
        await two.close()

    asyncio.run(main())


def test_a_draw_that_is_not_waited_for_still_counts(world: World) -> None:
    """A run that is cancelled in a draw has it in the books."""

    async def main() -> None:
        store = world.open()
        await store.draw("b", "r", spent=0, hold=10, limit=100)
        drawing = asyncio.ensure_future(store.draw("b", "r", spent=0, hold=60))
        await asyncio.sleep(0)
        drawing.cancel()
        assert await store.draw("b", "other", spent=0, hold=100, limit=100) == Drawn(100, 0, 40, 60)
        await store.close()

    asyncio.run(main())


# Real processes.


@pytest.fixture
def spenders(tmp_path: Path) -> Iterator["Spenders"]:
    spenders = Spenders(tmp_path)
    yield spenders
    for child in spenders.children:
        if child.poll() is None:
            child.kill()
        child.communicate()


class Spenders:
    """Processes on one budget, and the ledger of what they truly did."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger = folder, folder / "ledger"
        self.children: list[subprocess.Popen[str]] = []

    def start(self, run: str, limit: float, worst: float, at_once: int, seed: int) -> subprocess.Popen[str]:
        words = [self.folder / "store.db", self.ledger, run, limit, worst, at_once, seed]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(
            [sys.executable, str(CHILD), *map(str, words)], env=environment, stdout=subprocess.PIPE, text=True
        )
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        return child

    def spent(self) -> float:
        """What the calls came to; those that were never finished at worst."""
        known = self.ledger.read_text() if self.ledger.exists() else ""
        spent: dict[str, float] = {}
        for line in known[: known.rfind("\n") + 1].splitlines():
            call, *rest = line.split()
            spent[call] = float(rest[-1])
        return sum(spent.values())

    def when(self, usd: float) -> None:
        """Until so much is spent."""
        give_up_s = time.monotonic() + DEADLINE_S
        while self.spent() < usd:
            assert time.monotonic() < give_up_s, f"only {self.spent()} spent"
            assert any(child.poll() is None for child in self.children)
            select.select([], [], [], 0.01)


@pytest.mark.serial
def test_processes_that_share_a_budget_and_are_killed_never_pass_it(spenders: "Spenders") -> None:
    """Three at a time on one budget, one after the other killed with -9 at a bad moment and started again: spent, and
    at worst in flight, is never more than the budget; in the end it is used but for what the dead held."""
    chance = random.Random(6)
    limit, worst, at_once = 3.0, 0.004, 8
    living = {f"r{number}": spenders.start(f"r{number}", limit, worst, at_once, number) for number in range(3)}
    kills = 6
    for number in range(kills):
        spenders.when(limit * 0.12 * (number + 1))
        run = chance.choice(sorted(living))
        living[run].send_signal(signal.SIGKILL)
        living[run].wait(DEADLINE_S)
        assert spenders.spent() <= limit
        living[run] = spenders.start(run, limit, worst, at_once, 10 + number)
    said = [child.communicate(timeout=DEADLINE_S)[0] for child in living.values()]
    assert all(line.startswith("The budget of $3.00 has no room for another call: ") for line in said), said
    assert spenders.spent() <= limit
    lost = kills * (at_once * worst + 4 * limit / 100)
    assert spenders.spent() >= limit - lost - 3 * worst


@pytest.mark.serial
def test_a_larger_budget_goes_on_where_a_smaller_one_ended(spenders: "Spenders") -> None:
    """Run again with the same it ends at once; with a larger one it spends what is more, and no cent besides."""
    for limit in (0.5, 0.5, 0.8):
        child = spenders.start("r", limit, 0.005, 5, int(limit * 10))
        assert "has no room for another call" in child.communicate(timeout=DEADLINE_S)[0]
        assert limit - 0.006 <= spenders.spent() <= limit
