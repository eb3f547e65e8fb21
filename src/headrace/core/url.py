"""Addresses of the web in one form. Enters what a person, a model or a server wrote, leaves an address that can be sent
and compared as text; raises ValueError for what is none. Knows nothing of where names lead."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

MOST_CHARACTERS = 16_384
_PORTS = {"http": 80, "https": 443}
_HEX = "0123456789ABCDEFabcdef"
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH = _PLAIN | set("!$&'()*+,;=:@/[]|")
_QUERY = _PATH | set("?")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")
_NUMBERS = re.compile(r"[0-9.]+")
_USUAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
"""Needs no look at each sign."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def normalised(text: str) -> str:
    """One spelling for all that mean the same: scheme and host in small letters (a name beyond ASCII as it is looked
    up), no default port, no fragment, no dots in the path, each character escaped where it must be and nowhere else.
    """
    text = text.strip()
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS:,} characters")
    if _CONTROL.search(text):
        raise ValueError("it holds a control character")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError("it does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name or a password")
    path = _without_dots(_escaped(parts.path, _PATH)) or "/"
    return urlunsplit((parts.scheme, _place(parts), path, _escaped(parts.query, _QUERY), ""))


def host_of(url: str) -> str:
    """The host of a normalised address, without brackets and port."""
    return urlsplit(url).hostname or ""


def front_page(url: str) -> str:
    """The address at which a normalised address's host shows itself."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _place(parts: SplitResult) -> str:
    port = parts.port  # raises ValueError where it is no number, or too large
    if port == 0:
        raise ValueError("its port is 0")
    host = _host(parts.hostname or "")
    return host if port is None or port == _PORTS[parts.scheme] else f"{host}:{port}"


def _host(name: str) -> str:
    if ":" in name:
        return f"[{ipaddress.IPv6Address(name)}]"
    if not name.isascii():
        name = _as_looked_up(name)
    name = name.removesuffix(".").lower()
    if not _HOST.fullmatch(name):
        raise ValueError("it names no host" if not name else f"{name!r} is no name of a host")
    if _NUMBERS.fullmatch(name):
        return str(ipaddress.IPv4Address(name))  # and not 127.1, which systems read as an address all the same
    return name


def _as_looked_up(name: str) -> str:
    import idna  # noqa: PLC0415 - few names are beyond ASCII

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"{name!r} is no name of a host ({error})") from None


def _escaped(text: str, plain: frozenset[str] | set[str]) -> str:
    """Escapes what must be escaped, keeps what is, and takes back what need not be."""
    if _USUAL.fullmatch(text):
        return text
    made: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        at += 1
        if sign == "%" and len(text) > at + 1 and text[at] in _HEX and text[at + 1] in _HEX:
            meant = chr(int(text[at : at + 2], 16))
            made.append(meant if meant in _PLAIN else f"%{text[at : at + 2].upper()}")
            at += 2
        elif sign in plain:
            made.append(sign)
        else:  # a header's bytes that are no UTF-8 arrive as surrogates, and leave as the bytes that they were
            made.extend(f"%{byte:02X}" for byte in sign.encode("utf-8", "surrogateescape"))
    return "".join(made)


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    kept: list[str] = []
    parts = path.split("/")[1:]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "..":
            if kept:
                kept.pop()
            if is_last:
                kept.append("")
        elif part != ".":
            kept.append(part)
        elif is_last:
            kept.append("")
    return "/" + "/".join(kept) if parts else ""
