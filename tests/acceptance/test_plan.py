"""`headrace plan` as a user meets it: the real command, a real simulated provider over HTTP."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.cli import Cli
from simulator import Simulator, simulator

WORDS = ("--ask", "Say {text}", "--model")
PRICES = '["openai:m"]\ninput = 1.0\noutput = 4.0\n'


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator("--latency", "0.05", "--limit", "concurrency=10") as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    made = Cli(tmp_path, COLUMNS="80")
    made.table("a.csv", [f"text number {place}" for place in range(120)])
    return made


def planned(cli: Cli, *words: str) -> dict[str, Any]:
    ended = cli.run("plan", "a.csv", *WORDS, *words, "--json")
    assert ended.status == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_a_plan_spends_nothing_and_says_what_it_assumes(cli: Cli, provider: Simulator) -> None:
    """Before a first run nothing is known: the plan says so, calls nobody, and prints a picture without colour."""
    before = provider.ledger()["requests"]
    ended = cli.run("plan", "a.csv", *WORDS, "openai:m", "--base-url", provider.url)
    assert ended.status == 0, ended.err
    assert provider.ledger()["requests"] == before
    assert ended.out.startswith("120 items. Nothing was spent on this forecast.\n")
    assert "Nothing is known of this endpoint's limits" in " ".join(ended.out.split())
    assert re.search(r"^cost +unknown$", ended.out, re.MULTILINE)
    assert re.search(r"^ 100% \S+$", ended.out, re.MULTILINE)
    assert "\x1b" not in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_a_narrow_terminal_gets_no_picture(cli: Cli) -> None:
    """On 40 columns every line fits, and the bars are left out."""
    narrow = Cli(cli.folder, COLUMNS="40", LC_ALL="C")
    ended = narrow.run("plan", "a.csv", *WORDS, "sim:")
    assert ended.status == 0, ended.err
    assert ended.out.isascii()
    assert max(map(len, ended.out.splitlines())) <= 50
    assert "100%" not in ended.out


def test_a_pilot_is_paid_for_once_and_teaches(cli: Cli, provider: Simulator) -> None:
    """The pilot's answers are kept, its calls are not planned again, and its latencies are what is planned with; the
    run then asks only the rest."""
    provider.reset()
    plan = planned(cli, "openai:m", "--base-url", provider.url, "--pilot", "40")
    assert provider.ledger()["paid"] == 40
    assert (plan["items"], plan["stored"], plan["pilot"]) == (120, 40, 40)
    assert 80 <= plan["calls"]["p50"] <= 90
    origins = {each["what"]: each["origin"] for each in plan["assumed"]}
    assert origins["seconds of a call"] == origins["tokens in"] == "learnt"
    assert plan["seconds"]["p10"] <= plan["seconds"]["p50"] <= plan["seconds"]["p90"] < 20
    ended = cli.run("run", "a.csv", *WORDS, "openai:m", "--base-url", provider.url, "--quiet", "-o", "out.csv")
    assert ended.status == 0, ended.err
    assert provider.ledger()["paid"] == 120


def test_what_is_in_the_store_costs_nothing(cli: Cli, provider: Simulator) -> None:
    """After the run there is nothing left to plan, in time or in money."""
    words = ("openai:m", "--base-url", provider.url)
    assert cli.run("run", "a.csv", *WORDS, *words, "--quiet", "-o", "out.csv").status == 0
    plan = planned(cli, *words)
    assert (plan["stored"], plan["calls"]["p90"], plan["seconds"]["p90"]) == (120, 0.0, 0.0)
    fresh = planned(cli, *words, "--fresh")
    assert fresh["stored"] == 0
    assert fresh["calls"]["p50"] >= 120


def test_prices_make_dollars(cli: Cli, provider: Simulator) -> None:
    """With a price there is a cost, and it is that of the tokens."""
    (cli.folder / "prices.toml").write_text(PRICES)
    plan = planned(cli, "openai:m", "--base-url", provider.url, "--prices", "prices.toml")
    usd = (plan["input_tokens"]["p50"] + 4 * plan["output_tokens"]["p50"]) / 1e6
    assert plan["usd"]["p50"] == pytest.approx(usd, rel=0.1)


def test_a_budget_and_a_deadline_are_looked_at(cli: Cli, provider: Simulator) -> None:
    """A budget that is too small binds, and is said to reach so far; one that is large enough is enough."""
    (cli.folder / "prices.toml").write_text(PRICES)
    words = ("openai:m", "--base-url", provider.url, "--prices", "prices.toml")
    plan = planned(cli, *words, "--budget", "0.01", "--deadline", "1")
    assert plan["binding"] == "budget"
    assert 0 < plan["budget_calls"] < plan["calls"]["p50"]
    assert plan["in_time"] == 0.0
    ended = cli.run("plan", "a.csv", *WORDS, *words, "--budget", "100", "--deadline", "5000")
    assert "are enough." in ended.out
    assert "100 of 100 times" in ended.out


def test_the_report_puts_the_forecast_beside_what_happened(cli: Cli, provider: Simulator) -> None:
    """The page of a run that was planned has both; of one that was not, nothing."""
    words = ("openai:m", "--base-url", provider.url)
    planned(cli, *words)
    ended = cli.run("run", "a.csv", *WORDS, *words, "--quiet", "-o", "out.csv", "--report", "r.html")
    assert ended.status == 0, ended.err
    page = (cli.folder / "r.html").read_text()
    assert "What was forecast" in page
    other = cli.run(
        "run", "a.csv", "--ask", "Other {text}", "--model", "sim:", "--quiet", "-o", "o.csv", "--report", "o.html"
    )
    assert other.status == 0, other.err
    assert "What was forecast" not in (cli.folder / "o.html").read_text()


PIPELINE = """
[[stage]]
kind = "ask"
prompt = "Say {text}"
name = "say"

[[stage]]
kind = "filter"
keep = 'text < "text number 6"'
name = "sieve"

[[stage]]
kind = "ask"
prompt = "Is it so: {answer}"
name = "judge"
"""


def test_a_pipeline_is_planned_stage_by_stage(cli: Cli, provider: Simulator) -> None:
    """A pilot tells what each stage costs and lets through: the run then makes as many calls as were foretold, at each
    stage, and takes about as long."""
    (cli.folder / "p.toml").write_text(PIPELINE)
    words = ("p.toml", "a.csv", "--model", "openai:m", "--base-url", provider.url, "--concurrency", "10")
    provider.reset()
    ended = cli.run("plan", *words)
    assert ended.status == 0, ended.err
    assert provider.ledger()["requests"] == 0
    assert "judge: How long its prompts are is not known" in " ".join(ended.out.split())
    assert "sieve: It is taken to let all" not in ended.out  # the column is in the table
    ended = cli.run("plan", *words, "--pilot", "80", "--json")
    assert ended.status == 0, ended.err
    plan = json.loads(ended.out)
    assert [stage["name"] for stage in plan["stages"]] == ["say", "sieve", "judge"]
    paid = provider.ledger()["paid"]
    assert plan["stored"] == paid
    ended = cli.run("run", *words, "--quiet", "-o", "out.jsonl", "--report", "r.html")
    assert ended.status == 0, ended.err
    assert plan["calls"]["p50"] == pytest.approx(provider.ledger()["paid"] - paid, rel=0.2)
    assert "What was forecast" in (cli.folder / "r.html").read_text()


@pytest.mark.parametrize("pilot", ["0", "-3", "many"])
def test_a_pilot_that_cannot_be_is_refused(cli: Cli, pilot: str) -> None:
    """As bad usage, before anything is read."""
    ended = cli.run("plan", "a.csv", *WORDS, "sim:", "--pilot", pilot)
    assert ended.status == 2
    assert "pilot" in ended.error


def test_a_plan_needs_what_a_run_needs(cli: Cli) -> None:
    """Without a question there is nothing to plan, and a missing column is told as the run would tell it."""
    assert cli.run("plan", "a.csv", "--model", "sim:").kind == "usage"
    ended = cli.run("plan", "a.csv", "--ask", "{nothing}", "--model", "sim:")
    assert ended.status == 2
    assert "nothing" in ended.error


def test_a_plan_inside_a_running_event_loop(cli: Cli) -> None:
    """As a notebook has one: it is made beside it."""
    import asyncio
    import os

    from headrace.settings import Settings
    from headrace.sim.plan import plan
    from headrace.task.work import Ask

    async def main() -> Any:
        return plan(Ask("Say {item}", model="sim:"), ["a", "b", "b"], Settings(store=cli.folder / "s.db"), os.environ)

    made = asyncio.run(main())
    assert made.items == 3
    assert made.calls.p50 == 2  # equal items share a call


def test_a_plan_needs_no_key_and_a_pilot_does(cli: Cli) -> None:
    """Nothing is sent for a plan, so a hosted model's key is not asked for; a pilot's calls need it."""
    ended = cli.run("plan", "a.csv", *WORDS, "openai:gpt-5-nano")
    assert (ended.status, ended.err) == (0, ""), ended.err
    assert ended.out.startswith("120 items. Nothing was spent on this forecast.\n")
    ended = cli.run("plan", "a.csv", *WORDS, "openai:gpt-5-nano", "--pilot", "5")
    assert ended.status == 2
    assert "OPENAI_API_KEY" in ended.err


@pytest.mark.parametrize("word", [["-o", "x.csv"], ["--report", "x.html"], ["--show-prompt"], ["--ordered"]])
def test_what_a_plan_does_not_make_is_refused(cli: Cli, word: list[str]) -> None:
    """A plan writes no results and no report: who asks it for them is told, and not only where they stand on the line."""
    ended = cli.run("plan", "a.csv", *WORDS, "sim:", *word)
    assert ended.status == 2
    assert "A plan has no --" in ended.err
    cli.folder.joinpath("headrace.toml").write_text('[run]\noutput = "x.csv"\n')
    assert cli.run("plan", "a.csv", *WORDS, "sim:").status == 0
    assert not cli.folder.joinpath("x.csv").exists()


def test_a_pilot_of_more_than_there_is_tells_what_it_asked(cli: Cli) -> None:
    """A pilot larger than the table asked about all of it, once; a second one about nothing. Neither says more."""
    ended = cli.run("plan", "a.csv", *WORDS, "sim:", "--pilot", "500")
    told = " ".join(ended.out.split())
    assert told == (
        "120 items, 120 answers in the store. The pilot asked about 120 items; its answers are among them. "
        "Nothing is left to ask: a run would cost nothing more."
    )
    ended = cli.run("plan", "a.csv", *WORDS, "sim:", "--pilot", "500")
    assert "Nothing was spent on this forecast." in " ".join(ended.out.split())


def test_a_pilot_tells_items_of_the_table_whatever_is_made_of_them(tmp_path: Path) -> None:
    """Five are made of each: the pilot asked about eight of the table. Where nothing is asked, it asked about none."""
    rows = [{"n": number, "parts": [1, 2, 3]} for number in range(10)]
    ask = hr.Ask("What is {n}?", model="sim:")
    forecast = hr.plan(hr.Pipeline(hr.Expand("parts"), ask), rows, pilot=8, store=tmp_path / "a.db")
    assert forecast.pilot == 8
    assert hr.plan(hr.Pipeline(hr.Filter("n > 100"), ask), rows, pilot=8, store=tmp_path / "b.db").pilot == 0


def test_calls_of_the_last_minute_are_said_to_count(cli: Cli) -> None:
    """What a limit's minute holds already slows the beginning of a run that begins now: the plan says that it counts."""
    words = ("sim:", "--rpm", "60")
    first = planned(cli, *words)
    assert not any("last minute" in note for note in first["notes"])
    second = planned(cli, *words, "--pilot", "10")
    assert any(note.startswith("10 requests of the last minute are in its limit") for note in second["notes"])
