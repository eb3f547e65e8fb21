"""The store's file: opened, created, and refused where it is something else."""

import sqlite3
from pathlib import Path

from headrace.core.errors import StoreError
from headrace.store import tables

BUSY_S = 60.0
"""How long a transaction waits for another process's."""


def connect(path: Path) -> sqlite3.Connection:
    """Every commit reaches the disk (synchronous = FULL): the writer commits so seldom that it costs little."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -8000")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create what a new file lacks. Raises StoreError for another program's database, or another version's."""
    if _is_new(connection, path):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")  # two processes may create it at once
        if _version(connection) == 0:
            for statement in tables.SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {tables.VERSION}")
        connection.execute("COMMIT")
    check(connection, path)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError where the file is not a store of this version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != tables.APPLICATION_ID:
        raise _foreign(path)
    version = _version(connection)
    if version != tables.VERSION:
        raise StoreError(
            f"The store {path} has version {version}; this headrace reads version {tables.VERSION}.",
            hint="Use the headrace that wrote it, or name a new store with --store.",
        )


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
