"""Outcomes in; rows of a bounded size and number out: what a page shows of items and their answers."""

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from headrace.core.item import Outcome
from headrace.report.dates import place_of
from headrace.report.fields import AGREEMENT, leaves
from headrace.report.text import shown

T = TypeVar("T")
COLUMNS_MAX = 60
ROOM = 16_000
"""For the characters of all cells of one row."""

_CELL_MAX = 4_000
_CELL_LEAST = 120
_PARTS_MAX = 30
_WORD_MAX = 60


class Cut(msgspec.Struct, frozen=True):
    """A text, perhaps only its beginning: `left_out` characters more there were."""

    text: str
    left_out: int = 0
    place: float | None = None
    """Where it stands among others, for what is a number or a date."""
    parts: tuple[str, ...] = ()
    """Of a list of words: each of them."""
    is_number: bool = False

    def to(self, most: int) -> "Cut":
        """No longer than this."""
        if len(self.text) <= most:
            return self
        return msgspec.structs.replace(
            self, text=self.text[:most], left_out=self.left_out + len(self.text) - most, parts=()
        )


class Row(msgspec.Struct, frozen=True):
    """One outcome, cut to what a page shows of it."""

    key: str
    position: int
    item: tuple[tuple[str, Cut], ...]
    answer: Mapping[str, Cut]
    kind: str
    """The kind of error; empty where it is ok."""
    message: str
    hint: str
    raw: Cut
    attempts: int
    seconds: float
    cached: bool
    columns_left_out: int = 0
    asked: frozenset[str] = frozenset()
    """The columns that the prompt names."""

    @property
    def size(self) -> int:
        cells = (*(cut for _, cut in self.item), *self.answer.values(), self.raw)
        return sum(len(cut.text) for cut in cells) + len(self.key) + len(self.message)

    @property
    def place(self) -> tuple[int, str]:
        return self.position, self.key


class Drawn(Generic[T]):
    """A uniform sample of a stream of unknown length, the same each time for the same seed (Vitter's algorithm R)."""

    def __init__(self, most: int, seed: str) -> None:
        self.kept: list[T] = []
        self._most = most
        self._seen = 0
        self._chance = random.Random(seed.encode("utf-8", "surrogatepass"))  # noqa: S311 - a sample, no secret
        self._at = 0

    def wants(self) -> bool:
        """Whether the next one is to be kept; ask once for each, and `add` it if so."""
        self._seen += 1
        if self._seen <= self._most:
            self._at = self._seen - 1
            return True
        self._at = int(self._chance.random() * self._seen)
        return self._at < self._most

    def add(self, value: T) -> None:
        if self._at < len(self.kept):
            self.kept[self._at] = value
        else:
            self.kept.append(value)


def row_of(outcome: Outcome, room: int = ROOM, asked: frozenset[str] = frozenset()) -> Row:
    """Of about `room` characters in all; of many columns, those that were asked about go before others."""
    error = outcome.error
    data = outcome.item
    columns = list(data.items()) if isinstance(data, Mapping) else [("", data)]
    if len(columns) > COLUMNS_MAX:
        columns.sort(key=lambda column: column[0] not in asked)
    answer = list(leaves(outcome.value)) if error is None else []
    if outcome.agreement is not None and error is None:
        answer.append((AGREEMENT, outcome.agreement))
    cells = min(len(columns), COLUMNS_MAX) + min(len(answer), COLUMNS_MAX)
    most = max(_CELL_LEAST, min(_CELL_MAX, room // max(1, cells)))
    return Row(
        key=outcome.key[:_CELL_MAX],
        position=outcome.position,
        item=tuple((str(name)[:_CELL_LEAST], _cut(value, most)) for name, value in columns[:COLUMNS_MAX]),
        answer={name: _cut(value, most) for name, value in answer[:COLUMNS_MAX]},
        kind=error.kind[:_WORD_MAX] if error else "",
        message=error.message[:_CELL_MAX] if error else "",
        hint=error.hint[:_CELL_MAX] if error else "",
        raw=_cut(error.raw if error else "", min(_CELL_MAX, room)),
        attempts=outcome.attempts,
        seconds=outcome.seconds,
        cached=outcome.cached,
        columns_left_out=max(0, len(columns) - COLUMNS_MAX),
        asked=asked,
    )


def _cut(value: Any, most: int) -> Cut:
    if isinstance(value, str):
        return Cut(value[:most], max(0, len(value) - most), place_of(value))
    if isinstance(value, list | tuple) and value and all(isinstance(member, str) for member in value):
        return _words(value, most)
    text = _listed(value) if isinstance(value, list | tuple) else shown(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cut(text[:most], max(0, len(text) - most), _finite(value) if number else None, is_number=number)


def _words(values: list[str] | tuple[str, ...], most: int) -> Cut:
    text = ", ".join(values)
    short = len(values) <= _PARTS_MAX and len(text) <= most and all(len(value) <= _WORD_MAX for value in values)
    return Cut(text[:most], max(0, len(text) - most), parts=tuple(values) if short else ())


def _listed(values: list[Any] | tuple[Any, ...]) -> str:
    """A list of flat objects as a person would write it, any other as JSON."""
    flat = values and all(
        isinstance(value, Mapping) and not any(isinstance(part, Mapping | list | tuple) for part in value.values())
        for value in values
    )
    if not flat:
        return shown(values)
    return "; ".join(", ".join(f"{name}: {shown(part)}" for name, part in value.items()) for value in values)


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < float("inf") else None  # neither infinite nor NaN


def united(*groups: Iterable[Row]) -> Iterator[Row]:
    """All rows of these, each once: one group after the other, each in the order of the source."""
    there: set[tuple[int, str]] = set()
    for group in groups:
        for row in sorted(group, key=lambda row: row.place):
            if row.place not in there:
                there.add(row.place)
                yield row
