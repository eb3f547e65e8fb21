"""Distributions in, the cards of the section on answers out: bars, histograms, calendars, lengths of texts."""

from collections.abc import Mapping, Sequence

import msgspec

from headrace.report.chart import Axes, Bar, bars, column, framed, upright
from headrace.report.dates import stretches, words_of
from headrace.report.fields import Distribution
from headrace.report.html import esc, excerpt, figures, note
from headrace.report.measure import Bin, Summary
from headrace.report.scale import Ticks, label, round_step, spaced, ticks
from headrace.report.survey import Survey
from headrace.report.text import number, percent, plural

_WHOLE_BARS = 11
_ABOUT_MAX = 400
_CARDS_OPEN = 24
_DAY_S = 86_400
_LENGTHS_LEAST = 4
_OFTEN = 0.005
"""A text with a smaller share than this is not frequent."""
_Y_TICKS, _X_TICKS = 4, 5


def answers(found: Survey, columns: Mapping[str, int]) -> str:
    """`columns` says where in the table of rows a field stands, for those that stand there."""
    if not found.ok:
        return ""
    cards = [_card(field, columns.get(field.name)) for field in found.fields]
    if not cards:
        return ""
    shown, folded = cards[:_CARDS_OPEN], cards[_CARDS_OPEN:]
    content = f'<div class="fields">\n{_lines(shown)}\n</div>'
    if folded:
        content += (
            f'<details class="rest"><summary>{plural(len(folded), "more field")}</summary>'
            f'<div class="fields">\n{_lines(folded)}\n</div></details>'
        )
    said = f"Of {plural(found.ok, 'answer')}."
    if 'class="median"' in content:
        said += " A dashed line is a median."
    if found.fields_left_out:
        said += f" There were more than {len(cards)} different fields; the others are left out."
    script = "data-pick=" in content
    hint = '<span class="hint" data-script hidden> Click a bar to see its items below.</span>' if script else ""
    return f'<p class="soft small">{esc(said)}{hint}</p>{content}'


def _lines(cards: Sequence[str]) -> str:
    return "\n".join(cards)


def _card(field: Distribution, at: int | None) -> str:
    about = f'<p class="soft small" dir="auto">{esc(field.description[:_ABOUT_MAX])}</p>' if field.description else ""
    kind = f'<span class="soft small">{esc(field.declared)}</span>' if field.declared else ""
    head = f'<header><h3 dir="auto">{esc(field.name)}</h3>{kind}</header>'
    return f'<article class="field">{head}{about}{_presence(field)}{_distribution(field, at)}</article>'


def _presence(field: Distribution) -> str:
    said = []
    if field.per_list is not None:
        said.append(f"{number(field.per_list.mean)} in a list on average, {number(field.per_list.most)} at most")
    if field.missing:
        said.append(f"empty in {field.missing:,} ({percent(field.missing, field.present + field.missing)})")
    return note(", ".join(said))


def _distribution(field: Distribution, at: int | None) -> str:
    parts = []
    if field.numbers is not None:
        parts.append(_numbers(field.numbers, field.name, at))
    if field.dates is not None:
        parts.append(_calendar(field.dates, field.name, at))
    elif field.kind == "choice":
        parts.append(_choices(field, at))
    elif field.distinct:
        parts.append(_texts(field, at))
    if not parts and field.per_list is None:
        parts.append(note("Values of mixed types." if field.present else "No value to count."))
    return "".join(parts)


def _choices(field: Distribution, at: int | None) -> str:
    total = field.present if field.per_list is not None else sum(n for _, n in field.counts) + field.others
    rows = [Bar(text, count, _value(at, text) if count else "") for text, count in field.counts]
    rest = note(f"and {plural(field.others, 'other value')}") if field.others else ""
    return bars(rows, total, (field.name, "answers")) + rest


def _texts(field: Distribution, at: int | None) -> str:
    """Free text: how long, how many different ones, and those that repeat."""
    counted = sum(count for _, count in field.counts) + field.others
    drawn = _lengths(field.lengths) if field.lengths is not None else ""
    if counted == 1:
        return f'<p dir="auto">{esc(excerpt(field.counts[0][0])) or "(empty)"}</p>'
    if field.distinct == counted and not field.distinct_is_least:
        return drawn + note(f"{plural(counted, 'value')}, all different")
    least = "more than " if field.distinct_is_least else ""
    often = [(t, n) for t, n in field.counts if field.kind == "mixed" or (n > 1 and n >= _OFTEN * counted)]
    said = note(f"{least}{field.distinct:,} different values{'; the most frequent:' if often else ''}")
    rows = "".join(
        f'<tr{_value(at, text)}><th scope="row" dir="auto" title="{esc(text)}">{esc(excerpt(text)) or "(empty)"}</th>'
        f'<td class="n">{count:,}</td></tr>'
        for text, count in often
    )
    return (
        drawn
        + said
        + (
            f'<table class="bars texts"><colgroup><col><col class="c-n"></colgroup><tbody>{rows}</tbody></table>'
            if rows
            else ""
        )
    )


def _lengths(lengths: Summary) -> str:
    if lengths.least == lengths.most:
        return note(f"{plural(int(lengths.most), 'character')} each")
    if lengths.most - lengths.least < _LENGTHS_LEAST:
        return note(f"{number(lengths.least)} to {number(lengths.most)} characters")
    drawn = histogram(lengths, "Length of the texts", "characters", "answers")
    three = [("shortest", lengths.least), ("median", lengths.median), ("longest", lengths.most)]
    return drawn + figures("figures", [(name, number(value), "") for name, value in three])


def _numbers(numbers: Summary, name: str, at: int | None) -> str:
    bins = numbers.bins()
    whole = all(part.low == part.high for part in bins)
    if whole and len(bins) <= _WHOLE_BARS:
        rows = [Bar(number(part.low), part.count, _between(at, part.low, part.low)) for part in bins]
        drawn = bars(rows, sum(part.count for part in bins), (name, "answers"), narrow=True)
    else:
        drawn = histogram(numbers, name, "", "answers", at=at)
    four = [("min", numbers.least), ("median", numbers.median), ("mean", numbers.mean), ("max", numbers.most)]
    few = estimated(numbers)
    return drawn + figures("figures", [(word, number(value), "") for word, value in four]) + few


def histogram(
    numbers: Summary, name: str, unit: str, counted: str, *, at: int | None = None,
    marks: Sequence[tuple[str, float]] = (),
) -> str:  # fmt: skip
    """Bins with their axes; a line for the median, or for each of these marks."""
    bins = numbers.bins()
    most = max(part.count for part in bins)
    reach = _Reach(bins)
    columns = "".join(
        column(
            reach.left(i), reach.right(i), part.count / most,
            f"{_range(part)}{f' {unit}' if unit else ''}: {numbers.said(part.count)} {counted}",
            "f-bar tail" if part.open else "f-bar", _bounds(at, part, last=part is bins[-1]),
        )
        for i, part in enumerate(bins)
    )  # fmt: skip
    for word, value in marks or (("median", numbers.median),):
        if (place := reach.place(value)) is not None:
            columns += upright(place, f"{word} {number(value)}", "median")
    said = f"{name}: {plural(numbers.count, 'value')} from {number(numbers.least)} to {number(numbers.most)}"
    axes = Axes(
        label=f"{said}, median {number(numbers.median)}", x=reach.ticks(), y=_counts(most), x_title=unit,
        y_title=counted,
    )  # fmt: skip
    return framed(columns, axes, pick=at is not None)


class _Reach:
    """Where bins and values stand on the width. A bin of one whole number reaches half a step to both sides."""

    def __init__(self, bins: Sequence[Bin]) -> None:
        self._bins = bins
        self._half = 0.5 if bins[0].low == bins[0].high and len(bins) > 1 else 0.0
        self._low, self._high = bins[0].low - self._half, bins[-1].high + self._half

    def left(self, index: int) -> float:
        return index / len(self._bins)

    def right(self, index: int) -> float:
        return (index + 1) / len(self._bins)

    def place(self, value: float) -> float | None:
        span = self._high - self._low
        share = (value - self._low) / span if 0 < span < float("inf") else -1.0
        return share if 0 <= share <= 1 else None

    def ticks(self) -> Ticks:
        if self._half:
            step = max(1.0, round_step(len(self._bins), _X_TICKS))
            return tuple(
                ((i + 0.5) / len(self._bins), label(part.low, 1.0, 0.0))
                for i, part in enumerate(self._bins)
                if part.low % step == 0
            )
        found = ticks(self._low, self._high, _X_TICKS)
        return tuple((place, text) for value, text in found if (place := self.place(value)) is not None)


def _calendar(dates: Summary, name: str, at: int | None) -> str:
    found = [msgspec.structs.replace(each, count=dates.of_all(each.count)) for each in stretches(dates.values)]
    most = max(each.count for each in found)
    columns = "".join(
        column(
            i / len(found), (i + 1) / len(found), each.count / most, f"{each.name}: {dates.said(each.count)} answers",
            pick=_between(at, each.low, each.high),
        )
        for i, each in enumerate(found)
    )  # fmt: skip
    first, last = words_of(dates.least), words_of(dates.most)
    axes = Axes(
        label=f"{name}: {plural(dates.count, 'date')} from {first} to {last}", y=_counts(most), y_title="answers",
        x=spaced([((i + 0.5) / len(found), each.name) for i, each in enumerate(found)], 3),
    )  # fmt: skip
    three = [("first", first), ("median", words_of(_middle(dates))), ("last", last)]
    few = estimated(dates)
    return framed(columns, axes, pick=at is not None) + figures("figures", [(*each, "") for each in three]) + few


def _middle(dates: Summary) -> float:
    """Of days it is a day."""
    days = dates.least % _DAY_S == 0 and dates.most % _DAY_S == 0
    return dates.median - dates.median % _DAY_S if days else dates.median


def estimated(numbers: Summary) -> str:
    """How it is known, where not every value was counted."""
    return note(f"median and bars estimated from an even sample of {numbers.sampled:,}") if numbers.sampled else ""


def _counts(most: int) -> Ticks:
    step = int(max(1.0, round_step(float(most), _Y_TICKS)))
    return tuple((value / most, label(value, step, most)) for value in range(0, most + 1, step))


def _range(part: Bin) -> str:
    if part.low == part.high:
        return number(part.low)
    if part.open:
        return f"{number(part.low)} and more" if part.open == "high" else f"{number(part.high)} and less"
    return f"{number(part.low)} to {number(part.high)}"


def _value(at: int | None, text: str) -> str:
    """Attributes by which the page's script finds the rows with this value."""
    return "" if at is None else f' data-pick="{at}" data-value="{esc(text)}"'


def _bounds(at: int | None, part: Bin, *, last: bool) -> str:
    if part.low == part.high:
        return _between(at, part.low, part.low)
    return _between(at, None if part.open == "low" else part.low, None if last else part.high)


def _between(at: int | None, low: float | None, high: float | None) -> str:
    """As `_value`, for what is from `low` to below `high`; exactly that where they are one."""
    if at is None:
        return ""
    ends = (f' data-{name}="{end:.12g}"' for name, end in (("low", low), ("high", high)) if end is not None)
    return f' data-pick="{at}"{"".join(ends)}'
