"""The life of a run as facts. Progress, logs and reports read this one stream."""

import msgspec

from headrace.core.item import Outcome


class Event(msgspec.Struct, frozen=True, gc=False):
    at_s: float
    """Seconds on the run's monotonic clock."""


class RunStarted(Event, frozen=True):
    run: str
    name: str
    source: str
    total: int | None
    """Items in the source as far as it can tell before it is read."""
    concurrency: int


class ItemsRead(Event, frozen=True):
    count: int


class SourceRead(Event, frozen=True):
    """The source is read to its end: it has `total` items."""

    total: int


class CallStarted(Event, frozen=True):
    attempt: int


class CallEnded(Event, frozen=True):
    seconds: float
    error: str
    """The kind of error, empty where the call was answered."""
    message: str = ""
    """What that error said."""


class Held(Event, frozen=True):
    """No call starts before `until_s`, because of `reason`."""

    until_s: float
    reason: str


class Settled(Event, frozen=True):
    """These outcomes are durable."""

    outcomes: tuple[Outcome, ...]


class Stopping(Event, frozen=True):
    reason: str


class RunEnded(Event, frozen=True):
    status: str
    reason: str
