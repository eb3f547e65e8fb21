"""What is known of a result while it is written: its columns, for Parquet their types, and how many rows at a time.

Knows no format's bytes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.core.item import Outcome
from headrace.data.columns import Columns, declared_kinds, joined
from headrace.data.plain import weight

Batches = Iterator[list[Outcome]]


class Layout:
    """Columns so far, and for Parquet their kinds or Arrow types. `notices` tells what the format could not hold."""

    def __init__(
        self, columns: Columns, schema: Mapping[str, Any] | None, arrow_schema: bytes | None, *, typed: bool
    ) -> None:
        self._known = self.columns = columns
        self._schema = schema
        self._with_kinds = typed
        self._kinds: dict[tuple[str, str], str] = declared_kinds(columns, schema)
        self.notices: list[str] = []
        self.arrow_types: dict[str, Any] = {}
        if typed and arrow_schema is not None:
            from headrace.data.parquet import types_of  # noqa: PLC0415 - pyarrow is heavy

            self.arrow_types = types_of(arrow_schema)

    def forget(self) -> None:
        self.columns = self._known
        self._kinds = declared_kinds(self._known, self._schema)
        self.notices.clear()

    def see(self, batch: list[Outcome]) -> None:
        self.columns = self.columns.widened(batch)
        if not self._with_kinds:
            return
        cells = zip(*map(self.columns.cells, batch), strict=True)
        for key, values in zip(self.columns.origins(), cells, strict=True):
            if not self._typed(key):
                self._kinds[key] = joined(self._kinds.get(key, "null"), values)

    def _typed(self, key: tuple[str, str]) -> bool:
        return key[0] == "input" and key[1] in self.arrow_types

    def types(self) -> list[Any]:
        """For each column its Arrow type, or its kind; a column that was null so far is taken for text."""
        found = []
        for key in self.columns.origins():
            kind = self._kinds.get(key, "null")
            found.append(self.arrow_types[key[1]] if self._typed(key) else "text" if kind == "null" else kind)
        return found


def batches_of(outcomes: Iterator[Outcome], most: int, most_bytes: int) -> Batches:
    """So many rows or bytes at a time."""
    batch: list[Outcome] = []
    held = 0
    for outcome in outcomes:
        batch.append(outcome)
        held += weight(outcome.item) + weight(outcome.value)
        if len(batch) >= most or held >= most_bytes:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
