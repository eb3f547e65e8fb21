"""A forecast as words for a terminal and as a section of the report."""

import msgspec
import pytest

from headrace.core.ports import Counts, RunInfo
from headrace.engine.forecast import Assumed, Plan, Range, Stone, WhatIf, plan_of
from headrace.engine.snapshot import Snapshot
from headrace.report.forecast import forecast
from headrace.report.planned import plan_lines
from headrace.report.signs import ASCII, UNICODE

ONE = Range(9.0, 10.0, 12.0)
PLAN = Plan(
    run="r", made_at=100.0, items=400, stored=20, seconds=ONE, calls=ONE.scaled(38), input_tokens=ONE.scaled(1000),
    output_tokens=ONE.scaled(100), usd=ONE.scaled(0.1), binding="requests", waits={"requests": 0.9},
    what_ifs=[WhatIf("requests", 1200.0, 5.5, 0.55), WhatIf("tokens", 9e5, 10.0, 1.0)],
    course=[Stone(place / 20, ONE.scaled(place / 20)) for place in range(1, 21)],
    assumed=[Assumed("requests", "600 a minute", "told")], notes=["A sentence. " * 12], budget_usd=0.5, budget_calls=190,
    deadline_s=11.0, in_time=0.8,
)  # fmt: skip
INFO = RunInfo(id="r", name="r", source="s", spec={}, started_at=200.0)
RAN = Snapshot(
    seconds=11.0, calls=400, input_tokens=10_000, output_tokens=1000, started_at=200.0, waited_s={"requests": 9.0}
)


@pytest.mark.parametrize("width", [1, 40, 60, 80, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_every_line_fits(width: int, glyphs: object) -> None:
    """On any width no line is longer than the terminal, but for one too narrow for anything."""
    lines = list(plan_lines(PLAN, width, glyphs))  # type: ignore[arg-type]
    assert max(map(len, lines)) <= max(width, 50)
    assert not any("\x1b" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "What binds: requests (90 % of the time calls wait for it)." in text
    assert "With 1,200 requests a minute: 5.5 s, 45 % less time." in text
    assert "With 900,000 tokens a minute: 10 s, no faster." in text
    assert "80 of 100 times" in text


def test_the_page_has_both() -> None:
    """What was foretold, what happened, and how far off that is; nothing is loaded, and text is escaped."""
    page = forecast(msgspec.structs.replace(PLAN, binding="<b>"), INFO, Counts(usd=1.1), RAN)
    assert "11 s" in page
    assert "+10 %" in page
    assert "as foretold" in page
    assert "<b>" not in page


def test_a_forecast_made_after_the_run_is_none_of_it() -> None:
    """Nor is one of a run that made no calls, nor none."""
    late = msgspec.structs.replace(PLAN, made_at=300.0)
    assert forecast(late, INFO, Counts(), RAN) == ""
    assert forecast(PLAN, INFO, Counts(), None) == ""
    assert forecast(None, INFO, Counts(), RAN) == ""


def test_a_plan_is_read_again() -> None:
    """From its bytes; from none, or from what a later headrace wrote, there is none."""
    assert plan_of(msgspec.json.encode(PLAN)) == PLAN
    assert plan_of(None) is None
    assert plan_of(b'{"items": "many"}') is None
