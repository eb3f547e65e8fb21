"""What queries to all databases have in common: how a URL is named without its password, how rows are taken.

Knows no database.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

import msgspec

from headrace.core.errors import InputError
from headrace.data.plain import plain

_HELD_S = 10.0
_SPOOL_BYTES = 1024**3
_SENTENCE_MOST = 500
_MUST_BE_ESCAPED = frozenset("/?#[]@ ")


class Address(msgspec.Struct, frozen=True):
    """The parts of a database's URL. What stands before the last @ is user and password, however they are written."""

    kind: str
    """`postgresql` of `postgresql+psycopg2`, as SQLAlchemy writes it."""
    user: str
    password: str
    place: str
    options: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The same database as any process may name it and anyone may see it: without passwords."""
        user = f"{self.user}@" if self.user else ""
        kept = "&".join(option for option in self.options if not _is_secret(option))
        return f"{self.kind}://{user}{self.place}{f'?{kept}' if kept else ''}"

    @property
    def is_clear(self) -> bool:
        """Whether every reader of this URL would find the same password in it."""
        return _MUST_BE_ESCAPED.isdisjoint(self.user + self.password)

    def is_told_in(self, text: str) -> bool:
        """Whether a password stands in this text."""
        told = [self.password, *(option.partition("=")[2] for option in self.options if _is_secret(option))]
        return any(each and (each in text or unquote(each) in text) for each in told)


def address_of(url: str) -> Address:
    scheme, _, rest = url.partition("://")
    kind = scheme.lower().partition("+")[0]
    if kind == "sqlite":
        return Address(kind, "", "", f"/{Path(rest[1:]).absolute().as_posix()}" if rest[1:] else rest, ())
    before, _, options = rest.partition("?")
    if "@" not in before and "@" in options:
        before, options = rest, ""
    credentials, _, place = before.rpartition("@")
    user, _, password = credentials.partition(":")
    kind = "postgresql" if kind == "postgres" else kind
    return Address(kind, user, password, place, tuple(option for option in options.split("&") if option))


def _is_secret(option: str) -> bool:
    return "password" in unquote(option.partition("=")[0]).lower()


def rows_of(
    found: Generator[Sequence[Any], None, None], fields: tuple[str, ...], where: str
) -> Iterator[dict[str, Any]]:
    """The rows of an open query as plain data, at the pace of who takes them; its end closes the query."""
    some = False
    with closing(found):
        for row in _unhurried(found):
            some = True
            yield dict(zip(fields, map(plain, row), strict=True))
    if not some:
        raise none_found(where)


def _unhurried(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """After ten seconds the rest goes into a file that nobody else sees. An open query holds up who writes to an SQLite
    file and who cleans up a PostgreSQL table, and calls to a model may take hours."""
    until_s = time.monotonic() + _HELD_S
    for row in rows:
        yield row
        if time.monotonic() >= until_s:
            import tempfile  # noqa: PLC0415 - seldom needed

            with tempfile.TemporaryFile() as file:
                yield from _spooled(rows, file)


def _spooled(rows: Iterator[Sequence[Any]], file: IO[bytes]) -> Iterator[Sequence[Any]]:
    for row in rows:
        file.write(msgspec.json.encode([plain(value) for value in row]) + b"\n")
        if file.tell() >= _SPOOL_BYTES:
            break
    file.seek(0)
    yield from map(msgspec.json.decode, file)


def sentence(error: Exception) -> str:
    """What an error says, on one line and without its full stop."""
    said = " ".join(str(error).split())[:_SENTENCE_MOST] or type(error).__name__
    return said.rstrip(".")


def none_found(where: str) -> InputError:
    return InputError(f"The query to {where} finds no rows.", hint="Check its conditions.")


def no_select(where: str) -> InputError:
    return InputError(f"The query to {where} is no SELECT: it gives no columns.", hint="Write SELECT ... FROM ...")
