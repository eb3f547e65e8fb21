"""Rules about what a test leaves behind for others: changed lists of the module or class, a changed environment."""

import ast
from collections.abc import Iterator
from functools import lru_cache

from headrace.apps.quality.checking import last, mentions, root
from headrace.apps.quality.reading import Function, Module, is_function
from headrace.apps.quality.rule import Spot, rule

_CHANGING = {
    "append",
    "extend",
    "insert",
    "add",
    "update",
    "pop",
    "remove",
    "clear",
    "setdefault",
    "discard",
    "popitem",
    "sort",
}


@rule(
    "HQ025", "shared-state", "medium",
    bad="""
        SEEN = []

        def test_first():
            SEEN.append(1)
            assert SEEN == [1]
        """,
    good="""
        def test_first():
            seen = []
            seen.append(1)
            assert seen == [1]
        """,
)  # fmt: skip
def shared_state(test: Function) -> Iterator[Spot]:
    """The test changes a list, dict or set that other tests see.

    What it finds there depends on what ran before. Values of the module or the class that a fixture or a set-up resets
    are left alone.
    """
    shared = _mutables(test.module.tree)
    own = _mutables(test.owner) if test.owner is not None else set()
    reset = _reset(test.module)
    local = {each.id for each in test.own if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)} | {
        each.arg for each in test.parameters
    }
    for node in test.own:
        changed = _changed(node)
        if changed is None:
            continue
        name = last(changed)
        plain = isinstance(changed, ast.Name) and name in shared - local
        of_class = isinstance(changed, ast.Attribute) and root(changed) in ("self", "cls") and name in own
        if (plain or of_class) and name not in reset:
            yield node, f"`{ast.unparse(changed)}` is shared with other tests, and changed here."
            return


@lru_cache(maxsize=16)
def _mutables(owner: ast.Module | ast.ClassDef) -> set[str]:
    kinds = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return {
        target.id for each in owner.body if isinstance(each, ast.Assign)
        and (isinstance(each.value, kinds) or (isinstance(each.value, ast.Call) and last(each.value.func) in ("list", "dict", "set", "defaultdict", "deque", "Counter")))
        for target in each.targets if isinstance(target, ast.Name)
    }  # fmt: skip


def _changed(node: ast.AST) -> ast.expr | None:
    """The name or attribute whose value this changes in place."""
    found: ast.expr | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
        found = node.func.value
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        found = node.value
    elif isinstance(node, ast.AugAssign):
        found = node.target
    return found if isinstance(found, ast.Name | ast.Attribute) else None


@lru_cache(maxsize=4)
def _reset(module: Module) -> set[str]:
    """Names that functions of the file other than tests speak of: a fixture or a set-up takes care of them."""
    functions = [node for node in module.nodes if is_function(node) and not node.name.startswith("test")]
    inside = [each for node in functions for each in ast.walk(node)]
    return {each.id for each in inside if isinstance(each, ast.Name)} | {
        each.attr for each in inside if isinstance(each, ast.Attribute)
    }


@rule(
    "HQ026", "leaked-environment", "medium",
    bad="""
        import os

        def test_debug():
            os.environ["DEBUG"] = "1"
            assert settings().debug
        """,
    good="""
        def test_debug(monkeypatch):
            monkeypatch.setenv("DEBUG", "1")
            assert settings().debug
        """,
)  # fmt: skip
def leaked(test: Function) -> Iterator[Spot]:
    """The test changes the process's environment or working folder, and does not change it back.

    Every test after it runs in another world. Use `monkeypatch` or `patch.dict`. A test that puts it back in a `finally`,
    or a file whose fixtures or set-up speak of it, is left alone.
    """
    ends = [
        each for node in test.own if isinstance(node, ast.Try) for part in node.finalbody for each in ast.walk(part)
    ]
    care = {test.module.full(each) for each in ends} | _reset(test.module)
    if mentions(test, "patch", "isolated_filesystem", "addCleanup", "finalizer", "addfinalizer"):
        return
    for node in test.own:
        what = ""
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Store | ast.Del)
            and test.module.full(node.value) == "os.environ"
        ):
            what = "os.environ"
        elif isinstance(node, ast.Call) and test.module.full(node.func) in (
            "os.chdir",
            "os.putenv",
            "sys.path.insert",
            "sys.path.append",
        ):
            what = test.module.full(node.func)
        known = {
            what,
            what.rpartition(".")[2],
            ".".join(what.split(".")[:2]),
            what.split(".")[1] if "." in what else "",
        }
        if what and not known & care:
            yield node, f"`{what}` is changed for all tests that follow."
            return
