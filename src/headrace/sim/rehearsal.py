"""One rehearsal: the real engine in virtual time against the likeness of endpoints. Enters what is known and how large
the prompts are; leaves how it went. Reads no file, sends nothing, keeps nothing."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from headrace.core.event import CallEnded, CallStarted, Event, Gauge, Settled, StageInfo
from headrace.core.item import Item, Outcome
from headrace.core.limits import Learnt, Unit
from headrace.core.ports import Record, RunInfo, Source
from headrace.engine.governor import Account
from headrace.engine.leg import Calling, Manner
from headrace.engine.lender import recall
from headrace.engine.runner import Local, Runner, RunSettings
from headrace.engine.snapshot import Snapshot
from headrace.engine.tally import Tally
from headrace.flow.estimate import Charge
from headrace.sim.likeness import Kind, Known, Likeness
from headrace.sim.part import Chances, Part, Prompts, around, local_of
from headrace.sim.swift import SwiftLoop
from headrace.store.memory import MemoryStore

COMMIT_S = 0.02
_ENDPOINT = "rehearsed"
_BATCH = 500


class PartCourse(msgspec.Struct, frozen=True, kw_only=True):
    """How one stage went."""

    name: str
    items: int
    """That came to it."""
    calls: int
    input_tokens: int
    output_tokens: int
    waited_s: Mapping[str, float] = {}


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How one rehearsal went."""

    seconds: float
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    ends_s: Sequence[float]
    """When each item was done; of a pipeline, each call."""
    waited_s: Mapping[str, float]
    """How long the head of the line waited, by cause; of a pipeline, at the stage that waited most."""
    in_flight: float
    """In the mean."""
    learnt: Learnt = Learnt()
    """What a run after this one would begin with."""
    parts: tuple[PartCourse, ...] = ()
    """Of a pipeline."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be rehearsed: how large each prompt is, and how the run goes about it."""

    tokens: Sequence[int]
    """In, of each call; of a pipeline, of the first call that must be made for each item."""
    timeout_s: float = 300.0
    """Of an attempt, at most."""
    charge: Charge = Charge("usage")
    manner: Manner = Manner()
    params: Mapping[str, Any] = {}
    """The maximum output, as the request names it."""
    max_output: int | None = None
    again: float = 0.0
    """The share of answers that are asked for once more."""
    parts: tuple[Part, ...] = ()
    """The stages of a pipeline; empty for a single question."""
    begins: Sequence[int] = ()
    """For each item, the stage at which the first call must be made; empty: the first."""
    in_flight: int | None = None
    """Items of the source that are worked on at once."""

    def changed(self, unit: Unit, factor: float, account: str | None = None) -> "Work":
        """With one limit larger, of this account or of all."""
        parts = [
            msgspec.structs.replace(part, known=part.known.changed(unit, factor))
            if part.known is not None and account in (None, part.account)
            else part
            for part in self.parts
        ]
        return msgspec.structs.replace(self, parts=tuple(parts))

    def resized(self, factor: float) -> "Work":
        """With prompts so much larger."""
        parts = [
            msgspec.structs.replace(part, tokens=[round(factor * size) for size in part.tokens]) for part in self.parts
        ]
        return msgspec.structs.replace(
            self, tokens=[round(factor * size) if size > 0 else size for size in self.tokens], parts=tuple(parts)
        )


def rehearse(work: Work, known: Known, seed: int, *, certain: bool = False) -> Course:
    """Virtual time costs nothing but CPU: some 0.1 ms a call. `known` is of a single question's endpoint."""
    collects = gc.isenabled()
    gc.disable()  # a tenth of the time, for a heap that only grows by what is counted
    try:
        with asyncio.Runner(loop_factory=SwiftLoop) as runner:
            return runner.run(_rehearsed(work, known, seed, certain=certain))
    finally:
        if collects:
            gc.enable()


async def _rehearsed(work: Work, known: Known, seed: int, *, certain: bool) -> Course:
    parts = work.parts or (_only(work, known),)
    troupe = _Troupe(work, parts, seed, certain=certain)
    store = _Blank(commit_s=COMMIT_S)
    for part in parts:
        if part.known is not None and part.known.learnt.at:
            store.memory.endpoints[part.account] = (time.time(), msgspec.json.encode(part.known.learnt))
    manner = msgspec.structs.replace(work.manner, seed=seed)
    info = RunInfo(id="rehearsal", name="", source="", spec={})
    settings = RunSettings(manner=manner, in_flight=work.in_flight)
    made = Runner(troupe.stages, _Sizes(len(work.tokens)), store, info, settings, emit=_ignore)
    made.tally = tally = _Staged() if work.parts else _Sparse()
    loop = asyncio.get_running_loop()
    ends_s: list[float] = []
    failed = 0
    async for batch in made.outcomes():
        ends_s += [loop.time()] * len(batch)
        failed += sum([outcome.error is not None for outcome in batch])
    snapshot = tally.snapshot(loop.time())
    await asyncio.sleep(2 * COMMIT_S)
    kinds = [kind for kind in troupe.kinds.values() if kind.talks]
    return Course(
        seconds=snapshot.seconds, calls=sum(kind.calls for kind in troupe.kinds.values()), failed=failed,
        input_tokens=sum(kind.into for kind in kinds), output_tokens=sum(kind.out for kind in kinds),
        ends_s=sorted(troupe.ends_s) if work.parts else ends_s, waited_s=dict(snapshot.waited_s),
        in_flight=tally.in_flight(), learnt=await recall(store, parts[0].account),
        parts=troupe.told(snapshot) if work.parts else (),
    )  # fmt: skip


def _only(work: Work, known: Known) -> Part:
    return Part(
        info=StageInfo("rehearsal", "ask"), known=known, account=_ENDPOINT, timeout_s=work.timeout_s,
        charge=work.charge, params=work.params, max_output=work.max_output, again=work.again,
    )  # fmt: skip


class _Troupe:
    """The stages of a rehearsal, each with who answers it."""

    def __init__(self, work: Work, parts: Sequence[Part], seed: int, *, certain: bool) -> None:
        self.kinds: dict[str, Kind] = {}
        self.stages: list[Calling | Local] = []
        self.ends_s: list[float] = []
        self._parts = parts
        likenesses: dict[str, Likeness] = {}
        chance = Random(seed)  # noqa: S311 - a rehearsal
        entries = Chances(work.tokens, work.begins)
        for number, part in enumerate(parts):
            own = Chances(entries.tokens, entries.begins, chance, part, number)
            if part.known is None:
                self.stages.append(local_of(part, own))
                continue
            kind = self.kinds[part.info.name] = Kind(part.known, chance, max_output=part.max_output, certain=certain)
            kind.talks = bool(part.info.model) or not work.parts
            likeness = likenesses.setdefault(part.account, Likeness(part.known))
            ends_s = self.ends_s if work.parts else None
            self.stages.append(
                Calling(
                    info=part.info, task=Prompts(part, own), call=likeness.call_of(kind, ends_s), stated=part.known.stated,
                    account=Account(part.account, start=part.known.start, most=part.known.most), charge=part.charge,
                    timeout_s=part.timeout_s, steady=part.steady, after=part.after, failure=part.failure,
                    when=own.asked if own.skips else None, around=around(part.again, own) if part.again else None,
                )
            )  # fmt: skip

    def told(self, snapshot: Snapshot) -> tuple[PartCourse, ...]:
        figures = {each.name: each for each in snapshot.stages}
        found = []
        for part in self._parts:
            name = part.info.name
            kind, figure = self.kinds.get(name), figures.get(name)
            found.append(
                PartCourse(
                    name=name, items=figure.taken if figure else 0, calls=kind.calls if kind else 0,
                    input_tokens=kind.into if kind and kind.talks else 0, output_tokens=kind.out if kind and kind.talks else 0,
                    waited_s=figure.waited_s if figure else {},
                )
            )  # fmt: skip
        return tuple(found)


class _Staged(Tally):
    """With calls in flight in the mean, of all stages."""

    def __init__(self) -> None:
        super().__init__()
        self._area = 0.0
        self._last: dict[str, tuple[float, float]] = {}

    def add(self, event: Event) -> None:
        if type(event) is Gauge:
            last_s, before = self._last.get(event.stage, (0.0, 0.0))
            self._area += before * (event.at_s - last_s)
            self._last[event.stage] = event.at_s, float(event.in_flight)
        super().add(event)

    def in_flight(self) -> float:
        end_s = max((last_s for last_s, _ in self._last.values()), default=0.0)
        return self._area / end_s if end_s else 0.0


class _Sparse(_Staged):
    """Of a single question: its calls are counted by who answers them."""

    def add(self, event: Event) -> None:
        kind = type(event)
        if kind is not CallStarted and kind is not CallEnded and kind is not Settled:
            super().add(event)


class _Sizes(Source):
    """As many items as there are prompts."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def name(self) -> str:
        return ""

    @property
    def arrow_schema(self) -> bytes | None:
        return None

    @property
    def fields(self) -> tuple[str, ...] | None:
        return None

    @property
    def total(self) -> int | None:
        return self._count

    @property
    def notices(self) -> tuple[str, ...]:
        return ()

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        for start in range(0, self._count, _BATCH):
            yield [Item("", place, None) for place in range(start, min(start + _BATCH, self._count))]


class _Blank(MemoryStore):
    """A store that keeps nothing of items: nothing is read again."""

    async def commit(self, records: Sequence[Record]) -> None:  # noqa: ARG002
        return None

    def post(self, records: Sequence[Record]) -> None:  # noqa: ARG002
        return None

    async def outcomes(self, run: str, keys: Sequence[str]) -> dict[str, tuple[int, Outcome]]:  # noqa: ARG002
        return {}


def _ignore(_event: Event) -> None:
    return None
