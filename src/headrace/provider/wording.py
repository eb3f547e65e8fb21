"""The words that describe a simulated provider, `a=1,b=2`: a text comes in, words and numbers go out, nonsense is told."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from headrace.core.errors import UsageError

T = TypeVar("T", bound=str)


def pairs(
    text: str, known: Collection[str], who: str, parts: Mapping[str, Collection[str]] | None = None
) -> Iterator[tuple[str, str]]:
    """Each word with its value, in their order.

    A piece without `=` belongs to the value before it (`latency=lognormal:2,0.5`); so does one with a word that is
    among the `parts` of the word before it (`limit=requests=60,kind=fixed`).
    """
    word = value = ""
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        first, found, rest = piece.partition("=")
        first = first.strip()
        if word and (not found or (first not in known and first in (parts or {}).get(word, ()))):
            value += f",{piece}"
            continue
        if not found or first not in known:
            ask = meant(first, known) if found else ""
            raise UsageError(f"{who} does not know {piece!r}.", hint=f"{ask}Write WORD=VALUE with: {', '.join(known)}.")
        if word:
            yield word, value
        word, value = first, rest.strip()
    if word:
        yield word, value


def words(text: str, known: Collection[str], who: str = "The simulated provider") -> dict[str, str]:
    """`a=1,b=2` as a mapping, each word at most once."""
    given: dict[str, str] = {}
    for word, value in pairs(text, known, who):
        if word in given:
            raise UsageError(f"{word} is given twice in {text!r}.", hint="Give it once.")
        given[word] = value
    return given


def number(word: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"{word}={value} is no number.", hint=f"Write for example {word}=0.5.") from None


def whole(word: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{word}={value} is no whole number.", hint=f"Write for example {word}=7.") from None


def one_of(word: str, value: str, known: tuple[T, ...]) -> T:
    for each in known:
        if value == each:
            return each
    hint = f"{meant(value, known)}Write {word}= with one of: {', '.join(known)}."
    raise UsageError(f"{word}={value} is not known.", hint=hint)


def meant(word: str, known: Collection[str]) -> str:
    """The known word that is most like this one, as a question; empty where none is."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}? " if near else ""
