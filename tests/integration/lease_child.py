"""A process that shares an endpoint: it makes calls as fast as it may and writes each begin and end into a ledger.

    python lease_child.py STORE LEDGER CALLS REQUESTS_PER_MIN CALL_S RENEW_S

A line of the ledger is `NANOSECONDS PID SIGN`, on the clock that all processes of a machine share. Ends with its input.
"""

import asyncio
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from borrower import CALLS, REQUESTS, Till
from headrace.engine.lender import Lender
from headrace.store.sqlite import SqliteStore

HERE = "openai https://example.org gpt 0123456789abcdef"
TICK_S = 0.004


class Sender:
    def __init__(self, ledger: Path, till: Till, call_s: float) -> None:
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._till, self._call_s = till, call_s
        self._chance = random.Random(os.getpid())
        self._over = asyncio.get_running_loop().create_future()

    def tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self._till.waiting and self._till.start(loop.time()):
            self._write("+")
            loop.call_later(self._call_s * self._chance.uniform(0.5, 1.5), self._end)
        loop.call_later(TICK_S, self.tick)

    def _end(self) -> None:
        self._write("-")
        self._till.end()
        if not self._till.waiting and not self._till.in_flight and not self._over.done():
            self._over.set_result(None)

    def _write(self, sign: str) -> None:
        os.write(self._ledger, f"{time.monotonic_ns()} {os.getpid()} {sign}\n".encode())

    async def drained(self) -> None:
        self._till.waiting = 0
        if self._till.in_flight:
            await self._over


async def main(store_path: str, ledger: str, calls: str, requests: str, call_s: str, renew_s: str) -> None:
    limits = {unit: float(word) for unit, word in ((CALLS, calls), (REQUESTS, requests)) if float(word)}
    store = SqliteStore(Path(store_path))
    till = Till(limits)
    till.waiting = 1000
    till.tick(asyncio.get_running_loop().time())
    lender = Lender(store, HERE, till, renew_s=float(renew_s))
    await lender.open()
    sender = Sender(Path(ledger), till, float(call_s))
    sender.tick()
    renewals = asyncio.ensure_future(lender.run())
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await sender.drained()
    renewals.cancel()
    with suppress(asyncio.CancelledError):
        await renewals
    await lender.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
