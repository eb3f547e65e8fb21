"""G10: Ctrl-C, SIGTERM and two of them. What is in flight is drained or dropped, the store is whole, a rerun continues."""

import json
import shlex
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acceptance.cli import DEADLINE_S, Cli, Ended, wait_for
from simulator import Simulator, simulator

ASK = ("--ask", "{text}")
ROWS = 400
TEXTS = [f"row {number}" for number in range(ROWS)]


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """Answers after a while."""
    with simulator("--latency", "0.15") as made:
        yield made


@pytest.fixture(scope="module")
def silent() -> Iterator[Simulator]:
    """Never answers."""
    with simulator("--faults", "hang=1") as made:
        yield made


def words(provider: Simulator, *more: str) -> tuple[str, ...]:
    return (
        "run",
        "a.csv",
        *ASK,
        "--model",
        "openai:simulated",
        "--base-url",
        provider.url,
        "--concurrency",
        "10",
        *more,
    )


def in_flight(provider: Simulator) -> int:
    count: int = provider.ledger(items=False)["in_flight"]
    return count


def some_paid(provider: Simulator, before: int) -> bool:
    paid: int = provider.ledger(items=False)["paid"]
    return paid >= before + 30


def stored(folder: Path) -> tuple[int, int, int]:
    """Answers, outcomes and claims in a store, which must be whole."""
    connection = sqlite3.connect(folder / ".headrace" / "store.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("answers", "outcomes", "claims")
        ]
    finally:
        connection.close()
    return counts[0], counts[1], counts[2]


def interrupted(ended: Ended) -> Ended:
    assert ended.status == 130, ended.err
    assert "Traceback" not in ended.err
    assert "Interrupted" in ended.err
    assert "pending" in ended.err
    return ended


def assert_exports(cli: Cli, ended: Ended, rows: int) -> None:
    """The command that is told writes what there is."""
    told = next(line for line in ended.err.splitlines() if "out.jsonl was not written" in line)
    words = shlex.split(told.partition("What there is by now: headrace ")[2])
    assert cli.run(*words).status == 0
    written = cli.folder / "out.jsonl"
    assert len(written.read_text().splitlines()) == rows
    written.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("to", [(), ("--ordered",), ("-o", "out.jsonl")], ids=["stdout", "ordered", "file"])
def test_once_drains(number: signal.Signals, to: tuple[str, ...], slow: Simulator, tmp_path: Path) -> None:
    """What was paid for is stored and given, no more is begun, and the rerun pays for the rest alone."""
    cli = Cli(tmp_path)
    texts = [f"{number.name} {to} {text}" for text in TEXTS]
    cli.table("a.csv", [f'"{text}"' for text in texts])
    before = slow.ledger(items=False)["paid"]
    with cli.start(*words(slow, *to)) as child:
        child.until(lambda: some_paid(slow, before))
        child.signal(number)
        ended = interrupted(child.end())
    ledger = slow.ledger()
    paid = {text for text in texts if text in ledger["items"]}
    assert 30 <= len(paid) < ROWS
    assert ledger["in_flight"] == 0
    assert "gone" not in ledger["by_status"]
    assert stored(tmp_path) == (len(paid), len(paid), 0)
    if "-o" in to:
        assert not (tmp_path / "out.jsonl").exists()
        assert_exports(cli, ended, len(paid))
    else:
        assert {row["text"] for row in ended.rows} == paid
    again = cli.run(*words(slow, *to, "--concurrency", "100"))
    assert again.status == 0
    rows = again.rows or [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(row["text"] for row in rows) == sorted(texts)
    items = slow.ledger()["items"]
    assert {items[text] for text in texts} == {1}


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_twice_stops_now(second: signal.Signals, silent: Simulator, tmp_path: Path) -> None:
    """Calls that never answer are waited for after the first, and dropped and taken off the wire after the second."""
    cli = Cli(tmp_path)
    cli.table("a.csv", TEXTS)
    with cli.start(*words(silent)) as child:
        child.until(lambda: in_flight(silent) == 10)
        child.signal(signal.SIGINT)
        child.told("stopping: interrupted")
        assert child.process.poll() is None
        assert in_flight(silent) == 10
        child.signal(second)
        ended = interrupted(child.end())
    assert ended.out == ""
    wait_for(lambda: in_flight(silent) == 0)
    assert stored(tmp_path) == (0, 0, 0)


def test_from_a_terminal(slow: Simulator, silent: Simulator, tmp_path: Path) -> None:
    """The keys do what the signals do: once drains, twice stops now; the terminal is left as it was."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"terminal {text}" for text in TEXTS])
    before = slow.ledger(items=False)["paid"]
    with cli.terminal(*words(slow)) as terminal:
        terminal.until(b"in flight")
        terminal.press(b"\x03")
        assert terminal.end() == 130
    assert b"Interrupted" in terminal.shown
    assert terminal.shown.rindex(b"\x1b[?25l") < terminal.shown.rindex(b"\x1b[?25h")
    ledger = slow.ledger(items=False)
    paid = ledger["paid"] - before
    assert 0 < paid < ROWS
    assert ledger["in_flight"] == 0
    assert stored(tmp_path) == (paid, paid, 0)
    with cli.terminal(*words(silent)) as terminal:
        terminal.until(b"10 in flight")
        terminal.press(b"\x03")
        terminal.until(b"interrupted")
        terminal.press(b"\x03")
        assert terminal.end() == 130
    assert b"Traceback" not in terminal.shown


def test_an_input_that_gives_nothing_more(slow: Simulator, tmp_path: Path) -> None:
    """Standard input that stays open does not hold up the end, whether or not something came."""
    cli = Cli(tmp_path)
    command = words(slow)
    with cli.start("run", "-", *command[2:]) as child:
        child.write("text\none\n")
        assert json.loads(child.line())["text"] == "one"
        child.signal(signal.SIGINT)
        assert child.process.wait(DEADLINE_S) == 130
        assert "Interrupted" in child.end().err
    with cli.start("run", "-", *command[2:]) as child:
        child.until(lambda: psutil.Process(child.process.pid).status() == psutil.STATUS_SLEEPING)  # in its first read
        child.signal(signal.SIGINT)
        assert child.process.wait(DEADLINE_S) == 130
        assert child.end().err == ""


def test_when_nobody_reads_the_answers(slow: Simulator, tmp_path: Path) -> None:
    """A reader that pauses holds up the first end, as answers wait for it, and not the second."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"{'x' * 20_000} {text}" for text in TEXTS])
    before = slow.ledger(items=False)["paid"]
    with cli.start(*words(slow, "--concurrency", "50")) as child:
        child.until(lambda: some_paid(slow, before))
        child.signal(signal.SIGINT)
        child.told("stopping: interrupted")
        child.signal(signal.SIGINT)
        assert child.process.wait(DEADLINE_S) == 130
        assert "Traceback" not in child.end().err
    answers, outcomes, claims = stored(tmp_path)
    assert answers >= outcomes > 0
    assert claims == 0


def test_an_interrupted_run_is_listed_and_resumed(slow: Simulator, tmp_path: Path) -> None:
    """It is named as interrupted, with what is pending; resume does the rest and nothing else."""
    cli = Cli(tmp_path)
    texts = [f"resumed {text}" for text in TEXTS]
    cli.table("a.csv", texts)
    before = slow.ledger(items=False)["paid"]
    with cli.start(*words(slow, "--name", "mine")) as child:
        child.until(lambda: some_paid(slow, before))
        child.signal(signal.SIGINT)
        interrupted(child.end())
    assert " interrupted " in cli.run("runs", "list").out
    resumed = cli.run("runs", "resume", "mine", "--concurrency", "100", "-o", "out.jsonl")
    assert resumed.status == 0
    assert " finished " in cli.run("runs", "list").out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == texts
    items = slow.ledger()["items"]
    assert {items[text] for text in texts} == {1}
