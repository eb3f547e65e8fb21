"""Stages are announced: when the first items come to one, and when it has had all. Leaves events."""

import asyncio
from collections.abc import Callable, Mapping

from headrace.core.event import Event, StageEnded, StageStarted

Ended = Callable[[str, float, float], StageEnded]
"""From a stage's name, the moment and its seconds, with what became of all that came to it."""


class Announced:
    """The stages of one run, the first one first."""

    def __init__(
        self, at_once: Mapping[str, Callable[[], int]], total: int | None, ended: Ended, emit: Callable[[Event], None]
    ) -> None:
        """`at_once` tells of each stage how many calls it may make at once; `total` items are in the source, as far as
        that is known."""
        self._at_once, self._total, self._ended, self._emit = at_once, total, ended, emit
        self._since_s: dict[str, float] = {}

    def came(self, stage: str, count: int) -> None:
        if stage not in self._since_s:
            since_s = self._since_s[stage] = _now()
            items = self._total if stage == next(iter(self._at_once)) else count
            self._emit(StageStarted(since_s, stage, items, self._at_once[stage]()))

    def ended(self, stage: str) -> None:
        since_s, now_s = self._since_s.get(stage), _now()
        if since_s is not None:
            self._emit(self._ended(stage, now_s, now_s - since_s))


def _now() -> float:
    return asyncio.get_running_loop().time()
