"""Data frames become rows of plain data, some at a time: pandas, polars, Arrow, and what narwhals or an Arrow stream
makes of others. Enters a frame or one column of it; knows nothing of items, keys and files.

No library of frames is imported before one of its frames is met, and pandas never: what it needs is in the frame.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from headrace.core.digest import canonical
from headrace.core.errors import InputError, UsageError
from headrace.data.files import Rows
from headrace.data.naming import column_names
from headrace.data.plain import kind_name, plain

_WHERE = "The data frame"
_BATCH_ROWS = 1024
_SLICE_ROWS = 8192
"""Of what converts each slice at some cost."""
_LIBRARIES = frozenset(
    ("pandas", "polars", "pyarrow", "narwhals", "modin", "cudf", "dask", "duckdb", "ibis", "pyspark", "sqlframe")
)
_FRAMES_HAVE = ("columns", "to_batches", "to_frame")
_ARROW_STREAM = "__arrow_c_stream__"
"""What every frame has that can be read as Arrow: https://arrow.apache.org/docs/format/CDataInterface.html"""
_ARROW_ARRAY = "__arrow_c_array__"
_Part = Sequence[list[Any]]
"""Some rows, as columns of plain values."""


class _Opened(msgspec.Struct, frozen=True):
    """`fields` and `types` (None where the values decide) name the columns; a bare column has no fields."""

    types: list[Any]
    parts: Callable[[], Iterator[_Part]]
    fields: list[Any] | None = None
    total: int | None = None
    once: bool = False


def is_frame(items: object) -> bool:
    """Whether this is a data frame, a stream of Arrow batches, or one column of a frame."""
    if hasattr(items, _ARROW_STREAM) or hasattr(items, _ARROW_ARRAY):
        return True
    from_library = any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(items).__mro__)
    return from_library and any(hasattr(type(items), name) for name in _FRAMES_HAVE)


def open_frame(items: Any) -> Rows:
    """The rows of a frame, with the types of its columns; the values themselves where it is one column.

    A pandas index is a column where it has a name (and no column has it), else it is left out. Missing values (None,
    NaN, NaT, NA) are None. Raises InputError for a frame that has no columns or that its library cannot read.
    """
    opened = _opened(items)
    if opened.fields is None:
        return Rows(lambda: (value for (values,) in _read(opened) for value in values), total=opened.total)
    if not opened.fields:
        raise InputError(f"{_WHERE} has no columns.", hint="Give a frame with at least one column.")
    fields, notices = column_names([_name(field) for field in opened.fields], _WHERE)

    def rows() -> Iterator[dict[str, Any]]:
        for columns in _read(opened):
            for row in zip(*columns, strict=True):
                yield dict(zip(fields, row))  # noqa: B905 - they are as long; saying so costs time

    return Rows(rows, fields, opened.total, _schema(fields, opened.types), notices, opened.once)


def _opened(items: Any) -> _Opened:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    if _is_of(items, "pandas"):
        return _pandas(items)
    if isinstance(items, pa.Table | pa.RecordBatch):
        table = pa.Table.from_batches([items]) if isinstance(items, pa.RecordBatch) else items
        return _arrow(table.schema, lambda: table.to_batches(max_chunksize=_BATCH_ROWS), table.num_rows)
    if hasattr(items, "read_next_batch"):  # a pa.RecordBatchReader
        return msgspec.structs.replace(_arrow(items.schema, lambda: _small(items)), once=True)
    if _is_of(items, "pyarrow") and hasattr(items, "to_batches"):  # a data set in files
        schema = getattr(items, "projected_schema", None) or items.schema
        return _arrow(schema, lambda: items.to_batches(batch_size=_BATCH_ROWS))
    return _by_narwhals(items)


def _by_narwhals(items: Any) -> _Opened:
    import narwhals as nw  # noqa: PLC0415 - only for frames of these kinds
    import pyarrow as pa  # noqa: PLC0415 - heavy

    if isinstance(items, pa.Array):
        items = pa.chunked_array([items])
    frame = nw.from_native(nw.to_native(items, pass_through=True), pass_through=True, allow_series=True)
    if isinstance(frame, nw.DataFrame | nw.Series):
        if frame.implementation.is_pandas_like():
            return _pandas(frame.to_pandas())
        return _sliced(frame)
    native = nw.to_native(frame, pass_through=True)
    if hasattr(native, _ARROW_STREAM):
        reader = _guarded(lambda: pa.RecordBatchReader.from_stream(native))
        return _arrow(reader.schema, _Restarted(reader, lambda: pa.RecordBatchReader.from_stream(native)))
    if not isinstance(frame, nw.LazyFrame):
        raise UsageError(
            f"Items of type {kind_name(items)} cannot be read.", hint="Pass a pandas, polars or Arrow frame."
        )
    _refuse_objects(_guarded(frame.collect_schema))
    if hasattr(native, "collect_batches"):  # polars
        empty = _guarded(lambda: nw.get_native_namespace(frame).DataFrame(schema=native.collect_schema()).to_arrow())
        return _arrow(empty.schema, lambda: _tables(part.to_arrow() for part in native.collect_batches()))
    table = _guarded(lambda: frame.collect(backend="pyarrow").to_native())
    return _arrow(table.schema, lambda: table.to_batches(max_chunksize=_BATCH_ROWS), table.num_rows)


def _sliced(frame: Any) -> _Opened:
    """A frame or a column in memory that gives any part of itself as Arrow."""
    total = len(frame)
    starts = range(0, total, _SLICE_ROWS)
    if not hasattr(frame, "columns"):
        return _Opened(
            [None], lambda: ([_values(frame[at : at + _SLICE_ROWS].to_arrow())] for at in starts), total=total
        )
    _refuse_objects(frame.schema)
    head = _guarded(frame[:0].to_arrow)
    return _arrow(head.schema, lambda: _tables(frame[at : at + _SLICE_ROWS].to_arrow() for at in starts), total)


def _refuse_objects(schema: Any) -> None:
    """A column of Python objects would be read as their addresses in memory."""
    names = [name for name, kind in schema.items() if str(kind) == "Object"]
    if names:
        raise InputError(f"{_WHERE}: the column {names[0]!r} holds Python objects.", hint="Drop or convert it.")


def _arrow(schema: Any, batches: Callable[[], Any], total: int | None = None) -> _Opened:
    from headrace.data.parquet import storage_of, values_of  # noqa: PLC0415 - pyarrow is heavy

    return _Opened(
        [storage_of(kind) for kind in schema.types],
        lambda: ([values_of(column) for column in batch.columns] for batch in batches()),
        list(schema.names),
        total,
    )


def _tables(tables: Any) -> Iterator[Any]:
    return chain.from_iterable(table.to_batches(max_chunksize=_BATCH_ROWS) for table in tables)


def _values(column: Any) -> list[Any]:
    from headrace.data.parquet import values_of  # noqa: PLC0415 - pyarrow is heavy

    return [value for chunk in getattr(column, "chunks", [column]) for value in values_of(chunk)]


class _Restarted:
    """The batches of what makes a new reader each time; the first reader is the one that told the schema."""

    def __init__(self, reader: Any, again: Callable[[], Any]) -> None:
        self._reader = reader
        self._again = again

    def __call__(self) -> Any:
        reader, self._reader = self._reader or self._again(), None
        return _small(reader)


def _small(batches: Any) -> Iterator[Any]:
    return (batch.slice(at, _BATCH_ROWS) for batch in batches for at in range(0, batch.num_rows, _BATCH_ROWS))


def _pandas(items: Any) -> _Opened:
    """The columns of a pandas frame, each on its own: some types have no Arrow, and a column of objects is of any."""
    if not hasattr(items, "columns"):
        values = _PandasColumn(items, "")
        return _Opened([values.type], lambda: ([values(at)] for at in values.starts), total=len(items))
    levels = items.index.to_frame(index=False)
    names = list(items.columns)
    indexes = [i for i, name in enumerate(items.index.names) if name is not None and name not in names]
    columns = [(items.index.names[i], levels.iloc[:, i]) for i in indexes]
    columns += [(name, items.iloc[:, i]) for i, name in enumerate(names)]
    readers = [_PandasColumn(column, _name(name)) for name, column in columns]
    return _Opened(
        [reader.type for reader in readers],
        lambda: ([reader(at) for reader in readers] for at in range(0, len(items), _BATCH_ROWS)),
        [name for name, _ in columns],
        len(items),
    )


class _PandasColumn:
    """Parts of one column as plain values; `type` is its Arrow type, as far as it has one."""

    def __init__(self, column: Any, name: str) -> None:
        self._column = column
        self._name = name
        self._objects = str(column.dtype) == "object"
        self.type = _inferred(column) if self._objects else _converted(column)
        self.starts = range(0, len(column), _BATCH_ROWS)

    def __call__(self, start: int) -> list[Any]:
        import pyarrow as pa  # noqa: PLC0415 - heavy

        part = self._column.iloc[start : start + _BATCH_ROWS]
        if self.type is not None and not self._objects:
            return _values(pa.array(part, type=self.type, from_pandas=True))
        return [self._cell(value, at) for at, value in enumerate(part.tolist(), start)]

    def _cell(self, value: Any, at: int) -> Any:
        where = f"{_WHERE}, row {at}" + (f", column {self._name!r}" if self._name else "")
        try:
            made = plain(value)
            if type(made) is not str or not made.isascii():
                canonical(made)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{where}: the value holds half of a surrogate pair, which is no text.",
                hint='Clean it: text.encode("utf-8", "replace").decode().',
            ) from error
        except RecursionError as error:
            raise UsageError(f"{where}: the value is nested too deeply.", hint="Make it flat.") from error
        return made


def _converted(column: Any) -> Any:
    """The Arrow type of a column with a type of its own; None where Arrow has none that means the same."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    try:
        kind = pa.array(column.iloc[:0], from_pandas=True).type
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError, AttributeError):
        return None
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return None if isinstance(inner, pa.BaseExtensionType) or pa.types.is_null(inner) else kind


def _inferred(column: Any) -> Any:
    """The Arrow type of a column of objects, where all of them are of one simple type: how it is written, not read."""
    import pyarrow as pa  # noqa: PLC0415 - heavy

    try:
        kind = pa.infer_type(column.to_numpy(), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    simple = pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_string(kind)
    return kind if simple or pa.types.is_binary(kind) or pa.types.is_boolean(kind) else None


def _read(opened: _Opened) -> Iterator[_Part]:
    """The parts, with errors of the frame's own library as ours."""
    parts = iter(_guarded(opened.parts))
    while (part := _guarded(lambda: next(parts, None))) is not None:
        yield part


def _guarded(do: Callable[[], Any]) -> Any:
    """Whatever a library of frames may raise, and each has errors of its own, becomes an InputError."""
    try:
        return do()
    except (InputError, UsageError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{_WHERE} cannot be read: {lines[0][:300].rstrip('.')}.", hint="Cast or leave out what is in the way."
        ) from error


def _schema(fields: Sequence[str], types: Sequence[Any]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - heavy

    known = [(field, kind) for field, kind in zip(fields, types, strict=True) if kind is not None]
    schema: bytes = pa.schema(known).serialize().to_pybytes()
    return schema


def _name(name: Any) -> str:
    """A column's name as text; the levels of a name that has several with a dot between them."""
    if isinstance(name, tuple):
        return ".".join(_name(part) for part in name if part != "")
    return name if isinstance(name, str) else str(name)


def _is_of(items: object, library: str) -> bool:
    return any(kind.__module__.partition(".")[0] == library for kind in type(items).__mro__)
