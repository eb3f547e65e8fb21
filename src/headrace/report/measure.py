"""Numbers, one at a time, in; their quantiles and bins out. Bounded memory: exact for few values, else from a sample."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from headrace.report.scale import round_step

T = TypeVar("T")
_EXACT_MAX = 2_000
_SAMPLED = 10_000
_BATCH = 256
_BINS = 24
_TAIL, _REACH = 10.0, 0.75
"""A range so many times as wide as that of the middle 80 % of the values is cut so far beyond these, or one value would
flatten all others."""

Weighed = Sequence[tuple[float, int]]
"""Values in order, each with how often it came."""


class Spread(Generic[T]):
    """An evenly spaced selection of a stream of unknown length: at most `limit`, at least half of that."""

    def __init__(self, limit: int) -> None:
        self.kept: list[T] = []
        self.seen = 0
        self._limit = limit
        self._stride = 1

    def extend(self, values: Sequence[T]) -> None:
        self.kept.extend(values[-self.seen % self._stride :: self._stride])
        self.seen += len(values)
        while len(self.kept) > self._limit:
            self.kept = self.kept[::2]
            self._stride *= 2


class Bin(msgspec.Struct, frozen=True):
    """`low` belongs to it, `high` to the next one; the last one has both. An open one has all there is beyond."""

    low: float
    high: float
    count: int
    open: Literal["", "low", "high"] = ""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    least: float
    most: float
    mean: float
    total: float
    median: float
    p90: float
    p95: float
    p99: float
    whole: bool
    values: tuple[tuple[float, int], ...]
    """All of them, or the sample."""
    sampled: int | None
    """How many of them the quantiles and the bins are from, where that is not all."""

    def bins(self) -> tuple[Bin, ...]:
        """Of all values: estimates, where there is a sample."""
        bins = bins_of(self.values, whole=self.whole)
        return tuple(msgspec.structs.replace(part, count=self.of_all(part.count)) for part in bins)

    def of_all(self, count: int) -> int:
        """How many of all values so many of `values` stand for."""
        return count if self.sampled is None else round(count * self.count / self.sampled)

    def said(self, count: int) -> str:
        return f"{count:,}" if self.sampled is None else f"about {count:,}"


class Numbers:
    """Finite numbers; taken in batches, which costs least. Exact as long as there are few different ones."""

    def __init__(self) -> None:
        self.count = 0
        self._exact: Counter[float] | None = Counter()
        self._spread: Spread[float] = Spread(_SAMPLED)
        self._least, self._most, self._sum = math.inf, -math.inf, 0.0
        self._whole = True
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        self._waiting.append(value)
        if len(self._waiting) >= _BATCH:
            self._settle()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.extend(waiting)

    def extend(self, values: Sequence[float]) -> None:
        if not values:
            return
        self.count += len(values)
        self._sum += sum(values)
        self._least, self._most = min(self._least, *values), max(self._most, *values)
        self._whole = self._whole and all(map(float.is_integer, values))
        self._spread.extend(values)
        if self._exact is not None:
            self._exact.update(values)
            if len(self._exact) > _EXACT_MAX:
                self._exact = None

    def summary(self) -> Summary | None:
        self._settle()
        if not self.count:
            return None
        exact = self._exact
        values = sorted(exact.items()) if exact is not None else [(v, 1) for v in sorted(self._spread.kept)]
        known = sum(weight for _, weight in values)
        mean = self._sum / self.count if math.isfinite(self._sum) else self._least / 2 + self._most / 2
        return Summary(
            count=self.count, least=self._least, most=self._most, mean=min(max(mean, self._least), self._most),
            total=self._sum, median=_median(values, known), p90=_at(values, known, 0.90),
            p95=_at(values, known, 0.95), p99=_at(values, known, 0.99), whole=self._whole, values=tuple(values),
            sampled=known if known < self.count else None,
        )  # fmt: skip


def _at(values: Weighed, known: int, share: float) -> float:
    """The least value that this share of them does not exceed."""
    rank = max(1, math.ceil(share * known - 1e-9))
    for value, weight in values:
        rank -= weight
        if rank <= 0:
            return value
    return values[-1][0]


def _median(values: Weighed, known: int) -> float:
    low = _at(values, known, 0.5)
    return low if known % 2 else low / 2 + _at(values, known, 0.5 + 1 / known) / 2


def bins_of(values: Weighed, *, whole: bool) -> tuple[Bin, ...]:
    """One bin a value for few whole numbers, else bins of equal width with round ends."""
    least, most = values[0][0], values[-1][0]
    if whole and most - least < _BINS:
        return tuple(Bin(at, at, count) for at, count in _each_whole(values, int(least), int(most)))
    low, high = _core(values)
    width = round_step(high - low, _BINS)
    width = max(1.0, width) if whole else width
    if width <= 0 or low + width == low or high - width == high:
        return (Bin(least, most, sum(weight for _, weight in values)),)
    first = math.floor(low / width + 1e-9)
    number = max(1, math.ceil(high / width - 1e-9) - first)
    edges = [_rounded((first + i) * width, width) for i in range(number + 1)]
    counts = binned(values, lambda value: math.floor(value / width + 1e-9) - first, number)
    opens: list[Literal["", "low", "high"]] = [""] * number
    if most > edges[-1]:
        opens[-1] = "high"
    if least < edges[0]:
        opens[0] = "low"
    return tuple(Bin(edges[i], edges[i + 1], counts[i], opens[i]) for i in range(number))


def binned(values: Iterable[tuple[float, int]], place: Callable[[float], int], number: int) -> list[int]:
    """How many are in each place; what is beyond is in the first or the last one."""
    counts = [0] * number
    for value, weight in values:
        counts[min(number - 1, max(0, place(value)))] += weight
    return counts


def _each_whole(values: Weighed, least: int, most: int) -> Iterable[tuple[int, int]]:
    counts = dict.fromkeys(range(least, most + 1), 0)
    for value, weight in values:
        counts[int(value)] += weight
    return counts.items()


def _core(values: Weighed) -> tuple[float, float]:
    """Where nearly all values are, where a few lie far outside of that; else the whole range."""
    least, most = values[0][0], values[-1][0]
    known = sum(weight for _, weight in values)
    low, high = _at(values, known, 0.1), _at(values, known, 0.9)
    core = high - low
    if not 0 < core < math.inf or most - least <= _TAIL * core:
        return least, most
    return max(least, low - _REACH * core), min(most, high + _REACH * core)


def _rounded(edge: float, width: float) -> float:
    """0.3 rather than 0.30000000000000004: readers and the page's script compare with it."""
    digits = 2 - math.floor(math.log10(width))
    return round(edge, digits) if abs(digits) < 300 else edge
