"""Batches of outcomes become one sheet of an XLSX file by openpyxl, row by row; the sheet grows in a temporary file.

Knows nothing of paths. Text is written as text, whatever it begins with; no cell is ever a formula.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from math import isfinite
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from headrace.core.errors import OutputError
from headrace.data.formula import STARTS
from headrace.data.layout import Batches, Layout
from headrace.data.workbook import MOST_ROWS
from headrace.data.writers import encode

MOST_COLUMNS, MOST_CHARS = 16_384, 32_767
"""Of a sheet and of a cell, by the format. Characters count as UTF-16 does."""
_CUT = "\u2026 [cut]"
_LEAST_WIDTH, _MOST_WIDTH = 9, 60
_EXACT = 10**15
"""Programs keep 15 digits of a number."""
_ODD = re.compile("[\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
"""What XML cannot hold, or would be taken for its stand-in."""
_LONE = re.compile("[\ud800-\udfff]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d)?")
_FIRST_DATE = datetime(1900, 3, 1)  # noqa: DTZ001 - before it, programs count differently
_ELSE = "Write .csv, .jsonl or .parquet instead."


def write_xlsx(file: IO[bytes], batches: Batches, layout: Layout) -> int:
    """Raises OutputError for more rows or columns than a sheet can have."""
    from openpyxl import Workbook  # noqa: PLC0415 - only where one is written
    from openpyxl.writer.excel import ExcelWriter  # noqa: PLC0415

    names = layout.columns.names
    if len(names) > MOST_COLUMNS:
        raise OutputError(
            f"The result has {len(names):,} columns; a sheet of XLSX has at most {MOST_COLUMNS:,}.", hint=_ELSE
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("results")
    first = next(batches, [])
    rows = map(layout.columns.cells, chain(first, chain.from_iterable(batches)))
    writer = _Writer(sheet, names, list(map(layout.columns.cells, first)))
    try:
        count = writer.write(rows)
        with ZipFile(file, "w", ZIP_DEFLATED) as archive:  # openpyxl's own is left open on a full disk
            ExcelWriter(book, archive).save()
    except BaseException:
        with suppress(Exception):  # openpyxl itself would keep its file until the program ends
            sheet.close()
        with suppress(Exception):
            sheet._writer.cleanup()  # noqa: SLF001
        raise
    if writer.cut:
        many = "1 text was" if writer.cut == 1 else f"{writer.cut:,} texts were"
        layout.notices.append(
            f"{many} longer than the {MOST_CHARS:,} characters that a cell of XLSX can hold, and cut there;"
            " the other formats have them whole."
        )
    return count


class _Writer:
    """`head` are the first rows: they show how wide the columns are, and which hold dates."""

    def __init__(self, sheet: Any, names: Sequence[str], head: Sequence[tuple[Any, ...]]) -> None:
        from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - as openpyxl
        from openpyxl.styles import Alignment, Font  # noqa: PLC0415
        from openpyxl.utils import get_column_letter  # noqa: PLC0415

        self._new = WriteOnlyCell
        self._bold, self._left = Font(bold=True), Alignment(horizontal="left")
        self._sheet, self._names = sheet, names
        self._dates: list[bool] = []
        self._last = get_column_letter(len(names))
        self.cut = 0
        sheet.freeze_panes = "A2"
        values = list(zip(*head, strict=True)) or [()] * len(names)
        for number, (name, of_one) in enumerate(zip(names, values, strict=True), 1):
            texts = [text for text in map(_plain, of_one) if text]
            self._dates.append(bool(texts) and all(map(_moment, texts)))
            sheet.column_dimensions[get_column_letter(number)].width = _width(name, texts)

    def write(self, rows: Iterable[tuple[Any, ...]]) -> int:
        header = [self._text(name) for name in self._names]
        for cell in header:
            cell.font = self._bold
        self._sheet.append(header)
        count = 1
        for row in rows:
            count += 1
            if count > MOST_ROWS:
                raise OutputError(
                    f"The result has more rows than the {MOST_ROWS:,} that a sheet of XLSX can have.", hint=_ELSE
                )
            self._sheet.append(list(map(self._cell, row, self._dates)))
        self._sheet.auto_filter.ref = f"A1:{self._last}{count}"
        return count - 1

    def _cell(self, value: Any, of_dates: bool) -> Any:  # noqa: FBT001 - mapped over
        kind = type(value)
        if value is None or kind is bool or (kind is int and -_EXACT < value < _EXACT):
            return value
        if kind is float:
            return value if isfinite(value) else None
        text = _plain(value)
        if not text:
            return None
        if of_dates and (moment := _moment(text)) is not None:
            cell = self._new(self._sheet, moment)
            cell.number_format = "yyyy\\-mm\\-dd" if len(text) == 10 else "yyyy\\-mm\\-dd\\ hh:mm:ss"
            cell.alignment = self._left
            return cell
        return self._text(text)

    def _text(self, text: str) -> Any:
        armed = text[:1] in STARTS
        if _ODD.search(text):
            text = _ODD.sub(lambda odd: f"_x{ord(odd[0]):04X}_", text)
        text = _LONE.sub("\ufffd", text)
        if len(text) > MOST_CHARS // 2:
            text = self._fitted(text)
        cell = self._new(self._sheet, text)
        cell.data_type = "s"  # else what begins with = is a formula, and #N/A an error
        if armed:
            cell.quotePrefix = True  # as an apostrophe typed before it: editing the cell makes it no formula either
        return cell

    def _fitted(self, text: str) -> str:
        units = text.encode("utf-16-le")
        if len(units) <= 2 * MOST_CHARS:
            return text
        self.cut += 1
        return units[: 2 * (MOST_CHARS - len(_CUT))].decode("utf-16-le", "ignore") + _CUT


def _plain(value: Any) -> str:
    if type(value) is str:
        return value
    return "" if value is None else encode(value).decode()


def _moment(text: str) -> datetime | None:
    """What an ISO date (2024-03-31) or moment without a zone (2024-03-31T10:30:00) says; None for other text."""
    if not _DATE.fullmatch(text):
        return None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return moment if moment >= _FIRST_DATE else None
    return None


def _width(name: str, texts: list[str]) -> int:
    """So that most cells fit, within reason."""
    lengths = sorted(max(map(len, text.split("\n"))) for text in texts)
    usual = lengths[len(lengths) * 9 // 10] if lengths else 0
    return min(max(_LEAST_WIDTH, len(name) + 4, usual + 2), _MOST_WIDTH)
