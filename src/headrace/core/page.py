"""What came from an address, or why nothing did: a value between whoever fetches pages and whoever reads them."""

from typing import Literal

import msgspec

Trouble = Literal[
    "", "status", "unknown-host", "unreachable", "untrusted", "timeout", "broken", "too-large", "redirects", "address",
    "private", "busy", "silent", "proxy",
]  # fmt: skip
"""Why there is no page: the server said no (`status`), its name is not known, nothing listens there, its certificate is
not trusted, it was too slow, the answer broke off or is malformed, is too large, leads round in circles or to what is
no web address, or its address is private; its host asked to wait (`busy`) or has answered nothing for some time
(`silent`); the `proxy` is in the way."""


class Page(msgspec.Struct, frozen=True, omit_defaults=True):
    """One page, or the failure to fetch it. Foreign throughout: nothing of it is trusted anywhere it is shown."""

    url: str
    """What was asked for."""
    final_url: str = ""
    """Where it was found after all redirects; of a failure, how far it came."""
    status: int | None = None
    content_type: str = ""
    """Without parameters and in lower case, for example text/html; empty where the server told none."""
    charset: str = ""
    """The codec that its text was read with; empty for what is no text."""
    text: str = ""
    data: bytes = b""
    """What is no text: a PDF, a picture. In JSON it is base64."""
    at: float = 0.0
    """When it was fetched, in seconds since 1970."""
    trouble: Trouble = ""
    """Why there is no page; empty where there is one."""
    message: str = ""
    hint: str = ""
    bound: float = 0.0
    """The seconds, bytes or redirects that were allowed, where these were too few."""

    @property
    def ok(self) -> bool:
        return not self.trouble

    @property
    def is_text(self) -> bool:
        return bool(self.charset)
