"""`headrace plan`: a run's forecast before anything is spent. Enters work, items and settings, leaves a Plan. With a pilot
so many items are paid for, and their answers are kept."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from headrace.assembly import Assembled, Work, assemble
from headrace.core.errors import StoreError, UsageError
from headrace.core.event import Event
from headrace.core.limits import Calls
from headrace.engine.forecast import Plan, forecast_name
from headrace.engine.leg import Calling, Manner
from headrace.engine.lender import recall
from headrace.flow.budget import dollars
from headrace.settings import Settings
from headrace.sim.forecast import forecast
from headrace.sim.outlook import Asked, Outlook, Told, look, of_this_work, outlook
from headrace.sim.part import Usd
from headrace.sim.parts import LOOKED_UP, Earlier, earlier_of, staged
from headrace.sim.rehearsal import Work as Rehearsed
from headrace.sim.trail import Stop, Trail, stops_of
from headrace.store.history import SqliteHistory
from headrace.task.pipeline import Pipeline

Tell = Callable[[str], None]


def plan(
    work: Work, items: Any, settings: Settings, environ: Mapping[str, str], *, pilot: int = 0, tell: Tell | None = None
) -> Plan:
    """What the run would take. Raises what the run itself would raise before its first call, but needs no key without a
    pilot; also inside a running event loop. `tell` is told what a person should know of how the source was read."""
    if isinstance(pilot, bool) or pilot < 0:
        raise UsageError(f"A pilot of {pilot} items cannot be.", hint="Give a number from 1 up, or leave it out.")
    main = _planned(work, items, settings, environ, pilot, tell or _ignore)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    return _in_a_thread(main)


def _in_a_thread(main: Coroutine[Any, Any, Plan]) -> Plan:
    done: Future[Plan] = Future()

    def work() -> None:
        try:
            done.set_result(asyncio.run(main))
        except BaseException as raised:  # noqa: BLE001 - raised again in the caller's thread
            done.set_exception(raised)

    threading.Thread(target=work, name="headrace-plan", daemon=True).start()
    return done.result()


async def _planned(
    work: Work, items: Any, settings: Settings, environ: Mapping[str, str], pilot: int, tell: Tell
) -> Plan:
    asked = await _pilot(work, items, _first(settings, pilot), environ) if pilot else 0
    made = assemble(work, items, settings, emit=_ignore, environ=environ, tell=tell, to_call=False)
    try:
        for notice in made.notices:
            tell(notice)
        stages = made.runner.stages
        first = stages[0]
        if len(stages) == 1 and isinstance(first, Calling):
            ready = await _one(made, first, settings)
        else:
            pipeline = work if isinstance(work, Pipeline) else Pipeline(work)
            ready = await _several(made, stops_of(stages, pipeline), settings, pipeline.in_flight)
        planned = await _rehearsed(ready, made, settings, asked)
        made.store.remember(forecast_name(planned.run), msgspec.json.encode(planned))
        return planned
    finally:
        await made.close()


class _Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What is rehearsed."""

    outlook: Outlook
    work: Rehearsed
    usd: Usd
    """Of a single question."""
    items: int
    stored: int


async def _one(made: Assembled, calling: Calling, settings: Settings) -> _Ready:
    asked = await look(
        calling.task, made.source, made.store, fresh=settings.fresh, without=_given_up(made, settings)
    )  # fmt: skip
    learnt = await recall(made.store, calling.account.name)
    told = Told(
        stated=calling.stated, learnt=learnt, work=_of_this(made, calling, settings), charge=calling.charge,
        start=calling.account.start, most=calling.account.most, max_output=_max_output(asked),
    )  # fmt: skip
    seen = outlook(asked, told)
    work = Rehearsed(
        tokens=seen.tokens, timeout_s=calling.timeout_s, charge=calling.charge, manner=_manner(settings),
        params=asked.params, max_output=told.max_output, again=_earlier(made, settings, rows=0).again,
    )  # fmt: skip
    return _Ready(outlook=seen, work=work, usd=_usd_of(calling), items=asked.items, stored=asked.stored)


async def _several(made: Assembled, stops: Sequence[Stop], settings: Settings, in_flight: int | None) -> _Ready:
    earlier = _earlier(made, settings)
    without = _given_up(made, settings)
    trail = Trail(stops, made.store, fresh=settings.fresh, without=without, ended=earlier.done)
    await trail.walk(made.source)
    usd = {
        stop.name: _usd_of(stop.stage)
        for stop in stops if isinstance(stop.stage, Calling) and stop.stage.price is not None
    }  # fmt: skip
    way = Rehearsed(tokens=(), manner=_manner(settings), in_flight=in_flight)
    ready = await staged(trail, earlier, made.store, way, usd)
    return _Ready(outlook=ready.outlook, work=ready.work, usd=_unknown, items=trail.items, stored=trail.stored)


def _unknown(_into: float, _out: float, _calls: int) -> None:
    return None


def _usd_of(calling: Calling) -> Usd:
    price = calling.price

    def usd(into: float, out: float, calls: int) -> float | None:
        if price is None:
            return None
        each = price.usd(round(into / max(1, calls)), round(out / max(1, calls)))
        return None if each is None else each * calls

    return usd


def _first(settings: Settings, pilot: int) -> Settings:
    """No more than the plan itself is for."""
    return msgspec.structs.replace(settings, first=pilot if settings.first is None else min(pilot, settings.first))


async def _pilot(work: Work, items: Any, settings: Settings, environ: Mapping[str, str]) -> int:
    """A run like any other over the first items: its answers are kept, and what it learnt is remembered. How many items
    it asked about: the store may have had some."""
    made = assemble(work, items, settings, emit=_ignore, environ=environ)
    try:
        if not made.rows.again:
            raise UsageError(
                "A pilot reads its items before the plan does, and these can be read only once.",
                hint="Give a file, a list or a data frame.",
            )
        async for _ in made.runner.outcomes():
            pass
    finally:
        await made.close()
    if made.runner.error is not None:
        raise made.runner.error
    ended = made.runner.tally.snapshot(0.0)
    return min(ended.read, ended.done - ended.cached) if ended.calls else 0


def _manner(settings: Settings) -> Manner:
    return Manner(
        backup_share=settings.backup, weight=settings.weight, priority=settings.priority, retry=settings.retry
    )


def _given_up(made: Assembled, settings: Settings) -> set[str]:
    """The items that failed before, and are not to be tried again."""
    if settings.retry_failed:
        return set()
    try:
        outcomes = SqliteHistory(settings.store).scan(made.runner.info.id, failed_only=True)
        return {outcome.key for outcome in outcomes}
    except StoreError:
        return set()


def _of_this(made: Assembled, calling: Calling, settings: Settings) -> Calls:
    """What earlier runs of the same work show; nothing where the store is new."""
    try:
        return of_this_work(calling.task, SqliteHistory(settings.store), made.runner.info.spec)
    except StoreError:
        return Calls()


def _earlier(made: Assembled, settings: Settings, *, rows: int = LOOKED_UP) -> Earlier:
    """Their figures, and some of their rows."""
    try:
        return earlier_of(SqliteHistory(settings.store), made.runner.info.spec, rows=rows)
    except StoreError:
        return Earlier()


def _max_output(asked: Asked) -> int | None:
    return next((size.max_output for size in asked.sizes), None)


async def _rehearsed(ready: _Ready, made: Assembled, settings: Settings, pilot: int) -> Plan:
    given_up = threading.Event()

    def going() -> None:
        if given_up.is_set():
            raise KeyboardInterrupt

    try:
        made_of = await asyncio.to_thread(
            forecast, ready.outlook, ready.work, usd=ready.usd, deadline_s=settings.deadline_s, going=going
        )
    except asyncio.CancelledError:
        given_up.set()
        raise
    named = msgspec.structs.replace(
        made_of, run=made.runner.info.id, made_at=time.time(), items=ready.items, stored=ready.stored, pilot=pilot
    )
    return await _within_budget(named, settings, made)


async def _within_budget(planned: Plan, settings: Settings, made: Assembled) -> Plan:
    """With how far the budget reaches, after what was spent of it."""
    if settings.budget is None:
        return planned
    stands = await made.store.budget(settings.budget.known_as(planned.run))
    left = settings.budget.usd - (dollars(stands.spent + stands.others) if stands is not None else 0.0)
    if planned.usd is None:
        return msgspec.structs.replace(planned, budget_usd=left)
    each = planned.usd.p50 / planned.calls.p50 if planned.calls.p50 else 0.0
    calls = round(planned.calls.p50) if left >= planned.usd.p50 else int(max(0.0, left) / each)
    binding, stage = ("budget", "") if left < planned.usd.p50 else (planned.binding, planned.binding_stage)
    return msgspec.structs.replace(
        planned, budget_usd=left, budget_calls=calls, binding=binding, binding_stage=stage
    )  # fmt: skip


def _ignore(_told: Event | str) -> None:
    return None
