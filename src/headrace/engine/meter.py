"""What held calls back, and how much of each limit is in use: measured while it happens, told about once a second, and
sooner while a run is young."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from headrace.core.event import Event, Gauge, LimitChanged
from headrace.core.limits import Unit, Use
from headrace.flow.gate import Gate, NotBefore

FIRST_S, EVERY_S = 0.05, 1.0
"""Between two gauges: at first, then twice as long each time, so that also a short run has a course."""
TOLD_SHARE = 0.05
"""A limit that moved by less is not news."""


class Listener(Protocol):
    """A run that shares the endpoint."""

    stated: Mapping[Unit, float]
    emit: Callable[[Event], None]
    in_flight: int
    queued: int
    since: "Since | None"


class Since:
    """Where the sums stood when a run began."""

    def __init__(self, waited_s: Mapping[str, float]) -> None:
        self.waited_s = dict(waited_s)
        self.cpu_s = time.process_time()


class Meter:
    """One head of the line is in the way of all others, so its waiting is the endpoint's."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._waited_s: dict[str, float] = {}
        self._waiting: NotBefore | None = None
        self._waiting_since_s = 0.0
        self._next_s, self._every_s = 0.0, FIRST_S
        self._told: dict[str, float] = {}
        self._limits: dict[tuple[str, float], float | None] = {}

    def since(self) -> Since:
        """A run begins."""
        self._next_s, self._every_s = 0.0, FIRST_S
        return Since(self._waited_s)

    def waiting(self, now_s: float, answer: NotBefore) -> bool:
        """The head of the line has to wait; True where that is news."""
        before = self._waiting
        if before is not None and before.cause == answer.cause:
            self._waiting = answer
            return answer.at_s > before.at_s
        self.admitted(now_s)
        self._waiting, self._waiting_since_s = answer, now_s
        return True

    def admitted(self, now_s: float) -> None:
        """The head of the line went on."""
        if self._waiting is not None:
            cause = self._waiting.cause
            self._waited_s[cause] = self._waited_s.get(cause, 0.0) + now_s - self._waiting_since_s
            self._waiting = None

    def tell(self, now_s: float, listeners: Sequence[Listener], *, last: bool = False) -> None:
        """A gauge for each run, where the last one is old enough or this is to be the last."""
        if now_s < self._next_s and not last:
            return
        self._next_s, self._every_s = now_s + self._every_s, min(EVERY_S, 2 * self._every_s)
        waiting = self._waiting
        if waiting is not None:  # what it has waited until now
            self.admitted(now_s)
            self._waiting, self._waiting_since_s = waiting, now_s
        late = {cause: s - self._told.get(cause, 0.0) for cause, s in self._waited_s.items()}
        binding = max(late, key=late.__getitem__, default="")
        self._told = dict(self._waited_s)
        uses = tuple(self._gate.uses(now_s))
        changes = [change for change in self._changes(now_s, uses) if _is_news(change, listeners)]
        for each in listeners:
            since = each.since or Since({})
            waited_s = {cause: s - since.waited_s.get(cause, 0.0) for cause, s in self._waited_s.items()}
            for change in changes:
                each.emit(change)
            each.emit(
                Gauge(
                    now_s, uses, each.in_flight, each.queued, waited_s, binding if late.get(binding) else "",
                    time.process_time() - since.cpu_s, most_memory_bytes(),
                )
            )  # fmt: skip

    def _changes(self, now_s: float, uses: Sequence[Use]) -> list[LimitChanged]:
        changes = []
        for use in uses:
            place = (use.unit.value, use.window_s)
            before, allowed = self._limits.get(place), use.allowed
            known = place in self._limits
            self._limits[place] = allowed
            if not known and (allowed is None or not use.window_s):
                continue  # the concurrency to begin with is no news
            if before is not None and allowed is not None and abs(allowed - before) <= TOLD_SHARE * before:
                self._limits[place] = before
                continue
            if before == allowed or (
                not use.window_s and allowed is not None and before is not None and allowed > before
            ):
                continue  # growth of a search
            changes.append(LimitChanged(now_s, use.unit.value, allowed, use.window_s, _reason(use, before)))
        return changes


def _is_news(change: LimitChanged, listeners: Sequence[Listener]) -> bool:
    """What a user has stated is none; less than that is."""
    stated = [limit for each in listeners for unit, limit in each.stated.items() if unit.value == change.unit]
    return not stated or (change.limit is not None and change.limit < min(stated))


def _reason(use: Use, before: float | None) -> str:
    if use.unit is Unit.CONCURRENCY:  # of which only less is told
        return "fewer: some were refused, brought no more answers, or are lent to another process"
    if use.allowed is None:
        return "no longer in the way"
    if not use.learnt:
        return "told by the provider" if before is None else "told by the provider, or lent to another process"
    return "found by refusals"


def most_memory_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell.

    Linux: VmHWM, proc_pid_status(5). Its ru_maxrss is no answer there: it begins with what the parent held.
    """
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        pass  # not Linux
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
