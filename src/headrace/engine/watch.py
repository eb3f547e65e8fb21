"""The attempts on the wire: takes one off when its time is up, or when another has answered in its place.

One timer for all of them: a timer of its own for each attempt costs more than all else around a call.
"""

import asyncio
import math
from typing import Literal

from headrace.core.call import Reply, Request
from headrace.flow.backup import Backups
from headrace.flow.estimate import Size
from headrace.flow.timeout import CallTimeout

CHECK_S = 1.0
"""How often to look while calls are on the wire: what they may take follows what others took."""

TakenOff = Literal["", "timeout", "backup"]


class Attempt:
    """One call on the wire. `taken_off` says why headrace itself cancelled it."""

    __slots__ = (
        "allowed_s", "backup", "is_backup", "last", "overtaken_by", "request", "size", "start_s", "taken_off", "task", "timeouts",
    )  # fmt: skip

    def __init__(
        self, request: Request, size: Size, start_s: float, timeouts: int, *, last: bool, is_backup: bool
    ) -> None:
        self.is_backup = is_backup
        self.last = last
        self.allowed_s = math.inf
        """Where its time was up: how long it had."""
        self.request = request
        self.size = size
        self.start_s = start_s
        self.timeouts = timeouts
        self.task = asyncio.current_task()
        self.taken_off: TakenOff = ""
        self.overtaken_by: Reply | None = None
        self.backup: asyncio.Future[None] | None = None

    def take_off(self, why: TakenOff) -> None:
        if not self.taken_off and self.task is not None:
            self.taken_off = why
            self.task.cancel()

    def overtake(self, reply: Reply) -> None:
        """Another call has answered: this one is not needed any more."""
        if not self.taken_off:
            self.overtaken_by = reply
            self.take_off("backup")

    def was_ours(self) -> bool:
        """Whether the cancellation that just came was our own, and nobody else's as well. Ask once."""
        return bool(self.taken_off) and self.task is not None and self.task.uncancel() == 0


class Watch:
    """All attempts of one run."""

    def __init__(self, timeout: CallTimeout, backups: Backups) -> None:
        self.timeout = timeout
        self.backups = backups
        self.attempts: dict[Attempt, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def begin(self, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
        self.attempts[attempt] = None
        if self._timer is not None and self.timeout.most_s > CHECK_S:  # it looks again before any is due
            return
        due_s = attempt.start_s + self.timeout.of(attempt.timeouts, last=attempt.last)
        if self._timer is None or due_s < self._timer_at_s:
            self._set(loop, min(due_s, attempt.start_s + CHECK_S))

    def end(self, attempt: Attempt) -> None:
        del self.attempts[attempt]
        if not self.attempts and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self, attempt: Attempt, seconds: float) -> None:
        self.timeout.learn(seconds)
        if self.backups.share:
            self.backups.learn(attempt.size.tokens, seconds)

    def _set(self, loop: asyncio.AbstractEventLoop, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at_s = loop.call_at(at_s, self._check, loop), at_s

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now_s = loop.time()
        soonest_s = next(iter(self.attempts)).start_s + self.timeout.of() if self.attempts else math.inf
        if soonest_s > now_s:  # the oldest comes first, and none has less time
            if soonest_s < math.inf:
                self._set(loop, min(soonest_s, now_s + CHECK_S))
            return
        waiting = [attempt for attempt in self.attempts if not attempt.taken_off]
        overdue = sum(now_s >= each.start_s + self.timeout.of(each.timeouts, last=each.last) for each in waiting)
        next_s = math.inf
        for attempt in waiting:
            due_s = attempt.start_s + self.timeout.of(attempt.timeouts, overdue=overdue, last=attempt.last)
            if now_s >= due_s:
                attempt.allowed_s = due_s - attempt.start_s
                attempt.take_off("timeout")
            else:
                next_s = min(next_s, due_s)
        if next_s < math.inf:
            self._set(loop, min(next_s, now_s + CHECK_S))
