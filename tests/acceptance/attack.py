"""Kills a real run with -9 again and again, and holds the store against the provider's own ledger after each kill."""

import asyncio
import csv
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from headrace.core.call import Request
from headrace.core.item import Item
from headrace.provider.simulated import Simulated
from headrace.task.ask import AskTask
from headrace.task.prompt import Template
from simulator import Simulator

ROWS = 1500
CONCURRENCY = 20
LIFE_S = 2.0
"""A session's longest life: about half of it is start-up."""
DEADLINE_S = 60.0


class Attack:
    """One table after another is run, killed and rerun to its end."""

    def __init__(self, folder: Path, provider: Simulator, seed: int) -> None:
        self._folder, self._provider, self._chance = folder, provider, random.Random(seed)
        self.kills = self.kills_in_commit = self.repeats = self.most_lost = self.tables = 0
        self._allowed: Counter[str] = Counter()
        self._task = AskTask(Template("{text}"), endpoint=("openai", provider.url), model="simulated")

    def run(self, kills: int) -> None:
        while self.kills < kills:
            self.tables += 1
            self._table(kills)

    def _table(self, kills: int) -> None:
        """A new table: kills until enough or until a session finishes first; then to the end, and the books are compared."""
        texts = [f"table {self.tables} row {number}" for number in range(ROWS)]
        source = self._folder / f"t{self.tables}.csv"
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
        self._allowed = Counter(dict.fromkeys(texts, 1))
        output = self._folder / f"t{self.tables}.jsonl"
        while self.kills < kills and self._session(source, output, self._chance.random() < 0.5):
            self._settle_books(texts)
        ended = subprocess.run(self._command(source, output), check=False, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["text"] for row in rows] == texts, "an item was lost, doubled or moved"
        assert [row["answer"] for row in rows] == self._expected(texts), "an answer was paired with another's item"
        assert all(row["error"] is None for row in rows)
        paid = self._paid()
        for text in texts:
            assert 1 <= paid[text] <= self._allowed[text], f"{text}: paid {paid[text]}, allowed {self._allowed[text]}"
        self.repeats += sum(paid[text] - 1 for text in texts)

    def _session(self, source: Path, output: Path, in_commit: bool) -> bool:
        """Start a run and kill it at a random moment; False where it ended before."""
        wal = self._folder / "store.db-wal"
        process = subprocess.Popen(self._command(source, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _let_it_run(process, self._chance.uniform(0.2, LIFE_S))
        if in_commit:  # the moment the log grows is the middle of a commit
            size, deadline = _size(wal), time.monotonic() + 1.0
            while _size(wal) == size and time.monotonic() < deadline and process.poll() is None:
                pass
            _let_it_run(process, self._chance.uniform(0, 0.002))
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said
            return False
        self.kills += 1
        self.kills_in_commit += in_commit
        return True

    def _settle_books(self, texts: list[str]) -> None:
        """What was paid and is not in the store may be paid once more; all else may not."""
        deadline = time.monotonic() + DEADLINE_S
        while self._provider.ledger(items=False)["in_flight"]:
            assert time.monotonic() < deadline
        stored = self._stored()
        lost = [
            text
            for text, count in self._paid().items()
            if text in self._allowed and text not in stored and count == self._allowed[text]
        ]
        self._allowed.update(lost)
        self.most_lost = max(self.most_lost, len(lost))

    def _paid(self) -> Counter[str]:
        return Counter(self._provider.ledger()["items"])

    def _stored(self) -> set[str]:
        """The prompts whose answers are in the store, which must be whole."""
        path = self._folder / "store.db"
        if not path.exists():
            return set()
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            digests = {digest for (digest,) in connection.execute("SELECT digest FROM answers")}
        except sqlite3.OperationalError:  # killed before its tables were made
            return set()
        finally:
            connection.close()
        return {text for text in self._allowed if self._request(text).digest in digests}

    def _request(self, text: str) -> Request:
        return self._task.request(Item("", 0, {"text": text}))

    def _expected(self, texts: list[str]) -> list[str]:
        """What the simulated provider answers to these prompts."""

        async def ask() -> list[str]:
            simulated = Simulated()
            return [(await simulated(self._request(text))).text for text in texts]

        return asyncio.run(ask())

    def _command(self, source: Path, output: Path) -> list[str]:
        return [
            sys.executable, "-m", "headrace", "run", str(source), "--ask", "{text}", "--model", "openai:simulated",
            "--base-url", self._provider.url, "--concurrency", str(CONCURRENCY), "-o", str(output), "--quiet",
            "--store", str(self._folder / "store.db"),
        ]  # fmt: skip


def _let_it_run(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
