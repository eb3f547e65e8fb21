"""Anthropic's Messages as their server sees them: a body becomes a Request, a Reply a body. Pure but for what was cached.

A prefix that is marked is in the cache once a request with it was answered, as the real one says.
"""

from hashlib import sha256
from typing import Any

import msgspec

from headrace.core.call import Image, Message, Reply, Request
from headrace.provider.simulated import tokens
from headrace.sim.strict import ANTHROPIC, refuse_words
from headrace.sim.wire import NO_DIGEST, NotServed, image_at, inline_image, loaded, schema_of, whole

_STOP = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "filter": "refusal"}
_encoder = msgspec.json.Encoder()


class MessagesWire:
    """With the prompt cache of one server."""

    def __init__(self) -> None:
        self._cached: set[bytes] = set()

    def read(self, body: bytes, _model: str) -> Request:
        """Raises NotServed with what is wrong with it."""
        asked = loaded(body)
        model, given, most = asked.get("model"), asked.get("messages"), asked.get("max_tokens")
        if not isinstance(model, str) or not model:
            raise NotServed(400, "model: Field required")
        if most is None:
            raise NotServed(400, "max_tokens: Field required")
        if not isinstance(given, list) or not given:
            raise NotServed(400, "messages: at least one message is required")
        params: dict[str, Any] = {"max_tokens": whole("max_tokens", most)}
        prefix = _Prefix()
        messages = [prefix.system(asked.get("system"))] if asked.get("system") else []
        messages += [_message(item, position, prefix) for position, item in enumerate(given)]
        schema = None
        if choice := asked.get("tool_choice"):
            params["tool"], schema = _tool(asked, choice)
        form = (asked.get("output_config") or {}).get("format")
        if form:
            schema = schema_of(form, "output_config.format", named=False)
            refuse_words(schema, ANTHROPIC, "output_config.format.schema")
        if prefix.marked:
            params["prefix"] = prefix.marked
        return Request(NO_DIGEST, model, tuple(messages), params, schema)

    def written(self, reply: Reply, request: Request, number: int) -> bytes:
        """The body of a good answer, after which its prefix is cached."""
        taken, made = reply.input_tokens or 0, reply.output_tokens or 0
        digest, marked = request.params.get("prefix", (b"", 0))
        marked = min(marked, taken)
        hit = digest in self._cached
        if digest:
            self._cached.add(digest)
        tool = request.params.get("tool")
        said: dict[str, Any] = {"type": "text", "text": reply.text}
        if tool and reply.finish == "stop":
            said = {"type": "tool_use", "id": f"toolu_{number}", "name": tool, "input": msgspec.json.decode(reply.text)}
        return _encoder.encode(
            {
                "id": f"msg_{number}", "type": "message", "role": "assistant", "model": reply.model, "content": [said],
                "stop_reason": "tool_use" if said["type"] == "tool_use" else _STOP.get(reply.finish, "end_turn"),
                "stop_sequence": None,
                "usage": {
                    "input_tokens": taken - marked, "cache_creation_input_tokens": 0 if hit else marked,
                    "cache_read_input_tokens": marked if hit else 0, "output_tokens": made,
                    "service_tier": "standard",
                },
            }
        )  # fmt: skip


class _Prefix:
    """What stands before the last mark."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._characters = 0
        self.marked: tuple[bytes, int] | None = None

    def add(self, part: dict[str, Any]) -> None:
        text = str(part.get("text") or "")
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        self._characters += len(text)
        if part.get("cache_control") == {"type": "ephemeral"}:
            self.marked = self._hash.digest(), tokens(self._characters)

    def system(self, given: Any) -> Message:
        parts = [{"type": "text", "text": given}] if isinstance(given, str) else given
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise NotServed(400, "system: Input should be a valid list")
        for part in parts:
            self.add(part)
        return Message("system", "".join([str(part.get("text") or "") for part in parts]))


def _message(item: Any, position: int, prefix: _Prefix) -> Message:
    role = item.get("role") if isinstance(item, dict) else None
    if role not in ("user", "assistant"):
        raise NotServed(400, f'messages.{position}.role: Input should be "user" or "assistant"')
    content = item.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts, images = [], []
    for part in parts if isinstance(parts, list) else []:
        match part:
            case {"type": "text", "text": str(text)} if text.strip():
                texts.append(text)
                prefix.add(part)
            case {"type": "image", "source": {"type": "url", "url": str(url)}}:
                images.append(image_at(url))
            case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
                images.append(inline_image(kind, data))
            case _:
                raise NotServed(400, f"messages.{position}.content: text content blocks must be non-empty")
    if not texts and not images:
        raise NotServed(400, f"messages.{position}: content must be non-empty")
    return Message(role, "".join(texts), tuple[Image, ...](images))


def _tool(asked: dict[str, Any], choice: Any) -> tuple[str, dict[str, Any]]:
    """The one that must be called: its name and the schema of its input."""
    for tool in asked.get("tools") or []:
        if choice == {"type": "tool", "name": tool.get("name")} and isinstance(tool.get("input_schema"), dict):
            return tool["name"], tool["input_schema"]
    raise NotServed(400, "tool_choice: Tool not found in provided tools")
