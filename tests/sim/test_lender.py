"""Leases in virtual time: several holders on one memory, each with its loop's own pace, joining, dying, cut off."""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from borrower import CALLS, REQUESTS, Till
from headrace.core.errors import StoreError
from headrace.core.limits import Learnt, Told, Unit
from headrace.core.ports import Decide
from headrace.engine.lender import RENEW_S, Lender, recall
from headrace.sim.loop import run
from headrace.store.memory import Memory, MemoryStore

WINDOW_S = 60.0
HERE = "openai https://example.org gpt 0123456789abcdef"


class Provider:
    """Sees what all send: calls in flight and requests of the last minute, and the most of each."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.arrivals: deque[float] = deque()
        self.most_in_window = 0
        self.served = 0

    def arrived(self, now_s: float) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.arrivals.append(now_s)
        while self.arrivals[0] <= now_s - WINDOW_S:
            self.arrivals.popleft()
        self.most_in_window = max(self.most_in_window, len(self.arrivals))


class Process:
    """A holder that sends calls as fast as it may, as long as it has work."""

    def __init__(
        self, memory: Memory, provider: Provider, limits: dict[Unit, float], *, call_s: float, seed: int
    ) -> None:
        self.store = MemoryStore(memory, commit_s=0.02)
        self.till = Till(limits)
        self.provider = provider
        self.lender = Lender(self.store, HERE, self.till)
        self.chance = random.Random(seed)
        self.call_s = call_s
        self.sent = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self.till.tick(now_s)
        await self.lender.open()
        self.tasks += [asyncio.ensure_future(self._send()), asyncio.ensure_future(self.lender.run())]

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self.till.waiting and self.till.start(loop.time()):
                self.sent += 1
                self.provider.arrived(loop.time())
                loop.call_later(self.call_s * self.chance.uniform(0.5, 1.5), self._ended, len(self.tasks))
            await asyncio.sleep(0.05)

    def _ended(self, alive: int) -> None:
        if alive == len(self.tasks):  # the calls of a dead process went with it
            self.till.end()
            self.provider.in_flight -= 1
            self.provider.served += 1

    async def end(self) -> None:
        """Drain, give back, go."""
        self.tasks[0].cancel()
        while self.till.in_flight:
            await asyncio.sleep(0.1)
        self.tasks[1].cancel()
        await self.lender.close()
        await self.store.close()

    def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.store.crash()
        self.provider.in_flight -= self.till.in_flight
        self.till.in_flight = 0
        self.tasks.append(asyncio.ensure_future(asyncio.sleep(0)))


async def started(
    world: Memory, provider: Provider, count: int, limits: dict[Unit, float] | None = None, call_s: float = 1.0
) -> list[Process]:
    """Processes with work without end; without limits, with none: they would send it all at once."""
    limits = {CALLS: 10} if limits is None else limits
    processes = [Process(world, provider, limits, call_s=call_s, seed=n) for n in range(count)]
    for process in processes:
        process.till.waiting = 1000 if limits else 0
        await process.begin()
    return processes


def lent(process: Process, unit: Unit = CALLS) -> float:
    return process.till.lent[unit]


@pytest.mark.parametrize("seed", range(6))
def test_p19_no_more_than_the_limit_from_all_together(seed: int) -> None:
    """P19, P1, P2: whoever joins, idles, ends or is killed, at most the limit is in flight and, but for a burst of each,
    charged in any minute; and it is used."""

    async def main() -> None:
        chance = random.Random(seed)
        world, provider = Memory(), Provider()
        limits: dict[Unit, float] = {CALLS: chance.choice([2, 5, 20]), REQUESTS: 600.0}
        alive = await started(world, provider, 1, limits=limits)
        everyone, bursts = list(alive), 0.0
        for _ in range(40):
            what = chance.random()
            if what < 0.3 and len(alive) < 6:
                alive += await started(world, provider, 1, limits=limits, call_s=chance.choice([0.2, 1.0, 20.0]))
                everyone.append(alive[-1])
            elif what < 0.4 and len(alive) > 1:
                alive.pop(chance.randrange(len(alive))).kill()
            elif what < 0.5 and len(alive) > 1:
                await alive.pop(chance.randrange(len(alive))).end()
            else:
                chance.choice(alive).till.waiting = chance.choice([0, 3, 1000])
            await asyncio.sleep(chance.uniform(0, 6))
            bursts = max(bursts, len(everyone) + 600 / 60 * 0.25)
        assert provider.most_in_flight <= limits[CALLS]
        assert provider.most_in_window <= limits[REQUESTS] + bursts
        assert provider.served > 100

    run(main())


def test_p1_two_share_a_rate_and_use_it() -> None:
    """Two busy processes together send what one may, no less than 97 % of it, also while the second joins."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        one = (await started(world, provider, 1, limits={REQUESTS: 600.0}))[0]
        await asyncio.sleep(61)
        two = (await started(world, provider, 1, limits={REQUESTS: 600.0}))[0]
        await asyncio.sleep(30)
        before, mine = one.sent + two.sent, two.sent
        await asyncio.sleep(120)
        sent = one.sent + two.sent - before
        assert 0.97 * 1200 <= sent <= 1200 + 4
        assert abs((two.sent - mine) - sent / 2) < 10
        assert provider.most_in_window <= 600 + 2 + 600 / 60 * 0.25
        assert len(provider.arrivals) >= 0.97 * 600

    run(main())


def test_a_second_process_has_its_part_soon() -> None:
    """One that joins a busy endpoint has its half within a renewal, the time a call takes, and a moment."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        one = (await started(world, provider, 1))[0]
        await asyncio.sleep(7.3)
        two = (await started(world, provider, 1))[0]
        assert lent(two) == 0
        joined_s = asyncio.get_running_loop().time()
        while lent(two) < 5:
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - joined_s <= RENEW_S + 1.5 + 0.6
        assert lent(one) == 5
        assert provider.most_in_flight == 10

    run(main())


def test_when_one_is_killed_the_others_have_all() -> None:
    """The part of the dead is taken at the next renewal of each who is left."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        processes = await started(world, provider, 3)
        await asyncio.sleep(15)
        assert sorted(lent(process) for process in processes) == [3, 3, 4]
        processes[0].kill()
        await asyncio.sleep(2 * RENEW_S + 0.1)
        assert [lent(process) for process in processes[1:]] == [5, 5]
        processes[1].kill()
        await asyncio.sleep(RENEW_S + 0.1)
        assert lent(processes[2]) == 10
        assert provider.most_in_flight <= 10

    run(main())


def test_an_idle_process_that_wakes_has_its_part_soon() -> None:
    """It asks at its next renewal, and has it when the others have given it back at theirs."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        busy, idle = await started(world, provider, 2)
        idle.till.waiting = 0
        await asyncio.sleep(20)
        assert (lent(busy), lent(idle)) == (9, 1)
        idle.till.waiting = 1000
        await asyncio.sleep(2 * RENEW_S + 1.5 + 0.6)
        assert (lent(busy), lent(idle)) == (5, 5)

    run(main())


def test_who_is_alone_renews_once_in_two_seconds() -> None:
    """One holder makes one transaction each two seconds, and has everything from the first."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        count = 0
        alone = Process(world, provider, {CALLS: 10, REQUESTS: 600.0}, call_s=1.0, seed=0)
        lease = alone.store.lease

        async def counted(endpoint: str, decide: Decide) -> bytes:
            nonlocal count
            count += 1
            return await lease(endpoint, decide)

        alone.store.lease = counted  # type: ignore[method-assign]
        alone.till.waiting = 1000
        await alone.begin()
        assert alone.till.lent == {CALLS: 10, REQUESTS: 600.0}
        await asyncio.sleep(200)
        assert count <= 101
        assert all(each == {CALLS: 10, REQUESTS: 600.0} for each in alone.till.lendings[1:])

    run(main())


def test_a_limit_told_to_one_is_shared_by_all() -> None:
    """An unknown limit is not lent; once one process hears of it, those that never heard of it share it too."""

    async def main() -> None:
        world, provider = Memory(), Provider()
        one, two = await started(world, provider, 2, limits={})
        await asyncio.sleep(5)
        assert one.till.lent == two.till.lent == {}
        one.till.known = {CALLS: 8}
        await asyncio.sleep(10)
        assert (lent(one), lent(two)) == (4, 4)
        one.till.known = {}
        await asyncio.sleep(5)
        assert one.till.lent == two.till.lent == {}

    run(main())


def test_a_limit_told_to_both_is_on_the_books_until_it_is_shared() -> None:
    """Between hearing of a limit and the first renewal after it each may use all of it: its books say so, until it has
    stopped to."""

    async def main() -> None:
        world, written = Memory(), list[tuple[int, dict[str, float]]]()
        tills, lenders = [Till({}), Till({})], list[Lender]()
        for n, till in enumerate(tills):
            till.waiting = 100
            store = MemoryStore(world)
            lease = store.lease

            async def seen(endpoint: str, decide: Decide, n: int = n, lease: Any = lease) -> bytes:
                data: bytes = await lease(endpoint, decide)
                written.append((n, msgspec.json.decode(data).get("granted", {})))
                return data

            store.lease = seen  # type: ignore[method-assign]
            lenders.append(Lender(store, HERE, till))
            await lenders[-1].open()
        written.clear()
        for till in tills:
            till.known = {CALLS: 8}
        work = asyncio.gather(*(lender.run() for lender in lenders))
        await asyncio.sleep(10)
        books = [granted["concurrency"] for n, granted in written if n == 0]
        assert books[:2] == [8, 4]
        assert books[-1] == 4
        assert [till.lent for till in tills] == [{CALLS: 4}, {CALLS: 4}]
        work.cancel()

    run(main())


def test_endpoints_are_apart() -> None:
    """Who talks to another endpoint, model or account shares nothing."""

    async def main() -> None:
        world, tills = Memory(), [Till({CALLS: 6}), Till({CALLS: 6})]
        for n, till in enumerate(tills):
            await Lender(MemoryStore(world), f"endpoint {n}", till).open()
        assert [till.lent[CALLS] for till in tills] == [6, 6]

    run(main())


class Failing(MemoryStore):
    """A store that can be told to fail, before a lease is written or after."""

    fails = ""

    async def lease(self, endpoint: str, decide: Decide) -> bytes:
        if self.fails == "before":
            raise StoreError("The store could not be written (disk I/O error).")
        written = await super().lease(endpoint, decide)
        if self.fails == "after":
            raise StoreError("The store could not be written (disk I/O error).")
        return written


@pytest.mark.parametrize("fails", ["before", "after"])
def test_who_cannot_renew_keeps_what_it_has(fails: str) -> None:
    """A store that fails ends nothing: no more is lent in sum, and later all is as it was."""

    async def main() -> None:
        world = Memory()
        cut, other = Till({CALLS: 10}), Till({CALLS: 10})
        store = Failing(world)
        lenders = [Lender(store, HERE, cut), Lender(MemoryStore(world), HERE, other)]
        tasks = []
        for lender in lenders:
            await lender.open()
            tasks.append(asyncio.ensure_future(lender.run()))
        await asyncio.sleep(10)
        assert (cut.lent[CALLS], other.lent[CALLS]) == (5, 5)
        store.fails = fails
        third = Till({CALLS: 10})
        await Lender(MemoryStore(world), HERE, third).open()
        await asyncio.sleep(60)
        assert cut.lent[CALLS] + other.lent[CALLS] + third.lent[CALLS] <= 10
        assert cut.lent[CALLS] == 5
        store.fails = ""
        await asyncio.sleep(10)
        assert cut.lent[CALLS] <= 4
        for task in tasks:
            assert not task.done()

    run(main())


def test_the_first_lease_must_be_had() -> None:
    """Before a first lease nothing may be sent: where the store refuses it, `open` does."""

    async def main() -> None:
        store, till = Failing(Memory()), Till({CALLS: 10})
        store.fails = "before"
        with pytest.raises(StoreError):
            await Lender(store, HERE, till).open()
        assert till.lent == {CALLS: 0}

    run(main())


def test_a_lease_that_cannot_be_read_fails_the_renewal_alone() -> None:
    """What another version wrote is no reason to take what may be its: the renewal fails with a sentence."""

    async def main() -> None:
        world = Memory()
        strange, store = MemoryStore(world), MemoryStore(world)
        await strange.lease(HERE, lambda _holder, _rows: b'{"granted": 3}')
        with pytest.raises(StoreError, match="lease in the store cannot be read"):
            await Lender(store, HERE, Till({CALLS: 10})).open()
        strange.crash()
        till = Till({CALLS: 10})
        await Lender(store, HERE, till).open()
        assert till.lent == {CALLS: 10}

    run(main())


def test_closing_gives_all_back_but_what_is_in_use() -> None:
    """A call that goes on after its run, as in a thread that cannot be stopped, stays on the books while the store is
    open."""

    async def main() -> None:
        world = Memory()
        one, two = Till({CALLS: 10}), Till({CALLS: 10})
        store = MemoryStore(world)
        first, second = Lender(store, HERE, one), Lender(MemoryStore(world), HERE, two)
        await first.open()
        one.in_flight = 3
        await first.close()
        assert one.lent[CALLS] == 0
        two.waiting = 1000
        await second.open()
        assert two.lent[CALLS] == 7
        await store.close()
        task = asyncio.ensure_future(second.run())
        await asyncio.sleep(RENEW_S + 0.1)
        assert two.lent[CALLS] == 10
        task.cancel()
        await second.close()
        assert world.leases[HERE] == {}

    run(main())


@pytest.mark.parametrize("stop_s", [2.0, 2.01, 2.02, 2.03, 2.2, 3.0])
def test_cancelled_at_any_moment(stop_s: float) -> None:
    """A renewal that is cancelled before, in or after its transaction lends nothing twice."""

    async def main() -> None:
        world = Memory()
        one, two = Till({CALLS: 10}), Till({CALLS: 10})
        lenders = [Lender(MemoryStore(world, commit_s=0.02), HERE, till) for till in (one, two)]
        await lenders[0].open()
        task = asyncio.ensure_future(lenders[0].run())
        await lenders[1].open()
        other = asyncio.ensure_future(lenders[1].run())
        await asyncio.sleep(stop_s - asyncio.get_running_loop().time())
        task.cancel()
        for _ in range(500):
            await asyncio.sleep(0.01)
            assert one.lent[CALLS] + two.lent[CALLS] <= 10
        other.cancel()

    run(main())


LEARNT = Learnt(37, (Told(Unit.REQUESTS, 600.0, 3.0, 1.5), Told(Unit.TOKENS, 1e6, window_s=1.0)), {"requests": 9.5})


def test_what_was_learnt_is_there_for_the_next_run() -> None:
    """It is kept every half minute, where it changed, and at the end; the last word holds."""

    async def main() -> None:
        world, kept = Memory(), list[bytes]()
        store, till = MemoryStore(world), Till({})
        remember = store.remember

        def counted(endpoint: str, data: bytes) -> None:
            kept.append(data)
            remember(endpoint, data)

        store.remember = counted  # type: ignore[method-assign]
        lender = Lender(store, HERE, till)
        assert await lender.open() == Learnt()
        task = asyncio.ensure_future(lender.run())
        await asyncio.sleep(40)
        assert kept == []
        till.learned = LEARNT
        await asyncio.sleep(140)
        assert len(kept) == 1
        till.learned = msgspec.structs.replace(LEARNT, concurrency=40)
        task.cancel()
        await lender.close()
        assert len(kept) == 2
        await store.close()
        found = await recall(MemoryStore(world), HERE)
        assert found.at > 0
        assert msgspec.structs.replace(found, at=0.0) == till.learned
        assert await recall(MemoryStore(world), "elsewhere") == Learnt()
        assert await Lender(MemoryStore(world), HERE, till).open() == found

    run(main())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"concurrency": "many"}', b"\xff\xfe", b'{"told": [{"unit": "x"}]}']
)
def test_what_cannot_be_read_is_learnt_anew(data: bytes) -> None:
    """Bytes of another version, or broken ones, are nothing."""

    async def main() -> None:
        store = MemoryStore()
        store.memory.endpoints[HERE] = (2e10, data)
        assert await recall(store, HERE) == Learnt()

    run(main())


def test_what_is_older_than_a_week_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier changes: what was learnt eight days ago says nothing any more, after six it does."""

    async def main() -> None:
        store = MemoryStore()
        at = 1.8e9
        store.memory.endpoints[HERE] = (at, msgspec.json.encode(LEARNT))
        for days, found in ((6, LEARNT), (8, Learnt())):
            monkeypatch.setattr("headrace.engine.lender.time.time", lambda days=days: at + days * 86_400)
            assert await recall(store, HERE) == found

    run(main())


def test_infinite_wants_and_limits_are_none() -> None:
    """A want without bound, and a limit without bound, can be said as such."""

    async def main() -> None:
        world = Memory()
        one, two = Till({CALLS: 10, REQUESTS: float("inf")}), Till({CALLS: 10})
        one.wanted = two.wanted = {CALLS: float("inf"), REQUESTS: float("inf")}
        lenders = [Lender(MemoryStore(world), HERE, till) for till in (one, two)]
        work: list[Coroutine[Any, Any, None]] = [lender.run() for lender in lenders]
        for lender in lenders:
            await lender.open()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*work), 9)
        assert one.lent == two.lent == {CALLS: 5}

    run(main())
