"""Anything that holds inputs becomes a Source: items with keys, in batches as they come.

Knows nothing of runs; paths are opened in reader.py, waiting is done in feed.py.
"""

import difflib
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from itertools import count, islice
from typing import Any

from headrace.core.digest import canonical, digest_of, short
from headrace.core.errors import UsageError
from headrace.core.item import Item
from headrace.data.feed import BATCH_ITEMS, pulled, pumped
from headrace.data.files import Rows
from headrace.data.frames import is_frame, open_frame
from headrace.data.plain import kind_name, plain
from headrace.data.reader import open_table
from headrace.data.table import Table

_PARCEL_ITEMS = 64
_ItemOf = Callable[[int, Any], Item]


class Items:
    """Items in batches, as core.ports.Source asks; `arrow_schema` has the column types of a Parquet file."""

    def __init__(
        self,
        batches: Callable[[], AsyncIterator[list[Item]]],
        *,
        name: str = "",
        fields: tuple[str, ...] | None = None,
        total: int | None = None,
        arrow_schema: bytes | None = None,
        notices: tuple[str, ...] = (),
        once: bool = False,
    ) -> None:
        self._batches = batches
        self._once = once
        self._read = False
        self.name = name
        self.fields = fields
        self.total = total
        self.arrow_schema = arrow_schema
        self.notices = notices

    @property
    def again(self) -> bool:
        """Whether it can be read a second time."""
        return not self._once

    def __aiter__(self) -> AsyncIterator[list[Item]]:
        if self._once and self._read:
            raise UsageError(
                "This source can be read only once, and was.", hint="Pass a list, a file, or a new iterator."
            )
        self._read = True
        return self._batches()


def open_source(
    items: "str | os.PathLike[str] | Table | Iterable[Any] | AsyncIterable[Any]",
    *,
    key: str | None = None,
    first: int | None = None,
    name: str | None = None,
) -> Items:
    """The source of these items.

    `items` is a path, `-` (standard input: JSON Lines where its first byte that is not blank is `{`, else CSV with a
    header), a list or another iterable, or an async iterable. Lists and tuples are read in place, other iterables by a
    thread, because they may block. `key` names the column whose values are the items' keys; an item without one gets
    its position and content as key. `first` stops after so many items. `name` identifies what has no path across runs.
    A file's header and first row are read now, and standard input up to there. Raises InputError, UsageError.
    """
    if first is not None and first < 1:
        raise UsageError(f"first is {first}; it must be at least 1.", hint="Leave it out to read all.")
    tag = f"#first={first}" if first is not None else ""
    named = f"{name}{tag}" if name else ""
    if isinstance(items, str | os.PathLike):
        items = Table(items)
    if isinstance(items, Table):
        path, how, rows = open_table(items)
        told = name or path
        return _of_rows(rows, key, first, f"{told}{how}{tag}" if told else "", once=not path)
    item_of = _item_maker(key, normalise=True)
    if isinstance(items, AsyncIterable):
        # an iterator that is its own can be read once; what makes new ones, again and again
        return Items(lambda: _stream(items, item_of, first), name=named, once=isinstance(items, AsyncIterator))
    if is_frame(items):
        return _of_rows(open_frame(items), key, first, named, once=False)
    _refuse_lookalike(items)
    if isinstance(items, list | tuple):
        total = len(items) if first is None else min(len(items), first)
        return Items(lambda: _slices(items, item_of, total), name=named, total=total)
    return Items(
        lambda: pulled(lambda: _number(islice(items, first), item_of)), name=named, once=isinstance(items, Iterator)
    )


def _of_rows(rows: Rows, key: str | None, first: int | None, name: str, *, once: bool) -> Items:
    if key is not None and (rows.fields is None or key not in rows.fields):
        raise _no_key_column(key, rows.fields, rows.notices)
    item_of = _item_maker(key, normalise=False)
    total = rows.total if first is None or rows.total is None else min(rows.total, first)
    return Items(
        lambda: pulled(lambda: _number(islice(rows.rows(), first), item_of), at_once=1 if once else _PARCEL_ITEMS),
        name=name,
        fields=rows.fields,
        total=total,
        arrow_schema=rows.arrow_schema,
        notices=rows.notices,
        once=once or rows.once,
    )


def _number(rows: Iterable[Any], item_of: _ItemOf) -> Iterator[Item]:
    return map(item_of, count(), rows)


async def _slices(items: Sequence[Any], item_of: _ItemOf, total: int) -> AsyncIterator[list[Item]]:
    for start in range(0, total, BATCH_ITEMS):
        chunk = items[start : min(start + BATCH_ITEMS, total)]
        if not chunk:
            return
        yield [item_of(position, value) for position, value in enumerate(chunk, start)]


def _stream(items: AsyncIterable[Any], item_of: _ItemOf, first: int | None) -> AsyncIterator[list[Item]]:
    async def numbered() -> AsyncGenerator[Item, None]:
        iterator = aiter(items)
        position = 0
        try:
            async for value in iterator:
                yield item_of(position, value)
                position += 1
                if position == first:
                    return
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()

    return pumped(numbered())


def _item_maker(key: str | None, *, normalise: bool) -> _ItemOf:
    """How a position and a value become an item. Rows of files are plain data already."""
    make = _from_content if key is None else partial(_from_column, key)
    return partial(_from_any, make, check=key is not None) if normalise else make


def _from_content(position: int, data: Any) -> Item:
    return Item(f"{position}-{short(digest_of(data))}", position, data)


def _from_column(key: str, position: int, data: Any) -> Item:
    value = data.get(key) if isinstance(data, dict) else None
    if value is None or value == "":
        if position == 0 and not (isinstance(data, dict) and key in data):
            raise _no_key_column(key, tuple(data) if isinstance(data, dict) else None)
        return _from_content(position, data)
    return Item(value if isinstance(value, str) else canonical(value).decode(), position, data)


def _from_any(make: _ItemOf, position: int, value: Any, *, check: bool) -> Item:
    try:
        data = plain(value)
        if check:
            canonical(data)  # a key of content does so too: raises where the store could not hold it
        return make(position, data)
    except UsageError as error:
        raise UsageError(f"Item {position}: {error.message}", hint=error.hint) from error
    except UnicodeEncodeError as error:
        raise UsageError(
            f"Item {position} holds half of a surrogate pair, which is no text.",
            hint='Clean it: text.encode("utf-8", "replace").decode().',
        ) from error
    except RecursionError as error:
        raise UsageError(f"Item {position} is nested too deeply.", hint="Pass a flat mapping.") from error


def _no_key_column(key: str, fields: tuple[str, ...] | None, notices: Iterable[str] = ()) -> UsageError:
    """`notices` say what was guessed of the table: it may be the wrong sheet, or the wrong header."""
    if fields is None:
        return UsageError(f"There is no key column {key!r}: the items have no columns.", hint="Leave the key out.")
    near = difflib.get_close_matches(key, fields, n=1)
    ask = f"Did you mean {near[0]!r}? " if near else ""
    hint = " ".join([f"{ask}The columns are: {', '.join(fields)}.", *notices])
    return UsageError(f"There is no key column {key!r}.", hint=hint)


def _refuse_lookalike(items: object) -> None:
    """What can be iterated, but not over what its owner means."""
    if isinstance(items, Mapping):
        raise UsageError(
            "The items are one mapping, not a list of them.", hint="Pass a list of rows, or list(mapping.items())."
        )
    if isinstance(items, bytes | bytearray):
        raise UsageError("The items are bytes.", hint="Pass a list, an iterator, or a path as text.")
    for method, call in (("to_dicts", "to_dicts()"), ("to_pylist", "to_pylist()"), ("to_dict", 'to_dict("records")')):
        if hasattr(items, "columns") and hasattr(items, method):
            raise UsageError(f"The items are a data frame ({kind_name(items)}).", hint=f"Pass frame.{call}.")
    if not isinstance(items, Iterable):
        raise UsageError(
            f"Items of type {kind_name(items)} cannot be read.",
            hint="Pass a path, a list, an iterator, or an async iterator.",
        )
