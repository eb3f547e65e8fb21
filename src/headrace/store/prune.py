"""Takes runs, and answers of some age, out of a store, and gives the room back. Safe beside runs that go on.

Enters what is to go, leaves what went. A run goes at once for everybody who looks; its rows follow in short
transactions. Where that is broken off, the next pruning goes on with it.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headrace.core.errors import RunIsLive
from headrace.store import tables
from headrace.store.file import connect, failed, prepare
from headrace.store.owner import Owner, folder_of, is_alive

STEP_S = 0.1
"""A transaction takes about so long: others write in between."""
_LEAST_ROWS, _MOST_ROWS, _FIRST_ROWS = 100, 20_000, 1000
_PAGES = 250
_LOG_S = 0.5
"""The log is cut only where readers let go of it within this time: writers wait as long."""
_ROW_BYTES = 100
"""Of an outcome or answer, beside its texts: numbers, key and entries in indexes."""


class Amount(msgspec.Struct, frozen=True):
    """How much it is that goes."""

    runs: int = 0
    outcomes: int = 0
    evidence: int = 0
    answers: int = 0
    bytes: int = 0
    """About."""

    @property
    def is_nothing(self) -> bool:
        return not (self.runs or self.outcomes or self.evidence or self.answers)


class Pruned(msgspec.Struct, frozen=True):
    bytes_before: int
    bytes_after: int
    shrunk: bool
    """False where others use the store, and it is of a kind that only shrinks as a whole."""


class Pruning:
    """One pruning of the store at `path`. Raises StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _sentences(path):
            self._connection = connect(path)
            try:
                prepare(self._connection, path)
                self._connection.execute("PRAGMA secure_delete = ON")
                self._connection.execute("PRAGMA synchronous = NORMAL")  # what is not removed for good is removed again
                self._owner = Owner(folder_of(path))
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()
        self._owner.close()

    def amount(self, runs: Sequence[str], *, answers_before: float | None = None) -> Amount:
        """What would go with these runs (ids) and with answers that are older than that (seconds since 1970); also
        what an earlier pruning left."""
        with _sentences(self._path):
            found = [row[0] for run in runs for row in self._connection.execute(tables.NUMBER, (run,))]
            left = self._left()
            outcomes = [self._connection.execute(tables.OUTCOMES_SIZE, (run,)).fetchone() for run in [*found, *left]]
            evidence = [self._connection.execute(tables.EVIDENCE_SIZE, (run,)).fetchone() for run in [*found, *left]]
            old = (answers_before,)
            answers = self._connection.execute(tables.ANSWERS_SIZE, old).fetchone() if answers_before else (0, 0)
            aged = self._connection.execute(tables.OLD_EVIDENCE_SIZE, old).fetchone() if answers_before else (0, 0)
        rows = [*outcomes, *evidence, answers, aged]
        return Amount(
            len(found), sum(count for count, _ in outcomes), sum(count for count, _ in evidence) + aged[0], answers[0],
            sum(size + count * _ROW_BYTES for count, size in rows),
        )  # fmt: skip

    def prune(self, runs: Sequence[str], *, answers_before: float | None = None) -> Pruned:
        """Remove these runs with their outcomes and evidence, and answers and evidence that are older than that.
        Raises RunIsLive, before anything is removed, where one of the runs goes on."""
        with _sentences(self._path):
            before = self._bytes()
            numbers = self._take_out(runs)
            for number in numbers:
                self._delete("outcomes", "run = ?", number)
                self._delete("evidence", "run = ?", number)
                self._connection.execute(tables.FORGET_RUN, (number,))
            if answers_before is not None:
                self._delete("answers", "at < ?", answers_before)
                self._delete("evidence", "at < ?", answers_before)
            shrunk = self._shrink()
            return Pruned(before, self._bytes(), shrunk)

    def _take_out(self, runs: Sequence[str]) -> list[int]:
        """From now on nobody sees these runs, and their ids and names are free."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for run in runs:
                self._check_over(run)
                connection.execute(tables.TAKE_OUT, (self._owner.id, run))
                connection.execute(tables.FORGET_BUDGET, (run,))
                connection.execute(tables.FORGET_FORECAST, (run,))
            numbers = self._left()
            connection.executemany(tables.ADOPT, [(self._owner.id, number) for number in numbers])
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return numbers

    def _check_over(self, run: str) -> None:
        for _, name, owner in self._connection.execute(tables.NUMBER, (run,)).fetchall():
            if owner and self._owner.is_alive(owner):
                raise RunIsLive(f"The run {name!r} goes on.", hint="Wait for it or end it; nothing was removed.")

    def _left(self) -> list[int]:
        """Runs that are taken out and whose rows nobody removes but us."""
        rows = self._connection.execute(tables.LEFT).fetchall()
        return [number for number, owner in rows if owner == self._owner.id or not self._owner.is_alive(owner)]

    def _delete(self, table: str, where: str, value: float) -> None:
        """Looked for without a lock, removed a few at a time."""
        last, most = 0, _FIRST_ROWS
        while True:
            found = self._connection.execute(tables.rows_to_go(table, where), (value, last, most)).fetchall()
            if not found:
                return
            began_s = time.monotonic()
            ids = ",".join(str(row[0]) for row in found)
            self._connection.execute(f"DELETE FROM {table} WHERE rowid IN ({ids}) AND {where}", (value,))  # noqa: S608 - our own numbers and names
            took_s = max(time.monotonic() - began_s, 1e-3)
            last = found[-1][0]
            most = min(max(int(len(found) * STEP_S / took_s), _LEAST_ROWS), _MOST_ROWS, 4 * most)

    def _shrink(self) -> bool:
        """Give free pages back to the system."""
        connection = self._connection
        if not _number(connection, "freelist_count"):
            self._cut_log()
            return True
        bit_by_bit = _number(connection, "auto_vacuum") == 2
        if not bit_by_bit:
            if self._others():
                return False
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
        while bit_by_bit and (free := _number(connection, "freelist_count")):
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
            if _number(connection, "freelist_count") >= free:
                break
        self._cut_log()
        return True

    def _cut_log(self) -> None:
        """First without holding up anybody, then what is left of it."""
        connection = self._connection
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {_LOG_S * 1000:.0f}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _others(self) -> bool:
        folder = folder_of(self._path)
        return any(is_alive(folder, file.name) for file in folder.iterdir() if file.name != self._owner.id)

    def _bytes(self) -> int:
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise failed(path, error, done="pruned") from error
