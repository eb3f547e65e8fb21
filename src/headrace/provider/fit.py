"""A JSON schema made acceptable to a provider. Enters the schema of an answer, leaves one with fewer words. Pure.

Nothing is lost: what a provider cannot enforce is told to the model in the description of its place, and every answer is
checked against the whole schema here. Sources: the providers' pages on structured outputs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headrace.core.call import Request
from headrace.provider.dialect import encoder

_HOLDS_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_HOLDS_SOME = ("anyOf", "oneOf", "allOf", "prefixItems")
_HOLDS_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_SHAPE = frozenset({
    "type", "properties", "required", "items", "additionalProperties", "enum", "anyOf", "$ref", "$defs", "description",
})  # fmt: skip
"""What every provider takes."""
_NO_CONSTRAINT = frozenset({
    "title", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly", "discriminator",
    "definitions",
})  # fmt: skip
"""Dropped without a word: an answer cannot break them."""
_SAID = {
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "pattern": "matches {}",
    "minimum": "at least {}", "maximum": "at most {}", "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}", "multipleOf": "a multiple of {}", "minItems": "at least {} entries",
    "maxItems": "at most {} entries", "minProperties": "at least {} fields", "maxProperties": "at most {} fields",
    "const": "always {}",
}  # fmt: skip
_FORMATS = {"date": "a date, YYYY-MM-DD", "date-time": "a moment as in RFC 3339", "time": "a time as in RFC 3339"}


class Fit(msgspec.Struct, frozen=True):
    """What of JSON Schema a provider takes."""

    words: frozenset[str] | None = None
    """Besides those that all take; None: everything."""
    formats: frozenset[str] | None = None
    """Of `format`; None: every one."""
    most_least_items: int | None = None
    """The largest `minItems`; None: any."""
    alone: bool = False
    """Whether nothing may stand beside a `$ref`."""


ANY = Fit()
OPENAI = Fit(
    words=frozenset({
        "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems",
        "maxItems", "const", "title",
    }),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    alone=True,
)  # fmt: skip
"""https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""
GROQ = Fit(words=(OPENAI.words or frozenset()) - {"minItems", "maxItems"}, formats=OPENAI.formats, alone=True)
"""As OpenAI's, but it refuses a schema with bounds of a list."""
ANTHROPIC = Fit(
    words=frozenset({"format", "const", "allOf", "minItems", "title"}),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    most_least_items=1,
    alone=True,
)
"""https://docs.claude.com/en/docs/build-with-claude/structured-outputs"""
GEMINI = Fit(
    words=frozenset({"format", "title", "minItems", "maxItems", "minimum", "maximum", "prefixItems"}),
    formats=frozenset({"date-time", "time", "date"}),
    alone=True,
)
"""https://ai.google.dev/gemini-api/docs/structured-output"""


def fitted(schema: Mapping[str, Any], fit: Fit) -> dict[str, Any]:
    """The schema in the words that `fit` allows."""
    if fit.words is None:
        return dict(schema)
    whole = _rooted(_renamed(schema))
    fitting: dict[str, Any] = _place(_inlined(whole, whole.get("$defs") or {}, ()) if fit.alone else whole, fit)
    return fitting


class Fitted:
    """Fitted schemas of the requests of a run, which share one."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._last: tuple[Mapping[str, Any], dict[str, Any]] | None = None

    def schema(self, request: Request) -> dict[str, Any]:
        if request.schema is None:
            return {}
        if self._last is None or self._last[0] is not request.schema:
            self._last = request.schema, fitted(request.schema, self._fit)
        return self._last[1]


def _renamed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """With `$defs`, which older schemas call `definitions`."""
    if "definitions" not in schema or "$defs" in schema:
        return dict(schema)
    text = encoder.encode({"$defs" if word == "definitions" else word: value for word, value in schema.items()})
    renamed: dict[str, Any] = msgspec.json.decode(text.replace(b'"$ref":"#/definitions/', b'"$ref":"#/$defs/'))
    return renamed


def _inlined(schema: Any, defs: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    """Where a reference has words beside it, what it refers to stands there itself, with these words: as OpenAI's SDK does
    it. What holds itself stays a reference, and its description is lost."""
    if not isinstance(schema, Mapping):
        return schema
    ref = schema.get("$ref")
    beside = {word: value for word, value in schema.items() if word not in ("$ref", *_NO_CONSTRAINT)}
    name = ref.removeprefix("#/$defs/") if isinstance(ref, str) else ""
    if beside and name not in within and isinstance(defs.get(name), Mapping):
        return _inlined({**defs[name], **beside}, defs, (*within, name))
    return {word: _inside(word, value, lambda each: _inlined(each, defs, within)) for word, value in schema.items()}


def _rooted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """With an object at its root: a model that holds itself is a reference there."""
    ref = schema.get("$ref")
    if not isinstance(ref, str) or not ref.startswith("#/$defs/"):
        return dict(schema)
    root = (schema.get("$defs") or {}).get(ref.removeprefix("#/$defs/"))
    return {**root, "$defs": schema["$defs"]} if isinstance(root, Mapping) else dict(schema)


def _place(schema: Any, fit: Fit) -> Any:
    if not isinstance(schema, Mapping):
        return schema

    def inside(each: Any) -> Any:
        return _place(each, fit)

    if "$ref" in schema and fit.alone:
        return {
            "$ref": schema["$ref"],
            **({"$defs": _inside("$defs", schema["$defs"], inside)} if "$defs" in schema else {}),
        }
    taken: dict[str, Any] = {}
    said: list[str] = []
    for word, value in _plainer(schema, fit).items():
        if word in _SHAPE or (fit.words is not None and word in fit.words and _takes(word, value, fit)):
            taken[word] = _inside(word, value, inside)
        elif word not in _NO_CONSTRAINT:
            said.append(_sentence(word, value))
    if said:
        own = str(taken.get("description") or "").rstrip()
        taken["description"] = (f"{own} " if own else "") + f"({'; '.join(said)})"
    return taken


def _plainer(schema: Mapping[str, Any], fit: Fit) -> dict[str, Any]:
    """Words that say the same in others: exactly one of some, all of one, a constant."""
    words = fit.words or frozenset()
    plain = dict(schema)
    if "oneOf" in plain and "oneOf" not in words and "anyOf" not in plain:
        plain["anyOf"] = plain.pop("oneOf")
    if "allOf" in plain and "allOf" not in words and len(plain["allOf"]) == 1:
        plain = {**plain.pop("allOf")[0], **plain}
    if "const" in plain and "const" not in words and "enum" not in plain:
        plain["enum"] = [plain.pop("const")]
    return plain


def _takes(word: str, value: Any, fit: Fit) -> bool:
    if word == "format":
        return fit.formats is None or value in fit.formats
    if word == "minItems" and fit.most_least_items is not None:
        return isinstance(value, int) and value <= fit.most_least_items
    return True


def _inside(word: str, value: Any, visit: Callable[[Any], Any]) -> Any:
    """The value of a word, with every schema in it visited."""
    if word in _HOLDS_ONE:
        return visit(value)
    if word in _HOLDS_SOME and isinstance(value, list):
        return [visit(each) for each in value]
    if word in _HOLDS_NAMED and isinstance(value, Mapping):
        return {name: visit(each) for name, each in value.items()}
    return value


def _sentence(word: str, value: Any) -> str:
    if word == "format":
        return _FORMATS.get(str(value), f"a valid {value}")
    if word == "uniqueItems":
        return "no entry twice" if value else "entries may repeat"
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return _SAID[word].format(shown) if word in _SAID else f"{word}: {shown}"
