"""The simulated provider's limits and weather in virtual time: what is let in, what is told, what it takes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest

from headrace.core.call import Message, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import CallError, LargerThanLimit, Overloaded, QuotaExhausted, Throttled, Transient
from headrace.core.limits import Hints, Unit
from headrace.provider.chance import Faults, Latency
from headrace.provider.simulated import Simulated
from headrace.sim.loop import run


def ask(text: str, **params: Any) -> Request:
    return Request(Digest(b"x"), "any", (Message("user", text),), params)


async def word(call: Awaitable[Reply]) -> str:
    """How a call ended."""
    try:
        await call
    except CallError as error:
        return type(error).__name__
    return "ok"


async def paced(simulated: Simulated, calls: int, per_s: float) -> list[tuple[float, str]]:
    """When each of so many calls was sent, at this rate, and how it ended."""

    async def one(number: int) -> tuple[float, str]:
        await asyncio.sleep(number / per_s)
        now_s = asyncio.get_running_loop().time()
        return now_s, await word(simulated(ask(str(number))))

    return await asyncio.gather(*[one(number) for number in range(calls)])


@pytest.mark.parametrize(
    ("limit", "first", "later"),
    [
        ("requests=60/60", [60, 0, 0], 60),
        ("requests=60/60,kind=fixed,phase=10", [60, 60, 0], 60),
        ("requests=60/60,kind=bucket,capacity=20", [29, 10, 10], 60),
        ("requests=10/10,kind=fixed", [10, 10, 10], 60),
        ("requests=1/1", [10, 10, 10], 60),
    ],
)
def test_each_kind_of_window_under_a_flood(limit: str, first: list[int], later: int) -> None:
    """Ten calls a second for two minutes: so many are let in within the first thirds of the first half minute, and
    the limit's rate in the minute after."""
    simulated = Simulated(limits=[limit])
    sent = run(paced(simulated, 1200, 10))
    ok = [at_s for at_s, how in sent if how == "ok"]
    assert [sum(begin_s <= at_s < begin_s + 10 for at_s in ok) for begin_s in (0, 10, 20)] == pytest.approx(
        first, abs=1
    )
    if "phase" not in limit:
        assert sum(60 <= at_s < 120 for at_s in ok) == pytest.approx(later, abs=1)
    books = simulated.books()
    assert books["limits"][0]["refused"] == 1200 - len(ok) == books["by_status"]["429"]
    if "fixed" not in limit and "bucket" not in limit:
        assert books["limits"][0]["most_admitted"] == books["limits"][0]["limit"]


def test_a_wait_that_is_told_suffices() -> None:
    """Who waits as long as every refusal says gets in at the next try, whatever the kind; and never sooner."""
    for limit in ("requests=3/7", "requests=3/7,kind=fixed,phase=2", "requests=3/7,kind=bucket,capacity=2"):
        simulated = Simulated(limits=[limit], headers="openai")

        async def main(simulated: Simulated = simulated) -> int:
            refused = 0
            for number in range(60):
                try:
                    await simulated(ask(str(number)))
                except Throttled as error:
                    refused += 1
                    assert error.retry_after_s is not None
                    await asyncio.sleep(error.retry_after_s)
                    await simulated(ask(str(number)))
            return refused

        assert run(main()) >= 19


def test_hints_come_as_over_http() -> None:
    """A good answer tells what remains, a refusal which limit it was, its size, the charge and the wait."""
    simulated = Simulated(limits=["requests=2/60", "tokens=1000/60"], headers="openai")

    async def main() -> tuple[Hints | None, Hints | None, Hints | None]:
        first = await simulated(ask("a", max_tokens=400))
        with pytest.raises(Throttled) as caught:
            await simulated(ask("b", max_tokens=700))
        second = await simulated(ask("c", max_tokens=600))
        return first.hints, caught.value.hints, second.hints

    first, refused, second = run(main())
    assert first is not None
    assert second is not None
    assert refused is not None
    left = {told.unit: (told.limit, told.remaining, told.reset_s) for told in first.told}
    assert left == {Unit.REQUESTS: (2, 1, 60), Unit.TOKENS: (1000, 600, 60)}
    assert {told.unit: told.remaining for told in second.told} == {Unit.REQUESTS: 0, Unit.TOKENS: 0}
    assert (refused.blamed, refused.charged) == (Unit.TOKENS, 700)
    assert refused.retry_after_s == pytest.approx(60, abs=0.002)


def test_no_headers_no_hints() -> None:
    """`plain` tells only how long to wait, `none` nothing."""
    for headers, wait_s in (("plain", 60.001), ("none", None)):
        simulated = Simulated(limits=["requests=1/60"], headers=headers)
        assert run(simulated(ask("a"))).hints is None
        with pytest.raises(Throttled) as caught:
            run(simulated(ask("b")))
        assert caught.value.retry_after_s == wait_s
        assert caught.value.hints is None or caught.value.hints == Hints(retry_after_s=wait_s)


def test_what_never_fits_and_what_is_gone_for_long() -> None:
    """A call larger than its limit is told so; a day's limit that is used up is a quota that is gone."""
    simulated = Simulated(limits=["tokens=1000/60", "requests=1/86400"], headers="openai")
    with pytest.raises(LargerThanLimit):
        run(simulated(ask("a", max_tokens=1001)))
    run(simulated(ask("b")))
    with pytest.raises(QuotaExhausted):
        run(simulated(ask("c")))


def test_an_outage_comes_and_goes() -> None:
    """Between its times every arrival fails at once; calls from before are answered, those after it too."""
    simulated = Simulated(latency=2.0, outages=["10-20=503", "30-40=reset", "50-60=529", "70-80=html"])
    sent = run(paced(simulated, 90, 1))
    kinds = {10: "Overloaded", 30: "Transient", 50: "Overloaded", 70: "Transient"}
    assert [how for _, how in sent] == [kinds.get(number // 10 * 10, "ok") for number in range(90)]
    assert simulated.ledger.by_status == {"200": 50, "503": 10, "reset": 10, "529": 10, "html": 10}


def test_an_outage_may_hang() -> None:
    """Calls that arrive in it are never answered, and stay in flight until their client leaves."""
    simulated = Simulated(outages=["0-10=hang"])

    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await simulated(ask("a"))
        assert simulated.ledger.in_flight == 0
        return await word(simulated(ask("b")))

    assert run(main()) == "ok"
    assert simulated.ledger.by_status == {"hang": 1, "200": 1}


def test_capacity_changes() -> None:
    """Places, a limit and the latency change when their time comes, also seen by those who are told of limits."""
    changes = ["10:concurrency=2", "10:requests=100", "20:latency=3"]
    simulated = Simulated(
        latency=1.0, limits=["concurrency=5", "requests=600"], changes=changes[::-1], headers="openai"
    )

    async def main() -> list[Any]:
        found: list[Any] = []
        for _ in range(2):
            found.append(Counter(await asyncio.gather(*[word(simulated(ask(str(n)))) for n in range(8)])))
            await asyncio.sleep(9.5)
        reply = await simulated(ask("x"))
        assert reply.hints is not None
        await asyncio.sleep(10)
        before_s = asyncio.get_running_loop().time()
        await simulated(ask("y"))
        return [*found, reply.hints.told[0].limit, asyncio.get_running_loop().time() - before_s]

    first, second, limit, took_s = run(main())
    assert (first["ok"], second["ok"], limit, took_s) == (5, 2, 100, 3)


def test_past_the_knee_throughput_falls() -> None:
    """With exponent 1.5, 160 workers get half of what 40 get; below the knee each worker adds its part."""

    async def rate(workers: int) -> float:
        simulated = Simulated(latency=1.0, knee="40,1.5")

        async def work(number: int) -> None:
            for beat in range(20):
                await simulated(ask(f"{number} {beat}"))

        await asyncio.gather(*[work(number) for number in range(workers)])
        return workers * 20 / asyncio.get_running_loop().time()

    assert [run(rate(workers)) for workers in (10, 20, 40)] == pytest.approx([10, 20, 40])
    assert run(rate(160)) == pytest.approx(20, rel=0.2)


def test_a_tail_is_drawn_anew_for_a_second_attempt() -> None:
    """A call in the tail takes its seconds; asked again while it still runs, it is mostly fast."""
    simulated = Simulated(latency=Latency(1.0).with_tail("0.1=30"), seed=4)

    async def took(text: str) -> float:
        begin_s = asyncio.get_running_loop().time()
        await simulated(ask(text))
        return asyncio.get_running_loop().time() - begin_s

    async def main() -> tuple[list[float], list[float]]:
        first = [asyncio.ensure_future(took(str(n))) for n in range(400)]
        await asyncio.sleep(2)
        slow = [str(n) for n, each in enumerate(first) if not each.done()]
        second = await asyncio.gather(*[took(text) for text in slow])
        return await asyncio.gather(*first), second

    first, second = run(main())
    assert set(first) == {1.0, 30.0}
    assert 25 <= len(second) <= 60
    assert second.count(1.0) >= 0.75 * len(second)


def test_tokens_charged_as_used() -> None:
    """With charge=usage a large maximum output costs nothing; the output counts once it is there."""
    simulated = Simulated(limits=["tokens=100/60,charge=usage"], latency=1.0, headers="openai")

    async def main() -> list[str]:
        found = [await word(simulated(ask("x" * 40, max_tokens=5000))) for _ in range(7)]
        await asyncio.sleep(60)
        return [*found, await word(simulated(ask("y")))]

    assert run(main()) == ["ok"] * 6 + ["Throttled", "ok"]
    assert simulated.books()["limits"][0]["most_admitted"] == 6 * (10 + 7)


def test_the_same_arrivals_get_the_same_answers() -> None:
    """Limits, weather and chance together replay exactly; a reset begins anew as on the first day."""

    def make() -> Simulated:
        return Simulated(
            latency=Latency(1.0, 0.5).with_tail("0.02=8"), seed=5, limits=["requests=300/60", "concurrency=20"],
            faults=Faults(error_500=0.1, overloaded_529=0.05), outages=["20-25=503"], changes=["30:requests=100"],
            knee="10,1.2", headers="anthropic",
        )  # fmt: skip

    one = make()
    first, again = run(paced(one, 600, 10)), run(paced(make(), 600, 10))
    assert first == again
    books = one.books()
    one.reset()
    assert one.books()["limits"][0] == {
        "unit": "requests", "limit": 300, "window_s": 60, "kind": "sliding", "most_asked": 0, "most_admitted": 0,
        "refused": 0,
    }  # fmt: skip
    assert run(paced(one, 600, 10)) == first
    assert one.books() == books
    assert {how for _, how in first} == {"ok", "Throttled", "Overloaded", "Transient"}


def test_other_errors_by_chance() -> None:
    """Each of the faults comes as the error it is, with its status in the books."""
    for words, kind in (
        ("503=1", Overloaded), ("529=1", Overloaded), ("slow_down=1", Throttled), ("html=1", Transient),
        ("hidden=1", Transient), ("quota=1", QuotaExhausted),
    ):  # fmt: skip
        simulated = Simulated.parse(words)
        with pytest.raises(kind):
            run(simulated(ask("x")))
        assert simulated.ledger.by_status == {words.partition("=")[0]: 1}
