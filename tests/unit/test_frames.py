"""Data frames of every kind become the same plain rows; what is missing is None; what cannot be read is told."""

import datetime as dt
import decimal
from collections.abc import Callable, Iterator
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import HeadraceError, InputError, UsageError
from headrace.data.frames import is_frame, open_frame
from headrace.data.parquet import restored, types_of

ROWS: list[dict[str, Any]] = [
    {"n": 1, "f": 0.5, "text": "eins", "yes": True, "day": dt.date(2024, 2, 3), "list": [1, 2]},
    {"n": 2, "f": None, "text": None, "yes": None, "day": None, "list": None},
    {"n": 3, "f": -1.25, "text": "ß\n{x}", "yes": False, "day": dt.date(1900, 1, 1), "list": []},
]
PLAIN = [row | {"day": row["day"] and row["day"].isoformat()} for row in ROWS]
TABLE = pa.Table.from_pylist(ROWS)


class Capsule:
    """What a library that nobody here knows gives: an Arrow stream."""

    columns = ("n",)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


KINDS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas of Arrow": lambda: TABLE.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda: pl.DataFrame(ROWS),
    "polars lazy": lambda: pl.LazyFrame(ROWS),
    "Arrow table": lambda: TABLE,
    "Arrow table in pieces": lambda: pa.concat_tables([TABLE[:1], TABLE[1:]]),
    "Arrow batch": lambda: TABLE.to_batches()[0],
    "Arrow reader": lambda: TABLE.to_reader(max_chunksize=2),
    "Arrow data set": lambda: pa.dataset.dataset(TABLE),
    "narwhals": lambda: nw.from_native(pl.DataFrame(ROWS)),
    "narwhals of pandas": lambda: nw.from_native(pd.DataFrame(ROWS)),
    "narwhals lazy": lambda: nw.from_native(pl.LazyFrame(ROWS)),
    "anybody's Arrow": Capsule,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_the_same_rows(kind: str) -> None:
    """Rows, names and types are the same, whatever the frame; it can be read again unless it is a stream."""
    frame = KINDS[kind]()
    assert is_frame(frame)
    rows = open_frame(frame)
    assert rows.fields == tuple(ROWS[0])
    assert rows.total in (3, None)
    assert list(rows.rows()) == PLAIN
    assert rows.once is (kind == "Arrow reader")
    if not rows.once:
        assert list(rows.rows()) == PLAIN
    assert rows.arrow_schema is not None
    types = types_of(rows.arrow_schema)
    for name, column in zip(TABLE.column_names, TABLE.columns, strict=True):
        if name in types:
            assert restored([row[name] for row in PLAIN], types[name]).to_pylist() == column.to_pylist()
    assert set(types) >= {"n", "f", "text", "day"}


@pytest.mark.parametrize(
    "column",
    [pd.Series(["a", None], name="text"), pd.Series([1, "x", np.nan], dtype=object), pl.Series(["a", None]),
     pa.chunked_array([["a"], [None]]), pa.array(["a", None]), pl.DataFrame({"a": ["a", None]})["a"]],
)  # fmt: skip
def test_one_column_is_its_values(column: Any) -> None:
    """One column of a frame gives bare values, without names."""
    assert is_frame(column)
    rows = open_frame(column)
    assert rows.fields is None
    assert list(rows.rows()) in (["a", None], [1, "x", None])
    assert rows.total == len(column)


def test_what_is_no_frame() -> None:
    """Lists, mappings, iterators, arrays of numpy and records are what they were."""
    for items in ([], {}, "a.csv", iter([]), range(3), np.array([1]), object(), b"", {1}, ROWS):
        assert not is_frame(items)


def test_everything_that_pandas_holds() -> None:
    """Every type of column is plain data: what has no type in JSON is text, what is missing is None."""
    frame = pd.DataFrame({
        "naive": pd.Series(["2024-01-01 10:00", None], dtype="datetime64[us]"),
        "there": pd.Series(["2024-01-01 10:00:00.25", None], dtype="datetime64[us]").dt.tz_localize("Europe/Berlin"),
        "category": pd.Categorical(["a", None]),
        "month": pd.PeriodIndex(["2024-01", None], freq="M"),
        "cut": pd.cut([1, 3], [0, 2, 9]),
        "mixed": [1, "x"],
        "missing": [pd.NA, pd.NaT],
        "decimal": [decimal.Decimal("1.50"), None],
        "day": [dt.date(2024, 1, 1), None],
        "Int64": pd.array([1, None], dtype="Int64"),
        "boolean": pd.array([True, None], dtype="boolean"),
        "infinite": [1.5, float("inf")],
        "f32": np.array([0.1, np.nan], dtype="float32"),
        "sparse": pd.arrays.SparseArray([1, 0]),
        "nested": [[1, pd.NA], {"a": pd.NaT, "b": dt.date(2024, 1, 1)}],
        "dicts": [{"a": 1}, {"b": 2}],
        "numpy": [np.int64(7), np.array([1.0, np.nan])],
        "bytes": [b"\xff", None],
        "object moments": pd.Series([pd.Timestamp("2024-01-01 10:00"), pd.NaT], dtype=object),
    })  # fmt: skip
    first, second = open_frame(frame).rows()
    assert first == {
        "naive": "2024-01-01 10:00:00", "there": "2024-01-01 10:00:00.250000+0100", "category": "a", "month": "2024-01",
        "cut": "(0, 2]", "mixed": 1, "missing": None, "decimal": "1.50", "day": "2024-01-01", "Int64": 1, "boolean": True,
        "infinite": 1.5, "f32": 0.1, "sparse": 1, "nested": [1, None], "dicts": {"a": 1}, "numpy": 7, "bytes": "/w==",
        "object moments": "2024-01-01T10:00:00",
    }  # fmt: skip
    assert second == dict.fromkeys(first) | {
        "cut": "(2, 9]", "mixed": "x", "sparse": 0, "nested": {"a": None, "b": "2024-01-01"}, "dicts": {"b": 2}, "numpy": [1.0, None],
    }  # fmt: skip


def test_everything_that_polars_holds() -> None:
    """Categories, enums, structs, times, durations and decimals are plain data."""
    frame = pl.DataFrame({
        "text": ["a", None], "struct": [{"x": 1, "y": "a"}, None], "time": [dt.time(10), None],
        "took": [dt.timedelta(seconds=1), None], "price": [decimal.Decimal("1.5"), None],
        "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None], "nothing": [None, None], "nan": [float("nan"), 1.0],
    }).with_columns(
        pl.col("text").cast(pl.Categorical).alias("category"), pl.col("text").cast(pl.Enum(["a"])).alias("enum"),
    )  # fmt: skip
    expected = {
        "text": "a", "struct": {"x": 1, "y": "a"}, "time": "10:00:00", "took": 1_000_000, "price": "1.5",
        "at": "2024-01-01 00:00:00Z", "nothing": None, "nan": None, "category": "a", "enum": "a",
    }  # fmt: skip
    for each in (frame, frame.lazy()):
        first, second = open_frame(each).rows()
        assert first == expected
        assert second == dict.fromkeys(expected) | {"nan": 1.0}


def test_what_becomes_of_an_index() -> None:
    """A named index is the first column, each named level one of its own; one without a name is left out."""
    frame = pd.DataFrame({"id": ["x", "y"], "n": [1, 2], "m": [3, 4]})
    assert open_frame(frame[frame.n > 1]).fields == ("id", "n", "m")
    named = open_frame(frame.set_index("id"))
    assert (named.fields, list(named.rows())[1]) == (("id", "n", "m"), {"id": "y", "n": 2, "m": 4})
    levels = open_frame(frame.set_index(["id", "n"]))
    assert (levels.fields, next(levels.rows())) == (("id", "n", "m"), {"id": "x", "n": 1, "m": 3})
    doubled = frame.set_index("id", drop=False)
    assert open_frame(doubled).fields == ("id", "n", "m")


def test_names_of_columns() -> None:
    """Names are text: numbers as they are written, levels with a dot between; those that are equal are told apart."""
    rows = open_frame(pd.DataFrame([[1, 2, 3, 4]], columns=pd.Index([0, ("a", "b"), ("c", ""), "0"], dtype=object)))
    assert rows.fields == ("0", "a.b", "c", "0_2")
    assert len(rows.notices) == 1
    assert list(rows.rows()) == [{"0": 1, "a.b": 2, "c": 3, "0_2": 4}]
    double = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert list(open_frame(double).rows()) == [{"a": 1, "a_2": 2}]


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [(lambda: pd.DataFrame({"o": ["a", object()]}), UsageError, "row 1, column 'o': A value of type object"),
     (lambda: pd.DataFrame({"o": [1, "\ud800"]}, dtype=object), UsageError, "surrogate"),
     (lambda: pd.DataFrame({"z": [1 + 2j]}), UsageError, "row 0, column 'z': A value of type complex"),
     (lambda: pl.DataFrame({"o": [object()]}, schema={"o": pl.Object}), InputError, "'o' holds Python objects"),
     (lambda: pl.LazyFrame({"a": [1]}).select("b"), InputError, '"b"'),
     (lambda: pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)), InputError, "conversion"),
     (pd.DataFrame, InputError, "no columns"), (pl.DataFrame, InputError, "no columns")],
)  # fmt: skip
def test_what_cannot_be_read(make: Callable[[], Any], kind: type[HeadraceError], said: str) -> None:
    """It is told with row and column, or in the words of the frame's own library."""
    with pytest.raises(kind) as caught:
        list(open_frame(make()).rows())
    assert said in str(caught.value)
    assert caught.value.hint


def test_an_empty_frame_has_no_rows() -> None:
    """A frame with columns and no rows is one over nothing, as an empty list is."""
    for frame in (pd.DataFrame({"a": []}), pl.DataFrame({"a": []}), pa.table({"a": []})):
        rows = open_frame(frame)
        assert (rows.fields, rows.total, list(rows.rows())) == (("a",), 0, [])


def test_only_what_is_taken_is_read() -> None:
    """A stream of batches is pulled as rows are taken, not before."""
    pulled = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield pa.RecordBatch.from_pydict({"n": list(range(number * 1000, number * 1000 + 1000))})

    rows = open_frame(pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())).rows()
    assert [next(rows)["n"] for _ in range(1500)] == list(range(1500))
    assert pulled <= 3


def test_large_frames_keep_their_order() -> None:
    """Rows come in the frame's order across all the pieces it is read in."""
    numbers = np.arange(20_000)
    for frame in (
        pd.DataFrame({"n": numbers, "o": numbers.astype(object)}),
        pl.DataFrame({"n": numbers, "o": numbers}),
    ):
        for each in (frame, *([frame.lazy()] if isinstance(frame, pl.DataFrame) else [])):
            assert [(row["n"], row["o"]) for row in open_frame(each).rows()] == [(n, n) for n in range(20_000)]


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5), st.dates()
)


@given(st.lists(st.tuples(_VALUES, _VALUES), max_size=20))
def test_any_column_of_objects(cells: list[tuple[Any, Any]]) -> None:
    """Whatever mixture a column of objects holds, each value is what it is, and floats that are no number are None."""

    def expected(value: Any) -> Any:
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return value.isoformat() if isinstance(value, dt.date) else value

    rows = list(open_frame(pd.DataFrame(cells, columns=["a", "b"], dtype=object)).rows())
    assert [tuple(row.values()) for row in rows] == [(expected(a), expected(b)) for a, b in cells]
    assert [[type(value) for value in row.values()] for row in rows] == [
        [type(expected(a)), type(expected(b))] for a, b in cells
    ]
