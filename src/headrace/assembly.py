"""Chooses the concrete parts of a run and puts them together. The only file that knows every type."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import Digest, canonical, digest_of, short
from headrace.core.errors import HeadraceError, UsageError
from headrace.core.event import Event
from headrace.core.ports import History, RunInfo, Source, Store, Task
from headrace.data.images import Pictured
from headrace.data.rejoin import Rejoined
from headrace.data.source import Items, open_source
from headrace.data.table import Table
from headrace.endpoints import Close, endpoint_of
from headrace.engine.leg import Manner
from headrace.engine.purse import Allowance
from headrace.engine.runner import Runner, RunSettings
from headrace.question import asked, model_of
from headrace.settings import Settings
from headrace.staging import Staged, staged
from headrace.store.sqlite import SqliteStore
from headrace.task.ask import AskTask
from headrace.task.pipeline import Cascade, Pipeline, Stage
from headrace.task.work import Ask, Runnable

_UNJOINED = (
    "No prompts are kept and this input cannot be read again, so results that are written at the end have the key and "
    "the answer of each item, but none of its columns."
)
Work = Stage | Pipeline[Any] | Callable[[Any], Any] | Runnable[Any]


class Assembled(msgspec.Struct, frozen=True):
    """A run that is ready to start."""

    runner: Runner
    store: Store
    source: Source
    rows: Items
    """The source's items as they are, without what is asked beside them."""
    schema: Mapping[str, Any] | None
    restore: Callable[[Any], Any]
    """A value as the store has it, in the type that the work gives."""
    close: Close
    notices: tuple[str, ...]
    """What a person should know before it starts: sentences, each to be told once."""
    late_notices: Callable[[], tuple[str, ...]]
    """The same of what is found out while it goes on: to be asked when it has ended and made calls."""

    def results(self, history: History) -> tuple[RunInfo, History]:
        """The run as its results are written: with its items, also where the store keeps none and they can be read
        again."""
        info = self.runner.info
        if info.spec.get("keep_prompts", True) or not self.rows.again or info.spec["work"] == "pipeline":
            return info, history
        spec = {**info.spec, **_columns(self.source)}
        return msgspec.structs.replace(info, spec=spec), Rejoined(history, self.rows)


def assemble(
    work: Work,
    items: Any,
    settings: Settings,
    *,
    emit: Callable[[Event], None],
    environ: Mapping[str, str],
    store: Store | None = None,
    tell: Callable[[str], None] | None = None,
    to_call: bool = True,
) -> Assembled:
    """Everything a run needs, checked as far as that is possible before the first call. `store` overrides the settings'.

    Where it is not to call anybody, it may lack what only calls need: a key. Where the columns are not those that are
    asked about, `tell` is told what was guessed: it may be the wrong sheet.
    """
    pipeline = work if isinstance(work, Pipeline) else Pipeline(work)
    _check(pipeline, settings)
    rows = open_source(items, key=settings.key, first=settings.first, name=settings.name)
    source: Source = with_images(rows, pipeline, items)
    try:
        made = staged(pipeline, source.fields, settings, environ, folder_of(items), to_call=to_call)
    except UsageError:
        if tell is not None:
            for notice in rows.notices:
                tell(notice)
        raise
    info = _info(made.digest, source, settings, {**_spec(pipeline, made), **_of_source(items, source, settings)})
    opened = store or SqliteStore(settings.store)

    async def close() -> None:
        for each in made.closes:
            await each()
        if store is None:
            await opened.close()

    runner = Runner(made.stages, source, opened, info, _run_settings(settings, pipeline, info), emit=emit)
    last = made.last
    restore = _restoring(last.task if last is not None else None)
    again = rows.again and len(pipeline) == 1
    unjoined = () if settings.keep_prompts or again else (_UNJOINED,)
    schema = last.schema if last is not None else None
    notices = (*source.notices, *unjoined, *made.notices)
    return Assembled(runner, opened, source, rows, schema or None, restore, close, notices, made.late_notices)


def with_images(source: Source, pipeline: Pipeline[Any], items: Any) -> Source:
    """Its items with the pictures that they are asked with. Relative paths begin at the folder of their table."""
    columns = tuple(dict.fromkeys(name for ask in _asks(pipeline) for name in ask.images))
    if not columns:
        return source
    return Pictured(source, columns, folder_of(items))


def folder_of(items: Any) -> Path:
    """Where relative paths in the items begin: at their table's folder."""
    at = items.path if isinstance(items, Table) else items
    path = Path(at) if isinstance(at, str | os.PathLike) and at != "-" else None
    return Path() if path is None or "://" in str(at) else path if path.is_dir() else path.parent


def _asks(pipeline: Pipeline[Any]) -> list[Ask[Any]]:
    """All questions of a pipeline."""
    parts = [part for stage in pipeline for part in (stage.stages if isinstance(stage, Cascade) else (stage,))]
    return [part for part in parts if isinstance(part, Ask)]


def _check(pipeline: Pipeline[Any], settings: Settings) -> None:
    """Settings that can each work, but not together."""
    tpm = settings.limits.tpm
    for ask in _asks(pipeline):
        most = ask.max_tokens
        if most is not None and tpm is not None and most > tpm:
            raise UsageError(
                f"Answers of up to {most} tokens do not fit a limit of {tpm:g} tokens per minute.",
                hint="Lower --max-tokens, or raise --tpm to what the provider allows.",
            )


def _spec(pipeline: Pipeline[Any], made: Staged) -> dict[str, Any]:
    """What is kept of a run's work: enough to show it, and to resume it where it can be written."""
    if len(made.made) == 1 and "work" in made.made[0].spec:
        return made.made[0].spec
    try:
        written = pipeline.to_dict()
    except UsageError:
        written = None
    stages = [
        {"stage": each.stage.info.name, "kind": each.stage.info.kind, **each.spec} for each in made.made
    ]  # fmt: skip
    schema = made.last.schema if made.last is not None else None
    models = ", ".join(dict.fromkeys(each.stage.info.model for each in made.made if each.stage.info.model))
    return {
        "work": "pipeline", "stages": stages, "pipeline": written, "schema": schema or None, "model": models or None,
    }  # fmt: skip


def request_of(work: Ask, item: Any, environ: Mapping[str, str]) -> Request:
    """The request that one item becomes, for showing it; nothing is sent."""
    task, _, _ = asked(work, endpoint_of(model_of(work.model), environ, to_call=False))
    return task.request(item)


def _of_source(items: Any, source: Source, settings: Settings) -> dict[str, Any]:
    """Where its items are and how they are read, as far as that is no secret."""
    table = Table(items) if isinstance(items, str | os.PathLike) else items if isinstance(items, Table) else None
    return {
        **(table.options() if table is not None else {}), "path": _place(table) if table is not None else None,
        **({} if settings.budget is None else {"budget": {"usd": settings.budget.usd, "name": settings.budget.name}}),
        "key": settings.key, "first": settings.first, "named": settings.name is not None,
        **({} if settings.keep_prompts else {"keep_prompts": False}), **_columns(source),
    }  # fmt: skip


def _columns(source: Source) -> dict[str, Any]:
    return {"fields": source.fields, "arrow_schema": source.arrow_schema}


def _place(table: Table) -> str | None:
    """The path or address that gives the same rows again, wherever it is said from."""
    at = str(table.path)
    if at == "-":
        return None
    if "://" in at:
        from headrace.data.sql import is_database, without_password  # noqa: PLC0415 - only for what looks like an address

        if is_database(at):
            return without_password(at)
    return os.path.realpath(at)


def _run_settings(settings: Settings, pipeline: Pipeline[Any], info: RunInfo) -> RunSettings:
    manner = Manner(
        backup_share=settings.backup, weight=settings.weight, priority=settings.priority, retry=settings.retry,
        seed=settings.seed,
    )  # fmt: skip
    return RunSettings(
        manner=manner, allowance=_allowance(settings, info), deadline_s=settings.deadline_s,
        max_failure_rate=settings.max_failure_rate, ordered=settings.ordered, fresh=settings.fresh,
        retry_failed=settings.retry_failed, keyed=settings.key is not None, in_flight=pipeline.in_flight,
    )  # fmt: skip


def _restoring(task: Task | None) -> Callable[[Any], Any]:
    """From a value as the store has it to one of the type that the last task gives."""
    is_text = isinstance(task, AskTask) and task.is_text

    def restore(value: Any) -> Any:
        if task is None or (is_text and not isinstance(value, str)):  # of an earlier stage: it passed the last one by
            return value
        text = value if isinstance(value, str) and is_text else canonical(value).decode()
        try:
            return task.value(Reply(text))
        except HeadraceError:  # a type that does not read what it writes: then the value is what was written
            return value

    return restore


def _allowance(settings: Settings, info: RunInfo) -> Allowance | None:
    budget = settings.budget
    return None if budget is None else Allowance(budget.known_as(info.id), budget.usd)


def _info(digest: Digest, source: Source, settings: Settings, spec: dict[str, Any]) -> RunInfo:
    """A run is its task, its source's name and its store."""
    identity = source.name or f"unnamed {secrets.token_hex(8)}"
    run = short(digest_of({"task": digest.hex(), "source": identity}))
    at = source.name.partition("?")[0] if "://" in source.name else source.name  # a database's options are no name
    stem = Path(re.sub(r"(?:\.(?:gz|zst))?(?:#(?:sheet|query|first)=.*)?$", "", at)).stem
    name = settings.name or f"{stem or 'run'}-{run[:6]}"
    return RunInfo(id=run, name=name, source=source.name, spec=spec)
