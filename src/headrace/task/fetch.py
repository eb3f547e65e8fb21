"""A page for every item. Enters items and what came, leaves addresses to fetch and pages. Pure: neither asks nor waits.

What is remembered is judged here, by the moment that a run began: pages and failures grow old by different clocks.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import Digest, digest_of
from headrace.core.errors import AnswerError, HeadraceError, ItemError, PageError, UsageError, spoken
from headrace.core.item import Item, extended
from headrace.core.outline import outline
from headrace.core.page import Page
from headrace.core.url import front_page, normalised
from headrace.task.prompt import WHOLE, Template, columns_of
from headrace.task.work import check_when

REQUEST_FORM = 1
"""Version of what a digest is taken over; a change makes every remembered page a stranger."""
PAGE = "page"

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_OTHER = re.compile(r"[a-zA-Z][a-zA-Z0-9+-]*:(?![0-9])")
"""mailto:, javascript:, data: ... A host with a port has a number behind its colon."""
_DAY_S = 86_400.0
_LEAST = {"max_bytes": 1, "per_host": 1, "concurrency": 1, "attempts": 1, "max_redirects": 0}


class Fetch(msgspec.Struct, frozen=True):
    """Fetch a page for every item.

    `url` is a template over the item's columns; items without columns are addresses themselves. With `by="domain"` the
    front page of the address's host is fetched, once for all items that name this host. Pages and failures are
    remembered in the store: a page is served again for `max_age_s`, a failure for `failure_age_s`.

    `timeout_s` is for one attempt in all: name, connection, redirects and body. `max_bytes` bounds a page before and
    after it is unpacked, `per_host` the attempts at one host at the same time, `concurrency` those at all hosts,
    `attempts` those for one page. Addresses of this machine and of private networks are refused, also behind a
    redirect, but for the hosts (`intranet.example`), addresses and networks (`10.0.0.0/8`) in `allow`. `user_agent`
    is sent in place of `headrace`: say there who asks, and how to reach you. `name` is what the stage is called. `when` and `failure` are as an Ask's: with
    `failure="why"` an item whose page is not there goes on without it.
    """

    url: str = "{url}"
    by: Literal["url", "domain"] = "url"
    timeout_s: float = 5.0
    max_bytes: int = 10 * 1024 * 1024
    per_host: int = 4
    concurrency: int = 64
    attempts: int = 3
    max_redirects: int = 10
    max_age_s: float = 7 * _DAY_S
    failure_age_s: float = 3600.0
    allow: tuple[str, ...] = ()
    user_agent: str = ""
    name: str = ""
    when: str | Callable[[Any], Any] = ""
    failure: str = ""

    def __post_init__(self) -> None:
        by: object = self.by  # a Struct does not look at what it is given
        url: object = self.url
        if by not in ("url", "domain"):
            raise UsageError(f"Pages cannot be fetched by {by!r}.", hint='Write by="url" or by="domain".')
        if not isinstance(url, str) or not Template(url).fields:
            raise UsageError(
                f"The address {self.url!r} names no column.", hint="Put a column in braces, for example {url}."
            )
        for name, least in _LEAST.items():
            count: object = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < least:
                raise UsageError(f"{name} is {count!r}.", hint=f"Give a whole number from {least} up.")
        if not _is_number(self.timeout_s) or not 0 < self.timeout_s < math.inf:
            raise UsageError(
                f"A timeout of {self.timeout_s!r} s cannot work.", hint="Give a number of seconds above 0."
            )
        for name, age in (("max_age_s", self.max_age_s), ("failure_age_s", self.failure_age_s)):
            if not _is_number(age) or not age >= 0:
                raise UsageError(f"{name} is {age!r}.", hint="Give a number of seconds; 0 remembers nothing.")
        check_when(self.when)
        _check_allowed(self.allow)
        msgspec.structs.force_setattr(self, "allow", tuple(self.allow))  # a list where it comes from a file
        agent: object = self.user_agent
        if not isinstance(agent, str) or not agent.isascii() or not (agent.isprintable() or not agent):
            raise UsageError("The user agent holds a character that no header can.", hint="Write it in plain ASCII.")

    def __repr__(self) -> str:
        return outline(self, named=False)


class FetchTask:
    """The pages of one Fetch, for one run that began at `now` (seconds since 1970)."""

    reusable = True
    samples = 1

    def __init__(self, fetch: Fetch, *, now: float) -> None:
        self._fetch = fetch
        self._now = now
        self._template = Template(fetch.url)
        self._decoder = msgspec.json.Decoder(Page)
        self._checked = False
        self._same = {"form": REQUEST_FORM} | ({"agent": fetch.user_agent} if fetch.user_agent else {})
        self.digest: Digest = digest_of({"task": "fetch", "url": fetch.url, "by": fetch.by, **self._same})
        self.since = now - max(fetch.max_age_s, fetch.failure_age_s)
        """Nothing that was stored before is worth a look."""

    def request(self, item: Item, sample: int = 0) -> Request:  # noqa: ARG002 - a page is fetched once
        """Its `item` is the addresses at which the page may be, the likeliest first."""
        data = item.data
        if not isinstance(data, Mapping):
            data = {WHOLE: data} | {name: data for name in self._template.fields if len(self._template.fields) == 1}
        if not self._checked:
            self._template.check(columns_of(data))
            self._checked = True
        urls = addresses(self._template.fill(data), by=self._fetch.by)
        return Request(digest_of({"fetch": urls, **self._same}), item=urls)

    def value(self, reply: Reply) -> Page:
        """A page, or a failure that is remembered. Raises AnswerError for what is too old to be served again, and for a
        failure for want of time, bytes or redirects that are allowed by now."""
        try:
            page = self._decoder.decode(reply.text)
        except msgspec.MsgspecError as error:
            raise AnswerError(f"What is remembered is no page ({error}).", hint="It is fetched anew.") from None
        most_s = self._fetch.max_age_s if page.ok else self._fetch.failure_age_s
        if page.at < self._now - most_s:
            raise AnswerError(
                f"What is remembered of {page.url} is {spoken(self._now - page.at)} old.", hint="It is fetched anew."
            )
        allowed = {
            "timeout": self._fetch.timeout_s, "too-large": self._fetch.max_bytes,
            "redirects": self._fetch.max_redirects,
        }  # fmt: skip
        if page.bound and page.bound < allowed.get(page.trouble, 0.0):
            raise AnswerError(f"More is allowed for {page.url} than when it failed.", hint="It is fetched anew.")
        return page

    def failed(self, value: Page) -> HeadraceError | None:
        """Why the item fails, where its page is a remembered failure."""
        return None if value.ok else PageError(value.message, hint=value.hint, status=value.status)

    def again(self, request: Request, reply: Reply, error: AnswerError) -> None:
        """What came is as it is."""

    def agreed(self, values: Sequence[Any]) -> tuple[int, float]:
        return len(values) - 1, 1.0

    def onward(self, item: Item, value: Page) -> Item:
        """With where the page was found, its status and its type as columns, and the page for the stage that reads it."""
        told = {"final_url": value.final_url, "status": value.status, "content_type": value.content_type}
        return msgspec.structs.replace(extended(item, told, PAGE), page=value)


def addresses(text: str, *, by: Literal["url", "domain"]) -> tuple[str, ...]:
    """Where the page of this address may be, the likeliest first: one without a scheme, and a domain at its usual port,
    is tried over TLS and then without. Raises ItemError for what is no address of the web."""
    text = text.strip()
    if not text:
        raise ItemError("There is no address.", hint="The other items go on without it.")
    try:
        if _SCHEME.match(text):
            found = [normalised(text)]
        else:
            bare = text.removeprefix("//")
            if _OTHER.match(bare) or not re.search(r"[.:]", bare.partition("/")[0]):
                raise ValueError("it does not begin with http:// or https://")  # noqa: TRY301 - told as all others are
            found = [normalised(f"{scheme}://{bare}") for scheme in ("https", "http")]
    except ValueError as error:
        raise ItemError(
            f"{_shown(text)} is no address of a page: {error}.", hint="Addresses are like https://example.com/page."
        ) from None
    if by == "url":
        return tuple(found)
    front = front_page(found[0])
    host = front.partition("://")[2]
    has_port = re.search(r":[0-9]+/$", host) is not None
    return (front,) if has_port and len(found) == 1 else (f"https://{host}", f"http://{host}")


def _shown(text: str) -> str:
    """Without name and password, which messages do not repeat."""
    text = re.sub(r"//[^/?#]*@", "//", text)
    return repr(text if len(text) <= 200 else f"{text[:199]}…")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_allowed(allow: object) -> None:
    if not isinstance(allow, tuple | list) or not all(isinstance(each, str) for each in allow):
        raise UsageError(
            f"allow is {allow!r}.", hint='Name hosts or networks: allow=("intranet.example", "10.0.0.0/8").'
        )
    for each in allow:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            try:
                named = normalised(f"http://{each}/")
            except ValueError:
                named = ""
            if not named or ":" in each or "/" in each:
                raise UsageError(
                    f"allow names {each!r}, which is neither a host nor a network.",
                    hint='Write a host without its port, an address or a network: "intranet.example", "10.0.0.0/8".',
                ) from None
