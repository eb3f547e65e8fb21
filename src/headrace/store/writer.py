"""One thread that writes, in groups: whatever is asked for within 20 ms is one transaction; after a pause the first few
are written at once, so that a run that begins or ends waits for the disk and for no clock.

Enters jobs from the event loop, leaves their results there; the loop never waits for the disk.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from headrace.core.errors import StoreError

GROUP_S = 0.02
_AHEAD_S = 4 * GROUP_S
"""So much earlier than its turn a group may be written: five at once, and not more of them in a second."""

Apply = Callable[[sqlite3.Connection, Sequence[Any]], list[Any]]
"""Writes a group inside a transaction that is already open; one result for each job."""


class _Job(NamedTuple):
    asked: Any
    done: "asyncio.Future[Any] | None"
    vital: bool


class Writer:
    def __init__(self, connection: sqlite3.Connection, apply: Apply, told: Callable[[Exception], StoreError]) -> None:
        """`told` makes what went wrong a sentence."""
        self._connection = connection
        self._apply = apply
        self._told = told
        self._jobs: list[_Job] = []
        self._groups: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, list[_Job]] | None] = queue.SimpleQueue()
        self._broken: StoreError | None = None
        self._turn_s = 0.0
        self._scheduled = False
        self._durable = True
        self._thread = threading.Thread(target=self._serve, name="headrace-store", daemon=True)
        self._thread.start()

    async def write(self, job: Any, *, vital: bool = True) -> Any:
        """The job's result, once its group is durable. Raises StoreError where the group could not be written.

        Where a vital job could not be written, none will be any more. A group without one is written, but may be lost
        with the machine's power; and where it could not be written, the next one still can.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._jobs.append(_Job(job, done, vital))
        self._schedule(loop)
        return await done

    def post(self, job: Any, *, vital: bool = True) -> None:
        """Write the job before all that is asked for later, without waiting for it."""
        self._jobs.append(_Job(job, None, vital))
        self._schedule(asyncio.get_running_loop())

    async def close(self) -> None:
        """After all that was asked for is written."""
        if self._thread.is_alive():
            self._flush(asyncio.get_running_loop())
            self._groups.put(None)
            await asyncio.to_thread(self._thread.join)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_at(max(loop.time(), self._turn_s - _AHEAD_S), self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        self._turn_s = max(self._turn_s, loop.time()) + GROUP_S
        if self._jobs:
            self._groups.put((loop, self._jobs))
            self._jobs = []

    def _serve(self) -> None:
        while (group := self._groups.get()) is not None:
            loop, jobs = group
            results = self._broken or self._write(jobs)
            try:
                loop.call_soon_threadsafe(_hand_back, jobs, results)
            except RuntimeError:  # the loop has closed: nobody waits any more
                continue

    def _write(self, jobs: list[_Job]) -> list[Any] | StoreError:
        vital = any(job.vital for job in jobs)
        try:
            self._reach_disk(vital)
            self._connection.execute("BEGIN IMMEDIATE")
            results = self._apply(self._connection, [job.asked for job in jobs])
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            told = self._told(error)
            if vital:
                self._broken = told
            return told
        return results

    def _reach_disk(self, durable: bool) -> None:  # noqa: FBT001
        """What is not vital may be lost with the machine's power, and holds nobody up while the disk turns."""
        if durable != self._durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def _hand_back(jobs: list[_Job], results: list[Any] | StoreError) -> None:
    for index, (_, done, _) in enumerate(jobs):
        if done is None or done.done():  # posted, or its caller was cancelled
            continue
        if isinstance(results, StoreError):
            done.set_exception(results)
        else:
            done.set_result(results[index])
