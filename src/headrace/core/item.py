"""An item that goes in, and the outcome that comes out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from headrace.core.call import Image
from headrace.core.errors import AnswerError, HeadraceError
from headrace.core.jsonform import json_form
from headrace.core.outline import outline

if TYPE_CHECKING:  # a default says what a bare Outcome is of, and comes with Python 3.13
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)


class Item(msgspec.Struct, frozen=True):
    """One input. `data` is a mapping of columns for a row of a table, else the value itself."""

    key: str
    position: int
    """From 0, in the order of the source."""
    data: Any
    images: tuple[Image, ...] = ()
    """The pictures that its columns name, where they are asked about."""
    page: Any = None
    """What was fetched for it, for the stage that reads it; no part of its data."""


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why an item failed, as data. `kind` is the word the documentation lists it under."""

    kind: str
    message: str
    hint: str = ""
    raw: str = ""
    """The text of an answer that did not validate."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Outcome(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """How one item ended: with a `value`, or with an `error`."""

    key: str
    """What identifies the item: its key column, else its position and content."""
    position: int
    """From 0, in the order of the source."""
    item: Any
    """The row as a mapping, or the value."""
    value: T_co | None = None
    """None where the item failed."""
    error: Failure | None = None
    """None where it did not."""
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
    dropped: str = ""
    """Why it left the pipeline before the end although nothing failed: filtered, not among the best, made into others.
    Such an outcome has no value and is no part of the results."""

    @property
    def ok(self) -> bool:
        return self.error is None

    def __repr__(self) -> str:
        return outline(self)


def extended(item: Item, value: Any, column: str) -> Item:
    """The item with what a stage made of it: the fields of a mapping as columns, anything else as `column`. A column
    of that name is replaced."""
    row = dict(item.data) if isinstance(item.data, Mapping) else {"item": item.data}
    made = msgspec.to_builtins(value, enc_hook=json_form)
    row |= made if isinstance(made, dict) else {column: made}
    return msgspec.structs.replace(item, data=row)


def failure_of(error: HeadraceError) -> Failure:
    raw = error.raw if isinstance(error, AnswerError) else ""
    return Failure(error.kind, _unicode(error.message), _unicode(error.hint), _unicode(raw))


def _unicode(text: str) -> str:
    """Messages quote odd things, such as file names that are no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()
