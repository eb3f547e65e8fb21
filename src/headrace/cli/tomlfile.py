"""headrace.toml: found, read, and searched for the line that a word stands in. Knows no word itself."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.errors import UsageError

NAME = "headrace.toml"
_MOST_BYTES = 1_000_000


class TomlFile(msgspec.Struct, frozen=True):
    """One that is there. `path` is as one would write it from the working folder."""

    path: str
    text: str
    tables: Mapping[str, Any]

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)  # noqa: PTH120 - as it is shown

    def lines(self) -> dict[tuple[str, ...], int]:
        """The line that each key of two or three words begins in: the first lines of the file are read again with one
        more each time, and what is new in them stood there."""
        import tomllib  # noqa: PLC0415 - only where there is one to read

        found: dict[tuple[str, ...], int] = {}
        lines = self.text.splitlines(keepends=True)
        begins = 1
        for count in range(1, len(lines) + 1):
            try:
                tables = tomllib.loads("".join(lines[:count]))
            except tomllib.TOMLDecodeError:  # in the middle of a value
                continue
            for path in _paths(tables):
                found.setdefault(path, begins)
            begins = count + 1
        return found


def nearest(start: Path, home: Path | None) -> TomlFile | None:
    """The one in this folder, or in the nearest above as far as the root of a repository or the home folder: what lies
    further up, or above where neither is, is somebody else's. Raises UsageError."""
    for folder in _mine(start.resolve(), home):
        path = folder / NAME
        if path.is_file():
            return _read(path, os.path.relpath(path, start))
    return None


def _mine(start: Path, home: Path | None) -> list[Path]:
    folders = [start, *start.parents]
    for count, folder in enumerate(folders, 1):
        if folder == home or (folder / ".git").exists():
            return folders[:count]
    return folders[:1]


def _read(path: Path, told: str) -> TomlFile:
    import tomllib  # noqa: PLC0415 - as above

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{told} is larger than 1 MB.", hint="It holds settings, not data.")
        text = path.read_bytes().decode("utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{told} cannot be read ({error.strerror}).", hint="Check its permissions.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{told} is no UTF-8.", hint="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{told} is no TOML: {error}.", hint="Text stands in quotes; see toml.io.") from None
    return TomlFile(told, text, tables)


def _paths(tables: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, table in tables.items():
        for key, value in table.items() if isinstance(table, Mapping) else ():
            yield (name, key)
            for each in value if isinstance(value, Mapping) else ():
                yield (name, key, each)
