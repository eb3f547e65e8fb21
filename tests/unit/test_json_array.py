"""Arrays of JSON as tables."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.errors import InputError
from headrace.data import files, json_array
from headrace.data.json_array import array_rows, starts_array
from headrace.data.source import open_source
from unit.reading import data, read, refused, refused_later


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=120)
@given(
    rows=st.lists(values, min_size=1, max_size=6),
    size=st.integers(1, 20),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    escaped=st.booleans(),
)
def test_any_values_come_back(rows: list[Any], size: int, indent: Any, escaped: bool) -> None:
    """Large integers, floats, any text, escaped or not, wherever the reads are cut."""
    content = json.dumps(rows, indent=indent, ensure_ascii=escaped).encode()
    assert list(array_rows(pieces(content, size), "t")) == rows


@settings(max_examples=60)
@given(
    rows=st.lists(st.dictionaries(text, values, max_size=2), min_size=1, max_size=3),
    beside=st.dictionaries(
        text.filter(lambda key: key != "rows"), values.filter(lambda value: type(value) is not list)
    ),
    size=st.integers(1, 20),
)
def test_the_one_array_of_objects_in_an_object(rows: list[Any], beside: dict[str, Any], size: int) -> None:
    """What services answer with: rows under one name, and figures and lists of words beside them."""
    for whole in (
        {**beside, "rows": rows},
        {"rows": rows, **beside},
        {"tags": ["a", "b"], **beside, "rows": rows, "no": []},
    ):
        content = json.dumps(whole).encode()
        assert list(array_rows(pieces(content, size), "t")) == rows


def test_a_json_file(tmp_path: Path) -> None:
    """It has the fields of its first object and a total, and iterates twice."""
    path = tmp_path / "t.json"
    path.write_text('\ufeff[ {"b":1,"a":"x"},\n{"a":12345678901234567890123, "n": 1.5e3}, "text", null ]\n')
    source = open_source(path)
    assert (source.fields, source.total, source.name) == (("b", "a"), 4, str(path))
    assert [item.data for item in read(source)] == [
        {"b": 1, "a": "x"},
        {"a": 12345678901234567890123, "n": 1500.0},
        "text",
        None,
    ]
    assert read(source) == read(source)
    path.write_text('["a", "b"]')
    assert (open_source(path).fields, data(path)) == (None, ["a", "b"])


def test_json_lines_under_another_name(tmp_path: Path) -> None:
    """Many programs end their JSON Lines in .json; one object alone is no line of a table."""
    path = tmp_path / "t.json"
    path.write_text('\n{"a":1,"tags":[]}\n\n{"a":2}\n')
    assert data(path) == [{"a": 1, "tags": []}, {"a": 2}]
    path.write_text('{"a":1}\n')
    assert "without an array of rows" in refused(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "its array is empty"),
        ('"text"', "holds no array of JSON"),
        ("12", "holds no array of JSON"),
        ("{}", "it has: nothing"),
        ('{"a": {"rows": [{"x": 1}]}, "n": 3}', "it has: a, n"),
        ('{"a": ["x"]}', "it has: a"),
        ('{"a": [{"x": 1}], "b": [{"x": 1}]}', "more than one array of rows (a, b)"),
        ("[1, 2", "line 1, character 6: the JSON is cut off"),
        ("[", "line 1, character 2: the JSON is cut off"),
        ('[{"a":1},\n{"a":', "line 2, character 6: the JSON is cut off"),
        ('[{"a":1},\n  {"a" 3}]', "line 2, character 8: no valid JSON"),
        ("[1,\n2 3]", "line 2, character 3: no valid JSON"),
        ("[1,]", "line 1, character 4: no valid JSON"),
        ("[{'a': 1}]", "line 1, character 3: no valid JSON"),
        ('[{"a": NaN}]', "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("[1e999]", "1e999 is too large"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('["a\nb"]', "no valid JSON"),
        ("[1][2]", "more comes after the end"),
        ("[tru]", "no valid JSON"),
        ('{"a": 1, b: 2}', "a key in double quotes was expected"),
        ("[" * 100_000, "recursion"),
        ("[" + "9" * 5000 + "]", "digits"),
    ],
)
def test_other_json_is_told_at_opening(tmp_path: Path, content: str, told: str) -> None:
    """What it is instead and where, before any call; and what to do."""
    path = tmp_path / "bad.json"
    path.write_text(content)
    message = refused(path)
    assert told in message
    assert "bad.json" in message
    for size in (1, 7):
        with pytest.raises(InputError) as caught:
            list(array_rows(pieces(content.encode(), size), "bad.json"))
        assert told in str(caught.value)


def test_pairs_are_text() -> None:
    """Escaped surrogate pairs are letters, in any case of their digits."""
    assert list(array_rows(iter([b'["\\ud83d\\uDE00", "\\\\ud800"]']), "t")) == ["😀", "\\ud800"]


def test_what_is_broken_further_down_is_told_when_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large file, after the rows before it, with its line and character."""
    monkeypatch.setattr(files, "_COUNTED_ARRAY_BYTES", 1000)
    path = tmp_path / "t.json"
    path.write_text("[" + '{"a":1},\n' * 30_000 + '  {"a":oops}]')
    source = open_source(path)
    assert (source.fields, source.total) == (("a",), None)
    assert "line 30001, character 8" in refused_later(path)
    assert len(data(path, first=30_000)) == 30_000
    path.write_text('{"a":[' + '{"a":1},\n' * 30_000 + '{}], "b": [{"c": 1}]}')
    assert "more than one array of rows (a, b)" in refused_later(path)


def test_a_value_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One value may have as much as a line of JSON Lines."""
    monkeypatch.setattr(json_array, "MAX_LINE_BYTES", 1024 * 1024)
    chunks = (b"[" if number == 0 else b'"' if number == 1 else b"x" * 65_536 for number in range(1000))
    with pytest.raises(InputError, match="more than 1 MiB"):
        list(array_rows(chunks, "t"))


def test_memory_is_that_of_a_value() -> None:
    """A hundred megabytes of an array pass in a few megabytes; a large value is read in time that grows with its size."""

    def chunks() -> Iterator[bytes]:
        row = b'{"text":"' + b"x" * 2000 + b'"},\n'
        yield b"[" + row
        for _ in range(200):
            yield row * 250
        yield b'{"text":"' + b"y" * 20_000_000 + b'"}]'

    tracemalloc.start()
    try:
        rows = array_rows(chunks(), "t")
        for _ in range(50_001):
            next(rows)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        assert len(next(rows)["text"]) == 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "head", [b"[", b" [\n", b'[{"a"', b"[1,2", b"[-1", b"[]", b"[[", b'\n["a"', b"[true, ", b"[null]"]
)
def test_arrays_are_known_by_their_start(head: bytes) -> None:
    """Standard input has no name: a bracket and what may follow it in JSON."""
    assert starts_array(head)


@pytest.mark.parametrize("head", [b"[id],[text]\n", b"[text]\n", b"[nullable],b\n", b"a,[b]\n", b"{", b"[#1]"])
def test_headers_with_brackets_are_csv(head: bytes) -> None:
    """As databases of one vendor write their columns' names."""
    assert not starts_array(head)
