"""The stage that keeps the best few. Enters passages, hands on the best of them; the others end in an outcome that says so."""

import asyncio
import heapq
from typing import Any, NamedTuple

import msgspec

from headrace.core.jsonform import json_form
from headrace.engine.passage import Passage
from headrace.engine.roll import Roll
from headrace.engine.stage import Next
from headrace.engine.steps import Read, Reader


class Best(Reader):
    """The best few: at the end, after so many seconds at the latest and, with `again`, of each such window; or at once
    all that are among the best so far.

    Of equals the earlier in the source is better; of those that are the same in the column `distinct`, the best is
    the only one.
    """

    def __init__(
        self, name: str, roll: Roll, onward: Next | None, *, most: int, score: Read, so_far: bool, within_s: float | None,
        again: bool = False, distinct: str = "",
    ) -> None:  # fmt: skip
        """`score` is better the larger it is."""
        super().__init__(name, roll, onward)
        self._most, self._score, self._so_far, self._within_s = most, score, so_far, within_s
        self._again, self._distinct = again, distinct
        self._reason = f"not among the best {most} of {name}"
        self._heap: list[_Entry] = []
        self._same: dict[Any, _Entry] = {}
        """Those in the heap by their value of `distinct`."""
        self._alarm: asyncio.TimerHandle | None = None
        self._over = False
        if not again:
            self._set_alarm()

    async def take(self, passages: list[Passage]) -> None:
        if self._again:
            self._set_alarm()
        out: list[Passage] = []
        through: list[Passage] = []
        for passage, score in await self._read(passages, self._score):
            if self._over:
                out.append(passage)
                continue
            entry = _Entry(score, -passage.item.position, _Later(passage.item.key), self._value(passage), passage)
            worst = self._add(entry)
            if self._so_far:
                (out if worst is entry else through).append(passage)
            elif worst is not None:
                out.append(worst.passage)
        await self._take_out(out, self._reason)
        if through:
            await self._onward(through)

    def _add(self, entry: "_Entry") -> "_Entry | None":
        """Who is not among the best any more, if anybody."""
        heap, same = self._heap, self._same.get(entry.value) if self._distinct else None
        worst: _Entry | None = None
        if same is not None:
            if entry < same or self._so_far:
                return entry
            heap[heap.index(same)] = entry
            heapq.heapify(heap)
            worst = same
        elif len(heap) < self._most:
            heapq.heappush(heap, entry)
        else:
            worst = heapq.heappushpop(heap, entry)
        if self._distinct and worst is not entry:
            if worst is not None:
                del self._same[worst.value]
            self._same[entry.value] = entry
        return worst

    def _value(self, passage: Passage) -> Any:
        row = passage.item.data
        value = row.get(self._distinct) if self._distinct and isinstance(row, dict) else None
        if isinstance(value, dict | list):
            return type(value), msgspec.json.encode(value, enc_hook=json_form, order="sorted")
        return value

    def _set_alarm(self) -> None:
        if self._within_s is not None and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(self._within_s, self._time_is_up)

    def _time_is_up(self) -> None:
        self._begin(self._flush())

    async def _flush(self) -> None:
        if self._over or self._stopping:
            return
        self._over = not self._again
        best = [] if self._so_far else [entry.passage for entry in sorted(self._heap, reverse=True)]
        self._heap, self._same = [], {}
        if self._over:
            self._roll.enough(self.name, self._reason)
        if self._again:
            self._alarm = None  # the next item begins the next window
        if best:
            await self._onward(best)

    async def finish(self, *, whole: bool) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        await super().finish(whole=whole)
        if whole:
            await self._flush()

    def drop(self) -> None:
        super().drop()
        if self._alarm is not None:
            self._alarm.cancel()


class _Later(str):
    """A key of which the later is the smaller: of equals the earlier is better."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


class _Entry(NamedTuple):
    """Better than another one if it is greater; no two have the same key, so what follows it is not compared."""

    score: Any
    place: int
    key: "_Later"
    value: Any
    passage: Passage
