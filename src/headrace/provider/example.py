"""A JSON schema becomes a maker of valid values: `compiled(schema)(seed)`. Pure: same seed, same value.

Refuses what it cannot promise to satisfy (pattern, not, if ...) unless an anyOf offers a way round.
"""

import math
from collections.abc import Callable
from typing import Any

from headrace.core.errors import Rejected
from headrace.provider.node import Array, Choice, Constant, Made, Never, Node, Object, Reference
from headrace.provider.scalar import MOST_ROLLS, Dice, bounds, real, refusal, text, whole

_REFUSED = (
    "pattern", "not", "if", "contains", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas",
    "dependencies", "unevaluatedProperties", "unevaluatedItems", "minContains", "$dynamicRef",
)  # fmt: skip
_ANNOTATIONS = {
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment",
    "$schema", "$id", "$defs", "definitions", "discriminator", "$anchor", "contentMediaType", "contentEncoding",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "null": (type(None),),
    "array": (list,), "object": (dict,),
}  # fmt: skip
_IMPLIED = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


def compiled(schema: object) -> Callable[[int], Any]:
    """A function from a seed to a value that satisfies `schema`; raises Rejected where there is none it can make."""
    try:
        top = _Compiler(schema).compile()
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise refusal("is malformed") from None

    def make(seed: int) -> Any:
        try:
            return top.make(Dice(seed), 0)
        except RecursionError:
            raise refusal("is nested too deeply") from None

    return make


class _Compiler:
    """One pass from schema to nodes; references are bound afterwards, so that a schema may contain itself."""

    def __init__(self, root: object) -> None:
        self.root = root
        self.nodes: list[Node] = []
        self.targets: dict[str, Node] = {}
        self.references: list[Reference] = []

    def compile(self) -> Node:
        top = self.node(self.root)
        while self.references:
            reference = self.references.pop()
            if reference.name not in self.targets:
                try:
                    self.targets[reference.name] = self.node(_look_up(self.root, reference.name))
                except Rejected as error:
                    self.targets[reference.name] = Never(error)
            reference.target = self.targets[reference.name]
        while any([node.settle() for node in self.nodes]):  # noqa: C419 - a list visits every node in every round
            pass
        if top.height == math.inf:
            raise next((node.why for node in self.targets.values() if isinstance(node, Never)), None) or refusal(
                "allows no finite value"
            )
        return top

    def node(self, schema: Any) -> Node:
        made = self._node(schema)
        self.nodes.append(made)
        return made

    def _node(self, schema: Any) -> Node:
        if schema is True:
            return Made(text({}))
        if not isinstance(schema, dict):
            raise refusal("allows no value" if schema is False else "has something else where a schema belongs")
        for word in _REFUSED:
            if word in schema:
                raise refusal(f"uses {word}, which the simulated provider cannot promise to satisfy")
        if "$ref" in schema or "allOf" in schema:
            if schema.keys() - _ANNOTATIONS == {"$ref"}:
                reference = Reference(str(schema["$ref"]))
                self.references.append(reference)
                return reference
            return self._node(self._joined(schema, ()))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                rest = {key: value for key, value in schema.items() if key != word}
                return self._choice([self._merge(rest, each, ()) for each in _listed(schema, word)])
        if "const" in schema or "enum" in schema:
            return _constants(schema)
        return self._typed(schema)

    def _typed(self, schema: dict[str, Any]) -> Node:
        kind = schema.get("type") or next((kind for kind, words in _IMPLIED.items() if schema.keys() & words), "string")
        if isinstance(kind, list):
            return self._choice([{**schema, "type": each} for each in kind])
        if schema.get("nullable") is True:
            return self._choice([{**schema, "nullable": False}, {"type": "null"}])
        match kind:
            case "string":
                return Made(text(schema))
            case "integer":
                return Made(whole(schema))
            case "number":
                return Made(real(schema))
            case "boolean":
                return Constant([True, False])
            case "null":
                return Constant([None])
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
        raise refusal(f"has the unknown type {kind!r}")

    def _choice(self, schemas: list[Any]) -> Node:
        """What cannot be satisfied is left out as long as something can."""
        nodes: list[Node] = []
        why = refusal("has an empty anyOf")
        for schema in schemas:
            try:
                nodes.append(self.node(schema))
            except Rejected as error:
                why = error
        if not nodes:
            raise why
        return Choice(nodes)

    def _array(self, schema: dict[str, Any]) -> Node:
        first = [self.node(each) for each in schema.get("prefixItems", ())]
        least, most = bounds(schema, "minItems", "maxItems", MOST_ROLLS)
        items = schema.get("items", True)
        rest = None if items is False or most <= len(first) else self.node(items)
        if rest is None:
            most = min(most, len(first))
        return Array(first, rest, (least, most), unique=schema.get("uniqueItems") is True)

    def _object(self, schema: dict[str, Any]) -> Node:
        properties: dict[str, Any] = schema.get("properties", {})
        required = frozenset(schema.get("required", ()))
        extra = schema.get("additionalProperties", True)
        least, most = bounds(schema, "minProperties", "maxProperties", MOST_ROLLS)
        if most < len(required):
            raise refusal("requires more properties than it allows")
        fields: dict[str, Node] = {}
        for name in [*properties, *sorted(required - properties.keys())]:
            try:
                fields[name] = self.node(properties.get(name, extra))
            except Rejected:
                if name in required:
                    raise
        return Object(fields, required, None if extra is False else self.node(extra), (least, most))

    def _joined(self, schema: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
        """One schema that says what a $ref or an allOf and the words beside it say together."""
        joined = {word: value for word, value in schema.items() if word not in ("$ref", "allOf")}
        parts = _listed(schema, "allOf") if "allOf" in schema else []
        if "$ref" in schema:
            name = str(schema["$ref"])
            if name in seen:
                raise refusal(f"refers to itself at {name}")
            seen = (*seen, name)
            parts = [_look_up(self.root, name), *parts]
        for part in parts:
            joined = self._merge(joined, part, seen)
        return joined

    def _merge(self, left: dict[str, Any], right: Any, seen: tuple[str, ...]) -> dict[str, Any]:
        if right is True:
            return left
        if not isinstance(right, dict):
            raise refusal("allows no value")
        if not left.keys() - _ANNOTATIONS:
            return right
        if "$ref" in right or "allOf" in right:
            right = self._joined(right, seen)
        _check_closed(left, right)
        _check_closed(right, left)
        merged = dict(left)
        for word, value in right.items():
            merged[word] = _both(word, merged[word], value) if word in merged else value
        return merged


def _both(word: str, left: Any, right: Any) -> Any:
    if left == right or word in _ANNOTATIONS:
        return right
    if word in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
        return max(left, right)
    if word in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
        return min(left, right)
    if word == "required":
        return [*left, *(name for name in right if name not in left)]
    if word == "enum":
        return [value for value in left if value in right]
    if word == "properties":
        return {**left, **right, **{name: {"allOf": [left[name], right[name]]} for name in left if name in right}}
    if word == "type" and {str(left), str(right)} == {"integer", "number"}:
        return "integer"
    raise refusal(f"combines two different {word}")


def _check_closed(closed: dict[str, Any], other: dict[str, Any]) -> None:
    """A part that allows no further properties forbids those that another part names."""
    if closed.get("additionalProperties") is False and other.get("properties", {}).keys() - closed.get(
        "properties", {}
    ):
        raise refusal("combines properties with a part that allows no further ones")


def _look_up(root: Any, name: str) -> Any:
    if not name.startswith("#"):
        raise refusal(f"refers to {name}, which is outside of it")
    found = root
    for part in filter(None, name[1:].split("/")):
        step = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or step not in found:
            raise refusal(f"refers to {name}, which is not there")
        found = found[step]
    return found


def _listed(schema: dict[str, Any], word: str) -> list[Any]:
    if not isinstance(schema[word], list):
        raise refusal(f"has {word} that is no list")
    return list(schema[word])


def _constants(schema: dict[str, Any]) -> Node:
    values = [schema["const"]] if "const" in schema else _listed(schema, "enum")
    if "const" in schema and "enum" in schema:
        values = [value for value in values if value in schema["enum"]]
    if (kinds := schema.get("type")) is not None:
        names = kinds if isinstance(kinds, list) else [kinds]
        values = [v for v in values if any(_is(v, name) for name in names) or (v is None and schema.get("nullable"))]
    if not values:
        raise refusal("has an enum without a possible value")
    return Constant(values)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, ()))
