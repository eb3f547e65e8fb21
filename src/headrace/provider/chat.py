"""OpenAI's Chat Completions: a request becomes a body, a body becomes a reply. Pure but for the clock: an error may name
a date to wait for.

https://platform.openai.com/docs/api-reference/chat, which every OpenAI-compatible server speaks.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.core.call import Finish, Message, Reply, Request
from headrace.core.errors import CallError, Overloaded, Transient
from headrace.provider.dialect import (
    PASSING,
    Means,
    Pictures,
    count,
    encoder,
    entry,
    hidden,
    inline,
    lower,
    messages_of,
    no_answer,
    status_of,
)
from headrace.provider.fit import ANY, Fit, Fitted
from headrace.provider.verdict import error_of

_FINISH: dict[str, Finish] = {
    "stop": "stop", "eos": "stop", "length": "length", "model_length": "length", "max_tokens": "length",
    "limit": "length", "content_filter": "filter", "safety": "filter", "refusal": "refusal", "tool_calls": "tool",
    "function_call": "tool", "error": "error", "insufficient_system_resource": "error",
}  # fmt: skip


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    """Text, or parts with a text each."""
    refusal: str | None = None
    tool_calls: Any = None


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
    error: Any = None
    """Of a gateway, beside what came until then."""


_decoder = msgspec.json.Decoder(_Completion)


class Chat:
    """Chat Completions of one server. `fit` is what its schemas may hold, `path` where it is."""

    def __init__(self, *, fit: Fit = ANY, path: str = "/chat/completions") -> None:
        self._fitted = Fitted(fit)
        self._path = path

    def encode(self, request: Request, means: Means, pictures: Pictures) -> tuple[str, bytes]:
        body: dict[str, Any] = {"model": request.model, "messages": messages_of(request, means), **request.params}
        if request.schema is not None:
            self._type(body, request, means)
        if any(message.images for message in request.messages):
            body["messages"] = [_seen(message, pictures) for message in body["messages"]]
        return self._path.replace("{model}", quote(request.model, safe="")), encoder.encode(body)

    def _type(self, body: dict[str, Any], request: Request, means: Means) -> None:
        """How the answer's type is told."""
        if means is Means.OBJECT:
            body["response_format"] = {"type": "json_object"}
        elif means is Means.TOOL:
            function = {"name": "answer", "parameters": self._fitted.schema(request)}
            body["tools"] = [{"type": "function", "function": function}]
            body["tool_choice"] = {"type": "function", "function": {"name": "answer"}}
        elif means is Means.SCHEMA:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": self._fitted.schema(request), "strict": request.strict},
            }

    def decode(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            completion = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise no_answer(headers, body, "chat completion") from None
        if completion.error or not completion.choices:
            raise hidden(headers, body) or Transient("The provider answered 200 without a choice.", hint=PASSING)
        choice = completion.choices[0]
        finish: Finish = _FINISH.get((choice.finish_reason or "stop").lower(), "stop")
        message = choice.message
        if message.refusal:
            finish = "refusal"
        if finish == "error" or choice.error:
            raise _broken_off(choice, headers)
        usage = completion.usage
        return Reply(
            message.refusal or _text(message.content) or _arguments(message.tool_calls),
            finish=finish,
            input_tokens=count(usage, "prompt_tokens"),
            output_tokens=count(usage, "completion_tokens"),
            cached_tokens=_cached(usage),
            reasoning_tokens=count(entry(usage, "completion_tokens_details"), "reasoning_tokens"),
            model=completion.model if isinstance(completion.model, str) else None,
        )


def _seen(message: Message, pictures: Pictures) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    for image in message.images:
        whole = inline(image, pictures)
        url = image.source if whole is None else f"data:{whole[0]};base64,{whole[1]}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


def _text(content: str | list[Any] | None) -> str:
    if isinstance(content, list):
        return "".join(text for part in content if isinstance(text := entry(part, "text"), str))
    return content or ""


def _arguments(tool_calls: Any) -> str:
    """Of the tool that stands for the answer's type."""
    first = tool_calls[0] if isinstance(tool_calls, list) and tool_calls else None
    found = entry(entry(first, "function"), "arguments")
    return found if isinstance(found, str) else ""


def _cached(usage: Any) -> int | None:
    """DeepSeek has a name of its own."""
    cached = count(entry(usage, "prompt_tokens_details"), "cached_tokens")
    return count(usage, "prompt_cache_hit_tokens") if cached is None else cached


def _broken_off(choice: _Choice, headers: Mapping[str, str]) -> CallError:
    if choice.finish_reason == "insufficient_system_resource":  # DeepSeek
        return Overloaded("The provider broke the answer off: too much to do.", hint="Run again later.")
    if isinstance(choice.error, dict):
        body = encoder.encode({"error": choice.error})
        return error_of(status_of(choice.error), lower(headers), body, time.time())
    return Transient("The provider broke the answer off with an error.", hint="Run again.")
