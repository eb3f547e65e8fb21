"""Keeps a run's purse filled out of a budget in the store, and tells whoever waits for money. Decides nothing:
flow/budget.py does."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from headrace.core import outline
from headrace.core.errors import BudgetSpent, HeadraceError, StoreError
from headrace.core.event import BudgetUsed, Event
from headrace.core.ports import Budgets
from headrace.flow.budget import NANO, Draw, Next, Purse, dollars, nanos

_TOLD_EVERY_S = 1.0


class Waiting(msgspec.Struct, frozen=True, eq=False):
    """A call for which there is no money now."""

    worst_usd: float
    is_over: Callable[[], bool]
    """Whether nobody waits for it any more."""
    go_on: Callable[[], None]
    """Called when there is: it may take now."""


class Allowance(msgspec.Struct, frozen=True):
    """A budget as a run is given it."""

    budget: str
    """What it is known by in the store."""
    usd: float


class Treasurer:
    """`open` before the first call, `run` beside the calls, `close` after the last. Serves all stages of one run."""

    def __init__(
        self,
        store: Budgets,
        allowance: Allowance,
        run: str,
        *,
        emit: Callable[[Event], None],
        fatal: Callable[[HeadraceError], None],
    ) -> None:
        """`run` names the purse. `fatal` is told when nothing is left."""
        self._store, self._budget, self._run = store, allowance.budget, run
        self._limit = round(allowance.usd * NANO)
        self._purse = Purse(self._limit)
        self._emit, self._fatal = emit, fatal
        self._waiting: deque[Waiting] = deque()
        self._woken: set[Waiting] = set()
        """They were just told that there is money for them."""
        self._in_line: set[Waiting] = set()
        """They were told before, and wait for a permit: no money is held for them, but what is left may be enough."""
        self._wanted = asyncio.Event()
        self._tell_at_s = -math.inf

    async def open(self) -> None:
        """Raises StoreError."""
        await self._draw(self._purse.first(), self._limit)
        self._tell()

    async def run(self) -> None:
        """Draw what is needed, until cancelled or until nothing is left. Raises StoreError."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._asked()
            while isinstance(order := self._next(), Draw):
                await self._draw(order)
                await asyncio.sleep(order.pause_s)
                self._wake()
                await asyncio.sleep(0)
                self._asked()
            if _now() >= self._tell_at_s:
                self._tell()
            if order is Next.SPENT and all(call.is_over() for call in self._in_line):
                self._fatal(self._spent())

    async def close(self) -> None:
        """Give back what is left. A call that goes on counts in full."""
        self._purse.spend_reserved()
        with suppress(StoreError):  # then all that it held counts as spent
            await self._draw(Draw(0))
            self._tell()

    def take(self, worst_usd: float, waited: Waiting | None = None) -> bool:
        """Reserve the worst case of a call. One that has waited goes before those that still wait."""
        if waited is None:
            return not self._waiting and self._purse.take(nanos(worst_usd))
        self._woken.discard(waited)
        self._in_line.discard(waited)
        return self._purse.take(nanos(worst_usd))

    def give_back(self, worst_usd: float, waited: Waiting | None = None) -> None:
        """The call was not made: it is as if nothing had been taken."""
        self._purse.give_back(nanos(worst_usd))
        if waited is not None:
            self._in_line.add(waited)

    def _asked(self) -> None:
        """Whoever was woken has asked by now, or stands behind one who found that it is not money that is missing."""
        self._in_line |= self._woken
        self._woken.clear()

    def settle(self, worst_usd: float, usd: float | None) -> None:
        """The call is off the wire. None, or what can be no price: unknown, it counts in full."""
        known = usd is not None and 0 <= usd < math.inf
        self._purse.settle(nanos(worst_usd), nanos(usd) if known and usd is not None else None)
        self.look()

    def wait(self, call: Waiting, *, again: bool = False) -> None:
        """Tell this call when there is money for it; one that waits `again` keeps its turn."""
        if again:
            self._waiting.appendleft(call)
        else:
            self._waiting.append(call)
        self.look()

    def look(self) -> None:
        """See to it that who waits gets what is there, and that more is drawn in time."""
        if self._waiting:
            self._wake()
        if self._next() is not Next.GO_ON:
            self._wanted.set()

    def _next(self) -> Draw | Next:
        return self._purse.next(self._need(), self._promised() if self._woken else 0)

    def _promised(self) -> int:
        self._woken = {call for call in self._woken if not call.is_over()}
        return sum(nanos(call.worst_usd) for call in self._woken)

    def _wake(self) -> None:
        """In their order, but called from the last to the first: each goes to the front."""
        free = self._purse.free - self._promised()
        woken: list[Waiting] = []
        while self._waiting:
            first = self._waiting[0]
            if not first.is_over():
                if nanos(first.worst_usd) > free:
                    break
                free -= nanos(first.worst_usd)
                woken.append(first)
            self._waiting.popleft()
        self._woken.update(woken)
        for call in reversed(woken):
            call.go_on()

    def _need(self) -> int:
        while self._waiting and self._waiting[0].is_over():
            self._waiting.popleft()
        return nanos(self._waiting[0].worst_usd) if self._waiting else 0

    async def _draw(self, order: Draw, limit: int | None = None) -> None:
        self._purse.begin(order)
        self._purse.filled(
            await self._store.draw(self._budget, self._run, spent=self._purse.spent, hold=order.hold, limit=limit)
        )

    def _tell(self) -> None:
        purse, now_s = self._purse, _now()
        self._tell_at_s = now_s + _TOLD_EVERY_S
        self._emit(
            BudgetUsed(
                now_s, dollars(purse.spent_by_all), dollars(purse.limit), dollars(purse.reserved),
                dollars(purse.spent),
            )
        )  # fmt: skip

    def _spent(self) -> BudgetSpent:
        purse = self._purse
        larger = 2 * max(purse.limit, self._need())
        return BudgetSpent(
            f"The budget of {_said(purse.limit)} has no room for another call: {_said(purse.spent_by_all)} are spent, "
            f"{_said(purse.left)} are left, and the next call may cost {_said(self._need())}.",
            hint=f"Run again with a larger budget (--budget {dollars(larger):g}): it goes on where it stopped. "
            "A lower --max-tokens makes the most that a call may cost smaller.",
        )


def _said(amount: int) -> str:
    return outline.dollars(dollars(amount))


def _now() -> float:
    return asyncio.get_running_loop().time()
