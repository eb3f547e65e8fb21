"""How words on the command line become values; what is wrong with one is said in a sentence."""

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from headrace.core.errors import InputError, UsageError
from headrace.report.text import one_line
from headrace.task.shorthand import BASES

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(.*)", re.DOTALL)
"""A name as HTTP allows it, and the value."""


class Words(argparse.ArgumentParser):
    """No abbreviations: a word that means something today must not mean something else tomorrow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Each command tells its own unknown words: it knows what they are like."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A word that is none of those which may stand there: argparse itself would not say which is like it."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        near = difflib.get_close_matches(str(value), known, n=1)
        ask = f"Did you mean {near[0]}? " if near else ""
        place, word = "/".join(action.option_strings), one_line(str(value))
        wrong = f"{place} {word!r} is unknown" if place else f"There is no {str(action.metavar).lower()} {word!r}"
        raise UsageError(f"{wrong}.", hint=f"{ask}There are: {', '.join(known)}. See {self.prog} --help.")

    def error(self, message: str) -> NoReturn:
        before, unknown, words = message.partition("unrecognized arguments: ")
        flags = [word.partition("=")[0] for word in words.split() if word.startswith("-")]
        if flags:  # without what follows them: it may be a key
            message = before + unknown + " ".join(flags)
        near = difflib.get_close_matches(flags[0], self._option_string_actions, n=1) if flags else []
        ask = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"{one_line(message)}.", hint=f"{ask}See {self.prog} --help.")


def text_of(word: str) -> str:
    """The word itself, or with `@file` the file's text."""
    if not word.startswith("@"):
        return word
    return _read(Path(word[1:]), "the prompt")


def pairs_of(words: Sequence[str], flag: str) -> dict[str, str]:
    """`K=V` words as a mapping."""
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{flag} {word!r} is no NAME=VALUE.", hint=f"Write for example {flag} name=value.")
        pairs[name.strip()] = value
    return pairs


def headers_of(words: Sequence[str]) -> dict[str, str]:
    """As `pairs_of`; what is wrong is said without the value, which may be a secret."""
    headers: dict[str, str] = {}
    for word in words:
        found = _HEADER.fullmatch(word)
        if found is None:
            name, colon, _ = word.partition(":")
            told = f"--header {name!r}" if colon and " " not in name else "A --header"
            raise UsageError(f"{told} is no NAME=VALUE.", hint="Write for example --header name=value.")
        name, value = found[1], found[2]
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            raise UsageError(
                f"--header {name!r} holds a control character.", hint="Write --header NAME=VALUE in one line."
            )
        headers[name] = value
    return headers


def returns_of(word: str) -> Any:
    """A shorthand line, a JSON schema out of a .json file, or the type behind `module:Name`."""
    if word.endswith(".json"):
        try:
            schema = msgspec.json.decode(_read(Path(word), "the schema"))
        except msgspec.DecodeError as error:
            raise UsageError(f"--returns: {word} is no JSON ({error}).", hint="See json-schema.org.") from None
        if not isinstance(schema, Mapping):
            raise UsageError(
                f"--returns: {word} holds no JSON schema.", hint="A schema is an object; see json-schema.org."
            )
        return schema
    module, colon, name = word.partition(":")
    is_path = all(part.isidentifier() for part in module.split(".")) and name.isidentifier()
    return _imported(module, name) if colon and is_path and name not in BASES else word


def _imported(module: str, name: str) -> Any:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what `python -m` does
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--returns: {name!r} is no type, and there is no module {error.name!r} to take it from.",
            hint=f"As a type, write one of {', '.join(sorted(BASES))}, or choices such as {module}: a|b; or module:Model, where Python "
            "finds the module from here.",
        ) from None
    except AttributeError:
        raise UsageError(f"--returns: the module {module!r} has no {name!r}.", hint="Write module:Model.") from None
    except Exception as error:
        raise UsageError(
            f"--returns: importing {module!r} failed ({type(error).__name__}: {error}).", hint="Mend it."
        ) from error
    finally:
        sys.path.pop(0)


def value_of(text: str) -> Any:
    """JSON where it is some, else text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(
            f"{what[0].upper()}{what[1:]} cannot be read from {path} ({reason}).", hint="Check the path."
        ) from None
