"""Anthropic's Messages: a request becomes a body, a body becomes a reply. Pure.

https://docs.claude.com/en/api/messages. The most tokens of an answer is required there; where nothing is said, it is
`MOST_TOKENS`. What is the same for every item stands first and is marked for the prompt cache where it is long enough.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headrace.core.call import Finish, Message, Reply, Request
from headrace.provider.dialect import (
    Means,
    Pictures,
    count,
    encoder,
    entry,
    inline,
    messages_of,
    no_answer,
    system_of,
    text_of,
    total,
)
from headrace.provider.fit import ANTHROPIC, Fitted

VERSION: Final = "2023-06-01"
MOST_TOKENS: Final = 8192
LEAST_CACHED: Final = 4096
"""Characters, about 1,024 tokens: less is not cached by most models."""
_CACHED: Final = {"type": "ephemeral"}

_FINISH: dict[str, Finish] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "stop", "pause_turn": "stop",
    "refusal": "refusal", "model_context_window_exceeded": "length",
}  # fmt: skip


class _Answer(msgspec.Struct):
    content: list[Any]
    error: Any = None
    stop_reason: str | None = None
    model: Any = None
    usage: Any = None


_decoder = msgspec.json.Decoder(_Answer)


class Messages:
    """The Messages of one server."""

    def __init__(self) -> None:
        self._fitted = Fitted(ANTHROPIC)

    def encode(self, request: Request, means: Means, pictures: Pictures) -> tuple[str, bytes]:
        typed = request.schema is not None
        system, messages = system_of(messages_of(request, means))
        last = len(messages) - 1
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": MOST_TOKENS,
            "messages": [
                _seen(message, pictures, request.same if number == last else 0, len(system))
                for number, message in enumerate(messages)
            ],
            **request.params,
        }
        if system:
            body["system"] = system if len(system) < LEAST_CACHED else [_text(system, cached=True)]
        if typed and means is Means.TOOL:
            body["tools"] = [
                {"name": "answer", "description": "Gives the answer.", "input_schema": self._fitted.schema(request)}
            ]
            body["tool_choice"] = {"type": "tool", "name": "answer"}
        elif typed and means is Means.SCHEMA:
            asked = body.get("output_config")
            form = {"type": "json_schema", "schema": self._fitted.schema(request)}
            body["output_config"] = {**(asked if isinstance(asked, Mapping) else {}), "format": form}
        return "/v1/messages", encoder.encode(body)

    def decode(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            answer = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise no_answer(headers, body, "message") from None
        if answer.error:
            raise no_answer(headers, body, "message")
        usage = answer.usage
        written, read = count(usage, "cache_creation_input_tokens"), count(usage, "cache_read_input_tokens")
        return Reply(
            _said(answer.content),
            finish=_FINISH.get(answer.stop_reason or "end_turn", "stop"),
            input_tokens=total(count(usage, "input_tokens"), written, read),
            written_tokens=written,
            output_tokens=count(usage, "output_tokens"),
            cached_tokens=read,
            reasoning_tokens=count(entry(usage, "output_tokens_details"), "reasoning_tokens"),
            model=answer.model if isinstance(answer.model, str) else None,
        )


def _text(text: str, *, cached: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": text, **({"cache_control": _CACHED} if cached else {})}


def _seen(message: Message, pictures: Pictures, same: int, before: int) -> dict[str, Any]:
    """`same` characters of it are the same for every item, after `before` others that are."""
    if not message.images and (same == 0 or before + same < LEAST_CACHED):
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = []
    if same and before + same >= LEAST_CACHED:
        parts = [_text(message.content[:same], cached=True)]
        parts += [_text(message.content[same:])] if message.content[same:].strip() else []
    elif message.content:
        parts = [_text(message.content)]
    for image in message.images:
        whole = inline(image, pictures)
        source = (
            {"type": "url", "url": image.source}
            if whole is None
            else {"type": "base64", "media_type": whole[0], "data": whole[1]}
        )
        parts.append({"type": "image", "source": source})
    return {"role": message.role, "content": parts}


def _said(content: list[Any]) -> str:
    """The arguments of the tool that stands for the answer's type, else all text; thoughts are no part of it."""
    for part in content:
        if entry(part, "type") == "tool_use" and entry(part, "name") == "answer":
            return encoder.encode(entry(part, "input")).decode()
    return "".join([text_of(entry(part, "text")) for part in content if entry(part, "type") == "text"])
