"""A JSON schema in; the fields that answers should have, what type they are and which choices they have out."""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.report.text import number

DEPTH_MAX = 5
"""How deep objects are told apart by field; what is below is a value."""
_REFERENCES_MAX = 10
_WORDS = {"string": "text", "array": "list", "boolean": "true or false", "integer": "whole number"}
_FORMATS = {"date": "date", "date-time": "date and time", "time": "time"}

Schema = Mapping[str, Any]


def paths_of(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every field that the schema foresees, in its order, as `a`, `a.b`, `list`, `list[].a`."""
    yield from _below("", schema, schema, 0)


def _below(path: str, part: Any, whole: Schema, depth: int) -> Iterator[tuple[str, Schema]]:
    part = resolve(part, whole)
    properties = part.get("properties")
    if isinstance(properties, Mapping) and properties and depth < DEPTH_MAX:
        for name, each in properties.items():
            yield from _below(f"{path}.{name}" if path else str(name), each, whole, depth + 1)
        return
    if path:
        yield path, part
    members = resolve(part.get("items"), whole)
    if isinstance(members.get("properties"), Mapping) and depth < DEPTH_MAX:
        yield from _below(f"{path}[]", members, whole, depth + 1)


def resolve(part: Any, schema: Schema) -> Schema:
    """This part of a schema with its reference followed and `or null` taken off."""
    for _ in range(_REFERENCES_MAX):
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


def declared_type(schema: Schema) -> str:
    """One word or two for what the schema asks for; empty where it does not say."""
    members = schema.get("items")
    if schema.get("type") == "array" and isinstance(members, Mapping):
        return "list of choices" if choices_of(schema) else "list"
    if choices_of(schema):
        return "true or false" if schema.get("type") == "boolean" else "choice"
    form = schema.get("format")
    if isinstance(form, str) and form in _FORMATS:
        return _FORMATS[form]
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    words = [_WORDS.get(kind, kind) for kind in kinds if isinstance(kind, str) and kind != "null"]
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = ""
    if isinstance(low, int | float) and isinstance(high, int | float):
        bounds = f", {number(low)} to {number(high)}"
    return " or ".join(words) + bounds


def choices_of(schema: Schema) -> list[str]:
    """The values that the schema allows, as words; none where it allows any."""
    if schema.get("type") == "boolean":
        return ["true", "false"]
    items = schema.get("items")
    choices = schema.get("enum") or (items.get("enum") if isinstance(items, Mapping) else None)
    if choices is None and "const" in schema:
        choices = [schema["const"]]
    if not isinstance(choices, list):
        return []
    return [("true" if c else "false") if isinstance(c, bool) else c for c in choices if isinstance(c, str | bool)]


def is_nullable(part: Any) -> bool:
    """Whether null is foreseen."""
    if not isinstance(part, Mapping):
        return False
    kinds = part.get("type")
    options = part.get("anyOf") or part.get("oneOf")
    listed = isinstance(kinds, list) and "null" in kinds
    return listed or (isinstance(options, list) and {"type": "null"} in options)
