"""What the meter reads of the process itself."""

import subprocess
import sys

import pytest

PARENT = """
import subprocess, sys
held = bytearray(150 * 2**20)
held[::4096] = b"x" * len(held[::4096])
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
CHILD = "from headrace.engine.meter import most_memory_bytes; print(most_memory_bytes())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with nothing of its parent's")
def test_the_memory_told_is_of_this_process_alone() -> None:
    """A program that a large one starts does not tell the large one's memory as its own."""
    told = subprocess.run([sys.executable, "-c", PARENT, CHILD], check=True, capture_output=True, text=True).stdout
    assert 2**20 < int(told) < 120 * 2**20
