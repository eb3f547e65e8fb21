"""A run for programs: one JSON object a line, events of note and a summary last. Names and fields are in
docs/reference/events.md and stay. Enters snapshots, leaves lines; prompts, answers and rows are no part of them."""

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

import msgspec

from headrace.cli.outlet import Outlet
from headrace.core.errors import INTERNAL, HeadraceError
from headrace.core.ports import RunInfo
from headrace.engine.snapshot import LimitUse, Snapshot
from headrace.report.lines import health
from headrace.report.signs import printable

PROGRESS_EVERY_S = 5.0
_LOOK_EVERY_S = 0.25
_TEXT_MAX = 500
_MOVED_S = 1.0
"""A hold that ends so much later than it was told to is told anew."""


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    time: str
    """UTC, ISO 8601."""


class Notice(Line, frozen=True, kw_only=True, tag="notice"):
    """What a person should know about how the input was read, or which settings hold."""

    text: str


class Started(Line, frozen=True, kw_only=True, tag="started"):
    """The run has begun."""

    run: str
    name: str
    source: str
    model: str
    total: int | None
    concurrency: int | None
    output: str | None
    report: str | None
    store: str


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one limit is in use."""

    unit: str
    used: float
    allowed: float | None
    window_s: float
    found: bool


class Progress(Line, frozen=True, kw_only=True, tag="progress"):
    """How far it is."""

    seconds: float
    health: str
    total: int | None
    read: int
    ok: int
    failed: int
    cached: int
    pending: int
    in_flight: int
    queued: int
    calls: int
    retries: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    unpriced: int
    budget_usd: float | None
    budget_spent_usd: float
    rate: float
    eta_s: float | None
    binding: str
    limits: list[Limit]


class LimitChanged(Line, frozen=True, kw_only=True, tag="limit"):
    """A limit was found, told, cut or given back."""

    seconds: float
    unit: str
    limit: float | None
    window_s: float
    reason: str


class Stage(Line, frozen=True, kw_only=True, tag="stage"):
    """A stage of a pipeline has begun."""

    seconds: float
    stage: str
    items: int


class Held(Line, frozen=True, kw_only=True, tag="held"):
    """No call starts for a while."""

    seconds: float
    wait_s: float | None
    reason: str


class Failures(Line, frozen=True, kw_only=True, tag="failures"):
    """More has failed since this was last told: sums since the run began."""

    seconds: float
    items: Mapping[str, int]
    calls: Mapping[str, int]


class Stopping(Line, frozen=True, kw_only=True, tag="stopping"):
    """No further call starts."""

    seconds: float
    reason: str


class Error(Line, frozen=True, kw_only=True, tag="error"):
    """What ended the command."""

    kind: str
    message: str
    hint: str


class Ended(Line, frozen=True, kw_only=True, tag="ended"):
    """The last line, whatever happened."""

    status: str
    exit_status: int
    reason: str
    run: str
    name: str
    seconds: float
    total: int | None
    ok: int
    failed: int
    cached: int
    pending: int
    calls: int
    retries: int
    backups: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    unpriced: int
    budget_usd: float | None
    budget_spent_usd: float
    rate: float
    failures: Mapping[str, int]
    call_errors: Mapping[str, int]
    paid_again: Mapping[str, int]
    paid_again_usd: Mapping[str, float]
    stage_usd: Mapping[str, float]
    waited_s: Mapping[str, float]
    output: str | None
    rows: int | None
    report: str | None
    store: str | None


class Events:
    """Writes them. Looks at a run as `Display` does, and takes its place."""

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        self._outlet = Outlet(stream)
        self.is_quiet = quiet
        """Then there are only errors and the summary."""
        self._facts: dict[str, Any] = {"output": None, "report": None, "store": None}
        self._model = ""
        self._rows: int | None = None
        self._last = Snapshot()
        self._started = self._stopping = False
        self._stages: set[str] = set()
        self._next_s = PROGRESS_EVERY_S
        self._changes_s = -math.inf
        self._held_until_s = -math.inf
        self._failures: tuple[dict[str, int], dict[str, int]] = ({}, {})

    def begin(self, info: RunInfo, *, output: str | None, report: str | None, store: str) -> None:
        """What is known of the run besides its snapshots."""
        self._model = str(info.spec.get("model") or "")
        self._facts = {"output": output, "report": report, "store": store}

    async def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.update(snapshot())

    def update(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if snapshot.state == "starting" or self.is_quiet:
            return
        self._start(snapshot)
        self._begun(snapshot)
        self._changed(snapshot)
        self._hold(snapshot)
        is_early = snapshot.state == "ended" and snapshot.status != "finished"
        if (snapshot.state == "stopping" or is_early) and not self._stopping:
            self._stopping = True
            self._put(Stopping(time=_now(), seconds=_s(snapshot), reason=_short(snapshot.reason)))
        if snapshot.seconds >= self._next_s:
            self._next_s = snapshot.seconds + PROGRESS_EVERY_S
            self._put(_progress(snapshot))
            self._fail(snapshot)

    def redraw(self) -> None:
        """Nothing here depends on a terminal."""

    def suspend(self) -> None:
        """As `redraw`."""

    def say(self, text: str) -> None:
        """What is said to people alone."""

    def notice(self, text: str) -> None:
        if text and not self.is_quiet:
            self._put(Notice(time=_now(), text=_short(text)))

    def wrote(self, rows: int) -> None:
        """So many rows are in the output."""
        self._rows = rows

    def finish(self, snapshot: Snapshot) -> None:
        self.update(snapshot)
        if not self.is_quiet:
            self._fail(snapshot)

    def error(self, error: Exception) -> None:
        kind = error.kind if isinstance(error, HeadraceError) else INTERNAL
        message = error.message if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, HeadraceError) else ""
        self._put(Error(time=_now(), kind=kind, message=_short(message), hint=_short(hint)))

    def ended(self, exit_status: int) -> None:
        """The summary; waits until it is written."""
        last = self._last
        self._put(
            Ended(
                time=_now(), status=last.status or "not started", exit_status=exit_status, reason=_short(last.reason),
                run=last.run, name=last.name, seconds=_s(last), total=last.total, ok=last.ok, failed=last.failed,
                cached=last.cached, pending=last.pending, calls=last.calls, retries=last.retries, backups=last.backups,
                input_tokens=last.input_tokens, output_tokens=last.output_tokens, rate=round(last.rate, 3),
                usd=_usd(last.usd), unpriced=last.unpriced,
                budget_usd=_usd(last.budget_usd), budget_spent_usd=round(last.budget_spent_usd, 9), stage_usd=_each_usd(last.stage_usd),
                paid_again_usd=_each_usd(last.paid_again_usd),
                failures=_failed(last), call_errors=last.errors_by_status, paid_again=last.paid_again,
                waited_s={cause: round(seconds, 3) for cause, seconds in last.waited_s.items()},
                rows=self._rows, **self._facts,
            )
        )  # fmt: skip
        self._outlet.flush()

    def _start(self, snapshot: Snapshot) -> None:
        if self._started:
            return
        self._started = True
        self._put(
            Started(
                time=_now(), run=snapshot.run, name=snapshot.name, source=snapshot.source, model=self._model,
                total=snapshot.total, concurrency=snapshot.concurrency or None, **self._facts,
            )
        )  # fmt: skip

    def _begun(self, snapshot: Snapshot) -> None:
        for stage in snapshot.stages:
            if stage.taken and stage.name not in self._stages:
                self._stages.add(stage.name)
                self._put(Stage(time=_now(), seconds=_s(snapshot), stage=_short(stage.name), items=stage.taken))

    def _changed(self, snapshot: Snapshot) -> None:
        for each in snapshot.changes:
            if each.after_s > self._changes_s:
                limit = None if each.limit is None or not math.isfinite(each.limit) else each.limit
                self._put(
                    LimitChanged(
                        time=_now(), seconds=round(each.after_s, 3), unit=each.unit, limit=limit,
                        window_s=each.window_s, reason=_short(each.reason),
                    )
                )  # fmt: skip
        if snapshot.changes:
            self._changes_s = snapshot.changes[-1].after_s

    def _hold(self, snapshot: Snapshot) -> None:
        hold = snapshot.hold
        if hold is None:
            return
        until_s = snapshot.seconds + hold.wait_s
        if until_s > self._held_until_s + _MOVED_S:
            self._held_until_s = until_s
            wait_s = round(hold.wait_s, 3) if math.isfinite(hold.wait_s) else None
            self._put(Held(time=_now(), seconds=_s(snapshot), wait_s=wait_s, reason=_short(hold.reason)))

    def _fail(self, snapshot: Snapshot) -> None:
        failures = (_failed(snapshot), snapshot.errors_by_status)
        if failures != self._failures:
            self._failures = failures
            self._put(Failures(time=_now(), seconds=_s(snapshot), items=failures[0], calls=failures[1]))

    def _put(self, line: Line) -> None:
        self._outlet.line(msgspec.json.encode(line).decode())


def _progress(snapshot: Snapshot) -> Progress:
    return Progress(
        time=_now(), seconds=_s(snapshot), health=health(snapshot), total=snapshot.total, read=snapshot.read,
        ok=snapshot.ok, failed=snapshot.failed, cached=snapshot.cached, pending=snapshot.pending,
        in_flight=snapshot.in_flight, queued=snapshot.queued, calls=snapshot.calls, retries=snapshot.retries,
        input_tokens=snapshot.input_tokens, output_tokens=snapshot.output_tokens, rate=round(snapshot.rate, 3),
        usd=_usd(snapshot.usd), unpriced=snapshot.unpriced,
        budget_usd=_usd(snapshot.budget_usd), budget_spent_usd=round(snapshot.budget_spent_usd, 9),
        eta_s=None if snapshot.eta_s is None else round(snapshot.eta_s, 1), binding=snapshot.binding,
        limits=[_limit(use) for use in snapshot.uses],
    )  # fmt: skip


def _limit(use: LimitUse) -> Limit:
    return Limit(unit=use.unit, used=use.used, allowed=use.allowed, window_s=use.window_s, found=use.learnt)


def _failed(snapshot: Snapshot) -> dict[str, int]:
    """By kind alone: a message may quote an answer."""
    return {group.kind: group.count for group in snapshot.failures}


def _usd(usd: float | None) -> float | None:
    """Without what adding up leaves behind the last digit that means something."""
    return None if usd is None else round(usd, 9)


def _each_usd(usd: Mapping[str, float]) -> dict[str, float]:
    return {name: round(each, 9) for name, each in usd.items() if name}


def _s(snapshot: Snapshot) -> float:
    return round(snapshot.seconds, 3)


def _short(text: str) -> str:
    return printable(text, _TEXT_MAX)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
