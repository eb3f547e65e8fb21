"""Values of a field, one at a time, in; its distribution out: counts, quantiles, most frequent. Bounded memory.

Knows nothing of pages; what a field is meant to be comes from the JSON schema, what it is from the values.
"""

import math
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec

from headrace.report.text import number

T = TypeVar("T")
Kind = Literal["empty", "choice", "number", "text", "mixed"]

_DISTINCT_MAX = 2_000
_TEXT_MAX = 200
_NUMBERS_MAX = 10_000
_CHOICES_MAX = 12
_CHOICE_LENGTH_MAX = 40
_TOP = 8
_BINS = 24
_FIELDS_MAX = 100


class Spread(Generic[T]):
    """An evenly spaced selection of a stream of unknown length: at most `limit`, at least half of that."""

    def __init__(self, limit: int) -> None:
        self.kept: list[T] = []
        self.seen = 0
        self._limit = limit
        self._stride = 1

    @property
    def wants(self) -> bool:
        """Whether the next one would be kept: what is costly to make need not be made otherwise."""
        return self.seen % self._stride == 0

    def add(self, value: T) -> None:
        if self.wants:
            self.kept.append(value)
            if len(self.kept) > self._limit:
                self.kept = self.kept[::2]
                self._stride *= 2
        self.seen += 1

    def skip(self) -> None:
        """Count one that is not kept anyway."""
        self.seen += 1


class Bin(msgspec.Struct, frozen=True):
    low: float
    high: float
    count: int


class Numbers(msgspec.Struct, frozen=True):
    least: float
    median: float
    mean: float
    most: float
    bins: tuple[Bin, ...]
    sampled: int | None
    """How many numbers the median and the bins are from, where that is not all of them."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """What a field's values were. `counts` are the most frequent ones, or all of the choices in the schema's order.

    Of a list they are the answers that have the value in it.
    """

    name: str
    declared: str
    """The schema's word for its type."""
    description: str
    kind: Kind
    present: int
    missing: int
    """Null, or not there."""
    counts: tuple[tuple[str, int], ...]
    others: int
    """How often values came that `counts` leaves out."""
    distinct: int
    distinct_is_least: bool
    """Whether there are more distinct values than were counted."""
    numbers: Numbers | None
    per_answer: float | None
    """Of a list: how many values an answer has on average."""


class Field:
    """Gathers one field's values."""

    def __init__(self, name: str, schema: Mapping[str, Any]) -> None:
        self.name = name
        self._schema = schema
        self._present = self._missing = self._texts = self._others = 0
        self._lists = self._members = 0
        self._counts: dict[str, int] = {}
        self._full = False
        self._longest = 0
        self._numbers: Spread[float] = Spread(_NUMBERS_MAX)
        self._least, self._most, self._sum = math.inf, -math.inf, 0.0

    def add(self, value: Any) -> None:
        if value is None:
            self._missing += 1
            return
        self._present += 1
        if isinstance(value, list | tuple):
            self._lists += 1
            self._members += len(value)
            texts = {member for member in value if isinstance(member, str)}
            for member in (*sorted(texts), *(member for member in value if not isinstance(member, str))):
                self._add_one(member)
        else:
            self._add_one(value)

    def miss(self, count: int = 1) -> None:
        self._missing += count

    def _add_one(self, value: Any) -> None:
        if isinstance(value, bool):
            self._count("true" if value else "false")
        elif isinstance(value, int | float):
            self._add_number(value)
        elif isinstance(value, str):
            self._texts += 1
            self._longest = max(self._longest, len(value))
            self._count(value if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}… {hash(value):x}")
        else:
            self._others += 1

    def _add_number(self, value: float) -> None:
        try:
            as_float = float(value)
        except OverflowError:
            as_float = math.inf
        if not math.isfinite(as_float):
            self._others += 1
            return
        self._numbers.add(as_float)
        self._least, self._most = min(self._least, as_float), max(self._most, as_float)
        self._sum += as_float

    def _count(self, text: str) -> None:
        if text in self._counts:
            self._counts[text] += 1
        elif len(self._counts) < _DISTINCT_MAX:
            self._counts[text] = 1
        else:
            self._full = True

    def distribution(self) -> Distribution:
        counted = sum(self._counts.values())
        kind = self._kind()
        choices = [_word(choice) for choice in _choices(self._schema)]
        ranked = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        shown = _TOP
        if kind == "choice":
            known = [(choice, self._counts.get(choice, 0)) for choice in choices]
            ranked = known + [pair for pair in ranked if pair[0] not in choices]
            shown = max(_CHOICES_MAX, len(known))
        counts = tuple((text.rpartition(" ")[0] if len(text) > _TEXT_MAX else text, n) for text, n in ranked[:shown])
        return Distribution(
            name=self.name,
            declared=declared_type(self._schema),
            description=str(self._schema.get("description", "")),
            kind=kind,
            present=self._present,
            missing=self._missing,
            counts=counts,
            others=counted - sum(count for _, count in counts),
            distinct=len(self._counts),
            distinct_is_least=self._full,
            numbers=self._summary(),
            per_answer=self._members / self._lists if self._lists else None,
        )

    def _kind(self) -> Kind:
        texts, numbers = bool(self._counts), bool(self._numbers.seen)
        if self._others or (texts and numbers):
            return "mixed"
        if numbers:
            return "number"
        if _choices(self._schema):
            return "choice"
        if not texts:
            return "empty"
        few = len(self._counts) <= _CHOICES_MAX and self._longest <= _CHOICE_LENGTH_MAX
        repeated = self._texts == 0 or len(self._counts) * 2 <= self._texts
        return "choice" if few and repeated else "text"

    def _summary(self) -> Numbers | None:
        numbers = self._numbers
        if not numbers.seen:
            return None
        ordered = sorted(numbers.kept)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else ordered[middle - 1] / 2 + ordered[middle] / 2
        sampled = len(ordered) if len(ordered) < numbers.seen else None
        mean = min(max(self._sum / numbers.seen, self._least), self._most)
        return Numbers(self._least, median, mean, self._most, _bins(ordered, self._least, self._most), sampled)


class Fields:
    """The fields of all answers: those of the schema first and in its order, then what else turns up."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self._schema = schema or {}
        self._answers = 0
        self._fields: dict[str, Field] = {}
        properties = self._schema.get("properties")
        if isinstance(properties, Mapping):
            for name, part in list(properties.items())[:_FIELDS_MAX]:
                self._fields[name] = Field(name, resolve(part, self._schema))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._fields)

    def add(self, value: Any) -> None:
        answer = fields_of(value)
        for name in answer:
            if name not in self._fields and len(self._fields) < _FIELDS_MAX:
                field = self._fields[name] = Field(name, self._schema if name == ANSWER else {})
                field.miss(self._answers)
        for name, field in self._fields.items():
            field.add(answer.get(name))
        self._answers += 1

    def distributions(self) -> tuple[Distribution, ...]:
        return tuple(field.distribution() for field in self._fields.values())


ANSWER = "answer"
"""The name of the one field of an answer that is no mapping."""


def fields_of(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    return {ANSWER: value}


def resolve(part: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """This part of a schema with its reference followed and `or null` taken off."""
    for _ in range(10):
        if not isinstance(part, Mapping):
            return {}
        reference = part.get("$ref")
        options = part.get("anyOf") or part.get("oneOf")
        if isinstance(reference, str) and reference.startswith("#/"):
            target: Any = schema
            for step in reference[2:].split("/"):
                target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        elif isinstance(options, list):
            real = [option for option in options if not (isinstance(option, Mapping) and option.get("type") == "null")]
            if len(real) != 1:
                return part
            target = real[0]
        else:
            return part
        if not isinstance(target, Mapping):
            return {}
        kept = {name: part[name] for name in ("description", "title") if name in part}
        part = {**target, **kept}
    return {}


def declared_type(schema: Mapping[str, Any]) -> str:
    """One word or two for what the schema asks for; empty where it does not say."""
    if _choices(schema):
        return "true or false" if schema.get("type") == "boolean" else "choice"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    names = {"string": "text", "array": "list", "boolean": "true or false", "integer": "whole number"}
    words = [names.get(kind, kind) for kind in kinds if isinstance(kind, str) and kind != "null"]
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = ""
    if isinstance(low, int | float) and isinstance(high, int | float):
        bounds = f", {number(low)} to {number(high)}"
    return " or ".join(words) + bounds


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    if schema.get("type") == "boolean":
        return [True, False]
    items = schema.get("items")
    choices = schema.get("enum") or (items.get("enum") if isinstance(items, Mapping) else None)
    if choices is None and "const" in schema:
        choices = [schema["const"]]
    return [c for c in choices if isinstance(c, str | bool)] if isinstance(choices, list) else []


def _word(choice: Any) -> str:
    return ("true" if choice else "false") if isinstance(choice, bool) else str(choice)


def _bins(ordered: list[float], least: float, most: float) -> tuple[Bin, ...]:
    """One bin a value for few whole numbers, else bins of equal width."""
    whole = all(value.is_integer() for value in ordered)
    if whole and most - least < _BINS:
        return _whole_bins(ordered, int(least), int(most))
    width = most / _BINS - least / _BINS
    if width <= 0 or not math.isfinite(width):
        return (Bin(least, most, len(ordered)),)
    counts = [0] * _BINS
    for value in ordered:
        counts[min(_BINS - 1, int(value / width - least / width))] += 1
    return tuple(Bin(least + i * width, least + (i + 1) * width, count) for i, count in enumerate(counts))


def _whole_bins(ordered: list[float], least: int, most: int) -> tuple[Bin, ...]:
    counts = dict.fromkeys(range(least, most + 1), 0)
    for value in ordered:
        counts[int(value)] += 1
    return tuple(Bin(value, value, count) for value, count in counts.items())
