"""headrace from Python, from a question to a table: `python examples/python_face.py`. Needs neither key nor network.

Two type checkers read this file in `make check`: every value below has the type that its comment says.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Literal, assert_type

from pydantic import BaseModel

import headrace as hr

ROWS = [
    {"id": "r1", "text": "The room was quiet and clean."},
    {"id": "r2", "text": "Cold breakfast, and nobody at the desk."},
    {"id": "r3", "text": "Fine."},
]


class Review(BaseModel):
    """What is asked of every row."""

    mood: Literal["good", "bad"]
    score: float
    topics: list[str]


def ask(store: Path) -> None:
    """A question whose answers are of a type: editors and checkers know it all the way."""
    question = hr.Ask("How is this guest?\n\n{text}", system="Answer briefly.", returns=Review, model="sim:")
    run = hr.run(question, ROWS, key="id", store=store, limits=hr.Limits(concurrency=4, rpm=6000))
    assert_type(question, hr.Ask[Review])
    assert_type(run, hr.Run[Review])
    for outcome in run:
        if outcome.value is not None:
            assert_type(outcome.value.mood, Literal["good", "bad"])
            print(outcome.key, outcome.value.mood, outcome.value.score, f"{outcome.seconds:.3f} s")
    for failed in run.failures():
        assert_type(failed.error, hr.Failure | None)
        print(failed.key, failed.error)


def other_types(store: Path) -> None:
    """Without a type an answer is text; a line or a JSON schema gives mappings."""
    text = hr.run(hr.Ask("One word on {text}", model="sim:"), ROWS, store=store)
    line = hr.run(hr.Ask("Judge {text}", returns="label: good|bad, why: str?", model="sim:"), ROWS, store=store)
    assert_type(text, hr.Run[str])
    assert_type(line, hr.Run[dict[str, Any]])
    print([outcome.value for outcome in text], [outcome.value for outcome in line])


def length(row: dict[str, str]) -> int:
    return len(row["text"])


async def shout(row: dict[str, str]) -> str:
    await asyncio.sleep(0)
    return row["text"].upper()


async def functions(store: Path) -> None:
    """Any function, async or not; with a name and a version its results are kept."""
    run = await hr.arun(length, ROWS, store=store)
    assert_type(run, hr.Run[int])
    print(sum(outcome.value or 0 for outcome in run))
    loud = hr.Map(shout, name="shout", version="1")
    assert_type(loud, hr.Map[str])
    async for outcome in hr.stream(loud, ROWS, store=store, ordered=True):
        assert_type(outcome, hr.Outcome[str])
        print(outcome.value if outcome.ok else outcome.error)


def tables(folder: Path, store: Path) -> None:
    """A file in, a file and a page out; what was answered before is not asked again."""
    source = folder / "reviews.tsv"
    source.write_text("id\ttext\n" + "".join(f"{row['id']}\t{row['text']}\n" for row in ROWS))
    question = hr.Ask("How is this guest?\n\n{text}", system="Answer briefly.", returns=Review, model="sim:")
    try:
        run = hr.run(
            question, hr.Table(source, delimiter="\t"), key="id", to=folder / "answers.parquet", store=store,
            retry=hr.Retry(attempts=3), timeout=60.0, deadline=600.0, backup=0.02, max_failure_rate=0.5, progress=False,
        )  # fmt: skip
    except hr.CallError as error:
        print(f"The provider refused: {error.message} {error.hint}")
        return
    run.report(folder / "answers.html")
    run.export(folder / "answers.csv")
    print(run, [outcome.cached for outcome in run], sorted(path.name for path in folder.glob("answers.*")))


def frames(store: Path) -> None:
    """A data frame in, a data frame out, where one of their libraries is installed."""
    try:
        import pandas as pd
        import polars as pl
    except ImportError:
        return
    question = hr.Ask("How is this guest?\n\n{text}", returns="mood: good|bad", model="sim:")
    lazy = pl.LazyFrame(ROWS).filter(pl.col("text") != "Fine.")
    assert_type(hr.run(question, lazy, key="id", store=store).to_polars(), pl.DataFrame)
    assert_type(hr.run(question, pd.DataFrame(ROWS), key="id", store=store).to_pandas(), pd.DataFrame)
    print(hr.run(question, pl.DataFrame(ROWS), key="id", store=store).to_polars())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        ask(store)
        frames(store)
        other_types(store)
        asyncio.run(functions(store))
        tables(Path(folder), store)
        print(hr.runs(store))


if __name__ == "__main__":
    main()
