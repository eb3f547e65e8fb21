"""What a failed HTTP answer means. Enters status, headers and body, leaves one error of the tree; never raises.

The body's code decides before the status: a quota that is gone and "slow down" are both a 429.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.core.errors import (
    CallError,
    ContextTooLong,
    Credentials,
    Filtered,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
)
from headrace.provider.hints import retry_after_s

LONGEST_WAIT_S = 600.0
"""A provider that asks to wait longer than this has no quota left, whatever it calls it."""

_QUOTA_CODES = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "payment_required",
}
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_FILTER_CODES = {"content_filter", "content_policy_violation"}
_OVERLOADED = {498, 503, 529}
_TRANSIENT = {408, 409, 425}


def error_of(status: int, headers: Mapping[str, str], body: bytes, now_wall_s: float) -> CallError:
    """The error behind a reply that is no answer. `headers` has lower-case names."""
    codes, said = _read(body)
    message = f"The provider answered {status}" + (f": {said}" if said else ".")
    if codes & _QUOTA_CODES or status == 402:
        return QuotaExhausted(
            message, hint="Add credit or raise the limit at the provider, then run again.", status=status
        )
    if codes & _CONTEXT_CODES:
        return ContextTooLong(
            message, hint="Shorten the item or the prompt, or use a model with a larger context.", status=status
        )
    if codes & _FILTER_CODES:
        return Filtered(
            message, hint="The provider's content filter stopped it; asking again will not help.", status=status
        )
    if status == 429 or status in _OVERLOADED:
        hint_s = retry_after_s(headers, said, now_wall_s)
        if hint_s is not None and hint_s > LONGEST_WAIT_S:
            return QuotaExhausted(
                f"{message} It asks to wait {_spoken(hint_s)}.",
                hint=f"Run again in {_spoken(hint_s)}; what is done is kept.",
                status=status,
                retry_after_s=hint_s,
            )
        kind = Throttled if status == 429 else Overloaded
        return kind(message, hint="Run again later: the item was not answered.", status=status, retry_after_s=hint_s)
    if status in (401, 403):
        return Credentials(message, hint="Check the API key and what it may use.", status=status)
    if status in (404, 405) or 300 <= status < 400:
        return ModelNotFound(message, hint="Check the model's name and the base URL.", status=status)
    if status in _TRANSIENT or status >= 500:
        return Transient(message, hint="Run again: it may have been a passing fault.", status=status)
    return Rejected(message, hint="The request itself is at fault; see what the provider says.", status=status)


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def _read(body: bytes) -> tuple[set[str], str]:
    """The codes and the sentence in an error body, in the shapes that OpenAI-compatible servers use."""
    try:
        data: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return set(), _first_line(body.decode("utf-8", "replace")) if not body.lstrip().startswith(b"<") else ""
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, str):
        return set(), _first_line(error)
    if not isinstance(error, dict):
        return set(), ""
    metadata = error.get("metadata")
    typed = metadata.get("error_type") if isinstance(metadata, dict) else None
    codes = {code for code in (error.get("code"), error.get("type"), typed) if isinstance(code, str)}
    said = error.get("message")
    return codes, _first_line(said) if isinstance(said, str) else ""


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 300 else line[:299] + "…"
