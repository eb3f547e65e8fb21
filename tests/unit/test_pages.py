"""Addresses in one form, what Fetch takes, which addresses are public, and what a page is written in."""

import ipaddress
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.call import Reply
from headrace.core.errors import AnswerError, ItemError, UsageError
from headrace.core.item import Item
from headrace.core.page import Page
from headrace.core.url import front_page, host_of, normalised
from headrace.data.charset import codec_of, text_of
from headrace.data.guard import is_public
from headrace.data.hosts import REST_S, SILENT, SILENT_S, Hosts
from headrace.data.trouble import Troubled, seconds_of
from headrace.task.fetch import Fetch, FetchTask, addresses
from headrace.task.pipeline import Pipeline

LABEL = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(".".join).filter(lambda host: not host.replace(".", "").isdigit())
TEXT = st.text(max_size=30)
ADDRESS = st.builds(
    lambda scheme, host, path, query: f"{scheme}://{host}/{path}?{query}",
    st.sampled_from(["http", "https"]), HOST, TEXT, TEXT,
)  # fmt: skip


def told(url: str) -> str | None:
    try:
        return normalised(url)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("http://example.com./#part", "http://example.com/"),
        ("http://example.com/a/./b/../c", "http://example.com/a/c"),
        ("http://example.com/../../a/..", "http://example.com/"),
        ("http://example.com/%7Eme/%c3%a9", "http://example.com/~me/%C3%A9"),
        ("http://example.com/é?q=a b", "http://example.com/%C3%A9?q=a%20b"),
        ("http://example.com/100%", "http://example.com/100%25"),
        ("http://example.com/a%2Fb", "http://example.com/a%2Fb"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://straße.example/", "http://xn--strae-oqa.example/"),
        ("http://[2001:DB8::0:1]:8080/", "http://[2001:db8::1]:8080/"),
        ("  http://example.com/?b=2&a=1  ", "http://example.com/?b=2&a=1"),
    ],
)
def test_one_spelling_for_what_means_the_same(written: str, meant: str) -> None:
    """Case, default port, dots, escapes and fragment say nothing; the order of a query may."""
    assert normalised(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "", "example.com", "ftp://example.com/", "http://", "http:///a", "http://me@example.com/",
        "http://me:secret@example.com/", "http://example.com:0/", "http://example.com:99999/", "http://a b.com/",
        "http://127.1/", "http://2130706433/", "http://256.1.1.1/", "http://[::1/", "http://[::g]/", "http://exa\nmple.com/",
        "http://example.com\\@evil.example/", "http://%31%32%37.0.0.1/", "http://-.example/", "javascript:alert(1)",
        "file:///etc/passwd", "http://example.com/" + "a" * 20_000, "http://\ud800.example/",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(written: str) -> None:
    """Nothing that a server, a resolver and a check could each read in a way of its own gets through."""
    with pytest.raises(ValueError, match=r"."):
        normalised(written)


@given(ADDRESS)
def test_the_form_is_stable_and_plain(url: str) -> None:
    """Normalised twice is normalised once; what is left is ASCII without spaces, dots in the path or a fragment."""
    once = told(url)
    if once is None:
        return
    assert normalised(once) == once
    assert once.isascii()
    assert once.isprintable()
    assert not set(once) & set(' "<>\\^`{}')
    assert "#" not in once
    assert not {".", ".."} & set(once.partition("://")[2].partition("?")[0].split("/")[1:])
    assert normalised(front_page(once)) == front_page(once)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """No text makes it raise anything but ValueError, and a message never repeats a password."""
    for prefix in ("", "http://", "https://me:hunter2@"):
        told(prefix + text)
        try:
            addresses(prefix + text, by="domain")
        except ItemError as error:
            assert "hunter2" not in str(error)


@given(HOST, st.text(alphabet="abcXYZ019-._~/é ", max_size=20))
def test_case_and_escapes_of_the_same_text_are_the_same_request(host: str, path: str) -> None:
    """However an address is spelt, one page is remembered of it."""
    escaped = "".join([f"%{byte:02x}" if sign != "/" else sign for sign in path for byte in sign.encode()])
    assert told(f"HTTP://{host.upper()}:80/{escaped}#x") == told(f"http://{host}/{path}#y")


def test_a_host_is_told_without_its_port() -> None:
    """Brackets and port are no part of it."""
    assert host_of("http://[::1]:8080/a") == "::1"
    assert host_of("http://example.com:8080/a") == "example.com"


@pytest.mark.parametrize(
    ("text", "by", "found"),
    [
        ("http://a.test/x", "url", ("http://a.test/x",)),
        ("a.test/x", "url", ("https://a.test/x", "http://a.test/x")),
        ("//a.test/x", "url", ("https://a.test/x", "http://a.test/x")),
        ("a.test:8080/?u=http://b.test", "url", ("https://a.test:8080/?u=http://b.test", "http://a.test:8080/?u=http://b.test")),
        ("http://a.test/x?y", "domain", ("https://a.test/", "http://a.test/")),
        ("a.test", "domain", ("https://a.test/", "http://a.test/")),
        ("https://a.test/z", "domain", ("https://a.test/", "http://a.test/")),
        ("http://a.test:8080/z", "domain", ("http://a.test:8080/",)),
    ],
)  # fmt: skip
def test_where_a_page_may_be(text: str, by: Any, found: tuple[str, ...]) -> None:
    """Without a scheme both are tried, TLS first; of a domain all addresses are one."""
    assert addresses(text, by=by) == found


@pytest.mark.parametrize(
    "text", ["", " ", "n/a", "unknown", "mailto:me@a.test", "javascript:alert(1)", "data:text/html,x"]
)
def test_what_is_no_address_fails_its_item(text: str) -> None:
    """A cell that holds none is told as the item's own failure."""
    with pytest.raises(ItemError):
        addresses(text, by="url")


@pytest.mark.parametrize(
    "given_",
    [
        {"by": "host"}, {"url": "no column"}, {"url": "{"}, {"timeout_s": 0}, {"timeout_s": float("nan")},
        {"timeout_s": float("inf")}, {"timeout_s": "5"}, {"max_bytes": 0}, {"max_bytes": 1.5}, {"per_host": 0},
        {"concurrency": 0}, {"attempts": 0}, {"max_redirects": -1}, {"max_age_s": -1}, {"failure_age_s": float("nan")},
        {"allow": "10.0.0.0/8"}, {"allow": ("http://a.test/",)}, {"allow": ("a.test:80",)}, {"allow": ("",)}, {"allow": (1,)},
        {"user_agent": "a\nb"}, {"user_agent": "é"}, {"per_host": True},
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(given_: dict[str, Any]) -> None:
    """Each wrong value is a usage error with a hint, before any run."""
    with pytest.raises(UsageError) as caught:
        Fetch(**given_)
    assert caught.value.hint


def test_it_is_made_of_plain_values() -> None:
    """It goes through JSON and back, and shows only what was said."""
    fetch = Fetch("https://{domain}/about", by="url", allow=("10.0.0.0/8", "intranet.example", "::1"), max_age_s=60)
    assert Pipeline.from_dict(json.loads(json.dumps(Pipeline(fetch).to_dict()))) == Pipeline(fetch)
    assert Fetch(allow=["::1"]) == Fetch(allow=("::1",))  # type: ignore[arg-type]  # as a file has it
    assert repr(Fetch()) == "Fetch()"
    assert "max_age_s=60" in repr(fetch)


def test_a_digest_is_of_what_is_fetched_and_of_nothing_else() -> None:
    """Column names, limits and ages change no request; the address, the user agent and `by` do."""
    item = Item("k", 0, {"url": "http://a.test/x", "link": "http://a.test/x"})
    same = {
        FetchTask(fetch, now=0.0).request(item).digest
        for fetch in (Fetch(), Fetch("{link}"), Fetch(timeout_s=9, max_bytes=1, allow=("::1",), max_age_s=1))
    }
    assert len(same) == 1
    others = {
        FetchTask(fetch, now=0.0).request(item).digest
        for fetch in (Fetch(by="domain"), Fetch(user_agent="me"), Fetch())
    }
    assert len(others) == 3


def test_items_without_columns_are_addresses() -> None:
    """A list of addresses needs no column; a column that is not there is a mistake in the template."""
    assert FetchTask(Fetch(), now=0.0).request(Item("k", 0, "http://a.test")).item == ("http://a.test/",)
    with pytest.raises(UsageError, match="link"):
        FetchTask(Fetch("{link}"), now=0.0).request(Item("k", 0, {"url": "http://a.test"}))


def test_what_is_too_old_is_not_served() -> None:
    """Ages count from the page's time to the run's beginning; what is no page at all is fetched anew, too."""
    task = FetchTask(Fetch(max_age_s=100, failure_age_s=10), now=1000.0)

    def served(**fields: Any) -> bool:
        reply = Reply(msgspec.json.encode(Page(url="http://a.test/", **fields)).decode())
        try:
            return bool(task.value(reply))
        except AnswerError:
            return False

    assert served(at=901.0)
    assert served(at=2000.0)
    assert not served(at=899.0)
    assert served(at=991.0, trouble="status")
    assert not served(at=989.0, trouble="status")
    assert served(at=999.0, trouble="timeout", bound=5.0)
    assert not served(at=999.0, trouble="timeout", bound=4.0)
    assert task.since == 900.0
    with pytest.raises(AnswerError):
        task.value(Reply("no page"))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
)
def test_public_addresses(address: str) -> None:
    """Also where an IPv6 address leads to a public IPv4 one."""
    assert is_public(ipaddress.ip_address(address))


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address))
def test_an_address_is_as_private_inside_ipv6(address: ipaddress.IPv4Address) -> None:
    """Mapped, 6to4 and NAT64 forms are judged as the address they lead to; the deprecated form never gets through."""
    public = is_public(address)
    assert not public or address.is_global
    assert is_public(ipaddress.IPv6Address(0xFFFF << 32 | int(address))) == public
    assert is_public(ipaddress.IPv6Address((0x64FF9B << 96) | int(address))) == public
    assert is_public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))) == public
    assert not is_public(ipaddress.IPv6Address(int(address)))


@pytest.mark.parametrize(
    "network",
    ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
     "192.0.2.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "fc00::/7", "fe80::/10",
     "fec0::/10", "ff00::/8", "2001:db8::/32", "2001::/32", "100::/64"],
)  # fmt: skip
def test_private_networks(network: str) -> None:
    """First and last address of each private or special network are refused."""
    whole = ipaddress.ip_network(network)
    assert not is_public(whole[0])
    assert not is_public(whole[-1])


@pytest.mark.parametrize(
    ("body", "kind", "named", "found"),
    [
        (b"plain", "text/html", "", ("plain", "utf-8")),
        (b"\xef\xbb\xbfx", "text/html", "windows-1252", ("x", "utf-8")),
        ("é".encode("utf-16"), "text/html", "utf-8", ("é", "utf-16-le")),
        ("\u65e5\u672c".encode("shift_jis"), "text/plain", "Shift_JIS", ("\u65e5\u672c", "cp932")),
        (b"\x93quoted\x94", "text/html", "iso-8859-1", ("\u201cquoted\u201d", "cp1252")),
        ("ж".encode("koi8-r"), "text/html", "'KOI8-R'", ("ж", "koi8-r")),
        (b'<?xml version="1.0" encoding="iso-8859-2"?>\xb1', "application/rss+xml", "", None),
        (b"caf\xe9", "text/html", "no-such-charset", ("café", "cp1252")),
        (b"x\xff\xfe\x00y", "text/html", "utf-8", None),
        (b"", "text/html", "", ("", "utf-8")),
        (b"a\0b", "application/octet-stream", "", None),
        (b"%PDF-1.4", "text/html", "utf-8", None),
        (b'{"a": 1}', "application/json", "", ('{"a": 1}', "utf-8")),
    ],
)
def test_what_a_page_is_written_in(body: bytes, kind: str, named: str, found: tuple[str, str] | None) -> None:
    """Mark, header, head, UTF-8, guess, in this order; a header that cannot be right is not followed."""
    got = text_of(body, kind, named)
    if found is not None or body.startswith(b"%PDF") or kind == "application/octet-stream":
        assert got == found
    else:
        assert got is not None


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "gbk", "utf-16", "idna", "punycode", "zip", "x" * 40, "\0"]))
def test_any_bytes_have_some_text(body: bytes, named: str) -> None:
    """Whatever is stated, there is text that the store can hold, or none."""
    found = text_of(body, "text/html", named)
    if found is not None:
        found[0].encode()
        assert found[1]


@pytest.mark.parametrize(
    "name", ["unicode_escape", "raw_unicode_escape", "idna", "punycode", "rot13", "zip", "utf-7", "hex"]
)
def test_names_that_are_no_charsets(name: str) -> None:
    """Python's other codecs are not to be had by a header."""
    assert codec_of(name) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("-1", None), ("1.5", None), ("soon", None), ("9" * 50, 9_999_999_999.0),
     ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0), ("Wed, 31 Dec 1969 00:00:00 GMT", 0.0), ("Thu, 99 Foo", None)],
)  # fmt: skip
def test_how_long_a_host_asks_to_wait(text: str, seconds: float | None) -> None:
    """Seconds or a date; what is neither asks for nothing."""
    assert seconds_of(text, 0.0) == seconds


def test_a_host_that_answers_nothing_is_left_alone_for_a_while() -> None:
    """Only after several attempts over some seconds; an answer clears it, and after a rest one more failure renews it."""
    hosts = Hosts(4)
    with hosts.of("a.test") as host:
        for _ in range(3 * SILENT):
            host.silent(0.0)
        host.check(1.0)  # all at the same moment: a hiccup
        host.silent(SILENT_S)
        with pytest.raises(Troubled, match="left alone"):
            host.check(SILENT_S + 1)
        host.check(SILENT_S + REST_S)
        host.silent(SILENT_S + REST_S)
        with pytest.raises(Troubled, match="left alone"):
            host.check(SILENT_S + REST_S + 1)
        host.answered(SILENT_S + 2 * REST_S)
        host.silent(SILENT_S + 2 * REST_S)
        host.check(SILENT_S + 2 * REST_S)
