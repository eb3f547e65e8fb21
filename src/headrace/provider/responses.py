"""OpenAI's Responses: a request becomes a body, a body becomes a reply. Pure but for the clock, as in chat.py.

https://platform.openai.com/docs/api-reference/responses
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.core.call import Finish, Message, Reply, Request
from headrace.core.errors import CallError, Transient
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
    system_of,
    text_of,
)
from headrace.provider.fit import OPENAI, Fit, Fitted
from headrace.provider.verdict import error_of

_CUT: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "filter"}

_AT_FAULT = ("invalid_", "image_", "empty_", "unsupported_", "failed_to_download_", "data_residency_")
"""How the codes of an error begin that the request's prompt or pictures are to blame for (the SDK's `ResponseError`)."""


class _Response(msgspec.Struct):
    status: str
    output: list[Any]
    error: Any = None
    incomplete_details: Any = None
    model: Any = None
    usage: Any = None


_decoder = msgspec.json.Decoder(_Response)


class Responses:
    """The Responses of one server. What is asked is not kept there, unless a parameter says so."""

    def __init__(self, *, fit: Fit = OPENAI) -> None:
        self._fitted = Fitted(fit)

    def encode(self, request: Request, means: Means, pictures: Pictures) -> tuple[str, bytes]:
        typed = request.schema is not None
        system, messages = system_of(messages_of(request, means))
        body: dict[str, Any] = {
            "model": request.model,
            "input": [_seen(message, pictures) for message in messages],
            "store": False,
            **request.params,
        }
        if system:
            body["instructions"] = system
        if typed and means is Means.OBJECT:
            body["text"] = {**_of(body, "text"), "format": {"type": "json_object"}}
        elif typed and means is Means.SCHEMA:
            schema = self._fitted.schema(request)
            form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": request.strict}
            body["text"] = {**_of(body, "text"), "format": form}
        return "/responses", encoder.encode(body)

    def decode(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            answer = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise no_answer(headers, body, "response") from None
        if answer.status in ("failed", "cancelled") or answer.error:
            raise _failed(answer, headers, body)
        if answer.status not in ("completed", "incomplete"):
            raise Transient(f"The provider answered 200 with a response that is {answer.status[:40]}.", hint=PASSING)
        text, refusal = _parts(answer.output)
        finish: Finish = "stop"
        if answer.status == "incomplete":
            finish = _CUT.get(text_of(entry(answer.incomplete_details, "reason")), "length")
        if refusal:
            finish = "refusal"
        usage = answer.usage
        return Reply(
            refusal or text,
            finish=finish,
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            cached_tokens=count(entry(usage, "input_tokens_details"), "cached_tokens"),
            reasoning_tokens=count(entry(usage, "output_tokens_details"), "reasoning_tokens"),
            model=answer.model if isinstance(answer.model, str) else None,
        )


def _of(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _seen(message: Message, pictures: Pictures) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": message.content}] if message.content else []
    for image in message.images:
        whole = inline(image, pictures)
        url = image.source if whole is None else f"data:{whole[0]};base64,{whole[1]}"
        parts.append({"type": "input_image", "image_url": url})
    return {"role": message.role, "content": parts}


def _parts(output: list[Any]) -> tuple[str, str]:
    """The text, and what was said in refusing, of all messages; thoughts are no part of the answer."""
    contents = [entry(item, "content") for item in output if entry(item, "type") == "message"]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    text = [text_of(entry(part, "text")) for part in parts if entry(part, "type") == "output_text"]
    refusal = [text_of(entry(part, "refusal")) for part in parts if entry(part, "type") == "refusal"]
    return "".join(text), "".join(refusal)


def _failed(answer: _Response, headers: Mapping[str, str], body: bytes) -> CallError:
    if isinstance(answer.error, dict):
        at_fault = text_of(answer.error.get("code")).startswith(_AT_FAULT)
        return error_of(400 if at_fault else status_of(answer.error), lower(headers), body, time.time())
    return hidden(headers, body) or Transient("The provider broke the answer off.", hint=PASSING)
