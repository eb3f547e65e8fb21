"""One run from open to closed: its stage, its governor, its reasons to end. Enters a task, a call, a source and a
store; leaves durable outcomes and, in `info`, how it ended."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

import msgspec

from headrace.core.call import Call
from headrace.core.errors import HeadraceError, Overloaded, RunIsLive, Stopped, SystemicFailure, Throttled, Unreachable
from headrace.core.event import CallEnded, CallStarted, Event, RunEnded, RunStarted, Settled, Stopping
from headrace.core.item import Outcome
from headrace.core.ports import RunInfo, Source, Store, Task
from headrace.engine.cached import Cached
from headrace.engine.governor import Governor
from headrace.engine.stage import Stage
from headrace.flow.gate import Gate
from headrace.flow.patience import FirstSuccess
from headrace.flow.retry import Retry

INTERRUPTED = "interrupted"
_OF_ENDPOINT = frozenset({Unreachable.kind, Throttled.kind, Overloaded.kind})
_READ_AHEAD = 256
_REORDER = 4
_LIVE_S, _LIVE_POLL_S = 1.0, 0.05
"""How long, and how often, to look whether a run that is live ends."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one run goes about its work."""

    concurrency: int
    timeout_s: float
    """Of one attempt."""
    retry: Retry = Retry()
    ordered: bool = False
    fresh: bool = False
    """Ask anew: serve no answer that is older than this run's start."""
    retry_failed: bool = True
    keyed: bool = False
    """Whether keys come from a column, so that they may repeat."""
    seed: int | None = None


class Runner:
    def __init__(
        self,
        task: Task,
        call: Call,
        source: Source,
        store: Store,
        info: RunInfo,
        settings: RunSettings,
        *,
        emit: Callable[[Event], None],
    ) -> None:
        self.info = info
        self.error: HeadraceError | None = None
        """What ended the run before its source was exhausted, where that was an error."""
        self._task, self._call, self._source, self._store, self._settings = task, call, source, store, settings
        self._tell = emit
        self._first_success = FirstSuccess()
        self._stop_reason = ""
        self._stage: Stage | None = None
        chance = random.Random(settings.seed).random  # noqa: S311 - jitter, no secret
        self._governor = Governor(
            Gate(settings.concurrency), retry=settings.retry, timeout_s=settings.timeout_s, chance=chance,
            emit=self._emit,
        )  # fmt: skip
        self._governor.fatal = self._fatal

    def interrupt(self) -> bool:
        """The first time, finish what is in flight and end; the second, end now, which is True."""
        if self._stop_reason and self._stage is not None:
            self._stage.drop()
            return True
        self._stop(INTERRUPTED)
        return False

    async def outcomes(self) -> AsyncGenerator[list[Outcome]]:
        """Batches of durable outcomes. Raises what the source or the store raised; an error that ends the run early
        is in `error`."""
        self.info = await self._opened()
        self._emit(self._started())
        stage = self._stage = self._staged()
        if self._stop_reason:  # interrupted while the store was opened
            stage.stop()
        try:
            async with aclosing(stage.outcomes(self._source)) as batches:
                async for batch in batches:
                    yield batch
        except HeadraceError as error:
            self._fatal(error)
            raise
        except BaseException:
            self._stop(INTERRUPTED)
            raise
        finally:
            await self._close(stage)

    async def _opened(self) -> RunInfo:
        """The run, ours now. One whose loop was just left in this program may need a moment to end."""
        info = msgspec.structs.replace(self.info, started_at=time.time())
        give_up_s = _now() + _LIVE_S
        while True:
            try:
                return await self._store.open_run(info)
            except RunIsLive:
                if _now() >= give_up_s or self._stop_reason:
                    raise
            with suppress(Stopped):
                await self._governor.pause(_LIVE_POLL_S)

    def _staged(self) -> Stage:
        settings, cached, call = self._settings, None, self._governor.govern(self._call)
        if self._task.reusable:
            since = self.info.started_at if settings.fresh else 0.0
            cached = Cached(self._store, self._task.value, self._governor.pause, since=since)
            self._governor.late = cached.keep
            call = cached.cache(call)
        places = settings.concurrency * 2 + _READ_AHEAD
        return Stage(
            self._task, call, store=self._store, run=self.info.id, session=self.info.session, places=places,
            emit=self._emit, fatal=self._fatal, cached=cached, keyed=settings.keyed,
            keep_failures=not settings.retry_failed, reorder=places * _REORDER if settings.ordered else 0,
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        if isinstance(event, Settled):
            self._learn(event)
        elif isinstance(event, CallStarted):
            self._first_success.began()
        elif isinstance(event, CallEnded):
            self._first_success.ended(event.at_s - event.seconds)
            if event.error and event.error != "cancelled":
                self._failed_at(event.at_s, event.message, of_endpoint=event.error in _OF_ENDPOINT)
        self._tell(event)

    def _learn(self, event: Settled) -> None:
        for outcome in event.outcomes:
            if outcome.ok and outcome.cached:
                self._first_success.served()
            elif outcome.ok:
                self._first_success.success()
            elif outcome.error is not None and outcome.attempts and not outcome.cached:
                self._failed_at(event.at_s, outcome.error.message, of_endpoint=False)

    def _failed_at(self, at_s: float, what: str, *, of_endpoint: bool) -> None:
        if self._first_success.failure(at_s, of_endpoint=of_endpoint):
            self._fatal(
                SystemicFailure(
                    f"Nothing but failures for {self._first_success.patience_s:.0f} s. The last: {what}",
                    hint="Mend the cause and run again: what failed is tried again.",
                )
            )

    def _fatal(self, error: HeadraceError) -> None:
        if self.error is None:
            self.error = error
        self._stop(error.message)

    def _stop(self, reason: str) -> None:
        if self._stop_reason:
            return
        self._stop_reason = reason
        self._tell(Stopping(_now(), reason))
        self._governor.close(reason)
        if self._stage is not None:
            self._stage.stop()

    async def _close(self, stage: Stage) -> None:
        self._governor.close("The run has ended.")
        done = stage.exhausted and not stage.unsettled
        if done:
            self.error = None  # whatever it was, it cost no item
        status = "finished" if done else "interrupted" if self._stop_reason == INTERRUPTED else "stopped"
        self.info = msgspec.structs.replace(
            self.info, status=status, reason="" if done else self._stop_reason, ended_at=time.time(),
            total=stage.read if stage.exhausted else self.info.total,
        )  # fmt: skip
        await self._store.close_run(self.info)
        self._tell(RunEnded(_now(), self.info.status, self.info.reason))

    def _started(self) -> RunStarted:
        info, source = self.info, self._source
        return RunStarted(_now(), info.id, info.name, info.source, source.total, self._settings.concurrency)


def _now() -> float:
    return asyncio.get_running_loop().time()
