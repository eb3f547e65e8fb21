"""The face for Python: run work over items, and read what came of it."""

import asyncio
import concurrent.futures
import contextvars
import os
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from headrace.assembly import Assembled, assemble
from headrace.core.errors import OutputError
from headrace.core.event import Event
from headrace.core.item import Outcome, T
from headrace.data.sink import check_output
from headrace.data.table import Table
from headrace.engine.forecast import Plan
from headrace.flow.queue import Priority
from headrace.flow.retry import Retry
from headrace.report.progress import progress_of, watch
from headrace.report.trace import traced
from headrace.results import Run, write_result
from headrace.settings import DEFAULT_STORE, Budget, Limits, Settings, budget_of
from headrace.store.history import SqliteHistory
from headrace.task.extract import Extract
from headrace.task.fetch import Fetch
from headrace.task.pipeline import Cascade, Pipeline
from headrace.task.stages import Expand, Filter, Reduce, Top
from headrace.task.work import Ask, Map, Runnable

__all__ = [
    "HeadraceWarning",
    "Run",
    "arun",
    "loop_factory",
    "plan",
    "run",
    "run_sync",
    "spare_source",
    "stream",
    "write_result",
]
R = TypeVar("R")
_TOLD: dict[str | tuple[str, type[Warning], int], int] = {}
"""The warnings that were given, as the module warnings keeps them."""


class HeadraceWarning(UserWarning):
    """Something about a run that a person should know and that is no error: how a file was read, what a format could
    not hold."""


class DataFrame(Protocol):
    """A data frame that gives its columns as Arrow: polars, pandas, pyarrow, DuckDB, Ibis."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class LazyFrame(Protocol):
    """A data frame that is still to be computed: polars, narwhals."""

    def collect_schema(self) -> Any: ...


Items = str | os.PathLike[str] | Table | Iterable[Any] | AsyncIterable[Any] | DataFrame | LazyFrame
"""A path, a Table, a list or any other iterable, an async iterable, or a data frame."""
Work = (
    Ask[T] | Map[T] | Pipeline[T] | Cascade | Filter | Expand | Top | Reduce | Fetch | Extract
    | Callable[[Any], Awaitable[T] | T] | Runnable[T]
)  # fmt: skip
"""A question, a Map, a Pipeline or another of its stages, or a function, async or not."""


def run(
    work: Work[T], items: Items, *, to: str | os.PathLike[str] | None = None,
    key: str | None = None, name: str | None = None, first: int | None = None, limits: Limits = Limits(),
    retry: Retry = Retry(), timeout: float = 300.0, deadline: float | None = None, backup: float = 0.0,
    max_failure_rate: float | None = None, weight: float = 1.0, priority: Priority = "normal",
    store: str | os.PathLike[str] = DEFAULT_STORE, keep_prompts: bool = True, fresh: bool = False,
    retry_failed: bool = True, progress: bool | None = None, on_event: Callable[[Event], None] | None = None,
    budget: Budget | float | None = None, prices: str | os.PathLike[str] | None = None,
) -> Run[T]:  # fmt: skip
    """Run `work` over every item to the end, and return the run; also inside a running event loop, as in a notebook.

    What was answered before comes from the store, so running again continues and pays for nothing twice. Items that
    fail are outcomes, never exceptions.

    Args:
        work: An Ask, a Map, a function (`async` ones on the event loop, plain ones in threads), or a Pipeline of them.
        items: A path (CSV, TSV, XLSX, JSON, JSON Lines, Parquet, a folder of text files), `-` for standard input, a
            Table, a data frame or a column of one, an iterable or an async iterable.
        to: A result file, in the format of its ending (.jsonl, .json, .csv, .tsv, .xlsx, .parquet), written whole at
            the end, in the order of the source.
        key: The column that identifies an item; without one it is its position and content.
        name: The run's name. A run whose source has no path can be continued only by its name.
        first: Only so many items.
        limits: What the provider allows, where you know it; the rest is found.
        retry: How often and how long what failed is tried again.
        timeout: The most seconds for one attempt; it follows what the calls take.
        deadline: Seconds for the run: then it stops, and what is not done is pending.
        backup: The share of calls, 0 to 0.5, that may be made twice for stragglers at the end.
        max_failure_rate: The share of items, 0 to 1, that may fail; more of them stop the run.
        weight: 0.01 to 100, this run's part of what it shares with runs at the same model, address and key.
        priority: "interactive", "normal" or "background": 100 to 10 to 1, as weights are.
        store: The file where answers are kept.
        keep_prompts: Whether prompts and items are kept in the store too; off, only keys, digests and answers are.
        fresh: Ask everything anew.
        retry_failed: Whether what failed before is tried again.
        progress: Whether to show how the run goes; left out, in notebooks and in interactive sessions.
        on_event: Called with every event, on the event loop; it must be quick and must not raise.
        budget: The most dollars that may be spent on calls to models, over all sessions: then the run stops, and what is
            not done is pending.
        prices: A file of prices, in dollars per million tokens; they go before those that headrace knows.

    Raises UsageError and InputError before the first call where the run cannot work; later StoreError, OutputError, or
    the CallError that ended the run where the provider refused it as a whole (bad key, no quota, nothing answers).
    """
    return run_sync(
        arun(
            work, items, to=to, key=key, name=name, first=first, limits=limits, retry=retry, timeout=timeout,
            deadline=deadline, backup=backup, max_failure_rate=max_failure_rate, weight=weight, priority=priority,
            store=store, keep_prompts=keep_prompts, fresh=fresh, retry_failed=retry_failed, progress=progress,
            on_event=on_event, budget=budget, prices=prices,
        )
    )  # fmt: skip


async def arun(
    work: Work[T], items: Items, *, to: str | os.PathLike[str] | None = None,
    key: str | None = None, name: str | None = None, first: int | None = None, limits: Limits = Limits(),
    retry: Retry = Retry(), timeout: float = 300.0,  # noqa: ASYNC109 - of each attempt, not of this function
    deadline: float | None = None, backup: float = 0.0,
    max_failure_rate: float | None = None, weight: float = 1.0, priority: Priority = "normal",
    store: str | os.PathLike[str] = DEFAULT_STORE, keep_prompts: bool = True, fresh: bool = False,
    retry_failed: bool = True, progress: bool | None = None, on_event: Callable[[Event], None] | None = None,
    budget: Budget | float | None = None, prices: str | os.PathLike[str] | None = None,
) -> Run[T]:  # fmt: skip
    """`run` on the event loop you are on: takes, returns and raises the same."""
    if to is not None:
        check_output(to)
        spare_source(to, items)
    settings = Settings(
        key=key, name=name, first=first, limits=limits, retry=retry, timeout_s=timeout, deadline_s=deadline,
        backup=backup, max_failure_rate=max_failure_rate, weight=weight, priority=priority, store=Path(store),
        keep_prompts=keep_prompts, fresh=fresh, retry_failed=retry_failed,
        budget=budget_of(budget), prices=None if prices is None else Path(prices),
    )  # fmt: skip
    made = assemble(work, items, settings, emit=traced(on_event or _ignore), environ=os.environ)
    async with _going(made, progress=progress), aclosing(made.runner.outcomes()) as batches:
        async for _ in batches:
            pass
    if made.runner.error is not None:
        raise made.runner.error
    info, history = made.results(SqliteHistory(settings.store))
    if to is not None:
        notices: list[str] = []
        await asyncio.to_thread(write_result, to, info, history, notices.append)
        _warn(notices)
    _warn_late(made)
    return Run(info, history, made.restore)


def plan(
    work: Work[Any], items: Items, *, pilot: int = 0,
    key: str | None = None, name: str | None = None, first: int | None = None, limits: Limits = Limits(),
    retry: Retry = Retry(), timeout: float = 300.0, deadline: float | None = None, backup: float = 0.0,
    store: str | os.PathLike[str] = DEFAULT_STORE, fresh: bool = False, retry_failed: bool = True,
    budget: Budget | float | None = None, prices: str | os.PathLike[str] | None = None,
) -> Plan:  # fmt: skip
    """What a run of `work` over `items` would take, before any is spent: calls, tokens, dollars and time as P10, P50 and
    P90, what would bind it, and what other limits would give.

    It rehearses the run in virtual time with what earlier runs in this store learnt of the endpoint. Items whose answers
    are in the store cost nothing in it. `pilot` pays for so many items first, whose answers are kept. All else is as
    for `run`.

    Raises what the run itself would raise before its first call.
    """
    from headrace.sim.plan import plan as planned  # noqa: PLC0415 - only who plans needs it

    settings = Settings(
        key=key, name=name, first=first, limits=limits, retry=retry, timeout_s=timeout, deadline_s=deadline,
        backup=backup, store=Path(store), fresh=fresh, retry_failed=retry_failed, budget=budget_of(budget),
        prices=None if prices is None else Path(prices),
    )  # fmt: skip
    return planned(work, items, settings, os.environ, pilot=pilot, tell=lambda notice: _warn([notice]))


async def stream(
    work: Work[T], items: Items, *, ordered: bool = False,
    key: str | None = None, name: str | None = None, first: int | None = None, limits: Limits = Limits(),
    retry: Retry = Retry(), timeout: float = 300.0,  # noqa: ASYNC109 - of each attempt, not of this function
    deadline: float | None = None, backup: float = 0.0,
    max_failure_rate: float | None = None, weight: float = 1.0, priority: Priority = "normal",
    store: str | os.PathLike[str] = DEFAULT_STORE, keep_prompts: bool = True, fresh: bool = False,
    retry_failed: bool = True, progress: bool | None = None, on_event: Callable[[Event], None] | None = None,
    budget: Budget | float | None = None, prices: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[Outcome[T]]:  # fmt: skip
    """Each item's outcome as it completes, or with `ordered` in the order of the source. Every outcome that is handed
    out is already in the store. Reading slowly slows the run; leaving the loop ends it, and a rerun continues.

    Takes and raises what `run` does, without `to`.
    """
    settings = Settings(
        key=key, name=name, first=first, limits=limits, retry=retry, timeout_s=timeout, deadline_s=deadline,
        backup=backup, max_failure_rate=max_failure_rate, weight=weight, priority=priority, store=Path(store),
        ordered=ordered, keep_prompts=keep_prompts, fresh=fresh, retry_failed=retry_failed,
        budget=budget_of(budget), prices=None if prices is None else Path(prices),
    )  # fmt: skip
    made = assemble(work, items, settings, emit=traced(on_event or _ignore), environ=os.environ)
    async with _going(made, progress=progress), aclosing(made.runner.outcomes()) as batches:
        async for batch in batches:
            for outcome in batch:
                yield outcome
    if made.runner.error is not None:
        raise made.runner.error
    _warn_late(made)


@asynccontextmanager
async def _going(made: Assembled, *, progress: bool | None) -> AsyncIterator[None]:
    """What holds while a run goes on: it is shown to whoever looks on, and closed at the end."""
    loop = asyncio.get_running_loop()
    shown = progress_of(wanted=progress)
    watching = None
    try:
        _warn(made.notices)
        if shown is not None:
            watching = asyncio.create_task(watch(shown, lambda: made.runner.tally.snapshot(loop.time())))
        yield
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await made.close()
        snapshot = made.runner.tally.snapshot(loop.time())
        if shown is not None and snapshot.run:  # one that could not begin has nothing to sum up
            with suppress(Exception):  # a display that is gone is no reason to lose a run
                shown.finish(snapshot)


def _warn_late(made: Assembled) -> None:
    """When all is done: where a warning is an error, nothing is lost by it."""
    if made.runner.tally.snapshot(0.0).calls:
        _warn(made.late_notices())


def _warn(notices: Iterable[str]) -> None:
    """Each once in a program. No line of code is named: the event loop stands between the caller's and this one."""
    for notice in notices:
        warnings.warn_explicit(notice, HeadraceWarning, "headrace", 0, registry=_TOLD)


def spare_source(path: str | os.PathLike[str], items: Any) -> None:
    """Raises OutputError where writing to `path` would replace what is read."""
    source = items.path if isinstance(items, Table) else items
    try:
        same = isinstance(source, str | os.PathLike) and Path(path).samefile(source)
    except (OSError, ValueError):  # one of them is not there
        return
    if same:
        raise OutputError(f"{path} is the input itself.", hint="Write to another file.")


def run_sync(main: Coroutine[Any, Any, R]) -> R:
    """The result of `main` on an event loop of its own; in a thread where this one has a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    done: concurrent.futures.Future[R] = concurrent.futures.Future()
    task: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def cancellable() -> R:
        current = asyncio.current_task()
        if current is not None:
            task.append((asyncio.get_running_loop(), current))
        return await main

    def work() -> None:
        try:
            done.set_result(_run(cancellable()))
        except BaseException as raised:  # noqa: BLE001 - raised again in the caller's thread
            done.set_exception(raised)

    context = contextvars.copy_context()  # the caller's, as in its own thread: it also says which cell shows the run
    thread = threading.Thread(target=context.run, args=(work,), name="headrace-run")
    thread.start()
    try:
        return done.result()
    except BaseException:
        if not done.done():  # Ctrl-C in the caller's thread: a run nobody waits for must not go on paying
            for loop, current in task:
                loop.call_soon_threadsafe(current.cancel)
        raise
    finally:
        thread.join()


def _run(main: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    return uvloop.new_event_loop


def _ignore(_event: Event) -> None:
    return None
