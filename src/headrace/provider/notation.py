"""How providers write amounts, waits and moments. Enters the text of one header or field, leaves a number or None.

Never raises, and knows no header's name.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

LONGEST_S = 32 * 86_400.0
"""No wait is longer: limits are counted in months at most."""

_MOST = 1e15
_LONGEST_TEXT = 64
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_DURATIONS = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s|d))+")
_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def amount(text: str) -> float | None:
    """A number from 0, also as "30,000"; None for what is none, among them -1, which stands for no limit."""
    try:
        number = float(text)
    except ValueError:
        if not _GROUPED.fullmatch(text):
            return None
        number = float(text.replace(",", ""))
    return number if 0 <= number <= _MOST else None  # nan is neither


def wait_s(text: str, now_wall_s: float) -> float | None:
    """Seconds from now, where `now_wall_s` is seconds since 1970. Four notations are in use, and HTTP's own dates:

    seconds (Retry-After, Azure), durations in Go's way ("6m0.5s"; OpenAI, Groq), seconds or milliseconds since 1970
    (OpenRouter), RFC 3339 (Anthropic).
    """
    if len(text) > _LONGEST_TEXT:
        return None
    read = _read(text)
    if read is None:
        return None
    seconds, since_1970 = read
    if since_1970:
        seconds -= now_wall_s
    return bounded_s(seconds)


def bounded_s(seconds: float) -> float:
    return seconds if 0.0 <= seconds <= LONGEST_S else min(max(seconds, 0.0), LONGEST_S)


def moment_s(text: str) -> float | None:
    """Seconds since 1970 of a date and time, None for what is none."""
    if len(text) > _LONGEST_TEXT:
        return None
    read = _read(text)
    return read[0] if read is not None and read[1] else None


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[float, bool] | None:
    """Seconds, and whether they are since 1970. Remembered: the same few are told with every answer of a second."""
    if text[-2:] == "ms":  # by far the most frequent, and without an exception
        seconds = amount(text[:-2])
        if seconds is not None:
            return seconds / 1000, False
    elif text[-1:] == "s" and (seconds := amount(text[:-1])) is not None:
        return seconds, False
    number = amount(text)
    if number is not None:
        if number >= 1e12:
            return number / 1000, True
        return number, number >= 1e9
    text = text.strip()
    if _DURATIONS.fullmatch(text):
        return sum(float(count) * _UNIT_S[unit] for count, unit in _DURATION.findall(text)), False
    seconds = _date_s(text)
    return None if seconds is None else (seconds, True)


def _date_s(text: str) -> float | None:
    if not text[:1].isalnum() or text.lstrip("-+.").replace(".", "").isdigit():  # a number that was refused is no date
        return None
    try:
        moment = parsedate_to_datetime(text) if text[0].isalpha() else datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError, OSError):  # all that the parser raises
        return None
