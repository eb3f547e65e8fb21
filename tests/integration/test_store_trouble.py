"""A store that cannot be used, made so for real: locked, read-only, another user's, on a full disk, damaged, no store.

Each is one clear sentence with what to do, also where it comes in the middle of a run.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

import disk
from headrace.core.call import Reply
from headrace.core.digest import digest_of
from headrace.core.errors import StoreError
from headrace.core.item import Outcome
from headrace.core.ports import Answered, Done, RunInfo
from headrace.store import file
from headrace.store.history import SqliteHistory
from headrace.store.prune import Pruning
from headrace.store.sqlite import SqliteStore

SOURCE = Path(__file__).parents[2] / "src"
INFO = RunInfo(id="r", name="run", source="/in.csv", spec={}, started_at=1.0)
root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user")


def made(path: Path, outcomes: int = 1) -> Path:
    """A store with a run that is over."""

    async def main() -> None:
        store = SqliteStore(path)
        opened = await store.open_run(INFO)
        await store.commit([Done("r", Outcome(key=f"{n}", position=n, item="i", value="v")) for n in range(outcomes)])
        await store.close_run(msgspec.structs.replace(opened, status="finished", total=outcomes))
        await store.close()

    asyncio.run(main())
    return path


def opened(path: Path) -> None:
    asyncio.run(SqliteStore(path).close())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a lock for longer than a moment."""
    monkeypatch.setattr(file, "OPEN_S", 0.1)
    monkeypatch.setattr(file, "BUSY_S", 0.1)
    monkeypatch.setattr("headrace.store.file.connect.__kwdefaults__", {"busy_s": 0.1})


def the_error(raised: "pytest.ExceptionInfo[StoreError]") -> str:
    """Its sentence, which has a hint and nothing of SQLite's own words."""
    error = raised.value
    assert error.hint
    for word in ("disk I/O", "database is locked", "unable to open", "readonly database", "Traceback"):
        assert word not in str(error)
    return error.message


@pytest.mark.usefixtures("soon")
def test_a_store_that_another_program_locks(tmp_path: Path) -> None:
    """Whoever opens, reads or prunes hears of it; once the other is done, all is as it was."""
    path = made(tmp_path / "s.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE runs SET reason = 'theirs'")
        for use in (opened, lambda at: SqliteHistory(at).runs(), Pruning):
            with pytest.raises(StoreError) as raised:
                use(path)
            assert the_error(raised) == f"The store {path} is locked by another program."
        other.execute("ROLLBACK")
    opened(path)
    assert [info.reason for info in SqliteHistory(path).runs()] == [""]


@pytest.mark.usefixtures("soon")
def test_a_lock_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """Who waits for a commit hears of it, and what was committed before is there."""
    path = tmp_path / "s.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open_run(INFO)
        await store.commit([Done("r", Outcome(key="0", position=0, item="i", value="v"))])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError) as raised:
                await store.commit([Done("r", Outcome(key="1", position=1, item="i", value="v"))])
            assert "locked by another program" in the_error(raised)
            other.execute("ROLLBACK")
        await store.close()

    asyncio.run(main())
    assert [done.key for done in SqliteHistory(path).scan("r")] == ["0"]


@pytest.mark.parametrize("content", [b"this is no database, but longer than a header" * 50, b"text"])
def test_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    """It is said, and left as it was."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for use in (opened, SqliteHistory):
        with pytest.raises(StoreError) as raised:
            use(path)
        assert the_error(raised) == f"{path} is no store: it is no database at all."
    assert path.read_bytes() == content


def test_a_folder_and_what_is_not_there(tmp_path: Path) -> None:
    """A folder is no store; a store that is not there is not made by reading."""
    with pytest.raises(StoreError):
        opened(tmp_path)
    for path in (tmp_path, tmp_path / "none.db", tmp_path / "none" / "s.db"):
        with pytest.raises(StoreError, match="There is no store at"):
            SqliteHistory(path)
    (tmp_path / "plain").write_text("")
    with pytest.raises(StoreError) as raised:
        opened(tmp_path / "plain" / "s.db")
    assert str(tmp_path / "plain" / "s.db") in the_error(raised)


def test_a_damaged_store(tmp_path: Path) -> None:
    """Pages that were written over are met when they are read."""
    path = made(tmp_path / "s.db", outcomes=2000)
    with open(path, "r+b") as broken:
        broken.seek(4096 * 3)
        broken.write(os.urandom(path.stat().st_size - 4096 * 4))
    with pytest.raises(StoreError) as raised:
        list(SqliteHistory(path).scan("r"))
    assert the_error(raised).startswith(f"The store {path} is damaged")


def test_a_later_version(tmp_path: Path) -> None:
    """Both versions are said, by whoever opens, reads or prunes it; nothing is changed."""
    path = made(tmp_path / "s.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    for use in (opened, SqliteHistory, Pruning):
        with pytest.raises(StoreError, match="has version 99; this headrace reads version 4 and earlier"):
            use(path)


# As another user.


_AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from headrace.core.errors import StoreError
from headrace.store.history import SqliteHistory
from headrace.store.prune import Pruning
from headrace.store.sqlite import SqliteStore
os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def opened(path):
    await SqliteStore(path).close()
use = {"open": lambda path: asyncio.run(opened(path)), "read": lambda path: print(
    [(info.name, info.status) for info in SqliteHistory(path).runs()], len(list(SqliteHistory(path).scan("r")))),
    "prune": lambda path: Pruning(path).close()}[sys.argv[1]]
try:
    use(Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


def as_nobody(use: str, path: Path) -> str:
    for folder in path.parents:  # pytest's own folders are closed to others
        if folder.stat().st_uid == os.getuid() and folder != path.parent and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, use, str(path)], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@root
@pytest.mark.parametrize("use", ["open", "prune"])
def test_a_store_that_may_only_be_read(use: str, tmp_path: Path) -> None:
    """A file of somebody else's, in a folder of somebody else's: who wants to write hears of it."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    path = made(folder / "s.db")
    assert as_nobody(use, path) == (
        f"The store {path} may not be written. See that you may write the file and its folder, or name another store "
        "with --store."
    )
    assert as_nobody("open", folder / "new.db").startswith(f"The store {folder / 'new.db'} may not be written.")
    path.chmod(0o444)
    folder.chmod(0o777)
    assert as_nobody(use, path).startswith(f"The store {path} may not be written.")


@root
def test_somebody_elses_store_can_be_looked_at(tmp_path: Path) -> None:
    """Its runs can be listed and exported by who may read it, also while a run of its owner goes on."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    path = made(folder / "s.db", outcomes=5)
    assert as_nobody("read", path) == "[('run', 'finished')] 5"

    async def main() -> str:
        store = SqliteStore(path)
        await store.open_run(INFO)
        told = await asyncio.to_thread(as_nobody, "read", path)
        await store.close()
        return told

    assert asyncio.run(main()) == "[('run', 'running')] 5"
    assert {file.name for file in folder.iterdir()} == {"s.db", "s.db.owners"}


@root
def test_a_store_that_may_not_be_read(tmp_path: Path) -> None:
    """Closed by its own mode, or by its folder's."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    path = made(folder / "s.db")
    path.chmod(0o600)
    assert as_nobody("read", path).startswith(f"The store {path} may not be read.")
    path.chmod(0o644)
    folder.chmod(0o700)
    for use in ("read", "open"):
        told = as_nobody(use, path)
        assert told.startswith(f"The store {path} may not be ")
        assert "--store" in told


# On a disk that is full.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk.small_disk(tmp_path) as made:
        yield made


def test_a_disk_that_fills_up_in_the_middle_of_a_run(small_disk: Path) -> None:
    """Each that waits hears of it, what was committed is there, and with room the store goes on."""
    path = small_disk / "s.db"

    async def main() -> int:
        store = SqliteStore(path)
        await store.open_run(INFO)
        committed = 0
        with pytest.raises(StoreError) as raised:
            while committed < 1000:
                done = Outcome(key=f"{committed}", position=committed, item="x" * 20_000, value="v")
                await store.commit([Done("r", done)])
                committed += 1
        assert the_error(raised) == f"The disk is full: there is no room for the store {path}."
        await store.close()
        return committed

    committed = asyncio.run(main())
    assert committed > 5
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert [done.position for done in SqliteHistory(path).scan("r")] == list(range(committed))

    async def again() -> None:
        store = SqliteStore(path)
        await store.commit([Answered(digest_of("q"), Reply("a"))])
        assert await store.find([digest_of("q")])
        await store.close()

    asyncio.run(again())


def test_a_disk_that_is_full_at_the_start(small_disk: Path) -> None:
    """No store can be made there, and that is what is said."""
    ballast = os.open(small_disk / "ballast", os.O_CREAT | os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        while True:
            os.write(ballast, b"x" * 4096)
    os.close(ballast)
    path = small_disk / "s.db"
    with pytest.raises(StoreError) as raised:
        opened(path)
    assert the_error(raised) == f"The disk is full: there is no room for the store {path}."
