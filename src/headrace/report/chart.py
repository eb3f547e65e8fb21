"""Shares, bins and courses in; charts as inline SVG out, with axes, units and a word on every part that is pointed at.

Drawn with plain attributes and classes: the page's policy allows no inline style. Lengths are in pixels or percent, so
that words keep their size whatever the width.
"""

from collections.abc import Iterable, Sequence

import msgspec

from headrace.report.html import class_of, element, esc
from headrace.report.scale import Ticks
from headrace.report.text import percent

HEIGHT = 132
_TICK_HEIGHT = 16
_CHARACTER = 7.4
_LEAST_SHARE = 1.5 / HEIGHT
"""What is there at all is seen."""


class Axes(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a plot. Ticks are shares of the width and of the height."""

    label: str
    """The whole chart in a sentence, for who does not see it."""
    x: Ticks = ()
    y: Ticks = ()
    x_title: str = ""
    y_title: str = ""


def framed(plot: str, axes: Axes, *, pick: bool = False) -> str:
    """A plot between its axes. Where parts of it can be picked, each of them has its words; else it is one picture."""
    widest = max((len(text) for _, text in axes.y), default=0)
    rules = "".join(
        f'<line class="rule" x1="0" x2="100%" y1="{_y(share)}" y2="{_y(share)}"/>' for share, _ in axes.y if share
    )
    ys = "".join(f'<text x="100%" y="{_y(share)}" dy=".32em">{esc(text)}</text>' for share, text in axes.y)
    xs = "".join(f'<text class="{_anchor(share)}" x="{_p(share)}" y="12">{esc(text)}</text>' for share, text in axes.x)
    role = "group" if pick else "img"
    return (
        f'<figure class="chart">{element("div", esc(axes.y_title), "ytitle")}'
        f'<svg class="ys" width="{widest * _CHARACTER + 8:.0f}" height="{HEIGHT}" aria-hidden="true">{ys}</svg>'
        f'<svg class="plot" height="{HEIGHT}" role="{role}" aria-label="{esc(axes.label)}">{rules}{plot}</svg>'
        f'<svg class="xs" height="{_TICK_HEIGHT}" aria-hidden="true">{xs}</svg>'
        f"{element('div', esc(axes.x_title), 'xtitle')}</figure>"
    )


def column(left: float, right: float, share: float, said: str, css: str = "f-bar", pick: str = "") -> str:
    """A bar from the ground up, between two shares of the width; `pick` is attributes."""
    if share <= 0:
        return ""
    share = max(share, _LEAST_SHARE)
    return (
        f'<rect class="{css}" x="{_p(left)}" width="{_p(right - left)}" y="{_y(share)}" height="{HEIGHT * share:.1f}"'
        f"{pick}><title>{esc(said)}</title></rect>"
    )


def upright(at: float, said: str, css: str) -> str:
    """A line from top to ground."""
    return f'<line class="{css}" x1="{_p(at)}" x2="{_p(at)}" y1="0" y2="{HEIGHT}"><title>{esc(said)}</title></line>'


def marker(at: float, said: str) -> str:
    """Something happened there."""
    return f'<g class="mark">{upright(at, said, "")}<circle cx="{_p(at)}" cy="5" r="4"><title>{esc(said)}</title></circle></g>'


def hovered(left: float, right: float, said: str) -> str:
    """A stretch that tells what it was when it is pointed at."""
    return (
        f'<rect class="hit" x="{_p(left)}" width="{_p(right - left)}" y="0" height="{HEIGHT}">'
        f"<title>{esc(said)}</title></rect>"
    )


Step = tuple[float, float]
"""Where a stretch begins and ends, as shares of the width."""


def band(steps: Sequence[Step], lows: Sequence[float], highs: Sequence[float], css: str) -> str:
    """What lies between the two, as shares of the height, in steps."""
    there = list(zip(steps, lows, highs, strict=True))
    forth = "".join(f"L{_k(a)} {_k(1 - high)}H{_k(b)}" for (a, b), _, high in there)
    back = "".join(f"L{_k(b)} {_k(1 - low)}H{_k(a)}" for (a, b), low, _ in reversed(there))
    return _stretched(f'<path class="{css}" d="M{forth[1:]}{back}Z"/>') if there else ""


def line(steps: Sequence[Step], shares: Sequence[float | None], css: str) -> str:
    """A line in steps, with gaps where there is no value."""
    path, drawing = "", False
    for (a, b), share in zip(steps, shares, strict=True):
        if share is not None:
            path += f"{'L' if drawing else 'M'}{_k(a)} {_k(1 - share)}H{_k(b)}"
        drawing = share is not None
    return _stretched(f'<path class="{css}" d="{path}"/>') if path else ""


def _stretched(drawn: str) -> str:
    return (
        f'<svg x="0" y="0" width="100%" height="{HEIGHT}" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f"{drawn}</svg>"
    )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Colours and what they stand for."""
    items = "".join(
        f'<li><svg aria-hidden="true"><rect class="{css}" width="100%" height="100%"/></svg>{esc(text)}</li>'
        for css, text in entries
    )
    return f'<ul class="legend small">{items}</ul>' if items else ""


def shares(parts: Iterable[tuple[str, float, str]], label: str) -> str:
    """One bar of the parts' shares: class, amount and word of each."""
    parts = [part for part in parts if part[1] > 0]
    total = sum(amount for _, amount, _ in parts)
    if not total:
        return ""
    at, rects = 0.0, []
    for css, amount, said in parts:
        share = amount / total
        rects.append(
            f'<rect class="{css}" x="{_p(at)}" width="{_p(share)}" height="100%"><title>{esc(said)}</title></rect>'
        )
        at += share
    return f'<svg class="share" role="img" aria-label="{esc(label)}">{"".join(rects)}</svg>'


class Bar(msgspec.Struct, frozen=True):
    """One row of a table of bars. `pick` is attributes."""

    text: str
    count: int
    pick: str = ""
    css: str = "f-bar"


def bars(rows: Sequence[Bar], total: int, head: tuple[str, str], *, narrow: bool = False) -> str:
    """A table: words, bars, counts, and shares of `total`. `head` names what the words and the counts are."""
    most = max((row.count for row in rows), default=0) or 1
    body = "".join(_bar(row, most, total) for row in rows)
    names = (
        f'<thead class="away"><tr><th scope="col">{esc(head[0])}</th><th scope="col">bar</th>'
        f'<th scope="col">{esc(head[1])}</th><th scope="col">share</th></tr></thead>'
    )
    widths = '<colgroup><col class="c-name"><col><col class="c-n"><col class="c-p"></colgroup>'
    css = "bars narrow" if narrow else "bars"
    return f'<table class="{css}">{widths}{names}<tbody>{body}</tbody></table>'


def _bar(row: Bar, most: int, total: int) -> str:
    rect = f'<rect class="{row.css}" width="{_p(row.count / most)}" height="100%"/>' if row.count else ""
    said = esc(row.text) or "(empty)"
    return (
        f'<tr{class_of("" if row.count else "zero")}{row.pick}><th scope="row" dir="auto" title="{said}">{said}</th>'
        f'<td><svg aria-hidden="true">{rect}</svg></td>'
        f'<td class="n">{row.count:,}</td><td class="p">{esc(percent(row.count, total))}</td></tr>'
    )


def _anchor(share: float) -> str:
    return "first" if share <= 0.05 else "last" if share >= 0.95 else "middle"


def _p(share: float) -> str:
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"


def _k(share: float) -> str:
    """Of a thousand."""
    return f"{1000 * share:.1f}".removesuffix(".0")


def _y(share: float) -> str:
    return f"{HEIGHT * (1 - share):.1f}"
