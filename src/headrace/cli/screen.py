"""What a terminal is told: whether it is one, how large it is, its colours, and lines that are redrawn in place.

The cursor waits at the first of the live lines, not below the last: wherever a resize, with or without new wrapping,
moves that line, the next drawing begins there and clears what is below.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from headrace.report.signs import Part, encodable

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_AT_ONCE, _SHOWN = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know these draw what is between them in one go."""
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[2K", "\x1b[J"
_LEAST_LINES = 4
_CODES = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold red": "1;31",
    "bold green": "1;32", "bold yellow": "1;33",
}  # fmt: skip
_DUMB = ("", "dumb", "unknown")
_OFF = ("", "0", "false")


def is_animated(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether lines can be redrawn: on a terminal that can, and not in the log of a CI server."""
    if not stream.isatty() or environ.get("CI", "").lower() not in _OFF:
        return False
    if sys.platform == "win32":
        return _windows_understands()
    return environ.get("TERM", "") not in _DUMB


def is_coloured(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """NO_COLOR before FORCE_COLOR before what the stream is."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "").lower() not in _OFF:
        return True
    return is_animated(stream, environ)


def size_of(stream: IO[str]) -> tuple[int, int]:
    """Columns and lines of the terminal at this moment."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return 80, 24
    return found.columns or 80, found.lines or 24


def painted(parts: Iterable[Part], stream: IO[str], *, coloured: bool) -> str:
    """One line as the terminal gets it."""
    said = ((encodable(text, stream), _CODES.get(style) if coloured else None) for text, style in parts)
    return "".join(f"\x1b[{code}m{text}\x1b[0m" if code else text for text, code in said)


def room_for(rows: int) -> int:
    """How many live lines: at most half of a terminal, so that they still fit where its width is halved and each
    becomes two; a very low one is filled but for a line."""
    return max(rows // 2, min(_LEAST_LINES, rows - 1), 1)


def displaced(widths: Sequence[int], columns: int, environ: Mapping[str, str]) -> int:
    """How many rows the cursor is below the first of the lines of these widths, now that the terminal has so many
    columns. The terminal of VS Code takes the cursor down by each row that a line gains by wrapping, also below it;
    the cursor's own line it leaves alone. Others keep it where it was."""
    if environ.get("TERM_PROGRAM") != "vscode":
        return 0
    return sum(max(width - 1, 0) // columns for width in widths[1:])


def frame_of(lines: Sequence[str], *, up: int = 0) -> str:
    """The live lines in place of those before, which begin so many rows above the cursor; it ends at the first. Rows
    are cleared rather than written over: a terminal may remember of one that it once continued another."""
    first = f"\x1b[{up}A" if up else ""
    back = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
    body = "\r\n".join(f"{_CLEAR_LINE}{line}" for line in lines)
    return f"{_AT_ONCE}{HIDE_CURSOR}{_NO_WRAP}{first}\r{body}{_CLEAR_BELOW}\r{back}{_WRAP}{_SHOWN}"


CLEARED = f"\r {_CLEAR_BELOW}\r{_CLEAR_LINE}{SHOW_CURSOR}"
"""The live lines taken away, and the cursor given back. Cleared from the second column on: what is cleared from the
very first is kept by some terminals, as if it had scrolled by."""


def _windows_understands() -> bool:
    """Ask the console to understand the codes that others do; old ones refuse."""
    if sys.platform != "win32":
        return True
    import ctypes  # noqa: PLC0415 - there alone

    kernel = ctypes.windll.kernel32
    handle, mode = kernel.GetStdHandle(-12), ctypes.c_ulong()
    known = kernel.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(known and kernel.SetConsoleMode(handle, mode.value | 0x0004))
