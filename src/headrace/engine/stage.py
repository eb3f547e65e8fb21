"""A stage whose items are each worked on by one call, or one for each sample. Enters passages, hands on those that come
through, and ends those that do not.

1. A passage holds a place from before its call until whoever is next has taken it: memory is bounded by places.
2. What is served from the store takes no place; it goes in batches, as it came, a few of them at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import AnswerError, HeadraceError, OutputError, StoreError, Verdict
from headrace.core.item import Item, Outcome, extended
from headrace.core.ports import Task
from headrace.engine.cached import Cached, valued
from headrace.engine.passage import NOTHING, Passage, Took, dropped, failed, finished, took_of, took_of_failure
from headrace.engine.roll import Roll

_BATCHES = 4
_TOGETHER = 1000
"""Items of one that are handed on together."""
_CHILDREN = 10_000
"""Items to be whose values may wait in a stage that makes them, about."""
_FIRST = 16
"""So many are made into others at once before it is known how many those are."""
KEY_SIGN = "::"
"""Between an item's key and what tells those apart that were made of it."""

Next = Callable[[list[Passage]], Awaitable[None]]
"""Where passages go that come through a stage."""
_Asked = tuple[Passage, list[Request]]


class After(Enum):
    """What the value of a call does to its item."""

    EXTEND = "extend"
    """It is the item's value, and its fields are columns of the item for the next stage."""
    KEEP = "keep"
    """Whether the item goes on."""
    SPREAD = "spread"
    """A list: each of its values becomes an item."""


class Step(Protocol):
    """A stage at work in a run."""

    name: str

    async def take(self, passages: list[Passage]) -> None:
        """Work on these; returns when more may come."""
        ...

    async def finish(self, *, whole: bool) -> None:
        """No more will come; `whole` where none was left out. Returns when all are handed on or ended."""
        ...

    def stop(self) -> None:
        """Begin no more calls; what is in flight is finished."""
        ...

    def close(self, stage: str, reason: str) -> None:
        """A later stage needs no more: begin no more calls, and let it take out what comes."""
        ...

    def drop(self) -> None:
        """Give up what is in flight as well."""
        ...


class Stage:
    def __init__(
        self,
        task: Task,
        call: Call,
        *,
        roll: Roll,
        onward: Next | None,
        places: Callable[[], int],
        fatal: Callable[[HeadraceError], None],
        cached: Cached | None = None,
        name: str = "",
        said: str = "",
        after: After = After.EXTEND,
        when: Callable[[Item], bool] | None = None,
        failure: str = "",
        batch: int = 256,
        begin_no_more: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """`name` is empty where there is only one, which sentences call `said`. `onward` is None for the last stage.
        `cached` is None for a task whose answers are not reusable. `places` says how many passages may hold a place at
        this moment. `fatal` is told of errors that end the run. Items for which `when` is not so pass by as they are;
        those that fail go on with why in the column `failure`, where there is one. `batch` of them are looked up in the
        store together. After `begin_no_more` calls that were not begun raise an error that leaves their item pending."""
        self.name = name
        self._said = said or name
        self._task, self._call, self._cached = task, call, cached
        self._roll, self._onward, self._fatal = roll, onward, fatal
        self._after, self._when, self._failure, self._batch = after, when, failure, batch
        self._most_places = places
        self._places = _Places(places if after is not After.SPREAD else self._few)
        self._spreads = self._made = 0
        """Items that were made into others, and how many those were."""
        self._batches = asyncio.Semaphore(_BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._begin_no_more = begin_no_more
        self._out: tuple[str, str] | None = None
        """Why what comes is taken out, and the stage that does that."""

    def stop(self) -> None:
        self._stopping = True

    def close(self, stage: str, reason: str) -> None:
        self._out = reason, stage
        self._begin_no_more(reason)

    def drop(self) -> None:
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def finish(self, *, whole: bool) -> None:  # noqa: ARG002 - each item is for itself
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def take(self, passages: list[Passage]) -> None:
        if self._out is not None:
            await self._roll.end([dropped(passage, *self._out) for passage in passages])
            return
        for start in range(0, len(passages), self._batch):
            if self._stopping:
                return
            await self._take(passages[start : start + self._batch])

    async def _take(self, passages: list[Passage]) -> None:
        """Serve what is known, begin calls for the rest."""
        asked, ready, outcomes = self._requests(passages)
        requests = [request for _, samples in asked for request in samples]
        known = await self._cached.known_or_claimed(requests) if self._cached and asked else {}
        unknown: list[_Asked] = []
        served: list[tuple[Passage, list[Reply]]] = []
        for passage, samples in asked:
            replies = [known[request.digest] for request in samples if request.digest in known]
            if len(replies) == len(samples):
                served.append((passage, replies))
            else:
                unknown.append((passage, samples))
        if served:
            self._roll.served(len(served), self.name)
        if outcomes or ready or served:
            await self._batches.acquire()
            self._begin(self._serve(outcomes, ready, served), self._batches.release)
        for passage, samples in unknown:
            if not await self._asked(passage, samples, known):
                return

    def _requests(self, passages: list[Passage]) -> tuple[list[_Asked], list[Passage], list[Outcome]]:
        """What to ask; what passes by; what cannot be asked about."""
        asked: list[_Asked] = []
        by: list[Passage] = []
        outcomes: list[Outcome] = []
        for passage in passages:
            try:
                if self._when is None or self._when(passage.item):
                    asked.append((passage, [self._task.request(passage.item, n) for n in range(self._task.samples)]))
                else:
                    by.append(passage)
            except HeadraceError as error:
                if error.verdict is Verdict.STOP_RUN:
                    raise
                self._fell(passage, error, by, outcomes)
        return asked, by, outcomes

    async def _asked(self, passage: Passage, samples: list[Request], known: Mapping[Digest, Reply]) -> bool:
        """Begin the item's calls once there is a place for it; False where the run stops first."""
        await self._places.acquire()
        if self._stopping:
            self._places.release()
            return False
        self._begin(self._ask(passage, samples, known), self._places.release)
        return True

    def _begin(self, work: Coroutine[Any, Any, None], release: Callable[[], None]) -> None:
        """`release` also where it is cancelled before its first step, which its own code would not see."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            release()

        task.add_done_callback(over)

    async def _serve(
        self, outcomes: list[Outcome], ready: list[Passage], served: list[tuple[Passage, list[Reply]]]
    ) -> None:
        """A batch that takes no call, while the next one is read."""
        try:
            special: list[tuple[Passage, list[Reply]]] = []
            for passage, replies in served:
                if self._after is After.EXTEND and self._task.failed(replies[0].value) is None:
                    ready.append(self._extended(passage, replies))
                else:
                    special.append((passage, replies))
            await self._hand_on(ready, outcomes)
            await asyncio.gather(*[self._through(passage, replies) for passage, replies in special])
        except (StoreError, OutputError) as error:
            self._fatal(error)
        except Exception as error:  # noqa: BLE001 - as in _ask
            await self._roll.broke(error)

    async def _ask(self, passage: Passage, samples: list[Request], known: Mapping[Digest, Reply]) -> None:
        try:
            await self._answer(passage, samples, known)
        except (StoreError, OutputError) as error:
            self._fatal(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours: it must end the run aloud, not be lost with its task
            await self._roll.broke(error)

    async def _answer(self, passage: Passage, samples: list[Request], known: Mapping[Digest, Reply]) -> None:
        """Make the calls and hand on what comes of them, or leave the item pending. Of several samples those that were
        answered count."""
        calls = [self._reply(request, known) for request in samples]
        made = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        replies = [reply for reply in made if isinstance(reply, Reply)]
        errors = [error for error in made if isinstance(error, HeadraceError)]
        for error in errors:
            if error.verdict is Verdict.STOP_RUN:
                self._fatal(error)
            if error.verdict is Verdict.LEAVE_PENDING and self._out is not None:
                await self._roll.end([dropped(passage, *self._out)])
            if error.verdict in (Verdict.STOP_RUN, Verdict.LEAVE_PENDING):
                return
        if replies:
            if all(reply.cached for reply in replies):
                self._roll.served(1, self.name)
            await self._through(passage, replies)
        else:
            await self._fail(passage, errors[0])

    async def _reply(self, request: Request, known: Mapping[Digest, Reply]) -> Reply | HeadraceError:
        try:
            reply = known.get(request.digest) or await self._call(request)
            return reply if self._cached is not None else valued(self._task.value, reply)
        except HeadraceError as error:
            return error

    async def _through(self, passage: Passage, replies: Sequence[Reply]) -> None:
        """What the value does to the item, and on with it."""
        error = self._task.failed(replies[0].value)
        if error is not None:
            error.attempts, error.reply = replies[0].attempts, replies[0]
            await self._fail(passage, error)
            return
        if self._after is After.EXTEND:
            await self._hand_on([self._extended(passage, replies)], [])
            return
        took = took_of(replies[0])
        taken = passage._replace(took=took if passage.took is None else passage.took.and_then(took))
        value = replies[0].value
        if self._after is After.SPREAD:
            await self._spread(taken, value)
        elif value:
            await self._hand_on([taken], [])
        else:
            await self._roll.end([dropped(taken, f"filtered by {self._said}", self.name)])

    async def _fail(self, passage: Passage, error: HeadraceError) -> None:
        onward: list[Passage] = []
        outcomes: list[Outcome] = []
        self._fell(passage, error, onward, outcomes)
        await self._hand_on(onward, outcomes)

    def _fell(self, passage: Passage, error: HeadraceError, onward: list[Passage], outcomes: list[Outcome]) -> None:
        """It ends here, or goes on with why."""
        if not self._failure:
            outcomes.append(failed(passage, error, self.name))
            return
        item, took = extended(passage.item, {self._failure: error.message}, self._failure), took_of_failure(error)
        onward.append(
            passage._replace(
                item=item,
                took=took if passage.took is None else passage.took.and_then(took),
                before=None,
                value=None,
                samples=(),
                agreement=None,
            )
        )

    def _extended(self, passage: Passage, replies: Sequence[Reply]) -> Passage:
        item, reply = passage.item, replies[0]
        took, value, samples, agreement = took_of(reply), reply.value, (), None
        if self._task.samples > 1:
            samples = tuple([reply.value for reply in replies])
            best, agreement = self._task.agreed(samples)
            took, value = _sampled(replies), samples[best]
        took = took if passage.took is None else passage.took.and_then(took)
        onward = item if self._onward is None else self._task.onward(item, value)
        return Passage(onward, passage.source, took, item, value, samples, agreement)

    async def _spread(self, passage: Passage, values: Any) -> None:
        if not isinstance(values, list | tuple):
            error = AnswerError(
                f"{self._said} gave {type(values).__name__}, no list of items.", hint="Let it return a list."
            )
            await self._roll.end([failed(passage, error, self.name)])
            return
        self._spreads, self._made = self._spreads + 1, self._made + len(values)
        for children in spread(passage, values, self._task.onward):
            if self._stopping or self._out is not None:
                break
            await self._hand_on(*await self._roll.make(children, self.name))
        if self._out is not None:
            await self._roll.end([dropped(passage, *self._out)])
        elif not self._stopping:  # else it is taken apart again when the run goes on
            await self._roll.end([dropped(passage, made_into(len(values), self._said), self.name)])

    def _few(self) -> int:
        """Places of a stage that makes items: as many as make so many that their values fit into memory."""
        few = _CHILDREN * self._spreads // max(self._made, 1) if self._spreads else _FIRST
        return min(max(few, 1), self._most_places())

    async def _hand_on(self, passages: list[Passage], outcomes: list[Outcome]) -> None:
        if self._onward is None:
            outcomes = outcomes + [finished(passage, self.name) for passage in passages] if passages else outcomes
        elif passages:
            await self._onward(passages)
        if outcomes:
            await self._roll.end(outcomes)


def spread(passage: Passage, values: Sequence[Any], onward: Callable[[Item, Any], Item]) -> Iterator[list[Passage]]:
    """An item for each of the values, in their order, with keys that sort so; a bounded number of them at a time."""
    item, width = passage.item, len(str(max(len(values) - 1, 0)))
    for start in range(0, len(values), _TOGETHER):
        made: list[Passage] = []
        for number, value in enumerate(values[start : start + _TOGETHER], start):
            key = f"{item.key}{KEY_SIGN}{number:0{width}}"
            before = msgspec.structs.replace(item, key=key)
            made.append(Passage(onward(before, value), passage.source, None, before, value))
        yield made


def made_into(count: int, stage: str) -> str:
    return f"made into {count} by {stage}"


def _sampled(replies: Sequence[Reply]) -> Took:
    """With what all samples took; they were asked at the same time."""
    took = NOTHING
    for reply in replies:
        took = took.and_then(took_of(reply))
    return took._replace(seconds=max(reply.seconds for reply in replies))


class _Places:
    """How many items may be begun and not yet taken: follows a limit that moves."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None

    async def acquire(self) -> None:
        """One waits at a time: whoever reads."""
        while self._taken >= self._most():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._taken += 1

    def release(self) -> None:
        self._taken -= 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
