"""A run's outcomes with their items, where only the source has those. Enters a history and its source, leaves a history.

Reads both once and side by side, in bounded memory.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any

import msgspec

from headrace.core.item import Item, Outcome
from headrace.core.ports import Counts, History, RunInfo

_BATCHES_AHEAD = 4
_Read = list[Item] | BaseException | None
"""A batch, what went wrong, or the end."""


class Rejoined:
    """The same history, but each outcome of a scan has its item from the source, known by its position and key.

    An item that the source no longer has, or has in another place, is empty.
    """

    def __init__(self, history: History, source: AsyncIterable[list[Item]]) -> None:
        self._history, self._source = history, source

    def runs(self) -> list[RunInfo]:
        return self._history.runs()

    def run(self, run: str) -> RunInfo | None:
        return self._history.run(run)

    def counts(self, run: str) -> Counts:
        return self._history.counts(run)

    def scan(self, run: str, *, failed_only: bool = False, dropped: bool = False) -> Iterator[Outcome]:
        with closing(_again(self._source)) as items:
            item = next(items, None)
            for outcome in self._history.scan(run, failed_only=failed_only, dropped=dropped):
                while item is not None and item.position < outcome.position:
                    item = next(items, None)
                yield msgspec.structs.replace(outcome, item=_data(item, outcome))


def _data(item: Item | None, outcome: Outcome) -> Any:
    if item is None or item.position != outcome.position:
        return {}
    repeated = f"{item.key} (row {item.position + 1})"
    return item.data if outcome.key in (item.key, repeated) else {}


def _again(source: AsyncIterable[list[Item]]) -> Generator[Item, None, None]:
    """The source's items without an event loop of the reader's own: another thread has one."""
    batches: queue.Queue[_Read] = queue.Queue(_BATCHES_AHEAD)
    closed = threading.Event()

    async def read() -> None:
        iterator: Any = aiter(source)
        async with aclosing(iterator):
            async for batch in iterator:
                if closed.is_set():
                    return
                batches.put(batch)

    def work() -> None:
        try:
            asyncio.run(read())
        except BaseException as error:  # noqa: BLE001 - raised again where it is read
            batches.put(error)
        batches.put(None)

    thread = threading.Thread(target=work, name="headrace-again", daemon=True)
    thread.start()
    try:
        while (read_now := batches.get()) is not None:
            if isinstance(read_now, BaseException):
                raise read_now
            yield from read_now
    finally:
        closed.set()
        while thread.is_alive():
            try:
                batches.get(timeout=0.05)
            except queue.Empty:
                continue
