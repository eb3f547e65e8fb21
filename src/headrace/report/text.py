"""Figures and foreign text made fit for people: 81,204 and 1:05, without what could steer a terminal or a page.

Knows neither terminals nor HTML.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.core.outline import dollars as dollars  # noqa: PLC0414 - as all figures, to be had here

_STEERING = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1, ESC among them; tab and line ends are dealt with apart
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # order and invisible
    "\U000e0000-\U000e0fff]"  # tags and selectors that hide text
)
_NAMED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
"""What a reader should know of: it would act on a terminal, turn the order of what is read, or hide words."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400
_INTEGER_MAX = 10**300
_OF_PLACE = re.compile(r"([0-9]{1,15})-[0-9a-f]{12}((?:::[0-9]{1,15})*)")
"""A key of who named no column for it: position and content, and which of the parts that were made of it."""
_WINDOWS = {1.0: ("s", "a second"), 60.0: ("min", "a minute"), 3600.0: ("h", "an hour"), 86_400.0: ("day", "a day")}


def clean(text: str) -> str:
    """This text without control characters, overrides of its direction and lone surrogates; tabs and lines stay."""
    return _SURROGATES.sub("\ufffd", _STEERING.sub("", _LINE_ENDS.sub("\n", text)))


def visible(text: str) -> str:
    """Clean, with what a reader should know of named in its place: ⟨U+202E⟩."""
    if text.isascii() and text.isprintable():
        return text
    return clean(_NAMED.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text))


def one_line(text: str) -> str:
    """Clean, on one line, runs of white space as one space."""
    return " ".join(clean(text).split())


def cells(character: str) -> int:
    """Columns of a terminal that it takes: 0, 1 or 2."""
    if character.isascii():
        return 1
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shown(value: Any) -> str:
    """A value of an answer or a cell as text: words as they are, the rest as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < _INTEGER_MAX else "a very large number"
        case float():
            return f"{value:.6g}"
        case _:
            try:
                text = msgspec.json.encode(value).decode()
            except (TypeError, ValueError, RecursionError):
                return repr(value)
            return str(msgspec.json.decode(text)) if text.startswith('"') else text  # a date, a UUID


def key_told(key: str) -> str:
    """A key as people know the item: `row 17` where it is made of position and content, `row 17 part 2` of a part."""
    found = _OF_PLACE.fullmatch(key)
    if found is None:
        return key
    part = ".".join(str(int(place) + 1) for place in found[2].split("::")[1:])
    return f"row {int(found[1]) + 1}{f' part {part}' if part else ''}"


def keys_told(keys: Sequence[str], count: int) -> str:
    """The first keys of so many items: `rows 17, 40 and 3 more`, `item abc`."""
    words = [key_told(key) for key in keys]
    if all(word != key for word, key in zip(words, keys, strict=True)):
        words, noun = [word.removeprefix("row ") for word in words], "row"
    else:
        noun = "item"
    left = count - len(keys)
    return f"{noun if count == 1 else f'{noun}s'} {', '.join(words)}{f' and {left:,} more' if left else ''}"


def number(value: float) -> str:
    """1,204 or 3.57: three digits that matter where it has a fraction."""
    if isinstance(value, int) and abs(value) >= _INTEGER_MAX:
        return shown(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}" if abs(value) < 10**15 else f"{float(value):.3g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """12 s, 1:05 min, 3:20 h; tenths below ten seconds, milliseconds below one."""
    if seconds < 0.9995:
        ms = seconds * 1000
        return f"{ms:.0f} ms" if ms >= 9.95 else f"{ms:.2g} ms" if ms > 0 else "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}:{whole % _MINUTE_S:02} min"
    if whole < 2 * _DAY_S:
        return f"{whole // _HOUR_S}:{whole % _HOUR_S // _MINUTE_S:02} h"
    return f"{whole / _DAY_S:.1f} days"


def rate(items_per_s: float) -> str:
    """24.3 items/s, or 3.1 items/min where it is slow."""
    if items_per_s >= 100:
        return f"{items_per_s:,.0f} items/s"
    if items_per_s >= 1 or items_per_s == 0:
        return f"{items_per_s:.1f} items/s"
    per_min = items_per_s * _MINUTE_S
    return f"{per_min:.1f} items/min" if per_min >= 1 else f"{per_min * _MINUTE_S:.1f} items/h"


def size(count: float) -> str:
    """120 MB, 1.2 GB."""
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.0f} {unit}"
    return f"{count / 1000:,.1f} GB"


def allowance(limit: float, window_s: float, *, about: bool = False) -> str:
    """1,200/min, about 598/min; 40 where it has no window."""
    if not window_s:
        return number(math.floor(limit))
    per = _WINDOWS[window_s][0] if window_s in _WINDOWS else f"{window_s:g} s"
    return f"{'about ' if about else ''}{number(limit)}/{per}"


def limit_of(unit: str, limit: float | None, window_s: float, *, about: bool = False) -> str:
    """1,200 requests a minute, 40 calls in flight, no limit of tokens."""
    noun = unit if window_s else "calls in flight"
    if limit is None:
        return f"no limit of {noun}"
    if not window_s:
        return f"{number(math.floor(limit))} {noun}"
    per = _WINDOWS[window_s][1] if window_s in _WINDOWS else f"in {window_s:g} s"
    return f"{'about ' if about else ''}{number(limit)} {noun} {per}"


def plural(count: int, noun: str) -> str:
    """1 item, 1,204 items."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(part: float, whole: float) -> str:
    """61 %; never 0 % of something nor 100 % of less than all."""
    if not whole:
        return ""
    share = 100 * part / whole
    if 0 < share < 1:
        return "< 1 %"
    return "> 99 %" if 99 < share < 100 else f"{share:.0f} %"
