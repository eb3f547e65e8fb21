"""Reads what a store remembers of runs, also while a run writes. Each read is short and has its own connection."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headrace.core.errors import StoreError
from headrace.core.item import Outcome
from headrace.core.ports import Counts, RunInfo
from headrace.store import tables
from headrace.store.file import check, connect_to_read, failed
from headrace.store.owner import folder_of, is_alive

KILLED = "its process ended without a word"
"""Why a run is interrupted that could not say so itself."""
_PAGE = 1000


class SqliteHistory:
    """Raises StoreError where there is no store at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # a Run outlives a change of folder
        if not _is_file(path):
            raise StoreError(f"There is no store at {path}.", hint="Name it with --store, or make a run first.")
        with self._reading() as connection:
            check(connection, path)

    def runs(self) -> list[RunInfo]:
        with self._reading() as connection:
            rows = connection.execute(tables.RUNS).fetchall()
        return [self._true(tables.run_of(row[:-1]), row[-1]) for row in rows]

    def run(self, run: str) -> RunInfo | None:
        with self._reading() as connection:
            version = check(connection, self._path)
            row = connection.execute(tables.run_with_figures(version), (run,)).fetchone()
        return self._true(tables.run_of(row[:-1]), row[-1]) if row else None

    def counts(self, run: str) -> Counts:
        with self._reading() as connection:
            version = check(connection, self._path)
            items, kept = connection.execute(tables.kept_counts(version), (run,)).fetchone() or (None, None)
            found = msgspec.json.decode(kept) if kept else connection.execute(tables.counts(version), (run,)).fetchone()
        return tables.counts_of(found, items)

    def scan(self, run: str, *, failed_only: bool = False, dropped: bool = False) -> Iterator[Outcome]:
        position, key = -1, ""
        while True:
            with self._reading() as connection:
                statement = tables.scan(check(connection, self._path), failed_only=failed_only, dropped=dropped)
                rows = connection.execute(statement, (run, position, position, key, _PAGE)).fetchall()
            for row in rows:
                yield tables.outcome_of(row)
            if len(rows) < _PAGE:
                return
            key, position = rows[-1][0], rows[-1][1]

    def memory_of(self, name: str) -> bytes | None:
        """What was last remembered under this name."""
        with self._reading() as connection:
            row = connection.execute(tables.REMEMBERED, (name, 0.0)).fetchone()
        return row[0] if row else None

    def _true(self, info: RunInfo, owner: str | None) -> RunInfo:
        """A run whose process died is interrupted, whatever its row still says."""
        if info.status != "running" or (owner and is_alive(folder_of(self._path), owner)):
            return info
        return msgspec.structs.replace(info, status="interrupted", reason=KILLED)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = connect_to_read(self._path)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise failed(self._path, error, done="read") from error


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise failed(path, error, done="read") from error
