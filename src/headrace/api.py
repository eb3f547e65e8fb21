"""The face for Python: run work over items, and read what came of it."""

import asyncio
import concurrent.futures
import os
import threading
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from headrace.assembly import Work, assemble
from headrace.core.errors import OutputError
from headrace.core.event import Event
from headrace.core.item import Outcome
from headrace.core.ports import History, RunInfo
from headrace.data.sink import check_output, write_outcomes
from headrace.flow.queue import Priority
from headrace.flow.retry import Retry
from headrace.settings import DEFAULT_STORE, Limits, Settings
from headrace.store.history import SqliteHistory

T = TypeVar("T")


class Run:
    """How a run ended, and its outcomes: iterating reads them from the store, in the order of the source."""

    def __init__(self, info: RunInfo, history: History, restore: Callable[[Any], Any]) -> None:
        counts = history.counts(info.id)
        self.id = info.id
        self.name = info.name
        self.status = info.status
        """`finished`, `stopped` or `interrupted`."""
        self.reason = info.reason
        self.ok = counts.ok
        self.failed = counts.failed
        self.pending = counts.pending
        """Items without an outcome; None where the source was not read to its end."""
        self._history = history
        self._restore = restore

    def __iter__(self) -> Iterator[Outcome]:
        for outcome in self._history.scan(self.id):
            if outcome.ok:
                yield msgspec.structs.replace(outcome, value=self._restore(outcome.value))
            else:
                yield outcome

    def __len__(self) -> int:
        return self.ok + self.failed

    def __repr__(self) -> str:
        pending = "" if self.pending == 0 else f", {'some' if self.pending is None else self.pending} pending"
        return f"<Run {self.name}: {self.status}, {self.ok} ok, {self.failed} failed{pending}>"


async def arun(
    work: Work,
    items: Any,
    *,
    to: str | os.PathLike[str] | None = None,
    key: str | None = None,
    name: str | None = None,
    first: int | None = None,
    limits: Limits = Limits(),
    retry: Retry = Retry(),
    timeout: float = 300.0,  # noqa: ASYNC109 - of each attempt, not of this function
    deadline: float | None = None,
    backup: float = 0.0,
    max_failure_rate: float | None = None,
    weight: float = 1.0,
    priority: Priority = "normal",
    store: str | os.PathLike[str] = DEFAULT_STORE,
    fresh: bool = False,
    retry_failed: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Run `work` over every item to the end, and return the run.

    `work` is an Ask, a Map or a function. `items` is a path (CSV, JSON Lines, Parquet, a folder of text files), `-` for
    standard input, an iterable or an async iterable. `to` is a result file (.jsonl, .csv, .parquet), written whole at
    the end, in the order of the source. `key` names the column that identifies an item, `name` the run where its
    source has no path. What was answered before comes from the store; what failed before is tried again unless
    `retry_failed` is off; `fresh` asks everything anew.

    `limits` states what the provider allows, where you know it; the rest is found. `timeout` is the most seconds for
    one attempt, which follow what the calls take. After `deadline` seconds the run stops, and what is not done is
    pending. `backup` is the share of calls (0.02) that may be made twice for stragglers at the end. A larger share of
    failed items than `max_failure_rate` stops the run. Runs in one program that call the same model at the same
    address with the same key share its limits, by `weight` and `priority`.

    Items that fail are outcomes, never exceptions. Raises UsageError and InputError before any call where the run
    cannot work, StoreError, and the CallError that ended the run where the provider refused it as a whole (bad key,
    no quota, nothing answers); what was answered until then is kept, and running again continues.
    """
    if to is not None:
        check_output(to)
        spare_source(to, items)
    settings = Settings(
        key=key, name=name, first=first, limits=limits, retry=retry, timeout_s=timeout, deadline_s=deadline,
        backup=backup, max_failure_rate=max_failure_rate, weight=weight, priority=priority, store=Path(store),
        fresh=fresh, retry_failed=retry_failed,
    )  # fmt: skip
    made = assemble(work, items, settings, emit=on_event or _ignore, environ=os.environ)
    try:
        async with aclosing(made.runner.outcomes()) as batches:
            async for _ in batches:
                pass
        if made.runner.error is not None:
            raise made.runner.error
    finally:
        await made.close()
    history = SqliteHistory(settings.store)
    if to is not None:
        await asyncio.to_thread(write_result, to, made.runner.info, history)
    return Run(made.runner.info, history, made.restore)


def run(work: Work, items: Any, **settings: Any) -> Run:
    """`arun` for code that is not async; also inside a running event loop, as in a notebook."""
    return run_sync(arun(work, items, **settings))


async def stream(
    work: Work,
    items: Any,
    *,
    key: str | None = None,
    name: str | None = None,
    first: int | None = None,
    limits: Limits = Limits(),
    retry: Retry = Retry(),
    timeout: float = 300.0,  # noqa: ASYNC109 - of each attempt, not of this function
    deadline: float | None = None,
    backup: float = 0.0,
    max_failure_rate: float | None = None,
    weight: float = 1.0,
    priority: Priority = "normal",
    store: str | os.PathLike[str] = DEFAULT_STORE,
    ordered: bool = False,
    fresh: bool = False,
    retry_failed: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> AsyncGenerator[Outcome]:
    """Each item's outcome as it completes, or with `ordered` in the order of the source. Every outcome that is handed
    out is already in the store. Reading slowly slows the run; leaving the loop ends it, and a rerun continues.

    Takes and raises what `arun` does, without `to`.
    """
    settings = Settings(
        key=key, name=name, first=first, limits=limits, retry=retry, timeout_s=timeout, deadline_s=deadline,
        backup=backup, max_failure_rate=max_failure_rate, weight=weight, priority=priority, store=Path(store),
        ordered=ordered, fresh=fresh, retry_failed=retry_failed,
    )  # fmt: skip
    made = assemble(work, items, settings, emit=on_event or _ignore, environ=os.environ)
    try:
        async with aclosing(made.runner.outcomes()) as batches:
            async for batch in batches:
                for outcome in batch:
                    yield outcome
        if made.runner.error is not None:
            raise made.runner.error
    finally:
        await made.close()


def spare_source(path: str | os.PathLike[str], items: Any) -> None:
    """Raises OutputError where writing to `path` would replace what is read."""
    try:
        same = isinstance(items, str | os.PathLike) and Path(path).samefile(items)
    except (OSError, ValueError):  # one of them is not there
        return
    if same:
        raise OutputError(f"{path} is the input itself.", hint="Write to another file.")


def write_result(path: str | os.PathLike[str], info: RunInfo, history: History) -> int:
    """The run's outcomes as a file, in the order of its source; returns how many rows."""
    spec = info.spec
    arrow_schema = spec.get("arrow_schema")
    return write_outcomes(
        path, lambda: history.scan(info.id), fields=spec.get("fields"), schema=spec.get("schema"),
        arrow_schema=b64decode(arrow_schema) if arrow_schema else None,
    )  # fmt: skip


def run_sync(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main` on an event loop of its own; in a thread where this one has a loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    task: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def cancellable() -> T:
        current = asyncio.current_task()
        if current is not None:
            task.append((asyncio.get_running_loop(), current))
        return await main

    def work() -> None:
        try:
            done.set_result(_run(cancellable()))
        except BaseException as raised:  # noqa: BLE001 - raised again in the caller's thread
            done.set_exception(raised)

    thread = threading.Thread(target=work, name="headrace-run")
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


def _run(main: Coroutine[Any, Any, T]) -> T:
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
