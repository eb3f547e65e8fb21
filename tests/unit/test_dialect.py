"""The OpenAI dialect and the meaning of its errors: bytes in, replies and verdicts out."""

from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import digest_of
from headrace.core.errors import CallError, HeadraceError, Verdict
from headrace.provider.asking import reply_of
from headrace.provider.chat import Chat
from headrace.provider.dialect import Means
from headrace.provider.hints import hints_of
from headrace.provider.verdict import error_of

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
