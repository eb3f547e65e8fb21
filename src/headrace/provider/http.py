"""The port to HTTP: bytes out, status, headers and bytes in."""

from collections.abc import Mapping
from typing import Protocol


class Http(Protocol):
    """A pool of connections. Cancelling `post` closes the socket, which takes the call off the wire."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. Raises Unreachable where nothing answers, Transient where the answer broke off."""
        ...

    async def close(self) -> None: ...
