"""G12: keys and headers are sent, and are nowhere else: store, output, report, log, traceback, event, error."""

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
