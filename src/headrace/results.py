"""A run that ended, as a program sees it: how it ended, its outcomes, and its results as a table, a file or a page."""

import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from headrace.core.errors import MissingExtra
from headrace.core.item import Outcome, T_co
from headrace.core.ports import History, RunInfo
from headrace.data.columns import OWN, USD, columns_of
from headrace.data.sink import arrow_table, jsonl_line, write_outcomes
from headrace.engine.snapshot import snapshot_of
from headrace.settings import DEFAULT_STORE
from headrace.store.history import SqliteHistory

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from headrace.report.section import Section

_SHOWN = 10


class Run(Generic[T_co]):
    """How a run ended, and its outcomes: iterating reads them from the store, in the order of the source, in bounded
    memory, as often as you like."""

    def __init__(self, info: RunInfo, history: History, restore: Callable[[Any], Any]) -> None:
        counts = history.counts(info.id)
        self.id: str = info.id
        self.name: str = info.name
        self.status: str = info.status
        """`finished`, `stopped` (by a deadline, or because too much failed) or `interrupted`."""
        self.reason: str = info.reason
        """Why it stopped."""
        self.ok: int = counts.ok
        """Items with a value."""
        self.failed: int = counts.failed
        """Items with an error."""
        self.taken_out: int = counts.dropped
        """Items that a stage took out although nothing failed; they are no results."""
        self.pending: int | None = counts.pending
        """Items without an outcome; None where the source was not read to its end."""
        self.calls: int = counts.calls
        """Calls that its outcomes took, over all sessions."""
        self.input_tokens: int = counts.input_tokens
        self.output_tokens: int = counts.output_tokens
        self.usd: float | None = counts.usd
        """What its outcomes cost, over all sessions, as far as that is known; None where it is of none."""
        figures = snapshot_of(info.figures)
        self.seconds: float | None = None if figures is None else figures.seconds
        """How long its last session took that made calls."""
        self._info = info
        self._history = history
        self._restore = restore

    def __iter__(self) -> Iterator[Outcome[T_co]]:
        return map(self._restored, self._history.scan(self.id))

    def failures(self) -> Iterator[Outcome[T_co]]:
        """The outcomes of items that failed: `.error` says why. Read from the store as you go."""
        return self._history.scan(self.id, failed_only=True)

    def drops(self) -> Iterator[Outcome[T_co]]:
        """Those that a stage of a pipeline took out though nothing failed: `.dropped` says why, `.item` is the row with
        what the stages before had added. They are no part of the results. Read from the store as you go."""
        return self._history.scan(self.id, dropped=True)

    def __len__(self) -> int:
        """Items with an outcome."""
        return self.ok + self.failed

    def to_arrow(self) -> "pa.Table":
        """The results as a pyarrow Table: the columns and types of the Parquet file that `export` writes."""
        return arrow_table(lambda: self._history.scan(self.id), **_layout(self._info))

    def to_pandas(self) -> "pd.DataFrame":
        """The results as a pandas DataFrame, as `pandas.read_parquet` would read them. Raises MissingExtra where pandas
        is not installed."""
        _needed("pandas")
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """The results as a polars DataFrame, as `polars.read_parquet` would read them. Raises MissingExtra where polars
        is not installed."""
        polars = _needed("polars")
        frame: pl.DataFrame = polars.from_arrow(self.to_arrow())
        return frame

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write the results as a file in the format that its name ends in, as `to` does; returns how many rows.
        Raises OutputError."""
        return write_result(path, self._info, self._history)

    def report(self, path: str | os.PathLike[str], sections: "Iterable[Section]" = (), title: str = "") -> None:
        """Write a page about the run, one HTML file that opens anywhere: sections of your own first, under a title of
        your own in place of the run's name. Raises OutputError."""
        from headrace.report.page import report  # noqa: PLC0415 - only who wants one needs it

        report(path, self._info, self._history, sections, title)

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self._ending()}>"

    def _repr_html_(self) -> str:
        """The first outcomes as a table, for notebooks."""
        from headrace.report.notebook import run_html  # noqa: PLC0415 - only in notebooks

        columns = columns_of(self._info.spec.get("fields"), self._info.spec.get("schema"))
        head = islice(self._history.scan(self.id), _SHOWN)
        rows: list[dict[str, Any]] = [msgspec.json.decode(jsonl_line(outcome, columns)) for outcome in head]
        return run_html(self.name, self._ending(), rows, self._answers_first(rows), len(self) - len(rows))

    def _ending(self) -> str:
        pending = "" if self.pending == 0 else f", {'some' if self.pending is None else self.pending} pending"
        dropped = f", {self.taken_out} taken out" if self.taken_out else ""
        return f"{self.status}, {self.ok} ok, {self.failed} failed{dropped}{pending}"

    def _answers_first(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """What identifies a row, then what was answered or went wrong, then the rest of the row."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        fields = list(self._info.spec.get("fields") or ())
        first = [self._info.spec.get("key") or (fields or names or ["item"])[0]]
        answers = [name for name in names if name not in fields and name not in (*OWN, USD)]
        error = ["error"] if any(row.get("error") for row in rows) else []
        wanted = dict.fromkeys([*first, *answers, *error, *fields])
        return [name for name in wanted if name in names]

    def _restored(self, outcome: Outcome[Any]) -> Outcome[T_co]:
        return msgspec.structs.replace(outcome, value=self._restore(outcome.value)) if outcome.ok else outcome


def runs(store: str | os.PathLike[str] = DEFAULT_STORE) -> list[Run[Any]]:
    """The runs that a store has, the last started first, also those of other programs and of the command line.

    Values are as the store has them: text, numbers, lists and dicts. Raises StoreError where there is no store.
    """
    history = SqliteHistory(Path(store))
    return [Run(info, history, lambda value: value) for info in history.runs()]


def write_result(
    path: str | os.PathLike[str], info: RunInfo, history: History, notice: Callable[[str], None] = lambda _: None
) -> int:
    """The run's outcomes as a file, in the order of its source; returns how many rows. `notice` is told in a sentence
    what the format could not hold."""
    return write_outcomes(path, lambda: history.scan(info.id), **_layout(info), notice=notice)


def _layout(info: RunInfo) -> dict[str, Any]:
    spec = info.spec
    arrow_schema = spec.get("arrow_schema")
    return {
        "fields": spec.get("fields"),
        "schema": spec.get("schema"),
        "arrow_schema": b64decode(arrow_schema) if isinstance(arrow_schema, str) else arrow_schema,
    }


def _needed(package: str) -> Any:
    import importlib  # noqa: PLC0415 - only here

    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(
            f"{package} is not installed.", hint=f"Install it: pip install {package}. Or take run.to_arrow()."
        ) from None
