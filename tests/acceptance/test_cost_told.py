"""What a run says that it cost, against the books of a provider over HTTP: on the terminal, in files, in the report."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace as hr
from acceptance.cli import Cli
from headrace.task.price import Price, Priced, Rate
from simulator import Simulator, simulator

INPUT, OUTPUT = 150.0, 600.0
"""Dollars per million tokens, dear enough to see."""
PRICES = f'["openai:simulated"]\ninput = {INPUT}\noutput = {OUTPUT}\n'
ASK = ("--ask", "What is {text}?", "--model", "openai:simulated")


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator("--latency", "0.01", "--faults", "500=0.1,429=0.05", "--seed", "3") as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path, provider: Simulator) -> Cli:
    provider.reset()
    made = Cli(tmp_path / "folder", HEADRACE_BASE_URL=provider.url)
    made.file("prices.toml", PRICES)
    made.table("t.csv", [f"thing {number % 40}" for number in range(60)])
    return made


def billed(provider: Simulator) -> float:
    """Dollars that the provider would ask for, by its own books."""
    ledger = provider.ledger(items=False)
    return float(ledger["input_tokens"] * INPUT + ledger["output_tokens"] * OUTPUT) / 1e6


def test_a_run_says_what_the_provider_charged(cli: Cli, provider: Simulator) -> None:
    """With faults and equal rows: in the summary, as JSON, in the list of runs and in the file, to the last digit; a
    rerun costs nothing."""
    ended = cli.run("run", "t.csv", *ASK, "--prices", "prices.toml", "-o", "out.jsonl", "--json", "--report", "r.html")
    assert ended.status == 0, ended.err
    usd = billed(provider)
    last = json.loads(ended.err.splitlines()[-1])
    assert last["usd"] == pytest.approx(usd, abs=1e-8)
    assert (last["unpriced"], last["paid_again_usd"]) == (0, {})
    rows = [json.loads(line) for line in (cli.folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert list(rows[0])[-1] == "usd"
    assert sum(row["usd"] for row in rows) == pytest.approx(usd, abs=1e-8)
    assert sum(row["usd"] == 0 for row in rows) == 20
    listed = json.loads(cli.run("runs", "list", "--json").out)
    assert listed["usd"] == pytest.approx(usd, abs=1e-8)
    assert f"The answers cost ${usd:.4f}, " in (cli.folder / "r.html").read_text("utf-8")
    assert f"${usd:.4f}" in cli.run("runs", "list").out
    name = listed["name"]
    assert f"cost      ${usd:.4f}" in cli.run("runs", "show", name).out
    again = cli.run("run", "t.csv", *ASK, "--prices", "prices.toml", "-o", "out.jsonl")
    assert "$" not in again.err
    assert billed(provider) == usd
    assert f"${usd:.4f}" in cli.run("runs", "show", name).out


def test_the_summary_says_dollars(cli: Cli, provider: Simulator) -> None:
    """In all, and for an item; also where the file stands in headrace.toml, beside it."""
    cli.file("headrace.toml", '[run]\nprices = "prices.toml"\n')
    ended = cli.run("run", "t.csv", *ASK)
    usd = billed(provider)
    assert f"  ${usd:.4f}, ${usd / 40:.4f} an item" in ended.err.splitlines()
    assert "prices.toml" in cli.run("config").out


def test_without_a_price_no_dollar_is_named(cli: Cli) -> None:
    """A server of one's own has no price: no column, no line and no 0; a program reads null."""
    ended = cli.run("run", "t.csv", *ASK, "--json")
    assert ended.status == 0
    last = json.loads(ended.err.splitlines()[-1])
    assert last["usd"] is None
    assert last["unpriced"] == 40
    assert all("usd" not in row for row in ended.rows)
    assert "COST" not in cli.run("runs", "list").out


def test_a_price_file_that_is_wrong_stops_the_run_before_it_begins(cli: Cli, provider: Simulator) -> None:
    """One sentence with the file and the model; nothing is asked."""
    cli.file("prices.toml", '["openai:simulated"]\ninput = -1\noutput = 1\n')
    ended = cli.run("run", "t.csv", *ASK, "--prices", "prices.toml")
    assert ended.status == 2
    assert "prices.toml, openai:simulated: a price is below 0 or endless." in ended.error
    assert ended.kind == "usage"
    missing = cli.run("run", "t.csv", *ASK, "--prices", "none.toml")
    assert "none.toml cannot be read" in missing.error
    assert provider.ledger(items=False)["requests"] == 0


def test_the_first_call_waits_for_no_price_and_none_goes_unpriced(
    provider: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hosted model's price is looked up while its first call is on its way, once; each call is priced with it. A rerun
    that the store serves looks nothing up."""
    provider.reset()
    sent: list[int] = []

    def look_up(*_args: object, **_named: object) -> Priced:
        sent.append(next((n for n in (requests() for _ in range(500)) if n), 0))
        return Priced(Price((Rate(0, INPUT, INPUT, INPUT, OUTPUT, OUTPUT),)))

    def requests() -> int:
        return int(provider.ledger(items=False)["requests"])

    monkeypatch.setattr("headrace.endpoints.bundled", look_up)
    ask = hr.Ask("What is {item}?", model=hr.Model("openai:simulated", base_url=f"http://0.0.0.0:{provider.port}/v1"))
    run = hr.run(ask, [f"thing {number}" for number in range(40)], store=tmp_path / "s.db", progress=False)
    assert len(sent) == 1
    assert sent[0] >= 1
    assert run.ok == 40
    assert all(outcome.usd for outcome in run)
    assert run.usd == pytest.approx(billed(provider), abs=1e-8)
    hr.run(ask, [f"thing {number}" for number in range(40)], store=tmp_path / "s.db", progress=False)
    assert len(sent) == 1


def test_with_a_budget_the_price_is_there_before_the_first_call(
    provider: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a call may cost at most must be known to let it in."""
    provider.reset()
    sent: list[int] = []

    def look_up(*_args: object, **_named: object) -> Priced:
        sent.append(int(provider.ledger(items=False)["requests"]))
        return Priced(Price((Rate(0, INPUT, INPUT, INPUT, OUTPUT, OUTPUT),)))

    monkeypatch.setattr("headrace.endpoints.bundled", look_up)
    model = hr.Model("openai:simulated", base_url=f"http://0.0.0.0:{provider.port}/v1")
    run = hr.run(
        hr.Ask("What is {item}?", model=model, max_tokens=50),
        ["a", "b"],
        store=tmp_path / "s.db",
        budget=9,
        progress=False,
    )
    assert (sent, run.ok) == ([0], 2)


def test_an_unknown_price_is_told_once_calls_were_made(cli: Cli, provider: Simulator) -> None:
    """Of a server that nobody knows: the run says so, and how many calls are of unknown cost is no secret."""
    cli = Cli(cli.folder, HEADRACE_BASE_URL=f"http://0.0.0.0:{provider.port}/v1")
    ended = cli.run("run", "t.csv", *ASK, "-o", "out.csv")
    assert ended.status == 0, ended.err
    assert ended.err.count("No price is known for simulated at http://0.0.0.0") == 1
    again = cli.run("run", "t.csv", *ASK, "-o", "out.csv")
    assert "No price" not in again.err
