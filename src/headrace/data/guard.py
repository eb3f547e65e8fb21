"""Which addresses may be connected to. Enters names and addresses, leaves addresses, or why there are none.

1. A name is looked up here, and what is found is judged here: the connection goes to that address and to no other, so a
   name that means another address a moment later (DNS rebinding) gains nothing.
2. Every socket is asked about once more, by its own address, before it is made.
3. An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as what it is.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from headrace.core.url import host_of, normalised
from headrace.data.trouble import NotAllowed, private

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str], Sequence[str]]
"""A name's addresses; may block, and raises OSError where there are none."""

_LOOKUPS = 64
"""At once. One that nobody answers keeps its thread for up to half a minute."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Guard(AbstractResolver):
    """Resolver and keeper of sockets for one session. `allow` names hosts, addresses and networks that may be private."""

    def __init__(self, allow: Sequence[str] = (), *, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or _system
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for each in allow:
            try:
                self._networks.append(ipaddress.ip_network(each, strict=False))
            except ValueError:
                self._hosts.add(host_of(normalised(f"http://{each}/")))
        self._named: set[str] = set()
        """Addresses of hosts that are allowed by name."""
        self._threads = asyncio.Semaphore(_LOOKUPS)

    def check(self, host: str) -> None:
        """Raises Troubled for an address, or a name that always means one, that may not be connected to."""
        if host in self._hosts:
            return
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host == "localhost" or host.endswith(".localhost"):
                raise private(host) from None
            return
        if not self._may(address):
            raise private(host)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._looked_up(host)
        good = [each for each in found if host in self._hosts or self._may(ipaddress.ip_address(each))]
        if found and not good:
            raise private(host)
        if host in self._hosts:
            self._named.update(good)
        return [
            ResolveResult(
                hostname=host, host=each, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
            )
            for each in good
            if family == socket.AF_UNSPEC or (family == socket.AF_INET6) == (":" in each)
        ]  # fmt: skip

    def socket(self, where: tuple[Any, ...]) -> socket.socket:
        """A socket for this address; raises NotAllowed."""
        family, kind, protocol, _, place = where
        if place[0] not in self._named and not self._may(ipaddress.ip_address(place[0])):
            raise NotAllowed(f"{place[0]} may not be connected to")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - the system's own form
        return made

    async def close(self) -> None:
        """There is nothing to close: a look-up that goes on ends by itself."""

    def _may(self, address: Address) -> bool:
        meant = _meant(address)
        allowed = any(meant in network or address in network for network in self._networks)
        return allowed or is_public(address)

    async def _looked_up(self, host: str) -> list[str]:
        """On a thread of its own that no end of the program waits for: some look-ups take half a minute to fail."""
        await self._threads.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def tell(result: list[str] | None, error: Exception | None) -> None:
            self._threads.release()
            if found.done():  # nobody waits any more
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(result or [])

        def work() -> None:
            result: list[str] | None = None
            error: Exception | None = None
            try:
                result = list(self._lookup(host))
            except Exception as raised:  # noqa: BLE001 - told to who waits
                error = raised if isinstance(raised, OSError) else socket.gaierror(socket.EAI_NONAME, str(raised))
            with suppress(RuntimeError):  # the loop may be gone
                loop.call_soon_threadsafe(tell, result, error)

        threading.Thread(target=work, name="headrace-lookup", daemon=True).start()
        return await found


def is_public(address: Address) -> bool:
    """Whether anybody may be connected to there: no address of this machine, of a private or a special network."""
    meant = _meant(address)
    if isinstance(meant, ipaddress.IPv6Address) and (meant.is_site_local or meant.is_reserved or meant.scope_id):
        return False
    special = meant.is_private or meant.is_loopback or meant.is_link_local or meant.is_multicast or meant.is_unspecified
    return meant.is_global and not special


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _system(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))
