"""The display on a real pseudo-terminal, seen as an emulator shows it: resized, suspended, hung up, on hold."""

import csv
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyte
import pytest

from acceptance.cli import DEADLINE_S, Cli, Terminal, wait_for
from simulator import Simulator, simulator

ASK = ("--ask", "{text}")
BAR = re.compile(r"\d+ / \d+")


class Screen:
    """A terminal, what is on it, and the keys."""

    def __init__(self, terminal: Terminal, columns: int = 100, rows: int = 30) -> None:
        self.terminal = terminal
        self._seen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._seen)
        self._fed = 0

    @property
    def lines(self) -> list[str]:
        """What is not blank."""
        return [line.rstrip() for line in self._seen.display if line.strip()]

    @property
    def has_cursor(self) -> bool:
        return not self._seen.cursor.hidden

    def resize(self, columns: int, rows: int) -> None:
        """As when somebody drags its corner."""
        self._seen.resize(rows, columns)
        fcntl.ioctl(self.terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Read on until this is so; the lines then."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition(self.lines):
            assert time.monotonic() < deadline_s, self.lines
            assert self.terminal._read(), f"ended with {self.lines}"
            self._feed()
        return self.lines

    def end(self) -> int:
        status = self.terminal.end()
        self._feed()
        return status

    def _feed(self) -> None:
        self._stream.feed(self.terminal.shown[self._fed :])
        self._fed = len(self.terminal.shown)


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """A run of 100 rows takes a good second."""
    with simulator("--latency", "0.1") as made:
        yield made


@contextmanager
def screen(
    folder: Path, provider: Simulator, *words: str, rows: int = 100, environ: dict[str, str] | None = None
) -> Iterator[Screen]:
    """A run of so many rows, ten at a time."""
    cli = Cli(folder, **(environ or {}))
    cli.file("a.csv", "id,text\n" + "".join(f"{number},{folder.name} row {number}\n" for number in range(rows)))
    more = ("--model", "openai:simulated", "--base-url", provider.url, "--concurrency", "10", *words)
    with cli.terminal("run", "a.csv", *ASK, *more) as terminal:
        yield Screen(terminal)


def bars(lines: list[str]) -> list[str]:
    return [line for line in lines if BAR.search(line)]


def test_it_survives_resizing(slow: Simulator, tmp_path: Path) -> None:
    """At any size there is one display, whole, without leftovers or wrapped lines; at the end there is the summary alone."""
    with screen(tmp_path, slow, "-o", "out.csv", rows=700) as seen:
        seen.until(lambda lines: len(bars(lines)) == 1 and any("all well" in line for line in lines))
        for size in ("60x30", "40x12", "20x12", "20x30", "200x30", "60x5", "33x3", "120x40", "100x30"):
            columns, rows = map(int, size.split("x"))
            seen.resize(columns, rows)
            before = len(seen.terminal.shown)

            def is_drawn(lines: list[str], before: int = before, columns: int = columns) -> bool:
                drawn = seen.terminal.shown[before:].count(b"\x1b[?25l") >= 2  # one may have been on its way
                return drawn and len(bars(lines)) == 1 and all(len(line) < columns for line in lines)

            lines = seen.until(is_drawn)
            assert len(lines) <= max(rows - 1, 1)
            assert len(lines) == len(set(lines)), lines
            assert lines[0].startswith("a-") or rows < 12, lines
        seen.resize(100, 50)
        assert seen.end() == 0
    assert not bars(seen.lines)
    assert seen.has_cursor
    assert seen.lines[0] == "Done."
    assert seen.lines[1] == "  700 items: 700 ok, 0 failed"
    assert seen.lines.count("700 rows in out.csv") == 1


@pytest.mark.parametrize("columns", [40, 20])
def test_a_narrow_terminal_from_the_start(columns: int, slow: Simulator, tmp_path: Path) -> None:
    """On 40 and on 20 columns no line wraps, live or at the end, and how far it is and whether all is well is there."""
    with screen(tmp_path, slow, "-o", "out.csv") as seen:
        seen.resize(columns, 24)
        lines = seen.until(lambda lines: len(bars(lines)) == 1 and any("all well" in line for line in lines))
        assert all(len(line) < columns for line in lines)
        assert seen.end() == 0
    assert seen.has_cursor
    assert b"Done." in seen.terminal.shown


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C twice", "kill -TERM"])
def test_the_terminal_is_left_as_it_was(how: str, slow: Simulator, tmp_path: Path) -> None:
    """However it is stopped: the cursor is there, the live lines are not, colours are off, and the summary is."""
    with screen(tmp_path, slow) as seen:
        seen.until(bars)
        if how == "kill -TERM":
            seen.terminal.process.send_signal(signal.SIGTERM)
        else:
            seen.terminal.press(b"\x03")
        if how == "Ctrl-C twice":
            seen.terminal.press(b"\x03")
        assert seen.end() == 130
    assert seen.has_cursor
    assert not bars(seen.lines)
    assert "Interrupted." in [line.removeprefix("^C").removeprefix("^C") for line in seen.lines]
    assert seen.lines[-1] == "The same command goes on from here; what was answered is kept."
    assert seen.terminal.shown.rindex(b"\x1b[?7h") > seen.terminal.shown.rindex(b"\x1b[?7l")


_SHELL = """
import os, signal, sys
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
os.waitpid(child, os.WUNTRACED)
open("wake").read()
os.kill(child, signal.SIGCONT)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_suspended_and_taken_up_again(slow: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z gives the terminal back with its cursor and without the live lines; afterwards it all goes on."""
    ours = Cli._command
    # with a parent in its session, as under a shell: the system stops no process that nobody could wake
    monkeypatch.setattr(Cli, "_command", staticmethod(lambda words: [sys.executable, "-c", _SHELL, *ours(words)]))
    os.mkfifo(tmp_path / "wake")
    with screen(tmp_path, slow, "-o", "out.csv") as seen:
        seen.until(bars)
        [process] = psutil.Process(seen.terminal.process.pid).children()
        process.send_signal(signal.SIGTSTP)
        seen.until(lambda lines: not bars(lines) and seen.has_cursor)
        (tmp_path / "wake").write_text("")  # waits until it is stopped
        seen.until(bars)
        assert seen.end() == 0
    assert seen.has_cursor
    assert "100 rows in out.csv" in seen.lines


def test_without_a_utf8_locale_it_is_ascii(slow: Simulator, tmp_path: Path) -> None:
    """With LANG=C the bar and all else are ASCII."""
    with screen(tmp_path, slow, "-o", "out.csv", environ={"LANG": "C"}) as seen:
        seen.until(lambda lines: any(re.match(r"#+-+  \d+ / 100", line) for line in lines))
        assert seen.end() == 0
    assert seen.terminal.shown.isascii()


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "true"}], ids=str)
def test_terminals_that_want_less(environ: dict[str, str], slow: Simulator, tmp_path: Path) -> None:
    """NO_COLOR: no colour, but live. TERM=dumb, or a CI server that has a terminal: plain lines."""
    with screen(tmp_path, slow, "-o", "out.csv", environ=environ) as seen:
        assert seen.end() == 0
    shown = seen.terminal.shown.decode()
    before_the_table = shown.partition("of memory")[0]
    assert not re.search(r"\x1b\[[\d;]*m", before_the_table)
    assert ("\x1b[?25l" in shown) == ("NO_COLOR" in environ)
    assert "Done." in seen.lines


def test_a_terminal_that_is_closed_ends_the_run_in_order(slow: Simulator, tmp_path: Path) -> None:
    """The window is closed: calls in flight are kept, the store is whole, the same command asks the rest alone."""
    before = slow.ledger(items=False)["paid"]
    with screen(tmp_path, slow, "-o", "out.csv", rows=500) as seen:
        seen.until(bars)
        os.close(seen.terminal._master)
        seen.terminal._master = os.open(os.devnull, os.O_RDONLY)  # for who closes it again
        assert seen.terminal.process.wait(DEADLINE_S) == 130
    cli = Cli(tmp_path)
    shown = cli.run("runs", "list", "--json").out
    assert '"interrupted"' in shown
    resumed = cli.run("runs", "resume", "a", "-o", "out.csv", "--concurrency", "100")
    assert resumed.status == 0, resumed.err
    assert slow.ledger(items=False)["paid"] - before == 500


def test_nohup_outlives_its_terminal(slow: Simulator, tmp_path: Path) -> None:
    """Where the user said that hanging up means nothing, the run goes on without a terminal to the end and its files."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "text\n" + "".join(f"nohup {number}\n" for number in range(200)))
    words = (
        "--model",
        "openai:simulated",
        "--base-url",
        slow.url,
        "--concurrency",
        "10",
        "-o",
        "out.csv",
        "--report",
        "r.html",
    )
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", ignoring, sys.executable, "-m", "headrace", "run", "a.csv", *ASK, *words]
    before = slow.ledger(items=False)["paid"]
    master, slave = os.openpty()
    with subprocess.Popen(
        command, cwd=tmp_path, env={"TERM": "xterm", **cli.environ}, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        wait_for(lambda: slow.ledger(items=False)["paid"] > before + 10)
        os.close(master)
        assert process.wait(DEADLINE_S) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 200
    assert (tmp_path / "r.html").exists()


def test_a_terminal_on_hold_holds_up_nothing(slow: Simulator, tmp_path: Path) -> None:
    """Nobody reads the terminal, as after Ctrl-S: the run goes on, and its files are written before anybody looks."""
    with screen(tmp_path, slow, "-o", "out.csv") as seen:
        seen.terminal.press(b"\x13")
        wait_for((tmp_path / "out.csv").exists)
        assert seen.terminal.process.poll() is None  # it waits to say so
        seen.terminal.press(b"\x11")
        assert seen.end() == 0
    assert "100 rows in out.csv" in seen.lines


def test_reading_from_the_terminal_says_so(slow: Simulator, tmp_path: Path) -> None:
    """Who forgets the file after `-` is told what is waited for; what is typed is a table like any other."""
    cli = Cli(tmp_path)
    words = ("run", "-", *ASK, "--model", "openai:simulated", "--base-url", slow.url)
    with cli.terminal(*words) as terminal:
        seen = Screen(terminal)
        seen.until(lambda lines: any("type or paste CSV or JSON Lines, then Ctrl-D" in line for line in lines))
        terminal.press(b"text\rtyped\r\x04")
        assert seen.end() == 0
    assert any("1 item: 1 ok" in line for line in seen.lines)
