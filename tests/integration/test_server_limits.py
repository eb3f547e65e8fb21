"""`headrace simulate` with limits and weather: what real HTTP shows of them, to the official SDK and to headrace."""

import asyncio
import concurrent.futures
import json
import re
import sys
import time
from collections import Counter
from datetime import datetime
from typing import Any

import openai
import pytest

from headrace.core.call import Call, Message, Request
from headrace.core.digest import Digest
from headrace.core.errors import CallError
from headrace.core.limits import Hints
from headrace.provider.aio import AioHttp
from headrace.provider.asking import call_of
from headrace.provider.chat import Chat
from headrace.provider.manner import MANNERS
from headrace.provider.notice import Notice
from headrace.provider.simulated import Simulated
from headrace.sim.command import main
from headrace.sim.loop import run
from headrace.sim.server import serve
from simulator import Simulator, simulator

LIMITS = ("--limit", "requests=3/60", "--limit", "tokens=5000/60")


def post(sim: Simulator, text: str = "x", **more: Any) -> tuple[int, Any, bytes]:
    """Status, headers and body of one call."""
    sent = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    status, headers, body = sim.post(json.dumps(sent).encode())
    return status, headers, body


def test_openai_headers_and_refusal() -> None:
    """On 200 and on 429 its six headers; the refusal has both waits and the sentence, and the SDK knows the error."""
    with simulator(*LIMITS, "--headers", "openai") as sim:
        for left in (2, 1, 0):
            status, headers, _ = post(sim, max_tokens=1000)
            assert (status, headers["x-ratelimit-limit-requests"]) == (200, "3")
            assert headers["x-ratelimit-remaining-requests"] == str(left)
            assert headers["x-ratelimit-remaining-tokens"] == str(5000 - 1000 * (3 - left))
            assert re.fullmatch(r"(59\.\d{1,3}|60|59)s|1m0s", headers["x-ratelimit-reset-tokens"])
        status, headers, body = post(sim)
        assert (status, headers["x-ratelimit-remaining-requests"]) == (429, "0")
        assert 58 <= float(headers["retry-after"]) <= 60
        assert 58_000 <= float(headers["retry-after-ms"]) <= 60_001
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
        assert re.search(
            r"requests per min \(RPM\): Limit 3, Used 3, Requested 1\. Please try again in 5\d\.\d+s\.",
            error["message"],
        )
        with (
            openai.OpenAI(base_url=sim.url, api_key="k", max_retries=0) as sdk,
            pytest.raises(openai.RateLimitError) as caught,
        ):
            sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        assert caught.value.code == "rate_limit_exceeded"
        ledger = sim.ledger()
        assert ledger["by_status"] == {"200": 3, "429": 2}
        assert ledger["limits"][0] == {
            "unit": "requests", "limit": 3, "window_s": 60, "kind": "sliding", "most_asked": 5, "most_admitted": 3,
            "refused": 2,
        }  # fmt: skip
        sim.reset()
        assert post(sim)[0] == 200


def test_azure_headers() -> None:
    """Bare seconds and renewal periods; a lie of 0 in the second wait."""
    with simulator(*LIMITS, "--headers", "azure,retry=0") as sim:
        _, headers, _ = post(sim)
        assert (headers["x-ratelimit-renewalperiod-requests"], headers["x-ratelimit-reset-requests"]) == ("60", "60")
        assert [post(sim)[0] for _ in range(3)] == [200, 200, 429]
        _, headers, body = post(sim)
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "0")
        assert json.loads(body)["error"]["code"] == "429"


def test_anthropic_headers() -> None:
    """Its names, and resets at a time that is the end of the window by the wall clock."""
    with simulator("--limit", "requests=2", "--limit", "input_tokens=9000", "--headers", "anthropic") as sim:
        _, headers, _ = post(sim)
        reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"]).timestamp()
        assert 55 <= reset - time.time() <= 61
        assert headers["anthropic-ratelimit-input-tokens-limit"] == "9000"
        post(sim)
        status, headers, body = post(sim)
        assert (status, json.loads(body)["error"]["type"]) == (429, "rate_limit_error")
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert 58 <= int(headers["retry-after"]) <= 60


def test_groq_tells_the_requests_of_a_day() -> None:
    """A client that takes them for those of a minute is wrong; the minute's are not told."""
    with simulator("--limit", "requests=2/60", "--limit", "requests=1000/86400", "--headers", "groq") as sim:
        _, headers, _ = post(sim)
        assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("1000", "999")
        assert "retry-after" not in headers
        post(sim)
        status, headers, _ = post(sim)
        assert (status, headers["x-ratelimit-remaining-requests"]) == (429, "998")
        assert 58 < float(headers["retry-after"]) <= 60.001


def test_gemini_tells_in_its_body_alone() -> None:
    """No header says anything; the details do."""
    with simulator("--limit", "requests=1", "--headers", "gemini") as sim:
        _, headers, _ = post(sim)
        _, refused, body = post(sim)
        assert not [name for name in [*headers, *refused] if "ratelimit" in name.lower() or "retry" in name.lower()]
        details = json.loads(body)["error"]["details"]
        assert [each["@type"].rpartition(".")[2] for each in details] == ["QuotaFailure", "RetryInfo"]


def test_hidden_places() -> None:
    """With headers none a 429 says nothing but that; 37 are served at once and no more."""
    with simulator("--limit", "concurrency=37", "--headers", "none", "--latency", "0.7") as sim:
        with concurrent.futures.ThreadPoolExecutor(60) as threads:
            found = list(threads.map(lambda n: post(sim, str(n)), range(60)))
        assert Counter(status for status, _, _ in found) == {200: 37, 429: 23}
        assert {tuple(sorted(name.lower() for name in headers)) for status, headers, _ in found if status == 429} == {
            ("content-length", "content-type")
        }
        assert not any("37" in body.decode() for status, _, body in found if status == 429)
        assert sim.ledger()["limits"] == [{"unit": "concurrency", "limit": 37, "most_admitted": 37, "refused": 23}]


def seen(hints: Hints | None) -> tuple[Any, float | None]:
    """What hints say, and apart from it how long to wait, which depends on the moment."""
    if hints is None:
        return None, None
    told = [(each.unit, each.limit, each.remaining, each.window_s) for each in hints.told]
    return (told, hints.blamed, hints.charged), hints.retry_after_s


async def learnt(call: Call) -> list[Hints | None]:
    """What three calls teach of limits, good or not."""
    found: list[Hints | None] = []
    for text in "abc":
        try:
            found.append((await call(Request(Digest(b"x"), "m", (Message("user", text),), {"max_tokens": 300}))).hints)
        except CallError as error:
            found.append(error.hints)
    return found


async def learnt_over_http(simulated: Simulated) -> list[Hints | None]:
    """The same through headrace's own client and a socket."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(simulated, announce=address.set_result))
    http = AioHttp()
    try:
        return await learnt(call_of(Chat(), http, base_url=await address))
    finally:
        await http.close()
        server.cancel()
        await asyncio.wait([server])


@pytest.mark.parametrize("headers", [*MANNERS, "lying", "openai,retry=2"])
def test_http_says_what_is_said_in_process(headers: str) -> None:
    """The same calls over HTTP and in virtual time teach a client the same, but for the moment they were sent at."""

    def make() -> Simulated:
        limits = ["requests=2/60", "input_tokens=9000", "tokens=5000/60", "requests=900/86400"]
        return Simulated(limits=limits, headers=headers)

    real, virtual = asyncio.run(learnt_over_http(make())), run(learnt(make()))
    for one, other in zip(real, virtual, strict=True):
        (told, wait_s), (also_told, also_wait_s) = seen(one), seen(other)
        assert told == also_told
        assert wait_s == (None if also_wait_s is None else pytest.approx(also_wait_s, abs=3))
    assert [hints is not None for hints in virtual][:2] == [MANNERS[Notice.parse(headers).name].always] * 2


def test_outages_and_changes_begin_with_the_first_call() -> None:
    """However long nobody called; DELETE /ledger begins anew."""
    with simulator("--outage", "0.5-30=503", "--limit", "requests=100000", "--change", "0.5:requests=50000") as sim:
        for _ in range(2):
            begin_s = time.monotonic()
            assert post(sim)[0] == 200
            assert sim.ledger()["limits"][0]["limit"] == 100_000
            status = 200
            while status == 200:
                status = post(sim)[0]
            assert status == 503
            assert time.monotonic() - begin_s >= 0.45
            assert sim.ledger()["limits"][0]["limit"] == 50_000
            sim.reset()


def test_broken_pages_and_errors_in_disguise() -> None:
    """HTML for people, an error in a 200, and overload by two statuses."""
    with simulator("--outage", "0-=html") as sim:
        status, headers, body = post(sim)
        assert (status, headers["Content-Type"], body[:6]) == (502, "text/html", b"<html>")
    with simulator("--faults", "hidden=1") as sim:
        status, _, body = post(sim)
        assert (status, json.loads(body)["error"]["code"]) == (200, 502)
    for word, kind in (("503", "server_error"), ("529", "overloaded_error")):
        with simulator("--faults", f"{word}=1") as sim:
            status, _, body = post(sim)
            assert (str(status), json.loads(body)["error"]["type"]) == (word, kind)
    with simulator("--faults", "quota=1") as sim:
        status, headers, body = post(sim)
        assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (429, "insufficient_quota", None)


def test_an_outage_resets_connections() -> None:
    """The connection breaks, and the call is in the books as that."""
    with simulator("--outage", "0-=reset") as sim:
        with pytest.raises(ConnectionResetError):
            post(sim)
        assert sim.ledger()["by_status"] == {"reset": 1}


def test_errors_have_the_shape_of_the_provider() -> None:
    """A wrong request is refused in the words of whoever is simulated."""
    with simulator("--headers", "anthropic") as sim:
        status, _, body = sim.post(b"{}")
        assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    with simulator("--headers", "gemini", "--model", "other") as sim:
        status, _, body = post(sim)
        assert (status, json.loads(body)["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "calls=5"], "does not know 'calls=5'"),
        (["--limit", "requests=0"], "allows no call"),
        (["--limit", "tokens=5/x"], "is no number"),
        (["--headers", "acme"], "headers=acme is not known"),
        (["--knee", "0"], "out of bounds"),
        (["--outage", "50-30=503"], "is none"),
        (["--outage", "30-50=404"], "outage=404 is not known"),
        (["--tail", "2=8"], "out of bounds"),
        (["--change", "60:requests=400"], "there is none"),
        (["--change", "60:requests"], "is no change"),
    ],
)
def test_words_that_cannot_work(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and one sentence with a hint, before anything listens."""
    monkeypatch.setattr(sys, "argv", ["headrace", "--port", "0", *words])
    assert main() == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said in told.err
