"""Column names as a table has them become names that a prompt and a result file can use, each there once.

Enter names, leave names and sentences on what was changed. Knows no format.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

_SHOWN = 5
_BRACES = str.maketrans("{}", "()")


def column_names(names: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names to use, and a notice for each kind of change.

    Blanks around a name are taken off where no other name is then the same; braces, which mark the columns in a prompt,
    become parentheses; a column without a name is `column_3`; of two that are the same the second is `text_2`, or
    whatever number is free.
    """
    notices: list[str] = []

    def tell(what: str, changes: Iterable[tuple[str, str]]) -> None:
        told = [f"{old!r} is {new!r}" if old else repr(new) for old, new in changes]
        if told:
            more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            notices.append(f"{where}: {what}: {', '.join(told[:_SHOWN])}{more}.")

    # of the names that are there, each once, how many become this one
    often = Counter(name.strip() for name in set(names))
    trimmed = [bare if often[bare := name.strip()] == 1 or not bare else name for name in names]
    tell("blanks around column names were taken off", _changed(names, trimmed, named=True))
    plain = [name.translate(_BRACES) for name in trimmed]
    tell("braces in column names became parentheses, as braces mark columns in a prompt", _changed(trimmed, plain))
    filled = _filled(plain)
    tell("columns without a name were named", (("", new) for old, new in zip(plain, filled, strict=True) if not old))
    made = _once(filled)
    tell("column names that appear more than once were numbered", _changed(filled, made))
    return made, tuple(notices)


def _changed(old: Sequence[str], new: Sequence[str], *, named: bool = False) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(old, new, strict=True) if a != b and (b or not named)]


def _filled(names: Sequence[str]) -> list[str]:
    free = _Free(names)
    return [name or free(f"column_{number}") for number, name in enumerate(names, 1)]


def _once(names: Sequence[str]) -> tuple[str, ...]:
    free = _Free(names)
    seen: set[str] = set()
    made = []
    for name in names:
        made.append(free(name) if name in seen else name)
        seen.add(name)
    return tuple(made)


class _Free:
    """Names that no column has: as asked for, else with the next number."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        made = name
        while made in self._taken:
            number = self._numbers[name] = self._numbers.get(name, 1) + 1
            made = f"{name}_{number}"
        self._taken.add(made)
        return made
