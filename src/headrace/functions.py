"""A user's functions as the stages of a pipeline take them. Enters functions and Maps, leaves Maps, names, and calls whose
errors say which stage they are of."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.core.call import Call, Request, StillRunning
from headrace.core.errors import AttemptTimeout, FunctionError, HeadraceError, UsageError
from headrace.task.function import FunctionTask
from headrace.task.stages import Reduce
from headrace.task.work import Map


def reducing(task: FunctionTask, call: Call, timeout_s: float) -> Callable[[Any], Awaitable[Any]]:
    async def reduced(gathered: Any) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                reply = await call(Request(task.digest, item=gathered))
        except TimeoutError:
            raise AttemptTimeout(
                f"No answer within {timeout_s:g} s.", hint="Allow more with --timeout (timeout=) if it takes that long."
            ) from None
        except StillRunning:  # the run gives it up; its thread ends by itself
            raise asyncio.CancelledError from None
        return task.value(reply)

    return reduced


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
