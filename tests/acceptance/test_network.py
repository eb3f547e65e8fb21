"""What stands between a user and a provider: proxies, certificates of one's own, headers that a gateway asks for."""

import base64
import http.client
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from acceptance.cli import Cli
from acceptance.endpoint import Answer, Asked, Endpoint, completion, endpoint

HOST = "provider.example"
"""Nobody has this name: only the proxy knows where it leads."""
TEXTS = [f"row {number}" for number in range(8)]
ASK = ("--ask", "What is {text}?", "--model", "openai:m")
PASSWORD = "canary-0123456789"


class Proxy:
    """A real proxy: it passes requests on, and opens tunnels. `seen` are their first lines."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: list[str] = []
        self.headers: list[http.client.HTTPMessage] = []
        self.needs = ""
        """`NAME:PASSWORD` that it asks for."""
        self.status = 200


@contextmanager
def proxy(leads_to: int) -> Iterator[Proxy]:  # noqa: C901 - a whole server in one place
    """Every name leads to this port of this machine."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (line := self.rfile.readline().decode()).strip():
                headers = http.client.parse_headers(self.rfile)
                made.seen.append(line.strip())
                made.headers.append(headers)
                wanted = f"Basic {base64.b64encode(made.needs.encode()).decode()}"
                status = made.status if not made.needs or headers["Proxy-Authorization"] == wanted else 407
                if status != 200:
                    self.wfile.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                    return
                method, target, _ = line.split()
                if method == "CONNECT":
                    self.tunnel()
                    return
                self.pass_on(method, target, headers)

        def tunnel(self) -> None:
            with socket.create_connection(("127.0.0.1", leads_to)) as there:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                pairs = {self.connection: there, there: self.connection}
                while True:
                    for side in select.select(list(pairs), [], [])[0]:
                        piece = side.recv(65536)
                        if not piece:
                            return
                        pairs[side].sendall(piece)

        def pass_on(self, method: str, target: str, headers: http.client.HTTPMessage) -> None:
            body = self.rfile.read(int(headers["Content-Length"] or 0))
            there = http.client.HTTPConnection("127.0.0.1", leads_to)
            there.request(method, urlsplit(target).path, body, {k: v for k, v in headers.items() if k != "Host"})
            answer = there.getresponse()
            text = answer.read()
            there.close()
            head = f"HTTP/1.1 {answer.status} Passed on\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
            self.wfile.write(head.encode() + text)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made = Proxy(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate, and one that it signed for HOST and this machine."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("authority")
    (folder / "names").write_text(f"subjectAltName=DNS:{HOST},IP:127.0.0.1\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for words in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Nobody's authority", "-days", "2"),
        ("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", f"/CN={HOST}"),
        ("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "names", "-out", "own.pem"),
    ):  # fmt: skip
        subprocess.run([program, *words], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def secured(authority: Path) -> Iterator[Endpoint]:
    """An endpoint that speaks TLS alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "own.pem", authority / "own.key")
    with endpoint(tls=context) as made:
        yield made


def port_of(made: Endpoint) -> int:
    return int(made.url.removesuffix("/v1").rpartition(":")[2])


def cli_in(folder: Path, **environ: str) -> Cli:
    cli = Cli(folder, **environ)
    cli.table("a.csv", TEXTS)
    return cli


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# Proxies.


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_for_plain_http(name: str, tmp_path: Path) -> None:
    """All calls go through it, by whichever name it is set; so they do where it is named without http://."""
    with endpoint() as server, proxy(port_of(server)) as between:
        there = between.url.removeprefix("http://") if name == "ALL_PROXY" else between.url
        if name == "HTTP_PROXY":
            there = f"{between.url}/"
        ended = cli_in(tmp_path, **{name: there}).run("run", "a.csv", *ASK, "--base-url", f"http://{HOST}/v1")
        assert ended.status == 0, ended.err
        assert len(server.asked) == len(TEXTS)
        assert set(between.seen) == {f"POST http://{HOST}/v1/chat/completions HTTP/1.1"}


def test_a_proxy_for_https(authority: Path, tmp_path: Path) -> None:
    """It opens tunnels and sees no more than the host; name and password are sent to it, and stored and shown nowhere."""
    with secured(authority) as server, proxy(port_of(server)) as between:
        between.needs = f"me:{PASSWORD}"
        there = between.url.replace("//", f"//me:{PASSWORD}@")
        cli = cli_in(
            tmp_path, HTTPS_PROXY=there, SSL_CERT_FILE=str(authority / "ca.pem"), OPENAI_API_KEY="sk-0123456789"
        )
        ended = cli.run("run", "a.csv", *ASK, "--base-url", f"https://{HOST}/v1", "--debug")
        assert ended.status == 0, ended.err
        assert len(server.asked) == len(TEXTS)
        assert set(between.seen) == {f"CONNECT {HOST}:443 HTTP/1.1"}
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer sk-0123456789"}
        assert all("proxy-authorization" not in asked.headers for asked in server.asked)
        assert all(headers["Authorization"] is None for headers in between.headers)
        between.needs = "me:another"
        refused = cli.run("run", "a.csv", *ASK, "--base-url", f"https://{HOST}/v1", "--fresh", "--debug")
    assert refused.status == 3
    assert f"The proxy {between.url} answered 407." in refused.sentences[0]
    assert "NAME:PASSWORD" in refused.sentences[0]
    assert PASSWORD not in ended.out + ended.err + refused.out + refused.err
    assert PASSWORD.encode() not in bytes_of(tmp_path)


@pytest.mark.parametrize(("secure", "status", "says"), [(False, 407, "answered 407"), (True, 403, "answered 403")])
def test_a_proxy_that_refuses(secure: bool, status: int, says: str, authority: Path, tmp_path: Path) -> None:
    """Status 3 and one sentence that names the proxy and what to do; no item is blamed."""
    with endpoint() as server, proxy(port_of(server)) as between:
        between.status = status
        cli = cli_in(tmp_path, HTTPS_PROXY=between.url, HTTP_PROXY=between.url, SSL_CERT_FILE=str(authority / "ca.pem"))
        ended = cli.run("run", "a.csv", *ASK, "--base-url", f"http{'s' if secure else ''}://{HOST}/v1")
        assert (ended.status, ended.kind) == (3, "credentials")
        assert f"The proxy {between.url} {says}" in ended.error
        assert not server.asked


def test_what_needs_no_proxy(tmp_path: Path) -> None:
    """This machine never does, nor what NO_PROXY names: a proxy that is not there is not asked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
        with endpoint() as server:
            cli = cli_in(tmp_path, HTTP_PROXY=dead, HTTPS_PROXY=dead)
            assert cli.run("run", "a.csv", *ASK, "--base-url", server.url).status == 0
            for name in ("*", "there.example,0.0.0.0", f"0.0.0.0:{port_of(server)}"):
                cli.environ["NO_PROXY"] = name
                words = ("--base-url", f"http://0.0.0.0:{port_of(server)}/v1")  # which is this machine by another name
                assert cli.run("run", "a.csv", *ASK, *words, "--fresh").status == 0
        assert len(server.asked) == 4 * len(TEXTS)


@pytest.mark.parametrize(
    "there", ["socks5://127.0.0.1:1080", "http://", "http://127.0.0.1:port", f"ftp://me:{PASSWORD}@h"]
)
def test_a_proxy_that_is_none(there: str, tmp_path: Path) -> None:
    """What headrace cannot use is told with what it can, without the password in it."""
    ended = cli_in(tmp_path, HTTP_PROXY=there).run("run", "a.csv", *ASK, "--base-url", f"http://{HOST}/v1", "--debug")
    assert ended.status == 2
    assert len(ended.sentences) == 1
    assert "The proxy for http: addresses is no http:// or https:// address. Write HTTP_PROXY=" in ended.sentences[0]
    assert ended.sentences[0].endswith(" [usage]")
    assert PASSWORD not in ended.out + ended.err


# Certificates.


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"])
def test_a_certificate_of_ones_own_authority(name: str, authority: Path, tmp_path: Path) -> None:
    """The environment names it, and the calls go through."""
    path = authority / "ca.pem"
    if name == "SSL_CERT_DIR":
        (tmp_path / "certs").mkdir()
        path = tmp_path / "certs"
        shutil.copy(authority / "ca.pem", path)
        subprocess.run(["openssl", "rehash", path], check=True, capture_output=True)
    with secured(authority) as server:
        ended = cli_in(tmp_path, **{name: str(path)}).run("run", "a.csv", *ASK, "--base-url", server.url)
        assert ended.status == 0, ended.err
        assert len(server.asked) == len(TEXTS)


def test_a_certificate_of_nobody(authority: Path, tmp_path: Path) -> None:
    """Without it one sentence says at once what to do; nothing is sent, no item is blamed, and then it goes on."""
    with secured(authority) as server:
        cli = cli_in(tmp_path)
        ended = cli.run("run", "a.csv", *ASK, "--base-url", server.url)
        assert (ended.status, ended.out, ended.kind) == (3, "", "untrusted")
        assert f"The certificate of {server.url.removesuffix('/v1')} is not trusted: " in ended.error
        assert "SSL_CERT_FILE" in ended.error
        assert not server.asked
        cli.environ["SSL_CERT_FILE"] = str(authority / "ca.pem")
        again = cli.run("run", "a.csv", *ASK, "--base-url", server.url)
        assert (again.status, len(again.rows)) == (0, len(TEXTS))


def test_a_certificate_of_another_host(authority: Path, tmp_path: Path) -> None:
    """Then no authority helps, and the address is what to look at."""
    with secured(authority) as server:
        cli = cli_in(tmp_path, SSL_CERT_FILE=str(authority / "ca.pem"))
        ended = cli.run("run", "a.csv", *ASK, "--base-url", server.url.replace("127.0.0.1", "localhost"))
    assert (ended.status, ended.kind) == (3, "untrusted")
    assert "Check the address" in ended.error
    assert "SSL_CERT_FILE" not in ended.error


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_certificate_file_that_is_none(content: str | None, authority: Path, tmp_path: Path) -> None:
    """It is named, instead of a failure of each call that nobody understands."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with secured(authority) as server:
        ended = cli_in(tmp_path, SSL_CERT_FILE=str(path)).run("run", "a.csv", *ASK, "--base-url", server.url)
    assert (ended.status, ended.kind) == (2, "usage")
    assert f"SSL_CERT_FILE names {path}, which cannot be used" in ended.error


# Headers.


def test_headers_reach_every_request(tmp_path: Path) -> None:
    """Those that are tried again too; they go before headrace's own, and are stored and shown nowhere."""
    tried: set[str] = set()

    def answer(asked: Asked) -> Answer:
        text = asked.body["messages"][0]["content"]
        if text in tried:
            return completion("yes")
        tried.add(text)
        return 500, '{"error": {"message": "once"}}'

    cli = cli_in(tmp_path, OPENAI_API_KEY="sk-0123456789")
    words = ("--header", f"X-Team={PASSWORD}", "--header", "User-Agent=mine", "--header", "X-Empty=")
    with endpoint(answer) as server:
        ended = cli.run("run", "a.csv", *ASK, "--base-url", server.url, *words, "--report", "r.html", "--debug")
        assert ended.status == 0, ended.err
        assert len(server.asked) == 2 * len(TEXTS)
        sent = {(a.headers["x-team"], a.headers["user-agent"], a.headers["x-empty"]) for a in server.asked}
    assert sent == {(PASSWORD, "mine", "")}
    shown = cli.run("runs", "show", "a", "--json")
    assert PASSWORD not in ended.out + ended.err + shown.out
    assert PASSWORD.encode() not in bytes_of(tmp_path)
