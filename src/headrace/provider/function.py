"""A user's own function as a Call: async on the event loop, plain in a thread. A LangChain runnable is one too."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import FunctionError, HeadraceError
from headrace.provider.result import Awaited, error_in, reply_of, worked
from headrace.provider.threads import Threads

Function = Callable[[Any], Any]


def function_call(function: Any, threads: Threads, *, on_loop: bool) -> Call:
    """A Call that hands the request's item to `function`, which is async where it runs on the loop, and gives back its
    result as JSON."""
    function = called(function)
    run = _on_loop(function) if on_loop else _in_thread(function, threads)

    async def call(request: Request) -> Reply:
        return await run(request.item)

    return call


def called(work: Any, *, plain: bool = False) -> Any:
    """What is called with an item: of a runnable (LangChain, LangGraph) its `ainvoke`, or with `plain` its `invoke`;
    `work` itself where it is none."""
    if isinstance(work, type) or not (callable(getattr(work, "invoke", None)) and hasattr(work, "ainvoke")):
        return work
    return work.invoke if plain or not callable(work.ainvoke) else work.ainvoke


def _on_loop(function: Function) -> Callable[[Any], Awaitable[Reply]]:
    async def run(item: Any) -> Reply:
        try:
            result = await function(item)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise FunctionError("The function cancelled itself.", hint="Let it raise what went wrong.") from None
        except (HeadraceError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise error_in(error) from error
        return reply_of(result)

    return run


def _in_thread(function: Function, threads: Threads) -> Callable[[Any], Awaitable[Reply]]:
    def finished(item: Any) -> Any:
        result = function(item)
        if inspect.isawaitable(result):
            raise Awaited(result)
        return result

    async def run(item: Any) -> Reply:
        try:
            return await threads.run(lambda each: worked(finished, each), item)
        except Awaited as awaited:
            result = awaited.result
        return await _on_loop(lambda _item: result)(item)

    return run
