"""Columns that name pictures become pictures beside the item. Enters a source, leaves the same items with images.

Knows no provider. What a column holds: a path, an http(s) or data: address, or a list of them; empty is none.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.call import Image
from headrace.core.errors import UsageError
from headrace.core.item import Item
from headrace.core.ports import Source

MOST_BYTES = 20 * 1024 * 1024
"""Of one picture: what providers take at most, and more than they look at."""
_ADDRESSES = ("http://", "https://", "data:image/")
_HEAD_BYTES = 16


class Pictured:
    """A source whose items carry the pictures that these columns name. Files are read in a thread, a batch at a time,
    and not kept."""

    def __init__(self, source: Source, columns: Sequence[str], folder: Path) -> None:
        """`folder` is where relative paths begin; a path that is not there is looked for in the working folder."""
        fields = source.fields
        for name in columns:
            if fields is not None and name not in fields:
                raise UsageError(
                    f"There is no column {name!r} to take pictures from.", hint=f"The columns are: {', '.join(fields)}."
                )
        self._source, self._columns, self._folder = source, tuple(columns), folder

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def arrow_schema(self) -> bytes | None:
        return self._source.arrow_schema

    @property
    def fields(self) -> tuple[str, ...] | None:
        return self._source.fields

    @property
    def total(self) -> int | None:
        return self._source.total

    @property
    def notices(self) -> tuple[str, ...]:
        return self._source.notices

    async def __aiter__(self) -> AsyncIterator[list[Item]]:
        async for batch in self._source:
            yield await asyncio.to_thread(self._look, batch)

    def _look(self, batch: list[Item]) -> list[Item]:
        return [msgspec.structs.replace(item, images=tuple(self._of(item))) for item in batch]

    def _of(self, item: Item) -> list[Image]:
        columns = item.data if isinstance(item.data, dict) else {}
        held = [(name, columns.get(name)) for name in self._columns]
        each = [(name, one) for name, value in held for one in (value if isinstance(value, list) else [value])]
        return [self._image(source, name) for name, source in each if source is not None and source != ""]

    def _image(self, source: Any, column: str) -> Image:
        if not isinstance(source, str):
            return Image(
                "", wrong=f"The column {column!r} holds {type(source).__name__}, no path or address of a picture."
            )
        source = source.strip()
        if source.lower().startswith(_ADDRESSES):
            return Image(source)
        path = self._folder / source
        if not path.exists() and Path(source).exists():
            path = Path(source)
        return _file(path, source)


def _file(path: Path, told: str) -> Image:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            media_type = _media_type(file.read(_HEAD_BYTES))
            if not media_type:
                return Image(told, wrong=f"{told} is no picture that models see (PNG, JPEG, WebP or GIF).")
            if size > MOST_BYTES:
                return Image(told, wrong=f"The picture {told} has {size / 1024**2:.0f} MiB; providers take at most 20.")
            file.seek(0)
            digest = file_digest(file, "sha256").digest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Image(told, wrong=f"The picture {told} cannot be read: {reason}.")
    return Image(str(path.absolute()), media_type, digest)


def _media_type(head: bytes) -> str:
    """By its first bytes: names lie."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return ""
