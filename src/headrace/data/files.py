"""Files of text become rows: CSV, JSON Lines and arrays of JSON, packed or not, in any encoding.

Knows nothing of items, keys and threads. All of it blocks.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.errors import InputError
from headrace.data.compressed import unpacked
from headrace.data.count import CsvLines, Lines, Looked, look
from headrace.data.csv_rows import CsvRows
from headrace.data.encoding import as_utf8
from headrace.data.json_array import array_rows, starts_lines
from headrace.data.json_rows import json_rows
from headrace.data.lines import file_chunks

_HEAD_BYTES = 128 * 1024
_COUNTED_ARRAY_BYTES = 8 * 1024 * 1024
"""The values of an array can be counted only by reading them; of more that would hold up the first call."""


class Rows(msgspec.Struct, frozen=True):
    """What a file holds. `rows()` reads it anew each time."""

    rows: Callable[[], Iterator[Any]]
    fields: tuple[str, ...] | None = None
    """Column names; of JSON, those of the first object."""
    total: int | None = None
    arrow_schema: bytes | None = None
    """Types of the columns as Arrow serializes a schema, where the file has types."""
    notices: tuple[str, ...] = ()
    """Sentences a person should see once: what was found out of how to read it, or changed in reading."""
    once: bool = False
    """Whether they come only once, as those of a stream do."""


class _Text:
    """A file's text, whatever it is packed and written in: looked through once, then read as often as asked for."""

    def __init__(self, path: Path, where: str, encoding: str | None, counter: Lines | CsvLines) -> None:
        self._path, self._where = path, where
        self.looked: Looked = look(self._unpacked(), where, encoding, counter)

    def _unpacked(self) -> Iterator[bytes]:
        return unpacked(file_chunks(self._path, self._where), self._where)

    def chunks(self) -> Iterator[bytes]:
        """As UTF-8, without a byte order mark."""
        return as_utf8(self._unpacked(), self._where, self.looked.codec)


def open_csv(path: Path, where: str, *, encoding: str | None = None, delimiter: str | None = None) -> Rows:
    text = _Text(path, where, encoding, CsvLines())
    first = CsvRows(text.chunks(), where, delimiter)
    next(iter(first))
    rows = text.looked.rows
    if rows is not None and first.above is not None:
        rows -= 1
    return Rows(
        lambda: iter(_same_header(text.chunks(), where, first)),
        first.fields,
        rows,
        notices=text.looked.notices + first.notices,
    )


def _same_header(chunks: Iterator[bytes], where: str, first: CsvRows) -> CsvRows:
    rows = CsvRows(chunks, where, first.delimiter, found=first.found)
    if rows.fields != first.fields:
        raise InputError(f"{where} was changed while it was used.", hint="Run again.")
    return rows


def open_json_lines(path: Path, where: str, *, encoding: str | None = None) -> Rows:
    return _json_lines(_Text(path, where, encoding, Lines()), where)


def _json_lines(text: _Text, where: str) -> Rows:
    first = next(json_rows(text.chunks(), where))
    return Rows(lambda: json_rows(text.chunks(), where), keys_of(first), text.looked.rows, notices=text.looked.notices)


def open_json(path: Path, where: str, *, encoding: str | None = None) -> Rows:
    """A `.json` file: an array, or JSON Lines under another name."""
    text = _Text(path, where, encoding, Lines())
    if starts_lines(head_of(text.chunks())):
        return _json_lines(text, where)
    first = next(array_rows(text.chunks(), where))
    small = text.looked.bytes is not None and text.looked.bytes <= _COUNTED_ARRAY_BYTES
    return Rows(
        lambda: array_rows(text.chunks(), where),
        keys_of(first),
        sum(1 for _ in array_rows(text.chunks(), where)) if small else None,
        notices=text.looked.notices,
    )


def head_of(chunks: Iterator[bytes]) -> bytes:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    return head


def keys_of(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, dict) else None
