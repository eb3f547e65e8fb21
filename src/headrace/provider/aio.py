"""HTTP over aiohttp. Its errors are mapped here and nowhere else, and so is the way to an address: proxies, certificates."""

import io
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from headrace.core.errors import CallError, Credentials, Transient, Unreachable, Untrusted, UsageError

_LARGE_BYTES = 1024 * 1024
"""A body of so much is written piece by piece, so that the loop goes on meanwhile."""
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_NOT_YET, _EXPIRED, _OTHER_HOST = 9, 10, 62
"""OpenSSL's codes for what no certificate of an authority mends."""


class _Way(msgspec.Struct, frozen=True):
    """How an address is reached."""

    proxy: str | None
    """Without name and password, which are apart: messages of aiohttp have the address in them."""
    auth: aiohttp.BasicAuth | None
    trust: ssl.SSLContext | bool


class AioHttp:
    """`Http` over aiohttp; honours HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR and
    REQUESTS_CA_BUNDLE.

    It sets no limit of its own on connections: the gate decides, and a pool that queues would hide its waiting.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._ways: dict[str, _Way] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        origin = _origin(url)
        if origin not in self._ways:  # once an address: aiohttp's own look-up takes two threads a request
            self._ways[origin] = way_to(url)
        way = self._ways[origin]
        try:
            async with self._session.post(
                url,
                data=body if len(body) < _LARGE_BYTES else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
                proxy=way.proxy,
                proxy_auth=way.auth,
                ssl=way.trust,
            ) as answer:
                if answer.status == 407 and way.proxy:
                    raise _refused(way.proxy, 407)
                return answer.status, answer.headers, await answer.read()
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{origin} is no address.", hint="Check the base URL.") from error
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise _error_of(error, origin, way.proxy) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _error_of(error: Exception, origin: str, proxy: str | None) -> CallError:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _untrusted(error, origin)
        case aiohttp.ClientHttpProxyError() if proxy:
            return _refused(proxy, error.status)
        case aiohttp.ClientConnectorError() if proxy and error.host == urlsplit(proxy).hostname:
            return Unreachable(
                f"Nothing answers at the proxy {proxy} ({_reason(error)}).",
                hint="Check HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY.",
            )
        case aiohttp.ClientConnectorError():
            return Unreachable(
                f"Nothing answers at {origin} ({_reason(error)}).",
                hint="Check the address, and that the server is running.",
            )
    return Transient(
        f"The answer from {origin} broke off ({type(error).__name__}).",
        hint="Run again: it may have been a passing fault.",
    )


def _untrusted(error: aiohttp.ClientConnectorCertificateError, origin: str) -> Untrusted:
    cause = error.certificate_error
    code = getattr(cause, "verify_code", 0)
    why = getattr(cause, "verify_message", "") or "it cannot be verified"
    hint = (
        "Put the certificate of the authority that signed it, as a PEM file, into the environment as SSL_CERT_FILE; a "
        "proxy that looks into traffic has one, too."
    )
    if code in (_NOT_YET, _EXPIRED):
        hint = "Check the clock of this machine; else whoever runs the server must renew it."
    elif code == _OTHER_HOST:
        hint = "Check the address: it must be the name that the certificate is for."
    return Untrusted(f"The certificate of {origin} is not trusted: {why.rstrip('.')}.", hint=hint)


def _refused(proxy: str, status: int) -> CallError:
    told = f"The proxy {proxy} answered {status}."
    if status == 407:
        hint = "Put a name and a password into HTTPS_PROXY or HTTP_PROXY: http://NAME:PASSWORD@HOST:PORT."
        return Credentials(told, hint=hint, status=status)
    if status in (401, 403):
        hint = "It does not let this address through: ask who runs it, or name the host in NO_PROXY."
        return Credentials(told, hint=hint, status=status)
    return Unreachable(told, hint="Check the address and the proxy.", status=status)


# The way to an address.


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


def way_to(url: str) -> _Way:
    """Which proxy the environment names for this address, and whose certificates are trusted there."""
    proxy = _proxy_for(url)
    is_secured = "https" in (urlsplit(url).scheme, urlsplit(proxy or "").scheme)
    trust = _trust() if is_secured else True
    if proxy is None:
        return _Way(None, None, trust)
    there = urlsplit(proxy)
    auth = None
    if there.username or there.password:
        auth = aiohttp.BasicAuth(unquote(there.username or ""), unquote(there.password or ""), encoding="utf-8")
    return _Way(_origin(proxy), auth, trust)


def _proxy_for(url: str) -> str | None:
    """None for this machine itself: no proxy elsewhere can reach it."""
    parts = urlsplit(url)
    if _is_near(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        there = urlsplit(proxy)
        is_usable = there.scheme in ("http", "https") and bool(there.hostname) and (there.port or 1) > 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise UsageError(
            f"The proxy for {parts.scheme}: addresses is no http:// or https:// address.",
            hint=f"Write {parts.scheme.upper()}_PROXY=http://HOST:PORT, or name {parts.hostname} in NO_PROXY.",
        )
    return proxy


def _is_near(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _trust() -> ssl.SSLContext | bool:
    """What the system trusts and what the environment adds; True for the former alone, which is loaded already."""
    named = {name: os.environ[name] for name in _CERTIFICATES if os.environ.get(name)}
    if not named:
        return True
    context = ssl.create_default_context()  # OpenSSL reads two of them itself, and is silent where there is nothing
    context.set_alpn_protocols(("http/1.1",))
    for name, path in named.items():
        folder = Path(path).is_dir()
        try:
            context.load_verify_locations(None if folder else path, path if folder else None)
        except OSError as error:  # ssl.SSLError is one
            why = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            raise UsageError(
                f"{name} names {path}, which cannot be used: {why}.",
                hint="Name a file of certificates in PEM form, or take the variable out of the environment.",
            ) from None
    return context


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "")
        return f"{(cause.reason or 'TLS failed').replace('_', ' ').lower()}{f': {why}' if why else ''}"
    told = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or type(cause).__name__
    return told.lower()
