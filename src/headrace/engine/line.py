"""The stages of a run in a line: each works on what the one before has handed on, while that goes on. Enters a source,
ends when its last item has.

Between two stages is an inbox of bounded size: a slow stage slows those before it, and nothing else.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from headrace.core.errors import HeadraceError, InputError
from headrace.core.event import Event, ItemsPassed
from headrace.core.item import Item, Outcome
from headrace.core.ports import Source
from headrace.engine.announced import Announced
from headrace.engine.passage import Passage
from headrace.engine.roll import Roll
from headrace.engine.stage import Next, Step

INBOX = 256
"""Passages that wait between two stages, at most."""
_ITS_OWN = "Let it raise what went wrong, or end."


class Inbox:
    """What one stage hands to the next."""

    def __init__(self) -> None:
        self._waiting: list[Passage] = []
        self._ended = False
        self._came = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, passages: list[Passage]) -> None:
        """Returns when there is room for more."""
        while len(self._waiting) >= INBOX:
            self._room.clear()
            await self._room.wait()
        self._waiting += passages
        self._came.set()

    async def get(self) -> list[Passage]:
        """All that is there; empty at the end."""
        while not self._waiting and not self._ended:
            self._came.clear()
            await self._came.wait()
        waiting, self._waiting = self._waiting, []
        self._room.set()
        return waiting

    def end(self) -> None:
        self._ended = True
        self._came.set()


class Line:
    """The steps of one run at work."""

    def __init__(
        self,
        roll: Roll,
        emit: Callable[[Event], None],
        fatal: Callable[[HeadraceError], None],
        told: Announced | None = None,
    ) -> None:
        """`told` announces the stages, where there are several."""
        self._roll, self._emit, self._fatal, self._told = roll, emit, fatal, told
        self._steps: list[Step] = []
        self._inboxes: list[Inbox] = []
        self._reading: asyncio.Future[list[Item]] | None = None
        self._stopping = False
        self._enough = False
        roll.enough = self._read_enough
        self._error: Exception | None = None

    def lay(self, makers: Sequence[Callable[[Next | None], Step]]) -> None:
        """Make the steps; each gets to know where its passages go, the last one None."""
        self._inboxes = [Inbox() for _ in makers[1:]]
        self._steps = []
        for number, make in enumerate(makers):
            self._steps.append(make(self._onward(number) if number < len(self._inboxes) else None))

    def _onward(self, number: int) -> Next:
        async def onward(passages: list[Passage]) -> None:
            self._emit(ItemsPassed(_now(), self._steps[number].name, len(passages)))
            await self._inboxes[number].put(passages)

        return onward

    def stop(self) -> None:
        """Read no more and begin no more calls; what is in flight is finished."""
        self._stopping = True
        if self._reading is not None:
            self._reading.cancel()
        for step in self._steps:
            step.stop()
        self._roll.stop()

    def _read_enough(self, stage: str, reason: str) -> None:
        """A stage needs no more: read no more, and begin nothing before it."""
        self._enough = True
        for step in itertools.takewhile(lambda step: step.name != stage, self._steps):
            step.close(stage, reason)
        if self._reading is not None:
            self._reading.cancel()

    def drop(self) -> None:
        """Give up what is in flight as well."""
        self.stop()
        for step in self._steps:
            step.drop()

    async def outcomes(self, source: Source) -> AsyncGenerator[list[Outcome]]:
        work = [asyncio.create_task(self._feed(source))]
        work += [asyncio.create_task(self._pump(number)) for number in range(1, len(self._steps))]
        try:
            async with aclosing(self._roll.outcomes()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self.drop()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for step in self._steps:
                await step.finish(whole=False)

    async def _feed(self, source: Source) -> None:
        """The source's items to the first stage."""
        batches = aiter(source)
        first = self._steps[0]
        try:
            while not self._stopping and not self._enough:
                self._reading = asyncio.ensure_future(_next(batches))
                items = await self._reading
                for some in [[item] for item in items] if self._roll.one_by_one else [items]:
                    await self._enter(first, some)
        except StopAsyncIteration:
            self._roll.read_to_the_end()
        except asyncio.CancelledError:
            if _is_cancelled():
                raise  # not only the reading was
            if not self._stopping and not self._enough:
                self._broke(InputError("The source cancelled itself.", hint=_ITS_OWN), "")
        except Exception as error:  # noqa: BLE001 - handed to the consumer, after what is in flight
            self._broke(error, "The source broke")
        self._reading = None
        if self._enough and not self._stopping and not self._roll.exhausted:
            self._roll.read_to_the_end()
        await _close(batches)
        await self._finish(0)

    async def _enter(self, first: Step, items: list[Item]) -> None:
        await self._roll.room_for(items[0].position)
        passages, outcomes = await self._roll.take(items)
        if outcomes:
            await self._roll.end(outcomes)
        await self._take(first, passages)

    async def _pump(self, number: int) -> None:
        """What one stage handed on to the next."""
        inbox, step = self._inboxes[number - 1], self._steps[number]
        while passages := await inbox.get():
            try:
                await self._take(step, passages)
            except Exception as error:  # noqa: BLE001 - as in _feed
                self._broke(error, f"{step.name} broke")
        await self._finish(number)

    async def _take(self, step: Step, passages: list[Passage]) -> None:
        if passages:
            if self._told is not None:
                self._told.came(step.name, len(passages))
            await step.take(passages)

    async def _finish(self, number: int) -> None:
        step = self._steps[number]
        try:
            await step.finish(whole=self._roll.exhausted and not self._stopping)
        except Exception as error:  # noqa: BLE001 - as in _feed
            self._broke(error, f"{step.name} broke")
        if self._told is not None:
            self._told.ended(step.name)
        if number < len(self._inboxes):
            self._inboxes[number].end()
        else:
            await self._roll.close(self._error)

    def _broke(self, error: Exception, what: str) -> None:
        self._error = self._error or error
        self._fatal(error if isinstance(error, HeadraceError) else InputError(f"{what}: {error!r}"))


def _is_cancelled() -> bool:
    """Whether this task was told to end; what it awaits can be cancelled without that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _next(batches: AsyncIterator[list[Item]]) -> list[Item]:
    """A source that would end the program, as sys.exit does, ends the run."""
    try:
        return await anext(batches)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(f"The source broke: {type(error).__name__}: {error}.", hint=_ITS_OWN) from error


async def _close(batches: Any) -> None:
    close = getattr(batches, "aclose", None)
    if close is not None:
        await close()
