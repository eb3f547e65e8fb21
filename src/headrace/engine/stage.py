"""One step over a stream of items: reads ahead as far as calls can use, and ends every item in one outcome.

Enters batches of items, leaves batches of outcomes that are already durable. Rules of this file:

1. An item is read, then settled or left pending; `unsettled` is the difference. Nothing else may happen to it.
2. An item holds a place from before its call until its outcome is taken by the consumer: memory is bounded by places.
3. What is served from the store takes no place; it goes in batches, as it was read, a few of them at once.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import HeadraceError, InputError, OutputError, RepeatedKey, StoreError, Verdict
from headrace.core.event import Event, ItemsRead, Settled, SourceRead
from headrace.core.item import Failure, Item, Outcome, failure_of
from headrace.core.ports import Done, Source, Store, Task
from headrace.engine.cached import Cached, valued

_END = None
_BATCHES = 4
_REORDER = 4
"""How many times the places an ordered run may read past its first unfinished item."""


class Stage:
    """A task over a source, for one run that is open in the store."""

    def __init__(
        self,
        task: Task,
        call: Call,
        *,
        store: Store,
        run: str,
        session: int,
        places: Callable[[], int],
        emit: Callable[[Event], None],
        fatal: Callable[[HeadraceError], None],
        cached: Cached | None = None,
        keyed: bool = False,
        keep_failures: bool = False,
        ordered: bool = False,
        name: str = "",
    ) -> None:
        """`cached` is None for a task whose answers are not reusable. `places` says how many items may hold a place
        at this moment. `ordered` gives outcomes in the order of the source, reading no further batch once it is a few
        times that many items past the first unfinished one. `fatal` is told of errors that end the run."""
        self._task, self._call, self._cached = task, call, cached
        self._store, self._run, self._session = store, run, session
        self._emit, self._fatal = emit, fatal
        self._keyed, self._keep_failures, self._name = keyed, keep_failures, name
        self._places = _Places(places)
        self._batches = asyncio.Semaphore(_BATCHES)
        self._out: asyncio.Queue[list[Outcome] | Exception | None] = asyncio.Queue(maxsize=64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open_keys: set[str] = set()
        self._order = _Order(places) if ordered else None
        self._reading: asyncio.Future[list[Item]] | None = None
        self._stopping = False
        self.read = 0
        self.settled = 0
        self.exhausted = False

    @property
    def unsettled(self) -> int:
        return self.read - self.settled

    def stop(self) -> None:
        """Read no more and begin no more calls; what is in flight is finished."""
        self._stopping = True
        if self._reading is not None:
            self._reading.cancel()
        if self._order is not None:
            self._order.open()

    def drop(self) -> None:
        """Give up what is in flight as well."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def outcomes(self, source: Source) -> AsyncGenerator[list[Outcome]]:
        feed = asyncio.create_task(self._feed(source))
        try:
            async with aclosing(self._handed_on()) as batches:
                async for batch in batches:
                    ready = batch if self._order is None else self._order.next(batch)
                    if ready:
                        yield ready
            if self._order is not None and (rest := self._order.rest()):
                yield rest
        finally:
            self.drop()
            feed.cancel()
            await asyncio.gather(feed, *self._tasks, return_exceptions=True)

    async def _handed_on(self) -> AsyncGenerator[list[Outcome]]:
        """All that is there, at once: those committed together arrive together. Raises what broke the stage."""
        ended = False
        while not ended:
            there = [await self._out.get()]
            while not self._out.empty():
                there.append(self._out.get_nowait())
            yield [outcome for batch in there if isinstance(batch, list) for outcome in batch]
            for error in there:
                if isinstance(error, Exception):
                    raise error
            ended = _END in there

    async def _feed(self, source: Source) -> None:
        """Read, serve what is known, begin calls for the rest; at the end wait for them."""
        error: Exception | None = None
        batches = aiter(source)
        try:
            while not self._stopping:
                self._reading = asyncio.ensure_future(anext(batches))
                items = await self._reading
                self.read += len(items)
                self._emit(ItemsRead(_now(), len(items)))
                await self._take(items)
        except StopAsyncIteration:
            self.exhausted = True
            self._emit(SourceRead(_now(), self.read))
        except asyncio.CancelledError:
            if self._cancelled():
                raise  # not only the reading was
        except Exception as raised:  # noqa: BLE001 - handed to the consumer, after what is in flight
            error = raised
            self._fatal(raised if isinstance(raised, HeadraceError) else InputError(f"The source broke: {raised!r}"))
        self._reading = None
        await _close(batches)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._out.put(error or _END)

    async def _take(self, items: list[Item]) -> None:
        if self._order is not None:
            await self._order.room_for(items[0].position)
        items, outcomes = await self._sorted_out(items)
        asked: list[tuple[Item, list[Request]]] = []
        for item in items:
            try:
                asked.append((item, [self._task.request(item, sample) for sample in range(self._task.samples)]))
            except HeadraceError as error:
                if error.verdict is Verdict.STOP_RUN:
                    raise
                outcomes.append(self._failed(item, error))
        requests = [request for _, samples in asked for request in samples]
        known = await self._cached.known_or_claimed(requests) if self._cached and asked else {}
        unknown: list[tuple[Item, list[Request]]] = []
        for item, samples in asked:
            replies = [known[request.digest] for request in samples if request.digest in known]
            if len(replies) == len(samples):
                outcomes.append(self._ended(item, replies))
            else:
                unknown.append((item, samples))
        if outcomes:
            await self._batches.acquire()
            self._begin(self._hand_on(outcomes))
        for item, samples in unknown:
            if not await self._asked(item, samples, known):
                return

    async def _asked(self, item: Item, samples: list[Request], known: Mapping[Digest, Reply]) -> bool:
        """Begin the item's calls once there is a place for it; False where the run stops first."""
        await self._places.acquire()
        if self._stopping:
            self._places.release()
            return False
        self._begin(self._ask(item, samples, known))
        return True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_on(self, outcomes: list[Outcome]) -> None:
        """A batch that took no call, while the next one is read."""
        try:
            await self._out.put(await self._settle(outcomes))
        except StoreError as error:
            self._fatal(error)
        except Exception as error:  # noqa: BLE001 - as in _ask
            await self._out.put(error)
        finally:
            self._batches.release()

    async def _sorted_out(self, items: list[Item]) -> tuple[list[Item], list[Outcome]]:
        """Take out repeated keys, and failures that are to be kept, where the run asks for that."""
        if not (self._keyed or self._keep_failures):
            return items, []
        open_before = set(self._open_keys)
        seen = await self._store.outcomes(self._run, [item.key for item in items])
        rest: list[Item] = []
        outcomes: list[Outcome] = []
        for item in items:
            session, before = seen.get(item.key, (0, None))
            if item.key in open_before or item.key in self._open_keys or session == self._session:
                again = Item(f"{item.key} (row {item.position + 1})", item.position, item.data)
                error = RepeatedKey(
                    f"The key {item.key!r} stands in the input more than once.",
                    hint="Choose a --key column without repeats.",
                )
                outcomes.append(self._failed(again, error))
                continue
            self._open_keys.add(item.key)
            if self._keep_failures and before is not None and before.error is not None:
                kept = msgspec.structs.replace(before, position=item.position, item=item.data, cached=True)
                outcomes.append(kept)
            else:
                rest.append(item)
        return rest, outcomes

    async def _ask(self, item: Item, samples: list[Request], known: Mapping[Digest, Reply]) -> None:
        try:
            outcome = await self._answer(item, samples, known)
            if outcome is not None:
                await self._out.put(await self._settle([outcome]))
        except (StoreError, OutputError) as error:
            self._fatal(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must end the run aloud, not be lost with its task
            await self._out.put(error)
        finally:
            self._places.release()

    async def _answer(self, item: Item, samples: list[Request], known: Mapping[Digest, Reply]) -> Outcome | None:
        """The item's outcome, or None where it stays pending. Of several samples those that were answered count."""
        calls = [self._reply(request, known) for request in samples]
        made = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        replies = [reply for reply in made if isinstance(reply, Reply)]
        errors = [error for error in made if isinstance(error, HeadraceError)]
        for error in errors:
            if error.verdict is Verdict.STOP_RUN:
                self._fatal(error)
            if error.verdict in (Verdict.STOP_RUN, Verdict.LEAVE_PENDING):
                return None
        return self._ended(item, replies) if replies else self._failed(item, errors[0])

    async def _reply(self, request: Request, known: Mapping[Digest, Reply]) -> Reply | HeadraceError:
        try:
            reply = known.get(request.digest) or await self._call(request)
            return reply if self._cached is not None else valued(self._task.value, reply)
        except HeadraceError as error:
            return error

    @staticmethod
    def _cancelled() -> bool:
        """Whether this task was told to end; what it awaits can be cancelled without that."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _ended(self, item: Item, replies: list[Reply]) -> Outcome:
        reply = replies[0]
        if self._task.samples > 1:
            return self._sampled(item, replies)
        return Outcome(
            key=item.key, position=item.position, item=item.data, value=reply.value, attempts=reply.attempts,
            seconds=reply.seconds, cached=reply.cached, stage=self._name, input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
        )  # fmt: skip

    def _sampled(self, item: Item, replies: list[Reply]) -> Outcome:
        """With what all samples took; they were asked at the same time."""
        values = tuple([reply.value for reply in replies])
        best, agreement = self._task.agreed(values)
        return Outcome(
            key=item.key, position=item.position, item=item.data, value=values[best],
            attempts=sum(reply.attempts for reply in replies), seconds=max(reply.seconds for reply in replies),
            cached=all(reply.cached for reply in replies), stage=self._name,
            input_tokens=sum(reply.input_tokens or 0 for reply in replies),
            output_tokens=sum(reply.output_tokens or 0 for reply in replies),
            samples=values, agreement=agreement,
        )  # fmt: skip

    def _failed(self, item: Item, error: HeadraceError) -> Outcome:
        paid = error.reply
        return Outcome(
            key=item.key, position=item.position, item=item.data, error=failure_of(error), stage=self._name,
            attempts=error.attempts, seconds=paid.seconds if paid else 0.0,
            input_tokens=paid.input_tokens if paid else None, output_tokens=paid.output_tokens if paid else None,
        )  # fmt: skip

    async def _settle(self, outcomes: list[Outcome]) -> list[Outcome]:
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
        self._emit(Settled(_now(), tuple(outcomes)))
        return outcomes


def _unstorable(outcome: Outcome, error: Exception) -> Outcome:
    failure = Failure("answer", f"The value has no JSON form ({error}).", "Use a type whose values JSON can hold.")
    return msgspec.structs.replace(outcome, value=None, error=failure)


class _Places:
    """How many items may be begun and not yet taken: follows a limit that moves."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._taken = 0
        self._freed = asyncio.Event()

    async def acquire(self) -> None:
        while self._taken >= self._most():
            self._freed.clear()
            await self._freed.wait()
        self._taken += 1

    def release(self) -> None:
        self._taken -= 1
        self._freed.set()


class _Order:
    """Gives outcomes back in the order of their positions; how far reading may run ahead is bounded."""

    def __init__(self, places: Callable[[], int]) -> None:
        self._room: Callable[[], int] = lambda: places() * _REORDER
        self._next = 0
        self._waiting: dict[int, Outcome] = {}
        self._moved = asyncio.Event()

    async def room_for(self, position: int) -> None:
        while position >= self._next + self._room():
            self._moved.clear()
            await self._moved.wait()

    def next(self, outcomes: list[Outcome]) -> list[Outcome]:
        self._waiting.update((outcome.position, outcome) for outcome in outcomes)
        ready: list[Outcome] = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        if ready:
            self._moved.set()
        return ready

    def open(self) -> None:
        """Let reading run ahead: the run is stopping, and an item that stays pending will never move this on."""
        self._room = lambda: sys.maxsize
        self._moved.set()

    def rest(self) -> list[Outcome]:
        """What stands behind an item that stayed pending."""
        return [self._waiting[position] for position in sorted(self._waiting)]


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _close(batches: Any) -> None:
    close = getattr(batches, "aclose", None)
    if close is not None:
        await close()
