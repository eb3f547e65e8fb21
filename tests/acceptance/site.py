"""A site on this machine for tests: `with site() as there: there.url`. It counts what it is asked."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GONE = "gone"
"""A path that begins so is answered with 404."""


def words(name: str) -> str:
    """What the page of this name says; no other page says it."""
    return f"The page {name} is about kettles, and it says so at some length, so that there is a text to read."


def page(name: str) -> str:
    paragraphs = "".join(f"<p>Paragraph {number} of {name} goes on about kettles and lids.</p>" for number in range(4))
    return (
        f"<!doctype html><html><head><title>Title of {name}</title></head><body><nav><a href='/'>home</a></nav>"
        f"<main><h1>About {name}</h1><p>{words(name)}</p>{paragraphs}</main></body></html>"
    )


class Site:
    def __init__(self, delay_s: float) -> None:
        self.asked: Counter[str] = Counter()
        """How often each page was asked for, by the name behind the slash."""
        self.in_flight = self.most = 0
        self.delay_s = delay_s
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def site(delay_s: float = 0.0) -> Iterator[Site]:
    """Every path is a page, but for those that are gone; each is answered after `delay_s`."""
    there, over = Site(delay_s), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            with there.lock:
                there.asked[name] += 1
                there.in_flight += 1
                there.most = max(there.most, there.in_flight)
            try:
                over.wait(there.delay_s)
                self._answer(name)
            finally:
                with there.lock:
                    there.in_flight -= 1

        def _answer(self, name: str) -> None:
            body = page(name).encode()
            self.send_response(404 if name.startswith(GONE) else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # who asked was killed
                self.wfile.write(body)

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield there
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
