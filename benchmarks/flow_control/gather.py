"""What both peers are given: a function that asks once, under a semaphore in a gather, as their documents show it.

Runs in a peer's own environment: it knows only the standard library. The job comes on standard input as JSON.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Ask = Callable[[str], Awaitable[str | None]]


def job() -> dict[str, Any]:
    found: dict[str, Any] = json.load(sys.stdin)
    return found


async def gathered(ask: Ask, prompts: list[str], in_flight: int, cap_s: float) -> dict[str, Any]:
    """How many were answered, how long that took, and what became of the others."""
    semaphore = asyncio.Semaphore(in_flight)
    ended: Counter[str] = Counter()

    async def one(prompt: str) -> None:
        async with semaphore:
            try:
                ended["ok" if await ask(prompt) else "empty"] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the item is lost
                ended[type(error).__name__] += 1

    start = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*[one(prompt) for prompt in prompts]), cap_s)
    seconds = min(cap_s, time.perf_counter() - start)
    return {"ok": ended.pop("ok", 0), "seconds": seconds, "why": dict(ended)}


def tell(found: dict[str, Any], version: str) -> None:
    """The last word of this process: what still runs in it is left behind."""
    sys.stdout.write(json.dumps({**found, "version": version}) + "\n")
    sys.stdout.flush()
    os._exit(0)
