"""One run from open to closed: its stage, its governor, its reasons to end. Enters a task, a call, a source and a
store; leaves durable outcomes and, in `info`, how it ended."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import AnswerError, HeadraceError, RunIsLive, Stopped
from headrace.core.event import AskedAgain, Event, Gauge, RunEnded, RunStarted, SourceRead, Stopping
from headrace.core.item import Outcome
from headrace.core.limits import Unit
from headrace.core.ports import Figures, RunInfo, Source, Store, Task
from headrace.engine.backup import BackUp
from headrace.engine.cached import Cached
from headrace.engine.governed import Governed
from headrace.engine.governor import Account, Governor, Lane, governor_of
from headrace.engine.lender import Lender
from headrace.engine.reasons import Reasons
from headrace.engine.snapshot import figures_of
from headrace.engine.stage import Stage
from headrace.engine.tally import Tally
from headrace.engine.warm import Warm
from headrace.engine.watch import Watch
from headrace.flow.backup import Backups
from headrace.flow.estimate import Charge, Estimator
from headrace.flow.queue import Priority
from headrace.flow.retry import Retry
from headrace.flow.timeout import CallTimeout

INTERRUPTED = "interrupted"
_READ_AHEAD = 256
_KEEP_FIGURES_S = 30.0
_LIVE_S, _LIVE_POLL_S = 1.0, 0.05
"""How long, and how often, to look whether a run that is live ends."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one run goes about its work."""

    stated: Mapping[Unit, float] = {}
    """Limits that the user states: calls in flight, requests and tokens per minute."""
    charge: Charge = Charge("usage")
    timeout_s: float
    """Of one attempt, at most: it follows what the calls take."""
    deadline_s: float | None = None
    """Of the whole run."""
    backup_share: float = 0.0
    """How many of the calls may be second ones for stragglers."""
    max_failure_rate: float | None = None
    weight: float = 1.0
    priority: Priority = "normal"
    retry: Retry = Retry()
    ordered: bool = False
    fresh: bool = False
    """Ask anew: serve no answer that is older than this run's start."""
    retry_failed: bool = True
    keyed: bool = False
    """Whether keys come from a column, so that they may repeat."""
    warm: bool = False
    """Whether the first call goes alone, because the provider's prompt cache has nothing before its answer."""
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
        account: Account,
        emit: Callable[[Event], None],
    ) -> None:
        self.info = info
        self.tally = Tally()
        """The first to hear of each event."""
        self.error: HeadraceError | None = None
        """What ended the run before its source was exhausted, where that was an error."""
        self._task, self._call, self._source, self._store, self._settings = task, call, source, store, settings
        self._account = account
        self._callback = emit
        self._raised: Exception | None = None
        """What the caller's own callback raised, or what broke beside the stage: it ends this run, and no other."""
        self._reasons = Reasons(max_failure_rate=settings.max_failure_rate, is_down=self._is_down)
        self._stop_reason = ""
        self._stage: Stage | None = None
        self._governor: Governor | None = None
        self._back_up: BackUp | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._keep_figures_at_s = 0.0
        self._beside: list[asyncio.Task[None]] = []
        """What goes on beside the stage and ends with it."""
        self._lane = Lane(
            stated=settings.stated, emit=self._emit, fatal=self._fatal, weight=settings.weight,
            priority=settings.priority,
        )  # fmt: skip

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
        governor = self._governor = governor_of(self._account)
        governor.enter(self._lane)
        try:
            await self._share(governor)
            self._emit(self._started())
            stage = self._stage = self._staged(governor)
            if self._stop_reason:  # interrupted while the store was opened
                stage.stop()
            self._set_deadline()
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
            await self._close(governor)
        if self._raised is not None:
            raise self._raised

    async def _share(self, governor: Governor) -> None:
        """Share the account's limits with other processes on this store. One run does it for all of this process;
        when it ends, the next takes over."""
        if not self._account.lasting:
            governor.ready.set()
            return
        lending = self._go_beside(self._lend(governor))
        ready = asyncio.create_task(governor.ready.wait())
        await asyncio.wait((lending, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if lending.done():
            lending.result()  # raises why there is no lease

    async def _lend(self, governor: Governor) -> None:
        async with governor.lending:
            lender = Lender(self._store, self._account.name, governor)
            learnt = await lender.open()
            if not governor.ready.is_set():
                governor.gate.recall(learnt, _now(), time.time() - learnt.at)
                governor.ready.set()
            try:
                await lender.run()
            finally:
                await lender.close()

    def _go_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what goes on beside the stage. The run cannot go on without it."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended_beside)
        self._beside.append(task)
        return task

    def _ended_beside(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, HeadraceError):
            self._fatal(error)
        elif isinstance(error, Exception):
            self._break(error, f"A part of the run broke: {type(error).__name__}.")

    def _set_deadline(self) -> None:
        if self._settings.deadline_s is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._settings.deadline_s, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._stop(f"The deadline of {self._settings.deadline_s:g} s has passed.")
        if self._stage is not None:
            self._stage.drop()

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
                await self._lane.pause(_LIVE_POLL_S)

    def _staged(self, governor: Governor) -> Stage:
        """The calls in reading order: cached, governed, the provider; a backup goes round the first two."""
        settings = self._settings
        cached = None
        if self._task.reusable:
            since = self.info.started_at if settings.fresh else 0.0
            cached = Cached(self._store, self._task.value, self._lane.pause, again=self._again, since=since)
        backups = Backups(settings.backup_share)
        governed = Governed(
            governor, self._lane, retry=settings.retry, late=cached.keep if cached else None,
            watch=Watch(CallTimeout(settings.timeout_s), backups), estimator=Estimator(settings.charge),
            chance=random.Random(settings.seed).random,  # noqa: S311 - jitter, no secret
        )  # fmt: skip
        if settings.backup_share:
            self._back_up = BackUp(governed, self._call, backups)
        call = governed.govern(self._call)
        if settings.warm:
            call = Warm().warm(call)
        return Stage(
            self._task, cached.cache(call) if cached else call, store=self._store, run=self.info.id,
            session=self.info.session, places=lambda: governor.limit * 2 + _READ_AHEAD, emit=self._emit,
            fatal=self._fatal, cached=cached, keyed=settings.keyed, keep_failures=not settings.retry_failed,
            ordered=settings.ordered,
        )  # fmt: skip

    def _again(self, request: Request, reply: Reply, error: AnswerError) -> Request | None:
        asked = self._task.again(request, reply, error)
        if asked is not None:
            self._emit(AskedAgain(_now(), error.kind))
        return asked

    def _emit(self, event: Event) -> None:
        if isinstance(event, SourceRead) and self._back_up is not None:
            self._go_beside(self._back_up.run())
        error = self._reasons.add(event)
        self._tell(event)
        if isinstance(event, Gauge):
            self._keep_figures(event.at_s)
        if error is not None:
            self._fatal(error)

    def _is_down(self) -> bool:
        return self._governor is not None and not self._governor.gate.breaker.is_closed

    def _tell(self, event: Event) -> None:
        self.tally.add(event)
        self._call_back(event)

    def _call_back(self, event: Event) -> None:
        try:
            self._callback(event)
        except Exception as raised:  # noqa: BLE001 - raised again, to the caller whose it is
            self._break(raised, f"The callback for events raised {type(raised).__name__}.")

    def _break(self, error: Exception, reason: str) -> None:
        if self._raised is None:
            self._raised = error
            self._stop(reason)

    def _fatal(self, error: HeadraceError) -> None:
        if self.error is None:
            self.error = error
        self._stop(error.message)

    def _stop(self, reason: str) -> None:
        if self._stop_reason:
            return
        self._stop_reason = reason
        self._tell(Stopping(_now(), reason))
        if self._governor is not None:
            self._governor.close(self._lane, reason)
        else:
            self._lane.close(reason)
        if self._stage is not None:
            self._stage.stop()

    async def _close(self, governor: Governor) -> None:
        stage = self._stage
        if self._deadline is not None:
            self._deadline.cancel()
        governor.meter.tell(_now(), [self._lane], last=True)
        governor.leave(self._lane)
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        done = stage is not None and stage.exhausted and not stage.unsettled
        if done:
            self.error = None  # whatever it was, it cost no item
        status = "finished" if done else "interrupted" if self._stop_reason == INTERRUPTED else "stopped"
        ended = RunEnded(_now(), status, "" if done else self._stop_reason)
        self.tally.add(ended)
        self.info = msgspec.structs.replace(
            self.info, status=status, reason=ended.reason, ended_at=time.time(), figures=self._figures(),
            total=stage.read if stage is not None and stage.exhausted else self.info.total,
        )  # fmt: skip
        await self._store.close_run(self.info)
        self._call_back(ended)

    def _figures(self) -> bytes | None:
        """Of this session; None, which leaves those of an earlier one, where this one needed no call."""
        snapshot = self.tally.snapshot(_now())
        if not snapshot.calls and self.info.session > 1:
            return None
        return figures_of(msgspec.structs.replace(snapshot, session=self.info.session, started_at=self.info.started_at))

    def _keep_figures(self, now_s: float) -> None:
        """Now and then, so that a run that is killed has some."""
        if now_s < self._keep_figures_at_s:
            return
        self._keep_figures_at_s = now_s + _KEEP_FIGURES_S
        figures = self._figures()
        if figures is not None:
            self._store.post([Figures(self.info.id, figures)])

    def _started(self) -> RunStarted:
        info, source = self.info, self._source
        in_flight = int(self._settings.stated.get(Unit.CONCURRENCY, 0))
        return RunStarted(_now(), info.id, info.name, info.source, source.total, in_flight)


def _now() -> float:
    return asyncio.get_running_loop().time()
