"""Google's generateContent: a request becomes a body, a body becomes a reply. Pure.

https://ai.google.dev/api/generate-content
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.core.call import Finish, Message, Reply, Request
from headrace.core.errors import CallError, Filtered, Transient
from headrace.provider.dialect import (
    PASSING,
    Means,
    Pictures,
    count,
    encoder,
    entry,
    hidden,
    inline,
    messages_of,
    no_answer,
    system_of,
    text_of,
    total,
)
from headrace.provider.fit import GEMINI, Fitted

_FILTERED = (
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
)  # fmt: skip
_FINISH: dict[str, Finish] = {"STOP": "stop", "MAX_TOKENS": "length", **dict.fromkeys(_FILTERED, "filter")}
_BESIDE = frozenset({"safetySettings", "tools", "toolConfig", "cachedContent", "labels", "serviceTier"})
"""Parameters of the request itself; all others are the generation's."""


class _Answer(msgspec.Struct):
    candidates: list[Any] = []
    prompt_feedback: Any = msgspec.field(default=None, name="promptFeedback")
    usage: Any = msgspec.field(default=None, name="usageMetadata")
    model: Any = msgspec.field(default=None, name="modelVersion")
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


class GenerateContent:
    """The models of one server."""

    def __init__(self) -> None:
        self._fitted = Fitted(GEMINI)

    def encode(self, request: Request, means: Means, pictures: Pictures) -> tuple[str, bytes]:
        typed = request.schema is not None
        system, messages = system_of(messages_of(request, means))
        body: dict[str, Any] = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
        body["contents"] = [_seen(message, pictures) for message in messages]
        body |= {name: value for name, value in request.params.items() if name in _BESIDE}
        config = {name: value for name, value in request.params.items() if name not in _BESIDE}
        if typed and means is not Means.PROMPT:
            config["responseMimeType"] = "application/json"
        if typed and means is Means.SCHEMA:
            config["responseJsonSchema"] = self._fitted.schema(request)
        if config:
            body["generationConfig"] = config
        return f"/{_path(request.model)}:generateContent", encoder.encode(body)

    def decode(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            answer = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise no_answer(headers, body, "generated content") from None
        if answer.error or not answer.candidates:
            raise _nothing(answer, headers, body)
        candidate = answer.candidates[0]
        reason = text_of(entry(candidate, "finishReason")) or "STOP"
        finish = _FINISH.get(reason)
        if finish is None:  # OTHER, and calls of functions that nobody offered
            raise Transient(f"The provider broke the answer off ({reason[:40]}).", hint=PASSING)
        usage = answer.usage
        thoughts = count(usage, "thoughtsTokenCount")
        return Reply(
            _said(candidate),
            finish=finish,
            input_tokens=count(usage, "promptTokenCount"),
            output_tokens=total(count(usage, "candidatesTokenCount"), thoughts),
            cached_tokens=count(usage, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
            model=answer.model if isinstance(answer.model, str) else None,
        )


def _path(model: str) -> str:
    """A tuned model's name, and one as the list of models has it, tell where they are."""
    return quote(model if model.startswith(("models/", "tunedModels/")) else f"models/{model}", safe="/")


def _seen(message: Message, pictures: Pictures) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": message.content}] if message.content or not message.images else []
    for image in message.images:
        whole = inline(image, pictures)
        if whole is None:
            parts.append({"fileData": {"fileUri": image.source}})
        else:
            parts.append({"inlineData": {"mimeType": whole[0], "data": whole[1]}})
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _said(candidate: Any) -> str:
    """All text but thoughts."""
    parts = entry(entry(candidate, "content"), "parts")
    texts = (
        [text_of(entry(part, "text")) for part in parts if not entry(part, "thought")]
        if isinstance(parts, list)
        else []
    )
    return "".join(texts)


def _nothing(answer: _Answer, headers: Mapping[str, str], body: bytes) -> CallError:
    """The error behind an answer without a candidate."""
    reason = text_of(entry(answer.prompt_feedback, "blockReason"))
    if reason:
        return Filtered(
            f"The provider's filter stopped the prompt ({reason[:40]}).", hint="Asking again will not help."
        )
    return hidden(headers, body) or Transient("The provider answered 200 without a candidate.", hint=PASSING)
