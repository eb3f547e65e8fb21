"""The shape of an endpoint's calls: what ended, how long it took and what it was made of enter, one small value leaves.

Rules of this file:

1. Calls that headrace itself took off the wire for a reason of its own (a backup, Ctrl-C) say nothing.
2. What earlier runs learnt counts as much as is missing to `ENOUGH` calls: a model is another one next month.
"""

from collections.abc import Mapping
from typing import TypeVar

from headrace.core.limits import Calls, Line
from headrace.flow.estimate import Size
from headrace.flow.quantiles import Quantiles

ENOUGH = 1000
_OURS = frozenset({"cancelled", "overtaken", "stopped"})
_KINDS_MOST = 30

K = TypeVar("K")


class Experience:
    """Of one endpoint, as long as its governor lives."""

    def __init__(self) -> None:
        self._seconds, self._output = Quantiles(), Quantiles()
        self._ended: dict[str, int] = {}
        self._failed_s: dict[str, float] = {}
        self._count = 0
        self._x = self._y = self._xx = self._xy = 0.0

    def add(
        self, kind: str, seconds: float, size: Size, input_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """A call is over; `kind` is that of its error, empty where it was answered."""
        if kind in _OURS or (kind not in self._ended and len(self._ended) >= _KINDS_MOST):
            return
        self._ended[kind] = self._ended.get(kind, 0) + 1
        if kind:
            self._failed_s[kind] = self._failed_s.get(kind, 0.0) + seconds
            return
        self._seconds.add(seconds)
        if output_tokens is not None and output_tokens >= 0:
            self._output.add(float(output_tokens))
        if input_tokens is not None and input_tokens > 0 and size.characters > 0 and not size.images:
            x, y = float(size.characters), float(input_tokens)
            self._count += 1
            self._x += x
            self._y += y
            self._xx += x * x
            self._xy += x * y

    def calls(self) -> Calls:
        return Calls(
            self._seconds.bins(), self._output.bins(), Line(self._count, self._x, self._y, self._xx, self._xy),
            dict(self._ended), {kind: total / self._ended[kind] for kind, total in self._failed_s.items()},
        )  # fmt: skip


def with_earlier(calls: Calls, earlier: Calls) -> Calls:
    """What was learnt now, and of before as much as is missing to `ENOUGH`."""
    if not calls.ended:
        return earlier
    share = min(1.0, max(0, ENOUGH - calls.answered) / max(1, earlier.answered))
    if not share:
        return calls
    line, before = calls.input_tokens, earlier.input_tokens
    return Calls(
        _sum(calls.seconds, earlier.seconds, share), _sum(calls.output_tokens, earlier.output_tokens, share),
        Line(
            line.count + round(share * before.count), line.x + share * before.x, line.y + share * before.y,
            line.xx + share * before.xx, line.xy + share * before.xy,
        ),
        _sum(calls.ended, earlier.ended, share), {**earlier.failed_s, **calls.failed_s},
    )  # fmt: skip


def _sum(first: Mapping[K, int], second: Mapping[K, int], share: float) -> dict[K, int]:
    """Of few in a bin as many are kept as of many, together: what a share of one leaves goes on to the next."""
    total = dict(first)
    kept = 0.0
    for place in second:
        kept += share * second[place]
        whole = round(kept)
        kept -= whole
        if whole > 0:
            total[place] = total.get(place, 0) + whole
    return total


def tokens_in(line: Line, characters: float) -> float | None:
    """Tokens of a prompt of so many characters; None where nothing is known. Neither part of the line is negative."""
    if not line.count or line.x <= 0:
        return None
    spread = line.count * line.xx - line.x * line.x
    ratio = line.y / line.x
    if spread <= 1e-3 * line.x * line.x:
        return ratio * characters
    slope = (line.count * line.xy - line.x * line.y) / spread
    slope = min(max(slope, 0.0), ratio)
    return slope * characters + (line.y - slope * line.x) / line.count
