"""What in a test can make it fail on purpose: assertions, expected errors, and helpers that hold some. Syntax alone."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from headrace.apps.quality.reading import Def, Function, Module, dotted

_CHECKING = re.compile(r"_*(assert|check|verify|expect|validate|ensure|should|must|fail$|compare|matches)")
"""How names begin of what fails where something is not as it should be."""
_KNOWN = {
    "raises", "warns", "deprecated_call", "does_not_warn", "exit", "fnmatch_lines", "fnmatch_lines_random", "re_match_lines",
    "no_fnmatch_line", "no_re_match_line", "raise_for_status", "expect", "approved",
}  # fmt: skip
MOCKS = {"Mock", "MagicMock", "AsyncMock", "NonCallableMock", "PropertyMock", "create_autospec", "mocker.stub"}
_RAISING = (
    "raises",
    "assertRaises",
    "assertRaisesRegex",
    "assertRaisesMessage",
    "assertRaisesRegexp",
    "warns",
    "assertWarns",
)


def last(node: ast.AST) -> str:
    """The last part of a dotted name."""
    return dotted(node).rpartition(".")[2]


def is_check(node: ast.AST) -> bool:
    """Whether this node by itself can fail on purpose."""
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Raise) and node.exc is not None:
        return last(getattr(node.exc, "func", node.exc)) in ("AssertionError", "Failed")
    if isinstance(node, ast.Call):
        name = last(node.func)
        return name in _KNOWN or _CHECKING.match(name) is not None
    return False


@lru_cache(maxsize=4)
def checking_functions(module: Module) -> set[str]:
    """Names of functions of the file that check something, by themselves or through others."""
    found = {name for name, node in module.functions.items() if any(map(is_check, ast.walk(node)))}
    calls = {name: _called(node) for name, node in module.functions.items()}
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found


def _called(node: Def) -> set[str]:
    """What it calls, and what pytest gives it: a fixture may check at its end."""
    parameters = {each.arg for each in node.args.args}
    return parameters | {last(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}


def checks(test: Function) -> list[ast.AST]:
    """The nodes that check, of the test itself and of what it defines; calls of helpers that check among them."""
    helpers = checking_functions(test.module)
    return [
        node for node in test.nodes
        if is_check(node) or (isinstance(node, ast.Call) and last(node.func) in helpers)
    ]  # fmt: skip


def is_checked(test: Function) -> bool:
    """Whether anything in it, or around it, can fail on purpose."""
    helpers = checking_functions(test.module)
    around = {each.arg for each in test.parameters} | {last(each) for each in test.node.decorator_list}
    return bool(checks(test)) or bool(around & helpers)


def asserted(test: Function) -> Iterator[tuple[ast.AST, ast.expr]]:
    """What plain assertions say: the condition of `assert`, the argument of assertTrue, a comparison for assertEqual."""
    for node in test.own:
        if isinstance(node, ast.Assert):
            yield node, node.test
        elif isinstance(node, ast.Call) and node.args:
            name = last(node.func)
            if name in ("assertTrue", "assert_"):
                yield node, node.args[0]
            elif name in ("assertEqual", "assertIs", "assertEquals") and len(node.args) > 1:
                told = ast.Compare(left=node.args[0], ops=[ast.Eq()], comparators=[node.args[1]])
                yield node, ast.copy_location(told, node)


def raising_blocks(test: Function) -> Iterator[tuple[ast.With | ast.AsyncWith, ast.Call, str]]:
    """Each `with pytest.raises(...) as name`, unittest's too: the block, the call, the name or nothing."""
    for node in test.own:
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and last(call.func) in _RAISING:
                    yield node, call, item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else ""


def names_in(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that are read."""
    return {
        each.id for node in nodes for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }  # fmt: skip


def mocks(test: Function) -> dict[str, ast.AST]:
    """Names of the test's mocks: those it makes, and those that a patch makes for it."""
    found: dict[str, ast.AST] = {}
    for node in test.own:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and is_mock(node.value):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name) and is_mock(node.context_expr):
            found[node.optional_vars.id] = node.context_expr
    patches = [each for each in test.node.decorator_list if isinstance(each, ast.Call) and is_mock(each)]
    given = [each for each in patches if len(each.args) < 2 and not any(word.arg == "new" for word in each.keywords)]
    found |= {each.arg: each for each, _ in zip(test.parameters, given, strict=False)}
    return found


def is_mock(node: ast.AST) -> bool:
    """Whether it makes a mock: Mock(), patch(...), mocker.patch(...)."""
    name = dotted(node.func) if isinstance(node, ast.Call) else ""
    return name.rpartition(".")[2] in MOCKS or "patch" in name.split(".") or "spy" in name.split(".")


def root(node: ast.AST) -> str:
    """The name that a chain of attributes, calls and subscripts begins with; empty where it is none."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def mentions(test: Function, *words: str) -> bool:
    """Whether the test, or what decorates or is given to it, speaks of one of these."""
    around = " ".join(ast.unparse(each) for each in test.node.decorator_list) + ast.unparse(test.node.args)
    names = {each.id for each in test.nodes if isinstance(each, ast.Name)} | {
        each.attr for each in test.nodes if isinstance(each, ast.Attribute)
    }
    return any(word in around or word in names for word in words)
