"""Chooses the concrete parts of a run and puts them together. The only file that knows every type."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import canonical, digest_of, short
from headrace.core.errors import HeadraceError, UsageError
from headrace.core.event import Event
from headrace.core.limits import Unit
from headrace.core.model import Model
from headrace.core.ports import History, RunInfo, Source, Store, Task
from headrace.data.images import Pictured
from headrace.data.rejoin import Rejoined
from headrace.data.source import Items, open_source
from headrace.data.table import Table
from headrace.endpoints import Close, Endpoint, endpoint_of, function_endpoint
from headrace.engine.runner import Runner, RunSettings
from headrace.provider.messages import LEAST_CACHED
from headrace.settings import Settings
from headrace.store.sqlite import SqliteStore
from headrace.task.ask import AskTask
from headrace.task.function import FunctionTask
from headrace.task.prompt import Template
from headrace.task.schema import Returns, returns_of
from headrace.task.work import Ask, Map

_UNJOINED = (
    "No prompts are kept and this input cannot be read again, so results that are written at the end have the key and "
    "the answer of each item, but none of its columns."
)
Work = Ask | Map | Callable[[Any], Any]


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

    def results(self, history: History) -> tuple[RunInfo, History]:
        """The run as its results are written: with its items, also where the store keeps none and they can be read
        again."""
        info = self.runner.info
        if info.spec.get("keep_prompts", True) or not self.rows.again:
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
) -> Assembled:
    """Everything a run needs, checked as far as that is possible before the first call. `store` overrides the settings'.

    Where the columns are not those that are asked about, `tell` is told what was guessed: it may be the wrong sheet.
    """
    _check(work, settings)
    rows = open_source(items, key=settings.key, first=settings.first, name=settings.name)
    source: Source = rows
    if isinstance(work, Ask) and work.images:
        source = with_images(source, work, items)
    try:
        endpoint, task, spec, schema = _worked(work, source, environ)
    except UsageError:
        if tell is not None:
            for notice in rows.notices:
                tell(notice)
        raise
    info = _info(task, source, settings, {**spec, **_of_source(items, source, settings)})
    opened = store or SqliteStore(settings.store)

    async def close() -> None:
        await endpoint.close()
        if store is None:
            await opened.close()

    runner = Runner(
        task, endpoint.call, source, opened, info,
        RunSettings(
            stated=_stated(settings, endpoint), charge=endpoint.charge, timeout_s=settings.timeout_s,
            deadline_s=settings.deadline_s, backup_share=settings.backup, max_failure_rate=settings.max_failure_rate,
            weight=settings.weight, priority=settings.priority, retry=settings.retry, ordered=settings.ordered, fresh=settings.fresh, retry_failed=settings.retry_failed,
            keyed=settings.key is not None, seed=settings.seed,
            warm=endpoint.warms and isinstance(task, AskTask) and task.same >= LEAST_CACHED,
        ),
        account=endpoint.account, emit=emit,
    )  # fmt: skip

    def restore(value: Any) -> Any:
        text = value if isinstance(work, Ask) and work.returns is None else canonical(value).decode()
        try:
            return task.value(Reply(text))
        except HeadraceError:  # a type that does not read what it writes: then the value is what was written
            return value

    unjoined = () if settings.keep_prompts or rows.again else (_UNJOINED,)
    return Assembled(runner, opened, source, rows, schema, restore, close, (*source.notices, *unjoined))


def with_images(source: Source, work: Ask, items: Any) -> Source:
    """Its items with the pictures that they are asked with. Relative paths begin at the folder of their table."""
    at = items.path if isinstance(items, Table) else items
    path = Path(at) if isinstance(at, str | os.PathLike) and at != "-" else None
    folder = Path() if path is None or "://" in str(at) else path if path.is_dir() else path.parent
    return Pictured(source, work.images, folder)


def _check(work: Work, settings: Settings) -> None:
    """Settings that can each work, but not together."""
    most, tpm = work.max_tokens if isinstance(work, Ask) else None, settings.limits.tpm
    if most is not None and tpm is not None and most > tpm:
        raise UsageError(
            f"Answers of up to {most} tokens do not fit a limit of {tpm:g} tokens per minute.",
            hint="Lower --max-tokens, or raise --tpm to what the provider allows.",
        )


def _stated(settings: Settings, endpoint: Endpoint) -> dict[Unit, float]:
    slots = {} if endpoint.slots is None else {Unit.CONCURRENCY: float(endpoint.slots)}
    return slots | settings.limits.stated


def request_of(work: Ask, item: Any, environ: Mapping[str, str]) -> Request:
    """The request that one item becomes, for showing it; nothing is sent."""
    task, _, _ = _asked(work, endpoint_of(_model(work.model), environ, to_call=False))
    return task.request(item)


def _worked(
    work: Work, source: Source, environ: Mapping[str, str]
) -> tuple[Endpoint, Task, dict[str, Any], Mapping[str, Any] | None]:
    if isinstance(work, Ask):
        endpoint = endpoint_of(_model(work.model), environ)
        task, template, returns = _asked(work, endpoint)
        if source.fields is not None:
            template.check(source.fields, needed=not work.images)
        return endpoint, task, _ask_spec(work, returns, endpoint), returns.schema if returns else None
    function = work if isinstance(work, Map) else Map(work)
    if not callable(function.function):
        raise UsageError(
            f"{type(work).__name__} is nothing that can be run over items.", hint="Give an Ask, a Map or a function."
        )
    made = FunctionTask(function.function, name=function.name, version=function.version)
    return (
        function_endpoint(function, environ),
        made,
        {"work": "function", "name": made.label, "version": function.version},
        None,
    )


def _asked(work: Ask, endpoint: Endpoint) -> tuple[AskTask, Template, Returns | None]:
    template = Template(work.prompt)
    returns = None if work.returns is None else returns_of(work.returns)
    params = dict(work.params)
    if work.temperature is not None:
        params["temperature"] = work.temperature
    if work.max_tokens is not None:
        params[endpoint.max_tokens] = work.max_tokens
    if work.images and not endpoint.sees:
        raise UsageError("The local model reads text only.", hint="Name a model that sees, such as openai:NAME.")
    task = AskTask(
        template, endpoint=endpoint.identity, model=endpoint.model, system=work.system, returns=returns, params=params,
        images=tuple(work.images), samples=work.samples,
    )  # fmt: skip
    return task, template, returns


def _ask_spec(work: Ask, returns: Returns | None, endpoint: Endpoint) -> dict[str, Any]:
    """With what was found in the environment, so that resuming the run asks the same endpoint."""
    plain = work.returns is None or isinstance(work.returns, str | Mapping)
    return {
        "work": "ask", "prompt": work.prompt, "system": work.system,
        "returns": work.returns if plain else _import_path(work.returns), "typed": not plain,
        "schema": returns.schema if returns else None, "model": _model(work.model).spec,
        "base_url": endpoint.identity[1] or None,
        "temperature": work.temperature, "max_tokens": work.max_tokens, "params": dict(work.params),
        "images": list(work.images), "samples": work.samples,
    }  # fmt: skip


def _import_path(kind: Any) -> str | None:
    """`module:Name` where another process can import the type from there; only the type itself can check its values."""
    module, name = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "")
    return f"{module}:{name}" if name.isidentifier() and module != "__main__" else None


def _of_source(items: Any, source: Source, settings: Settings) -> dict[str, Any]:
    """Where its items are and how they are read, as far as that is no secret."""
    table = Table(items) if isinstance(items, str | os.PathLike) else items if isinstance(items, Table) else None
    return {
        **(table.options() if table is not None else {}), "path": _place(table) if table is not None else None,
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


def _info(task: Task, source: Source, settings: Settings, spec: dict[str, Any]) -> RunInfo:
    """A run is its task, its source's name and its store."""
    identity = source.name or f"unnamed {secrets.token_hex(8)}"
    run = short(digest_of({"task": task.digest.hex(), "source": identity}))
    at = source.name.partition("?")[0] if "://" in source.name else source.name  # a database's options are no name
    stem = Path(re.sub(r"(?:\.(?:gz|zst))?(?:#(?:sheet|query|first)=.*)?$", "", at)).stem
    name = settings.name or f"{stem or 'run'}-{run[:6]}"
    return RunInfo(id=run, name=name, source=source.name, spec=spec)


def _model(model: str | Model) -> Model:
    return Model(model) if isinstance(model, str) else model
