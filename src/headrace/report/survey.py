"""All outcomes of a run, read once, in; what a report says of them out: fields, failures, slowest, rows, figures.

Bounded memory, whatever the number of items: texts are cut when they are taken.
"""

import heapq
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace.core.item import Failure, Outcome
from headrace.report.fields import Distribution, Fields
from headrace.report.measure import Numbers, Summary
from headrace.report.sample import Drawn, Row, row_of, united

ROWS_MAX = 1_000
FAILED_ROWS_MAX = 300
SLOWEST = 10

_KINDS_MAX = 50
_REASONS_MAX = 30
_EXAMPLES = 3
_EXAMPLE_ROOM = 1_500
_SENTENCE_MAX = 2_000
_OTHER = "other"
_VARYING = re.compile(r"\d+(?:[.,]\d+)*|'[^']{0,200}'|\"[^\"]{0,200}\"")


class Reason(msgspec.Struct):
    """One way to say why an item failed; numbers and quoted words in it may differ. The message is the first one's."""

    message: str
    hint: str
    count: int = 0
    examples: list[Row] = []


class FailedKind(msgspec.Struct):
    """Items that failed for one kind of reason."""

    kind: str
    count: int = 0
    reasons: dict[str, Reason] = {}

    @property
    def ranked(self) -> list[Reason]:
        """The most frequent first."""
        return sorted(self.reasons.values(), key=lambda reason: -reason.count)


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    items: int
    ok: int
    failed: int
    cached: int
    usd: float | None
    """The sum of the costs that are known; None where none is."""
    retried: int
    """Items that took more than one call."""
    fields: tuple[Distribution, ...]
    fields_left_out: bool
    failures: tuple[FailedKind, ...]
    """The most frequent first."""
    seconds: Summary | None
    """Of the calls that gave the answers."""
    input_tokens: Summary | None
    output_tokens: Summary | None
    slowest: tuple[Row, ...]
    rows: tuple[Row, ...]
    """All, in the order of the source; or a uniform sample, and after it one of what failed, and the slowest."""
    sampled: int | None
    """How many of the rows are the uniform sample, where they are not all."""


def survey(
    outcomes: Iterable[Outcome], schema: Mapping[str, Any] | None, seed: str = "", asked: Iterable[str] = ()
) -> Survey:
    """Read every outcome once. Of an item's columns, those `asked` about matter most."""
    gathered = _Gathered(schema, seed, frozenset(asked))
    for outcome in outcomes:
        gathered.add(outcome)
    return gathered.survey()


class _Gathered:
    def __init__(self, schema: Mapping[str, Any] | None, seed: str, asked: frozenset[str]) -> None:
        self._asked = asked
        self._items = self._ok = self._cached = self._retried = 0
        self._usd: float | None = None
        self._fields = Fields(schema)
        self._kinds: dict[str, FailedKind] = {}
        self._seconds, self._input, self._output = Numbers(), Numbers(), Numbers()
        self._slowest: list[tuple[float, int, Row]] = []
        self._failed: Drawn[Row] = Drawn(FAILED_ROWS_MAX, f"{seed} failed")
        self._drawn: Drawn[Row] = Drawn(ROWS_MAX, seed)

    def add(self, outcome: Outcome) -> None:
        self._items += 1
        self._cached += outcome.cached
        self._retried += outcome.attempts > 1
        if outcome.usd is not None and not outcome.cached:
            self._usd = (self._usd or 0.0) + outcome.usd
        if outcome.error is None:
            self._ok += 1
            self._fields.add(outcome.value, outcome.agreement)
        else:
            self._add_failure(outcome, outcome.error)
        if outcome.input_tokens is not None:
            self._input.add(float(outcome.input_tokens))
        if outcome.output_tokens is not None:
            self._output.add(float(outcome.output_tokens))
        if not outcome.cached and outcome.seconds > 0:
            self._add_seconds(outcome)
        if self._drawn.wants():
            self._drawn.add(row_of(outcome, asked=self._asked))

    def _add_seconds(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._seconds.add(outcome.seconds)
        slowest = self._slowest
        if len(slowest) < SLOWEST or outcome.seconds > slowest[0][0]:
            push = heapq.heappush if len(slowest) < SLOWEST else heapq.heapreplace
            push(slowest, (outcome.seconds, -self._items, row_of(outcome, asked=self._asked)))

    def _add_failure(self, outcome: Outcome, error: Failure) -> None:
        name = error.kind if error.kind in self._kinds or len(self._kinds) < _KINDS_MAX else _OTHER
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = FailedKind(name, reasons={})
        kind.count += 1
        shape = _VARYING.sub("…", error.message[:_SENTENCE_MAX])
        if shape not in kind.reasons and len(kind.reasons) >= _REASONS_MAX:
            shape = ""
        reason = kind.reasons.get(shape)
        if reason is None:
            message = error.message[:_SENTENCE_MAX] if shape else "Other messages."
            reason = kind.reasons[shape] = Reason(message, error.hint[:_SENTENCE_MAX] if shape else "", examples=[])
        reason.count += 1
        if len(reason.examples) < _EXAMPLES:
            reason.examples.append(row_of(outcome, _EXAMPLE_ROOM, self._asked))
        if self._failed.wants():
            self._failed.add(row_of(outcome, asked=self._asked))

    def survey(self) -> Survey:
        slowest = [row for _, _, row in sorted(self._slowest, reverse=True)]
        all_there = self._items <= ROWS_MAX
        drawn = self._drawn.kept
        return Survey(
            items=self._items, ok=self._ok, failed=self._items - self._ok, cached=self._cached, usd=self._usd,
            retried=self._retried, fields=self._fields.distributions(), fields_left_out=self._fields.left_out,
            failures=tuple(sorted(self._kinds.values(), key=lambda kind: -kind.count)),
            seconds=self._seconds.summary(), input_tokens=self._input.summary(), output_tokens=self._output.summary(),
            slowest=tuple(slowest), rows=tuple(united(drawn) if all_there else united(drawn, self._failed.kept, slowest)),
            sampled=None if all_there else len(drawn),
        )  # fmt: skip
