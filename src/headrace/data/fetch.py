"""Pages over HTTP, as a Call. Enters addresses, leaves replies whose text is a Page as JSON; errors say whether the
engine is to try again. Refuses to know items, stores and limits of others.

1. An attempt has one time limit for everything: names, connections, redirects, bodies. What comes drop by drop counts.
2. Redirects are followed here, one by one: each target is checked as the first address was.
3. What passes raises TryAgain, which leaves the permit and asks flow control for nothing: one bad host is no outage.
4. A failure that lasts is a page, too: `around`, which goes round the retries, gives it as a reply to be remembered.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import ClassVar, Protocol
from urllib.parse import urljoin

import aiohttp
import msgspec
from yarl import URL

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import AttemptTimeout, PageError, Verdict
from headrace.core.page import Page
from headrace.core.url import host_of, normalised
from headrace.data.body import ACCEPTED, too_large, unpacked
from headrace.data.charset import text_of
from headrace.data.guard import Guard, Lookup
from headrace.data.hosts import MOST_WAIT_S, Host, Hosts
from headrace.data.trouble import Troubled, refusal, troubled

AGENT = "headrace"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 65_536
_IN_THREAD_BYTES = 262_144
"""So much text is decoded on a thread: guessing a charset takes a while."""
_KEPT_ALIVE_S = 2.0
"""Pages of one host follow each other at once or not at all, and open files are few."""
_FIELD_BYTES = 65_536
"""Of one header: some sites' policies are longer than the 8 KB that are usual."""

_MANY_WAYS = 10_000


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How pages are fetched; task/fetch.py says what each means."""

    timeout_s: float = 5.0
    max_bytes: int = 10 * 1024 * 1024
    per_host: int = 4
    attempts: int = 3
    max_redirects: int = 10
    allow: tuple[str, ...] = ()
    agent: str = ""


class Way(Protocol):
    """How an address is reached: through which proxy, trusting whose certificates."""

    @property
    def proxy(self) -> str | None: ...
    @property
    def auth(self) -> aiohttp.BasicAuth | None: ...
    @property
    def trust(self) -> ssl.SSLContext | bool: ...


class _Straight(msgspec.Struct, frozen=True):
    proxy: str | None = None
    auth: aiohttp.BasicAuth | None = None
    trust: ssl.SSLContext | bool = True


class Unfetched(PageError):
    """No page, and another attempt would not help. `page` is what to remember, None where there is nothing."""

    page: Page | None = None


class TryAgain(Unfetched):
    """No page this time."""

    verdict: ClassVar[Verdict] = Verdict.BACK_OFF
    wait_s: float | None = None

    @property
    def retry_after_s(self) -> float | None:
        """For this call; as a hint about limits it would hold up all hosts."""
        return self.wait_s


class Fetcher:
    """Fetches for one run, from one loop. `way` says how an address is reached, and is asked once for each; behind a
    proxy, only it knows which address a name means, so there none can be refused for that."""

    def __init__(
        self,
        manners: Manners,
        *,
        way: Callable[[str], Way] = lambda _url: _Straight(),
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._manners = manners
        self._way_to = way
        self._clock = clock
        self._guard = Guard(manners.allow, lookup=lookup)
        self._hosts = Hosts(manners.per_host)
        self._ways: dict[str, Way] = {}
        self._straight: aiohttp.ClientSession | None = None
        self._proxied: aiohttp.ClientSession | None = None
        self._failed: dict[Digest, int] = {}
        """Attempts that failed, of the pages that are asked for now."""

    async def call(self, request: Request) -> Reply:
        """One attempt; raises TryAgain or Unfetched."""
        urls: tuple[str, ...] = request.item  # type: ignore[assignment]  # what FetchTask puts there
        until_s = _now() + self._manners.timeout_s
        for number, url in enumerate(urls, 1):
            seen = [url]
            try:
                page = await self._attempt(url, seen, until_s)
            except Troubled as trouble:
                if trouble.trouble == "unreachable" and number < len(urls):
                    continue  # nothing listens there: the next scheme
                raise self._raised(request, trouble, seen) from None
            return Reply(msgspec.json.encode(page).decode())
        raise Unfetched("There is no address.", hint="This is a fault of headrace: please report it.")

    def around(self, call: Call) -> Call:
        """Goes round the retries and permits of `call`: waits until the host has a place without holding up others,
        and makes a failure that lasts a reply."""

        async def fetched(request: Request) -> Reply:
            url: str = request.item[0]  # type: ignore[index]
            with self._hosts.of(host_of(url)) as host:
                async with host.ways:
                    try:
                        return await call(request)
                    except Unfetched as error:
                        if error.page is None:
                            raise
                        return Reply(msgspec.json.encode(error.page).decode(), attempts=error.attempts)
                    except AttemptTimeout as error:
                        late = self._page(url, [url], self._late(host.name))
                        return Reply(msgspec.json.encode(late).decode(), attempts=error.attempts)
                    finally:
                        self._failed.pop(request.digest, None)

        return fetched

    async def close(self) -> None:
        for session in (self._straight, self._proxied):
            if session is not None:
                await session.close()
        self._straight = self._proxied = None

    async def _attempt(self, url: str, seen: list[str], until_s: float) -> Page:
        """`seen` gets the addresses that it leads to."""
        jar: aiohttp.CookieJar | None = None
        waiting = True
        try:
            async with asyncio.timeout_at(until_s):
                while True:
                    name = host_of(seen[-1])
                    with self._hosts.of(name) as host:
                        waiting = True
                        async with host.places:
                            waiting = False
                            found, jar = await self._hop(url, seen[-1], host, jar)
                    if isinstance(found, Page):
                        return found
                    seen.append(found)
                    if len(seen) > self._manners.max_redirects + 1:
                        raise Troubled(
                            "redirects", f"{host_of(url)} leads on and on: {self._manners.max_redirects} redirects.",
                            hint="It may lead in a circle; else allow more: max_redirects=.",
                            bound=self._manners.max_redirects,
                        )  # fmt: skip
        except TimeoutError:
            name = host_of(seen[-1])
            if waiting:
                raise Troubled(
                    "busy", f"{name} has as many visitors as it may have.", passing=True, near=True
                ) from None
            with self._hosts.of(name) as host:
                host.silent(_now())
            raise self._late(name) from None

    async def _hop(
        self, asked: str, url: str, host: Host, jar: aiohttp.CookieJar | None
    ) -> tuple[Page | str, aiohttp.CookieJar | None]:
        """The page, or the address that this one leads to."""
        self._guard.check(host.name)
        host.check(_now())
        way = self._way(url)
        where = URL(url, encoded=True)
        cookies = jar.filter_cookies(where) if jar is not None else None
        try:
            async with self._session(way).get(
                where, allow_redirects=False, proxy=way.proxy, proxy_auth=way.auth, ssl=way.trust, cookies=cookies
            ) as answer:
                if answer.status in _REDIRECTS and "Location" in answer.headers:
                    host.answered(_now())
                    if answer.cookies:
                        jar = jar or aiohttp.CookieJar()
                        jar.update_cookies(answer.cookies, where)
                    return _target(url, answer.headers["Location"]), jar
                if not 200 <= answer.status < 300:
                    raise refusal(answer.status, host.name, answer.headers.get("Retry-After"))
                page = await self._read(asked, url, host.name, answer)
                host.answered(_now())
                return page, jar
        except Troubled as trouble:
            host.answered(_now(), trouble.wait_s, trouble.status)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            meant = troubled(error, host.name)
            if meant.is_silence:
                host.silent(_now())
            raise meant from error

    async def _read(self, asked: str, url: str, name: str, answer: aiohttp.ClientResponse) -> Page:
        most = self._manners.max_bytes
        if (answer.content_length or 0) > most:
            raise too_large(most, name)
        body = await unpacked(_chunks(answer), answer.headers.get("Content-Encoding", ""), most, name)
        stated, _, parameters = answer.headers.get("Content-Type", "").partition(";")
        kind, named = stated.strip().lower()[:100], _charset(parameters)
        if len(body) > _IN_THREAD_BYTES:
            found = await asyncio.to_thread(text_of, body, kind, named)
        else:
            found = text_of(body, kind, named)
        text, codec = found or ("", "")
        return Page(
            url=asked, final_url=url, status=answer.status, content_type=kind, charset=codec, text=text,
            data=b"" if found else body, at=self._clock(),
        )  # fmt: skip

    def _raised(self, request: Request, trouble: Troubled, seen: list[str]) -> Unfetched:
        """The error for the engine. Waiting for a host is no failed attempt."""
        page = None if trouble.near else self._page(seen[0], seen, trouble)
        failed = self._failed.get(request.digest, 0) + (trouble.trouble != "busy")
        self._failed[request.digest] = failed
        waits_too_long = (trouble.wait_s or 0.0) > MOST_WAIT_S
        kind = TryAgain if trouble.passing and failed < self._manners.attempts and not waits_too_long else Unfetched
        error = kind(trouble.message, hint=trouble.hint, status=trouble.status)
        error.page = page
        if isinstance(error, TryAgain):
            error.wait_s = trouble.wait_s
        else:
            self._failed.pop(request.digest, None)
        return error

    def _page(self, asked: str, seen: list[str], trouble: Troubled) -> Page:
        return Page(
            url=asked, final_url=seen[-1], status=trouble.status, at=self._clock(), trouble=trouble.trouble,
            message=trouble.message, hint=trouble.hint, bound=trouble.bound,
        )  # fmt: skip

    def _late(self, name: str) -> Troubled:
        allowed_s = self._manners.timeout_s
        return Troubled(
            "timeout", f"{name} did not deliver the page within {allowed_s:g} s.", hint="Allow more: timeout_s=.",
            passing=True, bound=allowed_s,
        )  # fmt: skip

    def _way(self, url: str) -> Way:
        origin = url[: url.index("/", 8)]
        if origin not in self._ways:
            if len(self._ways) >= _MANY_WAYS:
                self._ways.clear()
            self._ways[origin] = self._way_to(url)
        return self._ways[origin]

    def _session(self, way: Way) -> aiohttp.ClientSession:
        """Two: what a proxy's own name means is not for the guard to judge."""
        if way.proxy is None:
            self._straight = self._straight or self._opened(
                aiohttp.TCPConnector(
                    limit=0, ttl_dns_cache=60, resolver=self._guard, socket_factory=self._guard.socket,
                    keepalive_timeout=_KEPT_ALIVE_S,
                )
            )  # fmt: skip
            return self._straight
        self._proxied = self._proxied or self._opened(aiohttp.TCPConnector(limit=0, ttl_dns_cache=60))
        return self._proxied

    def _opened(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_field_size=_FIELD_BYTES,
            max_line_size=_FIELD_BYTES,
            headers={
                "User-Agent": self._manners.agent or AGENT,
                "Accept": "text/html, application/xhtml+xml, application/pdf;q=0.9, */*;q=0.8",
                "Accept-Encoding": ACCEPTED,
            },
        )


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        yield chunk


def _target(url: str, location: str) -> str:
    """Where a redirect leads. Raises Troubled for what is no web address."""
    try:
        return normalised(urljoin(url, location.strip()))
    except ValueError as error:
        raise Troubled(
            "address", f"{host_of(url)} leads to what is no address of a page: {error}.", hint="It cannot be followed."
        ) from None


def _charset(parameters: str) -> str:
    """The charset of a Content-Type."""
    for part in parameters.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'")[:40]
    return ""


def _now() -> float:
    return asyncio.get_running_loop().time()
