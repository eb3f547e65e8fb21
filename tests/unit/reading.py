"""Reading a source to its end, and what it refuses."""

import asyncio
from typing import Any

import pytest

from headrace.core.errors import HeadraceError
from headrace.core.item import Item
from headrace.data.source import Items, open_source


def read(source: Items) -> list[Item]:
    async def gather() -> list[Item]:
        return [item async for batch in source for item in batch]

    return asyncio.run(gather())


def data(items: Any, **options: Any) -> list[Any]:
    return [item.data for item in read(open_source(items, **options))]


def refused(items: Any, **options: Any) -> str:
    """The error that opening gives, before anything is read."""
    with pytest.raises(HeadraceError) as caught:
        open_source(items, **options)
    assert caught.value.exit_status == 2
    assert caught.value.hint
    return str(caught.value)


def refused_later(items: Any, **options: Any) -> str:
    """The error that reading gives, though opening gave none."""
    source = open_source(items, **options)
    with pytest.raises(HeadraceError) as caught:
        read(source)
    assert caught.value.exit_status == 2
    assert caught.value.hint
    return str(caught.value)
