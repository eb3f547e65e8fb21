"""Whether the fields of a value are what their types say, which a Struct does not look at. Enters a kind of value and
what is given for its fields; raises UsageError."""

import collections.abc
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from headrace.core.errors import UsageError

_WORDS: dict[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts",
    collections.abc.Mapping: "a mapping", collections.abc.Callable: 'a function (in a file {import = "module:name"})',
}  # fmt: skip


def check_fields(kind: type[msgspec.Struct], given: Mapping[str, Any], where: str) -> None:
    """`where` is how the sentence calls the value. What is no type of ours is left to the value itself."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in given.items():
        wanted = list(_alternatives(types[name]))
        if not any(_fits(value, each) for each in wanted):
            words = [_WORDS[each] for each in wanted if each in _WORDS]
            raise UsageError(
                f"{name!r} of {where} is {value!r:.80}.", hint=f"Give {' or '.join(dict.fromkeys(words)) or 'another'}."
            )


def _alternatives(wanted: Any) -> list[Any]:
    if get_origin(wanted) in (Union, UnionType):
        return [each for part in get_args(wanted) for each in _alternatives(part)]
    if get_origin(wanted) is Literal or isinstance(wanted, TypeVar):
        return [Any]
    return [get_origin(wanted) or wanted]


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is Any or wanted is object:
        return True
    if wanted is collections.abc.Callable:
        return callable(value) or hasattr(value, "invoke")
    if wanted is tuple:
        return isinstance(value, tuple | list) and all(isinstance(each, str) for each in value)
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, int | float)
    if getattr(wanted, "_is_protocol", False):  # told by what it has
        return hasattr(value, "invoke")
    return isinstance(value, wanted) if isinstance(wanted, type) else True
