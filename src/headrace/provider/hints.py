"""How long a provider asks us to wait. Enters headers and a body's text, leaves seconds; never raises.

Formats and their sources: Retry-After as seconds or HTTP-date (RFC 9110, 10.2.3), retry-after-ms (OpenAI, Azure),
and "try again in 84ms" in the text of a 429 (OpenAI, Groq).
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_IN_TEXT = re.compile(r"(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|h|m|s|d))+)", re.IGNORECASE)


def retry_after_s(headers: Mapping[str, str], text: str, now_wall_s: float) -> float | None:
    """Seconds to wait before the next call, or None where the provider gives no usable hint.

    `headers` has lower-case names; `now_wall_s` is seconds since 1970.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is None and value:
        seconds = _until(value, now_wall_s)
    if seconds:
        return seconds
    found = _IN_TEXT.search(text)
    return _duration_s(found[1]) if found else seconds


def _number(value: str | None) -> float | None:
    try:
        number = float((value or "").strip())
    except ValueError:
        return None
    return number if isfinite(number) and number >= 0 else None


def _until(value: str, now_wall_s: float) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now_wall_s)
    except (ValueError, OverflowError):
        return None


def _duration_s(text: str) -> float:
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text))
