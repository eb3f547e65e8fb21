"""One HTTP/1.1 connection to the simulated provider: bytes in, bytes out, calls one by one as they came.

The hot path makes no task: a timer of the loop ends each call. Knows nothing of prompts: `wire` does the bodies.
"""

import asyncio
import hmac
import socket
import struct
import time
from collections import deque
from typing import Any

import httptools
import msgspec

from headrace.core.errors import AttemptTimeout, HeadraceError, Unreachable
from headrace.provider.chance import Fault
from headrace.provider.notice import Notice
from headrace.provider.quota import Refusal
from headrace.provider.simulated import MODEL, Simulated, Visit, status_of
from headrace.sim import wire
from headrace.sim.doors import Doors

MOST_HEAD_BYTES = 64 * 1024
MOST_BODY_BYTES = 32 * 1024 * 1024
MOST_WAITING = 16
"""Pipelined requests on one connection before it stops reading."""

_CHAT = b"/v1/chat/completions"
_KEYS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"})
_RESET = struct.pack("ii", 1, 0)
_JSON = "application/json"
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    402: "Payment Required", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    529: "Overloaded",
}  # fmt: skip


class House(msgspec.Struct, frozen=True):
    """What all connections of one server share."""

    simulated: Simulated
    loop: asyncio.AbstractEventLoop
    api_key: str | None
    model: str | None
    open: "set[Connection]"
    doors: Doors
    notices: dict[str, Notice]
    """What is told of limits and errors at each door, by its manner."""


class _Asked(msgspec.Struct, gc=False):
    """One HTTP request, read to its end; or the refusal that ends the connection."""

    method: bytes
    target: bytes
    body: bytes
    keep_alive: bool
    keys: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that may carry a key."""
    refusal: wire.NotServed | None = None


class Connection(asyncio.Protocol):
    """Answers what httptools reads. `gone` and `cut` calls leave their traces in the ledger."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.simulated = house.simulated
        self.transport: Any = None
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[_Asked] = deque()
        self.visit: Visit | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.keep_alive = True
        self.pumping = False
        self.deaf = False
        self.full = False
        self.in_head = True
        self.head_bytes = 0
        self.target = b""
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.keys: tuple[tuple[bytes, bytes], ...] = ()
        self.door = house.doors.chat
        self.notice = house.simulated.notice

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.house.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.house.open.discard(self)
        self.waiting.clear()
        self.deaf = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.visit is not None:
            visit, self.visit = self.visit, None
            self.simulated.leave(visit, "hang" if visit.ending is Fault.HANG else "gone")

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        if self.in_head:
            self.head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if not self.deaf:
                self.waiting.pop()  # the request that asked for it, which the parser gave without its body
            self._refuse(wire.NotServed(400, "This server speaks HTTP/1.1 only and does not change protocols."))
        except httptools.HttpParserError:
            self._refuse(wire.NotServed(400, "This is no HTTP/1.1 request."))
        if self.in_head and self.head_bytes > MOST_HEAD_BYTES:
            self._refuse(wire.NotServed(431, f"The request's head is larger than {MOST_HEAD_BYTES} bytes."))
        self._pump()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self.target = b""
        self.body = []
        self.body_bytes = 0
        self.keys = ()
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self.body_bytes <= MOST_BODY_BYTES:
            self.body.append(body)
        else:
            self.body = []
            self._refuse(wire.NotServed(413, f"The request's body is larger than {MOST_BODY_BYTES} bytes."))

    def on_message_complete(self) -> None:
        if self.deaf:
            return
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body = []
        self.waiting.append(
            _Asked(self.parser.get_method(), self.target, body, self.parser.should_keep_alive(), self.keys)
        )
        if len(self.waiting) == MOST_WAITING:
            self.transport.pause_reading()

    def _refuse(self, refusal: wire.NotServed) -> None:
        """After what waits is answered, say why, and close; nothing further is read."""
        if not self.deaf:
            self.deaf = True
            self.waiting.append(_Asked(b"", b"", b"", keep_alive=False, refusal=refusal))

    # Answering.

    def _pump(self) -> None:
        """Begin what waits, one after the other, as long as nothing is being answered."""
        if self.pumping:
            return
        self.pumping = True
        try:
            while self.waiting and self.visit is None and not self.full and not self.transport.is_closing():
                asked = self.waiting.popleft()
                if len(self.waiting) == MOST_WAITING - 1 and not self.deaf:
                    self.transport.resume_reading()
                self.keep_alive = asked.keep_alive
                try:
                    self._begin(asked)
                except wire.NotServed as refusal:
                    self.simulated.ledger.count(str(refusal.status))
                    self._write_refusal(refusal)
        finally:
            self.pumping = False

    def _begin(self, asked: _Asked) -> None:
        if asked.refusal is not None:
            raise asked.refusal
        path, _, query = asked.target.partition(b"?")
        named = ""
        self.door, self.notice = self.house.doors.chat, self.simulated.notice
        if path != _CHAT:
            found = self.house.doors.at(path)
            if found is None:
                self._write(200, self._page(asked, path, query))
                return
            self.door, named = found
            self.notice = self.house.notices.get(self.door.manner, self.notice)
        if asked.method != b"POST":
            raise _not_allowed(asked.method, "POST")
        if self.house.api_key is not None:
            self._check_key(asked)
        request = self.door.read(asked.body, named)
        if self.house.model is not None and request.model != self.house.model:
            raise wire.NotServed(
                404, f"The model `{request.model}` does not exist or you do not have access to it.",
                param="model", code="model_not_found",
            )  # fmt: skip
        visit = self.simulated.arrive(request)
        self.visit = visit
        if visit.ending is not None and _silent(visit):
            return
        if visit.latency_s > 0:
            self.timer = self.house.loop.call_later(visit.latency_s, self._finish, visit)
        else:
            self._finish(visit)

    def _finish(self, visit: Visit) -> None:
        """The time of a call has come: answer it as was decided."""
        self.timer = None
        self.visit = None
        if visit.ending is not None and isinstance(visit.ending, Fault | Refusal):
            self._fail(visit, visit.ending)
        else:
            self._answer(visit)
        self._pump()

    def _answer(self, visit: Visit) -> None:
        simulated = self.simulated
        try:
            reply = simulated.outcome(visit)
            body = self.door.written(reply, visit.request, simulated.ledger.paid)
        except HeadraceError as error:
            refusal = wire.refusal_of(error)
            simulated.leave(visit, str(refusal.status))
            self._write_refusal(refusal)
            return
        tells = simulated.tells if self.notice is simulated.notice else self._tells()
        self._write(200, body, simulated.lines(time.time(), self.notice) if tells else "")
        simulated.leave(visit, "200", paid=reply)

    def _tells(self) -> bool:
        return self.notice.manner.always and self.simulated.door.limits_anything

    def _fail(self, visit: Visit, ending: Fault | Refusal) -> None:
        simulated = self.simulated
        told = simulated.told(visit, time.time(), self.notice)
        if told is not None:
            self._write(told.status, told.body, told.lines, kind=told.kind)
        elif ending is Fault.RESET:
            self._reset()
        else:
            self._write(200, self.door.begun, missing=500 if ending is Fault.CUT else 0)
        simulated.leave(visit, status_of(visit))

    def _check_key(self, asked: _Asked) -> None:
        key = self.house.api_key
        if key is None:
            return
        given = dict(asked.keys)
        wanted = key.encode()
        own = given.get(self.door.key_header.encode(), b"")
        right = hmac.compare_digest(own, wanted) or hmac.compare_digest(
            given.get(b"authorization", b""), b"Bearer " + wanted
        )
        if not right:
            raise wire.NotServed(401, "Incorrect API key provided.", code="invalid_api_key")

    def _page(self, asked: _Asked, path: bytes, query: bytes) -> bytes:
        match path:
            case b"/v1/models" | b"/models":
                _allow(asked.method, "GET")
                self._check_key(asked)
                model = {"id": self.house.model or MODEL, "object": "model", "created": 0, "owned_by": "headrace"}
                return msgspec.json.encode({"object": "list", "data": [model]})
            case b"/ledger":
                _allow(asked.method, "GET", "DELETE")
                if asked.method == b"DELETE":
                    self.simulated.reset()
                return msgspec.json.encode(self.simulated.books(items=query != b"items=no"))
            case b"/healthz":
                _allow(asked.method, "GET")
                return b'{"status":"ok"}'
        raise wire.NotServed(404, "There is no such page.", code="unknown_url")

    def _write_refusal(self, refusal: wire.NotServed) -> None:
        more = "" if refusal.retry_after_s is None else f"Retry-After: {refusal.retry_after_s:g}\r\n"
        if refusal.status == 405:
            more = f"Allow: {refusal.param}\r\n"
        shape = self.notice.body
        body = shape(refusal.status, refusal.type, refusal.param, refusal.code, refusal.message)
        self._write(refusal.status, body, more)

    def _write(self, status: int, body: bytes, more: str = "", *, missing: int = 0, kind: str = _JSON) -> None:
        """Head and body in one write; with `missing` bytes promised and not sent, the connection closes."""
        if status == 200 and self.keep_alive and not missing:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
                % (more.encode(), len(body), body)
            )
            return
        if not self.keep_alive:
            more += "Connection: close\r\n"
        reason = _REASONS.get(status, "Error")
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body) + missing}\r\n"
        self.transport.write(f"{head}{more}\r\n".encode() + body)
        if missing or not self.keep_alive:
            self.transport.close()

    def _reset(self) -> None:
        """A TCP reset, not an orderly end."""
        own = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _silent(visit: Visit) -> bool:
    """Whether this call is never answered. Scripted errors that are no answer become what a wire can show of them."""
    if isinstance(visit.ending, AttemptTimeout):
        visit.ending = Fault.HANG
    elif isinstance(visit.ending, Unreachable):
        visit.ending = Fault.RESET
    return visit.ending is Fault.HANG


class KeyedConnection(Connection):
    """Reads headers as well, which costs time, for servers that ask for a key."""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in _KEYS:
            self.keys += ((name.lower(), value),)


def _allow(method: bytes, *methods: str) -> None:
    if method.decode("ascii", "replace") not in methods:
        raise _not_allowed(method, ", ".join(methods))


def _not_allowed(method: bytes, allowed: str) -> wire.NotServed:
    said = method.decode("ascii", "replace")
    return wire.NotServed(
        405, f"Not allowed to {said} here; use {allowed}.", param=allowed, code="method_not_supported"
    )
