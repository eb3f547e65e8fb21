"""What a user's function made of an item, as a Reply or as an error of the tree. Knows nothing of where it ran.

Its result must have a JSON form, because an outcome is stored before it is delivered.
"""

import time
from collections.abc import Awaitable, Callable
from types import GeneratorType
from typing import Any

import msgspec

from headrace.core.call import Reply
from headrace.core.errors import FunctionError, HeadraceError
from headrace.core.jsonform import json_form


class Awaited(BaseException):
    """A plain function gave something to await, as `lambda item: chain.ainvoke(item)` does: nothing went wrong."""

    def __init__(self, result: Awaitable[Any]) -> None:
        super().__init__("to be awaited")
        self.result = result


def worked(function: Callable[[Any], Any], item: Any) -> Reply:
    """`function(item)` as a Reply; raises nothing but errors of the tree, and interrupts. A function that would end the
    program, as sys.exit does, fails its item."""
    try:
        result = function(item)
        if isinstance(result, GeneratorType):
            result = list(result)  # here, so that what it raises is the function's own error
    except (HeadraceError, Awaited, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise error_in(error) from error
    return reply_of(result)


def reply_of(result: Any) -> Reply:
    try:
        return Reply(msgspec.json.encode(result, enc_hook=json_form).decode())
    except (TypeError, ValueError, RecursionError) as error:
        raise FunctionError(
            f"The function returned {type(result).__name__}, which has no JSON form ({error}).",
            hint="Return text, numbers, lists, dicts, dataclasses or Pydantic models: outcomes are stored before they are delivered.",
        ) from error


def error_in(error: BaseException) -> HeadraceError:
    """An SDK's error is treated as our own call's would be; any other is this item's."""
    from headrace.provider.foreign import foreign_error, told  # noqa: PLC0415 - a worker starts sooner without it

    return foreign_error(error, time.time()) or FunctionError(
        told(error), hint="The function raised this for this item; mend it, and run again."
    )
