"""What one run may spend of a budget: takes, settles, and says when to draw more. Rules of this file:

1. Money is counted in whole billionths of a dollar, what is spent rounded up: sums are exact, and never too small.
2. A call is let in only where its worst case fits into what this purse holds; the durable books counted that as taken
   before. What a call came to is known to the purse at once, and to the books at the next draw.
3. A purse holds what its calls in flight may take, the worst case of one more, and a step ahead: again the worst case of
   a call, or half of what is in flight where that is more, but then at most a hundredth of the budget. It draws when it
   has less, up to two steps, so that calls do not wait for the disk; more than twice that it gives back. So a process
   that dies takes little with it: what it held counts as spent.
4. Where the next call does not fit, first what is left is drawn; then calls in flight are waited for, which mostly take
   less than their worst case; then what others hold. Meanwhile it holds nothing for itself, so that two that wait do not
   wait for each other. Where all that could not be enough, the budget is spent.
"""

import math
from enum import Enum

import msgspec

from headrace.core.ports import Drawn

NANO = 1_000_000_000
AHEAD_SHARE = 100
LOOK_AGAIN_S = 0.5
"""How often to look whether another process has given something back."""


class Next(Enum):
    """What a purse does where no draw is to be made."""

    GO_ON = "go on"
    SPENT = "spent"


class Draw(msgspec.Struct, frozen=True):
    """Hold so much beyond what is spent, and look again after so long at the earliest."""

    hold: int
    pause_s: float = 0.0
    looks: bool = False
    """Whether this is all there is for the call that waits."""


class Purse:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        """In this session, by this purse."""
        self.reserved = 0
        """By calls in flight, at worst."""
        self.taken = 0
        """Out of the budget in all: spent, reserved, and ahead."""
        self.room = 0
        """What was left in the budget beside all that purses held."""
        self.others = 0
        """What other purses held."""
        self._in_flight = 0
        self._last = 0
        self._told = self._spent_then = 0
        self._looked = False
        """Whether the last draw was for the call that waits, and nothing happened since."""

    @property
    def free(self) -> int:
        """What is held for calls to come."""
        return self.taken - self.spent - self.reserved

    @property
    def left(self) -> int:
        """What this purse could still spend, as far as is known."""
        return max(0, self.taken - self.spent + self.room)

    @property
    def spent_by_all(self) -> int:
        """What every purse has spent, as far as they have told, and this one."""
        return self._spent_then + self.spent - self._told

    def take(self, worst: int) -> bool:
        """Reserve the worst case of a call; False where it does not fit."""
        if worst > self.free:
            return False
        self.reserved += worst
        self._in_flight += 1
        self._last = worst
        self._looked = False
        return True

    def give_back(self, worst: int) -> None:
        """The call was not made."""
        self.reserved -= worst
        self._in_flight -= 1

    def settle(self, worst: int, cost: int | None) -> None:
        """The call is off the wire, and came to `cost`; None, which is unknown, counts in full."""
        self.give_back(worst)
        self.spent += worst if cost is None else cost
        self._looked = False

    def spend_reserved(self) -> None:
        """Nobody will tell any more what became of the calls in flight."""
        self.spent += self.reserved
        self.reserved = self._in_flight = 0

    def _levels(self, need: int) -> tuple[int, int]:
        """Less than the first is too little ahead; the second is enough."""
        usual = self.reserved // self._in_flight if self._in_flight else need or self._last
        step = max(usual, min(self.reserved // 2, self.limit // AHEAD_SHARE), 1)
        return usual + step, usual + 2 * step

    def first(self) -> Draw:
        """The draw to begin with, before anything is known of calls."""
        return Draw(self.limit // AHEAD_SHARE)

    def next(self, need: int = 0, promised: int = 0) -> Draw | Next:
        """What to do now. `need` is the worst case of the first call that waits, 0 where none does; `promised` of those
        that were told to go on and have not taken it yet."""
        free, room = self.free - promised, self.room
        if need and need > free:
            return self._short(need, promised)
        if room < 0 < free:  # the limit was lowered
            return Draw(self.reserved + promised + max(0, free + room))
        low, high = self._levels(need)
        if (room > 0 and free < low) or free > 2 * max(high, 2 * self.limit // AHEAD_SHARE, need):
            return Draw(self.reserved + promised + max(need, high))
        return Next.GO_ON

    def _short(self, need: int, promised: int) -> Draw | Next:
        held = self.reserved + promised
        if self.room > 0 or not (held or self._looked):
            return Draw(held + max(need, self._levels(need)[1]), looks=True)
        if held:
            return Next.GO_ON  # what is in flight will tell
        if self.free + self.others + self.room < need:
            return Next.SPENT
        return Draw(0, pause_s=LOOK_AGAIN_S)

    def begin(self, draw: Draw) -> None:
        """It is being written. What is given back is no longer ours."""
        self.taken = min(self.taken, self.spent + draw.hold)
        self._told, self._looked = self.spent, draw.looks

    def filled(self, drawn: Drawn) -> None:
        """The draw is written."""
        self.limit = drawn.limit
        self.taken = drawn.taken
        self._spent_then = drawn.spent
        self.others = drawn.others
        self.room = drawn.limit - drawn.spent - (drawn.taken - self._told) - drawn.others


def nanos(usd: float) -> int:
    """Dollars, in whole billionths."""
    return math.ceil(usd * NANO)


def dollars(amount: int) -> float:
    return amount / NANO
