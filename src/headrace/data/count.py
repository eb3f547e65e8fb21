"""How many rows a text file has, fast enough to know before the first is asked about. Enters a path, leaves a number.

A forecast for the display, never a promise: blank lines count, and a file that changes is counted as it was.
"""

from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 64 * 1024 * 1024
"""Counting more would hold up the first call."""
_CHUNK_BYTES = 1024 * 1024


def csv_rows(path: Path) -> int | None:
    """Lines below the header that end outside quotes: an even number of quotes stands before their end."""
    ends, quoted, last = 0, False, b""
    for chunk in _chunks(path):
        parts = chunk.split(b'"')
        ends += sum(part.count(b"\n") for part in parts[quoted::2])
        quoted ^= len(parts) % 2 == 0
        last = chunk
    return max(0, ends - 1 + (not last.endswith(b"\n"))) if ends else None


def lines(path: Path) -> int | None:
    ends, last = 0, b"\n"
    for chunk in _chunks(path):
        ends += chunk.count(b"\n")
        last = chunk
    return (ends + (not last.endswith(b"\n"))) or None


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError:  # whoever reads the rows will say so
        return
