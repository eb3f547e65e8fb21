"""The most tokens that a call can take: what a budget reserves before it. Enters requests, leaves upper bounds.

Rules of this file:

1. Text is never more tokens than UTF-8 bytes: tokenizers of today fall back to single bytes, and to nothing smaller.
2. A schema may be told in the prompt, with what its provider adds to it: twice its JSON and a thousand tokens. Anthropic
   adds up to 600 tokens where a tool is called; strict schemas gain a few words for each object.
3. A picture is 16,384 tokens at most (Qwen's most, and more than what OpenAI, Anthropic and Gemini name for their
   newest), but 50,000 for gpt-4o-mini, which counts up to 48,169 and is cheap for that.
4. Tokens out are the maximum output that the request names, for each of the answers that it asks for.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.core.call import Request
from headrace.flow.estimate import Size

CAP = 4096
"""The maximum output of a task that names none and has a budget: some 3,000 English words, and no more than what any chat
model on offer accepts."""
A_REQUEST, A_MESSAGE = 256, 16
"""Tokens that a provider adds: a system prompt of its own, and signs around a message."""
A_SCHEMA, SCHEMA_TIMES = 1000, 2
AN_IMAGE = 16_384
_DEAR_IMAGES = {"gpt-4o-mini": 50_000}
_ANSWERS = ("n", "best_of", "candidateCount")
_MOST_ANSWERS = 1000


class Most:
    """For the requests of one task."""

    def __init__(self) -> None:
        self._schema: Mapping[str, Any] | None = None
        self._schema_tokens = 0

    def tokens(self, request: Request, size: Size) -> tuple[int, int]:
        """Tokens in and out of one call, at most."""
        into = A_REQUEST + A_MESSAGE * size.messages + self._of_schema(request.schema)
        for message in request.messages:
            text = message.content
            into += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size.images:
            each = next((tokens for name, tokens in _DEAR_IMAGES.items() if name in request.model), AN_IMAGE)
            into += each * size.images
        return into, (CAP if size.max_output is None else size.max_output) * _answers(request.params)

    def _of_schema(self, schema: Mapping[str, Any] | None) -> int:
        """Counted once: it is the same for all requests of a task."""
        if schema is not self._schema:
            self._schema = schema
            counted = 0 if schema is None else A_SCHEMA + SCHEMA_TIMES * len(msgspec.json.encode(schema))
            self._schema_tokens = counted
        return self._schema_tokens


def _answers(params: Mapping[str, Any]) -> int:
    told = [params[name] for name in _ANSWERS if name in params] if params else []
    return max([each for each in told if isinstance(each, int) and 1 <= each <= _MOST_ANSWERS], default=1)
