"""Results as spreadsheets: typed cells, text that stays text, a file that readers of other make open."""

import asyncio
import re
import resource
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import openpyxl
import pytest
import python_calamine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.errors import OutputError
from headrace.core.item import Failure, Outcome
from headrace.data import xlsx_writer
from headrace.data.sink import write_outcomes
from headrace.data.source import open_source

OWN = {"error": None, "attempts": 0, "seconds": 0}


def outcome(item: Any, value: Any = None, **rest: Any) -> Outcome:
    return Outcome(key="0", position=0, item=item, value=value, **rest)


def written(tmp_path: Path, outcomes: list[Outcome], **options: Any) -> Path:
    path = tmp_path / "out.xlsx"
    assert write_outcomes(path, lambda: iter(outcomes), **options) == len(outcomes)
    return path


def sheet_of(path: Path) -> Any:
    return openpyxl.load_workbook(path).worksheets[0]


def xml_of(path: Path, part: str = "xl/worksheets/sheet1.xml") -> str:
    with ZipFile(path) as archive:
        return archive.read(part).decode()


def read(path: Path) -> list[dict[str, Any]]:
    async def gather() -> list[dict[str, Any]]:
        return [item.data async for batch in open_source(path) for item in batch]

    return asyncio.run(gather())


def test_cells_have_types(tmp_path: Path) -> None:
    """Numbers and booleans are such, lists and mappings JSON text, null is no cell, an id with many digits is text."""
    answer = {"n": 1, "x": 0.1, "yes": True, "no": False, "none": None, "list": ["a", "b"], "map": {"k": 1}}
    many = [outcome({"id": "007", "big": 12345678901234567890, "neg": -(10**14)}, answer, attempts=2, seconds=1.5)]
    many.append(outcome({"id": "8"}, None, error=Failure("timeout", "no answer")))
    path = written(tmp_path, many, schema={"properties": {name: {} for name in answer}})
    first, second = list(sheet_of(path).iter_rows(min_row=2))
    assert [(cell.data_type, cell.value) for cell in first] == [
        ("s", "007"), ("s", "12345678901234567890"), ("n", -(10**14)), ("n", 1), ("n", 0.1), ("b", True), ("b", False),
        ("n", None), ("s", '["a","b"]'), ("s", '{"k":1}'), ("n", None), ("n", 2), ("n", 1.5),
    ]  # fmt: skip
    assert [cell.value for cell in second] == ["8", *[None] * 9, "timeout: no answer", 0, 0]


def test_it_looks_like_a_table(tmp_path: Path) -> None:
    """The header is bold, stays in sight and filters; columns are as wide as they need, long texts wrap."""
    path = written(tmp_path, [outcome({"id": str(n), "text": "word " * 40, "url": "x" * 30}, "yes") for n in range(3)])
    sheet = sheet_of(path)
    assert sheet.title == "results"
    assert all(cell.font.bold for cell in sheet[1])
    assert not sheet["A2"].font.bold
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:G4"
    assert "'results'!$A$1:$G$4" in xml_of(path, "xl/workbook.xml")
    widths = [sheet.column_dimensions[letter].width for letter in "ABC"]
    assert widths == [9, 60, 32]


HOSTILE = (
    "=1+1",
    "=cmd|'/c calc'!A1",
    '=HYPERLINK("http://example.com","x")',
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "=",
    "#N/A",
)


def test_no_text_becomes_a_formula(tmp_path: Path) -> None:
    """Items, answers, errors and names that begin as formulas do are text in the XML, marked to stay so."""
    failed = [outcome({"=n": each}, error=Failure("=1", each)) for each in HOSTILE]
    path = written(tmp_path, [outcome({"=n": each}, each) for each in HOSTILE] + failed)
    xml = xml_of(path)
    assert "<f" not in xml
    assert not re.search('t="(str|e)"', xml)
    sheet = sheet_of(path)
    assert sheet["A1"].value == "=n"
    for row, each in zip(sheet.iter_rows(min_row=2), HOSTILE * 2, strict=True):
        assert row[0].value == each.replace("\r", "_x000D_")
        assert row[0].data_type == "s"
        assert row[0].quotePrefix != each.startswith("#")
    assert [cell.data_type for row in sheet.iter_rows() for cell in row if cell.data_type == "f"] == []
    assert [row["=n"] for row in read(path)] == [*HOSTILE, *HOSTILE]


def test_markup_and_control_characters(tmp_path: Path) -> None:
    """What XML cannot hold is written as spreadsheets write it, and reads back as it was."""
    texts = ["<b>&\"'</b>", "]]>", "a\x00\x01\x1fb", "\ufffe\uffff", "a\rb\r\nc", " lead", "trail\n", "_x0041_", "_x004_",
             "\U0001f600", "\u0085\u2028", "\t"]  # fmt: skip
    path = written(tmp_path, [outcome({"t": each}, "x") for each in texts])
    ElementTree.fromstring(xml_of(path))
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", xml_of(path))
    assert [row["t"] for row in read(path)] == texts
    lone = written(tmp_path, [outcome({"t": "a\ud800b"}, "x")])
    assert read(lone)[0]["t"] == "a\ufffdb"


def test_dates_are_dates(tmp_path: Path) -> None:
    """A column of ISO dates or moments has date cells that show the same text; one with other text has none."""
    days = ["2024-02-29", "1999-12-31", None, ""]
    moments = ["2024-03-31T02:30:15", "2024-03-31 00:00:00", "2024-01-01", None]
    mixed = ["2024-02-29", "soon", None, ""]
    old = ["1900-02-28", "1850-01-01", None, ""]
    path = written(
        tmp_path,
        [
            outcome({"day": a, "moment": b, "mixed": c, "old": d}, "x")
            for a, b, c, d in zip(days, moments, mixed, old, strict=True)
        ],
    )
    sheet = sheet_of(path)
    assert [sheet[f"A{n}"].value for n in (2, 3, 4)] == [datetime(2024, 2, 29), datetime(1999, 12, 31), None]
    assert sheet["A2"].number_format == "yyyy\\-mm\\-dd"
    assert sheet["B2"].value == datetime(2024, 3, 31, 2, 30, 15)
    assert [sheet[f"{column}2"].data_type for column in "CD"] == ["s", "s"]
    assert [tuple(row.values())[:4] for row in read(path)] == [
        ("2024-02-29", "2024-03-31T02:30:15", "2024-02-29", "1900-02-28"),
        ("1999-12-31", "2024-03-31T00:00:00", "soon", "1850-01-01"),
        (None, "2024-01-01", None, None),
        (None, None, None, None),
    ]


def test_texts_longer_than_a_cell(tmp_path: Path) -> None:
    """They are cut with a mark, counted as spreadsheets count, and told; shorter ones are whole."""
    told: list[str] = []
    most = xlsx_writer.MOST_CHARS
    texts = ["x" * most, "x" * (most + 1), "\U0001f600" * (most // 2), "\U0001f600" * (most // 2 + 1)]
    path = written(tmp_path, [outcome({"t": each}, "y") for each in texts], notice=told.append)
    got = [row["t"] for row in read(path)]
    assert got[0] == texts[0]
    assert got[2] == texts[2]
    for cut in (got[1], got[3]):
        assert cut.endswith("\u2026 [cut]")
        assert most - 1 <= len(cut.encode("utf-16-le")) // 2 <= most
    assert len(told) == 1
    assert told[0].startswith("2 texts were longer than the 32,767 characters")


def test_more_than_a_sheet_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rows or columns are an error that names other formats, and the old file stays."""
    path = tmp_path / "out.xlsx"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="16,384") as caught:
        write_outcomes(path, lambda: iter([outcome({f"c{n}": 1 for n in range(16_384)}, "x")]))
    assert ".csv" in caught.value.hint
    monkeypatch.setattr(xlsx_writer, "MOST_ROWS", 1001)
    rows = [outcome({"a": 1}, "x")] * 1001
    with pytest.raises(OutputError, match="more rows than the 1,001"):
        write_outcomes(path, lambda: iter(rows))
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    assert write_outcomes(path, lambda: iter(rows[:1000])) == 1000


text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("_x00415F\r\n=<&"), max_size=9)
value = st.one_of(
    st.none(),
    text,
    st.booleans(),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.floats(-1e300, 1e300),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(value, min_size=3, max_size=3), min_size=1, max_size=5))
def test_any_cells_come_back(rows: list[list[Any]], tmp_path: Path) -> None:
    """What is written is read back, value for value but that an empty text is an empty cell, by readers of any make."""
    path = written(tmp_path, [outcome(dict(zip("abc", row, strict=True)), "x") for row in rows])
    for back, row in zip(read(path), rows, strict=True):
        for name, expected in zip("abc", row, strict=True):
            if isinstance(expected, float):
                assert back[name] == pytest.approx(expected, rel=1e-15, abs=0)
            else:
                assert back[name] == (None if expected == "" else expected)
    other = python_calamine.load_workbook(str(path)).get_sheet_by_index(0).to_python()
    assert other[0][:4] == ["a", "b", "c", "answer"]
    assert len(other) == len(rows) + 1
    for got, row in zip(other[1:], rows, strict=True):
        for one, expected in zip(got[:3], row, strict=True):
            if isinstance(expected, bool):
                assert one is expected
            elif isinstance(expected, int | float):
                assert one == pytest.approx(expected, rel=1e-15, abs=0)
            elif expected is None:
                assert one == ""


def test_a_result_is_input_again(tmp_path: Path) -> None:
    """The columns of a result are the columns of the items that are read from it."""
    path = written(tmp_path, [outcome({"id": "007", "text": "x"}, {"label": "good", "n": 2})], schema=None)
    assert read(path) == [{"id": "007", "text": "x", "answer": '{"label":"good","n":2}'} | OWN]


def test_many_rows_in_little_memory(tmp_path: Path) -> None:
    """Rows are written as they come."""

    def rows() -> Iterator[Outcome]:
        for n in range(30_000):
            yield outcome({"id": str(n), "text": "some words " * 20}, "yes")

    path = tmp_path / "out.xlsx"
    write_outcomes(path, lambda: iter([outcome({"id": "1", "text": "x"}, "yes")]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert write_outcomes(path, rows) == 30_000
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert sheet_dimension(path) == "A1:F30001"


def sheet_dimension(path: Path) -> str:
    found = re.search('autoFilter ref="([^"]+)"', xml_of(path)[-2000:])
    assert found is not None
    return found[1]
