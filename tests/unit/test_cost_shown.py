"""Dollars as people read them: how they are written, and what is said of them in lines, in logs and in the report."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.event import BudgetUsed, CallEnded, CallStarted, RunStarted
from headrace.core.item import Outcome
from headrace.core.ports import Counts
from headrace.data.columns import columns_of
from headrace.data.formula import is_result
from headrace.data.sink import jsonl_line
from headrace.engine.snapshot import Snapshot
from headrace.engine.tally import Tally
from headrace.report.cost import cost
from headrace.report.lines import cost_line, live_lines, log_line, paid_again_line
from headrace.report.signs import Glyphs
from headrace.report.summary import summary_lines
from headrace.report.survey import survey
from headrace.report.text import dollars

PLAIN = Glyphs(" | ", "#", ".", "->", "...")
RUN = Snapshot(
    run="r", name="r", state="running", seconds=9.0, total=50, read=50, ok=20, cached=10, calls=13, input_tokens=90,
    output_tokens=10, usd=0.125, paid_again={"timeout": 2, "asked again": 1, "backup": 1},
    paid_again_usd={"timeout": 0.02, "asked again": 0.004},
)  # fmt: skip


@pytest.mark.parametrize(
    ("usd", "told"),
    [
        (0, "$0"),
        (1234.5, "$1,234.50"),
        (1.0, "$1.00"),
        (0.0123, "$0.0123"),
        (0.001, "$0.0010"),
        (0.000058, "$0.0000580"),
        (1e-300, "$0.00000000000000000000"),
    ],
)
def test_dollars_are_written_so(usd: float, told: str) -> None:
    """Cents from a dollar on, more digits below it."""
    assert dollars(usd) == told


@given(st.floats(0, 1e12))
def test_any_dollars_can_be_written(usd: float) -> None:
    """Digits alone, and within a cent or a percent of what they are."""
    told = dollars(usd)
    assert re.fullmatch(r"\$[\d,]+(\.\d+)?", told)
    assert abs(float(told[1:].replace(",", "")) - usd) <= max(0.0051 if usd >= 1 else 0.06 * usd, 1e-19)


def test_the_summary_has_a_line_of_its_own() -> None:
    """Dollars and what an item came to; at least so much where some calls' cost is unknown; nothing where all are."""
    ended = msgspec.structs.replace(RUN, state="ended", status="finished")
    lines = [text for text, _ in summary_lines(ended, PLAIN)]
    assert "  $0.1250, $0.0125 an item" in lines
    assert any("2 timeout (at most $0.0200), 1 asked again ($0.0040), 1 backup" in line for line in lines)
    shy = msgspec.structs.replace(ended, unpriced=3)
    assert "  at least $0.1250, $0.0125 an item, 3 calls of unknown cost" in [
        text for text, _ in summary_lines(shy, PLAIN)
    ]
    unknown = msgspec.structs.replace(ended, usd=None, unpriced=13, paid_again_usd={})
    assert not any("$" in text for text, _ in summary_lines(unknown, PLAIN))
    assert cost_line(unknown) == ""
    assert paid_again_line(unknown) == "2 timeout, 1 asked again, 1 backup"


def test_live_lines_and_logs_say_what_was_paid_so_far() -> None:
    """While the run goes on."""
    live = "\n".join("".join(text for text, _ in line) for line in live_lines(RUN, 100, PLAIN))
    assert "100 tokens | $0.1250" in live
    assert ", $0.1250, " in log_line(RUN)
    assert "at least $0.1250" in log_line(msgspec.structs.replace(RUN, unpriced=1))
    assert "$" not in log_line(msgspec.structs.replace(RUN, usd=None))


def outcome(position: int, usd: float | None, *, cached: bool = False) -> Outcome:
    return Outcome(
        key=f"k{position}", position=position, item={"text": "t"}, value="yes", attempts=0 if cached else 1, seconds=1.0,
        cached=cached, usd=usd, input_tokens=5, output_tokens=position,
    )  # fmt: skip


def test_the_report_has_the_cost_first() -> None:
    """What the answers cost, each and together, what was paid twice, and each stage's part; or that it is not known."""
    found = survey([outcome(0, 0.5), outcome(1, 0.25), outcome(2, 0.25, cached=True)], None)
    assert found.usd == 0.75
    counts = Counts(ok=3, calls=2, input_tokens=10, output_tokens=1, usd=0.75)
    snapshot = msgspec.structs.replace(RUN, stage_usd={"one <b>": 0.5, "two": 0.25})
    page = cost(found, counts, snapshot)
    assert "The answers cost $0.7500, $0.3750 for each of the 2 items that took a call." in page
    assert "2 timeout (at most $0.0200)" in page
    assert "By stage: one &lt;b&gt; $0.5000, two $0.2500." in page
    unknown = cost(found, msgspec.structs.replace(counts, usd=None), None)
    assert "What the answers cost is not known" in unknown
    assert "$" not in unknown


def test_a_result_has_dollars_only_where_they_are_known() -> None:
    """The last column; what the store served cost nothing, so that the column adds up to what was paid; and a reader
    knows its own result with it."""
    columns = columns_of(("text",))
    known = columns.widened([outcome(0, 0.5)])
    assert columns.names == ("text", "answer", "error", "attempts", "seconds")
    assert known.names == (*columns.names, "usd")
    assert columns.widened([outcome(0, None)]).names == columns.names
    assert [known.cells(each)[-1] for each in (outcome(0, 0.5), outcome(1, None), outcome(2, 0.5, cached=True))] == [
        0.5,
        None,
        0.0,
    ]
    assert msgspec.json.decode(jsonl_line(outcome(0, 0.5), columns))["usd"] == 0.5
    assert is_result(known.names)
    assert is_result(columns.names)
    assert is_result(("usd", "error", "attempts", "seconds", "headrace_usd"))
    assert not is_result(("error", "attempts", "usd"))


def test_what_is_spent_of_a_budget_is_never_behind_the_cost() -> None:
    """The purse tells once a second, calls end all the time: what is told of both is of the same moment, and once where it
    is the same."""
    tally = Tally()
    tally.add(RunStarted(0.0, "r", "r", "r", 9, 1))
    tally.add(CallStarted(0.0, 1))
    tally.add(CallEnded(0.4, 0.4, "", usd=0.5))
    tally.add(BudgetUsed(0.5, 2.5, 9.0, 0.0, 0.5))
    assert cost_line(tally.snapshot(0.5)) == "$0.5000 ($2.50 of the $9.00 budget)"
    tally.add(CallEnded(0.6, 0.4, "", usd=0.25))
    assert cost_line(tally.snapshot(0.7)) == "$0.7500 ($2.75 of the $9.00 budget)"
    tally.add(BudgetUsed(0.8, 0.75, 9.0, 0.0, 0.75))
    assert cost_line(tally.snapshot(0.9)) == "$0.7500 of the $9.00 budget"
