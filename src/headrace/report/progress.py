"""Shows a run while it goes on to whoever started it from Python: in a notebook, or as one line on a terminal.

Enter snapshots at its own pace; nothing that breaks here reaches the run.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import IO, Any, Protocol

from headrace.engine.snapshot import Snapshot

EVERY_S = 0.25
_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Whoever shows a run."""

    def update(self, snapshot: Snapshot) -> None: ...

    def finish(self, snapshot: Snapshot) -> None: ...


def progress_of(*, wanted: bool | None) -> Progress | None:
    """Who shows the run, if anybody does: in a notebook and in an interactive session always, in a program where it is
    `wanted`; nowhere where it is not (False)."""
    if wanted is False:
        return None
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is not None:
        return Cell()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if wanted and sys.stderr is not None:
        return Line(sys.stderr)
    return Line(sys.stderr) if is_terminal and (shell is not None or hasattr(sys, "ps1")) else None


async def watch(progress: Progress, snapshot: Callable[[], Snapshot]) -> None:
    """Show the run until cancelled, or until that fails."""
    while True:
        await asyncio.sleep(EVERY_S)
        progress.update(snapshot())


class Cell:
    """One place in the output of a notebook's cell, written anew each time."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, snapshot: Snapshot) -> None:
        from headrace.report.lines import log_line  # noqa: PLC0415 - a program that shows nothing needs no words
        from headrace.report.notebook import progress_html  # noqa: PLC0415

        self._show(progress_html(snapshot), log_line(snapshot))

    def finish(self, snapshot: Snapshot) -> None:
        from headrace.report.notebook import summary_html, summary_text  # noqa: PLC0415 - as above

        self._show(summary_html(snapshot), summary_text(snapshot))

    def _show(self, html: str, text: str) -> None:
        data = {"text/html": html, "text/plain": text}
        if self._handle is None:
            from IPython.display import display  # noqa: PLC0415 - there, as its kernel is

            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)


class Line:
    """One line at the end of a terminal; in a file or pipe, a line now and then."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._animated = stream.isatty()
        self._next_s = _LINE_EVERY_S

    def update(self, snapshot: Snapshot) -> None:
        import shutil  # noqa: PLC0415 - as above

        from headrace.report.lines import log_line  # noqa: PLC0415
        from headrace.report.signs import printable  # noqa: PLC0415

        if self._animated:
            width = max(20, shutil.get_terminal_size().columns - 1)
            self._write(f"\r\x1b[2K{printable(log_line(snapshot), width)}")
        elif snapshot.seconds >= self._next_s:
            self._next_s = snapshot.seconds + _LINE_EVERY_S
            self._write(f"{log_line(snapshot)}\n")

    def finish(self, snapshot: Snapshot) -> None:
        from headrace.report.notebook import summary_text  # noqa: PLC0415 - as above

        begin = "\r\x1b[2K" if self._animated else ""
        self._write(f"{begin}{summary_text(snapshot)}\n")

    def _write(self, text: str) -> None:
        from headrace.report.signs import encodable  # noqa: PLC0415 - as above

        self._stream.write(encodable(text, self._stream))
        self._stream.flush()
