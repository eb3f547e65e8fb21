"""Everything a person can get wrong: one clear sentence, the right exit status, no traceback, nothing paid for lost."""

import csv
import gzip
import json
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from acceptance.cli import Cli, the_sentence
from acceptance.endpoint import Asked, endpoint
from simulator import Simulator, simulator

CALLS = {"calls.csv": "id,text\n1,hello\n2,world\n"}
ASK = ("--ask", "{text}")


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator() as made:
        yield made


def at(provider: Simulator) -> tuple[str, ...]:
    return ("--model", "openai:simulated", "--base-url", provider.url)


@dataclass(frozen=True)
class Case:
    """Words that cannot work, the files they meet, and what the sentence must say."""

    name: str
    words: tuple[str, ...]
    says: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    stdin: str = ""


def source(name: str, *says: str, files: Mapping[str, str | bytes], path: str, stdin: str = "") -> Case:
    """An input that cannot be read."""
    return Case(name, (path, *ASK), says, files, stdin)


def wrong(name: str, words: tuple[str, ...], *says: str, files: Mapping[str, str | bytes] | None = None) -> Case:
    """A readable table with a wrong word."""
    return Case(name, ("calls.csv", *(() if "--ask" in words else ASK), *words), says, {**CALLS, **(files or {})})


SOURCES = [
    source("no such file", "no file cals.csv", "Did you mean calls.csv?", files={"calls.csv": "text\na\n"}, path="cals.csv"),
    source("no such folder", "no file nowhere/a.csv", "folder does not exist", "Check the path", files={}, path="nowhere/a.csv"),
    source("no path", "path of the input is empty", files={}, path=""),
    source("empty CSV", "a.csv is empty", "header line", files={"a.csv": ""}, path="a.csv"),
    source("blank CSV", "a.csv is empty", files={"a.csv": "\n\n"}, path="a.csv"),
    source("empty JSON Lines", "a.jsonl is empty", "one JSON value", files={"a.jsonl": ""}, path="a.jsonl"),
    source("header only", "a.csv has a header but no rows", "Add at least one row", files={"a.csv": "id,text\n"}, path="a.csv"),
    source("folder without text", "notes holds no text files", ".txt", files={"notes/a.pdf": b"%PDF"}, path="notes"),
    source("unknown ending", "a.docx ends in .docx", "It reads CSV", files={"a.docx": b"PK"}, path="a.docx"),
    source("no ending", "table has no ending", "It reads CSV", files={"table": "text\na\n"}, path="table"),
    source("empty array", "a.json has no rows", files={"a.json": "[]"}, path="a.json"),
    source("no array", "a.json holds one object without an array", "jq -c", files={"a.json": '{"a": {"b": 1}}'}, path="a.json"),
    source("cut JSON", "a.json, line 2, character 3: the JSON is cut off", files={"a.json": '[{"text": "a"},\n {'}, path="a.json"),
    source("cut archive", "a.csv.gz ends in the middle of its gzip data", "again", files={"a.csv.gz": gzip.compress(b"text\na\n")[:-4]}, path="a.csv.gz"),
    source("damaged archive", "a.csv.gz is damaged", "again", files={"a.csv.gz": gzip.compress(b"text\na\n")[:-4] + b"...."}, path="a.csv.gz"),
    source("an archive of another kind", "a.csv is a bzip2 archive", "unpack it", files={"a.csv": b"BZh91AY&SY"}, path="a.csv"),
    source("NUL byte", "a.csv, line 3: there is a NUL byte", "tr -d", files={"a.csv": "text\na\n\0\n"}, path="a.csv"),
    source("another script", "a.csv is not UTF-8 (line 2, byte 1 is 0xcf)", "--encoding NAME", files={"a.csv": b"text\n\xcf\xf0\xe8\xe2\xe5\xf2\n"}, path="a.csv"),
    source("broken Parquet", "a.parquet cannot be read as Parquet", "whole", files={"a.parquet": b"PAR1 and so on PAR1"}, path="a.parquet"),
    source("empty Parquet", "a.parquet cannot be read as Parquet", "whole", files={"a.parquet": b""}, path="a.parquet"),
    source("ragged CSV", "a.csv, line 2: expected 2 fields", "found 3", "double quotes", files={"a.csv": "id,text\n1,a,b\n"}, path="a.csv"),
    source("open quote", "a.csv ends inside a quoted field", "Close the quote", files={"a.csv": 'text\n"a\n'}, path="a.csv"),
    source("no UTF-8 any more", "a.csv, line 3, byte 4 (0xe9) is no UTF-8", "--encoding NAME", files={"a.csv": b"text\n\xc3\xa9\ncaf\xe9\n"}, path="a.csv"),
    source("bad JSON line", "a.jsonl, line 1: no valid JSON", "whole JSON value", files={"a.jsonl": '{"text": }\n'}, path="a.jsonl"),
    source("no UTF-8 in JSON", "a.jsonl, line 1", "no UTF-8", files={"a.jsonl": b'{"text": "\xc3\xa9\xe9"}\n'}, path="a.jsonl"),
    source("empty standard input", "Standard input is empty", "Pipe in CSV", files={}, path="-"),
    source("bad JSON on standard input", "Standard input, line 1: no valid JSON", files={}, path="-", stdin='{"text"\n'),
    source("missing field of JSON Lines", "names {text}", "There are: title, body", files={"a.jsonl": '{"title":"a","body":"b"}\n'}, path="a.jsonl"),
]  # fmt: skip

MINE = {"mine.py": "number = 3\nclass Plain:\n    pass\n"}

WORDS = [
    wrong("missing field", ("--ask", "{body}"), "names {body}", "There are: id, text"),
    wrong("near miss of a field", ("--ask", "{txt}"), "names {txt}", "Did you mean {text}?"),
    wrong("no field", ("--ask", "hello"), "names no column", "{id}", "There are: id, text"),
    wrong("lone brace", ("--ask", "{text} {"), "lone '{' at character 8", "{{"),
    wrong("closing brace", ("--ask", "{text}}"), "lone '}' at character 7", "}}"),
    wrong("empty braces", ("--ask", "{}"), "lone '{}'", "{column}"),
    wrong("no prompt file", ("--ask", "@nowhere.txt"), "cannot be read from nowhere.txt", "Check the path"),
    wrong("prompt file no UTF-8", ("--ask", "@p.txt"), "no UTF-8", files={"p.txt": b"\xff{text}"}),
    wrong("no key column", ("--key", "idd"), "no key column 'idd'", "Did you mean 'id'?"),
    wrong("unknown type", ("--returns", "label: maybe"), "--returns", "'maybe'", "Write for example"),
    wrong("no type", ("--returns", "label:"), "--returns", "'label'", "Write for example"),
    wrong("choice twice", ("--returns", "label: good|bad|good"), "the choice 'good' of the field 'label' stands there twice"),
    wrong("field twice", ("--returns", "a: int, a: str"), "--returns", "'a' stands there twice"),
    wrong("bounds the wrong way", ("--returns", "a: int 5..1"), "--returns", "wrong way round"),
    wrong("no module", ("--returns", "nowhere:Model"), "--returns", "no module 'nowhere'"),
    wrong("no attribute", ("--returns", "mine:Model"), "--returns", "'mine' has no 'Model'", files=MINE),
    wrong("no type behind it", ("--returns", "mine:number"), "returns: ", files=MINE),
    wrong("no model behind it", ("--returns", "mine:Plain"), "returns: ", files=MINE),
    wrong("broken module", ("--returns", "mine:Model"), "importing 'mine' failed", files={"mine.py": "1 / 0\n"}),
    wrong("no schema file", ("--returns", "s.json"), "cannot be read from s.json"),
    wrong("broken schema file", ("--returns", "s.json"), "s.json is no JSON", files={"s.json": "{"}),
    wrong("schema that is a list", ("--returns", "s.json"), "s.json holds no JSON schema", files={"s.json": "[]"}),
    wrong("schema of text", ("--returns", "s.json"), "must describe an object", files={"s.json": '{"type": "string"}'}),
    wrong("invalid schema", ("--returns", "s.json"), "no valid JSON schema", files={"s.json": '{"type": "obj"}'}),
    wrong("unknown model", ("--model", "gpt-5"), "Unknown model 'gpt-5'", "openai:gpt-5"),
    wrong("unknown scheme", ("--model", "gemnii:pro"), "'gemnii'", "Did you mean gemini:pro?"),
    wrong("no name", ("--model", "openai:"), "has no name", "openai:gpt-5-nano"),
    *[
        wrong(f"no address {url}", ("--model", "openai:m", "--base-url", url), url, "no http:// or https:// address", "http://127.0.0.1:8000/v1")
        for url in ("localhost:8000", "http://", "https://:80/v1", "http://[::1/v1", "http://127.0.0.1:http/v1", "ftp://a/v1")
    ],
    wrong("unknown sim", ("--model", "sim:speed=3"), "speed"),
    wrong("latency of sim", ("--model", "sim:latency=soon"), "'soon' is no latency"),
    wrong("output that is the input", ("-o", "../in/calls.csv", "--first", "1"), "is the input itself", "another file", files={"../in/x": ""}),
    wrong("report that is no page", ("--report", "r.pdf"), "The report r.pdf ends in .pdf", "Name it r.html", "prints it as PDF"),
    wrong("report without ending", ("--report", "there/r"), "The report there/r has no ending", "Name it there/r.html"),
    wrong("report that is the input", ("--report", "calls.csv"), "calls.csv ends in .csv", "Name it calls.html"),
    wrong("output nowhere", ("-o", "nowhere/a.csv"), "folder of nowhere/a.csv does not exist", "Create it"),
    wrong("output of unknown ending", ("-o", "a.doc"), "a.doc ends in .doc", ".jsonl"),
    wrong("output without ending", ("-o", "answers"), "answers has no ending", ".jsonl"),
    wrong("output that is a folder", ("-o", "there.csv"), "there.csv is a folder", files={"there.csv/x": ""}),
    wrong("report nowhere", ("--report", "nowhere/r.html"), "nowhere/r.html"),
    wrong("report that is a folder", ("--report", "there.html"), "there.html", "a directory", files={"there.html/x": ""}),
    wrong("concurrency 0", ("--concurrency", "0"), "concurrency of 0", "from 1"),
    wrong("concurrency below 0", ("--concurrency", "-3"), "concurrency of -3", "from 1"),
    wrong("too much concurrency", ("--concurrency", "1000000"), "concurrency of 1000000", "10000"),
    wrong("concurrency of a word", ("--concurrency", "many"), "--concurrency", "'many' is no number and not auto"),
    wrong("no requests a minute", ("--rpm", "0"), "limit of 0 requests per minute", "from 1"),
    wrong("requests below 0", ("--rpm", "-60"), "limit of -60 requests per minute", "from 1"),
    wrong("requests of no number", ("--rpm", "nan"), "limit of nan requests per minute", "from 1"),
    wrong("requests without end", ("--rpm", "inf"), "limit of inf requests per minute", "from 1"),
    wrong("no tokens a minute", ("--tpm", "0"), "limit of 0 tokens per minute", "from 1"),
    wrong("answers larger than the limit", ("--tpm", "1000", "--max-tokens", "2000"), "up to 2000 tokens do not fit a limit of 1000", "--max-tokens"),
    wrong("a deadline of 0", ("--deadline", "0"), "deadline of 0 s", "above 0"),
    wrong("a deadline below 0", ("--deadline", "-1"), "deadline of -1 s", "above 0"),
    wrong("backups for all", ("--backup", "80%"), "0.8 of the calls cannot be backups", "0.02 or 2%"),
    wrong("backups below 0", ("--backup=-2%",), "-0.02 of the calls cannot be backups", "0.02 or 2%"),
    wrong("backups of a word", ("--backup", "some"), "--backup", "'some' is no share such as 2% or 0.02"),
    wrong("a failure rate above 1", ("--max-failure-rate", "10"), "failure rate of 10", "0.1 or 10%"),
    wrong("a failure rate of a word", ("--max-failure-rate", "high"), "--max-failure-rate", "'high' is no share"),
    wrong("timeout 0", ("--timeout", "0"), "timeout of 0 s", "above 0"),
    wrong("timeout of no number", ("--timeout", "nan"), "timeout of nan", "above 0"),
    wrong("first 0", ("--first", "0"), "first 0 items", "from 1"),
    wrong("parameter without a value", ("--param", "seed"), "--param 'seed'", "--param name=value"),
    wrong("parameter without a name", ("--param", "=7"), "--param '=7'", "--param name=value"),
    wrong("header without a value", ("--header", "X-Team"), "A --header is no NAME=VALUE", "--header name=value"),
    wrong("header of two lines", ("--header", "X-Team=a\r\nX-Other: b"), "--header 'X-Team'", "control character"),
    wrong("another database", ("--store", "other.db"), "other.db is a database, but no store", "--store"),
    wrong("another version", ("--store", "later.db"), "later.db has version 99", "--store"),
    wrong("no database", ("--store", "calls.csv"), "calls.csv is no store", "--store"),
    wrong("a store that is a folder", ("--store", "there"), "store there could not be opened", "--store", files={"there/x": ""}),
    wrong("a store under a file", ("--store", "calls.csv/s.db"), "could not be opened", "--store"),
    wrong("a store with an address", ("--store", "postgresql://u@h/d"), "is no file", "Name a file"),
    *[
        wrong(f"unknown word {words[0]}", words, f"unrecognized arguments: {words[0]}.", "--help")
        for words in (
            ("--semantic", "5"), ("--jsonl",), ("--temp", "1"), ("--conc", "3"),
        )
    ],
]  # fmt: skip


def databases(folder: Path) -> None:
    """A database of another program, and a store of a later version."""
    for name, statements in (
        ("other.db", ("CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (1)")),
        ("later.db", ("PRAGMA application_id = 1752326499", "PRAGMA user_version = 99", "CREATE TABLE answers (a)")),
    ):
        connection = sqlite3.connect(folder / name)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()


@pytest.mark.parametrize("case", [*SOURCES, *WORDS], ids=lambda case: case.name)
def test_one_sentence_before_any_call(case: Case, provider: Simulator, tmp_path: Path) -> None:
    """What cannot work ends with status 2 and one sentence that says what, where and what to do; nothing is asked."""
    cli = Cli(tmp_path / "in")
    for name, content in case.files.items():
        cli.file(name, content)
    if any("database" in word or "version" in word for word in case.name.split()):
        databases(cli.folder)
    before = provider.ledger(items=False)["requests"]
    model = () if {"--model", "--base-url"} & {*case.words} else at(provider)
    told = the_sentence(cli.run("run", *case.words, *model, stdin=case.stdin))
    assert all(part in told for part in case.says), told
    assert told.endswith((".", "?"))
    assert provider.ledger(items=False)["requests"] == before


@pytest.mark.parametrize(
    ("words", "files", "stdin", "says"),
    [
        (("-",), {}, "text\n", ("Standard input has a header but no rows", "Add at least one row")),
        (("a.jsonl",), {"a.jsonl": '"just text"\n'}, "", ("names {text}", "There are: item")),
    ],
    ids=["header only on standard input", "rows without columns"],
)
def test_what_only_the_first_row_tells(
    words: tuple[str, ...],
    files: dict[str, str],
    stdin: str,
    says: tuple[str, ...],
    provider: Simulator,
    tmp_path: Path,
) -> None:
    """What is found when the run has begun to read is told in one sentence too, before any call."""
    cli = Cli(tmp_path)
    for name, content in files.items():
        cli.file(name, content)
    before = provider.ledger(items=False)["requests"]
    ended = cli.run("run", *words, *ASK, *at(provider), stdin=stdin)
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.sentences) == 1
    assert all(part in ended.sentences[0] for part in says)
    assert "Traceback" not in ended.err
    assert provider.ledger(items=False)["requests"] == before


@pytest.mark.parametrize(
    "words",
    [("run", "nowhere.csv", *ASK, "--model", "sim:"), ("runs", "show", "x"), ("run", "a.csv", *ASK, "--model", "sim:")],
    ids=["input", "store", "ragged"],
)
def test_debug_shows_the_traceback(words: tuple[str, ...], tmp_path: Path) -> None:
    """--debug shows where the error comes from, and still ends with the sentence."""
    cli = Cli(tmp_path)
    cli.file("a.csv", "id,text\n1\n")
    ended = cli.run(*words, "--debug")
    assert ended.status == 2
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1] == ended.sentences[-1]
    assert the_sentence(cli.run(*words)) == ended.sentences[-1].rpartition(" [")[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "required: COMMAND"),
        (("rum", "a.csv"), "There is no command 'rum'. Did you mean run? There are: run, "),
        (("fly", "a.csv"), "There is no command 'fly'. There are: run, "),
        (("serve",), "'serve'"),
        (("run",), "required: INPUT, --ask, --model"),
        (("runs",), "required: VERB"),
        (("runs", "exprot", "x"), "There is no verb 'exprot'. Did you mean export? There are: list, "),
        (("runs", "list"), "no store at .headrace/store.db"),
        (("local", "fly"), "There is no verb 'fly'. There are: pull, serve."),
        (("local", "sreve"), "Did you mean serve?"),
        (("simulate", "--headers", "opnai"), "Did you mean openai?"),
        (("simulate", "--limit", "request=5"), "Did you mean requests?"),
        (("simulate", "--port", "70000"), "no port 70000"),
        (("runs", "list", "--store", "elsewhere.db"), "no store at elsewhere.db"),
    ],
)
def test_commands_that_are_none(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Words of later parts are unknown, what is missing is named, and a look at no store makes none."""
    assert says in the_sentence(Cli(tmp_path).run(*words))
    assert list(tmp_path.iterdir()) == []


def test_another_programs_database_is_left_as_it_was(tmp_path: Path) -> None:
    """Who names the wrong file as store does not have it changed."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    databases(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("other.db", "later.db")}
    for name in before:
        the_sentence(cli.run("run", "a.csv", *ASK, "--model", "sim:", "--store", name))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "other.db", "later.db"}


@pytest.mark.parametrize(
    ("name", "good", "bad", "says"),
    [
        ("a.csv", "text\n{}\n", "text\n{}\none,two\n", "a.csv, line 202: expected 1 field as in the header, found 2"),
        ("a.jsonl", "{}\n", "{}\n{{\n", "a.jsonl, line 201: no valid JSON"),
    ],
    ids=["ragged", "no JSON"],
)
def test_a_bad_row_in_the_middle_loses_nothing(
    provider: Simulator, tmp_path: Path, name: str, good: str, bad: str, says: str
) -> None:
    """What was asked before a bad row is met stays answered and stored; with the row mended, the rest alone is paid."""
    cli = Cli(tmp_path)
    texts = [f"{says[:20]} {number}" for number in range(200)]
    lines = "\n".join(json.dumps({"text": text}) if name.endswith("l") else f'"{text}"' for text in texts)
    cli.file(name, bad.replace("{}", lines).replace("{{", "{").encode("latin-1") + b"more\n")
    words = ("run", name, *ASK, *at(provider), "-o", "out.jsonl")
    ended = cli.run(*words)
    assert ended.status == 2
    assert len(ended.sentences) == 1
    assert says in ended.sentences[0]
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out.jsonl").exists()
    paid = {text for text in texts if text in provider.ledger()["items"]}
    assert paid
    assert {row["text"] for row in cli.run("runs", "export", "a").rows} == paid
    cli.file(name, good.replace("{}", lines))
    assert cli.run(*words).status == 0
    assert [row["text"] for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())] == texts
    items = provider.ledger()["items"]
    assert {items[text] for text in texts} == {1}


def test_no_key(tmp_path: Path) -> None:
    """Without a key nothing is sent to who needs one; the sentence names the variable and what needs none."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    told = the_sentence(cli.run("run", "a.csv", *ASK, "--model", "openai:gpt-5-nano"))
    assert "no API key for openai:gpt-5-nano" in told
    assert "OPENAI_API_KEY" in told
    assert "--model local" in told


@pytest.mark.parametrize("key", ["sk-with\nnewline", "sk-with-é"])
def test_a_key_that_no_header_can_hold(key: str, provider: Simulator, tmp_path: Path) -> None:
    """A key with a line break in it or a letter that is none of a key's is told at once, without showing it."""
    cli = Cli(tmp_path, OPENAI_API_KEY=key)
    cli.table("a.csv", ["a"])
    told = the_sentence(cli.run("run", "a.csv", *ASK, *at(provider)))
    assert "OPENAI_API_KEY" in told
    assert "sk-with" not in told


def test_white_space_around_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    """A key that was read from a file with its line end works."""
    cli = Cli(tmp_path, OPENAI_API_KEY=" sk-good\n")
    cli.table("a.csv", ["a"])
    with simulator("--api-key", "sk-good") as provider:
        assert cli.run("run", "a.csv", *ASK, *at(provider)).status == 0


def test_wrong_key(tmp_path: Path) -> None:
    """A 401 stops the run at once with status 3; no item is failed for it, and with the right key it goes on."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-bad")
    cli.table("a.csv", [f"row {number}" for number in range(50)])
    with simulator("--api-key", "sk-good", "--latency", "0.01") as provider:
        words = ("run", "a.csv", *ASK, *at(provider), "--concurrency", "4")
        ended = cli.run(*words)
        assert (ended.status, ended.out) == (3, "")
        assert len(ended.sentences) == 1
        assert "answered 401: Incorrect API key provided." in ended.sentences[0]
        assert "Check the API key" in ended.sentences[0]
        assert "Traceback" not in ended.err
        assert "sk-bad" not in ended.err
        assert provider.ledger(items=False)["requests"] <= 4
        again = Cli(tmp_path, OPENAI_API_KEY="sk-good").run(*words)
        assert (again.status, len(again.rows)) == (0, 50)


def test_unknown_model_at_the_provider(tmp_path: Path) -> None:
    """A 404 stops the run at once with status 3 and the model's name."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a", "b"])
    with simulator("--model", "this-one") as provider:
        ended = cli.run("run", "a.csv", *ASK, *at(provider))
    assert (ended.status, ended.out) == (3, "")
    assert len(ended.sentences) == 1
    assert "404" in ended.sentences[0]
    assert "`simulated` does not exist" in ended.sentences[0]
    assert "Check the model's name and the base URL" in ended.sentences[0]


def refuse(_asked: Asked) -> tuple[int, str]:
    return 400, json.dumps({"error": {"message": "Unknown parameter: 'sead'.", "type": "invalid_request_error"}})


def test_a_request_that_is_always_refused(tmp_path: Path) -> None:
    """A 400 for every item fails every item, once each, and says why once; the results are written, with status 1."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(20)])
    with endpoint(refuse) as server:
        words = ("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", server.url, "--param", "sead=1")
        ended = cli.run(*words, "-o", "out.csv")
        assert len(server.asked) == 20
    assert ended.status == 1
    assert ended.err.count("Unknown parameter: 'sead'.") == 1
    assert "20 failed, rejected: The provider answered 400" in ended.err
    assert re.search(r"^  rows \d+, \d+, \d+ and 17 more$", ended.err, re.MULTILINE), ended.err
    assert "(rows 1, 2, 3 and 17 more)" in cli.run("runs", "show", "last").out
    assert "Traceback" not in ended.err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert all(row["error"].startswith("rejected: The provider answered 400") for row in rows)


def test_nothing_answers(tmp_path: Path) -> None:
    """A refused connection is waited out for the 30 s of G11; then status 3 and the address. Nothing is failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        cli = Cli(tmp_path)
        cli.table("a.csv", [f"row {number}" for number in range(40)])
        words = ("--model", "openai:m", "--base-url", f"http://127.0.0.1:{port}/v1")
        ended = cli.run("run", "a.csv", *ASK, *words, "-o", "out.csv")
    assert (ended.status, ended.out) == (3, "")
    assert len(ended.sentences) == 1
    assert f"Nothing answers at http://127.0.0.1:{port}" in ended.sentences[0]
    assert "Mend the cause and run again" in ended.sentences[0]
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out.csv").exists()
    [shown] = cli.run("runs", "list", "--json").rows
    assert (shown["status"], shown["ok"], shown["failed"]) == ("stopped", 0, 0)
    assert shown["pending"] in (40, None)


def test_a_second_process_on_a_live_run(tmp_path: Path) -> None:
    """The second process is told so and ends; the first goes on undisturbed."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a", "b"])
    with simulator("--latency", "3600") as provider:
        words = ("run", "a.csv", *ASK, *at(provider))
        with cli.start(*words) as first:
            first.until(lambda: provider.ledger(items=False)["in_flight"] == 2)
            told = the_sentence(cli.run(*words))
            assert "is going on in another process" in told
            assert "--name" in told
            assert first.process.poll() is None
            assert "running" in cli.run("runs", "list").out


def test_what_a_provider_says_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    """Control characters in a provider's message, a file name or a word are not passed on."""

    def answer(_asked: Asked) -> tuple[int, str]:
        return 401, json.dumps({"error": {"message": "go \x1b[2J\x1b]0;owned\x07 away\r\nnow"}})

    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    with endpoint(answer) as server:
        ended = cli.run("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", server.url)
    assert ended.status == 3
    told: list[Any] = [
        ended,
        cli.run("run", "\x1b[31m.csv", *ASK, "--model", "sim:"),
        cli.run("run", "a.csv", "--\x1b[31m"),
    ]
    for each in told:
        assert len(each.sentences) == 1
        assert not any(ord(sign) < 32 for sign in each.err.replace("\n", ""))
