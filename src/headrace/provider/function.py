"""A user's own function as a Call: async on the event loop, plain in a thread.

Its result must have a JSON form, because an outcome is stored before it is delivered.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import FunctionError, HeadraceError
from headrace.core.jsonform import json_form
from headrace.provider.foreign import foreign_error, told
from headrace.provider.threads import Threads

Function = Callable[[Any], Any]


def function_call(function: Function, threads: Threads) -> Call:
    """A Call that hands the request's item to `function` and gives back its result as JSON."""
    run = _on_loop(function) if is_async(function) else _in_thread(function, threads)

    async def call(request: Request) -> Reply:
        return await run(request.item)

    return call


def is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - the method, not whether there is one


def _on_loop(function: Function) -> Callable[[Any], Awaitable[Reply]]:
    async def run(item: Any) -> Reply:
        try:
            result = await function(item)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise FunctionError("The function cancelled itself.", hint="Let it raise what went wrong.") from None
        except HeadraceError:
            raise
        except Exception as error:
            raise _ours(error) from error
        return _reply(result)

    return run


def _in_thread(function: Function, threads: Threads) -> Callable[[Any], Awaitable[Reply]]:
    def work(item: Any) -> Reply:
        try:
            result = function(item)
        except HeadraceError:
            raise
        except Exception as error:
            raise _ours(error) from error
        return _reply(result)

    return lambda item: threads.run(work, item)


def _reply(result: Any) -> Reply:
    try:
        return Reply(msgspec.json.encode(result, enc_hook=json_form).decode())
    except (TypeError, ValueError, RecursionError) as error:
        raise FunctionError(
            f"The function returned {type(result).__name__}, which has no JSON form ({error}).",
            hint="Return text, numbers, lists, dicts, dataclasses or Pydantic models: outcomes are stored before they are delivered.",
        ) from error


def _ours(error: Exception) -> HeadraceError:
    """An SDK's error is treated as our own call's would be; any other is this item's."""
    return foreign_error(error, time.time()) or FunctionError(
        told(error), hint="The function raised this for this item; mend it, and run again."
    )
