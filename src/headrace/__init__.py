"""headrace: run a language model over everything you have, as fast as the provider allows and never faster, never
paying twice, losing nothing."""

from headrace.api import Run, arun, run, stream
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
from headrace.flow.retry import Retry
from headrace.settings import Limits
from headrace.task.work import Ask, Map

__version__ = "0.1.0"

__all__ = [
    # what to do with every item
    "Ask",
    "Map",
    "Model",
    # doing it
    "Limits",
    "Retry",
    "arun",
    "run",
    "stream",
    # what comes of it
    "Failure",
    "Outcome",
    "Run",
    # what can go wrong
    "AnswerError",
    "CallError",
    "HeadraceError",
    "InputError",
    "ItemError",
    "OutputError",
    "StoreError",
    "UsageError",
]
