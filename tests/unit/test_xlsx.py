"""Spreadsheets as people have them: sheets, titles, dates, merged cells, broken and hostile files."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import openpyxl
import openpyxl.chart
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.errors import InputError, UsageError
from headrace.data.files import Rows
from headrace.data.source import open_source
from headrace.data.table import Table
from headrace.data.xlsx import open_xlsx

NS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KINDS = "application/vnd.openxmlformats-officedocument.spreadsheetml"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RELS = "http://schemas.openxmlformats.org/package/2006/relationships"


def opened(path: Path, sheet: str | None = None) -> Rows:
    return open_xlsx(path, path.name, sheet)


def rows_of(path: Path, sheet: str | None = None) -> list[dict[str, Any]]:
    return list(opened(path, sheet).rows())


def made(tmp_path: Path, rows: list[list[Any]], change: Callable[[Any], None] = lambda _: None) -> Path:
    """A workbook with these rows, as openpyxl writes it."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(row)
    change(sheet)
    path = tmp_path / "in.xlsx"
    book.save(path)
    return path


def raw(tmp_path: Path, sheet: str, *, strings: str = "", head: str = "", **parts: str | bytes) -> Path:
    """A workbook of hand-made XML: `sheet` is what stands in its sheetData; `parts` are whole, by short name."""

    def relation(name: str, kind: str, target: str) -> str:
        return f'<Relationship Id="{name}" Type="{OFFICE}/{kind}" Target="{target}"/>'

    whole: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        + "".join(
            f'<Override PartName="/xl/{name}.xml" ContentType="{KINDS}.{kind}+xml"/>'
            for name, kind in (("workbook", "sheet.main"), ("strings", "sharedStrings"))
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{RELS}">{relation("a", "officeDocument", "/xl/workbook.xml")}'
        "</Relationships>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{RELS}">'
        f"{relation('r1', 'worksheet', 'worksheets/sheet.xml')}{relation('r2', 'sharedStrings', 'strings.xml')}"
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{NS}" xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="One" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/strings.xml": parts.get("shared", f'<sst xmlns="{NS}">{strings}</sst>'),
        "xl/worksheets/sheet.xml": parts.get(
            "whole", f'{head}<worksheet xmlns="{NS}"><sheetData>{sheet}</sheetData></worksheet>'
        ),
    }
    path = tmp_path / "raw.xlsx"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in whole.items():
            archive.writestr(name, content)
    return path


def text(at: str, value: str) -> str:
    return f'<c r="{at}" t="inlineStr"><is><t>{value}</t></is></c>'


def refused(path: Path, sheet: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(path, sheet)
    assert caught.value.hint
    return str(caught.value)


# ---- values


def test_values_are_what_a_person_sees(tmp_path: Path) -> None:
    """Text stays text, numbers numbers, whole ones int; dates and times are ISO text; an empty cell is None."""
    rows: list[list[Any]] = [
        ["id", "text", "number", "whole", "yes", "day", "moment", "clock", "share", "nothing", "x"],
        [
            "007",
            "a\nb ",
            1.5,
            3.0,
            True,
            date(2024, 2, 29),
            datetime(2024, 3, 31, 2, 30, 15),
            time(23, 59),
            0.05,
            None,
            1,
        ],
        ["=1", " ", -2, 1e20, False, date(1900, 3, 1), datetime(1999, 12, 31), time(0, 0, 1), 1, "", None],
    ]

    def change(sheet: Any) -> None:
        sheet["A3"].data_type = "s"
        for at in ("I2", "I3"):
            sheet[at].number_format = "0%"

    path = made(tmp_path, rows, change)
    names = rows[0]
    assert rows_of(path) == [
        dict(
            zip(
                names,
                ["007", "a\nb ", 1.5, 3, True, "2024-02-29", "2024-03-31T02:30:15", "23:59:00", 0.05, None, 1],
                strict=True,
            )
        ),
        dict(
            zip(
                names, ["=1", " ", -2, 1e20, False, "1900-03-01", "1999-12-31T00:00:00", "00:00:01", 1, None, None],
                strict=True,
            )
        ),
    ]  # fmt: skip
    assert type(rows_of(path)[0]["whole"]) is int


def test_another_producer(tmp_path: Path) -> None:
    """A workbook with rich text, links, zero-padded numbers, formulas, 1904 dates and merged cells, by XlsxWriter."""
    path = tmp_path / "in.xlsx"
    book = xlsxwriter.Workbook(str(path), {"date_1904": True})
    sheet = book.add_worksheet("A & B")
    bold, padded = book.add_format({"bold": True}), book.add_format({"num_format": "00000"})
    day, elapsed = book.add_format({"num_format": "d.m.yy"}), book.add_format({"num_format": "[h]:mm"})
    for column, name in enumerate(("rich", "link", "zip", "sum", "text sum", "day", "time", "group")):
        sheet.write(0, column, name)
    sheet.write_rich_string(1, 0, "a ", bold, "b", " c")
    sheet.write_url(1, 1, "https://example.com", string="here")
    sheet.write_number(1, 2, 123, padded)
    sheet.write_formula(1, 3, "=1+1", None, 2)
    sheet.write_formula(1, 4, '="x"&"y"', None, "xy")
    sheet.write_datetime(1, 5, datetime(2024, 2, 29), day)
    sheet.write_datetime(1, 6, timedelta(hours=30, minutes=5), elapsed)
    sheet.merge_range(1, 7, 3, 7, "all three")
    sheet.write(2, 0, "second")
    sheet.write(3, 0, "third")
    sheet.write(4, 0, "fourth")
    book.close()
    rows = rows_of(path)
    assert rows[0] == {
        "rich": "a b c", "link": "here", "zip": "00123", "sum": 2, "text sum": "xy", "day": "2024-02-29",
        "time": "PT30H5M", "group": "all three",
    }  # fmt: skip
    assert [row["group"] for row in rows] == ["all three", None, None, None]


@pytest.mark.parametrize(
    ("serial", "number_format", "since_1904", "expected"),
    [
        (45382, "yyyy-mm-dd", False, "2024-03-31"),
        (45382, "[$-409]D-MMM-YY;@", False, "2024-03-31"),
        (45382, "mmmm", False, "2024-03-31"),
        (45382.5, "dd/mm/yyyy", False, "2024-03-31T12:00:00"),
        (45382, "DD/MM/YYYY HH:MM", False, "2024-03-31T00:00:00"),
        (43920, "d.m.yy", True, "2024-03-31"),
        (61, "yyyy-mm-dd", False, "1900-03-01"),
        (59, "yyyy-mm-dd", False, "1900-02-28"),
        (0.25, "h:mm AM/PM", False, "06:00:00"),
        (0.123456, "mm:ss.0", False, "02:57:46.598"),
        (45382.999999999, "d.m.yyyy h:mm", False, "2024-04-01T00:00:00"),
        (1.0625, "[h]:mm:ss", False, "PT25H30M"),
        (-0.5, "[h]:mm", False, "-PT12H"),
        (0, "[mm]:ss", False, "PT0S"),
        (1.5 / 86400, "[ss].0", False, "PT1.5S"),
        (7, "000", False, "007"),
        (-7, "000", False, -7),
        (7.5, "000", False, 7.5),
        (7, "0", False, 7),
        (7, '#,##0.00 "d"', False, 7),
        (7, "_-* #,##0.00\\ _D_M_-", False, 7),
        (7, "[Red]-0", False, 7),
    ],
)
def test_numbers_with_formats(
    tmp_path: Path, serial: float, number_format: str, since_1904: bool, expected: Any
) -> None:
    """A number is what its format shows: a date, a moment, a time, a duration, digits with zeros before them."""
    path = tmp_path / "in.xlsx"
    book = xlsxwriter.Workbook(str(path), {"date_1904": since_1904})
    sheet = book.add_worksheet()
    sheet.write(0, 0, "a")
    sheet.write_number(1, 0, serial, book.add_format({"num_format": number_format}))
    book.close()
    (row,) = rows_of(path)
    assert row == {"a": expected}
    assert type(row["a"]) is type(expected)


def test_errors_are_told(tmp_path: Path) -> None:
    """They are read as empty, and a notice says how many there are and where the first is; so are formulas alone."""
    path = raw(
        tmp_path,
        f'<row r="1">{text("A1", "a")}{text("B1", "b")}</row>'
        f'<row r="2">{text("A2", "x")}<c r="B2" t="e"><v>#N/A</v></c></row>'
        f'<row r="3">{text("A3", "y")}<c r="B3"><f>SUM(A1:A2)</f></c></row>'
        f'<row r="4">{text("A4", "z")}<c r="B4" t="e"><f>1/0</f><v>#DIV/0!</v></c></row>'
        f'<row r="5">{text("A5", "z")}<c r="B5" t="str"><f>""</f><v></v></c></row>'
        f'<row r="6">{text("A6", "#N/A")}<c r="B6"><f>1+1</f><v>2</v></c></row>',
    )
    rows = opened(path)
    assert [row["b"] for row in rows.rows()] == [None, None, None, None, 2]
    assert len(rows.notices) == 2
    assert "2 cells hold an error (#N/A, #DIV/0!; the first is B2)" in rows.notices[0]
    assert "1 cell holds a formula whose result was never saved (column 'b'; the first is B3)" in rows.notices[1]


def test_formulas_without_results_are_told(tmp_path: Path) -> None:
    """Columns of formulas that were never worked out are named, with the first cell and what to do; others are not."""
    rows: list[list[Any]] = [["text", "half", "n", "whole"], *([f"t{n}", f"=C{n}/2", n, "=1+1"] for n in range(2, 7))]
    (notice,) = opened(made(tmp_path, rows)).notices
    assert "10 cells hold formulas whose result was never saved (columns 'half', 'whole'; the first is B2)" in notice
    assert "spreadsheet program, save it" in notice


def test_formulas_alone_are_no_table(tmp_path: Path) -> None:
    """Where all rows are formulas without results, the error says so instead of asking for rows."""
    told = refused(made(tmp_path, [["a", "b"], ["=1+1", "=A2"], ["=2", "=A3"]]))
    assert "has a header but no rows. All below it are formulas without a saved result. Open the file" in told


def test_formulas_whose_results_are_all_0(tmp_path: Path) -> None:
    """A workbook that asks to be worked out when it is opened has 0 for every formula: told, unless another has more."""

    def written(name: str, *values: float) -> tuple[str, ...]:
        book = xlsxwriter.Workbook(tmp_path / name)
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["text", "sum"])
        for row, value in enumerate(values, 1):
            sheet.write(row, 0, "x")
            sheet.write_formula(row, 1, "=1+1", None, value)
        book.close()
        return opened(tmp_path / name).notices

    assert (
        "2 cells hold formulas whose result was never saved (column 'sum'; the first is B2)"
        in written("a.xlsx", 0, 0)[0]
    )
    assert written("b.xlsx", 0, 2) == ()


def test_formulas_with_results_are_not_told(tmp_path: Path) -> None:
    """Results of 0 and of empty text are results; an odd formula that cannot be understood spoils nothing."""
    path = raw(
        tmp_path,
        f'<row r="1">{text("A1", "a")}{text("B1", "b")}{text("C1", "c")}</row>'
        f'<row r="2">{text("A2", "x")}<c r="B2"><f>0</f><v>0</v></c><c r="C2" t="str"><f>""</f><v></v></c></row>'
        f'<row r="3">{text("A3", "x")}<c r="B3"><f t="shared" si="0" ref="B3:B4">{{1,</f><v>1</v></c></row>'
        f'<row r="4">{text("A4", "x")}<c r="B4"><f t="shared" si="0"/><v>1</v></c></row>',
    )
    rows = opened(path)
    assert rows.notices == ()
    assert [row["b"] for row in rows.rows()] == [0, 1, 1]


def test_odd_but_valid_xml(tmp_path: Path) -> None:
    """Prefixes, no references, other orders of attributes, escapes, phonetic hints, CDATA, comments."""
    sheet = (
        '<x:row><x:c t="s"><x:v>0</x:v></x:c><x:c t="s"><x:v>1</x:v></x:c></x:row>'
        "<x:row><x:c><x:v>1</x:v></x:c><!-- a > b --><x:c t='inlineStr'><x:is><x:t><![CDATA[a</c>&b]]></x:t></x:is></x:c></x:row>"
        '<x:row><x:c t="d"><x:v>2024-01-02T03:04:05</x:v></x:c><x:c t="b"><x:v>1</x:v></x:c></x:row>'
        "<x:row><x:c><x:v>1E3</x:v></x:c><x:c><x:v>12345678901234567890</x:v></x:c></x:row>"
    )
    path = raw(
        tmp_path,
        "",
        whole=f'<?xml version="1.0"?><x:worksheet xmlns:x="{NS}"><x:dimension ref="A1"/>'
        f"<x:sheetData>{sheet}</x:sheetData></x:worksheet>",
        shared=f'<sst xmlns="{NS}"><si><r><t>na</t></r><r><t xml:space="preserve">me </t></r><rPh sb="0" eb="1">'
        "<t>aside</t></rPh></si><si><t>_x000D_b</t></si></sst>",
    )
    rows = opened(path)
    assert rows.fields == ("name", "b")
    assert list(rows.rows()) == [
        {"name": 1, "b": "a</c>&b"},
        {"name": "2024-01-02T03:04:05", "b": True},
        {"name": 1000, "b": 12345678901234567000.0},
    ]


# ---- which sheet, which header, which columns


def test_the_first_sheet_with_rows_that_is_not_hidden(tmp_path: Path) -> None:
    """Hidden and empty sheets are passed over; a notice names the others; a name or a number chooses."""
    book = openpyxl.Workbook()
    book.worksheets[0].title = "Empty"
    for name, state in (("Hidden", "hidden"), ("Data", "visible"), ("More", "visible"), ("1", "visible")):
        sheet = book.create_sheet(name)
        sheet.append([name])
        sheet.append(["x"])
        sheet.sheet_state = state
    chart = openpyxl.chart.BarChart()
    chart.add_data(openpyxl.chart.Reference(book["Data"], min_col=1, min_row=1, max_row=2), titles_from_data=True)
    book.create_chartsheet("Chart").add_chart(chart)
    path = tmp_path / "in.xlsx"
    book.save(path)
    rows = opened(path)
    assert rows.fields == ("Data",)
    assert rows.notices == (
        "in.xlsx: sheet 'Data' was read, the first that has rows; --sheet names another ('Empty', 'More', '1').",
    )
    assert opened(path, "Hidden").fields == ("Hidden",)
    assert opened(path, " more ").fields == ("More",)
    assert opened(path, "4").fields == ("More",)
    assert opened(path, "1").fields == ("1",)
    assert opened(path, "More").notices == ()
    for wrong in ("0", "6", "Dat", ""):
        assert "'Empty', 'Hidden' (hidden), 'Data', 'More', '1'" in refused(path, wrong)
    assert "is empty" in refused(path, "Empty")


def test_no_sheet_with_rows(tmp_path: Path) -> None:
    """An empty workbook, and one whose rows are all hidden."""
    assert "no sheet with rows" in refused(made(tmp_path, []))
    book = openpyxl.Workbook()
    book.create_sheet("Secret").append(["a"])
    book.worksheets[1].sheet_state = "hidden"
    book.save(tmp_path / "in.xlsx")
    assert "'Secret' (hidden)" in refused(tmp_path / "in.xlsx")
    assert "has a header but no rows" in refused(made(tmp_path, [["a", "b"]]))


@pytest.mark.parametrize(
    ("rows", "fields", "first"),
    [
        ([["Reviews 2024"], [], ["id", "text", "n"], [1, "x", 2]], ("id", "text", "n"), 1),
        ([["Reviews"], ["by", "Anna"], ["id", "a", "b", "c"], [1, 2, 3, 4], [5, 6, 7, 8]], ("id", "a", "b", "c"), 1),
        ([["text"], ["a"], ["b"], ["c", "a note"]], ("text", "column_2"), "a"),
        ([["id", "text", ""], [1, "x", "y"]], ("id", "text", "column_3"), 1),
        ([[None, "id", None, "text"], [None, 1, None, "x"]], ("id", "text"), 1),
        ([["id", "text", "only named"], [1, "x"]], ("id", "text", "only named"), 1),
        ([["a", "a", "a_2"], [1, 2, 3]], ("a", "a_3", "a_2"), 1),
        ([[2021, 2022.5, True, date(2024, 1, 2)], [1, 2, 3, 4]], ("2021", "2022.5", "TRUE", "2024-01-02"), 1),
        ([["only"], ["x"]], ("only",), "x"),
    ],
)
def test_where_the_header_is(tmp_path: Path, rows: list[list[Any]], fields: tuple[str, ...], first: Any) -> None:
    """Titles above a table are left out and told; columns without name and value are no columns."""
    found = opened(made(tmp_path, rows))
    assert found.fields == fields
    assert next(found.rows())[fields[0]] == first
    skipped = rows[0][0] in ("Reviews 2024", "Reviews")
    assert any("the header was taken to be row 3" in notice for notice in found.notices) == skipped


def test_rows_and_columns_without_values(tmp_path: Path) -> None:
    """Formatted but empty cells make no rows and no columns, nor do formulas that show nothing."""

    def change(sheet: Any) -> None:
        bold = openpyxl.styles.Font(bold=True)
        for at in ("Z3", "C1", "A60000", "XFD5"):
            sheet[at].font = bold

    found = opened(made(tmp_path, [["a", "b"], [1, 2], [None, None], ["", None], [3, None], [], [None, 4]], change))
    assert found.fields == ("a", "b")
    assert list(found.rows()) == [{"a": 1, "b": 2}, {"a": 3, "b": None}, {"a": None, "b": 4}]
    assert found.total in (3, 4)
    quiet = "".join(f'<row r="{n}"><c r="A{n}" t="str"><f>IF(1,"")</f><v></v></c></row>' for n in range(3, 90))
    path = raw(tmp_path, f'<row r="1">{text("A1", "a")}</row><row r="2">{text("A2", "x")}</row>{quiet}')
    assert rows_of(path) == [{"a": "x"}]


def test_a_column_that_begins_late(tmp_path: Path) -> None:
    """A value in a column without a header gives that column, not columns up to it."""
    rows: list[list[Any]] = [["a", "b"], *([n, n] for n in range(900)), [1, 2, None, None, None, "late"]]
    found = opened(made(tmp_path, rows))
    assert found.fields == ("a", "b", "column_3")
    assert found.total == 901
    assert [row["column_3"] for row in found.rows()][-2:] == [None, "late"]


def test_a_value_that_was_not_foreseen(tmp_path: Path) -> None:
    """Below the rows that are looked at, a value beside the table is an error with its place."""
    rows: list[list[Any]] = [["a", "b"], *([n, n] for n in range(3000))]
    found = opened(made(tmp_path, rows))
    assert found.total == 3000
    assert len(list(found.rows())) == 3000
    assert "cell D3002: there is a value beside the table" in refused(made(tmp_path, [*rows, [1, 2, None, "late"]]))


def test_it_is_a_source(tmp_path: Path) -> None:
    """Items are the rows, twice the same; a sheet of a Table is read; the notices come through."""
    path = made(tmp_path, [["Title"], ["id", "text"], ["7", "x"], ["8", "y"]])

    async def gather(items: Any) -> list[Any]:
        return [item for batch in [each async for each in items] for item in batch]

    source = open_source(Table(path, sheet="Sheet"), key="id")
    for _ in range(2):
        items = asyncio.run(gather(source))
        assert [(item.key, item.data) for item in items] == [
            ("7", {"id": "7", "text": "x"}),
            ("8", {"id": "8", "text": "y"}),
        ]
    assert source.total == 2
    assert source.fields == ("id", "text")
    assert any("row 2" in notice for notice in source.notices)


def test_a_key_that_is_on_another_sheet(tmp_path: Path) -> None:
    """The error about the column says too which sheet was read and what others there are."""

    def change(sheet: Any) -> None:
        sheet.title = "Cover"
        data = sheet.parent.create_sheet("Data")
        data.append(["id", "text"])
        data.append(["7", "x"])

    path = made(tmp_path, [["Report", "by"], ["sales", "us"]], change)
    with pytest.raises(UsageError) as caught:
        open_source(path, key="id")
    assert "no key column 'id'" in caught.value.message
    assert "The columns are: Report, by. " in caught.value.hint
    assert "sheet 'Cover' was read, the first; --sheet names another ('Data')." in caught.value.hint


def test_a_changed_file_is_told(tmp_path: Path) -> None:
    """Rows of another version of the file are never mixed in."""
    found = opened(made(tmp_path, [["a"], ["x"]]))
    made(tmp_path, [["a"], ["y"], ["z"]])
    with pytest.raises(InputError, match="was changed while"):
        list(found.rows())


cell = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=8),
    st.integers(-(10**12), 10**12),
    st.floats(-1e6, 1e6).map(lambda value: round(value, 6)),
    st.booleans(),
    st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1)).map(lambda value: value.replace(microsecond=0)),
    st.dates(date(1901, 1, 1), date(2200, 1, 1)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=6))
def test_any_cells(rows: list[list[Any]], tmp_path: Path) -> None:
    """Whatever is in the cells comes as it is, dates as ISO text, and rows without anything do not come."""

    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value

    def change(sheet: Any) -> None:
        for row in sheet.iter_rows():
            for each in row:
                if each.data_type == "f":
                    each.data_type = "s"

    kept = [[plain(value) for value in row] for row in rows if any(value is not None for value in row)]
    path = made(tmp_path, [["a", "b", "c"], *rows], change)
    if not kept:
        assert "no rows" in refused(path)
        return
    assert [list(row.values()) for row in rows_of(path)] == kept


# ---- what is no such workbook


def test_files_that_are_something_else(tmp_path: Path) -> None:
    """Each is told for what it is, with what to do."""
    path = tmp_path / "in.xlsx"
    for content, told, hint in (
        (b"a,b\n1,2\n", "is text", ".csv"),
        ("a\tb\n1\t2\n".encode("utf-16"), "is text", ".csv"),
        (b"\xef\xbb\xbf<html><table>", "web page", "save it as .xlsx"),
        (b"", "is empty", "Save"),
        (b"\x00\x01\x02\x03", "no workbook", "save it as .xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000, "old Excel format", "save it as .xlsx"),
        (
            b"\xd0\xcf\x11\xe0" + b"\0" * 3000 + "EncryptedPackage".encode("utf-16-le"),
            "password",
            "take the password off",
        ),
        (b"PK\x03\x04 not really", "damaged", "save it as .xlsx"),
    ):
        path.write_bytes(content)
        message = refused(path)
        assert told in message
        assert hint in message
    for names, told in (
        (["mimetype", "content.xml"], "OpenDocument"),
        (["xl/workbook.bin"], "xlsb"),
        (["word/document.xml"], "without a workbook"),
    ):
        with ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        assert told in refused(path)


@pytest.mark.parametrize(
    ("sheet", "told"),
    [
        ('<row r="1"><c r="A1" t="s"><v>99</v></c></row>', "damaged"),
        ('<row r="1"><c r="A1" t="s"><v>-1</v></c></row>', "damaged"),
        ('<row r="1"><c r="A1"><v>x</v></c></row>', "damaged"),
        ('<row r="1"><c r="\u00c41"><v>1</v></c></row>', "damaged"),
        ('<row r="one"><c r="A1"><v>1</v></c></row>', "damaged"),
        ('<row r="1"><c r="A1"><v>1</v></row>', "damaged"),
        ('<row r="1"><c r="AAAA1"><v>1</v></c></row>', "damaged"),
        ('<row r="9999999999"><c><v>1</v></c></row>', "more rows than any sheet"),
    ],
)
def test_damaged_sheets(tmp_path: Path, sheet: str, told: str) -> None:
    """What no workbook holds is an InputError, never another exception."""
    assert told in refused(raw(tmp_path, sheet))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage(data: st.DataObject, tmp_path: Path) -> None:
    """A file that is cut or has wrong bytes is read, or refused as an InputError."""
    path = raw(
        tmp_path, "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>{n % 3}</v></c></row>' for n in range(1, 100)),
        strings="<si><t>a</t></si><si><t>b</t></si><si><t>c</t></si>",
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    place = st.integers(0, 9999).map(lambda part: part * len(content) // 10_000)
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(place)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(place)]
    path.write_bytes(content)
    try:
        rows_of(path)
    except InputError as error:
        assert error.hint


def test_bombs_are_refused(tmp_path: Path) -> None:
    """Entities that multiply and parts that unpack without end: soon, and in little memory."""
    bomb = '<!DOCTYPE x [<!ENTITY a0 "xxxxxxxxxx">'
    bomb += "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]>"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "damaged" in refused(raw(tmp_path, f'<row r="1">{text("A1", "&a9;")}</row>', head=bomb))
    large = "<row/>" * 20_000_000
    assert "unpacks to 114 MiB" in refused(raw(tmp_path, large))
    del large
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_without_the_guard_of_another_library(tmp_path: Path) -> None:
    """Where defusedxml is not installed, the parser of Python refuses entities that multiply."""
    bomb = '<!DOCTYPE x [<!ENTITY a0 "xxxxxxxxxx">'
    bomb += "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]>"
    path = raw(tmp_path, f'<row r="1">{text("A1", "&a9;")}</row>', head=bomb)
    program = (
        "import sys; from pathlib import Path; from headrace.data.xlsx import open_xlsx\n"
        "open_xlsx(Path(sys.argv[1]), 'it', None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True, text=True, check=False, env={**os.environ, "OPENPYXL_DEFUSEDXML": "False"},
    )  # fmt: skip
    assert "InputError" in done.stderr
    assert "amplification" in done.stderr


def test_a_large_sheet_is_read_in_little_memory(tmp_path: Path) -> None:
    """Rows come one after the other; a sheet of many rows takes no more than one of few."""
    path = tmp_path / "large.xlsx"
    book = xlsxwriter.Workbook(str(path), {"constant_memory": True})
    sheet = book.add_worksheet()
    for row in range(10_000):
        sheet.write_row(row, 0, [f"name {row}", "x" * 200, row, 0.5])
    book.close()
    found = opened(path)
    assert found.total == 9_999
    assert found.notices == ()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in found.rows()) == 9_999
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12 * 1024
