"""One rehearsal: the real engine in virtual time against the likeness of an endpoint. Enters what is known and how large
the prompts are; leaves how it went. Reads no file, sends nothing, keeps nothing."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.event import Event, Gauge, StageInfo
from headrace.core.item import Item, Outcome
from headrace.core.limits import Learnt
from headrace.core.ports import Record, RunInfo, Source
from headrace.engine.governor import Account
from headrace.engine.leg import Calling, Manner
from headrace.engine.lender import recall
from headrace.engine.runner import Runner, RunSettings
from headrace.flow.estimate import Charge
from headrace.sim.likeness import Known, Likeness
from headrace.sim.swift import SwiftLoop
from headrace.store.memory import MemoryStore

CHARACTERS = 4
"""Of a token, as the simulated provider counts."""
COMMIT_S = 0.02
_ENDPOINT = "rehearsed"
_BATCH = 500
_DIGEST = Digest(b"rehearsal")


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How one rehearsal went."""

    seconds: float
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    ends_s: Sequence[float]
    """When each item was done."""
    waited_s: Mapping[str, float]
    """How long the head of the line waited, by cause."""
    in_flight: float
    """In the mean."""
    learnt: Learnt = Learnt()
    """What a run after this one would begin with."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be rehearsed: how large each prompt is, and how the run goes about it."""

    tokens: Sequence[int]
    """In, of each call."""
    timeout_s: float
    """Of an attempt, at most."""
    charge: Charge = Charge("usage")
    manner: Manner = Manner()
    params: Mapping[str, Any] = {}
    """The maximum output, as the request names it."""
    max_output: int | None = None


def rehearse(work: Work, known: Known, seed: int, *, certain: bool = False) -> Course:
    """Virtual time costs nothing but CPU: some 0.1 ms a call."""
    likeness = Likeness(known, seed, max_output=work.max_output, certain=certain)
    gauges = _Gauges()
    collects = gc.isenabled()
    gc.disable()  # a tenth of the time, for a heap that only grows by what is counted
    try:
        with asyncio.Runner(loop_factory=SwiftLoop) as runner:
            return runner.run(_rehearsed(work, known, likeness, gauges, seed))
    finally:
        if collects:
            gc.enable()


async def _rehearsed(work: Work, known: Known, likeness: Likeness, gauges: "_Gauges", seed: int) -> Course:
    store = _Blank(commit_s=COMMIT_S)
    if known.learnt.at:
        store.memory.endpoints[_ENDPOINT] = (time.time(), msgspec.json.encode(known.learnt))
    calling = Calling(
        info=StageInfo("rehearsal", "ask"), task=_Prompts(work), call=likeness.provider,
        account=Account(_ENDPOINT, start=known.start, most=known.most), stated=known.stated, charge=work.charge,
        timeout_s=work.timeout_s,
    )  # fmt: skip
    manner = msgspec.structs.replace(work.manner, seed=seed)
    info = RunInfo(id="rehearsal", name="", source="", spec={})
    made = Runner([calling], _Sizes(work.tokens), store, info, RunSettings(manner=manner), emit=gauges.add)
    loop = asyncio.get_running_loop()
    ends_s: list[float] = []
    async for batch in made.outcomes():
        ends_s += [loop.time()] * len(batch)
    snapshot = made.tally.snapshot(loop.time())
    await asyncio.sleep(2 * COMMIT_S)
    learnt = await recall(store, _ENDPOINT)
    ledger = likeness.provider.ledger
    return Course(
        seconds=snapshot.seconds, calls=snapshot.calls, failed=snapshot.failed, input_tokens=ledger.input_tokens,
        output_tokens=ledger.output_tokens, ends_s=ends_s, waited_s=dict(snapshot.waited_s), in_flight=gauges.mean(),
        learnt=learnt,
    )  # fmt: skip


class _Gauges:
    """Calls in flight, from one gauge to the next."""

    def __init__(self) -> None:
        self._area = self._last_s = self._before = 0.0

    def add(self, event: Event) -> None:
        if isinstance(event, Gauge):
            self._area += self._before * (event.at_s - self._last_s)
            self._last_s, self._before = event.at_s, float(event.in_flight)

    def mean(self) -> float:
        return self._area / self._last_s if self._last_s else 0.0


class _Prompts:
    """A task whose prompts are as large as the real ones."""

    digest = _DIGEST
    reusable = False
    samples = 1

    def __init__(self, work: Work) -> None:
        self._tokens, self._params = work.tokens, work.params
        self._text = " " * (CHARACTERS * max(work.tokens, default=0))

    def request(self, item: Item, sample: int = 0) -> Request:  # noqa: ARG002 - the port's
        text = self._text[: CHARACTERS * self._tokens[item.position]]
        return Request(_DIGEST, messages=(Message("user", text),), params=self._params)

    def value(self, reply: Reply) -> Any:
        return reply.text

    def again(self, _request: Request, _reply: Reply, _error: Exception) -> None:
        return None

    def agreed(self, _values: Sequence[Any]) -> tuple[int, float]:
        return 0, 1.0

    def failed(self, _value: Any) -> None:
        return None

    def onward(self, item: Item, _value: Any) -> Item:
        return item


class _Sizes(Source):
    """As many items as there are prompts."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._count = len(tokens)

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
            yield [Item(str(place), place, None) for place in range(start, min(start + _BATCH, self._count))]


class _Blank(MemoryStore):
    """A store that keeps nothing of items: nothing is read again."""

    async def commit(self, records: Sequence[Record]) -> None:  # noqa: ARG002
        return None

    def post(self, records: Sequence[Record]) -> None:  # noqa: ARG002
        return None

    async def outcomes(self, run: str, keys: Sequence[str]) -> dict[str, tuple[int, Outcome]]:  # noqa: ARG002
        return {}
