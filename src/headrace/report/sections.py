"""What a survey found in, the sections of the page out: answers, failures, items, slowest calls.

Drawn as SVG with plain attributes: the page's policy allows no inline style.
"""

import math
from collections.abc import Iterable, Sequence

from headrace.core.ports import Counts
from headrace.report.fields import Bin, Distribution, Numbers
from headrace.report.html import class_of, esc, excerpt, figures, folded, left_out
from headrace.report.survey import FIRST_ROWS, Cut, FailedKind, Row, Survey
from headrace.report.text import duration, number, percent, plural

_WHOLE_BARS = 11
_LONG = 60
_HISTOGRAM_HEIGHT = 100
_BIN_WIDTH = 10


def stacked(parts: Iterable[tuple[str, int]]) -> str:
    """One bar of the parts' shares."""
    parts = [(css, count) for css, count in parts if count]
    total = sum(count for _, count in parts)
    if not total:
        return ""
    at, rects = 0.0, []
    for css, count in parts:
        width = 100 * count / total
        rects.append(f'<rect class="{css}" x="{at:.3f}%" width="{width:.3f}%" height="100%"/>')
        at += width
    return f'<svg class="share" aria-hidden="true">{"".join(rects)}</svg>'


def answers(found: Survey) -> str:
    cards = "\n".join(_card(field, found.ok) for field in found.fields)
    return f'<div class="fields">\n{cards}\n</div>' if cards else ""


def _card(field: Distribution, ok: int) -> str:
    about = f'<p class="soft small" dir="auto">{esc(field.description[:400])}</p>' if field.description else ""
    notes = []
    if field.per_answer is not None:
        notes.append(f"{number(field.per_answer)} values an answer on average")
    if field.missing:
        notes.append(f"empty in {field.missing:,} ({percent(field.missing, ok)})")
    note = f'<p class="soft small">{esc(", ".join(notes))}</p>' if notes else ""
    kind = f'<span class="soft small">{esc(field.declared)}</span>' if field.declared else ""
    head = f'<header><h3 dir="auto">{esc(field.name)}</h3>{kind}</header>'
    return f'<div class="field">{head}{about}{note}{_distribution(field)}</div>'


def _distribution(field: Distribution) -> str:
    parts = []
    if field.numbers is not None:
        parts.append(_numbers(field.numbers))
    if field.kind == "choice":
        values = sum(count for _, count in field.counts) + field.others
        total = values if field.per_answer is None else field.present
        parts.append(_bars(field.counts, total))
        if field.others:
            parts.append(f'<p class="soft small">{plural(field.others, "other value")}</p>')
    elif field.distinct:
        parts.append(_texts(field))
    if field.kind == "empty" and not parts:
        parts.append('<p class="soft small">no value to count</p>')
    return "".join(parts)


def _bars(counts: Sequence[tuple[str, int]], total: int) -> str:
    most = max((count for _, count in counts), default=0) or 1
    return f'<table class="bars">{"".join(_bar(text, count, most, total) for text, count in counts)}</table>'


def _bar(text: str, count: int, most: int, total: int) -> str:
    zero = "" if count else ' class="zero"'
    rect = f'<rect class="f-bar" width="{100 * count / most:.2f}%" height="100%"/>' if count else ""
    return (
        f'<tr{zero}><th scope="row" dir="auto" title="{esc(text)}">{esc(text) or "(empty)"}</th>'
        f'<td><svg aria-hidden="true">{rect}</svg></td>'
        f'<td class="n">{count:,}</td><td class="p">{esc(percent(count, total))}</td></tr>'
    )


def _texts(field: Distribution) -> str:
    """Free text: how many different ones, and those that repeat."""
    least = "more than " if field.distinct_is_least else ""
    counted = sum(count for _, count in field.counts) + field.others
    if field.distinct == counted and not field.distinct_is_least:
        return f'<p class="soft small">{plural(counted, "value")}, all different</p>'
    said = f'<p class="soft small">{least}{field.distinct:,} different values; the most frequent:</p>'
    rows = "".join(
        f'<tr><th scope="row" dir="auto" title="{esc(text)}">{esc(excerpt(text)) or "(empty)"}</th>'
        f'<td class="n">{count:,}</td></tr>'
        for text, count in field.counts
        if count > 1 or field.kind == "mixed"
    )
    return said + f'<table class="bars texts">{rows}</table>' if rows else said.replace("; the most frequent:", "")


def _numbers(numbers: Numbers) -> str:
    whole = all(part.low == part.high for part in numbers.bins)
    total = sum(part.count for part in numbers.bins)
    if whole and len(numbers.bins) <= _WHOLE_BARS:
        drawn = _bars([(number(part.low), part.count) for part in numbers.bins], total)
    else:
        drawn = _histogram(numbers.bins, numbers.median)
    four = [("min", numbers.least), ("median", numbers.median), ("mean", numbers.mean), ("max", numbers.most)]
    note = f'<p class="soft small">median and bars from {numbers.sampled:,} of them</p>' if numbers.sampled else ""
    return drawn + figures("figures", [(name, number(value), "") for name, value in four]) + note


def _histogram(bins: Sequence[Bin], median: float) -> str:
    most = max(part.count for part in bins)
    width = _BIN_WIDTH * len(bins)
    rects = []
    for index, part in enumerate(bins):
        if part.count:
            height = max(1.5, _HISTOGRAM_HEIGHT * part.count / most)
            rects.append(
                f'<rect class="f-bar" x="{index * _BIN_WIDTH}" y="{_HISTOGRAM_HEIGHT - height:.2f}" '
                f'width="{_BIN_WIDTH - 1}" height="{height:.2f}"><title>{_range(part)}: {part.count:,}</title></rect>'
            )
    step = 1 if bins[0].low == bins[0].high else 0  # a bin of one whole number reaches half a step to both sides
    reach = bins[-1].high - bins[0].low + step
    place = width * (median - bins[0].low + step / 2) / reach if 0 < reach < math.inf else 0.0
    line = f'<line class="median" x1="{place:.2f}" x2="{place:.2f}" y1="0" y2="{_HISTOGRAM_HEIGHT}"/>'
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {_HISTOGRAM_HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(rects)}{line}</svg>'
    )


def _range(part: Bin) -> str:
    return number(part.low) if part.low == part.high else f"{number(part.low)} to {number(part.high)}"


def failures(found: Survey) -> str:
    return "\n".join(_failed_kind(group) for group in found.failures)


def _failed_kind(group: FailedKind) -> str:
    hint = f'<p class="hint" dir="auto">{esc(group.hint)}</p>' if group.hint else ""
    examples = "".join(f"<li>{_example(row, group.message)}</li>" for row in group.examples)
    return (
        f'<div class="failure"><h3><span class="bad">{esc(group.kind)}</span> · {plural(group.count, "item")}</h3>'
        f'<p dir="auto">{esc(group.message)}</p>{hint}<ul class="small">{examples}</ul></div>'
    )


def _example(row: Row, message: str) -> str:
    text = excerpt(_main(row).text)
    own = f'<br><span dir="auto">{esc(row.message)}</span>' if row.message != message else ""
    raw = f'<br><span class="soft">it answered:</span> {folded(row.raw)}' if row.raw.text else ""
    return f'<span class="mono soft">{esc(row.key)}</span> <span dir="auto">{esc(text)}</span>{own}{raw}'


def slowest(found: Survey) -> str:
    if not found.slowest:
        return ""
    most = found.slowest[0].seconds
    return f'<table class="slow">{"".join(_slow(row, most) for row in found.slowest)}</table>'


def _slow(row: Row, most: float) -> str:
    rect = f'<rect class="f-bar" width="{100 * row.seconds / most:.2f}%" height="100%"/>'
    return (
        f'<tr><th scope="row" dir="auto"><span class="mono soft">{esc(row.key)}</span> '
        f'{esc(excerpt(_main(row).text))}</th><td><svg aria-hidden="true">{rect}</svg></td>'
        f'<td class="n">{esc(duration(row.seconds))}</td></tr>'
    )


def items(found: Survey, counts: Counts) -> str:
    """The table of answers beside their items, and which of them it shows."""
    if not found.first:
        return ""
    rows = (*found.first, *found.spread)
    said = f"All {plural(found.items, 'item')} with an outcome." if found.items > 1 else ""
    if len(rows) < found.items:
        said = (
            f"The first {FIRST_ROWS:,} items, and {len(found.spread):,} spread evenly over the other "
            f"{found.items - FIRST_ROWS:,}. The result file and the store have all of them."
        )
    if counts.pending:
        said += f" {plural(counts.pending, 'item')} pending."
    names = [field.name for field in found.fields]
    numeric = {field.name for field in found.fields if field.kind == "number"}
    heads = [("Item", False), *((name, name in numeric) for name in names), ("Time", True)]
    head = "".join(
        f'<th scope="col"{class_of("n" if right else "")}><button type="button">{esc(name)}</button></th>'
        for name, right in heads
    )
    body = "\n".join(_row(row, names) for row in rows)
    return (
        '<div class="tools" id="tools" hidden><label class="away" for="filter">Filter the rows</label>'
        '<input id="filter" type="search" placeholder="Filter" autocomplete="off">'
        '<span id="matches" class="soft small" role="status"></span></div>\n'
        f'<p class="soft small">{esc(said.strip())}</p>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="Items and answers">'
        f'<table class="rows" id="rows"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _row(row: Row, names: Sequence[str]) -> str:
    if row.kind:
        raw = f'<div class="soft">it answered: {folded(row.raw)}</div>' if row.raw.text else ""
        span = f' colspan="{len(names)}"' if len(names) > 1 else ""
        told = f'<span class="bad">{esc(row.kind)}</span> <span dir="auto">{esc(row.message)}</span>{raw}'
        middle = f"<td{span}>{told}</td>"
        if not names:
            return f"<tr>{_item(row, told)}{_time(row)}</tr>"
    else:
        middle = "".join(_answer(name, row.answer.get(name)) for name in names)
    return f"<tr>{_item(row)}{middle}{_time(row)}</tr>"


def _item(row: Row, more: str = "") -> str:
    """The item's key and its longest text; the other columns are behind it."""
    main = _main(row)
    key = f'<span class="key mono">{esc(excerpt(row.key, 60))}</span>'
    if len(row.item) <= 1:
        return f'<td class="item" data-n="{row.position}">{key}{folded(main)}{more}</td>'
    columns = "".join(
        f'<dt>{esc(name)}</dt><dd dir="auto">{esc(cut.text)}{left_out(cut)}</dd>' for name, cut in row.item
    )
    return (
        f'<td class="item" data-n="{row.position}">{key}<details><summary><span dir="auto">{esc(excerpt(main.text))}'
        f"</span></summary><dl>{columns}</dl></details>{more}</td>"
    )


def _main(row: Row) -> Cut:
    """The column that says most: the longest text."""
    return max((cut for _, cut in row.item), key=lambda cut: len(cut.text) + cut.left_out, default=Cut(""))


def _answer(name: str, cut: Cut | None) -> str:
    label = f' data-name="{esc(name)}"'
    if cut is None or not cut.text:
        return f"<td{label} data-none></td>"
    if cut.is_number:
        return f'<td class="n"{label} data-n="{esc(cut.text)}">{esc(cut.text)}</td>'
    css = "long" if len(cut.text) > _LONG else "word"
    return f'<td class="{css}"{label}>{folded(cut)}</td>'


def _time(row: Row) -> str:
    if row.cached:
        return '<td class="n soft" data-name="Time" data-n="0">stored</td>'
    tries = f'<br><span class="soft small">{plural(row.attempts, "call")}</span>' if row.attempts > 1 else ""
    return f'<td class="n" data-name="Time" data-n="{row.seconds:.3f}">{esc(duration(row.seconds))}{tries}</td>'
