"""`headrace runs`: what ran is listed, shown, exported and resumed."""

import json
import re
import signal
from collections.abc import Iterator
from datetime import datetime
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
    columns = ["RUN", "STATUS", "OK", "FAILED", "PENDING", "CALLS", "TOKENS", "TIME", "STARTED", "MODEL", "SOURCE"]
    assert lines[0] == columns
    assert [(line[0][:2], *line[1:6], line[-2], line[-1]) for line in lines[1:]] == [
        ("a-", "finished", "2", "0", "0", "2", "openai:simulated", str(tmp_path / "a.csv")),
        ("b-", "finished", "3", "0", "0", "1", "openai:simulated", str(tmp_path / "b.csv")),
    ]


def test_the_list_for_programs(provider: Simulator, tmp_path: Path) -> None:
    """`--json`: an object a line, with instants and numbers; `show --json` has all there is of one run."""
    cli = Cli(tmp_path)
    assert the_sentence(cli.run("runs", "list", "--json")).startswith("headrace: There is no store at ")
    cli.file("a.csv", "id,text\nx,one\nx,two\n")
    words = ("--returns", RETURNS, "--key", "id", "--name", "mine", "--system", "Be brief.")
    assert cli.run("run", "a.csv", *ASK, *at(provider), *words).status == 1
    listed, shown = cli.run("runs", "list", "--json").rows, cli.run("runs", "show", "last", "--json").rows
    assert len(listed) == len(shown) == 1
    assert {name: shown[0][name] for name in listed[0]} == listed[0]
    known = listed[0]
    assert (known["name"], known["status"], known["ok"], known["failed"], known["pending"]) == (
        "mine",
        "finished",
        1,
        1,
        0,
    )
    assert datetime.fromisoformat(known["started_at"]) <= datetime.fromisoformat(known["ended_at"])
    assert known["calls"] == 1
    assert shown[0]["asked"]["system"] == "Be brief."
    assert [(group["kind"], group["count"]) for group in shown[0]["failures"]] == [("repeated-key", 1)]
    assert shown[0]["figures"]["calls"] == 1


def test_the_list_on_a_terminal(provider: Simulator, tmp_path: Path) -> None:
    """It fits, whatever the names; foreign text cannot steer the terminal."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["terminal 1"])
    for name in ("short", "a name that goes on and on and on " * 4, "\x1b[31mred\x1b[2J"):
        assert cli.run("run", "a.csv", *ASK, *at(provider), "--name", name).status == 0
    with cli.terminal("runs", "list") as terminal:
        assert terminal.end() == 0
    assert b"\x1b[31m" not in terminal.shown.replace(b"\x1b[31m0", b"")
    assert b"\x1b[2J" not in terminal.shown
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", terminal.shown).decode().splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 99 for line in lines)
    assert all("finished" in line for line in lines[1:])
    assert [line.split()[0] for line in lines] == ["RUN", "[31mred[2J", "a", "short"]


def test_runs_that_go_on_and_that_were_killed(provider: Simulator, tmp_path: Path) -> None:
    """A run in another process is running; one whose process was killed is not, and one that was interrupted says so."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"going on {number}" for number in range(2000)])
    words = ("run", "a.csv", *ASK, *at(provider), "--concurrency", "1", "--name")

    def states() -> dict[str, str]:
        return {line.split()[0]: line.split()[1] for line in cli.run("runs", "list").out.splitlines()[1:]}

    with (
        cli.start(*words, "live") as live,
        cli.start(*words, "killed") as killed,
        cli.start(*words, "stopped") as stopped,
    ):
        for child in (live, killed, stopped):
            assert child.line()
        killed.signal(signal.SIGKILL)
        killed.end()
        stopped.signal(signal.SIGINT)
        stopped.end()
        assert states() == {"live": "running", "killed": "killed", "stopped": "interrupted"}
        assert the_sentence(cli.run("runs", "prune", "live", "--yes")).endswith(
            "The run 'live' goes on. Wait for it or end it; nothing was removed."
        )
        assert the_sentence(cli.run("runs", "resume", "live")).startswith("headrace: The run 'live' is going on")
        assert "running" in cli.run("runs", "show", "live").out
        ended = cli.run("runs", "prune", "--older-than", "0d", "--yes")
        assert (ended.status, "Removed." in ended.out) == (0, True)
        assert states() == {"live": "running"}
        live.signal(signal.SIGINT)
        live.end()
    assert states() == {"live": "interrupted"}
    assert "Go on with it: headrace runs resume live" in cli.run("runs", "show", "live").out


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


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "tsv", "json", "csv.gz", "jsonl.zst"])
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
        for words in ((), ("-o", "-")):
            assert cli.run("runs", "export", "mine", *words).out.encode() == (tmp_path / "out.jsonl").read_bytes()


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
    assert " killed " in cli.run("runs", "list").out
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


def test_resume_reads_as_the_run_did(provider: Simulator, tmp_path: Path) -> None:
    """Encoding and delimiter that were stated are stated again, so all comes from the store."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id~text\n1~caf\xe9\n2~na\xefve\n".encode("latin-1"))
    words = ("--encoding", "latin-1", "--delimiter", "~", "-o", "out.csv")
    assert cli.run("run", "a.csv", *ASK, *at(provider), *words).status == 0
    before = provider.ledger(items=False)["requests"]
    ended = cli.run("runs", "resume", "last", "-o", "again.csv")
    assert ended.status == 0, ended.err
    assert provider.ledger(items=False)["requests"] == before
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    assert "caf\u00e9" in (tmp_path / "again.csv").read_text("utf-8")
    shown = cli.run("runs", "show", "last").out
    assert "encoding latin-1, delimiter ~" in shown
    assert len(cli.run("runs", "list", "--json").rows) == 1


def test_the_report_of_an_earlier_run(provider: Simulator, tmp_path: Path) -> None:
    """With the answers and the figures of its last session, also where the input has gone; its name names the file."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["report 1", "report <2>"])
    assert cli.run("run", "a.csv", *ASK, *at(provider), "--name", "my run/1").status == 0
    (tmp_path / "a.csv").unlink()
    ended = cli.run("runs", "report", "my")
    assert (ended.status, ended.out, ended.err) == (0, "The report is my-run-1.html\n", "")
    page = (tmp_path / "my-run-1.html").read_text("utf-8")
    assert "report &lt;2&gt;" in page
    assert cli.run("runs", "report", "last", "-o", "there.html").status == 0
    assert "folder" in the_sentence(cli.run("runs", "report", "last", "-o", "nowhere/r.html")).lower()
    assert "r.pdf ends in .pdf" in the_sentence(cli.run("runs", "report", "last", "-o", "r.pdf"))
    assert not (tmp_path / "r.pdf").exists()


def test_what_may_go_has_to_be_said(provider: Simulator, tmp_path: Path) -> None:
    """Nothing is removed by a word too few, by a dry run, or where nobody can agree."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["prune 1", "prune 2"])
    for name in ("one", "two", "three"):
        assert cli.run("run", "a.csv", *ASK, *at(provider), "--name", name).status == 0
    assert "It is not said what may go" in the_sentence(cli.run("runs", "prune", "--yes"))
    assert "which answers may go" in the_sentence(cli.run("runs", "prune", "one", "--answers", "--yes"))
    assert "no age such as 30d" in cli.run("runs", "prune", "--older-than", "30", "--yes").err
    assert "There is no run 'four'" in the_sentence(cli.run("runs", "prune", "four", "--yes"))
    asked = cli.run("runs", "prune", "one")
    assert (asked.status, "Nobody can be asked here" in asked.err) == (2, True)
    dry = cli.run("runs", "prune", "--keep-last", "1", "--dry-run")
    assert (dry.status, dry.err) == (0, "")
    assert "2 runs, 4 outcomes" in dry.out
    assert dry.out.endswith("Nothing was removed.\n")
    assert "nothing to remove" in cli.run("runs", "prune", "--older-than", "1h", "--yes").out
    with cli.terminal("runs", "prune", "one") as terminal:
        terminal.until(b"[y/N]")
        terminal.press(b"\n")
        assert terminal.end() == 0
    assert len(cli.run("runs", "list", "--json").rows) == 3


def test_pruning(provider: Simulator, tmp_path: Path) -> None:
    """What was said goes and nothing else; its answers stay until their age is named, so a rerun pays nothing."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["pruned 1", "pruned 2"])
    words = ("run", "a.csv", *ASK, *at(provider), "--name")
    for name in ("one", "two", "three"):
        assert cli.run(*words, name).status == 0
    with cli.terminal("runs", "prune", "one") as terminal:
        terminal.until(b"[y/N]")
        terminal.press(b"y\n")
        assert terminal.end() == 0
    assert b"1 run, 2 outcomes" in terminal.shown
    ended = cli.run("runs", "prune", "--keep-last", "1", "--yes")
    assert ended.status == 0, ended.err
    assert [known["name"] for known in cli.run("runs", "list", "--json").rows] == ["three"]
    assert len(cli.run("runs", "export", "three").rows) == 2
    before = provider.ledger(items=False)["requests"]
    assert cli.run(*words, "one").status == 0
    assert provider.ledger(items=False)["requests"] == before
    ended = cli.run("runs", "prune", "one", "--answers", "--older-than", "0d", "--yes")
    assert "1 run, 2 outcomes, 2 stored answers" in ended.out
    assert "ask and pay anew" in ended.out
    assert len(cli.run("runs", "export", "three").rows) == 2
    assert cli.run(*words, "three").status == 0
    assert provider.ledger(items=False)["requests"] == before + 2


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
