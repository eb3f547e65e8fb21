"""Identity: canonical bytes of a value, and their SHA-256.

Equal values give equal bytes on every machine and Python; what has no JSON form is refused.
"""

from hashlib import sha256
from typing import NewType

import msgspec

Digest = NewType("Digest", bytes)
"""32 bytes of SHA-256."""

_encoder = msgspec.json.Encoder(order="deterministic")


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces; raises TypeError for what JSON cannot hold."""
    return _encoder.encode(value)


def digest_of(value: object) -> Digest:
    return Digest(sha256(canonical(value)).digest())


def short(digest: bytes) -> str:
    """The first 12 hex digits: enough to tell runs and items of one store apart for a reader."""
    return digest.hex()[:12]
