"""What a failed HTTP answer means. Enters status, headers and body, leaves one error of the tree; never raises.

The body's codes decide before the status, and its words only where a provider gives no code: a quota that is gone and
"slow down" are both a 429. `x-should-retry` decides only for a status that says nothing: some send it as false with a
queue that is full for a moment.
"""

import re
from collections.abc import Mapping

import msgspec

from headrace.core.errors import (
    CallError,
    ContextTooLong,
    Credentials,
    Filtered,
    LargerThanLimit,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
    spoken,
)
from headrace.core.limits import LONGEST_WAIT_S, Hints, Unit
from headrace.provider.complaint import Complaint, complaint_of
from headrace.provider.hints import allows_nothing, hints_of
from headrace.provider.window import DAY_S, HOUR_S

CALM_S = 900.0
""""Slow Down": go back to the former rate and keep it for 15 minutes (OpenAI's error guide)."""

QUOTA_CODES = {
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded", "billing_hard_limit_reached",
    "payment_required", "billing_error", "billing_not_active", "enforced_spend_limit_reached",
}  # fmt: skip
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_FILTER_CODES = {
    "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation", "bio_policy",
    "image_content_policy_violation", "misalignment_policy_violation",
}  # fmt: skip
_KEY_CODES = {"invalid_api_key", "authentication_error", "permission_error", "api_key_invalid", "permission_denied"}
_MODEL_CODES = {"model_not_found", "model_decommissioned", "invalid_model", "deploymentnotfound"}
_MALFORMED_CODES = {"json_validate_failed", "tool_use_failed"}
"""Groq: the request is right, what the model wrote is not of the type, and is not given."""
_TOO_LARGE_CODES = {"request_too_large"}
_THROTTLE_CODES = {
    "rate_limit_exceeded", "rate_limit_error", "rate_limited", "rate_limit", "resource_exhausted", "too_many_requests",
    "throttling_error", "request_quota_exceeded", "token_quota_exceeded", "throttling", "throttlingexception",
    "toomanyrequestsexception", "requestlimitexceeded", "provisionedthroughputexceededexception", "slowdown",
}  # fmt: skip
_OVERLOAD_CODES = {
    "overloaded_error", "provider_overloaded", "capacity_exceeded", "service_tier_capacity_exceeded", "3505",
    "engine_overloaded", "queue_exceeded", "resource_unavailable", "insufficient_system_resource", "overloaded",
    "serviceunavailableexception", "modelnotreadyexception",
}  # fmt: skip

# Providers' own sentences, where they give no code. Those that stop a run are tied to their start, because a message
# may quote what was sent.
_QUOTA_WORDS = re.compile(
    r"Your credit balance is too low|You have reached your (?:specified )?(?:workspace )?API usage limits"
    r"|Insufficient Balance|Key limit exceeded|.{0,80}\b(?:monthly )?spending cap\b",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(r"Model Not Exist|Invalid model|\S{1,100} is not a valid model ID", re.IGNORECASE)
_KEY_WORDS = re.compile(r"API key not valid|Invalid API key|Incorrect API key", re.IGNORECASE)
_CONTEXT_WORDS = re.compile(
    r"maximum context length|prompt is too long|exceeds? (?:the )?(?:available |maximum )?context"
    r"|input token count.{0,40} exceeds|input is too long|context (?:length|window|size) exceeded",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(
    r"input was flagged|prompt was flagged|Content Exists Risk|content (?:management|filtering) policy", re.IGNORECASE
)
_OVERLOAD_WORDS = re.compile(r"high demand|overloaded|capacity exceeded|over capacity", re.IGNORECASE)
_QUEUE_WORDS = re.compile(r"pending requests|queue|no (?:free |available )?slots?\b|no slot", re.IGNORECASE)
_SLOW_WORDS = re.compile(r"slow[ _]?down", re.IGNORECASE)
_ACCELERATION_WORDS = re.compile(r"acceleration", re.IGNORECASE)

_OVERLOADED = {498, 503, 529}
_TRANSIENT = {408, 409, 425, 499}
_DECIDED = {400, 413, 422, 500, 502, 504}

_LATER = "Run again later: the item was not answered."
_PASSING = "Run again: it may have been a passing fault."


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, now_wall_s: float, *, who: str = "The provider"
) -> CallError:
    """The error behind an answer that is none. `headers` has lower-case names; `who` answered, as it is told."""
    complaint = complaint_of(body)
    if complaint.headers:
        headers = {**complaint.headers, **headers}
    hints = hints_of(headers, complaint, now_wall_s)
    answer = _Answer(status, headers, complaint, hints or Hints(), now_wall_s, who)
    return _permanent(answer) or _passing(answer)


class _Answer(msgspec.Struct):
    status: int
    headers: Mapping[str, str]
    complaint: Complaint
    hints: Hints
    now_wall_s: float
    who: str

    def says(self, codes: set[str], words: re.Pattern[str] | None = None) -> bool:
        return bool(codes & self.complaint.codes or (words and words.search(self.complaint.text)))

    def begins(self, words: re.Pattern[str]) -> bool:
        return bool(words.match(self.complaint.text))

    def error(self, kind: type[CallError], hint: str, more: str = "") -> CallError:
        said = f": {self.complaint.said}" if self.complaint.said else "."
        hints = None if self.hints == Hints() else self.hints
        return kind(f"{self.who} answered {self.status}{said}{more}", hint=hint, status=self.status, hints=hints)


def _permanent(answer: _Answer) -> CallError | None:
    """What no waiting mends."""
    status = answer.status
    refused = status in (400, 403, 429)
    if status == 402 or answer.says(QUOTA_CODES) or (refused and answer.begins(_QUOTA_WORDS)):
        return _quota(answer)
    if answer.says(_CONTEXT_CODES, _CONTEXT_WORDS if status in (400, 413, 422, 500) else None):
        return answer.error(ContextTooLong, "Shorten the item or the prompt, or use a model with a larger context.")
    if answer.says(_FILTER_CODES, _FILTER_WORDS if status in (400, 403) else None):
        return answer.error(Filtered, "The provider's content filter stopped it; asking again will not help.")
    if answer.says(_KEY_CODES) or (status == 400 and answer.begins(_KEY_WORDS)):
        return answer.error(Credentials, "Check the API key and what it may use.")
    if answer.says(_MODEL_CODES) or (status == 400 and answer.begins(_MODEL_WORDS)):
        return answer.error(ModelNotFound, "Check the model's name and the base URL.")
    requested, limit = answer.complaint.requested, answer.complaint.limit
    throttled = status == 429 or answer.says(_THROTTLE_CODES)
    too_large = throttled and requested is not None and limit is not None and requested > limit > 0
    if status == 413 or too_large or answer.says(_TOO_LARGE_CODES):
        return answer.error(LargerThanLimit, "Shorten the item or the prompt, lower --max-tokens, or raise the limit.")
    return None


def _passing(answer: _Answer) -> CallError:
    """What waiting may mend, and what only the status tells."""
    status = answer.status
    if answer.says(_MALFORMED_CODES):
        return answer.error(Transient, "A clearer prompt or a stronger model helps.")
    throttled = status == 429 or answer.says(_THROTTLE_CODES)
    if throttled and not answer.says(_OVERLOAD_CODES, _OVERLOAD_WORDS):
        return _throttled(answer)
    if throttled or status in _OVERLOADED or (status >= 500 and answer.says(_OVERLOAD_CODES, _OVERLOAD_WORDS)):
        return _overloaded(answer)
    if status in (401, 403, 407):
        return answer.error(Credentials, "Check the API key and what it may use.")
    if status in (404, 405) or 300 <= status < 400:
        return answer.error(ModelNotFound, "Check the model's name and the base URL.")
    again = status in _TRANSIENT or status >= 500
    if status not in _DECIDED and status not in _TRANSIENT:
        again = {"true": True, "false": False}.get(answer.headers.get("x-should-retry", "").lower(), again)
    if again:
        return answer.error(Transient, _PASSING)
    return answer.error(Rejected, "The request itself is at fault; see what the provider says.")


def _throttled(answer: _Answer) -> CallError:
    complaint, wait_s = answer.complaint, answer.hints.retry_after_s
    if complaint.limit == 0 or allows_nothing(answer.headers):
        return _quota(answer, allowed=False)
    if (complaint.window_s or 0.0) >= DAY_S or (wait_s or 0.0) > LONGEST_WAIT_S:
        return _quota(answer)
    if answer.says(set(), _ACCELERATION_WORDS):
        answer.hints = msgspec.structs.replace(answer.hints, calm_s=CALM_S)
    return answer.error(Throttled, _LATER)


def _overloaded(answer: _Answer) -> CallError:
    if (answer.hints.retry_after_s or 0.0) > LONGEST_WAIT_S:
        return _quota(answer)
    if answer.status == 503 and answer.begins(_SLOW_WORDS):
        answer.hints = msgspec.structs.replace(answer.hints, calm_s=CALM_S)
        return answer.error(Throttled, _LATER)
    if answer.status == 503 and answer.says(set(), _QUEUE_WORDS):  # a local server's own: fewer at once will do
        answer.hints = msgspec.structs.replace(answer.hints, blamed=Unit.CONCURRENCY)
        return answer.error(Throttled, _LATER)
    return answer.error(Overloaded, _LATER)


# When a quota returns.


def _quota(answer: _Answer, *, allowed: bool = True) -> CallError:
    wait_s, day = answer.hints.retry_after_s, (answer.complaint.window_s or 0.0) >= DAY_S
    if not allowed:
        return answer.error(QuotaExhausted, "Nothing is allowed here: choose another model, or raise the limit.")
    if day and "resource_exhausted" in answer.complaint.codes:  # Gemini's own delay is of seconds
        wait_s = _to_midnight_s(answer.now_wall_s)
        answer.hints = msgspec.structs.replace(answer.hints, retry_after_s=wait_s)
        more = f" A day's limit is used up; it returns at midnight Pacific time, in {spoken(wait_s)}."
    elif day and wait_s is not None and wait_s < HOUR_S:
        more = f" A limit of a day or more is used up; the next call fits in {spoken(wait_s)}, all of them a day later."
    elif day:
        more = f" A limit of a day or more is used up; it returns in {spoken(wait_s or DAY_S)} at most."
    elif wait_s is not None and wait_s > LONGEST_WAIT_S:
        more = f" It asks to wait {spoken(wait_s)}."
    else:
        return answer.error(QuotaExhausted, "Add credit or raise the limit at the provider, then run again.")
    return answer.error(QuotaExhausted, f"Run again in {spoken(wait_s or DAY_S)}; what is done is kept.", more)


def _to_midnight_s(now_wall_s: float) -> float:
    """Seconds to midnight in California, where Gemini's days end; an hour too many where no time zones are known."""
    from datetime import UTC, datetime, timedelta, timezone, tzinfo  # noqa: PLC0415 - once, when a day's quota is gone
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    zone: tzinfo
    try:
        zone = ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        zone = timezone(timedelta(hours=-8))
    here = datetime.fromtimestamp(now_wall_s, UTC).astimezone(zone)
    midnight = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp() - now_wall_s
