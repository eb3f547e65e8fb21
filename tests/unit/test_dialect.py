"""The dialects and the meaning of their errors: bytes in, replies and verdicts out."""

from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import digest_of
from headrace.core.errors import CallError, HeadraceError, Verdict
from headrace.core.item import Item
from headrace.provider.asking import reply_of
from headrace.provider.chat import Chat
from headrace.provider.dialect import Dialect, Means
from headrace.provider.gemini import GenerateContent
from headrace.provider.hints import hints_of
from headrace.provider.messages import Messages
from headrace.provider.responses import Responses
from headrace.provider.verdict import error_of
from headrace.task.ask import AskTask
from headrace.task.prompt import Template

NOW = 1_795_000_000.0


decode = partial(reply_of, Chat())


def completion(**changes: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi", "refusal": None}}
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 16}}
    return msgspec.json.encode({"id": "c", "model": "m-1", "choices": [{**choice, **changes}], "usage": usage})


def test_a_body_is_what_the_api_documents() -> None:
    """Model, messages, parameters as they are, and the schema as a strict response format."""
    request = Request(
        digest_of(1), model="m", messages=(Message("user", "q"),), params={"temperature": 0.5, "seed": 1},
        schema={"type": "object"}, strict=True,
    )  # fmt: skip
    assert msgspec.json.decode(Chat().encode(request, Means.SCHEMA, {})[1]) == {
        "model": "m",
        "messages": [{"role": "user", "content": "q"}],
        "temperature": 0.5,
        "seed": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }


def test_a_reply_keeps_what_the_provider_tells() -> None:
    """Text, finish, usage and the model's own name."""
    assert decode(200, {}, completion()) == Reply("hi", "stop", 20, 5, 16, "m-1")
    assert decode(200, {}, b"\n\n" + completion(finish_reason="length")).finish == "length"
    assert decode(200, {}, completion(finish_reason="content_filter")).finish == "filter"
    refused = decode(200, {}, completion(message={"content": None, "refusal": "I cannot"}))
    assert (refused.finish, refused.text) == ("refusal", "I cannot")
    bare = msgspec.json.encode({"choices": [{"message": {"content": "x"}}]})
    assert decode(200, {}, bare) == Reply("x")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": "many", "completion_tokens": -1},
        {"prompt_tokens": 2**63, "prompt_tokens_details": 3},
    ],
)
def test_an_answer_is_not_lost_over_how_it_is_counted(usage: Any) -> None:
    """Odd usage is unknown usage; fractions are cut; text may come in parts."""
    choices = [
        {"message": {"content": [{"type": "text", "text": "h"}, {"type": "x"}, {"text": "i"}]}, "finish_reason": "stop"}
    ]
    assert decode(200, {}, msgspec.json.encode({"choices": choices, "usage": usage, "model": 7})) == Reply("hi")
    fraction = msgspec.json.encode({"choices": choices, "usage": {"prompt_tokens": 1.5}})
    assert decode(200, {}, fraction).input_tokens == 1


def error(message: str = "m", **fields: Any) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "param": None, **fields}})


QUOTA = "You exceeded your current quota, please check your plan and billing details."

CASES = [
    (400, {}, error("no such field", type="invalid_request_error", code=None), "rejected", Verdict.FAIL_ITEM),
    (400, {}, error("too long", code="context_length_exceeded"), "context-too-long", Verdict.FAIL_ITEM),
    (400, {}, error("too long", type="exceed_context_size_error", code=400), "context-too-long", Verdict.FAIL_ITEM),
    (400, {}, error("filtered", code="content_filter"), "filtered", Verdict.FAIL_ITEM),
    (401, {}, error("Incorrect API key", code="invalid_api_key"), "credentials", Verdict.STOP_RUN),
    (402, {}, b"", "quota-exhausted", Verdict.STOP_RUN),
    (403, {}, error("region"), "credentials", Verdict.STOP_RUN),
    (404, {}, error("model m does not exist", code="model_not_found"), "model-not-found", Verdict.STOP_RUN),
    (301, {"location": "https://b/v1"}, b"<html>Moved</html>", "model-not-found", Verdict.STOP_RUN),
    (405, {}, b"", "model-not-found", Verdict.STOP_RUN),
    (408, {}, b"", "transient", Verdict.RETRY),
    (409, {}, b"", "transient", Verdict.RETRY),
    (422, {}, b"", "rejected", Verdict.FAIL_ITEM),
    (
        429,
        {"retry-after": "2"},
        error("slow", type="requests", code="rate_limit_exceeded"),
        "throttled",
        Verdict.BACK_OFF,
    ),
    (429, {}, error(QUOTA, type="insufficient_quota", code="insufficient_quota"), "quota-exhausted", Verdict.STOP_RUN),
    (
        429,
        {},
        error(QUOTA, type="insufficient_quota", code="project_spend_limit_exceeded"),
        "quota-exhausted",
        Verdict.STOP_RUN,
    ),
    (429, {"retry-after": "86400"}, error("daily"), "quota-exhausted", Verdict.STOP_RUN),
    (500, {}, b"<html>Bad</html>", "transient", Verdict.RETRY),
    (502, {}, b"", "transient", Verdict.RETRY),
    (503, {}, error("Loading model", type="unavailable_error", code=503), "overloaded", Verdict.BACK_OFF),
    (529, {}, b"", "overloaded", Verdict.BACK_OFF),
    (200, {}, error("hidden", code=429), "throttled", Verdict.BACK_OFF),
    (200, {}, error("hidden"), "transient", Verdict.RETRY),
    (200, {}, b"<html>", "transient", Verdict.RETRY),
    (200, {}, b"", "transient", Verdict.RETRY),
    (200, {}, b'{"choices":[]}', "transient", Verdict.RETRY),
    (200, {}, completion(finish_reason="error"), "transient", Verdict.RETRY),
]


@pytest.mark.parametrize(("status", "headers", "body", "kind", "verdict"), CASES)
def test_every_error_has_its_verdict(
    status: int, headers: dict[str, str], body: bytes, kind: str, verdict: Verdict
) -> None:
    """The body's code decides before the status; each error says what to do."""
    with pytest.raises(CallError) as raised:
        decode(status, headers, body)
    assert (raised.value.kind, raised.value.verdict) == (kind, verdict)
    assert raised.value.message
    assert raised.value.hint


def test_what_the_provider_says_is_passed_on() -> None:
    """The first line of its message, not its HTML."""
    assert "no such field" in error_of(400, {}, error("no such field\nsecond line"), NOW).message
    assert "second line" not in error_of(400, {}, error("no such field\nsecond line"), NOW).message
    assert "<" not in error_of(502, {}, b"<html><h1>Bad gateway", NOW).message
    assert len(error_of(500, {}, error("x" * 10_000), NOW).message) < 400


@pytest.mark.parametrize(
    ("headers", "text", "expected"),
    [
        ({"retry-after": "2"}, "", 2.0),
        ({"retry-after": "7.66"}, "", 7.66),
        ({"retry-after": "Fri, 20 Nov 2026 00:53:25 GMT"}, "", 1_795_136_005 - NOW),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, "", 0.25),
        ({"retry-after-ms": "0", "retry-after": "1"}, "", 1.0),
        ({}, "Please try again in 84ms. Visit", 0.084),
        ({}, "Please try again in 6m0.5s.", 360.5),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-3"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({}, "", None),
    ],
)
def test_waits_in_all_their_forms(headers: dict[str, str], text: str, expected: float | None) -> None:
    """Seconds, milliseconds, dates and words; what is no wait is none."""
    hints = hints_of(headers, text, NOW)
    assert (hints and hints.retry_after_s) == (pytest.approx(expected) if expected is not None else None)


DIALECTS: dict[str, Dialect] = {
    "chat": Chat(), "responses": Responses(), "messages": Messages(), "gemini": GenerateContent(),
}  # fmt: skip


def responded(text: str = "hi", **changes: Any) -> dict[str, Any]:
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    return {"status": "completed", "error": None, "output": [{"type": "reasoning", "summary": []}, message], **changes}


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    parts = content or ({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"})
    return {"type": "message", "content": list(parts), "stop_reason": "end_turn", "model": "m-1", **changes}


def generated(reason: str | None = "STOP", **changes: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "hi"}]}}
    return {"candidates": [{**candidate, "finishReason": reason}], **changes}


REFUSAL = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
# Dialect, answer; how it ended, or the kind of the error that it is.
ENDS: list[tuple[str, Any, str]] = [
    *[("chat", {"choices": [{"message": {"content": "hi"}, "finish_reason": given}]}, ends) for given, ends in {
        "stop": "stop", "STOP": "stop", "eos": "stop", "length": "length", "model_length": "length", "limit": "length",
        "MAX_TOKENS": "length", "content_filter": "filter", "SAFETY": "filter", "tool_calls": "tool", "refusal": "refusal",
        "function_call": "tool", "something new": "stop", "error": "transient",
        "insufficient_system_resource": "overloaded",
    }.items()],
    ("chat", {"choices": [{"message": {"content": "", "refusal": "no"}, "finish_reason": "stop"}]}, "refusal"),
    ("chat", {"choices": [{"message": {"content": "h"}, "error": {"code": 502, "message": "x"}}]}, "transient"),
    ("chat", {"choices": [{"message": {"content": "h"}}], "error": {"code": 429, "message": "x"}}, "throttled"),
    ("chat", {"choices": [{"message": {"content": "hi"}}], "error": None}, "stop"),
    ("chat", {"error": "rate limit"}, "transient"),
    ("chat", {"object": "error", "message": "no such field", "code": 400}, "rejected"),
    ("responses", responded(), "stop"),
    ("responses", responded(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
    ("responses", responded(status="incomplete", incomplete_details={"reason": "content_filter"}), "filter"),
    ("responses", responded(status="incomplete", incomplete_details=None), "length"),
    ("responses", responded(output=[REFUSAL]), "refusal"),
    ("responses", responded(status="failed", error={"code": "server_error", "message": "x"}), "transient"),
    ("responses", responded(status="failed", error={"code": "rate_limit_exceeded", "message": "x"}), "throttled"),
    ("responses", responded(status="failed", error={"code": "invalid_prompt", "message": "Invalid prompt: your prompt was flagged"}), "filtered"),
    ("responses", responded(status="failed", error={"code": "invalid_base64_image", "message": "x"}), "rejected"),
    ("responses", responded(status="failed", error={"code": "vector_store_timeout", "message": "x"}), "transient"),
    ("responses", responded(status="failed", error={"code": "image_content_policy_violation"}), "filtered"),
    ("responses", responded(status="failed"), "transient"),
    ("responses", responded(status="cancelled"), "transient"),
    ("responses", responded(status="queued"), "transient"),
    ("responses", responded(status="in_progress"), "transient"),
    ("messages", message(), "stop"),
    *[("messages", message(stop_reason=given), ends) for given, ends in {
        "stop_sequence": "stop", "max_tokens": "length", "tool_use": "stop", "pause_turn": "stop", "refusal": "refusal",
        "model_context_window_exceeded": "length",
    }.items()],
    *[("messages", {"type": "error", "error": {"type": kind, "message": "x"}}, ends) for kind, ends in {
        "overloaded_error": "overloaded", "rate_limit_error": "throttled", "authentication_error": "credentials",
        "invalid_request_error": "rejected", "api_error": "transient", "billing_error": "quota-exhausted",
        "permission_error": "credentials", "request_too_large": "larger-than-limit", "timeout_error": "transient",
    }.items()],
    ("messages", {**message(), "type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded"),
    ("gemini", generated(), "stop"),
    ("gemini", generated(None), "stop"),
    *[("gemini", generated(given), ends) for given, ends in {
        "MAX_TOKENS": "length", "SAFETY": "filter", "RECITATION": "filter", "LANGUAGE": "filter", "BLOCKLIST": "filter",
        "PROHIBITED_CONTENT": "filter", "SPII": "filter", "IMAGE_SAFETY": "filter", "OTHER": "transient",
        "MALFORMED_FUNCTION_CALL": "transient", "UNEXPECTED_TOOL_CALL": "transient",
        "TOO_MANY_TOOL_CALLS": "transient", "FINISH_REASON_UNSPECIFIED": "transient",
    }.items()],
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "filtered"),
    ("gemini", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "candidates": []}, "filtered"),
    ("gemini", {"candidates": []}, "transient"),
    ("gemini", {"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}}, "overloaded"),
    ("gemini", [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x"}}], "throttled"),
    ("gemini", generated(error={"code": 503, "status": "UNAVAILABLE", "message": "x"}), "overloaded"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "answer", "ends"), ENDS)
def test_how_every_answer_of_status_200_ended(dialect: str, answer: Any, ends: str) -> None:
    """Cut off, declined and filtered are told apart; an error is one; thoughts are no part of the text."""
    try:
        reply = reply_of(DIALECTS[dialect], 200, {}, msgspec.json.encode(answer))
    except CallError as error:
        assert error.kind == ends
        assert error.message
        assert error.hint
    else:
        assert reply.finish == ends
        assert reply.text == ("no" if ends == "refusal" and "no" in str(answer).split("'") else "hi")


def test_every_dialect_counts_what_was_read_from_a_cache_and_thought() -> None:
    """Cached is a part of the input and thoughts are a part of the output, however they are told."""
    answers = {
        "responses": responded(
            usage={"input_tokens": 20, "input_tokens_details": {"cached_tokens": 16}, "output_tokens": 5,
                   "output_tokens_details": {"reasoning_tokens": 3}}
        ),
        "messages": message(
            usage={"input_tokens": 3, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 16, "output_tokens": 5,
                   "output_tokens_details": {"reasoning_tokens": 3}}
        ),
        "gemini": generated(
            usageMetadata={"promptTokenCount": 20, "cachedContentTokenCount": 16, "candidatesTokenCount": 2,
                           "thoughtsTokenCount": 3}
        ),
    }  # fmt: skip
    for dialect, answer in answers.items():
        reply = reply_of(DIALECTS[dialect], 200, {}, msgspec.json.encode(answer))
        counts = (reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens)
        assert counts == (20, 5, 16, 3), dialect


def test_a_tools_arguments_are_the_answer() -> None:
    """Of the tool that stands for the type, as they came; of another tool nothing."""
    big = {"n": 10**30, "s": "\u2028"}
    used = message({"type": "text", "text": "I call it."}, {"type": "tool_use", "name": "answer", "input": big})
    assert msgspec.json.decode(reply_of(DIALECTS["messages"], 200, {}, msgspec.json.encode(used)).text) == big
    other = message({"type": "tool_use", "name": "search", "input": big})
    assert reply_of(DIALECTS["messages"], 200, {}, msgspec.json.encode(other)).text == ""


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine", "/tunedModels/mine:generateContent"),
        ("odd?key=1#x", "/models/odd%3Fkey%3D1%23x:generateContent"),
    ],
)
def test_a_models_name_in_a_path(model: str, path: str) -> None:
    """As a person may write it; it cannot leave its place."""
    request = Request(digest_of(1), model=model, messages=(Message("user", "q"),))
    assert GenerateContent().encode(request, Means.SCHEMA, {})[0] == path
    azure = Chat(path="/openai/deployments/{model}/chat/completions?api-version=1")
    assert azure.encode(request, Means.SCHEMA, {})[0].count("?") == 1


NAMES = st.sampled_from([
    "error", "message", "code", "type", "choices", "usage", "content", "finish_reason", "tool_calls", "function", "text",
    "status", "output", "incomplete_details", "reason", "refusal", "stop_reason", "input", "candidates", "parts",
    "finishReason", "promptFeedback", "blockReason", "usageMetadata", "promptTokenCount", "input_tokens", "details",
    "violations", "retryDelay", "quotaId", "metadata", "raw", "headers", "object", "thought",
])  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["message", "error", "text", "tool_use", "answer", "output_text", "completed", "incomplete", "STOP"])
)  # fmt: skip
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)


def shaped(dialect: str, odd: Any, odder: Any) -> Any:
    """An answer of this dialect with odd things in its places."""
    return {
        "chat": {"choices": [{"message": {"content": odd, "tool_calls": odder}, "error": odder}], "usage": odd},
        "responses": responded(output=[odd, {"type": "message", "content": odder}], usage=odd, error=odder),
        "messages": message(odd, {"type": "tool_use", "name": "answer", "input": odder}, usage=odd),
        "gemini": generated(usageMetadata=odd, candidates=[odder], promptFeedback=odd),
    }[dialect]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(
    st.sampled_from([200, 200, 200, 400, 401, 429, 500, 503]) | st.integers(100, 599),
    st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "x", "Date"]) | st.text(), st.text(max_size=30)),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_no_bytes_break_a_dialect(dialect: str, status: int, headers: dict[str, str], data: st.DataObject) -> None:
    """Whatever comes is a reply that can be stored, or an error of the tree with a wait that is a number of seconds."""
    bodies = BODIES.map(msgspec.json.encode) | st.builds(shaped, st.just(dialect), BODIES, BODIES).map(
        msgspec.json.encode
    )
    body = data.draw(st.binary(max_size=200) | bodies | bodies.map(lambda whole: whole[:-1]))
    try:
        reply = reply_of(DIALECTS[dialect], status, headers, body)
    except CallError as raised:
        assert raised.retry_after_s is None or raised.retry_after_s >= 0
    else:
        msgspec.json.encode(reply)
        assert all(each is None or each >= 0 for each in (reply.input_tokens, reply.output_tokens))


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x"]), st.text(max_size=30)),
    st.binary(max_size=200)
    | st.text(max_size=100).map(error)
    | st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["error", "message", "code", "choices", "usage", "content"]), inner)
        ),
        max_leaves=8,
    ).map(msgspec.json.encode),
)
def test_no_bytes_break_the_parsers(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever comes is a reply or an error of the tree, with a wait that is a number of seconds."""
    try:
        assert isinstance(decode(status, headers, body), Reply)
    except HeadraceError as raised:
        assert isinstance(raised, CallError)
        assert raised.retry_after_s is None or raised.retry_after_s >= 0


def test_what_is_the_same_for_all_items_is_marked_for_the_cache() -> None:
    """The system and the start of the prompt, where they are long enough together; never what differs."""

    def body(system: str, text: str, same: int) -> Any:
        messages = (Message("system", system), Message("user", text))
        request = Request(digest_of(1), model="m", messages=messages, same=same)
        return msgspec.json.decode(Messages().encode(request, Means.SCHEMA, {})[1])

    mark = {"type": "ephemeral"}
    long = body("Careful. " * 500, "Rules. " * 10 + "item", 70)
    assert long["system"][-1]["cache_control"] == mark
    same, own = long["messages"][0]["content"]
    assert (same["text"], same["cache_control"]) == ("Rules. " * 10, mark)
    assert (own["text"], "cache_control" in own) == ("item", False)
    short = body("Careful.", "Rules. item", 7)
    assert "cache_control" not in str(short)
    assert (short["system"], short["messages"][0]["content"]) == ("Careful.", "Rules. item")


def test_the_prompt_says_how_much_of_it_is_the_same() -> None:
    """Up to the first column, so that a prefix can be told from what follows."""
    asked = AskTask(Template("Read: {{x}} {text} and answer."), endpoint=("sim", ""), model="m")
    request = asked.request(Item("k", 0, {"text": "hello"}))
    assert request.messages[-1].content[: request.same] == "Read: {x} "
