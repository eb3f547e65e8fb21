"""The README's tour, word for word: its commands run in order, in an empty folder, and say what it says they say."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
PORT = "8377"
DEADLINE_S = 120
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"# exit status (\d+)\s*$")


class Block(msgspec.Struct, frozen=True):
    """A fenced block and the line it begins at."""

    kind: str
    text: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    whole = path.read_text("utf-8")
    for found in _FENCE.finditer(whole):
        yield Block(found[1], found[2], whole.count("\n", 0, found.start()) + 2)


class Reader:
    """A person with a fresh folder, who types what the page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        words = folder / "bin"
        words.mkdir()
        for name, command in (("headrace", f'"{sys.executable}" -m headrace'), ("python", f'"{sys.executable}"')):
            (words / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (words / name).chmod(0o755)
        self._environ = {
            "PATH": f"{words}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "HOME": str(folder), "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT / "src"),
        }  # fmt: skip

    def types(self, command: list[str], text: str = "") -> tuple[int, str]:
        """Exit status and all that was shown."""
        ended = subprocess.run(
            command, cwd=self.folder, env=self._environ, input=text, text=True, encoding="utf-8", check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE_S,
        )  # fmt: skip
        return ended.returncode, ended.stdout


def missing(expected: str, shown: str) -> str | None:
    """The first expected line that is not shown, after those before it; `…` stands for anything."""
    lines = iter(shown.splitlines())
    for line in filter(None, expected.splitlines()):
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        if not any(pattern.fullmatch(each) for each in lines):
            return line
    return None


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.serial
def test_every_command_of_the_tour(tmp_path: Path) -> None:
    """Each `sh` and `python` block ends with the status it names, or 0, and shows what the `text` block after it has."""
    if shutil.which("timeout") is None:
        pytest.skip("the tour presses Ctrl-C with `timeout` of GNU coreutils, which is not here")
    reader = Reader(tmp_path)
    port = free_port()
    shown = ""
    ran = 0
    for block in blocks(ROOT / "README.md"):
        where = f"README.md, line {block.line}"
        if block.kind == "sh":
            status, shown = reader.types(["bash", "-e", "-o", "pipefail", "-c", block.text.replace(PORT, port)])
            named = _STATUS.search(block.text)
            assert status == int(named[1] if named else 0), f"{where}: status {status}\n{shown}"
            ran += 1
        elif block.kind == "python":
            status, shown = reader.types([sys.executable, "-W", "error", "-"], block.text)
            assert status == 0, f"{where}: status {status}\n{shown}"
            ran += 1
        elif block.kind == "text":
            line = missing(block.text, shown)
            assert line is None, f"{where}: {line!r} was not shown, but\n{shown}"
        assert "Traceback" not in shown, f"{where}\n{shown}"
    assert ran >= 12
    assert {"answers.csv", "feelings.parquet", "words.jsonl", "again.csv"} <= set(os.listdir(reader.folder))


def console_lines() -> list[str]:
    found = [
        line for block in blocks(ROOT / "README.md") if block.kind == "console" for line in block.text.splitlines()
    ]
    assert found
    assert all(line.startswith("$ ") for line in found), "a console block has one command a line"
    return [line.removeprefix("$ ") for line in found]


@pytest.mark.parametrize("line", console_lines())
def test_what_is_only_shown_can_be_typed(line: str, tmp_path: Path) -> None:
    """Commands that need a key, weights or minutes are not run, but each of their words is known."""
    reader = Reader(tmp_path)
    (reader.folder / "reviews.csv").write_text("id,text\nr1,good\n")
    words = shlex.split(line, comments=True)
    if words[0] == "headrace":
        status, shown = reader.types([*words, "--show-prompt"])
        assert status == 0, shown
        assert "good" in shown
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE) for word in words[1:])
    elif words[0] == "python":
        status, shown = reader.types([sys.executable, str(ROOT / words[1]), "--help"])
        assert status == 0, shown
    else:
        assert words[:2] == ["pip", "install"] or words[0] == "export", f"nothing checks {line!r}"


def test_no_other_fences() -> None:
    """A block that no test knows would not be checked."""
    assert {block.kind for block in blocks(ROOT / "README.md")} <= {"sh", "python", "text", "console"}
    assert len(re.findall(r"^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)) == 2 * len(
        list(blocks(ROOT / "README.md"))
    )
