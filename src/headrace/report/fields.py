"""Answers, one at a time, in; the distribution of each of their fields out. Bounded memory.

Knows nothing of pages; what a field is meant to be comes from the JSON schema, what it is from the values.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from headrace.report.dates import place_of
from headrace.report.measure import Numbers, Summary
from headrace.report.schema import DEPTH_MAX, choices_of, declared_type, paths_of
from headrace.report.text import shown

Kind = Literal["empty", "choice", "number", "date", "text", "mixed"]
ANSWER = "answer"
"""The name of the one field of an answer that is no mapping."""
AGREEMENT = "agreement of samples"
FIELDS_MAX = 100

_BATCH = 256
_DISTINCT_MAX = 1_000
_TEXT_MAX = 200
_CHOICES_MAX = 12
_CHOICE_LENGTH_MAX = 40
_TOP = 8
_NAME_MAX = 200
_DATES_SHARE = 0.9
"""Where so many of the texts are dates, the field is one of dates."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """What a field's values were. `counts` are the most frequent ones, or all of the choices in the schema's order.

    Of a list they are the answers that have the value in it.
    """

    name: str
    """`a`, `a.b`, `list[].a`."""
    declared: str
    """The schema's word for its type."""
    description: str
    kind: Kind
    present: int
    missing: int
    """Null, or not there: of the answers, or of the elements of its list."""
    counts: tuple[tuple[str, int], ...]
    others: int
    """How often values came that `counts` leaves out."""
    distinct: int
    distinct_is_least: bool
    """Whether there are more distinct values than were counted."""
    numbers: Summary | None
    dates: Summary | None
    """As places of report/dates."""
    lengths: Summary | None
    """Characters of texts."""
    per_list: Summary | None
    """Of a list: how many values it has."""

    @property
    def is_column(self) -> bool:
        """Whether an answer has at most one of it."""
        return "[]" not in self.name


class Field:
    """Gathers one field's values, in batches: what is counted one by one costs more than all the rest of a report."""

    def __init__(self, name: str, schema: Mapping[str, Any]) -> None:
        self.name = name
        self.present = 0
        self._schema = schema
        self._values: list[Any] = []
        """Not counted yet."""
        self._texts = self._others = 0
        self._counts: dict[str, int] = {}
        self._full = False
        self._longest = 0
        self._numbers, self._lengths, self._dates, self._per_list = Numbers(), Numbers(), Numbers(), Numbers()

    def add(self, value: Any) -> None:
        """A value that is there and no list."""
        self.present += 1
        self._values.append(value)
        if len(self._values) >= _BATCH:
            self._settle()

    def add_list(self, values: Sequence[Any]) -> None:
        """Each text counts once; objects are told apart elsewhere."""
        self.present += 1
        self._per_list.add(float(len(values)))
        self._values.extend({value for value in values if isinstance(value, str)})
        self._values.extend(v for v in values if v is not None and not isinstance(v, str | dict))
        if len(self._values) >= _BATCH:
            self._settle()

    def _settle(self) -> None:
        values, self._values = self._values, []
        texts = [value for value in values if isinstance(value, str)]
        if texts:
            self._count_texts(texts)
        if len(texts) == len(values):
            return
        numbers = []
        for value in values:
            if isinstance(value, bool):
                self._count("true" if value else "false", 1)
            elif isinstance(value, int | float):
                numbers.append(_as_float(value))
            elif not isinstance(value, str):
                self._others += 1
        finite = [number for number in numbers if math.isfinite(number)]
        self._others += len(numbers) - len(finite)
        self._numbers.extend(finite)

    def _count_texts(self, texts: list[str]) -> None:
        self._texts += len(texts)
        lengths = [float(len(text)) for text in texts]
        self._lengths.extend(lengths)
        self._longest = max(self._longest, int(max(lengths)))
        places = (place_of(text) for text in texts if text[4:5] == "-")
        self._dates.extend([place for place in places if place is not None])
        for text, count in Counter(texts).items():
            self._count(text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}… {hash(text):x}", count)

    def _count(self, text: str, count: int) -> None:
        if text in self._counts:
            self._counts[text] += count
        elif len(self._counts) < _DISTINCT_MAX:
            self._counts[text] = count
        else:
            self._full = True

    def distribution(self, of: int) -> Distribution:
        """`of` answers, or elements of a list, could have had it."""
        self._settle()
        kind = self._kind()
        counts, counted = self._ranked(kind), sum(self._counts.values())
        return Distribution(
            name=self.name, declared=declared_type(self._schema), description=str(self._schema.get("description", "")),
            kind=kind, present=self.present, missing=max(0, of - self.present), counts=counts,
            others=counted - sum(count for _, count in counts), distinct=len(self._counts),
            distinct_is_least=self._full, numbers=self._numbers.summary(),
            dates=self._dates.summary() if kind == "date" else None,
            lengths=self._lengths.summary() if kind in ("text", "mixed") else None, per_list=self._per_list.summary(),
        )  # fmt: skip

    def _ranked(self, kind: Kind) -> tuple[tuple[str, int], ...]:
        ranked = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        most = _TOP
        if kind == "choice":
            choices = choices_of(self._schema)
            known = [(choice, self._counts.get(choice, 0)) for choice in choices]
            ranked = known + [pair for pair in ranked if pair[0] not in choices]
            most = max(_CHOICES_MAX, len(known))
        return tuple((text.rpartition(" ")[0] if len(text) > _TEXT_MAX else text, n) for text, n in ranked[:most])

    def _kind(self) -> Kind:
        texts, numbers = bool(self._counts), bool(self._numbers.count)
        if self._others or (texts and numbers):
            return "mixed"
        if numbers:
            return "number"
        if choices_of(self._schema):
            return "choice"
        if not texts:
            return "empty"
        if self._dates.count >= _DATES_SHARE * self._texts > 0:
            return "date"
        few = len(self._counts) <= _CHOICES_MAX and self._longest <= _CHOICE_LENGTH_MAX
        repeated = self._texts == 0 or len(self._counts) * 2 <= self._texts
        return "choice" if few and repeated else "text"


class Fields:
    """The fields of all answers: those of the schema first and in its order, then what else turns up."""

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self._answers = 0
        self._elements: dict[str, int] = {}
        """How many objects a list had in all, by its path."""
        self._fields: dict[str, Field] = {}
        self._scalar = schema or {}
        for path, part in paths_of(schema or {}):
            if len(self._fields) < FIELDS_MAX:
                self._fields[path[:_NAME_MAX]] = Field(path[:_NAME_MAX], part)
        self.left_out = False
        """Whether there were more fields than are counted."""

    def add(self, value: Any, agreement: float | None = None) -> None:
        """`agreement` is how far the samples of this item agree, where there were several."""
        self._answers += 1
        for path, part in leaves(value):
            self._add(path, part, 0)
        if agreement is not None:
            self._add(AGREEMENT, agreement, 0)

    def _add(self, path: str, value: Any, depth: int) -> None:
        field = self._fields.get(path) or self._made(path)
        if field is None or value is None:
            return
        if not isinstance(value, list | tuple):
            field.add(value)
            return
        field.add_list(value)
        for member in value:
            if isinstance(member, dict) and depth < DEPTH_MAX:
                inside = f"{path}[]"[:_NAME_MAX]
                self._elements[inside] = self._elements.get(inside, 0) + 1
                for below, part in leaves(member, inside, depth + 1):
                    self._add(below, part, depth + 1)

    def _made(self, path: str) -> Field | None:
        if len(self._fields) >= FIELDS_MAX:
            self.left_out = True
            return None
        field = self._fields[path] = Field(path, self._scalar if path == ANSWER else {})
        return field

    def distributions(self) -> tuple[Distribution, ...]:
        return tuple(field.distribution(self._of(path)) for path, field in self._fields.items())

    def _of(self, path: str) -> int:
        inside, inner, _ = path.rpartition("[]")
        return self._elements.get(inside + inner, 0) if inner else self._answers


def leaves(value: Any, path: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """The fields of an answer by their paths: objects are opened, lists are not."""
    if not isinstance(value, dict) or not value or depth >= DEPTH_MAX:
        return [(path or ANSWER, shown(value) if isinstance(value, dict) else value)]
    found: list[tuple[str, Any]] = []
    for name, part in value.items():
        below = (f"{path}.{name}" if path else str(name))[:_NAME_MAX]
        if isinstance(part, dict):
            found += leaves(part, below, depth + 1)
        else:
            found.append((below, part))
    return found


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
