"""G7 with the real command over HTTP: killed with -9, resumed, shared. The provider's own ledger says what was spent."""

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import headrace as hr
from acceptance.cli import Cli
from simulator import Simulator, simulator

INPUT, OUTPUT = 100.0, 400.0
"""Dollars per million tokens."""
PRICES = f'["openai:simulated"]\ninput = {INPUT}\noutput = {OUTPUT}\n'
ASK = ("--ask", "What is {text}?", "--model", "openai:simulated", "--prices", "prices.toml", "--max-tokens", "60")
WORST = ((256 + 16 + 20) * INPUT + 60 * OUTPUT) / 1e6
"""What is reserved for a call, or little more."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    faults = "500=0.05,429=0.05,reset=0.03,malformed=0.02"
    with simulator("--latency", "lognormal:0.05,0.5", "--faults", faults, "--seed", "7") as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path, provider: Simulator) -> Cli:
    provider.reset()
    made = Cli(tmp_path / "folder", HEADRACE_BASE_URL=provider.url)
    made.file("prices.toml", PRICES)
    made.table("t.csv", [f"thing {number}" for number in range(400)])
    return made


def owed(provider: Simulator) -> float:
    """Dollars that the provider asks for, by its own books."""
    ledger = provider.ledger(items=False)
    return float(ledger["input_tokens"] * INPUT + ledger["output_tokens"] * OUTPUT) / 1e6


@pytest.mark.serial
def test_g7_a_run_that_is_killed_again_and_again_stays_within_its_budget(
    cli: Cli, provider: Simulator, kills: int
) -> None:
    """G7: killed with -9 at random moments and run again until its budget is spent, which it says with status 3: the
    provider was never owed more. With a larger budget it ends, and what was answered is paid once."""
    chance = random.Random(9)
    cli.table("t.csv", [f"thing {number}" for number in range(1000)])
    words, few = ("run", "t.csv", *ASK, "-o", "out.jsonl"), ("--concurrency", "5")
    kills = max(3, kills // 4)
    usd = 1.0 + WORST * 12 * kills
    for _ in range(kills):
        with cli.start(*words, *few, "--budget", f"{usd}") as child:
            before = owed(provider)
            child.until(lambda before=before: owed(provider) > before)  # type: ignore[misc]
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(chance.uniform(0, 0.2))
            child.signal(signal.SIGKILL)
            child.end()
        assert owed(provider) <= usd
    ended = cli.run(*words, *few, "--budget", f"{usd}")
    assert owed(provider) <= usd
    assert (ended.status, ended.kind) == (3, "budget-spent"), ended.err
    assert "has no room for another call" in ended.error
    assert "--budget" in ended.error
    rest = cli.run(*words, "--concurrency", "40", "--budget", "40")
    assert rest.status in (0, 1), rest.err
    assert owed(provider) <= 40
    rows = [json.loads(line) for line in (cli.folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 1000


def test_a_spent_budget_is_shown_and_a_larger_one_goes_on(cli: Cli, provider: Simulator) -> None:
    """In the summary, as JSON and in `runs show`; nothing is asked again with the same budget, and with a larger one only
    what is still open."""
    words = ("run", "t.csv", *ASK, "--first", "60")
    first = cli.run(*words, "--budget", "0.15", "--json")
    assert first.status == 3
    last = json.loads(first.err.splitlines()[-1])
    assert last["budget_usd"] == 0.15
    assert owed(provider) <= last["budget_spent_usd"] <= 0.15
    assert 0.15 - last["budget_spent_usd"] < WORST
    shown = cli.run("runs", "list", "--json").out
    name = json.loads(shown)["name"]
    assert " of $0.1500" in cli.run("runs", "show", name).out
    asked = provider.ledger(items=False)["requests"]
    again = cli.run(*words, "--budget", "0.15")
    assert again.status == 3
    assert again.err.count("has no room for another call") == 1
    assert provider.ledger(items=False)["requests"] - asked <= 1
    ended = cli.run(*words, "--budget", "20")
    assert ended.status in (0, 1)
    assert "of the $20.00 budget" in ended.err


@pytest.mark.serial
def test_two_processes_share_one_budget_by_its_name(cli: Cli, provider: Simulator) -> None:
    """Both end with status 3, and together they never owe more than the one budget."""
    cli.table("u.csv", [f"other {number}" for number in range(400)])
    words = (*ASK, "--budget", "1.5", "--budget-name", "team", "--concurrency", "5")
    with cli.start("run", "t.csv", *words) as one, cli.start("run", "u.csv", *words) as two:
        ended = [one.end(), two.end()]
    assert [each.status for each in ended] == [3, 3]
    assert owed(provider) <= 1.5
    assert owed(provider) > 0.5
    third = cli.run("run", "t.csv", *words, "--first", "3", "--name", "more")
    assert third.status in (0, 3)
    assert owed(provider) <= 1.5


def test_a_budget_without_a_maximum_output_gets_one_and_says_so(cli: Cli, provider: Simulator) -> None:
    """It is told before the run, and is no part of what a request is known by: a run without a budget finds its answers."""
    words = ("run", "t.csv", *ASK[:-2], "--first", "5")
    ended = cli.run(*words, "--budget", "30")
    assert ended.status == 0, ended.err
    assert "names no maximum output; with a budget it is 4,096 tokens" in ended.err
    asked = provider.ledger(items=False)["requests"]
    assert cli.run(*words).status == 0
    assert provider.ledger(items=False)["requests"] == asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "5"), "none is known for simulated"),
        (("--budget", "0"), "A budget of 0 dollars cannot work."),
        (("--budget", "-1"), "A budget of -1 dollars cannot work."),
        (("--budget", "inf"), "A budget of inf dollars cannot work."),
        (("--budget-name", "team"), "A budget has a name and no amount."),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_the_run(
    cli: Cli, provider: Simulator, words: tuple[str, ...], said: str
) -> None:
    """One sentence with what to do, status 2, and no call."""
    ended = cli.run("run", "t.csv", "--ask", "{text}", "--model", "openai:simulated", *words)
    assert (ended.status, ended.kind) == (2, "usage")
    assert said in ended.error
    assert provider.ledger(items=False)["requests"] == 0


def test_python_takes_dollars_or_a_budget(tmp_path: Path) -> None:
    """`budget=` is a number or a Budget; a function has no price, the local model's is 0."""
    with pytest.raises(hr.UsageError, match="A budget counts what models cost"):
        hr.run(str.upper, ["a"], budget=5, store=tmp_path / "s.db")
    with pytest.raises(hr.UsageError, match="empty name"):
        hr.Budget(5, " ")
    assert repr(hr.Budget(5.0, "team")) == "Budget(5.0, name='team')"
