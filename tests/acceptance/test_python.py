"""The face for Python: what a program gives, what it gets, and what it is told when that cannot work."""

import ast
import asyncio
import contextvars
import datetime as dt
import decimal
import enum
import inspect
import io
import itertools
import json
import re
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest

import headrace as hr
from acceptance.cli import Cli
from acceptance.endpoint import completion, endpoint
from simulator import simulator

FAST = hr.Retry(attempts=2, base_s=0.001)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def double(number: int) -> int:
    return number * 2


def double_plainly(number: int) -> int:
    return number * 2


async def gathered(work: Any, items: Any, **settings: Any) -> list[hr.Outcome]:
    async with aclosing(hr.stream(work, items, **settings)) as outcomes:
        return [outcome async for outcome in outcomes]


def streamed(work: Any, items: Any, **settings: Any) -> list[hr.Outcome]:
    return asyncio.run(gathered(work, items, **settings))


async def later(values: list[Any]) -> AsyncIterator[Any]:
    for value in values:
        await asyncio.sleep(0)
        yield value


class Again:
    """An async iterable that can be iterated again."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __aiter__(self) -> AsyncIterator[Any]:
        return later(self._values)


NUMBERS = list(range(600))
KINDS: dict[str, Callable[[], Any]] = {
    "list": lambda: NUMBERS,
    "tuple": lambda: tuple(NUMBERS),
    "range": lambda: range(600),
    "generator": lambda: (number for number in NUMBERS),
    "async generator": lambda: later(NUMBERS),
    "async iterable": lambda: Again(NUMBERS),
    "nothing": list,
}


# What goes in and what comes out


@pytest.mark.parametrize("function", [double, double_plainly])
@pytest.mark.parametrize("kind", KINDS)
def test_any_function_over_any_items(kind: str, function: Callable[[int], Any], store: Path) -> None:
    """`run` and `stream` take async and plain functions over whatever can be iterated, and pair each with its item."""
    wanted = [] if kind == "nothing" else NUMBERS
    run = hr.run(function, KINDS[kind](), store=store)
    assert (run.status, run.ok, run.failed, run.pending, len(run)) == ("finished", len(wanted), 0, 0, len(wanted))
    assert [(outcome.item, outcome.value) for outcome in run] == [(number, number * 2) for number in wanted]
    outcomes = streamed(function, KINDS[kind](), store=store)
    assert sorted((outcome.position, outcome.item, outcome.value) for outcome in outcomes) == [
        (number, number, number * 2) for number in wanted
    ]
    assert all(outcome.ok and outcome.attempts == 1 and not outcome.cached for outcome in outcomes)


def test_a_run_can_be_read_again_and_again(store: Path) -> None:
    """Iterating a run reads its outcomes from the store, in the order of the source, as often as one likes."""
    run = hr.run(double, [3, 1, 2], store=store, name="mine")
    assert [outcome.value for outcome in run] == [outcome.value for outcome in run] == [6, 2, 4]
    assert repr(run) == "<Run mine: finished, 3 ok, 0 failed>"
    assert (run.name, run.reason) == ("mine", "")


def test_a_path_and_a_result_file(tmp_path: Path, store: Path) -> None:
    """A path, as text or as Path, is read as the command does; `to` is written whole, in the order of the source."""
    (tmp_path / "a.csv").write_text("id,text\nx,one\ny,two\n")

    def shout(row: dict[str, str]) -> dict[str, Any]:
        return {"loud": row["text"].upper(), "length": len(row["text"])}

    for items in (tmp_path / "a.csv", str(tmp_path / "a.csv")):
        run = hr.run(shout, items, store=store, key="id", to=tmp_path / "out.parquet")
        assert [outcome.key for outcome in run] == ["x", "y"]
        assert [json.loads(row["answer"])["loud"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()] == [
            "ONE",
            "TWO",
        ]
    with pytest.raises(hr.OutputError, match="is the input itself"):
        hr.run(shout, tmp_path / "a.csv", store=store, to=tmp_path / "a.csv")


def test_inside_a_running_loop(store: Path) -> None:
    """`run` works where a loop runs already, as in a notebook, with its result and with its errors; `arun` is awaited."""

    async def notebook() -> tuple[hr.Run, hr.Run]:
        with pytest.raises(hr.UsageError):
            hr.run(hr.Ask("{x}", model="nowhere:x"), [1], store=store)
        return hr.run(double, NUMBERS, store=store), await hr.arun(double_plainly, NUMBERS, store=store)

    for run in asyncio.run(notebook()):
        assert [outcome.value for outcome in run] == [number * 2 for number in NUMBERS]


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


def test_items_are_plain_data(store: Path) -> None:
    """What a function is given is what the store can hold: records are mappings, tuples lists, enums their values."""
    given: list[Any] = []
    items = [Point(1, 2), (1, 2), Colour.RED, {"a": {1, 2}}, None, "text", 1.5, float("nan")]
    run = hr.run(given.append, items, store=store, limits=hr.Limits(concurrency=1))
    assert given == [{"x": 1, "y": 2}, [1, 2], "red", {"a": [1, 2]}, None, "text", 1.5, None]
    assert [outcome.item for outcome in run] == given
    assert all(outcome.ok and outcome.value is None for outcome in run)
    with pytest.raises(hr.UsageError, match=r"Item 1: .*object.* cannot be stored"):
        hr.run(double, [1, object()], store=store)


def test_first_ordered_and_events(store: Path) -> None:
    """`first` reads no more, `ordered` gives outcomes in the order of the source, `on_event` tells the story."""
    events: list[Any] = []
    outcomes = streamed(double, itertools.count(), store=store, first=50, ordered=True, on_event=events.append)
    assert [outcome.value for outcome in outcomes] == [number * 2 for number in range(50)]
    names = [type(event).__name__ for event in events]
    assert (names[0], names[-1]) == ("RunStarted", "RunEnded")
    assert names.count("CallStarted") == names.count("CallEnded") == 50


# Questions to a model


class Insight(pydantic.BaseModel):
    label: Literal["good", "bad"]
    score: float = pydantic.Field(ge=0, le=1, alias="theScore")
    tags: list[str]


def test_typed_answers_are_instances(store: Path, tmp_path: Path) -> None:
    """With a Pydantic model values are its instances: streamed, iterated, from the store, with aliases."""
    ask = hr.Ask("Judge {text}", returns=Insight, model="sim:")
    rows = [{"text": "a"}, {"text": "b"}]
    first = streamed(ask, rows, store=store, ordered=True)
    again = streamed(ask, rows, store=store, ordered=True)
    run = hr.run(ask, rows, store=store, to=tmp_path / "out.jsonl")
    assert all(isinstance(outcome.value, Insight) for outcomes in (first, again, run) for outcome in outcomes)
    assert (
        [outcome.value for outcome in first]
        == [outcome.value for outcome in again]
        == [outcome.value for outcome in run]
    )
    assert [outcome.cached for outcome in again] == [True, True]
    written = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(written) == ["text", "label", "theScore", "tags", "error", "attempts", "seconds"]
    assert written["theScore"] == getattr(first[0].value, "score", None)


@pytest.mark.parametrize(
    ("returns", "kind"),
    [(None, str), ("label: a|b, score: int 1..5", dict), ({"type": "object", "properties": {"n": {"type": "integer"}}}, dict), (Point, Point)],
    ids=["text", "shorthand", "schema", "dataclass"],
)  # fmt: skip
def test_each_way_to_type_an_answer(returns: Any, kind: type, store: Path) -> None:
    """Without a type the answer is text; each kind of type gives its own kind of value, streamed and iterated."""
    ask = hr.Ask("Judge {item}", returns=returns, model="sim:")
    for outcomes in (streamed(ask, ["a"], store=store), list(hr.run(ask, ["a"], store=store))):
        assert [type(outcome.value) for outcome in outcomes] == [kind]


def test_a_validator_of_ones_own(store: Path) -> None:
    """Whatever a type's own validator raises is that item's error, never the run's."""

    class Strange(pydantic.BaseModel):
        label: str

        @pydantic.field_validator("label")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise KeyError(value)

    outcomes = streamed(hr.Ask("{item}", returns=Strange, model="sim:"), ["a", "b"], store=store)
    assert [outcome.error.kind for outcome in outcomes if outcome.error] == ["answer", "answer"]


def test_a_model_in_full(store: Path) -> None:
    """Address, key and headers of a Model are used, and its repr hides them; the default is the small local one."""
    with endpoint(lambda _: completion("yes")) as server:
        model = hr.Model("openai:m", base_url=server.url, api_key="sk-mine", headers={"X-Team": "secret-team"})
        ask = hr.Ask("{item}?", system="Be brief.", model=model, temperature=0, max_tokens=5, params={"seed": 1})
        run = hr.run(ask, ["x"], store=store)
        assert [outcome.value for outcome in run] == ["yes"]
        asked = server.asked[0]
    assert asked.headers["authorization"] == "Bearer sk-mine"
    assert asked.headers["x-team"] == "secret-team"
    assert (asked.body["temperature"], asked.body["max_tokens"], asked.body["seed"]) == (0, 5, 1)
    assert "sk-mine" not in repr(model)
    assert "secret-team" not in repr(model)
    assert hr.Ask("{item}").model == "local"


def test_usage_is_told(store: Path) -> None:
    """What an answer took is in its outcome, and stays there when a rerun serves it from the store."""
    ask = hr.Ask("{item}", model="sim:")
    first = next(iter(hr.run(ask, ["hello"], store=store, name="mine")))
    assert (first.attempts, first.cached, first.input_tokens, first.usd) == (1, False, 2, None)
    assert first.output_tokens is not None
    again = next(iter(hr.run(ask, ["hello"], store=store, name="mine")))
    assert (again.attempts, again.input_tokens, again.output_tokens) == (1, 2, first.output_tokens)


# Data frames in, data frames out

ROOT = Path(__file__).parents[2]


def reviews() -> pl.DataFrame:
    return pl.DataFrame({
        "id": ["a", "b", "c"], "text": ["one", None, "two"], "n": [1, None, 3],
        "on": [dt.date(2024, 2, 3), None, dt.date(2024, 2, 4)], "price": [decimal.Decimal("1.50"), None, decimal.Decimal("2.00")],
        "kind": pl.Series(["x", "y", "x"], dtype=pl.Categorical), "tags": [["p"], [], None],
    })  # fmt: skip


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "arrow", "reader"])
def test_a_frame_goes_in_and_comes_out(kind: str, store: Path, tmp_path: Path) -> None:
    """A frame is a table like any other: its columns are in the prompt, and keep their types in every result."""
    frame: Any = reviews()
    given: Any = {
        "polars": lambda: frame, "lazy": frame.lazy, "arrow": frame.to_arrow,
        "reader": lambda: frame.to_arrow().to_reader(), "pandas": lambda: pd.DataFrame(frame.to_dicts()),
    }[kind]()  # fmt: skip
    ask = hr.Ask("Judge {id}: {text} of {on}", returns="label: good|bad, score: float 0..1", model="sim:")
    run = hr.run(ask, given, key="id", store=store, to=tmp_path / "out.parquet")
    assert (run.status, run.ok, run.failed) == ("finished", 3, 0)
    assert [outcome.key for outcome in run] == ["a", "b", "c"]
    table = run.to_arrow()
    written = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == written.to_pylist()
    plain = [name for name in table.column_names if name not in ("kind", "tags")]  # Parquet names parts of these anew
    assert table.select(plain).schema.equals(written.select(plain).schema)
    assert table.column_names == [*frame.columns, "label", "score", "error", "attempts", "seconds"]
    assert table["on"].to_pylist() == frame["on"].to_list()
    assert table["price"].to_pylist() == frame["price"].to_list()
    assert pa.types.is_dictionary(table.schema.field("kind").type) == (kind != "pandas")
    assert run.to_polars().equals(pl.read_parquet(tmp_path / "out.parquet"))
    pd.testing.assert_frame_equal(run.to_pandas(), pd.read_parquet(tmp_path / "out.parquet"))


def test_one_column_of_a_frame(store: Path) -> None:
    """A column is a list of values, and a name of it is what was given."""
    for column in (
        pd.Series(["a", None, "b"]),
        pl.Series("text", ["a", None, "b"]),
        pa.chunked_array([["a", None, "b"]]),
    ):
        run = hr.run(hr.Ask("Judge {item}", model="sim:"), column, store=store)
        assert [outcome.item for outcome in run] == ["a", None, "b"]
        assert [outcome.ok for outcome in run] == [True, False, True]


def test_a_frame_that_is_named_is_continued(store: Path) -> None:
    """A frame has no path: under a name its run goes on where it was, with new rows too."""
    frame = reviews()
    ask = hr.Ask("Judge {id}", model="sim:")
    first = hr.run(ask, frame[:2], key="id", name="mine", store=store)
    again = hr.run(ask, frame, key="id", name="mine", store=store)
    assert (first.id, first.ok, again.ok) == (again.id, 2, 3)
    assert [outcome.key for outcome in streamed(ask, frame, key="id", store=store) if not outcome.cached] == []


def test_results_of_what_has_no_columns(store: Path) -> None:
    """Results of bare values and of functions are tables too; of nothing, an empty one."""
    run = hr.run(lambda number: {"half": number / 2}, [1, 2], store=store)
    assert run.to_pandas()["item"].tolist() == [1, 2]
    assert list(run.to_polars().columns) == ["item", "answer", "error", "attempts", "seconds"]
    nothing = hr.run(hr.Ask("{a}", returns="b: int", model="sim:"), pd.DataFrame({"a": []}), store=store)
    assert (nothing.status, len(nothing), nothing.to_arrow().num_rows) == ("finished", 0, 0)
    assert nothing.to_polars().columns == ["a", "b", "error", "attempts", "seconds"]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_frame_of_a_package_that_is_not_there(package: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told with what to install, and with what is there without it."""
    run = hr.run(double, [1], store=store)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(hr.UsageError, match=f"{package} is not installed") as caught:
        getattr(run, f"to_{package}")()
    assert caught.value.kind == "missing-extra"
    assert f"pip install {package}" in caught.value.hint
    assert run.to_arrow().num_rows == 1


def test_a_run_in_hand(store: Path, tmp_path: Path) -> None:
    """What failed, the results as files and as a page, and all runs of a store, also from another program."""

    def half(number: int) -> float:
        if number % 2:
            raise ValueError("odd")
        return number / 2

    run = hr.run(half, range(10), store=store, name="halves", retry=FAST)
    assert [(outcome.key, str(outcome.error)) for outcome in run.failures()] == [
        (outcome.key, "function: ValueError: odd") for outcome in run if not outcome.ok
    ]
    assert (len(list(run.failures())), run.calls) == (5, 10)
    assert run.export(tmp_path / "a.csv") == 10
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 11
    with pytest.raises(hr.OutputError, match=r"a\.pdf ends in \.pdf"):
        run.report(tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()
    run.report(tmp_path / "a.html")
    assert "halves" in (tmp_path / "a.html").read_text()
    with pytest.raises(hr.OutputError):
        run.export(tmp_path / "a.docx")
    (found,) = hr.runs(store)
    assert repr(found) == repr(run) == "<Run halves: finished, 5 ok, 5 failed>"
    assert [outcome.value for outcome in found] == [outcome.value for outcome in run]
    with pytest.raises(hr.StoreError):
        hr.runs(tmp_path / "nowhere.db")


# What is seen


def test_values_are_seen_as_they_were_written(store: Path) -> None:
    """A repr has what was said and no more, cut where it is long; keys and passwords are in none."""
    model = hr.Model("openai:m", base_url="https://host/v1", api_key="sk-canary", headers={"X": "canary"})
    seen = {
        repr(hr.Ask("Judge {text}", returns=Insight, model=model)):
            "Ask('Judge {text}', returns=Insight, model=Model('openai:m', base_url='https://host/v1'))",
        repr(hr.Map(double, name="d", version="2")): "Map(double, name='d', version='2')",
        repr(hr.Limits(concurrency=4)): "Limits(concurrency=4)",
        repr(hr.Limits()): "Limits()",
        repr(hr.Table("a.csv", delimiter=";")): "Table('a.csv', delimiter=';')",
        repr(hr.Table("postgresql://me:canary@host/db", query="select 1")): "Table('postgresql://me@host/db', query='select 1')",
        repr(hr.Ask("x" * 1000)): f"Ask('{'x' * 79}…')",
    }  # fmt: skip
    for written, expected in seen.items():
        assert written == expected
        assert "canary" not in written
    (outcome,) = hr.run(double, [3], store=store)
    assert repr(outcome).startswith("Outcome(key='0-")
    assert "position=0, item=3, value=6, attempts=1" in repr(outcome)
    assert "error" not in repr(outcome)


def test_a_run_as_html_is_escaped(store: Path) -> None:
    """Keys, columns, items, answers and errors are foreign text: none of it is markup in a notebook."""
    evil = "<img src=x onerror=alert(1)>"

    def fail(row: dict[str, str]) -> str:
        if row["n"] == "1":
            raise ValueError(evil)
        return evil

    run = hr.run(fail, [{evil: evil, "n": str(n)} for n in range(30)], name=evil, store=store, retry=FAST)
    html = run._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img") > 10
    assert "and 20 more rows" in html


def test_notices_are_warnings(store: Path, tmp_path: Path) -> None:
    """How a file was read that is not as it seems is told once, as a warning that can be made an error."""
    (tmp_path / "old.csv").write_bytes("text\nGrüße\n".encode("latin-1"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            assert [outcome.value for outcome in hr.run(shout, tmp_path / "old.csv", store=store)] == ["GRÜSSE"]
    assert [each.category for each in told] == [hr.HeadraceWarning]
    assert "old.csv" in str(told[0].message)
    (tmp_path / "new.csv").write_bytes("text\nGrüße\n".encode("latin-1"))
    with pytest.raises(hr.HeadraceWarning, match=r"new\.csv"):
        hr.run(shout, tmp_path / "new.csv", store=store)


def test_a_late_notice_comes_when_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That no price is known is found out while the run goes on: as an error it takes no result away."""

    def unknown(*_given: Any, **_more: Any) -> Any:
        raise TypeError("the data is not as it was")

    monkeypatch.setattr("headrace.endpoints.bundled", unknown)
    monkeypatch.setattr("headrace.endpoints._NEAR", frozenset())
    with simulator() as provider, warnings.catch_warnings():
        warnings.simplefilter("error", hr.HeadraceWarning)
        model = hr.Model("openai:of-no-price", base_url=provider.url, api_key="k")
        with pytest.raises(hr.HeadraceWarning, match=r"cannot be looked up .TypeError: the data is not as it was."):
            hr.run(hr.Ask("{item}", model=model), ["a", "b"], store=tmp_path / "s.db", to=tmp_path / "o.jsonl")
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 2


def test_a_function_of_groups_that_hangs_fails_its_group(store: Path) -> None:
    """A plain function cannot be stopped: its group ends with an error that says so, and the run is finished."""
    let_go = threading.Event()
    try:
        run = hr.run(hr.Reduce(lambda _rows: let_go.wait(60)), [1, 2, 3], store=store, timeout=0.05)
    finally:
        let_go.set()
    assert run.status == "finished"
    (failure,) = run.failures()
    assert failure.error is not None
    assert "No answer within 0.05 s" in failure.error.message


def shout(row: dict[str, str]) -> str:
    return row["text"].upper()


def test_a_program_is_silent_unless_asked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A library writes nothing; with `progress` it says how the run goes and how it ended."""
    hr.run(double, [1, 2], store=store)
    assert capsys.readouterr() == ("", "")
    hr.run(double, [1, 2], store=store, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 items: 2 ok, 0 failed" in err
    assert "\x1b" not in err
    streamed(double, [1, 2], store=store, progress=True)
    assert "2 items: 2 ok" in capsys.readouterr().err


class Gone(io.StringIO):
    """A terminal that was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_display_that_breaks_breaks_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run goes on when nobody can look on any more."""
    monkeypatch.setattr(sys, "stderr", Gone())
    ask = hr.Ask("{item}", model="sim:latency=0.2")
    assert hr.run(ask, range(12), store=store, progress=True, limits=hr.Limits(concurrency=2)).ok == 12


# The parameters


def test_the_three_ways_take_the_same() -> None:
    """`run`, `arun` and `stream` have the same parameters, typed and with the same defaults, each told in the
    docstring and on the page."""
    ways = {way.__name__: dict(inspect.signature(way).parameters) for way in (hr.run, hr.arun, hr.stream)}
    assert [str(each) for each in ways["run"].values()] == [str(each) for each in ways["arun"].values()]
    del ways["run"]["to"], ways["stream"]["ordered"]
    assert [str(each) for each in ways["run"].values()] == [str(each) for each in ways["stream"].values()]
    page = (ROOT / "docs/reference/python.md").read_text("utf-8")
    section = page.partition("### run\n")[2].partition("\n### ")[0]
    for name, each in inspect.signature(hr.run).parameters.items():
        assert each.annotation is not inspect.Parameter.empty
        assert f"        {name}: " in (hr.run.__doc__ or ""), name
        assert re.search(rf"`{name}[`=]", section.partition("\n\n")[2]), name


@pytest.mark.parametrize("kind", [hr.Ask, hr.Map])
def test_what_checkers_see_is_what_there_is(kind: Any) -> None:
    """The signatures that are written for type checkers have the fields of the value, with their defaults."""
    tree = ast.parse((ROOT / "src/headrace/task/work.py").read_text("utf-8"))
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
    made = [node for node in ast.walk(found) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    fields = list(inspect.signature(kind).parameters)
    for each in made[:-1]:
        names = [argument.arg for argument in (*each.args.args[1:], *each.args.kwonlyargs)]
        assert sorted(names) == sorted(fields)


def test_the_example_runs(tmp_path: Path) -> None:
    """The example that type checkers read is also a program that works."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples/python_face.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "answers.parquet" in ended.stdout


# Functions that fail


class Throttle(Exception):
    """As SDKs raise it."""

    status_code = 429


def fail(kind: str) -> Any:
    match kind:
        case "raise":
            raise ValueError("not this one")
        case "json":
            return object()
        case "cycle":
            cycle: list[Any] = []
            cycle.append(cycle)
            return cycle
        case "keys":
            return {("a", "b"): 1}
        case "ours":
            raise hr.ItemError("my own words", hint="mine")
        case "stop":
            raise StopIteration
    return kind


async def fail_async(kind: str) -> Any:
    if kind == "cancel":
        raise asyncio.CancelledError
    return fail(kind)


@pytest.mark.parametrize("function", [fail, fail_async])
def test_a_failing_function_fails_its_item_alone(function: Callable[[str], Any], store: Path) -> None:
    """Exceptions and results without a JSON form are outcomes with their reason; all other items are done."""
    kinds = ["fine", "raise", "json", "cycle", "keys", "ours", "stop", "fine"] + (
        ["cancel"] if function is fail_async else []
    )
    run = hr.run(function, kinds, store=store, retry=FAST)
    assert (run.status, run.ok, run.failed) == ("finished", 2, len(kinds) - 2)
    errors = [str(outcome.error) if outcome.error else "" for outcome in run]
    assert errors[0] == errors[7] == ""
    assert errors[1] == "function: ValueError: not this one"
    for number, kind in ((2, "object"), (3, "list"), (4, "dict")):
        assert errors[number].startswith(f"function: The function returned {kind}, which has no JSON form")
    assert errors[5] == "item: my own words"
    assert errors[6].startswith("function: ")
    assert all("cancelled itself" in error for error in errors[8:])


def test_an_sdks_error_is_treated_by_its_status(store: Path) -> None:
    """A 429 of an SDK inside a function is waited out and tried again, a broken connection too, a 400 is not."""
    tried: Counter[str] = Counter()

    async def call(kind: str) -> str:
        tried[kind] += 1
        if tried[kind] < 3:
            if kind == "throttled":
                raise Throttle("slow down")
            if kind == "reset":
                raise ConnectionResetError
            if kind == "bad":
                bad = Throttle("no")
                bad.status_code = 400
                raise bad
        return "done"

    run = hr.run(call, ["throttled", "reset", "bad"], store=store, retry=hr.Retry(base_s=0.001))
    assert [outcome.attempts for outcome in run] == [3, 3, 1]
    assert [outcome.error.kind if outcome.error else None for outcome in run] == [None, None, "rejected"]


def test_what_a_function_says_it_returns(store: Path) -> None:
    """A return annotation gives its type back, from the store too; a result that is not of it is an error."""

    def judge(number: int) -> Insight:
        return Insight(label="good", theScore=0.5, tags=[]) if number else {"label": "ugly"}  # type: ignore[return-value]

    def place(number: int) -> Point:
        return Point(number, 1)

    run = hr.run(judge, [1, 0], store=store)
    good, bad = list(run)
    assert good.value == Insight(label="good", theScore=0.5, tags=[])
    assert bad.error is not None
    assert bad.error.kind == "function"
    assert "judge returned is not of the type" in bad.error.message
    assert [outcome.value for outcome in hr.run(place, [3], store=store)] == [Point(3, 1)]
    assert [outcome.value for outcome in streamed(hr.Map(place, name="p", version="1"), [3], store=store)] == [
        Point(3, 1)
    ]


def test_named_and_versioned_functions_are_not_computed_again(store: Path) -> None:
    """With a name and a version results are kept, for equal items in flight too; a new version computes anew, and
    without either nothing is reused."""
    computed: Counter[int] = Counter()

    async def work(number: int) -> int:
        computed[number] += 1
        await asyncio.sleep(0)
        return number + 1

    items = [1, 2, 1, 1, 2, 3]
    for version, times in (("1", 1), ("1", 1), ("2", 2)):
        run = hr.run(hr.Map(work, name="work", version=version), items, store=store)
        assert [outcome.value for outcome in run] == [2, 3, 2, 2, 3, 4]
        assert computed == {1: times, 2: times, 3: times}
    for _ in range(2):
        hr.run(hr.Map(work, name="work"), [3], store=store)
    assert computed[3] == 4


def test_two_runs_at_once_in_one_program(store: Path) -> None:
    """Runs in one program that share a store compute equal items once, and each has all outcomes."""
    computed: Counter[int] = Counter()

    async def work(number: int) -> int:
        computed[number] += 1
        await asyncio.sleep(0)
        return number

    async def both() -> list[hr.Run]:
        mapped = hr.Map(work, name="work", version="1")
        return await asyncio.gather(*(hr.arun(mapped, list(range(50)), store=store, name=name) for name in "ab"))

    assert [run.ok for run in asyncio.run(both())] == [50, 50]
    assert set(computed.values()) == {1}


# How functions are called


def test_plain_functions_run_in_threads_as_many_as_allowed(store: Path) -> None:
    """As many at once as the limit says, no more, with the context of who called."""
    meet = threading.Barrier(4, timeout=60)
    lock = threading.Lock()
    context: contextvars.ContextVar[str] = contextvars.ContextVar("context", default="none")
    running = most = 0

    def work(_number: int) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meet.wait()  # passes only where four are here at once
        with lock:
            running -= 1
        return context.get()

    context.set("mine")
    run = hr.run(work, list(range(40)), store=store, limits=hr.Limits(concurrency=4))
    assert {outcome.value for outcome in run} == {"mine"}
    assert most == 4


HANGS = """
import sys, threading, headrace as hr
def work(number):
    if number in {hanging}:
        threading.Event().wait()
    return number
run = hr.run(work, list(range(30)), timeout=0.3, limits=hr.Limits(concurrency={concurrency}), retry=hr.Retry(base_s=0.01))
print(run.status, run.ok, run.failed, sorted({{str(outcome.error) for outcome in run if not outcome.ok}}))
"""


def test_a_function_that_hangs(tmp_path: Path) -> None:
    """With a timeout, a plain function that never returns is an error outcome; it holds up neither run nor program."""
    cli = Cli(tmp_path)
    cli.file("f.py", HANGS.format(hanging="{3, 17}", concurrency=8))
    ended = cli.shell(f"{cli.python} f.py")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "finished 28 2 ['timeout: No answer within 0.3 s. Its thread goes on: it cannot be stopped.']\n"


def test_an_async_function_that_hangs(store: Path) -> None:
    """It is cancelled at its timeout, and its slot is free again."""
    cancelled: list[int] = []

    async def work(number: int) -> int:
        try:
            if number % 5 == 0:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    run = hr.run(work, list(range(20)), store=store, timeout=0.05, retry=FAST, limits=hr.Limits(concurrency=2))
    assert (run.ok, run.failed) == (16, 4)
    assert Counter(cancelled) == {0: 2, 5: 2, 10: 2, 15: 2}


# Streams


def test_leaving_the_loop(store: Path, tmp_path: Path) -> None:
    """Who leaves the loop ends the run; what was done is in the store, and the rerun does the rest."""
    (tmp_path / "a.csv").write_text("number\n" + "".join(f"{number}\n" for number in range(200)))
    computed: Counter[str] = Counter()

    async def work(row: dict[str, str]) -> str:
        computed[row["number"]] += 1
        await asyncio.sleep(0)
        return row["number"]

    mapped = hr.Map(work, name="work", version="1")
    settings: dict[str, Any] = {"store": store, "limits": hr.Limits(concurrency=5)}

    async def leave() -> int:
        async for outcome in hr.stream(mapped, tmp_path / "a.csv", **settings):
            assert outcome.ok
            if len(computed) > 30:
                break
        run = await hr.arun(mapped, tmp_path / "a.csv", **settings)  # at once: the first may not have ended yet
        return run.ok

    assert asyncio.run(leave()) == 200
    assert len(computed) == 200
    assert sum(computed.values()) <= 200 + 5


def test_a_source_is_closed_when_the_loop_is_left(store: Path) -> None:
    """Whoever leaves the loop leaves no generator open."""
    closed: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append("async")

    async def leave() -> None:
        async with aclosing(hr.stream(double, endless(), store=store)) as outcomes:
            async for _ in outcomes:
                break

    asyncio.run(leave())
    assert closed == ["async"]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_slow_consumer_bounds_what_is_read(kind: str, ordered: bool, store: Path) -> None:
    """G5: reading keeps a bounded distance to what was taken, whatever the speed of source and function."""
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in itertools.count():
            read = number
            yield number

    async def numbers_async() -> AsyncIterator[int]:
        for number in numbers():
            yield number

    async def main() -> int:
        furthest = taken = 0
        source = numbers() if kind == "plain" else numbers_async()
        stream = hr.stream(double, source, store=store, ordered=ordered, limits=hr.Limits(concurrency=4))
        async with aclosing(stream) as outcomes:
            async for _ in outcomes:
                taken += 1
                furthest = max(furthest, read - taken)
                if taken == 3000:
                    break
                for _ in range(200 if taken % 100 == 0 else 0):
                    await asyncio.sleep(0)
        return furthest

    assert asyncio.run(main()) < 2500


# What is told when it cannot work


def test_errors_before_anything_is_asked(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot work raises what the documentation says, from `run`, `arun` and `stream` alike."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "folder").mkdir()
    row = [{"text": "a"}]
    cases: list[tuple[type[Exception], str, Any, Any, dict[str, Any]]] = [
        (hr.UsageError, "Unknown model", hr.Ask("{text}", model="x"), row, {}),
        (hr.UsageError, "no API key", hr.Ask("{text}", model="openai:m"), row, {}),
        (hr.UsageError, "names {body}", hr.Ask("{body}", model="sim:"), row, {}),
        (hr.UsageError, "lone", hr.Ask("{text} {", model="sim:"), row, {}),
        (hr.UsageError, "'maybe' is no type", hr.Ask("{text}", model="sim:", returns="a: maybe"), row, {}),
        (hr.UsageError, "nothing that can be run", 3, row, {}),
        (hr.UsageError, "one mapping", double, {"a": 1}, {}),
        (hr.UsageError, "cannot be read", double, 3, {}),
        (hr.UsageError, "timeout of 0", double, [1], {"timeout": 0}),
        (hr.UsageError, "first", double, [1], {"first": 0}),
        (hr.UsageError, "no key column", double, [{"a": 1}], {"key": "b"}),
        (hr.InputError, "no file", double, tmp_path / "nowhere.csv", {}),
        (hr.InputError, "no text files", double, tmp_path / "folder", {}),
        (hr.StoreError, "could not be opened", double, [1], {"store": tmp_path / "folder"}),
    ]  # fmt: skip
    for kind, message, work, items, settings in cases:
        for way in (hr.run, streamed):
            with pytest.raises(kind, match=message) as caught:
                way(work, items, **{"store": store, **settings})
            assert isinstance(caught.value, hr.HeadraceError)
            assert caught.value.hint
    with pytest.raises(hr.OutputError, match="does not exist"):
        hr.run(double, [1], store=store, to=tmp_path / "nowhere" / "a.csv")
    with pytest.raises(hr.UsageError, match="concurrency of 0"):
        hr.Limits(concurrency=0)


def test_a_refused_key_raises(store: Path) -> None:
    """Refused credentials end the run with the provider's error, for whoever runs and whoever streams."""
    with simulator("--api-key", "sk-good") as provider:
        bad = hr.Ask("{item}", model=hr.Model("openai:m", base_url=provider.url, api_key="sk-bad"))
        for way in (hr.run, streamed):
            with pytest.raises(hr.CallError, match="401") as caught:
                way(bad, ["a", "b"], store=store)
            assert caught.value.status == 401
            assert caught.value.kind == "credentials"
            assert "sk-bad" not in repr(caught.value)
        good = hr.Ask("{item}", model=hr.Model("openai:m", base_url=provider.url, api_key="sk-good"))
        assert hr.run(good, ["a", "b"], store=store).ok == 2


def test_a_source_that_raises(store: Path) -> None:
    """An error of the caller's own source reaches the caller, after what was read before it is done and stored."""

    def numbers() -> Iterator[int]:
        yield from range(20)
        raise LookupError("the source broke")

    done: list[int] = []

    async def work(number: int) -> int:
        done.append(number)
        return number

    with pytest.raises(LookupError, match="the source broke"):
        hr.run(work, numbers(), store=store, name="mine")
    assert sorted(done) == list(range(20))
    assert len(hr.run(work, list(range(20)), store=store, name="mine", retry_failed=False)) == 20


def test_one_run_twice_at_once(store: Path) -> None:
    """The same run cannot be started while it goes on."""

    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def work(number: int) -> int:
            started.set()
            await go_on.wait()
            return number

        first = asyncio.create_task(hr.arun(work, [1], store=store, name="mine"))
        await started.wait()
        with pytest.raises(hr.StoreError, match="going on"):
            await hr.arun(work, [1], store=store, name="mine")
        go_on.set()
        assert (await first).ok == 1

    asyncio.run(main())
