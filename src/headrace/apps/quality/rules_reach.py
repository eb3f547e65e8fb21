"""Rules about whether a test's checks are ever reached: code after a return, handlers that swallow, tests never run."""

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from headrace.apps.quality.checking import checks, is_check, last, names_in, raising_blocks
from headrace.apps.quality.reading import Def, Function, Module, is_case, is_function
from headrace.apps.quality.rule import Spot, rule

_BROAD = {"Exception", "BaseException", "AssertionError"}
_ENDING = {"pytest.fail", "pytest.skip", "pytest.xfail", "pytest.exit", "self.fail", "self.skipTest"}
_PLATFORM = (
    "sys",
    "os",
    "platform",
    "hasattr",
    "version",
    "PY",
    "IS_",
    "HAS_",
    "WIN",
    "implementation",
    "importlib",
    "TYPE_CHECKING",
)


@rule(
    "HQ010", "swallowed-exception", "high",
    bad="""
        def test_save():
            try:
                save()
                assert saved()
            except Exception:
                pass
        """,
    good="""
        def test_save():
            try:
                import fastjson
            except ImportError:
                fastjson = None
            assert save(fastjson)
        """,
)  # fmt: skip
def swallowed(test: Function) -> Iterator[Spot]:
    """A handler swallows what should fail the test.

    `except Exception: pass`, or a bare `except`, around the tested code: a failed assertion is an exception too. Narrow
    handlers are left alone, and so are those that raise, fail or assert.
    """
    for node in test.own:
        if isinstance(node, ast.Try) and _does_something(node.body):
            for handler in node.handlers:
                if _is_broad(handler) and _is_silent(handler) and not node.orelse:
                    yield handler, "This handler swallows every failure of the code above it."


def _does_something(body: Sequence[ast.stmt]) -> bool:
    """Whether tested code runs there; a block that ends by raising itself is there for its handler."""
    return not isinstance(body[-1], ast.Raise) and any(
        isinstance(each, ast.Call | ast.Assert) for statement in body for each in ast.walk(statement)
    )


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
    return handler.type is None or any(last(each) in _BROAD for each in caught)


def _is_silent(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(each, ast.Pass | ast.Continue)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        or (
            isinstance(each, ast.Expr)
            and isinstance(each.value, ast.Call)
            and last(each.value.func) in ("print", "print_exc")
        )
        for each in handler.body
    )


@rule(
    "HQ011", "passes-without-raising", "medium",
    bad="""
        def test_refuses():
            try:
                pay(-1)
            except ValueError as error:
                assert "negative" in str(error)
        """,
    good="""
        import pytest

        def test_refuses():
            with pytest.raises(ValueError, match="negative"):
                pay(-1)
        """,
)  # fmt: skip
def passes_without_raising(test: Function) -> Iterator[Spot]:
    """All assertions stand in an `except`: where nothing is raised, nothing is checked.

    Use `pytest.raises`, which fails where nothing is raised, or fail at the end of the `try`.
    """
    found = checks(test)
    if all(isinstance(each, ast.Raise) or (isinstance(each, ast.Call) and last(each.func) == "fail") for each in found):
        return
    for node in test.own:
        if isinstance(node, ast.Try) and not node.orelse and not node.finalbody:
            handled = {id(each) for handler in node.handlers for each in ast.walk(handler)}
            returns = any(isinstance(each, ast.Return) for each in test.own)
            if found and not returns and all(id(each) in handled for each in found):
                yield node, "All assertions are in the handler: the test passes where nothing is raised."


@rule(
    "HQ012", "unreachable-code", "high",
    bad="""
        def test_total():
            basket = Basket([3, 4])
            return
            assert basket.total() == 7
        """,
    good="""
        import sys

        def test_total():
            if sys.platform == "win32":
                return
            assert Basket([3, 4]).total() == 7
        """,
)  # fmt: skip
def unreachable(test: Function) -> Iterator[Spot]:
    """Code after `return`, `raise`, or an unconditional skip or fail is never run.

    Usually left behind by a search for a fault; what stood there is not tested since.
    """
    for block in _blocks(test):
        for before, after in pairwise(block):
            if _ends(test, before) and not _is_yield(after):
                yield after, f"Nothing after {_named(before)} is ever run."
                break


def _blocks(test: Function) -> Iterator[list[ast.stmt]]:
    yield test.body
    for node in test.own:
        if not is_function(node) and not isinstance(node, ast.ClassDef | ast.Lambda | ast.IfExp):
            for part in ("body", "orelse", "finalbody"):
                block = getattr(node, part, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    yield block


def _ends(test: Function, statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and test.module.full(call.func) in _ENDING


def _named(statement: ast.stmt) -> str:
    return "this call" if isinstance(statement, ast.Expr) else f"`{type(statement).__name__.lower()}`"


def _is_yield(statement: ast.stmt) -> bool:
    """What makes a generator of a function, and is not meant to be reached."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield | ast.YieldFrom)


@rule(
    "HQ013", "assertion-after-the-error", "high",
    bad="""
        import pytest

        def test_refuses():
            with pytest.raises(ValueError) as caught:
                pay(-1)
                assert "negative" in str(caught.value)
        """,
    good="""
        import pytest

        def test_refuses():
            with pytest.raises(ValueError) as caught:
                pay(-1)
            assert "negative" in str(caught.value)
        """,
)  # fmt: skip
def after_the_error(test: Function) -> Iterator[Spot]:
    """An assertion stands in the block that raises, after the line that raises.

    The block is left with the error: what follows in it is never run. Move the assertion out of the block.
    """
    for block, call, name in raising_blocks(test):
        is_about_asserts = "AssertionError" in ast.unparse(call)
        if last(call.func) in ("warns", "assertWarns") or is_about_asserts:
            continue
        for statement in block.body[1:]:
            looks_at_it = bool(name) and name in names_in([statement])
            if isinstance(statement, ast.Assert) and looks_at_it:
                yield statement, "The block is left with the error, so this assertion is never run."


@rule(
    "HQ014", "over-broad-raises", "medium",
    bad="""
        import pytest

        def test_refuses():
            with pytest.raises(Exception):
                pay(-1)
        """,
    good="""
        import pytest

        def test_refuses():
            with pytest.raises(Exception, match="negative"):
                pay(-1)
        """,
)  # fmt: skip
def over_broad(test: Function) -> Iterator[Spot]:
    """Any exception will do.

    A misspelt name raises too, and the test passes. Name the exception, or say with `match` what it tells; a test that
    looks at the exception afterwards is left alone, and so is one that raises a plain Exception itself.
    """
    own = {
        last(getattr(each.exc, "func", each.exc))
        for each in test.nodes
        if isinstance(each, ast.Raise) and each.exc is not None
    }
    for block, call, name in raising_blocks(test):
        broad = bool(call.args) and last(call.args[0]) in ("Exception", "BaseException")
        is_matched = any(word.arg in ("match", "check") for word in call.keywords) or len(call.args) > 1
        if broad and not is_matched and not name and last(call.args[0]) not in own:
            yield block, f"Any exception will do: `{ast.unparse(call)}`."


@rule(
    "HQ015", "conditional-assertion", "medium",
    bad="""
        def test_total():
            basket = load()
            if basket.items:
                assert basket.total() > 0
        """,
    good="""
        def test_total():
            basket = load()
            if basket.items:
                assert basket.total() > 0
            else:
                assert basket.total() == 0
        """,
)  # fmt: skip
def conditional(test: Function) -> Iterator[Spot]:
    """All assertions hang on a condition that the test does not control.

    Where it is false, the test passes and has checked nothing. Conditions on the platform, on parameters of the test and
    on versions are left alone, and so is the premise of a property that hypothesis tries with many values.
    """
    if any(last(getattr(each, "func", each)) == "given" for each in test.node.decorator_list):
        return
    found = [node for node in checks(test) if not isinstance(node, ast.Raise)]
    given = {each.arg for each in test.parameters}
    for node in test.body:
        if isinstance(node, ast.If) and not node.orelse and found:
            inside = {id(each) for statement in node.body for each in ast.walk(statement)}
            names = names_in([node.test])
            words = ast.unparse(node.test)
            is_controlled = bool(names & given) or not names or any(word in words for word in _PLATFORM)
            if not is_controlled and all(id(each) in inside for each in found):
                yield node, f"Nothing is checked where this is false: `{words[:60]}`."


@rule(
    "HQ016", "never-runs", "high",
    bad="""
        import unittest

        class TestBasket(unittest.TestCase):
            async def test_total(self):
                self.assertEqual(await total(), 7)
        """,
    good="""
        import unittest

        class TestBasket(unittest.IsolatedAsyncioTestCase):
            async def test_total(self):
                self.assertEqual(await total(), 7)
        """,
)  # fmt: skip
def never_runs(test: Function) -> Iterator[Spot]:
    """The test looks like one, and is never run.

    An `async` method of a plain `TestCase` is never awaited; a test with `yield` is a generator that nobody reads; a test
    inside of a test is never called; pytest does not collect a class with an `__init__`.
    """
    owner = test.owner
    if isinstance(test.node, ast.AsyncFunctionDef) and owner is not None:
        if (
            owner.bases
            and all(test.module.full(base) == "unittest.TestCase" for base in owner.bases)
            and not _is_decorated(test)
        ):
            yield test.node, "A plain TestCase does not await its tests: this one always passes."
    elif any(isinstance(each, ast.Yield | ast.YieldFrom) for each in test.own) and not _is_decorated(test):
        yield test.node, "A test with `yield` is a generator: it is never run to its assertions."
    if owner is not None and not is_case(owner) and not owner.bases and not owner.decorator_list and _has_init(owner):
        first = next((each for each in test.siblings if is_function(each) and each.name.startswith("test")), None)
        if first is test.node:
            yield owner, f"pytest collects no test of {owner.name}: it has an __init__."
    for node in test.own:
        if (
            is_function(node)
            and node.name.startswith("test_")
            and not node.decorator_list
            and any(map(is_check, ast.walk(node)))
        ):
            used = any(isinstance(each, ast.Name) and each.id == node.name for each in test.nodes)
            if not used:
                yield node, f"{node.name} stands inside of another test, which never calls it."


def _is_decorated(test: Function) -> bool:
    return bool(test.node.decorator_list)


def _has_init(owner: ast.ClassDef) -> bool:
    return any(is_function(each) and each.name == "__init__" for each in owner.body)


@rule(
    "HQ017", "redefined-test", "high",
    bad="""
        def test_total():
            assert total([3, 4]) == 7

        def test_total():
            assert total([]) == 0
        """,
    good="""
        def test_total():
            assert total([3, 4]) == 7

        def test_total_of_nothing():
            assert total([]) == 0
        """,
)  # fmt: skip
def redefined(test: Function) -> Iterator[Spot]:
    """A later test has the same name, so this one is never run.

    Python keeps the last definition. Usually one was copied, and the name forgotten.
    """
    later = _last_of_each(test.module)[id(test.siblings), test.node.name]
    decorators = [*test.node.decorator_list, *later.decorator_list]
    if later is not test.node and all(
        test.module.full(getattr(each, "func", each)).startswith("pytest.mark.") for each in decorators
    ):
        yield test.node, f"{test.node.name} is defined again in line {later.lineno}: this one is never run."


@lru_cache(maxsize=4)
def _last_of_each(module: Module) -> dict[tuple[int, str], Def]:
    """By block and name."""
    return {(id(test.siblings), test.node.name): test.node for test in module.tests}
