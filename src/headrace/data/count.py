"""A text is looked through before the first item is asked about: what it is written in, and how many rows it has.

Enters the start of a text, leaves both. The number is a forecast for the display, never a promise: blank lines count,
and a file that changes is counted as it was.
"""

import codecs
from collections.abc import Iterator
from itertools import chain

import msgspec

from headrace.core.errors import InputError
from headrace.data.encoding import SAY, UTF8, WESTERN, as_utf8, looks_western, nul, spoken, told_by_head

MOST_BYTES = 64 * 1024 * 1024
"""Looking through more would hold up the first call."""
_JUDGED_BYTES = 1024 * 1024
"""What is no UTF-8 is judged by so much from there on."""


class Looked(msgspec.Struct, frozen=True):
    """What was seen. `bytes` and `rows` are None for a text longer than what was looked through."""

    codec: str
    bytes: int | None = None
    rows: int | None = None
    notices: tuple[str, ...] = ()


class Lines:
    """Counts lines; the last may have no end."""

    def __init__(self) -> None:
        self._ends = 0
        self._open = False

    def add(self, chunk: bytes) -> None:
        self._ends += chunk.count(b"\n")
        self._open = not chunk.endswith(b"\n")

    @property
    def rows(self) -> int:
        return self._ends + self._open


class CsvLines:
    """Counts the lines below a header that end outside quotes: an even number of quotes stands before their end."""

    def __init__(self) -> None:
        self._ends = self._returns = 0
        self._quoted = False
        self._last = b""

    def add(self, chunk: bytes) -> None:
        parts = chunk.split(b'"')
        outside = parts[self._quoted :: 2]
        self._ends += sum(part.count(b"\n") for part in outside)
        if not self._ends:  # no end but carriage returns
            self._returns += sum(part.count(b"\r") for part in outside)
        self._quoted ^= len(parts) % 2 == 0
        self._last = chunk[-1:]

    @property
    def rows(self) -> int:
        return max(0, (self._ends or self._returns) - 1 + (self._last not in (b"\n", b"\r", b"")))


def look(chunks: Iterator[bytes], where: str, stated: str | None, counter: Lines | CsvLines) -> Looked:
    """Look through at most MOST_BYTES of an unpacked text. Raises InputError for what is written in nothing known."""
    first = next(chunks, b"")
    codec, notice = found_codec(first, where, stated)
    capped = _Capped(chain((first,), chunks) if first else iter(()))
    text = as_utf8(iter(capped), where, codec)
    if codec == UTF8:
        codec, notice = _judged(text, where, counter, capped, stated=stated is not None)
    else:
        for chunk in text:
            counter.add(chunk)
    notices = (notice,) if notice else ()
    if capped.cut:
        return Looked(codec, notices=notices)
    return Looked(codec, capped.bytes, counter.rows or None, notices)


def found_codec(head: bytes, where: str, stated: str | None) -> tuple[str, str]:
    """The codec of a text by its first bytes, UTF-8 if they tell none, and a notice where it was guessed."""
    if stated is not None:
        return stated, ""
    told = told_by_head(head)
    if told is None:
        return UTF8, ""
    codec, marked = told
    guessed = f"{where} has no byte order mark; by its NULs it was read as {spoken(codec)}. --encoding says otherwise."
    return codec, "" if marked else guessed


class _Capped:
    """Chunks, up to MOST_BYTES."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0
        self.cut = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if self.bytes + len(chunk) > MOST_BYTES:
                self.cut = True
                return
            self.bytes += len(chunk)
            yield chunk


def _judged(
    text: Iterator[bytes], where: str, counter: Lines | CsvLines, capped: _Capped, *, stated: bool
) -> tuple[str, str]:
    """Counts, and says whether it is UTF-8 or Windows-1252. Where it was cut, that is no fault."""
    check = Check(where, stated=stated)
    for chunk in text:
        counter.add(chunk)
        check.add(chunk)
    if not capped.cut:
        check.ended()
    return check.judged()


class Check:
    """Whether bytes are UTF-8, and if not, whether they are Windows-1252.

    Bytes that begin as UTF-8 with letters beyond ASCII and then are none are damaged: read in another encoding, the
    letters before would be wrong.
    """

    def __init__(self, where: str, *, stated: bool = False) -> None:
        self._where = where
        self._stated = stated
        self._decoder = codecs.getincrementaldecoder(UTF8)()
        self._line, self._column, self._ascii = 1, 0, True
        self._cut = b""
        """The start of a character whose end is in the next chunk."""
        self._place = ""
        self._suspect = bytearray()

    def add(self, chunk: bytes) -> None:
        if b"\0" in chunk:
            raise nul(self._where, self._line + chunk.count(b"\n", 0, chunk.index(b"\0")))
        if self._place:
            self._line += chunk.count(b"\n")
            self._suspect += chunk[: _JUDGED_BYTES - len(self._suspect)]
            return
        try:
            if self._cut or not (self._ascii and chunk.isascii()):
                self._ascii = self._decoder.decode(chunk).isascii() and self._ascii
                self._cut = self._decoder.getstate()[0]
        except UnicodeDecodeError as error:
            self._met(error, len(error.object) - len(chunk))
            self._line += chunk.count(b"\n")
            return
        self._line += chunk.count(b"\n")
        end = chunk.rfind(b"\n")
        self._column = len(chunk) - end - 1 if end >= 0 else self._column + len(chunk)

    def ended(self) -> None:
        """Nothing comes after this."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            self._met(error, len(error.object))

    def _met(self, error: UnicodeDecodeError, pending: int) -> None:
        before = error.object[: error.start]
        end = before.rfind(b"\n")
        at = error.start - end if end >= 0 else self._column - pending + error.start + 1
        byte = error.object[error.start]
        place = f"line {self._line + before.count(10)}, byte {at}"
        self._place = f"{place} is 0x{byte:02x}"
        if self._stated:
            raise InputError(f"{self._where}, {place} (0x{byte:02x}) is no UTF-8 text.", hint=SAY)
        if not (self._ascii and before.isascii()):
            raise InputError(
                f"{self._where}, {place} (0x{byte:02x}) is no UTF-8 text, though the text before it is.",
                hint=f"Mend it there, if the file is damaged. {SAY}",
            )
        self._suspect += error.object[error.start :]

    def judged(self) -> tuple[str, str]:
        """The codec, and a notice where it is not UTF-8."""
        if not self._place:
            return UTF8, ""
        if looks_western(bytes(self._suspect)):
            return WESTERN, f"{self._where} is not UTF-8; it was read as Windows-1252. --encoding says otherwise."
        raise InputError(
            f"{self._where} is not UTF-8 ({self._place}), and it cannot be told what it is written in.",
            hint=f"{SAY} Often met are shift-jis, gbk, big5, euc-kr, cp1251, cp1250.",
        )
