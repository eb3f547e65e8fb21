"""The simulated provider as a real HTTP server that speaks the OpenAI chat dialect; runs until it is cancelled."""

import asyncio
from collections.abc import Callable
from functools import partial

from headrace.core.errors import UsageError
from headrace.provider.simulated import Simulated
from headrace.sim.protocol import Connection, House, KeyedConnection


async def serve(
    simulated: Simulated,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    model: str | None = None,
    announce: Callable[[str], None],
) -> None:
    """Listen, tell `announce` the base URL, and answer until cancelled. Port 0 takes a free one.

    With `api_key` and `model` the chat endpoint refuses other keys (401) and other models (404); the ledger stays open.
    """
    loop = asyncio.get_running_loop()
    house = House(simulated, loop, api_key, model, set())
    connection = Connection if api_key is None else KeyedConnection
    try:
        server = await loop.create_server(partial(connection, house), host, port, backlog=4096)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"Cannot listen at {host}, port {port} ({reason}).", hint="Choose another --port, or 0 for any that is free."
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
