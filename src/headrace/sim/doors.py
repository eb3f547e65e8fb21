"""The doors of the simulated provider: which dialect is spoken at which path. Enters a path, leaves how to read and write
there, in whose words its errors are, and which header carries the key."""

import re
from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from headrace.core.call import Reply, Request
from headrace.sim import wire, wire_gemini, wire_responses
from headrace.sim.strict import OPENAI, refuse_words
from headrace.sim.wire_messages import MessagesWire

_CHAT = re.compile(rb"(?:/v1)?/chat/completions")
_RESPONSES = re.compile(rb"(?:/v1)?/responses")
_MESSAGES = re.compile(rb"/v1/messages")
_GEMINI = re.compile(rb"/v1(?:beta)?/models/([^/]+):generateContent")
_AZURE = re.compile(rb"/openai/(?:v1|deployments/([^/]+))/chat/completions")


class Door(msgspec.Struct, frozen=True, eq=False):
    """One dialect's entrance."""

    read: Callable[[bytes, str], Request]
    """From a body, and the model that the path names, if it does; raises NotServed."""
    written: Callable[[Reply, Request, int], bytes]
    begun: bytes
    """How an answer begins that is broken off."""
    manner: str = ""
    """Whose words its errors are in, unless the server was told whose; empty: the server's."""
    key_header: str = "authorization"


class Doors:
    """Those of one server."""

    def __init__(self) -> None:
        messages = MessagesWire()
        begun = b'{"id":"chatcmpl-0","object":"chat.completion","choices":[{"index":0,"mess'
        self.chat = Door(_read_chat, _write_chat, begun)
        self._table = (
            (_CHAT, self.chat),
            (_RESPONSES, Door(wire_responses.read, wire_responses.written, b'{"id":"resp_0","object":"response","outp')),
            (
                _MESSAGES,
                Door(
                    messages.read, messages.written, b'{"id":"msg_0","type":"message","content":[{"ty', "anthropic",
                    "x-api-key",
                ),
            ),
            (
                _GEMINI,
                Door(
                    wire_gemini.read, wire_gemini.written, b'{"candidates":[{"content":{"par', "gemini",
                    "x-goog-api-key",
                ),
            ),
            (_AZURE, Door(_read_azure, _write_chat, begun, "azure", "api-key")),
        )  # fmt: skip

    def at(self, path: bytes) -> tuple[Door, str] | None:
        """The door there, and the model that the path names."""
        for pattern, door in self._table:
            found = pattern.fullmatch(path)
            if found is not None:
                name = found[1] if pattern.groups else None
                return door, unquote(name.decode("ascii", "replace")) if name else ""
        return None


def _read_chat(body: bytes, _model: str) -> Request:
    return wire.read(body)


def _read_azure(body: bytes, model: str) -> Request:
    """The deployment in the path goes before the model in the body; schemas are watched as OpenAI's."""
    request = wire.read(body)
    if request.schema is not None:
        refuse_words(request.schema, OPENAI, "response_format")
    return msgspec.structs.replace(request, model=model or request.model)


def _write_chat(reply: Reply, _request: Request, number: int) -> bytes:
    return wire.completion(reply, number)
