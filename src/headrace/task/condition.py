"""Conditions over an item's columns, as one line: `score >= 0.5 and label in ["a", "b"]`. Never code: names, values,
comparisons, `and`, `or`, `not`, nothing else. Enters text and rows, leaves yes or no."""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from headrace.core.errors import ItemError, UsageError

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_HINT = 'Write for example: score >= 0.5 and label in ["spam", "ham"]. Names are columns; there is no other code.'
_LONGEST = 10_000
"""Characters of a condition: what is longer is none that a person wrote."""
_DEEPEST = 100
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""As people and programs write one; Python's own way knows more, such as nan and 1_000."""
_LONGEST_NUMBER = 400
"""Characters."""
_Read = Callable[[Mapping[str, Any]], Any]


class Condition:
    """A parsed condition. Raises UsageError where the text is none.

    A column that an item lacks, or that is null, equals only null. It is neither less nor more than anything, and no more
    is an empty text. A text beside a number is read as a number, by order and by `==`: the columns of a CSV file are
    text. Two texts are in the order of numbers where both read as such, and equal only where they are the same: "007" is
    not "7". `name` alone asks whether the column is true.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > _LONGEST:
                raise ValueError("too long")  # noqa: TRY301 - told as all others are
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about escapes in a text
                tree = ast.parse(text.strip(), mode="eval").body
            if _depth(tree) > _DEEPEST:
                raise ValueError("too deep")  # noqa: TRY301 - as above
            self._holds = self._made(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise UsageError(f"The condition {_said(text)} cannot be read.", hint=_HINT) from None
        self.fields: tuple[str, ...] = tuple(
            dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in _WORDS)
        )
        """The columns that it names."""
        self.ordered: frozenset[str] = frozenset(_ordered(tree))
        """Those of them that are compared with a number by order."""
        if not self.fields:
            raise UsageError(f"The condition {_said(text)} names no column.", hint=_HINT)

    def holds(self, row: Any) -> bool:
        """Raises ItemError where the row's values cannot be compared so."""
        columns = row if isinstance(row, Mapping) else {"item": row}
        return bool(self._holds(columns))

    def _made(self, node: ast.expr) -> _Read:
        if isinstance(node, ast.BoolOp):
            parts = [self._made(value) for value in node.values]
            together = all if isinstance(node.op, ast.And) else any
            return lambda row: together(part(row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._made(node.operand)
            return lambda row: not inner(row)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        return self._value(node)

    def _value(self, node: ast.expr) -> _Read:
        if isinstance(node, ast.Name) and node.id not in _WORDS:
            name = node.id
            return lambda row: row.get(name)
        value = self._constant(node)
        return lambda _row: value

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id in _WORDS:
            return _WORDS[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._constant(node.operand)
            if isinstance(value, int | float):
                return -value
        if isinstance(node, ast.List | ast.Tuple):
            return [self._constant(each) for each in node.elts]
        raise UsageError(
            f"The condition {_said(self.text)} holds {_said(ast.unparse(node))}, which is no column, value or comparison.",
            hint=_HINT,
        )

    def _compared(self, node: ast.Compare) -> _Read:
        values = [self._value(each) for each in [node.left, *node.comparators]]
        tests = [self._test(op) for op in node.ops]
        pairs = list(zip(values, tests, values[1:], strict=False))
        return lambda row: all(test(left(row), right(row)) for left, test, right in pairs)

    def _test(self, op: ast.cmpop) -> Callable[[Any, Any], bool]:
        if isinstance(op, ast.Eq | ast.Is):
            return _equal
        if isinstance(op, ast.NotEq | ast.IsNot):
            return lambda left, right: not _equal(left, right)
        if isinstance(op, ast.In | ast.NotIn):
            wanted = isinstance(op, ast.In)
            return lambda left, right: self._among(left, right) is wanted
        compare = _ORDER[type(op)]
        return lambda left, right: self._in_order(compare, left, right)

    def _among(self, left: Any, right: Any) -> bool:
        if isinstance(right, str):
            return isinstance(left, str) and left in right
        if isinstance(right, list | tuple):
            return any(_equal(left, each) for each in right)
        if right is None:
            return False
        raise self._wrong(left, right)

    def _in_order(self, compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
        if _is_empty(left) or _is_empty(right):
            return False
        one, other = _number(left), _number(right)
        if isinstance(left, str) and isinstance(right, str) and (one is None or other is None):
            one, other = left, right
        try:
            return compare(one, other)
        except TypeError:
            raise self._wrong(left, right) from None

    def _wrong(self, left: Any, right: Any) -> ItemError:
        return ItemError(
            f"The condition {_said(self.text)} cannot compare {_said(left)} with {_said(right)}.",
            hint="The item fails; the others go on.",
        )


_WORDS = {"true": True, "false": False, "null": None}
"""As JSON and TOML write them; Python's own words are constants already."""


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) != isinstance(right, str) and left is not None and right is not None:
        text, value = (left, right) if isinstance(left, str) else (right, left)
        return bool(_number(text) == value if isinstance(value, int | float) else text == str(value))
    return bool(left == right)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _number(value: Any) -> Any:
    """A text as the number that it reads as, None where it is none; what is no text as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    return float(text) if any(sign in text for sign in ".eE") else int(text)


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _depth(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest, level = deepest + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def _ordered(tree: ast.expr) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and all(type(op) in _ORDER for op in node.ops):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) and isinstance(side.value, int | float) for side in sides):
                found += [side.id for side in sides if isinstance(side, ast.Name)]
    return found
