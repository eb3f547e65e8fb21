"""A query to a PostgreSQL server becomes rows of plain data, read in one transaction that can only read.

Imports psycopg, an extra, where a server is named. Times, numbers of fixed precision and the like are text as the
server writes them: it has more of them than Python has (infinity, ranges, years before 1).
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from headrace.core.errors import InputError, MissingExtra
from headrace.data.files import Rows
from headrace.data.naming import column_names
from headrace.data.query import Address, no_select, rows_of, sentence

_FETCH_ROWS = 256
_CONNECT_S = 20
_RANGES = [f"{of}{form}" for of in ("int4", "int8", "num", "ts", "tstz", "date") for form in ("range", "multirange")]
_AS_TEXT = ["date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric", "inet", "cidr", *_RANGES]
_NUMERIC = 1700
_ABOUT_THE_SERVER = ("08", "28", "3D", "53", "57")
"""Classes of SQLSTATE that say nothing about the query: connection, authorization, no such database, resources,
shut down by hand. https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def open_postgres(address: Address, query: str) -> Rows:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    where = address.shown
    with _errors(address, query), closing(_connected(address)) as connection:
        _prepare(connection, query)
        with connection.cursor(name="headrace") as cursor:
            cursor.execute(query)  # plans it, and reads nothing yet
            columns = cursor.description
    if not columns:
        raise no_select(where)
    fields, notices = column_names([column.name for column in columns], f"The query to {where}")
    types = [(field, _arrow_type(column)) for field, column in zip(fields, columns, strict=True)]
    schema: bytes = pa.schema([(field, kind) for field, kind in types if kind is not None]).serialize().to_pybytes()
    return Rows(lambda: rows_of(_found(address, query), fields, where), fields, None, schema, notices)


def _prepare(connection: Any, query: str) -> None:
    """Where a mistake is; and refuses more than one statement, of which the second could end the transaction."""
    from psycopg.errors import error_from_result  # noqa: PLC0415 - an extra

    prepared = connection.pgconn.prepare(b"", query.encode())
    if prepared.error_message:
        raise error_from_result(prepared)


def _found(address: Address, query: str) -> Generator[Sequence[Any], None, None]:
    with _errors(address, query), closing(_connected(address)) as connection:
        connection.execute("SET LOCAL cursor_tuple_fraction = 1")  # all rows are wanted, not the first ones soon
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        with connection.cursor(name="headrace") as cursor:
            cursor.itersize = _FETCH_ROWS
            cursor.execute(query)
            yield from cursor


def _connected(address: Address) -> Any:
    try:
        import psycopg  # noqa: PLC0415 - an extra
        from psycopg.types.string import TextLoader  # noqa: PLC0415
    except ImportError:
        raise MissingExtra(
            f"{address.shown} needs psycopg, which is not installed.",
            hint="Install it: pip install 'headrace[postgres]'",
        ) from None
    connection = psycopg.connect(_conninfo(address), fallback_application_name="headrace")
    connection.read_only = True
    for name in _AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)
    connection.execute("SET datestyle = 'ISO'")
    connection.execute("SET intervalstyle = 'iso_8601'")
    return connection


def _conninfo(address: Address) -> str:
    user = f"{address.user}:{address.password}" if address.password else address.user
    timed = any(option.startswith("connect_timeout=") for option in address.options)
    options = [*address.options, *([] if timed else [f"connect_timeout={_CONNECT_S}"])]
    return f"postgresql://{f'{user}@' if user else ''}{address.place}?{'&'.join(options)}"


def _arrow_type(column: Any) -> Any:
    """So that a result in Parquet has it again; None where the values decide."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    simple = {
        16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 25: pa.string(),
        700: pa.float32(), 701: pa.float64(), 1042: pa.string(), 1043: pa.string(), 1082: pa.date32(),
        1083: pa.time64("us"), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
    }  # fmt: skip
    if column.type_code == _NUMERIC and column.precision and 0 <= (column.scale or 0) <= column.precision <= 38:
        return pa.decimal128(column.precision, column.scale or 0)
    return simple.get(column.type_code)


@contextmanager
def _errors(address: Address, query: str) -> Iterator[None]:
    """Whatever psycopg raises, as ours, and without a password."""
    if not address.is_clear:
        raise InputError(
            f"The user or password in the URL of {address.place or 'the database'} holds a sign that must be escaped.",
            hint="Write @ as %40, / as %2F and # as %23, or put the password into PGPASSWORD.",
        )
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:
        yield  # whoever connects says so
        return
    try:
        yield
    except psycopg.Error as error:
        state = error.diag.sqlstate
        about_query = state is not None and not state.startswith(_ABOUT_THE_SERVER)
        failure = _refused(error, address, query) if about_query else _unreadable(error, address)
        if address.is_told_in(f"{failure} {error}"):
            raise InputError(f"{address.shown} cannot be read.", hint="Check the URL.") from None
        raise failure from error


def _unreadable(error: Any, address: Address) -> InputError:
    return InputError(
        f"{address.shown} cannot be read: {sentence(error)}.",
        hint="Check the address and that the server runs. A password can be in PGPASSWORD or in ~/.pgpass.",
    )


def _refused(error: Any, address: Address, query: str) -> InputError:
    """What the server says of a query, and of which part of it."""
    diag = error.diag
    place = ""
    if diag.statement_position:
        at = int(diag.statement_position) - 1
        line, column = query.count("\n", 0, at) + 1, at - query.rfind("\n", 0, at)
        place = f" (line {line}, character {column})"
    said = diag.message_primary or sentence(error)
    detail = f" {diag.message_detail}" if diag.message_detail else ""
    return InputError(
        f"The query to {address.shown} failed: {said}{place}.{detail}", hint=diag.message_hint or "Mend the query."
    )
