"""Result files: their columns, names and types, whole or not at all."""

import asyncio
import csv
import io
import os
import random
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.errors import OutputError
from headrace.core.item import Failure, Outcome
from headrace.data import sink
from headrace.data.columns import columns_of, join, kind_of
from headrace.data.formula import guarded
from headrace.data.sink import check_output, jsonl_line, write_outcomes
from headrace.data.source import open_source

ENDINGS = ("jsonl", "json", "csv", "tsv", "xlsx", "parquet")
DELIMITED = ("csv", "tsv")
"""Here null and empty text are one."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"enum": ["good", "bad"]},
        "score": {"type": "number"},
        "count": {"type": "integer"},
        "sure": {"type": "boolean"},
        "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "who": {"$ref": "#/$defs/Who"},
    },
    "$defs": {"Who": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
ANSWER: dict[str, Any] = {
    "label": "good",
    "score": 1,
    "count": 3,
    "sure": True,
    "why": None,
    "tags": ["a", "b"],
    "who": {"name": "x"},
}


def outcome(item: Any, value: Any = None, *, position: int = 0, **rest: Any) -> Outcome:
    return Outcome(key=str(position), position=position, item=item, value=value, **rest)


def failed(item: Any) -> Outcome:
    return outcome(item, error=Failure("timeout", "no answer in 30 s", hint="Wait."), attempts=4)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows as a reader of that format sees them."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    if path.suffix == ".xlsx":
        book = openpyxl.load_workbook(path, read_only=True)
        (names, *values) = book.worksheets[0].iter_rows(values_only=True)
        book.close()
        return [dict(zip(names, row, strict=True)) for row in values]
    if path.suffix == ".json":
        return list(msgspec.json.decode(path.read_bytes()))
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def content_of(path: Path) -> bytes:
    """The file; of XLSX, which has the time in it, the sheet."""
    if path.suffix != ".xlsx":
        return path.read_bytes()
    with ZipFile(path) as archive:
        return archive.read("xl/worksheets/sheet1.xml")


def written(tmp_path: Path, ending: str, outcomes: list[Outcome], **options: Any) -> list[dict[str, Any]]:
    path = tmp_path / f"out.{ending}"
    assert write_outcomes(path, lambda: iter(outcomes), **options) == len(outcomes)
    assert os.listdir(tmp_path) == [path.name]
    return rows_of(path)


def types_of(tmp_path: Path, outcomes: list[Outcome], **options: Any) -> dict[str, str]:
    written(tmp_path, "parquet", outcomes, **options)
    return {field.name: str(field.type) for field in pq.read_schema(tmp_path / "out.parquet")}


# ---- columns


def test_columns_and_types(tmp_path: Path) -> None:
    """Input columns, typed answer fields, then error, attempts and seconds; a failed row has nulls."""
    outcomes = [outcome({"id": "007", "n": "1"}, ANSWER, attempts=1, seconds=0.5), failed({"id": "008", "n": ""})]
    rows = written(tmp_path, "parquet", outcomes, fields=("id", "n"), schema=SCHEMA)
    assert rows == [
        {"id": "007", "n": "1"} | ANSWER | {"who": '{"name":"x"}', "error": None, "attempts": 1, "seconds": 0.5},
        {"id": "008", "n": ""}
        | dict.fromkeys(ANSWER)
        | {"error": "timeout: no answer in 30 s", "attempts": 4, "seconds": 0.0},
    ]
    assert types_of(tmp_path, outcomes, fields=("id", "n"), schema=SCHEMA) == {
        "id": "string",
        "n": "string",
        "label": "string",
        "score": "double",
        "count": "int64",
        "sure": "bool",
        "why": "string",
        "tags": "list<element: string>",
        "who": "string",
        "error": "string",
        "attempts": "int64",
        "seconds": "double",
    }


def test_jsonl_and_csv_rows(tmp_path: Path) -> None:
    """JSON keeps values as they are; in CSV null is empty, booleans are true and false, nested values JSON text."""
    outcomes = [outcome({"id": "007"}, ANSWER, attempts=1, seconds=0.5), failed({"id": "008"})]
    (first, second) = written(tmp_path, "jsonl", outcomes, schema=SCHEMA)
    assert first == {"id": "007"} | ANSWER | {"error": None, "attempts": 1, "seconds": 0.5}
    assert list(first) == list(second) == ["id", *ANSWER, "error", "attempts", "seconds"]
    (tmp_path / "out.jsonl").unlink()
    written(tmp_path, "csv", outcomes, schema=SCHEMA)
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "id,label,score,count,sure,why,tags,who,error,attempts,seconds",
        '007,good,1,3,true,,"[""a"",""b""]","{""name"":""x""}",,1,0.5',
        "008,,,,,,,,timeout: no answer in 30 s,4,0.0",
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_schema_there_is_one_answer(tmp_path: Path, ending: str) -> None:
    """A text item is the column `item`, an answer without schema the column `answer`."""
    rows = written(tmp_path, ending, [outcome("one", "yes"), outcome("two", "no")])
    assert list(rows[0]) == ["item", "answer", "error", "attempts", "seconds"]
    assert [(row["item"], row["answer"]) for row in rows] == [("one", "yes"), ("two", "no")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_clash(tmp_path: Path, ending: str) -> None:
    """An input column keeps its name; the answer's and headrace's get prefixes, again and again if need be."""
    schema = {"type": "object", "properties": {"text": {}, "attempts": {}, "why": {}, "headrace_error": {}}}
    item = {"text": "in", "answer_text": "in2", "error": "in3", "seconds": "in4"}
    answer = {"text": "out", "attempts": "out2", "why": "out3", "headrace_error": "out4"}
    (row,) = written(tmp_path, ending, [outcome(item, answer, attempts=2)], schema=schema)
    assert {name: str(value or "") for name, value in row.items()} == item | {
        "answer_answer_text": "out",
        "attempts": "out2",
        "why": "out3",
        "headrace_error": "out4",
        "headrace_headrace_error": "",
        "headrace_attempts": "2",
        "headrace_seconds": "0.0" if ending in DELIMITED else "",
    }


@pytest.mark.parametrize("ending", ENDINGS)
def test_answer_column_may_clash(tmp_path: Path, ending: str) -> None:
    """An input column `answer`, or `item` beside items that are no mappings, keeps its name too."""
    rows = written(tmp_path, ending, [outcome({"answer": "a", "item": "b"}, "c"), outcome("d", "e")])
    assert [list(row.values())[:4] for row in rows] == [
        ["a", "b", None if ending not in DELIMITED else "", "c"],
        [*([None if ending not in DELIMITED else ""] * 2), "d", "e"],
    ]
    assert list(rows[0])[:4] == ["answer", "item", "headrace_item", "answer_answer"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_item_that_failed_on_the_way_renames_no_column(tmp_path: Path, ending: str) -> None:
    """A stage had made a field of the answer before another failed: for other items the field is the answer's alone."""
    schema = {"type": "object", "properties": {"kind": {}, "why": {}}}
    rows = written(
        tmp_path, ending, [
            msgspec.structs.replace(failed({"id": "1", "kind": "memo"}), stage="look"),
            outcome({"id": "2"}, {"kind": "bill", "why": "sum"}, stage="look"),
        ],
        schema=schema, fields=("id",),
    )  # fmt: skip
    assert list(rows[0])[:3] == list(rows[1])[:3] == ["id", "kind", "why"]
    assert [row["kind"] or None for row in rows] == [None, "bill"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_item_that_failed_keeps_a_column_named_like_the_answers(tmp_path: Path, ending: str) -> None:
    """Of one stage, whose items are as the source gave them: the column is the source's, however late it comes."""
    schema = {"type": "object", "properties": {"kind": {}}}
    rows = written(
        tmp_path, ending, [outcome({"id": "1"}, {"kind": "bill"}), failed({"id": "2", "kind": "mine"})], schema=schema
    )
    assert [row["kind"] or None for row in rows] == [None, "mine"]
    assert [row["answer_kind"] or None for row in rows] == ["bill", None]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("hint", [None, ("a",)])
def test_columns_that_come_late(tmp_path: Path, ending: str, hint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows have all columns, in first-seen order, though the last row is the first to have one."""
    for name in ("_GROUP_ROWS", "_BATCH_ROWS"):
        monkeypatch.setattr(sink, name, 2)
    monkeypatch.setattr(sink, "_HEAD_BATCHES", 1)
    outcomes = [outcome({"a": 1}, {"x": 1}) for _ in range(7)]
    outcomes += [outcome({"b": 2.5, "a": 1}, {"x": 1, "y": [1]}), outcome("loose", None)]
    schema = {"properties": {"x": {"type": "integer"}}}
    rows = written(tmp_path, ending, outcomes, fields=hint, schema=schema)
    assert list(rows[0]) == ["a", "b", "item", "x", "y", "error", "attempts", "seconds"]
    assert str(rows[7]["b"]) == "2.5"
    assert str(rows[7]["y"]) == "[1]"
    assert rows[8]["item"] == "loose"


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_to_write(tmp_path: Path, ending: str) -> None:
    """A run without outcomes gives a file with its columns and no rows."""
    assert written(tmp_path, ending, [], fields=("a",), schema=SCHEMA) == []
    if ending == "csv":
        header = (tmp_path / "out.csv").read_text()
        assert header == f"a,{','.join(ANSWER)},error,attempts,seconds\n"
    if ending == "parquet":
        assert pq.read_schema(tmp_path / "out.parquet").names == ["a", *ANSWER, "error", "attempts", "seconds"]


def test_a_line_for_standard_output_is_the_files_line(tmp_path: Path) -> None:
    """Rows streamed one by one are the rows of the .jsonl file; a column nobody foresaw is in its item's row."""
    outcomes = [outcome({"id": "1"}, ANSWER, attempts=1), failed({"id": "2"})]
    written(tmp_path, "jsonl", outcomes, fields=("id",), schema=SCHEMA)
    columns = columns_of(("id",), SCHEMA)
    assert b"".join(jsonl_line(each, columns) for each in outcomes) == (tmp_path / "out.jsonl").read_bytes()
    odd = msgspec.json.decode(jsonl_line(outcome({"id": "3", "label": "mine"}, ANSWER), columns))
    assert list(odd)[:3] == ["id", "label", "answer_label"]
    loose = msgspec.json.decode(jsonl_line(outcome("text", "yes"), columns_of()))
    assert loose == {"item": "text", "answer": "yes", "error": None, "attempts": 0, "seconds": 0.0}


class Insight(pydantic.BaseModel):
    label: str
    at: date


@pytest.mark.parametrize("ending", ENDINGS)
def test_typed_answers_are_written_like_stored_ones(tmp_path: Path, ending: str) -> None:
    """A model instance, not yet through the store, gives the same file as the JSON it is stored as."""
    made = Insight(label="x", at=date(2024, 1, 2))
    stored = made.model_dump(mode="json")
    schema = Insight.model_json_schema()
    fresh = written(tmp_path, ending, [outcome({"a": "1"}, made)], schema=schema)
    assert fresh == written(tmp_path, ending, [outcome({"a": "1"}, stored)], schema=schema)
    line = jsonl_line(outcome({"a": "1"}, [made]), columns_of(("a",)))
    assert msgspec.json.decode(line)["answer"] == [stored]


# ---- Parquet types


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], "string"),
        ([1, None, -(2**63)], "int64"),
        ([1, 2.5], "double"),
        ([2**60 + 1, 0.5], "double"),
        ([True, None], "bool"),
        ([True, 1], "string"),
        ([1, "1"], "string"),
        ([2**63], "string"),
        ([{"a": 1}, [1]], "string"),
        ([None, None], "string"),
    ],
)
def test_types_found_in_values(tmp_path: Path, values: list[Any], kind: str) -> None:
    """The narrowest type that holds all; what does not go together is JSON text, and none of it is lost."""
    outcomes = [outcome({"v": value}, "x") for value in values]
    assert types_of(tmp_path, outcomes)["v"] == kind
    got = [row["v"] for row in rows_of(tmp_path / "out.parquet")]
    if kind == "string" and not all(value is None or isinstance(value, str) for value in values):
        got = [value if value is None else msgspec.json.decode(value) for value in got]
    assert got == [float(value) if kind == "double" else value for value in values]


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string", "format": "date"}, "string"),
        ({"type": ["integer", "null"]}, "int64"),
        ({"type": ["integer", "number"]}, "double"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, "double"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "string"),
        ({"enum": [1, 2, None]}, "int64"),
        ({"const": "x"}, "string"),
        ({"allOf": [{"$ref": "#/$defs/e"}]}, "bool"),
        ({"$ref": "#/$defs/loop"}, "string"),
        ({"$ref": "#/$defs/none"}, "string"),
        ({"type": "array", "items": {"type": "number"}}, "list<element: double>"),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "list<element: int64>"),
        ({"type": "array", "items": {"type": "object"}}, "string"),
        ({"type": "array"}, "string"),
        ({"type": "object"}, "string"),
        ({}, "string"),
        (True, "string"),
    ],
)
def test_types_from_the_schema(tmp_path: Path, schema: Any, kind: str) -> None:
    """Declared fields have their type even where every value is missing."""
    whole = {
        "type": "object",
        "properties": {"v": schema},
        "$defs": {"e": {"type": "boolean"}, "loop": {"$ref": "#/$defs/loop"}},
    }
    assert types_of(tmp_path, [failed({"a": "1"})], schema=whole)["v"] == kind


@pytest.mark.parametrize(
    ("schema", "values", "kind", "expected"),
    [
        ({"type": "integer"}, [1, 2.5], "double", [1.0, 2.5]),
        ({"type": "integer"}, [1, "x"], "string", ["1", '"x"']),
        (
            {"type": "array", "items": {"type": "integer"}},
            [[1], [2.5], []],
            "list<element: double>",
            [[1.0], [2.5], []],
        ),
        ({"type": "array", "items": {"type": "integer"}}, [[1], [None]], "list<element: int64>", [[1], [None]]),
        ({"type": "array", "items": {"type": "integer"}}, [[1], "x"], "string", ["[1]", '"x"']),
        ({"type": "array", "items": {"type": "number"}}, [[1, 2**60 + 1]], "list<element: double>", [[1.0, 2.0**60]]),
    ],
)
def test_values_that_do_not_keep_to_the_schema(
    tmp_path: Path, schema: Any, values: list[Any], kind: str, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of another type widens the column, wherever in the run it comes; it does not lose the file."""
    monkeypatch.setattr(sink, "_GROUP_ROWS", 1)
    outcomes = [outcome({"a": "1"}, {"v": value}) for value in values]
    whole = {"type": "object", "properties": {"v": schema}}
    assert types_of(tmp_path, outcomes, schema=whole)["v"] == kind
    assert [row["v"] for row in rows_of(tmp_path / "out.parquet")] == expected


def test_a_column_that_is_null_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nulls first and numbers in the last row group give a column of numbers."""
    monkeypatch.setattr(sink, "_GROUP_ROWS", 10)
    outcomes = [outcome({"v": None}, "x") for _ in range(35)] + [outcome({"v": 7}, "x")]
    assert types_of(tmp_path, outcomes)["v"] == "int64"
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 4


def test_row_groups_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts make row groups of few rows."""
    monkeypatch.setattr(sink, "_GROUP_BYTES", 100_000)
    outcomes = [outcome({"text": "x" * 30_000}, "y" * 30_000) for _ in range(10)]
    written(tmp_path, "parquet", outcomes)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 5


kinds = st.sampled_from(["null", "bool", "int", "float", "text", "json", "list int", "list float", "list text"])


@given(one=kinds, other=kinds, third=kinds)
def test_kinds_join_in_any_order(one: str, other: str, third: str) -> None:
    """The type of a column does not depend on the order of its values."""
    assert join(one, other) == join(other, one)
    assert join(join(one, other), third) == join(one, join(other, third))
    assert join(one, one) == one


def test_kind_of_nothing() -> None:
    """No values have no kind."""
    assert kind_of([]) == kind_of([None]) == "null"


# ---- round trips


def through(path: Path) -> list[Outcome]:
    """Outcomes of a source's items as they are after the store kept them as JSON."""
    source = open_source(path)

    async def gather() -> list[Outcome]:
        return [outcome(item.data, "x", position=item.position) async for batch in source for item in batch]

    encoded = [msgspec.json.encode(each) for each in asyncio.run(gather())]
    return [msgspec.json.decode(each, type=Outcome) for each in encoded]


MOMENT = datetime(2024, 3, 31, 2, 30, 15, 123456)
TYPED = {
    "i8": pa.array([1, None], pa.int8()),
    "u64": pa.array([2**64 - 1, None], pa.uint64()),
    "f16": pa.array([1.5, None], pa.float16()),
    "f32": pa.array([0.1, None], pa.float32()),
    "f64": pa.array([1e300, None], pa.float64()),
    "b": pa.array([True, None]),
    "s": pa.array(["007", None]),
    "ls": pa.array(["x", None], pa.large_string()),
    "ts_s": pa.array([MOMENT.replace(microsecond=0), None], pa.timestamp("s")),
    "ts_ns": pa.array([1704067200123456789, None], pa.timestamp("ns")),
    "ts_tz": pa.array([MOMENT.replace(tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
    "ts_old": pa.array([datetime(1, 1, 1), None], pa.timestamp("us")),
    "d32": pa.array([date(2024, 2, 29), None]),
    "d64": pa.array([date(1969, 7, 20), None], pa.date64()),
    "t32": pa.array([time(23, 59, 59), None], pa.time32("ms")),
    "t64": pa.array([time(1, 2, 3, 4), None], pa.time64("ns")),
    "dur": pa.array([timedelta(-3, 5, 7), None], pa.duration("us")),
    "dec": pa.array([Decimal("-1.20"), None], pa.decimal128(10, 2)),
    "big": pa.array([Decimal("0." + "0" * 28 + "12"), None], pa.decimal256(50, 30)),
    "bin": pa.array([b"\x00\xff", None]),
    "fix": pa.array([b"ab", None], pa.binary(2)),
    "cat": pa.array(["x", None], pa.dictionary(pa.int8(), pa.string())),
    "null": pa.array([None, None], pa.null()),
    "list": pa.array([[1, None], None], pa.list_(pa.int16())),
    "dates": pa.array([[date(2024, 1, 2), None], []], pa.list_(pa.date32())),
    "times": pa.array([[time(1, 2, 3)], None], pa.list_(pa.time64("us"))),
    "bins": pa.array([[b"\xff", None], None], pa.large_list(pa.binary())),
    "pair": pa.array([[1.5, None], None], pa.list_(pa.float32(), 2)),
    "structs": pa.array([[{"a": b"x"}, None], []], pa.list_(pa.struct([("a", pa.binary())]))),
    "struct": pa.array(
        [{"a": date(2024, 1, 2), "b": [Decimal("1.5")]}, None],
        pa.struct([("a", pa.date32()), ("b", pa.list_(pa.decimal128(5, 1)))]),
    ),
}


def test_parquet_types_survive_the_store(tmp_path: Path) -> None:
    """Every column of a Parquet input is in the Parquet result with its type and values."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "in.parquet"
    table = pa.table(TYPED)
    pq.write_table(table, path)
    original = pq.read_table(path)
    outcomes = through(path)
    result = tmp_path / "out.parquet"
    write_outcomes(result, lambda: iter(outcomes), arrow_schema=open_source(path).arrow_schema)
    made = pq.read_table(result)
    for name in original.column_names:
        assert made.schema.field(name).type == original.schema.field(name).type, name
        assert made[name].combine_chunks().equals(original[name].combine_chunks()), name


def test_parquet_types_without_a_way_back_are_json_text(tmp_path: Path) -> None:
    """A map has no plain form that leads back; it is written as JSON text, not lost."""
    path = tmp_path / "in.parquet"
    kind = pa.map_(pa.string(), pa.int8())
    pq.write_table(pa.table({"m": pa.array([[("k", 1)]], kind), "n": pa.array([[[("k", 1)]]], pa.list_(kind))}), path)
    outcomes = through(path)
    result = tmp_path / "out.parquet"
    write_outcomes(result, lambda: iter(outcomes), arrow_schema=open_source(path).arrow_schema)
    assert rows_of(result)[0] | {"answer": 0} == {
        "m": '[["k",1]]',
        "n": '[[["k",1]]]',
        "answer": 0,
        "error": None,
        "attempts": 0,
        "seconds": 0.0,
    }


def test_values_that_left_their_arrow_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes that do not fit the input's types any more give up those types, not the rows."""
    monkeypatch.setattr(sink, "_GROUP_ROWS", 2)
    schema = pa.schema([("d", pa.date32()), ("n", pa.int8()), ("b", pa.binary())]).serialize().to_pybytes()
    items = [{"d": "2024-01-02", "n": 1, "b": "AA=="}] * 5 + [{"d": "soon", "n": 1000, "b": "\u00fc"}]
    outcomes = [outcome(item, "x") for item in items]
    types = types_of(tmp_path, outcomes, arrow_schema=schema)
    assert (types["d"], types["n"], types["b"]) == ("string", "int64", "string")
    assert rows_of(tmp_path / "out.parquet")[5]["d"] == "soon"


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
value = st.one_of(
    st.none(), text, st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False)
)
nested = st.recursive(
    value, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2), max_leaves=4
)
item = st.one_of(st.dictionaries(st.sampled_from(["a", "b", "error", "item"]), nested, max_size=3), nested)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(item, nested), max_size=5), groups=st.integers(1, 3))
def test_any_outcomes_can_be_written(
    pairs: list[tuple[Any, Any]], groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever items and answers are, every format takes them, row for row, and JSON Lines keeps every value."""
    for name in ("_GROUP_ROWS", "_BATCH_ROWS", "_HEAD_BATCHES"):
        monkeypatch.setattr(sink, name, groups)
    outcomes = [outcome(each, answer, position=number) for number, (each, answer) in enumerate(pairs)]
    for ending in ENDINGS:
        path = tmp_path / f"any.{ending}"
        assert write_outcomes(path, lambda: iter(outcomes)) == len(outcomes)
        assert len(rows_of(path)) == len(outcomes)
    for row, each in zip(rows_of(tmp_path / "any.jsonl"), outcomes, strict=True):
        if isinstance(each.item, dict):
            assert {name: row[name] for name in each.item} == each.item
        assert each.value in [row[name] for name in row if name.endswith("answer")]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(text, min_size=2, max_size=2), min_size=1, max_size=5))
def test_csv_text_round_trips(rows: list[list[str]], tmp_path: Path) -> None:
    """Any text written as CSV is read back by our own source, and by the standard library with its apostrophes; a NUL,
    which no text has, is replaced."""
    outcomes = [outcome({"a": a, "b": b}, "x") for a, b in rows]
    path = tmp_path / "any.csv"
    write_outcomes(path, lambda: iter(outcomes))
    assert [[row["a"], row["b"]] for row in rows_of(path)] == [
        [guarded(each).replace("\0", "\ufffd") for each in row] for row in rows
    ]
    assert [[each.item["a"], each.item["b"]] for each in through(path)] == [
        [each.replace("\0", "\ufffd") for each in row] for row in rows
    ]


@pytest.mark.parametrize("ending", DELIMITED)
def test_a_nul_is_told(tmp_path: Path, ending: str) -> None:
    """Programs stop at NULs in CSV, ours too: they are replaced, and it is said once."""
    told: list[str] = []
    rows = written(tmp_path, ending, [outcome({"a": "x\0y"}, "z\0"), outcome({"a": "b"}, "c")], notice=told.append)
    assert (rows[0]["a"], rows[0]["answer"]) == ("x\ufffdy", "z\ufffd")
    assert len(told) == 1
    assert told[0].startswith("2 NUL characters were replaced")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_outcomes_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    """A result is a function of the outcomes alone: known fields or not, it is the same file, in XLSX the same sheet."""
    rng = random.Random(7)
    outcomes = [
        outcome({"a": str(rng.random()), "b": "x"}, ANSWER, attempts=1, seconds=rng.random()) for _ in range(500)
    ]
    one, other = tmp_path / f"1.{ending}", tmp_path / f"2.{ending}"
    write_outcomes(one, lambda: iter(outcomes), fields=("a", "b"), schema=SCHEMA)
    write_outcomes(other, lambda: iter(outcomes), schema=SCHEMA)
    assert content_of(one) == content_of(other)


# ---- where it is written


def refused(path: Any) -> str:
    with pytest.raises(OutputError) as caught:
        check_output(path)
    assert caught.value.hint
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_what_cannot_be_written_is_told_early(tmp_path: Path) -> None:
    """An unknown ending, a folder, a missing folder and a device are refused before anything is paid for."""
    for name in ("a.txt", "a", "a.xls", "a.xlsx.gz", "a.parquet.zst", "a.gz", "a.csv.bz2"):
        assert ".jsonl" in refused(tmp_path / name)
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "d.csv").mkdir()
    assert "is a folder" in refused(tmp_path / "d.csv")
    assert "does not exist" in refused(tmp_path / "no" / "a.csv")
    (tmp_path / "file").write_text("")
    assert "does not exist" in refused(tmp_path / "file" / "a.csv")
    os.mkfifo(tmp_path / "p.csv")
    assert "no regular file" in refused(tmp_path / "p.csv")
    check_output(tmp_path / "A.CSV")
    check_output(str(tmp_path / "a.ndjson"))
    for ending in ("jsonl.gz", "CSV.GZ", "tsv.zst", "json.zst", "json", "tsv", "xlsx"):
        check_output(tmp_path / f"a.{ending}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """A read-only folder or file is refused early."""
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "a.csv").chmod(0o400)
    assert "cannot be written" in refused(tmp_path / "a.csv")
    (tmp_path / "f").mkdir(mode=0o500)
    assert "cannot be written" in refused(tmp_path / "f" / "a.csv")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_error_keeps_the_old_file(tmp_path: Path, ending: str, error: type[BaseException]) -> None:
    """Whatever interrupts the write, the old file is as it was and nothing else is left."""
    path = tmp_path / f"out.{ending}"
    path.write_bytes(b"old")

    def failing() -> Iterator[Outcome]:
        yield from (outcome({"a": "x" * 300}, "y") for _ in range(12_000))
        raise error

    with pytest.raises(error):
        write_outcomes(path, failing)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_told(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses becomes an OutputError with its reason, and leaves nothing behind."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / f"out.{ending}"
    with pytest.raises(OutputError, match="No space left on device"):
        write_outcomes(path, lambda: iter([outcome("a", "b")]))
    assert os.listdir(tmp_path) == []


def test_outcomes_that_change_between_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that differ at each reading end in an error, not in an endless loop."""
    monkeypatch.setattr(sink, "_BATCH_ROWS", 1)
    monkeypatch.setattr(sink, "_HEAD_BATCHES", 1)
    calls = 0

    def changing() -> Iterator[Outcome]:
        nonlocal calls
        calls += 1
        yield outcome({"a": 1}, "x")
        yield outcome({f"b{calls}": 1}, "x")

    with pytest.raises(OutputError, match="changed while"):
        write_outcomes(tmp_path / "out.csv", changing)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")
def test_permissions_and_links(tmp_path: Path) -> None:
    """A new file has the rights any new file has, an old one keeps its own, and a link stays a link."""
    (tmp_path / "any").touch()
    path = tmp_path / "out.jsonl"
    outcomes = [outcome("a", "b")]
    write_outcomes(path, lambda: iter(outcomes))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)
    path.chmod(0o640)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    write_outcomes(link, lambda: iter([*outcomes, *outcomes]))
    assert link.is_symlink()
    assert len(rows_of(path)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_reader_sees_the_old_file_or_the_new(tmp_path: Path, ending: str) -> None:
    """Reading all the time while the file is written again and again never meets half of it."""
    path = tmp_path / f"out.{ending}"
    rows = 200 if ending == "xlsx" else 2000
    versions = [[outcome({"a": str(version)}, "x" * 50) for _ in range(rows)] for version in range(2)]
    expected = set()
    for version in versions:
        write_outcomes(path, lambda version=version: iter(version))  # type: ignore[misc]
        expected.add(content_of(path))
    done = threading.Event()
    seen: set[bytes] = set()

    def poll() -> None:
        while not done.is_set():
            seen.add(content_of(path))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for number in range(12):
            write_outcomes(path, lambda number=number: iter(versions[number % 2]))  # type: ignore[misc]
    finally:
        done.set()
        reader.join()
    assert seen
    assert seen <= expected


def test_csv_is_utf8_without_mark(tmp_path: Path) -> None:
    """Text is UTF-8, a lone carriage return is quoted, and the line end is a line feed."""
    written(tmp_path, "csv", [outcome({"a": "\u00fc\rx"}, "y")])
    raw = (tmp_path / "out.csv").read_bytes()
    assert raw.startswith(b"a,answer,")
    assert "\u00fc\rx".encode() in raw
    assert list(csv.reader(io.StringIO(raw.decode(), newline="")))[1][0] == "\u00fc\rx"
