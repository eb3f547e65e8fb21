"""Stages are announced: when the first items come to one, and when it has had all, with counts. Events in, events out."""

import asyncio
from collections.abc import Callable, Mapping

from headrace.core.event import Event, ItemsPassed, Settled, StageEnded, StageStarted


class _Count:
    __slots__ = ("dropped", "failed", "passed", "since_s", "taken")

    def __init__(self) -> None:
        self.taken = self.passed = self.failed = self.dropped = 0
        self.since_s: float | None = None


class Announced:
    """The stages of one run, the first one first."""

    def __init__(
        self, at_once: Mapping[str, Callable[[], int]], total: int | None, emit: Callable[[Event], None]
    ) -> None:
        """`at_once` tells of each stage how many calls it may make at once; `total` items are in the source, as far as
        that is known."""
        self._at_once, self._total, self._emit = at_once, total, emit
        self._counts = {name: _Count() for name in at_once}

    def add(self, event: Event) -> None:
        if isinstance(event, ItemsPassed):
            self._counts[event.stage].passed += event.count
        elif isinstance(event, Settled):
            for outcome in event.outcomes:
                count = self._counts.get(outcome.stage)
                if count is None:  # it ended before the first
                    continue
                if outcome.dropped:
                    count.dropped += 1
                elif outcome.ok:
                    count.passed += 1
                else:
                    count.failed += 1

    def came(self, stage: str, count: int) -> None:
        known = self._counts[stage]
        known.taken += count
        if known.since_s is None:
            known.since_s = _now()
            items = self._total if stage == next(iter(self._counts)) else count
            self._emit(StageStarted(known.since_s, stage, items, self._at_once[stage]()))

    def ended(self, stage: str) -> None:
        count, now_s = self._counts[stage], _now()
        if count.since_s is not None:
            seconds = now_s - count.since_s
            self._emit(StageEnded(now_s, stage, count.taken, count.passed, count.failed, count.dropped, seconds))


def _now() -> float:
    return asyncio.get_running_loop().time()
