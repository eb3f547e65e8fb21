"""How far the store leads: the items of a source on their way through the stages, up to the first call that must be made.

Enters the stages of a run that is ready to start; leaves where each item begins, and what was seen on the way. Calls
nobody, and no function of the user's: what only a function can tell is left to chance.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.errors import HeadraceError
from headrace.core.item import Item, extended
from headrace.core.ports import Source, Store
from headrace.engine.cached import valued
from headrace.engine.leg import Calling
from headrace.engine.passage import NOTHING, Passage
from headrace.engine.runner import Local
from headrace.engine.stage import After, spread
from headrace.flow.estimate import Size, size_of
from headrace.flow.experience import Experience
from headrace.task.condition import Condition
from headrace.task.pipeline import Cascade, Pipeline, Stage, named
from headrace.task.stages import Expand, Filter

ROWS = 500
"""Of the source, kept to see what prompts are like, and for how many of them conditions hold."""


class Stop(msgspec.Struct, frozen=True):
    """One stage of the run, and what the user wrote for it."""

    stage: Calling | Local
    value: Stage

    @property
    def name(self) -> str:
        return self.stage.info.name

    @property
    def is_told(self) -> bool:
        """Whether it can be told without a function of the user's for which items it is."""
        if isinstance(self.value, Cascade):
            return isinstance(self.value.unsure, str)
        return isinstance(getattr(self.value, "when", ""), str)


def stops_of(stages: Sequence[Calling | Local], pipeline: Pipeline[Any]) -> list[Stop]:
    """A Cascade is a stage for each of its own."""
    values = [
        value
        for _, value in named(pipeline.stages)
        for _ in range(len(value.stages) if isinstance(value, Cascade) else 1)
    ]
    return [Stop(stage, value) for stage, value in zip(stages, values, strict=True)]


class Seen:
    """What the items that came to one stage were like."""

    def __init__(self) -> None:
        self.taken = self.asked = self.passed = self.stored = 0
        self.sizes: list[Size] = []
        """Of requests, answered ones and others."""
        self.experience = Experience()
        self._known: set[int] = set()

    def again(self, request: Request) -> bool:
        """Whether an equal item's call answers this one."""
        place = int.from_bytes(request.digest[:8], "little")
        if place in self._known:
            return True
        self._known.add(place)
        return False


class Begin(msgspec.Struct, frozen=True, gc=False):
    """An item waits at this stage; `size` is of its request, None where that is not known."""

    stage: int
    size: Size | None
    own: bool = False
    """Whether an earlier run is done with it: what it will be asked at later stages was asked already."""


class Trail:
    """Follows the items. `walk` once."""

    def __init__(
        self, stops: Sequence[Stop], store: Store, *, fresh: bool, without: AbstractSet[str] = frozenset(),
        ended: AbstractSet[str] = frozenset(),
    ) -> None:  # fmt: skip
        """`without` are the keys of items that are left out, `ended` of those that an earlier run is done with."""
        self.stops, self._store, self._fresh = stops, store, fresh
        self._without, self._ended = without, ended
        self.seen = [Seen() for _ in stops]
        self.begins: list[Begin] = []
        self.rows: list[Item] = []
        self._own: set[int] = set()
        """Positions of those in `ended`."""
        self.items = self.unaskable = 0

    @property
    def stored(self) -> int:
        return sum(seen.stored for seen in self.seen)

    async def walk(self, source: Source) -> None:
        async for batch in source:
            self.items += len(batch)
            self.rows += batch[: max(0, ROWS - len(self.rows))]
            self._own = {item.position for item in batch if item.key in self._ended}
            await self._at(0, [item for item in batch if item.key not in self._without])

    async def _at(self, number: int, items: list[Item]) -> None:
        """These have come to this stage."""
        if number == len(self.stops) or not items:
            return
        stop = self.stops[number]
        self.seen[number].taken += len(items)
        if isinstance(stop.stage, Calling):
            onward = await self._called(number, stop.stage, items)
        elif isinstance(stop.value, Filter) and isinstance(stop.value.keep, str):
            onward = self._kept(Condition(stop.value.keep).holds, items)
            self.seen[number].passed += len(onward)
        elif isinstance(stop.value, Expand) and isinstance(stop.value.into, str):
            onward = [child for item in items for child in _children(item, stop.value.into)]
            self.seen[number].passed += len(onward)
        else:
            self.begins += [self._begin(number, item) for item in items]
            return
        await self._at(number + 1, onward)

    def _kept(self, holds: Callable[[Any], bool], items: list[Item]) -> list[Item]:
        through = []
        for item in items:
            try:
                if holds(item.data):
                    through.append(item)
            except HeadraceError:  # it will fail there, without a call
                self.unaskable += 1
        return through

    async def _called(self, number: int, calling: Calling, items: list[Item]) -> list[Item]:
        """Those that the store leads on; the others begin here."""
        stop, seen = self.stops[number], self.seen[number]
        asked, onward = self._for_whom(stop, calling, items)
        seen.asked += len(asked)
        pairs = self._requests(calling, asked)
        found: Mapping[Any, Reply] = {}
        if calling.task.reusable and not self._fresh and calling.after is After.EXTEND:
            digests = [request.digest for _, requests in pairs for request in requests]
            found = await self._store.find(digests, since=calling.since)
        for item, requests in pairs:
            request, size = requests[0], size_of(requests[0])
            seen.sizes.append(size)
            replies = [found[each.digest] for each in requests if each.digest in found]
            seen.stored += len(replies)
            if stop.is_told and len(replies) == len(requests):
                self._note(seen, size, replies[0])
                onward += self._led_on(number, calling, item, replies)
            elif calling.task.reusable and seen.again(request):
                self._share(number)
            else:
                self.begins.append(self._begin(number, item, size))
        return onward

    def _begin(self, number: int, item: Item, size: Size | None = None) -> Begin:
        return Begin(number, size, item.position in self._own)

    def stored_at(self, number: int) -> float:
        """Of the items that begin before this stage, the share that has an answer of it, where answers are stored."""
        stop = self.stops[number].stage
        if self._fresh or not isinstance(stop, Calling) or not stop.task.reusable:
            return 0.0
        before = [begin.own for begin in self.begins if begin.stage < number]
        return sum(before) / len(before) if before else 0.0

    def _for_whom(self, stop: Stop, calling: Calling, items: list[Item]) -> tuple[list[Item], list[Item]]:
        if calling.when is None or not stop.is_told:
            return items, []
        asked: list[Item] = []
        by: list[Item] = []
        for item in items:
            try:
                (asked if calling.when(item) else by).append(item)
            except HeadraceError:
                self.unaskable += 1
        return asked, by

    def _requests(self, calling: Calling, items: list[Item]) -> list[tuple[Item, list[Request]]]:
        pairs = []
        for item in items:
            try:
                pairs.append((item, [calling.task.request(item, n) for n in range(calling.task.samples)]))
            except HeadraceError:
                self.unaskable += 1
        return pairs

    @staticmethod
    def _note(seen: Seen, size: Size, reply: Reply) -> None:
        seen.experience.add("", reply.seconds, size, reply.input_tokens, reply.output_tokens)

    def _led_on(self, number: int, calling: Calling, item: Item, replies: Sequence[Reply]) -> list[Item]:
        """The item as the next stage gets it, as far as that is to be had of the answers."""
        task = calling.task
        try:
            values = [valued(task.value, reply).value for reply in replies]
            error = task.failed(values[0])
            if error is not None:
                return [extended(item, {calling.failure: error.message}, calling.failure)] if calling.failure else []
            value = values[0] if len(values) == 1 else values[task.agreed(values)[0]]
            self.seen[number].passed += 1
            return [task.onward(item, value)]
        except HeadraceError:  # stored, and no value any more: it is asked again
            self.begins.append(Begin(number, size_of(task.request(item))))
            return []

    def _share(self, number: int) -> None:
        """It waits for an equal item's answer, and then goes on by itself."""
        if number + 1 < len(self.stops):
            self.begins.append(Begin(number + 1, None))


def _children(item: Item, column: str) -> list[Item]:
    values = item.data.get(column) if isinstance(item.data, dict) else None
    if not isinstance(values, list | tuple):
        return []

    def child(before: Item, value: Any) -> Item:
        return extended(before, value, column)

    return [passage.item for some in spread(Passage(item, item, NOTHING), values, child) for passage in some]
