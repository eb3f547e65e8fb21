"""Bytes as they are stored become the bytes that were packed: gzip and zstd, found by their first bytes.

Enter chunks, leave chunks; nothing is held but what one step needs. Knows no format of tables.
"""

import io
import zlib
from collections.abc import Iterator
from itertools import chain

from headrace.core.errors import InputError

ENDINGS = (".gz", ".zst")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP_BYTES = 128 * 1024
_OTHERS = {
    b"PK\x03\x04": "an XLSX file or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls, .doc)",
    b"PAR1\x15": "a Parquet file",
    b"BZh91AY": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"%PDF-": "a PDF",
    b"\x89PNG": "a picture",
    b"SQLite format": "an SQLite database",
}
_SIGNS = (_GZIP, _ZSTD, *_OTHERS)


def unpacked(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """The text's bytes, whether or not they are packed. Raises InputError for what is no text by its first bytes, and
    for an archive that is cut or damaged.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if not any(len(head) < len(sign) and sign.startswith(head) for sign in _SIGNS):
            break
    if not head:
        return
    whole = chain((head,), chunks)
    if head.startswith(_GZIP):
        yield from _gunzipped(whole, where)
    elif head.startswith(_ZSTD):
        yield from _unzstd(whole, where)
    else:
        _refuse_other(head, where)
        yield from whole


def _refuse_other(head: bytes, where: str) -> None:
    for sign, kind in _OTHERS.items():
        if head.startswith(sign):
            raise InputError(
                f"{where} is {kind} by its first bytes, not text.",
                hint="Give the file the ending of its kind, or unpack it first.",
            )


def _gunzipped(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Any number of members one after the other, as gzip itself reads them; zeros after the last are padding."""
    member = zlib.decompressobj(wbits=31)
    taken = 0
    begun = True
    for chunk in chunks:
        data = chunk
        while data:
            at = taken + len(chunk) - len(data)
            if not begun:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, begun = zlib.decompressobj(wbits=31), True
            try:
                made = member.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                raise _damaged(where, at, taken + len(chunk), "gzip", str(error)) from error
            data = member.unused_data if member.eof else member.unconsumed_tail
            begun = not member.eof
            if made:
                yield made
        taken += len(chunk)
    if begun:
        raise _cut(where, taken, "gzip")


def _unzstd(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415 - heavy; Python itself reads zstd only from 3.14 on

    packed = _Packed(chunks)
    stream = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")
    while True:
        try:
            made: bytes = stream.read(_STEP_BYTES)
        except (OSError, pa.ArrowException) as error:
            if packed.error is not None:  # reading failed, not unpacking
                raise packed.error from error
            if "Truncated" in str(error):
                raise _cut(where, packed.taken, "zstd") from error
            raise _damaged(where, max(0, packed.taken - _STEP_BYTES), packed.taken, "zstd", str(error)) from error
        if not made:
            return
        yield made


class _Packed(io.RawIOBase):
    """Chunks as the file that pyarrow asks for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self.taken = 0
        self.error: InputError | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._rest or next(self._chunks, b"")
        except InputError as error:
            self.error = error
            raise
        if size < 0:
            size = len(data)
        given, self._rest = data[:size], data[size:]
        self.taken += len(given)
        return given


def _cut(where: str, taken: int, kind: str) -> InputError:
    return InputError(
        f"{where} ends in the middle of its {kind} data, after {taken:,} bytes: the archive is not whole.",
        hint="Copy or download it again.",
    )


def _damaged(where: str, at: int, to: int, kind: str, reason: str) -> InputError:
    return InputError(
        f"{where} is damaged: unpacking its {kind} data failed between the bytes {at:,} and {to:,} ({reason}).",
        hint="Copy or download it again.",
    )
