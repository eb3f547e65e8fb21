"""A run at one moment, as values: what the tally says of it, what displays and reports show, and what is kept of it.

Knows no events.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

FIGURES_MAX_BYTES = 200_000
_FAILURES_MAX = 20
_SENTENCE_MAX = 300
_WORD_MAX = 80

ASKED_AGAIN = "asked again"
"""The cause in `paid_again` whose answers were answers, and are a part of what was paid for them."""

State = Literal["starting", "running", "stopping", "ended"]


class FailureGroup(msgspec.Struct, frozen=True):
    """Items that failed for one kind of reason. Message and hint are the first one's."""

    kind: str
    count: int
    message: str
    hint: str
    keys: tuple[str, ...]
    """The first few, in the order they failed."""


class Hold(msgspec.Struct, frozen=True):
    """No call starts for another `wait_s` seconds (infinity: nobody knows how long)."""

    reason: str
    wait_s: float


class CallErrors(msgspec.Struct, frozen=True):
    """Calls that failed in one way."""

    kind: str
    status: int | None
    """The HTTP status, where there was an answer."""
    count: int


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one limit is and was in use, by all that share the endpoint."""

    unit: str
    """concurrency, requests, tokens, input tokens or output tokens."""
    used: float
    """Calls in flight, or what was charged in the last `window_s`."""
    allowed: float | None = None
    """None: no limit is known."""
    window_s: float = 0.0
    learnt: bool = False
    """Whether headrace found it, rather than being told."""
    most: float = 0.0
    """The largest `used` of the run."""
    most_allowed: float | None = None
    """The limit at that moment."""
    pace: float | None = None
    """Percent of what is allowed in as much of the window as the run has seen: a run of ten seconds that takes all it
    may is at 100, though it has used a sixth of a limit a minute."""
    mean_pace: float | None = None
    """Over the time for which a limit was known."""

    @property
    def percent(self) -> float | None:
        """Used of allowed."""
        return None if not self.allowed else 100 * self.used / self.allowed


class LimitChange(msgspec.Struct, frozen=True):
    """A limit was found, told, cut or given back, so many seconds into the run."""

    after_s: float
    unit: str
    limit: float | None
    window_s: float
    reason: str


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of a run, for charts. Times are seconds into the run."""

    from_s: float
    to_s: float
    done: int
    """Items settled in it that the store did not serve."""
    in_flight: float
    """Mean of the calls in flight, of all that share the endpoint."""
    limit: float | None
    """Mean of how many were allowed."""
    waited_s: Mapping[str, float]
    """Seconds of it that the head of the line waited, by cause."""
    errors: Mapping[str, int] = {}
    """Calls that failed in it, by HTTP status, by kind where there was none."""

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.done / (self.to_s - self.from_s) if self.to_s > self.from_s else 0.0


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a pipeline."""

    name: str
    kind: str
    model: str = ""
    taken: int = 0
    """Items that came to it."""
    passed: int = 0
    """Items that went on from it, those included that it made."""
    failed: int = 0
    dropped: int = 0
    served: int = 0
    """Of `taken`, those for which no call was made: the store or an equal item's call gave what came."""
    in_flight: int = 0
    calls: int = 0
    retries: int = 0
    work_s: float = 0.0
    """Seconds of all its calls together."""
    busy_s: float = 0.0
    """Seconds of the run in which it had a call in flight."""
    rate: float = 0.0
    """Items per second: of late while the run goes on, of its own time once that has ended."""
    p50_s: float | None = None
    p95_s: float | None = None
    """Seconds of answered calls, within 2 %."""
    usd: float | None = None
    waited_s: Mapping[str, float] = {}
    """Seconds that the head of its line waited, by cause."""
    binding: str = ""
    """What held its calls back most in the last seconds."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment. Tokens and calls are what this session paid for."""

    run: str = ""
    name: str = ""
    source: str = ""
    state: State = "starting"
    status: str = ""
    """How it ended: finished, stopped or interrupted."""
    reason: str = ""
    """Why it stops or stopped."""
    session: int = 0
    """Which of the run's sessions these figures are of; 0 where that was not noted."""
    started_at: float = 0.0
    """When that session began, in seconds since 1970."""
    seconds: float = 0.0
    concurrency: int = 0
    total: int | None = None
    read: int = 0
    ok: int = 0
    failed: int = 0
    dropped: int = 0
    """Taken out of the pipeline although nothing failed."""
    cached: int = 0
    """Of `ok` and `failed`: from the store, or from an equal item's call."""
    pending: int = 0
    """Known of, and without an outcome."""
    in_flight: int = 0
    most_in_flight: int = 0
    calls: int = 0
    retries: int = 0
    backups: int = 0
    """Second calls for stragglers."""
    call_errors: tuple[CallErrors, ...] = ()
    """Calls that failed, also those that were tried again; the most frequent first."""
    paid_again: Mapping[str, int] = {}
    """Calls whose answer was not used though it may have been paid for, by cause: backup, asked again
    (it was no value of the type asked for), timeout and other kinds."""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    """What its answered calls cost, as far as that is known; None where it is of none."""
    budget_usd: float | None = None
    """What may be spent, where there is a budget."""
    budget_spent_usd: float = 0.0
    """Of that, by all that share it, over all sessions; calls whose cost is unknown count in full."""
    unpriced: int = 0
    """Answered calls whose cost is not known: with them it is at least `usd`."""
    stage_usd: Mapping[str, float] = {}
    """Of `usd`, by stage."""
    paid_again_usd: Mapping[str, float] = {}
    """What those of `paid_again` cost, by cause. Of `asked again` it is a part of `usd`; of calls that were given up it
    is what they may have cost at most, and no part of it."""
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    """Seconds of answered calls, within 2 %."""
    rate: float = 0.0
    """Items per second that the store did not serve: of late while it runs, of the whole once it has ended."""
    eta_s: float | None = None
    hold: Hold | None = None
    failures: tuple[FailureGroup, ...] = ()
    """The most frequent first."""
    lead: str = ""
    """Of a pipeline the stage that has worked most: limits, waits and history are its."""
    uses: tuple[LimitUse, ...] = ()
    """Concurrency first. Empty before the first gauge; so are all of the following."""
    others: int = 0
    """Places that others hold: other runs at this endpoint, or calls given up that cannot be stopped."""
    queued: int = 0
    """Calls that wait for a permit."""
    binding: str = ""
    """What held calls back most in the last seconds: a unit, breaker or backoff; empty where nothing did."""
    waited_s: Mapping[str, float] = {}
    """Seconds that the head of the line waited, by cause."""
    cpu_s: float = 0.0
    """Of this process."""
    cpu_share: float | None = None
    """Of one core: of late while it runs, of the whole once it has ended."""
    memory_bytes: int = 0
    """The most it held."""
    changes: tuple[LimitChange, ...] = ()
    """The last ones."""
    history: tuple[Stretch, ...] = ()
    """The whole run in a bounded number of stretches."""
    stages: tuple[StageFigures, ...] = ()
    """Of a pipeline of several."""

    @property
    def done(self) -> int:
        return self.ok + self.failed + self.dropped

    @property
    def has_pace(self) -> bool:
        """Whether there is a rate to tell: where the store served all, it would be of nothing."""
        return self.cached < self.done or not self.done

    @property
    def usd_an_item(self) -> float | None:
        """Of those that were asked about."""
        asked = self.done - self.cached
        return self.usd / asked if self.usd is not None and asked > 0 else None

    @property
    def given_up_usd(self) -> float:
        """What calls may have cost at most whose answer nobody waited for."""
        return sum(usd for cause, usd in self.paid_again_usd.items() if cause != ASKED_AGAIN)

    @property
    def errors_by_status(self) -> dict[str, int]:
        """Calls that failed by HTTP status, by kind where there was none."""
        counts: dict[str, int] = {}
        for each in self.call_errors:
            name = each.kind if each.status is None else str(each.status)
            counts[name] = counts.get(name, 0) + each.count
        return counts


def figures_of(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON, to be kept with its run: at most `FIGURES_MAX_BYTES`, without what only matters at the moment.

    What failed is kept by kind alone: the items themselves are in the store, as are the run's name and source.
    """
    kept = msgspec.structs.replace(
        snapshot,
        name="",
        source="",
        reason=snapshot.reason.encode("utf-8", "backslashreplace").decode()[:_SENTENCE_MAX],
        hold=None,
        eta_s=None,
        failures=tuple(
            FailureGroup(group.kind[:_WORD_MAX], group.count, group.message[:_SENTENCE_MAX], "", ())
            for group in snapshot.failures[:_FAILURES_MAX]
        ),
    )
    data = msgspec.json.encode(kept)
    while len(data) > FIGURES_MAX_BYTES and (kept.history or kept.changes or kept.failures):
        kept = msgspec.structs.replace(
            kept,
            history=tuple(thinned(kept.history)) if len(kept.history) > 1 else (),
            changes=kept.changes[-(len(kept.changes) // 2) :] if len(kept.changes) > 1 else (),
            failures=kept.failures[: len(kept.failures) // 2],
        )
        data = msgspec.json.encode(kept)
    return data


def snapshot_of(figures: bytes | None) -> Snapshot | None:
    """What was kept; None where nothing was, or a later headrace kept what this one cannot read."""
    if not figures:
        return None
    try:
        return _snapshot.decode(figures)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def thinned(history: Sequence[Stretch]) -> list[Stretch]:
    """Half as many stretches, each two as one; an odd last one stays."""
    pairs = zip(history[::2], history[1::2], strict=False)
    return [*(joined(first, second) for first, second in pairs), *history[len(history) & ~1 :]]


def joined(first: Stretch, second: Stretch) -> Stretch:
    """Two neighbours as one: sums of what is counted, means over time of the rest."""
    return Stretch(
        first.from_s,
        second.to_s,
        first.done + second.done,
        _mean(first, second, first.in_flight, second.in_flight),
        _mean(first, second, first.limit, second.limit)
        if first.limit is not None and second.limit is not None
        else second.limit,
        {
            cause: first.waited_s.get(cause, 0.0) + second.waited_s.get(cause, 0.0)
            for cause in {**first.waited_s, **second.waited_s}
        },
        {name: first.errors.get(name, 0) + second.errors.get(name, 0) for name in {**first.errors, **second.errors}},
    )


def _mean(first: Stretch, second: Stretch, a: float, b: float) -> float:
    long_s, short_s = first.to_s - first.from_s, second.to_s - second.from_s
    return (a * long_s + b * short_s) / (long_s + short_s) if long_s + short_s > 0 else b


_snapshot = msgspec.json.Decoder(Snapshot)
