"""The simulated provider in virtual time: latency, concurrency, faults that pass, calls that are given up."""

import asyncio

import pytest

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import CallError, Throttled
from headrace.provider.chance import Faults, Latency
from headrace.provider.simulated import Simulated
from headrace.sim.loop import run


def ask(text: str) -> Request:
    return Request(Digest(b"x"), "any", (Message("user", text),))


async def until_answered(simulated: Simulated, text: str) -> tuple[Reply, int]:
    """Ask again after every error, giving up on a silent call after 100 s."""
    for attempt in range(1, 100):
        try:
            async with asyncio.timeout(100):
                return await simulated(ask(text)), attempt
        except (CallError, TimeoutError):
            continue
    raise AssertionError("never answered")


def test_latency_passes_in_virtual_time() -> None:
    """A call of 2 s takes 2 virtual seconds, and calls overlap."""
    simulated = Simulated(latency=2.0)

    async def main() -> float:
        await asyncio.gather(*(simulated(ask(str(n))) for n in range(500)))
        return asyncio.get_running_loop().time()

    assert run(main()) == 2
    assert (simulated.ledger.most_in_flight, simulated.ledger.in_flight, simulated.ledger.paid) == (500, 0, 500)


def test_results_do_not_depend_on_the_order_of_arrival() -> None:
    """Shuffled, one by one or all at once: each prompt meets the same faults and gets the same answer."""
    faults = Faults(error_500=0.2, throttled_429=0.1, reset=0.1, hang=0.1, malformed=0.1, cut=0.1)
    texts = [f"item {n}" for n in range(200)]

    async def together(order: list[str]) -> dict[str, tuple[Reply, int]]:
        simulated = Simulated(latency=Latency(1, 0.8), faults=faults, seed=11)
        found = await asyncio.gather(*(until_answered(simulated, text) for text in order))
        assert simulated.ledger.items == dict.fromkeys(texts, 1)
        return dict(zip(order, found, strict=True))

    async def one_by_one(order: list[str]) -> dict[str, tuple[Reply, int]]:
        simulated = Simulated(latency=Latency(1, 0.8), faults=faults, seed=11)
        return {text: await until_answered(simulated, text) for text in order}

    first = run(together(texts))
    assert run(together(texts[::-1])) == first == run(one_by_one(texts[::-1]))
    assert sum(attempt for _, attempt in first.values()) > 300


def test_calls_above_the_limit_are_refused() -> None:
    """With max_concurrency 10, 30 at once: 10 answered, 20 refused at once and counted as having been in flight."""
    simulated = Simulated(latency=1.0, max_concurrency=10)

    async def main() -> list[object]:
        return await asyncio.gather(*(simulated(ask(str(n))) for n in range(30)), return_exceptions=True)

    found = run(main())
    assert sum(isinstance(each, Throttled) for each in found) == 20
    assert simulated.ledger.by_status == {"200": 10, "429": 20}
    assert simulated.ledger.most_in_flight == 11


def test_a_cancelled_call_is_not_paid() -> None:
    """A client that goes before the answer leaves `gone` in the books and nothing in flight."""
    simulated = Simulated(latency=10.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await simulated(ask("x"))

    run(main())
    assert simulated.ledger.as_json()["by_status"] == {"gone": 1}
    assert (simulated.ledger.paid, simulated.ledger.in_flight) == (0, 0)


def test_a_call_without_latency_lets_others_run() -> None:
    """Even instant answers yield to the loop, so a client's loop over them starves nobody."""
    simulated = Simulated()

    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        for n in range(100):
            await simulated(ask(str(n)))
        task.cancel()
        return turns

    assert run(main()) >= 100


def test_memory_of_attempts_is_given_back() -> None:
    """Once a prompt is answered nothing of it is kept; counts-only ledgers keep no items either."""
    simulated = Simulated.parse("500=0.5,seed=1")

    async def main() -> None:
        for n in range(200):
            await until_answered(simulated, str(n))

    run(main())
    assert simulated._attempts == {}
    assert simulated.ledger.items == {}
    assert simulated.ledger.paid == 200
