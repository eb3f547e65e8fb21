"""Threads for plain functions. They are daemons: one that hangs must hold up neither the run nor the program's end."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from headrace.core.call import Reply, StillRunning

Job = tuple[Callable[[], Reply], asyncio.AbstractEventLoop, "asyncio.Future[Reply]"]


class Threads:
    """As many threads as there are calls at once, reused. How many that is, the gate decides."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Job | None]] = []

    async def run(self, work: Callable[[Any], Reply], item: Any) -> Reply:
        """`work(item)` in a thread, with this task's context variables. Raises StillRunning when cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Reply] = loop.create_future()
        inbox = self._idle.pop() if self._idle else self._start()
        context = contextvars.copy_context()
        inbox.put((lambda: context.run(work, item), loop, done))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if done.done() and not done.cancelled():
                raise
            raise StillRunning(done) from None

    def close(self) -> None:
        """Let idle threads end; busy ones end with the program."""
        while self._idle:
            self._idle.pop().put(None)

    def _start(self) -> "queue.SimpleQueue[Job | None]":
        inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(inbox,), name="headrace-function", daemon=True).start()
        return inbox

    def _serve(self, inbox: "queue.SimpleQueue[Job | None]") -> None:
        while (job := inbox.get()) is not None:
            work, loop, done = job
            try:
                reply, error = work(), None
            except BaseException as raised:  # noqa: BLE001 - it belongs to the caller, whatever it is
                reply, error = None, raised
            self._idle.append(inbox)  # before the caller wakes: its next call finds this thread
            try:
                loop.call_soon_threadsafe(_settle, done, reply, error)
            except RuntimeError:  # the loop has closed: nobody waits any more
                return


def _settle(done: "asyncio.Future[Reply]", reply: Reply | None, error: BaseException | None) -> None:
    if done.cancelled():
        return
    if reply is not None:
        done.set_result(reply)
    else:
        done.set_exception(error or RuntimeError("a call ended without a reply"))
