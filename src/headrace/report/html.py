"""Text in, safe pieces of HTML out. Every foreign string of a report passes through `esc`.

Knows the page's classes, not what a run is.
"""

import html
from collections.abc import Iterable

from headrace.report.sample import Cut
from headrace.report.text import visible

_EXCERPT = 140


def esc(text: str) -> str:
    """Safe between tags and inside quotes of an attribute."""
    return html.escape(visible(text), quote=True)


def element(tag: str, content: str, css: str = "") -> str:
    """`content` is HTML already; nothing comes of nothing."""
    return f"<{tag}{class_of(css)}>{content}</{tag}>" if content else ""


def class_of(css: str) -> str:
    return f' class="{css}"' if css else ""


def note(text: str) -> str:
    """A sentence of ours in small print."""
    return element("p", esc(text), "soft small")


def figures(css: str, entries: Iterable[tuple[str, str, str]]) -> str:
    """Names and figures with an optional class for the figure, as a list of terms."""
    cells = "".join(
        f"<div><dt>{esc(name)}</dt><dd{class_of(mark)}>{esc(text)}</dd></div>" for name, text, mark in entries
    )
    return f'<dl class="{css}">{cells}</dl>' if cells else ""


def excerpt(text: str, width: int = _EXCERPT) -> str:
    """The beginning of a text on one line, not escaped."""
    flat = " ".join(text[: 4 * width].split())
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[:width].rsplit(" ", 1)[0] + "…"


def folded(cut: Cut, width: int = _EXCERPT) -> str:
    """A short text as it is, a long one behind its beginning."""
    if cut.left_out == 0 and len(cut.text) <= width and "\n" not in cut.text:
        return f'<span dir="auto">{esc(cut.text)}</span>'
    return (
        f'<details class="text"><summary><span dir="auto">{esc(excerpt(cut.text, width))}</span></summary>'
        f'<div class="full" dir="auto">{esc(cut.text)}{left_out(cut)}</div></details>'
    )


def left_out(cut: Cut) -> str:
    return f' <span class="soft">… {cut.left_out:,} more characters</span>' if cut.left_out else ""
