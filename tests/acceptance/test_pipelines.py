"""Pipelines from a file and from Python, end to end: what goes in, what each stage does to it, what comes out."""

import asyncio
import csv
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest

import headrace as hr
from acceptance.browser import browser, needs_chromium
from acceptance.cli import Cli, the_sentence
from acceptance.site import Site, site, words
from simulator import Simulator, simulator

PIPELINE = """
[[stage]]
kind = "ask"
prompt = "Of {text}?"
returns = "label: a|b, score: float 0..1"

[[stage]]
kind = "filter"
keep = "score >= 0.3"

[[stage]]
kind = "top"
count = 5
by = "score"

[[stage]]
kind = "ask"
name = "dive"
prompt = "More of {text}, {label}"
"""
COLUMNS = ["id", "text", "label", "score", "answer", "error", "attempts", "seconds"]
SIM = ("--model", "sim:")


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator() as made:
        yield made


@pytest.fixture(scope="module")
def pages() -> Iterator[Site]:
    with site() as there:
        yield there


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    made = Cli(tmp_path)
    made.file("p.toml", PIPELINE)
    made.file("in.csv", "id,text\n" + "".join(f"k{number},t{number}\n" for number in range(20)))
    return made


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    head, *rows = openpyxl.load_workbook(path).active.values
    return [dict(zip(head, row, strict=True)) for row in rows]


# The command


def test_a_pipeline_in_a_pipe(cli: Cli) -> None:
    """Rows come as JSON Lines: the source's columns, what stages added, the last value; who was taken out is not there."""
    ended = cli.run("run", "p.toml", "in.csv", *SIM)
    assert ended.status == 0, ended.err
    assert [list(row) for row in ended.rows] == [COLUMNS] * 5
    assert min(row["score"] for row in ended.rows) >= 0.3
    assert {row["attempts"] for row in ended.rows} == {2}
    assert "20 items: 5 ok, 0 failed, 15 taken out" in ended.err
    assert "dive   5 in, 5 on" in ended.err


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_pipeline_to_a_file(cli: Cli, format_: str) -> None:
    """Every format has the same columns and rows, in the order of the source."""
    ended = cli.run("run", "p.toml", "in.csv", *SIM, "-o", f"out.{format_}", "--key", "id")
    assert ended.status == 0, ended.err
    rows = read(cli.folder / f"out.{format_}")
    assert [list(row) for row in rows] == [COLUMNS] * 5
    assert sorted((row["id"] for row in rows), key=lambda key: int(key[1:])) == [row["id"] for row in rows]
    assert all(row["answer"].startswith("simulated answer ") for row in rows)
    again = cli.run("run", "p.toml", "in.csv", *SIM, "-o", f"again.{format_}", "--key", "id")
    assert "0 calls" in again.err
    assert [{**row, "attempts": 0} for row in rows] == [
        {**row, "attempts": 0} for row in read(cli.folder / f"again.{format_}")
    ]


def test_a_pipeline_between_two_pipes(cli: Cli) -> None:
    """Standard input in, ordered rows out."""
    rows = "".join(f'{{"text":"t{number}"}}\n' for number in range(30))
    ended = cli.run("run", "p.toml", "-", *SIM, "--ordered", stdin=rows)
    assert ended.status == 0, ended.err
    numbers = [int(row["text"][1:]) for row in ended.rows]
    assert numbers == sorted(numbers)
    assert len(numbers) == 5


def test_some_failed(cli: Cli, pages: Site) -> None:
    """What fails at a stage is a row with its error, without the columns of later stages; the status is 1."""
    cli.file(
        "f.toml",
        '[[stage]]\nkind = "fetch"\nurl = "{link}"\nallow = ["127.0.0.1"]\n[[stage]]\nkind = "extract"\n'
        '[[stage]]\nkind = "ask"\nprompt = "{text}"\n',
    )
    cli.file("links.csv", f"link\n{pages.url}/one\n{pages.url}/gone-two\nmailto:x@example.com\n")
    ended = cli.run("run", "f.toml", "links.csv", *SIM, "-o", "out.csv")
    assert ended.status == 1, ended.err
    rows = read(cli.folder / "out.csv")
    assert list(rows[0]) == [
        "link", "final_url", "status", "content_type", "title", "text", "answer", "error", "attempts", "seconds",
    ]  # fmt: skip
    assert words("one") in rows[0]["text"]
    assert rows[1]["error"] == "page: 127.0.0.1 answered 404."
    assert rows[2]["error"].startswith("item: 'mailto:x@example.com' is no address of a page")
    assert [row["text"] == "" for row in rows] == [False, True, True]


WRONG = [
    (PIPELINE.replace('"top"', '"tpo"'), "Stage 3 is of the kind 'tpo'"),
    (
        PIPELINE.replace("{text}?", "{txt}?"),
        "The prompt of ask names {txt}, and no such column comes to it. Did you mean {text}?",
    ),
    (PIPELINE.replace("score >= 0.3", "scor >= 0.3"), "filter names 'scor', and there is no such column"),
    (PIPELINE.replace("score >= 0.3", "label > 3"), "filter compares 'label' with a number"),
    (PIPELINE.replace("score >= 0.3", "__import__('os')"), "holds"),
    (PIPELINE.replace('by = "score"', 'by = "label"'), "top compares 'label' with a number"),
    (PIPELINE.replace("count = 5", 'count = "5"'), "'count' of Stage 3 (top) is '5'"),
    (PIPELINE.replace("count = 5", "cuont = 5"), "Stage 3 has no 'cuont'"),
    (PIPELINE.replace("count = 5", ""), "Stage 3 (top) lacks 'count'"),
    (PIPELINE + "name = ", "p.toml is no TOML"),
    (b"\xff", "p.toml is no TOML"),
    ("", "p.toml: There are no stages."),
    ('model = "sim:"\n' + PIPELINE, "p.toml: A pipeline has no 'model'."),
    ('[[stage]]\nkind = "extract"\n', "There is no page to read."),
    ('[[stage]]\nkind = "map"\nfunction = {import = "nowhere:f"}\n', "'nowhere:f' cannot be imported"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_in_the_file(cli: Cli, text: str | bytes, said: str) -> None:
    """One sentence that names the stage, and status 2, before any call."""
    cli.file("p.toml", text)
    assert said in the_sentence(cli.run("run", "p.toml", "in.csv", *SIM, "-o", "out.csv"))
    assert not (cli.folder / "out.csv").exists()


def test_what_is_wrong_with_the_words(cli: Cli) -> None:
    """No such file, a folder, no input, two inputs, no model, words of a single question: a sentence each."""
    (cli.folder / "d.toml").mkdir()
    wrong = {
        ("q.toml", "in.csv", *SIM): "The pipeline q.toml cannot be read: No such file",
        ("d.toml", "in.csv", *SIM): "The pipeline d.toml cannot be read: Is a directory",
        ("p.toml", *SIM): "the following arguments are required: INPUT",
        ("in.csv", "p.toml", *SIM): "There are two inputs: in.csv and p.toml",
        ("p.toml", "in.csv"): "p.toml: Stage 1 asks, and no model is said",
        ("p.toml", "in.csv", *SIM, "--ask", "x"): "--ask is for one question, and p.toml is a pipeline",
        ("p.toml", "none.csv", *SIM): "none.csv",
    }
    for given, said in wrong.items():
        assert said in the_sentence(cli.run("run", *given)), given


def test_show_prompt_shows_the_stages(cli: Cli) -> None:
    """With --show-prompt the stages are shown, and nothing is asked or stored."""
    ended = cli.run("run", "p.toml", "in.csv", *SIM, "--show-prompt")
    assert ended.out.splitlines()[1:3] == ["2. filter: Filter('score >= 0.3')", "3. top: Top(5, 'score')"]
    assert not (cli.folder / ".headrace").exists()


def test_runs_of_pipelines(cli: Cli) -> None:
    """List, show, export and resume know a pipeline's run; resuming asks nothing that was answered."""
    first = cli.run("run", "p.toml", "in.csv", *SIM, "-o", "out.csv", "--key", "id")
    assert first.status == 0, first.err
    (listed,) = cli.run("runs", "list", "--json").rows
    assert (listed["ok"], listed["failed"], listed["pending"], listed["status"]) == (5, 0, 0, "finished")
    name = listed["name"]
    shown = cli.run("runs", "show", name).out
    assert "stage     ask, model sim:, prompt Of {text}?" in shown
    assert "stage     dive (ask), model sim:, prompt More of {text}, {label}" in shown
    assert cli.run("runs", "export", name, "-o", "exported.csv").status == 0
    assert (cli.folder / "exported.csv").read_bytes() == (cli.folder / "out.csv").read_bytes()
    resumed = cli.run("runs", "resume", name, "-o", "resumed.csv")
    assert (resumed.status, "0 calls" in resumed.err) == (0, True), resumed.err
    assert [row["answer"] for row in read(cli.folder / "resumed.csv")] == [
        row["answer"] for row in read(cli.folder / "out.csv")
    ]
    assert cli.run("runs", "report", name, "-o", "r.html").status == 0


def test_no_retry_failed(cli: Cli) -> None:
    """What failed at any stage stays so with --no-retry-failed; without it, it is asked again."""
    cli.file(
        "broken.py",
        "import os\ndef parts(row):\n    if row['text'] in os.environ['BROKEN']:\n        raise ValueError('no')\n    return [1, 2]\n",
    )
    cli.file(
        "b.toml",
        '[[stage]]\nkind = "expand"\ninto = {import = "broken:parts"}\n[[stage]]\nkind = "ask"\nprompt = "{text} {result}"\n',
    )
    cli.table("t.csv", ["x", "y"])
    cli.environ["PYTHONPATH"] += os.pathsep + str(cli.folder)
    cli.environ["BROKEN"] = "y"
    words = ("run", "b.toml", "t.csv", *SIM, "-o", "out.csv", "--key", "text")
    assert cli.run(*words).status == 1
    rows = read(cli.folder / "out.csv")
    assert [(row["text"], row["error"] != "") for row in rows] == [("x", False), ("x", False), ("y", True)]
    cli.environ["BROKEN"] = "-"
    assert cli.run(*words, "--no-retry-failed").status == 1
    assert [row["error"] != "" for row in read(cli.folder / "out.csv")] == [False, False, True]
    assert cli.run(*words).status == 0
    rows = read(cli.folder / "out.csv")
    assert [(row["text"], row["result"]) for row in rows] == [("x", "1"), ("x", "2"), ("y", "1"), ("y", "2")]


def test_a_deadline(cli: Cli) -> None:
    """A pipeline that is out of time writes what is done, status 1; the rest is pending and a rerun finishes it."""
    cli.file(
        "s.toml", '[[stage]]\nkind = "ask"\nprompt = "{text}"\n[[stage]]\nkind = "ask"\nprompt = "{text} {answer}"\n'
    )
    words = ("run", "s.toml", "in.csv", "--model", "sim:latency=0.1", "--concurrency", "2", "-o", "out.csv")
    ended = cli.run(*words, "--deadline", "1")
    assert ended.status == 1, ended.err
    done = len(read(cli.folder / "out.csv"))
    assert 0 < done < 20
    assert cli.run(*words).status == 0
    assert len(read(cli.folder / "out.csv")) == 20


@needs_chromium
def test_the_report_of_a_pipeline(cli: Cli) -> None:
    """The page says what was asked of each stage and what each did; it loads nothing and complains of nothing."""
    assert cli.run("run", "p.toml", "in.csv", *SIM, "--report", "r.html", "-o", "out.csv").status == 0
    with browser(cli.folder) as there:
        page = there.page()
        page.look(1280, 900)
        page.open(cli.folder / "r.html")
        text = page.value("document.body.innerText")
        wide = page.value("document.documentElement.scrollWidth")
        assert (page.complaints, page.requests, page.dialogs) == ([], [], [])
    assert wide <= 1280
    for said in ("taken out\n15", "Of {text}?", "score >= 0.3", "More of {text}, {label}", "The stages"):
        assert said in text, text
    rows = [
        line.split("\t")[:5]
        for line in text.splitlines()
        if line.startswith(("ask sim:", "filter", "top top", "dive sim:"))
    ]
    taken = {row[0].split()[0]: [int(cell) for cell in row[1:3]] for row in rows if len(row) == 5}
    assert taken["ask"] == [20, 20]
    assert taken["top"][1] == taken["dive"][0] == taken["dive"][1] == 5


@pytest.mark.parametrize(("by", "fetched"), [("url", 10), ("domain", 1)])
def test_how_many_pages_came_from_the_store_is_shown(cli: Cli, pages: Site, by: str, fetched: int) -> None:
    """The summary and the report say of a Fetch for how many items nothing was fetched."""
    cli.file("f.toml", f'[[stage]]\nkind = "fetch"\nurl = "{{link}}"\nby = "{by}"\nallow = ["127.0.0.1"]\n'
        '[[stage]]\nkind = "extract"\n')  # fmt: skip
    cli.file("links.csv", "link\n" + "".join(f"{pages.url}/{by}-{number % 10}\n" for number in range(40)))
    words = ("run", "f.toml", "links.csv", "-o", "out.csv", "--report", "r.html")
    before = pages.asked.total()
    ended = cli.run(*words)
    assert (ended.status, pages.asked.total() - before) == (0, fetched)
    assert f"{40 - fetched} of 40 from the store" in ended.err
    assert f'<td class="n">{40 - fetched}</td>' in (cli.folder / "r.html").read_text("utf-8")
    assert "40 of 40 from the store" in cli.run(*words).err


# From Python


def keep(row: Any) -> bool:
    return int(row["n"]) % 2 == 0


def triple(row: Any) -> list[int]:
    return [row["n"]] * 3


@hr.cpu_bound
def squared(row: Any) -> dict[str, int]:
    return {"square": row["n"] ** 2, "pid": os.getpid()}


def total(rows: list[Any]) -> dict[str, int]:
    return {"sum": sum(row["n"] for row in rows)}


async def doubled(row: Any) -> dict[str, int]:
    return {"double": 2 * row["n"]}


ROWS = [{"n": number, "text": f"t{number}"} for number in range(10)]


def values(run: Any) -> list[Any]:
    return [(outcome.item, outcome.value) for outcome in run]


def test_the_three_faces_say_the_same(tmp_path: Path) -> None:
    """run, arun and stream over one pipeline give equal outcomes, from Python as from its written form."""
    pipeline = hr.Pipeline(doubled, hr.Filter("double >= 6"), hr.Ask("Of {double}", model="sim:"))
    run = hr.run(pipeline, ROWS, store=tmp_path / "a.db")
    other = asyncio.run(hr.arun(hr.Pipeline.from_dict(pipeline.to_dict()), ROWS, store=tmp_path / "b.db"))

    async def streamed() -> list[Any]:
        return [outcome async for outcome in hr.stream(pipeline, ROWS, store=tmp_path / "c.db", ordered=True)]

    found = asyncio.run(streamed())
    assert values(run) == values(other) == values(found)
    assert [item["double"] for item, _ in values(run)] == [6, 8, 10, 12, 14, 16, 18]
    assert {outcome.stage for outcome in found} == {"ask"}
    assert (run.ok, run.failed, run.pending, len(run)) == (7, 0, 0, 7)


def test_stages_alone(tmp_path: Path) -> None:
    """A Filter, an Expand, a Top and a Reduce are each a pipeline; what leaves last has the row as its item."""

    def go(stage: Any) -> Any:
        return hr.run(stage, ROWS, store=tmp_path / "s.db")

    assert [item["n"] for item, _ in values(go(hr.Filter("n > 6")))] == [7, 8, 9]
    assert [item["n"] for item, _ in values(go(hr.Filter(keep)))] == [0, 2, 4, 6, 8]
    assert sorted(item["n"] for item, _ in values(go(hr.Top(2, "n")))) == [8, 9]
    spread = go(hr.Expand(triple))
    assert [value for _, value in values(spread)] == [number for number in range(10) for _ in range(3)]
    assert len({outcome.key for outcome in spread}) == 30
    (gathered,) = values(go(hr.Reduce(total)))
    assert gathered[1] == {"sum": 45}
    assert go(hr.Filter("n > 99")).ok == 0
    for path in ("a.csv", "a.parquet", "a.xlsx", "a.html"):
        run = go(hr.Reduce(total))
        assert run.report(tmp_path / path) is None if path.endswith("html") else run.export(tmp_path / path) == 1


def halves(row: Any) -> Iterator[dict[str, int]]:
    yield {"half": 1}
    if row["n"] == 3:
        raise ValueError("no second half")
    yield {"half": 2}


@pytest.mark.parametrize("mode", ["thread", "sync", "process"])
def test_what_a_generator_yields_are_the_items(tmp_path: Path, mode: Any) -> None:
    """In each mode; where it raises, its item fails with what it raised, and none are made of it."""
    run: Any = hr.run(hr.Expand(hr.Map(halves, mode=mode)), ROWS[:4], store=tmp_path / "s.db")
    assert [outcome.value["half"] for outcome in run if outcome.ok] == [1, 2] * 3
    assert [str(outcome.error) for outcome in run.failures()] == ["function: ValueError: no second half"]


def test_groups_of_values_that_look_alike(tmp_path: Path) -> None:
    """The number 1, the text "1", true and null are groups of their own, and each has an outcome."""
    rows = [{"g": value} for value in (1, "1", True, None, "None", "=1", 1)]
    run: Any = hr.run(hr.Reduce(by="g"), rows, store=tmp_path / "s.db")
    assert sorted(len(outcome.value) for outcome in run) == [1, 1, 1, 1, 1, 2]
    assert len({outcome.key for outcome in run}) == 6
    assert run.pending == 0


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "async", "hybrid"])
def test_modes_of_a_map(tmp_path: Path, mode: Any) -> None:
    """Wherever a function runs, the results are the same; processes are others than this one."""
    function = doubled if mode == "async" else squared
    run: Any = hr.run(hr.Pipeline(hr.Map(function, mode=mode), hr.Filter("n > 2")), ROWS, store=tmp_path / "s.db")
    column = "double" if mode == "async" else "square"
    assert [outcome.item["n"] for outcome in run] == list(range(3, 10))
    assert [outcome.value[column] for outcome in run] == [
        2 * n if mode == "async" else n**2 for n in range(3, 10)
    ]  # fmt: skip
    if mode != "async":
        elsewhere = {outcome.value["pid"] for outcome in run} != {os.getpid()}
        assert elsewhere is (mode in ("process", "hybrid"))


def test_sync_is_one_after_another(tmp_path: Path) -> None:
    """In the mode sync no two items are worked on at once, in threads several are."""
    most = {"sync": 0, "thread": 0}
    at_work, lock = [0], threading.Lock()
    for mode in ("sync", "thread"):
        together = threading.Barrier(2, timeout=5)

        def work(row: Any, mode: str = mode, together: threading.Barrier = together) -> int:
            with lock:
                at_work[0] += 1
                most[mode] = max(most[mode], at_work[0])
            if mode == "thread":
                together.wait()
            with lock:
                at_work[0] -= 1
            return int(row["n"])

        run = hr.run(hr.Pipeline(hr.Map(work, mode=mode), hr.Filter("n >= 0")), ROWS, store=tmp_path / "s.db")
        assert run.ok == 10
    assert most["sync"] == 1
    assert most["thread"] >= 2


def test_fetch_and_read_a_site(tmp_path: Path, pages: Site) -> None:
    """Pages are fetched once, also where a run is repeated; equal addresses share; the row has the page's columns."""
    links = [{"link": f"{pages.url}/{name}"} for name in ("py-a", "py-b", "py-a", "gone-py")]
    pipeline = hr.Pipeline(hr.Fetch("{link}", allow=("127.0.0.1",)), hr.Extract(keep=("title", "text", "links")))
    run: Any = hr.run(pipeline, links, store=tmp_path / "s.db")
    assert (run.ok, run.failed) == (3, 1)
    first, second, same, gone = run
    assert words("py-a") in first.value["text"]
    assert (first.item["status"], first.item["content_type"]) == (200, "text/html")
    assert first.value == same.value != second.value
    assert (gone.stage, gone.error.kind) == ("fetch", "page")
    again = hr.run(hr.Pipeline(*pipeline, hr.Ask("{title}", model="sim:")), links, store=tmp_path / "s.db")
    assert (again.ok, again.failed) == (3, 1)
    assert {name: pages.asked[name] for name in ("py-a", "py-b", "gone-py")} == {"py-a": 1, "py-b": 1, "gone-py": 1}
    hr.run(pipeline, links, store=tmp_path / "s.db", fresh=True)
    assert pages.asked["py-a"] == 2


def test_a_run_left_in_the_middle_goes_on(tmp_path: Path, provider: Simulator) -> None:
    """Leaving the loop of a pipeline ends the run; the next one asks only what was not answered."""
    model = hr.Model("openai:simulated", base_url=provider.url)
    pipeline = hr.Pipeline(
        hr.Ask("One {text}", model=model), hr.Filter("n >= 0"), hr.Ask("Two {answer} {text}", model=model)
    )
    rows = [{"n": number, "text": f"left {number}"} for number in range(60)]
    before = provider.ledger(items=False)["paid"]

    async def some() -> int:
        count = 0
        async for _ in hr.stream(pipeline, rows, store=tmp_path / "s.db", name="left", limits=hr.Limits(4)):
            count += 1
            if count == 20:
                break
        return count

    assert asyncio.run(some()) == 20
    assert hr.run(pipeline, rows, store=tmp_path / "s.db", name="left").ok == 60
    assert provider.ledger(items=False)["paid"] - before <= 120 + 8
