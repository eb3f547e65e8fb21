"""`--keep-no-prompts`: nothing of prompts and items is in any file that headrace writes by itself."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

import headrace as hr
from acceptance.cli import Cli, the_sentence
from acceptance.endpoint import Answer, Asked, Endpoint, completion, endpoint
from headrace.engine.snapshot import Snapshot

CANARY = "canary-0123456789"
ASK = ("--ask", f"{CANARY} of {{text}}", "--system", f"{CANARY} system", "--model", "openai:m")
RETURNS = ("--returns", "label: good|bad")


def answered(asked: Asked) -> Answer:
    """What a server says that quotes all it is sent: in refusals of every kind, and not in its answers."""
    said = asked.body["messages"][-1]["content"]
    quoted = json.dumps({"error": {"message": f"I will not: {said} {json.dumps(asked.body)}"}})
    for word, answer in {
        "rejected": (400, quoted), "plain": (422, said), "long": (400, quoted.replace("not", "maximum context length")),
        "filtered": (400, json.dumps({"error": {"message": said, "code": "content_filter"}})),
        "large": (413, quoted), "untyped": completion("no JSON"), "refused": completion('{"label": "neither"}'),
    }.items():  # fmt: skip
        if word in said:
            return answer
    return completion('{"label": "good"}')


def table(cli: Cli, *words: str) -> None:
    rows = "".join(f"{number},{CANARY} {word}\n" for number, word in enumerate(words))
    cli.file("a.csv", f"id,text\n{rows}{len(words)},\n")


WORDS = ("rejected", "plain", "long", "filtered", "large", "untyped", "refused", "good", "good 2")


def leaks(folder: Path, *spared: str) -> list[str]:
    """Files that hold the canary, in any encoding that a store or page may use."""
    forms = [CANARY.encode(), CANARY.encode("utf-16-le"), CANARY[::-1].encode()]
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in spared and any(form in path.read_bytes() for form in forms)
    ]


def _asked_more(at: Endpoint, calls: int) -> bool:
    return len(at.asked) > calls


def _refused(status: int, asked: Asked) -> tuple[int, str]:
    """By a server that quotes what it was sent."""
    return status, json.dumps({"error": {"message": str(asked.body)}})


def test_nothing_of_prompts_is_written(tmp_path: Path) -> None:
    """Not in the store, its log or the report, whatever the provider quotes; the result file has the input's columns."""
    cli = Cli(tmp_path)
    table(cli, *WORDS)
    with endpoint(answered) as at:
        words = ("run", "a.csv", *ASK, *RETURNS, "--base-url", at.url, "--key", "id", "--keep-no-prompts")
        ended = cli.run(*words, "-o", "out.csv", "--report", "r.html")
        assert ended.status == 1, ended.err
        assert CANARY in json.dumps([asked.body for asked in at.asked])
        assert leaks(tmp_path, "a.csv", "out.csv") == []
        rows = (tmp_path / "out.csv").read_text().splitlines()
        assert rows[0] == "id,text,label,error,attempts,seconds"
        assert rows[8].startswith(f"7,{CANARY} good,good,,1,")
        assert "rejected: The provider answered 400. What was said is not kept" in rows[1]
        assert all(f",{CANARY} {word}," in row for word, row in zip(WORDS, rows[1:], strict=False))
        calls = len(at.asked)
        assert cli.run(*words, "--no-retry-failed", "-o", "again.csv").status == 1
        assert len(at.asked) == calls, "what is kept is enough to pay only once"
        assert (tmp_path / "again.csv").read_text().split("\n")[0] == rows[0]
        assert leaks(tmp_path, "a.csv", "out.csv", "again.csv") == []


def test_what_that_costs(tmp_path: Path) -> None:
    """Export has keys and answers, no columns; show says so; a resumption is refused in a sentence."""
    cli = Cli(tmp_path)
    table(cli, "good", "plain")
    with endpoint(answered) as at:
        words = ("run", "a.csv", *ASK, *RETURNS, "--base-url", at.url, "--keep-no-prompts")
        piped = cli.run(*words, "--ordered")
        assert [row.get("text") for row in piped.rows] == [f"{CANARY} good", f"{CANARY} plain", ""]
        exported = cli.run("runs", "export", "last").rows
        assert [list(row) for row in exported] == [["key", "label", "error", "attempts", "seconds"]] * 3
        assert exported[0]["label"] == "good"
        shown = cli.run("runs", "show", "a")
        assert "prompts and items were not kept" in shown.out
        assert CANARY not in shown.out + cli.run("runs", "show", "a", "--json").out
        assert "kept no prompts" in the_sentence(cli.run("runs", "resume", "a"))
        assert cli.run("runs", "report", "a", "-o", "r.html").status == 0
        for ending in ("csv", "parquet"):
            assert cli.run("runs", "export", "a", "-o", f"e.{ending}").status == 0
        assert leaks(tmp_path, "a.csv") == []


def test_an_input_that_cannot_be_read_again(tmp_path: Path) -> None:
    """Of standard input, the result file has keys and answers, which is said before."""
    cli = Cli(tmp_path)
    with endpoint(answered) as at:
        words = ("run", "-", *ASK, "--base-url", at.url, "--keep-no-prompts", "--name", "piped", "-o", "out.csv")
        ended = cli.run(*words, stdin=f"text\n{CANARY} good\n")
    assert ended.status == 0
    assert "this input cannot be read again" in ended.err
    assert (tmp_path / "out.csv").read_text().startswith("key,answer,error,attempts,seconds\n0-")
    assert leaks(tmp_path) == []


def test_while_it_runs_and_after_a_kill(tmp_path: Path) -> None:
    """At no moment is there anything: not in the log of the database, not after `kill -9`; a rerun continues."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"{CANARY} slow {number}" for number in range(300)])
    with endpoint(answered) as at:
        words = ("run", "a.csv", *ASK, "--base-url", at.url, "--keep-no-prompts", "-o", "out.jsonl")
        with cli.start(*words, "--concurrency", "2") as child:
            for calls in (5, 60, 120):
                child.until(partial(_asked_more, at, calls))
                assert leaks(tmp_path, "a.csv") == []
            child.signal(signal.SIGKILL)
            child.end()
        assert (tmp_path / ".headrace" / "store.db-wal").stat().st_size > 0
        assert leaks(tmp_path, "a.csv") == []
        assert cli.run(*words).status == 0
        assert len(at.asked) < 330
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [f"{CANARY} slow {number}" for number in range(300)]
    assert leaks(tmp_path, "a.csv", "out.jsonl") == []


def test_a_run_that_kept_them_keeps_them_no_more(tmp_path: Path) -> None:
    """Run again with --keep-no-prompts, what it kept before is overwritten, not only forgotten."""
    cli = Cli(tmp_path)
    table(cli, *WORDS)
    with endpoint(answered) as at:
        words = ("run", "a.csv", *ASK, *RETURNS, "--base-url", at.url, "-o", "out.csv")
        assert cli.run(*words).status == 1
        assert leaks(tmp_path, "a.csv", "out.csv") == [".headrace/store.db"]
        assert cli.run(*words, "--keep-no-prompts").status == 1
    assert leaks(tmp_path, "a.csv", "out.csv") == []
    assert len(cli.run("runs", "list", "--json").rows) == 1


def test_a_run_that_stops(tmp_path: Path) -> None:
    """Why it stopped is said without what the provider quoted of a prompt, and kept without all that it said."""
    cli = Cli(tmp_path)
    table(cli, "good")
    for status in (401, 404, 402):
        with endpoint(partial(_refused, status)) as at:
            ended = cli.run("run", "a.csv", *ASK, "--base-url", at.url, "--keep-no-prompts", "--name", f"s{status}")
        assert "[...]" in ended.err
        shown = cli.run("runs", "show", f"s{status}").out
        assert f"The provider answered {status}. What was said is not kept" in shown
    assert leaks(tmp_path, "a.csv") == []


ITEMS: dict[str, Any] = {
    "list": [{"text": f"{CANARY} good"}, {"text": f"{CANARY} plain"}],
    "texts": [f"{CANARY} good", f"{CANARY} plain"],
    "generator": None,
}


@pytest.mark.parametrize("kind", ITEMS)
def test_from_python(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is returned has the items where they can be read again, and the store has none."""
    monkeypatch.chdir(tmp_path)
    given = ITEMS[kind] or (item for item in ITEMS["list"])
    name = "item" if kind == "texts" else "text"
    with endpoint(answered) as at:
        ask = hr.Ask(f"{CANARY} {{{name}}}", model=hr.Model("openai:m", base_url=at.url))
        told = pytest.warns(hr.HeadraceWarning, match="read again") if kind == "generator" else nullcontext()
        with told:
            run = hr.run(ask, given, to="out.csv", keep_prompts=False)
        items = [outcome.item for outcome in run]
        assert items == ([{"key": outcome.key} for outcome in run] if kind == "generator" else ITEMS[kind])
    assert leaks(tmp_path, "out.csv") == []
    assert (CANARY in (tmp_path / "out.csv").read_text()) == (kind != "generator")


def test_functions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a function, what it was given and what it raised are not kept; what it returned is its answer."""
    monkeypatch.chdir(tmp_path)

    def work(item: str) -> int:
        if "bad" in item:
            raise ValueError(f"no: {item}")
        return len(item)

    async def main() -> list[Any]:
        items = [f"{CANARY} good", f"{CANARY} bad"]
        return [outcome async for outcome in hr.stream(hr.Map(work, name="w", version="1"), items, keep_prompts=False)]

    outcomes = asyncio.run(main())
    assert sorted(outcome.item for outcome in outcomes) == [f"{CANARY} bad", f"{CANARY} good"]
    assert leaks(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / ".headrace" / "store.db")) as connection:
        assert connection.execute("SELECT value FROM outcomes WHERE error IS NULL").fetchall() == [("22",)]


def test_what_a_validator_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer and the field are kept, the words of one's own validator are not: it may know what was asked."""
    monkeypatch.chdir(tmp_path)

    class Label(pydantic.BaseModel):
        label: str

        @pydantic.field_validator("label")
        @classmethod
        def known(cls, label: str) -> str:
            raise ValueError(f"{CANARY} is no {label}\nnor {CANARY}")

    with endpoint(lambda _: completion('{"label": "good"}')) as at:
        model = hr.Model("openai:m", base_url=at.url)
        ask = hr.Ask("{item}", returns=Label, model=model)
        hr.run(ask, ["good"], name="mine")
        assert leaks(tmp_path) == [".headrace/store.db"]
        (outcome,) = hr.run(ask, ["good"], name="mine", keep_prompts=False)
    error = outcome.error
    assert error is not None
    assert error.raw == '{"label": "good"}'
    kept = (
        "The answer is not of the type asked for: label: a validator of the type refused it. What was said is not kept"
    )
    assert error.message.startswith(kept)
    assert leaks(tmp_path) == []


def texts_of(kind: msgspec.inspect.Type) -> Iterator[str]:
    """The names of all fields of a value that hold text."""
    match kind:
        case msgspec.inspect.StructType(fields=fields):
            for field in fields:
                inner = list(texts_of(field.type))
                yield from [field.name if name == "" else name for name in inner]
        case msgspec.inspect.VarTupleType(item_type=inner_type):
            yield from texts_of(inner_type)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            yield from (*texts_of(key), *texts_of(value))
        case msgspec.inspect.UnionType(types=types):
            for each in types:
                yield from texts_of(each)
        case msgspec.inspect.StrType():
            yield ""


def test_all_text_in_figures_is_accounted_for() -> None:
    """Figures are kept of such a run too. Text that is added to them is either no foreign text, and then listed here, or
    has to be dropped in store/discreet.py."""
    ours = {"run", "name", "source", "status", "kind", "keys", "unit", "binding", "call_errors", "waited_s", "errors"}
    ours |= {"paid_again", "paid_again_usd", "stage_usd", "lead", "model"}
    dropped = {"reason", "message", "hint"}
    assert set(texts_of(msgspec.inspect.type_info(Snapshot))) <= ours | dropped


def test_without_the_word_they_are_kept(tmp_path: Path) -> None:
    """The test can see a leak: without --keep-no-prompts it does."""
    cli = Cli(tmp_path)
    table(cli, "good")
    with endpoint(answered) as at:
        ended = cli.run("run", "a.csv", *ASK, "--base-url", at.url, "--report", "r.html")
    assert ended.status == 1
    assert sorted(leaks(tmp_path, "a.csv")) == [".headrace/store.db", "r.html"]
