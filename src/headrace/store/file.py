"""The store's file: opened, created, and refused where it is something else."""

import sqlite3
from pathlib import Path

from headrace.core.errors import StoreError
from headrace.store import tables

BUSY_S = 60.0
"""How long a transaction waits for another process's."""
LOG_TRIES = 100


def connect(path: Path) -> sqlite3.Connection:
    """Every commit reaches the disk (synchronous = FULL): the writer commits so seldom that it costs little."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -8000")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create or add what the file lacks. Raises StoreError for another program's database, or a later version's."""
    if _is_new(connection, path):
        _keep_log(connection)
    else:
        check(connection, path)
    if _version(connection) < tables.VERSION:
        _upgrade(connection)
    check(connection, path)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError where the file is no store of this version or an earlier one."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != tables.APPLICATION_ID:
        raise _foreign(path)
    version = _version(connection)
    if not 1 <= version <= tables.VERSION:
        raise StoreError(
            f"The store {path} has version {version}; this headrace reads version {tables.VERSION} and earlier.",
            hint="Use the headrace that wrote it, or name a new store with --store.",
        )


def _keep_log(connection: sqlite3.Connection) -> None:
    """Write-ahead log, so that readers and the writer do not wait for each other."""
    for tries_left in reversed(range(LOG_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if not tries_left:
                raise
        else:
            return
        connection.execute("BEGIN IMMEDIATE")  # another process is at it: this waits for it, as that pragma does not
        connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection) -> None:
    """All of it or, where the connection is closed after an error, nothing."""
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)  # another process may have done it meanwhile
    if version < tables.VERSION:
        for step in tables.STEPS[version:]:
            for statement in filter(str.strip, step.split(";\n")):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {tables.VERSION}")
    connection.execute("COMMIT")


def unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"The store {path} cannot be read ({error}).", hint="Name another with --store, or remove it.")


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty. Another program's file is refused before anything in it is changed."""
    connection.execute("BEGIN")
    version = _version(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.execute("COMMIT")
    if version == 0 and tables:
        raise _foreign(path)
    return version == 0


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _foreign(path: Path) -> StoreError:
    return StoreError(f"{path} is a database, but no store of headrace.", hint="Name another file with --store.")
