"""Worker processes, real ones: each may die, hang, grow or be killed, and takes one item with it at most."""

import asyncio
import ctypes
import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from headrace.core.call import Call, Request
from headrace.core.digest import Digest
from headrace.core.errors import FunctionError, HeadraceError, Refusal, Throttled, UsageError, WorkerDied
from headrace.provider.processes import Processes, process_call
from headrace.provider.worker import read_frame

SEEN: list[int] = []


def work(item: Any) -> Any:  # noqa: C901, PLR0912 - each case is one line
    match item:
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            sys.exit(3)
        case "hang":
            while True:
                pass
        case "raise":
            raise ValueError("not this one")
        case "throttled":
            raise Throttled("slow down", retry_after_s=2.5, status=429)
        case "refused":
            raise Refusal("no", raw="I will not \udc80")
        case "noise":
            print("on standard output")
            sys.stderr.write("on standard error")
            os.write(1, b"\x00" * 64)
            return sys.stdin.read() if sys.stdin else ""
        case "unusable":
            return object()
        case "pid":
            return os.getpid()
        case "seen":
            SEEN.append(1)
            return len(SEEN)
        case "grow":
            KEPT.append(bytearray(b"x" * 50_000_000))
            return os.getpid()
    return item


KEPT: list[bytearray] = []


def request(item: Any) -> Request:
    return Request(Digest(bytes(32)), item=item)


async def value_of(call: Call, item: Any) -> Any:
    return msgspec.json.decode((await call(request(item))).text)


def pooled(story: Callable[[Processes], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    async def told() -> Any:
        pool = Processes(**settings)
        try:
            return await asyncio.wait_for(story(pool), 60)
        finally:
            await pool.close()
            assert not pool.pids
            assert not [each for each in threading.enumerate() if each.name == "headrace-process"]

    children = set(psutil.Process().children())
    try:
        return asyncio.run(told())
    finally:
        left = [each for each in set(psutil.Process().children()) - children if "worker" in " ".join(each.cmdline())]
        assert not left


def test_results_come_as_json_and_are_each_items_own() -> None:
    """Many items at once, each with its own result, whoever worked on it."""

    async def story(pool: Processes) -> list[Any]:
        call = process_call(work, pool)
        return await asyncio.gather(*(value_of(call, {"n": number}) for number in range(200)))

    assert pooled(story, most=2) == [{"n": number} for number in range(200)]


@pytest.mark.parametrize(("item", "says"), [("exit", "exit status 7"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL")])
def test_a_process_that_dies_takes_one_item_with_it(item: str, says: str) -> None:
    """The item's error says how it died; all others have their results, and the next items too."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        items = [*range(20), item, *range(20, 40)]
        results = await asyncio.gather(*(value_of(call, each) for each in items), return_exceptions=True)
        (error,) = [each for each in results if isinstance(each, BaseException)]
        assert isinstance(error, WorkerDied)
        assert says in str(error)
        assert [each for each in results if each is not error] == list(range(40))
        assert await value_of(call, "after") == "after"

    pooled(story, most=2)


def test_a_process_killed_from_outside_is_replaced() -> None:
    """kill -9 at work costs its item; kill -9 of one that has nothing to do costs nothing."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        first = await value_of(call, "pid")
        assert pool.pids == [first]
        os.kill(first, signal.SIGKILL)
        psutil.Process(first).wait(10) if psutil.pid_exists(first) else None
        second = await value_of(call, "pid")
        assert second != first
        hanging = asyncio.create_task(value_of(call, "hang"))
        await _until(lambda: _busy(second))
        os.kill(second, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL.*memory"):
            await hanging
        assert await value_of(call, "pid") not in (first, second)

    pooled(story, most=1)


def test_errors_come_as_what_they_are() -> None:
    """A plain exception is the function's error; an error of headrace keeps its class, status, wait and raw text; what
    would end a program ends the item."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        with pytest.raises(FunctionError, match="ValueError: not this one"):
            await call(request("raise"))
        with pytest.raises(Throttled) as throttled:
            await call(request("throttled"))
        assert (throttled.value.status, throttled.value.retry_after_s) == (429, 2.5)
        with pytest.raises(Refusal) as refused:
            await call(request("refused"))
        assert refused.value.raw == "I will not \\udc80"
        with pytest.raises(FunctionError, match="SystemExit: 3"):
            await call(request("leave"))
        with pytest.raises(FunctionError, match="returned object, which has no JSON form"):
            await call(request("unusable"))
        assert await value_of(call, "fine") == "fine"

    pooled(story, most=1)


def test_what_a_function_prints_reaches_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither our output nor the way of the results gets a word of it; reading standard input finds its end."""

    async def story(pool: Processes) -> Any:
        return await value_of(process_call(work, pool), "noise")

    assert pooled(story, most=1) == ""
    assert capfd.readouterr() == ("", "")


def test_a_cancelled_call_is_off_at_once() -> None:
    """Its process is gone, and a new one works on what comes next; one that only waited costs no process."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        pid = await value_of(call, "pid")
        hanging = asyncio.ensure_future(call(request("hang")))
        await _until(lambda: _busy(pid))
        waiting = asyncio.ensure_future(call(request("pid")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.pids == [pid]
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 10)
        assert await value_of(call, "pid") != pid

    pooled(story, most=1)


def test_the_pool_grows_with_the_load_and_shrinks_when_idle() -> None:
    """One item needs one process, many need no more than the limit; idle ones end by themselves."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        await call(request(0))
        assert len(pool.pids) == 1
        hanging = [asyncio.ensure_future(call(request("hang"))) for _ in range(5)]
        await _until(lambda: len(pool.pids) == 3)
        for each in hanging:
            each.cancel()
        await asyncio.wait(hanging)
        await call(request(1))
        await _until(lambda: not pool.pids)
        assert await value_of(call, 2) == 2

    pooled(story, most=3, idle_s=0.05)


def test_a_process_is_replaced_after_so_many_items_and_when_it_grew() -> None:
    """No process gets old or fat."""

    async def old(pool: Processes) -> list[int]:
        call = process_call(work, pool)
        return [await value_of(call, "pid") for _ in range(9)]

    async def fat(pool: Processes) -> list[int]:
        call = process_call(work, pool)
        await call(request("first"))
        return [await value_of(call, "grow") for _ in range(6)]

    assert len(set(pooled(old, most=1, most_items=3))) == 3
    assert len(set(pooled(fat, most=1, most_growth=120_000_000))) >= 2


def test_a_function_is_loaded_once_and_several_share_a_pool() -> None:
    """Its module's state stays from item to item; another function goes to the same process."""

    async def story(pool: Processes) -> None:
        call, other = process_call(work, pool), process_call(len, pool)
        assert [await value_of(call, "seen") for _ in range(3)] == [1, 2, 3]
        assert await value_of(other, [1, 2]) == 2
        assert len(pool.pids) == 1

    pooled(story, most=1)


async def later(item: int) -> int:
    await asyncio.sleep(0)
    return item + 1


@pytest.mark.parametrize(
    ("function", "value"),
    [(lambda item: item * 2, 6), (functools.partial(pow, 2), 8), (later, 4), (str.__len__, None)],
    ids=["lambda", "partial", "async", "wrong"],
)
def test_any_function_can_be_sent(function: Callable[[Any], Any], value: Any) -> None:
    """Those without a name of their own too, and async ones."""

    async def story(pool: Processes) -> Any:
        return await value_of(process_call(function, pool), 3)

    if value is None:
        with pytest.raises(FunctionError, match="TypeError"):
            pooled(story, most=1)
    else:
        assert pooled(story, most=1) == value


def test_what_cannot_be_sent_is_told_before_or_as_the_items_error() -> None:
    """A function that holds a lock is refused at once; an item that does is its own error."""
    lock = threading.Lock()

    async def story(pool: Processes) -> None:
        with pytest.raises(UsageError, match="cannot be sent to a process"):
            process_call(lambda item: (lock, item), pool)
        call = process_call(work, pool)
        with pytest.raises(FunctionError, match="item cannot be sent to a process"):
            await call(request(lock))
        assert await value_of(call, 1) == 1

    pooled(story, most=1)


def test_a_function_of_a_module_that_is_not_found_there_stops_the_run() -> None:
    """The sentence says what could not be loaded."""
    module = type(os)("gone_module")
    exec("def gone(item): return item", module.__dict__)
    sys.modules["gone_module"] = module
    try:

        async def story(pool: Processes) -> None:
            with pytest.raises(UsageError, match=r"cannot be loaded in a worker process.*gone_module"):
                await process_call(module.__dict__["gone"], pool)(request(1))

        pooled(story, most=1)
    finally:
        del sys.modules["gone_module"]


def test_a_python_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where processes cannot be started, or end at once, all who wait are told so."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 5\n")
    broken.chmod(0o755)

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        ended = await asyncio.gather(*(call(request(number)) for number in range(5)), return_exceptions=True)
        assert all(isinstance(each, UsageError) for each in ended)
        assert re.search("does not start: (it ended with exit status 5|No such file)", str(ended[0]))

    for executable in (str(broken), str(tmp_path / "nothing")):
        monkeypatch.setattr(sys, "executable", executable)
        pooled(story, most=2)


def test_closing_ends_those_that_work() -> None:
    """Also where they hang; who waits is told, and nothing is left."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        hanging = [asyncio.ensure_future(call(request("hang"))) for _ in range(3)]
        await _until(lambda: len(pool.pids) == 2)
        await pool.close()
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(each, HeadraceError | asyncio.CancelledError) for each in ended)
        with pytest.raises(UsageError, match="closed"):
            await call(request(1))

    pooled(story, most=2)


PROGRAM = """
import asyncio, os, re, sys
from headrace.core.call import Request
from headrace.core.digest import Digest
from headrace.provider.processes import Processes, process_call

def stuck(item):
    re.match("(a+)+$", "a" * 40 + "b")  # holds the interpreter for years

async def main():
    pool = Processes(2)
    print((await process_call(lambda item: os.getpid(), pool)(Request(Digest(bytes(32)), item=1))).text, flush=True)
    call = process_call(stuck, pool)
    calls = [asyncio.ensure_future(call(Request(Digest(bytes(32)), item=n))) for n in range(2)]
    while len(pool.pids) < 2:
        await asyncio.sleep(0)
    print(*pool.pids, flush=True)
    await asyncio.gather(*calls)

asyncio.run(main())
"""


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_no_process_outlives_its_parent(ended: signal.Signals, tmp_path: Path) -> None:
    """Functions of a program without a guard work; when it dies, its processes die, even those that see nothing."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        first = int(parent.stdout.readline())
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert first in [each.pid for each in workers]
        parent.send_signal(ended)
        parent.wait(10)
        assert not psutil.wait_procs(workers, 10)[1]


def test_ctrl_c_is_the_parents() -> None:
    """A worker that is sent SIGINT works on."""

    async def story(pool: Processes) -> None:
        call = process_call(work, pool)
        pid = await value_of(call, "pid")
        os.kill(pid, signal.SIGINT)
        assert await value_of(call, "pid") == pid

    pooled(story, most=1)


def test_a_frame_that_is_cut_is_none(tmp_path: Path) -> None:
    """Whoever dies in the middle of a word has said nothing."""
    file = tmp_path / "frame"
    for data in (b"", b"\x05\0\0\0", b"\x05\0\0\0\0\0\0\0abc"):
        file.write_bytes(data)
        with open(file, "rb") as pipe:
            assert read_frame(pipe) is None


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


def _busy(pid: int) -> bool:
    used = float(psutil.Process(pid).cpu_times().user)
    return used > _USER.setdefault(pid, used + 0.05)


_USER: dict[int, float] = {}
