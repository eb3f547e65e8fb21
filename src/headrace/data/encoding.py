"""Text in any encoding becomes UTF-8 without a byte order mark; what a text is written in is found where nobody says.

Enter chunks of bytes, leave chunks of bytes. Knows no format, and reads no file.

1. A stated encoding is the one. 2. Else a byte order mark tells it. 3. Else NULs in every second or in three of four
bytes tell UTF-16 or UTF-32. 4. Else it is UTF-8, if it is (see count.py, which looks). 5. Else it is Windows-1252, where
its bytes can be that and look like it.
"""

import codecs
import difflib
import re
from collections.abc import Iterator
from contextlib import suppress
from encodings.aliases import aliases
from itertools import chain

from headrace.core.errors import InputError, UsageError

UTF8 = "utf-8"
WESTERN = "cp1252"
SAY = "Say what it is written in: --encoding NAME, in Python Table(path, encoding=NAME)."
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPOKEN = {UTF8: "UTF-8", WESTERN: "Windows-1252"}
_HEAD_BYTES = 4096
_NUL_SHARE = 0.1
"""Of the bytes at one place of each code unit: mostly ASCII text has nearly all, a damaged UTF-8 file has a few."""
_NOT_WESTERN = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_RUN = re.compile(rb"[\x80-\xff]{3,}")
_HIGH = re.compile(rb"[\x80-\xff]+")
_LETTER = re.compile(rb"[\xc0-\xff]")
"""In Windows-1252; below are signs, such as quotes and dashes."""


def codec_of(name: str) -> str:
    """The codec of this name. Raises UsageError where there is none for text."""
    try:
        found = codecs.lookup(name).name
        codecs.getincrementaldecoder(found)
        with suppress(UnicodeDecodeError):
            b"a".decode(found)  # raises LookupError where it is no codec of text
    except (LookupError, ValueError) as error:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), sorted(set(aliases.values())), n=1)
        ask = f"Did you mean {near[0].replace('_', '-')}? " if near else ""
        raise UsageError(
            f"There is no text encoding {name!r}.",
            hint=f"{ask}Names are Python's, such as utf-8, windows-1252, utf-16, shift-jis, gbk.",
        ) from error
    return UTF8 if found == "utf-8-sig" else found


def spoken(codec: str) -> str:
    return _SPOKEN.get(codec, codec.upper() if codec.startswith("utf") else codec)


def told_by_head(head: bytes) -> tuple[str, bool] | None:
    """The codec that the first bytes tell, and whether by a byte order mark; None where they tell none."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec, True
    head = head[: _HEAD_BYTES & ~3]
    if b"\0" not in head:
        return None
    quarter = max(1, len(head) // 4)
    often = [head[place::4].count(0) / quarter > _NUL_SHARE for place in range(4)]
    shapes = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    codec = shapes.get((often[0], often[1], often[2], often[3]), "")
    return (codec, False) if codec else None


def looks_western(data: bytes) -> bool:
    """Whether bytes that are no UTF-8 can be Windows-1252: there, letters beyond ASCII stand among ASCII's. Where they
    stand in words of their own, as in Russian or Chinese, the text would be read as other letters than were written.
    """
    high = sum(map(len, _HIGH.findall(data)))
    in_words = sum(len(run) for run in _RUN.findall(data) if len(_LETTER.findall(run)) > 1)
    return _NOT_WESTERN.search(data) is None and in_words * 2 <= high


def as_utf8(chunks: Iterator[bytes], where: str, codec: str) -> Iterator[bytes]:
    """The text as UTF-8. Raises InputError at what `codec` cannot hold, after what comes before; UTF-8 itself passes as
    it is, and whoever decodes it will tell.
    """
    return _unmarked(chunks) if codec == UTF8 else _recoded(chunks, where, codec)


def nul(where: str, line: int) -> InputError:
    """A NUL, which no text has: whoever splits a text into lines looks for it."""
    return InputError(
        f"{where}, line {line}: there is a NUL byte, which is no text.",
        hint="Take the NULs out (tr -d '\\000' <FILE >NEW), or, where it is written in UTF-16, say "
        "--encoding utf-16-le.",
    )


def _unmarked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(codecs.BOM_UTF8) or not codecs.BOM_UTF8.startswith(head):
            break
    if head := head.removeprefix(codecs.BOM_UTF8):
        yield head
    yield from chunks


def _recoded(chunks: Iterator[bytes], where: str, codec: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)()
    taken, line, first = 0, 1, True
    for chunk in chain(chunks, (b"",)):
        try:
            text = decoder.decode(chunk, final=not chunk)
            data = (text.removeprefix("\ufeff") if first and text else text).encode()
        except UnicodeError as error:
            at, byte = taken, ""
            if isinstance(error, UnicodeDecodeError):
                good = error.object[: error.start].decode(codec, "ignore")
                at += error.start + len(chunk) - len(error.object)
                byte = f" (0x{error.object[error.start]:02x})"
                line += good.count("\n")
                yield good[: good.rfind("\n") + 1].encode("utf-8", "ignore")
            raise InputError(
                f"{where}, line {line}: byte {at + 1:,} of the file{byte} is no {spoken(codec)} text.", hint=SAY
            ) from error
        taken += len(chunk)
        if b"\0" in data:
            good_data = data[: data.index(b"\0")]
            yield good_data[: good_data.rfind(b"\n") + 1]
            raise nul(where, line + good_data.count(b"\n"))
        if data:
            first = False
            line += data.count(b"\n")
            yield data


def undecodable(where: str, error: UnicodeDecodeError) -> InputError:
    """What is no UTF-8, told as the place of the byte in its line."""
    at = error.start - error.object.rfind(b"\n", 0, error.start)
    byte = error.object[error.start]
    return InputError(f"{where}: byte {at} (0x{byte:02x}) is no UTF-8 text.", hint=SAY)
