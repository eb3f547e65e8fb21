"""Chooses the concrete parts of a run and puts them together. The only file that knows every type, and the only one
that reads API keys."""

import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import canonical, digest_of, short
from headrace.core.errors import HeadraceError, MissingKey, UsageError
from headrace.core.event import Event
from headrace.core.limits import Unit
from headrace.core.model import SCHEMES, Model
from headrace.core.ports import RunInfo, Source, Store, Task
from headrace.data.images import Pictured
from headrace.data.source import open_source
from headrace.data.table import Table
from headrace.engine.governor import Account
from headrace.engine.runner import Runner, RunSettings
from headrace.flow.estimate import Charge
from headrace.provider.function import function_call, is_async
from headrace.provider.openai import DEFAULT_BASE_URL, openai_call
from headrace.settings import Settings
from headrace.store.sqlite import SqliteStore
from headrace.task.ask import AskTask
from headrace.task.function import FunctionTask
from headrace.task.prompt import Template
from headrace.task.schema import Returns, returns_of
from headrace.task.work import Ask, Map

_START = 20
"""Calls in flight that a search begins with: few enough for any hosted model."""
_START_NEAR = 4
_NEAR = frozenset({"localhost", "127.0.0.1", "::1"})
"""A server on this machine works on a few calls at once."""
_MOST_ASYNC = 256
_MOST_THREADS = 64

Work = Ask | Map | Callable[[Any], Any]
Close = Callable[[], Awaitable[None]]


class Endpoint(msgspec.Struct, frozen=True):
    """A place that answers. `identity` is what of it can change an answer: provider and base URL."""

    identity: tuple[str, str]
    model: str
    call: Call
    close: Close
    account: Account
    slots: int | None = None
    """How many calls it works on at once, where that is known."""
    charge: Charge = Charge("usage")
    max_tokens: str = "max_tokens"
    """What it calls the most tokens an answer may have."""
    sees: bool = True
    """Whether it may be given pictures: a model that cannot see them says so itself."""


class Assembled(msgspec.Struct, frozen=True):
    """A run that is ready to start."""

    runner: Runner
    store: Store
    source: Source
    schema: Mapping[str, Any] | None
    restore: Callable[[Any], Any]
    """A value as the store has it, in the type that the work gives."""
    close: Close


def assemble(
    work: Work,
    items: Any,
    settings: Settings,
    *,
    emit: Callable[[Event], None],
    environ: Mapping[str, str],
    store: Store | None = None,
) -> Assembled:
    """Everything a run needs, checked as far as that is possible before the first call. `store` overrides the settings'."""
    _check(work, settings)
    source: Source = open_source(items, key=settings.key, first=settings.first, name=settings.name)
    if isinstance(work, Ask) and work.images:
        source = with_images(source, work, items)
    endpoint, task, spec, schema = _worked(work, source, environ)
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
        ),
        account=endpoint.account, emit=emit,
    )  # fmt: skip

    def restore(value: Any) -> Any:
        text = value if isinstance(work, Ask) and work.returns is None else canonical(value).decode()
        try:
            return task.value(Reply(text))
        except HeadraceError:  # a type that does not read what it writes: then the value is what was written
            return value

    return Assembled(runner, opened, source, schema, restore, close)


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


def endpoint_of(model: Model, environ: Mapping[str, str], *, to_call: bool = True) -> Endpoint:
    """Raises UsageError where the model cannot be reached with what is there, MissingKey where its key is missing."""
    return {"openai": _openai, "local": _local, "sim": _simulated}[model.scheme](model, environ, to_call)


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
        _function(function, environ),
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
        images=tuple(work.images),
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
        "images": list(work.images),
    }  # fmt: skip


def _import_path(kind: Any) -> str | None:
    """`module:Name` where another process can import the type from there; only the type itself can check its values."""
    module, name = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "")
    return f"{module}:{name}" if name.isidentifier() and module != "__main__" else None


def _of_source(items: Any, source: Source, settings: Settings) -> dict[str, Any]:
    again = isinstance(items, str | os.PathLike) and items != "-"
    return {
        "path": os.path.realpath(items) if again else None,
        "key": settings.key, "first": settings.first, "named": settings.name is not None,
        "fields": source.fields, "arrow_schema": source.arrow_schema,
    }  # fmt: skip


def _info(task: Task, source: Source, settings: Settings, spec: dict[str, Any]) -> RunInfo:
    """A run is its task, its source's name and its store."""
    identity = source.name or f"unnamed {secrets.token_hex(8)}"
    run = short(digest_of({"task": task.digest.hex(), "source": identity}))
    name = settings.name or f"{Path(source.name.removesuffix(f'#first={settings.first}')).stem or 'run'}-{run[:6]}"
    return RunInfo(id=run, name=name, source=source.name, spec=spec)


def _model(model: str | Model) -> Model:
    return Model(model) if isinstance(model, str) else model


def _openai(model: Model, environ: Mapping[str, str], to_call: bool) -> Endpoint:  # noqa: FBT001 - one of three like it
    base_url = (model.base_url or environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
    Model(model.spec, base_url=base_url)  # raises where the environment's address is none
    key = _sendable(model.api_key or environ.get("OPENAI_API_KEY") or "")
    if (
        to_call
        and not key
        and base_url == DEFAULT_BASE_URL
        and "authorization" not in {h.lower() for h in model.headers}
    ):
        raise MissingKey(
            f"There is no API key for {model.spec}.",
            hint="Put it into the environment as OPENAI_API_KEY, name your own server with --base-url, or try "
            "--model local, which needs none.",
        )
    from headrace.provider.aio import AioHttp  # noqa: PLC0415 - the HTTP client is slow to import, and not all need it

    http = AioHttp()
    call = openai_call(http, base_url=base_url, api_key=key, headers=model.headers)
    official = base_url == DEFAULT_BASE_URL
    return Endpoint(
        ("openai", base_url), model.name, call, http.close, _account("openai", base_url, model, key),
        charge=Charge("admission" if official else "usage"), max_tokens="max_completion_tokens" if official else "max_tokens",
    )  # fmt: skip


def _account(provider: str, base_url: str, model: Model, key: str | None) -> Account:
    """Whose limits they are. Keys, also those in headers, are told apart by a digest, and never kept."""
    secrets = canonical([key, sorted(model.headers.items())])
    whose = sha256(b"headrace account\0" + secrets).hexdigest()[:16] if key or model.headers else "-"
    near = urlsplit(base_url).hostname in _NEAR
    return Account(f"{provider} {base_url} {model.name} {whose}", start=_START_NEAR if near else _START)


def _sendable(key: str) -> str | None:
    """The key without the line end of the file it came from; raises UsageError where no header can hold it."""
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            "The API key (OPENAI_API_KEY or api_key=) holds a character that no key can hold.",
            hint="Copy it anew: a line break or a letter that is not ASCII got into it.",
        )
    return key or None


def _simulated(model: Model, _environ: Mapping[str, str], _to_call: bool) -> Endpoint:  # noqa: FBT001
    from headrace.provider.simulated import Simulated  # noqa: PLC0415 - only who simulates needs it

    return Endpoint(
        ("sim", ""), model.name, Simulated.parse(model.name), _nothing_to_close, _account("sim", "", model, None)
    )


def _local(model: Model, _environ: Mapping[str, str], to_call: bool) -> Endpoint:  # noqa: FBT001
    from headrace.provider.local import CONCURRENCY, MODEL, LocalServer, weights  # noqa: PLC0415 - an extra, and only for this

    if model.name not in ("", MODEL):
        raise UsageError(f"The local model is {MODEL}, not {model.name!r}.", hint="Write --model local.")
    from headrace.provider.aio import AioHttp  # noqa: PLC0415 - as above

    if to_call:
        weights()  # what is not installed is better told before the run than by its first call
    server, http = LocalServer(), AioHttp()

    async def call(request: Request) -> Reply:
        base_url = await server.start()  # only when something is asked: a run that the store answers needs no model
        return await openai_call(http, base_url=base_url, api_key=None, headers={})(request)

    async def close() -> None:
        await http.close()
        await server.close()

    return Endpoint(
        ("local", ""), MODEL, call, close, _account("local", "", model, None), slots=CONCURRENCY, sees=False
    )


def _account_of(work: Map, environ: Mapping[str, str]) -> Account:
    """The account that a function calls, where it names one; else it is an endpoint of its own."""
    most = _MOST_ASYNC if is_async(work.function) else _MOST_THREADS
    if work.endpoint.partition(":")[0] in SCHEMES:
        account = endpoint_of(Model(work.endpoint), environ, to_call=False).account
        return msgspec.structs.replace(account, most=min(account.most, most))
    name = work.endpoint or f"{id(work.function)}"
    return Account(f"function {name}", start=_START, most=most, lasting=bool(work.endpoint))


def _function(work: Map, environ: Mapping[str, str]) -> Endpoint:
    from headrace.provider.threads import Threads  # noqa: PLC0415 - only for functions

    threads = Threads()
    account = _account_of(work, environ)

    async def close() -> None:
        threads.close()

    return Endpoint(("function", ""), "", function_call(work.function, threads), close, account)


async def _nothing_to_close() -> None:
    return None
