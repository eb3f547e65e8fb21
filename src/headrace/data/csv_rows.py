"""CSV becomes rows: text by column. Enter chunks of UTF-8, leave dicts; what is no CSV is told with its line.

Knows nothing of files.
"""

import csv
import re
from collections.abc import Iterator
from itertools import chain

from headrace.core.errors import InputError
from headrace.data.delimiter import COMMON, found_delimiter, has_bare_quotes, has_header, stated_in
from headrace.data.encoding import undecodable
from headrace.data.formula import is_result, unguarded
from headrace.data.lines import whole_lines
from headrace.data.naming import column_names

_MAX_FIELD_CHARS = 16 * 1024 * 1024
"""Of one field: so far a quote that is never closed may swallow the file."""
_HEAD_BYTES = 256 * 1024
_END_MARK = ["\x1a"]
"""With which DOS programs end a text."""
_LINE_END = re.compile(r"\r\n|\r|\n")


class CsvRows:
    """Rows of one CSV stream; the header is read at once. All values are text.

    `found` says that the delimiter was not stated but found before. `waits` is a stream that may pause: what the
    delimiter is found from is then what is there once the header is.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        where: str,
        delimiter: str | None = None,
        *,
        found: bool = False,
        waits: bool = False,
    ) -> None:
        if csv.field_size_limit() < _MAX_FIELD_CHARS:
            csv.field_size_limit(_MAX_FIELD_CHARS)
        self._where = where
        self.found = found or delimiter is None
        head, whole = _head(chunks, waits=waits)
        text = head.decode("utf-8", "replace")
        self.above = stated_in(text)
        """The delimiter that a line above the header states."""
        self.delimiter = delimiter or self.above or found_delimiter(text, whole=whole)
        lines = whole_lines(chain((head,), chunks), where, at_cr=True)
        decoded = chain.from_iterable(map(bytes.decode, piece) for piece in lines)
        bare = self.delimiter == "\t" and has_bare_quotes(text, whole=whole)
        self._reader = csv.reader(
            decoded, delimiter=self.delimiter, quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL, strict=True
        )
        self.fields, self.notices = self._header()
        if bare:
            self.notices += (f"{where}: quotes were read as part of the text, as its rows do not fit otherwise.",)

    def __iter__(self) -> Iterator[dict[str, str]]:
        fields, width, reader = self.fields, len(self.fields), self._reader
        some = False
        # of a result, as it was before it was written
        rows = (list(map(unguarded, row)) for row in reader) if is_result(fields) else reader
        try:
            for row in rows:
                if len(row) == width:
                    yield dict(zip(fields, row))  # noqa: B905 - they are as long; saying so costs time
                    some = True
                elif row and row != _END_MARK:
                    raise self._ragged(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._broken(error) from error
        if not some:
            raise InputError(f"{self._where} has a header but no rows.", hint="Add at least one row below the header.")

    def _header(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        skip = self.above is not None
        try:
            for row in self._reader:
                if not any(map(str.strip, row)):
                    continue
                if not skip:
                    return column_names(list(map(unguarded, row)) if is_result(row) else row, self._where)
                skip = False
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._broken(error) from error
        raise InputError(f"{self._where} is empty.", hint="A CSV file has a header line and then one row a line.")

    def _ragged(self, row: list[str]) -> InputError:
        line = self._reader.line_num - sum(len(_LINE_END.findall(field)) for field in row)
        mark = COMMON.get(self.delimiter, repr(self.delimiter))
        guessed = "" if not self.found else f" Fields were taken to end at each {mark}; --delimiter says otherwise."
        wide = "1 field" if len(self.fields) == 1 else f"{len(self.fields)} fields"
        if len(self.fields) == 1:
            guessed = ' Where each line is one value, say --delimiter "\\t", a tab.'
        return InputError(
            f"{self._where}, line {line}: expected {wide} as in the header, found {len(row)}.",
            hint=f'Put fields that hold a {mark} or a line break in double quotes ("...").{guessed}',
        )

    def _broken(self, error: csv.Error | UnicodeDecodeError) -> InputError:
        line = self._reader.line_num
        if isinstance(error, UnicodeDecodeError):
            return undecodable(f"{self._where}, line {line + 1}", error)
        if "unexpected end" in str(error):
            return InputError(
                f"{self._where} ends inside a quoted field (line {line}).",
                hint='Close the quote; write a quote inside a quoted field twice ("").',
            )
        return InputError(
            f"{self._where}, line {line}: no valid CSV ({error}).",
            hint='Write a quote inside a quoted field twice ("").',
        )


def _head(chunks: Iterator[bytes], *, waits: bool) -> tuple[bytes, bool]:
    """The start of the text, and whether it is all of it."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES or (waits and has_header(head)):
            return head, False
    return head, True
