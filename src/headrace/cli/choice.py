"""Which run a person means by a word: its name or id, how that begins, or `last`."""

from collections.abc import Iterable, Sequence

from headrace.core.errors import UsageError
from headrace.core.ports import RunInfo
from headrace.report.signs import printable
from headrace.store.history import SqliteHistory

LAST = "last"
_NAMED = 10
_NAME_WIDTH = 60


def the_run(history: SqliteHistory, word: str) -> RunInfo:
    """With its figures; where several have exactly this name, the last started. Raises UsageError."""
    chosen = meant(history.runs(), word)[0]
    return history.run(chosen.id) or chosen


def meant(runs: Sequence[RunInfo], word: str) -> list[RunInfo]:
    """All runs of exactly this name or id; else the only one that begins so. `runs` has the last started first."""
    exact = [info for info in runs if word in (info.name, info.id)]
    if not exact and word == LAST:
        exact = list(runs[:1])
    begun = [info for info in runs if word and (info.name.startswith(word) or info.id.startswith(word))]
    if exact or len(begun) == 1:
        return exact or begun
    wrong = f"There is no run {word!r}." if not begun else f"{word!r} begins the names of {len(begun)} runs."
    raise UsageError(wrong, hint=f"Runs: {_names(begun or runs)}.")


def _names(runs: Iterable[RunInfo]) -> str:
    names = [printable(info.name, _NAME_WIDTH) for info in runs]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more if names else "none"
