"""An outcome becomes a row: which columns there are, their names, and what kind of values each holds.

Knows no file format. Kinds are null, bool, int, float, text, json (anything, written as JSON text) and "list KIND".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from headrace.core.item import Outcome
from headrace.data.plain import plain

OWN = ("error", "attempts", "seconds")
AGREEMENT, USD = "agreement", "usd"
_OWN_KINDS = {"error": "text", "attempts": "int", "seconds": "float", AGREEMENT: "float", USD: "float"}
_KINDS = {bool: "bool", int: "int", float: "float", str: "text", type(None): "null"}
_DECLARED = {"string": "text", "integer": "int", "number": "float", "boolean": "bool", "object": "json"}
_PLAIN_TYPES = frozenset((str, int, float, bool, type(None), list))
_INT64 = 2**63
_MAX_REFS = 20


class Unforeseen(Exception):
    """A row does not fit the columns found so far. `name` is an input column that its Arrow type cannot hold."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.name = name


class Columns:
    """The columns of a result, in order: the input's, the answer's, then error, attempts and seconds; before these the
    agreement, where an item was asked about several times, and after them usd, where what an item cost is known.

    An item that is no mapping is one column `item`; an answer without a schema is one column `answer`. An answer's
    field named like an input column gets the prefix `answer_`; error, attempts or seconds named like either gets the
    prefix `headrace_`, as `item` does. A prefix is put on again while the name is still taken.
    """

    def __init__(
        self, inputs: Iterable[str], *, loose: bool, answers: Iterable[str] | None, sampled: bool = False,
        priced: bool = False,
    ) -> None:  # fmt: skip
        self.inputs = tuple(inputs)
        self.loose = loose
        self.answers = None if answers is None else tuple(answers)
        self.own = ((AGREEMENT,) if sampled else ()) + OWN + ((USD,) if priced else ())
        self.sampled = sampled
        self.priced = priced
        self._inputs = _picker(self.inputs)
        self._answers = _picker(self.answers or ())
        self.names = self._named()

    def _named(self) -> tuple[str, ...]:
        names = dict.fromkeys(self.inputs)
        answers = ("answer",) if self.answers is None else self.answers
        wanted = [("item", "headrace_")] if self.loose else []
        wanted += [(name, "answer_") for name in answers] + [(name, "headrace_") for name in self.own]
        for name, prefix in wanted:
            free = name
            while free in names:
                free = prefix + free
            names[free] = None
        return tuple(names)

    def cells(self, outcome: Outcome) -> tuple[Any, ...]:
        """The row's values, one for each name. Raises Unforeseen for a key that has no column."""
        item = self._read(outcome)
        if type(item) is dict:
            row = self._inputs(item)
            if self.loose:
                row = (*row, None)
        elif self.loose:
            row = (*(None,) * len(self.inputs), item)
        else:
            raise Unforeseen
        value = outcome.value
        if type(value) is not dict:
            value = _plain_value(value)
        if self.answers is None:
            answer: tuple[Any, ...] = (value,)
        elif type(value) is dict:
            answer = self._answers(value)
        else:
            answer = (None,) * len(self.answers)
        return (*row, *answer, *self._own_cells(outcome))

    def _read(self, outcome: Outcome) -> Any:
        """The item, which has no column for what a stage made of it before another failed, where that is the answer's."""
        item = outcome.item
        if outcome.error is None or not outcome.stage or not self.answers or type(item) is not dict:
            return item
        return {name: value for name, value in item.items() if name in self.inputs or name not in self.answers}

    def _own_cells(self, outcome: Outcome) -> tuple[Any, ...]:
        if (outcome.agreement is not None and not self.sampled) or (outcome.usd is not None and not self.priced):
            raise Unforeseen
        error = None if outcome.error is None else str(outcome.error)
        cells: tuple[Any, ...] = (error, outcome.attempts, outcome.seconds)
        if self.sampled:
            cells = (outcome.agreement, *cells)
        if self.priced:  # what the store gave cost nothing now, so that the column adds up to what was paid
            cells = (*cells, 0.0 if outcome.cached and outcome.usd is not None else outcome.usd)
        return cells

    def widened(self, outcomes: Iterable[Outcome]) -> "Columns":
        """With columns for all that these outcomes hold, new ones after those known."""
        inputs = dict.fromkeys(self.inputs)
        answers = None if self.answers is None else dict.fromkeys(self.answers)
        known_inputs, known_answers = set(inputs), set(answers or ())
        loose, sampled, priced = self.loose, self.sampled, self.priced
        for outcome in outcomes:
            item = self._read(outcome)
            sampled = sampled or outcome.agreement is not None
            priced = priced or outcome.usd is not None
            if type(item) is not dict:
                loose = True
            elif not item.keys() <= known_inputs:
                inputs |= dict.fromkeys(item)
                known_inputs |= item.keys()
            if answers is None:
                continue
            value = _plain_value(outcome.value)
            if type(value) is dict and not value.keys() <= known_answers:
                answers |= dict.fromkeys(value)
                known_answers |= value.keys()
        return Columns(inputs, loose=loose, answers=answers, sampled=sampled, priced=priced)

    def origins(self) -> list[tuple[str, str]]:
        """What each column is, whatever it is named: its part of the row, and its name there."""
        own = [("own", name) for name in self.own]
        loose = [("loose", "item")] if self.loose else []
        answers = [("answer", name) for name in (self.answers if self.answers is not None else ("",))]
        return [("input", name) for name in self.inputs] + loose + answers + own


def _picker(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """The values of these names, None where there is none; raises Unforeseen for other names."""
    known = frozenset(names)
    all_of = itemgetter(*names) if len(names) > 1 else None

    def pick(mapping: dict[str, Any]) -> tuple[Any, ...]:
        if all_of is not None and len(mapping) == len(names):
            try:
                whole: tuple[Any, ...] = all_of(mapping)
            except KeyError:
                whole = ()
            if whole:
                return whole
        if not mapping.keys() <= known:
            raise Unforeseen
        return tuple(map(mapping.get, names))

    return pick


def columns_of(fields: Iterable[str] | None = None, schema: Mapping[str, Any] | None = None) -> Columns:
    """The columns that are known before any outcome: the input's fields, and the properties of the answer's schema."""
    return Columns(fields or (), loose=False, answers=_properties(schema))


def _plain_value(value: Any) -> Any:
    kind = type(value)
    return value if kind is dict or kind in _PLAIN_TYPES else plain(value)


def kind_of(values: Sequence[Any]) -> str:
    """The kind that holds all of these values."""
    kinds = {_KINDS.get(kind, "json") for kind in set(map(type, values))}
    if "int" in kinds and not all(-_INT64 <= value < _INT64 for value in values if type(value) is int):
        return "json"
    found = "null"
    for kind in kinds:
        found = join(found, kind)
    return found


def join(one: str, other: str) -> str:
    """The narrowest kind that holds values of both."""
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    if one.startswith("list ") and other.startswith("list "):
        each = join(one.removeprefix("list "), other.removeprefix("list "))
        return f"list {each}" if each != "json" else "json"
    return "float" if {one, other} == {"int", "float"} else "json"


def joined(kind: str, values: Sequence[Any]) -> str:
    """The narrowest kind that holds values of `kind` and these values. Lists stay lists only where declared so."""
    if kind.startswith("list ") and set(map(type, values)) <= {list, type(None)}:
        found = kind_of(list(chain.from_iterable(value for value in values if value is not None)))
        return join(kind, f"list {found}") if found != "null" else kind
    return join(kind, kind_of(values))


def declared_kinds(columns: Columns, schema: Mapping[str, Any] | None) -> dict[tuple[str, str], str]:
    """Kinds that are known before any value: those of the answer's schema, and of headrace's own columns."""
    kinds = {("own", name): kind for name, kind in _OWN_KINDS.items()}
    if schema is not None:
        properties = _resolved(schema, schema).get("properties") or {}
        for name in columns.answers or ():
            kinds["answer", name] = _declared(properties.get(name, True), schema)
        if columns.answers is None:
            kinds["answer", ""] = _declared(schema, schema)
    return kinds


def _properties(schema: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    if schema is None:
        return None
    properties = _resolved(schema, schema).get("properties")
    return tuple(properties) if isinstance(properties, Mapping) and properties else None


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """With references within the schema followed, and null taken out of a choice of one thing or null."""
    for _ in range(_MAX_REFS):
        if not isinstance(schema, Mapping):
            return {}
        if isinstance(ref := schema.get("$ref"), str):
            schema = _at(ref, root)
            continue
        choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or []
        some = [each for each in choices if not (isinstance(each, Mapping) and each.get("type") == "null")]
        if len(some) != 1:
            return schema
        schema = some[0]
    return {}


def _at(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in ref.removeprefix("#").split("/")[1:]:
        if not isinstance(found, Mapping):
            return {}
        found = found.get(part.replace("~1", "/").replace("~0", "~"))
    return found


def _declared(schema: Any, root: Mapping[str, Any]) -> str:
    """The kind of a schema's values; null where it does not say, so that the values decide."""
    schema = _resolved(schema, root)
    told = schema.get("type")
    types = ({told} if isinstance(told, str) else set(told or ())) - {"null"}
    if schema.get("anyOf") or schema.get("oneOf"):
        kinds = {_declared(each, root) for each in schema.get("anyOf") or schema.get("oneOf") or ()} - {"null"}
        return kinds.pop() if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "json"
    if "enum" in schema or "const" in schema:
        return kind_of(list(schema.get("enum", [schema.get("const")])))
    if types == {"array"}:
        each = _declared(schema.get("items", True), root)
        return f"list {each}" if each in ("bool", "int", "float", "text") else "json"
    kinds = {_DECLARED.get(each, "json") for each in types}
    found = "null"
    for kind in sorted(kinds):
        found = join(found, kind)
    return found
