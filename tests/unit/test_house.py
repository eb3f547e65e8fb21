"""The habits of this house, held by tests instead of by reviews."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

# Put together here, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
PLACES = re.compile(
    r"(^|[^a-zA-Z0-9_.])/(wo" + r"rk|ro" + r"ot|ho" + r"me/\w+)/|py" + r"pi\.org|python" + r"hosted|npm" + r"js\.org"
)
NAMELESS = {"utils", "util", "helpers", "helper", "base", "manager", "common", "misc"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """The files of the repository, or of the folder where git is not there."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return [
            path
            for path in ROOT.rglob("*")
            if path.is_file() and ".venv" not in path.parts and ".git" not in path.parts
        ]
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_source_file_fits_in_a_head(path: Path) -> None:
    """It has few lines, says what it is for, and is named for what it holds."""
    text = path.read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in NAMELESS


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    """No function is longer than a screen."""
    long = [f"{each.name}: {_lines(each)}" for each in functions(path) if _lines(each) > MOST_LINES_OF_A_FUNCTION]
    assert not long


@pytest.mark.parametrize("path", TESTS, ids=named)
def test_a_test_says_what_it_expects(path: Path) -> None:
    """Each test has a sentence, and none sleeps to let time pass."""
    silent = [each.name for each in functions(path) if each.name.startswith("test_") and not ast.get_docstring(each)]
    assert not silent
    text = path.read_text("utf-8")
    if "headrace.sim.loop" not in text and path.parent.name != "sim":  # in virtual time, sleeping costs nothing
        assert not re.search(r"\b(time|asyncio)\.slee" + r"p\((?!0\))", text)


def test_nothing_is_left_unfinished() -> None:
    """No reminder stands in the code."""
    found = [named(path) for path in SOURCES + TESTS if UNFINISHED.search(path.read_text("utf-8"))]
    assert not found


def test_no_place_of_one_machine_is_named() -> None:
    """No tracked file names a path of somebody's machine, or the host of a package index."""
    found = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{named(path)}: {match[0]!r}" for match in PLACES.finditer(text)]
    assert not found


def test_the_changelog_has_a_place_for_what_comes() -> None:
    """Unreleased stands on top."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_every_dependency_is_pinned() -> None:
    """Constraints hold plain versions: no hosts, no files, no hashes."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( *;.*)?", line)]


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
