"""A nearly right answer as JSON. Enters the text of an answer that is none, leaves texts that may be one. Pure.

Only what is around the answer and how it is written is mended: fences and sentences around it, quotes, commas and
brackets, by json-repair. What it says stays; whether it will do is checked by who asked.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, SupportsIndex

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_MOST_CHARACTERS = 60_000
"""Longer texts are not looked at: mending is slow."""
_STEPS = 20_000
_STEPS_PER_CHARACTER = 6
"""Looks at a text that may be taken to mend it: what is nearly right takes about 3 a character, brackets and quotes without
end take a number that grows with their square (10,000 of them: half a minute)."""
_COPIED = 256
"""Characters that are copied in the time of one look."""


class _TooMuch(Exception):
    """More looks than a nearly right answer takes."""


class _Watched(str):
    """A text that counts how often it is looked at, also in its parts."""

    __slots__ = ("left",)
    left: list[int]

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        found = super().__getitem__(key)
        self.left[0] -= 1 + len(found) // _COPIED
        if self.left[0] < 0:
            raise _TooMuch
        return _watched(found, self.left) if isinstance(key, slice) else found

    def __add__(self, other: str) -> str:
        return _watched(super().__add__(other), self.left)


def _watched(text: str, left: list[int]) -> _Watched:
    watched = _Watched(text)
    watched.left = left
    return watched


def mended(text: str) -> Iterator[str]:
    """Candidates, the least changed first."""
    if len(text) > _MOST_CHARACTERS:
        return
    fenced = _FENCED.findall(text)
    if len(fenced) == 1:
        yield fenced[0]
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return
    if end > start:
        yield text[start : end + 1]
    found = _repaired(fenced[0] if len(fenced) == 1 else text[start:])
    if found:
        yield found


def _repaired(text: str) -> str | None:
    from json_repair import repair_json  # noqa: PLC0415 - slow to import, and seldom needed

    left = [_STEPS + _STEPS_PER_CHARACTER * len(text)]
    try:
        found: Any = repair_json(_watched(text, left), return_objects=True)
        return json.dumps(found, allow_nan=False) if isinstance(found, dict) and found else None
    except (ValueError, RecursionError, _TooMuch):  # too deep, no number, too slow
        return None
