"""Keeps secrets out of what is told. Enters a message that others wrote, leaves it without what looks like a key."""

import re

_LONGEST = 2000
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
