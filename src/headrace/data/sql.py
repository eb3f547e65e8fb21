"""A query to a database becomes rows of plain data: to an SQLite file, or to a PostgreSQL server.

Enter a URL and a query, leave rows as they come. Changes nothing in a database, and tells nobody its password.
"""

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from headrace.core.errors import InputError
from headrace.data.files import Rows
from headrace.data.naming import column_names
from headrace.data.query import address_of, no_select, none_found, rows_of, sentence

_OTHERS = frozenset(
    ("mysql", "mariadb", "mssql", "oracle", "duckdb", "snowflake", "bigquery", "redshift", "clickhouse", "trino")
)
"""Databases whose URLs are known for what they are, so that they can be refused as such."""
_FETCH_ROWS = 256


def is_database(text: str) -> bool:
    """Whether this is a database's URL rather than a path."""
    return "://" in text and address_of(text).kind in _OTHERS | {"sqlite", "postgresql"}


def without_password(url: str) -> str:
    """The same database as any process may name it and anyone may see it; the path of a file is absolute."""
    return address_of(url).shown


def open_query(url: str, query: str) -> Rows:
    """The rows that this query finds; it is asked again each time they are read, and once now for what is wrong.

    Raises InputError with the database's own sentence, and MissingExtra where psycopg is needed and not installed.
    """
    address = address_of(url)
    where = address.shown
    if not query.strip():
        raise InputError(f"The query to {where} is empty.", hint="Write for example SELECT * FROM calls ORDER BY id.")
    if address.kind == "sqlite":
        return _open_sqlite(url, query, where)
    if address.kind in _OTHERS:
        raise InputError(
            f"{where} is a database that headrace does not read.",
            hint="It reads sqlite:///FILE and postgresql://. Export the rows as Parquet or CSV, or pass a data frame.",
        )
    from headrace.data.postgres import open_postgres  # noqa: PLC0415 - an extra

    return open_postgres(address, query)


def _open_sqlite(url: str, query: str, where: str) -> Rows:
    path = url.partition("://")[2]
    if not path.startswith("/") or not path.strip("/"):
        raise InputError(
            f"{url} names no file.", hint="Write sqlite:///calls.db, or sqlite:////data/calls.db from the root."
        )
    file = Path(path[1:]).absolute()
    if not file.is_file():
        raise InputError(f"There is no database file {path[1:]}.", hint="Check the path.")
    with closing(_found(file, query, where)) as found:
        fields, notices = column_names(next(found), f"The query to {where}")
        if next(found, None) is None:
            raise none_found(where)

    def again() -> Iterator[dict[str, Any]]:
        rows = _found(file, query, where)
        next(rows)
        return rows_of(rows, fields, where)

    return Rows(again, fields, notices=notices)


def _found(file: Path, query: str, where: str) -> Generator[Sequence[Any], None, None]:
    """First the names of the columns, then the rows."""
    try:
        # closed by whoever ends the iteration, which may be another thread than the one that began it
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        with closing(connection), closing(connection.execute(query)) as cursor:
            if cursor.description is None:
                raise no_select(where)
            yield [column[0] for column in cursor.description]
            while rows := cursor.fetchmany(_FETCH_ROWS):
                yield from rows
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise InputError(f"The query to {where} failed: {sentence(error)}.", hint="Mend the query.") from error
