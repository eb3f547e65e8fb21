"""Text in, safe pieces of HTML out. Every foreign string of a report passes through `esc`.

Knows the page's classes, not what a run is.
"""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.report.survey import Cut
from headrace.report.text import clean, shown

_EXCERPT = 140
_PROMPT_LINES = 14
_PROMPT_CHARACTERS = 1_200
_ENTRY_MAX = 20_000
_DEPTH_MAX = 2
_LABELS = {
    "model": "Model",
    "base_url": "Address",
    "system": "System",
    "ask": "Prompt",
    "prompt": "Prompt",
    "template": "Prompt",
    "returns": "Returns",
    "schema": "Schema",
    "params": "Parameters",
    "temperature": "Temperature",
    "max_tokens": "Maximum tokens",
    "key": "Key column",
    "first": "First rows only",
}
_INTERNAL = frozenset({"work", "path", "named", "fields", "arrow_schema"})
"""Of use to a resumption, not to a reader."""
_HIDDEN = frozenset({"api_key", "apikey", "authorization", "header", "headers", "password", "secret", "token"})
_NESTED = frozenset({"task", "request", "model"})
_USER_IN_URL = re.compile(r"(\w+://)[^/@\s]+@")


def esc(text: str) -> str:
    """Safe between tags and inside quotes of an attribute."""
    return html.escape(clean(text), quote=True)


def element(tag: str, content: str, css: str = "") -> str:
    """`content` is HTML already; nothing comes of nothing."""
    return f"<{tag}{class_of(css)}>{content}</{tag}>" if content else ""


def class_of(css: str) -> str:
    return f' class="{css}"' if css else ""


def figures(css: str, entries: Iterable[tuple[str, str, str]]) -> str:
    """Names and figures with an optional class for the figure, as a list of terms."""
    cells = "".join(
        f"<div><dt>{esc(name)}</dt><dd{class_of(mark)}>{esc(text)}</dd></div>" for name, text, mark in entries
    )
    return f'<dl class="{css}">{cells}</dl>'


def excerpt(text: str, width: int = _EXCERPT) -> str:
    """The beginning of a text on one line, not escaped."""
    flat = " ".join(text[: 4 * width].split())
    return flat if len(flat) <= width else flat[:width].rsplit(" ", 1)[0] + "…"


def folded(cut: Cut) -> str:
    """A short text as it is, a long one behind its beginning."""
    if cut.left_out == 0 and len(cut.text) <= _EXCERPT and "\n" not in cut.text:
        return f'<span dir="auto">{esc(cut.text)}</span>'
    return (
        f'<details class="text"><summary><span dir="auto">{esc(excerpt(cut.text))}</span></summary>'
        f'<div class="full" dir="auto">{esc(cut.text)}{left_out(cut)}</div></details>'
    )


def left_out(cut: Cut) -> str:
    return f' <span class="soft">… {cut.left_out:,} more characters</span>' if cut.left_out else ""


def asked_list(source: str, spec: Mapping[str, Any]) -> str:
    """What was asked of what, entry by entry; nothing that could be a secret."""
    entries = [("Source", source)] if source else []
    if spec.get("returns"):
        spec = {name: value for name, value in spec.items() if name != "schema"}
    entries += _entries(spec, depth=0)
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{_entry(text)}</dd>" for name, text in entries)
    return f'<dl class="asked">{rows}</dl>' if rows else ""


def _entries(spec: Mapping[str, Any], depth: int) -> list[tuple[str, str]]:
    order = list(_LABELS)
    names = sorted((str(name) for name in spec), key=lambda n: order.index(n) if n in _LABELS else len(order))
    entries: list[tuple[str, str]] = []
    for name in names:
        value = spec.get(name)
        if name.lower() in _HIDDEN or name in _INTERNAL or value is None or value in ("", {}, [], ()):
            continue
        if isinstance(value, Mapping) and name in _NESTED and depth < _DEPTH_MAX:
            entries += _entries(value, depth + 1)
        else:
            entries.append((_LABELS.get(name, name.replace("_", " ").capitalize()), shown(_without_secrets(value))))
    return entries


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_secrets(v) for k, v in value.items() if str(k).lower() not in _HIDDEN}
    if isinstance(value, list | tuple):
        return [_without_secrets(part) for part in value]
    return value


def _entry(text: str) -> str:
    text = _USER_IN_URL.sub(r"\1", text)
    whole = f'<pre dir="auto">{esc(text[:_ENTRY_MAX])}{left_out(Cut("", max(0, len(text) - _ENTRY_MAX)))}</pre>'
    if len(text) > _PROMPT_CHARACTERS or text.count("\n") >= _PROMPT_LINES:
        return f'<details><summary><span dir="auto">{esc(excerpt(text))}</span></summary>{whole}</details>'
    return whole if "\n" in text or len(text) > _EXCERPT else f'<span dir="auto">{esc(text)}</span>'
