"""An asyncio event loop whose clock is a number: waiting costs nothing, and a run replays exactly.

Enters a coroutine, leaves its result. Knows no threads and no sockets, and refuses both.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SHOWN_TASKS = 12


class Deadlock(Exception):
    """Nothing can ever happen any more: no callback is ready and no timer is set, or virtual time passed its limit."""


class NotVirtual(RuntimeError):
    """Something asked virtual time for a thread, a socket or a process, which live in real time."""


class _Selector(selectors.BaseSelector):
    """Polls what is registered (only the loop's own wake-up pipe); where it would have slept, it adds to `now_s`."""

    def __init__(self, limit_s: float) -> None:
        self.now_s = 0.0
        self.sealed = False
        self.stuck: Callable[[str], NoReturn] | None = None
        self._limit_s = limit_s
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.sealed:
            raise NotVirtual("There are no sockets or pipes in virtual time: use an in-process provider.")
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return []  # callbacks are ready; signals are looked for before time moves
        if events := self._real.select(0):
            return events
        if timeout is None:
            self._give_up("nothing is ready and no timer is set")
        self.now_s += timeout
        if self.now_s > self._limit_s:
            self._give_up(f"virtual time passed its limit of {self._limit_s:g} s")
        return []

    def _give_up(self, why: str) -> NoReturn:
        # Unwinding cancels what is left, and that needs a clock that still moves.
        self._limit_s = float("inf")
        if self.stuck is not None:
            self.stuck(why)
        raise Deadlock(why)


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on a virtual clock that starts at 0 and passes `limit_s` only into a Deadlock."""

    def __init__(self, *, limit_s: float = 1e7) -> None:
        self._virtual = _Selector(limit_s)
        self._owner = threading.get_ident()
        super().__init__(self._virtual)
        self._virtual.sealed = True
        self._virtual.stuck = self._stuck

    def time(self) -> float:
        return self._virtual.now_s

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From the loop's own thread only: asyncio itself needs that for Ctrl-C and asynchronous generators."""
        if threading.get_ident() != self._owner:
            raise NotVirtual("There are no threads in virtual time: call_soon_threadsafe came from another thread.")
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  (asyncio's signature)
        func: Callable[[*Ts], T],
        *args: *Ts,  # noqa: ARG002
    ) -> NoReturn:
        name = getattr(func, "__qualname__", repr(func))
        raise NotVirtual(f"There are no threads in virtual time: {name} was to run in an executor.")

    def _stuck(self, why: str) -> NoReturn:
        pending = sorted(asyncio.all_tasks(self), key=lambda task: (len(task.get_name()), task.get_name()))
        lines = [f"  {_describe(task)}" for task in pending[:SHOWN_TASKS]]
        if len(pending) > SHOWN_TASKS:
            lines.append(f"  and {len(pending) - SHOWN_TASKS} more")
        waiting = "\n".join(lines) or "  (no task is pending)"
        raise Deadlock(f"Deadlock at {self.time():g} virtual seconds: {why}. Pending tasks:\n{waiting}")


def _describe(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    frames = task.get_stack()
    where = f" at {frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else ""
    return f"{task.get_name()} ({name}) waits{where}"


def run(main: Coroutine[Any, Any, T], *, limit_s: float = 1e7) -> T:
    """Run `main` to its end in virtual time and cancel what it leaves behind; raises Deadlock instead of hanging."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s=limit_s)) as runner:
        return runner.run(main)
