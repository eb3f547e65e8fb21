"""The virtual loop without what only a debugger and real sockets need: for rehearsals of 100,000 calls.

What is ready is called in the order in which it came, before time goes on; timers by time, then by when they were set.
Knows no debug mode and no contexts of their own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from headrace.sim.loop import Deadlock, NotVirtual, VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Soon(asyncio.Handle):
    """What stands for all that is to be called at once: it will be, and nobody here calls that off."""

    __slots__ = ()

    def __init__(self) -> None: ...

    def cancel(self) -> NoReturn:
        raise NotVirtual("What is to be called at once cannot be called off in a rehearsal.")

    def cancelled(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<to call at once>"


_SOON = _Soon()


class _Later(asyncio.TimerHandle):
    __slots__ = ("args", "at_s", "callback", "is_gone")

    def __init__(self, at_s: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.at_s, self.callback, self.args = at_s, callback, args
        self.is_gone = False

    def cancel(self) -> None:
        self.is_gone = True

    def cancelled(self) -> bool:
        return self.is_gone

    def when(self) -> float:
        return self.at_s

    def __repr__(self) -> str:
        return f"<to call {self.callback!r} at {self.at_s:g} s>"


class SwiftLoop(VirtualLoop):
    """Takes about a fifth off a rehearsal."""

    _stopping: bool
    _ready: deque[Any]

    def __init__(self, *, limit_s: float = 1e9) -> None:
        super().__init__(limit_s=limit_s)
        self._limit_s = limit_s
        self._now_s = 0.0
        self._order = 0
        self._timers: list[tuple[float, int, _Later]] = []

    def time(self) -> float:
        return self._now_s

    def create_task(
        self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], *, name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:  # fmt: skip
        return asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,  # noqa: ARG002
    ) -> asyncio.Handle:
        self._ready.append((callback, args))
        return _SOON

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,  # noqa: ARG002
    ) -> asyncio.TimerHandle:
        timer = _Later(when, callback, args)
        self._order += 1
        heappush(self._timers, (when, self._order, timer))
        return timer

    def _run_once(self) -> None:
        """Until it is told to stop."""
        ready, timers = self._ready, self._timers
        next_ready = ready.popleft
        while True:
            while ready:
                callback, args = next_ready()
                try:
                    callback(*args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as raised:  # noqa: BLE001 - as asyncio does
                    self.call_exception_handler({"message": "An exception in a callback.", "exception": raised})
            if self._stopping:
                return
            self._forward(timers)

    def _forward(self, timers: "list[tuple[float, int, _Later]]") -> None:
        """The time of the next timer, and all that is due then."""
        while timers and timers[0][2].is_gone:
            heappop(timers)
        if not timers:
            self._over("nothing is ready and no timer is set")
        now_s = self._now_s = max(self._now_s, timers[0][0])
        if now_s > self._limit_s:
            self._over(f"virtual time passed its limit of {self._limit_s:g} s")
        while timers and timers[0][0] <= now_s:
            timer = heappop(timers)[2]
            if not timer.is_gone:
                self._ready.append((timer.callback, timer.args))

    def _over(self, why: str) -> NoReturn:
        self._limit_s = float("inf")
        raise Deadlock(f"{why} at {self._now_s:g} virtual seconds")
