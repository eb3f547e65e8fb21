"""Exceptions of other libraries inside a user's function: real ones, raised by a real server's answers, and odd ones."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.call import Request
from headrace.core.digest import digest_of
from headrace.core.errors import CallError, FunctionError, HeadraceError, Throttled, Verdict
from headrace.core.limits import Told, Unit
from headrace.provider.foreign import foreign_error, told
from headrace.provider.function import function_call
from headrace.provider.secret import without_secrets
from headrace.provider.threads import Threads

KEY = "sk-secret-0123456789abcdef"
NOW = 1_795_341_600.0
Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """Gives every request the same answer: a status, headers and a body; None closes, an event is waited for."""

    daemon_threads = True
    answer: Answer | threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = self.server.answer
        if isinstance(answer, threading.Event):
            answer.wait(20)
        if not isinstance(answer, tuple):
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as the server's library names it

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            if isinstance(served.answer, threading.Event):
                served.answer.set()
            served.shutdown()
            thread.join()


# Each library's own call, as its page shows it, without its own retries.


def ask_openai(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("openai")
    with module.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=timeout_s) as client:
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])


def ask_openai_async(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("openai")

    async def ask() -> Any:
        async with module.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=timeout_s) as client:
            return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])

    return asyncio.run(ask())


def ask_anthropic(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("anthropic")
    with module.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=timeout_s) as client:
        return client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}])


def ask_anthropic_stream(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("anthropic")
    with module.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=timeout_s) as client:
        return list(client.messages.create(model="m", max_tokens=9, messages=[], stream=True))


def ask_genai(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("google.genai")
    options = {"base_url": url, "timeout": int(timeout_s * 1000)}
    with module.Client(api_key=KEY, http_options=options) as client:
        return client.models.generate_content(model="m", contents="q")


def ask_httpx(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("httpx")
    headers = {"Authorization": f"Bearer {KEY}"}
    return module.get(f"{url}/page?api_key={KEY}", headers=headers, timeout=timeout_s).raise_for_status()


def ask_httpx2(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("httpx2")
    return module.get(f"{url}/page?api_key={KEY}", timeout=timeout_s).raise_for_status()


def ask_aiohttp(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("aiohttp")

    async def ask() -> Any:
        timeout = module.ClientTimeout(total=timeout_s)
        async with (
            module.ClientSession(timeout=timeout, headers={"X-API-Key": KEY}) as session,
            session.get(f"{url}/page?key={KEY}", raise_for_status=True) as answer,
        ):
            return await answer.read()

    return asyncio.run(ask())


def ask_requests(url: str, timeout_s: float) -> Any:
    module = pytest.importorskip("requests")
    answer = module.get(f"{url}/page?key={KEY}", headers={"Authorization": f"Bearer {KEY}"}, timeout=timeout_s)
    answer.raise_for_status()
    return answer


def ask_urllib(url: str, timeout_s: float) -> Any:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(f"{url}/page?key={KEY}", timeout=timeout_s) as answer:
            return answer.read()
    except HTTPError as error:
        error.close()
        raise


SDKS = [ask_openai, ask_openai_async, ask_anthropic, ask_genai]
WEB = [ask_httpx, ask_httpx2, ask_aiohttp, ask_requests, ask_urllib]
Ask = Callable[[str, float], Any]


def raised(ask: Ask, url: str, timeout_s: float = 10) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises
        ask(url, timeout_s)
    assert KEY not in told(caught.value)
    return caught.value


def meant(ask: Ask, url: str, timeout_s: float = 10) -> CallError:
    error = foreign_error(raised(ask, url, timeout_s), NOW)
    assert error is not None
    assert KEY not in str(error)
    return error


def body(message: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"error": {"message": message, **fields}})


TPM = "on tokens per min (TPM): Limit 30000, Used 29000, Requested 1500. Please try again in 1.5s."


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("ask", SDKS, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((429, {"retry-after": "7"}, body(TPM, type="tokens", code="rate_limit_exceeded")), "throttled"),
        ((429, {}, body("No quota.", type="insufficient_quota", code="insufficient_quota")), "quota-exhausted"),
        ((429, {"retry-after": "7200"}, body("Later.")), "quota-exhausted"),
        ((529, {}, body("Overloaded", type="overloaded_error")), "overloaded"),
        ((503, {}, b"<html>busy</html>"), "overloaded"),
        ((500, {}, b"oops"), "transient"),
        ((400, {}, body("bad", code="context_length_exceeded")), "context-too-long"),
        ((400, {}, body("bad")), "rejected"),
        ((413, {}, body("large")), "larger-than-limit"),
        ((401, {}, body(f"Incorrect API key provided: {KEY}")), "credentials"),
        ((404, {}, body("no such model")), "model-not-found"),
    ],
)
def test_a_providers_sdk_speaks_for_the_provider(server: Server, ask: Ask, answer: Answer, kind: str) -> None:
    """Its refusals mean what our own call's would."""
    server.answer = answer
    error = meant(ask, server.url)
    assert (error.kind, error.status) == (kind, answer[0])


@pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
def test_an_sdks_refusal_keeps_its_hints(server: Server, ask: Ask) -> None:
    """Headers and body are read as those of our own call."""
    headers = {"retry-after": "7", "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499"}
    server.answer = (429, headers, body(TPM, type="tokens"))
    hints = meant(ask, server.url).hints
    assert hints is not None
    assert (hints.retry_after_s, hints.blamed, hints.charged) == (7, Unit.TOKENS, 1500)
    assert hints.told == (Told(Unit.REQUESTS, 500, 499), Told(Unit.TOKENS, 30_000, 1000))


def test_an_error_in_a_stream_that_began_well(server: Server) -> None:
    """Anthropic's overload after a 200 is an overload."""
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    server.answer = (200, {"content-type": "text/event-stream"}, event)
    assert meant(ask_anthropic_stream, server.url).kind == "overloaded"


@pytest.mark.parametrize("ask", WEB, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((429, {"retry-after": "7"}, b"slow down"), "throttled"),
        ((429, {"retry-after": "7200"}, b""), "rejected"),
        ((503, {"retry-after": "3"}, b"<html>"), "overloaded"),
        ((502, {}, b""), "transient"),
        ((408, {}, b""), "transient"),
        ((400, {}, b""), "rejected"),
        ((401, {}, b""), "rejected"),
        ((402, {}, b""), "rejected"),
        ((403, {}, b"<html>"), "rejected"),
        ((404, {}, b"gone"), "rejected"),
        ((413, {}, b""), "larger-than-limit"),
    ],
)
def test_a_page_that_is_not_there_stops_no_run(server: Server, ask: Ask, answer: Answer, kind: str) -> None:
    """What a plain HTTP library raises is about this item's address; only waiting and trying again are as ever."""
    server.answer = answer
    error = meant(ask, server.url)
    assert (error.kind, error.status) == (kind, answer[0])
    assert error.verdict is not Verdict.STOP_RUN
    if kind == "throttled":
        assert error.retry_after_s == 7


@pytest.mark.parametrize("ask", [ask_httpx, ask_requests])
def test_a_providers_quota_is_gone_whoever_asks(server: Server, ask: Ask) -> None:
    """A body with a provider's own code for it stops the run, through a plain HTTP library too."""
    server.answer = (429, {}, body("No quota.", code="insufficient_quota"))
    assert meant(ask, server.url).kind == "quota-exhausted"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("ask", [*SDKS, *WEB], ids=lambda ask: ask.__name__)
def test_no_answer_is_a_passing_fault(server: Server, ask: Ask) -> None:
    """A connection that closes and an answer that does not come are tried again; so is a refused connection."""
    server.answer = None
    assert meant(ask, server.url).kind == "transient"
    server.answer = threading.Event()
    start = time.monotonic()
    assert meant(ask, server.url, 0.2).kind == "transient"
    assert time.monotonic() - start < 10
    server.answer.set()
    with socket.socket() as taken:  # bound, and listening to nobody
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        is_sdk = ask in (ask_openai, ask_openai_async, ask_anthropic)
        assert meant(ask, nobody).kind == ("unreachable" if is_sdk else "transient")


@pytest.mark.parametrize("ask", [ask_httpx, ask_requests])
@pytest.mark.parametrize("url", ["", "ftp://a/b", "nonsense"])
def test_an_address_that_is_none_is_the_functions_fault(ask: Ask, url: str) -> None:
    """Trying again would not mend it."""
    assert foreign_error(raised(ask, url), NOW) is None


def test_nothing_is_fetched_to_understand_an_error(server: Server) -> None:
    """A body that was not read is left where it is."""
    module = pytest.importorskip("requests")
    server.answer = (429, {}, body("No quota.", code="insufficient_quota"))
    with module.get(server.url, stream=True) as answer:
        with pytest.raises(module.HTTPError) as caught:
            answer.raise_for_status()
        error = foreign_error(caught.value, NOW)
        assert error is not None
        assert error.kind == "throttled"
        assert answer._content is False


# Through the function.


def run(function: Callable[[Any], Any], item: Any = None) -> HeadraceError:
    threads = Threads()
    try:
        with pytest.raises(HeadraceError) as caught:
            asyncio.run(function_call(function, threads, on_loop=False)(Request(digest_of(1), item=item)))  # type: ignore[arg-type]
    finally:
        threads.close()
    return caught.value


def test_a_function_raises_what_its_sdk_meant(server: Server) -> None:
    """Plain and async functions; also where the function wraps it, or asks several at once."""
    openai = pytest.importorskip("openai")
    server.answer = (429, {"retry-after": "2"}, body("slow"))

    def plain(_item: Any) -> Any:
        return ask_openai(server.url, 10)

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
            return await client.chat.completions.create(model="m", messages=[])

    async def direct(_item: Any) -> Any:
        return await ask()

    async def wrapped(_item: Any) -> Any:
        try:
            return await ask()
        except openai.RateLimitError as error:
            raise RuntimeError("could not ask") from error

    async def grouped(_item: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            return [group.create_task(ask()), group.create_task(ask())]

    for function in (plain, direct, wrapped, grouped):
        error = run(function)
        assert isinstance(error, Throttled)
        assert error.retry_after_s == 2


# Odd ones.


class Odd(Exception):
    def __init__(self, **carried: Any) -> None:
        super().__init__("odd")
        self.__dict__.update(carried)


class Holder:
    def __init__(self, **carried: Any) -> None:
        self.__dict__.update(carried)


class Broken(Exception):
    """Nothing about it can be read."""

    def __str__(self) -> str:
        raise ValueError("no words")

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise RuntimeError(name)


class HalfBroken(Exception):
    status_code = 429

    @property
    def headers(self) -> Any:
        raise KeyError("headers")

    @property
    def body(self) -> Any:
        raise SystemError

    @property
    def response(self) -> Any:
        return Holder(headers=[("Retry-After", 3), (b"X-Odd", None)], content=[])


class ReadTimeout(Exception):
    """As some library names it."""


class NoSuchCall(Exception):
    """As a gRPC error has it: `code` is a method, and `status` a text."""

    status = "NOT_FOUND"

    def code(self) -> int:
        return 404


AWS = {
    "Error": {"Code": "ThrottlingException", "Message": "Too many requests, please wait before trying again."},
    "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {"Retry-After": "4"}},
}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Odd(status_code=429), "throttled"),
        (Odd(status_code=400), "rejected"),
        (Odd(status_code=401), "rejected"),
        (Odd(status_code="429"), None),
        (Odd(status_code=True), None),
        (Odd(status_code=7), None),
        (Odd(code=404), None),
        (Odd(code=429, headers={"Retry-After": "1"}), "throttled"),
        (Odd(response=Holder(status_code=503, text="busy")), "overloaded"),
        (Odd(response=Holder(status=404, headers=7)), "rejected"),
        (Odd(response=AWS), "throttled"),
        (Odd(response={"ResponseMetadata": {"HTTPStatusCode": 503}, "Error": None}), "overloaded"),
        (Odd(response={}), None),
        (HalfBroken(), "throttled"),
        (Broken(), None),
        (ReadTimeout("slow"), "transient"),
        (NoSuchCall(), None),
        (ConnectionResetError(), "transient"),
        (TimeoutError(), "transient"),
        (socket.gaierror(-2, "Name or service not known"), "transient"),
        (ValueError("mine"), None),
        (FileNotFoundError("mine"), None),
        (ExceptionGroup("two", [Odd(status_code=429), Odd(status_code=500)]), "throttled"),
        (ExceptionGroup("two", [Odd(status_code=429), ValueError()]), None),
    ],
)
def test_what_carries_a_status_is_recognised(error: Exception, kind: str | None) -> None:
    """By what it carries, whatever class it is; and what only looks so is left to the function."""

    def function(_item: Any) -> Any:
        raise error

    found = foreign_error(error, NOW)
    assert (found.kind if found else None) == kind
    assert isinstance(run(function), type(found) if found else FunctionError)


def test_lines_that_are_circles_come_to_an_end() -> None:
    """An exception that was raised from itself, or around a corner, is left alone, however long the line."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert foreign_error(one, NOW) is None
    one.__cause__ = one
    assert foreign_error(one, NOW) is None
    two.__cause__ = Odd(status_code=429)
    two.__cause__.__cause__ = two
    found = foreign_error(two, NOW)
    assert found is not None
    assert found.kind == "throttled"
    line: BaseException = Odd(status_code=429)
    for number in range(10_000):
        wrapped = ValueError(number)
        wrapped.__cause__, line = line, wrapped
    assert foreign_error(line, NOW) is None


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.floats()
    | st.sampled_from([429, 503, {"error": {"code": "insufficient_quota"}}, object(), print, len]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
CARRIED = st.sampled_from(
    [
        "status",
        "code",
        "status_code",
        "headers",
        "body",
        "details",
        "response",
        "request",
        "error",
        "content",
        "text",
        "_content",
    ]
)


@given(
    st.dictionaries(CARRIED, ANY, max_size=5),
    st.dictionaries(CARRIED, ANY, max_size=5),
    st.sampled_from([Odd, ReadTimeout]),
)
def test_p21_nothing_an_exception_carries_breaks_recognition(carried: Any, answered: Any, kind: Any) -> None:
    """P21: any attributes of any type; a wait is from 0."""
    error = kind()
    error.__dict__.update({"response": Holder(**answered), **carried})
    for module in ("here", "openai.odd", "requests.odd"):
        kind.__module__ = module
        found = foreign_error(error, NOW)
        assert found is None or found.retry_after_s is None or found.retry_after_s >= 0
    kind.__module__ = __name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"400 for url: https://a/b?q=1&key={KEY}&z=2", "400 for url: https://a/b?q=1&key=***&z=2"),
        ("https://me:pass@proxy:8080 refused", "https://***@proxy:8080 refused"),
        ("sent Authorization: Bearer abcdefghijkl.mno", "sent Authorization: Bearer ***"),
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: ***."),
        ("{'api_key': 'abcdefgh12345'}", "{'api_key': '***'}"),
        ("key AIzaSyA1234567890123456789012345678901", "key ***"),
        ("https://a/b?page=3 not found", "https://a/b?page=3 not found"),
        ("my secret word", "my secret word"),
    ],
)
def test_messages_keep_no_secrets(text: str, expected: str) -> None:
    """Keys in addresses, headers and known forms are starred out; the rest stays."""
    assert without_secrets(text) == expected


def test_a_functions_own_message_is_bounded_and_clean() -> None:
    """A megabyte of words with a key in them becomes a readable message without it."""

    def function(_item: Any) -> Any:
        raise ValueError(f"https://a/?token={KEY} " + "x" * 1_000_000)

    error = run(function)
    assert len(error.message) <= 2100
    assert KEY not in error.message
