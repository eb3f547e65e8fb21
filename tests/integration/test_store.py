"""The store and its twin: one contract, both held to it. What only a file can do comes after."""

import asyncio
import gzip
import math
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.core.call import Reply
from headrace.core.digest import Digest, digest_of
from headrace.core.errors import RunIsLive, StoreError
from headrace.core.item import Failure, Outcome
from headrace.core.ports import Answered, Counts, Done, Figures, Rejected, Released, RunInfo
from headrace.store import tables
from headrace.store.history import KILLED, SqliteHistory
from headrace.store.memory import Memory, MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.store.writer import Writer

Open = Callable[[], Any]
INFO = RunInfo(id="r", name="run", source="/in.csv", spec={"prompt": "q", "fields": ["text"]}, started_at=1.0)
D = [digest_of(number) for number in range(10)]


@pytest.fixture(params=["file", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Open, Open]:
    """Two functions: one opens the same store as another process would, one reads its history."""
    if request.param == "memory":
        memory = Memory()
        return lambda: MemoryStore(memory), lambda: MemoryStore(memory)
    path = tmp_path / "deep" / "store.db"
    return lambda: SqliteStore(path), lambda: SqliteHistory(path)


def using(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def outcome(number: int, **changes: Any) -> Outcome:
    done = Outcome(
        key=f"k{number}", position=number, item={"text": f"t{number}"}, value={"n": number}, attempts=1, seconds=0.5,
        input_tokens=3, output_tokens=2,
    )  # fmt: skip
    return msgspec.structs.replace(done, **changes)


def test_answers_are_found_as_they_were_committed(world: tuple[Open, Open]) -> None:
    """A reply comes back equal, but for its attempts: serving it costs none."""

    async def main() -> None:
        store = world[0]()
        reply = Reply('{"a": "é\\u2028\\u0000"}', "length", 1, 2, 0, "m", attempts=3, seconds=1.5)
        await store.commit([Answered(D[0], reply)])
        found = await store.find(D)
        assert found == {D[0]: Reply(reply.text, "length", 1, 2, 0, "m", attempts=0, seconds=1.5)}
        assert await store.find([]) == {}
        assert await store.find(D, since=2e10) == {}
        await store.close()

    using(main)


def test_posted_records_are_there_before_what_is_committed_later(world: tuple[Open, Open]) -> None:
    """`post` keeps the order: whoever waits for a later commit finds both."""

    async def main() -> None:
        store = world[0]()
        store.post([Answered(D[0], Reply("a"))])
        await store.commit([Released(D[5])])
        assert set(await store.find(D)) == {D[0]}
        await store.close()

    using(main)


def test_a_claim_is_ours_theirs_or_answered(world: tuple[Open, Open]) -> None:
    """Claims: free ones are ours, a live process's are not, an answered digest gives its answer."""

    async def main() -> None:
        one, two = world[0](), world[0]()
        assert await one.claim(D[:3]) == {}
        assert await one.claim(D[:1]) == {}
        assert await two.claim(D[:4]) == {D[0]: None, D[1]: None, D[2]: None}
        await one.commit([Answered(D[0], Reply("a")), Released(D[1]), Rejected(D[2], Reply("x"), "bad")])
        claimed = await two.claim(D[:3])
        assert claimed == {D[0]: Reply("a", attempts=0)}
        assert await two.claim([D[0]], since=2e10) == {}
        assert await two.find(D) == {D[0]: Reply("a", attempts=0)}
        await one.commit([Released(D[3])])
        assert await one.claim([D[3]]) == {D[3]: None}, "only the owner releases"
        await one.close()
        await two.close()

    using(main)


def test_claims_end_with_their_owner(world: tuple[Open, Open]) -> None:
    """What a closed store had claimed is free."""

    async def main() -> None:
        one, two = world[0](), world[0]()
        await one.claim(D)
        await one.close()
        assert await two.claim(D) == {}
        await two.close()

    using(main)


def test_a_run_is_opened_once_at_a_time(world: tuple[Open, Open]) -> None:
    """A live run refuses a second process; each start is a new session; the history tells its state."""

    async def main() -> None:
        one, two = world[0](), world[0]()
        assert (await one.open_run(INFO)).session == 1
        with pytest.raises(RunIsLive):
            await two.open_run(INFO)
        with pytest.raises(RunIsLive):
            await one.open_run(INFO)
        assert [info.status for info in world[1]().runs()] == ["running"]
        await one.close_run(RunInfo(id="r", name="run", source="/in.csv", spec={}, status="stopped", reason="why"))
        known = world[1]().runs()[0]
        assert (known.status, known.reason) == ("stopped", "why")
        assert (await two.open_run(INFO)).session == 2
        await one.close()
        await two.close()

    using(main)


def test_outcomes_come_back_in_order_and_equal(world: tuple[Open, Open]) -> None:
    """The journal gives back what went in, by position."""

    async def main() -> None:
        store = world[0]()
        await store.open_run(INFO)
        wanted = [
            outcome(0), outcome(1, value=None, error=Failure("timeout", "late", "wait", "raw")), outcome(2, value="é\x00\u2028"),
            outcome(3, item="text", value=None), outcome(4, usd=0.5, stage="ask", value=[1, None, {"a": 1.5}]),
        ]  # fmt: skip
        await store.commit([Done("r", done) for done in reversed(wanted)])
        history = world[1]()
        assert list(history.scan("r")) == wanted
        assert list(history.scan("other")) == []
        seen = await store.outcomes("r", ["k1", "k3", "none"])
        assert {key: (session, found.ok) for key, (session, found) in seen.items()} == {
            "k1": (1, False),
            "k3": (1, True),
        }
        counts = history.counts("r")
        assert (counts.ok, counts.failed, counts.calls, counts.input_tokens, counts.pending) == (4, 1, 5, 15, None)
        await store.close()

    using(main)


def test_a_finished_session_forgets_what_the_source_lost(world: tuple[Open, Open]) -> None:
    """A run's outcomes are those of the items its source has now; an unfinished session forgets nothing."""

    async def main() -> None:
        store = world[0]()
        opened = await store.open_run(INFO)
        await store.commit([Done("r", outcome(number)) for number in range(4)])
        await store.close_run(_ended(opened, "finished", 4))
        opened = await store.open_run(INFO)
        await store.commit([Done("r", outcome(1, position=0, cached=True, attempts=0))])
        await store.close_run(_ended(opened, "interrupted", None))
        assert [found.key for found in world[1]().scan("r")] == ["k0", "k1", "k2", "k3"]
        opened = await store.open_run(INFO)
        await store.commit([Done("r", outcome(1, position=0, cached=True, attempts=0)), Done("r", outcome(9))])
        await store.close_run(_ended(opened, "finished", 2))
        kept = list(world[1]().scan("r"))
        assert [(found.key, found.position, found.attempts) for found in kept] == [("k1", 0, 1), ("k9", 9, 1)]
        assert world[1]().counts("r").pending == 0
        await store.close()

    using(main)


def test_a_failure_is_replaced_by_its_later_answer(world: tuple[Open, Open]) -> None:
    """An item that failed and is answered later has the later outcome, also where another run paid for it."""

    async def main() -> None:
        store = world[0]()
        await store.open_run(INFO)
        await store.commit([Done("r", outcome(0, value=None, error=Failure("timeout", "late")))])
        await store.commit([Done("r", outcome(0, cached=True, attempts=0))])
        assert [found.value for found in world[1]().scan("r")] == [{"n": 0}]
        await store.close()

    using(main)


def _ended(info: RunInfo, status: Any, total: int | None) -> RunInfo:
    return RunInfo(id=info.id, name=info.name, source=info.source, spec=info.spec, status=status, total=total)


def _write(lease: bytes, seen: dict[str, bytes] | None = None) -> Callable[[str, Mapping[str, bytes]], bytes]:
    def decide(_holder: str, rows: Mapping[str, bytes]) -> bytes:
        if seen is not None:
            seen.clear()
            seen.update(rows)
        return lease

    return decide


def test_leases_are_read_and_written_in_one_step(world: tuple[Open, Open]) -> None:
    """Each holder sees what the other live holders of the endpoint wrote last, and only that; the dead are gone."""

    async def main() -> None:
        one, two, three = world[0](), world[0](), world[0]()
        seen: dict[str, bytes] = {}
        assert await one.lease("e", _write(b"1", seen)) == b"1"
        assert seen == {}
        await two.lease("e", _write(b"2", seen))
        assert list(seen.values()) == [b"1"]
        await one.lease("e", _write(b"1'", seen))
        assert list(seen.values()) == [b"2"]
        await three.lease("e", _write(b"3", seen))
        assert sorted(seen.values()) == [b"1'", b"2"]
        await three.lease("elsewhere", _write(b"4", seen))
        assert seen == {}
        await two.unlease("e")
        await two.unlease("never leased")
        await three.lease("e", _write(b"3", seen))
        assert list(seen.values()) == [b"1'"]
        await one.close()
        await three.lease("e", _write(b"3", seen))
        assert seen == {}
        await two.close()
        await three.close()
        four = world[0]()
        await four.lease("e", _write(b"4", seen))
        assert seen == {}
        await four.close()

    using(main)


def test_each_holder_has_one_name(world: tuple[Open, Open]) -> None:
    """What a holder is called by itself is what the others know it by."""

    async def main() -> None:
        one, two = world[0](), world[0]()
        names: list[str] = []

        def decide(holder: str, rows: Mapping[str, bytes]) -> bytes:
            names.extend((holder, *rows))
            return b""

        await one.lease("e", decide)
        await two.lease("e", decide)
        assert names == [names[0], names[1], names[0]]
        assert names[0] != names[1]
        await one.close()
        await two.close()

    using(main)


def test_a_decision_that_raises_is_its_callers_alone(world: tuple[Open, Open]) -> None:
    """It leaves the lease as it was, and what is committed at the same time is committed."""

    async def main() -> None:
        one, two = world[0](), world[0]()
        await one.lease("e", _write(b"1"))

        def decide(_holder: str, _rows: Mapping[str, bytes]) -> bytes:
            raise ValueError("no")

        committed = asyncio.ensure_future(one.commit([Answered(D[0], Reply("a"))]))
        with pytest.raises(ValueError, match="no"):
            await one.lease("e", decide)
        await committed
        assert set(await one.find(D)) == {D[0]}
        seen: dict[str, bytes] = {}
        await two.lease("e", _write(b"2", seen))
        assert list(seen.values()) == [b"1"]
        await one.close()
        await two.close()

    using(main)


def test_what_was_learnt_of_an_endpoint_is_remembered(world: tuple[Open, Open]) -> None:
    """The last word is found, also by others and after the end; none that is too old, none of another endpoint."""

    async def main() -> None:
        one = world[0]()
        assert await one.remembered("e") is None
        one.remember("e", b"first")
        one.remember("e", b"\x00second")
        one.remember("f", b"other")
        await one.close()
        two = world[0]()
        assert await two.remembered("e") == b"\x00second"
        assert await two.remembered("e", since=time.time() - 60) == b"\x00second"
        assert await two.remembered("e", since=time.time() + 60) is None
        assert await two.remembered("E") is None
        await two.close()

    using(main)


def test_counts_are_of_what_the_run_itself_took(world: tuple[Open, Open]) -> None:
    """An answer of another run costs no call and no token; the same while it goes on and once it is over."""

    async def main() -> None:
        store = world[0]()
        opened = await store.open_run(INFO)
        await store.commit([Done("r", outcome(0)), Done("r", outcome(1, cached=True, attempts=0))])
        running = world[1]().counts("r")
        assert (running.ok, running.calls, running.input_tokens, running.output_tokens) == (2, 1, 3, 2)
        assert running.pending is None
        await store.close_run(_ended(opened, "stopped", 5))
        assert world[1]().counts("r") == msgspec.structs.replace(running, pending=3)
        await store.open_run(INFO)
        await store.commit([Done("r", outcome(2))])
        assert world[1]().counts("r").ok == 3
        await store.close()

    using(main)


def test_figures_are_kept_with_their_run(world: tuple[Open, Open]) -> None:
    """The last ones that were posted or closed with; a session that brings none leaves them; lists go without."""

    async def main() -> None:
        store, history = world[0](), world[1]
        opened = await store.open_run(INFO)
        assert history().run("r").figures is None
        store.post([Figures("r", b"first")])
        await store.commit([Figures("r", b"second")])
        assert history().run("r").figures == b"second"
        assert [info.figures for info in history().runs()] == [None]
        await store.close_run(msgspec.structs.replace(opened, status="stopped", figures=b"third"))
        assert history().run("r").figures == b"third"
        opened = await store.open_run(INFO)
        assert history().run("r").figures == b"third"
        await store.close_run(msgspec.structs.replace(opened, status="finished"))
        assert history().run("r").figures == b"third"
        assert history().run("r").session == 2
        assert history().run("other") is None
        await store.close()

    using(main)


def test_failures_alone_can_be_read(world: tuple[Open, Open]) -> None:
    """In the order of the source, like all."""

    async def main() -> None:
        store = world[0]()
        await store.open_run(INFO)
        bad = Failure("timeout", "late")
        done = [outcome(number, **({"value": None, "error": bad} if number % 3 else {})) for number in range(9)]
        await store.commit([Done("r", each) for each in reversed(done)])
        assert [found.position for found in world[1]().scan("r", failed_only=True)] == [1, 2, 4, 5, 7, 8]
        await store.close()

    using(main)


DISCREET = msgspec.structs.replace(
    INFO,
    spec={
        "work": "ask", "prompt": "CANARY {text}", "system": "CANARY", "returns": "label: a|b", "fields": ["id", "text"],
        "schema": {"type": "object", "description": "CANARY", "properties": {"description": {"title": "CANARY"}}},
        "params": {"seed": 1, "user": "CANARY"}, "query": "CANARY", "key": None, "keep_prompts": False,
    },
)  # fmt: skip


def test_a_run_may_keep_no_prompts(world: tuple[Open, Open]) -> None:
    """Of question and items nothing is kept, of messages what is our own; keys, answers and numbers are."""

    async def main() -> None:
        store = world[0]()
        opened = await store.open_run(DISCREET)
        said = 'The provider answered 400: "CANARY" is bad.'
        await store.commit(
            [
                Done("r", outcome(0, item={"text": "CANARY"}, value="an answer")),
                Done("r", outcome(1, item="CANARY", value=None, error=Failure("rejected", said, "CANARY"))),
                Done("r", outcome(2, item="CANARY", value=None, error=Failure("function", "ValueError: CANARY"))),
                Done("r", outcome(3, item="CANARY", value=None, error=Failure("answer", "No JSON.", "Ask.", "raw"))),
            ]
        )
        group = {"kind": "rejected", "message": said, "hint": "CANARY", "count": 1}
        store.post([Figures("r", msgspec.json.encode({"failures": [group], "reason": "CANARY", "ok": 1}))])
        stopped = msgspec.structs.replace(
            opened, status="stopped", reason=f"Nothing but failures for 30 s. The last: {said}"
        )
        await store.close_run(msgspec.structs.replace(stopped, spec=DISCREET.spec))
        history = world[1]()
        info = history.run("r")
        found = list(history.scan("r"))
        assert "CANARY" not in repr((info, found, history.runs(), opened))
        assert info.reason.startswith("Nothing but failures for 30 s. What was said is not kept")
        assert info.spec["schema"] == {"type": "object", "properties": {"description": {}}}
        assert info.spec["params"] == {"seed": 1}
        assert [done.item for done in found] == [{"key": f"k{number}"} for number in range(4)]
        assert found[0].value == "an answer"
        assert found[1].error.message.startswith("The provider answered 400. What was said is not kept")
        assert found[3].error == Failure("answer", "No JSON.", "Ask.", "raw")
        assert msgspec.json.decode(info.figures)["ok"] == 1
        await store.close()

    using(main)


def test_a_run_may_keep_no_prompts_any_more(world: tuple[Open, Open]) -> None:
    """What its earlier sessions kept goes too; a later session that keeps them has them again."""

    async def main() -> None:
        store = world[0]()
        opened = await store.open_run(INFO)
        bad = Failure("rejected", "CANARY")
        await store.commit(
            [Done("r", outcome(0, item={"text": "CANARY"})), Done("r", outcome(1, value=None, error=bad))]
        )
        await store.close_run(_ended(opened, "stopped", None))
        opened = await store.open_run(DISCREET)
        found = list(world[1]().scan("r"))
        assert "CANARY" not in repr((found, world[1]().run("r")))
        assert [done.item for done in found] == [{"key": "k0"}, {"key": "k1"}]
        assert found[1].error.kind == "rejected"
        await store.close_run(_ended(opened, "stopped", None))
        await store.open_run(INFO)
        await store.commit([Done("r", outcome(0, cached=True, attempts=0))])
        assert next(world[1]().scan("r")).item == {"text": "t0"}
        await store.close()

    using(main)


# What only a file can do.


OLD = Path(__file__).parent / "stores"
"""Files that earlier versions wrote and were killed over, never to be changed."""
_FIRST_COLUMNS = {
    "answers": "digest, text, finish, input_tokens, output_tokens, cached_tokens, model, seconds, at",
    "evidence": "digest, text, finish, input_tokens, output_tokens, cached_tokens, model, seconds, at, reason",
    "claims": "digest, owner",
    "runs": "number, id, name, source, spec, status, reason, started_at, ended_at, session, total, owner",
    "outcomes": "run, key, position, session, item, value, error, attempts, seconds, usd, cached, stage, input_tokens, "
    "output_tokens",
}


def _old(version: int, path: Path) -> Path:
    path.write_bytes(gzip.decompress((OLD / f"version-{version}.db.gz").read_bytes()))
    return path


def _rows(path: Path) -> list[Any]:
    """All that a store of version 1 has."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT {columns} FROM {table}").fetchall() for table, columns in _FIRST_COLUMNS.items()
        ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_version_is_upgraded_where_it_is(version: int, tmp_path: Path) -> None:
    """All that was in it is in it, and it takes what is new; its history can be read before and after."""
    path = _old(version, tmp_path / "s.db")
    before = _rows(path)
    history = SqliteHistory(path)
    _old_history(history)
    assert _version_of(path) == version, "reading changes nothing"

    async def main() -> None:
        store = SqliteStore(path)
        assert _rows(path) == before
        known = Reply('{"mood": "good"}', "stop", 12, 5, 0, model="m", attempts=0, seconds=0.25)
        digests = [digest_of(f"q{number}") for number in range(11)]
        assert await store.find(digests) == dict.fromkeys(digests[:4], known)
        assert await store.claim(digests[9:]) == {}, "a bad answer is not served, and who claimed the other is dead"
        assert await store.lease("e", _write(b"1")) == b"1"
        store.remember("e", b"x")
        opened = await store.open_run(msgspec.structs.replace(INFO, id=OLD_RUN))
        assert opened.session == 3
        await store.commit([Done(OLD_RUN, outcome(0, samples=("a", "b"), agreement=0.5))])
        store.post([Figures(OLD_RUN, b"figures")])
        await store.close()

    _old_history(history)
    using(main)
    assert _version_of(path) == tables.VERSION
    assert history.run(OLD_RUN).figures == b"figures"  # type: ignore[union-attr]
    assert [(found.position, found.agreement) for found in history.scan(OLD_RUN)][:3] == [
        (0, None),
        (0, 0.5),
        (1, None),
    ]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM leases WHERE endpoint = 'e'").fetchone() == (0,)
    using(_opened_and_closed(path))


OLD_RUN = "0123456789abcdef"


def _old_history(history: SqliteHistory) -> None:
    """What the earlier version's command would have told."""
    killed, finished = history.runs()
    assert (killed.name, killed.status, killed.reason) == ("killed", "interrupted", KILLED)
    assert (finished.name, finished.status, finished.session, finished.total) == ("reviews", "finished", 2, 5)
    assert finished.spec["system"] == "Be brief."
    assert history.run(OLD_RUN) == finished
    assert history.counts(OLD_RUN) == Counts(4, 1, 0, 5, 60, 25)
    found = list(history.scan(OLD_RUN))
    assert [done.key for done in found] == ["0-k", "1-k", "2-k", "3-k", "9-k"]
    assert found[0].value == {"mood": "good"}
    assert [done.key for done in history.scan(OLD_RUN, failed_only=True)] == ["9-k"]


def test_many_upgrade_and_create_a_store_at_once(tmp_path: Path) -> None:
    """Whoever comes first does it; nobody fails, and nothing is done twice."""
    for path in (tmp_path / "old.db", tmp_path / "new.db"):
        if path.stem == "old":
            _old(1, path)
        barrier = threading.Barrier(6)

        def opens(path: Path, barrier: threading.Barrier) -> None:
            barrier.wait()
            using(_opened_and_closed(path))

        with ThreadPoolExecutor(6) as threads:
            for opened in [threads.submit(opens, path, barrier) for _ in range(6)]:
                opened.result()
        assert _version_of(path) == tables.VERSION
    assert len(_rows(tmp_path / "old.db")[0]) == 4


def test_a_store_waits_for_who_is_creating_it(tmp_path: Path) -> None:
    """SQLite waits for a lock everywhere but where a new file gets its log; this store waits there too."""
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as threads:
        other.execute("BEGIN IMMEDIATE")
        opened = threads.submit(using, _opened_and_closed(path))
        with pytest.raises(TimeoutError):
            opened.result(0.2)
        other.execute("COMMIT")
        opened.result()
    assert _version_of(path) == tables.VERSION


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an upgrade is none: the store is as it was, and opens when what was in the way is gone."""
    path = tmp_path / "s.db"
    _old(1, path)
    before = _rows(path)
    with monkeypatch.context() as patch:
        patch.setattr("headrace.store.tables.STEPS", (tables.STEPS[0], tables.STEPS[1] + "CREATE TABLE answers (a);\n"))
        with pytest.raises(StoreError, match="could not be opened"):
            SqliteStore(path)
    assert _version_of(path) == 1
    assert _rows(path) == before
    using(_opened_and_closed(path))
    assert _version_of(path) == tables.VERSION


def _version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return version


def test_a_lease_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """The disk refuses a lease: its holder hears of it, answers are written as before, and the next lease is too."""

    async def main() -> None:
        path = tmp_path / "s.db"
        store = SqliteStore(path)
        await store.lease("e", _write(b"1"))
        store._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(StoreError, match="may not be written"):
            await store.lease("e", _write(b"2"))
        store.remember("e", b"lost")
        with pytest.raises(StoreError, match="may not be written"):
            await store.unlease("e")
        store._connection.execute("PRAGMA query_only = 0")
        await store.commit([Answered(D[0], Reply("a"))])
        assert await store.remembered("e") is None
        other, seen = SqliteStore(path), dict[str, bytes]()
        await other.lease("e", _write(b"3", seen))
        assert list(seen.values()) == [b"1"]
        assert await store.lease("e", _write(b"2")) == b"2"
        await other.close()
        await store.close()

    using(main)


def test_leases_cost_no_disk_and_no_write_where_nothing_changed(tmp_path: Path) -> None:
    """Only what is vital waits for the disk; a lease that says the same as before is not written again."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        told: list[str] = []
        store._connection.set_trace_callback(told.append)
        await store.lease("e", _write(b"1"))
        await store.lease("e", _write(b"1"))
        assert sum("INSERT" in statement for statement in told) == 1
        assert _synchronous(store) == 1
        await store.commit([Answered(D[0], Reply("a"))])
        assert _synchronous(store) == 2
        store._connection.set_trace_callback(None)
        await store.close()

    using(main)


def _synchronous(store: SqliteStore) -> int:
    level: int = store._connection.execute("PRAGMA synchronous").fetchone()[0]
    return level


def _broken(error: Exception) -> StoreError:
    return StoreError(str(error))


class _Stopped(asyncio.SelectorEventLoop):
    """A loop whose clock stands still but for who turns it on, and that only notes when it is to call."""

    now_s, wanted_s = 100.0, math.inf

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        self.wanted_s = when


def test_after_a_pause_the_first_few_are_written_at_once(tmp_path: Path) -> None:
    """Who asks for one thing after the other does not wait for a clock each time; in the long run groups are 20 ms apart."""
    writer = Writer(sqlite3.connect(tmp_path / "s.db", check_same_thread=False), lambda _, jobs: list(jobs), _broken)
    loop = _Stopped()
    waits: list[float] = []
    for _ in range(60):
        writer._schedule(loop)
        waits.append(round(loop.wanted_s - loop.now_s, 6))
        loop.now_s = max(loop.now_s, loop.wanted_s) + 0.001  # the disk
        writer._flush(loop)
    assert waits[:5] == [0.0] * 5
    assert 0 <= max(waits) <= 0.02
    assert loop.now_s - 100.0 >= 55 * 0.02
    loop.now_s += 10
    writer._schedule(loop)
    assert loop.wanted_s == loop.now_s
    writer._groups.put(None)
    writer._thread.join()
    writer._connection.close()
    loop.close()


def test_thousands_of_rows_go_in_one_group(tmp_path: Path) -> None:
    """A group may be larger than what one statement takes."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        await store.open_run(INFO)
        many = [digest_of(f"d{number}") for number in range(2345)]
        assert await store.claim(many) == {}
        await store.commit([Answered(digest, Reply("a")) for digest in many])
        await store.commit([Done("r", outcome(number)) for number in range(2345)])
        assert len(await store.find(many)) == 2345
        assert [found.position for found in SqliteHistory(tmp_path / "s.db").scan("r")] == list(range(2345))
        await store.close()

    using(main)


def test_commits_come_in_groups(tmp_path: Path) -> None:
    """G-commit: a thousand callers within 20 ms share a few transactions."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        await store.open_run(INFO)
        transactions = 0

        def count(statement: str) -> None:
            nonlocal transactions
            transactions += statement.startswith("COMMIT")

        store._connection.set_trace_callback(count)
        await asyncio.gather(*[store.commit([Done("r", outcome(number))]) for number in range(1000)])
        assert transactions <= 3
        store._connection.set_trace_callback(None)
        await store.close()

    using(main)


@pytest.mark.parametrize(
    "content", [b"this is no database, but it is longer than a header" * 20, b"SQLite format 3\x00broken"]
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is something else is left alone, with a sentence."""
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"s\.db"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A database with tables of its own is left alone."""
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(StoreError, match="no store of headrace"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="no store of headrace"):
        SqliteHistory(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A store of another version says both versions."""
    path = tmp_path / "s.db"
    using(_opened_and_closed(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99; this headrace reads version 4"):
        SqliteStore(path)


def test_no_store_is_said(tmp_path: Path) -> None:
    """Reading the history of a store that is not there makes none."""
    with pytest.raises(StoreError, match="no store at"):
        SqliteHistory(tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_is_heard_by_all_and_stays_failed(tmp_path: Path) -> None:
    """When the disk refuses, every waiting caller gets the error, and so does every later one: nothing goes on unstored."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        await store.open_run(INFO)
        store._connection.execute("PRAGMA max_page_count = 30")
        big = [Done("r", outcome(number, value="x" * 100_000)) for number in range(3)]
        results = await asyncio.gather(*[store.commit([done]) for done in big], return_exceptions=True)
        assert all(isinstance(result, StoreError) for result in results)
        with pytest.raises(StoreError, match="full"):
            await store.commit([Done("r", outcome(9))])
        assert list(SqliteHistory(tmp_path / "s.db").scan("r")) == []
        await store.close()

    using(main)


def test_a_value_without_a_json_form_fails_its_caller_alone(tmp_path: Path) -> None:
    """What cannot be encoded raises where it was committed; others in the group are unharmed."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        await store.open_run(INFO)
        good = asyncio.ensure_future(store.commit([Done("r", outcome(1))]))
        with pytest.raises(TypeError):
            await store.commit([Done("r", outcome(2, value=object()))])
        await good
        assert [found.key for found in SqliteHistory(tmp_path / "s.db").scan("r")] == ["k1"]
        await store.close()

    using(main)


def _opened_and_closed(path: Path) -> Callable[[], Awaitable[None]]:
    async def main() -> None:
        await SqliteStore(path).close()

    return main


def test_closing_leaves_no_owner_behind(tmp_path: Path) -> None:
    """A clean end removes its lock file."""
    using(_opened_and_closed(tmp_path / "s.db"))
    assert not list((tmp_path / "s.db.owners").iterdir())


def test_digests_of_any_bytes_are_keys(tmp_path: Path) -> None:
    """A digest may hold any byte."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "s.db")
        odd = [Digest(bytes(32)), Digest(b"\xff" * 32), Digest(b"'" * 32)]
        await store.commit([Answered(digest, Reply("a")) for digest in odd])
        assert set(await store.find(odd)) == set(odd)
        await store.close()

    using(main)
