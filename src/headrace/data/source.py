"""Anything that holds inputs becomes a Source: items with keys, in batches as they come.

Knows nothing of runs; formats are read in files.py and parquet.py, waiting is done in feed.py.
"""

import difflib
import os
import stat
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
from pathlib import Path
from typing import Any

from headrace.core.digest import canonical, digest_of, short
from headrace.core.errors import HeadraceError, InputError, UsageError
from headrace.core.item import Item
from headrace.data.feed import BATCH_ITEMS, pulled, pumped
from headrace.data.files import Table, open_csv, open_folder, open_json, open_stdin
from headrace.data.lines import unreadable
from headrace.data.plain import kind_name, plain

_FORMATS = "CSV (.csv), JSON Lines (.jsonl, .ndjson), Parquet (.parquet), or a folder of text files"
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
        once: bool = False,
    ) -> None:
        self._batches = batches
        self._once = once
        self._read = False
        self.name = name
        self.fields = fields
        self.total = total
        self.arrow_schema = arrow_schema

    def __aiter__(self) -> AsyncIterator[list[Item]]:
        if self._once and self._read:
            raise UsageError(
                "This source can be read only once, and was.", hint="Pass a list, a file, or a new iterator."
            )
        self._read = True
        return self._batches()


def open_source(
    items: "str | os.PathLike[str] | Iterable[Any] | AsyncIterable[Any]",
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
        at = os.fspath(items)
        if not isinstance(at, str):
            raise UsageError(f"The path {at!r} is bytes.", hint="Pass the path as text.")
        path, table = (None, open_stdin()) if at == "-" else _open_path(at)
        return _of_table(table, key, first, named or (f"{path}{tag}" if path else ""), once=path is None)
    item_of = _item_maker(key, normalise=True)
    if isinstance(items, AsyncIterable):
        # an iterator that is its own can be read once; what makes new ones, again and again
        return Items(lambda: _stream(items, item_of, first), name=named, once=isinstance(items, AsyncIterator))
    _refuse_lookalike(items)
    if isinstance(items, list | tuple):
        total = len(items) if first is None else min(len(items), first)
        return Items(lambda: _slices(items, item_of, total), name=named, total=total)
    return Items(
        lambda: pulled(lambda: _number(islice(items, first), item_of)), name=named, once=isinstance(items, Iterator)
    )


def _of_table(table: Table, key: str | None, first: int | None, name: str, *, once: bool) -> Items:
    if key is not None and (table.fields is None or key not in table.fields):
        raise _no_key_column(key, table.fields)
    item_of = _item_maker(key, normalise=False)
    total = table.total if first is None or table.total is None else min(table.total, first)
    return Items(
        lambda: pulled(lambda: _number(islice(table.rows(), first), item_of), at_once=1 if once else _PARCEL_ITEMS),
        name=name,
        fields=table.fields,
        total=total,
        arrow_schema=table.arrow_schema,
        once=once,
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


def _no_key_column(key: str, fields: tuple[str, ...] | None) -> UsageError:
    if fields is None:
        return UsageError(f"There is no key column {key!r}: the items have no columns.", hint="Leave the key out.")
    near = difflib.get_close_matches(key, fields, n=1)
    ask = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(f"There is no key column {key!r}.", hint=f"{ask}The columns are: {', '.join(fields)}.")


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


def _open_path(at: str) -> tuple[Path, Table]:
    if not at:
        raise InputError("The path of the input is empty.", hint=f"Give the path of {_FORMATS}.")
    path = Path(at)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _not_there(path, at) from error
    except ValueError as error:
        raise InputError(f"{at!r} is no path.", hint=f"Give the path of {_FORMATS}.") from error
    except OSError as error:
        raise unreadable(at, error) from error
    whole = path.resolve()
    if stat.S_ISDIR(mode):
        return whole, open_folder(whole, at)
    ending = path.suffix.lower()
    if ending not in (".csv", ".jsonl", ".ndjson", ".parquet"):
        raise _unknown_ending(at, ending)
    if not stat.S_ISREG(mode):
        raise InputError(f"{at} is no regular file.", hint="Pipe it in, with - as the input.")
    return whole, _open_file(whole, at, ending)


def _open_file(path: Path, where: str, ending: str) -> Table:
    if ending == ".csv":
        return open_csv(path, where)
    if ending != ".parquet":
        return open_json(path, where)
    from headrace.data.parquet import open_parquet  # noqa: PLC0415 - pyarrow is heavy

    return open_parquet(path, where)


def _unknown_ending(at: str, ending: str) -> HeadraceError:
    more = " Of a .json file with an array, jq -c '.[]' makes JSON Lines." if ending == ".json" else ""
    told = f"ends in {ending}" if ending else "has no ending"
    return InputError(f"{at} {told}, which headrace does not read.", hint=f"It reads {_FORMATS}.{more}")


def _not_there(path: Path, at: str) -> InputError:
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"There is no file {at}: its folder does not exist.", hint="Check the path.")
    try:
        there = {name.lower(): name for name in os.listdir(folder)}
    except OSError:
        there = {}
    near = [there[name] for name in difflib.get_close_matches(path.name.lower(), there, n=3)]
    hint = f"Did you mean {' or '.join(str(folder / name) for name in near)}?" if near else "Check the path."
    return InputError(f"There is no file {at}.", hint=hint)
