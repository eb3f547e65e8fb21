"""A world in virtual time: a provider that remembers every call, sources, and runs over the store's twin."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from headrace.core.call import Reply, Request
from headrace.core.errors import HeadraceError
from headrace.core.event import Event, StageInfo
from headrace.core.item import Item, Outcome
from headrace.core.limits import Unit
from headrace.core.ports import RunInfo
from headrace.engine.governor import Account
from headrace.engine.leg import Calling, Manner
from headrace.engine.runner import Runner, RunSettings
from headrace.flow.retry import Retry
from headrace.store.memory import Memory, MemoryStore
from headrace.task.ask import AskTask
from headrace.task.prompt import Template


class Provider:
    """Answers `ok TEXT` after a seeded latency; `fault(text, nth)` may name an error to raise instead."""

    def __init__(
        self, *, mean_s: float = 1.0, seed: int = 0, fault: Callable[[str, int], HeadraceError | None] | None = None
    ) -> None:
        self._chance = random.Random(seed)
        self._mean_s = mean_s
        self._fault = fault or (lambda _text, _nth: None)
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.starts: list[float] = []

    async def __call__(self, request: Request) -> Reply:
        text = request.messages[-1].content
        self.asked[text] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.starts.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(self._chance.expovariate(1 / self._mean_s) if self._mean_s else 0)
            error = self._fault(text, self.asked[text])
            if error is not None:
                raise error
            self.paid[text] += 1
            return Reply(f"ok {text}", input_tokens=3, output_tokens=2)
        finally:
            self.in_flight -= 1


class Rows:
    """A source of these rows, in batches of `batch`, `gap_s` apart; counts how far it was read."""

    arrow_schema = None
    notices = ()

    def __init__(
        self,
        rows: Sequence[Any],
        *,
        name: str = "rows",
        batch: int = 50,
        gap_s: float = 0.0,
        keys: Sequence[str] | None = None,
    ) -> None:
        self.rows, self.name, self._batch, self._gap_s, self._keys = rows, name, batch, gap_s, keys
        self.fields = ("text",)
        self.total = len(rows)
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        for start in range(0, len(self.rows), self._batch):
            await asyncio.sleep(self._gap_s)
            chunk = self.rows[start : start + self._batch]
            self.given += len(chunk)
            yield [
                Item(self._keys[position] if self._keys else f"{position}-{row}", position, {"text": row})
                for position, row in enumerate(chunk, start)
            ]


def runner(
    provider: Any,
    rows: Rows,
    store: MemoryStore,
    *,
    concurrency: int | None = 10,
    limits: Mapping[Unit, float] | None = None,
    account: Account = Account("test"),
    name: str = "r",
    events: list[Event] | None = None,
    template: str = "{text}",
    timeout_s: float = 60.0,
    retry: Retry = Retry(),
    seed: int = 0,
    task: Any = None,
    **settings: Any,
) -> Runner:
    """A run that is ready to start, under the id `name`. Without `concurrency` it is searched for."""
    asked = task or AskTask(Template(template), endpoint=("test", ""), model="m")
    stated = {} if concurrency is None else {Unit.CONCURRENCY: float(concurrency)}
    own = {field: settings.pop(field) for field in ("charge", "warm", "price") if field in settings}
    manner = {field: settings.pop(field) for field in ("backup_share", "weight", "priority") if field in settings}
    calling = Calling(
        info=StageInfo("ask", "ask"), task=asked, call=provider, account=account, stated=stated | dict(limits or {}),
        timeout_s=timeout_s, **own,
    )  # fmt: skip
    return Runner(
        [calling], rows, store, RunInfo(id=name, name=name, source=rows.name, spec={}),
        RunSettings(manner=Manner(retry=retry, seed=seed, **manner), **settings),
        emit=(events if events is not None else []).append,
    )  # fmt: skip


async def collect(made: Runner) -> list[Outcome]:
    return [outcome async for batch in made.outcomes() for outcome in batch]


def stored(memory: Memory, run: str = "r") -> list[Outcome]:
    return list(MemoryStore(memory).scan(run))
