"""Bytes as they come from a file or a pipe become whole lines, without waiting for more than a line needs.

Knows no format.
"""

import io
import select
from collections.abc import Generator, Iterator
from pathlib import Path

from headrace.core.errors import InputError
from headrace.data.encoding import nul

MAX_LINE_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 128 * 1024


def unreadable(where: str, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"{where} cannot be read: {reason}.", hint="Check that it is there and that you may read it.")


def file_chunks(path: Path, where: str) -> Generator[bytes, None, None]:
    """The bytes of a file; opened at the first pull, closed at the end."""
    try:
        raw = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise unreadable(where, error) from error
    with raw:
        yield from pipe_chunks(raw, where)


def pipe_chunks(raw: io.FileIO, where: str) -> Iterator[bytes]:
    """Whatever one read gives, at once."""
    while True:
        try:
            chunk = raw.read(_CHUNK_BYTES)
            if chunk is None:  # a pipe its owner made non-blocking
                select.select([raw], [], [])
                continue
        except OSError as error:
            raise unreadable(where, error) from error
        if not chunk:
            return
        yield chunk


def whole_lines(chunks: Iterator[bytes], where: str, *, at_cr: bool) -> Iterator[list[bytes]]:
    """Lists of lines with their ends. `at_cr` ends a line at a lone carriage return too. Raises InputError at a NUL,
    after the lines before it.
    """
    parts: list[bytes] = []
    held = number = 0
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if at_cr:
            # one at the very end may be half of \r\n
            cut = max(cut, chunk.rfind(b"\r", 0, len(chunk) - 1) + 1)
        if cut:
            data = b"".join((*parts, chunk[:cut]))
            lines = _split(data, at_cr=at_cr)
            if b"\0" in data:
                yield from _until_nul(lines, where, number)
            number += len(lines)
            yield lines
            parts, held = [], 0
        rest = chunk[cut:] if cut else chunk
        parts.append(rest)
        held += len(rest)
        if held > MAX_LINE_BYTES:
            raise InputError(
                f"{where} has a line of more than {MAX_LINE_BYTES // 1024**2} MiB.",
                hint="Check that it is a text file with one row a line.",
            )
    if rest := b"".join(parts):
        lines = _split(rest, at_cr=at_cr)
        if b"\0" in rest:
            yield from _until_nul(lines, where, number)
        yield lines


def _until_nul(lines: list[bytes], where: str, before: int) -> Iterator[list[bytes]]:
    bad = next(number for number, line in enumerate(lines) if b"\0" in line)
    yield lines[:bad]
    raise nul(where, before + bad + 1)


def _split(data: bytes, *, at_cr: bool) -> list[bytes]:
    return data.splitlines(keepends=True) if at_cr else io.BytesIO(data).readlines()
