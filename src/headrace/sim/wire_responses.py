"""OpenAI's Responses as their server sees them: a body becomes a Request, a Reply a body. Pure."""

import time
from typing import Any

import msgspec

from headrace.core.call import Image, Message, Reply, Request
from headrace.sim.strict import OPENAI, refuse_words
from headrace.sim.wire import NO_DIGEST, ROLES, NotServed, image_at, loaded, schema_of, whole

_encoder = msgspec.json.Encoder()


def read(body: bytes, _model: str) -> Request:
    """Raises NotServed with what is wrong with it."""
    asked = loaded(body)
    model, given = asked.get("model"), asked.get("input")
    if not isinstance(model, str) or not model:
        raise NotServed(400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise NotServed(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    messages = [_message(item, position) for position, item in enumerate(given)]
    instructions = asked.get("instructions")
    if isinstance(instructions, str) and instructions:
        messages.insert(0, Message("system", instructions))
    most = asked.get("max_output_tokens")
    params: dict[str, Any] = {} if most is None else {"max_tokens": whole("max_output_tokens", most)}
    form = (asked.get("text") or {}).get("format") or {}
    schema = None
    if form.get("type") == "json_schema":
        schema = schema_of(form, "text.format")
        if form.get("strict"):
            refuse_words(schema, OPENAI, "text.format.schema")
    elif form.get("type") == "json_object":
        params["response_format"] = {"type": "json_object"}
    return Request(NO_DIGEST, model, tuple(messages), params, schema)


def _message(item: Any, position: int) -> Message:
    role = ROLES.get(item.get("role", "")) if isinstance(item, dict) else None
    if role is None:
        raise NotServed(400, f"Invalid value in input[{position}].", param=f"input[{position}]", code="invalid_value")
    content = item.get("content")
    if isinstance(content, str):
        return Message(role, content)
    texts, images = [], []
    for part in content if isinstance(content, list) else []:
        match part:
            case {"type": "input_text" | "output_text", "text": str(text)}:
                texts.append(text)
            case {"type": "input_image", "image_url": str(url)}:
                images.append(image_at(url))
            case _:
                raise NotServed(
                    400, f"Invalid part in input[{position}].", param=f"input[{position}].content", code="invalid_value"
                )
    return Message(role, "".join(texts), tuple[Image, ...](images))


def written(reply: Reply, _request: Request, number: int) -> bytes:
    """The body of a good answer."""
    part: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": []}
    if reply.finish == "refusal":
        part = {"type": "refusal", "refusal": reply.text}
    cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(reply.finish)
    taken, made = reply.input_tokens or 0, reply.output_tokens or 0
    return _encoder.encode(
        {
            "id": f"resp_{number}", "object": "response", "created_at": int(time.time()), "model": reply.model,
            "status": "incomplete" if cut else "completed", "error": None,
            "incomplete_details": {"reason": cut} if cut else None, "instructions": None, "metadata": {},
            "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "output": [
                {"type": "reasoning", "id": f"rs_{number}", "summary": []},
                {
                    "type": "message", "id": f"msg_{number}", "role": "assistant",
                    "status": "incomplete" if cut else "completed", "content": [part],
                },
            ],
            "usage": {
                "input_tokens": taken, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": made, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": taken + made,
            },
        }
    )  # fmt: skip
