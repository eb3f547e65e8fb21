"""The parent's side of one worker process: started, given items, killed, and waited for.

All but `kill` is called in the one thread that the process belongs to: the system ends it with that thread.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

import msgspec

from headrace.core.call import Reply
from headrace.core.errors import UsageError, WorkerDied
from headrace.provider.worker import PROGRAM, Answer, Order, error_of, read_frame, write_frame

START_S = 60.0
"""A process that is not ready after so long is broken."""
_END_S = 5.0
SAID_OF_ANY = "The function, or a library that it uses, ended the process. The other items go on without it."
_SAID = {
    "SIGKILL": "Mostly this is the system's doing, for want of memory: run fewer at once, or give it smaller items.",
    "SIGSEGV": "A library in C crashed on this item.",
    "SIGABRT": "A library in C gave up on this item.",
    "SIGBUS": "A library in C crashed on this item.",
}


class Worker:
    """One process, and what is known of it."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        """For the pool: what its thread does next; None to end."""
        self.ready = False
        self.killed = False
        self.items = 0
        self._known: set[int] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._decoder = msgspec.msgpack.Decoder(Answer)
        self._bytes = 0
        self._bytes_at_first = 0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    @property
    def grown_bytes(self) -> int:
        """How much more memory it holds than after its first item, which loads libraries."""
        return self._bytes - self._bytes_at_first

    def start(self) -> None:
        """Raises UsageError where no process can be started, or the one that is does not get ready."""
        if not sys.executable:
            raise broken("this program does not know its Python")
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        try:
            self._child = subprocess.Popen(
                [sys.executable, *flags, "-P", "-c", PROGRAM, str(os.getpid()), "\n".join(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is for this process alone; and it is killed as a group
            )
        except OSError as error:
            raise broken(error.strerror or str(error)) from error
        if self.killed:
            self.kill()
        late = threading.Timer(START_S, self.kill)
        late.daemon = True
        late.start()
        answer = self._read()
        late.cancel()
        if answer is None:
            if self.killed:
                raise broken(f"it was not ready within {START_S:.0f} s")
            raise broken(_how_it_ended(self._status()))
        self.ready = True

    def work(self, number: int, function: bytes, item: bytes) -> Reply:
        """What the function makes of the item; raises its error, or WorkerDied."""
        order = Order(number, item, b"" if number in self._known else function)
        self._known.add(number)
        answer = None
        with contextlib.suppress(OSError):  # it died: reading finds that out
            write_frame(self._pipes()[0], msgspec.msgpack.encode(order))
            answer = self._read()
        if answer is None:
            self.killed = True
            ended = _how_it_ended(self._status())
            raise WorkerDied(f"The process that worked on this item died: {ended}.", hint=self._advice())
        self.items += 1
        self._bytes = answer.resident_bytes
        self._bytes_at_first = self._bytes_at_first or self._bytes
        error = error_of(answer)
        if error is not None:
            raise error
        return Reply(answer.text)

    def is_alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """From any thread. What it started dies with it."""
        self.killed = True
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()

    def end(self) -> None:
        """Let it end, or kill it; returns when it is gone."""
        if self._child is None:
            return
        for pipe in self._pipes():
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._child.wait()

    def _pipes(self) -> tuple[Any, Any]:
        child = self._child
        return (child.stdin, child.stdout) if child is not None else (None, None)

    def _read(self) -> Answer | None:
        frame = read_frame(self._pipes()[1])
        return self._decoder.decode(frame) if frame is not None else None

    def _status(self) -> int:
        """Its exit status, or less than 0 for the signal that ended it."""
        if self._child is None:
            return 0
        try:
            return self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.wait()

    def _advice(self) -> str:
        name = _signal_of(self._status())
        return f"{_SAID[name]} The other items go on without it." if name in _SAID else SAID_OF_ANY


def _how_it_ended(status: int) -> str:
    name = _signal_of(status)
    return f"it was ended by {name}" if name else f"it ended with exit status {status}"


def _signal_of(status: int) -> str:
    if status >= 0:
        return ""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def broken(why: str) -> UsageError:
    return UsageError(
        f"A worker process does not start: {why}.",
        hint="Run the function in threads instead (mode='thread'), and see that this Python can start others.",
    )
