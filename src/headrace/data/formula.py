"""Text that a spreadsheet program would take for a formula gets an apostrophe before it, and loses it again.

Knows no format. Nothing is lost: what begins with apostrophes and then as a formula does gets one more.
"""

import re
from collections.abc import Sequence

_ARMED = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_HARMLESS = re.compile(r"[+-][\d\s.,;/()+*%-]*(?:\d[eE][+-]?\d+)?", re.ASCII)
"""Numbers, telephone numbers, sums, rules of dashes: without a letter nothing can be called and no cell be named."""
STARTS = frozenset("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")
"""No other text is changed."""
_OWN, _USD = ("error", "attempts", "seconds"), "usd"


def guarded(text: str) -> str:
    """The text as it is written into CSV: what would be a formula begins with an apostrophe."""
    if text[:1] not in STARTS or not _ARMED.match(text) or _HARMLESS.fullmatch(text):
        return text
    return f"'{text}"


def unguarded(text: str) -> str:
    """The text that `guarded` was given."""
    return text[1:] if text[:1] == "'" and _GUARDED.match(text) else text


def is_result(fields: Sequence[str]) -> bool:
    """Whether columns of these names are those of a result that headrace wrote: it ends with three of its own, or four."""
    return any(len(fields) >= len(own) and all(map(_is_own, own, fields[-len(own) :])) for own in (_OWN, (*_OWN, _USD)))


def _is_own(own: str, name: str) -> bool:
    return re.fullmatch(f"(headrace_)*{own}", name) is not None
