"""What the commands of applications have in common with `headrace run`: its words, its display, its exit statuses."""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headrace.cli.execute import Added, execute
from headrace.cli.run import model_of, settings_of, show_prompt, table_of, wishes_of
from headrace.core.errors import UsageError
from headrace.core.model import Model
from headrace.report.text import clean
from headrace.results import Run
from headrace.settings import Budget, budget_of
from headrace.task.pipeline import Pipeline
from headrace.task.work import Ask


def model_of_application(args: argparse.Namespace) -> Model:
    """The model that is named. Raises UsageError where none is."""
    if args.model is None:
        raise UsageError(
            "the following arguments are required: --model.",
            hint="It may also stand in headrace.toml or in the environment. To try things: --model sim:",
        )
    return model_of(args)


def asked_of(args: argparse.Namespace) -> dict[str, Any]:
    """What every question is asked with."""
    return {"temperature": args.temperature, "max_tokens": args.max_tokens, "params": args.param}


def shared_budget(args: argparse.Namespace) -> Budget | None:
    """One for all runs of the command: it has a name."""
    if args.budget is not None and args.budget_name is None:
        args.budget_name = f"headrace {args.input}"
    return budget_of(args.budget, args.budget_name)


def carry_out(
    args: argparse.Namespace, work: Ask[Any] | Pipeline[Any], ending: Callable[[Run[Any]], tuple[bool, list[str]]],
    added: Added | None = None, items: Sequence[Any] | None = None,
) -> int:  # fmt: skip
    """Run it as `headrace run` does. `ending` writes the report, says whether it has all that belongs there, and what
    is to be told; `added` gives columns of its own for each row of the output;
    `items` stand in place of the table."""
    if args.show_prompt:
        return _show_questions(args, work)
    shared_budget(args)
    settings = settings_of(args, key=args.key, name=args.name, first=args.first)
    wishes = msgspec.structs.replace(wishes_of(args, args.input), ending=ending, added=added)
    return execute(work, table_of(args) if items is None else items, settings, wishes)


def _show_questions(args: argparse.Namespace, work: Ask[Any] | Pipeline[Any]) -> int:
    """All that is asked: of the first row where the rows themselves are asked about, else with the names of columns."""
    stages = [work] if isinstance(work, Ask) else list(work)
    for number, stage in enumerate(stages):
        if not isinstance(stage, Ask):
            continue
        print(f"=== {clean(stage.name) or 'the question'}{', for the first row' if number == 0 else ''}")
        if number == 0:
            asyncio.run(show_prompt(stage, table_of(args), args.key))
            continue
        for role, text in (("system", stage.system), ("user", stage.prompt)):
            if text:
                print(f"--- {role}\n{clean(text)}")
    return 0
