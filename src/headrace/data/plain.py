"""Any Python value becomes what JSON holds, the same before and after it went through the store.

Knows nothing of files. What has no such form is refused with a UsageError.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from headrace.core.digest import canonical
from headrace.core.errors import UsageError

_AS_TEXT = (date, time, timedelta, Decimal, UUID, bytes, bytearray, memoryview)
"""Written as msgspec writes them: ISO 8601, digits, hex with dashes, base64 (a datetime is a date)."""

_MISSING = frozenset(("NAType", "NaTType"))
"""Of pandas, which is not imported for them: NaT passes for a datetime otherwise."""
_SPANS = frozenset(("Period", "Interval"))
_TEXT = frozenset((str,))
_SIMPLE = frozenset((str, int, bool, type(None)))


def plain(value: Any) -> Any:
    """Mappings and records become dicts, sequences and sets lists, NaN and infinities None, dates and the like text."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is dict:
        if _TEXT.issuperset(map(type, value)) and _SIMPLE.issuperset(map(type, value.values())):
            return value.copy()
        return _mapping(value)
    if kind is list:
        return [plain(each) for each in value]
    return _unusual(value)


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    made = {key if type(key) is str else _name(key): plain(each) for key, each in value.items()}
    if len(made) != len(value):
        raise UsageError(
            f"A mapping has two keys that are the same as text: {_cut(value)}.",
            hint="Give the keys different names.",
        )
    return made


def _name(key: Any) -> str:
    made = plain(key)
    if made is None or isinstance(made, dict | list):
        raise UsageError(f"A mapping has the key {_cut(key)}, which is no name.", hint="Use text as keys.")
    return made if isinstance(made, str) else canonical(made).decode()


def _unusual(value: Any) -> Any:
    """Everything that is not exactly one of JSON's own types."""
    if _is_of_pandas(value, _MISSING):
        return None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str | int | float):
        # a subclass, which may write itself differently
        return (
            str.__str__(value) if isinstance(value, str) else plain((int if isinstance(value, int) else float)(value))
        )
    if isinstance(value, _AS_TEXT):
        return _text_of(value)
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    if not isinstance(value, type):
        # a Pydantic model; then numpy's scalars and arrays
        for method, arguments in (("model_dump", {"mode": "json"}), ("tolist", {})):
            if callable(give := getattr(value, method, None)):
                return plain(give(**arguments))
        return _container(value)
    raise _unknown(value)


def _text_of(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except TypeError:  # of a type derived from one of these, as pandas' Timestamp and Timedelta are
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, timedelta):
            return msgspec.to_builtins(timedelta(value.days, value.seconds, value.microseconds))
        return msgspec.to_builtins(bytes(value)) if isinstance(value, bytes | bytearray) else str(value)


def _container(value: Any) -> Any:
    fields = _fields(value)
    if fields is not None:
        return _mapping(fields)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=canonical)
    if _is_of_pandas(value, _SPANS):
        return str(value)
    raise _unknown(value)


def _is_of_pandas(value: object, names: frozenset[str]) -> bool:
    kind = type(value)
    return kind.__name__ in names and kind.__module__.partition(".")[0] == "pandas"


def _unknown(value: object) -> UsageError:
    return UsageError(
        f"A value of type {kind_name(value)} cannot be stored as JSON.",
        hint="Pass text, numbers, lists, dicts, dataclasses, or Pydantic models.",
    )


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """The fields of a record, by name; None where it is no record."""
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, tuple) and callable(getattr(value, "_asdict", None)):
        named: Mapping[Any, Any] = value._asdict()  # type: ignore[attr-defined]
        return named
    return None


def weight(value: Any) -> int:
    """About how many bytes a plain value holds in memory."""
    kind = type(value)
    if kind is str:
        return len(value) + 50
    if kind is dict:
        total = 200
        for each in value.values():
            inner = type(each)
            if inner is str:
                total += len(each) + 50
            else:
                total += weight(each) if inner is dict or inner is list else 30
        return total
    if kind is list:
        return 60 + sum(map(weight, value))
    return 30


def kind_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _cut(value: object, most: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}..."
