"""Limits as a user meets them: found, stated and shared, over HTTP, by real processes and by functions of one's own."""

import asyncio
import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.cli import Cli, Ended
from simulator import Simulator, simulator

ASK = ("--ask", "What of {text}?", "--model", "openai:simulated")


def rows(count: int) -> list[str]:
    return [f"row {number}" for number in range(count)]


def asked(provider: Simulator, *words: str, source: str = "a.csv") -> tuple[str, ...]:
    return ("run", source, *ASK, "--base-url", provider.url, *words)


def fine(ended: Ended) -> Ended:
    assert ended.status == 0, ended.err
    return ended


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def refused(provider: Simulator) -> int:
    count: int = provider.ledger(items=False)["by_status"].get("429", 0)
    return count


def test_a_hidden_limit_is_found_and_told(cli: Cli) -> None:
    """Nobody states anything and the provider tells nothing: the run ends well, with few refusals, and says what bound
    it; the next run begins with what was found."""
    cli.table("a.csv", rows(600))
    cli.table("b.csv", [f"another {number}" for number in range(600)])
    with simulator("--latency", "0.2", "--limit", "concurrency=25", "--headers", "none") as provider:
        ended = fine(cli.run(*asked(provider, "-o", "a.jsonl")))
        first = refused(provider)
        assert provider.ledger(items=False)["most_in_flight"] < 100
        assert "bound by concurrency" in ended.err
        fine(cli.run(*asked(provider, "-o", "b.jsonl", source="b.csv")))
        assert refused(provider) - first <= first + 5
    assert first <= 30
    kept = sqlite3.connect(cli.folder / ".headrace" / "store.db").execute("SELECT learnt FROM endpoints").fetchall()
    assert len(kept) == 1
    assert 20 <= json.loads(kept[0][0])["concurrency"] <= 40


def test_limits_in_headers_are_kept(cli: Cli) -> None:
    """A provider that tells its limit is used to it, without a single refusal, from the first answers on."""
    cli.table("a.csv", rows(150))
    with simulator("--limit", "requests=1200/60,kind=bucket,capacity=60", "--headers", "openai") as provider:
        fine(cli.run(*asked(provider, "-o", "a.jsonl")))
        assert refused(provider) == 0


def test_a_stated_rate_is_kept(cli: Cli) -> None:
    """--rpm is never passed: a bucket that holds a few requests refuses none."""
    cli.table("a.csv", rows(60))
    with simulator("--limit", "requests=1200/60,kind=bucket,capacity=20", "--headers", "none") as provider:
        started = time.monotonic()
        fine(cli.run(*asked(provider, "--rpm", "1200", "-o", "a.jsonl")))
        assert refused(provider) == 0
        assert time.monotonic() - started >= (60 - 7) / 20


def test_a_deadline_writes_what_is_done(cli: Cli) -> None:
    """T9: status 1, the rows that are done are in the file, and the same command takes up the rest."""
    cli.table("a.csv", rows(100))
    with simulator("--latency", "0.2") as provider:
        words = asked(provider, "--concurrency", "5", "-o", "a.jsonl")
        ended = cli.run(*words, "--deadline", "1.5")
        assert ended.status == 1
        assert "deadline of 1.5 s" in ended.err
        partial = (cli.folder / "a.jsonl").read_text().splitlines()
        assert 5 <= len(partial) < 60
        fine(cli.run(*words))
        assert len((cli.folder / "a.jsonl").read_text().splitlines()) == 100
        paid = provider.ledger()["items"]
    assert sum(paid.values()) <= 100 + 5


def test_a_quota_that_is_gone_ends_the_command(cli: Cli) -> None:
    """Status 3 and a sentence that says so, without another try."""
    cli.table("a.csv", rows(50))
    with simulator("--faults", "quota=1") as provider:
        ended = cli.run(*asked(provider, "--concurrency", "4"))
        assert ended.status == 3
        assert provider.ledger(items=False)["requests"] <= 4
    assert "quota" in ended.err


def test_a_failure_rate_stops_the_command(cli: Cli) -> None:
    """T10: status 3, the reason, and most of the table is not asked."""
    cli.table("a.csv", rows(300))
    with simulator() as provider:
        words = asked(provider, "--returns", "label: a|b, why: str", "--max-tokens", "2", "--concurrency", "5")
        ended = cli.run(*words, "--max-failure-rate", "10%", "--name", "a b", "-o", "out.csv", "--store", "here.db")
        assert ended.status == 3
        assert provider.ledger(items=False)["requests"] < 300, "each row is asked about twice"
    assert "more than the 10%" in ended.err
    assert (
        "out.csv was not written. What there is by now: headrace runs export 'a b' -o out.csv --store here.db\n"
        in ended.err
    )
    assert cli.run("runs", "export", "a b", "-o", "out.csv", "--store", "here.db").status == 0


def test_two_processes_share_a_stated_limit(cli: Cli) -> None:
    """G9, P19: two commands on one store never have more calls in flight together than they state, also where one of
    them is killed; then the other has it all."""
    cli.table("a.csv", rows(120))
    cli.table("b.csv", [f"another {number}" for number in range(120)])
    with simulator("--latency", "0.3") as provider:
        words = ("--concurrency", "6")
        with (
            cli.start(*asked(provider, *words, "--name", "one", "-o", "one.jsonl")) as one,
            cli.start(*asked(provider, *words, "--name", "two", "-o", "two.jsonl", source="b.csv")) as two,
        ):
            two.until(lambda: len([t for t in provider.ledger()["items"] if "another" in t]) > 10)
            assert provider.ledger(items=False)["most_in_flight"] <= 6
            one.signal(signal.SIGKILL)
            one.end()
            provider.reset()
            assert two.end().status == 0
        ledger = provider.ledger(items=False)
    assert ledger["most_in_flight"] <= 7  # one of the dead one's may not be off the wire yet
    assert ledger["most_in_flight"] >= 5


def test_a_function_with_an_sdk_inside_is_governed(tmp_path: Path) -> None:
    """An SDK's own exceptions are understood: a hidden limit is found through them, and every item gets its answer."""
    openai: Any = pytest.importorskip("openai")
    with simulator("--latency", "0.1", "--limit", "concurrency=8", "--headers", "none") as provider:

        async def main() -> list[hr.Outcome]:
            client = openai.AsyncOpenAI(base_url=provider.url, api_key="sk-none", max_retries=0)

            async def ask(text: str) -> str:
                reply = await client.chat.completions.create(
                    model="simulated", messages=[{"role": "user", "content": text}]
                )
                return str(reply.choices[0].message.content)

            store = tmp_path / "store.db"
            outcomes = [outcome async for outcome in hr.stream(ask, rows(200), store=store)]
            await client.close()
            return outcomes

        outcomes = asyncio.run(main())
        assert all(outcome.ok for outcome in outcomes)
        assert len(outcomes) == 200
        assert refused(provider) <= 40


def test_functions_that_name_an_endpoint_share_it(tmp_path: Path) -> None:
    """Q7: two runs of two functions that name one endpoint have no more calls in flight together than one of them states."""
    now_running = most = 0

    async def work(_item: int) -> int:
        nonlocal now_running, most
        now_running += 1
        most = max(most, now_running)
        for _ in range(20):
            await asyncio.sleep(0)
        now_running -= 1
        return 1

    async def other(item: int) -> int:
        return await work(item)

    async def main() -> None:
        limits = hr.Limits(concurrency=4)
        store = tmp_path / "store.db"
        await asyncio.gather(
            hr.arun(hr.Map(work, endpoint="theirs"), range(60), store=store, limits=limits),
            hr.arun(hr.Map(other, endpoint="theirs"), range(60), store=store),
        )

    asyncio.run(main())
    assert most == 4


def test_the_words_reach_the_settings() -> None:
    """Every word of flow control is a setting of the Python face as well, and is checked there too."""
    for wrong in (
        {"concurrency": "many"},
        {"concurrency": True},
        {"rpm": 0},
        {"tpm": -1},
        {"rpm": float("nan")},
        {"rpm": "60"},
        {"rpm": True},
    ):
        with pytest.raises(hr.UsageError):
            hr.Limits(**wrong)
    wrong_settings: tuple[dict[str, Any], ...] = (
        {"deadline": 0}, {"deadline": "5"}, {"backup": "2%"}, {"timeout": None}, {"limits": 5}, {"retry": 3},
        {"max_failure_rate": "10%"}, {"backup": 2}, {"max_failure_rate": 7}, {"weight": 0}, {"priority": "urgent"},
    )  # fmt: skip
    for settings in wrong_settings:
        with pytest.raises(hr.UsageError):
            hr.run(len, ["a"], **settings)
