"""The port to a provider's API: a request becomes a path and a body, an answer's bytes become a reply. Pure.

With what all dialects share: how an answer that is none is told apart, and how a picture is put.
"""

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

from headrace.core.call import Image, Message, Reply, Request
from headrace.core.errors import CallError, Transient
from headrace.provider.verdict import error_of

PASSING = "Run again: it may have been a passing fault."
_MOST_TOKENS = 2**53
_STATUS = {"overloaded_error": 529, "rate_limit_error": 429, "authentication_error": 401, "invalid_request_error": 400}

encoder = msgspec.json.Encoder()


class Means(Enum):
    """How a provider is made to answer in a type, the best first."""

    SCHEMA = "schema"
    """The provider keeps to the schema."""
    TOOL = "tool"
    """The model must call a tool whose arguments are the schema."""
    OBJECT = "object"
    """The provider keeps to JSON, and the prompt tells the schema."""
    PROMPT = "prompt"
    """The prompt tells the schema."""


Pictures = Mapping[Image, str]
"""The content of each picture that is a file here, in base64."""


class Dialect(Protocol):
    """One provider's API."""

    def encode(self, request: Request, means: Means, pictures: Pictures) -> tuple[str, bytes]:
        """The path below the base URL, and the body to post there. `means` is how the request's schema is told."""
        ...

    def decode(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """The reply in an answer of status 200, without its hints; raises the CallError behind any other body."""
        ...


def messages_of(request: Request, means: Means) -> tuple[Message, ...]:
    """What is said; where the prompt tells the schema, with that in the first of them, so that what is the same for all
    items stays in front."""
    if request.schema is None or means not in (Means.OBJECT, Means.PROMPT):
        return request.messages
    told = (
        "Answer with one JSON object that satisfies this JSON schema, and with nothing else:\n"
        f"{encoder.encode(request.schema).decode()}"
    )
    messages = request.messages
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{told}"), *messages[1:])
    return (Message("system", told), *messages)


def system_of(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """What the system says, and the rest: for dialects that keep them apart."""
    system = "\n\n".join([message.content for message in messages if message.role == "system"])
    return system, [message for message in messages if message.role != "system"]


def inline(image: Image, pictures: Pictures) -> tuple[str, str] | None:
    """Media type and base64 of a picture that is sent whole; None for one that the provider reads by its address."""
    if image in pictures:
        return image.media_type, pictures[image]
    kind, found, data = image.source.removeprefix("data:").partition(";base64,")
    return (kind, data) if found and image.source.startswith("data:") else None


# Reading answers leniently: what was paid for is not lost over how it is told.


def entry(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, dict) else None


def count(mapping: Any, name: str) -> int | None:
    found = entry(mapping, name)
    return int(found) if isinstance(found, int | float) and 0 <= found < _MOST_TOKENS else None


def total(*counts: int | None) -> int | None:
    """Of those that are told; None where none is."""
    told = [each for each in counts if each is not None]
    return sum(told) if told else None


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def no_answer(headers: Mapping[str, str], body: bytes, what: str) -> CallError:
    """The error behind a 200 that is no `what`."""
    return hidden(headers, body) or Transient(
        f"The provider answered 200 with a body that is no {what}.",
        hint="Check that the base URL is the provider's own, up to and including its version.",
    )


def hidden(headers: Mapping[str, str], body: bytes) -> CallError | None:
    """Some providers and gateways hide an error in a 200: then it is that error."""
    try:
        data: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(data, list) and data:
        data = data[0]
    error = entry(data, "error") or (data if "error" in (entry(data, "object"), entry(data, "type")) else None)
    return error_of(status_of(error), lower(headers), body, time.time()) if error else None


def status_of(error: Any) -> int:
    """The HTTP status that a hidden error stands for."""
    code = entry(error, "code")
    if isinstance(code, str) and len(code) == 3 and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    kind = entry(error, "type")
    return _STATUS.get(kind, 500) if isinstance(kind, str) else 500


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
