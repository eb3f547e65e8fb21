"""`headrace run`: a table, a question and a model; answers on the terminal, in a file and in a report."""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from headrace.api import spare_source
from headrace.assembly import request_of, with_images
from headrace.cli.configuration import Configuration
from headrace.cli.execute import Wishes, execute
from headrace.cli.flags import add_run_arguments
from headrace.cli.pipeline import pipeline_of, take_pipeline
from headrace.cli.words import returns_of, text_of
from headrace.core.errors import InputError, UsageError
from headrace.core.model import Model
from headrace.data.sink import check_output
from headrace.data.source import open_source
from headrace.data.table import Table
from headrace.report.text import clean
from headrace.settings import Limits, Settings, budget_of
from headrace.task.pipeline import Pipeline
from headrace.task.work import Ask

_WITHOUT_ADDRESS = ("local", "sim")

__all__ = [
    "Wishes",
    "add_run_arguments",
    "asked_of",
    "execute",
    "model_of",
    "run",
    "settings_of",
    "show_prompt",
    "wishes_of",
    "work_of",
]


def work_of(args: argparse.Namespace) -> Ask:
    """What is asked. Raises UsageError where a word is missing without which nothing can be."""
    _check_there(args)
    return Ask(
        text_of(args.ask), system=text_of(args.system) if args.system else None,
        returns=returns_of(args.returns) if args.returns else None, model=model_of(args),
        temperature=args.temperature, max_tokens=args.max_tokens, params=args.param, images=tuple(args.image),
        samples=args.samples,
    )  # fmt: skip


def asked_of(args: argparse.Namespace) -> Ask[Any] | Pipeline[Any]:
    """The question, or the stages of a file."""
    take_pipeline(args)
    return work_of(args) if args.pipeline is None else _pipeline_of(args)


def run(args: argparse.Namespace) -> int:
    work = asked_of(args)
    items = table_of(args)
    if args.show_prompt and isinstance(work, Pipeline):
        print(clean(str(work)))
        return 0
    if args.show_prompt and isinstance(work, Ask):
        return asyncio.run(show_prompt(work, items, args.key))
    settings = settings_of(args, key=args.key, name=args.name, first=args.first)
    return execute(work, items, settings, wishes_of(args, args.input))


def _pipeline_of(args: argparse.Namespace) -> Pipeline[Any]:
    if args.input is None:
        raise UsageError("the following arguments are required: INPUT.", hint="headrace run pipeline.toml INPUT")
    return pipeline_of(args.pipeline, args, model_of(args) if args.model is not None else None)


def _check_there(args: argparse.Namespace) -> None:
    missing = [
        word for word, value in (("INPUT", args.input), ("--ask", args.ask), ("--model", args.model)) if value is None
    ]
    if missing:
        raise UsageError(
            f"the following arguments are required: {', '.join(missing)}.",
            hint="--ask and --model may also stand in headrace.toml or in the environment. See headrace run --help.",
        )


def table_of(args: argparse.Namespace) -> Table:
    """The input, and how it is read."""
    return Table(
        args.input, sheet=args.sheet, encoding=args.encoding, delimiter=args.delimiter, query=args.query
    )  # fmt: skip


def model_of(args: argparse.Namespace) -> Model:
    """An address and headers that stand in a file or in the environment are for models that have them: who tries
    `--model sim:` for once need not take them out there."""
    base_url, headers = args.base_url, args.header
    if args.model.partition(":")[0] in _WITHOUT_ADDRESS:
        found = args.configuration.found
        base_url = base_url if found["base-url"].origin == "flag" else None
        headers = {name: value for name, value in headers.items() if found[f"header.{name}"].origin == "flag"}
    return Model(args.model, base_url=base_url, headers=headers)


def settings_of(args: argparse.Namespace, *, key: str | None, name: str | None, first: int | None) -> Settings:
    return Settings(
        key=key, name=name, first=first, limits=Limits(args.concurrency, rpm=args.rpm, tpm=args.tpm),
        timeout_s=args.timeout, deadline_s=args.deadline, backup=args.backup, budget=budget_of(args.budget, args.budget_name),
        max_failure_rate=args.max_failure_rate,
        store=args.store, ordered=args.ordered, fresh=args.fresh, retry_failed=not args.no_retry_failed,
        keep_prompts=not args.keep_no_prompts, prices=None if args.prices is None else Path(args.prices),
    )  # fmt: skip


def wishes_of(args: argparse.Namespace, source: str) -> Wishes:
    if args.output == "-":  # as if it were left out
        args.output = None
    if args.output is not None:
        check_output(args.output)
    if args.report is not None:
        from headrace.report.page import check_writable  # noqa: PLC0415 - only who wants a report needs it

        check_writable(args.report)
    for path in (args.output, args.report):
        if path is not None:
            spare_source(path, source)
    configuration: Configuration = args.configuration
    return Wishes(args.output, args.report, args.quiet, args.events, configuration.said())


async def show_prompt(work: Ask[Any], items: Table, key: str | None) -> int:
    """What would be sent for the first row."""
    source = with_images(open_source(items, key=key, first=1), Pipeline(work), items)
    async for batch in source:
        request = request_of(work, batch[0], os.environ)
        for message in request.messages:
            print(f"--- {message.role}\n{clean(message.content)}")
            for image in message.images:
                print(f"--- image\n{clean(image.source[:200])}{f' ({clean(image.wrong)})' if image.wrong else ''}")
        if request.schema is not None:
            print(f"--- answer\n{_pretty(request.schema)}")
        return 0
    raise InputError(f"{items.path} has no rows.", hint="There is nothing to ask about.")


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
