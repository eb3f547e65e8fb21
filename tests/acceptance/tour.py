"""A page of the documentation, read as a person reads it who types what it says into an empty folder."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
PORT = "8377"
"""What the pages call the simulated provider's port; the tests take a free one."""
DEADLINE_S = 120
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WARNINGS = ("-W", "error", "-W", "default::UserWarning")
"""A HeadraceWarning is one: a page may show how its awkward file is read. No other is expected."""
_STATUS = re.compile(r"# exit status (\d+)\s*$")


class Block(msgspec.Struct, frozen=True):
    """A fenced block and the line it begins at."""

    kind: str
    text: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    whole = path.read_text("utf-8")
    for found in FENCE.finditer(whole):
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

    def follows(self, page: Path) -> int:
        """How many `sh` and `python` blocks ran: each ends with the status it names, or 0, and shows what the `text`
        block after it has."""
        port = free_port()
        shown = ""
        ran = 0
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            if block.kind in ("sh", "python"):
                status, shown = (
                    self.types(["bash", "-e", "-o", "pipefail", "-c", block.text.replace(PORT, port)])
                    if block.kind == "sh"
                    else self.types([sys.executable, *_WARNINGS, "-"], block.text)
                )
                named = _STATUS.search(block.text)
                assert status == int(named[1] if named else 0), f"{where}: status {status}\n{shown}"
                ran += 1
            elif block.kind == "text":
                line = missing(block.text, shown)
                assert line is None, f"{where}: {line!r} was not shown, but\n{shown}"
            assert "Traceback" not in shown, f"{where}\n{shown}"
        return ran


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
