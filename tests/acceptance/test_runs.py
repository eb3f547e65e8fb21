"""`headrace runs`: what ran is listed, shown, exported and resumed."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.cli import Cli, the_sentence
from simulator import Simulator, simulator

ASK = ("--ask", "{text}")
RETURNS = "label: good|bad, score: float 0..1, tags: [str]"


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator("--latency", "0.05") as made:
        yield made


def at(provider: Simulator) -> tuple[str, ...]:
    return ("--model", "openai:simulated", "--base-url", provider.url)


def test_the_list(provider: Simulator, tmp_path: Path) -> None:
    """Each run once, the last started first, with how far it is."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["list 1", "list 2"])
    cli.table("b.csv", ["list 1", "list 2", "list 3"])
    for source in ("a.csv", "b.csv", "a.csv"):
        assert cli.run("run", source, *ASK, *at(provider)).status == 0
    listed = cli.run("runs", "list")
    assert (listed.status, listed.err) == (0, "")
    lines = [line.split() for line in listed.out.splitlines()]
    assert lines[0] == ["RUN", "STARTED", "STATUS", "OK", "FAILED", "PENDING", "SOURCE"]
    assert [(line[0][:2], *line[3:]) for line in lines[1:]] == [
        ("a-", "finished", "2", "0", "0", str(tmp_path / "a.csv")),
        ("b-", "finished", "3", "0", "0", str(tmp_path / "b.csv")),
    ]


def test_what_is_shown(provider: Simulator, tmp_path: Path) -> None:
    """What was asked, how far it is and what failed, on plain lines; foreign text cannot steer the terminal."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id,text\nx,one\nx,two\n")
    words = ("--system", "Be \x1b[31mbrief.", "--returns", RETURNS, "--key", "id", "--name", "mine")
    assert cli.run("run", "a.csv", *ASK, *at(provider), *words).status == 1
    shown = cli.run("runs", "show", "mine")
    assert (shown.status, shown.err) == (0, "")
    for part in (
        "mine",
        "finished",
        "a.csv",
        "openai:simulated",
        "{text}",
        "label: good|bad",
        "1 x repeated-key",
        "'x'",
    ):
        assert part in shown.out
    assert "\x1b" not in shown.out


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("returns", [(), ("--returns", RETURNS)], ids=["text", "typed"])
def test_export_is_the_result_file(ending: str, returns: tuple[str, ...], provider: Simulator, tmp_path: Path) -> None:
    """What is exported later is what -o wrote, byte for byte, also where the input has gone meanwhile."""
    cli = Cli(tmp_path)
    cli.file("a.csv", 'id,text\n1,"a ""quote"""\n2,naïve\n3,\n4,a\n5,a\n')
    words = ("run", "a.csv", *ASK, *at(provider), *returns, "--name", "mine", "--param", "seed=1")
    assert cli.run(*words, "-o", f"out.{ending}").status == 1  # of the empty row
    (tmp_path / "a.csv").unlink()
    ended = cli.run("runs", "export", "mine", "-o", f"again.{ending}")
    assert (ended.status, ended.err, ended.out) == (0, "", f"5 rows in again.{ending}\n")
    assert (tmp_path / f"again.{ending}").read_bytes() == (tmp_path / f"out.{ending}").read_bytes()
    if ending == "jsonl":
        assert cli.run("runs", "export", "mine").out.encode() == (tmp_path / "out.jsonl").read_bytes()


def test_resume_after_a_kill(provider: Simulator, tmp_path: Path) -> None:
    """A killed run is told as interrupted; resume asks all that it was asked with, pays only for the rest, and export
    gives what is there before that."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-1")
    texts = [f"killed {number}" for number in range(200)]
    cli.table("a.csv", texts)
    words = (
        "run", "a.csv", *ASK, *at(provider), "--concurrency", "5", "--returns", RETURNS, "--system", "Be brief.",
        "--temperature", "0.5", "--max-tokens", "200", "--param", "seed=3", "--first", "150", "-o", "out.jsonl",
    )  # fmt: skip
    with cli.start(*words) as child:
        child.until(lambda: sum(text in provider.ledger()["items"] for text in texts) > 40)
        child.signal(signal.SIGKILL)
        child.end()
    assert " interrupted " in cli.run("runs", "list").out
    assert "its process ended without a word" in cli.run("runs", "show", "a").out
    exported = cli.run("runs", "export", "a").rows
    assert 20 < len(exported) < 150
    resumed = cli.run("runs", "resume", "a", "--concurrency", "50", "-o", "resumed.jsonl")
    assert resumed.status == 0, resumed.err
    rows = [json.loads(line) for line in (tmp_path / "resumed.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == texts[:150]
    assert all(row["label"] in {"good", "bad"} and row["error"] is None for row in rows)
    before = provider.ledger()
    for row in exported:
        assert before["items"][row["text"]] == 1
    # what was sent and not yet committed: at most the calls of two groups, on a machine that may be busy
    assert sum(before["items"].get(text, 0) for text in texts) <= 150 + 60
    assert cli.run(*words).status == 0
    assert provider.ledger()["requests"] == before["requests"]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "resumed.jsonl").read_bytes()
    listed = cli.run("runs", "list").out.splitlines()
    assert len(listed) == 2
    assert " finished " in listed[1]


def test_resume_shows_and_reports_as_a_run_does(provider: Simulator, tmp_path: Path) -> None:
    """Resuming a finished run asks nothing and gives its answers; other output is written as for a run."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["resume 1", "resume 2"])
    first = cli.run("run", "a.csv", *ASK, *at(provider), "--ordered")
    before = provider.ledger(items=False)["requests"]
    again = cli.run("runs", "resume", "a", "--ordered", "--report", "r.html")
    assert again.status == 0
    assert [row["answer"] for row in again.rows] == [row["answer"] for row in first.rows]
    assert provider.ledger(items=False)["requests"] == before
    assert (tmp_path / "r.html").stat().st_size > 1000


def test_what_cannot_be_resumed(provider: Simulator, tmp_path: Path) -> None:
    """A run over standard input, a function's run, and one whose input has gone are refused in a sentence."""
    cli = Cli(tmp_path)
    assert cli.run("run", "-", *ASK, *at(provider), "--name", "piped", stdin="text\na\n").status == 0
    told = the_sentence(cli.run("runs", "resume", "piped"))
    assert "The source of the run piped cannot be read again" in told
    cli.file("f.py", "import headrace as hr\nasync def f(x): return x\nhr.run(f, [1, 2], name='mapped')\n")
    assert cli.shell(f"{cli.python} f.py").status == 0
    told = the_sentence(cli.run("runs", "resume", "mapped"))
    assert "The run mapped called a function" in told
    assert "Run that program again" in told
    cli.table("gone.csv", ["a"])
    assert cli.run("run", "gone.csv", *ASK, *at(provider)).status == 0
    (tmp_path / "gone.csv").unlink()
    assert "no file" in the_sentence(cli.run("runs", "resume", "gone"))
    assert len(cli.run("runs", "export", "mapped").rows) == 2


@pytest.mark.parametrize("verb", ["show", "export", "resume"])
def test_names_that_are_none_or_several(verb: str, provider: Simulator, tmp_path: Path) -> None:
    """A name that no run has, or that begins several, is told with the names there are; an exact one goes before."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    for name in ("calls", "calls-two", "other"):
        assert cli.run("run", "a.csv", *ASK, *at(provider), "--name", name).status == 0
    told = the_sentence(cli.run("runs", verb, "nowhere"))
    assert "There is no run 'nowhere'" in told
    assert all(name in told for name in ("calls", "calls-two", "other"))
    told = the_sentence(cli.run("runs", verb, "call"))
    assert "'call' begins the names of 2 runs" in told
    assert "other" not in told
    assert cli.run("runs", verb, "calls").status == 0
    assert cli.run("runs", verb, "o").status == 0
    assert "no run ''" in the_sentence(cli.run("runs", verb, ""))


def test_export_where_it_cannot_be(provider: Simulator, tmp_path: Path) -> None:
    """An output that cannot be written is refused as for a run."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    assert cli.run("run", "a.csv", *ASK, *at(provider)).status == 0
    assert "folder of nowhere/x.csv does not exist" in the_sentence(
        cli.run("runs", "export", "a", "-o", "nowhere/x.csv")
    )
    assert "x.doc ends in .doc" in the_sentence(cli.run("runs", "export", "a", "-o", "x.doc"))
