"""Parquet rows become plain data, and columns of plain data become Parquet again with the types they had.

Knows nothing of items and outcomes. Imports pyarrow, so it is itself imported only where a Parquet file is met.

Each Arrow type has a carrier, a type whose Python values are plain JSON: text for times and decimals, numbers for
durations, base64 for binary. Reading casts to the carrier, writing casts back. What has none is written as JSON text.
"""

import base64
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.core.errors import InputError
from headrace.data.files import Rows
from headrace.data.naming import column_names
from headrace.data.plain import plain

_BATCH_ROWS = 1024
_BATCH_BYTES = 4 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_BROKEN = (pa.ArrowException, OSError, ValueError)
_ARROW = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
"""Arrow type of each kind of values (see columns.py); of every other kind, JSON text."""


class Unconvertible(Exception):
    """These values do not fit the type."""


def open_parquet(path: Path, where: str) -> Rows:
    try:
        with _open(path) as file:
            schema, total, groups = file.schema_arrow, file.metadata.num_rows, file.metadata.num_row_groups
            sizes = [file.metadata.row_group(i) for i in range(groups)]
            heaviest = max((group.total_byte_size / max(group.num_rows, 1) for group in sizes), default=0)
    except _BROKEN as error:
        raise _broken(where, error) from error
    fields, notices = column_names(schema.names, where)
    if not fields or not total:
        raise InputError(
            f"{where} has no {'rows' if fields else 'columns'}.", hint="Give a file with at least one row."
        )
    bare = pa.schema([pa.field(name, storage_of(field.type)) for name, field in zip(fields, schema, strict=True)])
    batch_rows = max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(heaviest, 1))))
    names = tuple(schema.names)
    return Rows(
        lambda: _rows(path, where, names, fields, batch_rows), fields, total, bare.serialize().to_pybytes(), notices
    )


def _open(path: Path) -> pq.ParquetFile:
    # without a buffer size, or with pre_buffer, a whole row group is held in memory
    return pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False)


def _rows(
    path: Path, where: str, names: tuple[str, ...], fields: tuple[str, ...], batch_rows: int
) -> Iterator[dict[str, Any]]:
    try:
        with _open(path) as file:
            if tuple(file.schema_arrow.names) != names:
                raise InputError(f"{where} was changed while it was used.", hint="Run again.")
            for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                columns = [values_of(column) for column in batch.columns]
                for row in zip(*columns, strict=True):
                    yield dict(zip(fields, row, strict=True))
    except _BROKEN as error:
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> InputError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(
        f"{where} cannot be read as Parquet: {lines[0].rstrip('.')}.",
        hint="Check that the file is whole; write it anew.",
    )


def storage_of(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def values_of(column: pa.Array) -> list[Any]:
    """The column as plain Python values."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    carrier = carrier_of(column.type)
    if carrier is not None and carrier != column.type:
        if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
            column = column.cast(pa.string())  # else 0.1 becomes 0.10000000149011612
        has_clock = pa.types.is_timestamp(column.type) or pa.types.is_time(column.type)
        column = column.cast(carrier)
        if has_clock:  # 12:30:00.000000000 says no more than 12:30:00, and is paid for in every prompt
            column = pc.replace_substring_regex(column, r"\.0+($|[Z+-])", r"\1")
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):
        return [value if value is None or isfinite(value) else None for value in values]
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return values
    return [plain(value) for value in values]


def carrier_of(kind: pa.DataType) -> pa.DataType | None:
    """The type whose Python values are plain JSON, or bytes; None where there is none that leads back."""
    is_ = pa.types
    carrier: pa.DataType | None = None
    if is_.is_boolean(kind) or is_.is_integer(kind) or is_.is_null(kind) or _is_binary(kind):
        carrier = kind
    elif is_.is_floating(kind):
        carrier = pa.float64()
    elif is_.is_temporal(kind) or is_.is_decimal(kind) or _is_text(kind):
        carrier = pa.int64() if is_.is_duration(kind) else pa.string()
    elif is_.is_dictionary(kind):
        carrier = carrier_of(kind.value_type)
    else:
        carrier = _nested(kind)
    return carrier


def _nested(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        each = None if pa.types.is_dictionary(kind.value_type) else carrier_of(kind.value_type)
        return None if each is None else pa.list_(each)
    if pa.types.is_struct(kind):
        parts = [(field.name, carrier_of(field.type)) for field in kind]
        whole = all(part is not None for _, part in parts) and len({name for name, _ in parts}) == len(parts)
        whole = whole and not any(pa.types.is_dictionary(field.type) for field in kind)
        return pa.struct(parts) if whole and parts else None
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    is_ = pa.types
    return bool(
        is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_binary_view(kind) or is_.is_fixed_size_binary(kind)
    )


def types_of(arrow_schema: bytes) -> dict[str, pa.DataType]:
    """Column types by name, of those that plain values can be brought back to."""
    schema = pa.ipc.read_schema(pa.py_buffer(arrow_schema))
    return {field.name: field.type for field in schema if carrier_of(field.type) is not None}


def restored(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Plain values as the Arrow type they were read from; raises Unconvertible."""
    try:
        return _built(values, kind)
    except (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise Unconvertible(str(error)) from error


def _built(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Nested types part by part: a cast would trip over what lies under a missing struct."""
    if pa.types.is_struct(kind):
        known = {field.name for field in kind}
        if any(value is not None and not value.keys() <= known for value in values):
            raise ValueError("a struct has a field that is not in its type")
        parts = [
            _built([None if value is None else value.get(field.name) for value in values], field.type) for field in kind
        ]
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=missing)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if any(value is not None and not isinstance(value, list) for value in values):
            raise ValueError("a value is no list")
        ends = list(accumulate((len(value or ()) for value in values), initial=0))
        starts = [None if value is None else end for value, end in zip(values, ends, strict=False)]
        flat = _built([each for value in values for each in value or ()], kind.value_type)
        made = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        offsets = pa.array([*starts, ends[-1]], pa.int32() if pa.types.is_list(kind) else pa.int64())
        return made.from_arrays(offsets, flat, type=kind)
    return _leaf(values, kind)


def _leaf(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if _is_binary(kind):
        return pa.array([None if value is None else base64.b64decode(value, validate=True) for value in values], kind)
    column = pa.array(values, carrier_of(kind))
    if pa.types.is_time(kind):
        column = pc.binary_join_element_wise(pa.scalar("1970-01-01"), column, " ").cast(pa.timestamp(kind.unit))
    return column if column.type == kind else column.cast(kind)


def arrow_kind(kind: str) -> pa.DataType:
    if kind.startswith("list "):
        return pa.list_(_ARROW[kind.removeprefix("list ")])
    return _ARROW.get(kind, pa.string())


def array_of(values: Sequence[Any], kind: str) -> pa.Array:
    """Values that were found to be of this kind, as an Arrow array."""
    if kind == "json":
        encode = msgspec.json.encode
        return pa.array([None if value is None else encode(value).decode() for value in values], pa.string())
    if kind == "float":
        values = [float(value) if type(value) is int else value for value in values]
    elif kind == "list float":
        values = [[float(x) if type(x) is int else x for x in v] if v is not None else None for v in values]
    return pa.array(values, arrow_kind(kind))
