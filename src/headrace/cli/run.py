"""`headrace run`: a table, a question and a model; answers on the terminal, in a file and in a report."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec

from headrace.api import loop_factory, spare_source, write_result
from headrace.assembly import Assembled, assemble, request_of
from headrace.cli.display import Display, preview, terminal
from headrace.cli.pipe import Pipe
from headrace.cli.words import concurrency_of, headers_of, params_of, returns_of, share_of, text_of
from headrace.core.errors import InputError, UsageError
from headrace.core.model import Model
from headrace.core.ports import RunInfo
from headrace.data.columns import columns_of
from headrace.data.sink import check_output, jsonl_line
from headrace.data.source import open_source
from headrace.engine.tally import Snapshot, Tally
from headrace.report.text import clean
from headrace.settings import DEFAULT_STORE, Limits, Settings
from headrace.store.history import SqliteHistory
from headrace.task.work import Ask

_PREVIEWED = 10


class Wishes(msgspec.Struct, frozen=True):
    """What is shown and written besides the run itself."""

    output: str | None
    report: str | None
    quiet: bool


def add_arguments(words: argparse.ArgumentParser) -> None:
    words.add_argument(
        "input", metavar="INPUT", help="CSV, JSON Lines, Parquet, a folder of text files, or - for standard input"
    )
    words.add_argument(
        "--ask",
        metavar="TEXT",
        required=True,
        help="what to ask of every row, with {column} in it; @FILE reads it from a file",
    )
    words.add_argument("--system", metavar="TEXT", help="the system message; @FILE reads it from a file")
    words.add_argument(
        "--returns",
        metavar="TYPE",
        help="type of the answer: 'label: a|b|c, score: float 0..1, why: str?', a JSON schema file, or module:Model",
    )
    words.add_argument("--model", metavar="MODEL", required=True, help="openai:NAME, local or sim:")
    words.add_argument(
        "--base-url", metavar="URL", help="address of an OpenAI-compatible server, up to and including its /v1"
    )
    words.add_argument("--temperature", type=float, metavar="T")
    words.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer")
    words.add_argument(
        "--param", action="append", default=[], metavar="K=V", help="put into the request as it is (repeatable)"
    )
    words.add_argument("--key", metavar="COLUMN", help="the column that identifies a row")
    words.add_argument("--name", metavar="RUN", help="names the run, so that one over standard input can be resumed")
    words.add_argument("--first", type=int, metavar="N", help="only the first N rows")
    words.add_argument(
        "--show-prompt", action="store_true", help="show what would be sent for the first row, and send nothing"
    )
    add_run_arguments(words)
    words.set_defaults(command=run)


def add_run_arguments(words: argparse.ArgumentParser) -> None:
    """What a resumed run may be told anew."""
    words.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="K=V",
        help="sent with every request, never stored (repeatable)",
    )
    words.add_argument(
        "--concurrency",
        type=concurrency_of,
        default="auto",
        metavar="auto|N",
        help="most calls in flight (auto: found)",
    )
    words.add_argument("--rpm", type=float, metavar="N", help="requests per minute that the provider allows")
    words.add_argument("--tpm", type=float, metavar="N", help="tokens per minute that the provider allows")
    words.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="S",
        help="most seconds for one attempt (300); it follows what the calls take",
    )
    words.add_argument(
        "--deadline", type=float, metavar="S", help="seconds for the whole run; what is not done then stays pending"
    )
    words.add_argument(
        "--backup",
        type=share_of,
        default=0.0,
        metavar="P",
        help="share of calls that may be made twice for stragglers at the end (2%%)",
    )
    words.add_argument(
        "--max-failure-rate", type=share_of, metavar="P", help="stop when more of the rows fail than this share (10%%)"
    )
    words.add_argument(
        "--ordered", action="store_true", help="answers on standard output in the order of the rows (files always are)"
    )
    words.add_argument("--fresh", action="store_true", help="ask everything anew")
    words.add_argument("--no-retry-failed", action="store_true", help="keep what failed before")
    words.add_argument(
        "--store", type=Path, default=DEFAULT_STORE, metavar="FILE", help=f"where answers are kept ({DEFAULT_STORE})"
    )
    words.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="results as .jsonl, .csv or .parquet; without it, JSON Lines on standard output",
    )
    words.add_argument("--report", metavar="FILE", help="a page about the run (.html)")
    words.add_argument("--quiet", action="store_true", help="no progress, only what went wrong")
    words.add_argument("--debug", action="store_true", help="show where an error came from")


def run(args: argparse.Namespace) -> int:
    model = Model(args.model, base_url=args.base_url, headers=headers_of(args.header))
    work = Ask(
        text_of(args.ask), system=text_of(args.system) if args.system else None,
        returns=returns_of(args.returns) if args.returns else None, model=model, temperature=args.temperature,
        max_tokens=args.max_tokens, params=params_of(args.param),
    )  # fmt: skip
    if args.show_prompt:
        return asyncio.run(_show_prompt(work, args))
    return execute(
        work, args.input, settings_of(args, key=args.key, name=args.name, first=args.first), wishes_of(args, args.input)
    )


def settings_of(args: argparse.Namespace, *, key: str | None, name: str | None, first: int | None) -> Settings:
    return Settings(
        key=key, name=name, first=first, limits=Limits(args.concurrency, rpm=args.rpm, tpm=args.tpm),
        timeout_s=args.timeout, deadline_s=args.deadline, backup=args.backup, max_failure_rate=args.max_failure_rate,
        store=args.store, ordered=args.ordered, fresh=args.fresh, retry_failed=not args.no_retry_failed,
    )  # fmt: skip


def wishes_of(args: argparse.Namespace, source: str) -> Wishes:
    if args.output is not None:
        check_output(args.output)
    if args.report is not None:
        from headrace.report.page import check_writable  # noqa: PLC0415 - only who wants a report needs it

        check_writable(args.report)
        if args.output is not None and Path(args.output).resolve() == Path(args.report).resolve():
            raise UsageError("-o and --report name the same file.", hint="Give the report a name of its own.")
    for path in (args.output, args.report):
        if path is not None:
            spare_source(path, source)
    return Wishes(args.output, args.report, args.quiet)


def execute(work: Ask, items: str, settings: Settings, wishes: Wishes) -> int:
    """Run it, show it, write what was asked for; the exit status."""
    tally = Tally()
    # outside of the loop: Ctrl-C ends the wait for a first line of standard input
    made = assemble(work, items, settings, emit=tally.add, environ=os.environ)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_execute(made, settings, wishes, tally))


async def _execute(made: Assembled, settings: Settings, wishes: Wishes, tally: Tally) -> int:
    display = Display(sys.stderr, quiet=wishes.quiet)
    to_file = wishes.output or sys.stdout.isatty()
    pipe = None if to_file else Pipe(columns_of(made.source.fields, made.schema))
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if made.runner.interrupt() and pipe is not None:
            pipe.give_up()

    _on_interrupt(loop, interrupt)
    watching = asyncio.create_task(display.watch(tally, loop.time))
    try:
        await _drain(made, pipe)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await made.close()
        snapshot = tally.snapshot(loop.time())
        if snapshot.run:  # a run that could not begin has nothing to sum up
            display.finish(snapshot)
        _on_interrupt(loop, None)  # Ctrl-C ends the writing of results as it ends anything
    info = made.runner.info
    if made.runner.error is not None:
        raise made.runner.error
    if info.status == "finished":
        _write(info, settings, wishes, snapshot, made)
        return 1 if snapshot.failed else 0
    _say("The same command goes on from here; what was answered is kept.", wishes)
    if info.status == "interrupted":
        return 130
    _write(info, settings, wishes, snapshot, made)  # the deadline has passed: what is there by then is wanted
    return 1


def _on_interrupt(loop: asyncio.AbstractEventLoop, do: Callable[[], None] | None) -> None:
    """What Ctrl-C and a polite kill do; None gives them back their usual meaning."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        with suppress(NotImplementedError):  # Windows
            if do is None:
                loop.remove_signal_handler(number)
            else:
                loop.add_signal_handler(number, do)


async def _drain(made: Assembled, pipe: Pipe | None) -> None:
    async with aclosing(made.runner.outcomes()) as batches:
        async for batch in batches:
            if pipe is not None and not await pipe.write(batch):
                made.runner.interrupt()
                pipe = None


def _write(info: RunInfo, settings: Settings, wishes: Wishes, snapshot: Snapshot, made: Assembled) -> None:
    history = SqliteHistory(settings.store)
    if sys.stdout.isatty() and not (wishes.quiet and wishes.output):
        _preview(info, history, snapshot, made, wishes)
    if wishes.output is not None:
        _say(f"{write_result(wishes.output, info, history)} rows in {wishes.output}", wishes)
    elif sys.stdout.isatty():
        _say("Add -o FILE.csv to save all of them; they are in the store, so nothing is asked again.", wishes)
    if wishes.report is not None:
        from headrace.report.page import render, write  # noqa: PLC0415 - as above

        counts = history.counts(info.id)
        write(wishes.report, render(info, counts, lambda: history.scan(info.id), made.schema, snapshot))
        _say(f"The report is {wishes.report}", wishes)


def _preview(info: RunInfo, history: SqliteHistory, snapshot: Snapshot, made: Assembled, wishes: Wishes) -> None:
    """The first answers, for who sits before the terminal."""
    columns = columns_of(made.source.fields, made.schema)
    head = [outcome for outcome, _ in zip(history.scan(info.id), range(_PREVIEWED), strict=False)]
    shown: list[dict[str, Any]] = [msgspec.json.decode(jsonl_line(outcome, columns)) for outcome in head]
    preview(terminal(sys.stdout), shown, _answers_first(made, list(shown[0]) if shown else []))
    if snapshot.done > _PREVIEWED:
        _say(f"The first {_PREVIEWED} of {snapshot.done:,} rows.", wishes)


def _answers_first(made: Assembled, columns: list[str]) -> list[str]:
    """What identifies a row, then what was answered, then the rest of the row: a terminal is narrow."""
    fields = list(made.source.fields or ())
    first = [made.runner.info.spec["key"] or (fields[0] if fields else "item")]
    answers = [column for column in columns if column not in fields and column not in ("attempts", "seconds")]
    return list(dict.fromkeys([*first, *answers, *columns]))


def _say(text: str, wishes: Wishes) -> None:
    if text and not wishes.quiet:
        with suppress(BrokenPipeError):  # who reads the log may leave before the files are written
            print(text, file=sys.stderr, flush=True)


async def _show_prompt(work: Ask, args: argparse.Namespace) -> int:
    source = open_source(args.input, key=args.key, first=1)
    async for batch in source:
        request = request_of(work, batch[0], os.environ)
        for message in request.messages:
            print(f"--- {message.role}\n{clean(message.content)}")
        if request.schema is not None:
            print(f"--- answer\n{_pretty(request.schema)}")
        return 0
    raise InputError(f"{args.input} has no rows.", hint="There is nothing to ask about.")


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
