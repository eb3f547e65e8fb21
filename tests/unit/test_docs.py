"""What the documents say is so: every id, error, word, name, file and link of theirs is there, and none is left out."""

import argparse
import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace
from headrace.cli import flags, main
from headrace.core import errors
from headrace.provider.directory import PROVIDERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "headrace"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
IDS = {"T": 10, "C": 8, "A": 9, "Q": 10, "D": 12, "X": 7, "G": 12, "B": 11}
"""The five systems' requirements, what none of them had, the guarantees and the targets: how many of each."""

_ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+?) \| (.+?) \|.*\|$", re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def read(path: Path) -> str:
    return path.read_text("utf-8")


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(path: Path, level: int) -> list[str]:
    return [found[2] for found in _HEADING.finditer(without_fences(read(path))) if len(found[1]) == level]


def names_of_tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.FunctionDef)}


def test_every_requirement_stands_there_once() -> None:
    """All ids, each in one row, in their order."""
    found = [row[1] for row in _ROW.finditer(read(DOCS / "requirements.md"))]
    assert found == [f"{letter}{number}" for letter, count in IDS.items() for number in range(1, count + 1)]


def test_every_requirement_names_what_shows_it_or_a_dash() -> None:
    """A test that is named exists, a benchmark too; what nothing shows is a dash, so that it is seen."""
    for row in _ROW.finditer(read(DOCS / "requirements.md") + read(DOCS / "invariants.md")):
        shown = row[3]
        named = re.findall(r"`([^`]+)`", shown)
        assert shown == "—" if not named else re.sub(r"`[^`]+`", "", shown).strip() == "", row[0]
        for each in named:
            file, _, name = each.partition("::")
            path = ROOT / file if file.startswith("benchmarks/") else ROOT / "tests" / file
            assert path.is_file(), f"{row[1]}: there is no {file}"
            assert file.startswith("benchmarks/") or name in names_of_tests(path), f"{row[1]}: there is no {each}"


def test_every_application_names_what_shows_it() -> None:
    """In each column of the table the tests are those of that application."""
    table = read(DOCS / "requirements.md").partition("## The five applications")[2].partition("## ")[0]
    rows = [row.strip("|").split("|") for row in table.splitlines() if row.startswith("| ")]
    for column, title in enumerate(rows[0][1:], 1):
        file = re.sub("documents", "documents_app", title.strip(" `"))
        there = names_of_tests(ROOT / "tests" / "acceptance" / f"test_{file}.py")
        named = {each for row in rows for each in re.findall(r"`(test_\w+)`", row[column])}
        assert len(named) >= 6, title
        assert named <= there, title


def kinds() -> dict[str, type[errors.HeadraceError]]:
    there = [value for value in vars(errors).values() if isinstance(value, type)]
    named = {error.kind: error for error in there if issubclass(error, errors.HeadraceError)}
    return {**named, errors.INTERNAL: errors.HeadraceError}


def test_every_kind_of_error_has_its_heading() -> None:
    """The page of errors has each kind once and no other, with its cause and cure."""
    page = DOCS / "reference" / "errors.md"
    assert Counter(headings(page, 3)) == Counter(list(kinds()))
    families = {"error", "call"}
    for section in re.split(r"^### ", read(page), flags=re.MULTILINE)[1:]:
        kind = section.partition("\n")[0]
        assert kind in families or ("*Cause.*" in section and "*Cure.*" in section), kind


def test_every_verdict_is_told_as_it_is() -> None:
    """Where a section names a verdict, it is the one of the code; where a call or item fails, it names one."""
    words = {verdict.value: verdict for verdict in errors.Verdict}
    by_kind = kinds()
    sections = re.split(r"^### ", read(DOCS / "reference" / "errors.md"), flags=re.MULTILINE)[1:]
    for section in sections:
        kind = section.partition("\n")[0]
        told = re.search(r"\*Verdict\.\* (.+)\.", section)
        if told is not None:
            assert by_kind[kind].verdict is words[told[1].lower()], kind
        else:
            assert by_kind[kind].verdict is errors.Verdict.STOP_RUN or kind == "call", kind


def commands(parser: argparse.ArgumentParser, path: str = "headrace") -> Iterator[tuple[str, set[str]]]:
    """Every command with the words it takes; those that the help does not show are left out."""
    words = {word for action in parser._actions if action.help != argparse.SUPPRESS for word in action.option_strings}
    yield path, words - {"-h", "--help"}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from commands(each, f"{path} {name}")


def sections_of_the_cli() -> dict[str, str]:
    """What stands under each command's heading, with the headings below it that are no command's."""
    found: dict[str, str] = {"headrace": ""}
    command = "headrace"
    for line in read(DOCS / "reference" / "cli.md").splitlines():
        heading = re.match(r"#+ (.+)", line)
        if heading and heading[1].startswith("headrace "):
            command = heading[1]
            found[command] = ""
        found[command] += line + "\n"
    return found


def test_every_command_and_word_has_its_entry() -> None:
    """Each verb has a heading and each of its words stands below it; no word stands there that is unknown."""
    told = sections_of_the_cli()
    there = dict(commands(main._parser()))
    assert set(told) == set(there)
    for command, text in told.items():
        mentioned = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.sub(r"`(?:sim|pip)[^`]*`", "", text)))
        left_out = there[command] - mentioned
        assert not left_out, f"{command}: {sorted(left_out)} are not explained"
        elsewhere = set().union(*there.values(), {"--help"})
        assert not mentioned - elsewhere, f"{command}: {sorted(mentioned - elsewhere)} are unknown"


def test_every_public_name_has_its_entry() -> None:
    """The page on Python has each exported name once, and no other."""
    assert Counter(headings(DOCS / "reference" / "python.md", 3)) == Counter(headrace.__all__)


def section(page: Path, name: str) -> str:
    return re.split(rf"^### {name}\n", read(page), flags=re.MULTILINE)[1].partition("\n#")[0]


@pytest.mark.parametrize("name", [name for name in headrace.__all__ if not name.endswith(("Error", "Warning"))])
def test_every_signature_is_told_as_it_is(name: str) -> None:
    """Where the page on Python writes what a name takes, these are its parameters, in their order, with their defaults;
    `...` stands for those of `run`."""
    text = section(DOCS / "reference" / "python.md", name)
    told = re.search(rf"`[^`\n]*hr\.{name}\(([^`]*)\)(?: ->[^`]*)?`", text)
    if told is None:
        assert name in {"Run", "Plan", "Outcome", "Failure"}, "these alone are only ever received"
        return
    words = told[1].removesuffix(", ...")
    function = ast.parse(f"def f({words}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    plain = arguments.posonlyargs + arguments.args + ([arguments.vararg] if arguments.vararg else [])
    values = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults + arguments.kw_defaults
    names = [each.arg for each in plain + arguments.kwonlyargs]
    there = inspect.signature(getattr(headrace, name)).parameters
    assert set(names) <= set(there)
    if words == told[1]:
        assert names == list(there)
    for each, value in zip(names, values, strict=True):
        default = there[each].default
        if value is None:
            assert default is inspect.Parameter.empty, each
        else:
            meant = eval(ast.unparse(value), dict(vars(headrace)))
            default = {} if repr(default) == "<factory>" else default
            assert meant == (default.as_posix() if isinstance(default, Path) else default), each


def test_every_key_of_the_file_is_a_word_of_the_command() -> None:
    """What headrace.toml and the environment know stands in the reference under `headrace run`, under the same name."""
    told = sections_of_the_cli()["headrace run"]
    keys = set(flags.FLAGS)
    words = {word for word in dict(commands(main._parser()))["headrace run"] if word.startswith("--")}
    assert {f"--{key}" for key in keys} == words - {"--help"}
    missing = {key for key in keys if f"--{key}" not in told}
    assert not missing


def test_every_provider_has_its_row() -> None:
    """The page of providers has each once, with the variables that may hold its key, and no other."""
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", read(DOCS / "guides" / "providers.md"), re.MULTILINE)
    assert Counter(name for name, _ in rows) == Counter([*PROVIDERS, "local", "sim"])
    for name, row in rows:
        for variable in PROVIDERS[name].keys if name in PROVIDERS else ():
            assert f"`{variable}`" in row, f"{name}: {variable}"


def test_every_file_is_on_the_map() -> None:
    """ARCHITECTURE.md names each module of the package, and no file that is not there."""
    named = set(re.findall(r"`((?!tests/)(?:[a-z]+/)*[a-z_]+\.py)`", read(ROOT / "ARCHITECTURE.md")))
    there = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if not path.name.startswith("__")}
    assert named == there, f"not named: {sorted(there - named)}; not there: {sorted(named - there)}"


def test_every_decision_says_what_would_change_it() -> None:
    """A page a decision, numbered without gaps, with why, the decision, what else there was, and what would change it."""
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert len(set(numbers)) == len(numbers)
    for page, number in zip(pages, numbers, strict=True):
        text = read(page)
        assert text.startswith(f"# {number}. "), page.name
        for part in ("Why", "Decision", "What would change our mind"):
            assert re.search(rf"^(\*\*|#+ ){part}", text, re.MULTILINE), f"{page.name} has no {part}"


def anchors(path: Path) -> set[str]:
    """As GitHub makes them."""
    plain = [re.sub(r"[^\w\- ]", "", found[2].lower()) for found in _HEADING.finditer(without_fences(read(path)))]
    return {text.strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is a file or folder of the repository, and its anchor a heading there."""
    for link in _LINK.findall(without_fences(read(page))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert target.is_relative_to(ROOT), f"{page.name} links out of the repository: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}, which has no such heading"
