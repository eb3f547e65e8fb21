"""Items from something that may block, or from an async iterable, arrive in batches as they come.

In: an iterator pulled by one daemon thread, or an async iterator pulled by one task. Out: lists of at most 256.
Knows nothing of files. What was read ahead is bounded in number and in bytes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from threading import Condition, Lock, Thread

from headrace.core.item import Item
from headrace.data.plain import weight

BATCH_ITEMS = 256
AHEAD_ITEMS = 512
_BATCH_BYTES = 2 * 1024 * 1024
_PARCEL_BYTES = 256 * 1024
_AHEAD_BYTES = 8 * 1024 * 1024
_GATHER_S = 0.002
"""After a batch, so long at most until the next: waking the loop for every item of a fast source costs more than
reading it."""


class _Batches:
    """Batches in the making, oldest first, and how much they hold."""

    def __init__(self) -> None:
        self._batches: deque[list[Item]] = deque()
        self._weights: deque[int] = deque()
        self.items = 0
        self.bytes = 0

    def add(self, items: list[Item], bytes_: int) -> None:
        fits = self._batches and len(self._batches[-1]) + len(items) <= BATCH_ITEMS
        if fits and self._weights[-1] + bytes_ <= _BATCH_BYTES:
            self._batches[-1].extend(items)
            self._weights[-1] += bytes_
        else:
            self._batches.append(items)
            self._weights.append(bytes_)
        self.items += len(items)
        self.bytes += bytes_

    def take(self) -> list[Item]:
        if not self._batches:
            return []
        batch = self._batches.popleft()
        self.items -= len(batch)
        self.bytes -= self._weights.popleft()
        return batch


class _Feed:
    """Between one pulling thread and one event loop. Everything in it is touched under its lock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = Lock()
        self._room = Condition(self._lock)
        self._held = _Batches()
        self._waiter: asyncio.Future[None] | None = None
        self._wake_at = 1
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None

    def pull(self, items: Callable[[], Iterator[Item]], at_once: int) -> None:
        """The thread: ends when the items end, when they fail, or when nobody wants them any more."""
        error: BaseException | None = None
        parcel: list[Item] = []
        bytes_ = 0
        try:
            for item in items():
                parcel.append(item)
                bytes_ += weight(item.data)
                if len(parcel) >= at_once or bytes_ >= _PARCEL_BYTES:
                    if not self._put(parcel, bytes_):
                        return
                    parcel, bytes_ = [], 0
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the consumer's to see
            error = raised
        if parcel:
            self._put(parcel, bytes_)
        self._end(error)

    def _put(self, items: list[Item], bytes_: int) -> bool:
        """Waits for room. False where nobody wants them any more."""
        with self._lock:
            while self._full() and not self._closed:
                self._room.wait()
            if self._closed:
                return False
            self._held.add(items, bytes_)
            waiter = self._waiter
            if waiter is None or (self._held.items < self._wake_at and not self._full()):
                return True
            self._waiter = None
        return self._wake(waiter)

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            self._ended, self._error = True, error
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._wake(waiter)

    def _full(self) -> bool:
        return self._held.items >= AHEAD_ITEMS or self._held.bytes >= _AHEAD_BYTES

    def _wake(self, waiter: "asyncio.Future[None]") -> bool:
        """False where the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(_resolve, waiter)
        except RuntimeError:
            return False
        return True

    async def take(self) -> list[Item]:
        """The next items; empty at the end. Raises what the iterator raised, after the items before it."""
        self._wake_at = BATCH_ITEMS
        while True:
            with self._lock:
                if batch := self._held.take():
                    self._room.notify()
                    return batch
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return []
                waiter = self._waiter = self._loop.create_future()
            await self._wait(waiter)

    async def _wait(self, waiter: "asyncio.Future[None]") -> None:
        """For a whole batch, for the end, or for a moment; then for the first item there is."""
        timer = self._loop.call_later(_GATHER_S, _resolve, waiter) if self._wake_at > 1 else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
        self._wake_at = 1

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._room.notify_all()


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def pulled(items: Callable[[], Iterator[Item]], *, at_once: int = 1) -> AsyncIterator[list[Item]]:
    """What a blocking iterator gives. Closing this ends the thread, at the latest when its next item comes.

    Where no item is waited for, as in a file, `at_once` hands them over so many at a time.
    """
    feed = _Feed(asyncio.get_running_loop())
    Thread(target=feed.pull, args=(items, at_once), name="headrace-source", daemon=True).start()
    try:
        while batch := await feed.take():
            yield batch
    finally:
        feed.close()


class _Pump:
    """Between an async iterator, run in a task of its own, and the consumer. No threads, no clock."""

    def __init__(self) -> None:
        self._held = _Batches()
        self._ended = False
        self._error: BaseException | None = None
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, items: AsyncGenerator[Item, None]) -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    self._held.add([item], weight(item.data))
                    self._some.set()
                    while self._held.items >= BATCH_ITEMS or self._held.bytes >= _AHEAD_BYTES:
                        self._room.clear()
                        await self._room.wait()
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the consumer's to see
            self._error = raised
        self._ended = True
        self._some.set()

    async def take(self) -> list[Item]:
        while True:
            if batch := self._held.take():
                self._room.set()
                return batch
            if self._ended:
                if self._error is not None:
                    raise self._error
                return []
            self._some.clear()
            await self._some.wait()


async def pumped(items: AsyncGenerator[Item, None]) -> AsyncIterator[list[Item]]:
    """What an async generator gives, read ahead by at most a batch. It is closed in the task that reads it."""
    pump = _Pump()
    task = asyncio.create_task(pump.run(items), name="headrace-source")
    try:
        while batch := await pump.take():
            yield batch
    finally:
        task.cancel()
        await asyncio.wait([task])
