"""`headrace run` end to end: what goes in, what comes out, what is asked in between, and what is shown."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acceptance.cli import Cli, Ended, the_sentence
from acceptance.endpoint import Asked, completion, endpoint
from simulator import Simulator, simulator

ASK = ("--ask", "{text}")
TEXTS = [
    "plain",
    'a "quote", and a comma',
    "two\nlines",
    "naïve café 日本語 🙂",
    "  padded\t",
    "=1+1",
    "007",
    "x" * 30_000,
]


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator() as made:
        yield made


def at(provider: Simulator) -> tuple[str, ...]:
    return ("--model", "openai:simulated", "--base-url", provider.url)


def answer(text: str) -> str:
    """What the simulated provider says to this prompt."""
    return f"simulated answer {hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:8]}"


def calls(provider: Simulator) -> int:
    count: int = provider.ledger(items=False)["requests"]
    return count


def read(path: Path) -> list[dict[str, Any]]:
    """A result file's rows; of CSV, empty is None."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def fine(ended: Ended) -> Ended:
    assert ended.status == 0, ended.err
    assert ended.sentences == []
    return ended


# Input and output


def as_csv(texts: list[str]) -> bytes:
    made = io.StringIO(newline="")
    csv.writer(made).writerows([["number", "text"], *([number, text] for number, text in enumerate(texts))])
    return b"\xef\xbb\xbf" + made.getvalue().encode()


def as_jsonl(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"number": n, "text": text}).encode() + b"\n\n" for n, text in enumerate(texts))


def as_parquet(texts: list[str]) -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.table({"number": pa.array(range(len(texts)), pa.int16()), "text": texts}), made)
    return made.getvalue()


def put_folder(cli: Cli, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        cli.file(f"notes/{'deep/' if number % 2 else ''}{number}.txt", text)
    cli.file("notes/.hidden.txt", "never read")
    cli.file("notes/picture.png", b"\x89PNG")


INPUTS: dict[str, tuple[str, Callable[[list[str]], bytes] | None]] = {
    "CSV": ("a.csv", as_csv),
    "JSON Lines": ("a.jsonl", as_jsonl),
    "Parquet": ("a.parquet", as_parquet),
    "folder": ("notes", None),
    "CSV on standard input": ("-", as_csv),
    "JSON Lines on standard input": ("-", as_jsonl),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("where", ["server", "sim"])
def test_every_input_to_every_output(kind: str, where: str, provider: Simulator, tmp_path: Path) -> None:
    """Each input gives the same rows in each output, in its own order, asked once; what was asked is not asked again."""
    cli = Cli(tmp_path)
    path, encoded = INPUTS[kind]
    texts = [f"{kind} {text}" for text in TEXTS]
    stdin = b""
    if encoded is None:
        put_folder(cli, texts)
    elif path == "-":
        stdin = encoded(texts)
    else:
        cli.file(path, encoded(texts))
    words = ("run", path, *ASK, *(at(provider) if where == "server" else ("--model", "sim:")))
    before = calls(provider)
    shown = fine(cli.run(*words, "--ordered", "--quiet", stdin=stdin))
    asked = calls(provider) - before
    assert asked == (len(texts) if where == "server" else 0)
    wanted = list(texts)
    if encoded is None:  # in the order of their paths
        wanted = [texts[n] for n in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert [row["text"] for row in shown.rows] == wanted
    assert [row["answer"] for row in shown.rows] == [answer(text) for text in wanted]
    assert all(row["error"] is None and row["attempts"] == 1 and row["seconds"] >= 0 for row in shown.rows)
    results = {}
    for ending in ("jsonl", "csv", "parquet") if where == "server" else ("jsonl",):
        fine(cli.run(*words, "--name", "files", "-o", f"out.{ending}", stdin=stdin))
        results[ending] = read(tmp_path / f"out.{ending}")
    assert calls(provider) - before == asked
    columns = ["path", "text"] if encoded is None else ["number", "text"]
    for rows in results.values():
        assert list(rows[0]) == [*columns, "answer", "error", "attempts", "seconds"]
        assert [row["text"] for row in rows] == wanted
        assert [row["answer"] for row in rows] == [answer(text) for text in wanted]
    assert where == "sim" or results["jsonl"] == results["parquet"]


def test_columns_of_parquet_are_typed(provider: Simulator, tmp_path: Path) -> None:
    """The answer's fields are typed columns, the input's keep their types, a failed row's answer is null."""
    cli = Cli(tmp_path)
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int32()),
            "day": pa.array([0, 1, None], pa.date32()),
            "text": pa.array(["a", "b", "c"], pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    returns = "label: yes|no, score: float 0..1, count: int, good: bool, tags: [str], why: str?"
    fine(cli.run("run", "a.parquet", *ASK, *at(provider), "--returns", returns, "-o", "out.parquet"))
    made = pq.read_table(tmp_path / "out.parquet")
    assert {field.name: str(field.type) for field in made.schema} == {
        "id": "int32", "day": "date32[day]", "text": "string", "label": "string", "score": "double", "count": "int64",
        "good": "bool", "tags": "list<element: string>", "why": "string", "error": "string", "attempts": "int64",
        "seconds": "double",
    }  # fmt: skip
    assert made.select(["id", "day", "text"]).to_pylist() == table.to_pylist()
    for row in made.to_pylist():
        assert row["label"] in {"yes", "no"}
        assert 0 <= row["score"] <= 1


def test_text_stays_text(provider: Simulator, tmp_path: Path) -> None:
    """007 of a CSV file is not 7, and columns named like headrace's own are kept beside them."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id,text,error,answer\n007,x,mine,also mine\n")
    fine(cli.run("run", "a.csv", *ASK, *at(provider), "-o", "out.csv"))
    row = read(tmp_path / "out.csv")[0]
    assert (row["id"], row["error"], row["answer"]) == ("007", "mine", "also mine")
    assert (row["headrace_error"], row["answer_answer"]) == (None, answer("x"))


# What is asked


def test_a_rerun_asks_nothing(provider: Simulator, tmp_path: Path) -> None:
    """Equal rows are asked once, and a rerun gives the same rows without a call."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"rerun {number % 7}" for number in range(30)])
    words = ("run", "a.csv", *ASK, *at(provider), "-o", "out.jsonl")
    before = calls(provider)
    fine(cli.run(*words))
    assert calls(provider) - before == 7
    first = (tmp_path / "out.jsonl").read_bytes()
    again = fine(cli.run(*words))
    assert calls(provider) - before == 7
    assert (tmp_path / "out.jsonl").read_bytes() == first
    assert "30 came from the store" in again.err


def test_a_changed_prompt_asks_only_what_changed(provider: Simulator, tmp_path: Path) -> None:
    """A template that gives a row the text it had before does not ask for it again."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "text,note\n" + "".join(f"changed {n},{'!' if n < 3 else ''}\n" for n in range(20)))
    before = calls(provider)
    fine(cli.run("run", "a.csv", "--ask", "{text}", *at(provider)))
    assert calls(provider) - before == 20
    fine(cli.run("run", "a.csv", "--ask", "{text}{note}", *at(provider)))
    assert calls(provider) - before == 23


def test_what_can_change_an_answer_asks_anew(provider: Simulator, tmp_path: Path) -> None:
    """Model, system message, parameters and type of the answer belong to its identity; concurrency and such do not."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["identity"])
    base = ("run", "a.csv", *ASK, "--base-url", provider.url)
    before = calls(provider)
    asked = 0
    for words, new in (
        (("--model", "openai:m"), 1),
        (("--model", "openai:m", "--concurrency", "3", "--timeout", "9", "--header", "X-Team=a", "--ordered"), 0),
        (("--model", "openai:n"), 1),
        (("--model", "openai:m", "--system", "Be brief."), 1),
        (("--model", "openai:m", "--temperature", "0"), 1),
        (("--model", "openai:m", "--temperature", "0.0"), 0),
        (("--model", "openai:m", "--max-tokens", "500"), 1),
        (("--model", "openai:m", "--param", "seed=1"), 1),
        (("--model", "openai:m", "--param", "seed=2"), 1),
        (("--model", "openai:m", "--returns", "a: str"), 1),
        (("--model", "openai:m", "--returns", "b: str"), 1),
        (("--model", "openai:m", "--key", "text", "--name", "other"), 0),
    ):
        fine(cli.run(*base, *words))
        asked += new
        assert calls(provider) - before == asked, words


def test_first_and_then_all(provider: Simulator, tmp_path: Path) -> None:
    """A trial over the first rows is paid for once."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"first {number}" for number in range(10)])
    words = ("run", "a.csv", *ASK, *at(provider))
    before = calls(provider)
    assert len(fine(cli.run(*words, "--first", "3")).rows) == 3
    assert calls(provider) - before == 3
    assert len(fine(cli.run(*words)).rows) == 10
    assert calls(provider) - before == 10
    assert len(fine(cli.run(*words, "--first", "100")).rows) == 10
    assert calls(provider) - before == 10


def test_fresh_asks_everything_once_more(provider: Simulator, tmp_path: Path) -> None:
    """--fresh asks anew, equal rows once; after it, answers come from the store again."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"fresh {number % 5}" for number in range(15)])
    words = ("run", "a.csv", *ASK, *at(provider))
    before = calls(provider)
    for more, asked in ((), 5), (("--fresh",), 10), ((), 10), (("--fresh",), 15):
        assert len(fine(cli.run(*words, *more)).rows) == 15
        assert calls(provider) - before == asked


def test_failures_are_tried_again_or_kept(tmp_path: Path) -> None:
    """A rerun asks again for what failed; with --no-retry-failed it keeps the failure, as it was."""

    def refuse_bad(asked: Asked) -> tuple[int, str]:
        if asked.body["messages"][-1]["content"] == "bad" and refusing:
            return 400, json.dumps({"error": {"message": "Too bad."}})
        return completion("good")

    refusing = [True]
    cli = Cli(tmp_path)
    cli.table("a.csv", ["one", "bad", "two"])
    with endpoint(refuse_bad) as server:
        words = ("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", server.url, "-o", "out.jsonl")
        assert cli.run(*words).status == 1
        first = read(tmp_path / "out.jsonl")
        assert [row["error"] for row in first] == [None, "rejected: The provider answered 400: Too bad.", None]
        kept = cli.run(*words, "--no-retry-failed")
        assert (kept.status, len(server.asked)) == (1, 3)
        assert read(tmp_path / "out.jsonl") == first
        assert (cli.run(*words).status, len(server.asked)) == (1, 4)
        refusing.clear()
        assert (cli.run(*words).status, len(server.asked)) == (0, 5)
    assert [row["answer"] for row in read(tmp_path / "out.jsonl")] == ["good", "good", "good"]


def test_rows_are_known_by_their_key(provider: Simulator, tmp_path: Path) -> None:
    """With --key rows may move and change: what the source has now is the result. A repeated key is an error row."""
    cli = Cli(tmp_path)
    words = ("run", "a.csv", *ASK, *at(provider), "--key", "id", "-o", "out.jsonl")
    cli.file("a.csv", "id,text\na,key 1\nb,key 2\nc,key 3\n")
    fine(cli.run(*words))
    before = calls(provider)
    cli.file("a.csv", "id,text\nc,key 3\na,key 1 changed\nd,key 4\n")
    fine(cli.run(*words))
    assert calls(provider) - before == 2
    assert [(row["id"], row["answer"]) for row in read(tmp_path / "out.jsonl")] == [
        ("c", answer("key 3")), ("a", answer("key 1 changed")), ("d", answer("key 4")),
    ]  # fmt: skip
    cli.file("a.csv", "id,text\na,key 1\nb,key 2\na,key 3\n")
    assert cli.run(*words).status == 1
    errors = [row["error"] for row in read(tmp_path / "out.jsonl")]
    assert errors[:2] == [None, None]
    assert errors[2].startswith("repeated-key: The key 'a'")


def test_a_named_run_over_standard_input(provider: Simulator, tmp_path: Path) -> None:
    """--name makes runs over standard input one run; without it each is its own. Nothing is asked twice either way."""
    cli = Cli(tmp_path)
    words = ("run", "-", *ASK, *at(provider), "--name", "piped")
    before = calls(provider)
    fine(cli.run(*words, stdin="text\nnamed 1\nnamed 2\n"))
    fine(cli.run(*words, stdin="text\nnamed 1\nnamed 2\nnamed 3\n"))
    assert calls(provider) - before == 3
    listed = cli.run("runs", "list").out.splitlines()
    assert len(listed) == 2
    assert listed[1].startswith("piped ")
    assert len(fine(cli.run("runs", "export", "piped")).rows) == 3
    for _ in range(2):
        fine(cli.run("run", "-", *ASK, *at(provider), stdin="text\nnamed 1\n"))
    assert calls(provider) - before == 3
    assert len(cli.run("runs", "list").out.splitlines()) == 4


def test_what_is_said_arrives(tmp_path: Path) -> None:
    """System message, template, parameters, headers and key reach the server as they were given."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-key-of-mine")
    cli.table("a.csv", ["hello"])
    cli.file("system.txt", "Be brief.")
    cli.file("ask.txt", "Say {{this}}: {text}")
    with endpoint() as server:
        words = [
            "--ask", "@ask.txt", "--system", "@system.txt", "--model", "openai:some/model:7b", "--base-url",
            server.url + "/", "--temperature", "0.5", "--max-tokens", "12", "--param", "seed=7", "--param",
            'stop=["a", "b"]', "--param", "user=me=you", "--header", "X-Team=blue = green",
        ]  # fmt: skip
        fine(cli.run("run", "a.csv", *words))
        asked = server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "some/model:7b",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say {this}: hello"}],
        "temperature": 0.5, "max_tokens": 12, "seed": 7, "stop": ["a", "b"], "user": "me=you",
    }  # fmt: skip
    assert asked.headers["authorization"] == "Bearer sk-key-of-mine"
    assert asked.headers["x-team"] == "blue = green"
    assert asked.headers["content-type"] == "application/json"


def test_headers_may_replace_the_key(tmp_path: Path) -> None:
    """--header Authorization=... goes before the key of the environment."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-key-of-mine")
    cli.table("a.csv", ["hello"])
    with endpoint() as server:
        words = ("--model", "openai:m", "--base-url", server.url, "--header", "Authorization=Token abc")
        fine(cli.run("run", "a.csv", *ASK, *words))
        assert server.asked[0].headers["authorization"] == "Token abc"


MODULE = """
from typing import Literal
from pydantic import BaseModel, Field

class Insight(BaseModel):
    label: Literal["positive", "negative", "neutral"]
    score: float = Field(ge=0, le=1)
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
}


@pytest.mark.parametrize(
    "returns",
    ["label: positive|negative|neutral, score: float 0..1", "insight.json", "insight:Insight"],
    ids=["shorthand", "schema", "model"],
)
def test_three_ways_to_say_the_type(returns: str, provider: Simulator, tmp_path: Path) -> None:
    """Shorthand, schema file and Pydantic model ask for the same closed object, and give its fields as columns."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"type {number}" for number in range(5)])
    cli.file("insight.json", json.dumps(SCHEMA))
    cli.file("insight.py", MODULE)
    ended = fine(cli.run("run", "a.csv", *ASK, *at(provider), "--returns", returns))
    for row in ended.rows:
        assert list(row) == ["text", "label", "score", "error", "attempts", "seconds"]
        assert row["label"] in {"positive", "negative", "neutral"}
        assert 0 <= row["score"] <= 1
    cli.table("one.csv", ["type"])
    with endpoint(lambda _: completion('{"label": "neutral", "score": 1}')) as server:
        words = ("--model", "openai:m", "--base-url", server.url, "--returns", returns)
        assert fine(cli.run("run", "one.csv", *ASK, *words)).rows[0]["label"] == "neutral"
        sent = server.asked[0].body["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True
    schema = sent["json_schema"]["schema"]
    assert set(schema["properties"]) == {"label", "score"}
    assert schema["required"] == ["label", "score"]
    assert schema["additionalProperties"] is False


def test_an_answer_of_another_type_is_an_error(tmp_path: Path) -> None:
    """What does not fit --returns fails its row with the reason, and is asked again by a rerun."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["x"])
    with endpoint(lambda _: completion('{"label": "maybe"}')) as server:
        words = ("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", server.url, "--returns", "label: yes|no")
        ended = cli.run(*words)
        assert ended.status == 1
        assert ended.rows[0]["label"] is None
        assert ended.rows[0]["error"].startswith("answer: The answer is not of the type asked for:")
        assert cli.run(*words).status == 1
        assert len(server.asked) == 4  # each time once more, with what was wrong


def test_show_prompt_sends_nothing(provider: Simulator, tmp_path: Path) -> None:
    """--show-prompt shows what the first row becomes, needs no key, asks nothing and stores nothing."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["hello \x1b[31mworld", "never shown"])
    words = (
        "run",
        "a.csv",
        "--ask",
        "Judge {{it}}: {text}",
        "--system",
        "Be brief.",
        "--returns",
        "label: a|b",
        "--show-prompt",
    )
    before = calls(provider)
    for model in (("--model", "openai:gpt-5-nano"), at(provider)):
        shown = fine(cli.run(*words, *model))
        assert "Be brief." in shown.out
        assert "Judge {it}: hello" in shown.out
        assert '"enum"' in shown.out
        assert "never shown" not in shown.out
        assert "\x1b" not in shown.out
    assert calls(provider) == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}


# Streams, files, the terminal


def test_answers_stream_while_standard_input_is_open(provider: Simulator, tmp_path: Path) -> None:
    """Each row's answer is there before the next row is written."""
    with Cli(tmp_path).start("run", "-", *ASK, *at(provider)) as child:
        child.write("text\n")
        for number in range(3):
            child.write(f"streamed {number}\n")
            assert json.loads(child.line())["answer"] == answer(f"streamed {number}")
        ended = child.end("streamed 3\n")
    assert ended.status == 0
    assert [row["text"] for row in ended.rows] == ["streamed 3"]


def test_json_lines_stream_as_well(provider: Simulator, tmp_path: Path) -> None:
    """As CSV does; rows may have columns that the first had not."""
    with Cli(tmp_path).start("run", "-", *ASK, *at(provider), "--ordered") as child:
        child.write('{"text": "line 1"}\n')
        assert json.loads(child.line())["answer"] == answer("line 1")
        child.write('{"text": "line 2", "more": [1]}\n')
        assert json.loads(child.line())["more"] == [1]
        assert child.end().status == 0


def test_a_row_without_the_column_is_an_error_row(provider: Simulator, tmp_path: Path) -> None:
    """In JSON Lines a later row may lack a field of the template: that row alone fails."""
    cli = Cli(tmp_path)
    cli.file("a.jsonl", '{"text": "has it"}\n{"other": 1}\n"bare"\n{"text": null}\n')
    ended = cli.run("run", "a.jsonl", *ASK, *at(provider), "--ordered")
    assert ended.status == 1
    errors = [row["error"] for row in ended.rows]
    assert errors[0] is None
    assert "has no column 'text'" in errors[1]
    assert "has no column 'text'" in errors[2]
    assert errors[3].startswith("item: Every column that the prompt names is empty")


def test_a_row_with_nothing_in_it_is_not_asked_about(provider: Simulator, tmp_path: Path) -> None:
    """Where all columns of the template are empty there is nothing to ask: an error row, and no call."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id,text,note\n1,empty 1,\n2,,\n3,,empty 3\n")
    before = calls(provider)
    ended = cli.run("run", "a.csv", "--ask", "{text}{note}", *at(provider), "--ordered")
    assert ended.status == 1
    assert [row["error"] is None for row in ended.rows] == [True, False, True]
    assert calls(provider) - before == 2


def test_ordered_answers_on_standard_output(tmp_path: Path) -> None:
    """With --ordered the answers come in the order of the rows, however long each took; files always do."""
    cli = Cli(tmp_path)
    texts = [f"row {number}" for number in range(120)]
    cli.table("a.csv", texts)
    with simulator("--latency", "lognormal:0.02,1.5") as provider:
        ended = fine(
            cli.run("run", "a.csv", *ASK, *at(provider), "--ordered", "--concurrency", "20", "-o", "out.jsonl")
        )
        assert [row["text"] for row in read(tmp_path / "out.jsonl")] == texts
        ended = fine(cli.run("run", "a.csv", *ASK, *at(provider), "--ordered", "--concurrency", "20", "--fresh"))
    assert [row["text"] for row in ended.rows] == texts
    assert [row["answer"] for row in ended.rows] == [answer(text) for text in texts]


def test_concurrency_is_kept_and_reached(tmp_path: Path) -> None:
    """No more calls are in flight than allowed, and as many as allowed."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(60)])
    with simulator("--latency", "0.1") as provider:
        fine(cli.run("run", "a.csv", *ASK, *at(provider), "--concurrency", "7"))
        assert provider.ledger(items=False)["most_in_flight"] == 7


FAULTS = "500=0.04,429=0.04,reset=0.04,malformed=0.04,cut=0.04,retry_after=0.05"


@pytest.mark.parametrize(
    ("faults", "words"),
    [(FAULTS, ()), ("hang=0.1", ("--timeout", "1"))],
    ids=["passing faults", "hanging calls"],
)
def test_faults_are_overcome(faults: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """500, 429 with Retry-After, resets, broken and cut bodies, calls that never answer: every row is answered, once."""
    cli = Cli(tmp_path)
    texts = [f"row {number}" for number in range(100)]
    cli.table("a.csv", texts)
    with simulator("--faults", faults, "--seed", "11", "--latency", "0.002") as provider:
        ended = fine(cli.run("run", "a.csv", *ASK, *at(provider), "--ordered", *words))
        ledger = provider.ledger()
    assert [row["answer"] for row in ended.rows] == [answer(text) for text in texts]
    assert ledger["items"] == dict.fromkeys(texts, 1)
    named = {part.partition("=")[0] for part in faults.split(",")} - {"retry_after"}
    assert named <= set(ledger["by_status"])
    assert sum(row["attempts"] for row in ended.rows) == ledger["requests"]
    assert "failed calls: " in ended.err


def test_results_are_whole_or_as_they_were(tmp_path: Path) -> None:
    """A run that stops early leaves an existing result file untouched, and no other file beside it."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    cli.file("out.csv", "old\n")
    cli.file("report.html", "old\n")
    with simulator("--model", "another") as provider:
        assert cli.run("run", "a.csv", *ASK, *at(provider), "-o", "out.csv", "--report", "report.html").status == 3
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "report.html").read_text() == "old\n"
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "out.csv", "report.html", ".headrace"}


def test_the_report_is_one_page(provider: Simulator, tmp_path: Path) -> None:
    """--report makes one page that loads nothing from elsewhere and shows foreign text as text."""
    cli = Cli(tmp_path)
    cli.file("a.csv", 'text\n"<script>alert(1)</script>"\nplain\n')
    ended = fine(cli.run("run", "a.csv", *ASK, *at(provider), "--report", "r.html", "--system", "<b>bold</b>"))
    assert "r.html" in ended.err
    page = (tmp_path / "r.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "<script>alert(1)" not in page
    assert "<b>bold" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert answer("plain") in page or "simulated answer" in page
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:)?//|@import|url\((?!data:)""", page, re.IGNORECASE)


def test_quiet_says_nothing(provider: Simulator, tmp_path: Path) -> None:
    """--quiet: no line on standard error where all went well; with -o none on standard output either."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["quiet"])
    words = ("run", "a.csv", *ASK, *at(provider), "--quiet")
    shown = fine(cli.run(*words))
    assert (shown.err, len(shown.rows)) == ("", 1)
    files = fine(cli.run(*words, "-o", "out.csv", "--report", "r.html"))
    assert (files.err, files.out) == ("", "")


def test_progress_in_a_log_is_plain(tmp_path: Path) -> None:
    """Without a terminal, progress is plain lines: an opening, one now and then, and a summary; no escape codes."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(20)])
    with simulator("--latency", "0.5") as provider:
        ended = fine(cli.run("run", "a.csv", *ASK, *at(provider), "--concurrency", "10", "-o", "out.csv"))
    assert ended.out == ""
    assert "\x1b" not in ended.err
    assert "\r" not in ended.err
    assert "20 items of " in ended.err.splitlines()[0]
    assert "at most 10 calls at a time" in ended.err.splitlines()[0]
    assert "Done." in ended.err.splitlines()
    assert "  20 items: 20 ok, 0 failed" in ended.err.splitlines()
    assert ended.err.splitlines()[-1] == "20 rows in out.csv"


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
def test_a_reader_that_leaves(reader: str, provider: Simulator, tmp_path: Path) -> None:
    """Closing standard output early ends the command quietly, whichever command it is."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"reader {'x' * 500} {number}" for number in range(500)])
    for words in (
        f"run a.csv --ask '{{text}}' --model openai:m --base-url {provider.url}",
        "runs list",
        "runs export a",
        "run --help",
    ):
        ended = cli.shell(f"headrace {words} | {reader}")
        assert ended.status == 0
        assert "Traceback" not in ended.err
        assert "Broken" not in ended.err
        assert "Exception" not in ended.err
        assert ended.sentences == []
    again = fine(cli.run("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", provider.url))
    assert len(again.rows) == 500


def test_streams_that_are_closed_or_full(provider: Simulator, tmp_path: Path) -> None:
    """Standard output that is full is told in a sentence; streams closed from outside are done without."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["streams 1", "streams 2"])
    run = f"headrace run a.csv --ask '{{text}}' --model openai:m --base-url {provider.url}"
    for line in (run, "headrace runs list", "headrace runs export a", "headrace --version"):
        full = cli.shell(f"{line} > /dev/full")
        assert (full.status, len(full.sentences)) == (2, 1), full
        assert "Standard output could not be written: No space left on device" in full.sentences[0]
        assert "Traceback" not in full.err
        assert cli.shell(f"{line} >&-").status == 0
        assert cli.shell(f"{line} >&- 2>&-").status == 0
    assert cli.shell(f"{run} 2>&-").status == 0
    closed = cli.shell("headrace run - --ask '{text}' --model sim: <&-")
    assert "Standard input cannot be read" in the_sentence(closed)


def test_a_log_that_nobody_reads(provider: Simulator, tmp_path: Path) -> None:
    """Standard error that is closed early does not end the run."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["log 1", "log 2"])
    ended = cli.shell(
        f"headrace run a.csv --ask '{{text}}' --model openai:m --base-url {provider.url} -o out.csv 2>&1 | true"
    )
    assert ended.status == 0
    assert len(read(tmp_path / "out.csv")) == 2


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["colour", "NO_COLOR", "dumb"])
def test_a_terminal_shows_it_live_and_the_answers(environ: dict[str, str], tmp_path: Path) -> None:
    """On a terminal there is a live display, then a table of the answers; no colours with NO_COLOR, no codes where dumb."""
    cli = Cli(tmp_path, **environ)
    cli.file("a.csv", "id,text\n" + "".join(f"{n},row {n} of many\n" for n in range(14)))
    with simulator("--latency", "0.3") as provider:
        words = ("run", "a.csv", *ASK, *at(provider), "--concurrency", "4", "--returns", "label: good|bad")
        with cli.terminal(*words) as terminal:
            if "TERM" not in environ:
                terminal.until(b"in flight")
            assert terminal.end() == 0
    shown = terminal.shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "Done." in plain
    assert "14 items: 14 ok, 0 failed" in plain
    header = next(line for line in plain.splitlines() if re.match(r"\s*id\s+label\s+error", line))
    assert "text" in header
    assert re.search(r"\b(good|bad)\b", plain)
    assert "The first 10 of 14 rows." in plain
    if "TERM" in environ:
        assert "\x1b" not in shown
    else:
        assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h")  # the cursor is given back
    coloured = re.search(r"\x1b\[(\d+;)*(3[0-7]|38|9[0-7])[;m]", shown)
    assert bool(coloured) == (environ == {})


def test_a_terminal_for_the_log_alone(provider: Simulator, tmp_path: Path) -> None:
    """What an answer holds cannot steer the terminal."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    evil = "\x1b]0;owned\x07\x1b[2Jgo\u202e"
    with endpoint(lambda _: completion(evil)) as server:
        words = ("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", server.url)
        with cli.terminal(*words) as terminal:
            assert terminal.end() == 0
    assert b"\x1b]0" not in terminal.shown
    assert b"\x1b[2J" not in terminal.shown
    assert "\u202e".encode() not in terminal.shown
    with cli.terminal("run", "a.csv", *ASK, *at(provider), "--quiet") as quiet:
        assert quiet.end() == 0
    assert b"simulated answer" in quiet.shown
    assert b"ok" not in quiet.shown
