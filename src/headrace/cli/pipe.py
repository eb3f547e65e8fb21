"""Answers as JSON Lines on standard output, as they come. Enters batches of outcomes, leaves whether somebody reads.

A reader that pauses holds up neither the calls in flight nor, when told to give up, the end of the process.
"""

import asyncio
import os
import select
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue

from headrace.core.errors import OutputError
from headrace.core.item import Outcome
from headrace.data.columns import Columns
from headrace.data.sink import jsonl_line

_Written = asyncio.Future[bool]


class Pipe:
    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._batches: SimpleQueue[tuple[list[Outcome], asyncio.AbstractEventLoop, _Written]] = SimpleQueue()
        self._waiting: _Written | None = None
        # a daemon: one that waits for a reader must not keep the interpreter from its end
        threading.Thread(target=self._serve, name="headrace-stdout", daemon=True).start()

    async def write(self, batch: list[Outcome]) -> bool:
        """False where nobody reads any more. Raises OutputError where it cannot be written."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._batches.put((batch, loop, self._waiting))
        return await self._waiting

    def give_up(self) -> None:
        """Wait no longer for the reader."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(False)

    def _serve(self) -> None:
        while True:
            batch, loop, written = self._batches.get()
            result = self._sent(batch)
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, written, result)

    def _sent(self, batch: list[Outcome]) -> bool | Exception:
        try:
            send(batch, self._columns)
        except BrokenPipeError:
            return False
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            return error
        return True


def send(outcomes: list[Outcome], columns: Columns) -> None:
    """Write these rows to standard output at once. Raises BrokenPipeError where nobody reads, else OutputError."""
    file = sys.stdout.fileno()
    rest = memoryview(b"".join([jsonl_line(outcome, columns) for outcome in outcomes]))
    while rest:
        try:
            rest = rest[os.write(file, rest) :]
        except BlockingIOError:  # a pipe that its owner made non-blocking
            select.select([], [file], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"Standard output could not be written: {error.strerror or error}.",
                hint="What was answered is in the store: free space and run again, or write elsewhere with -o.",
            ) from error


def _settle(written: _Written, result: bool | Exception) -> None:  # noqa: FBT001 - what came of it
    if written.done():
        return
    if isinstance(result, Exception):
        written.set_exception(result)
    else:
        written.set_result(result)
