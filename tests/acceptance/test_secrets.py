"""G12: keys and headers are sent, and are nowhere else: store, output, report, log, traceback, event, error. Prompts and
answers are where they belong, in the store, results and report, and in nothing that ends in a log."""

import asyncio
import json
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.cli import Cli, Ended, the_sentence
from acceptance.endpoint import Answer, Asked, completion, endpoint
from simulator import simulator

KEY = 'sk-canary/one"quoted-0123456789'
TEAM = "canary-two-0123456789"
TOKEN = "canary-three-0123456789"
CANARIES = (KEY, TEAM, TOKEN, "canary")
ASK = ("--ask", "{text}")
HEADERS = ("--header", f"X-Team={TEAM}", "--header", f"X-Token=Token {TOKEN}")


def said(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


def quoting(asked: Asked) -> str:
    """All that the request brought, as a server that is too open would say it."""
    authorization = asked.headers.get("authorization", "")
    return f"Refused {authorization} of {asked.headers['x-team']} with {asked.headers['x-token'].split()[-1]}"


ECHOES: dict[str, Callable[[Asked], Answer]] = {
    "no echo": lambda _: completion("fine"),
    "refused key": lambda asked: (401, said(quoting(asked), code="invalid_api_key")),
    "refused key as text": lambda asked: (403, quoting(asked)),
    "refused model": lambda asked: (404, said(f"no model for {quoting(asked)}")),
    "refused request": lambda asked: (400, said(quoting(asked))),
    "cut": lambda asked: (400, said("x" * 280 + quoting(asked))),
    "error in a good answer": lambda asked: (200, said(quoting(asked), code=400)),
    "escaped": lambda asked: (400, said(quoting(asked)).replace("/", "\\/").replace("-", "\\u002d")),
    "elsewhere in the body": lambda asked: (400, json.dumps({"detail": quoting(asked), "headers": dict(asked.headers)})),
}  # fmt: skip


def leaks(folder: Path, *ended: Ended) -> list[str]:
    """Where a canary is found: any byte of any file, any word that was said."""
    store = folder / ".headrace" / "store.db"
    if store.exists():  # what is still in the log of the database is in its file then
        connection = sqlite3.connect(store)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    found = [
        f"{path}: {canary}"
        for path in folder.rglob("*")
        if path.is_file()
        for canary in CANARIES
        if canary.encode() in path.read_bytes()
    ]
    return found + [f"said: {canary}" for each in ended for canary in CANARIES if canary in each.out + each.err]


@pytest.mark.parametrize("echo", ECHOES)
def test_nothing_is_kept_or_told(echo: str, tmp_path: Path) -> None:
    """Whatever a server says back, with --debug too, no byte of a secret is stored, written or shown."""
    cli = Cli(tmp_path, OPENAI_API_KEY=KEY)
    cli.table("a.csv", ["one", "two"])
    with endpoint(ECHOES[echo]) as server:
        words = (
            "run",
            "a.csv",
            *ASK,
            "--model",
            "openai:m",
            "--base-url",
            server.url,
            *HEADERS,
            "--debug",
            "--timeout",
            "9",
        )
        shown = [cli.run(*words), cli.run(*words, "-o", "out.jsonl", "--report", "r.html")]
        if echo in ("no echo", "refused request"):
            shown += [
                cli.run("runs", *more, "--debug")
                for more in (("show", "a"), ("resume", "a", *HEADERS), ("export", "a"))
            ]
            shown.append(cli.run(*words, "--show-prompt"))
        sent = server.asked[0].headers
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["x-team"] == TEAM
    assert leaks(tmp_path, *shown) == []
    assert shown[0].status == {"no echo": 0}.get(echo, 3 if echo.startswith("refused") and "request" not in echo else 1)
    if "echo" not in echo and "good" not in echo and "elsewhere" not in echo and "cut" not in echo:
        assert "***" in shown[0].err


def test_a_key_in_a_header_goes_before_the_key_and_is_hidden_too(tmp_path: Path) -> None:
    """The token after `Bearer` alone is a secret as well."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["one"])
    with endpoint(lambda asked: (401, said(f"bad key {asked.headers['authorization'].split()[-1]}"))) as server:
        words = ("--model", "openai:m", "--base-url", server.url, "--header", f"Authorization=Bearer {TOKEN}")
        ended = cli.run("run", "a.csv", *ASK, *words, "--debug")
    assert ended.status == 3
    assert "bad key ***" in ended.err
    assert leaks(tmp_path, ended) == []


def test_short_header_values_do_not_blot_out_messages(tmp_path: Path) -> None:
    """A header such as X-Version: 1 is no secret, and its value not struck out of what the provider says."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["one"])
    with endpoint(lambda _: (401, said("no key 1"))) as server:
        words = ("--model", "openai:m", "--base-url", server.url, "--header", "X-Version=1", "--header", "X-Mode=a")
        ended = cli.run("run", "a.csv", *ASK, *words)
    assert "The provider answered 401: no key 1" in ended.sentences[0]


@pytest.mark.parametrize(
    "words",
    [
        ("--header", f"Authorization: Bearer {TOKEN}"),
        ("--header", f"Authorization:{TOKEN}"),
        ("--header", f"Authorization: Basic {TOKEN}=="),
        ("--header", f"Bearer {TOKEN}"),
        ("--header", f"X-Token={TOKEN}\n"),
        ("--api-key", TOKEN),
        (f"--api-key={TOKEN}",),
        ("--base-url", f"http://user:{TOKEN}@127.0.0.1:9/v1"),
        ("--base-url", f"ftp://user:{TOKEN}@127.0.0.1:9/v1"),
        ("--base-url", f"http://{TOKEN}@/v1"),
    ],
)
def test_a_secret_in_a_wrong_word(words: tuple[str, ...], tmp_path: Path) -> None:
    """A header with a colon, a key as a word, a password in an address: refused without repeating it."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["one"])
    ended = cli.run("run", "a.csv", *ASK, "--model", "openai:m", "--base-url", "http://127.0.0.1:9/v1", *words)
    told = the_sentence(ended)
    assert words[0].partition("=")[0] in told or "base URL" in told
    assert leaks(tmp_path, ended) == []


def test_a_password_in_the_address_of_the_environment(tmp_path: Path) -> None:
    """It would be stored with the run: it is refused, and not shown."""
    cli = Cli(tmp_path, OPENAI_BASE_URL=f"http://user:{TOKEN}@127.0.0.1:9/v1")
    cli.table("a.csv", ["one"])
    ended = cli.run("run", "a.csv", *ASK, "--model", "openai:m")
    assert "holds a user name or password" in the_sentence(ended)
    assert leaks(tmp_path, ended) == []


@pytest.mark.parametrize("status", [400, 401])
def test_nothing_in_errors_events_and_outcomes(status: int, tmp_path: Path) -> None:
    """From Python: exceptions with all they come from, their repr, events and outcomes hold no secret."""
    events: list[Any] = []
    told: list[str] = []
    with endpoint(lambda asked: (status, said(quoting(asked)))) as server:
        headers = {"X-Team": TEAM, "X-Token": f"Token {TOKEN}"}
        model = hr.Model("openai:m", base_url=server.url, api_key=KEY, headers=headers)
        ask = hr.Ask("{item}", model=model)
        try:
            run = asyncio.run(
                hr.arun(ask, ["a", "b"], store=tmp_path / ".headrace" / "store.db", on_event=events.append)
            )
            told += [repr(outcome) for outcome in run]
        except hr.CallError as error:
            told += [repr(error), str(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    told += [repr(event) for event in events] + [repr(model)]
    assert any("***" in text for text in told)
    assert [text for text in told if any(canary in text for canary in CANARIES)] == []
    assert leaks(tmp_path) == []


# Of every dialect, against the provider's own doors.

KEYS = {
    "openai": "OPENAI_API_KEY", "openai-responses": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY", "azure": "AZURE_OPENAI_API_KEY",
}  # fmt: skip
PLACES = {"anthropic": "", "azure": "", "gemini": "/v1beta"}
DOOR_KEY = "canary-key-0123456789"


@pytest.mark.parametrize("name", KEYS)
def test_no_key_of_any_dialect(name: str, tmp_path: Path) -> None:
    """A key that is taken and one that is refused, by the provider's own door: both are nowhere at all, --debug or not."""
    cli = Cli(tmp_path, **{KEYS[name]: DOOR_KEY})
    cli.table("a.csv", ["one", "two"])
    with simulator("--api-key", DOOR_KEY) as provider:
        base = provider.origin + PLACES[name] if name in PLACES else provider.url
        words = (
            "run",
            "a.csv",
            *ASK,
            "--model",
            f"{name}:m",
            "--base-url",
            base,
            "--returns",
            "n: int",
            *HEADERS,
            "--debug",
        )
        ended = [cli.run(*words, "--report", "r.html", "-o", "out.csv")]
        assert ended[0].status == 0, ended[0].err
        cli.environ[KEYS[name]] = f"wrong-{DOOR_KEY}"
        ended += [
            cli.run(*words, "--fresh"),
            cli.run(*words, "--fresh", "--json"),
            cli.run("runs", "show", "a", "--json"),
        ]
    assert [each.status for each in ended] == [0, 3, 3, 0]
    assert ended[1].sentences[0].endswith(" [credentials]")
    assert leaks(tmp_path, *ended) == []


# Prompts and answers.

ASKED = "canary-asked: how do you find this?"
ANSWERED = "canary-answered"


def quoting_all(asked: Asked) -> Answer:
    """Good, wrong in each way that a validator may quote, cut off, and refusals that repeat what was sent."""
    body = asked.body
    text = json.dumps(body, ensure_ascii=False)
    word = next(word for word in WAYS if f"way {word}." in text)
    quoted = json.dumps({"error": {"message": f"I will not do: {body['messages'][0]['content']}"}})
    wrong = {
        "good": completion(json.dumps({"label": "good", "why": ANSWERED})),
        "enum": completion(json.dumps({"label": ANSWERED, "why": "x"})),
        "field": completion(json.dumps({"label": "good", "why": "x", ANSWERED: 1})),
        "type": completion(json.dumps({"label": "good", "why": [ANSWERED]})),
        "no JSON": completion(ANSWERED),
        "half JSON": completion(f'{{"label": "good", "why": "{ANSWERED}'),
        "refused": (400, quoted),
        "filtered": (400, quoted.replace('"message"', '"code": "content_filter", "message"')),
        "too long": (413, quoted),
    }
    return wrong[word]


WAYS = ("good", "enum", "field", "type", "no JSON", "half JSON", "refused", "filtered", "too long")
TYPES = {
    "shorthand": "label: good|bad, why: str",
    "schema": "s.json",
    "pydantic": "mine:Mine",
}
SCHEMA = {
    "type": "object", "properties": {"label": {"enum": ["good", "bad"]}, "why": {"type": "string"}},
    "required": ["label", "why"], "additionalProperties": False,
}  # fmt: skip
MINE = """
from typing import Literal
import pydantic
class Mine(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    label: Literal["good", "bad"]
    why: str
"""


@pytest.mark.parametrize("kind", TYPES)
def test_no_prompt_or_answer_in_what_is_logged(kind: str, tmp_path: Path) -> None:
    """Whatever fails and whoever quotes it: nothing on standard error, in events or in a run's facts repeats a prompt or
    an answer; the raw text of a bad answer is in its outcome."""
    cli = Cli(tmp_path)
    cli.file("s.json", json.dumps(SCHEMA))
    cli.file("mine.py", MINE)
    cli.table("a.csv", [f"way {way}." for way in WAYS])
    with endpoint(quoting_all) as server:
        words = (
            "run", "a.csv", "--ask", f"{ASKED} {{text}}", "--model", "openai:m", "--base-url", server.url, "--returns",
            TYPES[kind], "--debug",
        )  # fmt: skip
        said_of = [cli.run(*words, "-o", "out.jsonl"), cli.run(*words, "--json", "-o", "again.jsonl")]
        assert [each.status for each in said_of] == [1, 1]
        assert any("Answer again" in json.dumps(asked.body) for asked in server.asked), "wrong answers are asked again"
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    failed = {row["text"]: row["error"] for row in rows if row["error"]}
    fine = {"good", "half JSON", *(("field",) if kind == "shorthand" else ())}  # mended, and a field too many left out
    assert set(failed) == {f"way {way}." for way in WAYS if way not in fine}
    for text in [*failed.values(), *(each.err + each.out for each in said_of)]:
        assert "canary" not in text, text
    raw = sqlite3.connect(tmp_path / ".headrace" / "store.db")
    try:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        kept = "".join(str(raw.execute(f'SELECT * FROM "{table}"').fetchall()) for (table,) in tables)
    finally:
        raw.close()
    assert ANSWERED in kept, "it is kept with the item"
