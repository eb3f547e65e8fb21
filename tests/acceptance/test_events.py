"""`--json`: what a program sees of a run, and that docs/reference/events.md tells all of it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.cli import DEADLINE_S, Cli, Ended
from acceptance.endpoint import Asked, completion, endpoint
from headrace.cli import events
from simulator import Simulator, simulator

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"
ASK = ("--ask", "{text}")
KINDS: dict[str, Any] = {str(each.__struct_config__.tag): each for each in events.Line.__subclasses__()}


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator("--latency", "0.02") as made:
        yield made


def at(provider: Simulator) -> tuple[str, ...]:
    return ("--model", "openai:simulated", "--base-url", provider.url, "--json")


def lines_of(ended: Ended) -> list[dict[str, Any]]:
    """Standard error, each line of which is an object with the fields of its event and no others."""
    found: list[dict[str, Any]] = [json.loads(line) for line in ended.err.splitlines()]
    for line in found:
        kind = KINDS[line["event"]]
        assert set(line) == {"event", *kind.__struct_fields__}, line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert [line["event"] for line in found].count("ended") == 1
    assert found[-1]["event"] == "ended"
    assert found[-1]["exit_status"] == ended.status
    return found


def test_the_page_has_every_event_and_every_field() -> None:
    """Each event has its heading and each of its fields a row there; nothing stands there that is not."""
    lines_told = PAGE.read_text("utf-8").partition("\n## In Python")[0]
    sections = re.split(r"^### ", lines_told, flags=re.MULTILINE)
    told = {section.partition("\n")[0]: section for section in sections[1:]}
    assert set(told) == set(KINDS)
    for name, kind in KINDS.items():
        rows = re.findall(r"^\| (`.*?`) \| ", told[name], re.MULTILINE)
        fields = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
        assert sorted(fields) == sorted(set(kind.__struct_fields__) - {"time"}), name
    for field in events.Limit.__struct_fields__:
        assert f"`{field}`" in told["progress"], field


def test_a_run_that_goes_well(provider: Simulator, tmp_path: Path) -> None:
    """It starts, it ends, and the sums are those of the run; answers are on standard output as ever."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["one", "two", "one"])
    ended = cli.run("run", "a.csv", *ASK, *at(provider), "--name", "mine", "--report", "r.html")
    lines = lines_of(ended)
    assert [line["event"] for line in lines if line["event"] != "limit"] == ["started", "ended"]
    assert lines[0] | {"time": "", "run": ""} == {
        "event": "started", "time": "", "run": "", "name": "mine", "source": "mine", "model": "openai:simulated",
        "total": 3, "concurrency": None, "output": None, "report": "r.html", "store": ".headrace/store.db",
    }  # fmt: skip
    last = lines[-1]
    assert {name: last[name] for name in ("status", "exit_status", "ok", "failed", "cached", "pending", "calls", "name")} == {
        "status": "finished", "exit_status": 0, "ok": 3, "failed": 0, "cached": 1, "pending": 0, "calls": 2, "name": "mine",
    }  # fmt: skip
    assert (last["output"], last["rows"], last["report"]) == (None, None, "r.html")
    assert last["input_tokens"] > 0 < last["seconds"]
    assert len(ended.rows) == 3
    again = cli.run("runs", "resume", "mine", "--json", "-o", "out.csv")
    assert (again.out, lines_of(again)[-1]["rows"]) == ("", 3)


def test_progress_limits_and_holds(tmp_path: Path) -> None:
    """Every few seconds how far it is; at once that a limit was told and that nothing starts for a while."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(70)])
    with simulator("--limit", "requests=30/3", "--headers", "openai", "--latency", "0.05") as slow:
        lines = lines_of(cli.run("run", "a.csv", *ASK, *at(slow), "--concurrency", "8", "-o", "out.csv"))
    by_event = {name: [line for line in lines if line["event"] == name] for name in KINDS}
    assert by_event["started"][0]["concurrency"] == 8
    [progress, *_] = by_event["progress"]
    assert progress["seconds"] >= events.PROGRESS_EVERY_S
    assert 0 < progress["ok"] < 70
    assert progress["total"] == 70
    assert progress["health"] in {"well", "waiting"}
    assert progress["limits"][0]["unit"] == "concurrency"
    assert {limit["unit"] for limit in by_event["limit"]} >= {"requests"}
    assert lines[-1]["waited_s"]


def test_failures_by_kind_alone(tmp_path: Path) -> None:
    """How many failed and of what kind, not what was asked or answered: that may be anything."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id,text\n" + "".join(f"canary-id-{n},canary-prompt-{n}\n" for n in range(5)))

    def answer(asked: Asked) -> tuple[int, str]:
        """Some refused in words that repeat the prompt, some answered with what does not fit."""
        text = json.dumps(asked.body["messages"])
        if "prompt-1" in text or "prompt-2" in text:
            return 400, json.dumps({"error": {"message": f"No: {text}"}})
        return completion('{"label": "canary-answer"}' if "prompt-3" in text else '{"label": "yes"}')

    words = (
        "run",
        "a.csv",
        *ASK,
        "--key",
        "id",
        "--returns",
        "label: yes|no",
        "--model",
        "openai:m",
        "--json",
        "-o",
        "o.csv",
    )
    with endpoint(answer) as server:
        ended = cli.run(*words, "--base-url", server.url)
    lines = lines_of(ended)
    [failures] = [line for line in lines if line["event"] == "failures"]
    assert failures["items"] == lines[-1]["failures"] == {"rejected": 2, "answer": 1}
    assert failures["calls"]["400"] == 2
    assert (ended.status, lines[-1]["status"], lines[-1]["failed"]) == (1, "finished", 3)
    assert "canary" not in ended.err


def test_an_interrupt_and_a_resume(tmp_path: Path) -> None:
    """It says that it is stopping, and that it was interrupted, with what is pending."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(300)])
    with (
        simulator("--latency", "0.1") as slow,
        cli.start("run", "a.csv", *ASK, *at(slow), "--concurrency", "5", "-o", "o.csv") as child,
    ):
        child.until(lambda: slow.ledger(items=False)["paid"] >= 10)
        child.signal(signal.SIGINT)
        lines = lines_of(child.end())
    assert [line["reason"] for line in lines if line["event"] == "stopping"] == ["interrupted"]
    last = lines[-1]
    assert (last["status"], last["exit_status"]) == ("interrupted", 130)
    assert last["ok"] + last["pending"] == 300
    assert last["rows"] is None


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (("run", "--json"), "usage", 2),
        (("run", "nowhere.csv", *ASK, "--model", "sim:", "--json"), "input", 2),
        (("run", "a.csv", *ASK, "--model", "sim:", "--json", "--nonsense"), "usage", 2),
        (("run", "a.csv", *ASK, "--model", "sim:", "--json", "--rpm", "x"), "usage", 2),
        (("runs", "resume", "nothing", "--json"), "store", 2),
        (("run", "bad.csv", *ASK, "--model", "sim:", "--json"), "input", 2),
        (("run", "a.csv", *ASK, "--model", "openai:m", "--json"), "missing-key", 2),
    ],
)  # fmt: skip
def test_errors_are_events_too(words: tuple[str, ...], kind: str, status: int, tmp_path: Path) -> None:
    """What would be a sentence is an `error` with its kind, and `ended` is the last line although nothing began."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    cli.file("bad.csv", "id,text\n1\n")
    ended = cli.run(*words)
    lines = lines_of(ended)
    [error] = [line for line in lines if line["event"] == "error"]
    assert (error["kind"], ended.status) == (kind, status)
    assert error["message"]
    assert ended.out == ""


def test_a_refusal_of_the_whole_run(tmp_path: Path) -> None:
    """A key that is refused: stopping, the error, and the end with status 3."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-bad")
    cli.table("a.csv", ["a", "b"])
    with simulator("--api-key", "sk-good") as made:
        lines = lines_of(cli.run("run", "a.csv", *ASK, *at(made)))
    assert [line["event"] for line in lines if line["event"] in ("stopping", "error", "ended")][-2:] == [
        "error",
        "ended",
    ]
    error = next(line for line in lines if line["event"] == "error")
    assert (error["kind"], lines[-1]["exit_status"], lines[-1]["status"]) == ("credentials", 3, "stopped")


def test_quiet_leaves_the_summary(provider: Simulator, tmp_path: Path) -> None:
    """For who wants one line; and the environment can ask for it."""
    cli = Cli(tmp_path, HEADRACE_JSON="1", HEADRACE_QUIET="yes")
    cli.table("a.csv", ["quiet"])
    words = [word for word in at(provider) if word != "--json"]
    assert [line["event"] for line in lines_of(cli.run("run", "a.csv", *ASK, *words, "-o", "o.csv"))] == ["ended"]


def test_a_program_that_does_not_read_it_holds_up_nothing(provider: Simulator, tmp_path: Path) -> None:
    """Who opens a pipe for standard error and reads only the answers gets them all."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(20)])
    flood = (
        "import sys; from headrace.cli import events, main\n"
        "events.Events.begin = lambda self, info, **facts: [self.notice('x' * 400) for _ in range(1000)]\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", flood, "run", "a.csv", *ASK, *at(provider)], cwd=tmp_path, env=cli.environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        rows = [process.stdout.readline() for _ in range(20)]
        assert all(json.loads(row)["answer"] for row in rows)
        assert process.poll() is None  # its last lines wait for their reader
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert json.loads(err.splitlines()[-1])["event"] == "ended"
