"""A section that a program adds to a page: what it found, as plain values in, markup out in which all text is escaped."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from headrace.report.chart import Bar, bars, legend, shares
from headrace.report.html import class_of, element, esc, figures, folded
from headrace.report.sample import Cut
from headrace.report.text import shown

_CELL_MAX = 4_000
_LONG = 18
"""Characters from which a cell is a text, and needs room."""
_ROWS_MAX = 1_000
_FIELD = '<div class="field">'
"""Cards that stand side by side."""
_COLOURS = ("f-bar", "w-requests", "w-tokens", "w-backoff", "w-input", "w-retries", "w-output", "w-other")
_EMPTY = "\N{EN DASH}"


class Section:
    """A part of a page, before all that headrace itself says: `run.report(path, sections=[...])`.

    Its parts come one below the other, in the order in which they are added; each method returns the section. Whatever
    text they are given, a model's too, stands on the page as text.
    """

    def __init__(self, title: str, text: str = "") -> None:
        self.title = title
        self._parts: list[str] = []
        if text:
            self.text(text)

    def text(self, text: str) -> "Section":
        """A paragraph."""
        return self._with(element("p", esc(text)))

    def quote(self, text: str, source: str = "") -> "Section":
        """Words of somebody, and whose they are."""
        about = element("p", esc(source), "soft small")
        return self._with(f'<blockquote dir="auto"><p>{esc(text)}</p>{about}</blockquote>')

    def figures(self, values: Mapping[str, object]) -> "Section":
        """Large figures in a row, each with its name."""
        return self._with(figures("totals second", [(name, _figure(value), "") for name, value in values.items()]))

    def bars(self, heading: str, counts: Mapping[str, int], unit: str = "items") -> "Section":
        """How often each word was found, as bars, with its share of all."""
        table = bars([Bar(str(word), count) for word, count in counts.items()], sum(counts.values()), (heading, unit))
        return self._with(f"{_FIELD}<header><h3>{esc(heading)}</h3></header>{table}</div>")

    def shares(
        self,
        heading: str,
        rows: Mapping[str, Mapping[str, int]],
        *,
        bad: Collection[str] = (),
        faint: Collection[str] = (),
    ) -> "Section":
        """A bar for each row, divided into its parts: as agents compared by the sentiment of their calls. Parts that are
        `bad` have the colour of what went wrong, `faint` ones none."""
        parts = list(dict.fromkeys(part for row in rows.values() for part in row))
        colour = {part: _COLOURS[min(number, len(_COLOURS) - 1)] for number, part in enumerate(parts)}
        colour |= dict.fromkeys(bad, "f-bad") | dict.fromkeys(faint, "f-rest")
        body = "".join(_shared(name, row, colour) for name, row in rows.items())
        keys = legend([(css, str(part)) for part, css in colour.items() if part in parts])
        table = f'<table class="plain shared"><tbody>{body}</tbody></table>'
        return self._with(f"{element('h3', esc(heading))}{keys}{table}")

    def table(self, rows: Sequence[Mapping[str, object]], heading: str = "") -> "Section":
        """A row for each mapping; its keys are the columns. Long texts are folded."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        numbers = {name for name in names if all(_is_number(row.get(name)) for row in rows)}
        head = "".join(f'<th scope="col"{class_of("n" if name in numbers else "")}>{esc(name)}</th>' for name in names)
        body = "".join(f"<tr>{_cells(row, names, numbers)}</tr>" for row in rows[:_ROWS_MAX])
        left = f"{len(rows) - _ROWS_MAX:,} more." if len(rows) > _ROWS_MAX else ""
        if not rows:
            return self
        return self._with(
            f'{element("h3", esc(heading))}<div class="scroll"><table class="plain told"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{element('p', left, 'soft small')}"
        )

    def points(self, texts: Iterable[str]) -> "Section":
        """One point below the other."""
        told = "".join(f'<li dir="auto">{esc(text)}</li>' for text in texts)
        return self._with(f"<ul>{told}</ul>" if told else "")

    @property
    def html(self) -> str:
        parts = "".join(
            element("div", "".join(group), "fields") if is_field else "".join(group)
            for is_field, group in groupby(self._parts, lambda part: part.startswith(_FIELD))
        )
        return element("div", parts, "told")

    def _with(self, part: str) -> "Section":
        if part:
            self._parts.append(part)
        return self

    def __repr__(self) -> str:
        return f"Section({self.title!r})"


def _shared(name: str, row: Mapping[str, int], colour: Mapping[str, str]) -> str:
    told = ", ".join(f"{count:,} {part}" for part, count in row.items() if count)
    bar = shares([(colour[part], float(count), f"{count:,} {part}") for part, count in row.items()], f"{name}: {told}")
    return f'<tr><th scope="row" dir="auto">{esc(str(name))}</th><td>{bar}</td><td class="n">{sum(row.values()):,}</td></tr>'


def _cells(row: Mapping[str, object], names: Sequence[str], numbers: set[str]) -> str:
    return "".join(
        f'<td class="n">{esc(_figure(row.get(name)))}</td>'
        if name in numbers
        else f"<td{class_of('long' if _is_long(row.get(name)) else '')}>{_cell(row.get(name))}</td>"
        for name in names
    )


def _cell(value: object) -> str:
    if value is None or value == "":
        return f'<span class="soft">{_EMPTY}</span>'
    if isinstance(value, list | tuple):
        return f"<ul>{''.join(f'<li>{_cell(each)}</li>' for each in value)}</ul>" if value else _cell(None)
    text = _figure(value) if _is_number(value) else value if isinstance(value, str) else shown(value)
    return folded(Cut(text[:_CELL_MAX], max(0, len(text) - _CELL_MAX)))


def _is_long(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_long, value))
    return isinstance(value, str) and len(value) >= _LONG


def _figure(value: Any) -> str:
    if value is None:
        return _EMPTY
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if _is_number(value) else str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
