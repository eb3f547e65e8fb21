"""A run in a notebook's cell, as small pieces of HTML: how it goes, how it ended, its first outcomes. All text escaped.

Knows no notebook. Colours are chosen to be read on white and on black.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.engine.snapshot import Snapshot
from headrace.report.html import esc
from headrace.report.lines import live_lines
from headrace.report.signs import UNICODE, Part
from headrace.report.summary import summary_lines
from headrace.report.text import plural, shown

_WIDTH = 96
_CELL = 160
_COLUMNS = 10
_STYLES = {
    "bold": "font-weight:600", "dim": "opacity:.65", "red": "color:#d64545", "green": "color:#2a9d5c",
    "yellow": "color:#b7791f", "cyan": "color:#1a8fa8",
}  # fmt: skip
_BLOCK = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12.5px;line-height:1.45;white-space:pre-wrap;margin:.2em 0"
_TABLE = "border-collapse:collapse;font-size:13px;margin:.3em 0"
_EDGE = "padding:3px 9px;vertical-align:top;text-align:left;max-width:34em;overflow-wrap:anywhere;white-space:normal"


def progress_html(snapshot: Snapshot) -> str:
    """How the run goes at this moment."""
    return _block(live_lines(snapshot, _WIDTH, UNICODE))


def summary_html(snapshot: Snapshot) -> str:
    """How the run ended."""
    return _block([part] for part in summary_lines(snapshot, UNICODE))


def summary_text(snapshot: Snapshot) -> str:
    """The same for what shows no HTML."""
    return "\n".join(text for text, _ in summary_lines(snapshot, UNICODE))


def _block(lines: Iterable[Sequence[Part]]) -> str:
    made = "\n".join("".join(_span(text, style) for text, style in line) for line in lines)
    return f'<div style="{_BLOCK}">{made}</div>'


def _span(text: str, style: str) -> str:
    css = ";".join(_STYLES[word] for word in style.split() if word in _STYLES)
    return f'<span style="{css}">{esc(text)}</span>' if css else esc(text)


def run_html(name: str, ending: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], more: int) -> str:
    """The first rows of a run as a table."""
    fitting = list(columns[:_COLUMNS])
    head = "".join(f'<th style="{_EDGE};border-bottom:1px solid #8888">{esc(_cut(name))}</th>' for name in fitting)
    body = "".join(f"<tr>{''.join(_cell(column, row.get(column)) for column in fitting)}</tr>" for row in rows)
    left = [plural(more, "more row") if more > 0 else ""]
    left.append(plural(len(columns) - len(fitting), "more column") if len(columns) > len(fitting) else "")
    rest = ", ".join(filter(None, left))
    return (
        f'<div><div style="margin:.2em 0"><b dir="auto">{esc(name)}</b>: {esc(ending)}</div>'
        + (f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>' if rows else "")
        + (f'<div style="opacity:.65">and {esc(rest)}</div>' if rest else "")
        + "</div>"
    )


def _cell(column: str, value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    css = f"{_EDGE}{';text-align:right' if number else ''}{';color:#d64545' if column == 'error' else ''}"
    return f'<td dir="auto" style="{css}">{esc(_cut(shown(value)))}</td>'


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
