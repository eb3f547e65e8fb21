"""One run's calls: each waits for its permit, is made, timed, and tried again as its error asks for.

Enters a request, leaves a reply or an error that no retry could mend.
"""

import asyncio
import math
from collections.abc import Callable

import msgspec

from headrace.core.call import Call, Reply, Request, StillRunning
from headrace.core.errors import (
    AttemptTimeout,
    CallError,
    HeadraceError,
    ItemError,
    Unreachable,
    Unsupported,
    Untrusted,
    Verdict,
)
from headrace.core.event import CallEnded, CallStarted
from headrace.core.limits import Cost, End, Hints, Unit
from headrace.engine.governor import Governor, Lane
from headrace.engine.watch import Attempt, Watch
from headrace.flow.estimate import Estimator, Size, size_of
from headrace.flow.gate import Ticket
from headrace.flow.most import Most
from headrace.flow.retry import Retry
from headrace.task.price import Price

RETRIES_MOST, FIRST_RETRIES_MOST = 10, 50
"""So many calls wait for the retry budget at most: in ten seconds it has room for one, where nothing is answered. The
first retry of an item is worth more than its third."""

_SENT_S = 0.05
"""By then a first call is on its way."""
_MAYBE_DONE = frozenset({408, 499, 504, 524})
"""Somebody between us and the model gave up waiting for it: it may have answered, and be paid for that."""

Late = Callable[[Request, Reply], None]


class Abandoned(Exception):
    """A call that timed out goes on."""

    def __init__(self, error: AttemptTimeout) -> None:
        super().__init__(error.message)
        self.error = error


class Tries:
    """What became of one item's attempts so far."""

    __slots__ = ("again", "alone", "at_fault", "attempts", "failures", "refusals", "refused_since_s", "timeouts")

    def __init__(self) -> None:
        self.again = False
        """Whether the next goes before others. Not while the endpoint is down: an item that brings it down would be
        its only probe for ever."""
        self.alone = False
        """Whether the last one was refused for no limit that concerns others."""
        self.at_fault = False
        """Whether the last one failed for its own sake, not for the endpoint's."""
        self.attempts = self.failures = self.refusals = self.timeouts = 0
        self.refused_since_s = math.inf


class Governed:
    """The calls of one run through its lane."""

    def __init__(
        self,
        governor: Governor,
        lane: Lane,
        *,
        retry: Retry,
        watch: Watch,
        estimator: Estimator,
        chance: Callable[[], float],
        late: Late | None = None,
        price: Price | None = None,
        late_price: Callable[[], Price | None] | None = None,
        stage: str = "",
    ) -> None:
        """`late` is told of replies that come after their call was given up. Without a `price`, what calls cost stays
        unknown; `late_price` is looked up in a thread while the first call is on its way. `stage` is named in the
        events."""
        self.governor = governor
        self.lane = lane
        self.watch = watch
        self.estimator = estimator
        self.sent = 0
        self._retry = retry
        self._chance = chance
        self._late = late
        self._price = price
        self._late_price = late_price
        self._most = Most()
        self._stage = stage

    def govern(self, call: Call) -> Call:
        """`call`, made only when the gate lets it, retried as its errors ask for."""

        async def governed(request: Request) -> Reply:
            tries = Tries()
            size = size_of(request)
            while True:
                cost = self.cost(request, size)
                ticket = await self.governor.admit(self.lane, cost, again=tries.again, retry=tries.at_fault)
                tries.attempts += 1
                try:
                    reply = await self.attempt(call, request, ticket, size=size, tries=tries)
                except Abandoned as abandoned:  # not again: the same item would be worked on twice at once
                    abandoned.error.attempts = tries.attempts
                    raise abandoned.error from None
                except HeadraceError as error:
                    pause_s = self._pause_s(error, tries)
                    if pause_s is None:
                        error.attempts = tries.attempts
                        raise
                else:
                    return reply
                if pause_s:
                    await self.lane.pause(pause_s)

        return governed

    def cost(self, request: Request, size: Size) -> Cost:
        """What to reserve for a call; of money, where there is a budget, as much as it can come to."""
        cost = self.estimator.cost(size)
        if self.lane.purse is None or self._price is None:
            return cost
        usd = self._price.worst(*self._most.tokens(request, size))
        return msgspec.structs.replace(cost, usd=usd)

    async def attempt(
        self, call: Call, request: Request, ticket: Ticket, *, size: Size, tries: Tries, is_backup: bool = False
    ) -> Reply:
        """One call with its permit, which is settled whatever happens. Raises Abandoned where it timed out and goes on."""
        loop = asyncio.get_running_loop()
        last = tries.failures >= self._retry.attempts - 1
        attempt = Attempt(request, size, loop.time(), tries.timeouts, last=last, is_backup=is_backup)
        self.lane.emit(CallStarted(attempt.start_s, tries.attempts, is_backup, self._stage))
        self.sent += 1
        self.watch.begin(attempt, loop)
        over = _Over()
        self._look_price_up(loop)
        try:
            return self._answered(await call(request), attempt, ticket, tries, over, loop)
        except asyncio.CancelledError:
            over.kind, over.paid = "overtaken" if is_backup else "cancelled", True
            if not attempt.was_ours():
                raise
            return self._taken_off(attempt, tries, over)
        except StillRunning as running:
            over.kind, over.goes_on = "cancelled", True
            self._leave_running(attempt, ticket, running.done)
            if not attempt.was_ours():
                raise asyncio.CancelledError from None
            if attempt.overtaken_by is not None:
                return self._taken_off(attempt, tries, over)
            error = self._timed_out(attempt, " Its thread goes on: it cannot be stopped.")
            over.kind, over.said = error.kind, error.message
            raise Abandoned(error) from None
        except HeadraceError as error:
            over.failed(error)
            hints = over.hints
            if hints is not None and hints.charged is not None and hints.blamed in (None, Unit.TOKENS):
                self.estimator.correct(ticket.cost, hints.charged)
            if error.verdict is Verdict.STOP_RUN:
                self.governor.close(self.lane, error.message)  # before the next in line is let in
            raise
        finally:
            self.watch.end(attempt)
            if attempt.backup is not None:
                attempt.backup.cancel()
            self._end(attempt, ticket, tries, over, loop.time())

    def _answered(
        self,
        reply: Reply,
        attempt: Attempt,
        ticket: Ticket,
        tries: Tries,
        over: "_Over",
        loop: asyncio.AbstractEventLoop,
    ) -> Reply:
        if attempt.taken_off:  # it was answered in the very moment it was taken off
            attempt.was_ours()
        seconds = loop.time() - attempt.start_s
        over.end, over.hints = End.OK, reply.hints
        if reply.input_tokens is not None or reply.output_tokens is not None:
            self.estimator.learn(attempt.size, reply.input_tokens, reply.output_tokens)
            over.cost = self.estimator.charged(
                ticket.cost, reply.input_tokens, reply.output_tokens, reply.cached_tokens
            )
        self.watch.answered(attempt, seconds)
        over.tokens, over.usd = (reply.input_tokens, reply.output_tokens), self._cost(reply)
        return msgspec.structs.replace(
            reply, attempts=tries.attempts, seconds=round(seconds, 4), hints=None, usd=over.usd
        )

    def _taken_off(self, attempt: Attempt, tries: Tries, over: "_Over") -> Reply:
        """What comes of an attempt that headrace cancelled."""
        if attempt.overtaken_by is not None:
            over.kind, over.paid = "overtaken", True
            return msgspec.structs.replace(attempt.overtaken_by, attempts=tries.attempts + 1)
        error = self._timed_out(attempt)
        over.failed(error)
        over.paid = True
        tries.timeouts += 1
        raise error from None

    def _end(self, attempt: Attempt, ticket: Ticket, tries: Tries, over: "_Over", now_s: float) -> None:
        if over.paid:
            over.usd = self._at_most(attempt.size, ticket)
        ended = CallEnded(
            now_s, now_s - attempt.start_s, over.kind, over.said, over.status, over.paid, self._stage, *over.tokens, over.usd
        )  # fmt: skip
        self.lane.emit(ended)
        tokens = (ended.input_tokens, ended.output_tokens)
        self.governor.experience.add(over.kind, ended.seconds, attempt.size, *tokens)
        if not over.goes_on:
            tries.alone = self.governor.settle(
                self.lane, ticket, over.end, cost=over.cost, hints=over.hints, again=tries.failures > 0,
                usd=None if over.paid else over.usd,
            )  # fmt: skip

    def _cost(self, reply: Reply) -> float | None:
        """What an answer cost; some providers tell it themselves."""
        price = None if reply.usd is not None else self._known_price()
        if price is None:
            return reply.usd
        return price.usd(
            reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens, reply.written_tokens
        )

    def _look_price_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, while the first call is on its way."""
        if self.sent == 1 and self._late_price is not None:
            loop.call_later(_SENT_S, loop.run_in_executor, None, self._late_price)

    def _known_price(self) -> Price | None:
        """Waits for the look-up, where it still goes on."""
        if self._late_price is not None:
            self._price, self._late_price = self._late_price(), None
        return self._price

    def _at_most(self, size: Size, ticket: Ticket) -> float | None:
        """What a call that was given up may have cost. Where the request names no maximum output, as much output as such
        calls have."""
        price = None if ticket.cost.usd else self._known_price()
        if price is None:
            return ticket.cost.usd or None
        out = ticket.cost.output_tokens if size.max_output is None else size.max_output
        return price.worst(max(size.tokens, ticket.cost.input_tokens), out)

    def _timed_out(self, attempt: Attempt, more: str = "") -> AttemptTimeout:
        return AttemptTimeout(
            f"No answer within {attempt.allowed_s:.4g} s.{more}",
            hint="Allow more with --timeout (timeout=) if calls take that long.",
        )

    def _leave_running(self, attempt: Attempt, ticket: Ticket, done: asyncio.Future[Reply]) -> None:
        """Leave a call to itself. It keeps its place until it is off its thread."""
        self.governor.stuck()

        def came_late(done: asyncio.Future[Reply]) -> None:
            self.governor.unstuck()
            came = not done.cancelled() and done.exception() is None
            usd = self._cost(done.result()) if came else None
            self.governor.settle(self.lane, ticket, End.IGNORED, usd=usd)
            unanswered = attempt.overtaken_by is None
            if unanswered and came and self._late is not None:
                self._late(attempt.request, done.result())

        done.add_done_callback(came_late)

    def _pause_s(self, error: HeadraceError, tries: Tries) -> float | None:
        """Seconds until the next attempt, None to give up. While the endpoint itself is down, no failure is the item's."""
        if isinstance(error, Unsupported):  # nothing failed: the next attempt is another request
            tries.at_fault, tries.again = False, True
            return 0.0
        now_s = asyncio.get_running_loop().time()
        gate = self.governor.gate
        verdict, down = error.verdict, not gate.breaker.is_closed
        if verdict is Verdict.RETRY and down:
            verdict = Verdict.BACK_OFF
        waited_s = 0.0
        tries.at_fault, tries.again = verdict is Verdict.RETRY, not down
        if verdict is Verdict.BACK_OFF:
            tries.refusals += 1
            tries.refused_since_s = min(tries.refused_since_s, now_s)
            if gate.answered_at_s > tries.refused_since_s:  # others get through: else the run decides, not the item
                waited_s = now_s - tries.refused_since_s
        else:
            tries.failures += 1
            most = RETRIES_MOST if tries.failures > 1 else FIRST_RETRIES_MOST
            if self.governor.retries_waiting >= most:
                return None  # so much fails that trying all of it again would hold up what is good
        return self._retry.pause_s(
            verdict,
            failures=tries.failures,
            refusals=tries.refusals,
            waited_s=waited_s,
            governed=down or (isinstance(error, CallError) and error.end is End.THROTTLED and not tries.alone),
            hint_s=error.retry_after_s if isinstance(error, CallError) else None,
            chance=self._chance,
        )


class _Over:
    """How an attempt ended, gathered on the way out."""

    __slots__ = ("cost", "end", "goes_on", "hints", "kind", "paid", "said", "status", "tokens", "usd")

    def __init__(self) -> None:
        self.end = End.IGNORED
        self.cost: Cost | None = None
        self.hints: Hints | None = None
        self.kind = self.said = ""
        self.status: int | None = None
        self.paid = self.goes_on = False
        self.tokens: tuple[int | None, int | None] = (None, None)
        self.usd: float | None = None

    def failed(self, error: HeadraceError) -> None:
        self.kind, self.said = error.kind, error.message
        self.usd = 0.0 if _is_free(error) else None
        if isinstance(error, CallError):
            self.end, self.hints, self.status = error.end, error.hints, error.status


def _is_free(error: HeadraceError) -> bool:
    """Whether what failed so was never paid for: it was refused, or never sent."""
    if isinstance(error, CallError) and error.status is not None:
        return error.status not in _MAYBE_DONE
    return isinstance(error, Unreachable | Untrusted | ItemError)
