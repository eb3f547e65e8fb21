"""How soon a person sees something: the help, the first call of a run, and a whole small run, imports included.

    python benchmarks/startup.py [--rounds 9]

Each is a process of its own, timed from outside from its start. CPU is what the process and its threads used: on a busy
machine it says more than the clock. 91 calls of half a second, ten at a time, take 5 s at best. Where even the least of
all rounds is over the target, the status is 1.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RETURNS = "label: positive|negative|neutral, score: float 0..1"
CALLS, CALL_S, IN_FLIGHT = 91, 0.5, 10

Took = tuple[float, float]
"""Wall and CPU seconds."""


def waited(process: "subprocess.Popen[bytes]", start: float) -> Took:
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def the_command(*words: str) -> Took:
    start = time.perf_counter()
    return waited(subprocess.Popen([sys.executable, "-m", "headrace", *words], stdout=subprocess.DEVNULL), start)


def an_empty_python() -> Took:
    start = time.perf_counter()
    return waited(subprocess.Popen([sys.executable, "-c", "pass"]), start)


def first_call() -> Took:
    """To the first byte at the provider; the CPU until then is not to be had from outside."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "t.csv").write_text("text\nhello\n")
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        words = ["run", "t.csv", "--ask", "Sentiment of: {text}", "--returns", RETURNS, "--model", "openai:m"]
        words += ["--base-url", url]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "headrace", *words, "--quiet"], cwd=folder)
        connection, _ = server.accept()
        connection.recv(1)
        seconds = time.perf_counter() - start
        process.kill()
        connection.close()
        return seconds, waited(process, start)[1]


def small_run() -> Took:
    command = [sys.executable, "-m", "headrace", "simulate", "--port", "0", "--latency", str(CALL_S)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("headrace simulate: ").strip()
        Path(folder, "t.csv").write_text("text\n" + "".join(f"row {number}\n" for number in range(CALLS)))
        words = ["run", "t.csv", "--ask", "{text}", "--model", "openai:m", "--base-url", url]
        words += ["--concurrency", str(IN_FLIGHT), "-o", "out.csv", "--quiet"]
        start = time.perf_counter()
        took = waited(subprocess.Popen([sys.executable, "-m", "headrace", *words], cwd=folder), start)
        assert Path(folder, "out.csv").read_text().count("\n") == CALLS + 1
        server.terminate()
        return took


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=9)
    rounds = words.parse_args().rounds
    cases: list[tuple[str, float, Callable[[], Took]]] = [
        ("an empty Python", 0.0, an_empty_python),
        ("headrace --help", 0.3, lambda: the_command("--help")),
        ("headrace run --help", 0.3, lambda: the_command("run", "--help")),
        ("start to first call", 0.5, first_call),
        (f"{CALLS} calls of {CALL_S} s, {IN_FLIGHT} at a time", 5.5, small_run),
    ]
    print(f"seconds, median of {rounds} {'wall':>24} {'least':>7} {'CPU':>6} {'target':>7}")
    slow: list[str] = []
    for name, target, case in cases:
        took = [case() for _ in range(rounds)]
        wall_s, cpu_s = (statistics.median(each[place] for each in took) for place in (0, 1))
        print(f"  {name:40} {wall_s:7.3f} {min(took)[0]:7.3f} {cpu_s:6.3f} {target or '':>7}", flush=True)
        slow += [name] if target and min(took)[0] > target else []
    if slow:
        raise SystemExit(f"Over the target: {', '.join(slow)}.")


if __name__ == "__main__":
    main()
