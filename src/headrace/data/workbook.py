"""An XLSX file becomes an open workbook of openpyxl, and its cells what a person sees in them.

Knows nothing of headers and names. What is no workbook, or unpacks to no real one's size, is refused in words.
"""

import re
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from headrace.core.errors import InputError
from headrace.data.lines import unreadable

MOST_ROWS = 1_048_576
"""Of a sheet, by the format."""
_SAVE_ANEW = "Open it in a spreadsheet program and save it as .xlsx, or export the sheet as CSV."
_SUSPECT_BYTES, _SUSPECT_RATIO = 32 * 1024 * 1024, 250
"""Tables unpack to 10 or 30 times their size; bombs to 1000 times."""
_OLE = b"\xd0\xcf\x11\xe0"
_OLE_BYTES = 64 * 1024 * 1024
_EXACT = 2**53
_HEAD_BYTES = 4 * 1024 * 1024
"""Of a sheet's XML: a thousand rows of most tables."""
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class Sheet:
    """One sheet, whose rows can be read again and again. `errors` counts the error cells that were met.

    `stale`: the workbook asks for all its formulas to be worked out when it is opened.
    """

    def __init__(self, sheet: Any, where: str, *, stale: bool = False) -> None:
        self.last_row: int | None = sheet.max_row
        """As it is declared; with rows that are only formatted."""
        sheet.reset_dimensions()  # programs declare too little, which would cut the table
        self._sheet = sheet
        self.name: str = sheet.title
        self.hidden = sheet.sheet_state != "visible"
        self.where = f"{where}, sheet {self.name!r}"
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self._stale = stale

    def rows(self) -> Iterator[tuple[int, list[Any]]]:
        """The numbers and values of the rows that hold anything, in order."""
        with mended(self.where):
            for number, cells in enumerate(self._sheet.iter_rows(), 1):
                if number > MOST_ROWS:
                    raise InputError(f"{self.where} has more rows than any sheet can have.", hint=_SAVE_ANEW)
                values = [None if cell.value is None else self._shown(cell) for cell in cells]
                # formulas that show nothing are often filled in far below the table
                if any(value is not None and value != "" for value in values):
                    yield number, values

    def unsaved(self, rows: int) -> dict[int, list[str]]:
        """Cells of the first `rows` rows that hold a formula whose result was never saved: where they are, by column.

        A program that works nothing out saves no result; one saves 0 for all of them, and asks for them to be worked out.
        """
        if not self._has_formulas():
            return {}
        found: dict[int, list[str]] = {}
        zeros: dict[int, list[str]] = {}
        others = False
        for shown, formulas in self._twice(rows):
            for column, (cell, formula) in enumerate(zip(shown, formulas, strict=True)):
                if formula.data_type != "f":
                    continue
                if cell.value is None and cell.data_type == "n":  # an empty text is a result
                    found.setdefault(column, []).append(cell.coordinate)
                elif cell.value == 0 and cell.data_type == "n" and self._stale:
                    zeros.setdefault(column, []).append(cell.coordinate)
                else:
                    others = True
        return found if others or found else zeros

    def _has_formulas(self) -> bool:
        """As far as its first rows go: most sheets have none, and are not read twice for them."""
        with self._sheet._get_source() as source:  # noqa: SLF001 - the part's bytes
            return _FORMULA.search(source.read(_HEAD_BYTES)) is not None

    def _twice(self, rows: int) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """The rows with results, and with formulas; to their end, or to what cannot be read as a formula."""
        book = self._sheet.parent
        results = self._sheet.iter_rows()
        formulas = self._sheet.iter_rows()
        with suppress(Exception):  # openpyxl moves shared formulas about, and stumbles over odd ones
            for _ in range(rows):
                shown = next(results)
                book._data_only = False  # noqa: SLF001 - it is asked for when a first row is
                try:
                    meant = next(formulas)
                finally:
                    book._data_only = True  # noqa: SLF001
                yield shown, meant

    def _shown(self, cell: Any) -> Any:
        value = cell.value
        if isinstance(value, str):
            if cell.data_type == "e":
                self.errors[value] += 1
                self.first_error = self.first_error or cell.coordinate
                return None
            # texts write what XML cannot hold as _x0001_
            return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value) if "_x" in value else value
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            whole = _whole(value)
            zeros = _zeros(cell.number_format) if isinstance(whole, int) and whole >= 0 and cell.has_style else 0
            return f"{whole:0{zeros}d}" if zeros else whole
        return _text_of(value, cell.number_format)


def open_sheets(path: Path, where: str) -> list[Sheet]:
    """All sheets of cells in their order. Raises InputError for what is no workbook, in words for what it is instead."""
    with mended(where):
        _refuse_other(path, where)
        _refuse_package(path, where)
        import openpyxl  # noqa: PLC0415 - only where there is a workbook

        # of what is beside the cells and not understood
        warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\.")
        file = path.open("rb")
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        except BaseException:
            file.close()
            raise
        weakref.finalize(book, file.close)
        stale = _is_stale(path)
        return [Sheet(each, where, stale=stale) for each in book.worksheets]


@contextmanager
def mended(where: str) -> Iterator[None]:
    """What reading can raise, as an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # on damage, openpyxl raises whatever its code stumbles over
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(where, error) from error
        told = str(error).partition("\n")[0] or "it ends too early"
        raise InputError(f"{where} is damaged: {told}.", hint=_SAVE_ANEW) from error


def _whole(value: float) -> int | float | None:
    """Whole numbers as int, though they be written as 7.0; None for what is beyond all numbers."""
    if isinstance(value, int):
        return value if abs(value) < _EXACT else float(value)
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value if abs(value) != float("inf") else None


@lru_cache(maxsize=256)
def _zeros(number_format: str) -> int:
    """How many digits a number is shown with at least."""
    return len(number_format) if re.fullmatch("0{2,}", number_format) else 0


@lru_cache(maxsize=256)
def _with_clock(number_format: str) -> bool:
    from openpyxl.styles.numbers import is_datetime  # noqa: PLC0415 - as openpyxl

    return bool(is_datetime(number_format.lower()) == "datetime")


def _text_of(value: date | time | timedelta, number_format: str) -> str:
    """As ISO 8601 says; a moment at midnight is a date where its format shows no hours."""
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, datetime) and value.time() == time() and not _with_clock(number_format):
        return value.date().isoformat()
    if isinstance(value, datetime | time):
        return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    return value.isoformat()


def _duration(value: timedelta) -> str:
    """As PT26H30M: hours are not made days, as a spreadsheet shows hours."""
    minutes, rest_ms = divmod(round(abs(value) / timedelta(milliseconds=1)), 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if rest_ms or not (hours or minutes):
        parts.append(f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "S")
    return f"{'-' if value < timedelta() else ''}PT{''.join(parts)}"


def _refuse_other(path: Path, where: str) -> None:
    with path.open("rb") as file:
        head = file.read(1024)
        if head.startswith(b"PK"):
            return
        if not head:
            raise InputError(f"{where} is empty.", hint="Save it again from the program that made it.")
        if head.startswith(_OLE):
            if "EncryptedPackage".encode("utf-16-le") in head + file.read(_OLE_BYTES):
                raise _locked(where)
            raise InputError(f"{where} is in the old Excel format (.xls), whatever its name says.", hint=_SAVE_ANEW)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise InputError(f"{where} is a web page or XML that is named like a workbook.", hint=_SAVE_ANEW)
    if b"\0" not in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{where} is text that is named like a workbook.", hint="Rename it to .csv or .tsv.")
    raise InputError(f"{where} is no workbook, whatever its name says.", hint=_SAVE_ANEW)


def _refuse_package(path: Path, where: str) -> None:
    with ZipFile(path) as archive:
        parts = archive.infolist()
    names = {part.filename for part in parts}
    if "xl/workbook.bin" in names:
        raise InputError(f"{where} is a binary workbook (.xlsb).", hint=_SAVE_ANEW)
    if {"mimetype", "content.xml"} <= names:
        raise InputError(f"{where} is an OpenDocument file (.ods).", hint=_SAVE_ANEW)
    if not any(name.startswith("xl/") for name in names):
        raise InputError(f"{where} is a ZIP archive without a workbook in it.", hint=_SAVE_ANEW)
    for part in parts:
        if part.flag_bits & 1:
            raise _locked(where)
        if part.file_size > max(_SUSPECT_BYTES, _SUSPECT_RATIO * part.compress_size):
            raise InputError(
                f"{where} unpacks to {part.file_size // 1024**2} MiB in one part ({part.filename}), more than any"
                " table of its size does: it is refused.",
                hint=_SAVE_ANEW,
            )


def _is_stale(path: Path) -> bool:
    """Whether it asks for all formulas to be worked out. openpyxl says so also of workbooks that say nothing."""
    with ZipFile(path) as archive, suppress(KeyError):
        return re.search(rb"fullCalcOnLoad=[\"'](?:1|true)[\"']", archive.read("xl/workbook.xml")) is not None
    return False


def _locked(where: str) -> InputError:
    return InputError(
        f"{where} is protected by a password.",
        hint="Open it, take the password off (in Excel: File, Info, Protect Workbook), and save it.",
    )
