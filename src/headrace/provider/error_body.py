"""The errors of each provider, as bodies: a refusal or an error's parts come in, what becomes JSON goes out. Formats only.

Sources: the providers' pages on errors, and answers seen in the field.
"""

import math
from collections.abc import Callable
from typing import Any

from headrace.core.limits import Unit
from headrace.provider.quota import MINUTE_S, Refusal

HOUR_S = 3_600.0
DAY_S = 86_400.0
_SHORT = {Unit.REQUESTS: "R", Unit.TOKENS: "T", Unit.INPUT_TOKENS: "IT", Unit.OUTPUT_TOKENS: "OT"}
_TOO_MANY = "Too many concurrent requests."

Body = Callable[[Refusal, str, float | None], Any]
"""Of a refusal, the model's name and the seconds to wait, where they are told."""
Shape = Callable[[int, str, str | None, str | None, str], Any]
"""Of status, type, param, code and message of any error."""


def go_duration(seconds: float) -> str:
    """As Go writes them, to the millisecond: 84ms, 7.66s, 6m0s, 1h0m0s."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    said = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{said}"
    return f"{minutes}m{said}" if minutes else said


def decimal(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def by_minute(limit: float, window_s: float) -> float:
    """Limits of short windows are told as so much a minute; those of hours and days as they are."""
    return limit if window_s == MINUTE_S or window_s >= HOUR_S else limit * MINUTE_S / window_s


def dimension(refusal: Refusal, minute: str = "min") -> str:
    """`tokens per min (TPM)`."""
    if refusal.unit is None or refusal.unit is Unit.CONCURRENCY:
        return "requests in flight"
    per, short = ("day", "D") if refusal.window_s >= DAY_S else (minute, "M")
    return f"{refusal.unit.value} per {per} ({_SHORT[refusal.unit]}P{short})"


def openai_shape(_status: int, kind: str, param: str | None, code: str | None, message: str) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_ANTHROPIC_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip


def anthropic_shape(status: int, _kind: str, _param: str | None, _code: str | None, message: str) -> Any:
    kind = _ANTHROPIC_KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}


_GEMINI_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def gemini_shape(status: int, _kind: str, _param: str | None, _code: str | None, message: str) -> Any:
    return {"error": {"code": status, "message": message, "status": _GEMINI_STATUS.get(status, "INTERNAL")}}


_OPENROUTER_KINDS = {402: "payment_required", 429: "rate_limit_exceeded", 502: "provider_unavailable",
                     503: "provider_overloaded", 529: "provider_overloaded"}  # fmt: skip


def openrouter_shape(status: int, kind: str, _param: str | None, code: str | None, message: str) -> Any:
    metadata = {"error_type": _OPENROUTER_KINDS.get(status, code or kind)}
    return {"error": {"code": status, "message": message, "metadata": metadata}}


def mistral_shape(status: int, kind: str, _param: str | None, code: str | None, message: str) -> Any:
    if status == 429 and code != "insufficient_quota":
        kind, code = "rate_limited", "1300"
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _again(wait_s: float | None) -> str:
    return "" if wait_s is None else f" Please try again in {go_duration(wait_s)}."


def numbered(minute: str, organization: str) -> Body:
    """With limit, use and charge, as OpenAI and Groq tell them."""

    def body(refusal: Refusal, model: str, wait_s: float | None) -> Any:
        kind = "rate_limit_error"
        if refusal.unit in _SHORT:
            kind = "requests" if refusal.unit is Unit.REQUESTS else "tokens"
            never = refusal.wait_s == math.inf
            limit = refusal.limit if never else by_minute(refusal.limit, refusal.window_s)
            where = f"{model} in {organization} on {dimension(refusal, minute)}: Limit {limit:.0f}"
            if never:
                message = f"Request too large for {where}, Requested {refusal.requested:.0f}. Reduce the request."
            else:
                used = max(0.0, limit - refusal.limit + refusal.used)
                message = f"Rate limit reached for {where}, Used {used:.0f}, Requested {refusal.requested:.0f}."
        else:
            message = f"Rate limit reached for {model}." + (f" {_TOO_MANY}" if refusal.unit else "")
        return openai_shape(429, kind, None, "rate_limit_exceeded", message + _again(wait_s))

    return body


def _said(refusal: Refusal, message: str) -> str:
    """A call that can never be let in is told so by all of them."""
    if refusal.wait_s == math.inf:
        return (
            f"Request too large on {dimension(refusal)}: Limit {refusal.limit:.0f}, Requested {refusal.requested:.0f}."
        )
    return message


def plain_body(refusal: Refusal, _model: str, _wait_s: float | None) -> Any:
    message = _said(refusal, "The simulated provider answered 429: slow down.")
    return openai_shape(429, "rate_limit_error", None, "rate_limit_exceeded", message)


def azure_body(refusal: Refusal, _model: str, wait_s: float | None) -> Any:
    which = {Unit.REQUESTS: "call ", Unit.CONCURRENCY: "", None: ""}.get(refusal.unit, "token ")
    message = f"Requests to this deployment have exceeded the {which}rate limit of its pricing tier."
    if wait_s is not None:
        message += f" Please retry after {max(1, math.ceil(wait_s))} seconds."
    return {"error": {"code": "429", "message": _said(refusal, message)}}


def anthropic_body(refusal: Refusal, _model: str, _wait_s: float | None) -> Any:
    of = f" of {refusal.limit:,.0f} {dimension(refusal, 'minute')}" if refusal.unit in _SHORT else ""
    message = _said(refusal, f"This request would exceed the rate limit{of.partition(' (')[0]} of your organization.")
    return anthropic_shape(429, "", None, None, message)


def gemini_body(refusal: Refusal, _model: str, wait_s: float | None) -> Any:
    said = "You exceeded your current quota."
    if wait_s is not None:
        said += f" Please retry in {decimal(wait_s)}s."
    body = gemini_shape(429, "", None, None, _said(refusal, said))
    details: list[Any] = []
    if refusal.unit in _SHORT:
        what = "Requests" if refusal.unit is Unit.REQUESTS else "InputTokens"
        per = "Day" if refusal.window_s >= DAY_S else "Minute"
        limit = by_minute(refusal.limit, refusal.window_s)
        violation = {
            "quotaMetric": f"generativelanguage.googleapis.com/generate_content_{what.lower()}",
            "quotaId": f"Generate{what}Per{per}PerProjectPerModel",
            "quotaValue": f"{limit:.0f}",
        }
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    if wait_s is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{decimal(wait_s)}s"})
    body["error"]["details"] = details
    return body


def openrouter_body(refusal: Refusal, _model: str, _wait_s: float | None) -> Any:
    return openrouter_shape(429, "", None, None, _said(refusal, "Rate limit exceeded."))


def mistral_body(refusal: Refusal, _model: str, _wait_s: float | None) -> Any:
    what = "Requests" if refusal.unit is None or refusal.unit not in _SHORT else refusal.unit.value.capitalize()
    return mistral_shape(429, "", None, None, _said(refusal, f"{what} rate limit exceeded"))
