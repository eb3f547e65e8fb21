"""What separates the fields of a CSV file: found from its header and first rows.

Enters the start of its text, leaves one character. A delimiter inside quotes does not count.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator

COMMON = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe"}
"""In this order where nothing else decides: no text has tabs."""
_ROWS = 100
_SEP = re.compile(r'\s*"?sep=(.)"?[ \t,;]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


def stated_in(text: str) -> str | None:
    """The delimiter that a first line `sep=;` states, as Excel writes and reads it."""
    found = _SEP.match(text)
    return found[1] if found and found[1] not in '"\r\n' else None


def found_delimiter(text: str, *, whole: bool) -> str:
    """The delimiter of a text that starts like this; a comma where none is seen. `whole` is a text that ends here.

    It stands in the header and in at least half of the rows. Of several, the one with which most rows are as wide as
    the header; then that after which fewer fields begin with a blank, as text does after a comma; then that with the
    most fields.
    """
    best, best_score = ",", (0.0, 0.0, 0)
    for mark in COMMON:
        rows = _rows(text, mark, whole=whole)
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        below = rows[1:]
        split = sum(len(row) > 1 for row in below)
        if split * 2 < len(below):
            continue
        fits = sum(len(row) == width for row in below) / len(below) if below else 1.0
        fields = [field for row in rows for field in row[1:]]
        blank = sum(field.startswith(" ") for field in fields) / len(fields)
        score = (fits, 1 - blank, width)
        if score > best_score:
            best, best_score = mark, score
    return best


def has_bare_quotes(text: str, *, whole: bool) -> bool:
    """Whether quotes in a text separated by tabs are signs of it, as databases write such files: each line fits the
    header as it is, and where quotes are read as CSV's they do not.
    """
    if '"' not in text:
        return False
    lines = text if whole else text[: text.rfind("\n") + 1]
    bare = csv.reader(io.StringIO(lines, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    quoted = csv.reader(io.StringIO(lines, newline=""), delimiter="\t", strict=True)
    return _fit(bare) and not _fit(quoted)


def _fit(reader: Iterable[list[str]]) -> bool:
    """Whether there is a row, and all are as wide as the header, which is wider than one."""
    try:
        widths = [len(row) for row in reader if row]
    except csv.Error:
        return False
    return len(widths) > 1 and widths[0] > 1 and len(set(widths)) == 1


def _rows(text: str, mark: str, *, whole: bool) -> list[list[str]]:
    """The header and the first rows that are there to their end, with this delimiter."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append(row)
            if len(rows) > _ROWS:
                return rows
    except csv.Error:  # whoever reads the rows will say so
        return rows
    return rows if whole or len(rows) == 1 else rows[:-1]


def has_header(head: bytes) -> bool:
    """Whether the first line that is not blank is there to its end, quoted line breaks aside."""
    text = head.lstrip()
    return any(text.count(b'"', 0, end.start()) % 2 == 0 for end in _ends(text))


def _ends(text: bytes) -> Iterator[re.Match[bytes]]:
    # a carriage return at the very end may be half of \r\n
    return re.finditer(rb"\n|\r(?=.)", text, re.DOTALL)
