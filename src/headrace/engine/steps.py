"""Stages that call nobody: they let items through, take them apart, or gather many into one. Enters
passages, hands on passages; what they take out ends in an outcome that says so."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import count
from typing import Any

from headrace.core.errors import FunctionError, HeadraceError, ItemError, Verdict
from headrace.core.item import Item, extended
from headrace.engine.passage import Passage, dropped, failed, finished
from headrace.engine.roll import Roll
from headrace.engine.stage import KEY_SIGN, Next, made_into, spread

Read = Callable[[Item], Any]
"""What a stage looks at of an item; raises ItemError where it has it not."""
Fold = Callable[[Any, Any], Any]


class Reader:
    """What such stages have in common: they read each item, and those that cannot be read fail."""

    def __init__(self, name: str, roll: Roll, onward: Next | None) -> None:
        """`onward` is None for the last stage."""
        self.name = name
        self._roll, self._onward = roll, onward or self._end
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        self._stopping = True

    def close(self, _stage: str, _reason: str) -> None:
        """Where it asks nobody, what comes may go on to where it is taken out."""

    def drop(self) -> None:
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def finish(self, *, whole: bool) -> None:  # noqa: ARG002 - what is held back, is by those that hold it
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _end(self, passages: list[Passage]) -> None:
        await self._roll.end([finished(passage, self.name) for passage in passages])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it must end the run aloud, not be lost with its task
            await self._roll.broke(error)

    async def _read(self, passages: list[Passage], read: Read) -> list[tuple[Passage, Any]]:
        found: list[tuple[Passage, Any]] = []
        for passage in passages:
            try:
                found.append((passage, read(passage.item)))
            except HeadraceError as error:
                if error.verdict is Verdict.STOP_RUN:
                    raise
                await self._roll.end([failed(passage, error, self.name)])
        return found

    async def _take_out(self, passages: Sequence[Passage], reason: str) -> None:
        if passages:
            await self._roll.end([dropped(passage, reason, self.name) for passage in passages])


class Sieve(Reader):
    """Lets through the items for which the condition holds."""

    def __init__(self, name: str, roll: Roll, onward: Next | None, condition: Read) -> None:
        super().__init__(name, roll, onward)
        self._condition = condition

    async def take(self, passages: list[Passage]) -> None:
        read = await self._read(passages, self._condition)
        await self._take_out([passage for passage, holds in read if not holds], f"filtered by {self.name}")
        if through := [passage for passage, holds in read if holds]:
            await self._onward(through)


class Spread(Reader):
    """Makes an item of each element of a column."""

    def __init__(self, name: str, roll: Roll, onward: Next | None, column: str) -> None:
        super().__init__(name, roll, onward)
        self._column = column

    async def take(self, passages: list[Passage]) -> None:
        for passage, values in await self._read(passages, self._list):
            for some in spread(passage, values, self._child):
                if self._stopping:  # it is taken apart again when the run goes on
                    return
                children, outcomes = await self._roll.make(some, self.name)
                if outcomes:
                    await self._roll.end(outcomes)
                if children:
                    await self._onward(children)
            await self._take_out([passage], made_into(len(values), self.name))

    def _list(self, item: Item) -> list[Any]:
        value = item.data.get(self._column) if isinstance(item.data, dict) else None
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise ItemError(f"The column {self._column!r} holds {type(value).__name__}, no list.")
        return list(value)

    def _child(self, item: Item, value: Any) -> Item:
        return extended(item, value, self._column)


class Gather(Reader):
    """Makes one item of many: of all, of those that have a column's value in common, of every so many, or of all that
    was made of one item of the source, as soon as that is complete.

    Without `fold` the item's value is the list of their rows, in the order of the source; with it, what
    `fold(value, row)` came to, row after row as they came, from `start` on.
    """

    def __init__(
        self,
        name: str,
        roll: Roll,
        onward: Next | None,
        *,
        by: str = "",
        every: int = 0,
        by_source: bool = False,
        fold: Fold | None = None,
        start: Any = None,
        function: Callable[[Any], Awaitable[Any]] | None = None,
        at_once: int = 16,
    ) -> None:
        """`function` makes the item's value of what was gathered, for so many at once."""
        super().__init__(name, roll, onward)
        self._by, self._every, self._by_source, self._fold, self._start = by, every, by_source, fold, start
        self._function = function
        self._groups: dict[Any, _Group] = {}
        self._slots = asyncio.Semaphore(at_once)
        self._made = count()
        self._out: tuple[str, str] | None = None  # why nothing more is to be asked, and by which stage's word
        if by_source:
            roll.watch(self._look)

    def close(self, stage: str, reason: str) -> None:
        self._out = reason, stage

    async def take(self, passages: list[Passage]) -> None:
        gone: list[Passage] = []
        for passage, place in await self._read(passages, self._place):
            group = self._groups.get(place)
            if group is None:
                group = self._groups[place] = _Group(copy.deepcopy(self._start))
            try:
                if self._add(group, passage):
                    gone.append(passage)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a user's function
                await self._roll.end([failed(passage, _of_function(self.name, error), self.name)])
                continue
            if group.count == self._every:
                self._begin(self._end_of([(place, self._groups.pop(place))]))
            elif self._by_source:
                self._look(passage.item.position)
        await self._take_out(gone, f"gathered by {self.name}")
        while len(self._tasks) > _WAITING:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def _place(self, item: Item) -> Any:
        if self._by_source:
            return item.position
        if not self._by:
            return ""
        value = item.data.get(self._by) if isinstance(item.data, dict) else None
        if isinstance(value, dict | list):
            raise ItemError(f"The column {self._by!r} holds {type(value).__name__}: items cannot be grouped by it.")
        return isinstance(value, bool), value

    def _add(self, group: "_Group", passage: Passage) -> bool:
        """Whether the item need not wait for the group. With a fold only the first one does: its source item must not
        be complete before the group is."""
        if self._fold is not None:
            group.value = self._fold(group.value, passage.item.data)
        group.count += 1
        if self._fold is None or not group.passages:
            group.passages.append(passage)
            return False
        return True

    def _look(self, position: int) -> None:
        """All that is open of a source item waits here: its group is complete."""
        group = self._groups.get(position)
        if group is not None and self._roll.open_at(position) == len(group.passages):
            self._begin(self._end_of([(position, self._groups.pop(position))]))

    async def _end_of(self, groups: Sequence[tuple[Any, "_Group"]]) -> None:
        """These are complete: their items end, and an item comes of each. Where all that came to one failed, none does."""
        values: dict[str, Any] = {}
        children: list[Passage] = []
        gone: list[Passage] = []
        for place, group in groups:
            if not group.passages:
                continue
            group.passages.sort(key=_place_of)
            gone += group.passages
            child = self._child(place, group.passages[0].source)
            children.append(child)
            values[child.item.key] = [each.item.data for each in group.passages] if self._fold is None else group.value
        made, outcomes = await self._roll.make(children, self.name)
        await self._take_out(gone, f"gathered by {self.name}")
        if outcomes:
            await self._roll.end(outcomes)
        ready = await asyncio.gather(*[self._reduced(child, values[child.item.key]) for child in made])
        if through := [passage for passage in ready if passage is not None]:
            await self._onward(through)

    async def _reduced(self, child: Passage, value: Any) -> Passage | None:
        """With its value; None where that failed, or the run stops first."""
        item = child.item
        try:
            if self._function is not None:
                async with self._slots:
                    if self._stopping:
                        return None
                    if self._out is not None:
                        await self._roll.end([dropped(child, *self._out)])
                        return None
                    value = await self._function(value)
            return child._replace(item=extended(item, value, ITEMS), before=item, value=value)
        except Exception as error:  # noqa: BLE001 - a user's function
            failure = error if isinstance(error, HeadraceError) else _of_function(self.name, error)
            await self._roll.end([failed(child, failure, self.name)])
            return None

    def _child(self, place: Any, source: Item) -> Passage:
        number = next(self._made)
        if self._by_source:
            item = Item(f"{source.key}{KEY_SIGN}{self.name}", source.position, source.data)
        else:
            value = place[1] if self._by else ""
            mark = f"{number:06}" if self._every else _mark(value)
            position = self._roll.read + number
            item = Item(f"{self.name}{KEY_SIGN}{mark}", position, {self._by: value} if self._by else {})
            source = item
        return Passage(item, source)

    async def finish(self, *, whole: bool) -> None:
        await super().finish(whole=whole)
        if whole:
            groups, self._groups = list(self._groups.items()), {}
            for start in range(0, len(groups), _TOGETHER):
                if self._stopping:
                    return
                self._begin(self._end_of(groups[start : start + _TOGETHER]))
                await super().finish(whole=whole)


ITEMS = "items"
"""The column of what was gathered."""
_TOGETHER = 256
"""Groups that end in one commit."""
_WAITING = 256
"""Groups that may wait for their function, at most."""


class _Group:
    __slots__ = ("count", "passages", "value")

    def __init__(self, start: Any) -> None:
        self.passages: list[Passage] = []
        """Those that wait; with a fold only the first."""
        self.value = start
        self.count = 0


def _of_function(name: str, error: BaseException) -> FunctionError:
    return FunctionError(
        f"{name}: {type(error).__name__}: {error}", hint="The function raised this; mend it, and run again."
    )


def _mark(value: Any) -> str:
    """A group's value as its key tells it: text as it is, and so that no other value looks like it."""
    if not isinstance(value, str):
        return f"={int(value) if isinstance(value, float) and value.is_integer() else value}"
    return f"={value!r}" if value.startswith("=") else value


def _place_of(passage: Passage) -> tuple[int, str]:
    return passage.item.position, passage.item.key
