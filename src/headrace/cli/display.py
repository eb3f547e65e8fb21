"""What a run looks like while it works and when it ends: snapshots in, lines on a terminal or in a log out.

Reads at its own pace and never slows the run. The words are in `lines`.
"""

import asyncio
import errno
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from headrace.cli.lines import (
    Part,
    encodable,
    failure_lines,
    glyphs_of,
    live_lines,
    log_line,
    opening_line,
    printable,
    summary_lines,
)
from headrace.engine.tally import Snapshot, Tally
from headrace.report.text import cells, one_line, plural, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

__all__ = ["Display", "preview", "printable", "terminal"]

LIVE_EVERY_S = 0.25
FIRST_LINE_S = 5.0
LINE_EVERY_S = 10.0

_REASON_WIDTH = 300
_PREVIEW_ROWS = 10
_COLUMN_LEAST = 8


def terminal(stream: IO[str], width: int | None = None) -> "Console":
    """A rich console that interprets no markup; colours only where the stream is a terminal and NO_COLOR is unset."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that a pipe or a quiet run never pays

    class Terminal(Console):
        """Rich ends the process when its reader goes away; the run goes on without one."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            raise BrokenPipeError(errno.EPIPE, "The terminal is gone")

    return Terminal(
        file=stream, width=width, force_terminal=stream.isatty(), markup=False, highlight=False, emoji=False
    )


class Display:
    """Shows one run on one stream: live on a terminal, a line now and then elsewhere, only errors where `quiet`.

    Start `watch` as a task and cancel it when the run is over; then `finish` writes the summary. A stream that
    breaks silences the display, never the run.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False, width: int | None = None) -> None:
        self._stream = stream
        self._quiet = quiet
        self._width = width
        self._glyphs = glyphs_of(stream)
        self._animated = stream.isatty() and os.environ.get("TERM") != "dumb" and not quiet
        self._console: Console | None = None
        self._live: Live | None = None
        self._next_line_s = -math.inf
        self._told_stopping = False
        self._told_s = 0.0
        self._broken = False

    async def watch(self, tally: Tally, clock: Callable[[], float]) -> None:
        """Show the tally until cancelled."""
        if self._quiet:
            return
        try:
            while True:
                await asyncio.sleep(LIVE_EVERY_S)
                self.update(tally.snapshot(clock()))
        finally:
            self.close()

    def update(self, snapshot: Snapshot) -> None:
        if self._quiet or self._broken:
            return
        try:
            if self._animated:
                self._draw(snapshot)
            else:
                self._log(snapshot)
        except (OSError, ValueError):
            self._broken = True
            self.close()

    def close(self) -> None:
        """Take the live lines off the terminal and give it its cursor back."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError, ValueError):
                live.stop()

    def finish(self, snapshot: Snapshot) -> None:
        """The summary, once the run has ended."""
        self.close()
        if self._broken:
            return
        lines = list(failure_lines(snapshot, self._glyphs) if self._quiet else summary_lines(snapshot, self._glyphs))
        with suppress(OSError, ValueError):
            if self._animated:
                self._print(lines)
            else:
                self._write(text for text, _ in lines)

    def _draw(self, snapshot: Snapshot) -> None:
        from rich.console import Group  # noqa: PLC0415 - see `terminal`
        from rich.live import Live  # noqa: PLC0415

        console = self._terminal()
        if self._live is None:
            live = Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            live.start()
            self._live = live
        width = max(console.width - 1, 1)
        lines = [_text(line, self._stream) for line in live_lines(snapshot, width, self._glyphs)]
        self._live.update(Group(*lines), refresh=True)

    def _log(self, snapshot: Snapshot) -> None:
        if snapshot.state == "starting":
            return
        if self._next_line_s < 0:
            self._write([opening_line(snapshot)])
            self._next_line_s = FIRST_LINE_S
        if snapshot.state == "stopping" and not self._told_stopping:
            self._told_stopping = True
            self._write([f"stopping: {printable(snapshot.reason, _REASON_WIDTH, '...')}"])
        if snapshot.seconds >= self._next_line_s:
            self._next_line_s += LINE_EVERY_S
            if self._next_line_s <= snapshot.seconds:
                self._next_line_s = snapshot.seconds + LINE_EVERY_S
            self._write([log_line(snapshot, self._told_s)])
            self._told_s = snapshot.seconds

    def _print(self, lines: Iterable[Part]) -> None:
        console = self._terminal()
        for text, style in lines:
            indent = " " * (len(text) - len(text.lstrip()))
            wrapped = textwrap.wrap(text, max(console.width - 1, 20), subsequent_indent=indent + "  ")
            for line in wrapped or [""]:
                console.print(_text([(line, style)], self._stream), soft_wrap=True)

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._stream.write(encodable(line, self._stream) + "\n")
        self._stream.flush()

    def _terminal(self) -> "Console":
        if self._console is None:
            self._console = terminal(self._stream, self._width)
        return self._console


def preview(
    console: "Console", rows: Sequence[Mapping[str, Any]], columns: Sequence[str], limit: int = _PREVIEW_ROWS
) -> None:
    """The first rows as a table that fits the console; says how many rows and columns it leaves out."""
    from rich import box  # noqa: PLC0415 - see `terminal`
    from rich.table import Table  # noqa: PLC0415

    stream = console.file
    glyphs = glyphs_of(stream)
    fitting = list(columns[: max(1, (console.width - 1) // (_COLUMN_LEAST + 3))])
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False, show_edge=False)
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
        console.print(_text([(f"and {', '.join(filter(None, left))}", "dim")], stream))


def _column_widths(texts: Sequence[Sequence[str]], columns: Sequence[str], width: int) -> list[int]:
    """What each column wants, the widest ones cut until all fit."""
    wanted = [
        max(1, min(200, max(sum(map(cells, one_line(text[:400]))) for text in (column, *(row[i] for row in texts)))))
        for i, column in enumerate(columns)
    ]
    room = max(len(columns), width - 3 * len(columns) - 1)
    while sum(wanted) > room:
        widest = max(wanted)
        second = max((w for w in wanted if w < widest), default=1)
        ties = [i for i, w in enumerate(wanted) if w == widest]
        over = sum(wanted) - room
        cut = min(widest - second, math.ceil(over / len(ties))) or 1
        for i in ties:
            wanted[i] -= cut
    return wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(parts: Iterable[Part], stream: IO[str]) -> "Text":
    """Rich text made of plain strings: nothing in them is read as markup."""
    from rich.text import Text  # noqa: PLC0415 - see `terminal`

    line = Text(no_wrap=True, overflow="crop")
    for text, style in parts:
        line.append(encodable(text, stream), style=style)
    return line
