"""The stages that a pipeline has beside questions and functions. Values that say what to do, and nothing of how."""

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.core.errors import UsageError
from headrace.core.outline import outline
from headrace.task.condition import Condition
from headrace.task.fields import check_fields
from headrace.task.mode import mode_of
from headrace.task.work import Map

Function = Callable[[Any], Any]


class Filter(msgspec.Struct, frozen=True):
    """Lets items through.

    `keep` is a condition over the item's columns (`score >= 0.5 and label in ["a", "b"]`), or a function of the row (or
    a Map of one) whose result says whether the item goes on. What does not go on ends in an outcome that says so, and
    is no part of the results.
    """

    keep: str | Function | Map
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(Filter, msgspec.structs.asdict(self), "a Filter")
        if isinstance(self.keep, str):
            Condition(self.keep)

    def __repr__(self) -> str:
        return outline(self, named=False)


class Expand(msgspec.Struct, frozen=True):
    """Makes several items of one.

    `into` is the column that holds a list, or a function of the row (or a Map of one) that returns a list or yields its
    elements. Each element becomes an item with the row's columns: those of an element that is a mapping are added,
    anything else replaces the column, or is `result` where a function gave it. The items' keys are the row's with `::`
    and a number. However many they are, they are handed on as the next stage takes them.
    """

    into: str | Function | Map
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(Expand, msgspec.structs.asdict(self), "an Expand")

    def __repr__(self) -> str:
        return outline(self, named=False)


class Top(msgspec.Struct, frozen=True):
    """The best few items by a number, as the column `by` or a quick function of the row gives it.

    They are known when all items are there, or `within` so many seconds of the run: then the source is read no further,
    nothing more is asked about what is on its way to this stage, and the run ends with the best of what came until then.
    With `so_far` an item goes on at once if it is among the best that came until then, so that more than `count` may go
    on, and none waits. With `window` there is a best few of each so many seconds, for a source that does not end; a
    window begins with the first item after the last one. Of items with the same value in the column `distinct` only the
    best can be among them.
    """

    count: int
    by: str | Function
    largest: bool = True
    within: float | None = None
    so_far: bool = False
    name: str = ""
    window: float | None = None
    distinct: str = ""

    def __post_init__(self) -> None:
        check_fields(Top, msgspec.structs.asdict(self), "a Top")
        _check_plain(self.by, "by")
        if self.count < 1:
            raise UsageError(f"The best {self.count} items are none.", hint="Give a number from 1 up.")
        for seconds in (self.within, self.window):
            if seconds is not None and not seconds > 0:
                raise UsageError(f"Within {seconds} s nothing comes.", hint="Give a number of seconds above 0.")
        if (self.within is not None, self.window is not None, self.so_far).count(True) > 1:
            raise UsageError("A Top is within a time, for each window, or so far.", hint="Give one of the three.")

    def __repr__(self) -> str:
        return outline(self, named=False)


class Reduce(msgspec.Struct, frozen=True):
    """Makes one item of many: of all; of those with the same value in the column `by`; of `every` so many as they come;
    or, with `each`, of all that was made of one item of the source, as soon as the last of it is there.

    `function` (or a Map of one) gets the list of their rows, in the order of the source; without it the list itself is
    the value, as the column `items`. A Map with a name and a version is not run again for what it was given before. With
    `fold`, a quick function of (value so far, row), the rows are not kept: the value begins as `start`, and `function`
    gets what came of it. Rows that are kept are held in memory.
    """

    function: Function | Map | None = None
    by: str = ""
    every: int = 0
    each: bool = False
    fold: Callable[[Any, Any], Any] | None = None
    start: Any = None
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(Reduce, msgspec.structs.asdict(self), "a Reduce")
        _check_plain(self.fold, "fold")
        if (bool(self.by), self.every != 0, self.each).count(True) > 1:
            raise UsageError("A Reduce goes by a column, by a number or by each item.", hint="Give one of the three.")
        if self.every < 0:
            raise UsageError(f"Every {self.every} items are none.", hint="Give a number from 1 up.")

    def __repr__(self) -> str:
        return outline(self, named=False)


def _check_plain(function: object, name: str) -> None:
    if callable(function) and mode_of(function) == "async":
        raise UsageError(f"{name} is an async function.", hint="Give a plain quick one, or put a Map before.")
