"""What open_source reads, what keys items get, and what bad input gets."""

import asyncio
import csv
import dataclasses
import io
import os
from collections import OrderedDict, namedtuple
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.errors import InputError, UsageError
from headrace.core.item import Item
from headrace.data import lines
from headrace.data.plain import plain, weight
from headrace.data.source import open_source
from headrace.data.table import Table
from unit.reading import data, read, refused, refused_later


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


# ---- CSV


def test_csv_columns_stay_text(write: Any) -> None:
    """ "007" is "007" and an empty field is an empty text."""
    path = write("a.csv", "id,n,x\n007,1.50,\n8,true,null\n")
    source = open_source(path)
    assert source.fields == ("id", "n", "x")
    assert source.total == 2
    assert source.name == str(path.resolve())
    assert [item.data for item in read(source)] == [
        {"id": "007", "n": "1.50", "x": ""},
        {"id": "8", "n": "true", "x": "null"},
    ]


def test_csv_iterates_twice(write: Any) -> None:
    """A file is read anew each time."""
    source = open_source(write("a.csv", "a\n1\n2\n"))
    assert read(source) == read(source)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_line_ends_and_mark(write: Any, end: str) -> None:
    """A byte order mark and every line end are understood, with and without one at the end."""
    text = end.join(["a,b", '1,"x, y"', "", "2,ü"])
    for tail in ("", end):
        path = write("a.csv", b"\xef\xbb\xbf" + (text + tail).encode())
        assert data(path) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": "ü"}]


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
name = st.text(
    st.characters(exclude_categories=["Cs", "Z"], exclude_characters="\0{}\t\n\r\v\f"), min_size=1, max_size=8
)
table = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(name.filter(lambda text: text == text.strip()), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6),
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=table, end=st.sampled_from(["\n", "\r\n"]), chunk=st.integers(1, 9))
def test_csv_any_text_round_trips(
    table: tuple[list[str], list[list[str]]], end: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes, line breaks and any script come back as they were, wherever the reads are cut."""
    fields, rows = table
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([fields, *rows])
    path = tmp_path / "any.csv"
    path.write_bytes(text.getvalue().encode())
    monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
    # a mark at the very start of the file is the file's, not the field's
    assert data(Table(path, delimiter=",")) == [dict(zip(fields, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b\n1,2,3\n", "line 2: expected 2 fields as in the header, found 3"),
        ("a,b\n1\n", "line 2: expected 2 fields as in the header, found 1"),
        ('a,b\n"1,2\n3,4\n', "ends inside a quoted field"),
        ('a,b\n"1"x,2\n', "line 2"),
        (b"a,b\n\xc3\xa4,\xe4\n", "line 2, byte 4 (0xe4) is no UTF-8"),
        (b"a,b\n1,2\n" + b"x,\xc3\xa4" * 1 + b"\n" + b"5,\xc3\n", "line 4, byte 3 (0xc3) is no UTF-8"),
        ("a,b\n1,2\n3,\0\n", "line 3: there is a NUL byte"),
    ],
)
def test_bad_csv_is_told_at_opening(write: Any, content: str | bytes, told: str) -> None:
    """A bad header or first row is refused before any call, with the file and the line."""
    message = refused(write("bad.csv", content))
    assert told in message
    assert "bad.csv" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('a,b\n"1\n2\r\n3",x\n"p\nq",2,3\n', "line 5: expected 2 fields as in the header, found 3"),
        ("a,b\n" + "1,2\n" * 3000 + "1\n", "line 3002: expected 2 fields"),
        ('a,b\n1,2\n3,"4\n', "ends inside a quoted field"),
    ],
)
def test_bad_csv_is_told_when_reached(write: Any, content: str | bytes, told: str) -> None:
    """What is bad further down is told when it is reached, with its line, also after fields over several lines."""
    message = refused_later(write("bad.csv", content))
    assert told in message
    assert "bad.csv" in message


def test_rows_before_a_bad_one_are_delivered(write: Any) -> None:
    """An error does not swallow the items that were read before it."""
    source = open_source(write("bad.csv", "a,b\n" + "1,2\n" * 700 + "1\n"))
    seen: list[Item] = []

    async def gather() -> None:
        async for batch in source:
            seen.extend(batch)

    with pytest.raises(InputError, match="line 702"):
        asyncio.run(gather())
    assert len(seen) == 700


def test_csv_field_larger_than_the_standard_librarys_limit(write: Any) -> None:
    """A field of a million characters is a field."""
    long = "x" * 1_000_000
    assert data(write("a.csv", f"a,b\n1,{long}\n")) == [{"a": "1", "b": long}]


def test_a_line_without_end_is_refused(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is one endless line does not fill the memory."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 2 * 1024 * 1024)
    for name in ("a.csv", "a.jsonl"):
        assert "a line of more than 2 MiB" in refused(write(name, b" " * 3 * 1024 * 1024))


def test_csv_changed_between_opening_and_reading(write: Any) -> None:
    """A header that changed since the fields were told is an error, not a mix-up."""
    path = write("a.csv", "a,b\n1,2\n")
    source = open_source(path)
    write("a.csv", "b,a\n1,2\n")
    with pytest.raises(InputError, match="was changed"):
        read(source)


# ---- JSON Lines


def test_json_lines_hold_any_value(write: Any) -> None:
    """Each line is any JSON value; blank lines are none; `fields` are the first object's keys."""
    path = write("a.jsonl", '\ufeff{"b":1,"a":[1,{"x":null}]}\r\n\n  \n"text"\n12345678901234567890123\nnull')
    source = open_source(path)
    assert source.fields == ("b", "a")
    assert source.total == 6  # lines: a forecast
    assert data(path) == [{"b": 1, "a": [1, {"x": None}]}, "text", 12345678901234567890123, None]
    assert open_source(write("b.ndjson", "1\n")).fields is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("\n{'a': 1}\n", "line 2: no valid JSON"),
        ('{"a": NaN}\n', "line 1: no valid JSON"),
        ('{"a": 1} {"a": 2}\n', "line 1: no valid JSON"),
        (b'{"\xc3\xa4": "\xff"}\n', "line 1, byte 9 (0xff)"),
        ("[" * 100_000, "line 1: no valid JSON"),
        ('"\\ud800"', "line 1: no valid JSON"),
    ],
)
def test_bad_json_is_told_at_opening(write: Any, content: str | bytes, told: str) -> None:
    """A first line that is no JSON is refused before any call, with the file and the line."""
    message = refused(write("bad.jsonl", content))
    assert told in message
    assert "bad.jsonl" in message


def test_bad_json_is_told_when_reached(write: Any) -> None:
    """A bad line further down is told with its number, blank lines counted."""
    assert "line 4: no valid JSON" in refused_later(write("bad.jsonl", '{"a":1}\n\n{"a":2}\n{"a":'))


# ---- Parquet


def test_parquet_rows_are_plain_json(tmp_path: Path) -> None:
    """Whatever the types, data goes through JSON unchanged; total and fields come from the file's footer."""
    moment = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    columns = {
        "i": pa.array([1, None], pa.int64()),
        "f": pa.array([float("nan"), 0.5]),
        "t": pa.array(["007", None]),
        "at": pa.array([moment, None], pa.timestamp("ns", "UTC")),
        "d": pa.array([date(2024, 1, 2), None]),
        "dec": pa.array([Decimal("1.20"), None], pa.decimal128(10, 2)),
        "bin": pa.array([b"\x00\xff", None]),
        "cat": pa.array(["x", "y"]).dictionary_encode(),
        "list": pa.array([[1.5, float("inf")], None]),
        "deep": pa.array([{"a": [{"b": date(2024, 1, 2)}]}, None]),
        "map": pa.array([[("k", b"v")], None], pa.map_(pa.string(), pa.binary())),
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    source = open_source(path)
    assert (source.fields, source.total) == (tuple(columns), 2)
    rows = [item.data for item in read(source)]
    assert rows[0] | {"at": None} == {
        "i": 1,
        "f": None,
        "t": "007",
        "at": None,
        "d": "2024-01-02",
        "dec": "1.20",
        "bin": "AP8=",
        "cat": "x",
        "list": [1.5, None],
        "deep": {"a": [{"b": "2024-01-02"}]},
        "map": [["k", "dg=="]],
    }
    assert rows[0]["at"].startswith("2024-01-02 03:04:05.678901")
    assert msgspec.json.decode(msgspec.json.encode(rows)) == rows


def test_broken_parquet_is_told(tmp_path: Path, write: Any) -> None:
    """No Parquet, a cut file, an empty file and no rows are refused at opening."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path)
    whole = path.read_bytes()
    assert "cannot be read as Parquet" in refused(write("cut.parquet", whole[:-100]))
    assert "cannot be read as Parquet" in refused(write("no.parquet", "a,b\n1,2\n"))
    assert "cannot be read as Parquet" in refused(write("empty.parquet", b""))
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    assert "has no rows" in refused(path)


def test_parquet_broken_further_down_is_told_when_reached(tmp_path: Path) -> None:
    """A damaged page is an error that names the file, after the rows before it."""
    path = tmp_path / "a.parquet"
    noise = [os.urandom(50).hex() for _ in range(20_000)]
    pq.write_table(pa.table({"a": noise}), path, row_group_size=2000, use_dictionary=False)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 200_000] = b"\xff" * 200_000
    path.write_bytes(whole)
    assert "a.parquet cannot be read as Parquet" in refused_later(path)


# ---- folders


def test_folder_of_texts(write: Any, tmp_path: Path) -> None:
    """Text files, found recursively and sorted by path; hidden and other files are left out."""
    write("f/b.txt", "two")
    write("f/a/z.MD", b"\xef\xbb\xbfone\r\n")
    write("f/c.txt", "")
    write("f/.git/x.txt", "no")
    write("f/.hidden.txt", "no")
    write("f/pic.png", b"\x89PNG")
    (tmp_path / "f" / "round").symlink_to(tmp_path / "f")
    source = open_source(tmp_path / "f")
    assert (source.fields, source.total, source.name) == (("path", "text"), 3, str((tmp_path / "f").resolve()))
    assert [item.data for item in read(source)] == [
        {"path": "a/z.MD", "text": "one\r\n"},
        {"path": "b.txt", "text": "two"},
        {"path": "c.txt", "text": ""},
    ]
    assert [item.key for item in read(open_source(tmp_path / "f", key="path"))] == ["a/z.MD", "b.txt", "c.txt"]


def test_bad_folders_are_told(write: Any, tmp_path: Path) -> None:
    """A folder without text is refused at opening; a file that is no text when it is reached, by name."""
    (tmp_path / "e" / "deep").mkdir(parents=True)
    assert "holds no text files" in refused(tmp_path / "e")
    write("f/a.txt", "fine")
    write("f/bad.txt", b"\xc3\xa4\ntw\xff\n")
    message = refused_later(tmp_path / "f")
    assert "bad.txt, line 2, byte 3 (0xff) is no UTF-8" in message
    write("f/bad.txt", b"one\ntw\0\n")
    assert "bad.txt, line 2: there is a NUL byte" in refused_later(tmp_path / "f")


def test_odd_file_names(tmp_path: Path) -> None:
    """A name in any script, with a line break too, is read; one that is no UTF-8 is told."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "ü \n 語.txt").write_text("x")
    assert data(tmp_path / "f") == [{"path": "ü \n 語.txt", "text": "x"}]
    try:
        Path(os.fsdecode(bytes(tmp_path / "f") + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert "name is no UTF-8" in refused_later(tmp_path / "f")


# ---- paths


def test_what_is_not_there(write: Any, tmp_path: Path) -> None:
    """A missing file is told with what is close to it; a missing folder as such."""
    write("calls.csv", "a\n1\n")
    message = refused(tmp_path / "Cals.csv")
    assert "There is no file" in message
    assert f"Did you mean {tmp_path / 'calls.csv'}?" in message
    assert "its folder does not exist" in refused(tmp_path / "no" / "calls.csv")
    assert "its folder does not exist" in refused(tmp_path / "calls.csv" / "x.csv")
    assert "is empty" in refused("")
    assert "no path" in refused("a\0b.csv")
    assert "cannot be read" in refused("x" * 5000 + ".csv")


def test_other_endings(write: Any, tmp_path: Path) -> None:
    """An ending that is not read is told with those that are."""
    for name in ("a.doc", "a.gz", "a.doc.gz", "a"):
        message = refused(write(name, "x"))
        for word in (".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".parquet", ".gz", ".zst", "folder", "database"):
            assert word in message
    assert "--delimiter" in refused(write("a.txt", "x"))
    for name in ("a.xlsx.gz", "a.parquet.zst"):
        assert "Unpack it first" in refused(write(name, "x"))
    assert data(write("A.CSV", "a\n1\n")) == [{"a": "1"}]


def test_a_pipe_by_path_is_refused(tmp_path: Path) -> None:
    """A named pipe would block and could not be read twice."""
    os.mkfifo(tmp_path / "p.csv")
    assert "no regular file" in refused(tmp_path / "p.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_not_readable(write: Any) -> None:
    """A file that may not be read is told."""
    path = write("a.csv", "a\n1\n")
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_denied_is_told_for_any_user(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system denies becomes an InputError with its reason."""
    path = write("a.csv", "a\n1\n")

    def deny(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lines, "open", deny, raising=False)
    assert "cannot be read: Permission denied" in refused(path)


# ---- keys, names, first


def test_keys_are_position_and_content() -> None:
    """An item without a key column has its position and 12 digits of its content's SHA-256."""
    digits = sha256(b'{"a":"1","b":"2"}').hexdigest()[:12]
    items = read(open_source([{"b": "2", "a": "1"}, {"a": "1", "b": "2"}]))
    assert [item.key for item in items] == [f"0-{digits}", f"1-{digits}"]
    assert [item.position for item in items] == [0, 1]
    assert list(items[0].data) == ["b", "a"]


def test_equal_rows_have_equal_keys_in_every_format(write: Any) -> None:
    """A key follows from position and content, not from where the row was read."""
    rows = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    csv_path = write("a.csv", "a,b\n1,x\n2,y\n")
    json_path = write("a.jsonl", "".join(msgspec.json.encode(row).decode() + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), csv_path.with_suffix(".parquet"))
    keys = [
        [item.key for item in read(open_source(source))]
        for source in (rows, iter(rows), csv_path, json_path, csv_path.with_suffix(".parquet"))
    ]
    assert all(each == keys[0] for each in keys)


def test_key_column() -> None:
    """The column's value as text; null, empty and missing ones fall back to position and content."""
    rows: list[Any] = [{"id": value} for value in ("x", 7, 1.5, True, None, "", [1], "ü")]
    keys = [item.key for item in read(open_source([*rows, {"other": 1}, "text"], key="id"))]
    assert keys[:4] == ["x", "7", "1.5", "true"]
    assert keys[4].startswith("4-")
    assert keys[5].startswith("5-")
    assert keys[6:8] == ["[1]", "ü"]
    assert keys[8].startswith("8-")
    assert keys[9].startswith("9-")


def test_missing_key_column(write: Any, tmp_path: Path) -> None:
    """A key that is no column is refused with the columns there are: of a file, before any call."""
    for path in (write("a.csv", "idd,b\n1,2\n"), write("a.jsonl", '{"idd":1,"b":2}\n')):
        message = refused(path, key="id")
        assert "Did you mean 'idd'?" in message
        assert "idd, b" in message
    assert "idd, b" in refused_later([{"idd": 1, "b": 2}], key="id")
    assert "no columns" in refused_later(["text"], key="id")
    assert "no columns" in refused(write("b.jsonl", '"text"\n'), key="id")
    write("f/a.txt", "x")
    assert "path, text" in refused(tmp_path / "f", key="id")


def test_names(write: Any) -> None:
    """A path, a given name, or none; `first` is a part of it, for other items are another source."""
    path = write("a.csv", "a\n1\n2\n3\n")
    assert open_source(path).name == str(path.resolve())
    assert open_source(str(path), first=2).name == f"{path.resolve()}#first=2"
    assert open_source(path, name="calls").name == "calls"
    assert open_source(path, name="calls", first=2).name == "calls#first=2"
    assert open_source([1], first=2).name == ""
    assert open_source([1], name="mine").name == "mine"
    assert open_source(os.path.relpath(path)).name == str(path.resolve())


def test_first(write: Any, tmp_path: Path) -> None:
    """`first` stops after so many items and reads no further, so that a bad row below is not met."""
    path = write("a.csv", "a,b\n1,2\n3,4\n5\n")
    assert data(path, first=2) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    pulled: list[int] = []

    def numbers() -> Any:
        for number in range(10):
            pulled.append(number)
            yield number

    assert data(numbers(), first=3) == [0, 1, 2]
    assert pulled == [0, 1, 2]
    assert open_source([1, 2, 3], first=2).total == 2
    assert open_source([1], first=2).total == 1
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", first=2)
    assert source.total == 2
    assert len(read(source)) == 2
    for bad in (0, -1):
        assert "at least 1" in refused([1], first=bad)


# ---- Python's own


class Colour(Enum):
    RED = "red"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"


@dataclasses.dataclass
class Call:
    id: int
    tags: set[str]


class Struct(msgspec.Struct):
    at: datetime
    call: Call


class Model(pydantic.BaseModel):
    amount: Decimal
    inner: dict[str, date]


class Root(pydantic.RootModel[list[int]]):
    pass


Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024


class Array:
    """Stands for numpy's."""

    def tolist(self) -> list[float]:
        return [1.0, float("nan")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (7, 7),
        (None, None),
        (True, True),
        (0.5, 0.5),
        (float("nan"), None),
        ([float("-inf")], [None]),
        (2**70, 2**70),
        ((1, 2), [1, 2]),
        (Pair(1, "x"), {"left": 1, "right": "x"}),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (Call(1, {"y", "x"}), {"id": 1, "tags": ["x", "y"]}),
        (
            Struct(datetime(2024, 1, 2, tzinfo=UTC), Call(1, set())),
            {"at": "2024-01-02T00:00:00Z", "call": {"id": 1, "tags": []}},
        ),
        (
            Model(amount=Decimal("1.20"), inner={"d": date(2024, 1, 2)}),
            {"amount": "1.20", "inner": {"d": "2024-01-02"}},
        ),
        ({"m": [Root([1, 2])]}, {"m": [[1, 2]]}),
        (Colour.RED, "red"),
        (Name("real"), "real"),
        (Path("a/b"), "a/b"),
        (b"\x00\xff", "AP8="),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({1: "x", 1.5: "y", date(2024, 1, 2): "z"}, {"1": "x", "1.5": "y", "2024-01-02": "z"}),
        (Array(), [1.0, None]),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    """Records become mappings, sets sorted lists, dates and the like text; all of it goes through JSON unchanged."""
    (made,) = data([value])
    assert made == expected
    assert type(made) is type(expected)
    assert msgspec.json.decode(msgspec.json.encode(made)) == made
    assert plain(made) == made


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "type object"),
        ({"a": [object()]}, "type object"),
        (Call, "type type"),
        (lambda: 1, "type function"),
        ({("a",): 1}, "is no name"),
        ({None: 1}, "is no name"),
        ({1: "a", "1": "b"}, "the same as text"),
        ("\ud800", "surrogate"),
        ({"a": "\ud800"}, "surrogate"),
    ],
)
def test_other_objects_are_refused(value: Any, told: str) -> None:
    """What JSON cannot hold is told with its place and type, and what to pass instead."""
    message = refused_later(["fine", value])
    assert "Item 1" in message
    assert told in message
    assert told in refused_later([{"id": "1"}, {"id": "2", "v": value}], key="id").replace("Item 1: ", "")


def test_what_contains_itself_is_refused() -> None:
    """A list in itself has no JSON form."""
    endless: list[Any] = []
    endless.append(endless)
    assert "nested too deeply" in refused_later([endless])


def test_items_are_copies() -> None:
    """Changing a row after it was read does not change the item."""
    row = {"a": 1, "b": [1]}
    (item,) = read(open_source([row]))
    row["a"] = 2
    row["b"].append(2)  # type: ignore[attr-defined]
    assert item.data == {"a": 1, "b": [1]}


def test_lookalikes_are_refused() -> None:
    """What would be iterated over something its owner does not mean is told, not done."""

    class Frame:
        columns = ("a", "b")

        def __iter__(self) -> Any:
            return iter(self.columns)

        def to_dict(self) -> None: ...

    assert "data frame" in refused(Frame())
    assert "one mapping" in refused({"a": 1})
    assert "bytes" in refused(b"a.csv")
    assert "int" in refused(5)
    assert "bytes" in refused(_BytesPath())


class _BytesPath(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"a.csv"


def test_one_shot_iterators_say_so() -> None:
    """What can be read only once is not silently empty the second time; what makes new iterators can be."""
    once = open_source(iter([1, 2]))
    assert len(read(once)) == 2
    with pytest.raises(UsageError, match="only once"):
        read(once)
    again = open_source({1: 2, 3: 4}.keys())
    assert len(read(again)) == len(read(again)) == 2

    async def letters() -> AsyncIterator[str]:
        yield "a"

    stream = open_source(letters())
    assert len(read(stream)) == 1
    with pytest.raises(UsageError, match="only once"):
        read(stream)


def test_lists_come_in_batches_and_may_be_empty() -> None:
    """A list is handed over 256 at a time; an empty one is a run without items, not an error."""

    async def sizes(items: list[int]) -> list[int]:
        return [len(batch) async for batch in open_source(items)]

    assert asyncio.run(sizes(list(range(600)))) == [256, 256, 88]
    assert asyncio.run(sizes([])) == []
    assert open_source([]).total == 0
    assert asyncio.run(sizes(list(range(256)))) == [256]


def test_weight_grows_with_what_is_held() -> None:
    """The estimate that bounds memory sees text at every depth."""
    assert weight("x" * 1000) > 1000
    assert weight({"a": ["x" * 1000, {"b": "x" * 1000}], "c": 1, "d": None}) > 2000
    assert weight(7) < 100
