"""Why a page did not come. Enters the errors of aiohttp and of the system, which are mapped here and nowhere else, and
statuses; leaves one exception that says whether to try again."""

import errno
import os
import socket
import ssl
import time
from email.utils import parsedate_to_datetime

import aiohttp

from headrace.core.page import Trouble

_PASSING = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505, 511}
"""Statuses after which another attempt may do."""
_NO_SUCH_HOST = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)}
_LATER = "Run again later, or look whether the address is right."


class Troubled(Exception):
    """No page, for this reason."""

    def __init__(
        self,
        trouble: Trouble,
        message: str,
        *,
        hint: str = _LATER,
        passing: bool = False,
        status: int | None = None,
        wait_s: float | None = None,
        bound: float = 0.0,
        near: bool = False,
    ) -> None:
        """`passing`: another attempt may do. `wait_s` is what the host asked for, `bound` what was allowed; `near`: the
        cause is on this side, in its network, its proxy or its rules."""
        super().__init__(message)
        self.trouble: Trouble = trouble
        self.message = message
        self.hint = hint
        self.passing = passing
        self.status = status
        self.wait_s = wait_s
        self.bound = bound
        self.near = near

    @property
    def is_silence(self) -> bool:
        """Whether the host has answered nothing."""
        return not self.near and self.status is None and self.trouble in ("unknown-host", "unreachable", "broken")


class NotAllowed(OSError):
    """An address that may not be connected to."""


def private(host: str) -> Troubled:
    return Troubled(
        "private",
        f"{host} is an address of this machine or of a private network, which are not fetched.",
        hint="Allow it by name where that is meant: allow=.",
        near=True,
    )


def troubled(error: Exception, host: str) -> Troubled:
    """What an error of the client means."""
    match error:
        case aiohttp.InvalidURL():
            return Troubled("address", f"{host} is no address of the web.", hint="Mend the address.")
        case aiohttp.ClientConnectorDNSError():
            return _unknown(error.os_error, host)
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
            return Troubled("untrusted", f"The certificate of {host} is not trusted: {why.rstrip('.')}.")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return _proxy(host)
        case aiohttp.ClientConnectorError():
            return _unconnected(error.os_error, host)
        case aiohttp.ClientResponseError():
            said = " ".join((error.message or "").split())[:100]
            return Troubled(
                "broken", f"What {host} answered is no HTTP that can be read ({said}).", status=error.status
            )
    return Troubled("broken", f"The answer of {host} broke off ({type(error).__name__}).", passing=True)


def refusal(status: int, host: str, retry_after: str | None) -> Troubled:
    """What a status that is no success means."""
    if status == 407:
        return _proxy(host)
    passing = status in _PASSING
    wait_s = seconds_of(retry_after, time.time()) if passing and retry_after else None
    hint = _LATER
    if status in (401, 403):
        hint = "It is not shown to everybody: take it out, or ask who runs the site."
    elif status in (404, 410):
        hint = "Look whether the address is right."
    return Troubled("status", f"{host} answered {status}.", hint=hint, passing=passing, status=status, wait_s=wait_s)


def seconds_of(retry_after: str, now: float) -> float | None:
    """What Retry-After asks for: seconds, or a date; None for what is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _proxy(host: str) -> Troubled:
    return Troubled(
        "proxy", f"The proxy did not let {host} through.", hint="Check HTTPS_PROXY and HTTP_PROXY.", near=True
    )


def _unknown(error: OSError, host: str) -> Troubled:
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST:
        return Troubled("unknown-host", f"{host} is not known: there is no such name.")
    return Troubled(
        "unknown-host", f"{host} could not be looked up.", hint="Check the network.", passing=True, near=True
    )


def _unconnected(error: OSError, host: str) -> Troubled:
    if isinstance(error, NotAllowed):
        return private(host)
    if isinstance(error, ssl.SSLError):
        why = (error.reason or "TLS failed").replace("_", " ").lower()
        return Troubled("unreachable", f"There is no secured connection to {host} ({why}).", passing=True)
    number = error.errno or 0
    told = os.strerror(number) if number > 0 else error.strerror or type(error).__name__
    near = number in (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE)
    return Troubled("unreachable", f"Nothing answers at {host} ({told.lower()}).", passing=True, near=near)
