"""A user's plain function in processes, for work that keeps a core busy. Enter items, leave Replies.

1. One process works on one item at a time; one that dies takes that item with it and no other.
2. A call that is cancelled kills its process, so it is off at once.
3. A process is started when all others work, up to a limit, and ends when it had nothing to do for a while; one that
   worked on many items, or that grew, is replaced.

A thread for each process starts it, talks with it and waits for its end; the event loop never blocks.
"""

import asyncio
import itertools
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import FunctionError, HeadraceError, UsageError, WorkerDied
from headrace.provider.foreign import told
from headrace.provider.process import SAID_OF_ANY, Worker, broken

IDLE_S = 10.0
"""A process that had nothing to do for so long ends: starting one takes a tenth of a second."""
MOST_ITEMS = 10_000
"""And after so many items it is replaced: libraries in C leak a little."""
MOST_GROWTH = 512 * 1024 * 1024
"""Or when it holds so many bytes more than after its first item."""

_numbers = itertools.count(1)


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Job:
    """One item on its way. All but its first fields belong to the pool's lock."""

    def __init__(self, function: "Sent", item: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.item = item
        self.loop = loop
        self.done: asyncio.Future[Reply] = loop.create_future()
        self.worker: Worker | None = None
        """The process it was given to."""
        self.dropped = False
        """Nobody waits for it any more."""

    def settle(self, reply: Reply | None, error: BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self._settle, reply, error)
        except RuntimeError:  # the loop has closed: nobody waits any more
            return

    def _settle(self, reply: Reply | None, error: BaseException | None) -> None:
        if self.done.done():
            return
        if reply is not None:
            self.done.set_result(reply)
        else:
            self.done.set_exception(error or RuntimeError("a call ended without a reply"))


class Sent:
    """A function as bytes, made once. Raises UsageError where it has no such form."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.number = next(_numbers)
        self.data = _pickled(function)


def process_call(function: Callable[[Any], Any], processes: "Processes") -> Call:
    """A Call that hands the request's item to `function` in a process and gives back its result as JSON."""
    sent = Sent(function)

    async def call(request: Request) -> Reply:
        return await processes.run(sent, request.item)

    return call


class Processes:
    """A pool of processes; several functions may share it. Costs nothing until something is run."""

    def __init__(
        self,
        most: int = 0,
        *,
        idle_s: float = IDLE_S,
        most_items: int = MOST_ITEMS,
        most_growth: int = MOST_GROWTH,
    ) -> None:
        """`most` processes at once; 0 is one for each core."""
        self.most = most or cores()
        self._idle_s = idle_s
        self._most_items = most_items
        self._most_growth = most_growth
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._workers: dict[Worker, threading.Thread] = {}
        self._leaving: list[threading.Thread] = []
        """Their processes are gone, and they are about to be."""
        self._idle: list[Worker] = []
        self._jobs: dict[Worker, Job] = {}
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there now."""
        with self._lock:
            return [worker.pid for worker in self._workers if worker.pid]

    async def run(self, function: Sent, item: Any) -> Reply:
        """`function(item)`, once a process is free. Cancelled, it is off at once."""
        job = Job(function, item, asyncio.get_running_loop())
        self._submit(job)
        try:
            return await job.done
        except asyncio.CancelledError:
            self._drop(job)
            raise

    async def close(self) -> None:
        """End all processes, also those that work; returns when they are gone."""
        with self._lock:
            self._closed = True
            waiting, threads = list(self._waiting), [*self._workers.values(), *self._leaving]
            self._waiting.clear()
            for job in waiting:
                job.loop.call_soon_threadsafe(job.done.cancel)
            for worker in self._workers:
                worker.kill()
            while self._idle:
                self._idle.pop().inbox.put(None)
        if threads:
            await asyncio.to_thread(_join, threads)

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._closed:
                raise UsageError("The pool of processes is closed.", hint="Start a new run.")
            if self._idle:
                self._give(self._idle.pop(), job)  # the last that worked: so those not needed get to their end
            else:
                self._waiting.append(job)
                self._grow()

    def _give(self, worker: Worker, job: Job) -> None:
        job.worker = worker
        self._jobs[worker] = job
        worker.inbox.put(job)

    def _grow(self) -> None:
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) < self.most and starting < len(self._waiting):
            worker = Worker()
            thread = threading.Thread(target=self._serve, args=(worker,), name="headrace-process", daemon=True)
            thread.start()  # it waits for the lock before it looks for work
            self._workers[worker] = thread
            starting += 1

    def _drop(self, job: Job) -> None:
        with self._lock:
            job.dropped = True
            if job.worker is None:
                if job in self._waiting:
                    self._waiting.remove(job)
            elif self._jobs.get(job.worker) is job:
                job.worker.kill()

    def _serve(self, worker: Worker) -> None:
        """A process's life, in its thread."""
        trouble: HeadraceError | None = None
        try:
            worker.start()
            while (job := self._next(worker)) is not None:
                self._work(worker, job)
        except HeadraceError as error:
            trouble = error
        except Exception as error:  # noqa: BLE001 - whatever it is: who waits must be told
            trouble = broken(told(error))
        finally:
            worker.end()
            self._ended(worker, trouble)

    def _next(self, worker: Worker) -> Job | None:
        """The next item; None where this process is to end."""
        with self._lock:
            grown = worker.grown_bytes > self._most_growth or worker.items >= self._most_items
            if self._closed or worker.killed or grown:
                return None
            if self._waiting:
                job = self._waiting.popleft()
                job.worker = worker
                self._jobs[worker] = job
                return job
            self._idle.append(worker)
        while True:
            try:
                given: Job | None = worker.inbox.get(timeout=self._idle_s)
            except queue.Empty:
                with self._lock:
                    if worker in self._idle:  # else a job is on its way
                        self._idle.remove(worker)
                        return None
                continue
            return given

    def _work(self, worker: Worker, job: Job) -> None:
        reply: Reply | None = None
        error: HeadraceError | None = None
        try:
            if not worker.is_alive():  # it died while it had nothing to do: no item goes with it
                with self._lock:
                    worker.kill()
                    if not job.dropped:
                        job.worker = None
                        self._waiting.appendleft(job)
                return
            reply = worker.work(job.function.number, job.function.data, _item(job.item))
        except HeadraceError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - as what is no word of a worker's, which a function may have written
            worker.kill()
            error = WorkerDied(f"The process that worked on this item broke ({told(raised)}).", hint=SAID_OF_ANY)
        finally:
            with self._lock:
                self._jobs.pop(worker, None)
        job.settle(reply, error)

    def _ended(self, worker: Worker, trouble: HeadraceError | None) -> None:
        """One is gone; another takes its place where there is work. Where the last one did not start, none will."""
        with self._lock:
            self._leaving = [*filter(threading.Thread.is_alive, self._leaving), self._workers.pop(worker)]
            failed = list(self._waiting) if trouble is not None and not self._workers else []
            for job in failed:
                self._waiting.remove(job)
            if not self._closed and trouble is None:
                self._grow()
        for job in failed:
            job.settle(None, trouble)


def _pickled(function: Callable[[Any], Any]) -> bytes:
    import cloudpickle  # noqa: PLC0415 - only for processes

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:
        raise UsageError(
            f"The function cannot be sent to a process ({type(error).__name__}: {error}).",
            hint="It holds what only this process has, such as a lock, a connection or an open file: make that inside "
            "the function, or run it in threads (mode='thread').",
        ) from error


def _item(item: Any) -> bytes:
    import cloudpickle  # noqa: PLC0415 - as above

    try:
        return bytes(cloudpickle.dumps(item))
    except Exception as error:
        raise FunctionError(
            f"The item cannot be sent to a process ({type(error).__name__}: {error}).",
            hint="Give it plain data, or run the function in threads (mode='thread').",
        ) from error


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
