"""`headrace calls` as a user runs it: insights, the report, failures, frameworks, resumption, the page."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import headrace as hr
from acceptance.browser import NASTY, Browser, needs_chromium
from acceptance.cli import Cli, fine
from acceptance.endpoint import Answer, Asked, completion, endpoint
from headrace.apps import calls
from simulator import simulator

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "examples" / "calls.csv"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def table(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"c{n}", "agent": f"a{n % 3}", "duration_s": 100 + 10 * n, "transcript": f"call number {n}"}
        for n in range(count)
    ]


def insight(**more: Any) -> Answer:
    said = {"summary": "A call about the line, which works again.", "topic": "support", "sentiment": "neutral"}
    return completion(json.dumps({**said, "resolved": True, "score": 3, **more}))


def themes(text: str = "slow lines") -> Answer:
    return completion(json.dumps({"themes": [text[:60]], "advice": text * 2}))


def test_each_call_becomes_an_insight(cli: Cli) -> None:
    """C1, C8: a typed row for each of 49, with a category; where analysis failed it says so; no more calls than rows."""
    with simulator() as provider:
        words = ("calls", str(TABLE), "--model", "openai:m", "--base-url", provider.url, "--key", "id", "--no-themes")
        ended = fine(cli.run(*words), 1)
        assert provider.ledger()["requests"] == 48
    rows = {row["id"]: row for row in ended.rows}
    assert len(rows) == 49
    assert Counter(row["analysis_success"] for row in rows.values()) == {True: 48, False: 1}
    assert rows["call-13"]["analysis_success"] is False
    assert rows["call-13"]["error"]
    assert {row["category"] for row in rows.values()} == {"short", "medium", "long"}
    for row in rows.values():
        if row["analysis_success"]:
            assert 1 <= row["score"] <= 5
            assert row["sentiment"] in ("positive", "neutral", "negative")


def test_a_result_file_has_the_category_too(cli: Cli) -> None:
    """C1: also in a table that is written at the end."""
    fine(cli.run("calls", str(TABLE), "--model", "sim:", "--key", "id", "-o", "out.parquet"), 1)
    frame = pd.read_parquet(cli.folder / "out.parquet")
    assert list(frame["analysis_success"].value_counts()) == [48, 1]
    assert set(frame["category"]) == {"short", "medium", "long"}


def test_from_python_too(tmp_path: Path) -> None:
    """C1, C5: insights are Pydantic values in the order of the table, and figures follow from them."""
    report = calls.analyse(TABLE, model="sim:", key="id", store=tmp_path / "s.db")
    assert [each.key for each in report.insights] == [f"call-{n:02}" for n in range(1, 50)]
    assert all(isinstance(each, calls.CallInsight) for each in report.insights)
    (failure,) = report.failures
    assert (failure.key, failure.analysis_success, failure.insight) == ("call-13", False, None)
    assert failure.error.startswith("item: ")
    assert sum(each.calls for each in calls.agents(report.insights)) == 49
    best, worst = calls.best(report.insights), calls.worst(report.insights)
    assert best[0].insight is not None
    assert worst[0].insight is not None
    assert best[0].insight.score > worst[0].insight.score
    assert sum(calls.counts(report.insights, "topic").values()) == 48
    assert report.themes is not None


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("calls", str(TABLE)), ["=== the question, for the first row", "Summarise this phone call", '"sentiment"']),
        (
            ("tweets", str(TABLE.with_name("tweets.csv"))),
            ["=== screen, for the first row", "=== deep dive\n", "\n{text}\n"],
        ),
        (
            ("audit", str(TABLE.with_name("brands.csv"))),
            ["=== queries, for the first row", "=== analysis\n", "{answer}"],
        ),
        (("documents", str(TABLE.parent)), ["=== context\n", "=== facts\n", "=== quality\n", "{title}"]),
    ],
)
def test_what_would_be_asked_is_shown(words: tuple[str, ...], shown: list[str], cli: Cli) -> None:
    """Each question of an application, and whether it is that of the first row; nothing is asked or written."""
    ended = fine(cli.run(*words, "--model", "openai:none", "--show-prompt"))
    for each in shown:
        assert each in ended.out
    assert list(cli.folder.iterdir()) == []


def test_how_many_at_once_is_a_setting(cli: Cli) -> None:
    """C2: `--concurrency`, or HEADRACE_CONCURRENCY, is what BATCH_SIZE was; calls in flight are the fewer of it and the rows."""
    with simulator("--latency", "0.3") as provider:
        base = ("calls", str(TABLE), "--model", "openai:m", "--base-url", provider.url, "--key", "id", "--no-themes")
        for words, environ, most in (
            (("--concurrency", "20", "--store", "a.db"), {}, 20),
            (("--store", "b.db"), {"HEADRACE_CONCURRENCY": "40"}, 40),
            (("--concurrency", "80", "--first", "12", "--store", "c.db"), {"HEADRACE_CONCURRENCY": "40"}, 12),
        ):
            provider.reset()
            ended = Cli(cli.folder, **environ).run(*base, *words)
            assert ended.status in {0, 1}, ended.err
            assert provider.ledger()["most_in_flight"] == most


def test_insights_come_as_they_complete(cli: Cli) -> None:
    """C3: one that hangs and one that fails delay nobody."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(12)))
    free: list[bool] = []

    def answer(asked: Asked) -> Answer:
        text = asked.body["messages"][-1]["content"]
        if "number 1\n" in text:
            while not free:
                pass
        if "number 2\n" in text:
            return 400, json.dumps({"error": {"message": "not this one"}})
        return insight()

    with endpoint(answer) as there:
        words = ("calls", "calls.jsonl", "--model", "openai:m", "--base-url", there.url, "--key", "id", "--no-themes")
        with Cli(cli.folder, OPENAI_API_KEY="sk-none").start(*words) as child:
            came = [json.loads(child.line()) for _ in range(11)]
            free.append(True)
            last = json.loads(child.line())
            ended = child.end()
    assert last["id"] == "c1"
    assert [row["id"] for row in came if not row["analysis_success"]] == ["c2"]
    fine(ended, 1)


def test_logs_tell_the_beginning_each_category_and_the_totals(cli: Cli) -> None:
    """C6: how many with how many at once; each success with its category, as a row; totals."""
    ended = fine(cli.run("calls", str(TABLE), "--model", "sim:latency=0.4", "--key", "id", "--concurrency", "40"), 1)
    assert "49 items of " in ended.err
    assert "at most 40 calls at a time" in ended.err
    assert "49 items: 48 ok, 1 failed" in ended.err
    assert "category: 28 medium, 13 long, 8 short" in ended.err
    assert Counter(row["category"] for row in ended.rows) == {"medium": 28, "long": 13, "short": 8}


def test_the_real_limit_is_found_under_a_higher_setting(tmp_path: Path) -> None:
    """C7: 40 workers are stated and 10 are allowed: all calls are answered all the same."""
    with simulator("--latency", "0.1", "--limit", "concurrency=10") as provider:
        report = calls.analyse(
            table(100), model=hr.Model("openai:m", base_url=provider.url), key="id", store=tmp_path / "s.db",
            limits=hr.Limits(40), retry=hr.Retry(attempts=12, base_s=0.05, cap_s=0.5), themes=False, name="limits",
        )  # fmt: skip
        books = provider.ledger()
    assert not report.failures
    assert books["paid"] == 100, "no answer is paid for twice"
    with simulator("--latency", "0.1", "--limit", "concurrency=10") as provider:
        calls.analyse(
            table(300), model=hr.Model("openai:m", base_url=provider.url), key="id", store=tmp_path / "t.db",
            themes=False, name="found",
        )  # fmt: skip
        refused = provider.ledger()["by_status"].get("429", 0)
    assert refused < 60, "found by itself, and kept to"


def test_themes_are_found_in_parts_and_then_in_all(tmp_path: Path) -> None:
    """C5: up to forty insights are one question; of ninety there are three parts, and one question over these."""

    def answer(asked: Asked) -> Answer:
        text = asked.body["messages"][-1]["content"]
        return (
            themes(f"part {text.count('- ')}") if "theme" in text else insight(summary=f"They spoke about {text[:20]}")
        )

    for rows, asked_about, said in ((40, 1, "part 40"), (90, 4, "part 3")):
        with endpoint(answer) as there:
            model = hr.Model("openai:m", base_url=there.url)
            report = calls.analyse(table(rows), model=model, key="id", name="n", store=tmp_path / f"{rows}.db")
            assert len(there.asked) == rows + asked_about
        assert report.themes is not None
        assert report.themes.themes == [said]


def test_without_themes_the_insights_are_still_there(cli: Cli) -> None:
    """C3: the last question fails: the report says so, and has all the rest; the status is 1, and a rerun tries again."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(9)))
    is_broken = [True]

    def answer(asked: Asked) -> Answer:
        if "theme" not in asked.body["messages"][-1]["content"]:
            return insight()
        return (400, json.dumps({"error": {"message": "too long"}})) if is_broken else themes()

    with endpoint(answer) as there:
        words = (
            "calls", "calls.jsonl", "--model", "openai:m", "--base-url", there.url, "--key", "id", "--report", "r.html", "-o",
            "o.csv",
        )  # fmt: skip
        here = Cli(cli.folder, OPENAI_API_KEY="sk-none")
        ended = fine(here.run(*words), 1)
        assert "themes: none. " in ended.err
        assert "too long" in (cli.folder / "r.html").read_text()
        assert len(there.asked) == 10
        is_broken.clear()
        assert "themes: slow lines" in fine(here.run(*words)).err
        assert len(there.asked) == 11, "insights are not asked for again"


def test_a_run_that_is_killed_goes_on(cli: Cli) -> None:
    """After kill -9 the same command goes on; at most what was in flight is paid for again."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(80)))
    with simulator("--latency", "0.1") as provider:
        words = (
            "calls", "calls.jsonl", "--model", "openai:m", "--base-url", provider.url, "--concurrency", "5", "--key", "id",
            "--no-themes",
        )  # fmt: skip
        with cli.start(*words) as child:
            child.until(lambda: provider.ledger(items=False)["paid"] >= 20)
            child.signal(signal.SIGKILL)
            child.process.wait(30)
        assert len(fine(cli.run(*words)).rows) == 80
        assert 80 <= provider.ledger()["paid"] <= 85


def test_an_interrupt_keeps_what_was_answered(cli: Cli) -> None:
    """Ctrl-C is status 130, after what is on the wire; the same command goes on from there and pays for nothing twice."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(60)))
    with simulator("--latency", "0.2") as provider:
        words = (
            "calls", "calls.jsonl", "--model", "openai:m", "--base-url", provider.url, "--concurrency", "5", "--no-themes",
        )  # fmt: skip
        with cli.start(*words) as child:
            child.until(lambda: provider.ledger(items=False)["paid"] >= 10)
            child.signal(signal.SIGINT)
            assert child.end().status == 130
        assert 10 <= provider.ledger(items=False)["paid"] < 60
        fine(cli.run(*words))
        assert provider.ledger()["paid"] == 60


def test_a_deadline_leaves_a_partial_report(cli: Cli) -> None:
    """What is done by then is there, marked so; themes wait for the whole; the status is 1."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(200)))
    words = ("calls", "calls.jsonl", "--model", "sim:latency=0.2", "--concurrency", "5", "--deadline", "2")
    ended = fine(cli.run(*words, "--key", "id", "--report", "r.html"), 1)
    assert 5 <= len(ended.rows) < 150
    page = (cli.folder / "r.html").read_text()
    assert "This is a partial result. The deadline of 2 s has passed." in page
    assert "The run ended before its table." in page


def test_a_provider_that_refuses_stops_it_early(cli: Cli) -> None:
    """Status 3 and one sentence, and no further calls."""
    with simulator("--faults", "quota=1") as provider:
        ended = cli.run("calls", str(TABLE), "--model", "openai:m", "--base-url", provider.url)
        assert ended.status == 3
        assert len(ended.error) < 400


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("empty.csv", b"id,agent,duration_s,transcript\n", 2),
        ("one.csv", "agent,duration_s,transcript\n\u202e,never,\U0001f4de \u96fb\u8a71\n".encode(), 0),
        ("only.csv", b"transcript\nhello\n", 0),
        ("odd.csv", b"transcript,duration_s,agent,category,score\na,-5,,x,9\nb,1e999,,y,9\nc,nan,,z,9\n", 0),
        ("other.csv", b"words\nhello\n", 2),
        ("binary.csv", bytes(range(256)) * 40, 2),
        ("long.csv", b"transcript\n" + b"hello " * 30_000 + b"\n", 0),
    ],
)
def test_the_worst_tables(name: str, content: bytes, status: int, cli: Cli) -> None:
    """Empty, of one call, without other columns, with odd lengths, binary, very long: a result or one sentence."""
    cli.file(name, content)
    ended = cli.run("calls", name, "--model", "sim:", "--report", "r.html", "-o", "o.csv")
    assert "Traceback" not in ended.err
    assert ended.status == status, ended.err
    if status == 2:
        assert len(ended.error) < 500
    else:
        assert (cli.folder / "r.html").exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("calls_graph", ["49 calls, without an insight: call-13", "listens again to call-"]),
        ("calls_frame", ["19 of 20 understood; 19 calls were paid", "call-01"]),
    ],
)
def test_in_a_graph_and_on_a_frame(name: str, shown: list[str], tmp_path: Path) -> None:
    """C4: the examples run as they stand: a LangGraph node, and pandas frames in and out."""
    environ = {
        "PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")], cwd=tmp_path, env=environ,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for each in shown:
        assert each in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_within_a_running_loop_and_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C4: `analyse` needs no event loop; `aanalyse` takes the caller's."""
    caplog.set_level(logging.WARNING)
    one = calls.analyse(table(5), model="sim:", key="id", name="x", store=tmp_path / "a.db", themes=False)
    two = asyncio.run(calls.aanalyse(table(5), model="sim:", key="id", name="x", store=tmp_path / "b.db", themes=False))
    assert one.insights == two.insights
    assert not caplog.records


@needs_chromium
def test_the_page_has_all_of_the_report_and_runs_nothing_of_it(chromium: Browser, tmp_path: Path) -> None:
    """C5: distributions, agents, best and worst, themes and failures, in a real browser; foreign text is text."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-none")
    rows = [{**row, "agent": f"{NASTY} {row['agent']}", "id": f"{NASTY} {row['id']}"} for row in table(20)]
    rows[3]["transcript"] = ""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def answer(asked: Asked) -> Answer:
        text = asked.body["messages"][-1]["content"]
        return themes(NASTY) if "theme" in text else insight(summary=NASTY + "!" * 15, score=1 + len(text) % 5)

    with endpoint(answer) as there:
        words = ("--model", "openai:m", "--base-url", there.url, "--key", "id", "--report", "r.html")
        fine(cli.run("calls", "calls.jsonl", *words), 1)
    for width in (390, 1280):
        page = chromium.page()
        page.look(width, 900)
        page.open(tmp_path / "r.html")
        assert (page.dialogs, page.requests, page.complaints) == ([], [], [])
        assert page.value("document.querySelectorAll('img').length") == 0
        assert page.value("document.scripts.length") == 1
        heads = page.value("Array.from(document.querySelectorAll('h2')).map((each) => each.textContent)")
        assert heads[:6] == [
            "Summary", "Themes", "Distributions", "Agents compared", "Best and worst calls", "Calls without an insight",
        ]  # fmt: skip
        said = page.value(
            "Array.from(document.querySelectorAll('[id^=own-]')).map((each) => each.textContent).join(' ')"
        )
        assert said.count("<script>alert(1)</script>") > 15
        assert page.value("document.querySelectorAll('#own-3 table.bars').length") == 4
        assert page.value("document.querySelectorAll('#own-4 svg.share').length") == 3
        assert "Every column that the prompt names is empty." in page.value(
            "document.querySelector('#own-6').textContent"
        )
        assert page.value("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_programs_get_events_without_answers(cli: Cli) -> None:
    """With `--json` standard error is events alone, and what a model said is on standard output."""
    cli.file("calls.jsonl", "".join(json.dumps(row) + "\n" for row in table(5)))

    def answer(asked: Asked) -> Answer:
        return (
            themes("SAID again") if "theme" in asked.body["messages"][-1]["content"] else insight(summary="SAID " * 5)
        )

    with endpoint(answer) as there:
        words = ("calls", "calls.jsonl", "--model", "openai:m", "--base-url", there.url, "--key", "id", "--json")
        ended = fine(Cli(cli.folder, OPENAI_API_KEY="sk-none").run(*words))
    events = [json.loads(line) for line in ended.err.splitlines()]
    assert (events[-1]["event"], events[-1]["ok"], events[-1]["exit_status"]) == ("ended", 5, 0)
    assert "SAID" not in ended.err
    assert ended.out.count("SAID") == 25
