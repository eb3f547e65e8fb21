"""A scripted provider behind real HTTP: each error that a script raises reaches headrace's own client as itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headrace.core.call import Call, Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import (
    AttemptTimeout,
    CallError,
    ContextTooLong,
    Credentials,
    Filtered,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    Rejected,
    Throttled,
    Transient,
    Unreachable,
)
from headrace.provider.aio import AioHttp
from headrace.provider.asking import call_of
from headrace.provider.chat import Chat
from headrace.provider.simulated import After, Simulated
from headrace.sim.server import serve


def against(simulated: Simulated, use: Callable[[Call], Any]) -> Any:
    """What `use` makes of a call to a server of this provider on a real socket."""

    async def main() -> Any:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(simulated, announce=address.set_result))
        http = AioHttp()
        try:
            return await use(call_of(Chat(), http, base_url=await address))
        finally:
            await http.close()
            server.cancel()
            await asyncio.wait([server])

    return asyncio.run(main())


def ask(text: str) -> Request:
    return Request(Digest(b"x"), "m", (Message("user", text),))


@pytest.mark.parametrize(
    "kind",
    [Throttled, Overloaded, QuotaExhausted, Credentials, ModelNotFound, ContextTooLong, Filtered, Rejected, Transient],
)
def test_an_error_survives_the_wire(kind: type[CallError]) -> None:
    """Script -> HTTP -> client gives the same kind of error, with its words and its Retry-After."""
    simulated = Simulated(script=[kind("said by the script", retry_after_s=2.5)])

    async def use(call: Call) -> None:
        with pytest.raises(kind, match="said by the script") as caught:
            await call(ask("x"))
        assert type(caught.value) is kind
        if kind in (Throttled, Overloaded):
            assert caught.value.retry_after_s == 2.5

    against(simulated, use)
    assert (simulated.ledger.paid, simulated.ledger.in_flight) == (0, 0)


def test_what_is_no_answer_is_none_on_the_wire() -> None:
    """A scripted timeout hangs, a scripted unreachable provider breaks the connection."""
    simulated = Simulated(script=[AttemptTimeout("slow"), Unreachable("gone"), After(0.01, "at last")])

    async def use(call: Call) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call(ask("x"))
        with pytest.raises(Transient):
            await call(ask("x"))
        return (await call(ask("x"))).text

    assert against(simulated, use) == "at last"
    assert simulated.ledger.by_status == {"hang": 1, "reset": 1, "200": 1}


def test_a_whole_reply_survives_the_wire() -> None:
    """Text, finish and usage of a scripted reply come out as they went in."""
    simulated = Simulated(script=[Reply("no", "refusal", 5, 6, None, "other")])

    async def use(call: Call) -> Reply:
        return await call(ask("x"))

    assert against(simulated, use) == Reply("no", "refusal", 5, 6, None, "other")


def test_a_cancelled_call_is_off_the_wire() -> None:
    """Cancelling headrace's client frees the provider's place before the latency is over."""
    simulated = Simulated(latency=60.0)

    async def use(call: Call) -> None:
        for number in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await call(ask(str(number)))
        async with asyncio.timeout(10):
            while simulated.ledger.in_flight:
                await asyncio.sleep(0)

    against(simulated, use)
    assert simulated.ledger.by_status == {"gone": 3}
    assert simulated.ledger.in_flight == 0
