"""CSV, JSON Lines and folders of text become rows of plain data; what cannot be read is told with file and line.

Knows nothing of items, keys and threads. All of it blocks.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.errors import InputError
from headrace.data.count import csv_rows, lines
from headrace.data.lines import MAX_LINE_BYTES, file_chunks, pipe_chunks, unreadable, whole_lines

TEXT_ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".log", ".srt", ".vtt")
_MAX_FIELD_CHARS = 16 * 1024 * 1024
"""Of one CSV field: so far a quote that is never closed may swallow the file."""
_LINE_END = re.compile(r"\r\n|\r|\n")


class Table(msgspec.Struct, frozen=True):
    """What a file holds. `rows()` reads it anew each time."""

    rows: Callable[[], Iterator[Any]]
    fields: tuple[str, ...] | None = None
    """Column names; of JSON Lines, those of the first object."""
    total: int | None = None
    arrow_schema: bytes | None = None
    """Types of the columns as Arrow serializes a schema, where the file has types."""


def unique(names: list[str], where: str) -> tuple[str, ...]:
    """Column names, if none is there twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        told = ", ".join(repr(name) if name else "one without a name" for name in twice)
        raise InputError(f"{where} has columns that appear twice: {told}.", hint="Give every column a name of its own.")
    return tuple(names)


class CsvRows:
    """Rows of one CSV stream; the header is read at once. All values are text."""

    def __init__(self, chunks: Iterator[bytes], where: str) -> None:
        if csv.field_size_limit() < _MAX_FIELD_CHARS:
            csv.field_size_limit(_MAX_FIELD_CHARS)
        self._where = where
        lines = whole_lines(chunks, where, at_cr=True)
        decoded = chain.from_iterable(map(bytes.decode, piece) for piece in lines)
        self._reader = csv.reader(decoded, strict=True)
        self.fields = self._header()

    def __iter__(self) -> Iterator[dict[str, str]]:
        fields, width, reader = self.fields, len(self.fields), self._reader
        some = False
        try:
            for row in reader:
                if len(row) == width:
                    yield dict(zip(fields, row))  # noqa: B905 - they are as long; saying so costs time
                    some = True
                elif row:
                    raise self._ragged(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._broken(error) from error
        if not some:
            raise InputError(f"{self._where} has a header but no rows.", hint="Add at least one row below the header.")

    def _header(self) -> tuple[str, ...]:
        try:
            for row in self._reader:
                if row:
                    return unique(row, self._where)
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._broken(error) from error
        raise InputError(f"{self._where} is empty.", hint="A CSV file has a header line and then one row a line.")

    def _ragged(self, row: list[str]) -> InputError:
        line = self._reader.line_num - sum(len(_LINE_END.findall(field)) for field in row)
        return InputError(
            f"{self._where}, line {line}: expected {len(self.fields)} fields as in the header, found {len(row)}.",
            hint='Put fields that hold a comma or a line break in double quotes ("...").',
        )

    def _broken(self, error: csv.Error | UnicodeDecodeError) -> InputError:
        line = self._reader.line_num
        if isinstance(error, UnicodeDecodeError):
            return _undecodable(f"{self._where}, line {line + 1}", error)
        if "unexpected end" in str(error):
            return InputError(
                f"{self._where} ends inside a quoted field (line {line}).",
                hint='Close the quote; write a quote inside a quoted field twice ("").',
            )
        return InputError(
            f"{self._where}, line {line}: no valid CSV ({error}).",
            hint='Write a quote inside a quoted field twice ("").',
        )


def json_rows(chunks: Iterator[bytes], where: str) -> Iterator[Any]:
    """The value of each line that is not blank."""
    decode = msgspec.json.Decoder().decode
    number = 0
    some = False
    for piece in whole_lines(chunks, where, at_cr=False):
        for line in piece:
            number += 1
            try:
                value = decode(line)
            except UnicodeDecodeError as error:
                raise _undecodable(f"{where}, line {number}", _placed(line, error)) from error
            except (msgspec.DecodeError, RecursionError) as error:
                if not line.strip():
                    continue
                raise InputError(
                    f"{where}, line {number}: no valid JSON ({error}).",
                    hint="JSON Lines has one whole JSON value on each line.",
                ) from error
            some = True
            yield value
    if not some:
        raise InputError(f"{where} is empty.", hint="JSON Lines has one JSON value on each line.")


def open_csv(path: Path, where: str) -> Table:
    with closing(file_chunks(path, where)) as chunks:
        first = CsvRows(chunks, where)
        next(iter(first))
    return Table(lambda: iter(_same_header(path, where, first.fields)), first.fields, csv_rows(path))


def _same_header(path: Path, where: str, fields: tuple[str, ...]) -> CsvRows:
    rows = CsvRows(file_chunks(path, where), where)
    if rows.fields != fields:
        raise InputError(f"{where} was changed while it was used.", hint="Run again.")
    return rows


def open_json(path: Path, where: str) -> Table:
    with closing(file_chunks(path, where)) as chunks:
        first = next(json_rows(chunks, where))
    return Table(lambda: json_rows(file_chunks(path, where), where), _keys(first), lines(path))


def open_stdin() -> Table:
    """Standard input: JSON Lines where its first byte that is not blank is `{`, else CSV. Its rows come once."""
    where = "Standard input"
    try:
        # a file object of its own: a thread blocked in it holds no lock that the interpreter needs to end
        raw = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    except OSError as error:
        raise unreadable(where, error) from error
    chunks = pipe_chunks(raw, where)
    head = b""
    for chunk in chunks:
        head += chunk
        if head.strip():
            break
    else:
        raise InputError("Standard input is empty.", hint="Pipe in CSV with a header, or JSON Lines.")
    whole = chain((head,), chunks)
    if head.lstrip().startswith(b"{"):
        rows = json_rows(whole, where)
        first = next(rows)
        return Table(lambda: chain((first,), rows), _keys(first))
    table = CsvRows(whole, where)
    return Table(lambda: iter(table), table.fields)


def open_folder(folder: Path, where: str) -> Table:
    """Text files in it and below, sorted by path; hidden files and folders are left out."""
    paths = sorted(_text_files(folder, where))
    if not paths:
        raise InputError(f"{where} holds no text files.", hint=f"Files are read that end in {', '.join(TEXT_ENDINGS)}.")
    return Table(lambda: _texts(folder, where, paths), ("path", "text"), len(paths))


def _text_files(folder: Path, where: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise unreadable(f"{where}: {error.filename}", error) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(parent).relative_to(folder)
        for name in files:
            if name.lower().endswith(TEXT_ENDINGS) and not name.startswith("."):
                yield (base / name).as_posix()


def _texts(folder: Path, where: str, paths: list[str]) -> Iterator[dict[str, str]]:
    for path in paths:
        if not path.isprintable():
            _refuse_odd_name(path, where)
        told = f"{where}: {path}"
        try:
            with open(folder / path, "rb") as file:
                data = file.read(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise unreadable(told, error) from error
        if len(data) > MAX_LINE_BYTES:
            raise InputError(f"{told} is larger than {MAX_LINE_BYTES // 1024**2} MiB.", hint="Split it into parts.")
        try:
            yield {"path": path, "text": data.decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _undecodable(f"{told}, line {line}", error) from error


def _refuse_odd_name(path: str, where: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} holds a file whose name is no UTF-8: {path!a}.", hint="Rename it or move it away."
        ) from error


def _placed(line: bytes, error: UnicodeDecodeError) -> UnicodeDecodeError:
    """The error with its place in the line; the JSON decoder counts from the start of the text in quotes."""
    try:
        line.decode()
    except UnicodeDecodeError as placed:
        return placed
    return error


def _undecodable(where: str, error: UnicodeDecodeError) -> InputError:
    """Told as the place of the byte in its line."""
    at = error.start - error.object.rfind(b"\n", 0, error.start)
    byte = error.object[error.start]
    return InputError(f"{where}: byte {at} (0x{byte:02x}) is no UTF-8 text.", hint="Save it as UTF-8.")


def _keys(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, dict) else None
