"""A run before a person or a program: shown while it goes on, stopped by keys and signals, written when it ends.

Enters a run that can begin, leaves the exit status. Knows nothing of flags.
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from headrace.api import loop_factory
from headrace.assembly import Assembled, assemble
from headrace.cli.display import Display
from headrace.cli.events import Events
from headrace.cli.exporter import export_spans
from headrace.cli.pipe import Pipe
from headrace.core.event import Event
from headrace.core.item import Outcome
from headrace.core.ports import History
from headrace.data.columns import columns_of
from headrace.data.sink import jsonl_line
from headrace.data.table import Table
from headrace.engine.snapshot import Snapshot
from headrace.report.signs import printable
from headrace.report.trace import traced
from headrace.results import Run, write_result
from headrace.settings import DEFAULT_STORE, Settings
from headrace.store.history import SqliteHistory
from headrace.task.pipeline import Pipeline
from headrace.task.work import Ask

_PREVIEWED = 10
_SAID_MAX = 1000
Added = Callable[[Outcome], Mapping[str, Any]]


class Wishes(msgspec.Struct, frozen=True):
    """What is shown and written besides the run itself."""

    output: str | None
    report: str | None
    quiet: bool
    events: Events | None = None
    """Progress for a program, in place of the display."""
    said: str = ""
    """Which settings were not said on the command line."""
    ending: Callable[[Run[Any]], tuple[bool, list[str]]] | None = None
    """An application's own: it writes the report in its way, tells whether it has all, and what is to be said."""
    added: Added | None = None
    """The columns that it adds to each row of the output."""


class _Run:
    """One run, whoever looks on, and what is asked for besides."""

    def __init__(self, made: Assembled, settings: Settings, wishes: Wishes, onlooker: Display | Events) -> None:
        self.made, self.settings, self.wishes, self.onlooker = made, settings, wishes, onlooker
        self.is_shown = wishes.events is None and sys.stdout.isatty()
        """Whether a person sits before standard output: then there are the first answers as a table."""
        self.rows: int | None = None
        """How many are in the output, once it is written."""
        self.written: set[str | None] = set()
        """Its paths."""
        self.is_whole = True
        """Whether an application's ending had all that it wanted."""
        self.told: list[str] = []
        to_file = wishes.output or self.is_shown
        self.pipe = None if to_file else Pipe(columns_of(made.source.fields, made.schema))


def execute(
    work: Ask[Any] | Pipeline[Any], items: str | Table | Sequence[Any], settings: Settings, wishes: Wishes
) -> int:
    """Run it, show it, write what was asked for; the exit status."""
    onlooker = wishes.events or Display(sys.stderr, quiet=wishes.quiet)
    onlooker.notice(wishes.said)
    if _is_terminal(items):
        keys = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        onlooker.notice(f"Reading from this terminal: type or paste CSV or JSON Lines, then {keys}.")
    onlooker.notice(export_spans(os.environ))
    # outside of the loop: Ctrl-C ends the wait for a first line of standard input
    made = assemble(work, items, settings, emit=traced(_ignore), environ=os.environ, tell=onlooker.notice)
    for notice in made.notices:
        onlooker.notice(notice)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_execute(_Run(made, settings, wishes, onlooker)))


def _is_terminal(items: str | Table | Sequence[Any]) -> bool:
    path = items.path if isinstance(items, Table) else items
    return path == "-" and sys.stdin is not None and sys.stdin.isatty()


def _ignore(_event: Event) -> None:
    """The display reads the runner's tally."""


async def _execute(run: _Run) -> int:
    made, onlooker = run.made, run.onlooker
    loop = asyncio.get_running_loop()
    tally = made.runner.tally
    if isinstance(onlooker, Events):
        onlooker.begin(
            made.runner.info, output=run.wishes.output, report=run.wishes.report, store=str(run.settings.store)
        )
    signals = _Signals(loop)
    signals.listen(lambda: _interrupt(run), onlooker)
    watching = asyncio.create_task(onlooker.watch(lambda: tally.snapshot(loop.time())))
    snapshot = None
    try:
        try:
            await _drain(run)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await made.close()
            signals.forget()  # Ctrl-C ends the writing of results as it ends anything
            snapshot = tally.snapshot(loop.time())
            for notice in made.late_notices() if snapshot.calls else ():
                onlooker.notice(notice)
        info = made.runner.info
        # also where the deadline has passed: what is there by then is wanted
        is_wanted = made.runner.error is None and info.status != "interrupted"
        if is_wanted:
            _write(run)
    finally:  # after the files: a terminal on hold, or one that is gone, must not cost them
        if snapshot is not None and snapshot.run:  # a run that could not begin has nothing to sum up
            onlooker.finish(_unsaid(run, snapshot))
            onlooker.say(_unwritten(run, snapshot))
    if made.runner.error is not None:
        raise made.runner.error
    if info.status != "finished":
        onlooker.say("The same command goes on from here; what was answered is kept.")
    if not is_wanted:
        return 130
    _tell(run, snapshot)
    return 0 if info.status == "finished" and not snapshot.failed and run.is_whole else 1


def _unsaid(run: _Run, snapshot: Snapshot) -> Snapshot:
    """Without a reason that is told right afterwards, with what to do about it."""
    follows = run.made.runner.error is not None and not isinstance(run.onlooker, Events)
    return msgspec.structs.replace(snapshot, reason="") if follows else snapshot


def _interrupt(run: _Run) -> None:
    if run.made.runner.interrupt() and run.pipe is not None:
        run.pipe.give_up()


class _Signals:
    """What Ctrl-C, a polite kill and others do while the run goes on; afterwards they mean what they always do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heard: list[int] = []
        self._hung_up = False

    def listen(self, interrupt: Callable[[], None], onlooker: Display | Events) -> None:
        def hang_up() -> None:
            """The terminal is gone. A shell and the system may both say so: that is one word."""
            if not self._hung_up:
                self._hung_up = True
                interrupt()

        def suspend() -> None:
            """Ctrl-Z: the terminal gets its cursor back for as long as it is somebody else's."""
            onlooker.suspend()
            self._drop(signal.SIGTSTP)
            os.kill(os.getpid(), signal.SIGTSTP)  # here this process sleeps
            self._hear("SIGTSTP", suspend)
            onlooker.redraw()

        self._hear("SIGINT", interrupt)
        self._hear("SIGTERM", interrupt)
        if signal.getsignal(getattr(signal, "SIGHUP", signal.SIGTERM)) is not signal.SIG_IGN:  # nohup
            self._hear("SIGHUP", hang_up)
        self._hear("SIGTSTP", suspend)
        self._hear("SIGWINCH", onlooker.redraw)

    def forget(self) -> None:
        for number in list(self._heard):
            self._drop(number)

    def _hear(self, name: str, do: Callable[[], None]) -> None:
        number = getattr(signal, name, None)
        if number is not None:
            with suppress(NotImplementedError):  # Windows
                self._loop.add_signal_handler(number, do)
                self._heard.append(number)

    def _drop(self, number: int) -> None:
        self._heard.remove(number)
        self._loop.remove_signal_handler(number)


async def _drain(run: _Run) -> None:
    async with aclosing(run.made.runner.outcomes()) as batches:
        async for batch in batches:
            rows = batch if run.wishes.added is None else [_extended(each, run.wishes.added) for each in batch]
            if run.pipe is not None and not await run.pipe.write(rows):
                run.made.runner.interrupt()
                run.pipe = None


def _write(run: _Run) -> None:
    """The files that are asked for."""
    wishes, history = run.wishes, SqliteHistory(run.settings.store)
    if wishes.output is not None:
        info, read = run.made.results(history)
        run.rows = write_result(wishes.output, info, read if wishes.added is None else _Added(read, wishes.added))
        run.written.add(wishes.output)
    if wishes.ending is not None:
        run.is_whole, run.told = wishes.ending(Run(run.made.runner.info, history, run.made.restore))
    elif wishes.report is not None:
        from headrace.report.page import report  # noqa: PLC0415 - only who wants one needs it

        report(wishes.report, run.made.runner.info, history)  # where no prompts are kept, a page has none either
    run.written.add(wishes.report)


class _Added:
    """A history whose rows have an application's columns too."""

    def __init__(self, history: History, added: Added) -> None:
        self._history, self._added = history, added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    def scan(self, run: str, *, failed_only: bool = False, dropped: bool = False) -> Iterator[Outcome]:
        found = self._history.scan(run, failed_only=failed_only, dropped=dropped)
        return (_extended(outcome, self._added) for outcome in found)


def _extended(outcome: Outcome, added: Added) -> Outcome:
    row = outcome.item if isinstance(outcome.item, dict) else {"item": outcome.item}
    return msgspec.structs.replace(outcome, item={**row, **added(outcome)})


def _unwritten(run: _Run, snapshot: Snapshot) -> str:
    """How the files are written that this run ended without, where there is anything to write."""
    output, report, store = run.wishes.output, run.wishes.report, run.settings.store
    if not snapshot.done:
        return ""
    elsewhere = [] if store == DEFAULT_STORE else ["--store", str(store)]
    said = []
    for path, verb in ((output, "export"), (report, "report")):
        if path is not None and path not in run.written:
            command = shlex.join(["headrace", "runs", verb, run.made.runner.info.name, "-o", path, *elsewhere])
            said.append(f"{path} was not written. What there is by now: {command}")
    return "\n".join(said)


def _tell(run: _Run, snapshot: Snapshot) -> None:
    """What came of it, for who sits before a terminal, and where it is."""
    wishes, onlooker = run.wishes, run.onlooker
    if run.is_shown and not (wishes.quiet and wishes.output):
        with suppress(OSError):  # the terminal is gone
            _preview(run, snapshot)
    if run.rows is not None:
        onlooker.wrote(run.rows)
        onlooker.say(f"{run.rows} rows in {wishes.output}")
    elif run.is_shown:
        onlooker.say("Add -o FILE.csv to save all of them; they are in the store, so nothing is asked again.")
    if not run.is_whole:
        onlooker.notice("A part of what was asked for is missing.")
    for sentence in run.told:  # to people alone: it may quote answers
        onlooker.say(printable(sentence, _SAID_MAX, "..."))
    if wishes.report is not None:
        onlooker.say(f"The report is {wishes.report}")


def _preview(run: _Run, snapshot: Snapshot) -> None:
    """The first answers."""
    from headrace.cli.preview import preview, terminal  # noqa: PLC0415 - 50 ms that a pipe never pays

    info, history = run.made.results(SqliteHistory(run.settings.store))
    columns = columns_of(run.made.source.fields, run.made.schema)
    head = [outcome for outcome, _ in zip(history.scan(info.id), range(_PREVIEWED), strict=False)]
    shown: list[dict[str, Any]] = [msgspec.json.decode(jsonl_line(outcome, columns)) for outcome in head]
    preview(terminal(sys.stdout), shown, _answers_first(run.made, list(shown[0]) if shown else []))
    rows = snapshot.ok + snapshot.failed
    if rows > _PREVIEWED:
        run.onlooker.say(f"The first {_PREVIEWED} of {rows:,} rows.")


def _answers_first(made: Assembled, columns: list[str]) -> list[str]:
    """What identifies a row, then what was answered, then the rest of the row: a terminal is narrow."""
    fields = list(made.source.fields or ())
    first = [made.runner.info.spec["key"] or (fields[0] if fields else "item")]
    answers = [column for column in columns if column not in fields and column not in ("attempts", "seconds")]
    return list(dict.fromkeys([*first, *answers, *columns]))
