"""What a call costs beside the bare HTTP client and the OpenAI SDK: CPU, calls/s, wall time over the ideal, memory.

    python benchmarks/overhead.py [--calls 6000] [--rows 1000000] [--quick]

Every contender is a process of its own that sends the same calls to one `headrace simulate` without latency; so the
figures are the client's alone, and ratios of one run compare. headrace does what it always does: typed, validated,
durable, observed.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RETURNS = "label: positive|negative|neutral, score: float 0..1"
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label", "score"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


def prompt(number: int) -> str:
    return f"Sentiment of: row {number} of a table about nothing in particular"


async def bare(url: str, calls: int, in_flight: int) -> None:
    """aiohttp in a loop, nothing else: the floor."""
    import aiohttp

    numbers = iter(range(calls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number in numbers:
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": prompt(number)}],
                    "response_format": FORMAT,
                }
                async with session.post(f"{url}/chat/completions", json=body) as answer:
                    json.loads((await answer.json())["choices"][0]["message"]["content"])

        await asyncio.gather(*[work() for _ in range(in_flight)])


async def sdk(url: str, calls: int, in_flight: int) -> None:
    """The OpenAI SDK under a semaphore, as it is written by hand: untyped, undurable, unobserved."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            reply = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": prompt(number)}],
                response_format=FORMAT,
            )
            json.loads(reply.choices[0].message.content or "")

    await asyncio.gather(*[work() for _ in range(in_flight)])
    await client.close()


async def headrace(url: str, calls: int, in_flight: int) -> None:
    import headrace as hr

    ask = hr.Ask("Sentiment of: {text}", returns=RETURNS, model=hr.Model("openai:m", base_url=url))
    rows = ({"text": prompt(number).removeprefix("Sentiment of: ")} for number in range(calls))
    with tempfile.TemporaryDirectory() as folder:
        made = await hr.arun(ask, rows, name="bench", store=f"{folder}/s.db", limits=hr.Limits(in_flight))
        assert made.ok == calls, made


CLIENTS = {"bare": bare, "sdk": sdk, "headrace": headrace}


def child(args: argparse.Namespace) -> None:
    """One contender: a first tenth to warm up, then what counts."""
    import uvloop

    async def main() -> dict[str, float]:
        client = CLIENTS[args.client]
        await client(args.url, max(200, args.calls // 10), args.in_flight)
        before, start = _cpu_s(), time.perf_counter()
        await client(args.url, args.calls, args.in_flight)
        wall_s = time.perf_counter() - start
        return {"cpu_ms": (_cpu_s() - before) / args.calls * 1000, "per_s": args.calls / wall_s}

    print(json.dumps(uvloop.run(main())))


def measured(client: str, url: str, calls: int, in_flight: int) -> dict[str, float]:
    words = [
        sys.executable,
        __file__,
        "--client",
        client,
        "--url",
        url,
        "--calls",
        str(calls),
        "--in-flight",
        str(in_flight),
    ]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


@contextmanager
def simulate(*words: str) -> Iterator[str]:
    """The provider's base URL, while it runs."""
    command = [sys.executable, "-m", "headrace", "simulate", "--port", "0", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert server.stdout is not None
        yield server.stdout.readline().removeprefix("headrace simulate: ").strip()
    finally:
        server.terminate()
        server.wait()


def per_call(url: str, calls: int, rounds: int) -> None:
    for in_flight in (64, 1000):
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
        for _ in range(rounds):
            for name in CLIENTS:
                few = calls // 4 if name == "sdk" else calls
                runs[name].append(measured(name, url, few, in_flight))
        floor = statistics.median(run["cpu_ms"] for run in runs["bare"])
        print(f"\n{in_flight} in flight, median of {rounds}   CPU ms/call   calls/s   x bare")
        for name, found in runs.items():
            cpu_ms = statistics.median(run["cpu_ms"] for run in found)
            rate = statistics.median(run["per_s"] for run in found)
            print(f"  {name:28} {cpu_ms:12.3f} {rate:9.0f} {cpu_ms / floor:8.2f}")


def wall(rounds: int) -> None:
    """Wall time of a whole run over the ideal, which is calls / in flight x latency; calls take 0.2 s each."""
    print("\nwall time over the ideal, calls of 0.2 s, median of", rounds)
    for in_flight, calls in ((10, 300), (500, 10_000)):
        ideal_s = calls / in_flight * 0.2
        for name in ("bare", "headrace"):
            ratios = []
            for _ in range(rounds):
                with simulate("--latency", "0.2") as url:
                    ratios.append(calls / measured(name, url, calls, in_flight)["per_s"] / ideal_s)
            print(f"  {in_flight:4} in flight  {name:10} {statistics.median(ratios):.3f}")


def memory(rows: list[int]) -> None:
    """Peak memory of a whole run from Python, in process; then the rerun from the store."""
    for count in rows:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, __file__, "--memory", str(count), "--folder", folder]
            for told in ("asked", "from the store"):
                found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                print(f"  {count:9,} rows {told:15} {found['mb']:6.0f} MB {count / found['seconds']:9,.0f} items/s")


def memory_child(args: argparse.Namespace) -> None:
    import headrace as hr
    from headrace.engine.meter import most_memory_bytes

    table = Path(args.folder, "t.csv")
    if not table.exists():
        with table.open("w") as file:
            file.write("id,text\n")
            file.writelines(f"{number},{prompt(number)}\n" for number in range(args.memory))
    start = time.perf_counter()
    ask = hr.Ask("Sentiment of: {text}", returns=RETURNS, model="sim:")
    made = hr.run(ask, table, store=Path(args.folder, "s.db"), limits=hr.Limits(64))
    assert made.ok == args.memory
    seconds = time.perf_counter() - start
    print(json.dumps({"mb": most_memory_bytes() / 2**20, "seconds": seconds}))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--calls", type=int, default=6000)
    words.add_argument("--rows", type=int, default=1_000_000, help="of the largest table of the memory figures")
    words.add_argument("--quick", action="store_true", help="fewer calls, rounds and rows")
    for hidden in ("client", "url", "folder"):
        words.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    for hidden in ("in-flight", "memory"):
        words.add_argument(f"--{hidden}", type=int, help=argparse.SUPPRESS)
    args = words.parse_args()
    if args.client:
        child(args)
    elif args.memory:
        memory_child(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    calls, rounds, rows = (1500, 1, min(args.rows, 50_000)) if args.quick else (args.calls, 3, args.rows)
    with simulate() as url:
        per_call(url, calls, rounds)
    wall(rounds)
    print("\nmemory of a whole run, 64 in flight, a CSV through the simulated provider in process")
    memory([count for count in (20_000, 200_000, 1_000_000) if count <= rows] or [rows])


if __name__ == "__main__":
    main()
