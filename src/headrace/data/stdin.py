"""Standard input becomes rows, as they come: JSON Lines, an array of JSON or CSV, by its first bytes.

Waits for no more than the first row needs. Its rows come once.
"""

import re
from collections.abc import Iterator
from itertools import chain

from headrace.core.errors import InputError
from headrace.data.compressed import unpacked
from headrace.data.count import Check, found_codec
from headrace.data.csv_rows import CsvRows
from headrace.data.encoding import UTF8, as_utf8
from headrace.data.files import Rows, keys_of
from headrace.data.json_array import array_rows, starts_array
from headrace.data.json_rows import json_rows
from headrace.data.lines import pipe_chunks, unreadable

_WHERE = "Standard input"
_HEAD_BYTES = 128 * 1024
_LINE = re.compile(rb"[^\s\0][^\r\n]*[\r\n]")
"""A line that is not blank, with its end; also in UTF-16."""


def open_stdin(*, encoding: str | None = None, delimiter: str | None = None) -> Rows:
    """A stated delimiter means CSV; else it is JSON where its first sign is `{`, or `[` and what an array goes on with."""
    try:
        # a file object of its own: a thread blocked in it holds no lock that the interpreter needs to end
        raw = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    except OSError as error:
        raise unreadable(_WHERE, error) from error
    chunks = unpacked(pipe_chunks(raw, _WHERE), _WHERE)
    head = _first_line(chunks)
    codec, notice = found_codec(head, _WHERE, encoding)
    if codec == UTF8:
        check = Check(_WHERE, stated=encoding is not None)
        check.add(head)
        codec, notice = check.judged()
    notices = (notice,) if notice else ()
    text = as_utf8(chain((head,), chunks), _WHERE, codec)
    start = next(text, b"")
    if not start.strip():
        raise InputError("Standard input is empty.", hint="Pipe in CSV with a header, or JSON Lines.")
    whole = chain((start,), text)
    lines = start.lstrip().startswith(b"{")
    if delimiter is None and (lines or starts_array(start)):
        rows = json_rows(whole, _WHERE) if lines else array_rows(whole, _WHERE)
        first = next(rows)
        return Rows(lambda: chain((first,), rows), keys_of(first), notices=notices, once=True)
    table = CsvRows(whole, _WHERE, delimiter, waits=True)
    return Rows(lambda: iter(table), table.fields, notices=notices + table.notices, once=True)


def _first_line(chunks: Iterator[bytes]) -> bytes:
    """What comes until there is a line that is not blank, or a great deal."""
    head = b""
    for chunk in chunks:
        head += chunk
        if _LINE.search(head) or len(head) >= _HEAD_BYTES:
            break
    return head
