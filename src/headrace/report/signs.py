"""Text on a stream that may know little and comes from anywhere: signs for its encoding, foreign text made fit to show.

Knows nothing of runs.
"""

import sys
from collections.abc import Mapping
from typing import IO

import msgspec

from headrace.report.text import cells, one_line

Part = tuple[str, str]
"""Text and its style: bold, dim, a colour, or bold and a colour."""


class Glyphs(msgspec.Struct, frozen=True):
    """The signs that a stream can show."""

    dot: str
    full: str
    rest: str
    arrow: str
    more: str


UNICODE = Glyphs(" · ", "━", "─", "→", "…")
ASCII = Glyphs(", ", "#", "-", "->", "...")


def glyphs_of(stream: IO[str], environ: Mapping[str, str]) -> Glyphs:
    """The signs that both the stream's encoding and the user's locale know."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
    return UNICODE if encoding.startswith("utf") and _knows_utf8(environ) else ASCII


def _knows_utf8(environ: Mapping[str, str]) -> bool:
    """What the user's locale says. Python itself sets LC_CTYPE where that is `C`, so this is no word of the user's."""
    if sys.platform in ("win32", "darwin"):
        return True
    said = [environ.get("LC_ALL"), environ.get("LC_CTYPE"), environ.get("LANG")]
    if said[1] in ("C.UTF-8", "C.utf8", "UTF-8") and not said[0]:
        said.pop(1)
    locale = next(filter(None, said), "C").lower().replace("-", "")
    return "utf8" in locale


def printable(text: str, width: int, more: str = "…") -> str:
    """Foreign text for one line of at most `width` columns: no control characters, no tricks with direction.

    What is cut ends in `more`. The result can still look like markup: give it to rich only as Text.
    """
    looked_at = 8 * max(width, 0) + 64
    line = one_line(text[:looked_at])
    taken = 0
    kept: list[str] = []
    for character in line:
        taken += cells(character)
        if taken > width or len(kept) >= 4 * width:
            break
        kept.append(character)
    else:
        if len(text) <= looked_at:
            return line
    room = max(0, width - len(more))
    while kept and sum(map(cells, kept)) > room:
        kept.pop()
    return ("".join(kept) + more)[: max(width, 0)]


def encodable(text: str, stream: IO[str]) -> str:
    """What the stream's encoding lacks becomes a question mark, so that writing never raises."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.encode("ascii", "replace").decode("ascii")
    return text
