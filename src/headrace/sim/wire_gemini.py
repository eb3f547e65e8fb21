"""Google's generateContent as its server sees it: a body becomes a Request, a Reply a body. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.core.call import Image, Message, Reply, Request
from headrace.sim.strict import GEMINI, refuse_words
from headrace.sim.wire import NO_DIGEST, NotServed, image_at, inline_image, loaded, whole

_STOP = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY", "refusal": "STOP"}
_encoder = msgspec.json.Encoder()


def read(body: bytes, model: str) -> Request:
    """Raises NotServed with what is wrong with it."""
    asked = loaded(body)
    contents = asked.get("contents")
    if not isinstance(contents, list) or not contents:
        raise NotServed(400, "* GenerateContentRequest.contents: contents is not specified")
    messages = [_message(content) for content in contents]
    system = asked.get("systemInstruction") or asked.get("system_instruction")
    if system:
        messages.insert(0, Message("system", _message({**system, "role": "user"}).content))
    config = asked.get("generationConfig") or {}
    params: dict[str, Any] = {}
    if (most := config.get("maxOutputTokens")) is not None:
        params["max_tokens"] = whole("maxOutputTokens", most)
    schema = None
    if found := config.get("responseJsonSchema") or config.get("responseSchema"):
        if config.get("responseMimeType") != "application/json":
            raise NotServed(400, "Response schema is only supported with mime type application/json")
        if "responseJsonSchema" in config:
            refuse_words(found, GEMINI, "generation_config.response_json_schema")
        schema = found if "responseJsonSchema" in config else _openapi(found)
    elif config.get("responseMimeType") == "application/json":
        params["response_format"] = {"type": "json_object"}
    return Request(NO_DIGEST, model, tuple(messages), params, schema)


def _message(content: Any) -> Message:
    role = content.get("role", "user") if isinstance(content, dict) else None
    if role not in ("user", "model"):
        raise NotServed(400, "Please use a valid role: user, model.")
    texts, images = [], []
    for part in content.get("parts") or []:
        match part:
            case {"text": str(text)}:
                texts.append(text)
            case {
                "inlineData": {"mimeType": str(kind), "data": str(data)} | {"mime_type": str(kind), "data": str(data)}
            }:
                images.append(inline_image(kind, data))
            case {"fileData": {"fileUri": str(url)}}:
                images.append(image_at(url))
            case _:
                raise NotServed(400, "Unable to submit request because it must have a text parameter.")
    return Message("assistant" if role == "model" else "user", "".join(texts), tuple[Image, ...](images))


def _openapi(schema: Any) -> Any:
    """Google's subset of OpenAPI as JSON Schema: types in capitals, and null as a word of its own."""
    if isinstance(schema, list):
        return [_openapi(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {word: _openapi(value) for word, value in schema.items() if word not in ("nullable", "propertyOrdering")}
    if isinstance(plain.get("type"), str):
        plain["type"] = plain["type"].lower()
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") else plain


def written(reply: Reply, _request: Request, number: int) -> bytes:
    """The body of a good answer."""
    taken, made = reply.input_tokens or 0, reply.output_tokens or 0
    return _encoder.encode(
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": reply.text}], "role": "model"},
                    "finishReason": _STOP.get(reply.finish, "STOP"), "index": 0,
                }
            ],
            "usageMetadata": {"promptTokenCount": taken, "candidatesTokenCount": made, "totalTokenCount": taken + made},
            "modelVersion": reply.model, "responseId": f"r{number}",
        }
    )  # fmt: skip
