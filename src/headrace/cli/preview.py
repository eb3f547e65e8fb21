"""The first rows of a result as a table for a terminal. Enters rows, leaves lines that fit; cells are foreign text."""

import errno
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.screen import size_of
from headrace.report.signs import ASCII, Part, encodable, glyphs_of, printable
from headrace.report.text import cells, one_line, plural, shown

_PLAIN = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""As SIMPLE_HEAD is, for who shows ASCII alone."""
_ROWS = 10
_COLUMN_LEAST, _BETWEEN = 8, 3


class _Terminal(Console):
    """Rich ends the process when its reader goes away; there may be files to write yet."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, "The terminal is gone")


def terminal(stream: IO[str], width: int | None = None) -> Console:
    """A rich console that interprets no markup; colours only where the stream is a terminal and NO_COLOR is unset."""
    if (
        width is None and stream.isatty()
    ):  # rich would ask standard input first, and take a dumb terminal for a wide one
        width = size_of(stream)[0]
    height = 24 if width is not None else None
    return _Terminal(
        file=stream,
        width=width,
        height=height,
        force_terminal=stream.isatty(),
        markup=False,
        highlight=False,
        emoji=False,
    )


def preview(console: Console, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], limit: int = _ROWS) -> None:
    """The first rows as a table that fits the console; says how many rows and columns it leaves out."""
    stream = console.file
    glyphs = glyphs_of(stream, os.environ)
    fitting = _fitting(rows[:limit], columns, console.width)
    table = Table(
        box=_PLAIN if glyphs is ASCII else box.SIMPLE_HEAD,
        header_style="bold",
        border_style="dim",
        pad_edge=False,
        show_edge=False,
    )
    widths = _column_widths([[shown(row.get(c)) for c in fitting] for row in rows[:limit]], fitting, console.width)
    for column, width in zip(fitting, widths, strict=True):
        numeric = all(_is_number(row.get(column)) for row in rows[:limit])
        header = _text([(printable(column, width, glyphs.more), "")], stream)
        table.add_column(header, justify="right" if numeric else "left", no_wrap=True, overflow="crop", min_width=1)
    for row in rows[:limit]:
        texts = (printable(shown(row.get(c)), width, glyphs.more) for c, width in zip(fitting, widths, strict=True))
        table.add_row(*(_text([(text, "")], stream) for text in texts))
    console.print(table)
    left = [plural(len(rows) - limit, "more row") if len(rows) > limit else ""]
    left.append(plural(len(columns) - len(fitting), "more column") if len(columns) > len(fitting) else "")
    if any(left):
        said = printable(f"and {', '.join(filter(None, left))}", console.width, glyphs.more)
        console.print(_text([(said, "dim")], stream))


def _fitting(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int) -> list[str]:
    """As many as have room, none cut below a width that says something; at least one."""
    fitting: list[str] = []
    room = width - 1
    for column in columns:
        texts = [column, *(shown(row.get(column)) for row in rows)]
        room -= min(_COLUMN_LEAST, max(map(_cells_of, texts))) + _BETWEEN
        if room < 0 and fitting:
            break
        fitting.append(column)
    return fitting


def _column_widths(texts: Sequence[Sequence[str]], columns: Sequence[str], width: int) -> list[int]:
    """What each column wants, the widest ones cut until all fit."""
    wanted = [
        max(1, min(200, max(_cells_of(text) for text in (column, *(row[i] for row in texts)))))
        for i, column in enumerate(columns)
    ]
    room = max(len(columns), width - _BETWEEN * len(columns) - 1)
    while sum(wanted) > room:
        widest = max(wanted)
        second = max((w for w in wanted if w < widest), default=1)
        ties = [i for i, w in enumerate(wanted) if w == widest]
        over = sum(wanted) - room
        cut = min(widest - second, math.ceil(over / len(ties))) or 1
        for i in ties:
            wanted[i] -= cut
    return wanted


def _cells_of(text: str) -> int:
    return sum(map(cells, one_line(text[:400])))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(parts: Iterable[Part], stream: IO[str]) -> Text:
    """Rich text made of plain strings: nothing in them is read as markup."""
    line = Text(no_wrap=True, overflow="crop")
    for text, style in parts:
        line.append(encodable(text, stream), style=style)
    return line
