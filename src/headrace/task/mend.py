"""A nearly right answer as JSON. Enters the text of an answer that is none, leaves texts that may be one. Pure.

Only what is around the answer and how it is written is mended: fences and sentences around it, quotes, commas and
brackets, by json-repair. What it says stays; whether it will do is checked by who asked.
"""

import re
from collections.abc import Iterator

import msgspec

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_MOST_CHARACTERS = 1_000_000
"""Longer texts are not looked at: mending is slow."""


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
    from json_repair import repair_json  # noqa: PLC0415 - slow to import, and seldom needed

    found = repair_json(fenced[0] if len(fenced) == 1 else text[start:], return_objects=True)
    if isinstance(found, dict) and found:
        yield msgspec.json.encode(found).decode()
