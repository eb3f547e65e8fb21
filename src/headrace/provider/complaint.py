"""What the body of a refusal says, in the shapes of all providers. Enters bytes, leaves one value; never raises.

It knows no status and draws no conclusion: that is the verdict's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.core.limits import Unit
from headrace.provider.notation import amount, moment_s, wait_s
from headrace.provider.window import DAY_S, HOUR_S, MINUTE_S, MONTH_S, SECOND_S

_LONGEST_SAID = 300
_LONGEST_READ = 4000
"""Characters of a message that are searched: a message may quote what was sent."""

_PERIODS = {
    "second": SECOND_S, "sec": SECOND_S, "minute": MINUTE_S, "min": MINUTE_S,
    "hour": HOUR_S, "day": DAY_S, "month": MONTH_S,
}  # fmt: skip
_SIGNS = {"R": Unit.REQUESTS, "T": Unit.TOKENS, "IT": Unit.INPUT_TOKENS, "OT": Unit.OUTPUT_TOKENS}
_SIGN_PERIODS = {"S": SECOND_S, "M": MINUTE_S, "H": HOUR_S, "D": DAY_S}
_TYPES = {
    "tokens": Unit.TOKENS, "requests": Unit.REQUESTS,
    "input_tokens": Unit.INPUT_TOKENS, "output_tokens": Unit.OUTPUT_TOKENS,
}  # fmt: skip

_SIGN = re.compile(r"\((R|T|IT|OT)P([SMHD])\)")
_PER = re.compile(
    r"(?:(?<![\d,])(\d[\d,]{0,19}) )?\b((?:input |output |prompt |completion )?tokens?|(?:api )?(?:requests?|calls?))"
    r" ?(?:per|/)[ -]?(second|sec|minute|min|hour|day|month)\b",
    re.IGNORECASE,
)
_RATE_OF = re.compile(r"\b(token|call|request)s? rate limit", re.IGNORECASE)
_CONCURRENCY = re.compile(r"concurren|simultaneous|pending requests exceeded|in parallel", re.IGNORECASE)
_LIMIT = re.compile(r"\blimit:? ([\d,]+)", re.IGNORECASE)
_USED = re.compile(r"\bused:? ([\d,]+)", re.IGNORECASE)
_REQUESTED = re.compile(r"\brequested:? ([\d,]+)", re.IGNORECASE)
_WAIT = re.compile(
    r"(?:try again|retry|wait)(?: in| after)?(?: about)? "
    r"(?:((?:\d+(?:\.\d+)?(?:ms|h|m|s|d))+)\b|(\d+(?:\.\d+)?) ?(millisecond|second|minute|hour|day))",
    re.IGNORECASE,
)
_WORDS = {"millisecond": "ms", "second": "s", "minute": "m", "hour": "h", "day": "d"}
_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)(?: at (\d\d:\d\d))?", re.IGNORECASE)


class Complaint(msgspec.Struct, frozen=True):
    """A refusal in a provider's own words. None: not said."""

    codes: frozenset[str] = frozenset()
    """Every code, type and reason in it, in lower case."""
    text: str = ""
    said: str = ""
    """The first line of the text, to be shown."""
    blamed: Unit | None = None
    window_s: float | None = None
    limit: float | None = None
    used: float | None = None
    requested: float | None = None
    wait_s: float | None = None
    until_s: float | None = None
    """When it ends, in seconds since 1970."""
    headers: Mapping[str, str] = {}
    """Those of the answer that it passes on (OpenRouter), names in lower case."""


def complaint_of(body: bytes) -> Complaint:
    """What a body says: JSON of any provider, or plain text; nothing where it is a page of HTML."""
    try:
        data: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        start = body[: 4 * _LONGEST_READ].lstrip()
        return _spoken("" if start.startswith(b"<") else start.decode("utf-8", "replace"), {})
    if isinstance(data, list) and data:  # Gemini's OpenAI endpoint
        data = data[0]
    error = data.get("error") or data if isinstance(data, dict) else data
    if isinstance(error, str):
        return _spoken(error, {})
    if not isinstance(error, dict):
        return Complaint()
    return _of_details(_spoken(_text(error), error), error)


def _spoken(text: str, error: dict[str, Any]) -> Complaint:
    """What the sentence and the plain fields say."""
    text = text[:_LONGEST_READ]
    codes = frozenset(_codes(error))
    unit, window_s, limit = _limit(text, codes)
    return Complaint(
        codes=codes,
        text=text,
        said=_first_line(text),
        blamed=unit,
        window_s=window_s,
        limit=_figure(_LIMIT, text) if limit is None else limit,
        used=_figure(_USED, text),
        requested=_figure(_REQUESTED, text),
        wait_s=_wait(text, error),
        until_s=_until(text),
        headers=_headers(error),
    )


def _limit(text: str, codes: frozenset[str]) -> tuple[Unit | None, float | None, float | None]:
    """Which limit a text names, its window, and its size where that stands right before ("50 requests per minute")."""
    if found := _SIGN.search(text):
        return _SIGNS[found[1]], _SIGN_PERIODS[found[2]], None
    if found := _PER.search(text):
        return _unit(found[2].lower()), _PERIODS[found[3].lower()], amount(found[1] or "")
    if _CONCURRENCY.search(text):
        return Unit.CONCURRENCY, None, None
    if found := _RATE_OF.search(text):
        return _unit(found[1].lower()), None, None
    return next((unit for code, unit in _TYPES.items() if code in codes), None), None, None


def _unit(words: str) -> Unit:
    if "token" not in words:
        return Unit.REQUESTS
    if words.startswith(("input", "prompt")):
        return Unit.INPUT_TOKENS
    return Unit.OUTPUT_TOKENS if words.startswith(("output", "completion")) else Unit.TOKENS


def _figure(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    return amount(found[1].rstrip(",")) if found else None


def _wait(text: str, error: dict[str, Any]) -> float | None:
    field = error.get("retry_after")
    if isinstance(field, int | float) and not isinstance(field, bool):
        return wait_s(str(field), 0.0)
    found = _WAIT.search(text)
    if not found:
        return None
    return wait_s(found[1].lower() if found[1] else found[2] + _WORDS[found[3].lower()], 0.0)


def _until(text: str) -> float | None:
    found = _REGAIN.search(text)
    return moment_s(f"{found[1]}T{found[2] or '00:00'}:00+00:00") if found else None


def _text(error: dict[str, Any]) -> str:
    """The sentence of an error; where a gateway only says that its provider failed, what that one said too."""
    said = next((error[name] for name in ("message", "detail", "title", "Message") if error.get(name)), "")
    if not isinstance(said, str):
        said = msgspec.json.encode(said).decode()
    raw = _entry(error.get("metadata"), "raw")
    if isinstance(raw, str) and raw:
        inner = complaint_of(raw.encode()) if len(raw) < _LONGEST_READ and "metadata" not in raw else Complaint()
        said = f"{said.rstrip('. ')}: {inner.text}" if inner.text else said
    return said


def _headers(error: dict[str, Any]) -> dict[str, str]:
    passed_on = _entry(error.get("metadata"), "headers")
    if not isinstance(passed_on, dict):
        return {}
    return {name.lower(): value for name, value in passed_on.items() if isinstance(value, str)}


def _codes(error: dict[str, Any]) -> Iterator[str]:
    places = [error, error.get("metadata"), error.get("innererror"), error.get("details")]
    if isinstance(error.get("details"), list):
        places += error["details"]
    for place in places:
        for name in ("code", "type", "status", "error_type", "error_code", "reason", "Code"):
            value = _entry(place, name)
            if isinstance(value, str):
                yield value.lower()


def _of_details(complaint: Complaint, error: dict[str, Any]) -> Complaint:
    """Google's details: a day's quota counts before all others, whatever the sentence and the delay say."""
    details = error.get("details")
    if not isinstance(details, list):
        return complaint
    delays = [_entry(detail, "retryDelay") for detail in details]
    delay_s = next((wait_s(delay, 0.0) for delay in delays if isinstance(delay, str)), None)
    if delay_s is not None:
        complaint = msgspec.structs.replace(complaint, wait_s=delay_s)
    lists = [_entry(detail, "violations") for detail in details]
    violations = [each for listed in lists if isinstance(listed, list) for each in listed if isinstance(each, dict)]
    if not violations:
        return complaint
    worst = max(violations, key=lambda each: _quota(each)[1] or 0.0)
    unit, window_s = _quota(worst)
    value = worst.get("quotaValue")
    return msgspec.structs.replace(
        complaint, blamed=unit, window_s=window_s, limit=amount(value) if isinstance(value, str) else complaint.limit
    )


def _quota(violation: dict[str, Any]) -> tuple[Unit, float | None]:
    name = f"{violation.get('quotaId')} {violation.get('quotaMetric')}".lower().replace("_", "")
    window_s = next((seconds for period, seconds in _PERIODS.items() if f"per{period}" in name), None)
    if "inputtoken" in name:
        return Unit.INPUT_TOKENS, window_s
    if "token" in name:
        return Unit.TOKENS, window_s
    return (Unit.CONCURRENCY if "concurren" in name else Unit.REQUESTS), window_s


def _entry(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, dict) else None


def _first_line(text: str) -> str:
    line = "".join(each for each in text.strip().partition("\n")[0] if each.isprintable())
    return line if len(line) <= _LONGEST_SAID else line[: _LONGEST_SAID - 1] + "…"
