"""The store's file: opened, created, and refused where it is something else. What SQLite says becomes a sentence."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

from headrace.core.errors import StoreError
from headrace.store import tables

BUSY_S = 60.0
"""How long a commit waits for another process's: a run is worth that."""
OPEN_S = 10.0
"""How long whoever opens or reads a store waits."""
LOG_TRIES = 100
_NO_ROOM_BYTES = 64 * 1024
"""With less than this left, a disk that fails is taken for one that is full."""
_ELSEWHERE = "or name another store with --store."
_SAFE = "What was committed before is safe."


def connect(path: Path, *, busy_s: float = OPEN_S) -> sqlite3.Connection:
    """Every commit reaches the disk (synchronous = FULL): the writer commits so seldom that it costs little."""
    return _configured(sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False))


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A store that is there, also one in a folder where nothing may be written: then as it is now."""
    where = path.absolute().as_uri()
    connection = _at(f"{where}?mode=rw")
    try:
        _version(connection)
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        connection = _at(f"{where}?mode=ro&immutable=1")
    return _configured(connection)


def _at(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=OPEN_S, isolation_level=None, check_same_thread=False)


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -8000")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create or add what the file lacks. Raises StoreError for another program's database, or a later version's."""
    if _is_new(connection, path):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # what is pruned can be given back bit by bit
        _keep_log(connection)
    else:
        check(connection, path)
    if _version(connection) < tables.VERSION:
        _upgrade(connection)
    check(connection, path)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The store's version. Raises StoreError where the file is no store of this version or an earlier one."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != tables.APPLICATION_ID:
        raise _foreign(path)
    version = _version(connection)
    if not 1 <= version <= tables.VERSION:
        raise StoreError(
            f"The store {path} has version {version}; this headrace reads version {tables.VERSION} and earlier.",
            hint="Use the headrace that wrote it, or name a new store with --store.",
        )
    return version


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


def failed(path: Path, error: Exception, *, done: str) -> StoreError:
    """What went wrong at this store, as one sentence. `done` is what could not be done to it: opened, read, written."""
    message, hint = _said(path, error)
    told = StoreError(message or f"The store {path} could not be {done} ({error}).", hint=hint)
    told.__cause__ = error
    return told


def _said(path: Path, error: Exception) -> tuple[str, str]:
    code = getattr(error, "sqlite_errorcode", 0)
    kind = code & 0xFF
    number = error.errno if isinstance(error, OSError) else None
    full = kind == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT)
    if full or (kind == sqlite3.SQLITE_IOERR and _free_bytes(path) < _NO_ROOM_BYTES):
        return f"The disk is full: there is no room for the store {path}.", f"{_SAFE} Free some space, {_ELSEWHERE}"
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"The store {path} is locked by another program.",
            f"{_SAFE} Close what has it open, such as a database browser, {_ELSEWHERE}",
        )
    if os.path.exists(path) and not os.access(path, os.R_OK):  # noqa: PTH110 - a folder may be closed: then it is not
        return f"The store {path} may not be read.", "See that you may read the file, or name another with --store."
    denied = kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
    if (
        denied
        or number in (errno.EACCES, errno.EPERM, errno.EROFS)
        or (kind == sqlite3.SQLITE_CANTOPEN and not _may_write(path))
    ):
        return (
            f"The store {path} may not be written.",
            f"See that you may write the file and its folder, {_ELSEWHERE}",
        )
    if kind == sqlite3.SQLITE_NOTADB:
        return f"{path} is no store: it is no database at all.", "Name another file with --store."
    if kind == sqlite3.SQLITE_CORRUPT:
        return (
            f"The store {path} is damaged ({error}).",
            f"Put a copy of it back if there is one, {_ELSEWHERE} Nothing was changed in it.",
        )
    return "", f"{_SAFE} See that the file may be read and written, {_ELSEWHERE}"


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return _NO_ROOM_BYTES


def _may_write(path: Path) -> bool:
    """Whether the file, or its folder where it is not there, may be written; else SQLite has another reason."""
    there = path if os.path.exists(path) else path.parent  # noqa: PTH110 - as above
    return os.access(there, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


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
