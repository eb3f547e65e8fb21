"""Events in, figures out: how far a run is, how fast, and what went wrong.

A pure fold in bounded memory. Knows no clock: time comes with the events and with the question.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from headrace.core.event import (
    AskedAgain,
    BudgetUsed,
    CallEnded,
    CallStarted,
    Event,
    Gauge,
    Held,
    ItemsMade,
    ItemsRead,
    LimitChanged,
    RunEnded,
    RunStarted,
    Settled,
    SourceRead,
    Stopping,
)
from headrace.core.item import Failure
from headrace.engine.snapshot import ASKED_AGAIN, CallErrors, FailureGroup, Hold, Snapshot, State
from headrace.engine.stages import Stages
from headrace.engine.usage import Usage
from headrace.flow.quantiles import Quantiles

__all__ = ["FailureGroup", "Hold", "Quantiles", "Snapshot", "Tally"]

_WINDOW_S = 10.0
_MARK_EVERY_S = 0.25
_MARKS_MAX = 512
_KINDS_MAX = 50
_KEYS_MAX = 5
_MESSAGE_MAX = 500
_ETA_AFTER_S, _ETA_AFTER_ITEMS = 3.0, 5
_LEAST_S = 1e-3
"""No rate over less time than this."""
_OTHER = "other"
_OVERTAKEN = frozenset({"", "backup", "overtaken"})
"""What ends a call whose twin was answered first: it did not fail."""


_Mark = tuple[float, int, int, int]
"""Time, and until then items settled, those of them that needed a call, and those that the store did not serve."""


class _Group:
    __slots__ = ("count", "hint", "keys", "message")

    def __init__(self, message: str, hint: str) -> None:
        self.count = 0
        self.message = message[:_MESSAGE_MAX]
        self.hint = hint[:_MESSAGE_MAX]
        self.keys: list[str] = []


class Tally:
    """Adds events up. `add` is cheap enough for the path of every call; `snapshot` is for readers at their own pace."""

    def __init__(self) -> None:
        self._started: RunStarted | None = None
        self._staged = False
        """Whether it is a pipeline of several stages."""
        self._ended: RunEnded | None = None
        self._stop_reason = ""
        self._total: int | None = None
        self._held: Held | None = None
        self._held_from_s = 0.0
        """When the pause began that ends with `_held`."""
        self._read = self._ok = self._failed = self._dropped = self._cached = self._asked = 0
        self._made = 0
        """By stages, of the items that were read."""
        self.stages = Stages()
        """Of a pipeline of several."""
        self._in_flight = self._most_in_flight = self._calls = self._retries = self._backups = 0
        self._input_tokens = self._output_tokens = 0
        self._call_errors: dict[tuple[str, int | None], int] = {}
        self._paid_again: dict[str, int] = {}
        self._paid_again_usd: dict[str, float] = {}
        self._stage_usd: dict[str, float] = {}
        self._usd = 0.0
        self._priced = self._unpriced = 0
        """Answered calls whose cost is known, and those whose is not."""
        self._usages: dict[str, Usage] = {}
        """By stage."""
        self._groups: dict[str, _Group] = {}
        self._seconds = Quantiles()
        self._first_call_s: float | None = None
        self._marks: deque[_Mark] = deque(maxlen=_MARKS_MAX)
        self._next_mark_s = -math.inf
        self._budget: BudgetUsed | None = None
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._on_started,
            ItemsRead: self._on_read,
            ItemsMade: self._on_made,
            SourceRead: self._on_source_read,
            CallStarted: self._on_call,
            CallEnded: self._on_answer,
            AskedAgain: self._on_asked_again,
            Gauge: self._on_gauge,
            BudgetUsed: self._on_budget,
            LimitChanged: self._on_limit,
            Held: self._on_held,
            Settled: self._on_settled,
            Stopping: self._on_stopping,
            RunEnded: self._on_ended,
        }

    def add(self, event: Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        if self._staged:
            self.stages.add(event)

    def _on_started(self, event: RunStarted) -> None:
        self._started = event
        self._staged = len(event.stages) > 1
        for name in [stage.name for stage in event.stages] if self._staged else [""]:
            self._usages.setdefault(name, Usage()).start(event.at_s)
        self._marks.append((event.at_s, 0, 0, 0))
        self._next_mark_s = event.at_s + _MARK_EVERY_S

    def _on_read(self, event: ItemsRead) -> None:
        self._read += event.count

    def _on_made(self, event: ItemsMade) -> None:
        self._made += event.count

    def _on_source_read(self, event: SourceRead) -> None:
        self._total = event.total

    def _on_call(self, event: CallStarted) -> None:
        self._calls += 1
        self._in_flight += 1
        if self._in_flight > self._most_in_flight:  # noqa: PLR1730 - max() takes three times as long
            self._most_in_flight = self._in_flight
        if event.attempt > 1:
            self._retries += 1
        if event.backup:
            self._backups += 1
        if self._first_call_s is None:
            self._first_call_s = event.at_s
        if event.stage in self._usages:
            self._usages[event.stage].called(event.at_s, 1)

    def _on_answer(self, event: CallEnded) -> None:
        if self._in_flight:
            self._in_flight -= 1
        if event.stage in self._usages:
            self._usages[event.stage].called(event.at_s, -1)
        if event.paid:
            self._on_paid_again(event)
        elif event.error:
            self._on_error(event)
        else:
            self._seconds.add(event.seconds)
            if event.usd is None:
                self._unpriced += 1
            else:
                self._priced += 1
                self._usd += event.usd
                self._stage_usd[event.stage] = self._stage_usd.get(event.stage, 0.0) + event.usd

    def _on_error(self, event: CallEnded) -> None:
        if event.stage in self._usages:
            self._usages[event.stage].error(event.error, event.status)
        try:
            self._call_errors[event.error, event.status] += 1
        except KeyError:
            _count(self._call_errors, (event.error, event.status), (_OTHER, None))

    def _on_paid_again(self, event: CallEnded) -> None:
        overtaken = event.error in _OVERTAKEN
        self._on_paid("backup" if overtaken else event.error, event.usd)
        if not overtaken and event.error != "cancelled":  # by the user or a deadline: nothing failed
            self._on_error(event)

    def _on_asked_again(self, event: AskedAgain) -> None:
        self._on_paid(ASKED_AGAIN, event.usd)

    def _on_paid(self, cause: str, usd: float | None) -> None:
        _count(self._paid_again, cause, _OTHER)
        if usd is not None:
            _count(self._paid_again_usd, cause, _OTHER, usd)

    def _on_gauge(self, event: Gauge) -> None:
        if event.stage in self._usages:
            self._usages[event.stage].gauge(event, self._worked_on)

    def _on_limit(self, event: LimitChanged) -> None:
        self._usages.setdefault(event.stage, Usage()).change(event)

    def _on_budget(self, event: BudgetUsed) -> None:
        spent_elsewhere = event.spent_usd - self._usd
        self._budget = msgspec.structs.replace(event, spent_usd=spent_elsewhere)

    def _on_held(self, event: Held) -> None:
        before = self._held
        if before is None or event.until_s >= before.until_s:
            if before is None or event.at_s > before.until_s:
                self._held_from_s = event.at_s
            self._held = event

    def _on_settled(self, event: Settled) -> None:
        ok = dropped = cached = asked = tokens_in = tokens_out = 0
        for outcome in event.outcomes:
            if outcome.dropped:
                dropped += 1
            elif outcome.error is None:
                ok += 1
            else:
                self._add_failure(outcome.key, outcome.error)
            if outcome.cached:
                cached += 1
            else:
                asked += outcome.attempts > 0
                tokens_in += outcome.input_tokens or 0
                tokens_out += outcome.output_tokens or 0
        self._ok += ok
        self._dropped += dropped
        self._failed += len(event.outcomes) - ok - dropped
        self._cached += cached
        self._asked += asked
        self._input_tokens += tokens_in
        self._output_tokens += tokens_out
        if event.at_s >= self._next_mark_s:
            self._marks.append((event.at_s, self._done, self._asked, self._worked_on))
            self._next_mark_s = event.at_s + _MARK_EVERY_S

    def _add_failure(self, key: str, failure: Failure) -> None:
        kind = failure.kind if failure.kind in self._groups or len(self._groups) < _KINDS_MAX else _OTHER
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = _Group(failure.message, failure.hint)
        group.count += 1
        if len(group.keys) < _KEYS_MAX:
            group.keys.append(key[:_MESSAGE_MAX])

    def _on_stopping(self, event: Stopping) -> None:
        self._stop_reason = self._stop_reason or event.reason

    def _on_ended(self, event: RunEnded) -> None:
        self._ended = event
        for usage in self._usages.values():
            usage.end(event.at_s, self._worked_on)

    @property
    def _done(self) -> int:
        return self._ok + self._failed + self._dropped

    @property
    def _worked_on(self) -> int:
        """Of them, those that the store did not serve: what the pace is measured by."""
        return self._done - self._cached

    def snapshot(self, now_s: float) -> Snapshot:
        """The figures at this moment of the run's clock."""
        start, end = self._started, self._ended
        now_s = now_s if end is None else end.at_s
        done = self._done
        total = self._total
        if total is None and start is not None and start.total is not None:
            total = max(start.total, self._read, done - self._made)
        known = max(self._read + self._made, done) if total is None else total + self._made
        seconds = max(0.0, now_s - start.at_s) if start else 0.0
        snapshot = Snapshot(
            run=start.run if start else "",
            name=start.name if start else "",
            source=start.source if start else "",
            state=self._state(),
            status=end.status if end else "",
            reason=(end.reason if end else "") or self._stop_reason,
            seconds=seconds,
            concurrency=start.concurrency if start else 0,
            total=None if total is None else total + self._made,
            read=self._read,
            ok=self._ok,
            failed=self._failed,
            dropped=self._dropped,
            cached=self._cached,
            pending=known - done,
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
            calls=self._calls,
            retries=self._retries,
            backups=self._backups,
            call_errors=self._errors(),
            paid_again=dict(self._paid_again),
            usd=self._usd if self._priced else None,
            unpriced=self._unpriced,
            stage_usd=dict(self._stage_usd),
            paid_again_usd=dict(self._paid_again_usd),
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            budget_usd=self._budget.limit_usd if self._budget is not None else None,
            budget_spent_usd=max(0.0, self._budget.spent_usd + self._usd) if self._budget is not None else 0.0,
            p50_s=self._seconds.at(0.50),
            p95_s=self._seconds.at(0.95),
            p99_s=self._seconds.at(0.99),
            rate=self._rate(now_s) if end is None else self._worked_on / seconds if seconds > _LEAST_S else 0.0,
            eta_s=None if end or total is None else self._eta_s(now_s, known - done),
            hold=self._hold(now_s),
            failures=self._failures(),
            stages=self.stages.figures(now_s, self._stage_usd, ended=end is not None),
        )
        lead = max(snapshot.stages, key=lambda stage: stage.work_s).name if snapshot.stages else ""
        if lead not in self._usages:
            return snapshot
        return self._usages[lead].onto(msgspec.structs.replace(snapshot, lead=lead) if lead else snapshot)

    def _state(self) -> State:
        if self._ended is not None:
            return "ended"
        return "stopping" if self._stop_reason else "running" if self._started is not None else "starting"

    def _hold(self, now_s: float) -> Hold | None:
        held = self._held
        if held is None or held.until_s <= now_s or self._ended is not None:
            return None
        return Hold(held.reason, held.until_s - now_s)

    def _failures(self) -> tuple[FailureGroup, ...]:
        groups = sorted(self._groups.items(), key=lambda pair: -pair[1].count)
        return tuple(FailureGroup(kind, g.count, g.message, g.hint, tuple(g.keys)) for kind, g in groups)

    def _errors(self) -> tuple[CallErrors, ...]:
        ranked = sorted(self._call_errors.items(), key=lambda pair: -pair[1])
        return tuple(CallErrors(kind, status, count) for (kind, status), count in ranked)

    def _since(self, now_s: float, window_s: float, column: int, at_least: int) -> _Mark | None:
        """The oldest mark within the window, or before it where too little of this column happened since."""
        current = (now_s, self._done, self._asked, self._worked_on)[column]
        found = None
        for mark in reversed(self._marks):
            if found is not None and mark[0] < now_s - window_s and current - found[column] >= at_least:
                break
            found = mark
        return found

    def _window_s(self) -> float:
        """Long enough for slow calls to end a few times, so that waves of them do not swing the rate."""
        return max(_WINDOW_S, 4 * (self._seconds.at(0.5) or 0.0))

    def _rate(self, now_s: float) -> float:
        mark = self._since(now_s, self._window_s(), 3, _ETA_AFTER_ITEMS)
        if mark is None or now_s - mark[0] <= _LEAST_S:
            return 0.0
        return (self._worked_on - mark[3]) / (now_s - mark[0])

    def _eta_s(self, now_s: float, pending: int) -> float | None:
        """Seconds for the rest, at the pace of items that needed a call: those from the store take none.

        The share of the rest that needs a call is the larger of two recent ones, so that the end of a stretch from
        the store promises too much time rather than too little.
        """
        if pending == 0:
            return 0.0
        first_s = self._first_call_s
        if first_s is None or self._asked < _ETA_AFTER_ITEMS or now_s - first_s < _ETA_AFTER_S or self._stop_reason:
            return None
        wait_s = 0.0
        if self._held is not None and self._held.until_s > now_s:  # the pace is that before the pause
            wait_s = self._held.until_s - now_s
            now_s = min(now_s, max(self._held_from_s, first_s + _LEAST_S))
        wide = self._since(now_s, self._window_s(), 2, _ETA_AFTER_ITEMS)
        near = self._since(now_s, _ETA_AFTER_S - 1, 2, _ETA_AFTER_ITEMS)
        if wide is None or near is None:
            return None
        elapsed_s = now_s - max(wide[0], first_s)
        asked = self._asked - wide[2]
        if elapsed_s <= 0 or asked <= 0:
            return None
        share = max(self._share(wide), self._share(near))
        eta_s = wait_s + pending * share * elapsed_s / asked
        return eta_s if math.isfinite(eta_s) else None

    def _share(self, mark: _Mark) -> float:
        """Of the items settled since this mark, those that needed a call."""
        settled = self._done - mark[1]
        return (self._asked - mark[2]) / settled if settled else 0.0


_Name = TypeVar("_Name", str, tuple[str, int | None])
_Amount = TypeVar("_Amount", int, float)


def _count(counts: dict[_Name, _Amount], name: _Name, other: _Name, amount: _Amount = 1) -> None:
    name = name if name in counts or len(counts) < _KINDS_MAX else other
    counts[name] = counts.get(name, 0) + amount
