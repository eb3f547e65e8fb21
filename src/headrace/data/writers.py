"""Batches of outcomes become the bytes of a format: JSON Lines, a JSON array, CSV, TSV or Parquet, packed or not.

A writer returns how many rows it wrote, and raises Unforeseen where the layout does not hold a row.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from typing import IO, Any

import msgspec

from headrace.core.errors import OutputError
from headrace.data.columns import Unforeseen, joined
from headrace.data.formula import STARTS, guarded
from headrace.data.layout import Batches, Layout
from headrace.data.plain import plain

Writer = Callable[[IO[bytes], Batches, Layout], int]
encode = msgspec.json.Encoder(enc_hook=plain).encode
_CSV_PLAIN = frozenset((str, int, float, type(None)))


def _write_jsonl(file: IO[bytes], batches: Batches, layout: Layout) -> int:
    count = 0
    for batch in batches:
        file.write(b"".join([row + b"\n" for row in _json_rows(batch, layout)]))
        count += len(batch)
    return count


def _write_json(file: IO[bytes], batches: Batches, layout: Layout) -> int:
    """An array with one row a line."""
    count = 0
    for batch in batches:
        file.write((b",\n" if count else b"[\n") + b",\n".join(_json_rows(batch, layout)))
        count += len(batch)
    file.write(b"\n]\n" if count else b"[]\n")
    return count


def _json_rows(batch: list[Any], layout: Layout) -> list[bytes]:
    names, cells = layout.columns.names, layout.columns.cells
    return [encode(dict(zip(names, cells(each)))) for each in batch]  # noqa: B905 - as long; saying so costs time


def _write_delimited(file: IO[bytes], batches: Batches, layout: Layout, *, mark: str) -> int:
    count = nuls = 0
    for rows in chain([[layout.columns.names]], (_csv_rows(batch, layout) for batch in batches)):
        text = _delimited(rows, mark)
        if "\0" in text:
            nuls += text.count("\0")
            text = text.replace("\0", "\ufffd")
        file.write(text.encode())
        count += len(rows)
    if nuls:
        layout.notices.append(
            f"{nuls} NUL {'character was' if nuls == 1 else 'characters were'} replaced by \ufffd, as programs that read"
            " CSV stop at them; .jsonl and .parquet keep them."
        )
    return count - 1


def _csv_rows(batch: list[Any], layout: Layout) -> list[tuple[Any, ...]]:
    rows = list(map(layout.columns.cells, batch))
    if not _CSV_PLAIN.issuperset(map(type, chain.from_iterable(rows))):
        rows = [tuple(map(_csv_cell, row)) for row in rows]
    return rows


def _csv_cell(value: Any) -> Any:
    if type(value) in _CSV_PLAIN:
        return value
    return encode(value).decode()


def _delimited(rows: Sequence[tuple[Any, ...]], mark: str) -> str:
    safe: Sequence[Sequence[Any]] = rows
    if not STARTS.isdisjoint({cell[:1] for cell in chain.from_iterable(rows) if type(cell) is str}):
        safe = [[guarded(cell) if type(cell) is str else cell for cell in row] for row in rows]
    return _csv_text(safe, mark)


def _csv_text(rows: Sequence[Sequence[Any]], mark: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", delimiter=mark).writerows(rows)
    made = text.getvalue()
    if "\r" in made:
        # some versions of Python leave a lone carriage return unquoted
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n", delimiter=mark, quoting=csv.QUOTE_ALL).writerows(rows)
        made = text.getvalue()
    return made


def _write_parquet(file: IO[bytes], batches: Batches, layout: Layout) -> int:
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = schema_of(layout)
    count = 0
    try:
        with pq.ParquetWriter(file, schema) as writer:
            for table in tables_of(batches, layout, schema):
                writer.write_table(table)
                count += table.num_rows
    except pa.ArrowException as error:
        raise OutputError(f"The rows cannot be written as Parquet: {error}.", hint="Write .jsonl instead.") from error
    return count


def schema_of(layout: Layout) -> Any:
    """The columns of a result as Arrow."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    from headrace.data.parquet import arrow_kind  # noqa: PLC0415

    types = [arrow_kind(kind) if isinstance(kind, str) else kind for kind in layout.types()]
    return pa.schema(list(zip(layout.columns.names, types, strict=True)))


def tables_of(batches: Batches, layout: Layout, schema: Any) -> Iterator[Any]:
    """The rows of a result as Arrow."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    names, types = layout.columns.names, layout.types()
    for batch in batches:
        columns = zip(*map(layout.columns.cells, batch), strict=True)
        yield pa.Table.from_arrays(list(map(_parquet_array, names, types, columns)), schema=schema)


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


def _write_xlsx(file: IO[bytes], batches: Batches, layout: Layout) -> int:
    from headrace.data.xlsx_writer import write_xlsx  # noqa: PLC0415 - only where one is written

    return write_xlsx(file, batches, layout)


WRITERS: dict[str, Writer] = {
    ".csv": partial(_write_delimited, mark=","),
    ".xlsx": _write_xlsx,
    ".tsv": partial(_write_delimited, mark="\t"),
    ".jsonl": _write_jsonl,
    ".ndjson": _write_jsonl,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
PACKED = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""These may also end in .gz or .zst; the others are packed in themselves."""
PACKS = (".gz", ".zst")


@contextmanager
def packing(file: IO[bytes], pack: str) -> Iterator[IO[bytes]]:
    """What is written goes into the file packed as the ending says. The same bytes always give the same file."""
    if not pack:
        yield file
    elif pack == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
            yield packed  # type: ignore[misc]
    else:
        import pyarrow as pa  # noqa: PLC0415 - heavy; Python itself writes zstd only from 3.14 on

        with closing(pa.CompressedOutputStream(pa.PythonFile(_Lent(file), mode="w"), "zstd")) as stream:
            yield stream


class _Lent(io.RawIOBase):
    """The file for somebody who closes what he is given."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._file.write(data)
