"""A user's functions as the stages of a pipeline take them. Enters functions and Maps, leaves Maps, names, and calls whose
errors say which stage they are of."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from headrace.core.call import Call, StillRunning
from headrace.core.errors import AttemptTimeout, FunctionError, HeadraceError, UsageError
from headrace.core.item import Item
from headrace.core.jsonform import json_form
from headrace.task.function import FunctionTask
from headrace.task.stages import Reduce
from headrace.task.work import Map


def reducing(task: FunctionTask, call: Call, timeout_s: float) -> Callable[[Any], Awaitable[Any]]:
    async def reduced(gathered: Any) -> Any:
        try:
            async with asyncio.timeout(timeout_s) as limit:
                reply = await call(task.request(Item("", 0, gathered)))
        except (TimeoutError, StillRunning) as error:
            if (
                isinstance(error, StillRunning) and not limit.expired()
            ):  # the run gives it up; its thread ends by itself
                raise asyncio.CancelledError from None
            raise AttemptTimeout(
                f"No answer within {timeout_s:g} s.", hint="Allow more with --timeout (timeout=) if it takes that long."
            ) from None
        return task.value(reply)

    return reduced


def check_start(name: str, start: Any) -> None:
    """Raises UsageError for what no group can begin with: each gets a copy, and it is part of what is kept of the run."""
    try:
        msgspec.json.encode(copy.deepcopy(start), enc_hook=json_form)
    except Exception as error:
        raise UsageError(
            f"The start of {name} is {type(start).__name__}, which cannot be copied and written as JSON ({error}).",
            hint="Begin with text, numbers, lists, dicts or sets, and let the fold make of them what it needs.",
        ) from error


def groups_at_once(work: Reduce) -> int:
    given = work.function.concurrency if isinstance(work.function, Map) else None
    return given or 16


def map_of(given: Map[Any] | Callable[[Any], Any]) -> Map[Any]:
    if not isinstance(given, Map):
        return Map(given)
    if given.when or given.failure:
        raise UsageError(
            "The function of a Filter, an Expand or a Reduce has no when and no failure.", hint="Put a Map before it."
        )
    return given


def label_of(function: Any) -> str:
    """What a function that is not named is known by."""
    function = function.function if isinstance(function, Map) else function
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def quick(name: str, function: Callable[[Any], Any], row: Any) -> Any:
    try:
        return function(row)
    except (HeadraceError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise FunctionError(
            f"{name}: {type(error).__name__}: {error}", hint="The function raised this for this item; mend it."
        ) from error
