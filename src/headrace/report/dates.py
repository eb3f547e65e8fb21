"""Dates and times as text in; places on a line, bins of the calendar and their words out. Knows no markup."""

from datetime import date, datetime, timedelta
from typing import Literal

import msgspec

from headrace.report.measure import Weighed

_DAY_S = 86_400
_DAYS_MAX, _WEEKS_MAX, _MONTHS_MAX, _YEARS_MAX = 45, 320, 365 * 5, 365 * 60

Grain = Literal["hour", "day", "week", "month", "year", "decade"]


class Stretch(msgspec.Struct, frozen=True):
    """Of the calendar, with how many dates are in it; places are those of `place_of`."""

    name: str
    low: float
    high: float
    count: int


def place_of(text: str) -> float | None:
    """Seconds on a line of days, for an ISO date or time; None for any other text. Zones are not compared."""
    if not 10 <= len(text) <= 35 or text[4] != "-" or text[7] != "-":
        return None
    try:
        if len(text) == 10:
            return float(date.fromisoformat(text).toordinal() * _DAY_S)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return float(moment.toordinal() * _DAY_S + moment.hour * 3600 + moment.minute * 60 + moment.second)


def words_of(place: float) -> str:
    """2 March 2026, with the time where there is one."""
    day, rest = divmod(int(place), _DAY_S)
    there = date.fromordinal(day)
    time = f", {rest // 3600:02}:{rest % 3600 // 60:02}" if rest else ""
    return f"{there.day} {there:%b} {there.year}{time}"


def stretches(values: Weighed) -> tuple[Stretch, ...]:
    """The calendar from the first to the last of these places, in stretches of one grain."""
    first, last = int(values[0][0]), int(values[-1][0])
    grain = _grain(first, last)
    starts = [_start(first, grain)]
    while (following := _next(starts[-1], grain)) <= last:
        starts.append(following)
    ends = [*starts[1:], _next(starts[-1], grain)]
    counts = dict.fromkeys(starts, 0)
    for value, weight in values:
        counts[_start(int(value), grain)] += weight
    return tuple(Stretch(_name(s, grain), s, e, counts[s]) for s, e in zip(starts, ends, strict=True))


def _grain(first: int, last: int) -> Grain:
    days = (last - first) / _DAY_S
    if days <= 2 and (first % _DAY_S or last % _DAY_S):
        return "hour"
    if days <= _DAYS_MAX:
        return "day"
    if days <= _WEEKS_MAX:
        return "week"
    if days <= _MONTHS_MAX:
        return "month"
    return "year" if days <= _YEARS_MAX else "decade"


def _start(place: int, grain: Grain) -> int:
    if grain == "hour":
        return place - place % 3600
    day = date.fromordinal(place // _DAY_S)
    match grain:
        case "week":
            day = max(date.min, day) if day.toordinal() <= day.weekday() else day - timedelta(days=day.weekday())
        case "month":
            day = day.replace(day=1)
        case "year":
            day = date(day.year, 1, 1)
        case "decade":
            day = date(max(1, day.year - day.year % 10), 1, 1)
    return day.toordinal() * _DAY_S


def _next(place: int, grain: Grain) -> int:
    if grain == "hour":
        return place + 3600
    day = date.fromordinal(place // _DAY_S)
    if grain in ("day", "week"):
        return place + (_DAY_S if grain == "day" else 7 * _DAY_S)
    years, months = {"month": (0, 1), "year": (1, 0)}.get(grain, (10 - day.year % 10, 0))
    month = day.month - 1 + months
    year = day.year + years + month // 12
    if year > date.max.year:
        return (date.max.toordinal() + 1) * _DAY_S
    return date(year, month % 12 + 1, 1).toordinal() * _DAY_S


def _name(place: int, grain: Grain) -> str:
    day = date.fromordinal(place // _DAY_S)
    match grain:
        case "hour":
            return f"{day.day} {day:%b}, {place % _DAY_S // 3600:02}:00"
        case "month":
            return f"{day:%b} {day.year}"
        case "year":
            return str(day.year)
        case "decade":
            return f"{day.year - day.year % 10}s"
        case _:
            return f"{'week of ' if grain == 'week' else ''}{day.day} {day:%b} {day.year}"
