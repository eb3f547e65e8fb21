"""The life of a run as facts. Progress, logs and reports read this one stream."""

from collections.abc import Mapping

import msgspec

from headrace.core.item import Outcome
from headrace.core.limits import Use


class Event(msgspec.Struct, frozen=True, gc=False):
    at_s: float
    """Seconds on the run's monotonic clock."""


class StageInfo(msgspec.Struct, frozen=True, gc=False):
    """One stage of a pipeline, as it is named everywhere."""

    name: str
    kind: str
    """ask, map, filter, expand, top, reduce, fetch or extract."""
    model: str = ""
    """PROVIDER:NAME, where it asks a model."""


class RunStarted(Event, frozen=True):
    run: str
    name: str
    source: str
    total: int | None
    """Items in the source as far as it can tell before it is read."""
    concurrency: int
    """Calls in flight, where their number is stated; 0 where it is searched for."""
    stages: tuple[StageInfo, ...] = ()


class StageStarted(Event, frozen=True):
    """The first items reached a stage."""

    stage: str
    items: int | None
    """How many came first, or will come, where that is known."""
    concurrency: int
    """How many it works on at once, as far as is known now; 0 where it calls nobody."""


class StageEnded(Event, frozen=True):
    """A stage has had all of its items."""

    stage: str
    taken: int
    """Items that came to it."""
    passed: int
    """Items that went on from it, those included that it made."""
    failed: int
    dropped: int
    seconds: float
    """Since it started."""
    served: int = 0
    """Of `taken`, those for which no call was made: the store or an equal item's call gave what came."""


class ItemsMade(Event, frozen=True):
    """A stage made items of one, or one of many."""

    stage: str
    count: int


class ItemsPassed(Event, frozen=True):
    """A stage is done with these, and the next one gets them."""

    stage: str
    count: int


class ItemsServed(Event, frozen=True):
    """A stage makes no call for these: the store or an equal item's call gave what came."""

    stage: str
    count: int


class ItemsRead(Event, frozen=True):
    count: int


class SourceRead(Event, frozen=True):
    """The source is read to its end: it has `total` items."""

    total: int


class CallStarted(Event, frozen=True):
    attempt: int
    backup: bool = False
    """Whether it is a second call for a straggler."""
    stage: str = ""


class CallEnded(Event, frozen=True):
    seconds: float
    error: str
    """The kind of error, empty where the call was answered."""
    message: str = ""
    """What that error said."""
    status: int | None = None
    """The HTTP status of a call that failed."""
    paid: bool = False
    """Whether it may have been paid for although its answer was not used: given up, or overtaken by a backup."""
    stage: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    """What it cost; of one that may have been paid for, at most. None where that is unknown."""


class AskedAgain(Event, frozen=True):
    """An answer was no value of the type asked for: it was paid for, and the question is asked once more."""

    error: str
    """The kind of what was wrong with it."""
    usd: float | None = None
    """What that answer cost."""
    stage: str = ""


class Gauge(Event, frozen=True):
    """How the endpoint's limits are used at this moment, by all that share it; about once a second, sooner at first."""

    uses: tuple[Use, ...]
    """Calls in flight first, then each request and token limit that is known."""
    in_flight: int
    """Calls of this run that hold a permit."""
    queued: int
    """Calls of this run that wait for one."""
    waited_s: Mapping[str, float]
    """Seconds that the head of the line has waited since the run began, by cause: concurrency, requests, tokens,
    input tokens, output tokens, breaker, backoff, retries."""
    binding: str
    """What has held calls back most since the last gauge; empty where nothing did."""
    cpu_s: float
    """Of this process since the run began."""
    memory_bytes: int
    """The most that this process has held."""
    stage: str = ""


class BudgetUsed(Event, frozen=True):
    """How much of the run's budget is spent; about once a second while money is drawn, and at the end."""

    spent_usd: float
    """By all that share the budget, as far as they have told; calls whose cost is unknown count in full."""
    limit_usd: float
    reserved_usd: float
    """What this run's calls in flight may cost at most."""
    own_usd: float
    """What this session of this run has spent of it."""


class LimitChanged(Event, frozen=True):
    """A limit was found, told, cut or given back; not every small step of a search."""

    unit: str
    limit: float | None
    """In a window, or calls in flight; None where none is known any more."""
    window_s: float
    reason: str
    stage: str = ""


class Held(Event, frozen=True):
    """No call starts before `until_s`, because of `reason`."""

    until_s: float
    reason: str
    stage: str = ""


class Settled(Event, frozen=True):
    """These outcomes are durable."""

    outcomes: tuple[Outcome, ...]


class Stopping(Event, frozen=True):
    reason: str


class RunEnded(Event, frozen=True):
    status: str
    reason: str
