"""Rules about what a test checks: nothing, what is always so, what nobody looks at, or its own mocks."""

import ast
import re
from collections.abc import Iterator

from headrace.apps.quality.checking import asserted, checks, is_checked, last, mocks, names_in, root
from headrace.apps.quality.reading import Function
from headrace.apps.quality.rule import Spot, rule

_ABOUT_EQUALITY = re.compile(
    r"eq|same|hash|identi|reflexiv|nan|compar|cmp|order|symmetr|interned|singleton|cach|idempot"
)
_MISSPELT = re.compile(
    r"(assert_?)?(called|awaited|not_called|not_awaited|any_call|has_calls?|called_once|called_with)(_\w+)?$"
)
_MOCKS_OWN = {
    "called",
    "call_count",
    "call_args",
    "call_args_list",
    "await_count",
    "await_args",
    "await_args_list",
    "awaited",
}
_MANY = 15


@rule(
    "HQ001", "empty-test", "high",
    bad="""
        def test_refund():
            # A refund goes back to the same card.
            pass
        """,
    good="""
        def test_refund():
            assert refund(30).card == "same"
        """,
)  # fmt: skip
def empty(test: Function) -> Iterator[Spot]:
    """The test is empty.

    It passes whatever the code does, and its name makes believe that something is tested. Write it, or mark it with
    `skip` and a reason.
    """
    if (
        all(isinstance(each, ast.Pass) or _is_bare_constant(each) for each in test.body)
        and not test.node.decorator_list
    ):
        yield test.node, "The test is empty: it passes whatever the code does."


def _is_bare_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@rule(
    "HQ002", "no-assertion", "high",
    bad="""
        def test_total():
            basket = Basket([3, 4])
            total = basket.total()
        """,
    good="""
        def test_total():
            basket = Basket([3, 4])
            total = basket.total()
            assert total == 7
        """,
)  # fmt: skip
def no_assertion(test: Function) -> Iterator[Spot]:
    """A result is computed and nothing is asserted.

    Only an exception makes such a test fail; a wrong result does not. The rule is about tests that end with a value
    nobody looks at. A test that calls something and keeps no result may be about not raising: that is a question for
    the model (HQ101).
    """
    if not test.body or is_checked(test):
        return
    final = test.body[-1]
    if isinstance(final, ast.Assign | ast.AnnAssign) and final.value is not None and _is_discarded(final):
        yield final, "The test ends with a result that nobody looks at, and asserts nothing."


def _is_discarded(statement: ast.Assign | ast.AnnAssign) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    plain = all(isinstance(each, ast.Name) and not each.id.startswith("_") for each in targets)
    return plain and isinstance(statement.value, ast.Call | ast.Await)


@rule(
    "HQ003", "printed-not-asserted", "high",
    bad="""
        def test_total():
            print(Basket([3, 4]).total())
        """,
    good="""
        def test_total():
            print("a note for the log")
            assert Basket([3, 4]).total() == 7
        """,
)  # fmt: skip
def printed(test: Function) -> Iterator[Spot]:
    """The result is printed, and nothing is asserted.

    Somebody looked at it once. Nobody looks when it runs in the night.
    """
    reads_output = {each.arg for each in test.parameters} & {"capsys", "capfd", "capsysbinary", "capfdbinary"}
    if is_checked(test) or reads_output:
        return
    for call in test.calls:
        if isinstance(call.func, ast.Name) and call.func.id in ("print", "pprint") and names_in(call.args):
            yield call, "A result is printed, and nothing is asserted."
            return


@rule(
    "HQ004", "tautology", "high",
    bad="""
        def test_login():
            user = login("u17")
            assert user or True
        """,
    good="""
        def test_login():
            user = login("u17")
            assert user.name == "u17"
        """,
)  # fmt: skip
def tautology(test: Function) -> Iterator[Spot]:
    """The assertion is always true.

    `assert True`, `assert x == x`, `assert (x, "message")`, which is a tuple and so true, `assert x or True`. A value
    that is compared with itself is left alone in a test about equality: its name says so, or the value is compared with
    others too.
    """
    named_so = _ABOUT_EQUALITY.search(test.name.lower()) is not None
    for node, condition in asserted(test):
        if _is_always_true(condition):
            yield node, f"This is always true: `{_short(condition)}`."
        elif _compares_with_itself(condition) and not named_so and not _is_compared_with_others(test, condition):
            yield node, f"A value is compared with itself: `{_short(condition)}`."


def _is_always_true(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return bool(node.value)
        case ast.Tuple() | ast.JoinedStr():
            return bool(node.elts if isinstance(node, ast.Tuple) else node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(map(_is_always_true, node.values))
        case ast.Compare(left=ast.Constant() as left, ops=[ast.Eq()], comparators=[ast.Constant() as right]):
            return bool(left.value == right.value)
    return False


def _compares_with_itself(node: ast.expr) -> bool:
    if not isinstance(node, ast.Compare) or len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq | ast.Is):
        return False
    plain = not any(isinstance(each, ast.Call | ast.Await | ast.Yield) for each in ast.walk(node))
    return plain and ast.dump(node.left) == ast.dump(node.comparators[0])


def _is_compared_with_others(test: Function, condition: ast.expr) -> bool:
    """Whether its side stands in a comparison with something else."""
    side = ast.dump(condition.left) if isinstance(condition, ast.Compare) else ""
    pairs = [(node.left, node.comparators[0]) for node in test.own if isinstance(node, ast.Compare)]
    return any((ast.dump(one) == side) != (ast.dump(other) == side) for one, other in pairs)


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


@rule(
    "HQ005", "comparison-not-asserted", "high",
    bad="""
        def test_total():
            Basket([3, 4]).total() == 7
        """,
    good="""
        def test_total():
            assert Basket([3, 4]).total() == 7
        """,
)  # fmt: skip
def comparison_alone(test: Function) -> Iterator[Spot]:
    """A comparison stands alone, without `assert`, or is returned.

    Its result goes nowhere. Inside `with pytest.raises(...)` it may be the comparison itself that raises; there it is
    left alone.
    """
    inside = {
        id(each)
        for block in test.own
        if isinstance(block, ast.With | ast.AsyncWith | ast.Try)
        for each in ast.walk(block)
    }
    for node in test.own:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare) and id(node) not in inside:
            if not isinstance(node.value.ops[0], ast.Lt | ast.Gt | ast.LtE | ast.GtE) or not is_checked(test):
                yield node, f"This comparison is not asserted: `{_short(node.value)}`."
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Compare | ast.BoolOp):
            yield node, f"This is returned, not asserted; the test passes either way: `{_short(node.value)}`."


@rule(
    "HQ006", "mock-assertion-not-called", "high",
    bad="""
        from unittest.mock import Mock

        def test_sends_once():
            send = Mock()
            notify(send)
            send.assert_called_once
            assert send.called_once_with("hello")
        """,
    good="""
        from unittest.mock import Mock

        def test_sends_once():
            send = Mock()
            notify(send)
            send.assert_called_once_with("hello")
            assert send.called
        """,
)  # fmt: skip
def mock_assertion(test: Function) -> Iterator[Spot]:
    """A mock's assertion is not called, or is no assertion.

    `m.assert_called_once` without parentheses does nothing. `m.called_once_with(...)` is an attribute that the mock makes
    up on the spot: true, whatever happened.
    """
    for node in test.own:
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr.startswith("assert_")
        ):
            yield node, f"`{node.value.attr}` is not called: the parentheses are missing."
    for node, condition in asserted(test):
        if isinstance(condition, ast.Call) and isinstance(condition.func, ast.Attribute):
            name = condition.func.attr
            if (
                _MISSPELT.match(name)
                and name not in _MOCKS_OWN
                and not name.startswith("assert_")
                and root(condition) in mocks(test)
            ):
                yield node, f"`{name}` is no assertion of a mock: it is a new mock, and so always true."


@rule(
    "HQ007", "mock-of-the-subject", "high",
    bad="""
        from unittest.mock import Mock

        def test_price():
            shop = Mock()
            shop.price.return_value = 7
            assert shop.price("tea") == 7
        """,
    good="""
        from unittest.mock import Mock

        def test_price():
            stock = Mock()
            stock.find.return_value = 7
            assert Shop(stock).price("tea") == 7
        """,
)  # fmt: skip
def mock_of_the_subject(test: Function) -> Iterator[Spot]:
    """What is asserted on is a mock that the test itself calls.

    The test tells the mock what to answer, calls it, and checks the answer; or calls it and checks that it was called.
    No code of yours runs between. Mock what the tested code uses, and call the tested code.
    """
    made = mocks(test)
    if not made:
        return
    for node, condition in asserted(test):
        if isinstance(condition, ast.Compare):
            for side in (condition.left, *condition.comparators):
                inner = side.value if isinstance(side, ast.Await) else side
                if isinstance(inner, ast.Call) and _path(inner.func) in _answers_of(test, made):
                    yield node, f"`{_short(inner)}` is a mock's own answer: no tested code runs."
                    break
    called = {_path(call.func): call for call in test.calls if isinstance(call.func, ast.Name | ast.Attribute)}
    for call in test.calls:
        name = last(call.func)
        if isinstance(call.func, ast.Attribute) and name.startswith(("assert_called", "assert_awaited")):
            direct = called.get(_path(call.func.value))
            if direct is not None and root(direct) in made and _is_statement(test, direct):
                yield call, f"The test itself calls `{_short(direct.func)}`, and then asserts that it was called."


def _path(node: ast.AST) -> str:
    return ast.unparse(node)


def _answers_of(test: Function, made: dict[str, ast.AST]) -> set[str]:
    """The mocks that the test tells what to answer, as `shop.price`."""
    told = [each for node in test.own if isinstance(node, ast.Assign) for each in node.targets]
    paths = {
        _path(each.value)
        for each in told
        if isinstance(each, ast.Attribute) and each.attr == "return_value" and root(each) in made
    }
    made_with = {
        name for name, node in made.items()
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and any(word.arg == "return_value" for word in node.value.keywords)
    }  # fmt: skip
    return paths | made_with


def _is_statement(test: Function, call: ast.Call) -> bool:
    """Whether the test calls it for its own sake, rather than hands on what it answers."""
    values = [each.value for each in test.body if isinstance(each, ast.Expr)]
    return any(call is (value.value if isinstance(value, ast.Await) else value) for value in values)


@rule(
    "HQ008", "float-equality", "low",
    bad="""
        def test_sum():
            assert price * 3 == 0.3
        """,
    good="""
        from pytest import approx

        def test_sum():
            assert price * 3 == approx(0.3)
            assert half * 3 == 1.5
        """,
)  # fmt: skip
def float_equality(test: Function) -> Iterator[Spot]:
    """Computed floats are compared exactly.

    `0.1 + 0.2 == 0.3` is false. The rule looks at sums, products and means that are compared with a number no float can
    hold; numbers such as 1.5 are exact. Use `pytest.approx`.
    """
    for node, condition in asserted(test):
        if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq):
            for one, other in ((condition.left, condition.comparators[0]), (condition.comparators[0], condition.left)):
                if isinstance(one, ast.Constant) and _is_inexact(one.value) and _computes(other):
                    yield node, f"A computed float is compared exactly: `{_short(condition)}`."


def _is_inexact(value: object) -> bool:
    return isinstance(value, float) and value.is_integer() is False and (value * 1024) % 1 != 0


def _computes(node: ast.expr) -> bool:
    arithmetic = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.Pow)
    return arithmetic or (isinstance(node, ast.Call) and last(node.func) in ("sum", "mean", "fmean", "stdev", "sqrt"))


@rule(
    "HQ009",
    "assertion-roulette",
    "low",
    bad="def test_user():\n    user = load()\n" + "".join(f"    assert user.a{n} == {n}\n" for n in range(_MANY)),
    good="def test_user():\n    assert load() == User(a0=0, a1=1)\n",
)
def roulette(test: Function) -> Iterator[Spot]:
    """Many assertions in one test, none with a message.

    The first that fails hides the rest, and which behaviour is broken is anybody's guess. From fifteen on; assertions
    with a message are not counted.
    """
    bare = [node for node in checks(test) if isinstance(node, ast.Assert) and node.msg is None]
    if len(bare) >= _MANY:
        yield bare[0], f"{len(bare)} assertions without a message: the first that fails hides the others."
