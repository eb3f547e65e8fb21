"""Where a user's function runs. Enters the function and what was said of it, leaves one word; runs nothing."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

from headrace.core.errors import UsageError

Place = Literal["async", "sync", "thread", "process"]
Mode = Literal["hybrid", "async", "sync", "thread", "process"]
MODES: tuple[str, ...] = get_args(Mode)

_MARK = "__headrace_cpu_bound__"
_F = TypeVar("_F", bound=Callable[..., Any])


def cpu_bound(function: _F) -> _F:
    """Marks a plain function as work that keeps a core busy: it then runs in processes, one for each core.

    As a decorator, or around a function of somebody else's: `hr.Map(hr.cpu_bound(parse))`.
    """
    try:
        setattr(function, _MARK, True)
    except (AttributeError, TypeError):  # of C, which holds no marks
        return _Marked(function)  # type: ignore[return-value]
    return function


class _Marked:
    """Around what cannot be marked itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)
        self.__module__ = getattr(function, "__module__", "") or ""
        self.__headrace_cpu_bound__ = True

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._function(*given, **named)


def mode_of(function: Callable[..., Any], mode: str = "hybrid") -> Place:
    """Where it runs. `hybrid` chooses: async functions on the event loop, those marked cpu_bound in processes, others in
    threads; the other words say it: `sync` is one item after another, whatever the function is."""
    if mode not in MODES:
        raise UsageError(f"There is no mode {mode!r}.", hint=f"Give one of {', '.join(MODES)}.")
    on_loop = _is_async(function)
    if mode == "hybrid":
        return "async" if on_loop else "process" if _is_marked(function) else "thread"
    if mode == "async" and not on_loop:
        raise UsageError(
            "mode='async' is for async functions: a plain one would hold up all others.",
            hint="Write `async def`, or leave the mode out: plain functions run in threads.",
        )
    if mode == "thread" and on_loop:
        raise UsageError(
            "mode='thread' is for plain functions, and this one is async.",
            hint="Leave the mode out: async functions run on the event loop.",
        )
    found: Place = mode  # type: ignore[assignment]
    return found


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - the method, not whether there is one


def _is_marked(function: Any) -> bool:
    """Also where it is wrapped by functools.partial, or a method, or an object whose class or call is marked."""
    while function is not None:
        if getattr(function, _MARK, False) or getattr(vars(type(function)).get("__call__"), _MARK, False):
            return True
        function = getattr(function, "func", None)
    return False
