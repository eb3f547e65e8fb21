"""The virtual-time loop: fast, replayable, honest about deadlocks, closed to threads and sockets."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator

import pytest

from headrace.sim.loop import Deadlock, NotVirtual, VirtualLoop, run


async def crowd(seed: int, jobs: int, permits: int) -> tuple[float, list[tuple[int, float]]]:
    """Many jobs through a semaphore; gives the end time and the trace of who ended when."""
    rng = random.Random(seed)
    gate = asyncio.Semaphore(permits)
    loop = asyncio.get_running_loop()
    trace: list[tuple[int, float]] = []

    async def job(number: int) -> None:
        async with gate:
            try:
                async with asyncio.timeout(60):
                    await asyncio.sleep(rng.expovariate(1 / 15))
            except TimeoutError:
                number = -number
            trace.append((number, loop.time()))

    async with asyncio.TaskGroup() as group:
        for number in range(jobs):
            group.create_task(job(number))
    return loop.time(), trace


def test_hours_pass_in_about_a_second() -> None:
    """20,000 jobs, 50 at a time, take virtual hours and little real time."""
    started = time.perf_counter()
    ended_s, trace = run(crowd(1, 20_000, 50))
    assert ended_s > 3600
    assert len(trace) == 20_000
    assert any(number < 0 for number, _ in trace), "the longest jobs must meet their timeout"
    assert time.perf_counter() - started < 10


def test_same_seed_same_trace() -> None:
    """A run replays exactly, and another seed gives another run."""
    assert run(crowd(7, 2_000, 20)) == run(crowd(7, 2_000, 20))
    assert run(crowd(7, 2_000, 20)) != run(crowd(8, 2_000, 20))


def test_timeout_ends_on_the_second() -> None:
    """asyncio.timeout fires at its virtual time, not before and not after."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run(main()) == 30


def test_task_group_cancels_siblings() -> None:
    """A failing task cancels its group at once in virtual time."""

    async def fail() -> None:
        await asyncio.sleep(5)
        raise ValueError("broken")

    async def main() -> float:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10_000))
                group.create_task(fail())
        assert isinstance(caught.value.exceptions[0], ValueError)
        return asyncio.get_running_loop().time()

    assert run(main()) == 5


def test_many_small_sleeps_do_not_drift_or_spin() -> None:
    """Float rounding neither loses a timer nor loops on it, also far from zero."""

    async def main() -> float:
        await asyncio.sleep(9e6)
        for _ in range(10_000):
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(9e6 + 1_000, abs=0.01)


def test_deadlock_raises_at_once_and_names_tasks() -> None:
    """Two tasks that wait for each other end in Deadlock, which names them and where they wait."""

    async def main() -> None:
        left, right = asyncio.Event(), asyncio.Event()

        async def wait(for_: asyncio.Event, then: asyncio.Event) -> None:
            await for_.wait()
            then.set()

        first = asyncio.create_task(wait(left, right), name="first")
        second = asyncio.create_task(wait(right, left), name="second")
        await asyncio.gather(first, second)

    with pytest.raises(Deadlock, match=r"(?s)first.*wait.*second") as caught:
        run(main())
    assert "test_loop.py" in str(caught.value)


def test_deadlock_runs_finally_blocks() -> None:
    """Unwinding after a deadlock cancels what is left, and clean-up may still sleep."""
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(3)
            cleaned.append(asyncio.get_running_loop().time())

    with pytest.raises(Deadlock):
        run(main())
    assert cleaned == [3]


def test_a_ticker_that_never_ends_meets_the_limit() -> None:
    """A hang kept alive by a timer is told as a deadlock when virtual time passes its limit."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)

    async def main() -> None:
        ticker = asyncio.create_task(tick(), name="ticker")
        await asyncio.get_running_loop().create_future()
        await ticker

    with pytest.raises(Deadlock, match="limit of 500 s"):
        run(main(), limit_s=500)


def test_sleeping_for_ever_is_a_deadlock() -> None:
    """An infinite sleep does not hang the process."""
    with pytest.raises(Deadlock):
        run(asyncio.sleep(float("inf")))


def test_leftover_tasks_are_cancelled() -> None:
    """What `main` leaves running is cancelled and its clean-up runs; nothing warns."""
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append("background")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def main() -> str:
        task = asyncio.create_task(background())
        generator = numbers()
        await anext(generator)
        await asyncio.sleep(1)
        assert not task.done()
        return "value"

    assert run(main()) == "value"
    assert sorted(ended) == ["background", "generator"]


def test_exceptions_leave_as_they_are() -> None:
    """An error of `main` comes out of run unchanged."""

    async def main() -> None:
        await asyncio.sleep(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main())


def test_threads_are_refused() -> None:
    """Executors and calls from another thread get a clear error instead of a race."""

    async def main() -> list[str]:
        said: list[str] = []
        with pytest.raises(NotVirtual, match="no threads in virtual time: sleep"):
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)
        with pytest.raises(NotVirtual, match="no threads"):
            await asyncio.to_thread(print)
        loop = asyncio.get_running_loop()

        def outside() -> None:
            try:
                loop.call_soon_threadsafe(said.append, "ran")
            except NotVirtual as error:
                said.append(str(error))

        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        return said

    assert "another thread" in run(main())[0]


def test_own_thread_may_call_threadsafe() -> None:
    """asyncio's own use of call_soon_threadsafe (Ctrl-C, generators) keeps working."""

    async def main() -> None:
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon_threadsafe(done.set)
        await done.wait()

    run(main())


def test_sockets_are_refused() -> None:
    """A socket inside virtual time gets a clear error."""

    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            with pytest.raises(NotVirtual, match="no sockets"):
                await asyncio.get_running_loop().sock_recv(left, 1)

    run(main())


def test_time_starts_at_zero_and_stands_still_while_work_is_ready() -> None:
    """Only waiting moves the clock."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert loop.time() == 0

    run(main())
