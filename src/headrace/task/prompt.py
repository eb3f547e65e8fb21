"""Templates: text with `{column}` in it, `{{` and `}}` for braces. Enters an item's fields, leaves the text to send."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.core.digest import canonical
from headrace.core.errors import ItemError, UsageError

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

WHOLE = "item"
"""The field that stands for the whole item where it has no columns."""


class Template:
    """A parsed template. Raises UsageError for a brace that is neither doubled nor around a name."""

    def __init__(self, text: str, stage: str = "") -> None:
        """`stage` is whose prompt it is, where there are several."""
        self.text = text
        self._whose = f"The prompt of {stage}" if stage else "The prompt"
        self._unknown = "no such column comes to it" if stage else "the input has no such column"
        self._named = f", which the prompt of {stage} names" if stage else ""
        self._parts: list[tuple[bool, str]] = []  # (is a field, its name or the literal text)
        end = 0
        literal = ""
        for token in _TOKEN.finditer(text):
            literal += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                literal += token[0][0]
            elif token[1] is None or not token[1].strip():
                raise UsageError(
                    f"{self._whose if stage else 'The template'} has a lone {token[0]!r} at character {token.start() + 1}.",
                    hint="Write {column} for a column's value, and {{ or }} for a brace of its own.",
                )
            else:
                self._parts += [(False, literal), (True, token[1])]
                literal = ""
        self._parts.append((False, literal + text[end:]))
        self.fields = tuple(dict.fromkeys(name for is_field, name in self._parts if is_field))
        self.same = len(self._parts[0][1])
        """Characters before the first column."""

    def check(self, columns: Iterable[str], *, needed: bool = True) -> None:
        """Raises UsageError where the template names a column that is not among `columns`, or, where one is `needed`,
        none at all."""
        known = list(columns)
        if needed and not self.fields:
            raise UsageError(
                f"{self._whose} names no column, so every item would get the same question.",
                hint=f"Put a column in braces, for example {{{known[0] if known else WHOLE}}}. There are: {_listed(known)}.",
            )
        for name in self.fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {{{near[0]}}}? " if near else ""
                if len(known) == 1 and any(sign in known[0] for sign in ";\t|"):
                    hint = "Its columns seem to be separated by something else than commas. "
                raise UsageError(
                    f"{self._whose} names {{{name}}}, and {self._unknown}.",
                    hint=f"{hint}There are: {_listed(known)}.",
                )

    def is_empty(self, data: Any) -> bool:
        """Whether the item has nothing to put in: a model would invent an answer, and be paid for it."""
        fields = data if isinstance(data, Mapping) else {WHOLE: data}
        return all(name in fields and not _text(fields[name]).strip() for name in self.fields)

    def fill(self, data: Any) -> str:
        """The text for one item. Raises ItemError where it lacks a column or holds text that is no Unicode."""
        fields = data if isinstance(data, Mapping) else {WHOLE: data}
        try:
            return "".join([_text(fields[part]) if is_field else part for is_field, part in self._parts])
        except KeyError as missing:
            raise ItemError(
                f"The item has no column {missing.args[0]!r}{self._named}.", hint=f"It has: {_listed(list(fields))}."
            ) from None


def columns_of(data: Any) -> tuple[str, ...]:
    """The names a template may use for this item."""
    return tuple(data) if isinstance(data, Mapping) else (WHOLE,)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else canonical(value).decode()


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"
