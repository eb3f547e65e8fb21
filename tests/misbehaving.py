"""An HTTP server that misbehaves, each path in its own way, on a thread of the test's process:
`with misbehaving() as server: server.port`."""

import asyncio
import gzip
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

PAGE = "<!doctype html><title>Kettles</title><h1>Kettles</h1><p>They boil water.</p>"
_DRIP_S = 0.05


class Misbehaving:
    """Counts what it is asked, by path and by host, and how many requests of a host it has at once."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self.asked: Counter[str] = Counter()
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.at_s: list[float] = []
        self.down = False
        self.slow_s = 0.2
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(ready))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._over.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._answered(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if first == b"\x16":  # TLS, which it does not speak
            writer.transport.abort()
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        host = headers["host"]
        self.asked[path] += 1
        self.paths.append(path)
        self.headers.append(headers)
        self.at_s.append(self._loop.time())
        self.at_once[host] += 1
        self.most_at_once[host] = max(self.most_at_once[host], self.at_once[host])
        try:
            return await self._answer(path, host, headers, writer)
        finally:
            self.at_once[host] -= 1

    async def _answer(self, path: str, host: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        name, _, rest = path.removeprefix("/").partition("/")
        name = name.partition("?")[0]
        if self.down:
            writer.transport.abort()
            return False
        if name.isdigit():
            return _send(writer, b"no", status=int(name), more=f"Retry-After: {rest}\r\n" if rest else "")
        if name == "to":
            return _send(writer, b"", status=302, more=f"Location: {rest}\r\n")
        if name == "loop":
            return _send(writer, b"", status=301, more=f"Location: /loop/{int(rest or 0) + 1}\r\n")
        if name == "cookie":
            if "seen=yes" in headers.get("cookie", ""):
                return _send(writer, PAGE.encode())
            return _send(writer, b"", status=302, more="Location: /cookie\r\nSet-Cookie: seen=yes\r\n")
        if name == "recovers":
            return _send(writer, PAGE.encode()) if self.asked[path] > 2 else _send(writer, b"", status=500)
        if name == "waits":
            first = self.asked[path] == 1
            return _send(writer, b"", status=503, more="Retry-After: 1\r\n") if first else _send(writer, PAGE.encode())
        if name == "slow":
            await self._pause(self.slow_s)
            return _send(writer, PAGE.encode())
        return await self._badly(name, writer)

    async def _badly(self, name: str, writer: asyncio.StreamWriter) -> bool:
        if name in ("reset", "no-http"):
            if name == "reset":
                writer.transport.abort()
            writer.write(b"220 mail.test ready\r\n\r\n")
            return False
        if name in ("short", "stated-large"):
            _head(writer, f"Content-Length: {500 if name == 'short' else 99_999_999_999}\r\n")
            writer.write(PAGE.encode())
            return False
        if name in ("drip", "dripping-head", "endless"):
            await self._without_end(name, writer)
        if name == "silent":
            await self._over.wait()
        body, kind, more = answers().get(name, (PAGE.encode(), "text/html", ""))
        return _send(writer, body, kind=kind, more=more)

    async def _without_end(self, name: str, writer: asyncio.StreamWriter) -> None:
        if name == "endless":
            _head(writer, "Transfer-Encoding: chunked\r\n")
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
        if name == "drip":
            _head(writer, "Content-Length: 100000\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Drip: 1\r\n")
            await writer.drain()
            await self._pause(_DRIP_S)

    async def _pause(self, seconds: float) -> None:
        """Unless the server ends first."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
            raise asyncio.CancelledError


def _head(writer: asyncio.StreamWriter, more: str, status: int = 200, kind: str = "text/html") -> None:
    typed = f"Content-Type: {kind}\r\n" if kind else ""
    writer.write(f"HTTP/1.1 {status} Whatever\r\n{typed}{more}\r\n".encode("latin-1"))


def _send(
    writer: asyncio.StreamWriter, body: bytes, *, status: int = 200, kind: str = "text/html", more: str = ""
) -> bool:
    _head(writer, f"Content-Length: {len(body)}\r\n{more}", status, kind)
    writer.write(body)
    return True


@cache
def answers() -> dict[str, tuple[bytes, str, str]]:
    """Body, type and further headers of the paths that answer at once."""
    page, html = PAGE.encode(), "text/html"
    gzipped, deflated = "Content-Encoding: gzip\r\n", "Content-Encoding: deflate\r\n"
    meta = '<html><head><meta http-equiv="Content-Type" content="text/html; charset=windows-1251"></head>Чай'
    return {
        "bomb": (gzip.compress(bytes(50_000_000)), html, gzipped),
        "bombs": (gzip.compress(bytes(1_000_000)) * 60, html, gzipped),
        "gzip": (gzip.compress(page), html, gzipped),
        "members": (gzip.compress(page[:10]) + gzip.compress(page[10:]) + b"\0\0\0", html, gzipped),
        "cut-gzip": (gzip.compress(page)[:-12], html, gzipped),
        "no-gzip": (b"this is no gzip", html, gzipped),
        "deflate": (zlib.compress(page), html, deflated),
        "raw-deflate": (zlib.compress(page, wbits=-15), html, deflated),
        "brotli": (b"whatever", html, "Content-Encoding: br\r\n"),
        "huge-headers": (b"", html, f"X-Much: {'a' * 200_000}\r\n"),
        "many-headers": (b"", html, "".join([f"X-{number}: 1\r\n" for number in range(5000)])),
        "wrong-charset": ("Tee für zwölf".encode("cp1252"), "text/html; charset=utf-8", ""),
        "meta-charset": (meta.encode("cp1251"), html, ""),
        "odd-charset": (b"plain \\ud800", "text/html; charset=unicode_escape", ""),
        "binary": (b"%PDF-1.7\n\x00\x01\xff", "application/pdf", ""),
        "binary-as-html": (b"\x89PNG\r\n\x1a\n\x00\x01\xff", html, ""),
        "untyped": (page, "", ""),
    }


@contextmanager
def misbehaving(tls: ssl.SSLContext | None = None) -> Iterator[Misbehaving]:
    server, ready = Misbehaving(tls), threading.Event()
    answers()  # packing takes a while
    thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
