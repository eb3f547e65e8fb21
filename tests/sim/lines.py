"""Pipelines in virtual time: the real engine over stages of functions, and what became of every item."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from headrace.core.event import Event
from headrace.core.item import Outcome
from headrace.core.ports import RunInfo
from headrace.engine.leg import Manner
from headrace.engine.runner import Runner, RunSettings
from headrace.flow.retry import Retry
from headrace.settings import Limits, Settings
from headrace.staging import staged
from headrace.store.memory import Memory, MemoryStore
from headrace.task.pipeline import Pipeline
from sim.world import Rows


def line(
    pipeline: Pipeline[Any],
    rows: Rows,
    store: MemoryStore,
    *,
    events: list[Event] | None = None,
    concurrency: int = 10,
    retry: Retry = Retry(attempts=1),
    name: str = "r",
    **settings: Any,
) -> Runner:
    """A run of this pipeline that is ready to start, under the id `name`."""
    made = staged(pipeline, rows.fields, Settings(limits=Limits(concurrency=concurrency)), {})
    return Runner(
        made.stages, rows, store, RunInfo(id=name, name=name, source=rows.name, spec={}),
        RunSettings(manner=Manner(retry=retry, seed=1), **settings),
        emit=(events if events is not None else []).append,
    )  # fmt: skip


async def all_of(made: Runner) -> list[Outcome]:
    return [outcome async for batch in made.outcomes() for outcome in batch]


def ends(memory: Memory, run: str = "r") -> dict[str, Outcome]:
    """Every outcome of the run, also of what was dropped, by key."""
    return {key: outcome for key, (_, outcome) in memory.outcomes[run].items()}


def kinds(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter(
        "dropped" if outcome.dropped else "ok" if outcome.ok else "failed" for outcome in outcomes
    )  # fmt: skip


class Work:
    """An async function that takes `seconds` for each row, and counts who is at work."""

    def __init__(self, seconds: float, *, fails: frozenset[str] = frozenset()) -> None:
        self.seconds, self.fails = seconds, fails
        self.at_work = self.most = self.done = 0
        self.first_s = self.last_s = 0.0

    async def __call__(self, row: Any) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self.first_s = self.first_s or loop.time()
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await asyncio.sleep(self.seconds)
            if row["text"] in self.fails:
                raise ValueError(f"no {row['text']}")
            return {f"after_{self.seconds:g}": True}
        finally:
            self.at_work -= 1
            self.done += 1
            self.last_s = loop.time()
