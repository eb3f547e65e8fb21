"""How many requests a second `headrace simulate` answers on one core over HTTP, by the processor time of its process.

    python benchmarks/provider.py [--calls 20000] [--connections 64] [--rounds 3]

One client of bare sockets keeps a call on each connection. By processor time, because on a small machine client and
server share the cores: what a core of its own would answer. The best round of each counts, since what else runs on
the machine can only slow it down. The target is 8,000 with limits and headers on.
"""

import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

TARGET = 8_000
LIMITS = ("--limit", "requests=900000000/60", "--limit", "tokens=900000000000/60,charge=admission")
ROWS = {
    "plain": (),
    "two limits, sliding": LIMITS,
    "two limits, sliding, OpenAI's headers": (*LIMITS, "--headers", "openai"),
    "bucket and calls in flight, Anthropic's headers": (
        "--limit", "requests=900000000/60,kind=bucket", "--limit", "concurrency=100000", "--headers", "anthropic",
    ),
    "latency, tail, knee, faults by chance": (
        "--latency", "lognormal:0.002,0.5", "--tail", "0.01=0.01", "--knee", "100000", "--faults", "500=0.0001",
    ),
    "everything refused, OpenAI's headers": ("--limit", "requests=1/600,refused=counted", "--headers", "openai"),
}  # fmt: skip


@contextmanager
def simulate(*words: str) -> Iterator[tuple[str, int]]:
    """Where it listens, and its process."""
    command = [sys.executable, "-m", "headrace.sim.command", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().removeprefix("headrace simulate: ").strip(), server.pid
        finally:
            server.terminate()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(number: int) -> bytes:
    """A call as a client sends it: some 500 bytes, each another."""
    messages = [
        {"role": "system", "content": "You are a careful analyst of short texts."},
        {"role": "user", "content": f"Sentiment of item {number}: the water is fine, if a little cold for the season."},
    ]
    body = json.dumps({"model": "m", "messages": messages, "temperature": 0, "max_tokens": 200}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer none\r\n"
        "User-Agent: benchmark\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answered(got: bytes) -> bool:
    """Whether a whole answer is there."""
    head, found, body = got.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


def drive(url: str, calls: list[bytes], connections: int) -> None:
    """Send all calls, one at a time on each connection."""
    address = urlsplit(url)
    waiting = iter(calls)
    got: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for _, first in zip(range(connections), waiting, strict=False):
            own = socket.create_connection((address.hostname, address.port))
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(own, selectors.EVENT_READ)
            got[own] = b""
            own.sendall(first)
        while got:
            for key, _ in selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                got[ready] += ready.recv(65536)
                if not answered(got[ready]):
                    continue
                got[ready] = b""
                if (following := next(waiting, None)) is not None:
                    ready.sendall(following)
                    continue
                selector.unregister(ready)
                ready.close()
                del got[ready]


def measured(words: tuple[str, ...], calls: list[bytes], connections: int) -> tuple[float, float]:
    """Requests a second of the server's own time, and of wall time."""
    with simulate(*words) as (url, pid):
        drive(url, calls[: len(calls) // 10], connections)
        before, start = cpu_s(pid), time.perf_counter()
        drive(url, calls, connections)
        wall_s = time.perf_counter() - start
        return len(calls) / (cpu_s(pid) - before), len(calls) / wall_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        print("This benchmark reads /proc, which this system does not have.")
        return
    calls = [request(number) for number in range(args.calls)]
    print(f"{'requests/s':50} {'per core':>9} {'wall':>9}")
    slow = []
    for name, words in ROWS.items():
        per_core, wall = max(measured(words, calls, args.connections) for _ in range(args.rounds))
        print(f"{name:50} {per_core:9,.0f} {wall:9,.0f}", flush=True)
        if per_core < TARGET:
            slow.append(name)
    if slow:
        print(f"below the target of {TARGET:,}: {', '.join(slow)}")


if __name__ == "__main__":
    main()
