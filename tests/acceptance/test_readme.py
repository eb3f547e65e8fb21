"""The README's tour, word for word: its commands run in order, in an empty folder, and say what it says they say."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from acceptance.tour import ROOT, Reader, blocks


@pytest.mark.serial
def test_every_command_of_the_tour(tmp_path: Path) -> None:
    """Each `sh` and `python` block ends with the status it names, or 0, and shows what the `text` block after it has."""
    if shutil.which("timeout") is None:
        pytest.skip("the tour presses Ctrl-C with `timeout` of GNU coreutils, which is not here")
    reader = Reader(tmp_path)
    ran = reader.follows(ROOT / "README.md")
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
