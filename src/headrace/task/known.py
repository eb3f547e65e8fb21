"""What is known of the columns at a place in a pipeline, before it runs. Enters names and schemas, raises UsageError for what
cannot be there."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.core.errors import UsageError

_NO_ORDER = frozenset({"string", "boolean", "array", "object", "null"})
"""Types of JSON that are no number."""


class Columns:
    """What is known of the columns at a place in the pipeline: their names, and the JSON types of some. `names` is
    None where a function may have added any."""

    def __init__(self, names: Iterable[str] | None) -> None:
        self.names = None if names is None else dict.fromkeys(names)
        self.types: dict[str, str] = {}
        self._promised: set[str] = set()
        """What some stage gives, to some items at least."""

    def add(self, names: Iterable[str], schema: Mapping[str, Any] | None = None) -> None:
        self._promised.update(names)
        if self.names is not None:
            self.names |= dict.fromkeys(names)
        for name in names:
            properties = (schema or {}).get("properties") or {}
            told = properties.get(name, {}).get("type") if isinstance(properties.get(name), Mapping) else None
            self.types.pop(name, None)
            if isinstance(told, str):
                self.types[name] = told

    def check_near(self, stage: str, wanted: Iterable[str]) -> None:
        """Raises UsageError for a name that is nearly one that is there."""
        for name in wanted:
            near = difflib.get_close_matches(name, self.names or (), n=1, cutoff=0.8)
            if near and name not in (self.names or ()):
                raise UsageError(
                    f"{stage} names {name!r}, and there is no such column.", hint=f"Did you mean {near[0]!r}?"
                )

    def unknown(self, wanted: Iterable[str]) -> list[str]:
        """Those of which nobody knows before the first item comes."""
        return [name for name in wanted if self.names is None and name not in self._promised]

    def forget(self) -> None:
        self.names, self.types = None, {}

    def check(self, stage: str, wanted: Iterable[str], *, numbers: Iterable[str] = ()) -> None:
        """Raises UsageError for a column that is not there, or that is no number and should be one."""
        for name in wanted:
            if self.names is not None and name not in self.names:
                known = ", ".join(self.names) or "none"
                raise UsageError(f"{stage} names {name!r}, and there is no such column.", hint=f"There are: {known}.")
        for name in numbers:
            if self.types.get(name) in _NO_ORDER:
                raise UsageError(
                    f"{stage} compares {name!r} with a number, and it is of the type {self.types[name]}.",
                    hint="Compare it with == or in, or name a column of numbers.",
                )
