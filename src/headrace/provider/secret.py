"""Keeps secrets out of what is told. Enters a message that others wrote, leaves it without what looks like a key."""

import re
from collections.abc import Sequence

_LONGEST = 2000
_QUOTE = 24
"""Characters of what was sent that are no accident in a message."""
_PATTERNS = (
    (re.compile(r"(://)[^/\s@]{1,200}@"), r"\1***@"),
    (
        re.compile(
            r"([?&;](?:[\w-]{0,20}(?:key|token|secret|password|passwd|signature|credential)|sig|auth|code|pwd)=)"
            r"[^&\s#'\"<>)]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\b(Bearer|Basic) +[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:api[-_]?key|password|passwd|secret|access[-_]?token)['\"]?\s{0,4}[:=]\s{0,4}['\"]?)[^\s'\",}&*]{8,}",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\b(?:(?:sk|pk|rk|gsk|xai|hf|r8|nvapi)[-_][\w-]{12,}|AIza[\w-]{20,}|AKIA[A-Z0-9]{12,})"), "***"),
)


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text`, cut to a readable length, without `secrets`, passwords and keys in addresses, and known forms of keys."""
    text = text[: 2 * _LONGEST]
    for secret in secrets:
        text = text.replace(secret, "***")
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def without_quotes(text: str, sent: Sequence[str]) -> str:
    """`text` without longer pieces of what was sent: a provider that refuses a prompt may repeat it."""
    sources = [" ".join(each.split()) for each in sent]
    block = _QUOTE // 2  # a piece of twice that has one of these, wherever it begins
    kept, done, at = [], 0, 0
    while at + block <= len(text):
        source = next((each for each in sources if text[at : at + block] in each), None)
        begin, end = (at, at) if source is None else _piece(text, at, at + block, done, source)
        if end - begin < _QUOTE:
            at += block
            continue
        kept.append(text[done:begin])
        done = at = end
    return "[...]".join([*kept, text[done:]])


def _piece(text: str, begin: int, end: int, least: int, source: str) -> tuple[int, int]:
    """The longest piece of `source` around these characters of `text`."""
    while begin > least and text[begin - 1 : end] in source:
        begin -= 1
    while end < len(text) and text[begin : end + 1] in source:
        end += 1
    return begin, end
