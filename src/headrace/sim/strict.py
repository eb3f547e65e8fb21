"""What the real servers refuse in a schema. Enters a schema and a provider's list, raises its error. Pure.

Written from the providers' pages, apart from what headrace sends (provider/fit.py), so that each is a check of the other.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.sim.wire import NotServed

OPENAI = frozenset({
    "allOf", "oneOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "minLength", "maxLength",
    "patternProperties", "unevaluatedProperties", "propertyNames", "minProperties", "maxProperties",
    "unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems", "default", "prefixItems",
})  # fmt: skip
ANTHROPIC = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "maxItems", "uniqueItems", "contains", "oneOf", "not", "if", "then", "else", "prefixItems", "patternProperties",
    "minProperties", "maxProperties", "propertyNames",
})  # fmt: skip
GEMINI = frozenset({
    "const", "pattern", "minLength", "maxLength", "multipleOf", "exclusiveMinimum", "exclusiveMaximum", "not", "if",
    "then", "else", "allOf", "uniqueItems", "contains", "patternProperties", "propertyNames",
})  # fmt: skip
_CLOSED = (OPENAI, ANTHROPIC)
_NAMED = ("properties", "$defs", "definitions")


def refuse_words(schema: Any, words: frozenset[str], where: str) -> None:
    """Raises NotServed where the schema holds one of these words, or leaves an object open that has to be closed."""
    for place in _places(schema):
        for word in place:
            if word in words:
                raise NotServed(400, f"Invalid schema for {where}: '{word}' is not permitted.", param=where)
        closed = place.get("additionalProperties") is False
        if words in _CLOSED and place.get("type") == "object" and not closed:
            raise NotServed(
                400, f"Invalid schema for {where}: 'additionalProperties' is required to be supplied and to be false.",
                param=where,
            )  # fmt: skip
        if words is OPENAI and set(place.get("properties", {})) - set(place.get("required", [])):
            raise NotServed(
                400, f"Invalid schema for {where}: 'required' is required to include every key in properties.",
                param=where,
            )  # fmt: skip
        if words in (OPENAI, GEMINI) and "$ref" in place and not set(place) <= {"$ref", "$defs"}:
            raise NotServed(400, f"Invalid schema for {where}: $ref cannot have other keywords beside it.", param=where)


def _places(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every schema in it, itself first."""
    if isinstance(schema, list):
        for each in schema:
            yield from _places(each)
    elif isinstance(schema, Mapping):
        yield schema
        for word, value in schema.items():
            if word in _NAMED and isinstance(value, Mapping):
                for each in value.values():
                    yield from _places(each)
            elif word not in ("enum", "const", "examples", "default"):
                yield from _places(value)
