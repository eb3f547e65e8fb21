"""headrace: run a language model over everything you have, as fast as the provider allows and never faster, never
paying twice, losing nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.core.errors import (
    AnswerError,
    CallError,
    HeadraceError,
    InputError,
    ItemError,
    OutputError,
    StoreError,
    UsageError,
)
from headrace.core.item import Failure, Outcome
from headrace.core.model import Model
from headrace.data.table import Table
from headrace.flow.retry import Retry
from headrace.settings import Budget, Limits
from headrace.task.work import Ask, Map

if TYPE_CHECKING:
    from headrace.api import HeadraceWarning, arun, plan, run, stream
    from headrace.engine.forecast import Plan
    from headrace.report.section import Section
    from headrace.results import Run, runs
    from headrace.task.extract import Extract
    from headrace.task.fetch import Fetch
    from headrace.task.mode import cpu_bound
    from headrace.task.pipeline import Cascade, Pipeline
    from headrace.task.stages import Expand, Filter, Reduce, Top

__version__ = "0.1.0"

__all__ = [
    # what to do with every item
    "Ask",
    "Map",
    "Model",
    "cpu_bound",
    # in which order
    "Cascade",
    "Expand",
    "Extract",
    "Fetch",
    "Filter",
    "Pipeline",
    "Reduce",
    "Top",
    # over what
    "Table",
    # doing it
    "Budget",
    "Limits",
    "Retry",
    "arun",
    "plan",
    "run",
    "stream",
    # what comes of it
    "Failure",
    "Outcome",
    "Plan",
    "Run",
    "Section",
    "runs",
    # what can go wrong
    "AnswerError",
    "CallError",
    "HeadraceError",
    "HeadraceWarning",
    "InputError",
    "ItemError",
    "OutputError",
    "StoreError",
    "UsageError",
]

_LATER = {
    "Cascade": "headrace.task.pipeline",
    "Expand": "headrace.task.stages",
    "Extract": "headrace.task.extract",
    "Fetch": "headrace.task.fetch",
    "Filter": "headrace.task.stages",
    "HeadraceWarning": "headrace.api",
    "Pipeline": "headrace.task.pipeline",
    "Plan": "headrace.engine.forecast",
    "Reduce": "headrace.task.stages",
    "Run": "headrace.results",
    "Section": "headrace.report.section",
    "Top": "headrace.task.stages",
    "arun": "headrace.api",
    "cpu_bound": "headrace.task.mode",
    "plan": "headrace.api",
    "run": "headrace.api",
    "runs": "headrace.results",
    "stream": "headrace.api",
}
"""What runs things is imported when it is first asked for: the help of the command is there in half the time."""

if not TYPE_CHECKING:  # a type checker would believe every name

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
