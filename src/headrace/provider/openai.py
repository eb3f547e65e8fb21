"""The OpenAI chat dialect: a request becomes a body, a body becomes a reply. Pure but for the call at
the end, and for the clock: an error may name a date to wait for.

https://platform.openai.com/docs/api-reference/chat, which every OpenAI-compatible server speaks.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import msgspec

from headrace.core.call import Call, Finish, Image, Message, Reply, Request
from headrace.core.errors import CallError, Overloaded, Transient
from headrace.provider.hints import hints_of
from headrace.provider.http import Http
from headrace.provider.picture import data_addresses
from headrace.provider.verdict import error_of

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_PASSING = "Run again: it may have been a passing fault."
_LEAST_SECRET = 8
"""Characters of the shortest part of a header that is taken for a secret."""

_FINISH: dict[str, Finish] = {
    "stop": "stop", "eos": "stop", "length": "length", "model_length": "length", "content_filter": "filter",
    "tool_calls": "tool", "function_call": "tool", "error": "error", "insufficient_system_resource": "error",
}  # fmt: skip


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    """Text, or parts with a text each."""
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    error: Any = None
    """Of a gateway whose provider failed in the middle."""


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: Any = None
    usage: Any = None
    """Read leniently: an answer that was paid for is not lost over how it is counted."""


_MOST_TOKENS = 2**53
_decoder = msgspec.json.Decoder(_Completion)
_encoder = msgspec.json.Encoder()


def encode(request: Request, pictures: Mapping[Image, str] = MappingProxyType({})) -> bytes:
    """The body of POST /chat/completions. `pictures` has the address of each picture that is a file here."""
    messages: Any = request.messages
    if any(message.images for message in request.messages):
        messages = [_seen(message, pictures) for message in request.messages]
    body: dict[str, Any] = {"model": request.model, "messages": messages, **request.params}
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": request.schema, "strict": request.strict},
        }
    return _encoder.encode(body)


def _seen(message: Message, pictures: Mapping[Image, str]) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    parts += [
        {"type": "image_url", "image_url": {"url": pictures.get(image) or image.source}} for image in message.images
    ]
    return {"role": message.role, "content": parts}


def decode(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply in an answer's bytes, with what the answer says about limits; raises the CallError behind any other."""
    if status != 200:
        raise error_of(status, _lower(headers), body, time.time())
    try:
        completion = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _no_completion(headers, body) from None
    if not completion.choices:
        raise _hidden(headers, body) or Transient("The provider answered 200 without a choice.", hint=_PASSING)
    choice = completion.choices[0]
    finish: Finish = _FINISH.get(choice.finish_reason or "stop", "stop")
    if choice.message.refusal:
        finish = "refusal"
    if finish == "error":
        raise _broken_off(choice, headers)
    usage = completion.usage
    return Reply(
        choice.message.refusal or _text(choice.message.content),
        finish=finish,
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(_entry(usage, "prompt_tokens_details"), "cached_tokens"),
        model=completion.model if isinstance(completion.model, str) else None,
        hints=hints_of(headers, None, time.time()),
    )


def _text(content: str | list[Any] | None) -> str:
    if isinstance(content, list):
        return "".join(text for part in content if isinstance(text := _entry(part, "text"), str))
    return content or ""


def _count(usage: Any, name: str) -> int | None:
    count = _entry(usage, name)
    return int(count) if isinstance(count, int | float) and 0 <= count < _MOST_TOKENS else None


def _entry(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, dict) else None


def _no_completion(headers: Mapping[str, str], body: bytes) -> CallError:
    return _hidden(headers, body) or Transient(
        "The provider answered 200 with a body that is no chat completion.",
        hint="Check that the base URL is that of an OpenAI-compatible server, up to and including its /v1.",
    )


def _hidden(headers: Mapping[str, str], body: bytes) -> CallError | None:
    """Some gateways hide an error in a 200: then it is that error."""
    try:
        data: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(data, list) and data:
        data = data[0]
    error = _entry(data, "error") or (data if _entry(data, "object") == "error" else None)
    return error_of(_status(error), _lower(headers), body, time.time()) if error else None


def _broken_off(choice: _Choice, headers: Mapping[str, str]) -> CallError:
    if choice.finish_reason == "insufficient_system_resource":  # DeepSeek
        return Overloaded("The provider broke the answer off: too much to do.", hint="Run again later.")
    if isinstance(choice.error, dict):
        body = _encoder.encode({"error": choice.error})
        return error_of(_status(choice.error), _lower(headers), body, time.time())
    return Transient("The provider broke the answer off with an error.", hint="Run again.")


def _status(error: Any) -> int:
    """The HTTP status that a hidden error stands for."""
    code = _entry(error, "code")
    if isinstance(code, str) and len(code) == 3 and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def openai_call(http: Http, *, base_url: str, api_key: str | None, headers: Mapping[str, str]) -> Call:
    """A Call that asks an OpenAI-compatible server at `base_url`."""
    url = base_url.rstrip("/") + "/chat/completions"
    sent = {"Content-Type": "application/json", "User-Agent": "headrace"}
    if api_key:
        sent["Authorization"] = f"Bearer {api_key}"
    sent.update(headers)

    secrets = _secrets(api_key, headers)

    async def call(request: Request) -> Reply:
        status, told, body = await http.post(url, encode(request, await data_addresses(request)), sent)
        with suppress(CallError):
            return decode(status, told, body)
        # some servers quote the key they refuse
        return decode(status, told, _without(secrets, body))  # raises the same, without it

    return call


def _without(secrets: list[bytes], body: bytes) -> bytes:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = _encoder.encode(msgspec.json.decode(body))  # JSON can write the same text in many ways
    for secret in secrets:
        body = body.replace(secret, b"***")
    return body


def _secrets(api_key: str | None, headers: Mapping[str, str]) -> list[bytes]:
    """What must not be told again, the longest first: a header's value, and each of its words (`Bearer KEY`)."""
    values = [api_key or "", *headers.values()]
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _LEAST_SECRET}
    forms = {form for word in words for form in (word, msgspec.json.encode(word).decode()[1:-1])}
    return sorted((form.encode() for form in forms), key=len, reverse=True)
