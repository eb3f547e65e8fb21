"""G4 between processes: runs that share a store pay once for equal requests, and outlive each other's death."""

import json
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from acceptance.cli import DEADLINE_S, Cli, wait_for
from acceptance.endpoint import Asked, completion, endpoint
from simulator import simulator

ASK = ("--ask", "{text}")
CONCURRENCY = 10
TEXTS = [f"row {number}" for number in range(400)]


def words(source: str, url: str, name: str) -> tuple[str, ...]:
    return (
        "run", source, *ASK, "--model", "openai:simulated", "--base-url", url, "--name", name, "-o", f"{name}.jsonl",
        "--concurrency", str(CONCURRENCY),
    )  # fmt: skip


def texts_of(folder: Path, name: str) -> list[str]:
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    assert all(row["error"] is None and row["answer"] for row in rows)
    return [row["text"] for row in rows]


def test_runs_at_once_pay_once(tmp_path: Path) -> None:
    """Four runs begin together on a store that is not there yet, in two orders of the rows: each row is paid once."""
    cli = Cli(tmp_path)
    cli.table("a.csv", TEXTS)
    cli.table("b.csv", TEXTS[::-1])
    runs = {"one": "a.csv", "two": "b.csv", "three": "a.csv", "four": "b.csv"}
    with simulator("--latency", "lognormal:0.05,0.5") as provider, ExitStack() as stack:
        children = [stack.enter_context(cli.start(*words(source, provider.url, name))) for name, source in runs.items()]
        for child in children:
            ended = child.end()
            assert ended.status == 0, ended.err
        ledger = provider.ledger()
    assert ledger["items"] == dict.fromkeys(TEXTS, 1)
    assert ledger["by_status"] == {"200": len(TEXTS)}
    for name, source in runs.items():
        assert texts_of(tmp_path, name) == (TEXTS if source == "a.csv" else TEXTS[::-1])


def test_one_is_killed_and_the_other_finishes(tmp_path: Path) -> None:
    """The survivor takes over what the dead one had claimed; only what was sent and not committed is paid again."""
    cli = Cli(tmp_path)
    cli.table("a.csv", TEXTS)
    cli.table("b.csv", TEXTS[::-1])
    with simulator("--latency", "0.1") as provider:
        with (
            cli.start(*words("a.csv", provider.url, "one")) as one,
            cli.start(*words("b.csv", provider.url, "two")) as two,
        ):
            one.until(lambda: provider.ledger(items=False)["paid"] > 80)
            one.signal(signal.SIGKILL)
            one.end()
            assert two.end().status == 0
        again = cli.run(*words("a.csv", provider.url, "one"))
        assert again.status == 0
        items = Counter(provider.ledger()["items"])
    assert texts_of(tmp_path, "two") == TEXTS[::-1]
    assert texts_of(tmp_path, "one") == TEXTS
    assert set(items) == set(TEXTS)
    assert max(items.values()) <= 2
    assert sum(items.values()) - len(TEXTS) <= 3 * CONCURRENCY


def test_claims_of_the_living_are_waited_for(tmp_path: Path) -> None:
    """While its owner lives, a claim is waited for and nothing is sent; that wait can be interrupted; when the owner
    dies, the one who waits asks."""
    answering = threading.Event()

    def answer(_asked: Asked) -> tuple[int, str]:
        answering.wait(DEADLINE_S)
        return completion("yes")

    cli = Cli(tmp_path)
    cli.table("a.csv", TEXTS[:8])
    with endpoint(answer) as server, cli.start(*words("a.csv", server.url, "one")) as one:
        try:
            one.until(lambda: len(server.asked) == 8)
            with (
                cli.start(*words("a.csv", server.url, "two")) as two,
                cli.start(*words("a.csv", server.url, "three")) as three,
            ):
                two.told("at most 10 calls at a time")
                three.told("at most 10 calls at a time")
                three.signal(signal.SIGINT)
                assert three.process.wait(DEADLINE_S) == 130
                assert "Traceback" not in three.end().err
                assert len(server.asked) == 8
                one.signal(signal.SIGKILL)
                one.end()
                wait_for(lambda: len(server.asked) == 16)
                answering.set()
                assert two.end().status == 0
        finally:
            answering.set()
    assert texts_of(tmp_path, "two") == TEXTS[:8]


def test_what_fails_for_one_is_asked_by_the_other(tmp_path: Path) -> None:
    """A claim that ends without an answer is given up: the other asks for itself, and nobody waits for ever."""

    def answer(asked: Asked) -> tuple[int, str]:
        text = asked.body["messages"][-1]["content"]
        return (400, '{"error": {"message": "no"}}') if text.endswith("3") else completion("yes")

    cli = Cli(tmp_path)
    cli.table("a.csv", TEXTS[:40])
    with endpoint(answer) as server:
        with cli.start(*words("a.csv", server.url, "one")) as one, cli.start(*words("a.csv", server.url, "two")) as two:
            ended = [one.end(), two.end()]
        counted = Counter(asked.body["messages"][-1]["content"] for asked in server.asked)
    assert [each.status for each in ended] == [1, 1]
    assert {text: counted[text] for text in TEXTS[:40]} == {text: 2 if text.endswith("3") else 1 for text in TEXTS[:40]}
