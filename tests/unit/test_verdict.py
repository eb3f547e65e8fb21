"""What the refusals of every provider mean: their status, headers and bodies as data, one error of the tree each."""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.call import Reply
from headrace.core.errors import CallError, Verdict
from headrace.core.limits import End, Told, Unit
from headrace.provider.asking import reply_of
from headrace.provider.chat import Chat
from headrace.provider.verdict import CALM_S, error_of

NOW = 1_795_341_600.0  # 22 November 2026, 10:00 UTC: 2:00 in California
R, T, I = Unit.REQUESTS, Unit.TOKENS, Unit.INPUT_TOKENS  # noqa: E741 - as the providers' names
DAY = 86_400.0


decode = partial(reply_of, Chat())


def openai(message: str, code: Any = None, kind: str | None = None, **more: Any) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code, **more}})


def anthropic(kind: str, message: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "r"}
    )


def gemini(
    code: int, status: str, message: str, quota: str | None = None, value: str | None = None, delay: str = "22s"
) -> bytes:
    details: list[Any] = [{"@type": "type.googleapis.com/google.rpc.Help", "links": []}]
    if quota:
        violation = {"quotaMetric": "generativelanguage.googleapis.com/x", "quotaId": quota, "quotaValue": value}
        details += [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ]
    return msgspec.json.encode({"error": {"code": code, "message": message, "status": status, "details": details}})


def openrouter(code: int, message: str, kind: str | None = None, **metadata: Any) -> bytes:
    return msgspec.json.encode(
        {"error": {"code": code, "message": message, "metadata": {"error_type": kind, **metadata}}}
    )


GEMINI_SAYS = "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric\nPlease retry in 10.689924287s."
TPM = "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested {}. Please try again in 1.5s."
DAILY = "Rate limit reached for model `m` in organization `o` on {} per day ({}): Limit {}, Used {}, Requested {}. Please try again in {}."
AZURE = {
    "retry-after": "1", "retry-after-ms": "0", "x-ratelimit-type": "Tokens", "x-ratelimit-limit-tokens": "5000",
    "x-ratelimit-remaining-tokens": "0", "x-ratelimit-renewalperiod-tokens": "60", "x-ratelimit-reset-tokens": "0",
}  # fmt: skip
OPENROUTER_DAY = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795392000000"}
HTML = b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>"

# Provider, status, headers, body; kind of the error, blamed limit, seconds to wait.
Row = tuple[str, int, dict[str, str], bytes, str, Unit | None, float | None]
ROWS: list[Row] = [
    # OpenAI
    ("OpenAI RPM", 429, {"retry-after": "1", "retry-after-ms": "350"}, openai("Rate limit reached on requests per min (RPM): Limit 500, Used 500, Requested 1.", "rate_limit_exceeded", "requests"), "throttled", R, 0.35),
    ("OpenAI TPM", 429, {}, openai(TPM.format(1500), "rate_limit_exceeded", "tokens"), "throttled", T, 1.5),
    ("OpenAI by its type alone", 429, {}, openai("Too fast.", "rate_limit_exceeded", "tokens"), "throttled", T, None),
    ("OpenAI larger than the limit", 429, {}, openai("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000.", "rate_limit_exceeded", "tokens"), "larger-than-limit", T, None),
    ("OpenAI RPD", 429, {"retry-after": "432"}, openai(DAILY.format("requests", "RPD", 200, 200, 1, "7m12s"), "rate_limit_exceeded", "requests"), "quota-exhausted", R, 432),
    ("OpenAI quota", 429, {"x-should-retry": "false"}, openai(GEMINI_SAYS, "insufficient_quota", "insufficient_quota"), "quota-exhausted", None, 10.689924287),
    ("OpenAI project", 429, {}, openai("Spend limit.", "project_spend_limit_exceeded", "insufficient_quota"), "quota-exhausted", None, None),
    ("OpenAI credit", 429, {}, openai("No credit.", "credit_balance_exhausted"), "quota-exhausted", None, None),
    ("OpenAI flex", 429, {}, openai("Resource Unavailable", "resource_unavailable"), "overloaded", None, None),
    ("OpenAI model overloaded", 429, {}, openai("That model is currently overloaded with other requests."), "overloaded", None, None),
    ("OpenAI 503", 503, {"retry-after": "5"}, openai("The engine is currently overloaded, please try again later", kind="server_error"), "overloaded", None, 5),
    ("OpenAI slow down", 503, {}, openai("Slow Down", kind="server_error"), "throttled", None, None),
    ("OpenAI context", 400, {}, openai("This model's maximum context length is 128000 tokens.", "context_length_exceeded"), "context-too-long", None, None),
    ("OpenAI filter", 400, {}, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"), "filtered", None, None),
    ("OpenAI bad field", 400, {"x-should-retry": "true"}, openai("Unknown parameter: 'x'.", "unknown_parameter", "invalid_request_error"), "rejected", None, None),
    ("OpenAI bad key", 401, {}, openai("Incorrect API key provided", "invalid_api_key"), "credentials", None, None),
    ("OpenAI no access", 403, {}, openai("Project does not have access to model", "model_not_found"), "model-not-found", None, None),
    ("OpenAI region", 403, {}, openai("Country not supported", "unsupported_country_region_territory"), "credentials", None, None),
    ("OpenAI 500", 500, {"retry-after": "2"}, openai("The server had an error", kind="server_error"), "transient", None, 2),
    # Anthropic
    ("Anthropic ITPM", 429, {"retry-after": "8"}, anthropic("rate_limit_error", "This request would exceed your organization's rate limit of 40,000 input tokens per minute (org: x)."), "throttled", I, 8),
    ("Anthropic RPM", 429, {"retry-after": "3"}, anthropic("rate_limit_error", "would exceed your organization's rate limit of 50 requests per minute"), "throttled", R, 3),
    ("Anthropic at once", 429, {}, anthropic("rate_limit_error", "Number of concurrent connections has exceeded your rate limit."), "throttled", Unit.CONCURRENCY, None),
    ("Anthropic acceleration", 429, {"retry-after": "4"}, anthropic("rate_limit_error", "exceeds your organization's acceleration limit"), "throttled", None, 4),
    ("Anthropic spend", 429, {}, anthropic("rate_limit_error", "You have reached your API usage limits: monthly threshold. You will regain access on 2026-12-01 at 00:00 UTC.", details={"error_code": "enforced_spend_limit_reached"}), "quota-exhausted", None, 741_600),
    ("Anthropic own limit", 400, {}, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."), "quota-exhausted", None, 741_600),
    ("Anthropic credit", 400, {}, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), "quota-exhausted", None, None),
    ("Anthropic billing", 402, {}, anthropic("billing_error", "Check billing."), "quota-exhausted", None, None),
    ("Anthropic context", 400, {}, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), "context-too-long", None, None),
    ("Anthropic context and answer", 400, {}, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 21333 > 204698"), "context-too-long", None, None),
    ("Anthropic filter", 400, {}, anthropic("invalid_request_error", "Output blocked by content filtering policy"), "filtered", None, None),
    ("Anthropic too large", 413, {}, anthropic("request_too_large", "Request exceeds the maximum size"), "larger-than-limit", None, None),
    ("Anthropic key", 401, {}, anthropic("authentication_error", "invalid x-api-key"), "credentials", None, None),
    ("Anthropic model", 404, {}, anthropic("not_found_error", "model: m"), "model-not-found", None, None),
    ("Anthropic 529", 529, {"x-should-retry": "true"}, anthropic("overloaded_error", "Overloaded"), "overloaded", None, None),
    ("Anthropic 500", 500, {}, anthropic("api_error", "Internal server error"), "transient", None, None),
    ("Anthropic 504", 504, {}, anthropic("timeout_error", "timed out"), "transient", None, None),
    # Gemini
    ("Gemini RPM", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "15", "10s"), "throttled", R, 10),
    ("Gemini TPM", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000"), "throttled", I, 22),
    ("Gemini RPD", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250"), "quota-exhausted", R, 22 * 3600),
    ("Gemini none", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "0"), "quota-exhausted", R, 22),
    ("Gemini none, in words", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: x, limit: 0, model: m"), "quota-exhausted", None, None),
    ("Gemini shared", 429, {}, gemini(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), "throttled", None, None),
    ("Gemini in a list", 429, {}, b"[" + gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateRequestsPerMinutePerProjectPerModel", "15", "7s") + b"]", "throttled", R, 7),
    ("Gemini overloaded", 503, {}, gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), "overloaded", None, None),
    ("Gemini 503 of quota", 503, {}, gemini(503, "RESOURCE_EXHAUSTED", "Try later."), "throttled", None, None),
    ("Gemini key", 400, {}, gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), "credentials", None, None),
    ("Gemini context", 400, {}, gemini(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."), "context-too-long", None, None),
    ("Gemini deadline", 504, {}, gemini(504, "DEADLINE_EXCEEDED", "The request timed out."), "transient", None, None),
    # Azure
    ("Azure tokens, and its lie", 429, AZURE, openai("have exceeded token rate limit of your current OpenAI S0 pricing tier.", "429"), "throttled", T, 60),
    ("Azure calls", 429, {}, openai("have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 9 seconds.", "429"), "throttled", R, 9),
    ("Azure a day", 429, {}, openai("have exceeded token rate limit of your current AIServices S0 pricing tier. Please retry after 86400 seconds.", "429"), "quota-exhausted", T, DAY),
    ("Azure high demand", 429, {}, openai("The system is currently experiencing high demand and cannot process your request.", "429"), "overloaded", None, None),
    ("Azure filter", 400, {}, openai("The response was filtered", "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), "filtered", None, None),
    ("Azure deployment", 404, {}, openai("The API deployment does not exist.", "DeploymentNotFound"), "model-not-found", None, None),
    # DeepSeek
    ("DeepSeek balance", 402, {}, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), "quota-exhausted", None, None),
    ("DeepSeek at once", 429, {}, openai("Too many concurrent requests.", "rate_limit_reached"), "throttled", Unit.CONCURRENCY, None),
    ("DeepSeek risk", 400, {}, openai("Content Exists Risk", "invalid_request_error"), "filtered", None, None),
    ("DeepSeek model", 400, {}, openai("Model Not Exist", "invalid_request_error"), "model-not-found", None, None),
    # OpenRouter
    ("OpenRouter upstream", 429, {}, openrouter(429, "Provider returned error", "rate_limit_exceeded", raw="m is temporarily rate-limited upstream.", provider_name="P"), "throttled", None, None),
    ("OpenRouter day", 429, OPENROUTER_DAY, openrouter(429, "Rate limit exceeded: free-models-per-day"), "quota-exhausted", None, 50_400),
    ("OpenRouter day, in the body", 429, {}, openrouter(429, "Rate limit exceeded: free-models-per-day", headers=OPENROUTER_DAY), "quota-exhausted", None, 50_400),
    ("OpenRouter overloaded", 503, {"retry-after": "3"}, openrouter(503, "m is overloaded", "provider_overloaded"), "overloaded", None, 3),
    ("OpenRouter unavailable", 502, {}, openrouter(502, "Provider returned error", "provider_unavailable"), "transient", None, None),
    ("OpenRouter credits", 402, {}, openrouter(402, "Insufficient credits", "payment_required"), "quota-exhausted", None, None),
    ("OpenRouter key", 403, {}, openrouter(403, "Key limit exceeded (total limit)."), "quota-exhausted", None, None),
    ("OpenRouter moderation", 403, {}, openrouter(403, "Your chosen model requires moderation and your input was flagged for violence"), "filtered", None, None),
    ("OpenRouter model", 400, {}, openrouter(400, "acme/none is not a valid model ID"), "model-not-found", None, None),
    ("OpenRouter in a 200", 200, {}, openrouter(429, "Provider returned error", "rate_limit_exceeded"), "throttled", None, None),
    # Mistral
    ("Mistral", 429, {"x-ratelimit-limit-req-minute": "23", "x-ratelimit-remaining-req-minute": "0"}, b'{"message":"Requests rate limit exceeded","code":"1300","type":"rate_limited"}', "throttled", R, None),
    ("Mistral no allowance", 429, {"x-ratelimit-limit-req-minute": "0"}, b'{"message":"Requests rate limit exceeded","code":"1300","type":"rate_limited"}', "quota-exhausted", R, None),
    ("Mistral month", 429, {"x-ratelimit-remaining-tokens-month": "0"}, b'{"message":"Rate limit exceeded"}', "quota-exhausted", None, None),
    ("Mistral capacity", 429, {}, b'{"object":"error","message":"Service tier capacity exceeded for this model.","type":"invalid_request_error","code":"3505"}', "overloaded", None, None),
    ("Mistral context", 400, {}, b'{"message":"Prompt contains 40000 tokens, too large for model with 32768 maximum context length","code":"3051"}', "context-too-long", None, None),
    ("Mistral model", 400, {}, b'{"object":"error","message":"Invalid model: m","type":"invalid_model","code":"1500"}', "model-not-found", None, None),
    # Groq
    ("Groq RPM", 429, {"retry-after": "2", "x-should-retry": "true"}, openai("on requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s.", "rate_limit_exceeded", "requests"), "throttled", R, 2),
    ("Groq TPD", 429, {}, openai(DAILY.format("tokens", "TPD", 100_000, 99_500, 1832, "19m10s"), "rate_limit_exceeded", "tokens"), "quota-exhausted", T, 1150),
    ("Groq too large", 413, {"retry-after": "9"}, openai("Request too large for model `m` on tokens per minute (TPM): Limit 8000, Requested 10098, please reduce your message size and try again.", "rate_limit_exceeded", "tokens"), "larger-than-limit", T, 9),
    ("Groq flex", 498, {}, openai("capacity", "capacity_exceeded"), "overloaded", None, None),
    ("Groq, not of the type", 400, {}, openai("Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.", "json_validate_failed", "invalid_request_error", failed_generation="x"), "transient", None, None),
    ("Groq, no tool's arguments", 400, {}, openai("tool call validation failed", "tool_use_failed", "invalid_request_error"), "transient", None, None),
    ("Groq 422", 422, {}, openai("semantic"), "rejected", None, None),
    ("Groq 424", 424, {}, openai("dependency"), "rejected", None, None),
    # Local servers
    ("vLLM context", 400, {}, b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","code":400}', "context-too-long", None, None),
    ("vLLM full", 503, {}, openai("The request queue is full.", 503), "throttled", Unit.CONCURRENCY, None),
    ("llama.cpp loading", 503, {}, openai("Loading model", 503, "unavailable_error"), "overloaded", None, None),
    ("llama.cpp no slot", 503, {}, openai("no slot available", 503), "throttled", Unit.CONCURRENCY, None),
    ("llama.cpp context", 400, {}, openai("the request exceeds the available context size", 400, "exceed_context_size_error"), "context-too-long", None, None),
    ("Ollama full", 503, {}, b'{"error":"server busy, please try again.  maximum pending requests exceeded"}', "throttled", Unit.CONCURRENCY, None),
    ("Ollama model", 404, {}, b'{"error":"model \'m\' not found"}', "model-not-found", None, None),
    # Others, and what stands between
    ("Cerebras queue", 429, {"x-should-retry": "false"}, openai("Too much traffic", "queue_exceeded", "too_many_requests_error"), "overloaded", None, None),
    ("Cerebras quota", 429, {"retry-after": "57"}, openai("Requests per minute limit exceeded - too many requests sent.", "request_quota_exceeded"), "throttled", R, 57),
    ("NVIDIA", 429, {}, b'{"status":429,"title":"Too Many Requests"}', "throttled", None, None),
    ("Hugging Face", 402, {}, b'{"error":"You have depleted your monthly included credits"}', "quota-exhausted", None, None),
    ("Cloudflare", 520, {}, HTML, "transient", None, None),
    ("nginx", 502, {}, HTML, "transient", None, None),
    ("nginx, a body too large", 413, {}, HTML, "larger-than-limit", None, None),
    ("a page with a wait", 503, {"retry-after": "30"}, HTML, "overloaded", None, 30),
    ("maintenance", 503, {"retry-after": "7200"}, HTML, "quota-exhausted", None, 7200),
    ("a proxy", 407, {}, b"", "credentials", None, None),
    ("too early", 425, {}, b"", "transient", None, None),
    ("unknown, told to retry", 418, {"x-should-retry": "true"}, b"", "transient", None, None),
    ("unknown, told not to", 507, {"x-should-retry": "false"}, b"", "rejected", None, None),
    ("unknown", 418, {}, b"", "rejected", None, None),
]  # fmt: skip


def meant(status: int, headers: dict[str, str], body: bytes) -> CallError:
    if status != 200:
        return error_of(status, {name.lower(): value for name, value in headers.items()}, body, NOW)
    with pytest.raises(CallError) as raised:
        decode(status, headers, body)
    return raised.value


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "blamed", "wait_s"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_each_provider_means(
    status: int, headers: dict[str, str], body: bytes, kind: str, blamed: Unit | None, wait_s: float | None
) -> None:
    """The kind of error, the limit it blames and the wait it asks for; with a sentence and what to do."""
    error = meant(status, headers, body)
    assert error.kind == kind
    assert (error.hints.blamed if error.hints else None) == blamed
    assert error.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))
    assert error.message
    assert error.hint
    assert "<" not in error.message


PERMANENT = {
    "quota-exhausted",
    "credentials",
    "model-not-found",
    "rejected",
    "context-too-long",
    "filtered",
    "larger-than-limit",
}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_p14_what_is_permanent_is_never_tried_again(row: Row) -> None:
    """P14: no retry of a dead quota, a bad key, a bad request, a long context, a call that is too large; all else waits."""
    error = meant(*row[1:4])
    if row[4] in PERMANENT:
        assert error.verdict in (Verdict.FAIL_ITEM, Verdict.STOP_RUN)
        assert error.end is End.IGNORED
    else:
        assert error.verdict in (Verdict.RETRY, Verdict.BACK_OFF)
    assert (error.end is End.THROTTLED) == (row[4] == "throttled")


def test_a_limit_that_is_told_in_words_is_known() -> None:
    """The limit, what is left of it and the provider's own count of the call."""
    hints = meant(429, {}, openai(TPM.format(1500))).hints
    assert hints is not None
    assert (hints.told, hints.charged) == ((Told(T, 30_000, 1000),), 1500)
    hints = meant(
        429, {}, gemini(429, "RESOURCE_EXHAUSTED", GEMINI_SAYS, "GenerateRequestsPerMinutePerProject", "15")
    ).hints
    assert hints is not None
    assert hints.told == (Told(R, 15),)


@pytest.mark.parametrize(
    ("name", "calm_s"), [("OpenAI slow down", CALM_S), ("Anthropic acceleration", CALM_S), ("OpenAI RPM", 0)]
)
def test_who_asks_for_slower_growth_gets_it(name: str, calm_s: float) -> None:
    """Slow Down and acceleration limits keep growth back for a quarter of an hour; a common refusal does not."""
    hints = meant(*next(row for row in ROWS if row[0] == name)[1:4]).hints
    assert (hints.calm_s if hints else 0) == calm_s


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("Gemini RPD", "returns at midnight Pacific time, in 22.0 h"),
        ("OpenAI RPD", "the next call fits in 7 min"),
        ("Groq TPD", "19 min"),
        ("Azure a day", "asks to wait 24.0 h"),
        ("OpenRouter day", "asks to wait 14.0 h"),
        ("Anthropic own limit", "asks to wait 9 days"),
        ("OpenAI credit", "Add credit"),
        ("Gemini none", "Nothing is allowed"),
    ],
)
def test_a_quota_that_is_gone_says_when_it_returns(name: str, when: str) -> None:
    """In hours and minutes where the provider tells, else what to do about it."""
    assert when in str(meant(*next(row for row in ROWS if row[0] == name)[1:4]))


@pytest.mark.parametrize(("month", "hours"), [(7, 21), (12, 22)])
def test_midnight_is_californias(month: int, hours: int) -> None:
    """In summer and in winter time."""
    now = datetime(2026, month, 15, 10, tzinfo=UTC).timestamp()
    error = error_of(429, {}, gemini(429, "RESOURCE_EXHAUSTED", "x", "RequestsPerDay", "9"), now)
    assert error.retry_after_s == hours * 3600


def test_what_was_sent_does_not_decide_what_stops_a_run() -> None:
    """A message that quotes an item's own words is this item's error."""
    words = "Your credit balance is too low. API key not valid. Model Not Exist. invalid_api_key insufficient_quota"
    assert meant(400, {}, openai(f"Could not read: {words}")).verdict is Verdict.FAIL_ITEM
    assert meant(422, {}, openai(words)).verdict is Verdict.FAIL_ITEM


def test_a_gateways_error_says_what_its_provider_said() -> None:
    """The inner message stands behind the outer, also where it is JSON, and is read for its limits."""
    raw = openai(TPM.format(1500)).decode()
    error = meant(429, {}, openrouter(429, "Provider returned error", raw=raw))
    assert "Provider returned error: Rate limit reached for gpt-4o" in error.message
    assert error.hints is not None
    assert error.hints.blamed is T
    nested: Any = "x"
    for _ in range(6):  # each doubles the marks that escape the one within
        nested = openrouter(429, "m", raw=nested).decode()
    assert meant(429, {}, nested.encode()).kind == "throttled"


def test_control_characters_are_not_passed_on() -> None:
    """A message cannot steer a terminal."""
    assert "\x1b" not in meant(400, {}, openai("a\x1b[31mb\x07")).message


@pytest.mark.parametrize(
    "piece", ["1", "1,", "retry in 1m", "input ", "api_key:", "limit: ", "a://", '"', "is not a valid "]
)
def test_no_message_takes_long_to_read(piece: str) -> None:
    """What repeats for a megabyte is read in a moment."""
    start = time.process_time()
    meant(429, {"ratelimit-policy": piece * 3000}, openai(piece * (1_000_000 // len(piece))))
    assert time.process_time() - start < 0.3


def test_hidden_errors_keep_their_meaning() -> None:
    """In a 200: an error beside choices, in a choice, as the whole body, or as a broken-off answer."""
    choice = {"message": {"content": "half"}, "finish_reason": "error"}
    cases: list[tuple[Any, str]] = [
        ({"choices": [], "error": {"code": 402, "message": "m"}}, "quota-exhausted"),
        ({"choices": [{**choice, "error": {"code": 429, "message": "m"}}]}, "throttled"),
        ({"choices": [{**choice, "error": {"code": "529", "message": "m"}}]}, "overloaded"),
        ({"choices": [choice]}, "transient"),
        ({"choices": [{**choice, "finish_reason": "insufficient_system_resource"}]}, "overloaded"),
        ({"object": "error", "message": "m", "type": "rate_limited", "code": "1300"}, "throttled"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        ([{"error": {"code": 403, "message": "m"}}], "credentials"),
    ]
    for body, kind in cases:
        assert meant(200, {}, msgspec.json.encode(body)).kind == kind


def test_a_good_answer_tells_its_limits() -> None:
    """Hints are on the reply where there are any, and None where there are none."""
    body = msgspec.json.encode({"choices": [{"message": {"content": "x"}}]})
    assert decode(200, {"content-type": "application/json"}, body).hints is None
    hints = decode(200, {"X-RateLimit-Limit-Tokens": "9000", "X-RateLimit-Remaining-Tokens": "8000"}, body).hints
    assert hints is not None
    assert hints.told == (Told(T, 9000, 8000),)


KEYS = st.sampled_from(["error", "message", "code", "type", "status", "details", "metadata", "raw", "violations", "choices",
                        "quotaId", "quotaValue", "retryDelay", "retry_after", "innererror", "headers", "object"])  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["error", "PerDayPerModel", "9", "1e400s", "22s", "rate_limit_exceeded", "429"])
)  # fmt: skip


@given(
    st.integers(100, 999),
    st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-limit", "x-ratelimit-reset", "x-should-retry"]),
        st.text(max_size=12),
    ),
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
    ),
)
def test_p21_no_body_breaks_the_verdict(status: int, headers: dict[str, str], body: Any) -> None:
    """P21: any JSON under any status is a reply or an error with a sentence, a hint and a wait from 0."""
    data = msgspec.json.encode(body)
    error = error_of(status, headers, data, NOW)
    assert error.message
    assert error.hint
    assert error.retry_after_s is None or error.retry_after_s >= 0
    try:
        assert isinstance(decode(200, headers, data), Reply)
    except CallError as raised:
        assert raised.message
