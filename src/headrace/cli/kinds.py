"""What a word of the command line, the environment or headrace.toml may be: text or TOML's values in, values out.

Whoever converts raises `Wrong` with the reason; where the word stood is told by who asked.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli.words import headers_of, pairs_of, value_of

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Wrong(ValueError):
    """`reason` and `hint` never repeat a value that may be a secret."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class Kind(msgspec.Struct, frozen=True):
    """How words of one kind become values."""

    name: str
    of_word: Callable[[str], Any]
    of_toml: Callable[[Any], Any]
    """From what TOML holds; paths are still as they stand there."""
    repeats: bool = False
    """Whether it may be given several times: `of_word` then makes a part, as a mapping or a list."""
    rebased: Callable[[Any, str], Any] = lambda value, _folder: value
    """The value where headrace.toml is in another folder than the working one: a path is relative to its file."""


def _said(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{_said(value)} is no text", "Put it in quotes.")
    return value


def _number_of(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise Wrong(f"{word!r} is no number", "Give a number.") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"{_said(value)} is no number", "Give a number, without quotes.")
    return float(value)


def _whole_of(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise Wrong(f"{word!r} is no whole number", "Give a number without a point.") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"{_said(value)} is no whole number", "Give a number without a point, and without quotes.")
    return value


def _concurrency_of(word: str) -> int | str:
    try:
        return word if word == "auto" else int(word)
    except ValueError:
        raise Wrong(f"{word!r} is no number and not auto", "Give a number, or auto.") from None


def _concurrency(value: Any) -> int | str:
    return "auto" if value == "auto" else _whole(value)


def _share_of(word: str) -> float:
    """`2%` and `0.02` are the same share."""
    number, percent, rest = word.partition("%")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if rest or math.isnan(share):
        raise Wrong(f"{word!r} is no share such as 2% or 0.02", "Give a share such as 2% or 0.02.")
    return share / 100 if percent else share


def _share(value: Any) -> float:
    return _share_of(value) if isinstance(value, str) else _number(value)


def _switch_of(word: str) -> bool:
    if word.lower() in _TRUE or word.lower() in _FALSE:
        return word.lower() in _TRUE
    raise Wrong(f"{word!r} is neither yes nor no", "Give 1 or 0.")


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{_said(value)} is neither true nor false", "Write true or false, without quotes.")
    return value


def _delimiter_of(word: str) -> str:
    """A tab is hard to type: a backslash and a t are one."""
    return "\t" if word == "\\t" else word


def _params_of(word: str) -> dict[str, Any]:
    return {name: value_of(text) for name, text in pairs_of([word], "--param").items()}


def _params(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Wrong("it is no table", "Write [run.param], and below it name = value.")
    for name, each in value.items():
        try:
            msgspec.json.encode(each)
        except (TypeError, ValueError):
            raise Wrong(
                f"{name} holds what JSON cannot", "Give text, a number, true, false, a list or a table."
            ) from None
        if _has_no_json(each):
            raise Wrong(f"{name} holds what JSON cannot", "Give text, a number, true, false, a list or a table.")
    return dict(value)


def _has_no_json(value: Any) -> bool:
    """Dates and endless numbers: msgspec would make something of them."""
    if isinstance(value, Mapping):
        return any(_has_no_json(each) for each in value.values())
    if isinstance(value, list):
        return any(map(_has_no_json, value))
    return not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value))


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
        raise Wrong("it is no table of texts", 'Write [run.header], and below it Name = "value".')
    return headers_of([f"{name}={each}" for name, each in value.items()])


def _texts(value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Wrong(f"{_said(value)} is no list of texts", 'Write for example ["one", "two"].')
    return found


def _from(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))  # noqa: PTH111, PTH118 - as it was written


def _rebased_text(word: str, folder: str) -> str:
    return f"@{_from(word[1:], folder)}" if word.startswith("@") else word


def _rebased_type(word: str, folder: str) -> str:
    return _from(word, folder) if word.endswith(".json") else word


TEXT = Kind("text", str, _text)
PROMPT = Kind("text", str, _text, rebased=_rebased_text)
TYPE = Kind("text", str, _text, rebased=_rebased_type)
FILE = Kind("path", str, _text, rebased=_from)
STORE = Kind(
    "path", Path, lambda value: Path(_text(value)), rebased=lambda path, folder: Path(_from(str(path), folder))
)
NUMBER = Kind("number", _number_of, _number)
WHOLE = Kind("whole number", _whole_of, _whole)
CONCURRENCY = Kind("whole number or auto", _concurrency_of, _concurrency)
SHARE = Kind("share", _share_of, _share)
SWITCH = Kind("switch", _switch_of, _switch)
DELIMITER = Kind("text", _delimiter_of, lambda value: _delimiter_of(_text(value)))
PARAMS = Kind("table", _params_of, _params, repeats=True)
HEADERS = Kind("table of texts", lambda word: headers_of([word]), _headers, repeats=True)
TEXTS = Kind("list of texts", lambda word: [word], _texts, repeats=True)
