"""What a run was told in, the list of what was asked of what out; nothing that could be a secret."""

import re
from collections.abc import Mapping
from typing import Any

from headrace.report.html import esc, excerpt, left_out
from headrace.report.sample import Cut
from headrace.report.schema import declared_type, is_nullable, paths_of
from headrace.report.text import shown

_PROMPT_LINES = 14
_PROMPT_CHARACTERS = 1_200
_LONG = 140
_ENTRY_MAX = 20_000
_DEPTH_MAX = 2
_FIELDS_SHOWN = 60
_CHOICES_SHOWN = 300
_LABELS = {
    "path": "File",
    "model": "Model",
    "base_url": "Address",
    "system": "System message",
    "ask": "Prompt",
    "prompt": "Prompt",
    "template": "Prompt",
    "name": "Function",
    "version": "Version",
    "returns": "Answer type",
    "schema": "Answer",
    "params": "Parameters",
    "temperature": "Temperature",
    "max_tokens": "Maximum tokens",
    "samples": "Samples of each item",
    "images": "Columns of images",
    "sheet": "Sheet",
    "query": "Query",
    "key": "Key column",
    "first": "First rows only",
}
_TEMPLATES = frozenset({"ask", "prompt", "template"})
_INTERNAL = frozenset({"budget", "work", "named", "fields", "arrow_schema", "typed", "keep_prompts"})
"""Of use to a resumption, not to a reader."""
_HIDDEN = frozenset({"api_key", "apikey", "authorization", "header", "headers", "password", "secret", "token"})
_NESTED = frozenset({"task", "request", "model"})
_USER_IN_URL = re.compile(r"(\w+://)[^/@\s]+@")
_PLACE = re.compile(r"\{\{|\}\}|\{[^{}\n]{1,80}\}")


def asked_list(source: str, spec: Mapping[str, Any]) -> str:
    """Entry by entry, as a list of terms."""
    spec = {str(name): value for name, value in spec.items()}
    path = spec.pop("path", None)
    where = path if isinstance(path, str) and path else source
    entries = [("Source", _entry(_name_of(where)))] if where else []
    stages = spec.pop("stages", None)
    if isinstance(stages, list):
        for name in ("pipeline", "schema", "model"):
            spec.pop(name, None)
        entries += [_stage(stage) for stage in stages if isinstance(stage, Mapping)]
    return _list([*entries, *_asked(spec)])


def _stage(told: Mapping[str, Any]) -> tuple[str, str]:
    """One stage of a pipeline: its name, and what it does."""
    spec = {name: value for name, value in told.items() if name not in ("stage", "kind") and value is not False}
    name, kind = str(told.get("stage") or ""), str(told.get("kind") or "")
    said = f'<p class="soft">{esc(kind)}</p>' if kind and kind != name else ""
    return name, f"{said}{_list(_asked(spec))}"


def _asked(spec: dict[str, Any]) -> list[tuple[str, str]]:
    schema = spec.get("schema")
    if not (isinstance(schema, Mapping) and (fields := _fields(schema))):
        return _entries(spec, depth=0)
    spec.pop("schema")
    returns = spec.pop("returns", None)
    line = _entry(returns) if isinstance(returns, str) else ""
    return [*_entries(spec, depth=0), ("Answer", f"{line}{fields}")]


def _list(entries: list[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{content}</dd>" for name, content in entries)
    return f'<dl class="asked">{rows}</dl>' if rows else ""


def _name_of(source: str) -> str:
    """A file's name without its folders, which are nobody's business where a report goes; an address as it is."""
    return source if "://" in source else re.split(r"[/\\]", source.rstrip("/\\"))[-1] or source


def _entries(spec: Mapping[str, Any], depth: int) -> list[tuple[str, str]]:
    order = list(_LABELS)
    names = sorted((str(name) for name in spec), key=lambda n: order.index(n) if n in _LABELS else len(order))
    entries: list[tuple[str, str]] = []
    for name in names:
        value = spec.get(name)
        if name.lower() in _HIDDEN or name in _INTERNAL or value is None or value in ("", {}, [], ()):
            continue
        if name == "samples" and value == 1:
            continue
        if isinstance(value, Mapping) and name in _NESTED and depth < _DEPTH_MAX:
            entries += _entries(value, depth + 1)
        else:
            label = _LABELS.get(name, name.replace("_", " ").capitalize())
            entries.append((label, _entry(shown(_without_secrets(value)), template=name in _TEMPLATES)))
    return entries


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_secrets(v) for k, v in value.items() if str(k).lower() not in _HIDDEN}
    if isinstance(value, list | tuple):
        return [_without_secrets(part) for part in value]
    return value


def _entry(text: str, *, template: bool = False) -> str:
    text = _USER_IN_URL.sub(r"\1", text)
    said = _places_marked(text[:_ENTRY_MAX]) if template else esc(text[:_ENTRY_MAX])
    whole = f'<pre dir="auto">{said}{left_out(Cut("", max(0, len(text) - _ENTRY_MAX)))}</pre>'
    if len(text) > _PROMPT_CHARACTERS or text.count("\n") >= _PROMPT_LINES:
        return f'<details><summary><span dir="auto">{esc(excerpt(text))}</span></summary>{whole}</details>'
    return whole if template or "\n" in text or len(text) > _LONG else f'<span dir="auto">{said}</span>'


def _places_marked(text: str) -> str:
    """A template in which one sees where the columns go."""
    pieces, at = [], 0
    for place in _PLACE.finditer(text):
        if place[0] in ("{{", "}}"):
            continue
        pieces += [esc(text[at : place.start()]), f"<mark>{esc(place[0])}</mark>"]
        at = place.end()
    return "".join([*pieces, esc(text[at:])])


def _fields(schema: Mapping[str, Any]) -> str:
    """The fields that an answer has, as a table."""
    found = list(paths_of(schema))
    rows = "".join(_field(path, part) for path, part in found[:_FIELDS_SHOWN])
    more = len(found) - _FIELDS_SHOWN
    rest = f'<tr><td class="soft" colspan="2">and {more:,} more</td></tr>' if more > 0 else ""
    return f'<table class="shape"><tbody>{rows}{rest}</tbody></table>' if rows else ""


def _field(path: str, part: Mapping[str, Any]) -> str:
    choices = part.get("enum") or (part["items"].get("enum") if isinstance(part.get("items"), Mapping) else None)
    kind = declared_type(part) or "any"
    if isinstance(choices, list):
        words = ", ".join(shown(choice) for choice in choices)
        kind = f"{kind}: {words[:_CHOICES_SHOWN]}{'…' if len(words) > _CHOICES_SHOWN else ''}"
    if is_nullable(part):
        kind += ", may be empty"
    about = part.get("description")
    said = f'<br><span class="soft small" dir="auto">{esc(about[:400])}</span>' if isinstance(about, str) else ""
    return f'<tr><th scope="row" dir="auto">{esc(path)}</th><td dir="auto">{esc(kind)}{said}</td></tr>'
