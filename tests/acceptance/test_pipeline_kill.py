"""G2, G4 and A3 against kill -9: a pipeline that fetches, reads and asks, killed at random moments and resumed."""

import asyncio
import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from acceptance.cli import wait_for
from acceptance.site import GONE, Site, site, words
from headrace.core.call import Request
from headrace.core.digest import Digest
from headrace.core.item import Item
from headrace.provider.simulated import Simulated
from headrace.task.ask import AskTask
from headrace.task.fetch import Fetch, FetchTask
from headrace.task.prompt import Template
from simulator import Simulator, simulator

KILLS = max(10, int(100 * float(os.environ.get("HEADRACE_SCALE", "0.1"))))
ROWS = 400
CONCURRENCY = 10
LIFE_S = 3.5
"""A session's longest life: about a third of it is start-up."""
PIPELINE = """
[[stage]]
kind = "fetch"
url = "{link}"
allow = ["127.0.0.1"]
concurrency = 10
per_host = 10

[[stage]]
kind = "extract"
keep = ["title", "text"]

[[stage]]
kind = "ask"
prompt = "What is sold at {title}?"
"""
QUESTION = "What is sold at About {}?"


class Attack:
    """One table after another is run, killed and rerun to its end. What was stored may never be asked for again."""

    def __init__(self, folder: Path, provider: Simulator, there: Site) -> None:
        self._folder, self._provider, self._site = folder, provider, there
        self._chance = random.Random(7)
        self.kills = self.tables = self.most_asked_again = self.most_fetched_again = self.in_the_middle = 0
        self._fetched: Counter[str] = Counter()
        """How often each page may have been fetched."""
        self._asked: Counter[str] = Counter()
        (folder / "pipeline.toml").write_text(PIPELINE)
        self._asks = AskTask(Template("{text}"), endpoint=("openai", provider.url), model="simulated")
        self._fetches = FetchTask(Fetch("{link}"), now=time.time())

    def run(self, kills: int) -> None:
        while self.kills < kills:
            self.tables += 1
            self._table(kills)

    def _table(self, kills: int) -> None:
        """Kills until enough or until a session finishes first; then to the end, and the books are compared."""
        names = [f"{GONE if number % 20 == 9 else 'page'}-{self.tables}-{number}" for number in range(ROWS)]
        source, output = self._folder / f"t{self.tables}.csv", self._folder / f"t{self.tables}.jsonl"
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([["link"], *([f"{self._site.url}/{name}"] for name in names)])
        while self.kills < kills and self._session(source, output):
            self._settle_books(names)
        ended = subprocess.run(self._command(source, output), check=False, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 1, ended.stderr  # the pages that are gone
        self._compare(names, [json.loads(line) for line in output.read_text().splitlines()])

    def _compare(self, names: list[str], rows: list[dict[str, str]]) -> None:
        assert [row["link"].rpartition("/")[2] for row in rows] == names, "an item was lost, doubled or moved"
        texts = {name: row["text"] for name, row in zip(names, rows, strict=True) if not name.startswith(GONE)}
        assert all(words(name) in text for name, text in texts.items()), "a text was paired with another's item"
        texts = {name: QUESTION.format(name) for name in texts}
        expected = dict(zip(texts, self._expected(list(texts.values())), strict=True))
        for name, row in zip(names, rows, strict=True):
            gone = name.startswith(GONE)
            assert row["answer"] == (None if gone else expected[name])
            assert row["error"] == ("page: 127.0.0.1 answered 404." if gone else None)
        paid = self._paid()
        for name in names:
            fetched = self._site.asked[name]
            assert 1 <= fetched <= 1 + self._fetched[name], f"{name}: fetched {fetched} times"
        for text in texts.values():
            assert 1 <= paid[text] <= 1 + self._asked[text], f"{text}: paid {paid[text]} times"
        assert set(paid) <= set(texts.values()) | set(self._asked), "something was asked that is no item's question"
        self._asked.update(dict.fromkeys(texts.values(), 0))

    def _session(self, source: Path, output: Path) -> bool:
        """Start a run and kill it at a random moment; False where it ended before. Its workers end with it."""
        process = subprocess.Popen(self._command(source, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._chance.uniform(0.3, LIFE_S))
        workers = _children(process.pid)
        process.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(_lives(worker) for worker in workers))
        _, said = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 1, said
            return False
        self.kills += 1
        self.in_the_middle += bool(workers)
        return True

    def _settle_books(self, names: list[str]) -> None:
        """What was fetched or paid and is not in the store may be so once more; all else may not."""
        wait_for(lambda: not self._site.in_flight)
        wait_for(lambda: not self._provider.ledger(items=False)["in_flight"])
        stored = self._stored()
        lost = [
            name for name in names if self._site.asked[name] > self._fetched[name] and not self._is_kept(name, stored)
        ]
        self._fetched.update(lost)
        paid = self._paid()
        asked = [text for text in paid if paid[text] > self._asked[text] and self._ask(text).digest not in stored]
        self._asked.update(asked)
        self.most_fetched_again = max(self.most_fetched_again, len(lost))
        self.most_asked_again = max(self.most_asked_again, len(asked))

    def _is_kept(self, name: str, stored: set[Digest]) -> bool:
        return self._fetches.request(Item("", 0, {"link": f"{self._site.url}/{name}"})).digest in stored

    def _paid(self) -> Counter[str]:
        return Counter(self._provider.ledger()["items"])

    def _stored(self) -> set[Digest]:
        """The digests of what is in the store, which must be whole."""
        path = self._folder / "store.db"
        if not path.exists():
            return set()
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return {digest for (digest,) in connection.execute("SELECT digest FROM answers")}
        except sqlite3.OperationalError:  # killed before its tables were made
            return set()
        finally:
            connection.close()

    def _ask(self, text: str) -> Request:
        return self._asks.request(Item("", 0, {"text": text}))

    def _expected(self, texts: list[str]) -> list[str]:
        async def ask() -> list[str]:
            simulated = Simulated()
            return [(await simulated(self._ask(text))).text for text in texts]

        return asyncio.run(ask())

    def _command(self, source: Path, output: Path) -> list[str]:
        return [
            sys.executable, "-m", "headrace", "run", str(self._folder / "pipeline.toml"), str(source), "--model",
            "openai:simulated", "--base-url", self._provider.url, "--concurrency", str(CONCURRENCY), "-o", str(output),
            "--quiet", "--store", str(self._folder / "store.db"),
        ]  # fmt: skip


def _children(pid: int) -> list[int]:
    """Its children and theirs."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has just ended
            found += [int(word) for word in thread.read_text().split()]
    return [each for child in found for each in (child, *_children(child))]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_pipeline_killed_at_random_moments(tmp_path: Path) -> None:
    """No item is lost and none doubled; no page and no answer that was stored is asked for again; what was in flight is
    no more than the limits let be there; the workers of a killed process end.

    A tenth of the kills of `make bench`: 100.
    """
    with simulator("--latency", "lognormal:0.03,0.5") as provider, site(delay_s=0.02) as there:
        attack = Attack(tmp_path, provider, there)
        attack.run(KILLS)
    assert attack.kills == KILLS
    assert attack.in_the_middle >= KILLS // 4
    assert attack.most_fetched_again <= 3 * CONCURRENCY
    assert attack.most_asked_again <= 3 * CONCURRENCY
