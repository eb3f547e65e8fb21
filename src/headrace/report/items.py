"""A survey in, the table of items beside their answers out: what a page's script searches, sorts and pages through."""

from collections.abc import Sequence

from headrace.core.ports import Counts
from headrace.report.fields import ANSWER, Distribution
from headrace.report.html import class_of, esc, excerpt, folded, left_out
from headrace.report.sample import COLUMNS_MAX, Cut, Row
from headrace.report.survey import FAILED_ROWS_MAX, SLOWEST, Survey
from headrace.report.text import duration, key_told, plural

TABLE_MAX = 3_500_000
"""Bytes of all rows together: the page is to open on a phone."""
_CUTS = (4_000, 1_500, 600, 250, 100)
_LONG, _BRIEF = 60, 16
_MANY, _WIDE = 4, 8
"""More columns than on paper and on a screen."""
_KEY = 60


def columns_of(fields: Sequence[Distribution]) -> dict[str, int]:
    """Where each field stands in the table: the item is in column 0."""
    names = [field.name for field in fields if field.is_column][:COLUMNS_MAX]
    return {name: index + 1 for index, name in enumerate(names)}


def items(found: Survey, counts: Counts) -> str:
    if not found.rows:
        return ""
    names = list(columns_of(found.fields)) or [ANSWER]
    rows = _fitting(found.rows, names)
    numeric = {field.name for field in found.fields if field.kind == "number"}
    heads = [("Item", False), *((name, name in numeric) for name in names), ("Time", True)]
    head = "".join(f'<th scope="col"{class_of("n" if right else "")}>{esc(name)}</th>' for name, right in heads)
    body = "\n".join(rows)
    wide = (" many" if len(names) > _MANY else "") + (" wide" if len(names) > _WIDE else "")
    return (
        f'<p class="soft small">{esc(_which(found, len(rows), counts))}</p>\n'
        '<div class="tools" id="tools" hidden>'
        '<label class="away" for="filter">Search the rows</label>'
        '<input id="filter" type="search" placeholder="Search" autocomplete="off">'
        '<span id="chips"></span><span id="matches" class="soft small" role="status"></span></div>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="Items and answers">'
        f'<table class="rows{wide}" id="rows"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n'
        '<nav class="pager" id="pager" aria-label="Pages of the table" hidden></nav>'
    )


def _fitting(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The rows as markup, their texts cut so far that the table keeps to its size; fewer rows where that is not enough."""
    size = 0
    drawn: list[str] = []
    for most in _CUTS:
        if most > _CUTS[-1] and sum(_least_size(row, most) for row in rows) > TABLE_MAX:
            continue
        drawn = [_row(row, names, most) for row in rows]
        size = sum(len(each.encode()) for each in drawn)
        if size <= TABLE_MAX:
            return drawn
    return drawn[:: -(-size // TABLE_MAX)]


def _least_size(row: Row, most: int) -> int:
    cells = (*(cut for _, cut in row.item), *row.answer.values(), row.raw)
    return sum(min(len(cut.text), most) for cut in cells)


def _which(found: Survey, shown: int, counts: Counts) -> str:
    """Which items these are."""
    if found.sampled is None:
        said = f"All {plural(found.items, 'item')} with an outcome." if found.items > 1 else ""
    else:
        some = f"{FAILED_ROWS_MAX} of the {found.failed:,} that failed"
        failed = f"all {found.failed:,} that failed" if found.failed <= FAILED_ROWS_MAX else some
        rest = f"{failed} and the {SLOWEST} slowest" if found.failed else f"the {SLOWEST} slowest"
        said = (
            f"{found.sampled:,} of the {found.items:,} items, chosen at random, and after them {rest}. "
            "The charts above count all items; the result file and the store have all of them."
        )
    if shown < len(found.rows):
        said += f" That is too much for one page: {shown:,} of these rows are here, evenly chosen."
    if counts.pending:
        said += f" {plural(counts.pending, 'item')} pending."
    return said.strip()


def _row(row: Row, names: Sequence[str], most: int) -> str:
    if row.kind:
        raw = f'<div class="soft">it answered: {folded(row.raw.to(most))}</div>' if row.raw.text else ""
        span = f' colspan="{len(names)}"' if len(names) > 1 else ""
        told = f'<span class="bad">{esc(row.kind)}</span> <span dir="auto">{esc(row.message[:most])}</span>{raw}'
        kind = f' data-kind="{esc(row.kind)}"'
        return f"<tr{kind}>{_item(row, most)}<td{span}>{told}</td>{_time(row)}</tr>"
    cells = "".join(_answer(name, row.answer.get(name), most) for name in names)
    return f"<tr>{_item(row, most)}{cells}{_time(row)}</tr>"


def _item(row: Row, most: int) -> str:
    """The item's key and the text it was asked about; the other columns are behind it."""
    main = main_of(row).to(most)
    key = f'<span class="key mono">{esc(excerpt(key_told(row.key), _KEY))}</span>'
    opening = f'<td class="item" data-n="{row.position}">{key}'
    if len(row.item) <= 1:
        return f"{opening}{folded(main)}</td>"
    columns = "".join(
        f'<dt dir="auto">{esc(name)}</dt><dd dir="auto">{esc(cut.to(most).text)}{left_out(cut.to(most))}</dd>'
        for name, cut in row.item
    )
    rest = f"<dt>and {plural(row.columns_left_out, 'more column')}</dt>" if row.columns_left_out else ""
    return (
        f'{opening}<details><summary><span dir="auto">{esc(excerpt(main.text))}'
        f"</span></summary><dl>{columns}{rest}</dl></details></td>"
    )


def main_of(row: Row) -> Cut:
    """The column that says most: the longest text that was asked about, or of all where none was."""
    asked = [cut for name, cut in row.item if name in row.asked and cut.text.strip()]
    return max(asked or [cut for _, cut in row.item], key=lambda cut: len(cut.text) + cut.left_out, default=Cut(""))


def _answer(name: str, cut: Cut | None, most: int) -> str:
    label = f' data-name="{esc(name)}"'
    if cut is None or not cut.text:
        return f"<td{label} data-none></td>"
    place = f' data-n="{cut.place:.12g}"' if cut.place is not None else ""
    if cut.is_number:
        return f'<td class="n"{label}{place}>{esc(cut.text)}</td>'
    if cut.parts:
        words = " ".join(f'<span class="word" dir="auto">{esc(part)}</span>' for part in cut.parts)
        return f'<td class="words"{label}>{words}</td>'
    cut = cut.to(most)
    if len(cut.text) <= _BRIEF and "\n" not in cut.text:
        return f'<td class="brief" dir="auto"{label}{place}>{esc(cut.text)}</td>'
    css = "long" if len(cut.text) > _LONG else "short"
    return f'<td class="{css}"{label}{place}>{folded(cut)}</td>'


def _time(row: Row) -> str:
    if row.cached:
        return '<td class="n soft" data-name="Time" data-n="0">stored</td>'
    tries = f'<br><span class="soft small">{plural(row.attempts, "call")}</span>' if row.attempts > 1 else ""
    return f'<td class="n" data-name="Time" data-n="{row.seconds:.3f}">{esc(duration(row.seconds))}{tries}</td>'
