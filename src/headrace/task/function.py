"""A user's function as a task: the request is its item, the value its result.

Knows nothing of how or where the function runs.
"""

import secrets
import typing
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import Digest, canonical, digest_of
from headrace.core.errors import AnswerError, FunctionError
from headrace.core.item import Item, extended
from headrace.task.schema import gist, returns_of
from headrace.task.work import Runnable

RESULT = "result"
"""The column of a result that is no mapping."""


class FunctionTask:
    """Its results are reused only where it has a name and a version: only its author knows when it changed."""

    def __init__(self, function: Callable[[Any], Any] | Runnable[Any], *, name: str = "", version: str = "") -> None:
        self.reusable = bool(name and version)
        self.label = name or getattr(function, "__qualname__", type(function).__qualname__)
        identity = [name, version] if self.reusable else [getattr(function, "__module__", ""), self.label]
        self.digest: Digest = digest_of({"task": "function", "identity": identity})
        self._prefix = self.digest if self.reusable else Digest(secrets.token_bytes(32))
        self._convert = _converter(function)

    samples = 1

    def request(self, item: Item, sample: int = 0) -> Request:  # noqa: ARG002 - a function is called once
        identity = (
            sha256(self._prefix + canonical(item.data)) if self.reusable else sha256(self._prefix + item.key.encode())
        )
        return Request(Digest(identity.digest()), item=item.data)

    def again(self, request: Request, reply: Reply, error: AnswerError) -> None:
        """A function that gave the wrong type would give it again."""

    def agreed(self, values: Sequence[Any]) -> tuple[int, float]:
        return len(values) - 1, 1.0

    def failed(self, value: Any) -> None:
        """What failed is no value."""

    def onward(self, item: Item, value: Any) -> Item:
        return extended(item, value, RESULT)

    def value(self, reply: Reply) -> Any:
        try:
            return self._convert(reply.text)
        except Exception as error:  # noqa: BLE001 - a type's own validators may raise anything
            raise FunctionError(
                f"What {self.label} returned is not of the type that it says ({gist(error)}).",
                hint="Mend the function or its return annotation.",
            ) from None


def schema_told(function: Any) -> dict[str, Any]:
    """That of the Pydantic model which a function says it returns; empty where it says another type, or none."""
    told = function if hasattr(function, "__annotations__") else type(function).__call__
    try:
        kind = typing.get_type_hints(told).get("return")
    except (TypeError, NameError, AttributeError):
        return {}
    return returns_of(kind).schema if hasattr(kind, "model_json_schema") else {}


def _converter(function: Any) -> Callable[[str], Any]:
    """From the stored JSON back to the type that the function says it returns."""
    try:
        kind = typing.get_type_hints(function).get("return")
    except (TypeError, NameError, AttributeError):
        kind = None
    validate: Callable[[str], Any] | None = getattr(kind, "model_validate_json", None)
    if validate is not None:
        return validate
    if isinstance(kind, type) and (hasattr(kind, "__dataclass_fields__") or issubclass(kind, msgspec.Struct)):
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        return decoder.decode
    return msgspec.json.decode
