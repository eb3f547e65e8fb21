"""Pages from a server that misbehaves: what comes, what is refused, what is remembered, and who has to wait."""

import asyncio
import random
import shutil
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from headrace.core.call import Reply
from headrace.core.errors import HeadraceError, PageError
from headrace.core.event import CallEnded, Event
from headrace.core.item import Item
from headrace.core.limits import Unit
from headrace.core.page import Page
from headrace.core.ports import Store
from headrace.data.fetch import Fetcher, Manners, Unfetched
from headrace.data.guard import Guard
from headrace.engine.cached import Cached
from headrace.engine.governed import Governed
from headrace.engine.governor import Account, Lane, governor_of
from headrace.engine.watch import Watch
from headrace.flow.backup import Backups
from headrace.flow.estimate import Charge, Estimator
from headrace.flow.retry import Retry
from headrace.flow.timeout import CallTimeout
from headrace.provider import aio
from headrace.store.memory import Memory, MemoryStore
from headrace.store.sqlite import SqliteStore
from headrace.task.fetch import Fetch, FetchTask
from misbehaving import PAGE, Misbehaving, misbehaving

T = TypeVar("T")
LOCAL = ("127.0.0.1",)
NOWHERE = ["192.0.2.1"]  # TEST-NET: never routed, and not public
_WORLD = {"public.test": ["127.0.0.1"], "private.test": ["10.0.0.7"], "mapped.test": ["::ffff:10.0.0.7"]}


@pytest.fixture(scope="module")
def running() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


@pytest.fixture
def server(running: Misbehaving) -> Misbehaving:
    for counted in (running.asked, running.at_once, running.most_at_once, running.paths, running.headers, running.at_s):
        counted.clear()
    running.down = False
    return running


def world(host: str) -> Sequence[str]:
    """All names lead to this machine, but for those that lead elsewhere or nowhere."""
    if host == "nowhere.test":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if host == "offline.test":
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _WORLD.get(host, ["127.0.0.1"])


class Run:
    """One run of a Fetch, stacked as the engine stacks it, over any store."""

    def __init__(
        self,
        fetch: Fetch,
        store: Store,
        *,
        now: float | None = None,
        lookup: Callable[[str], Sequence[str]] = world,
        way: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.task = FetchTask(fetch, now=time.time() if now is None else now)
        self.events: list[Event] = []
        manners = Manners(
            timeout_s=fetch.timeout_s, max_bytes=fetch.max_bytes, per_host=fetch.per_host, attempts=fetch.attempts,
            max_redirects=fetch.max_redirects, allow=fetch.allow, agent=fetch.user_agent,
        )  # fmt: skip
        self.fetcher = Fetcher(manners, lookup=lookup, clock=clock, **({"way": way} if way else {}))
        self.governor = governor_of(Account("fetch", lasting=False))
        self.lane = Lane(
            stated={Unit.CONCURRENCY: float(fetch.concurrency)}, emit=self.events.append, fatal=self._never
        )
        self.governor.enter(self.lane)
        self.governor.ready.set()
        self.cached = Cached(store, self.task.value, self.lane.pause, since=self.task.since)
        governed = Governed(
            self.governor, self.lane, retry=Retry(base_s=0.01), watch=Watch(CallTimeout(60.0), Backups(0.0)),
            estimator=Estimator(Charge("usage")), chance=random.Random(1).random,
        )  # fmt: skip
        self.call = self.cached.cache(self.fetcher.around(governed.govern(self.fetcher.call)))

    @staticmethod
    def _never(error: HeadraceError) -> None:
        raise AssertionError(error)

    async def reply(self, data: Any) -> Reply:
        request = self.task.request(Item("key", 0, data))
        known = await self.cached.known_or_claimed([request])
        return known.get(request.digest) or await self.call(request)

    async def page(self, data: Any) -> Page:
        page: Page = (await self.reply(data)).value
        return page

    async def close(self) -> None:
        self.governor.leave(self.lane)
        await self.fetcher.close()


def run(work: Callable[[Run], Awaitable[T]], fetch: Fetch | None = None, store: Store | None = None, **more: Any) -> T:
    async def story() -> T:
        made = Run(fetch or Fetch(allow=LOCAL), store or MemoryStore(Memory()), **more)
        try:
            return await work(made)
        finally:
            await made.close()

    return asyncio.run(story())


def page_of(server: Misbehaving, path: str, fetch: Fetch | None = None, **more: Any) -> Page:
    return run(lambda made: made.page(f"http://127.0.0.1:{server.port}{path}"), fetch, **more)


# What comes.


def test_a_page_comes_with_all_that_is_told_of_it(server: Misbehaving) -> None:
    """Text, type, charset, status, address and time; the server learns who asks, and nothing else."""
    before = time.time()
    page = page_of(server, "/page")
    assert (page.text, page.content_type, page.charset, page.status, page.trouble) == (
        PAGE,
        "text/html",
        "utf-8",
        200,
        "",
    )
    assert page.url == page.final_url == f"http://127.0.0.1:{server.port}/page"
    assert before <= page.at <= time.time()
    assert server.headers[0]["user-agent"] == "headrace"
    assert not {"authorization", "cookie", "referer"} & set(server.headers[0])


def test_an_item_gets_columns_and_the_page() -> None:
    """The next stage sees where the page was found, its status and type, and the page itself, which is no data."""
    task = FetchTask(Fetch(), now=0.0)
    page = Page(url="http://a.test/", final_url="http://b.test/", status=200, content_type="text/html", text="x")
    item = task.onward(Item("k", 3, {"url": "http://a.test/", "name": "A"}), page)
    assert item.data == {
        "url": "http://a.test/", "name": "A", "final_url": "http://b.test/", "status": 200, "content_type": "text/html",
    }  # fmt: skip
    assert item.page is page
    assert (item.key, item.position) == ("k", 3)


@pytest.mark.parametrize("path", ["/gzip", "/deflate", "/raw-deflate", "/members", "/untyped"])
def test_what_is_packed_is_unpacked(server: Misbehaving, path: str) -> None:
    """gzip, also in several members, and deflate with and without its header; a page without a type is looked at."""
    assert page_of(server, path).text == PAGE


@pytest.mark.parametrize(
    ("path", "text", "codec"),
    [
        ("/wrong-charset", "Tee für zwölf", "cp1252"),
        ("/meta-charset", "Чай", "cp1251"),
        ("/odd-charset", "plain \\ud800", "utf-8"),
    ],
)
def test_text_is_read_in_what_it_is_written_in(server: Misbehaving, path: str, text: str, codec: str) -> None:
    """The header's charset where it can be, then the page's own; names that are no charsets of the web are no names."""
    page = page_of(server, path)
    assert page.text.endswith(text)
    assert page.charset == codec


@pytest.mark.parametrize("path", ["/binary", "/binary-as-html"])
def test_what_is_no_text_stays_bytes(server: Misbehaving, path: str) -> None:
    """A PDF or a picture comes as it is, whatever type is stated, and survives the store."""
    page = page_of(server, path)
    assert page.data.endswith(b"\x00\x01\xff")
    assert not page.is_text
    assert msgspec.json.decode(msgspec.json.encode(page), type=Page) == page


def test_redirects_are_followed_with_what_they_ask_for(server: Misbehaving) -> None:
    """Relative and absolute targets, a cookie that is asked for on the way, and the last address is told."""
    assert page_of(server, "/to//page").final_url == f"http://127.0.0.1:{server.port}/page"

    async def named(made: Run) -> Page:
        return await made.page(f"http://public.test:{server.port}/cookie")

    assert run(named, Fetch(allow=("public.test",))).text == PAGE


# What is refused, and why.


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        ("/drip", "timeout"), ("/dripping-head", "timeout"), ("/silent", "timeout"), ("/endless", "too-large"),
        ("/stated-large", "too-large"), ("/bomb", "too-large"), ("/bombs", "too-large"), ("/loop", "redirects"),
        ("/short", "broken"), ("/cut-gzip", "broken"), ("/no-gzip", "broken"), ("/brotli", "broken"),
        ("/reset", "broken"), ("/no-http", "broken"), ("/huge-headers", "broken"), ("/many-headers", "broken"),
        ("/404", "status"), ("/403", "status"), ("/500", "status"), ("/300", "status"), ("/to/ftp://a.test/", "address"),
        ("/to/http://me:secret@a.test/", "address"), ("/to/http://[::1", "address"), ("/to/javascript:alert(1)", "address"),
    ],
)  # fmt: skip
def test_each_misbehaviour_is_one_failure_of_its_item(server: Misbehaving, path: str, trouble: str) -> None:
    """It ends in time, with a sentence and a hint, as a page that says why there is none."""
    fetch = Fetch(allow=LOCAL, timeout_s=0.5, max_bytes=1_000_000, attempts=2)
    began_s = time.monotonic()
    page = page_of(server, path, fetch)
    assert time.monotonic() - began_s < 5.0
    assert page.trouble == trouble
    assert page.message.endswith(".")
    assert page.hint
    assert "secret" not in page.message + page.hint
    error = FetchTask(fetch, now=0.0).failed(page)
    assert isinstance(error, PageError)
    assert (error.kind, error.status) == ("page", page.status)


def test_what_passes_is_tried_again_and_what_does_not_is_not(server: Misbehaving) -> None:
    """A 500 three times, a 404 once, and a page that comes at the third attempt says so."""

    async def story(made: Run) -> list[Reply]:
        return [await made.reply(f"http://127.0.0.1:{server.port}{path}") for path in ("/500", "/404", "/recovers")]

    replies = run(story)
    assert [reply.attempts for reply in replies] == [3, 1, 3]
    assert [server.asked[path] for path in ("/500", "/404", "/recovers")] == [3, 1, 3]
    assert replies[2].value.text == PAGE


def test_a_wait_that_a_host_asks_for_is_kept_by_all_calls_to_it_and_by_no_other(server: Misbehaving) -> None:
    """After a 503 with Retry-After: 1 nothing goes to that host for a second; another host is asked meanwhile."""

    async def story(made: Run) -> Sequence[Page]:
        first = asyncio.ensure_future(made.page(f"http://busy.test:{server.port}/waits"))
        while not server.asked["/waits"]:
            await asyncio.wait([first], timeout=0.005)
        await asyncio.wait([first], timeout=0.1)
        return await asyncio.gather(
            first,
            made.page(f"http://busy.test:{server.port}/page"),
            made.page(f"http://other.test:{server.port}/page"),
        )

    pages = run(story, Fetch(allow=("busy.test", "other.test")))
    assert all(page.ok for page in pages)
    asked = sorted(zip(server.at_s, [headers["host"] for headers in server.headers], strict=True))
    busy = [at_s for at_s, host in asked if host.startswith("busy")]
    other = [at_s for at_s, host in asked if host.startswith("other")]
    assert all(at_s - busy[0] >= 1.0 for at_s in busy[1:])
    assert other[0] - busy[0] < 0.9


def test_a_long_wait_is_told_and_not_waited_for(server: Misbehaving) -> None:
    """Retry-After: 600 fails the page at once, and the host's other pages without asking, which is not remembered."""

    async def story(made: Run) -> Page:
        page = await made.page(f"http://127.0.0.1:{server.port}/429/600")
        with pytest.raises(Unfetched, match="asks to wait"):
            await made.page(f"http://127.0.0.1:{server.port}/page")
        return page

    assert run(story).trouble == "status"
    assert server.paths == ["/429/600"]


# Where no connection goes.


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/page", "http://localhost:{port}/page", "http://[::1]:{port}/page", "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/page", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/", "http://[fd00::1]/", "http://100.64.0.1/", "http://private.test/", "http://mapped.test/",
        "http://public.test:{port}/page", "http://0x7f.1:{port}/page", "http://[64:ff9b::7f00:1]/", "http://a.localhost/",
        "http://224.0.0.1/", "http://192.0.2.1/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_after_they_are_looked_up(server: Misbehaving, url: str) -> None:
    """However they are written and whatever name leads there, no request is made, and nothing is remembered."""

    async def story(made: Run) -> None:
        with pytest.raises(Unfetched, match="private network"):
            await made.page(url.format(port=server.port))

    memory = Memory()
    run(story, Fetch(), MemoryStore(memory))
    assert not server.paths
    assert not memory.answers


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/page", "http://private.test/", "//localhost:{port}/page", "http://[::1]:{port}/"],
)
def test_a_redirect_to_a_private_address_is_refused(server: Misbehaving, target: str) -> None:
    """What a redirect leads to is checked as the first address was."""

    async def story(made: Run) -> None:
        with pytest.raises(Unfetched, match="private network"):
            await made.page(f"http://public.test:{server.port}/to/{target.format(port=server.port)}")

    run(story, Fetch(allow=("public.test",)))
    assert len(server.paths) == 1


def test_a_name_that_changes_its_address_gains_nothing(server: Misbehaving) -> None:
    """The address that is checked is the one that is connected to: no second look-up lies between (DNS rebinding)."""
    asked: list[str] = []

    def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return NOWHERE if len(asked) == 1 else ["127.0.0.1"]

    async def story(made: Run) -> None:
        with pytest.raises(Unfetched):
            await made.page(f"http://rebinding.test:{server.port}/page")

    run(story, Fetch(attempts=1), lookup=rebinding)
    assert not server.paths


def test_some_of_a_names_addresses_may_be_private() -> None:
    """Then those that are not are connected to, and only those."""

    async def story() -> list[str]:
        guard = Guard(lookup=lambda _host: ["10.0.0.1", "93.184.215.14", "::1"])
        return [each["host"] for each in await guard.resolve("mixed.test", 80, socket.AF_UNSPEC)]

    assert asyncio.run(story()) == ["93.184.215.14"]


def test_each_socket_is_asked_about_once_more() -> None:
    """Whatever way an address came by, none that is private gets a socket, unless its name is allowed."""

    async def story() -> None:
        guard = Guard(("named.test", "10.1.0.0/16"), lookup=lambda _host: ["10.0.0.9"])
        for address in ("127.0.0.1", "10.0.0.9"):
            with pytest.raises(OSError, match="may not"):
                guard.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)))
        await guard.resolve("named.test", 80)
        for address in ("10.0.0.9", "10.1.2.3", "93.184.215.14"):
            guard.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80))).close()

    asyncio.run(story())


def test_allowed_networks_hold_for_addresses_and_names(server: Misbehaving) -> None:
    """A network lets its addresses through, by whatever name, and no others."""

    async def story(made: Run) -> Page:
        with pytest.raises(Unfetched, match="private network"):
            await made.page("http://private.test/")
        return await made.page(f"http://public.test:{server.port}/page")

    assert run(story, Fetch(allow=("127.0.0.0/8",))).ok


# What is remembered.


def test_pages_and_failures_are_remembered_across_runs(server: Misbehaving, tmp_path: Path) -> None:
    """A second run over the same store asks the server nothing, and its replies took no attempt."""

    async def story(made: Run) -> list[Reply]:
        return [await made.reply(f"http://127.0.0.1:{server.port}{path}") for path in ("/page", "/404", "/binary")]

    found = []
    for _ in range(2):

        async def session() -> list[Reply]:
            store = await asyncio.to_thread(SqliteStore, tmp_path / "store.db")
            made = Run(Fetch(allow=LOCAL), store)
            try:
                return await story(made)
            finally:
                await made.close()
                await store.close()

        found.append(asyncio.run(session()))
    assert [reply.value for reply in found[0]] == [reply.value for reply in found[1]]
    assert [reply.attempts for reply in found[1]] == [0, 0, 0]
    assert server.paths == ["/page", "/404", "/binary"]


def test_a_failure_grows_old_sooner_than_a_page(server: Misbehaving) -> None:
    """Each has its own age: after two hours the failure is asked about again, after eight days the page, too."""
    memory = Memory()

    async def story(made: Run) -> None:
        for path in ("/page", "/404"):
            await made.page(f"http://127.0.0.1:{server.port}{path}")

    counted = []
    for hours in (0, 0.5, 2, 8 * 24):
        run(
            story,
            store=MemoryStore(memory),
            now=time.time() + hours * 3600,
            clock=lambda h=hours: time.time() + h * 3600,
        )
        counted.append(tuple(server.asked[path] for path in ("/page", "/404")))
    assert counted == [(1, 1), (1, 1), (1, 2), (2, 3)]


def test_no_age_remembers_nothing_but_for_the_run(server: Misbehaving) -> None:
    """With ages of 0 each run asks anew, and equal items of one run still share an answer."""
    memory = Memory()

    async def story(made: Run) -> None:
        for _ in range(2):
            await made.page(f"http://127.0.0.1:{server.port}/page")

    for _ in range(2):
        run(story, Fetch(allow=LOCAL, max_age_s=0, failure_age_s=0), MemoryStore(memory))
    assert server.asked["/page"] == 2


def test_a_failure_for_want_of_room_is_forgotten_where_more_is_allowed(server: Misbehaving) -> None:
    """A page that was too large for 10 bytes is fetched again for 1,000, and not for 5."""
    memory = Memory()
    found = [
        page_of(server, "/page", Fetch(allow=LOCAL, max_bytes=most), store=MemoryStore(memory)).trouble
        for most in (10, 5, 1000)
    ]
    assert found == ["too-large", "too-large", ""]
    assert server.asked["/page"] == 2


def test_what_is_wrong_on_this_side_is_not_remembered(server: Misbehaving) -> None:
    """Without a network no page is at fault; a name that does not exist is."""
    memory = Memory()

    async def story(made: Run) -> Page:
        with pytest.raises(Unfetched, match="could not be looked up"):
            await made.page("http://offline.test/")
        return await made.page("http://nowhere.test/")

    assert run(story, store=MemoryStore(memory)).trouble == "unknown-host"
    assert len(memory.answers) == 1
    assert not server.paths


def test_a_domain_is_fetched_once(server: Misbehaving) -> None:
    """By domain, all addresses at one host are one fetch of its front page."""

    async def story(made: Run) -> list[Page]:
        there = f"127.0.0.1:{server.port}"
        return [await made.page(f"http://{there}{path}") for path in ("/a", "/b?c=d", "", "/a#e")]

    pages = run(story, Fetch(by="domain", allow=LOCAL))
    assert {page.final_url for page in pages} == {f"http://127.0.0.1:{server.port}/"}
    assert server.paths == ["/"]


def test_an_address_without_a_scheme_is_tried_over_tls_first(server: Misbehaving) -> None:
    """Where TLS does not answer, plain HTTP is asked."""
    page = run(lambda made: made.page(f"127.0.0.1:{server.port}/page"))
    assert (page.ok, page.final_url) == (True, f"http://127.0.0.1:{server.port}/page")


def test_a_certificate_that_nobody_trusts_fails_its_page(tmp_path: Path) -> None:
    """It is told as such, is not tried again, and no unsecured address is asked in its place."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make certificates with")
    key, own = tmp_path / "own.key", tmp_path / "own.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=own.test"]
    subprocess.run([program, *words, "-keyout", key, "-out", own], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with misbehaving(context) as server:
        replies = [
            run(lambda made, url=url: made.reply(url.format(server.port)))  # type: ignore[misc]
            for url in ("https://127.0.0.1:{}/page", "127.0.0.1:{}/page")
        ]
    assert [(reply.value.trouble, reply.attempts) for reply in replies] == [("untrusted", 1)] * 2
    assert "not trusted: self-signed certificate" in replies[0].value.message
    assert not server.paths


# Who has to wait.


def test_equal_pages_in_flight_are_one(server: Misbehaving) -> None:
    """However the address is spelt, ten at once are one request."""

    async def story(made: Run) -> list[Reply]:
        there = f"127.0.0.1:{server.port}"
        spelt = [f"http://{there}/slow", f"HTTP://{there}/a/../slow", f"http://{there}/%73low#x"]
        return await asyncio.gather(*[made.reply(spelt[number % 3]) for number in range(10)])

    replies = run(story)
    assert server.asked["/slow"] == 1
    assert sorted(reply.attempts for reply in replies) == [0] * 9 + [1]


def test_no_host_gets_more_than_it_may(server: Misbehaving) -> None:
    """40 pages of two hosts, half of them behind redirects to the other: never more than three at one host at once."""

    async def story(made: Run) -> list[Page]:
        urls = []
        for number in range(20):
            for here, there in (("a.test", "b.test"), ("b.test", "a.test")):
                tail = f"to/http://{there}:{server.port}/slow/{number}" if number % 2 else f"slow/{number}"
                urls.append(f"http://{here}:{server.port}/{tail}?{here}")
        return await asyncio.gather(*[made.page(url) for url in urls])

    server.slow_s = 0.02
    pages = run(story, Fetch(per_host=3, allow=("a.test", "b.test")))
    server.slow_s = 0.2
    assert all(page.ok for page in pages)
    assert max(server.most_at_once.values()) == 3


def test_a_host_that_hangs_holds_up_no_other(server: Misbehaving) -> None:
    """With eight places in all, 40 pages of a host that never answers leave 40 of another their way."""

    async def story(made: Run) -> float:
        bad = [asyncio.ensure_future(made.page(f"http://bad.test:{server.port}/silent/{n}")) for n in range(40)]
        await asyncio.wait(bad, timeout=0.05)
        began_s = time.monotonic()
        good = await asyncio.gather(*[made.page(f"http://good.test:{server.port}/page/{n}") for n in range(40)])
        took_s = time.monotonic() - began_s
        assert all(page.ok for page in good)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
        return took_s

    assert run(story, Fetch(concurrency=8, timeout_s=3.0, allow=("bad.test", "good.test"))) < 2.0


def test_failing_pages_are_no_outage(server: Misbehaving) -> None:
    """After 200 pages that fail, the breaker is closed and the next page comes at once; events call them `page`."""

    async def story(made: Run) -> Page:
        await asyncio.gather(*[made.page(f"http://127.0.0.1:{server.port}/500/0?{n}") for n in range(100)])
        await asyncio.gather(*[made.page(f"http://127.0.0.1:{server.port}/404?{n}") for n in range(100)])
        assert made.governor.gate.breaker.is_closed
        kinds = {event.error for event in made.events if isinstance(event, CallEnded)}
        assert kinds == {"page"}
        return await made.page(f"http://127.0.0.1:{server.port}/page")

    assert run(story, Fetch(allow=LOCAL, attempts=2, per_host=16)).ok


def test_memory_is_bounded_by_what_is_allowed(server: Misbehaving) -> None:
    """A bomb of 50 MB and an endless body cost no more than a few times the bytes that a page may have."""
    tracemalloc.start()
    try:
        for path in ("/endless", "/bomb", "/bombs"):
            page_of(server, path, Fetch(allow=LOCAL, max_bytes=500_000, attempts=1))
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        page_of(server, "/endless", Fetch(allow=LOCAL, max_bytes=500_000, attempts=1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4_000_000


def test_it_closes_cleanly_in_the_middle(server: Misbehaving) -> None:
    """Cancelled amid a hundred fetches, it leaves no connection and no task behind, and warns of nothing."""

    async def story() -> None:
        made = Run(Fetch(allow=LOCAL, per_host=50), MemoryStore(Memory()))
        asking = [asyncio.ensure_future(made.page(f"http://127.0.0.1:{server.port}/silent/{n}")) for n in range(100)]
        await asyncio.wait(asking, timeout=0.2)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await made.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


# Behind a proxy.


def test_a_proxy_is_used_and_literal_private_addresses_stay_refused(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY holds here, too: the proxy is asked with the whole address, even where the name means nothing here."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")

    async def story(made: Run) -> Page:
        with pytest.raises(Unfetched, match="private network"):
            await made.page("http://10.0.0.1/page")
        return await made.page("http://nowhere.test/page")

    assert run(story, Fetch(), way=aio.way_to).text == PAGE
    assert server.paths == ["http://nowhere.test/page"]
