"""Sources that block, trickle, fail or are left early: real threads, real pipes, and virtual time for async ones."""

import asyncio
import contextlib
import gzip
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.core.errors import UsageError
from headrace.core.item import Item
from headrace.data.feed import AHEAD_ITEMS, BATCH_ITEMS
from headrace.data.source import open_source
from headrace.sim.loop import run as run_virtually

PATIENCE_S = 20.0
"""Only to end a test that hangs."""


def feeding() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "headrace-source"]


def all_ended() -> bool:
    for thread in feeding():
        thread.join(PATIENCE_S)
    return not feeding()


def run(main: Any) -> Any:
    async def patient() -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await main

    return asyncio.run(patient())


# ---- sync iterators


def test_a_generator_that_blocks_does_not_block_the_loop() -> None:
    """Each item arrives as it comes, while the next one is waited for and the loop goes on."""
    gates = [threading.Event() for _ in range(3)]

    def slow() -> Iterator[int]:
        for number, gate in enumerate(gates):
            gate.wait(PATIENCE_S)
            yield number

    async def main() -> list[list[int]]:
        seen: list[list[int]] = []
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        batches = aiter(open_source(slow()))
        for gate in gates:
            waiting = asyncio.ensure_future(anext(batches))
            before = ticks
            while ticks < before + 10:
                await asyncio.sleep(0)
            assert not waiting.done()
            gate.set()
            seen.append([item.data for item in await waiting])
        assert [batch async for batch in batches] == []
        ticking.cancel()
        return seen

    assert run(main()) == [[0], [1], [2]]
    assert all_ended()


def test_a_fast_generator_comes_in_full_batches() -> None:
    """All items once, in order, in batches of at most 256 that are mostly full."""

    async def main() -> list[list[Item]]:
        return [batch async for batch in open_source(iter(range(50_000)))]

    batches = run(main())
    assert [item.data for batch in batches for item in batch] == list(range(50_000))
    assert max(map(len, batches)) == BATCH_ITEMS
    assert len(batches) < 1000


@pytest.mark.parametrize("after", [0, 1, 255, 256, 512, 1000])
def test_an_error_of_the_iterator_arrives_after_its_items(after: int) -> None:
    """What it gave before it failed is delivered; then its own error is raised."""

    def failing() -> Iterator[int]:
        yield from range(after)
        raise ZeroDivisionError("mine")

    async def main() -> None:
        async for batch in open_source(failing()):
            seen.extend(item.data for item in batch)

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match="mine"):
        run(main())
    assert seen == list(range(after))
    assert all_ended()


def test_read_ahead_is_bounded_in_number() -> None:
    """While nobody takes, the iterator is pulled for two batches and no further; then it goes on."""
    pulled = 0

    def counting() -> Iterator[int]:
        nonlocal pulled
        for number in range(5000):
            pulled += 1
            yield number

    async def main() -> int:
        batches = aiter(open_source(counting()))
        count = len(await anext(batches))
        while pulled < count + AHEAD_ITEMS + 1:
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        async for batch in batches:
            count += len(batch)
            assert pulled <= count + AHEAD_ITEMS + 1
        return count

    assert run(main()) == 5000


def test_read_ahead_is_bounded_in_bytes() -> None:
    """Items of a megabyte are held by the few, in the feed and in a batch."""
    pulled = 0

    def heavy() -> Iterator[str]:
        nonlocal pulled
        for number in range(64):
            pulled += 1
            yield f"{number:07d}" * 150_000

    async def main() -> None:
        taken = 0
        async for batch in open_source(heavy()):
            taken += len(batch)
            assert len(batch) <= 3
            assert pulled <= taken + 10
        assert taken == 64

    run(main())


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """Reading 40 MB holds a few."""
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("a,b\n")
        for number in range(40_000):
            file.write(f"{number},{'x' * 1000}\n")

    async def main() -> int:
        count = 0
        async for batch in open_source(path):
            count += len(batch)
        return count

    tracemalloc.start()
    try:
        assert run(main()) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["aclose", "cancel"])
def test_stopping_early_ends_the_thread(way: str) -> None:
    """Closing or cancelling the consumer ends the thread, though the iterator is endless; nothing more is pulled."""
    pulled = 0
    closed = threading.Event()

    def endless() -> Iterator[int]:
        nonlocal pulled
        try:
            while True:
                pulled += 1
                yield pulled
        finally:
            closed.set()

    async def main() -> None:
        batches: Any = aiter(open_source(endless()))
        await anext(batches)
        if way == "aclose":
            await batches.aclose()
            return

        async def consume() -> None:
            async for _ in batches:
                await asyncio.Event().wait()

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await batches.aclose()

    run(main())
    assert all_ended()
    assert closed.wait(PATIENCE_S)
    assert pulled <= 2 * AHEAD_ITEMS


def test_stopping_while_the_iterator_blocks() -> None:
    """Cancelling a consumer that waits returns at once; the thread ends when the iterator gives its next item."""
    gate = threading.Event()
    begun = threading.Event()

    def stuck() -> Iterator[int]:
        begun.set()
        gate.wait(PATIENCE_S)
        yield 1
        raise AssertionError("pulled after it was closed")

    async def main() -> None:
        batches: Any = aiter(open_source(stuck()))
        task = asyncio.ensure_future(anext(batches))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await batches.aclose()

    run(main())
    assert len(feeding()) == 1
    gate.set()
    assert all_ended()


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    """A source left behind with its loop does not keep a thread pulling for ever."""
    gate = threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        gate.wait(PATIENCE_S)
        yield from iter(int, 1)

    loop = asyncio.new_event_loop()
    batches: Any = aiter(open_source(slow()))
    assert len(loop.run_until_complete(anext(batches))) == 1
    waiting = loop.create_task(anext(batches))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()
    gate.set()
    assert all_ended()


def test_two_readers_at_once(tmp_path: Path) -> None:
    """One file read by two consumers of one source at the same time gives each all of it."""
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "".join(f"{number}\n" for number in range(3000)))
    source = open_source(path)

    async def count() -> int:
        return sum([len(batch) async for batch in source])

    async def main() -> list[int]:
        return list(await asyncio.gather(count(), count()))

    assert run(main()) == [3000, 3000]


# ---- async iterators, in virtual time


def test_async_items_come_as_they_are_ready() -> None:
    """What trickles comes one by one, what is ready comes together, and no thread is needed."""

    async def bursts() -> AsyncIterator[int]:
        for burst in (1, 1, 5, 600, 1):
            await asyncio.sleep(1)
            for number in range(burst):
                yield number

    async def main() -> tuple[list[int], list[float]]:
        sizes, times = [], []
        async for batch in open_source(bursts()):
            sizes.append(len(batch))
            times.append(asyncio.get_running_loop().time())
        return sizes, times

    sizes, times = run_virtually(main())
    assert sizes == [1, 1, 5, 256, 256, 88, 1]
    assert times == [1, 2, 3, 4, 4, 4, 5]


def test_async_read_ahead_is_bounded() -> None:
    """A consumer that is slow holds the iterator back at one batch."""
    pulled = 0

    async def fast() -> AsyncIterator[int]:
        nonlocal pulled
        for number in range(2000):
            pulled += 1
            yield number

    async def main() -> int:
        taken = 0
        async for batch in open_source(fast()):
            taken += len(batch)
            await asyncio.sleep(10)
            assert pulled <= taken + BATCH_ITEMS
        return taken

    assert run_virtually(main()) == 2000


def test_async_errors_arrive_after_the_items() -> None:
    """As with generators: first what was given, then the iterator's own error; a bad item is a UsageError."""

    async def failing(last: Any) -> AsyncIterator[Any]:
        for number in range(300):
            yield number
        if last is None:
            raise ZeroDivisionError("mine")
        yield last

    async def main(last: Any) -> None:
        async for batch in open_source(failing(last)):
            seen.extend(batch)

    for last, error in ((None, ZeroDivisionError), (object(), UsageError)):
        seen: list[Item] = []
        with pytest.raises(error):
            run_virtually(main(last))
        assert len(seen) == 300


@pytest.mark.parametrize("way", ["first", "aclose", "cancel"])
def test_async_generators_are_closed(way: str) -> None:
    """Stopping early closes the generator in the task that read it, and leaves no task behind."""
    story: list[str] = []

    async def endless() -> AsyncIterator[int]:
        reader = asyncio.current_task()
        try:
            number = 0
            while True:
                await asyncio.sleep(1)
                yield number
                number += 1
        finally:
            await asyncio.sleep(1)
            story.append("closed" if asyncio.current_task() is reader else "closed elsewhere")

    async def main() -> int:
        batches: Any = aiter(open_source(endless(), first=3 if way == "first" else None))
        if way == "first":
            return sum([len(batch) async for batch in batches])
        await anext(batches)
        if way == "aclose":
            await batches.aclose()
        else:
            task = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len(asyncio.all_tasks()) == 1
        return 3

    assert run_virtually(main()) == 3
    assert story == ["closed"]


def test_an_async_iterable_that_is_no_generator() -> None:
    """Anything with __aiter__ and __anext__ does, and is not closed: it is its owner's."""

    class Queue:
        def __init__(self) -> None:
            self.given = 0

        def __aiter__(self) -> "Queue":
            return self

        async def __anext__(self) -> int:
            await asyncio.sleep(1)
            self.given += 1
            return self.given

        async def aclose(self) -> None:
            raise AssertionError("closed by another")

    queue = Queue()

    async def main() -> list[int]:
        return [item.data async for batch in open_source(queue, first=2) for item in batch]

    assert run_virtually(main()) == [1, 2]
    assert queue.given == 2


def test_lists_need_no_thread() -> None:
    """Lists and tuples are read in virtual time."""

    async def main(items: Any) -> int:
        return sum([len(batch) async for batch in open_source(items)])

    assert run_virtually(main(list(range(300)))) == 300
    assert run_virtually(main(tuple(range(300)))) == 300


# ---- standard input

CHILD = """
import asyncio, sys
from headrace.core.errors import HeadraceError
from headrace.data.source import open_source
from headrace.data.table import Table

async def main():
    options = eval(sys.argv[1])
    source = open_source(Table("-", **options.pop("how", {})), **options)
    if source.notices:
        print(*source.notices, flush=True)
    print("open", source.fields, repr(source.name), flush=True)
    async for batch in source:
        print([(item.key, item.data) for item in batch], flush=True)
    print("end", flush=True)

try:
    asyncio.run(main())
except HeadraceError as error:
    print("error", error, flush=True)
"""


class Child:
    def __init__(self, options: str = "{}", code: str = CHILD) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def end(self) -> tuple[str, str]:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return out.decode(), err.decode()


@pytest.fixture
def child() -> Iterator[Any]:
    made: list[Child] = []

    def make(*arguments: Any) -> Child:
        made.append(Child(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_stdin_json_lines_come_one_by_one(child: Any) -> None:
    """From a pipe that stays open each line is an item as soon as it is whole."""
    process = child("{'key': 'id'}")
    process.send(b'\xef\xbb\xbf\n {"id": 1, "t": "a"}\n')
    assert process.line() == "open ('id', 't') ''"
    assert process.line() == "[('1', {'id': 1, 't': 'a'})]"
    process.send(b'{"id": 2}\n{"id"')
    assert process.line() == "[('2', {'id': 2})]"
    process.send(b': "\xc3')
    process.send(b'\xbc"}\n')
    assert process.line() == "[('\u00fc', {'id': '\u00fc'})]"
    assert process.end() == ("end\n", "")
    assert process.process.returncode == 0


def test_stdin_csv_comes_row_by_row(child: Any) -> None:
    """What begins as no JSON is CSV; its header is known at opening, before there is a row."""
    process = child("{'key': 'id', 'name': 'mine', 'first': 3}")
    process.send(b"id,t\r\n")
    assert process.line() == "open ('id', 't') 'mine#first=3'"
    process.send(b'1,"a\nb"\r\n')
    assert process.line() == "[('1', {'id': '1', 't': 'a\\nb'})]"
    process.send(b"2,x\n")
    assert process.line() == "[('2', {'id': '2', 't': 'x'})]"
    # the third ends it, though the pipe stays open
    process.send(b"3,y\n")
    assert process.line() == "[('3', {'id': '3', 't': 'y'})]"
    assert process.line() == "end"
    assert process.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "error Standard input is empty."),
        (b" \n\n", "error Standard input is empty."),
        (b'{"a":\n', "error Standard input, line 1: no valid JSON"),
        (b"a,b\n", "error Standard input has a header but no rows."),
        (b"a,b\n1,2\n3\n", "error Standard input, line 3: expected 2 fields"),
        (b"a,b\n\xc3\xa4,\xff\n", "error Standard input, line 2, byte 4 (0xff) is no UTF-8"),
        (b"a,b\n1,\0\n", "error Standard input, line 2: there is a NUL byte"),
    ],
)
def test_bad_stdin_is_told(child: Any, sent: bytes, told: str) -> None:
    """One sentence each, as for a file."""
    process = child()
    process.send(sent)
    out, err = process.end()
    assert told in out
    assert err == ""


def test_stdin_may_be_an_array(child: Any) -> None:
    """Each value is an item as soon as it is whole; a header with brackets is one of CSV."""
    process = child("{'key': 'id'}")
    process.send(b'[\n{"id": 1}')
    assert process.line() == "open ('id',) ''"
    assert process.line() == "[('1', {'id': 1})]"
    process.send(b',\n {"id": "]"}')
    assert process.line() == "[(']', {'id': ']'})]"
    process.send(b', {"id": 3}]\n')
    assert process.line() == "[('3', {'id': 3})]"
    assert process.end() == ("end\n", "")
    process = child("{'key': '[id]'}")
    process.send(b"[id],[text]\n1,x\n")
    assert process.end()[0].splitlines()[1] == "[('1', {'[id]': '1', '[text]': 'x'})]"
    process = child()
    process.send(b"[1, 2] [3]")
    assert "error Standard input, line 1, character 8: no valid JSON" in process.end()[0]


@pytest.mark.parametrize("text", ["a,b\n1,ü\n", '[{"a": "1", "b": "ü"}]', '{"a": "1", "b": "ü"}\n'])
def test_stdin_in_any_packing_and_encoding(child: Any, text: str) -> None:
    """Archives and marks are known by their first bytes; what was guessed is told."""
    for content in (
        text.encode("utf-32"),
        gzip.compress(text.encode("utf-8-sig")),
        pa.compress(text.encode("utf-16"), "zstd", asbytes=True),
    ):
        process = child("{'first': 1}")
        process.send(content)
        out, err = process.end()
        assert out.splitlines()[0] == "open ('a', 'b') ''"
        assert "{'a': '1', 'b': 'ü'}" in out
        assert err == ""
    process = child()
    process.send(text.encode("cp1252"))
    out, _ = process.end()
    assert "Standard input is not UTF-8; it was read as Windows-1252." in out.splitlines()[0]
    assert "{'a': '1', 'b': 'ü'}" in out
    process = child("{'how': {'encoding': 'cp850'}}")
    process.send(text.encode("cp850"))
    out, _ = process.end()
    assert out.startswith("open")
    assert "{'a': '1', 'b': 'ü'}" in out


def test_stdin_with_a_stated_delimiter_is_csv(child: Any) -> None:
    """Also where it begins like JSON; without one it is found."""
    process = child("{'how': {'delimiter': ';'}}")
    process.send(b"{a;b\n1;2\n")
    out, _ = process.end()
    assert "open ('(a', 'b')" in out
    assert "{'(a': '1', 'b': '2'}" in out
    process = child()
    process.send(b"sep=|\na|b\n")
    assert process.line() == "open ('a', 'b') ''"
    process.send(b"1|2\n")
    assert "{'a': '1', 'b': '2'}" in process.line()


def test_a_cut_archive_on_stdin_is_told(child: Any) -> None:
    """After the rows that came before."""
    process = child()
    packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % n for n in range(100_000)))
    out, err = process.process.communicate(packed[:-50], timeout=PATIENCE_S)
    assert b"'a': '50000'" in out
    assert b"error Standard input ends in the middle of its gzip data" in out
    assert err == b""


def test_stdin_is_read_once(child: Any) -> None:
    """A second reading of standard input is refused, not empty."""
    process = child("{}", CHILD.replace('    print("end"', '    async for batch in source: pass\n    print("end"'))
    process.send(b"a\n1\n")
    out, _ = process.end()
    assert "only once" in out


def test_a_process_ends_while_stdin_blocks(child: Any) -> None:
    """An interpreter whose source still waits for standard input ends at once and quietly."""
    code = CHILD.replace("        print([", "        sys.exit(5)\n        print([")
    process = child("{}", code)
    process.send(b"a\n1\n")
    assert process.line().startswith("open")
    assert process.process.wait(PATIENCE_S) == 5
    assert process.end() == ("", "")


def test_a_large_stdin_is_whole(child: Any) -> None:
    """50,000 rows through a pipe arrive all and in order."""
    code = CHILD.replace(
        "        print([(item.key, item.data) for item in batch], flush=True)", "        seen.extend(batch)"
    )
    code = code.replace('print("open"', 'seen = []; print("open"').replace(
        'print("end"', 'print(len(seen), all(item.data["n"] == str(item.position) for item in seen)'
    )
    process = child("{}", code)
    out, _ = process.process.communicate(b"n\n" + b"".join(b"%d\n" % n for n in range(50_000)), timeout=PATIENCE_S)
    assert out.decode().splitlines()[-1] == "50000 True"
