"""Which endpoint a model's name or a function means, with whose key. The only file that reads keys.

Enters a model or a function and the environment, leaves an Endpoint: what to call, and whose limits it shares.
"""

import difflib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import canonical
from headrace.core.errors import MissingKey, UsageError
from headrace.core.model import Model
from headrace.data.mapping import read_mapping
from headrace.engine.governor import Account
from headrace.flow.estimate import Charge
from headrace.provider.asking import call_of
from headrace.provider.dialect import Dialect, Means
from headrace.provider.directory import PROVIDERS, Provider
from headrace.task.fetch import Fetch
from headrace.task.mode import mode_of
from headrace.task.price import FREE, Price, Priced, bundled, prices_of
from headrace.task.work import Map

if TYPE_CHECKING:
    from headrace.data.fetch import Fetcher  # the client is slow to import

_START = 20
"""Calls in flight that a search begins with: few enough for any hosted model."""
_START_NEAR = 4
_NEAR = frozenset({"localhost", "127.0.0.1", "::1"})
"""A server on this machine works on a few calls at once."""
_MOST_ASYNC = 256
_MOST_THREADS = 64
PRICES = "HEADRACE_PRICES"
"""The environment variable that may name a file of prices."""

Close = Callable[[], Awaitable[None]]


def _unpriced() -> Priced:
    return Priced()


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
    warms: bool = False
    """Whether its prompt cache has nothing before a first answer began."""
    priced: Callable[[], Priced] = _unpriced
    """Looks its price up, once."""
    is_late: bool = False
    """Whether that takes a fifth of a second, for which a first call need not wait."""

    @property
    def price(self) -> Price | None:
        """What its calls cost; None where that is unknown, as of a user's function."""
        return self.priced().price


def endpoint_of(
    model: Model,
    environ: Mapping[str, str],
    *,
    to_call: bool = True,
    prices: Path | None = None,
    params: Mapping[str, Any] | None = None,
) -> Endpoint:
    """`prices` is a file of the user's, `params` is sent with every request and may change the price. Raises UsageError
    where the model cannot be reached with what is there, MissingKey where its key is missing."""
    endpoint = _endpoint_of(model, environ, to_call=to_call)
    told = Path(environ[PRICES]) if prices is None and environ.get(PRICES) else prices
    priced, is_late = _pricing(model, endpoint, told, params or {})
    return msgspec.structs.replace(endpoint, priced=priced, is_late=is_late)


def _pricing(
    model: Model, endpoint: Endpoint, prices: Path | None, params: Mapping[str, Any]
) -> tuple[Callable[[], Priced], bool]:
    """The user's own price, else that of the address. A simulated model costs nothing that anybody would pay; what runs
    on this machine is paid for otherwise."""
    own = prices_of(read_mapping(prices), str(prices)).find(model.spec) if prices is not None else None
    base_url = endpoint.identity[1]
    if own is not None or model.scheme == "local":
        return lambda: Priced(own or FREE), False
    if not base_url or urlsplit(base_url).hostname in _NEAR:
        return _unpriced, False

    def look_up() -> Priced:
        try:
            return bundled(model.name, base_url, datetime.now(UTC), params=params)
        except Exception as error:  # noqa: BLE001 - a library's: no answer is to be lost for its price
            why = f"{type(error).__name__}: {error}"
            return Priced(None, f"The price of {model.name} cannot be looked up ({why}): what it costs is not counted.")

    return Once(look_up), True


class Once:
    """A look-up that is made once, whichever threads ask; the others wait for it."""

    def __init__(self, look_up: Callable[[], Priced]) -> None:
        self._look_up = look_up
        self._found: Priced | None = None
        self._lock = Lock()

    def __call__(self) -> Priced:
        with self._lock:
            if self._found is None:
                self._found = self._look_up()
            return self._found


def _endpoint_of(model: Model, environ: Mapping[str, str], *, to_call: bool) -> Endpoint:
    if model.scheme == "local":
        return _local(model, to_call=to_call)
    if model.scheme == "sim":
        return _simulated(model)
    provider = PROVIDERS.get(model.scheme)
    if provider is None:
        raise UsageError(
            f"Unknown model {model.spec!r}: there is no provider {model.scheme!r}.",
            hint=f"{_meant(model)}Write PROVIDER:NAME with one of {', '.join(PROVIDERS)}; local (the small model that runs here); or "
            "sim: (simulated answers). openai:NAME with --base-url is any server that speaks OpenAI's chat API.",
        )
    return _hosted(model, provider, environ, to_call=to_call)


def _meant(model: Model) -> str:
    near = difflib.get_close_matches(model.scheme, [*PROVIDERS, "local", "sim"], n=1)
    return f"Did you mean {near[0]}:{model.name}? " if near else ""


def function_endpoint(work: Map, environ: Mapping[str, str]) -> Endpoint:
    """A function where it runs: on the loop, in threads, or in processes. Raises UsageError where it cannot run there."""
    from headrace.provider.function import called, function_call  # noqa: PLC0415 - only for functions
    from headrace.provider.threads import Threads  # noqa: PLC0415 - as above

    function = called(work.function, plain=work.mode in ("thread", "process", "sync"))
    mode = mode_of(function, work.mode)
    account = _account_of(work, environ)
    if mode == "process":
        return process_endpoint(called(work.function, plain=True), work.concurrency or 0, account)
    threads = Threads()

    async def close() -> None:
        threads.close()

    call, slots = function_call(function, threads, on_loop=mode_of(function) == "async"), 1 if mode == "sync" else None
    return Endpoint(("function", ""), "", call, close, account, slots=slots)


def process_endpoint(function: Callable[[Any], Any], most: int, account: Account | None = None) -> Endpoint:
    """A plain function in `most` processes, 0 for one on each core."""
    from headrace.provider.processes import Processes, process_call  # noqa: PLC0415 - only for functions

    processes = Processes(most)
    account = account or Account(f"function {id(function)}", lasting=False)
    call = process_call(function, processes)
    return Endpoint(("function", ""), "", call, processes.close, account, slots=processes.most)


def fetching(fetch: Fetch) -> "tuple[Fetcher, Account]":
    """Whoever fetches pages for one run. Each host's limits are its own, so that the account is nobody else's."""
    from headrace.data.fetch import Fetcher, Manners  # noqa: PLC0415 - only who fetches needs the client
    from headrace.provider.aio import way_to  # noqa: PLC0415 - as above

    manners = Manners(
        timeout_s=fetch.timeout_s, max_bytes=fetch.max_bytes, per_host=fetch.per_host, attempts=fetch.attempts,
        max_redirects=fetch.max_redirects, allow=fetch.allow, agent=fetch.user_agent,
    )  # fmt: skip
    most = fetch.concurrency
    return Fetcher(manners, way=way_to), Account("fetch", start=most, most=most, lasting=False)


def _hosted(model: Model, provider: Provider, environ: Mapping[str, str], *, to_call: bool) -> Endpoint:
    base_url = _address(provider, model.base_url or environ.get(provider.address) or provider.base_url)
    if not base_url:
        raise UsageError(
            f"There is no address for {model.spec}.",
            hint=f"Put it into the environment as {provider.address}, or give it with --base-url.",
        )
    Model(model.spec, base_url=base_url)  # raises where the environment's address is none
    key = _key(model, provider, base_url, environ, to_call=to_call)
    from headrace.provider.aio import AioHttp  # noqa: PLC0415 - the HTTP client is slow to import, and not all need it

    http = AioHttp()
    dialect, means, official = _spoken(provider, base_url, environ)
    call = call_of(
        dialect, http, base_url=base_url, api_key=key, means=means, headers=model.headers,
        auth={**provider.headers, **(provider.auth(key) if key else {})},
    )  # fmt: skip
    family = provider.family or model.scheme
    return Endpoint(
        (model.scheme, base_url), model.name, call, http.close, _account(family, base_url, model, key),
        charge=Charge(provider.charged if official else "usage", cached_free=provider.cached_free),
        max_tokens=provider.max_tokens if official else "max_tokens", warms=provider.warms,
    )  # fmt: skip


def _address(provider: Provider, url: str) -> str:
    """Without what the dialect puts behind it anyway, and with the version of a server here whose bare address is told:
    both are written as often as not."""
    url = url.rstrip("/")
    for part in provider.cut:
        url = url.removesuffix(part)
    if url and not provider.needs_key and not urlsplit(url).path:
        url += urlsplit(provider.base_url).path
    return url.rstrip("/")


def _spoken(provider: Provider, base_url: str, environ: Mapping[str, str]) -> tuple[Dialect, tuple[Means, ...], bool]:
    """The dialect at this address, how it is made to answer in a type, and whether the row's own rules hold there."""
    if provider is PROVIDERS["azure"]:
        from headrace.provider.chat import Chat  # noqa: PLC0415 - as in the directory

        version = environ.get("OPENAI_API_VERSION")
        path = "/openai/v1/chat/completions"
        if version:
            path = f"/openai/deployments/{{model}}/chat/completions?api-version={version}"
        return Chat(fit=provider.fit, path=path), provider.means, True
    if provider is PROVIDERS["openai"] and base_url != provider.base_url:  # somebody else's server
        from headrace.provider.chat import Chat  # noqa: PLC0415 - as in the directory

        return Chat(), provider.means, False
    return provider.dialect(), provider.means, True


def _key(model: Model, provider: Provider, base_url: str, environ: Mapping[str, str], *, to_call: bool) -> str | None:
    found = next((environ[name] for name in provider.keys if environ.get(name)), "")
    key = _sendable(model.api_key or found, provider)
    own = base_url == provider.base_url or not provider.base_url
    given = key or {provider.key_header.lower(), "authorization"} & {name.lower() for name in model.headers}
    if to_call and provider.needs_key and own and not given:
        raise MissingKey(
            f"There is no API key for {model.spec}.",
            hint=f"Put it into the environment as {' or '.join(provider.keys)}, name your own server with --base-url, or "
            "try --model local, which needs none.",
        )
    return key


def _sendable(key: str, provider: Provider) -> str | None:
    """The key without the line end of the file it came from; raises UsageError where no header can hold it."""
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"The API key ({' or '.join([*provider.keys, 'api_key='])}) holds a character that no key can hold.",
            hint="Copy it anew: a line break or a letter that is not ASCII got into it.",
        )
    return key or None


def _account(provider: str, base_url: str, model: Model, key: str | None) -> Account:
    """Whose limits they are. Keys, also those in headers, are told apart by a digest, and never kept."""
    secrets = canonical([key, sorted(model.headers.items())])
    whose = sha256(b"headrace account\0" + secrets).hexdigest()[:16] if key or model.headers else "-"
    near = urlsplit(base_url).hostname in _NEAR
    return Account(f"{provider} {base_url} {model.name} {whose}", start=_START_NEAR if near else _START)


def _simulated(model: Model) -> Endpoint:
    from headrace.provider.simulated import Simulated  # noqa: PLC0415 - only who simulates needs it

    return Endpoint(
        ("sim", ""), model.name, Simulated.parse(model.name), _nothing_to_close, _account("sim", "", model, None)
    )


def _local(model: Model, *, to_call: bool) -> Endpoint:
    from headrace.provider.local import CONCURRENCY, MODEL, LocalServer, weights  # noqa: PLC0415 - an extra, and only for this

    if model.name not in ("", MODEL):
        raise UsageError(f"The local model is {MODEL}, not {model.name!r}.", hint="Write --model local.")
    from headrace.provider.aio import AioHttp  # noqa: PLC0415 - as above
    from headrace.provider.chat import Chat  # noqa: PLC0415 - as in the directory

    if to_call:
        weights()  # what is not installed is better told before the run than by its first call
    server, http = LocalServer(), AioHttp()
    asked: dict[str, Call] = {}

    async def call(request: Request) -> Reply:
        base_url = await server.start()  # only when something is asked: a run that the store answers needs no model
        if base_url not in asked:
            asked[base_url] = call_of(Chat(), http, base_url=base_url)
        return await asked[base_url](request)

    async def close() -> None:
        await http.close()
        await server.close()

    return Endpoint(
        ("local", ""), MODEL, call, close, _account("local", "", model, None), slots=CONCURRENCY, sees=False
    )


def _account_of(work: Map, environ: Mapping[str, str]) -> Account:
    """The account that a function calls, where it names one; else it is an endpoint of its own."""
    from headrace.provider.function import called  # noqa: PLC0415 - only for functions

    most = _MOST_ASYNC if mode_of(called(work.function)) == "async" else _MOST_THREADS
    scheme = work.endpoint.partition(":")[0]
    if scheme in PROVIDERS or scheme in ("local", "sim"):
        account = endpoint_of(Model(work.endpoint), environ, to_call=False).account
        return msgspec.structs.replace(account, most=min(account.most, most))
    name = work.endpoint or f"{id(work.function)}"
    return Account(f"function {name}", start=_START, most=most, lasting=bool(work.endpoint))


async def _nothing_to_close() -> None:
    return None
