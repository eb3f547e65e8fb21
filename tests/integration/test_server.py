"""`headrace simulate` as a real child process: its HTTP, its dialect, its faults and its books."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from simulator import Simulator, simulator

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["positive", "negative"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["label", "score", "why"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def plain() -> Iterator[Simulator]:
    """One server without latency or faults for all tests that only need answers."""
    with simulator() as sim:
        yield sim


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def post(sim: Simulator, sent: bytes, path: str = "/v1/chat/completions", timeout: float = 10) -> tuple[int, Any, Any]:
    """Status, headers and decoded body of one call with the standard library's client."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sim.port, timeout=timeout)) as connection:
        connection.request("POST", path, sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())


def raw(sim: Simulator, sent: bytes, *, until: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """What the server sends to these bytes until it closes, or `until` is content."""
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as connection:
        connection.sendall(sent)
        got = b""
        while not until(got) and (more := connection.recv(65536)):
            got += more
    return got


def http_post(sent: bytes, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(sent)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + sent


def client(sim: Simulator, **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=sim.url, **{"api_key": "k", "max_retries": 0, "timeout": 10, **settings})


def chat(sim: Simulator, text: str, **settings: Any) -> Any:
    with client(sim, **settings) as sdk:
        return sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def eventually(check: Callable[[], bool]) -> bool:
    """Whether the server, in another process, gets there within five seconds."""
    ends = time.monotonic() + 5
    while not (good := check()) and time.monotonic() < ends:
        pass
    return good


# Answers.


def test_a_good_answer_with_the_official_sdk(plain: Simulator) -> None:
    """The OpenAI SDK reads text, usage and finish reason; the ledger names the item."""
    plain.reset()
    answer = chat(plain, "what is it")
    assert answer.choices[0].message.content.startswith("simulated answer ")
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "m")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens == 3 + 7
    assert plain.ledger() == {
        "requests": 1, "by_status": {"200": 1}, "in_flight": 0, "most_in_flight": 1, "paid": 1, "input_tokens": 3,
        "output_tokens": 7, "items": {"what is it": 1}, "limits": [],
    }  # fmt: skip


def test_a_typed_answer_with_the_official_sdk(plain: Simulator) -> None:
    """A response_format with a schema is answered by JSON that satisfies it."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    with client(plain) as sdk:
        for number in range(20):
            answer = sdk.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": f"item {number}"}],
                response_format=form,  # type: ignore[call-overload]
            )
            value = json.loads(answer.choices[0].message.content)
            assert value.keys() == {"label", "score", "why"}
            assert value["label"] in ("positive", "negative")
            assert 0 <= value["score"] <= 1


def test_a_pydantic_model_with_the_official_sdk(plain: Simulator) -> None:
    """The SDK's own parse of a Pydantic type works against the simulated provider."""
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Insight", label=(str, ...), parts=(list[int], ...))
    with client(plain) as sdk:
        answer = sdk.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "x"}], response_format=model
        )
    assert isinstance(answer.choices[0].message.parsed, model)


def test_answers_do_not_depend_on_the_server(plain: Simulator) -> None:
    """Another server with another seed gives the same answer to the same request."""
    with simulator("--seed", "9") as other:
        assert chat(plain, "same").choices == chat(other, "same").choices


def test_content_may_come_in_parts(plain: Simulator) -> None:
    """Text parts are joined, roles of newer and older dialects are understood, null content is empty."""
    plain.reset()
    parts = [{"type": "text", "text": "left "}, {"type": "text", "text": "right"}]
    messages = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": parts},
        {"role": "tool", "content": None},
    ]
    assert post(plain, json.dumps({"model": "m", "messages": messages}).encode())[0] == 200
    assert plain.ledger()["items"] == {"left right": 1}


def test_max_tokens_cuts(plain: Simulator) -> None:
    """A small maximum output ends with finish_reason length."""
    choice = post(plain, body("x", max_tokens=2))[2]["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "simulate")


def test_other_pages(plain: Simulator) -> None:
    """Models, health, both spellings of the chat path; other pages and methods get JSON errors."""
    with client(plain) as sdk:
        assert [model.id for model in sdk.models.list()] == ["simulated"]
    assert plain.ask("GET", "/healthz") == {"status": "ok"}
    assert post(plain, body("x"), "/chat/completions")[0] == 200
    status, _, said = post(plain, body("x"), "/v1/nowhere")
    assert (status, said["error"]["code"]) == (404, "unknown_url")
    status, headers, said = post(plain, b"", "/healthz")
    assert (status, headers["Allow"], said["error"]["type"]) == (405, "GET", "invalid_request_error")
    assert b" 405 " in raw(plain, b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


# What is refused.


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":"x"}', None),
        (b'{"model":"m","messages":[{"role":"pirate","content":"x"}]}', "messages.[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":7}]}', None),
        (body("x", stream=True), "stream"),
        (body("x", n=2), "n"),
        (body("x", max_tokens=0), "max_tokens"),
        (body("x", response_format={"type": "json_schema"}), "response_format"),
        (
            body("x", response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": []}}}),
            None,
        ),
        (body("x", response_format=7), "response_format"),
    ],
)
def test_bad_requests_are_400(plain: Simulator, sent: bytes, param: str | None) -> None:
    """Whatever is wrong with a body, the answer is a 400 in OpenAI's shape, and it is not paid."""
    plain.reset()
    status, _, said = post(plain, sent)
    assert status == 400
    assert said["error"].keys() == {"message", "type", "param", "code"}
    assert said["error"]["param"] == param
    ledger = plain.ledger()
    assert (ledger["by_status"], ledger["paid"], ledger["in_flight"]) == ({"400": 1}, 0, 0)


def test_a_wrong_key_is_401() -> None:
    """With --api-key only that key is served; the refusal does not repeat the key that was sent."""
    with simulator("--api-key", "sk-right") as sim:
        assert chat(sim, "x", api_key="sk-right").choices
        for key in ("sk-wrong", "sk-righ", "sk-right-and-more"):
            with pytest.raises(openai.AuthenticationError) as caught:
                chat(sim, "x", api_key=key)
            assert caught.value.code == "invalid_api_key"
            assert key not in str(caught.value)
        assert post(sim, body("x"))[0] == 401
        assert sim.ledger()["by_status"] == {"200": 1, "401": 4}


def test_an_unknown_model_is_404() -> None:
    """With --model other models are not found."""
    with simulator("--model", "only") as sim:
        with pytest.raises(openai.NotFoundError) as caught:
            chat(sim, "x")
        assert caught.value.code == "model_not_found"
        assert (
            post(sim, json.dumps({"model": "only", "messages": [{"role": "user", "content": "x"}]}).encode())[0] == 200
        )


# Faults.


def test_500_and_429() -> None:
    """Errors have OpenAI's shape, and a 429 carries Retry-After, which the SDK obeys."""
    with simulator("--faults", "500=1") as sim:
        with pytest.raises(openai.InternalServerError):
            chat(sim, "x")
        assert sim.ledger()["by_status"] == {"500": 1}
    with simulator("--faults", "429=1,retry_after=0.25") as sim:
        status, headers, said = post(sim, body("x"))
        assert (status, headers["Retry-After"], said["error"]["code"]) == (429, "0.25", "rate_limit_exceeded")
        with pytest.raises(openai.RateLimitError):
            chat(sim, "x", max_retries=1)
        assert sim.ledger()["by_status"] == {"429": 3}


def test_a_reset_is_a_tcp_reset() -> None:
    """The connection does not end, it breaks."""
    with simulator("--faults", "reset=1") as sim:
        with pytest.raises(ConnectionResetError):
            post(sim, body("x"))
        with pytest.raises(openai.APIConnectionError):
            chat(sim, "x")
        assert sim.ledger()["by_status"] == {"reset": 2}


def test_a_malformed_body_is_no_json() -> None:
    """A 200 whose body is whole but no JSON."""
    with simulator("--faults", "malformed=1") as sim:
        with pytest.raises(json.JSONDecodeError):
            post(sim, body("x"))
        ledger = sim.ledger()
        assert (ledger["by_status"], ledger["paid"]) == ({"malformed": 1}, 0)


def test_a_cut_body_is_shorter_than_promised() -> None:
    """A 200 that closes before Content-Length is reached."""
    with simulator("--faults", "cut=1") as sim:
        with pytest.raises(http.client.IncompleteRead):
            post(sim, body("x"))
        with pytest.raises(openai.APIConnectionError):
            chat(sim, "x")
        ledger = sim.ledger()
        assert (ledger["by_status"], ledger["paid"]) == ({"cut": 2}, 0)


def test_a_hang_never_answers() -> None:
    """The client's timeout ends it; until then it is in flight, afterwards it is not."""
    with simulator("--faults", "hang=1") as sim:
        with pytest.raises(openai.APITimeoutError):
            chat(sim, "x", timeout=0.3)
        assert eventually(lambda: sim.ledger()["in_flight"] == 0)
        assert sim.ledger()["by_status"] == {"hang": 1}


def test_faults_are_the_same_whatever_the_order() -> None:
    """Two servers with one seed give each item the same statuses, in opposite orders; another seed gives others."""

    def statuses(seed: str, texts: list[str]) -> dict[str, list[int]]:
        with simulator("--faults", "500=0.3,429=0.3", "--seed", seed) as sim:
            found: dict[str, list[int]] = {}
            for text in texts:
                status = 0
                while status != 200:
                    status = post(sim, body(text))[0]
                    found.setdefault(text, []).append(status)
            assert sim.ledger()["items"] == dict.fromkeys(texts, 1)
            return found

    texts = [f"item {number}" for number in range(40)]
    first = statuses("3", texts)
    assert first == statuses("3", texts[::-1])
    assert first != statuses("4", texts)


# Calls at the same time, and clients that leave.


def test_most_in_flight_and_the_limit() -> None:
    """Twelve calls at once are twelve in flight; above --max-concurrency they are refused."""
    with simulator("--latency", "0.5") as sim, concurrent.futures.ThreadPoolExecutor(12) as threads:
        assert {found[0] for found in threads.map(lambda n: post(sim, body(str(n))), range(12))} == {200}
        assert sim.ledger()["most_in_flight"] == 12
    with simulator("--latency", "0.5", "--max-concurrency", "5") as sim:
        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            found = list(threads.map(lambda n: post(sim, body(str(n))), range(12)))
        assert sorted(status for status, _, _ in found) == [200] * 5 + [429] * 7
        assert all(headers["Retry-After"] == "1" for status, headers, _ in found if status == 429)
        assert sim.ledger(items=False) == {**sim.ledger(items=False), "paid": 5, "most_in_flight": 6}


def test_a_client_that_leaves_is_not_served_on() -> None:
    """A call whose client has gone leaves `gone`, frees its place at once, and is not paid."""
    with simulator("--latency", "60") as sim:
        with socket.create_connection(("127.0.0.1", sim.port)) as connection:
            connection.sendall(http_post(body("left behind")))
            assert eventually(lambda: sim.ledger()["in_flight"] == 1)
        assert eventually(lambda: sim.ledger()["in_flight"] == 0)
        ledger = sim.ledger()
        assert (ledger["by_status"], ledger["paid"], ledger["items"]) == ({"gone": 1}, 0, {})


def test_a_reset_of_the_ledger_keeps_calls_in_flight() -> None:
    """DELETE /ledger forgets the counts but not who is being served."""
    with simulator("--latency", "60") as sim, socket.create_connection(("127.0.0.1", sim.port)) as connection:
        connection.sendall(http_post(body("x")))
        assert eventually(lambda: sim.ledger()["in_flight"] == 1)
        sim.reset()
        ledger = sim.ledger()
        assert (ledger["in_flight"], ledger["most_in_flight"], ledger["by_status"]) == (1, 1, {})


# HTTP itself.


def test_pipelined_requests_are_answered_in_order() -> None:
    """A hundred requests in one write, with latencies of all lengths, come back in their order."""
    with simulator("--latency", "lognormal:0.005,1") as sim:
        sent = b"".join(http_post(body(f"item {number}")) for number in range(99))
        got = raw(sim, sent + http_post(body("item 99"), "Connection: close"))
        assert got.count(b"HTTP/1.1 200 OK") == 100
        alone = [post(sim, body(f"item {number}"))[2]["choices"][0]["message"]["content"] for number in range(100)]
        places = [got.index(text.encode()) for text in alone]
        assert places == sorted(places)
        assert sim.ledger(items=False)["most_in_flight"] == 1


def test_a_request_may_come_byte_by_byte(plain: Simulator) -> None:
    """However the bytes are cut, the request is understood; so is a chunked body."""
    with socket.create_connection(("127.0.0.1", plain.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in http_post(body("slow writer"), "Connection: close"):
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", plain.port, timeout=10)) as connection_:
        pieces = (bytes([byte]) for byte in body("chunked"))
        connection_.request(
            "POST", "/v1/chat/completions", pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        assert connection_.getresponse().status == 200
    assert {"slow writer", "chunked"} <= plain.ledger()["items"].keys()


def test_connections_are_kept_and_closed_as_asked(plain: Simulator) -> None:
    """HTTP/1.1 keeps the connection unless told not to, HTTP/1.0 does not, Expect is ignored, Upgrade refused."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", plain.port, timeout=10)) as connection:
        for number in range(3):
            connection.request("POST", "/v1/chat/completions", body(str(number)))
            answer = connection.getresponse()
            answer.read()
            assert not answer.will_close
            kept = connection.sock
        assert kept is connection.sock
    assert b"Connection: close" in raw(plain, http_post(body("x"), "Connection: close"))
    assert raw(plain, http_post(body("x")).replace(b"HTTP/1.1", b"HTTP/1.0")).startswith(b"HTTP/1.1 200")
    assert raw(plain, http_post(body("x"), "Expect: 100-continue", "Connection: close")).startswith(b"HTTP/1.1 200")
    upgraded = raw(plain, http_post(body("x"), "Connection: Upgrade", "Upgrade: h2c"))
    assert (upgraded.count(b"HTTP/1.1 400 "), upgraded[:13]) == (1, b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400),
        (b"hello there\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
    ],
)
def test_what_is_no_http_is_refused(plain: Simulator, sent: bytes, status: int) -> None:
    """Garbage, smuggled lengths and endless heads get one JSON error and a closed connection."""
    got = b""
    with (
        socket.create_connection(("127.0.0.1", plain.port), timeout=10) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(sent)
        while more := connection.recv(65536):
            got += more
    assert got == b"" or (f" {status} ".encode() in got and b'"error"' in got)
    assert post(plain, body("still there"))[0] == 200


def test_too_large_a_body_is_refused(plain: Simulator) -> None:
    """Beyond 32 MiB the server stops reading and says why."""
    got = b""
    with (
        socket.create_connection(("127.0.0.1", plain.port), timeout=10) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        for _ in range(33):
            connection.sendall(b"x" * 1024 * 1024)
        got = connection.recv(65536)
    assert got == b"" or b" 413 " in got
    assert post(plain, body("y" * 1_000_000))[0] == 200


def test_garbage_after_a_good_request_does_not_spoil_its_answer() -> None:
    """What waits is answered first, then the error, then the connection closes."""
    with simulator("--latency", "0.05") as sim:
        got = raw(sim, http_post(body("good")) + b"\x00garbage\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert got.count(b"HTTP/1.1 400 ") == 1


# The command.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_well(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the server with status 0 and no traceback, also with calls in flight."""
    command = [sys.executable, "-m", "headrace.sim.command", "--port", "0", "--latency", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().removesuffix("/v1").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(http_post(body("x")))
            process.send_signal(number)
            rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--latency", "fast"], "is no latency"),
        (["--faults", "404=1"], "does not know"),
        (["--max-concurrency", "0"], "allows no call"),
        (["--port", "70000"], "There is no port 70000"),
        (["--host", "192.0.2.1"], "Cannot listen"),
    ],
)
def test_words_that_cannot_work(words: list[str], said: str) -> None:
    """A word that cannot work ends with status 2 and a sentence, no traceback."""
    command = [sys.executable, "-m", "headrace.sim.command", "--port", "0", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use(plain: Simulator) -> None:
    """A second server on the same port says that it is taken and what to do."""
    command = [sys.executable, "-m", "headrace.sim.command", "--port", str(plain.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "in use" in ended.stderr
    assert "--port" in ended.stderr
