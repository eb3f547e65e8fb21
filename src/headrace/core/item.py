"""An item that goes in, and the outcome that comes out."""

from typing import Any

import msgspec

from headrace.core.call import Image
from headrace.core.errors import AnswerError, HeadraceError


class Item(msgspec.Struct, frozen=True):
    """One input. `data` is a mapping of columns for a row of a table, else the value itself."""

    key: str
    position: int
    """From 0, in the order of the source."""
    data: Any
    images: tuple[Image, ...] = ()
    """The pictures that its columns name, where they are asked about."""


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why an item failed, as data. `kind` is the word the documentation lists it under."""

    kind: str
    message: str
    hint: str = ""
    raw: str = ""
    """The text of an answer that did not validate."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one item ended: with a `value`, or with an `error`."""

    key: str
    position: int
    item: Any
    value: Any = None
    error: Failure | None = None
    attempts: int = 0
    """Calls sent for this item; 0 where the answer came from the store or from an equal item's call."""
    seconds: float = 0.0
    """How long the call that gave the answer took."""
    usd: float | None = None
    """What it cost; None where that is unknown."""
    cached: bool = False
    stage: str = ""
    """The stage that ended the item."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    samples: tuple[Any, ...] = ()
    """The values of all samples, where the item was asked about more than once."""
    agreement: float | None = None
    """How far they agree, from 0 to 1."""

    @property
    def ok(self) -> bool:
        return self.error is None


def failure_of(error: HeadraceError) -> Failure:
    raw = error.raw if isinstance(error, AnswerError) else ""
    return Failure(error.kind, _unicode(error.message), _unicode(error.hint), _unicode(raw))


def _unicode(text: str) -> str:
    """Messages quote odd things, such as file names that are no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()
