"""A process that spends of a budget: it makes calls as long as there is money, and writes each into a ledger.

    python budget_child.py STORE LEDGER RUN LIMIT_USD WORST_USD AT_ONCE SEED

A line of the ledger is `CALL WORST_USD` before a call and `CALL - USD` after it; what a killed process began counts at
worst. Ends when nothing is left, and then prints what it was told.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from headrace.core.errors import HeadraceError
from headrace.engine.purse import Allowance, Treasurer, Waiting
from headrace.store.sqlite import SqliteStore


class Spender:
    def __init__(self, treasurer: Treasurer, ledger: Path, worst_usd: float, seed: int) -> None:
        self._treasurer, self._worst_usd = treasurer, worst_usd
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._chance = random.Random(seed)
        self.over = asyncio.Event()

    async def work(self, name: str) -> None:
        for number in range(1_000_000):
            worst_usd = self._worst_usd * self._chance.uniform(0.5, 1.0)
            waited = None
            while not self._treasurer.take(worst_usd, waited):
                there = asyncio.Event()
                again, waited = waited is not None, Waiting(worst_usd, self.over.is_set, there.set)
                self._treasurer.wait(waited, again=again)
                await there.wait()
            call = f"{os.getpid()}-{name}-{number}"
            self._write(f"{call} {worst_usd!r}")
            answered = asyncio.Event()
            asyncio.get_running_loop().call_later(self._chance.uniform(0.0, 0.004), answered.set)
            await answered.wait()
            usd = worst_usd * self._chance.random() ** 3
            known = self._chance.random() > 0.02
            self._write(f"{call} - {usd if known else worst_usd!r}")
            self._treasurer.settle(worst_usd, usd if known else None)

    def _write(self, line: str) -> None:
        os.write(self._ledger, f"{line}\n".encode())


async def main(store_path: str, ledger: str, run: str, limit: str, worst: str, at_once: str, seed: str) -> None:
    store = SqliteStore(Path(store_path))
    told: list[HeadraceError] = []
    ended = asyncio.Event()

    def fatal(error: HeadraceError) -> None:
        told.append(error)
        ended.set()

    treasurer = Treasurer(store, Allowance("shared", float(limit)), run, emit=lambda _event: None, fatal=fatal)
    await treasurer.open()
    spender = Spender(treasurer, Path(ledger), float(worst), int(seed))
    drawing = asyncio.ensure_future(treasurer.run())
    print("open", flush=True)
    workers = [asyncio.ensure_future(spender.work(str(number))) for number in range(int(at_once))]
    await asyncio.wait((drawing, asyncio.ensure_future(ended.wait())), return_when=asyncio.FIRST_COMPLETED)
    spender.over.set()
    for task in (*workers, drawing):
        task.cancel()
    await asyncio.gather(*workers, drawing, return_exceptions=True)
    await treasurer.close()
    await store.close()
    print(told[0].message if told else "broken", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
