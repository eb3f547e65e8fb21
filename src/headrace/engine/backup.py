"""A second call for a straggler, where the user allows it: the first answer counts, the other call is cancelled.

Only when the source is read, nothing waits, and the call has taken far longer than its size explains. A backup that is
late itself gets one too.
"""

import asyncio
from contextlib import suppress

from headrace.core.call import Call
from headrace.core.errors import HeadraceError, Stopped, Verdict
from headrace.engine.governed import Abandoned, Governed, Tries
from headrace.engine.watch import Attempt
from headrace.flow.backup import Backups
from headrace.flow.gate import Ticket

CHECK_S = 0.25
LEAST_S = 0.01


class BackUp:
    """Watches the calls of one run from the moment its source is read to the end."""

    def __init__(self, governed: Governed, call: Call, backups: Backups) -> None:
        self._governed = governed
        self._call = call
        self._backups = backups
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled, or until the run stops."""
        loop = asyncio.get_running_loop()
        try:
            with suppress(Stopped):
                while True:
                    now_s = loop.time()
                    next_s = self._look(now_s)
                    await self._governed.lane.pause(max(LEAST_S, next_s - now_s))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self, now_s: float) -> float:
        """Send the backups that are due; when to look again."""
        next_s = now_s + CHECK_S
        for attempt in list(self._governed.watch.attempts):
            due_s = self._backups.due_s(attempt.size.tokens)
            if due_s is None or attempt.backup is not None or attempt.taken_off:
                continue
            if now_s < attempt.start_s + due_s:
                next_s = min(next_s, attempt.start_s + due_s)
            elif self._backups.allow(self._governed.sent):
                self._send(attempt)
        return next_s

    def _send(self, attempt: Attempt) -> None:
        governed = self._governed
        ticket = governed.governor.ask(governed.lane, governed.cost(attempt.request, attempt.size))
        if ticket is not None:
            self._backups.sent()
            attempt.backup = task = asyncio.ensure_future(self._second(attempt, ticket))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _second(self, attempt: Attempt, ticket: Ticket) -> None:
        tries = Tries()
        tries.attempts, tries.timeouts = 1, attempt.timeouts
        try:
            reply = await self._governed.attempt(
                self._call, attempt.request, ticket, size=attempt.size, tries=tries, is_backup=True
            )
        except Abandoned:
            return
        except HeadraceError as error:  # the first goes on, and what becomes of it counts
            if error.verdict is Verdict.STOP_RUN:
                self._governed.lane.fatal(error)
            return
        attempt.overtake(reply)
