"""Outcomes become a result file: JSON Lines, CSV or Parquet. A reader sees the old file or the whole new one.

Knows nothing of runs and stores. The file follows from the outcomes alone, whenever it is written.
"""

import csv
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import msgspec

from headrace.core.errors import OutputError
from headrace.core.item import Outcome
from headrace.data.columns import Columns, Unforeseen, columns_of, declared_kinds, joined
from headrace.data.plain import plain, weight

_ENDINGS = (".jsonl", ".ndjson", ".csv", ".parquet")
_GROUP_ROWS, _GROUP_BYTES = 10_000, 16 * 1024 * 1024
"""At most so much in one row group of Parquet."""
_BATCH_ROWS, _BATCH_BYTES, _HEAD_BATCHES = 500, 1024 * 1024, 20
"""At most so much at a time of the other formats, and so many of them are looked at before the first is written."""
_CSV_PLAIN = frozenset((str, int, float, type(None)))
_Batches = Iterator[list[Outcome]]
_encode = msgspec.json.Encoder(enc_hook=plain).encode


def check_output(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where no result file can be written there: to be asked before anything is paid for."""
    target = Path(path)
    ending = target.suffix.lower()
    if target.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Give the name of a file in it.")
    if ending not in _ENDINGS:
        told = f"ends in {ending}" if ending else "has no ending"
        raise OutputError(f"{path} {told}, which headrace does not write.", hint=f"Use one of {', '.join(_ENDINGS)}.")
    target = target.resolve()
    if not target.parent.is_dir():
        raise OutputError(f"The folder of {path} does not exist.", hint="Create it, or write elsewhere.")
    if target.exists() and not target.is_file():
        raise OutputError(f"{path} is no regular file.", hint="Write to another path.")
    if not os.access(target.parent, os.W_OK | os.X_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OutputError(f"{path} cannot be written.", hint="Check that you may write there.")


def write_outcomes(
    path: str | os.PathLike[str],
    outcomes: Callable[[], Iterator[Outcome]],
    *,
    fields: Iterable[str] | None = None,
    schema: Mapping[str, Any] | None = None,
    arrow_schema: bytes | None = None,
) -> int:
    """Write these outcomes in the format that the path ends in, and return how many rows it has.

    `outcomes()` starts reading them, and is called again where a later row needs columns or types that the first ones
    did not show. `fields` are the input's columns as far as they are known, `schema` is the JSON schema of the
    answers, `arrow_schema` the types of the input's columns where it was Parquet. Columns and their names: see
    Columns. A missing value is null, in CSV empty; a nested value is JSON text in CSV and Parquet, a list of scalars
    of the schema a list in Parquet. Raises OutputError; then an existing file is as it was.
    """
    check_output(path)
    target = Path(path).resolve()
    ending = target.suffix.lower()
    grouped = ending == ".parquet"
    layout = _Layout(columns_of(fields, schema), schema, arrow_schema, typed=grouped)
    write = _WRITERS[ending]
    batches = _batches(outcomes(), grouped=grouped)
    head = list(islice(batches, 1 if grouped else _HEAD_BATCHES))
    for batch in head:
        layout.see(batch)
    whole = _put_back(head, batches)
    for _ in range(3 + len(layout.columns.inputs)):
        try:
            with _replacing(target, str(path)) as file:
                return write(file, whole, layout)
        except Unforeseen as unforeseen:
            if unforeseen.name is not None:
                layout.arrow_types.pop(unforeseen.name, None)
            layout.forget()
            for batch in _batches(outcomes(), grouped=grouped):
                layout.see(batch)
            whole = _batches(outcomes(), grouped=grouped)
    raise OutputError(f"The outcomes changed while {path} was written.", hint="Write it again once the run has ended.")


def jsonl_line(outcome: Outcome, columns: Columns) -> bytes:
    """One row as the .jsonl file has it, for `columns_of(fields, schema)`.

    A column that was not known beforehand is in the rows of those items that have it.
    """
    try:
        cells = columns.cells(outcome)
    except Unforeseen:
        columns = columns.widened([outcome])
        cells = columns.cells(outcome)
    return _encode(dict(zip(columns.names, cells, strict=True))) + b"\n"


class _Layout:
    """What is known of the result: its columns, and for Parquet their kinds or Arrow types."""

    def __init__(
        self, columns: Columns, schema: Mapping[str, Any] | None, arrow_schema: bytes | None, *, typed: bool
    ) -> None:
        self._known = self.columns = columns
        self._schema = schema
        self._with_kinds = typed
        self._kinds: dict[tuple[str, str], str] = declared_kinds(columns, schema)
        self.arrow_types: dict[str, Any] = {}
        if typed and arrow_schema is not None:
            from headrace.data.parquet import types_of  # noqa: PLC0415 - pyarrow is heavy

            self.arrow_types = types_of(arrow_schema)

    def forget(self) -> None:
        self.columns = self._known
        self._kinds = declared_kinds(self._known, self._schema)

    def see(self, batch: list[Outcome]) -> None:
        self.columns = self.columns.widened(batch)
        if not self._with_kinds:
            return
        cells = zip(*map(self.columns.cells, batch), strict=True)
        for key, values in zip(self.columns.origins(), cells, strict=True):
            if not self._typed(key):
                self._kinds[key] = joined(self._kinds.get(key, "null"), values)

    def _typed(self, key: tuple[str, str]) -> bool:
        return key[0] == "input" and key[1] in self.arrow_types

    def types(self) -> list[Any]:
        """For each column its Arrow type, or its kind; a column that was null so far is taken for text."""
        found = []
        for key in self.columns.origins():
            kind = self._kinds.get(key, "null")
            found.append(self.arrow_types[key[1]] if self._typed(key) else "text" if kind == "null" else kind)
        return found


def _batches(outcomes: Iterator[Outcome], *, grouped: bool) -> _Batches:
    """So many rows or bytes at a time."""
    most, most_bytes = (_GROUP_ROWS, _GROUP_BYTES) if grouped else (_BATCH_ROWS, _BATCH_BYTES)
    batch: list[Outcome] = []
    held = 0
    for outcome in outcomes:
        batch.append(outcome)
        held += weight(outcome.item) + weight(outcome.value)
        if len(batch) >= most or held >= most_bytes:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _put_back(head: list[list[Outcome]], batches: _Batches) -> _Batches:
    """With what was taken to look at; nothing holds on to it."""
    head.reverse()
    while head:
        yield head.pop()
    yield from batches


def _write_jsonl(file: IO[bytes], batches: _Batches, layout: _Layout) -> int:
    names, cells = layout.columns.names, layout.columns.cells
    count = 0
    for batch in batches:
        for outcome in batch:
            file.write(_encode(dict(zip(names, cells(outcome)))) + b"\n")  # noqa: B905 - as long; saying so costs time
        count += len(batch)
    return count


def _write_csv(file: IO[bytes], batches: _Batches, layout: _Layout) -> int:
    file.write(_csv_text([layout.columns.names]))
    count = 0
    for batch in batches:
        rows = list(map(layout.columns.cells, batch))
        if not _CSV_PLAIN.issuperset(map(type, chain.from_iterable(rows))):
            rows = [tuple(map(_csv_cell, row)) for row in rows]
        file.write(_csv_text(rows))
        count += len(batch)
    return count


def _csv_text(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    made = text.getvalue()
    if "\r" in made:
        # some versions of Python leave a lone carriage return unquoted
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
        made = text.getvalue()
    return made.encode()


def _csv_cell(value: Any) -> Any:
    if type(value) in _CSV_PLAIN:
        return value
    return _encode(value).decode()


def _write_parquet(file: IO[bytes], batches: _Batches, layout: _Layout) -> int:
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    from headrace.data.parquet import arrow_kind  # noqa: PLC0415

    names, types = layout.columns.names, layout.types()
    schema = pa.schema(
        [(name, arrow_kind(kind) if isinstance(kind, str) else kind) for name, kind in zip(names, types, strict=True)]
    )
    count = 0
    try:
        with pq.ParquetWriter(file, schema) as writer:
            for batch in batches:
                columns = zip(*map(layout.columns.cells, batch), strict=True)
                arrays = list(map(_parquet_array, names, types, columns))
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                count += len(batch)
    except pa.ArrowException as error:
        raise OutputError(f"The rows cannot be written as Parquet: {error}.", hint="Write .jsonl instead.") from error
    return count


def _parquet_array(name: str, kind: Any, values: Sequence[Any]) -> Any:
    """Raises Unforeseen where the values are not of this kind, or do not fit this Arrow type."""
    from headrace.data.parquet import Unconvertible, array_of, restored  # noqa: PLC0415 - pyarrow is heavy

    if isinstance(kind, str):
        if joined(kind, values) != kind:
            raise Unforeseen
        return array_of(values, kind)
    try:
        return restored(values, kind)
    except Unconvertible as error:
        raise Unforeseen(name) from error


_WRITERS: dict[str, Callable[[IO[bytes], _Batches, _Layout], int]] = {
    ".jsonl": _write_jsonl,
    ".ndjson": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


@contextmanager
def _replacing(target: Path, told: str) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its place at the end, or is removed."""
    beside = target.with_name(f".headrace-{secrets.token_hex(8)}.tmp")
    try:
        # made as any new file is, so that the umask holds
        made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with open(made, "wb", buffering=1024 * 1024) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{told} could not be written: {reason}.", hint="Free space, or write elsewhere.") from error
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
