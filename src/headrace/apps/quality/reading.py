"""From a path to the test functions below it. Whatever a file holds, it becomes a Module or an Unread, never an error.

Files are parsed and never run.
"""

import ast
import io
import os
import stat
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

import headrace as hr
from headrace.apps.quality.findings import Unread

MOST_BYTES = 2_000_000
"""A larger file is data, not tests."""
_SKIPPED = {"CVS", "__pycache__", "build", "dist", "node_modules", "site-packages", "venv"}
Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Function:
    """One test, as written."""

    name: str
    """With its classes: `TestLogin.test_wrong_password`."""
    node: Def
    owner: ast.ClassDef | None
    module: "Module"
    siblings: Sequence[ast.stmt]
    """The block that it stands in."""

    @cached_property
    def body(self) -> list[ast.stmt]:
        """Its statements without the docstring."""
        return self.node.body[1:] if ast.get_docstring(self.node, clean=False) is not None else self.node.body

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All that it holds, nested functions included."""
        return tuple(node for statement in self.body for node in ast.walk(statement))

    @cached_property
    def own(self) -> tuple[ast.AST, ...]:
        """All that it does itself: without what is in nested functions and classes."""
        return tuple(own_nodes(self.body))

    @cached_property
    def calls(self) -> tuple[ast.Call, ...]:
        return tuple(node for node in self.own if isinstance(node, ast.Call))

    @property
    def source(self) -> str:
        first = min([self.node.lineno, *(each.lineno for each in self.node.decorator_list)])
        return "\n".join(self.module.lines[first - 1 : self.node.end_lineno])

    @property
    def parameters(self) -> list[ast.arg]:
        given = self.node.args
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        return [each for each in names if each.arg not in ("self", "cls")]


@dataclass(frozen=True, eq=False)
class Module:
    """A file of tests."""

    path: str
    text: str
    tree: ast.Module

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def tests(self) -> tuple[Function, ...]:
        return tuple(_tests_in(self, self.tree.body, None, ""))

    @cached_property
    def comments(self) -> dict[int, str]:
        """By line."""
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(self.text).readline))
        except (tokenize.TokenError, SyntaxError):  # the parser takes a little more than the tokenizer
            return {}
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def imported(self) -> dict[str, str]:
        """What a name stands for: `nap` is `time.sleep` after `from time import sleep as nap`."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {each.asname: each.name for each in node.names if each.asname}
            elif isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                found |= {each.asname or each.name: f"{source}.{each.name}" for each in node.names}
        return found

    @cached_property
    def functions(self) -> dict[str, Def]:
        """Every function of the file by its last name: what a test calls may be here."""
        return {node.name: node for node in self.nodes if is_function(node)}

    def full(self, node: ast.AST) -> str:
        """The dotted name of what is meant, imports resolved: `time.sleep`. What has no name is `?`."""
        first, dot, rest = dotted(node).partition(".")
        return self.imported.get(first, first) + dot + rest

    def is_silenced(self, line: int, rule: str) -> bool:
        """Whether a comment on that line says so: `# noqa: HQ014`, or `# noqa` for all rules."""
        _, found, codes = self.comments.get(line, "").lower().partition("noqa")
        return bool(found) and (not codes.startswith(":") or rule.lower() in codes)


def is_function(node: ast.AST) -> TypeGuard[Def]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def dotted(node: ast.AST) -> str:
    """`a.b.c` as text; the parts that are no names are `?`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def own_nodes(statements: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """As `ast.walk`, in the order of the text, not into functions and classes that stand within."""
    waiting = list(reversed(statements))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def read(path: str | os.PathLike[str], exclude: Sequence[str] = ()) -> tuple[Iterator[Module], list[Unread]]:
    """The modules with tests at or below `path`, by name, one at a time, and what could not be read, which grows as they
    are taken. `exclude` has patterns of paths below `path`. Raises InputError where there is nothing at `path`."""
    root = Path(path)
    if not os.path.lexists(root):
        raise hr.InputError(f"There is nothing at {root}.", hint="Name a folder of tests, or one of its files.")
    unread: list[Unread] = []
    files = [file for file in _files(root, unread) if not _is_excluded(file, root, exclude)]
    return _modules(files, unread), unread


def _modules(files: Sequence[Path], unread: list[Unread]) -> Iterator[Module]:
    for file in files:
        found = _read(file)
        if isinstance(found, Unread):
            unread.append(found)
        else:
            yield found


def _is_excluded(file: Path, root: Path, patterns: Sequence[str]) -> bool:
    """Where a pattern fits the path below the root, or a folder on the way."""
    below = file.relative_to(root)
    ways = [str(way).replace(os.sep, "/") for way in (below, *below.parents)]
    return any(fnmatch(way, pattern.rstrip("/")) for pattern in patterns for way in ways)


def _files(root: Path, unread: list[Unread]) -> list[Path]:
    """Links to folders are not followed, so no loop of them is walked."""
    if not root.is_dir():
        return [root]

    def told(error: OSError) -> None:
        unread.append(Unread(_shown(str(error.filename)), f"The folder cannot be read: {error.strerror}."))

    found: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=told):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        found += [Path(folder, name) for name in files if _is_test_file(name)]
    return sorted(found)


def _is_test_file(name: str) -> bool:
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py") or name == "tests.py")


def _shown(path: str) -> str:
    """With slashes, and bytes that are no text as escapes."""
    return path.replace(os.sep, "/").encode("utf-8", "backslashreplace").decode()


def _read(file: Path) -> Module | Unread:
    path = _shown(str(file))
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return Unread(path, "It is no regular file.")
        if status.st_size > MOST_BYTES:
            return Unread(path, f"It is larger than {MOST_BYTES:,} bytes: data rather than tests.")
        with file.open("rb") as opened:
            raw = opened.read()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the code that is looked at
            return Module(path, text, ast.parse(text))
    except OSError as error:
        return Unread(path, f"It cannot be read: {error.strerror or error}.")
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        return Unread(path, f"It is no Python{where}: {error.msg}.")
    except (ValueError, LookupError) as error:
        return Unread(path, f"It is no text that Python reads: {error}.")
    except (RecursionError, MemoryError):
        return Unread(path, "It is nested too deeply.")


def _tests_in(module: Module, block: Sequence[ast.stmt], owner: ast.ClassDef | None, prefix: str) -> Iterator[Function]:
    """The tests of one block: functions, methods of test classes, and those behind a condition."""
    for node in block:
        if is_function(node):
            if node.name.startswith("test") and not _is_fixture(node):
                yield Function(prefix + node.name, node, owner, module, block)
        elif isinstance(node, ast.ClassDef):
            if _holds_tests(node):
                yield from _tests_in(module, node.body, node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _tests_in(module, getattr(node, part, []), owner, prefix)
            for handler in getattr(node, "handlers", []):
                yield from _tests_in(module, handler.body, owner, prefix)


def _is_fixture(node: Def) -> bool:
    return any("fixture" in dotted(getattr(each, "func", each)) for each in node.decorator_list)


def _holds_tests(node: ast.ClassDef) -> bool:
    return node.name.startswith("Test") or node.name.endswith(("Test", "Tests", "TestCase")) or is_case(node)


def is_case(node: ast.ClassDef | None) -> bool:
    """Whether it is one of unittest's, as far as its bases tell."""
    return node is not None and any("Test" in dotted(base).rpartition(".")[2] for base in node.bases)
