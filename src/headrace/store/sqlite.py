"""The store in one SQLite file (WAL): a writer thread that commits groups, a reader thread that never waits for it.

Enters and leaves core values; knows nothing of tasks, providers or the engine.
"""

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.core.call import Reply
from headrace.core.digest import Digest
from headrace.core.errors import RunIsLive, StoreError
from headrace.core.item import Outcome
from headrace.core.ports import Answered, Decide, Done, Drawn, Figures, Record, Rejected, Released, RunInfo
from headrace.store import purses, tables
from headrace.store.discreet import UNSAID, is_discreet, quiet_figures, quiet_outcome, quiet_rejection, quiet_run
from headrace.store.file import connect, failed, prepare
from headrace.store.owner import Owner, folder_of
from headrace.store.writer import Writer

T = TypeVar("T")
_ROWS_AT_ONCE = 500


class _Write(msgspec.Struct, frozen=True):
    """Rows of one commit, already encoded: what cannot be encoded fails its caller, not the whole group."""

    answers: list[tuple[Any, ...]]
    evidence: list[tuple[Any, ...]]
    outcomes: list[tuple[Any, ...]]
    released: list[Digest]
    figures: list[tuple[bytes, int]]

    @property
    def vital(self) -> bool:
        return bool(self.answers or self.evidence or self.outcomes or self.released)


class _Claim(msgspec.Struct, frozen=True):
    digests: list[Digest]
    since: float


class _Lease(msgspec.Struct, frozen=True):
    """Without `decide`, the lease is given back."""

    endpoint: str
    decide: Decide | None = None


class _Remember(msgspec.Struct, frozen=True):
    endpoint: str
    data: bytes
    at: float


class _Farewell(msgspec.Struct, frozen=True):
    """All claims and leases are given back."""


class SqliteStore:
    """Raises StoreError when `path` cannot be opened, is no store, or is one of a later version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers: dict[str, tuple[int, int]] = {}  # run id -> (number, session), of the runs open here
        self._discreet: dict[str, RunInfo] = {}  # those of them that keep no prompts
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _prepared(path)
            self._owner = Owner(folder_of(path))
            self._reads = connect(path)
        except (OSError, sqlite3.Error) as error:
            raise failed(path, error, done="opened") from error
        self._writer = Writer(connection, self._apply, lambda error: failed(path, error, done="written"))
        self._connection = connection
        self._reader = ThreadPoolExecutor(1, "headrace-find")

    async def find(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply]:
        return await self._read(lambda: _answers(self._reads, digests, since))

    async def claim(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply | None]:
        claimed: dict[Digest, Reply | None] = await self._writer.write(_Claim(list(digests), since))
        return claimed

    async def commit(self, records: Sequence[Record]) -> None:
        await self._writer.write(self._encoded(records))

    def post(self, records: Sequence[Record]) -> None:
        write = self._encoded(records)
        self._writer.post(write, vital=write.vital)

    async def outcomes(self, run: str, keys: Sequence[str]) -> dict[str, tuple[int, Outcome]]:
        number, _ = self._numbers[run]

        def read() -> dict[str, tuple[int, Outcome]]:
            rows = _in_chunks(self._reads, tables.find_outcomes, keys, before=(number,))
            return {row[1]: (row[0], tables.outcome_of(row[1:])) for row in rows}

        return await self._read(read)

    async def open_run(self, info: RunInfo) -> RunInfo:
        discreet = is_discreet(info)
        opened: RunInfo | StoreError = await self._writer.write(quiet_run(info) if discreet else info)
        if isinstance(opened, StoreError):
            raise opened
        if discreet:
            self._discreet[info.id] = opened
        return opened

    async def close_run(self, info: RunInfo) -> None:
        await self._writer.write(quiet_run(info) if is_discreet(info) else info)
        self._numbers.pop(info.id, None)
        self._discreet.pop(info.id, None)

    async def lease(self, endpoint: str, decide: Decide) -> bytes:
        written: bytes | Exception = await self._writer.write(_Lease(endpoint, decide), vital=False)
        if isinstance(written, Exception):
            raise written
        return written

    async def unlease(self, endpoint: str) -> None:
        await self._writer.write(_Lease(endpoint), vital=False)

    async def remembered(self, endpoint: str, *, since: float = 0.0) -> bytes | None:
        row = await self._read(lambda: self._reads.execute(tables.REMEMBERED, (endpoint, since)).fetchone())
        return row[0] if row else None

    def remember(self, endpoint: str, data: bytes) -> None:
        self._writer.post(_Remember(endpoint, data, time.time()), vital=False)

    async def draw(self, budget: str, purse: str, *, spent: int, hold: int, limit: int | None = None) -> Drawn:
        drawn: Drawn = await self._writer.write(purses.Draw(budget, purse, spent, hold, limit))
        return drawn

    async def budget(self, budget: str) -> Drawn | None:
        found = await self._read(lambda: budget_of(self._reads, budget))
        return None if found is None else purses.stands(found)

    async def close(self) -> None:
        try:
            with suppress(StoreError):  # who asked for something has heard of it; claims die with their owner anyway
                await self._writer.write(_Farewell())
            await self._writer.close()
            await asyncio.to_thread(self._reader.shutdown)
        finally:
            self._reads.close()
            self._connection.close()
            self._owner.close()

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, read)
        except sqlite3.Error as error:
            raise failed(self.path, error, done="read") from error

    def _encoded(self, records: Sequence[Record]) -> _Write:
        write = _Write([], [], [], [], [])
        now = time.time()
        for record in records:
            match record:
                case Done(run, outcome):
                    number, session = self._numbers[run]
                    if run in self._discreet:
                        outcome = quiet_outcome(self._discreet[run], outcome)
                    write.outcomes.append((number, session, *tables.outcome_row(outcome)))
                case Answered(digest, reply):
                    write.answers.append((digest, *tables.reply_row(reply), now))
                    write.released.append(digest)
                case Rejected(digest, reply, reason):
                    if self._discreet:  # of which run it is, is not told
                        reason = quiet_rejection(reason)
                    write.evidence.append((digest, *tables.reply_row(reply), now, reason, self._only_run()))
                    write.released.append(digest)
                case Released(digest):
                    write.released.append(digest)
                case Figures(run, data):
                    kept = quiet_figures(data) if run in self._discreet else data
                    write.figures.append((kept, self._numbers[run][0]))
        return write

    def _only_run(self) -> int | None:
        """Whose evidence it is, where that is sure: an answer belongs to no run."""
        numbers = list(self._numbers.values())
        return numbers[0][0] if len(numbers) == 1 else None

    # What follows runs in the writer's thread, inside its transaction.

    def _apply(self, connection: sqlite3.Connection, jobs: Sequence[Any]) -> list[Any]:
        writes = [job for job in jobs if isinstance(job, _Write)]
        rejected = [row[0] for write in writes for row in write.evidence]
        for chunk in _chunks(rejected):
            connection.execute(tables.forget_answers(len(chunk)), chunk)
        _insert(connection, tables.add_answers, [row for write in writes for row in write.answers])
        _insert(connection, tables.add_evidence, [row for write in writes for row in write.evidence])
        _insert(connection, tables.add_outcomes, _last_of_each_key([row for write in writes for row in write.outcomes]))
        released = [digest for write in writes for digest in write.released]
        for chunk in _chunks(released):
            connection.execute(tables.release(len(chunk)), (self._owner.id, *chunk))
        for figures in (row for write in writes for row in write.figures):
            connection.execute(tables.FIGURES, figures)
        claims = [job for job in jobs if isinstance(job, _Claim)]
        claimed: dict[Digest, Reply | None] = {}
        for since in {claim.since for claim in claims}:
            wanted = [digest for claim in claims if claim.since == since for digest in claim.digests]
            claimed.update(self._claimed(connection, wanted, since))
        return [self._result(connection, job, claimed) for job in jobs]

    def _result(self, connection: sqlite3.Connection, job: Any, claimed: dict[Digest, Reply | None]) -> Any:
        match job:
            case _Claim(digests=digests):
                return {digest: claimed[digest] for digest in digests if digest in claimed}
            case RunInfo(status="running"):
                return self._open(connection, job)
            case RunInfo():
                self._close(connection, job)
            case _Lease():
                return self._leased(connection, job)
            case _Remember(endpoint, data, at):
                connection.execute(tables.REMEMBER, (endpoint, data, at))
            case purses.Draw():
                return self._drawn(connection, job)
            case _Farewell():
                self._close_purses(connection)
                connection.execute(tables.RELEASE_ALL, (self._owner.id,))
                connection.execute(tables.UNLEASE_ALL, (self._owner.id,))
        return None

    def _leased(self, connection: sqlite3.Connection, job: _Lease) -> bytes | Exception | None:
        if job.decide is None:
            connection.execute(tables.UNLEASE, (job.endpoint, self._owner.id))
            return None
        rows: dict[str, bytes] = dict(connection.execute(tables.LEASES, (job.endpoint,)))
        before = rows.pop(self._owner.id, None)
        for dead in [holder for holder in rows if not self._owner.is_alive(holder)]:
            connection.execute(tables.UNLEASE, (job.endpoint, dead))
            del rows[dead]
        try:
            lease = job.decide(self._owner.id, rows)
        except Exception as error:  # noqa: BLE001 - its caller's alone: what else is in this group is written
            return error
        if lease != before:
            connection.execute(tables.LEASE, (job.endpoint, self._owner.id, lease))
        return lease

    def _drawn(self, connection: sqlite3.Connection, job: purses.Draw) -> Drawn:
        before = budget_of(connection, job.budget)
        after, drawn = purses.drawn(before, job, self._owner.id, self._owner.is_alive)
        _keep_budget(connection, job.budget, before, after)
        return drawn

    def _close_purses(self, connection: sqlite3.Connection) -> None:
        for (budget,) in connection.execute(tables.OWN_BUDGETS, (self._owner.id,)).fetchall():
            before = budget_of(connection, budget)
            if before is not None:
                after = purses.closed(before, lambda _, owner: owner != self._owner.id)
                _keep_budget(connection, budget, before, after)

    def _claimed(
        self, connection: sqlite3.Connection, digests: list[Digest], since: float
    ) -> dict[Digest, Reply | None]:
        """What of these is not ours to call: answered meanwhile, or in the hands of another live process."""
        claimed: dict[Digest, Reply | None] = dict(_answers(connection, digests, since))
        wanted = [digest for digest in digests if digest not in claimed]
        _insert(connection, tables.claim, [(digest, self._owner.id) for digest in wanted])
        held: defaultdict[str, list[Digest]] = defaultdict(list)
        for digest, owner in _in_chunks(connection, tables.holders, wanted):
            held[owner].append(digest)
        for owner, theirs in held.items():
            if owner == self._owner.id:
                continue
            if self._owner.is_alive(owner):
                claimed.update(dict.fromkeys(theirs))
                continue
            for chunk in _chunks(theirs):
                connection.execute(tables.take_over(len(chunk)), (self._owner.id, *chunk))
        return claimed

    def _open(self, connection: sqlite3.Connection, info: RunInfo) -> RunInfo | StoreError:
        row = connection.execute(tables.RUN, (info.id,)).fetchone()
        spec = tables.spec_text(info)
        if row is None:
            fresh = (
                info.id,
                info.name,
                info.source,
                spec,
                "running",
                "",
                info.started_at,
                None,
                1,
                None,
                self._owner.id,
            )
            connection.execute(tables.ADD_RUN, fresh)
        elif row[10] and (row[0] in self._numbers or (row[10] != self._owner.id and self._owner.is_alive(row[10]))):
            return RunIsLive(
                f"The run {info.name!r} is going on in another process.",
                hint="Wait for it or end it; --name gives a second run over the same input a name of its own.",
            )
        else:
            if is_discreet(info) and not is_discreet(tables.run_of((*row[:10], None))):
                self._take_back(connection, info, row[11])
            connection.execute(
                tables.OPEN_RUN, (info.name, info.source, spec, info.started_at, self._owner.id, info.id)
            )
        row = connection.execute(tables.RUN, (info.id,)).fetchone()
        opened = tables.run_of((*row[:10], None))
        self._numbers[info.id] = (row[11], opened.session)
        return opened

    @staticmethod
    def _take_back(connection: sqlite3.Connection, info: RunInfo, number: int) -> None:
        """What earlier sessions kept of the items, also where it was on the disk."""
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(tables.QUIET, (info.spec["fields"][0], UNSAID, number))
        connection.execute(tables.QUIET_EVIDENCE, (UNSAID, number))

    def _close(self, connection: sqlite3.Connection, info: RunInfo) -> None:
        ended = (info.status, info.reason, info.ended_at, info.total, info.figures, info.id)
        connection.execute(tables.CLOSE_RUN, ended)
        if info.status == "finished":  # the source was read to its end: what it no longer has is no longer the run's
            connection.execute(tables.FORGET_GONE, self._numbers[info.id])
        connection.execute(tables.KEEP_COUNTS, (info.id, info.id))


def _prepared(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def budget_of(connection: sqlite3.Connection, budget: str) -> purses.Budget | None:
    row = connection.execute(tables.BUDGET, (budget,)).fetchone()
    if row is None:
        return None
    held = {name: purses.Held(*rest) for name, *rest in connection.execute(tables.PURSES, (budget,))}
    limit, spent = row
    return purses.Budget(limit, spent, held)


def _keep_budget(
    connection: sqlite3.Connection, budget: str, before: purses.Budget | None, after: purses.Budget
) -> None:
    """Write what has changed."""
    known = before.purses if before is not None else {}
    if before is None or (before.limit, before.spent) != (after.limit, after.spent):
        connection.execute(tables.SET_BUDGET, (budget, after.limit, after.spent))
    for gone in known.keys() - after.purses.keys():
        connection.execute(tables.CLOSE_PURSE, (budget, gone))
    for name, held in after.purses.items():
        if known.get(name) != held:
            connection.execute(tables.SET_PURSE, (budget, name, held.owner, held.taken, held.spent))


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _insert(connection: sqlite3.Connection, statement: Any, rows: list[tuple[Any, ...]]) -> None:
    for chunk in _chunks(rows):
        connection.execute(statement(len(chunk)), [value for row in chunk for value in row])


def _in_chunks(
    connection: sqlite3.Connection, statement: Any, keys: Sequence[Any], before: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    for chunk in _chunks(keys):
        yield from connection.execute(statement(len(chunk)), (*before, *chunk))


def _answers(connection: sqlite3.Connection, digests: Sequence[Digest], since: float) -> dict[Digest, Reply]:
    rows = _in_chunks(connection, tables.find_answers, digests, before=(since,))
    return {Digest(row[0]): tables.reply_of(row[1:]) for row in rows}


def _last_of_each_key(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """One statement cannot update the same row twice."""
    return list({(row[0], row[2]): row for row in rows}.values())
