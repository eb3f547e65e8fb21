"""Pruning a store: what goes, goes whole; what stays, stays; beside live runs, and after a kill in the middle."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.core.call import Reply
from headrace.core.digest import digest_of
from headrace.core.errors import RunIsLive
from headrace.core.item import Failure, Outcome
from headrace.core.ports import Answered, Done, Rejected, RunInfo
from headrace.engine.forecast import forecast_name
from headrace.store.history import SqliteHistory
from headrace.store.owner import Owner, folder_of
from headrace.store.prune import Amount, Pruning
from headrace.store.sqlite import SqliteStore

MOMENT_S = 1.0
"""No transaction of a pruning may hold up another process for longer."""


def info(run: str) -> RunInfo:
    return RunInfo(id=run, name=f"name-{run}", source="/in.csv", spec={"prompt": f"canary-{run}"}, started_at=1.0)


async def filled(path: Path, run: str, items: int, *, close: bool = True) -> SqliteStore:
    """A run with its outcomes, an answer each, and a bad answer for every tenth."""
    store = SqliteStore(path)
    opened = await store.open_run(info(run))
    for start in range(0, items, 500):
        records: list[Any] = []
        for number in range(start, min(start + 500, items)):
            digest = digest_of(f"{run} {number}")
            text = f"canary-{run} {number} " + "x" * 300
            done = Outcome(key=f"k{number}", position=number, item={"text": text}, value="a", attempts=1)
            if number % 10 == 9:
                records.append(Rejected(digest, Reply(text), "bad"))
                done = msgspec.structs.replace(done, value=None, error=Failure("answer", "bad", raw=text))
            else:
                records.append(Answered(digest, Reply("an answer")))
            records.append(Done(run, done))
        await store.commit(records)
    if close:
        await store.close_run(msgspec.structs.replace(opened, status="finished", total=items, ended_at=2.0))
        await store.close()
    return store


def fill(path: Path, run: str, items: int) -> None:
    asyncio.run(filled(path, run, items))


@contextmanager
def pruning(path: Path) -> Iterator[Pruning]:
    made = Pruning(path)
    try:
        yield made
    finally:
        made.close()


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return count


def test_a_run_that_goes_takes_its_forecast_along(tmp_path: Path) -> None:
    """What was foretold of it is removed with it, and of no other run."""
    path = tmp_path / "s.db"
    for run in ("one", "two"):
        fill(path, run, 10)

    async def foretell() -> None:
        store = SqliteStore(path)
        for run in ("one", "two"):
            store.remember(forecast_name(run), b"{}")
        await store.close()

    asyncio.run(foretell())
    with closing(Pruning(path)) as made:
        made.prune(["one"])
    history = SqliteHistory(path)
    assert history.memory_of(forecast_name("one")) is None
    assert history.memory_of(forecast_name("two")) == b"{}"


def test_a_run_goes_with_all_that_is_its_own(tmp_path: Path) -> None:
    """Its outcomes and bad answers go, nothing of it is in the file any more, the file is smaller; others are whole."""
    path = tmp_path / "s.db"
    for run in ("one", "two"):
        fill(path, run, 1000)
    size = path.stat().st_size
    before = list(SqliteHistory(path).scan("two"))
    with pruning(path) as made:
        amount = made.amount(["one"])
        assert (amount.runs, amount.outcomes, amount.evidence, amount.answers) == (1, 1000, 100, 0)
        assert 0.3 * size < amount.bytes < 0.7 * size
        pruned = made.prune(["one"])
        assert pruned.shrunk
        assert made.amount([]) == Amount()
    assert pruned.bytes_before >= size
    assert path.stat().st_size == pruned.bytes_after < 0.7 * size
    history = SqliteHistory(path)
    assert [known.id for known in history.runs()] == ["two"]
    assert list(history.scan("two")) == before
    assert list(history.scan("one")) == []
    assert (rows(path, "outcomes"), rows(path, "evidence"), rows(path, "answers")) == (1000, 100, 1800)
    for file in tmp_path.iterdir():
        if file.is_file():
            assert b"canary-one" not in file.read_bytes()
            assert file.name != "s.db" or b"canary-two" in file.read_bytes()


def test_answers_go_by_their_age(tmp_path: Path) -> None:
    """Only what is older, and only where that is asked for; runs keep their outcomes."""
    path = tmp_path / "s.db"
    fill(path, "one", 50)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE answers SET at = 1000 WHERE rowid % 3 = 0")
        connection.execute("UPDATE evidence SET at = 1000 WHERE rowid % 5 = 0")
        connection.commit()
    with pruning(path) as made:
        assert made.amount([]).answers == 0
        amount = made.amount([], answers_before=2000.0)
        assert (amount.runs, amount.outcomes, amount.evidence, amount.answers) == (0, 0, 1, 15)
        made.prune([], answers_before=2000.0)
    assert (rows(path, "answers"), rows(path, "evidence"), rows(path, "outcomes")) == (30, 4, 50)


def test_a_live_run_is_refused_and_nothing_goes(tmp_path: Path) -> None:
    """Also where others that are over are named with it."""
    path = tmp_path / "s.db"
    fill(path, "over", 20)

    async def main() -> None:
        live = await filled(path, "live", 20, close=False)
        with pruning(path) as made, pytest.raises(RunIsLive, match="name-live"):
            made.prune(["over", "live"])
        await live.close()

    asyncio.run(main())
    assert {known.id for known in SqliteHistory(path).runs()} == {"over", "live"}
    assert rows(path, "outcomes") == 40
    with pruning(path) as made:  # its process is over now
        made.prune(["live"])
    assert rows(path, "outcomes") == 20


def test_beside_a_live_run(tmp_path: Path) -> None:
    """A run of another name goes on committing while 30,000 outcomes are removed, and never waits for long."""
    path = tmp_path / "s.db"
    fill(path, "old", 30_000)
    size = path.stat().st_size

    async def main() -> None:
        live = await filled(path, "live", 10, close=False)
        over = asyncio.Event()

        async def work() -> float:
            worst_s, number = 0.0, 10
            while not over.is_set() or number < 30:
                began_s = time.perf_counter()
                await live.commit([Done("live", Outcome(key=f"k{number}", position=number, item="i", value="v"))])
                worst_s = max(worst_s, time.perf_counter() - began_s)
                number += 1
            assert [done.position for done in SqliteHistory(path).scan("live")] == list(range(number))
            return worst_s

        worker = asyncio.create_task(work())
        with pruning(path) as made:
            pruned = await asyncio.to_thread(made.prune, ["old"])
        over.set()
        assert pruned.shrunk
        assert await worker < MOMENT_S
        await live.close()

    asyncio.run(main())
    assert path.stat().st_size < 0.3 * size + 100_000 + 27_000 * 100  # the answers stay
    assert rows(path, "evidence") == 1, "the live run's"


_CHILD = """
import sys
from pathlib import Path
from headrace.store import prune
prune._FIRST_ROWS = prune._MOST_ROWS = 200
prune._PAGES = 20
made = prune.Pruning(Path(sys.argv[1]))
print("ready", flush=True)
made.prune(sys.argv[2:])
print("done", flush=True)
"""


@pytest.mark.parametrize("rows_left", [9_000, 5_000, 500, 0])
def test_a_kill_in_the_middle(rows_left: int, tmp_path: Path) -> None:
    """The run is gone for all who look, what stays is whole, and the next pruning takes what is left; a run of the
    same name that was started meanwhile has its own outcomes only."""
    path = tmp_path / "s.db"
    fill(path, "gone", 10_000)
    fill(path, "kept", 300)
    kept = list(SqliteHistory(path).scan("kept"))
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), "gone"], stdout=subprocess.PIPE, text=True
    ) as child, closing(sqlite3.connect(path)) as looking:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        while looking.execute("SELECT count(*) FROM outcomes").fetchone()[0] > rows_left + 300 and child.poll() is None:
            continue
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert rows(path, "outcomes") >= 300
    history = SqliteHistory(path)
    assert [known.id for known in history.runs()] == ["kept"]
    assert list(history.scan("kept")) == kept
    fill(path, "gone", 50)
    assert [done.position for done in history.scan("gone")] == list(range(50))
    left = rows(path, "outcomes") - 350
    with pruning(path) as made:
        assert made.amount([]).outcomes == left
        made.prune([])
    assert (rows(path, "outcomes"), rows(path, "runs")) == (350, 2)
    assert list(history.scan("kept")) == kept
    assert [done.position for done in history.scan("gone")] == list(range(50))


def test_a_store_of_the_old_kind_shrinks_as_a_whole(tmp_path: Path) -> None:
    """One that cannot be shrunk bit by bit is left as large while others use it; later it becomes one that can."""
    path = tmp_path / "s.db"
    fill(path, "one", 3000)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    size = path.stat().st_size
    other = Owner(folder_of(path))
    with pruning(path) as made:
        assert not made.prune(["one"]).shrunk
    assert path.stat().st_size == size
    other.close()
    with pruning(path) as made:
        assert made.prune([]).shrunk
    assert path.stat().st_size < 0.6 * size
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert rows(path, "answers") == 2700
