"""Ranges in, round steps, ticks and their words out: for axes and bins. Knows no markup."""

import math
from collections.abc import Sequence

from headrace.report.text import number

_CLOCK_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip
_UNITS = ((1e9, 1e9, " bn"), (1e6, 1e6, " M"), (1e4, 1e3, "k"))
"""From when on, what they are, and their names."""
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400

Ticks = tuple[tuple[float, str], ...]
"""Values of an axis and what stands there."""


def round_step(span: float, most: int) -> float:
    """The least of 1, 2 and 5 times a power of ten of which no more than `most` fit into the span; 0 where none does."""
    if not 0 < span < math.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if power and span <= factor * power * most * (1 + 1e-9):
            return factor * power
    return 0.0


def ticks(low: float, high: float, most: int = 5) -> Ticks:
    """Round values from `low` to `high`."""
    step = round_step(high - low, most)
    if not step or low + step == low:
        return ((low, number(low)),)
    first = math.ceil(low / step - 1e-9)
    values = [(first + i) * step for i in range(most + 2) if (first + i) * step <= high + step * 1e-6]
    return tuple((value, label(value, step, max(map(abs, values), default=0.0))) for value in values)


def label(value: float, step: float, most: float) -> str:
    """The value with as many digits as tell it from its neighbours, a step away, in a unit that suits the largest."""
    if abs(value) < step / 1e6:
        return "0"
    if most >= 1e15 or step < 1e-6:
        return f"{value:.{max(3, math.ceil(math.log10(most / step)) + 1)}g}"
    for least, unit, name in _UNITS:
        if most >= least:
            return f"{value / unit:,.{_decimals(step / unit)}f}{name}"
    return f"{value:,.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def clock_ticks(span_s: float, most: int = 5) -> Ticks:
    """Round times from 0 to `span_s`."""
    if span_s < most:
        return tuple((value, f"{text} s" if value else "0") for value, text in ticks(0.0, span_s, most))
    step = next((s for s in _CLOCK_STEPS_S if span_s <= s * most), _DAY_S * round_step(span_s / _DAY_S, most))
    return tuple((i * step, clock(i * step)) for i in range(most + 1) if i * step <= span_s)


def clock(seconds: float) -> str:
    """A time into a run: 45 s, 2:30 min, 3 h."""
    whole = round(seconds)
    if whole == 0:
        return "0"
    if whole <= 2 * _MINUTE_S and whole % _MINUTE_S:
        return f"{whole} s"
    for unit_s, part_s, name in ((_MINUTE_S, 1, "min"), (_HOUR_S, _MINUTE_S, "h")):
        if whole < _MINUTE_S * unit_s or unit_s == _HOUR_S:
            if unit_s == _HOUR_S and whole >= 2 * _DAY_S:
                break
            rest = whole % unit_s // part_s
            return f"{whole // unit_s}:{rest:02} {name}" if rest else f"{whole // unit_s} {name}"
    return f"{number(whole / _DAY_S)} days"


def spaced(found: Sequence[tuple[float, str]], most: int) -> Ticks:
    """Evenly chosen ones of these, where they are too many."""
    stride = max(1, math.ceil(len(found) / most))
    return tuple(found[::stride])
