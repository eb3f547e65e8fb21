"""The one shape everything wraps: `Call = async (Request) -> Reply`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.core.digest import Digest
from headrace.core.limits import Hints

if TYPE_CHECKING:
    from asyncio import Future  # 50 ms that the help of the command does not need

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "filter", "refusal", "tool", "error"]


class Image(msgspec.Struct, frozen=True, gc=False):
    """A picture in a prompt: a file on this machine, or an address that the provider reads by itself."""

    source: str
    """The file's path, or the address (http:, https: or data:)."""
    media_type: str = ""
    """Of a file; empty for an address."""
    digest: bytes = b""
    """SHA-256 of a file's content: what it is known by, wherever it lies. Empty for an address."""
    wrong: str = ""
    """Why it cannot be sent."""


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    role: Role
    content: str
    images: tuple[Image, ...] = ()
    """After the text."""


class Request(msgspec.Struct, frozen=True):
    """One model call to make, or one call of a user's function (then `item` is its argument and the rest is empty)."""

    digest: Digest
    model: str = ""
    messages: tuple[Message, ...] = ()
    params: Mapping[str, Any] = {}
    """Sent as they are in the body: temperature, max_tokens, seed ..."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must satisfy."""
    strict: bool = False
    """Whether that schema is closed, so that a provider can enforce it exactly."""
    item: object = None
    same: int = 0
    """So many characters at the start of its last message are the same for every item."""


class Reply(msgspec.Struct, frozen=True):
    """What one call answered. Of a user's function, `text` is its result as JSON."""

    text: str
    finish: Finish = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Input tokens the provider had cached; a part of `input_tokens`."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    attempts: int = 1
    """Calls sent for this reply; 0 where the store or an equal item's call gave it."""
    seconds: float = 0.0
    """How long the successful attempt took."""
    reasoning_tokens: int | None = None
    """Output tokens the model thought with; a part of `output_tokens`."""
    usd: float | None = None
    """What this answer cost; None where that is unknown."""
    written_tokens: int | None = None
    """Input tokens that were written into the provider's cache; a part of `input_tokens`; not stored with the reply."""
    value: Any = None
    """What the task made of it; not stored with the reply."""
    hints: Hints | None = None
    """What the answer said about limits; not stored with the reply."""

    @property
    def cached(self) -> bool:
        return self.attempts == 0


Call = Callable[[Request], Awaitable[Reply]]
"""Cancelling it takes it off the wire, or it raises StillRunning and stays counted as in flight until it is off."""


class StillRunning(Exception):
    """A cancelled call that goes on: nothing can take it off its thread. `done` gets its late reply."""

    def __init__(self, done: "Future[Reply]") -> None:
        super().__init__("the call goes on in its thread")
        self.done = done
