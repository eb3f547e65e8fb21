"""The type an answer must have: a JSON schema to send and a check for what comes back.

Enters a shorthand line, a JSON schema or a Python type; leaves values or AnswerError.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.core.errors import AnswerError, UsageError
from headrace.task import shorthand
from headrace.task.mend import mended


class Returns(msgspec.Struct, frozen=True):
    """`schema` is what a provider is given; `check` turns an answer's text into a value or raises ValueError."""

    schema: dict[str, Any]
    check: Callable[[str], Any]
    strict: bool
    """Whether the schema is closed, as providers that enforce one exactly ask for."""


def returns_of(kind: Any) -> Returns:
    """`kind` is a shorthand line, a JSON schema (a mapping), or a type: a Pydantic model, dataclass, TypedDict ..."""
    if isinstance(kind, str):
        schema, checked = shorthand.parse(kind)
        decode = msgspec.json.Decoder(checked).decode
        if "'format'" in str(schema):  # dates: they are checked as such, and given as the text they came as
            return Returns(schema, lambda text: msgspec.to_builtins(decode(text)), strict=True)
        return Returns(schema, decode, strict=True)
    if isinstance(kind, Mapping):
        return _of_schema(dict(kind))
    return _of_type(kind)


def _of_schema(schema: dict[str, Any]) -> Returns:
    import jsonschema_rs  # noqa: PLC0415 - only who brings a JSON schema needs it

    try:
        validator = jsonschema_rs.validator_for(schema, mask="the value")
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise UsageError(
            f"--returns: this is no valid JSON schema: {gist(error)}.", hint="See json-schema.org."
        ) from None

    def check(text: str) -> Any:
        value = msgspec.json.decode(text)
        validator.validate(value)
        return value

    if schema.get("type") != "object":
        raise UsageError(
            "--returns: the JSON schema must describe an object.", hint='Give it "type": "object" and "properties".'
        )
    closed = _close(schema)
    return Returns(closed, check, strict=_is_closed(closed))


def _of_type(kind: Any) -> Returns:
    import pydantic  # noqa: PLC0415 - only who brings a type of their own needs it

    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
        schema = adapter.json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise UsageError(f"returns: {kind!r} has no JSON schema: {gist(error)}", hint="Use a Pydantic model.") from None
    if schema.get("type") != "object" and "$ref" not in schema:
        raise UsageError(
            f"returns: {getattr(kind, '__name__', kind)!r} is no object with fields.",
            hint="Use a Pydantic model, a dataclass or a TypedDict.",
        )
    closed = _close(schema)
    return Returns(closed, adapter.validate_json, strict=_is_closed(closed))


def checked(returns: Returns, text: str, *, mend: bool = True) -> Any:
    """The value in an answer's text, which is mended where it is nearly right; raises AnswerError, which keeps the text."""
    try:
        return returns.check(text)
    except Exception as error:  # noqa: BLE001 - a type's own validators may raise anything
        wrong = gist(error, returns.schema)
    for candidate in mended(text) if mend else ():
        try:
            return returns.check(candidate)
        except Exception as error:  # noqa: BLE001 - as above
            if not isinstance(error, msgspec.DecodeError) or isinstance(error, msgspec.ValidationError):
                wrong = gist(error, returns.schema)  # it is JSON now: this says more than that it was none
    raise AnswerError(
        f"The answer is not of the type asked for: {wrong}.",
        hint="The raw answer is kept with the item. A clearer prompt or a stronger model helps.",
        raw=text,
    )


def _close(node: Any) -> Any:
    """Objects with named properties take no others and need all of them, as strict providers demand."""
    if isinstance(node, list):
        return [_close(child) for child in node]
    if not isinstance(node, dict):
        return node
    closed = {word: _close(child) for word, child in node.items()}
    if node.get("type") == "object" and "properties" in node and "additionalProperties" not in node:
        closed["additionalProperties"] = False
    if closed.get("additionalProperties") is False and "properties" in node:
        closed["required"] = list(node["properties"])
    return closed


def _is_closed(node: Any) -> bool:
    if isinstance(node, list):
        return all(_is_closed(child) for child in node)
    if not isinstance(node, dict):
        return True
    if node.get("type") == "object" and node.get("additionalProperties") is not False:
        return False
    return all(_is_closed(child) for child in node.values())


def gist(error: Exception, schema: Mapping[str, Any] | None = None) -> str:
    """The gist of a validator's report, without the answer's text in it: only names that the schema has are told."""
    errors = getattr(error, "errors", None)
    if callable(errors):  # Pydantic
        first = errors()[0]
        wrong = _unquoted(first)
        if first["type"] in _OWN or "url" not in first:
            wrong = f"{_REFUSED}: {wrong.removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
        return _located(first["loc"], wrong, schema)
    path = getattr(error, "instance_path", None)  # of a JSON schema
    said = str(getattr(error, "message", error)).partition("\n")[0]
    if schema is not None and path is None and not isinstance(error, msgspec.DecodeError):
        return f"{_REFUSED}: {type(error).__name__}: {said}".rstrip(".")
    return _located(path or (), said, schema)


def _unquoted(error: Mapping[str, Any]) -> str:
    """What Pydantic says, without what it quotes: the tag of a union, and what somebody's own validator repeats."""
    wrong: str = error["msg"]
    if error["type"] in _QUOTING or "url" not in error:
        for quoted in (error.get("input"), (error.get("ctx") or {}).get("tag")):
            if isinstance(quoted, str) and len(quoted) >= _LEAST_QUOTE:
                wrong = wrong.replace(quoted, "...")
    return wrong


_OWN = ("value_error", "assertion_error")
"""What people's own validators raise; errors that they name themselves have no page at Pydantic's."""
_REFUSED = "a validator of the type refused it"
"""Before the words of somebody's own code, which may say anything: see store/discreet.py."""
_QUOTING = ("union_tag_invalid", *_OWN)
_LEAST_QUOTE = 4
_QUOTED = (
    (re.compile(r"^Invalid enum value .*?(?P<at> - at `[^`]*`)?$"), r"the value is none of those allowed\g<at>"),
    (re.compile(r"unknown field `.*?`(?P<at> - at `[^`]*`)?$"), r"a field that was not asked for\g<at>"),
    (re.compile(r" \(.* (?:was|were) unexpected\)$"), ""),
)
"""Where validators quote the answer: msgspec twice, JSON schemas once."""


def _located(path: Sequence[Any], wrong: str, schema: Mapping[str, Any] | None) -> str:
    for pattern, instead in _QUOTED:
        wrong = pattern.sub(instead, wrong)
    names = None if schema is None else str(schema)
    where = ".".join(str(step) for step in path if isinstance(step, int) or names is None or repr(step) in names)
    return (f"{where}: {wrong}" if where else wrong).rstrip(".")
