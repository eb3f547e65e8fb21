"""Text to one stream from a thread of its own, so that a terminal on hold or a pipe that nobody reads holds up nothing.

A stream that breaks is `broken` and gets nothing more; nobody hears of it as an error.
"""

import os
import select
import threading
from collections import deque
from typing import IO

_LINES_MAX = 1000
"""More than these are not kept for a reader that pauses: the oldest are left out."""


class Outlet:
    """Streams without a file of their own, as tests have them, are written to at once."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._file = _file_of(stream)
        self._lines: deque[str] = deque(maxlen=_LINES_MAX)
        self._frame: str | None = None
        self._change = threading.Condition()
        self._busy = False
        self._started = False
        self.broken = False

    def line(self, text: str) -> None:
        """After all lines that were given before."""
        self._put(text + "\n", is_frame=False)

    def frame(self, text: str) -> None:
        """In place of an earlier frame that is not written yet."""
        self._put(text, is_frame=True)

    def cleared(self, text: str) -> None:
        """What takes the frames away: before the lines that follow."""
        with self._change:
            self._frame = None
        self._put(text, is_frame=False)

    def flush(self, at_most_s: float | None = None) -> None:
        """Wait until all is written, or the stream is broken."""
        with self._change:
            self._change.wait_for(lambda: self.broken or not (self._lines or self._frame or self._busy), at_most_s)

    def _put(self, text: str, *, is_frame: bool) -> None:
        if self.broken:
            return
        if self._file is None:
            self._write(text)
            return
        with self._change:
            if is_frame:
                self._frame = text
            else:
                self._lines.append(text)
            self._change.notify_all()
        if not self._started:
            self._started = True
            # a daemon: one that waits for a reader must not keep the interpreter from its end
            threading.Thread(target=self._serve, name="headrace-outlet", daemon=True).start()

    def _serve(self) -> None:
        while not self.broken:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._lines or self._frame)
                text = "".join(self._lines) + (self._frame or "")
                self._lines.clear()
                self._frame = None
                self._busy = True
            self._write(text)
        with self._change:
            self._change.notify_all()

    def _write(self, text: str) -> None:
        try:
            if self._file is None:
                self._stream.write(text)
                self._stream.flush()
                return
            rest = memoryview(text.encode(getattr(self._stream, "encoding", None) or "utf-8", "replace"))
            while rest:
                try:
                    rest = rest[os.write(self._file, rest) :]
                except BlockingIOError:  # a pipe that its owner made non-blocking
                    select.select([], [self._file], [])
        except (OSError, ValueError):
            self.broken = True


def _file_of(stream: IO[str]) -> int | None:
    """Its file descriptor. Python's own buffers have locks that a thread which never returns would hold for ever; a
    Windows console wants text, so there they are used all the same."""
    if os.name == "nt":
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
