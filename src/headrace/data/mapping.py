"""A small file of a person's own, TOML or JSON, as a mapping. Knows nothing of what it holds."""

from pathlib import Path
from typing import Any

import msgspec

from headrace.core.errors import UsageError

_MOST_BYTES = 1_000_000


def read_mapping(path: Path) -> dict[str, Any]:
    """Raises UsageError where it cannot be read, or is neither."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is larger than 1 MB.", hint="It holds settings, not data.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).", hint="Check its name and permissions.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no UTF-8.", hint="Save it as UTF-8.") from None
    found = _json(path, text) if path.suffix.lower() == ".json" else _toml(path, text)
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no table.", hint="Write names with values.")
    return found


def _json(path: Path, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(
            f"{path} is no JSON: {error}.", hint="Correct it, or name it .toml where it is TOML."
        ) from None


def _toml(path: Path, text: str) -> Any:
    import tomllib  # noqa: PLC0415 - only where there is one to read

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}.", hint="Text stands in quotes; see toml.io.") from None
