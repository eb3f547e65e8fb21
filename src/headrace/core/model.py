"""Which model answers, and at which address: `openai:gpt-5-nano`, `anthropic:NAME`, `local`, `sim:`.

Reads no environment: keys are looked up where providers are chosen.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from headrace.core.errors import UsageError

_BUILT_IN = ("local", "sim")
"""What has no address."""


class Model(msgspec.Struct, frozen=True):
    """A model as a person names it.

    `base_url` is the address up to and including the version (`https://host/v1`), `api_key` overrides the provider's
    own environment variable, `headers` are added to every request. Neither key nor headers are part of a request's
    identity, and neither is ever shown or stored.
    """

    spec: str
    base_url: str | None = None
    api_key: str | None = None
    headers: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        scheme, colon, name = self.spec.partition(":")
        if not scheme or not (colon or scheme in _BUILT_IN):
            raise UsageError(
                f"Unknown model {self.spec!r}.",
                hint=f"Write PROVIDER:NAME, for example openai:{self.spec.lstrip(':') or 'gpt-5-nano'}; local (the small "
                "model that runs here) or sim: (simulated answers).",
            )
        if scheme not in _BUILT_IN and not name:
            raise UsageError(
                f"The model {scheme}: has no name.",
                hint="Write PROVIDER:NAME, for example openai:gpt-5-nano; only sim: stands without a name.",
            )
        if scheme in _BUILT_IN and (self.base_url or self.headers):
            raise UsageError(
                f"The model {scheme} has no address and takes no headers.",
                hint="Leave --base-url and --header out, or write openai:NAME for a server of your own.",
            )
        for name, value in self.headers.items():
            if not name.isascii() or any(ord(sign) < 32 or ord(sign) == 127 for sign in name + value):
                raise UsageError(f"The header {name!r} holds a control character.", hint="Give it in one line of text.")
        if self.base_url is not None and "@" in self.base_url:
            raise UsageError(
                "The base URL holds a user name or password.",
                hint="Addresses are stored and shown; send credentials with --header or the provider's key variable.",
            )
        if self.base_url is not None and not _is_address(self.base_url):
            raise UsageError(
                f"The base URL {self.base_url!r} is no http:// or https:// address.",
                hint="Write for example http://127.0.0.1:8000/v1.",
            )

    @property
    def scheme(self) -> str:
        return self.spec.partition(":")[0]

    @property
    def name(self) -> str:
        """What the provider calls it."""
        return self.spec.partition(":")[2]

    def __repr__(self) -> str:
        at = f", base_url={self.base_url!r}" if self.base_url else ""
        return f"Model({self.spec!r}{at})"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        port = parts.port
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    except ValueError:  # UnicodeError is one
        return False
    return plain and not parts.query and not parts.fragment
