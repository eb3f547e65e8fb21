"""What holds: flags before the environment before headrace.toml before defaults, each value with where it stood.

Enters what argparse found, leaves the same with every word decided. Raises UsageError, which names the place.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.cli import kinds
from headrace.cli.flags import FLAGS, Flag
from headrace.cli.kinds import Wrong
from headrace.cli.tomlfile import TomlFile, nearest
from headrace.core.errors import HeadraceError, UsageError
from headrace.core.model import Model
from headrace.data.table import Table
from headrace.settings import Budget, Limits, Settings
from headrace.task.work import Ask

TABLE = "run"
_SHOWN = ("json", "quiet", "debug")
"""Who says these sees that they hold."""
_SECRET = re.compile(
    r"(^|[-_.])((api|access|auth|secret|private|subscription)[-_]?key|token|secret|password|passwd|credentials?|"
    r"authorization|cookie)$",
    re.IGNORECASE,
)


class Found(msgspec.Struct, frozen=True):
    """A value and where it stood: `--model`, a variable's name, a file's key, or nothing where it is the default."""

    value: Any
    origin: str = "default"
    """flag, environment, file or default."""
    place: str = ""
    key: tuple[str, ...] = ()
    """In headrace.toml."""

    @property
    def is_default(self) -> bool:
        return self.origin == "default"


class Configuration(msgspec.Struct, frozen=True):
    """All words of one command, decided. Of those that are tables, each name by itself as `param.seed`."""

    found: Mapping[str, Found]
    file: TomlFile | None

    def said(self) -> str:
        """What was not said on the command line, in a sentence; empty where that is nothing."""
        told = {name: found for name, found in self.found.items() if name not in _SHOWN}
        words = [name for name, found in told.items() if found.origin == "file"]
        variables = list(dict.fromkeys(each.place for each in told.values() if each.origin == "environment"))
        parts = [f"{self.file.path} says {', '.join(words)}"] if self.file is not None and words else []
        parts += [f"{'the' if parts else 'The'} environment says {', '.join(variables)}"] if variables else []
        return f"{'; '.join(parts)}." if parts else ""


def configured(args: argparse.Namespace, environ: Mapping[str, str], folder: Path) -> Configuration:
    """Decide every word that this command takes, and put the values into `args`."""
    flags = [FLAGS[name] for name in args.flags]
    home = environ.get("HOME") or environ.get("USERPROFILE")
    file = nearest(folder, Path(home).resolve() if home else None)
    in_file = _of_file(file) if file is not None else {}
    found: dict[str, Found] = {}
    for flag in flags:
        given = getattr(args, flag.place)
        sources = [_of_flag(flag, given), _of_variable(flag, environ), in_file.get(flag.name)]
        if flag.kind.repeats and flag.kind is not kinds.TEXTS:
            parts = _merged(flag, [each for each in sources if each is not None])
            found |= {f"{flag.name}.{name}": each for name, each in parts.items()}
            setattr(args, flag.place, {name: each.value for name, each in parts.items()})
        else:
            found[flag.name] = next((each for each in sources if each is not None), Found(flag.nothing))
            setattr(args, flag.place, found[flag.name].value)
    return Configuration(found, file)


def _merged(flag: Flag, sources: Sequence[Found]) -> dict[str, Found]:
    """A table's names, each from the first that has it. HTTP takes X-Team and x-team for one header."""
    parts: dict[str, Found] = {}
    seen: set[str] = set()
    for source in sources:
        for name, value in source.value.items():
            folded = name.lower() if flag.kind is kinds.HEADERS else name
            if folded not in seen:
                seen.add(folded)
                key = (*source.key, name) if source.key else ()
                parts[name] = msgspec.structs.replace(source, value=value, key=key)
    return parts


def _of_flag(flag: Flag, given: Any) -> Found | None:
    if given is None:
        return None
    place = f"--{flag.name}"
    if flag.kind is kinds.SWITCH:
        return Found(given, "flag", place)
    value = _converted(flag, given if flag.kind.repeats else [given], place)
    _check(flag, value, place)
    return Found(value, "flag", place)


def _of_variable(flag: Flag, environ: Mapping[str, str]) -> Found | None:
    """An empty variable says nothing. Several pairs or columns stand in lines of their own."""
    text = environ.get(flag.variable, "")
    if not text.strip():
        return None
    words = [line for line in text.splitlines() if line.strip()] if flag.kind.repeats else [text]
    value = _converted(flag, words, flag.variable)
    if flag.kind in (kinds.FILE, kinds.STORE):
        value = flag.kind.rebased(value, "")
    _check(flag, value, flag.variable)
    return Found(value, "environment", flag.variable)


def _converted(flag: Flag, words: Sequence[str], place: str) -> Any:
    try:
        values = [flag.kind.of_word(word) for word in words]
    except Wrong as wrong:
        raise UsageError(f"{place}: {wrong.reason}.", hint=wrong.hint) from None
    except UsageError as wrong:
        raise (wrong if place.startswith("--") else UsageError(f"{place}: {wrong.message}", hint=wrong.hint)) from None
    if not flag.kind.repeats:
        return values[0]
    if flag.kind is kinds.TEXTS:
        return [part for value in values for part in value]
    return {name: part for value in values for name, part in value.items()}


def _of_file(file: TomlFile) -> dict[str, Found]:
    """Every key of the file, also those that this command does not take: what is wrong with one is told at once."""
    for name, table in file.tables.items():
        if name != TABLE:
            raise UsageError(
                f"{file.path}: there is no table [{name}]." if isinstance(table, Mapping) else f"{file.path}: {name} stands in no table.",
                hint=f"Settings stand under [{TABLE}].",
            )  # fmt: skip
        if not isinstance(table, Mapping):
            raise UsageError(f"{file.path}: {name} is no table.", hint=f"Write [{TABLE}], and settings below it.")
    return {name: _of_key(file, name, value) for name, value in file.tables.get(TABLE, {}).items()}


def _of_key(file: TomlFile, name: str, value: Any) -> Found:
    place = f"{file.path}, [{TABLE}] {name}"
    flag = FLAGS.get(name)
    if flag is None:
        raise _unknown(name, place)
    try:
        made = flag.kind.of_toml(value)
    except Wrong as wrong:
        raise UsageError(f"{place}: {wrong.reason}.", hint=wrong.hint) from None
    except UsageError as wrong:  # of a header
        raise UsageError(f"{file.path}, [{TABLE}.{name}]: {wrong.message}", hint=wrong.hint) from None
    for each in made if isinstance(made, Mapping) else ():
        if _SECRET.search(each):
            raise _secret(f"{file.path}, [{TABLE}.{name}] {each}", f"HEADRACE_{name.upper()}='{each}=...'")
    made = flag.kind.rebased(made, file.folder)
    _check(flag, made, place)
    return Found(made, "file", place, (TABLE, name))


def _unknown(name: str, place: str) -> UsageError:
    if _SECRET.search(name):
        return _secret(place, "OPENAI_API_KEY")
    import difflib  # noqa: PLC0415 - for who mistyped alone

    near = difflib.get_close_matches(name.replace("_", "-"), FLAGS, 1)
    hint = f"Did you mean {near[0]}?" if near else "Its keys are the words of headrace run; see headrace run --help."
    return UsageError(f"{place}: there is no such setting.", hint=hint)


def _secret(place: str, variable: str) -> UsageError:
    return UsageError(
        f"{place}: a secret does not belong into a file that is shared.",
        hint=f"Take it out of the file, and put it into the environment as {variable}.",
    )


def _check(flag: Flag, value: Any, place: str) -> None:
    """What the run would say of it when it begins, said of the place where it stands; a flag is seen as it is."""
    check = _CHECKS.get(flag.name)
    if check is None:
        return
    try:
        check(value)
    except HeadraceError as error:
        told = error.message if place.startswith("--") else f"{place}: {error.message}"
        raise UsageError(told, hint=error.hint) from None


_CHECKS: dict[str, Callable[[Any], object]] = {
    "concurrency": lambda value: Limits(concurrency=value),
    "rpm": lambda value: Limits(rpm=value),
    "tpm": lambda value: Limits(tpm=value),
    "timeout": lambda value: Settings(timeout_s=value),
    "deadline": lambda value: Settings(deadline_s=value),
    "budget": Budget,
    "budget-name": lambda value: Budget(1.0, value),
    "backup": lambda value: Settings(backup=value),
    "max-failure-rate": lambda value: Settings(max_failure_rate=value),
    "first": lambda value: Settings(first=value),
    "store": lambda value: Settings(store=value),
    "model": Model,
    "base-url": lambda value: Model("openai:m", base_url=value),
    "samples": lambda value: Ask("", samples=value),
    "max-tokens": lambda value: Ask("", max_tokens=value),
    "temperature": lambda value: Ask("", temperature=value),
    "delimiter": lambda value: Table("-", delimiter=value),
}
