"""The simulated provider as a real HTTP server that speaks the dialects of the real ones."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial

import msgspec

from headrace.core.errors import UsageError
from headrace.provider.notice import Notice
from headrace.provider.simulated import Simulated
from headrace.sim.doors import Doors
from headrace.sim.protocol import Connection, House, KeyedConnection

MOST_PORT = 65535
MOST_FILES = 65536


async def serve(
    simulated: Simulated,
    *,
    announce: Callable[[str], None],
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    model: str | None = None,
) -> None:
    """Listen, tell `announce` the base URL, and answer until cancelled. Port 0 takes a free one.

    With `api_key` and `model` the chat endpoint refuses other keys (401) and other models (404); the ledger stays open.
    """
    if not 0 <= port <= MOST_PORT:
        raise UsageError(f"There is no port {port}.", hint=f"Choose a --port from 0 to {MOST_PORT}.")
    loop = asyncio.get_running_loop()
    simulated.clock = time.monotonic  # some loops' own clocks are coarser than limits are
    house = House(simulated, loop, api_key, model, set(), Doors(), _notices(simulated.notice))
    connection = Connection if api_key is None else KeyedConnection
    try:
        server = await loop.create_server(partial(connection, house), host, port, backlog=4096)
    except OSError as error:
        raise UsageError(
            f"Cannot listen at {host}, port {port} ({error.strerror or error}).",
            hint="Choose another --port, or 0 for any that is free.",
        ) from error
    try:
        bound = server.sockets[0].getsockname()[1]
        announce(f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1")
        await loop.create_future()
    finally:
        server.close()
        for each in list(house.open):
            each.transport.abort()
        await server.wait_closed()


def _notices(told: Notice) -> dict[str, Notice]:
    """Each door in its own provider's words, unless the server was told whose to use."""
    if told.name != "plain":
        return {}
    return {name: msgspec.structs.replace(told, name=name) for name in ("azure", "anthropic", "gemini")}


def run_server(
    simulated: Simulated,
    *,
    announce: Callable[[str], None],
    host: str,
    port: int,
    api_key: str | None,
    model: str | None,
) -> None:
    """`serve` as a process of its own, until SIGINT or SIGTERM."""
    _allow_many_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_until_told(serve(simulated, announce=announce, host=host, port=port, api_key=api_key, model=model)))


async def _until_told(serving: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels through asyncio instead
            loop.add_signal_handler(number, task.cancel)
    gc.freeze()  # what is loaded by now stays; the collector need not look at it again
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - where it installs
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _allow_many_files() -> None:
    """Thousands of connections at once need as many open files as the system lets us have."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
