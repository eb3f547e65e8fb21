"""What a run looks like while it works and when it ends: snapshots in, lines on a terminal or in a log out.

Reads at its own pace and never slows the run. Names, messages and answers are foreign text: see `printable`.
"""

import asyncio
import errno
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import msgspec

from headrace.engine.tally import FailureGroup, Snapshot, Tally
from headrace.report.text import cells, duration, one_line, percent, plural, rate, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

LIVE_EVERY_S = 0.25
FIRST_LINE_S = 5.0
LINE_EVERY_S = 10.0

_GROUPS_SHOWN = 5
_MESSAGE_WIDTH = 300
_NAME_WIDTH = 200
_KEYS_SHOWN = 3
_KEY_WIDTH = 40
_KINDS_SHOWN = 3
_BAR_MOST = 48
_BAR_LEAST = 5
_PREVIEW_ROWS = 10
_COLUMN_LEAST = 8

Part = tuple[str, str]
"""Text and its rich style."""


class Glyphs(msgspec.Struct, frozen=True):
    """The signs that a stream can show."""

    dot: str
    full: str
    rest: str
    arrow: str
    more: str


UNICODE = Glyphs(" · ", "━", "─", "→", "…")  # noqa: RUF001 - signs for the terminal
ASCII = Glyphs(", ", "#", "-", "->", "...")


def glyphs_of(stream: IO[str]) -> Glyphs:
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
    return UNICODE if encoding.startswith("utf") else ASCII


def printable(text: str, width: int, more: str = "…") -> str:
    """Foreign text for one line of at most `width` columns: no control characters, no tricks with direction.

    What is cut ends in `more`. The result can still look like markup: give it to rich only as Text.
    """
    text = one_line(text[: 8 * max(width, 0) + 64])
    taken = 0
    kept: list[str] = []
    for character in text:
        taken += cells(character)
        if taken > width or len(kept) >= 4 * width:
            break
        kept.append(character)
    else:
        return text
    room = max(0, width - len(more))
    while kept and sum(map(cells, kept)) > room:
        kept.pop()
    return ("".join(kept) + more)[: max(width, 0)]


def terminal(stream: IO[str], width: int | None = None) -> "Console":
    """A rich console that interprets no markup; colours only where the stream is a terminal and NO_COLOR is unset."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that a pipe or a quiet run never pays

    class Terminal(Console):
        """Rich ends the process when its reader goes away; the run goes on without one."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            raise BrokenPipeError(errno.EPIPE, "The terminal is gone")

    return Terminal(
        file=stream, width=width, force_terminal=stream.isatty(), markup=False, highlight=False, emoji=False
    )


class Display:
    """Shows one run on one stream: live on a terminal, a line now and then elsewhere, only errors where `quiet`.

    Start `watch` as a task and cancel it when the run is over; then `finish` writes the summary. A stream that
    breaks silences the display, never the run.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False, width: int | None = None) -> None:
        self._stream = stream
        self._quiet = quiet
        self._width = width
        self._glyphs = glyphs_of(stream)
        self._animated = stream.isatty() and os.environ.get("TERM") != "dumb" and not quiet
        self._console: Console | None = None
        self._live: Live | None = None
        self._next_line_s = -math.inf
        self._told_stopping = False
        self._broken = False

    async def watch(self, tally: Tally, clock: Callable[[], float]) -> None:
        """Show the tally until cancelled."""
        if self._quiet:
            return
        try:
            while True:
                await asyncio.sleep(LIVE_EVERY_S)
                self.update(tally.snapshot(clock()))
        finally:
            self.close()

    def update(self, snapshot: Snapshot) -> None:
        if self._quiet or self._broken:
            return
        try:
            if self._animated:
                self._draw(snapshot)
            else:
                self._log(snapshot)
        except (OSError, ValueError):
            self._broken = True
            self.close()

    def close(self) -> None:
        """Take the live lines off the terminal and give it its cursor back."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError, ValueError):
                live.stop()

    def finish(self, snapshot: Snapshot) -> None:
        """The summary, once the run has ended."""
        self.close()
        if self._broken:
            return
        lines = list(_failures(snapshot, self._glyphs) if self._quiet else _summary(snapshot, self._glyphs))
        with suppress(OSError, ValueError):
            if self._animated:
                self._print(lines)
            else:
                self._write(text for text, _ in lines)

    def _draw(self, snapshot: Snapshot) -> None:
        from rich.console import Group  # noqa: PLC0415 - see `terminal`
        from rich.live import Live  # noqa: PLC0415

        console = self._terminal()
        if self._live is None:
            self._live = Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            self._live.start()
        width = max(console.width - 1, 1)
        lines = [_text(line, self._stream) for line in live_lines(snapshot, width, self._glyphs)]
        self._live.update(Group(*lines), refresh=True)

    def _log(self, snapshot: Snapshot) -> None:
        if snapshot.state == "starting":
            return
        if self._next_line_s < 0:
            self._write([_opening(snapshot)])
            self._next_line_s = FIRST_LINE_S
        if snapshot.state == "stopping" and not self._told_stopping:
            self._told_stopping = True
            self._write([f"stopping: {printable(snapshot.reason, _MESSAGE_WIDTH, '...')}"])
        if snapshot.seconds >= self._next_line_s:
            self._next_line_s += LINE_EVERY_S
            if self._next_line_s <= snapshot.seconds:
                self._next_line_s = snapshot.seconds + LINE_EVERY_S
            self._write([log_line(snapshot)])

    def _print(self, lines: Iterable[Part]) -> None:
        console = self._terminal()
        for text, style in lines:
            indent = " " * (len(text) - len(text.lstrip()))
            wrapped = textwrap.wrap(text, max(console.width - 1, 20), subsequent_indent=indent + "  ")
            for line in wrapped or [""]:
                console.print(_text([(line, style)], self._stream), soft_wrap=True)

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._stream.write(encodable(line, self._stream) + "\n")
        self._stream.flush()

    def _terminal(self) -> "Console":
        if self._console is None:
            self._console = terminal(self._stream, self._width)
        return self._console


def encodable(text: str, stream: IO[str]) -> str:
    """What the stream's encoding lacks becomes a question mark, so that writing never raises."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.encode("ascii", "replace").decode("ascii")
    return text


def live_lines(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Iterator[list[Part]]:
    """The run at this moment, each line at most `width` columns."""
    name = printable(snapshot.name or snapshot.run or "starting", width, glyphs.more)
    source = printable(snapshot.source, max(width, 4), glyphs.more)
    yield _fit([(name, "bold"), (source if source != name else "", "dim")], width, glyphs)
    yield _bar(snapshot, width, glyphs)
    yield _fit(_pace(snapshot), width, glyphs)
    yield _fit(_counts(snapshot), width, glyphs)
    waits = _waits(snapshot)
    if waits:
        yield [(printable(waits, width, glyphs.more), "yellow")]
    if snapshot.call_errors and not waits:
        kinds = _kinds(snapshot.call_errors.items())
        yield [(printable(f"failed calls: {kinds}", width, glyphs.more), "dim")]
    if snapshot.failures:
        kinds = _kinds((group.kind, group.count) for group in snapshot.failures)
        yield [(printable(f"failed: {kinds}: {snapshot.failures[0].message}", width, glyphs.more), "red")]


def log_line(snapshot: Snapshot) -> str:
    """The run at this moment as one line of a log."""
    of_total = f" of {snapshot.total:,}" if snapshot.total is not None else ""
    parts = [f"{_whole(math.floor(snapshot.seconds))}: {snapshot.done:,}{of_total} done", f"{snapshot.ok:,} ok"]
    parts += [text for text, _ in _outcomes(snapshot)[1:]]
    parts.append(rate(snapshot.rate))
    if snapshot.eta_s is not None:
        parts.append(f"about {_left(snapshot.eta_s)} left")
    parts.append(f"{snapshot.in_flight:,} in flight")
    line = ", ".join(parts)
    waits = _waits(snapshot)
    return f"{line}; {printable(waits, _MESSAGE_WIDTH, '...')}" if waits else line


def _opening(snapshot: Snapshot) -> str:
    name = printable(snapshot.name or snapshot.run, _NAME_WIDTH, "...")
    source = printable(snapshot.source, _NAME_WIDTH, "...")
    of = f" of {source}" if source and source != name else ""
    what = f"{plural(snapshot.total, 'item')}{of}" if snapshot.total is not None else f"items{of or ' as they come'}"
    return f"{name}: {what}, at most {plural(snapshot.concurrency, 'call')} at a time"


def _bar(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[Part]:
    if snapshot.total is None:
        return [(printable(f"{plural(snapshot.done, 'item')} done, {snapshot.read:,} read", width, ""), "")]
    total = max(snapshot.total, 1)
    label = f"{snapshot.done:,} / {snapshot.total:,}"
    share = percent(snapshot.done, snapshot.total)
    room = min(width - len(label) - len(share) - 4, _BAR_MOST)
    if room < _BAR_LEAST:
        return [(printable(f"{label}  {share}", width, ""), "")]
    full = min(room, int(room * snapshot.done / total))
    bad = min(full, math.ceil(full * snapshot.failed / max(snapshot.done, 1)))
    return [
        (glyphs.full * (full - bad), "cyan"),
        (glyphs.full * bad, "red"),
        (glyphs.rest * (room - full), "dim"),
        (f"  {label}", "bold"),
        (f"  {share}", ""),
    ]


def _pace(snapshot: Snapshot) -> list[Part]:
    parts = [(rate(snapshot.rate), "")]
    if snapshot.eta_s is not None:
        parts.append((f"about {_left(snapshot.eta_s)} left", ""))
    parts.append((f"{_whole(math.floor(snapshot.seconds))} so far", "dim"))
    if snapshot.p50_s is not None:
        parts.append((f"a call {duration(snapshot.p50_s)}", "dim"))
    return parts


def _left(eta_s: float) -> str:
    return _whole(max(1, math.ceil(eta_s)))


def _whole(seconds: int) -> str:
    return duration(seconds).replace(".0 s", " s")


def _outcomes(snapshot: Snapshot) -> list[Part]:
    parts = [(f"{snapshot.ok:,} ok", "green" if snapshot.ok else "dim")]
    if snapshot.failed:
        parts.append((f"{snapshot.failed:,} failed", "red"))
    if snapshot.cached:
        parts.append((f"{snapshot.cached:,} from the store", ""))
    return parts


def _counts(snapshot: Snapshot) -> list[Part]:
    parts = [*_outcomes(snapshot), (f"{snapshot.in_flight:,}/{snapshot.concurrency:,} in flight", "")]
    if snapshot.retries:
        parts.append((_retries(snapshot.retries), "dim"))
    tokens = snapshot.input_tokens + snapshot.output_tokens
    if tokens:
        parts.append((f"{tokens:,} tokens", "dim"))
    return parts


def _retries(count: int) -> str:
    return "1 retry" if count == 1 else f"{count:,} retries"


def _waits(snapshot: Snapshot) -> str:
    if snapshot.state == "stopping":
        calls = f", {plural(snapshot.in_flight, 'call')} still in flight" if snapshot.in_flight else ""
        return f"stopping: {snapshot.reason}{calls}"
    if snapshot.hold is None:
        return ""
    wait = f" {math.ceil(snapshot.hold.wait_s):,} s" if math.isfinite(snapshot.hold.wait_s) else ""
    return f"waiting{wait}: {snapshot.hold.reason}"


def _kinds(counts: Iterable[tuple[str, int]]) -> str:
    ranked = sorted(counts, key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {kind}" for kind, count in ranked[:_KINDS_SHOWN]) + (
        ", ..." if len(ranked) > _KINDS_SHOWN else ""
    )


def _fit(parts: Sequence[Part], width: int, glyphs: Glyphs) -> list[Part]:
    """As many of the parts as fit, the first at least, with a sign between them."""
    line: list[Part] = []
    room = width
    for text, style in parts:
        if not text:
            continue
        between = glyphs.dot if line else ""
        needed = len(between) + sum(map(cells, text))
        if needed > room:
            if not line:
                return [(printable(text, width, glyphs.more), style)]
            continue
        line += [(between, "dim"), (text, style)] if between else [(text, style)]
        room -= needed
    return line


def _summary(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Part]:
    words = {"finished": "Done", "interrupted": "Interrupted", "stopped": "Stopped early"}
    opening = words.get(snapshot.status, printable(snapshot.status or "Ended", _NAME_WIDTH, glyphs.more))
    if snapshot.status != "finished" and snapshot.reason:
        opening += f": {printable(snapshot.reason, _MESSAGE_WIDTH, glyphs.more)}"
    yield (f"{opening.rstrip('.')}.", "bold" if snapshot.status == "finished" else "bold yellow")
    parts = [f"{snapshot.ok:,} ok", f"{snapshot.failed:,} failed"]
    if snapshot.pending:
        parts.append(f"{snapshot.pending:,} pending")
    stored = f"; {snapshot.cached:,} came from the store" if snapshot.cached else ""
    yield (f"  {plural(snapshot.done + snapshot.pending, 'item')}: {', '.join(parts)}{stored}", "")
    paid = [plural(snapshot.calls, "call")]
    if snapshot.retries:
        paid.append(f"{_retries(snapshot.retries)} among them")
    if snapshot.input_tokens or snapshot.output_tokens:
        paid.append(f"{plural(snapshot.input_tokens, 'token')} in, {snapshot.output_tokens:,} out")
    yield (f"  {', '.join(paid)}", "")
    pace = f"  {duration(snapshot.seconds)}, {rate(snapshot.rate)}"
    if snapshot.calls:
        pace += f", at most {snapshot.most_in_flight:,} in flight"
    yield (pace, "")
    if snapshot.p50_s is not None and snapshot.p95_s is not None and snapshot.p99_s is not None:
        times = f"{duration(snapshot.p50_s)} median, {duration(snapshot.p95_s)} P95, {duration(snapshot.p99_s)} P99"
        yield (f"  a call: {times}", "dim")
    if snapshot.call_errors:
        yield (f"  failed calls: {printable(_kinds(snapshot.call_errors.items()), _MESSAGE_WIDTH, '...')}", "dim")
    if snapshot.failures:
        yield ("", "")
        yield from _groups(snapshot.failures, glyphs)


def _failures(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Part]:
    """The errors alone, for a quiet run."""
    if snapshot.status not in {"", "finished"} and snapshot.reason:
        yield (f"{snapshot.status}: {printable(snapshot.reason, _MESSAGE_WIDTH, glyphs.more)}", "")
    yield from _groups(snapshot.failures, glyphs)


def _groups(groups: Sequence[FailureGroup], glyphs: Glyphs) -> Iterator[Part]:
    for group in groups[:_GROUPS_SHOWN]:
        kind = printable(group.kind, _NAME_WIDTH, glyphs.more)
        yield (f"{group.count:,} failed, {kind}: {printable(group.message, _MESSAGE_WIDTH, glyphs.more)}", "red")
        if group.hint:
            yield (f"  {glyphs.arrow} {printable(group.hint, _MESSAGE_WIDTH, glyphs.more)}", "")
        if group.keys:
            keys = [printable(key, _KEY_WIDTH, glyphs.more) for key in group.keys[:_KEYS_SHOWN]]
            left = group.count - len(keys)
            rest = f" and {left:,} more" if left else ""
            yield (f"  {'item' if group.count == 1 else 'items'} {', '.join(keys)}{rest}", "dim")
    left = len(groups) - _GROUPS_SHOWN
    if left > 0:
        yield (f"and {plural(left, 'other kind')} of failure", "red")


def preview(
    console: "Console", rows: Sequence[Mapping[str, Any]], columns: Sequence[str], limit: int = _PREVIEW_ROWS
) -> None:
    """The first rows as a table that fits the console; says how many rows and columns it leaves out."""
    from rich import box  # noqa: PLC0415 - see `terminal`
    from rich.table import Table  # noqa: PLC0415

    stream = console.file
    glyphs = glyphs_of(stream)
    fitting = list(columns[: max(1, (console.width - 1) // (_COLUMN_LEAST + 3))])
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False, show_edge=False)
    widths = _column_widths([[shown(row.get(c)) for c in fitting] for row in rows[:limit]], fitting, console.width)
    for column, width in zip(fitting, widths, strict=True):
        numeric = all(_is_number(row.get(column)) for row in rows[:limit])
        header = _text([(printable(column, width, glyphs.more), "")], stream)
        table.add_column(header, justify="right" if numeric else "left", no_wrap=True, overflow="crop", min_width=1)
    for row in rows[:limit]:
        texts = (printable(shown(row.get(c)), width, glyphs.more) for c, width in zip(fitting, widths, strict=True))
        table.add_row(*(_text([(text, "")], stream) for text in texts))
    console.print(table)
    left = [plural(len(rows) - limit, "more row") if len(rows) > limit else ""]
    left.append(plural(len(columns) - len(fitting), "more column") if len(columns) > len(fitting) else "")
    if any(left):
        console.print(_text([(f"and {', '.join(filter(None, left))}", "dim")], stream))


def _column_widths(texts: Sequence[Sequence[str]], columns: Sequence[str], width: int) -> list[int]:
    """What each column wants, the widest ones cut until all fit."""
    wanted = [
        max(1, min(200, max(sum(map(cells, one_line(text[:400]))) for text in (column, *(row[i] for row in texts)))))
        for i, column in enumerate(columns)
    ]
    room = max(len(columns), width - 3 * len(columns) - 1)
    while sum(wanted) > room:
        widest = max(wanted)
        second = max((w for w in wanted if w < widest), default=1)
        ties = [i for i, w in enumerate(wanted) if w == widest]
        over = sum(wanted) - room
        cut = min(widest - second, math.ceil(over / len(ties))) or 1
        for i in ties:
            wanted[i] -= cut
    return wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(parts: Iterable[Part], stream: IO[str]) -> "Text":
    """Rich text made of plain strings: nothing in them is read as markup."""
    from rich.text import Text  # noqa: PLC0415 - see `terminal`

    line = Text(no_wrap=True, overflow="crop")
    for text, style in parts:
        line.append(encodable(text, stream), style=style)
    return line
