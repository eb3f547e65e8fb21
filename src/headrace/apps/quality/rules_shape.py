"""Rules about how a test is written: copies, parameters nobody reads, skips without a reason, assertions that became comments."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from headrace.apps.quality.checking import is_check, last
from headrace.apps.quality.reading import Function, Module
from headrace.apps.quality.rule import Spot, rule

_IDLE = {"monkeypatch", "mocker", "tmp_path", "tmpdir", "caplog", "request", "tmp_path_factory", "tmpdir_factory"}
"""Fixtures that do nothing unless they are used."""
_LONG = 120
_COMMENTED = re.compile(r"#\s*((?:self\.)?assert\w*\b.*)")


@rule(
    "HQ030", "duplicated-test", "medium",
    bad="""
        def test_adds():
            assert total([3, 4]) == 7

        def test_adds_more():
            assert total([3, 4]) == 7
        """,
    good="""
        def test_adds():
            assert total([3, 4]) == 7

        def test_adds_more():
            assert total([3, 4, 5]) == 12
        """,
)  # fmt: skip
def duplicated(test: Function) -> Iterator[Spot]:
    """The test does exactly what another one of the same class or file does.

    One of the two was to be changed after it was copied. Names and docstrings aside, all must be the same: statements,
    parameters, decorators.
    """
    first = _first_of_each(test.module).get(_print_of(test))
    if first is not None and first is not test and len(ast.dump(ast.Module(test.body, []))) > 150:
        yield test.node, f"The same as {first.name} in line {first.node.lineno}."


@lru_cache(maxsize=4)
def _first_of_each(module: Module) -> dict[tuple[str, ...], Function]:
    found: dict[tuple[str, ...], Function] = {}
    for test in module.tests:
        found.setdefault(_print_of(test), test)
    return found


def _print_of(test: Function) -> tuple[str, ...]:
    """All but its name and docstring; the class is part of it, for what `self` means there."""
    node = test.node
    around = [ast.dump(each) for each in node.decorator_list]
    return (
        str(id(test.owner)), str(id(test.siblings)), type(node).__name__, ast.dump(node.args), *around, *(ast.dump(each) for each in test.body),
    )  # fmt: skip


@rule(
    "HQ031", "unused-parameter", "medium",
    bad="""
        import pytest

        @pytest.mark.parametrize("amount, expected", [(1, 2), (2, 4)])
        def test_doubles(amount, expected):
            assert double(amount)
        """,
    good="""
        import pytest

        @pytest.mark.parametrize("amount, expected", [(1, 2), (2, 4)])
        def test_doubles(amount, expected):
            assert double(amount) == expected
        """,
)  # fmt: skip
def unused_parameter(test: Function) -> Iterator[Spot]:
    """A parameter of the test is never read.

    A value of `parametrize` that nobody reads is often the expected one; a table that several tests share by a name is
    left alone. Of fixtures, only those are looked at that do
    nothing by themselves, such as `monkeypatch` and `tmp_path`. A name that begins with `_` says that this is meant.
    """
    used = {each.id for each in test.nodes if isinstance(each, ast.Name)}
    if "locals" in used:
        return
    given = _parametrized(test)
    for each in test.parameters:
        if each.arg not in used and not each.arg.startswith("_"):
            if each.arg in given:
                yield each, f"The parameter `{each.arg}` is given values and never read."
            elif each.arg in _IDLE:
                yield each, f"The fixture `{each.arg}` is asked for and never used."


def _is_own(call: ast.Call) -> bool:
    """Whether the values stand in the test's own decorator, and are no fixtures."""
    written = len(call.args) > 1 and isinstance(call.args[1], ast.List | ast.Tuple)
    return written and not any(word.arg == "indirect" for word in call.keywords)


def _parametrized(test: Function) -> set[str]:
    found: set[str] = set()
    for each in test.node.decorator_list:
        if isinstance(each, ast.Call) and last(each.func) == "parametrize" and _is_own(each):
            names = each.args[0]
            parts = names.elts if isinstance(names, ast.Tuple | ast.List) else [names]
            texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            found |= {name.strip() for text in texts for name in text.split(",")}
    return found


@rule(
    "HQ032", "skip-without-reason", "low",
    bad="""
        import pytest

        @pytest.mark.skip
        def test_total():
            assert total([3, 4]) == 7
        """,
    good="""
        import pytest

        @pytest.mark.skip(reason="needs the new tax table")
        def test_total():
            assert total([3, 4]) == 7
        """,
)  # fmt: skip
def skip_without_reason(test: Function) -> Iterator[Spot]:
    """The test is skipped, and nobody says why.

    Skipped tests stay skipped. A reason says when it may run again.
    """
    for each in test.node.decorator_list:
        name = test.module.full(getattr(each, "func", each))
        given = isinstance(each, ast.Call) and bool(each.args or each.keywords)
        if name in ("pytest.mark.skip", "unittest.skip") and not given:
            yield each, "The test is skipped without a reason."
    for call in test.calls:
        if test.module.full(call.func) == "pytest.skip" and not call.args and not call.keywords:
            yield call, "The test skips itself without a reason."


@rule(
    "HQ033", "commented-assertion", "low",
    bad="""
        def test_total():
            basket = load()
            assert basket
            # assert basket.total() == 7
        """,
    good="""
        def test_total():
            # assert that the total is right
            assert load().total() == 7
        """,
)  # fmt: skip
def commented(test: Function) -> Iterator[Spot]:
    """An assertion has become a comment.

    It failed once, and is not missed. Mend it or take it out. Prose that begins with "assert" is told apart.
    """
    for line in range(test.node.lineno, (test.node.end_lineno or test.node.lineno) + 2):
        found = _COMMENTED.match(test.module.comments.get(line, ""))
        if found is not None and _is_assertion(found[1]) and _is_inside(test, line):
            yield ast.Pass(lineno=line, col_offset=0), f"An assertion has become a comment: `{found[1].strip()[:60]}`."


def _is_assertion(text: str) -> bool:
    try:
        (statement,) = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    if isinstance(statement, ast.Assert):
        return isinstance(statement.test, ast.Compare | ast.Call | ast.UnaryOp | ast.BoolOp | ast.Attribute)
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and is_check(statement.value)


def _is_inside(test: Function, line: int) -> bool:
    """Whether the comment belongs to the test: below its last line only where it is indented as its body is."""
    text = test.module.lines[line - 1]
    return line <= (test.node.end_lineno or 0) or len(text) - len(text.lstrip()) > test.node.col_offset


@rule(
    "HQ034",
    "too-long",
    "low",
    bad="def test_all():\n    assert step()\n" + "".join(f"    step({n})\n" for n in range(_LONG)),
    good="def test_step():\n    assert step(1) == 1\n",
)
def too_long(test: Function) -> Iterator[Spot]:
    """The test is longer than 120 lines.

    Nobody can say what it is about, and it fails for many reasons.
    """
    lines = (test.node.end_lineno or test.node.lineno) - test.node.lineno + 1
    if lines > _LONG:
        yield test.node, f"The test has {lines} lines."
