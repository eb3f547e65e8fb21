"""HTTP over aiohttp. Its errors are mapped here and nowhere else."""

import io
import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from headrace.core.errors import Transient, Unreachable

_LARGE_BYTES = 1024 * 1024
"""A body of so much is written piece by piece, so that the loop goes on meanwhile."""


class AioHttp:
    """`Http` over aiohttp; honours HTTP_PROXY, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE.

    It sets no limit of its own on connections: the gate decides, and a pool that queues would hide its waiting.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str | None] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        origin = _origin(url)
        if origin not in self._proxies:  # once an address: aiohttp's own look-up takes two threads a request
            self._proxies[origin] = _proxy_for(url)
        try:
            async with self._session.post(
                url,
                data=body if len(body) < _LARGE_BYTES else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
                proxy=self._proxies[origin],
            ) as answer:
                return answer.status, answer.headers, await answer.read()
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(
                f"Nothing answers at {origin} ({_reason(error)}).",
                hint="Check the address, and that the server is running.",
            ) from error
        except aiohttp.InvalidURL as error:
            raise Unreachable(f"{origin} is no address.", hint="Check the base URL.") from error
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise Transient(
                f"The answer from {origin} broke off ({type(error).__name__}).",
                hint="Run again: it may have been a passing fault.",
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "")
        return f"{(cause.reason or 'TLS failed').replace('_', ' ').lower()}{f': {why}' if why else ''}"
    told = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or type(cause).__name__
    return told.lower()
