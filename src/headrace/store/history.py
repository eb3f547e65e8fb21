"""Reads what a store remembers of runs, also while a run writes. Each read is short and has its own connection."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headrace.core.errors import StoreError
from headrace.core.item import Outcome
from headrace.core.ports import Counts, RunInfo
from headrace.store import tables
from headrace.store.file import check, connect, unreadable
from headrace.store.owner import folder_of, is_alive

_PAGE = 1000


class SqliteHistory:
    """Raises StoreError where there is no store at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # a Run outlives a change of folder
        if not path.is_file():
            raise StoreError(f"There is no store at {path}.", hint="Name it with --store, or make a run first.")
        with self._reading() as connection:
            check(connection, path)

    def runs(self) -> list[RunInfo]:
        with self._reading() as connection:
            rows = connection.execute(tables.RUNS).fetchall()
        return [self._true(tables.run_of(row[:-1]), row[-1]) for row in rows]

    def counts(self, run: str) -> Counts:
        with self._reading() as connection:
            total, ok, calls, input_tokens, output_tokens = connection.execute(tables.COUNTS, (run,)).fetchone()
            row = connection.execute(tables.RUN, (run,)).fetchone()
        items = row[9] if row else None
        pending = None if items is None else max(0, items - total)
        return Counts(ok, total - ok, pending, calls, input_tokens, output_tokens)

    def scan(self, run: str) -> Iterator[Outcome]:
        position, key = -1, ""
        while True:
            with self._reading() as connection:
                rows = connection.execute(tables.SCAN, (run, position, position, key, _PAGE)).fetchall()
            for row in rows:
                yield tables.outcome_of(row)
            if len(rows) < _PAGE:
                return
            key, position = rows[-1][0], rows[-1][1]

    def _true(self, info: RunInfo, owner: str | None) -> RunInfo:
        """A run whose process died is interrupted, whatever its row still says."""
        if info.status != "running" or (owner and is_alive(folder_of(self._path), owner)):
            return info
        return msgspec.structs.replace(info, status="interrupted", reason="its process ended without a word")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = connect(self._path)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error
