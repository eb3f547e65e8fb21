"""A sheet of an XLSX file becomes rows of plain data: which sheet, where its header is, and what its columns are named.

Knows nothing of cells' types. Where a choice was made for the person, a notice says so.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from headrace.core.errors import InputError
from headrace.data.files import Rows
from headrace.data.naming import column_names
from headrace.data.workbook import MOST_ROWS, Sheet, open_sheets

_HEAD_ROWS = 20
"""Rows that are looked at to find the header."""
_LOOKED_ROWS = 1000
"""Rows that are looked at for columns without a name, and for errors: more would hold up the first call."""
_COLUMNS_TOLD = 5
_SAVE = "Open the file in a spreadsheet program, save it there, and run again."
_Looked = list[tuple[int, list[Any]]]


def open_xlsx(path: Path, where: str, sheet: str | None) -> Rows:
    """The rows of the sheet of this name or number, else of the first one that is not hidden and has any.

    The header is the first row that fills more than half as many cells as the table does, so titles above it are left
    out. Rows without any value are left out, and columns that have neither name nor value. Numbers stay numbers, dates
    and times become ISO 8601 text, formulas are their saved results; what is empty, or an error, is None. Raises
    InputError.
    """
    stamp = _stamp(path) if path.exists() else None
    sheets = open_sheets(path, where)
    chosen, looked, notices = _chosen(sheets, where, sheet)
    at = _header_at(looked[:_HEAD_ROWS])
    number, names = looked[at]
    columns = sorted(_filled(names).union(*(_filled(values) for _, values in looked[at + 1 :])))
    unsaved = chosen.unsaved(_LOOKED_ROWS)
    if len(looked) == at + 1:
        hint = (
            f"All below it are formulas without a saved result. {_SAVE}"
            if unsaved
            else "Add at least one row below it."
        )
        raise InputError(f"{chosen.where}, has a header but no rows.", hint=hint)
    fields, renamed = column_names([_name(names, column) for column in columns], where)
    of = dict(zip(columns, fields, strict=True))
    if at:
        notices.append(
            f"{where}: the header was taken to be row {number} of sheet {chosen.name!r};"
            f" {at} {'row' if at == 1 else 'rows'} above it {'was' if at == 1 else 'were'} left out."
        )

    def rows() -> Iterator[dict[str, Any]]:
        if _stamp(path) != stamp:
            raise InputError(f"{where} was changed while it was used.", hint="Run again.")
        return _rows(chosen, number, columns, fields)

    notices = [*notices, *renamed, *_errors(chosen, where), *_formulas(unsaved, of, where)]
    return Rows(rows, fields, _total(chosen, looked, at), notices=tuple(notices))


def _total(sheet: Sheet, looked: _Looked, header: int) -> int | None:
    if len(looked) < _LOOKED_ROWS:
        return len(looked) - header - 1
    declared = sheet.last_row or 0
    return declared - looked[header][0] if looked[-1][0] <= declared < MOST_ROWS else None


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _chosen(sheets: list[Sheet], where: str, wanted: str | None) -> tuple[Sheet, _Looked, list[str]]:
    """The sheet, its first rows, and what is to be told about the choice."""
    visible = [_named(sheets, where, wanted)] if wanted is not None else [each for each in sheets if not each.hidden]
    for place, sheet in enumerate(visible):
        if looked := list(islice(sheet.rows(), _LOOKED_ROWS)):
            if len(visible) == 1:
                return sheet, looked, []
            others = ", ".join(repr(each.name) for each in visible if each is not sheet)
            why = "first" if place == 0 else "first that has rows"
            told = f"{where}: sheet {sheet.name!r} was read, the {why}; --sheet names another ({others})."
            return sheet, looked, [told]
    if wanted is not None:
        raise InputError(f"{visible[0].where}, is empty.", hint=_listed(sheets))
    raise InputError(f"{where} has no sheet with rows that is not hidden.", hint=_listed(sheets))


def _named(sheets: list[Sheet], where: str, wanted: str) -> Sheet:
    for sheet in sheets:
        if sheet.name == wanted:
            return sheet
    alike = [sheet for sheet in sheets if sheet.name.strip().casefold() == wanted.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if wanted.strip().isdecimal() and 1 <= int(wanted) <= len(sheets):
        return sheets[int(wanted) - 1]
    raise InputError(f"{where} has no sheet {wanted!r}.", hint=_listed(sheets))


def _listed(sheets: list[Sheet]) -> str:
    told = [f"{sheet.name!r}{' (hidden)' if sheet.hidden else ''}" for sheet in sheets]
    if not told:
        return "None was found in it: save it as an Excel workbook (.xlsx), not as Strict Open XML."
    return f"Its sheets are: {', '.join(told)}."


def _header_at(head: _Looked) -> int:
    """The place in `head` of the first row that fills more than half as many cells as the table does.

    As wide as the table are at least two rows, so that a note beside one of them widens nothing.
    """
    filled = [len(_filled(values)) for _, values in head]
    width = sorted(filled)[-2:][0]
    return next(place for place, count in enumerate(filled) if count * 2 > width)


def _filled(values: list[Any]) -> set[int]:
    return {column for column, value in enumerate(values) if value is not None and value != ""}


def _name(names: list[Any], column: int) -> str:
    value = names[column] if column < len(names) else None
    if isinstance(value, bool):
        return str(value).upper()
    return "" if value is None else str(value)


def _errors(sheet: Sheet, where: str) -> Iterator[str]:
    if count := sheet.errors.total():
        cells = "1 cell holds" if count == 1 else f"{count:,} cells hold"
        kinds = ", ".join(kind for kind, _ in sheet.errors.most_common(4))
        yield (
            f"{where}: of the first {_LOOKED_ROWS:,} rows, {cells} an error ({kinds}; the first is"
            f" {sheet.first_error}); errors are read as empty."
        )


def _formulas(unsaved: Mapping[int, list[str]], of: Mapping[int, str], where: str) -> Iterator[str]:
    if count := sum(map(len, unsaved.values())):
        cells = "1 cell holds a formula" if count == 1 else f"{count:,} cells hold formulas"
        named = [repr(of[column]) if column in of else f"without a name, at {at[0]}" for column, at in unsaved.items()]
        more = f" and {len(named) - _COLUMNS_TOLD} more" if len(named) > _COLUMNS_TOLD else ""
        told = f"{'column' if len(named) == 1 else 'columns'} {', '.join(named[:_COLUMNS_TOLD])}{more}"
        yield (
            f"{where}: of the first {_LOOKED_ROWS:,} rows, {cells} whose result was never saved ({told}; the first is"
            f" {next(iter(unsaved.values()))[0]}): read as empty or 0. {_SAVE}"
        )


def _rows(sheet: Sheet, header: int, columns: list[int], fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    known, width = set(columns), columns[-1] + 1
    dense = columns == list(range(width))
    for number, values in sheet.rows():
        if number <= header:
            continue
        if (len(values) > width or not dense) and (beyond := _filled(values) - known):
            from openpyxl.utils import get_column_letter  # noqa: PLC0415 - as openpyxl

            raise InputError(
                f"{sheet.where}, cell {get_column_letter(min(beyond) + 1)}{number}: there is a value beside the table.",
                hint="Give its column a header, or take it away.",
            )
        values.extend([None] * (width - len(values)))
        yield dict(zip(fields, map(values.__getitem__, columns)))  # noqa: B905 - as long; saying so costs time
