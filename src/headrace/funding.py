"""What a budget needs of the stages of a run: prices, and a maximum output. Enters stages, leaves what a person should know;
raises UsageError where a budget could not be kept."""

from collections.abc import Sequence
from typing import Any

from headrace.core.errors import UsageError
from headrace.endpoints import Endpoint
from headrace.engine.leg import Calling
from headrace.flow.estimate import max_output_of
from headrace.flow.most import CAP
from headrace.settings import Budget
from headrace.task.function import FunctionTask
from headrace.task.work import Ask


class Funded:
    """The stages of one run, as they are made."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget
        self._notices: list[str] = []

    def needs_cap(self, name: str, work: Ask[Any], endpoint: Endpoint) -> bool:
        """Whether this question needs a maximum output that nobody named. Raises UsageError for an unknown price."""
        if self._budget is None:
            return False
        price = endpoint.price
        if price is None:
            raise UsageError(
                f"A budget needs prices, and none is known for {endpoint.model or endpoint.identity[0]}.",
                hint="Give its price in a file: --prices FILE (prices=).",
            )
        if price.is_free or work.max_tokens is not None or max_output_of(work.params) is not None:
            return False
        self._notices.append(
            f"The stage {name} names no maximum output; with a budget it is {CAP:,} tokens. Name another with --max-tokens "
            "(max_tokens=)."
        )
        return True

    def notices(self, stages: Sequence[Calling]) -> tuple[str, ...]:
        """What a person should know before it starts. Raises UsageError where the budget would count nothing."""
        if self._budget is None:
            return ()
        if all(stage.price is None for stage in stages):
            raise UsageError(
                "A budget counts what models cost, and here none is asked.",
                hint="Leave it out: what a function spends is not known.",
            )
        functions = [stage.info.name for stage in stages if isinstance(stage.task, FunctionTask)]
        if functions:
            said = f"What functions spend is no part of the budget: {', '.join(functions)}."
            return (*self._notices, said)
        return tuple(self._notices)
