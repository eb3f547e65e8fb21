"""One run from open to closed: its stages in a line, and its reasons to end. Enters stages, a source and a store; leaves
durable outcomes and, in `info`, how it ended."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from headrace.core.errors import HeadraceError, RunIsLive
from headrace.core.event import Event, Gauge, RunEnded, RunStarted, StageInfo, Stopping
from headrace.core.item import Outcome
from headrace.core.limits import Unit
from headrace.core.ports import Figures, RunInfo, Source, Store
from headrace.engine.announced import Announced
from headrace.engine.leg import Calling, Leg, Manner
from headrace.engine.line import Line
from headrace.engine.purse import Allowance, Treasurer
from headrace.engine.reasons import TooMany
from headrace.engine.roll import Roll
from headrace.engine.snapshot import figures_of
from headrace.engine.stage import Next, Step
from headrace.engine.tally import Tally

INTERRUPTED = "interrupted"
_FAR = 1 << 20
"""Room without end, with room to multiply it."""
_KEEP_FIGURES_S = 30.0
_LIVE_S, _LIVE_POLL_S = 1.0, 0.05
"""How long, and how often, to look whether a run that is live ends."""


class Local(msgspec.Struct, frozen=True):
    """A stage that calls nobody, as a run is given it."""

    info: StageInfo
    make: Callable[[str, Roll, Next | None], Step]
    """With its name, and where its passages go."""
    by_source: bool = False
    """Whether it must know how many items are open of each source item."""
    holds: bool = False
    """Whether it holds items back until the source is read."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one run goes about its work."""

    manner: Manner = Manner()
    allowance: Allowance | None = None
    """The budget that pays for its calls."""
    deadline_s: float | None = None
    """Of the whole run."""
    max_failure_rate: float | None = None
    ordered: bool = False
    fresh: bool = False
    """Ask anew: serve no answer that is older than this run's start."""
    retry_failed: bool = True
    keyed: bool = False
    """Whether keys come from a column, so that they may repeat."""
    in_flight: int | None = None
    """So many items of the source are worked on at once, at most."""


class Runner:
    def __init__(
        self,
        stages: Sequence[Calling | Local],
        source: Source,
        store: Store,
        info: RunInfo,
        settings: RunSettings,
        *,
        emit: Callable[[Event], None],
    ) -> None:
        self.info = info
        self.tally = Tally()
        """The first to hear of each event."""
        self.error: HeadraceError | None = None
        """What ended the run before its source was exhausted, where that was an error."""
        self._stages, self._source, self._store, self._settings = stages, source, store, settings
        self._callback = emit
        self._raised: Exception | None = None
        """What the caller's own callback raised, or what broke beside the stages: it ends this run, and no other."""
        self._too_many = None if settings.max_failure_rate is None else TooMany(settings.max_failure_rate)
        self._stop_reason = ""
        self._roll: Roll | None = None
        self._line: Line | None = None
        self._treasurer: Treasurer | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._keep_figures_at_s = 0.0
        self._beside: list[asyncio.Task[None]] = []
        """What goes on beside the stages and ends with them."""
        self._legs = {
            stage.info.name: Leg(
                stage, settings.manner, store, named=len(stages) > 1, emit=self._emit_own, fatal=self._fatal,
                beside=self._go_beside,
            )
            for stage in stages if isinstance(stage, Calling)
        }  # fmt: skip

    @property
    def stages(self) -> Sequence[Calling | Local]:
        """As the run was given them."""
        return self._stages

    def interrupt(self) -> bool:
        """The first time, finish what is in flight and end; the second, end now, which is True."""
        if self._stop_reason and self._line is not None:
            self._line.drop()
            return True
        self._stop(INTERRUPTED)
        return False

    async def outcomes(self) -> AsyncGenerator[list[Outcome]]:
        """Batches of durable results. Raises what the source or the store raised; an error that ends the run early
        is in `error`."""
        self.info = await self._opened()
        try:
            for leg in self._legs.values():
                await leg.open()
            treasurer = await self._funded()
            self._emit(self._started())
            if treasurer is not None:
                self._go_beside(treasurer.run())
            line = self._line = self._laid()
            if self._stop_reason:  # interrupted while the store was opened
                line.stop()
            self._set_deadline()
            async with aclosing(line.outcomes(self._source)) as batches:
                async for batch in batches:
                    if results := [outcome for outcome in batch if not outcome.dropped]:
                        yield results
        except HeadraceError as error:
            self._fatal(error)
            raise
        except BaseException:
            self._stop(INTERRUPTED)
            raise
        finally:
            await self._close()
        if self._raised is not None:
            raise self._raised

    async def _funded(self) -> Treasurer | None:
        """Who pays for the calls that have a price, where there is a budget."""
        allowance = self._settings.allowance
        if allowance is None:
            return None
        treasurer = self._treasurer = Treasurer(
            self._store, allowance, self.info.id, emit=self._emit, fatal=self._fatal
        )
        await treasurer.open()
        for leg in self._legs.values():
            if leg.calling.price is not None:
                leg.lane.purse = treasurer
        return treasurer

    def _laid(self) -> Line:
        """The stages, each with where its passages go."""
        settings = self._settings
        roll = self._roll = Roll(
            self._store, self.info.id, self.info.session, emit=self._emit, places=self._room,
            keyed=settings.keyed, keep_failures=not settings.retry_failed, ordered=settings.ordered,
            by_source=any(isinstance(stage, Local) and stage.by_source for stage in self._stages),
            in_flight=settings.in_flight, since=self.info.started_at if settings.fresh else 0.0,
        )  # fmt: skip
        told = None
        if len(self._stages) > 1:
            at_once = {stage.info.name: self._at_once(stage.info.name) for stage in self._stages}
            told = Announced(at_once, self._source.total, self.tally.stages.ended, self._emit)
        line = Line(roll, self._emit, self._fatal, told)
        line.lay([self._maker(stage, roll) for stage in self._stages])
        return line

    def _maker(self, stage: Calling | Local, roll: Roll) -> Callable[[Next | None], Step]:
        name = stage.info.name
        if isinstance(stage, Local):
            make = stage.make
            return lambda onward: make(name, roll, onward)
        leg = self._legs[name]
        since = self.info.started_at if self._settings.fresh else None
        return lambda onward: leg.stage(roll, onward, since)

    def _at_once(self, name: str) -> Callable[[], int]:
        leg = self._legs.get(name)
        return lambda: 0 if leg is None else leg.at_once

    def _room(self) -> int:
        """How far an ordered run may read ahead: to the end, where a stage holds items back until then."""
        holds = any(isinstance(stage, Local) and stage.holds for stage in self._stages)
        return sys.maxsize // _FAR if holds else self._places()

    def _places(self) -> int:
        return max((leg.places for leg in self._legs.values()), default=1024)

    def _go_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin what goes on beside the stages. The run cannot go on without it."""
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
        if self._line is not None:
            self._line.drop()

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
            await asyncio.sleep(_LIVE_POLL_S)

    def _emit_own(self, event: Event) -> None:
        """What a leg tells, which has heard it already."""
        self._tell(event)
        if isinstance(event, Gauge):
            self._keep_figures(event.at_s)

    def _emit(self, event: Event) -> None:
        errors = [leg.hears(event) for leg in self._legs.values()]
        errors.append(self._too_many.add(event) if self._too_many is not None else None)
        self._tell(event)
        for error in errors:
            if error is not None:
                self._fatal(error)

    def _tell(self, event: Event) -> None:
        self.tally.add(event)
        try:  # as in _call_back: every call passes here twice
            self._callback(event)
        except Exception as raised:  # noqa: BLE001 - as there
            self._broke_off(raised)

    def _call_back(self, event: Event) -> None:
        try:
            self._callback(event)
        except Exception as raised:  # noqa: BLE001 - raised again, to the caller whose it is
            self._broke_off(raised)

    def _broke_off(self, raised: Exception) -> None:
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
        for leg in self._legs.values():
            leg.close(reason)
        if self._line is not None:
            self._line.stop()

    async def _close(self) -> None:
        roll = self._roll
        if self._deadline is not None:
            self._deadline.cancel()
        for leg in self._legs.values():
            leg.leave()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        if self._treasurer is not None:
            await self._treasurer.close()
        done = roll is not None and roll.exhausted and not roll.unsettled
        if done:
            self.error = None  # whatever it was, it cost no item
        status = "finished" if done else "interrupted" if self._stop_reason == INTERRUPTED else "stopped"
        ended = RunEnded(_now(), status, "" if done else self._stop_reason)
        self.tally.add(ended)
        self.info = msgspec.structs.replace(
            self.info, status=status, reason=ended.reason, ended_at=time.time(), figures=self._figures(),
            total=roll.read + roll.made if roll is not None and roll.exhausted else self.info.total,
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
        asking = {  # several stages of one account share its places
            (stage.account, stage.stated.get(Unit.CONCURRENCY, 0))
            for stage in self._stages
            if isinstance(stage, Calling)
        }
        in_flight = int(next(iter(asking))[1]) if len(asking) == 1 else 0
        stages = tuple(stage.info for stage in self._stages)
        return RunStarted(_now(), info.id, info.name, info.source, source.total, in_flight, stages)


def _now() -> float:
    return asyncio.get_running_loop().time()
