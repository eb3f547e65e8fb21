"""headrace.toml, HEADRACE_* and `headrace config` as a user meets them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.cli import Cli, the_sentence
from acceptance.endpoint import completion, endpoint
from simulator import Simulator, simulator

SECRET = "canary-0123456789"


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with simulator() as made:
        yield made


def test_a_project_with_its_file(provider: Simulator, tmp_path: Path) -> None:
    """All is in the file of the repository: in a folder below, the command is the input; prompt and store are the file's."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "headrace.toml").write_text(
        f'[run]\nmodel = "openai:m"\nbase-url = "{provider.url}"\nask = "@prompt.txt"\nstore = "kept.db"\n'
        'output = "out.jsonl"\n[run.param]\nseed = 7\n'
    )
    (tmp_path / "prompt.txt").write_text("About {text}")
    cli = Cli(tmp_path / "deep", HOME=str(tmp_path.parent))
    cli.table("a.csv", ["one", "two"])
    ended = cli.run("run", "a.csv")
    assert ended.status == 0, ended.err
    assert ended.err.startswith("../headrace.toml says ask, model, base-url, param.seed, store, output.\n")
    assert (tmp_path / "kept.db").exists()
    assert {path.name for path in cli.folder.iterdir()} == {"a.csv"}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert provider.ledger()["items"]["About one"] == 1
    assert cli.run("run", "a.csv", "--quiet").err == ""
    listed = cli.run("runs", "list")  # in the same store
    assert (listed.status, listed.err) == (0, "")
    assert " finished " in listed.out
    exported = cli.run("runs", "export", "a")
    assert [row["text"] for row in exported.rows] == ["one", "two"]


def test_config_says_where_each_value_came_from(tmp_path: Path) -> None:
    """Every setting with its value and its place: a flag, a variable, a line of the file, or its default."""
    cli = Cli(tmp_path, HEADRACE_RPM="600", HEADRACE_HEADER=f"Authorization=Bearer {SECRET}", HEADRACE_COLOR="1")
    cli.file(
        "headrace.toml", f'# mine\n[run]\nmodel = "sim:"\n\n[run.header]\nX-Team = "{SECRET}"\n[run.param]\nseed = 7\n'
    )
    ended = cli.run("config", "a.csv", "--concurrency", "5", "--ask", "{text}\nmore", "--header", f"X-Two={SECRET}")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "Settings of headrace.toml."
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:]}
    assert rows["model"] == "sim: headrace.toml:3"
    assert rows["header.X-Team"] == "(not shown) headrace.toml:6"
    assert rows["header.Authorization"] == "(not shown) HEADRACE_HEADER"
    assert rows["header.X-Two"] == "(not shown) --header"
    assert rows["param.seed"] == "7 headrace.toml:8"
    assert rows["rpm"] == "600 HEADRACE_RPM"
    assert rows["concurrency"] == "5 --concurrency"
    assert rows["ask"] == "{text} more --ask"
    assert rows["timeout"] == "300 default"
    assert rows["store"] == ".headrace/store.db default"
    assert "HEADRACE_COLOR is set, and no setting: it is not read." in lines
    assert SECRET not in ended.out
    assert not (tmp_path / ".headrace").exists()
    told = json.loads(cli.run("config", "--json").out)
    assert told["file"] == "headrace.toml"
    assert {"name": "model", "value": "sim:", "origin": "file", "place": "headrace.toml:3"} in told["settings"]
    assert told["unknown"] == ["HEADRACE_COLOR"]
    assert SECRET not in json.dumps(told)


def test_config_without_a_file(tmp_path: Path) -> None:
    """It says so, and shows what holds all the same; what is wrong is told as a run would tell it."""
    cli = Cli(tmp_path, OPENAI_API_KEY=SECRET)
    ended = cli.run("config")
    assert ended.out.startswith("There is no headrace.toml here or above.\n")
    assert "Also read from the environment, and set: OPENAI_API_KEY" in ended.out
    assert SECRET not in ended.out
    told = the_sentence(cli.run("config", "--base-url", f"http://me:{SECRET}@127.0.0.1/v1"))
    assert "holds a user name or password" in told
    assert SECRET not in told
    assert "'many' is no number and not auto" in the_sentence(cli.run("config", "--concurrency", "many"))


def test_a_wrong_file_ends_every_command_that_reads_it(provider: Simulator, tmp_path: Path) -> None:
    """One sentence with the file and the key, status 2, nothing asked and nothing made."""
    cli = Cli(tmp_path)
    cli.table("a.csv", ["a"])
    cli.file("headrace.toml", "[run]\nconcurency = 20\n")
    before = provider.ledger(items=False)["requests"]
    words = ("run", "a.csv", "--ask", "{text}", "--model", "openai:m", "--base-url", provider.url)
    for command in (words, ("config",), ("runs", "list"), ("runs", "export", "a"), (*words, "--show-prompt")):
        told = the_sentence(cli.run(*command))
        assert told.startswith(
            "headrace: headrace.toml, [run] concurency: there is no such setting. Did you mean concurrency?"
        )
    assert provider.ledger(items=False)["requests"] == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "headrace.toml"}


def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """With --debug too."""
    cli = Cli(tmp_path)
    cli.file("headrace.toml", f'[run]\napi_key = "{SECRET}"\n')
    ended = cli.run("run", "a.csv", "--ask", "{text}", "--model", "openai:m", "--debug")
    assert ended.status == 2
    assert "a secret does not belong into a file that is shared" in ended.sentences[0]
    assert SECRET not in ended.err


def test_headers_of_the_file_and_the_environment_are_sent_and_kept_nowhere(tmp_path: Path) -> None:
    """As those of the command line are."""
    cli = Cli(tmp_path, HEADRACE_HEADER=f"Authorization=Bearer {SECRET}", OPENAI_API_KEY="none")
    cli.table("a.csv", ["a"])
    cli.file("headrace.toml", '[run.header]\nX-Team = "reviews"\n')
    with endpoint(lambda _: completion("fine")) as server:
        ended = cli.run(
            "run", "a.csv", "--ask", "{text}", "--model", "openai:m", "--base-url", server.url, "-o", "o.csv"
        )
        sent = server.asked[0].headers
    assert ended.status == 0, ended.err
    assert (sent["x-team"], sent["authorization"]) == ("reviews", f"Bearer {SECRET}")
    assert SECRET not in ended.err
    store = tmp_path / ".headrace" / "store.db"
    assert not [path for path in (store, *store.parent.glob("*-wal")) if SECRET.encode() in path.read_bytes()]


def test_an_address_of_the_file_does_not_stand_in_the_way_of_trying(tmp_path: Path) -> None:
    """--model sim: for once does without base URL and headers of the file; said on the command line they are refused."""
    cli = Cli(tmp_path, HEADRACE_HEADER="X-One=1")
    cli.table("a.csv", ["a"])
    cli.file("headrace.toml", '[run]\nbase-url = "http://127.0.0.1:9/v1"\n[run.header]\nX-Team = "a"\n')
    assert cli.run("run", "a.csv", "--ask", "{text}", "--model", "sim:").status == 0
    ended = cli.run("run", "a.csv", "--ask", "{text}", "--model", "sim:", "--header", "X-Two=2")
    assert "takes no headers" in the_sentence(ended)


def test_what_is_missing_may_stand_anywhere(tmp_path: Path) -> None:
    """Where neither words nor file nor environment say what to ask, the sentence names all three."""
    cli = Cli(tmp_path, HEADRACE_MODEL="sim:")
    told = the_sentence(cli.run("run", "a.csv"))
    assert "required: --ask." in told
    assert "headrace.toml" in told
    assert "environment" in told
    assert "--help" in told


def test_the_help_names_file_and_variables(tmp_path: Path) -> None:
    """Who asks for help learns that there is more than flags."""
    shown = " ".join(Cli(tmp_path).run("run", "--help").out.split())
    assert "headrace.toml" in shown
    assert "HEADRACE_MAX_TOKENS=100" in shown
    assert "headrace config" in shown
    assert all(
        flag in shown for flag in ("--sheet", "--encoding", "--delimiter", "--query", "--json", "--keep-no-prompts")
    )
