"""The one-line form of an answer's type: `label: positive|negative|neutral, score: float 0..1, why: str?`.

Enters the line, leaves a JSON schema and the Python type that checks it.

    fields  = field {"," field}          a line without a colon is the type of one field named `answer`
    field   = name ":" type
    type    = (base | choice | "[" type "]") ["?"]        ? allows null
    base    = ("str" | "bool" | "date" | "int" | "float") [low ".." high]      bounds for numbers, each may be left out
    choice  = word {"|" word}
"""

import re
from datetime import date
from typing import Annotated, Any, Literal, TypedDict

import msgspec

from headrace.core.errors import UsageError

_NUMBER = r"-?\d+(?:\.\d+)?"
_BASE = re.compile(rf"(str|bool|date|int|float)(?:\s+({_NUMBER})?\.\.({_NUMBER})?)?")
_PLAIN: dict[str, tuple[dict[str, Any], Any]] = {
    "str": ({"type": "string"}, str),
    "bool": ({"type": "boolean"}, bool),
    "int": ({"type": "integer"}, int),
    "float": ({"type": "number"}, float),
    "date": ({"type": "string", "format": "date"}, date),
}
BASES = frozenset(_PLAIN)
_HINT = "Write for example: label: positive|negative|neutral, score: float 0..1, tags: [str], why: str?"


def parse(line: str) -> tuple[dict[str, Any], Any]:
    """JSON schema and checking type (a TypedDict). Raises UsageError that names what it cannot read."""
    properties: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for field in line.split(",") if ":" in line else [f"answer: {line}"]:
        name, colon, kind = (part.strip() for part in field.partition(":"))
        if not colon or not name.isidentifier():
            raise UsageError(f"--returns: cannot read {field.strip()!r} as a field.", hint=_HINT)
        if name in properties:
            raise UsageError(f"--returns: the field {name!r} stands there twice.", hint=_HINT)
        properties[name], types[name] = _type(kind, name)
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return schema, TypedDict("Answer", types)  # type: ignore[operator]


def _type(text: str, name: str) -> tuple[dict[str, Any], Any]:
    if text.endswith("?"):
        schema, kind = _type(text[:-1].strip(), name)
        return {"anyOf": [schema, {"type": "null"}]}, kind | None
    if text.startswith("[") and text.endswith("]"):
        schema, kind = _type(text[1:-1].strip(), name)
        return {"type": "array", "items": schema}, list.__class_getitem__(kind)
    base = _BASE.fullmatch(text)
    if base:
        return _bounded(base, name)
    choices = [choice.strip() for choice in text.split("|")]
    if len(choices) > 1 and all(choices):
        for place, choice in enumerate(choices):
            if choice in choices[:place]:
                raise UsageError(
                    f"--returns: the choice {choice!r} of the field {name!r} stands there twice.", hint=_HINT
                )
        return {"type": "string", "enum": choices}, Literal[tuple(choices)]
    raise UsageError(f"--returns: {text!r} is no type for the field {name!r}.", hint=_HINT)


def _bounded(base: re.Match[str], name: str) -> tuple[dict[str, Any], Any]:
    word, low, high = base[1], base[2], base[3]
    schema, kind = _PLAIN[word]
    if ".." not in base[0]:
        return dict(schema), kind
    if word not in ("int", "float"):
        raise UsageError(f"--returns: {word} has no bounds (field {name!r}).", hint=_HINT)
    number = int if word == "int" else float
    try:
        least, most = (number(bound) if bound else None for bound in (low, high))
    except ValueError:
        raise UsageError(
            f"--returns: the bounds of the int field {name!r} must be whole numbers.", hint=_HINT
        ) from None
    if least is not None and most is not None and least > most:
        raise UsageError(f"--returns: the bounds of {name!r} are the wrong way round ({least}..{most}).", hint=_HINT)
    bounds = {"minimum": least, "maximum": most}
    return (
        {**schema, **{word: bound for word, bound in bounds.items() if bound is not None}},
        Annotated[kind, msgspec.Meta(ge=least, le=most)],
    )
