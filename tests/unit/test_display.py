"""The display: what a terminal, a pipe and a quiet run show, whatever text the data brings."""

import asyncio
import fcntl
import io
import itertools
import os
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from headrace.cli.display import LINE_AT_MOST_EVERY_S, LINE_EVERY_S, LIVE_EVERY_S, Display
from headrace.cli.listing import listed
from headrace.cli.preview import preview, terminal
from headrace.cli.screen import CLEARED, frame_of, is_animated, is_coloured, room_for
from headrace.core.ports import Counts, RunInfo
from headrace.engine.snapshot import CallErrors, FailureGroup, Hold, LimitChange, LimitUse, Snapshot
from headrace.report.lines import health, live_lines, log_line
from headrace.report.signs import ASCII, UNICODE, Glyphs, glyphs_of, printable
from headrace.report.text import cells

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
RUNNING = Snapshot(
    run="9f31",
    name="calls",
    source="calls.csv",
    state="running",
    seconds=65.2,
    concurrency=10,
    total=1_000,
    read=630,
    ok=600,
    failed=12,
    cached=140,
    pending=388,
    in_flight=10,
    most_in_flight=10,
    calls=490,
    retries=18,
    call_errors=(CallErrors("throttled", 429, 14), CallErrors("timeout", None, 13)),
    input_tokens=81_204,
    output_tokens=9_322,
    p50_s=1.9,
    p95_s=4.1,
    p99_s=6.0,
    rate=24.31,
    eta_s=15.9,
    failures=(
        FailureGroup("timeout", 9, "No answer within 30 s.", "Raise --timeout.", ("17", "204", "333", "400")),
        FailureGroup("answer", 3, "No JSON.", "", ("5",)),
    ),
)
BOUND = msgspec.structs.replace(
    RUNNING,
    in_flight=37,
    uses=(
        LimitUse(unit="concurrency", used=37, allowed=40),
        LimitUse(unit="requests", used=588, allowed=598.3, window_s=60.0, learnt=True, pace=98.3, mean_pace=81.0),
        LimitUse(unit="tokens", used=36_900, allowed=90_000, window_s=60.0, pace=41.0, mean_pace=38.4),
        LimitUse(unit="output tokens", used=5, allowed=None, window_s=60.0),
    ),
    queued=212,
    binding="requests",
    waited_s={"requests": 42.0, "concurrency": 9.0, "backoff": 1.0},
    cpu_s=9.4,
    cpu_share=0.132,
    memory_bytes=118_400_000,
    backups=7,
    paid_again={"timeout": 2, "backup": 5},
    changes=(
        LimitChange(3.0, "tokens", 90_000.0, 60.0, "told by the provider"),
        LimitChange(58.0, "requests", 598.3, 60.0, "found by refusals"),
    ),
)
ENDED = msgspec.structs.replace(RUNNING, state="ended", status="finished", in_flight=0, eta_s=None)


class Stream(io.StringIO):
    """A stream that says what it is: a terminal or not, of this encoding."""

    def __init__(self, *, tty: bool = False, encoding: str | None = "utf-8") -> None:
        super().__init__()
        self._tty = tty
        self._encoding = encoding

    def isatty(self) -> bool:
        """Whether to act as a terminal."""
        return self._tty

    @property
    def encoding(self) -> str | None:  # type: ignore[override]
        """The encoding it claims."""
        return self._encoding

    def write(self, text: str) -> int:
        """Refuses what the encoding lacks, as a real stream does."""
        text.encode(self._encoding or "utf-8")
        return super().write(text)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of the tester's own terminal."""
    unwanted = "NO_COLOR FORCE_COLOR COLUMNS LINES TTY_COMPATIBLE TTY_INTERACTIVE CI LC_ALL LC_CTYPE TERM_PROGRAM"
    for name in unwanted.split():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LANG", "C.UTF-8")


def lines_of(snapshot: Snapshot, width: int = 100, glyphs: Glyphs = UNICODE) -> list[str]:
    """The live lines as plain text."""
    return ["".join(text for text, _ in line) for line in live_lines(snapshot, width, glyphs)]


def columns(line: str) -> int:
    """How wide a terminal shows it."""
    return sum(map(cells, line))


def without_escapes(text: str) -> str:
    """Terminal output without our own colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_live_lines_say_how_far_and_how_fast() -> None:
    """Name, bar with count, rate, time left, outcomes, calls in flight and failures are there."""
    said = "\n".join(lines_of(RUNNING))
    for sought in (
        "calls · calls.csv",
        "612 / 1,000  61 %",
        "24.3 items/s",
        "about 16 s left",
        "600 ok",
        "12 failed",
        "140 from the store",
        "10/10 in flight",
        "90,526 tokens",
        "failed: 9 timeout, 3 answer: No answer within 30 s.",
    ):
        assert sought in said, sought


def test_live_lines_without_a_total() -> None:
    """Where nobody knows how many items there are, the count stands alone, without a bar or a time left."""
    said = "\n".join(lines_of(msgspec.structs.replace(RUNNING, total=None, eta_s=None)))
    assert "612 items done, 630 read" in said
    assert "%" not in said
    assert "left" not in said


def test_live_lines_tell_what_bounds_the_run() -> None:
    """In flight of what is allowed, what binds, the queue, the use of each known limit, quantiles, CPU and memory."""
    lines = lines_of(BOUND)
    for sought in (
        "all well · 37/40 in flight · bound by requests · 212 waiting",
        "requests 98 % of about 598/min · tokens 41 % of 90,000/min",
        "calls P50 1.9 s · P95 4.1 s · P99 6.0 s · CPU 13 % · 118 MB",
        "failed calls: 14 throttled (429), 13 timeout",
        "limit: about 598 requests a minute (found by refusals)",
    ):
        assert sought in lines, sought
    assert "7 backups" in "\n".join(lines)


def test_news_of_a_limit_goes_after_a_while() -> None:
    """A change is told for twenty seconds; the last one of each limit only."""
    changes = tuple(LimitChange(50.0 + i, "concurrency", 30.0 - i, 0.0, "cut") for i in range(9))
    cut = msgspec.structs.replace(BOUND, changes=changes)
    assert "limit: 22 calls in flight (cut)" in lines_of(cut)
    assert not [line for line in lines_of(msgspec.structs.replace(cut, seconds=90.0)) if line.startswith("limit")]
    gone = msgspec.structs.replace(BOUND, changes=(LimitChange(60.0, "tokens", None, 60.0, ""),))
    assert "limit: no limit of tokens" in lines_of(gone)


def test_a_disturbance_stands_out() -> None:
    """A limit that is used up is as it should be; breaker, backoff and a busy process are yellow; failures are red."""

    def styles(snapshot: Snapshot) -> dict[str, str]:
        """The style of each part."""
        return {text: style for line in live_lines(snapshot, 200, UNICODE) for text, style in line if text}

    calm = styles(msgspec.structs.replace(BOUND, failed=0, failures=(), hold=None))
    assert not {"yellow", "red"} & set(calm.values())
    broken = styles(msgspec.structs.replace(BOUND, binding="breaker", cpu_share=0.97))
    assert (broken["held by the breaker"], broken["CPU 97 %"]) == ("yellow", "yellow")
    assert broken["waiting"] == "bold yellow"
    assert styles(msgspec.structs.replace(BOUND, binding="backoff"))["held by backoff"] == "yellow"


def test_without_a_known_limit_only_what_is_in_flight_is_told() -> None:
    """No gauge yet, no limit of concurrency, nobody waiting: no word about what is not known."""
    assert "all well · 10/10 in flight" in lines_of(RUNNING)
    free = msgspec.structs.replace(RUNNING, concurrency=0, uses=(LimitUse(unit="concurrency", used=3),), in_flight=3)
    assert "all well · 3 in flight" in lines_of(free)
    shared = msgspec.structs.replace(BOUND, in_flight=10, others=27, queued=0)
    assert "all well · 37/40 in flight · bound by requests · 27 of them held elsewhere" in lines_of(shared)


def test_what_binds_comes_first_where_not_all_limits_fit() -> None:
    """On a narrow terminal the limit that binds is the one that is shown, and the line with it fits."""
    tokens = msgspec.structs.replace(BOUND, binding="tokens")
    assert "requests 98 % of about 598/min · tokens 41 % of 90,000/min" in lines_of(tokens, 60)
    narrow = lines_of(tokens, 39)
    assert "tokens 41 % of 90,000/min" in narrow
    assert "all well · 37/40 in flight" in narrow
    assert "calls P50 1.9 s · P95 4.1 s · P99 6.0 s" in narrow


def test_live_lines_tell_what_is_waited_for() -> None:
    """A hold shows its seconds and reason; one without an end shows its reason; stopping shows what is in flight."""
    wait = msgspec.structs.replace(RUNNING, hold=Hold("the provider answered 429 (slow down)", 11.3))
    assert "waiting 12 s: the provider answered 429 (slow down)" in lines_of(wait)
    assert "waiting: an outage" in lines_of(msgspec.structs.replace(RUNNING, hold=Hold("an outage", float("inf"))))
    stop = msgspec.structs.replace(RUNNING, state="stopping", reason="Ctrl-C", in_flight=3)
    assert "stopping: Ctrl-C, 3 calls still in flight" in lines_of(stop)


@pytest.mark.parametrize("width", [1, 5, 12, 20, 39, 79, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_no_line_is_wider_than_the_terminal(width: int, glyphs: Glyphs) -> None:
    """From one column to two hundred every live line fits, also with wide letters and long names."""
    hold = Hold("日本語の説明" * 20, 3.0)
    wide = msgspec.structs.replace(RUNNING, name="通話分析" * 30, source="x" * 300, hold=hold)
    for snapshot in (RUNNING, wide, Snapshot(), BOUND, msgspec.structs.replace(BOUND, binding="制限" * 50)):
        for line in lines_of(snapshot, width, glyphs):
            assert columns(line) <= width, line


def test_bar_is_full_only_at_the_end() -> None:
    """999,999 of a million is no full bar and no 100 %; nothing of nothing divides by nothing."""
    almost = msgspec.structs.replace(RUNNING, ok=999_999, failed=0, failures=(), total=1_000_000)
    assert "─" in lines_of(almost)[1]
    assert "> 99 %" in lines_of(almost)[1]
    done = msgspec.structs.replace(RUNNING, ok=1_000, failed=0, failures=())
    assert "─" not in lines_of(done)[1]
    assert "0 / 0" in lines_of(Snapshot(total=0))[1]


@given(st.text(), st.integers(0, 80))
def test_printable_is_one_safe_line(text: str, width: int) -> None:
    """Whatever comes, the result is one line without controls or overrides and not wider than asked."""
    line = printable(text, width)
    assert not CONTROL.search(line)
    assert "\n" not in line
    assert "\t" not in line
    assert columns(line) <= width
    line.encode("utf-8")


def test_printable_cuts_and_says_so() -> None:
    """Escapes lose their power, line ends become spaces, what is cut ends in a sign, wide letters count twice."""
    assert printable("a\x1b[31mb\x9b2J\r\n c\x07", 40) == "a[31mb2J c"
    assert printable("abcdefgh", 5) == "abcd…"
    assert printable("abcdefgh", 5, "...") == "ab..."
    assert printable("日本語", 5) == "日本…"
    assert printable("日本語", 6) == "日本語"
    assert printable("\u202eexe.gnp", 20) == "exe.gnp"
    assert len(printable("a" + "\u0301" * 10_000, 10)) <= 50
    assert printable("a" + " " * 10_000 + "b", 10) == "a…"


def test_terminal_shows_live_lines_and_then_the_summary() -> None:
    """On a terminal the live lines are redrawn in place, taken away, and the summary follows; the cursor comes back."""
    stream = Stream(tty=True)
    display = Display(stream, size=(80, 24))
    display.update(RUNNING)
    display.update(RUNNING)
    display.finish(ENDED)
    shown = stream.getvalue()
    assert shown.count(CLEARED) == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25l") < shown.index("\x1b[?25h")
    summary = without_escapes(shown.rpartition("\x1b[?25h")[2])
    for sought in (
        "Done.",
        "600 ok, 12 failed, 388 pending; 140 came from the store",
        "490 calls, 18 retries among them, 81,204 tokens in, 9,322 out",
        "9 failed, timeout: No answer within 30 s.",
        "→ Raise --timeout.",
        "items 17, 204, 333 and 6 more",
    ):
        assert sought in summary, sought
    assert "/ 1,000" not in summary


def test_no_color_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the live display works and sends no colour, neither live nor at the end."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Stream(tty=True)
    display = Display(stream, size=(80, 24))
    display.update(RUNNING)
    display.finish(ENDED)
    assert "612 / 1,000" in stream.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*(3|4|9|10)[0-7][0-9;]*m", stream.getvalue())


@pytest.mark.parametrize("width", [10, 40])
def test_narrow_terminal(width: int) -> None:
    """A phone-wide terminal shows everything in lines that fit."""
    stream = Stream(tty=True)
    display = Display(stream, size=(width, 24))
    display.update(RUNNING)
    display.finish(ENDED)
    shown = without_escapes(stream.getvalue().replace("\r", "\n"))
    assert max(columns(line) for line in shown.splitlines()) <= max(width, 20)


def test_ascii_terminal() -> None:
    """Where the terminal cannot show more than ASCII, everything is ASCII, foreign text too."""
    stream = Stream(tty=True, encoding="ascii")
    display = Display(stream, size=(80, 24))
    display.update(msgspec.structs.replace(RUNNING, name="größe 通話"))
    display.finish(ENDED)
    assert stream.getvalue().isascii()
    assert "#" in stream.getvalue()
    preview(terminal(stream, 60), [{"wörd": "日本語" * 30, "n": 1.5}], ["wörd", "n"])
    assert stream.getvalue().isascii()


def test_pipe_gets_plain_lines_now_and_then() -> None:
    """A pipe gets an opening line, one after 5 s, then one every 10 s, and no escape or carriage return ever."""
    stream = Stream()
    display = Display(stream)
    for tick in range(401):
        display.update(msgspec.structs.replace(RUNNING, seconds=tick * 0.1))
    assert stream.getvalue().splitlines()[0] == "calls: 1,000 items of calls.csv, at most 10 calls at a time"
    assert [line.split(":")[0] for line in stream.getvalue().splitlines()[1:]] == ["5 s", "15 s", "25 s", "35 s"]
    display.finish(ENDED)
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert "Done." in stream.getvalue().splitlines()


def test_pipe_does_not_catch_up() -> None:
    """After a silence of minutes one line comes, not one for each that was missed."""
    stream = Stream()
    display = Display(stream)
    for seconds in (0.0, 6.0, 600.0, 600.3, 605.0, 600.0 + 150.0):
        display.update(msgspec.structs.replace(RUNNING, seconds=seconds))
    assert [line.split(": 612")[0] for line in stream.getvalue().splitlines()[1:]] == ["6 s", "10:00 min", "12:30 min"]


def test_lines_of_a_log_come_less_often_the_longer_it_takes() -> None:
    """Every ten seconds at first, every five minutes in the end: a run of a day writes some three hundred lines."""
    stream = Stream()
    display = Display(stream)
    told: list[int] = []
    for second in range(86_400):
        display.update(msgspec.structs.replace(RUNNING, seconds=float(second)))
        if stream.tell():
            told.append(second)
            stream.seek(0)
            stream.truncate()
    waits = [later - earlier for earlier, later in itertools.pairwise(told[1:])]
    assert told[:4] == [0, 5, 15, 25]
    assert waits == sorted(waits)
    assert waits[-1] == LINE_AT_MOST_EVERY_S
    assert len(told) < 320


def test_a_turn_for_the_worse_is_told_at_once() -> None:
    """A log with minutes between its lines tells within a second that all is not well, once, and that it is again."""
    stream = Stream()
    display = Display(stream)
    calm = msgspec.structs.replace(RUNNING, failed=0, failures=())
    for second in range(4000):
        wait = Hold("the provider asks to wait", 90.0) if 2000 <= second < 2900 else None
        display.update(msgspec.structs.replace(calm, seconds=float(second), hold=wait))
    turns = [line.partition(": ")[0] for line in stream.getvalue().splitlines() if line.startswith(("33:20", "48:20"))]
    assert turns == ["33:20 min", "48:20 min"]
    assert stream.getvalue().count("the provider asks to wait") <= 5
    assert LINE_EVERY_S < 90


def test_pipe_tells_at_once_that_the_run_stops() -> None:
    """Stopping and its reason are said when they happen, once."""
    stream = Stream()
    display = Display(stream)
    stopping = msgspec.structs.replace(RUNNING, seconds=1.0, state="stopping", reason="quota \x1b[2Jgone")
    for _ in range(3):
        display.update(stopping)
    assert stream.getvalue().count("stopping: quota [2Jgone") == 1


def test_log_line_tells_everything_once() -> None:
    """The line of a log has the figures of the live display, and what is waited for."""
    line = log_line(msgspec.structs.replace(RUNNING, hold=Hold("429", 3.0)))
    assert line == (
        "1:05 min: 612 of 1,000 done, 600 ok, 12 failed, 140 from the store, 24.3 items/s, about 16 s left; "
        "10/10 in flight; calls P50 1.9 s, P95 4.1 s, P99 6.0 s; failed calls: 14 throttled (429), 13 timeout; "
        "waiting 3 s: 429"
    )
    assert log_line(BOUND, 55.0).partition("; ")[2] == (
        "37/40 in flight, bound by requests, 212 waiting; requests 98 % of about 598/min, tokens 41 % of 90,000/min; "
        "calls P50 1.9 s, P95 4.1 s, P99 6.0 s, CPU 13 %, 118 MB; failed calls: 14 throttled (429), 13 timeout; "
        "limit: about 598 requests a minute (found by refusals)"
    )


def test_pipe_tells_each_change_of_a_limit_once() -> None:
    """The next line of the log has it, the ones after that do not; what came before the first line is in that."""
    stream = Stream()
    display = Display(stream)
    for tick in range(401):
        seconds = 40 + tick * 0.1
        changes = tuple(each for each in BOUND.changes if each.after_s <= seconds)
        display.update(msgspec.structs.replace(BOUND, seconds=seconds, changes=changes))
    assert stream.getvalue().count("told by the provider") == 1
    assert stream.getvalue().count("found by refusals") == 1
    assert "told by the provider" in stream.getvalue().splitlines()[1]


def test_summary_tells_how_the_limits_were_used() -> None:
    """What bound the run, how much of each limit was used, what was perhaps paid twice, and what it took here."""
    stream = Stream()
    Display(stream).finish(msgspec.structs.replace(BOUND, state="ended", status="finished", queued=0, binding=""))
    for sought in (
        "490 calls, 18 retries among them, 7 backups",
        "bound by requests 64 %, concurrency 14 % of the time",
        "used on average: requests 81 % of about 598/min, tokens 38 % of 90,000/min",
        "failed calls: 14 throttled (429), 13 timeout",
        "perhaps paid for and not used: 5 backup, 2 timeout",
        "this process: CPU 9.4 s, at most 118 MB of memory",
    ):
        assert sought in stream.getvalue(), sought


def test_an_opening_without_a_number_promises_none() -> None:
    """Where the concurrency is to be found, the log says so."""
    stream = Stream()
    Display(stream).update(msgspec.structs.replace(RUNNING, seconds=0.1, concurrency=0))
    assert stream.getvalue() == "calls: 1,000 items of calls.csv, as many calls at a time as the provider takes\n"


def test_dumb_terminal_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb gets plain lines."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Stream(tty=True)
    display = Display(stream)
    display.update(RUNNING)
    display.finish(ENDED)
    assert "\x1b" not in stream.getvalue()


def test_quiet_shows_nothing_but_errors() -> None:
    """A quiet run without a failure writes nothing; with failures it writes them and why it stopped."""
    stream = Stream(tty=True)
    display = Display(stream, quiet=True)
    display.update(RUNNING)
    display.finish(msgspec.structs.replace(ENDED, failures=(), failed=0))
    assert stream.getvalue() == ""
    display.finish(msgspec.structs.replace(ENDED, status="stopped", reason="credit is gone"))
    assert "credit is gone" in stream.getvalue()
    assert "9 failed, timeout" in stream.getvalue()
    assert "items/s" not in stream.getvalue()


@pytest.mark.parametrize("tty", [True, False])
def test_foreign_text_steers_nothing(*, tty: bool) -> None:
    """Escapes, titles, bidi overrides and markup in names, reasons, kinds, messages and keys are text."""
    evil = "[bold red]x[/] [link=http://a]y[/link] \x1b[2J\x1b]0;t\x07\x9b31m \u202ez\r\nfake: 0 failed"
    group = FailureGroup(evil, 3, evil, evil, (evil, evil))
    snapshot = msgspec.structs.replace(
        RUNNING,
        name=evil,
        source=evil,
        reason=evil,
        status="stopped",
        call_errors=(CallErrors(evil, 500, 2),),
        binding=evil,
        changes=(LimitChange(60.0, evil, 5.0, 60.0, evil),),
        waited_s={evil: 50.0},
        paid_again={evil: 2},
        failures=(group,),
        hold=Hold(evil, 3),
    )
    stream = Stream(tty=tty)
    display = Display(stream, size=(300, 40))
    display.update(snapshot)
    display.update(msgspec.structs.replace(snapshot, state="stopping"))
    display.finish(msgspec.structs.replace(snapshot, state="ended"))
    shown = without_escapes(stream.getvalue()) if tty else stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x1b]" not in stream.getvalue()
    assert not CONTROL.search(shown.replace("\r", "") if tty else shown)
    assert "[bold red]x[/] [link=http://a]y[/link]" in shown
    assert not [line for line in shown.splitlines() if line.startswith("fake")]


def test_a_stream_that_breaks_silences_the_display() -> None:
    """A closed pipe raises nothing into the run, however often it is written to."""

    class Broken(Stream):
        """A pipe whose reader went away."""

        def write(self, text: str) -> int:
            """Always fails."""
            raise BrokenPipeError(32, f"{len(text)} characters for nobody")

    for tty in (True, False):
        display = Display(Broken(tty=tty), size=(80, 24))
        display.update(RUNNING)
        display.update(RUNNING)
        display.finish(ENDED)
    closed = Stream()
    display = Display(closed)
    closed.close()
    display.update(RUNNING)
    display.finish(ENDED)


def test_watch_reads_the_tally_until_it_is_cancelled() -> None:
    """The watching task looks again and again, at once where it is told to, and gives the terminal back when cancelled."""
    stream = Stream(tty=True)
    display = Display(stream, size=(60, 24))
    looks: list[Snapshot] = []

    def look() -> Snapshot:
        """Counts who looks."""
        looks.append(RUNNING)
        return RUNNING

    async def scene() -> float:
        """Five looks, asked for without waiting."""
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(display.watch(look))
        while len(looks) < 5:
            display.redraw()
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return loop.time()

    asyncio.run(scene())
    assert LIVE_EVERY_S >= 1 / 8
    assert stream.getvalue().count("\x1b[?25h") == 1
    assert stream.getvalue().endswith(CLEARED)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 12, 24, 100])
def test_a_low_terminal_shows_what_matters_most(rows: int) -> None:
    """However low it is, the lines fit with one to spare; how far, whether all is well and what is waited for stay."""
    busy = msgspec.structs.replace(BOUND, hold=Hold("the provider asks to wait", 9.0))
    lines = ["".join(text for text, _ in line) for line in live_lines(busy, 99, UNICODE, room_for(rows))]
    assert 1 <= len(lines) <= max(rows - 1, 1)
    assert any("61 %" in line for line in lines)
    if rows >= 4:
        assert any(line.startswith("waiting ·") for line in lines)
        assert "waiting 9 s: the provider asks to wait" in lines
    whole = lines_of(busy)
    assert [line for line in whole if line in lines] == lines  # in their order


def test_a_frame_needs_nothing_of_the_one_before() -> None:
    """Frames may be left out: each begins where the cursor is, clears what is there and below, and ends there."""
    drawn = frame_of(["one", "two", "three"])
    assert drawn.count("\x1b[2K") == 3
    assert re.search(r"three\x1b\[J\r\x1b\[2A", drawn)
    assert "A" not in without_escapes(frame_of(["one"]))
    assert "\x1b[0A" not in frame_of(["one"])


@pytest.mark.parametrize(
    ("environ", "tty", "animated", "coloured"),
    [
        ({"TERM": "xterm"}, True, True, True),
        ({"TERM": "xterm"}, False, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True, True),
        ({"TERM": "dumb"}, True, False, False),
        ({}, True, False, False),
        ({"FORCE_COLOR": "1"}, False, False, True),
        ({"FORCE_COLOR": "0"}, False, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, True, True, False),
        ({"TERM": "xterm", "CI": "true"}, True, False, False),
        ({"TERM": "xterm", "CI": "false"}, True, True, True),
    ],
)
def test_what_a_stream_can_show(environ: dict[str, str], *, tty: bool, animated: bool, coloured: bool) -> None:
    """Redrawn lines on terminals alone, and not in the log of a CI server; NO_COLOR before FORCE_COLOR."""
    stream = Stream(tty=tty)
    assert (is_animated(stream, environ), is_coloured(stream, environ)) == (animated, coloured)


@pytest.mark.parametrize(
    ("environ", "glyphs"),
    [
        ({"LANG": "en_US.UTF-8"}, UNICODE),
        ({"LANG": "de_DE.utf8"}, UNICODE),
        ({"LANG": "C"}, ASCII),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ASCII),  # Python's own doing
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, ASCII),
        ({"LANG": "POSIX"}, ASCII),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, UNICODE),
        ({"LANG": "en_US.ISO-8859-1"}, ASCII),
        ({}, ASCII),
    ],
)
def test_signs_are_those_of_the_locale(environ: dict[str, str], glyphs: Glyphs) -> None:
    """Without a UTF-8 locale the bar is ASCII, although Python writes UTF-8 there too."""
    assert glyphs_of(Stream(), environ) is glyphs
    assert glyphs_of(Stream(encoding="latin-1"), {"LANG": "C.UTF-8"}) is ASCII


def test_health_in_a_word() -> None:
    """Well, waiting, failing, busy, stopping: what a glance must tell, the worst first."""
    calm = msgspec.structs.replace(RUNNING, failed=12, ok=600)
    assert health(calm) == "well"
    assert health(msgspec.structs.replace(calm, failed=100)) == "failing"
    assert health(msgspec.structs.replace(calm, hold=Hold("429", 3.0))) == "waiting"
    assert health(msgspec.structs.replace(calm, binding="breaker")) == "waiting"
    assert health(msgspec.structs.replace(calm, binding="requests")) == "well"
    assert health(msgspec.structs.replace(calm, cpu_share=0.95)) == "busy"
    assert health(msgspec.structs.replace(calm, failed=100, state="stopping")) == "stopping"
    assert health(Snapshot()) == "well"


def test_notices_are_told_before_the_run() -> None:
    """A sentence about the input is a line of its own without what could steer; a quiet run is spared it."""
    stream = Stream()
    Display(stream).notice("a.csv is not UTF-8\x1b[2J; it was read as Windows-1252.")
    assert stream.getvalue() == "a.csv is not UTF-8[2J; it was read as Windows-1252.\n"
    quiet = Stream()
    Display(quiet, quiet=True).notice("hello")
    Display(quiet).notice("")
    assert quiet.getvalue() == ""


def test_a_log_in_colour_where_that_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR colours the summary of a log, and does not animate it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = Stream()
    display = Display(stream)
    display.update(RUNNING)
    display.finish(ENDED)
    assert "\x1b[31m9 failed, timeout" in stream.getvalue()
    assert not re.search(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", stream.getvalue())  # only colours end in m


def table(rows: list[dict[str, Any]], names: list[str], width: int = 60) -> list[str]:
    """A preview as plain lines."""
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
    preview(console, rows, names)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_preview_shows_first_rows_and_says_what_it_leaves_out() -> None:
    """Ten rows of the columns that fit, cells cut to the width, and a line about the rest."""
    rows = [{f"column{c}": f"{c}.{r} " * 20 for c in range(12)} for r in range(25)]
    shown = table(rows, [f"column{c}" for c in range(12)], 60)
    assert max(map(columns, shown)) <= 60
    assert shown[-1] == "and 15 more rows, 7 more columns"
    assert len(shown) == 2 + 10 + 1


@pytest.mark.parametrize("width", [12, 20, 40, 80])
def test_preview_fits_any_terminal(width: int) -> None:
    """Wide letters, missing values, numbers and nested ones never make it wider than the terminal."""
    rows: list[dict[str, Any]] = [
        {"label": "positive", "score": 0.87341, "日本": "日本語テキスト" * 9, "nested": {"a": [1, 2]}},
        {"label": None, "score": 12, "日本": "\x1b[31m[red]x[/red]"},
    ]
    for line in table(rows, ["label", "score", "日本", "nested"], width):
        assert columns(line) <= width
        assert not CONTROL.search(line)


@pytest.mark.parametrize("width", range(1, 60))
def test_preview_shows_an_answer_where_there_is_room(width: int) -> None:
    """Short columns make room for others: what was answered stands beside what it was about, also where it is narrow."""
    rows: list[dict[str, Any]] = [{"id": n, "label": "good", "why": "because " * 20, "attempts": 1} for n in range(25)]
    shown = table(rows, list(rows[0]), width)
    assert max(map(columns, shown)) <= width
    assert len(shown) == 2 + 10 + 1
    assert ("label" in shown[0]) is (width >= 14), shown


def test_preview_asks_its_own_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width is that of the terminal which is written to, though COLUMNS and TERM say otherwise."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 33, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        assert terminal(stream).width == 33
    os.close(master)


def test_preview_aligns_numbers_right_and_reads_no_markup() -> None:
    """Numbers end in one column, markup in a cell is text."""
    shown = table([{"n": 5, "t": "[red]x[/red]"}, {"n": 12345, "t": ":smile:"}], ["n", "t"])
    assert [line.rstrip() for line in shown[2:]] == ["    5   [red]x[/red]", "12345   :smile:"]


def test_preview_of_nothing() -> None:
    """No rows show the head of the table; no columns show nothing that breaks."""
    assert "a" in table([], ["a", "b"])[0]
    table([], [])
    table([{}], [])


def test_rich_is_not_loaded_where_nothing_is_animated() -> None:
    """A pipe never pays for importing rich."""
    code = (
        "import io, sys; from headrace.cli.display import Display; from headrace.engine.tally import Snapshot\n"
        "d = Display(io.StringIO()); d.update(Snapshot(state='running')); d.finish(Snapshot(state='ended'))\n"
        "sys.exit('rich' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_a_sentence_is_wrapped_between_words_alone() -> None:
    """On a narrow terminal a flag, a path and a command stay whole, so that they can be copied."""
    stream = Stream(tty=True)
    long = f"/data/{'x' * 60}.csv"
    Display(stream, size=(40, 24)).say(
        f"The stage names no maximum output. Name one with --max-tokens and go on with {long}"
    )
    lines = [line.strip() for line in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue()).splitlines()]
    assert any("--max-tokens" in line for line in lines)
    assert long in lines
    assert all(len(line) < 40 for line in lines if line != long)


def test_a_list_of_runs_keeps_their_names_whole() -> None:
    """On 80 columns other columns go before a run's name is cut: it is what the other commands take."""
    name = "customer-reviews-of-november-4f2a91"
    info = RunInfo(
        id="r", name=name, source="reviews.csv", status="interrupted", started_at=1e9, ended_at=1e9 + 7,
        spec={"model": "openai:gpt-5-nano", "path": "/data/of/customers/reviews-of-november.csv"},
    )  # fmt: skip
    counts = Counts(ok=123_456, failed=12, pending=1_000, calls=124_000, input_tokens=10**7, usd=12.5)
    stream = Stream(tty=True)
    listed([(info, counts)], stream, 2e9)
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue()).splitlines()
    assert lines[1].startswith(f"{name}  interrupted")
    assert max(map(len, lines)) <= 80
