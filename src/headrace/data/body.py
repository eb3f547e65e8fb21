"""The body of an answer, unpacked, in bounded memory. Enters chunks as they come, leaves bytes; refuses more than is
allowed as soon as that is certain, on the wire as well as unpacked. Knows no HTTP client."""

import zlib
from collections.abc import AsyncIterator

from headrace.data.trouble import Troubled

ACCEPTED = "gzip, deflate"
"""What servers are asked for: these two need no package, and can be unpacked piece by piece."""
_MEMBERS = 64
"""A gzip stream may be several, one after the other."""


async def unpacked(chunks: AsyncIterator[bytes], coding: str, max_bytes: int, host: str) -> bytes:
    """Raises Troubled for what is too large, packed in an unknown way, or damaged."""
    unpack = _unpacker(coding, host)
    body = bytearray()
    taken = 0
    async for chunk in chunks:
        taken += len(chunk)
        if taken > max_bytes:
            raise too_large(max_bytes, host)
        if unpack is None:
            body += chunk
        else:
            unpack.feed(chunk, body, max_bytes)
    if unpack is not None and taken:
        unpack.end()
    return bytes(body)


def too_large(max_bytes: int, host: str) -> Troubled:
    return Troubled(
        "too-large", f"The page of {host} is larger than {max_bytes:,} bytes.", hint="Allow more: max_bytes=.",
        bound=max_bytes,
    )  # fmt: skip


def _unpacker(coding: str, host: str) -> "_Zlib | None":
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Troubled(
            "broken", f"The page of {host} is packed as {coding[:40]!r}, which was not asked for.",
            hint="It cannot be read.",
        )  # fmt: skip
    return _Zlib(host, is_gzip=coding != "deflate")


class _Zlib:
    """gzip and deflate; the latter with or without its header, for servers send both."""

    def __init__(self, host: str, *, is_gzip: bool) -> None:
        self._host = host
        self._is_gzip = is_gzip
        self._made = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if is_gzip else None
        self._members = 1

    def feed(self, chunk: bytes, body: bytearray, max_bytes: int) -> None:
        try:
            self._feed(chunk, body, max_bytes)
        except zlib.error:
            raise self._damaged() from None

    def _feed(self, chunk: bytes, body: bytearray, max_bytes: int) -> None:
        if self._made is None:
            has_header = chunk[0] & 0x0F == 8 and int.from_bytes(chunk[:2].ljust(2, b"\0"), "big") % 31 == 0
            self._made = zlib.decompressobj(wbits=zlib.MAX_WBITS if has_header or len(chunk) == 1 else -zlib.MAX_WBITS)
        while chunk:
            if self._made.eof:
                if not self._is_gzip or not chunk.startswith(b"\x1f\x8b") or self._members == _MEMBERS:
                    return  # whatever stands behind the end
                self._made = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                self._members += 1
            body += self._made.decompress(chunk, max_bytes + 1 - len(body))
            if len(body) > max_bytes:
                raise too_large(max_bytes, self._host)
            chunk = self._made.unused_data or self._made.unconsumed_tail

    def end(self) -> None:
        if self._made is None or not self._made.eof:
            raise self._damaged()

    def _damaged(self) -> Troubled:
        return Troubled("broken", f"What {self._host} has packed cannot be unpacked.", passing=True)
