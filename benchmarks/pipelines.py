"""What pipelines gain and cost: stages that overlap, processes for documents, pages that are remembered.

    python benchmarks/pipelines.py [--quick]

Each figure stands beside its ideal and, where one of the five systems of SYSTEMS.md reported one, beside theirs. Sites and
models are simulated on this machine, so ratios count, and seconds only against the latencies that are stated. Where one of
those with a bound is worse than that, the status is 1.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import headrace as hr

LOCAL = ("127.0.0.0/8",)
MISSED: list[str] = []
"""What was worse than its bound."""


def say(what: str, ours: str, ideal: str, reported: str = "-") -> None:
    print(f"  {what:48} {ours:>22} {ideal:>22}   {reported}", flush=True)


def bound(what: str, ours: float, most: float) -> None:
    """Generous: other work on the machine is no reason to fail."""
    if ours > most:
        MISSED.append(f"{what}: {ours:.3g}, at most {most:.3g}")


def head(title: str) -> None:
    print(f"\n{title}")
    say("", "headrace", "ideal", "reported")


def document(number: int, paragraphs: int) -> bytes:
    """A page of about 70 bytes a paragraph, with markup around it as pages have."""
    menu = "".join(f"<li><a href='/{each}'>Page {each}</a></li>" for each in range(60))
    text = "".join(
        f"<div class='row'><p>Paragraph {each} of document {number} says <b>what</b> it <i>says</i>, again.</p></div>"
        for each in range(paragraphs)
    )
    return (
        f"<!doctype html><html><head><title>Document {number}</title><style>p{{}}</style></head><body><nav><ul>{menu}"
        f"</ul></nav><main><h1>Document {number}</h1>{text}</main><footer>{menu}</footer></body></html>"
    ).encode()


async def _site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, paragraphs: int) -> None:
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            number = int("".join(filter(str.isdigit, request.split(b" ", 2)[1].decode())) or 0)
            await asyncio.sleep(delay_s)
            body = document(number, paragraphs)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve(delay_s: float, paragraphs: int) -> None:
    """The site, as a process of its own; says its port."""

    async def main() -> None:
        # all of 127.0.0.0/8 are its hosts
        server = await asyncio.start_server(lambda r, w: _site(r, w, delay_s, paragraphs), "0.0.0.0", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def started(*words: str) -> Iterator[str]:
    """A child process, and the first line that it says."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def site(delay_s: float, paragraphs: int = 60) -> Iterator[int]:
    with started(__file__, "--serve", f"{delay_s},{paragraphs}") as port:
        yield int(port)


@contextmanager
def model(*words: str) -> Iterator[hr.Model]:
    with started("-m", "headrace", "simulate", "--port", "0", *words) as line:
        yield hr.Model("openai:m", base_url=line.removeprefix("headrace simulate: "))


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


async def took(work: Any, items: Any, store: Path, **more: Any) -> tuple[float, hr.Run[Any]]:
    start = time.perf_counter()
    run = await hr.arun(work, items, store=store, progress=False, **more)
    assert run.failed == 0, next(iter(run.failures()))
    return time.perf_counter() - start, run


def waiting(seconds: float, name: str) -> hr.Map[Any]:
    async def wait(_row: Any) -> dict[str, bool]:
        await asyncio.sleep(seconds)
        return {name: True}

    return hr.Map(wait, concurrency=10)


async def overlap(items: int, rounds: int) -> None:
    """Three stages of 50, 100 and 50 ms at ten at once."""
    head(f"Overlap: {items} items through three stages of 50, 100 and 50 ms, ten at a time in each")
    rows = [{"n": number} for number in range(items)]
    ideal_s = items / 10 * 0.1
    lined, apart = [], []
    for _ in range(rounds):
        async with folder() as there:
            stages = [waiting(0.05, "a"), waiting(0.1, "b"), waiting(0.05, "c")]
            lined.append((await took(hr.Pipeline(*stages), rows, there / "a.db"))[0])
            alone_s, given = 0.0, rows
            for stage in stages:
                seconds, run = await took(stage, given, there / "b.db")
                alone_s, given = alone_s + seconds, [{**each.item, **(each.value or {})} for each in run]
            apart.append(alone_s)
    say("one pipeline", f"{statistics.median(lined):.2f} s", f"{ideal_s:.2f} s, the slowest's")
    say("stage by stage", f"{statistics.median(apart):.2f} s", f"{2 * ideal_s:.2f} s, the sum")
    say("gain", f"{statistics.median(apart) / statistics.median(lined):.2f} x", "2.00 x")
    bound("seconds of one pipeline", min(lined), 1.25 * ideal_s)


async def processes(count: int) -> None:
    """The same reader in one thread, in threads, in processes."""
    head(f"HTML extraction: {count} pages of 30 KB, cores: {os.cpu_count()}")
    from headrace.data.extract import read_document

    options = {"max_chars": 10_000, "keep": ("title", "text"), "max_pages": 500, "max_bytes": 10_000_000}
    rows = [
        {"body": document(number, 300).decode(), "content_type": "text/html", "charset": "utf-8", "url": "", **options}
        for number in range(count)
    ]
    found: dict[str, float] = {}
    async with folder() as there:
        for mode in ("sync", "thread", "process"):
            work = hr.Map(read_document, mode=mode)
            await took(work, rows[:4], there / f"w{mode}.db")  # what is imported once
            found[mode] = (await took(work, rows, there / f"{mode}.db"))[0]
    cores = float(os.cpu_count() or 1)
    say("one after another", f"{found['sync']:.2f} s", "1.00 x")
    say("threads", f"{found['sync'] / found['thread']:.2f} x", "1.00 x, one interpreter")
    say(
        "processes",
        f"{found['sync'] / found['process']:.2f} x",
        f"{cores:.2f} x, the cores",
        "D: process 2.64 x, simulated",
    )
    bound("seconds in processes", found["process"], found["sync"] / (0.7 * cores))


async def remembered(pages: int) -> None:
    """What a page costs that the store has."""
    head(f"A remembered page: {pages} pages of 7 KB, fetched before")
    with site(0.0) as port:
        rows = [{"url": f"http://127.0.0.1:{port}/{number}"} for number in range(pages)]
        fetch = hr.Fetch(allow=LOCAL, per_host=64)
        async with folder() as there:
            first_s, _ = await took(fetch, rows, there / "s.db", name="first")
            again_s, run = await took(fetch, rows, there / "s.db", name="again")
            assert all(outcome.cached for outcome in run)
            one_s = (await took(fetch, rows[:1], there / "s.db", name="one"))[0]
    say("fetched anew, a page", f"{1000 * first_s / pages:.2f} ms", "the site's time")
    say("from the store, a page (A3)", f"{1000 * again_s / pages:.3f} ms", "< 1 ms", "A: < 1 ms against 5-10 s")
    bound("milliseconds of a remembered page", 1000 * again_s / pages, 1.0)
    say("a whole run over one page, start to end", f"{1000 * one_s:.0f} ms", "-")


async def domains(*, quick: bool) -> None:
    """192 responses, each citing a domain of its own; a site answers in 0.5 s, a model in 0.5 s."""
    count, delay_s = (48, 0.5) if quick else (192, 0.5)
    head(f"An audit's analysis: {count} responses with {count} domains, a site and a model answer in {delay_s:g} s")
    with site(delay_s) as port, model("--latency", str(delay_s)) as asked:
        hosts = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(count)]
        rows = [{"n": number, "url": f"http://{host}:{port}/{number}"} for number, host in enumerate(hosts)]
        pipeline = hr.Pipeline(
            hr.Fetch(by="domain", allow=LOCAL), hr.Extract(),
            hr.Ask("What does response {n} cite? {text}", model=asked, concurrency=10),
        )  # fmt: skip
        async with folder() as there:
            cold_s = (await took(hr.Pipeline(*pipeline.stages[:1]), rows, there / "f.db"))[0]
            whole_s, _ = await took(pipeline, rows, there / "s.db")
            half = hr.Pipeline(*pipeline.stages[:1])
            await took(half, rows[: count // 2], there / "h.db", name="half")
            half_s = (await took(half, rows, there / "h.db", name="all"))[0]
    pages_s, asks_s = -(-count // 64) * delay_s, -(-count // 10) * delay_s
    say(
        "fetch alone, 64 hosts at a time",
        f"{cold_s:.1f} s",
        f"{pages_s:.1f} s",
        "A: 192 domains 32 min -> 16 min (10 s, 5 s each)",
    )
    bound("seconds of fetching, reading and asking", whole_s, 1.5 * asks_s)
    say("the same, half of them remembered", f"{half_s:.1f} s", f"{-(-count // 128) * delay_s:.1f} s", "A: 8 min")
    say("fetch, read and ask, ten asked at a time", f"{whole_s:.1f} s", f"{asks_s:.1f} s, the model's", "A: 5-10 min")
    say(
        "responses a second",
        f"{count / whole_s:.1f}/s",
        f"{count / asks_s:.1f}/s",
        "A: 0.05/s -> 0.3-0.5/s, calls of 20-30 s",
    )


def documents(count: int) -> None:
    """Whole runs in a process of their own each, for its memory."""
    head(
        f"Documents end to end (D12): {count} of 30 KB and two of 1 MB: fetched (50 ms), read, asked three times (0.2 s)"
    )
    with site(0.05, 300) as port, site(0.05, 10_000) as large, model("--latency", "0.2") as asked:
        for name, files in ((f"{count} documents", count), (f"{count} documents and two large", count + 2)):
            words = [__file__, "--documents", f"{port},{large},{asked.base_url},{count},{files}"]
            ended = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
            found = json.loads(ended.stdout)
            ideal = f"{max(found['cpu_s'] / (os.cpu_count() or 1), 0.45 + count * 3 / 30 * 0.2):.1f} s"
            say(name, f"{found['seconds']:.1f} s", ideal, "D: async 2.33 x over one by one")
            say("  over one by one", f"{found['alone_s'] / found['seconds']:.1f} x", "-", "2.33 x")
            say(
                "  memory, this process and its workers",
                f"{found['mb']:.0f} + {found['workers_mb']:.0f} MB",
                "bounded",
                "A9: 500 MB in all",
            )


async def documents_child(given: str) -> None:
    port, large, url, count, files = given.split(",")
    model = hr.Model("openai:m", base_url=url)
    rows = [{"n": n, "url": f"http://127.0.0.1:{port if n < int(count) else large}/{n}"} for n in range(int(files))]
    asks = [
        hr.Ask(f"{what} of {{n}}? {{text}}", model=model, name=what, concurrency=10)
        for what in ("Topic", "Risk", "Sum")
    ]
    pipeline = hr.Pipeline(hr.Fetch(allow=LOCAL, per_host=16, max_bytes=20_000_000), hr.Extract(), *asks)
    async with folder() as there:
        one = 0.0
        for row in rows[:3]:  # one by one, without what a run costs to begin
            one += (await took(pipeline, [row], there / f"one{row['n']}.db"))[0]
        before = _cpu_s()
        seconds, _ = await took(pipeline, rows, there / "s.db")
        cpu_s = _cpu_s() - before
    own, workers = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        json.dumps(
            {"seconds": seconds, "alone_s": one / 3 * len(rows), "mb": own, "workers_mb": workers, "cpu_s": cpu_s}
        )
    )


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


async def measure(*, quick: bool) -> None:
    await overlap(100 if quick else 300, 1 if quick else 3)
    await processes(40 if quick else 200)
    await remembered(300 if quick else 2000)
    await domains(quick=quick)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="fewer items and rounds")
    words.add_argument("--serve", help=argparse.SUPPRESS)
    words.add_argument("--documents", help=argparse.SUPPRESS)
    args = words.parse_args()
    if args.serve:
        delay_s, paragraphs = args.serve.split(",")
        serve(float(delay_s), int(paragraphs))
    elif args.documents:
        asyncio.run(documents_child(args.documents))
    else:
        asyncio.run(measure(quick=args.quick))
        documents(20 if args.quick else 100)
        if MISSED:
            raise SystemExit(f"Worse than its bound: {'; '.join(MISSED)}.")


if __name__ == "__main__":
    main()
