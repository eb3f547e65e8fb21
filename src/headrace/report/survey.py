"""All outcomes of a run, read once, in; what a report says of them out: fields, failures, slowest, rows.

Bounded memory, whatever the number of items: texts are cut when they are taken.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace.core.item import Outcome
from headrace.report.fields import Distribution, Fields, Spread, fields_of
from headrace.report.text import shown

FIRST_ROWS = 300
SPREAD_ROWS = 200

_CELL_MAX = 2_000
_COLUMNS_MAX = 40
_KINDS_MAX = 50
_EXAMPLES = 3
_SLOWEST = 8
_OTHER = "other"


class Cut(msgspec.Struct, frozen=True):
    """A text, perhaps only its beginning: `left_out` characters more there were."""

    text: str
    left_out: int = 0
    is_number: bool = False


class Row(msgspec.Struct, frozen=True):
    """One outcome, cut to what a page shows of it."""

    key: str
    position: int
    item: tuple[tuple[str, Cut], ...]
    answer: Mapping[str, Cut]
    kind: str
    """The kind of error; empty where it is ok."""
    message: str
    hint: str
    raw: Cut
    attempts: int
    seconds: float
    cached: bool


class FailedKind(msgspec.Struct):
    """Items that failed for one kind of reason, with the first few of them."""

    kind: str
    message: str
    hint: str
    count: int = 0
    examples: list[Row] = []


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    items: int
    ok: int
    failed: int
    cached: int
    usd: float | None
    """The sum of the costs that are known; None where none is."""
    fields: tuple[Distribution, ...]
    failures: tuple[FailedKind, ...]
    """The most frequent first."""
    slowest: tuple[Row, ...]
    first: tuple[Row, ...]
    spread: tuple[Row, ...]
    """Evenly spaced among all the items after the first ones."""


def survey(outcomes: Iterable[Outcome], schema: Mapping[str, Any] | None) -> Survey:
    """Read every outcome once."""
    fields = Fields(schema)
    failures: dict[str, FailedKind] = {}
    slowest: list[tuple[float, int, Row]] = []
    first: list[Row] = []
    spread: Spread[Row] = Spread(SPREAD_ROWS)
    items = ok = cached = 0
    usd: float | None = None
    for outcome in outcomes:
        items += 1
        cached += outcome.cached
        if outcome.usd is not None:
            usd = (usd or 0.0) + outcome.usd
        if outcome.error is None:
            ok += 1
            fields.add(outcome.value)
        else:
            _add_failure(failures, outcome)
        if not outcome.cached and outcome.seconds > 0 and (len(slowest) < _SLOWEST or outcome.seconds > slowest[0][0]):
            push = heapq.heappush if len(slowest) < _SLOWEST else heapq.heapreplace
            push(slowest, (outcome.seconds, -items, _row(outcome)))
        if items <= FIRST_ROWS:
            first.append(_row(outcome))
        elif spread.wants:
            spread.add(_row(outcome))
        else:
            spread.skip()
    return Survey(
        items=items,
        ok=ok,
        failed=items - ok,
        cached=cached,
        usd=usd,
        fields=fields.distributions(),
        failures=tuple(sorted(failures.values(), key=lambda group: -group.count)),
        slowest=tuple(row for _, _, row in sorted(slowest, reverse=True)),
        first=tuple(first),
        spread=tuple(spread.kept),
    )


def _add_failure(failures: dict[str, FailedKind], outcome: Outcome) -> None:
    error = outcome.error
    if error is None:
        return
    kind = error.kind if error.kind in failures or len(failures) < _KINDS_MAX else _OTHER
    group = failures.get(kind)
    if group is None:
        group = failures[kind] = FailedKind(kind, error.message[:_CELL_MAX], error.hint[:_CELL_MAX], examples=[])
    group.count += 1
    if len(group.examples) < _EXAMPLES:
        group.examples.append(_row(outcome))


def _row(outcome: Outcome) -> Row:
    error = outcome.error
    data = outcome.item
    columns = data.items() if isinstance(data, Mapping) else [("", data)]
    answer = fields_of(outcome.value) if error is None else {}
    return Row(
        key=outcome.key[:_CELL_MAX],
        position=outcome.position,
        item=tuple((str(name)[:_CELL_MAX], _cut(value)) for name, value in list(columns)[:_COLUMNS_MAX]),
        answer={name: _cut(value) for name, value in list(answer.items())[:_COLUMNS_MAX]},
        kind=error.kind if error else "",
        message=error.message[:_CELL_MAX] if error else "",
        hint=error.hint[:_CELL_MAX] if error else "",
        raw=_cut(error.raw if error else ""),
        attempts=outcome.attempts,
        seconds=outcome.seconds,
        cached=outcome.cached,
    )


def _cut(value: Any) -> Cut:
    few_words = isinstance(value, list | tuple) and all(isinstance(member, str) for member in value)
    text = ", ".join(value) if few_words else shown(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cut(text[:_CELL_MAX], max(0, len(text) - _CELL_MAX), is_number)
