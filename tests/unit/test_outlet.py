"""The outlet: what a reader that pauses, leaves or never comes does to the run, which is nothing."""

import io
import os
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from headrace.cli.outlet import Outlet

WAIT_S = 20.0


@pytest.fixture
def pipe() -> Iterator[tuple[IO[str], int]]:
    """A stream, and where it can be read."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    yield stream, reading
    stream.close()
    os.close(reading)


def test_lines_come_in_order(pipe: tuple[IO[str], int]) -> None:
    """All of them, as they were given."""
    stream, reading = pipe
    outlet = Outlet(stream)
    for number in range(50):
        outlet.line(f"line {number} ü")
    outlet.flush()
    assert os.read(reading, 65536).decode().splitlines() == [f"line {number} ü" for number in range(50)]


def test_a_reader_that_pauses_holds_up_nobody(pipe: tuple[IO[str], int]) -> None:
    """Far more than a pipe holds is given at once; of frames the reader gets the last, of lines the last thousand."""
    stream, reading = pipe
    outlet = Outlet(stream)
    for number in range(3000):
        outlet.line(f"{number:05} {'x' * 1000}")
        outlet.frame(f"frame {number}")
    read: list[bytes] = []

    def reader() -> None:
        """Reads as long as there is something, and a moment of nothing."""
        while piece := os.read(reading, 65536):
            read.append(piece)
            if b"last" in piece:
                return

    thread = threading.Thread(target=reader)
    thread.start()
    outlet.line("last")
    outlet.flush()
    thread.join(WAIT_S)
    text = b"".join(read).decode()
    numbers = [int(line[-1006:-1001]) for line in text.splitlines() if line.endswith("xxx")]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 2999
    assert 1000 <= len(numbers) <= 3000
    assert text.count("frame") < 3000


def test_a_reader_that_leaves_breaks_it_quietly(pipe: tuple[IO[str], int]) -> None:
    """Nothing is raised, now or later, and nothing is waited for."""
    stream, reading = pipe
    outlet = Outlet(stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, reading)  # the pipe has no reader any more
    os.close(nothing)
    for _ in range(10):
        outlet.line("for nobody")
        outlet.flush()
    assert outlet.broken
    outlet.frame("for nobody")
    outlet.flush()


def test_a_pipe_that_its_owner_made_non_blocking(pipe: tuple[IO[str], int]) -> None:
    """It is waited for, not taken for broken, and nothing is lost."""
    stream, reading = pipe
    os.set_blocking(stream.fileno(), False)
    outlet = Outlet(stream)
    text = "y" * 300_000
    outlet.line(text)
    read = 0
    while read <= 300_000:
        read += len(os.read(reading, 65536))
    outlet.flush()
    assert read == 300_001
    assert not outlet.broken


def test_a_stream_without_a_file_is_written_to_at_once() -> None:
    """As tests and notebooks have them; a closed one breaks it."""
    stream = io.StringIO()
    outlet = Outlet(stream)
    outlet.line("now")
    assert stream.getvalue() == "now\n"
    stream.close()
    outlet.line("never")
    assert outlet.broken
