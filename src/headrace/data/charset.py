"""What a page's text is written in. Enters its bytes and what the server says of them, leaves text and a codec, or that
it is no text.

1. A byte order mark tells it. 2. Else the server's header. 3. Else the page's own head. 4. Else it is UTF-8 if it can be.
5. Else it is guessed. What 2 and 3 say holds only where the bytes can be that; where nothing fits, signs are replaced.
"""

import codecs
import re
from collections.abc import Iterator

from headrace.data.encoding import UTF8, WESTERN, looks_western, told_by_head

_HEAD_BYTES = 4096
_GUESSED_BYTES = 65_536
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]{2,40})""")
_READ_AS = {
    "ascii": WESTERN, "iso8859-1": WESTERN, "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932",
    "euc_kr": "cp949", "iso8859-9": "cp1254", "tis-620": "cp874", "iso8859-11": "cp874", "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}  # fmt: skip
"""The larger sets that browsers read these names as: https://encoding.spec.whatwg.org/#names-and-labels."""
_OF_THE_WEB = frozenset(
    {UTF8, "utf-16-le", "utf-16-be", "euc_jp", "iso2022_jp", "cp866", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"}
    | {f"cp125{number}" for number in range(9)} | {f"iso8859-{number}" for number in range(2, 17)}
    | set(_READ_AS.values())
)  # fmt: skip
"""Python has others under such names, which are no charsets: unicode_escape, idna, rot13."""
_BINARY = (
    b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"RIFF", b"OggS",
    b"\x7fELF", b"MZ\x90",
)  # fmt: skip
_TEXTS = ("text/", "application/xhtml", "application/xml", "application/json", "application/javascript", "application/x-ndjson", "application/rtf", "application/ld+json")  # fmt: skip
_SUFFIXES = ("+xml", "+json")


def text_of(body: bytes, content_type: str, named: str) -> tuple[str, str] | None:
    """The text and its codec; None where it is none. `content_type` is without parameters, `named` the header's
    charset. Both may be empty, or wrong."""
    told = told_by_head(body[:_HEAD_BYTES])
    if not _may_be_text(body, content_type, is_wide=told is not None):
        return None
    if told is not None and told[1]:
        return body.decode(told[0], "replace").removeprefix("\ufeff"), told[0]
    first = ""
    for codec in _candidates(body, named, told):
        first = first or codec
        try:
            return body.decode(codec), codec
        except UnicodeDecodeError:
            continue
    codec = _guessed(body) or first or UTF8
    return body.decode(codec, "replace"), codec


def codec_of(name: str) -> str:
    """The codec that browsers read this name as; empty for what is no charset of the web."""
    try:
        found = codecs.lookup(name.strip().strip("\"'")).name
    except (LookupError, ValueError):
        return ""
    found = _READ_AS.get(found, found)
    return found if found in _OF_THE_WEB else ""


def _may_be_text(body: bytes, content_type: str, *, is_wide: bool) -> bool:
    if body.startswith(_BINARY):
        return False
    if content_type.startswith(_TEXTS) or content_type.endswith(_SUFFIXES):
        return True
    return not content_type and (is_wide or b"\0" not in body[:_HEAD_BYTES])


def _candidates(body: bytes, named: str, told: tuple[str, bool] | None) -> Iterator[str]:
    if codec := codec_of(named):
        yield codec
    if told is not None:
        yield told[0]
    head = body[:_HEAD_BYTES]
    for found in (_XML.search(head), _META.search(head)):
        if found and (codec := codec_of(found[1].decode())):
            yield UTF8 if codec.startswith("utf-16") else codec  # it could not have been read so far
    yield UTF8


def _guessed(body: bytes) -> str:
    sample = body[:_GUESSED_BYTES]
    if looks_western(sample):
        return WESTERN
    from charset_normalizer import from_bytes  # noqa: PLC0415 - slow to import, and seldom needed

    best = from_bytes(sample).best()
    return codec_of(best.encoding) if best is not None else ""
