"""One worker process: its program, and the words between it and the pool. Enter functions and items, leave replies.

It shows nothing, ignores Ctrl-C, and ends when its parent does, however that ends. Knows nothing of pools and loops.
"""

import contextlib
import inspect
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from headrace.core import errors
from headrace.core.errors import AnswerError, CallError, FunctionError, HeadraceError
from headrace.core.limits import Hints
from headrace.provider.result import error_in, reply_of, worked

PROGRAM = "import sys; sys.path[:] = sys.argv.pop().split('\\n'); from headrace.provider.worker import main; main()"
"""What the process runs; its last argument is the path that its parent imports from."""

_LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1


class Order(msgspec.Struct, frozen=True):
    """What a worker is to do. `function` is there for the first item that goes to it alone."""

    number: int
    """The function's."""
    item: bytes
    function: bytes = b""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it: the result as JSON, or the error's name in the tree and what it says."""

    text: str = ""
    error: str = ""
    message: str = ""
    hint: str = ""
    status: int | None = None
    hints: Hints | None = None
    raw: str = ""
    resident_bytes: int = 0
    """The process's memory after the item."""


def write_frame(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> bytes | None:
    """None at the end, also where it comes in the middle of a frame."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None


def error_of(answer: Answer) -> HeadraceError | None:
    """The error as it was raised in the worker; None where there was none."""
    if not answer.error:
        return None
    kind: type[HeadraceError] = getattr(errors, answer.error)
    made = kind(answer.message, hint=answer.hint)
    if isinstance(made, CallError):
        made.status, made.hints = answer.status, answer.hints
    if isinstance(made, AnswerError):
        made.raw = answer.raw
    return made


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it drains what is in flight first
    _end_with(int(sys.argv[1]))
    orders, answers = _pipes()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    functions: dict[int, Callable[[Any], Any]] = {}
    write_frame(answers, msgspec.msgpack.encode(Answer(resident_bytes=_resident_bytes())))
    threading.Thread(target=_read, args=(orders, inbox), daemon=True).start()
    decoder = msgspec.msgpack.Decoder(Order)
    while True:
        answer = _answered(decoder.decode(inbox.get()), functions)
        write_frame(answers, msgspec.msgpack.encode(msgspec.structs.replace(answer, resident_bytes=_resident_bytes())))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The way in and out, away from the standard streams: what the function prints or reads must not get into them."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    os.close(silence)
    return orders, answers


def _read(orders: BinaryIO, inbox: "queue.SimpleQueue[bytes]") -> None:
    """In a thread of its own, so that the parent's end is seen while the function works."""
    while (frame := read_frame(orders)) is not None:
        inbox.put(frame)
    os._exit(0)


def _end_with(parent: int) -> None:
    """Where the system can, have this process killed with its parent: a function in C may let no thread look."""
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - only here

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _answered(order: Order, functions: dict[int, Callable[[Any], Any]]) -> Answer:
    try:
        if order.function:
            functions[order.number] = _loaded(order.function)
        return Answer(_worked(functions[order.number], _item(order.item)))
    except HeadraceError as error:
        return _told(error)
    except BaseException as error:  # noqa: BLE001 - also what would end a program is this item's
        return _told(error_in(error))


def _loaded(function: bytes) -> Callable[[Any], Any]:
    try:
        found: Callable[[Any], Any] = pickle.loads(function)  # noqa: S301 - our parent's own
    except Exception as error:
        raise errors.UsageError(
            f"The function cannot be loaded in a worker process ({type(error).__name__}: {error}).",
            hint="Put it into a module that can be imported, or run it in threads (mode='thread').",
        ) from error
    return found


def _item(data: bytes) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - our parent's own
    except Exception as error:
        raise FunctionError(
            f"The item cannot be read in a worker process ({type(error).__name__}: {error}).",
            hint="Give the function plain data, or run it in threads (mode='thread').",
        ) from error


def _worked(function: Callable[[Any], Any], item: Any) -> str:
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(type(function).__call__):
        return worked(function, item).text
    import asyncio  # noqa: PLC0415 - only for async functions

    return reply_of(asyncio.run(function(item))).text


def _told(error: HeadraceError) -> Answer:
    """By the nearest class of the tree: a class of the user's own is not known to the other side."""
    kind = next(each for each in type(error).__mro__ if getattr(errors, each.__name__, None) is each)
    told = Answer(error=kind.__name__, message=_unicode(error.message), hint=_unicode(error.hint))
    if isinstance(error, CallError):
        return msgspec.structs.replace(told, status=error.status, hints=error.hints)
    return msgspec.structs.replace(told, raw=_unicode(error.raw)) if isinstance(error, AnswerError) else told


def _unicode(text: object) -> str:
    return str(text).encode("utf-8", "backslashreplace").decode()


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0  # a system without it: workers are replaced by the number of their items alone
