"""`hr.run` where a loop runs already, as in a notebook: interrupting the cell ends the run."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, os, signal, sys, threading
import headrace as hr

begun = []
interrupted = threading.Event()

async def slow(item):
    begun.append(item)
    if len(begun) == 20:
        os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0)
    return item

async def cell():
    try:
        hr.run(slow, range(100_000), limits=hr.Limits(concurrency=10), store=sys.argv[1])
    except KeyboardInterrupt:
        return len(begun), threading.active_count()

loop = asyncio.new_event_loop()
at_interrupt, threads = loop.run_until_complete(cell())
print(at_interrupt, threads, not any(thread.name == "headrace-run" for thread in threading.enumerate()), len(begun))
"""


def test_an_interrupted_cell_ends_its_run(tmp_path: Path) -> None:
    """Ctrl-C while `hr.run` waits for its thread cancels the run: when it returns, no call is made any more."""
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "s.db")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    begun, _, gone, begun_later = ended.stdout.split()
    assert gone == "True"
    assert begun == begun_later
    assert int(begun) < 1000
