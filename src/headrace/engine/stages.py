"""How far each stage of a pipeline is, and where its time goes. Events in, figures out: a fold, as the tally is."""

from collections import deque
from collections.abc import Mapping
from itertools import pairwise

from headrace.core.event import (
    CallEnded,
    CallStarted,
    Event,
    Gauge,
    ItemsPassed,
    ItemsRead,
    ItemsServed,
    RunStarted,
    Settled,
    StageEnded,
    StageInfo,
)
from headrace.engine.snapshot import StageFigures
from headrace.flow.quantiles import Quantiles

_WINDOW_S = 10.0
_MARK_EVERY_S = 0.5
_MARKS_MAX = 64


class _Stage:
    __slots__ = (
        "began_s", "binding", "busy_s", "busy_since_s", "calls", "dropped", "ended_s", "failed", "in_flight", "info", "marks",
        "next_mark_s", "passed", "retries", "seconds", "served", "taken", "waited_s", "work_s",
    )  # fmt: skip

    def __init__(self, info: StageInfo) -> None:
        self.info = info
        self.taken = self.passed = self.failed = self.dropped = self.served = 0
        self.calls = self.retries = self.in_flight = 0
        self.began_s: float | None = None
        self.ended_s = 0.0
        self.busy_s = self.busy_since_s = self.work_s = 0.0
        self.seconds = Quantiles()
        self.waited_s: Mapping[str, float] = {}
        self.binding = ""
        self.marks: deque[tuple[float, int]] = deque(maxlen=_MARKS_MAX)
        self.next_mark_s = 0.0

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.dropped

    def moved(self, now_s: float) -> None:
        """Something came out of it."""
        self.began_s = now_s if self.began_s is None else self.began_s
        self.ended_s = now_s
        if now_s >= self.next_mark_s:
            self.marks.append((now_s, self.done))
            self.next_mark_s = now_s + _MARK_EVERY_S

    def rate(self, now_s: float, *, ended: bool) -> float:
        """Items a second: of late, or of the whole time from its first item to its last."""
        if self.began_s is None:
            return 0.0
        since_s, before = self.began_s, 0
        if not ended:
            for at_s, done in self.marks:
                if at_s < now_s - _WINDOW_S:
                    since_s, before = at_s, done
        until_s = self.ended_s if ended else now_s
        return (self.done - before) / (until_s - since_s) if until_s > since_s else 0.0


class Stages:
    """Of a run with one stage there is nothing to tell that the tally does not."""

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}
        self._after: dict[str, _Stage] = {}

    def add(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif not self._stages:
            return
        elif isinstance(event, CallStarted | CallEnded):
            self._called(event)
        elif isinstance(event, Settled):
            self._settled(event)
        elif isinstance(event, ItemsPassed):
            self._passed(event)
        elif isinstance(event, ItemsRead):
            first = next(iter(self._stages.values()))
            first.began_s = event.at_s if first.began_s is None else first.began_s
            first.taken += event.count
        elif isinstance(event, ItemsServed):
            self._stages[event.stage].served += event.count
        elif isinstance(event, Gauge) and event.stage in self._stages:
            stage = self._stages[event.stage]
            stage.waited_s, stage.binding = event.waited_s, event.binding

    def _begin(self, event: RunStarted) -> None:
        if len(event.stages) < 2:
            return
        self._stages = {info.name: _Stage(info) for info in event.stages}
        made = list(self._stages.values())
        self._after = {one.info.name: other for one, other in pairwise(made)}

    def _passed(self, event: ItemsPassed) -> None:
        stage, after = self._stages[event.stage], self._after[event.stage]
        stage.passed += event.count
        after.taken += event.count
        after.began_s = event.at_s if after.began_s is None else after.began_s
        stage.moved(event.at_s)

    def _settled(self, event: Settled) -> None:
        for outcome in event.outcomes:
            stage = self._stages.get(outcome.stage)
            if stage is None:  # it ended before it came to the first
                next(iter(self._stages.values())).taken -= 1
                continue
            if outcome.dropped:
                stage.dropped += 1
            elif outcome.ok:
                stage.passed += 1
            else:
                stage.failed += 1
            stage.moved(event.at_s)

    def _called(self, event: CallStarted | CallEnded) -> None:
        stage = self._stages.get(event.stage)
        if stage is None:
            return
        if isinstance(event, CallStarted):
            stage.calls += 1
            stage.retries += event.attempt > 1 and not event.backup
            if not stage.in_flight:
                stage.busy_since_s = event.at_s
            stage.in_flight += 1
            return
        stage.in_flight -= 1
        stage.work_s += event.seconds
        if not stage.in_flight:
            stage.busy_s += event.at_s - stage.busy_since_s
        if not event.error:
            stage.seconds.add(event.seconds)

    def ended(self, name: str, at_s: float, seconds: float) -> StageEnded:
        """What became of all that came to it."""
        stage = self._stages[name]
        return StageEnded(
            at_s, name, stage.taken, stage.passed, stage.failed, stage.dropped, seconds, stage.served
        )  # fmt: skip

    def figures(self, now_s: float, usd: Mapping[str, float], *, ended: bool) -> tuple[StageFigures, ...]:
        """`usd` is what each has cost."""
        return tuple(
            StageFigures(
                name=name, kind=stage.info.kind, model=stage.info.model, taken=stage.taken, passed=stage.passed,
                failed=stage.failed, dropped=stage.dropped, served=stage.served, in_flight=stage.in_flight, calls=stage.calls,
                retries=stage.retries, work_s=stage.work_s, rate=stage.rate(now_s, ended=ended), usd=usd.get(name),
                busy_s=stage.busy_s + (now_s - stage.busy_since_s if stage.in_flight else 0.0),
                p50_s=stage.seconds.at(0.5), p95_s=stage.seconds.at(0.95), waited_s=dict(stage.waited_s),
                binding=stage.binding,
            )
            for name, stage in self._stages.items()
        )  # fmt: skip
