"""Who is next, of all that wait for one endpoint. Enters entries in lanes, leaves them in a fair order.

Rules of this file (stride scheduling, Waldspurger and Weihl, 1995):

1. The lane with the lowest pass is next; what it takes moves its pass on by cost / weight, so over time each lane gets
   its part by weight. First come, first served within a lane, but for what is put in front.
2. Priorities are weights of 100, 10 and 1, so that none starves. No admission is free, or free ones would starve others.
3. Who joins, or waits again after a while, starts where the lanes that wait are: it is owed nothing for being away.
4. Once chosen, the head stays the head until it is popped or dropped: what is large is not passed by what is small for ever.

Of n admissions of cost 1, a lane of weight w among lanes of weight W together that always waits gets at least
(w / W) * n - lanes. Each step takes O(log lanes).
"""

import math
from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, Literal, TypeVar

from headrace.core.errors import UsageError

Priority = Literal["interactive", "normal", "background"]

WEIGHT: dict[Priority, float] = {"interactive": 100.0, "normal": 10.0, "background": 1.0}
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100.0
LEAST_COST, MOST_COST = 0.01, 100.0

Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry")


class _Lane(Generic[Key, Entry]):
    __slots__ = ("at", "entries", "key", "turn", "waits", "weight")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.weight = WEIGHT["normal"]
        self.at = 0.0
        """Its pass."""
        self.turn = 0
        """Its place in the heap is the one with this number; older ones are void."""
        self.waits = False
        """Whether it has a place in the heap, or the head."""
        self.entries: deque[Entry] = deque()


class FairQueue(Generic[Key, Entry]):
    """Entries of any type, lanes named by any key. A key that never joined has weight 1 and normal priority."""

    def __init__(self) -> None:
        self._lanes: dict[Key, _Lane[Key, Entry]] = {}
        self._heap: list[tuple[float, int, _Lane[Key, Entry]]] = []
        self._turns = 0
        self._now = 0.0
        """The pass of the lane that was served last."""
        self._head: tuple[_Lane[Key, Entry], Entry] | None = None
        self._count = 0

    def __len__(self) -> int:
        """Entries that wait, the head among them."""
        return self._count

    def join(self, key: Key, *, weight: float = 1.0, priority: Priority = "normal") -> None:
        """Make a lane, or change what it weighs from its next turn on."""
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            raise UsageError(
                f"A weight of {weight:g} cannot work.",
                hint=f"Give a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}; 1 is usual.",
            )
        if priority not in WEIGHT:
            raise UsageError(f"There is no priority {priority!r}.", hint=f"Choose from {', '.join(WEIGHT)}.")
        self._lane(key).weight = weight * WEIGHT[priority]

    def leave(self, key: Key) -> list[Entry]:
        """Forget a lane; what waited in it is given back, in order."""
        left = self.clear(key)
        self._lanes.pop(key, None)
        return left

    def clear(self, key: Key) -> list[Entry]:
        """Take out all that waits in a lane, in order."""
        lane = self._lanes.get(key)
        if lane is None:
            return []
        left = []
        if self._head is not None and self._head[0] is lane:
            left.append(self._head[1])
            self._head = None
        left.extend(lane.entries)
        lane.entries.clear()
        lane.waits = False
        lane.turn = -1
        self._count -= len(left)
        return left

    def push(self, key: Key, entry: Entry, *, front: bool = False) -> None:
        """Put an entry into its lane. `front` puts it before all others of that lane but the head."""
        lane = self._lane(key)
        if front:
            lane.entries.appendleft(entry)
        else:
            lane.entries.append(entry)
        self._count += 1
        if not lane.waits:
            self._catch_up(lane)
            self._line_up(lane)

    def head(self) -> Entry | None:
        """Who is next, and stays it until popped or dropped; None where nobody waits."""
        if self._head is None:
            while self._heap:
                _, turn, lane = heappop(self._heap)
                if turn == lane.turn:
                    self._head = lane, lane.entries.popleft()
                    self._now = max(self._now, lane.at)
                    return self._head[1]
            return None
        return self._head[1]

    def pop(self, cost: float = 1.0) -> Entry:
        """The head goes, and its lane pays. Raises LookupError where nobody waits."""
        return self._take(cost)

    def drop(self) -> Entry:
        """The head goes without paying: it was given up, or will never be let in. Raises LookupError as `pop`."""
        return self._take(None)

    def charge(self, key: Key, cost: float = 1.0) -> None:
        """This lane was served without waiting."""
        lane = self._lane(key)
        self._catch_up(lane)
        self._now = lane.at
        self._pay(lane, cost)

    def _take(self, cost: float | None) -> Entry:
        if self._head is None:
            self.head()
        if self._head is None:
            raise LookupError("Nobody waits.")
        lane, entry = self._head
        self._head = None
        self._count -= 1
        if cost is not None:
            self._pay(lane, cost)
        if lane.entries:
            self._line_up(lane)
        else:
            lane.waits = False
        return entry

    def _lane(self, key: Key) -> _Lane[Key, Entry]:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
            lane.at = self._now
        return lane

    def _catch_up(self, lane: _Lane[Key, Entry]) -> None:
        lane.at = max(lane.at, self._now)

    def _line_up(self, lane: _Lane[Key, Entry]) -> None:
        self._turns += 1
        lane.turn = self._turns
        lane.waits = True
        heappush(self._heap, (lane.at, self._turns, lane))

    @staticmethod
    def _pay(lane: _Lane[Key, Entry], cost: float) -> None:
        if math.isnan(cost):
            cost = 1.0
        lane.at += min(max(cost, LEAST_COST), MOST_COST) / lane.weight
