"""All items of a run that have no outcome yet, and the outcomes on their way out. Enters items as they are read or
made, and how each ended; leaves batches of outcomes that are durable.

1. An item is read or made, then ended or left pending; `unsettled` is the difference. Nothing else may happen to it.
2. An outcome is handed out when it is committed, and not before.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from headrace.core.errors import RepeatedKey
from headrace.core.event import Event, ItemsMade, ItemsRead, ItemsServed, Settled, SourceRead
from headrace.core.item import Failure, Item, Outcome
from headrace.core.ports import Done, Store, Task
from headrace.engine.cached import Cached
from headrace.engine.passage import Passage, failed

_END = None
_WAITING = 64
"""Batches of outcomes, at most."""
_REORDER = 4
"""How many times the places an ordered run may read past its first unfinished item."""


class Roll:
    def __init__(
        self,
        store: Store,
        run: str,
        session: int,
        *,
        emit: Callable[[Event], None],
        places: Callable[[], int],
        keyed: bool = False,
        keep_failures: bool = False,
        ordered: bool = False,
        by_source: bool = False,
        in_flight: int | None = None,
        since: float = 0.0,
    ) -> None:
        """`keyed`: keys come from a column, so that they may repeat. `keep_failures`: what failed in an earlier session
        stays so. `ordered` gives outcomes in the order of the source, reading no further once that is a few times
        `places` past the first unfinished item. `by_source`: it is asked how many are open of each source item.
        `in_flight`: so many items of the source are worked on at most. `since`: no older answers are served."""
        self._since = since
        self._store, self._run, self._session, self._emit = store, run, session, emit
        self._keyed, self._keep_failures = keyed, keep_failures
        self._out = _Out()
        self._open_keys: set[str] = set()
        self._open: Counter[int] | None = Counter() if by_source or in_flight else None
        self._most, self._fewer = in_flight, asyncio.Event()
        self._order = _Order(places) if ordered else None
        self._watchers: list[Callable[[int], None]] = []
        self.enough: Callable[[str, str], None] = lambda _stage, _reason: None
        """Is told by a stage that needs no more of what comes before it, and why that is taken out."""
        self.read = self.made = self.settled = 0
        self.exhausted = False

    @property
    def unsettled(self) -> int:
        return self.read + self.made - self.settled

    def open_at(self, position: int) -> int:
        """Items without outcome that are made of the source's item at this position, or are it."""
        return self._open[position] if self._open is not None else 0

    def remembering(self, task: Task) -> Cached:
        """The store's answers of a task of a stage that has no calls of its own."""
        return Cached(self._store, task.value, asyncio.sleep, since=self._since)

    def watch(self, ended: Callable[[int], None]) -> None:
        """`ended` is told of each position at which an item ended."""
        self._watchers.append(ended)

    @property
    def one_by_one(self) -> bool:
        """Whether each item of the source waits for room by itself."""
        return self._most is not None

    async def room_for(self, position: int) -> None:
        while self._most is not None and self._open is not None and len(self._open) >= self._most:
            self._fewer.clear()
            await self._fewer.wait()
        if self._order is not None:
            await self._order.room_for(position)

    async def take(self, items: list[Item]) -> tuple[list[Passage], list[Outcome]]:
        """Items that the source gave; of these some end at once."""
        self.read += len(items)
        self._emit(ItemsRead(_now(), len(items)))
        return await self._sorted_out(self._opened([Passage(item, item) for item in items]))

    async def make(self, passages: list[Passage], stage: str) -> tuple[list[Passage], list[Outcome]]:
        """Items that a stage made; of these some end at once."""
        self.made += len(passages)
        self._emit(ItemsMade(_now(), stage, len(passages)))
        return await self._sorted_out(self._opened(passages), stage)

    def served(self, count: int, stage: str) -> None:
        """So many items took no call at a stage."""
        self._emit(ItemsServed(_now(), stage, count))

    def _opened(self, passages: list[Passage]) -> list[Passage]:
        positions = [passage.item.position for passage in passages]
        if self._open is not None:
            self._open.update(positions)
        if self._order is not None:
            self._order.due.update(positions)
        return passages

    def read_to_the_end(self) -> None:
        self.exhausted = True
        self._emit(SourceRead(_now(), self.read))

    async def _sorted_out(self, passages: list[Passage], stage: str = "") -> tuple[list[Passage], list[Outcome]]:
        """Take out repeated keys, and failures that are to be kept, where the run asks for that."""
        if not (self._keyed or self._keep_failures):
            return passages, []
        open_before = self._open_keys & {passage.item.key for passage in passages}
        seen = await self._store.outcomes(self._run, [passage.item.key for passage in passages])
        rest: list[Passage] = []
        outcomes: list[Outcome] = []
        for passage in passages:
            item = passage.item
            session, before = seen.get(item.key, (0, None))
            if item.key in open_before or item.key in self._open_keys or session == self._session:
                again = Item(f"{item.key} (row {item.position + 1})", item.position, item.data)
                error = RepeatedKey(
                    f"The key {item.key!r} stands in the input more than once.",
                    hint="Choose a --key column without repeats.",
                )
                outcomes.append(failed(Passage(again, again), error, stage))
                continue
            self._open_keys.add(item.key)
            if self._keep_failures and before is not None and before.error is not None:
                kept = msgspec.structs.replace(before, position=item.position, item=item.data, cached=True)
                outcomes.append(kept)
            else:
                rest.append(passage)
        return rest, outcomes

    async def end(self, outcomes: Sequence[Outcome]) -> None:
        """These items have ended: make it durable, then hand it out."""
        settled = await self._settle(outcomes)
        await self._out.put(settled)
        for watcher in self._watchers:
            for position in {outcome.position for outcome in settled}:
                watcher(position)

    async def _settle(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Make them durable; one whose value the store cannot hold becomes a failure."""
        try:
            await self._store.commit([Done(self._run, outcome) for outcome in outcomes])
        except (TypeError, ValueError, RecursionError) as error:
            if len(outcomes) > 1:
                return [settled for outcome in outcomes for settled in await self._settle([outcome])]
            if not outcomes[0].ok:
                raise
            return await self._settle([_unstorable(outcomes[0], error)])
        self.settled += len(outcomes)
        if self._open_keys:
            self._open_keys.difference_update([outcome.key for outcome in outcomes])
        if self._open is not None:
            _subtract(self._open, outcomes)
            self._fewer.set()
        self._emit(Settled(_now(), tuple(outcomes)))
        return list(outcomes)

    async def broke(self, error: Exception) -> None:
        """Whoever reads the outcomes is told of this after those that are there."""
        await self._out.put(error)

    async def close(self, error: Exception | None = None) -> None:
        await self._out.put(error or _END)

    def stop(self) -> None:
        """Items that stay pending will never move the order on, nor make room."""
        self._most = None
        self._fewer.set()
        if self._order is not None:
            self._order.open()

    async def outcomes(self) -> AsyncGenerator[list[Outcome]]:
        """All that is there, at once: those committed together arrive together. Raises what broke the run."""
        ended = False
        while not ended:
            there = await self._out.get()
            outcomes = [outcome for batch in there if isinstance(batch, list) for outcome in batch]
            ready = outcomes if self._order is None else self._order.next(outcomes, self.read)
            if ready:
                yield ready
            for error in there:
                if isinstance(error, Exception):
                    raise error
            ended = _END in there
        if self._order is not None and (rest := self._order.rest()):
            yield rest


class _Out:
    """What goes out, in order: one reader, who takes all that is there."""

    def __init__(self) -> None:
        self._there: list[list[Outcome] | Exception | None] = []
        self._reader: asyncio.Future[None] | None = None
        self._room = asyncio.Event()

    async def put(self, batch: list[Outcome] | Exception | None) -> None:
        """Waits where the reader is far behind."""
        while len(self._there) >= _WAITING:
            self._room.clear()
            await self._room.wait()
        self._there.append(batch)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> list[list[Outcome] | Exception | None]:
        while not self._there:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        there, self._there = self._there, []
        self._room.set()
        return there


def _unstorable(outcome: Outcome, error: Exception) -> Outcome:
    failure = Failure("answer", f"The value has no JSON form ({error}).", "Use a type whose values JSON can hold.")
    return msgspec.structs.replace(outcome, value=None, error=failure)


def _subtract(counter: Counter[int], outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        counter[outcome.position] -= 1
        if not counter[outcome.position]:
            del counter[outcome.position]


class _Order:
    """Gives outcomes back in the order of their positions; how far reading may run ahead is bounded."""

    def __init__(self, places: Callable[[], int]) -> None:
        self.due: Counter[int] = Counter()
        """Outcomes to come, by position."""
        self._room: Callable[[], int] = lambda: places() * _REORDER
        self._next = 0
        self._waiting: dict[int, list[Outcome]] = {}
        self._moved = asyncio.Event()

    async def room_for(self, position: int) -> None:
        while position >= self._next + self._room():
            self._moved.clear()
            await self._moved.wait()

    def next(self, outcomes: list[Outcome], read: int) -> list[Outcome]:
        """What is ready after these, of `read` items of the source."""
        for outcome in outcomes:
            self._waiting.setdefault(outcome.position, []).append(outcome)
        _subtract(self.due, outcomes)
        ready: list[Outcome] = []
        while self._next < read and self._next not in self.due:
            ready += sorted(self._waiting.pop(self._next, ()), key=_key)
            self._next += 1
        if ready:
            self._moved.set()
        return ready

    def open(self) -> None:
        """Let reading run ahead: the run is stopping, and an item that stays pending will never move this on."""
        self._room = lambda: sys.maxsize
        self._moved.set()

    def rest(self) -> list[Outcome]:
        """What stands behind an item that stayed pending, and what was made of all."""
        return [outcome for position in sorted(self._waiting) for outcome in sorted(self._waiting[position], key=_key)]


def _key(outcome: Outcome) -> str:
    return outcome.key


def _now() -> float:
    return asyncio.get_running_loop().time()
