"""The real command as a child process: a clean environment, a folder of its own, captured output, or a terminal."""

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"
DEADLINE_S = 90.0
"""No child lives longer: a test that waits for one that hangs fails instead of hanging too."""

_ON_TERMINAL = (  # also where the tests themselves were started to outlive a terminal
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentences(self) -> list[str]:
        """What was said as an error."""
        return [line for line in self.err.splitlines() if line.startswith("headrace: ")]

    @property
    def error(self) -> str:
        """The one error, with its kind at the end."""
        assert len(self.sentences) == 1, self.err
        assert "Traceback" not in self.err, self.err
        assert re.search(r"\S \[[a-z-]+\]$", self.sentences[0]), self.sentences
        return self.sentences[0]

    @property
    def kind(self) -> str:
        """What that error is called, and the heading that explains it."""
        return self.error.rpartition("[")[2].removesuffix("]")


class Child:
    """A command that is under way."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._told = b""

    def line(self) -> bytes:
        """The next line of standard output, waited for; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def told(self, text: str) -> None:
        """Wait until a line with this text is on standard error."""
        assert self.process.stderr is not None
        line = b""
        while text.encode() not in line:
            line = self.process.stderr.readline()
            self._told += line
            assert line, f"ended before {text!r} was told: {self._told!r}"

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; fails where the command ends first."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                if not condition():
                    raise AssertionError(f"ended with {self.process.returncode} before what was waited for")
            assert time.monotonic() < deadline_s, "what was waited for did not come"

    def end(self, text: str | None = None) -> Ended:
        """Close standard input, after this text, and wait for the end."""
        out, err = self.process.communicate(None if text is None else text.encode(), timeout=DEADLINE_S)
        return Ended(self.process.returncode, (out or b"").decode(), (self._told + (err or b"")).decode())


class Terminal:
    """A command on a terminal of its own: 100 columns, 30 lines. All it shows comes together in `shown`."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self._master = master
        self.shown = b""

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, text: bytes) -> None:
        """Read until this is on the terminal."""
        while text not in self.shown:
            assert self._read(), f"ended before {text!r} was shown: {self.shown!r}"

    def end(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self) -> bool:
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # Linux tells so that the last process has closed its side
            return False
        self.shown += piece
        return bool(piece)


class Cli:
    """The command in one folder. `environ` is added to an environment that has neither keys nor proxies."""

    python = shlex.quote(sys.executable)
    """For a line of the shell."""

    def __init__(self, folder: Path, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH", ""))))
        self.environ = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1", **environ,
        }  # fmt: skip

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def table(self, name: str, texts: Sequence[str]) -> Path:
        """A CSV file with the column `text`."""
        return self.file(name, "text\n" + "".join(f"{text}\n" for text in texts))

    def run(self, *words: str, stdin: str | bytes = b"") -> Ended:
        """The command from its start to its end."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        ended = subprocess.run(
            self._command(words), cwd=self.folder, env=self.environ, input=given, capture_output=True, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    @contextmanager
    def start(self, *words: str) -> Iterator[Child]:
        """The command in the background, with pipes; killed where the test leaves it behind."""
        with subprocess.Popen(
            self._command(words), cwd=self.folder, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, bufsize=0,
        ) as process, _watched(process):  # fmt: skip
            yield Child(process)

    @contextmanager
    def terminal(self, *words: str) -> Iterator[Terminal]:
        """The command on a terminal, as a person has it."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        command = [sys.executable, "-I", "-S", "-c", _ON_TERMINAL, *self._command(words)]
        try:
            with subprocess.Popen(
                command, cwd=self.folder, env={"TERM": "xterm-256color", **self.environ}, stdin=slave, stdout=slave,
                stderr=slave, start_new_session=True,
            ) as process, _watched(process):  # fmt: skip
                os.close(slave)
                slave = -1
                yield Terminal(process, master)
        finally:
            os.close(master)
            if slave >= 0:
                os.close(slave)

    def shell(self, line: str) -> Ended:
        """A line for the shell, in which `headrace` is the command."""
        function = f'headrace() {{ {self.python} -m headrace "$@"; }}\n'
        with subprocess.Popen(
            ["/bin/sh", "-c", function + line], cwd=self.folder, env=self.environ, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=DEADLINE_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # the shell's children too
                raise
        return Ended(process.returncode, out.decode(), err.decode())

    @staticmethod
    def _command(words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "headrace", *words]


@contextmanager
def _watched(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE_S)
        watchdog.join()


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "what was waited for did not come"


def the_sentence(ended: Ended, status: int = 2) -> str:
    """The one sentence an error is told in, where it is told as it has to be: that, and nothing else, with the heading
    that explains it at its end. It is given back without that."""
    assert (ended.status, ended.out) == (status, ""), ended
    assert ended.err == ended.error + "\n", ended.err
    return ended.error.rpartition(" [")[0]


def fine(ended: Ended, status: int = 0) -> Ended:
    """It ended with this status, and without a traceback."""
    assert ended.status == status, ended.err
    assert "Traceback" not in ended.err
    return ended
