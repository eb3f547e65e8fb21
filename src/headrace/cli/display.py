"""What a run looks like while it works and when it ends: snapshots in, lines on a terminal or in a log out.

Reads at its own pace and never slows the run. The words are in `report/lines.py`.
"""

import asyncio
import math
import os
import textwrap
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO

from headrace.cli.outlet import Outlet
from headrace.cli.screen import CLEARED, displaced, frame_of, is_animated, is_coloured, painted, room_for, size_of
from headrace.engine.snapshot import Snapshot
from headrace.report.lines import Health, health, live_lines, log_line, opening_line
from headrace.report.signs import Part, glyphs_of, printable
from headrace.report.summary import failure_lines, summary_lines
from headrace.report.text import cells, plural

LIVE_EVERY_S = 0.25
FIRST_LINE_S = 5.0
LINE_EVERY_S = 10.0
"""In a log, lines come in growing intervals: from this one on, by a quarter of the time that the run has taken."""
LINE_AT_MOST_EVERY_S = 300.0
_REASON_WIDTH = 300
_SUSPEND_S = 1.0
"""A terminal that takes longer is on hold itself."""
_NOTICE_WIDTH = 1000
_NAME_WIDTH = 60
_MAY_CALL = frozenset(("filter", "expand", "top", "reduce"))
"""Kinds of stages that call a function or nobody: these are through with what comes as soon as it is there, or wait for the
last, and their beginning tells nothing."""
_LEAST_WIDTH = 20
"""Of the summary, which stays: on a narrower terminal its lines wrap."""


class Display:
    """Shows one run on one stream: live on a terminal, a line now and then elsewhere, only errors where `quiet`.

    Start `watch` as a task and cancel it when the run is over; then `finish` writes the summary. A stream that
    breaks silences the display, never the run.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False, size: tuple[int, int] | None = None) -> None:
        self._stream = stream
        self._quiet = quiet
        self._size = size
        self._glyphs = glyphs_of(stream, os.environ)
        self._animated = is_animated(stream, os.environ)
        self._coloured = is_coloured(stream, os.environ)
        self._outlet = Outlet(stream)
        self._log = Log(lambda line: self._print([(line, "")]))
        self._is_live = False
        self._columns = 0
        self._widths: list[int] = []
        """Of the lines that were drawn last, on so many columns."""
        self._look = asyncio.Event()

    async def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Show the run until cancelled."""
        if self._quiet:
            return
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), LIVE_EVERY_S)
                self._look.clear()
                self.update(snapshot())
        finally:
            self.close()

    def redraw(self) -> None:
        """The terminal has another size, or is ours again."""
        self._look.set()

    def update(self, snapshot: Snapshot) -> None:
        if self._quiet:
            return
        if self._animated:
            self._draw(snapshot)
        else:
            self._log.add(snapshot)

    def close(self) -> None:
        """Take the live lines off the terminal and give it its cursor back."""
        if self._is_live:
            self._is_live = False
            self._outlet.cleared(CLEARED)

    def suspend(self) -> None:
        """As `close`, done when this returns: what follows sees the terminal as it was."""
        self.close()
        self._outlet.flush(_SUSPEND_S)

    def finish(self, snapshot: Snapshot) -> None:
        """The summary, once the run has ended."""
        self.close()
        if not self._quiet and not self._animated:
            self._log.announce(snapshot)
        lines = failure_lines(snapshot, self._glyphs) if self._quiet else summary_lines(snapshot, self._glyphs)
        self._print(lines)
        self._outlet.flush()

    def say(self, text: str) -> None:
        """A sentence; not where `quiet`."""
        if text and not self._quiet:
            self._print([(text, "")])
            self._outlet.flush()

    def wrote(self, rows: int) -> None:
        """So many rows are in the output: a person is told by `say`."""

    def notice(self, text: str) -> None:
        """A sentence from before the run: it may hold foreign text."""
        self.say(printable(text, _NOTICE_WIDTH, self._glyphs.more))

    def _draw(self, snapshot: Snapshot) -> None:
        columns, rows = self._size or size_of(self._stream)
        lines = list(live_lines(snapshot, max(columns - 1, 1), self._glyphs, room_for(rows)))
        up = displaced(self._widths, columns, os.environ) if self._is_live and columns != self._columns else 0
        self._is_live = True
        self._columns = columns
        self._widths = [sum(cells(sign) for text, _ in line for sign in text) for line in lines]
        self._outlet.frame(frame_of([painted(line, self._stream, coloured=self._coloured) for line in lines], up=up))

    def _print(self, lines: Iterable[Part]) -> None:
        for text, style in lines:
            for line in self._wrapped(text):
                self._outlet.line(painted([(line, style)], self._stream, coloured=self._coloured))

    def _wrapped(self, text: str) -> list[str]:
        """On a terminal, lines that it need not wrap, but for words that are longer than one: a path or a command is copied.
        In a log, the line."""
        if not self._animated:
            return [text]
        columns, _ = self._size or size_of(self._stream)
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        width = max(columns - 1, _LEAST_WIDTH)
        whole = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        return whole.wrap(text) or [""]


class Log:
    """A run as lines of a log: an opening, then what became of it, less often the longer it takes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next_s = -math.inf
        self._told_s = 0.0
        self._health: Health = "well"
        self._turn_s = 0.0
        self._told_stopping = False
        self._announced: set[str] = set()

    def add(self, snapshot: Snapshot) -> None:
        if snapshot.state == "starting":
            return
        if self._next_s < 0:
            self._write(opening_line(snapshot))
            self._next_s = FIRST_LINE_S
            self._health = health(snapshot)
        self.announce(snapshot)
        if snapshot.state == "stopping":
            if not self._told_stopping:
                self._told_stopping = True
                self._write(f"stopping: {printable(snapshot.reason, _REASON_WIDTH, '...')}")
        elif snapshot.seconds >= self._next_s or self._has_turned(snapshot):
            self._write(log_line(snapshot, self._told_s))
            self._told_s = snapshot.seconds
            self._next_s = snapshot.seconds + _interval_s(snapshot.seconds)

    def announce(self, snapshot: Snapshot) -> None:
        """The stages that have begun to call, each once, with what came first."""
        for stage in snapshot.stages:
            begun = stage.calls if stage.kind in _MAY_CALL else stage.taken
            if begun and stage.name not in self._announced:
                self._announced.add(stage.name)
                self._write(f"{printable(stage.name, _NAME_WIDTH, '...')} begins with {plural(stage.taken, 'item')}")

    def _has_turned(self, snapshot: Snapshot) -> bool:
        """Whether what was well no longer is, or the other way round; no more often than other lines come."""
        found = health(snapshot)
        if found == self._health or snapshot.seconds < self._turn_s:
            return False
        self._health = found
        self._turn_s = snapshot.seconds + _interval_s(snapshot.seconds)
        return True


def _interval_s(seconds: float) -> float:
    return min(max(LINE_EVERY_S, seconds / 4), LINE_AT_MOST_EVERY_S)
