"""A walk through all errors: each kind in a real situation, with its status, its one sentence, its heading and example on
the page of errors, and nothing lost that was paid for. Situations that other files show are named here, not shown again."""

import ast
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.cli import Cli, Ended
from acceptance.endpoint import Answer, Asked, completion, endpoint
from disk import small_disk
from headrace.core import errors
from headrace.core.event import CallEnded
from simulator import simulator

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "errors.md"
ASK = ("--ask", "What is {text}?")
ROWS = 12


@dataclass(frozen=True)
class Told:
    """What a person or a program was told: the sentence, or `kind: message` of a row."""

    text: str
    status: int | None = None
    """Of the command; None where Python was told."""


Situation = Callable[[Path], Told]
SITUATIONS: dict[str, tuple[str, int | None, Situation]] = {}
"""By name: the kind, the exit status, and what makes it happen."""

ELSEWHERE = {
    "a line with a NUL in each kind of table": ("input", "unit/test_encoding.py::test_nul_bytes_are_refused"),
    "wrong words": ("usage", "acceptance/test_bad_input.py::test_one_sentence_before_any_call"),
    "a store of another version": ("store", "integration/test_store_trouble.py::test_a_later_version"),
    "a lock in the middle": ("store", "integration/test_store_trouble.py::test_a_lock_in_the_middle_of_a_run"),
    "a damaged store": ("store", "integration/test_store_trouble.py::test_a_damaged_store"),
    "a store that is somebody else's": ("store", "integration/test_store_trouble.py::test_a_store_that_may_not_be_read"),
    "a full disk, every format": ("output", "integration/test_full_disk.py::test_a_full_disk_leaves_the_old_file"),
    "a second process": ("run-is-live", "acceptance/test_bad_input.py::test_a_second_process_on_a_live_run"),
    "a lost terminal": ("stopped", "acceptance/test_terminal.py::test_a_terminal_that_is_closed_ends_the_run_in_order"),
    "an interrupt": ("stopped", "acceptance/test_interrupt.py::test_once_drains"),
    "nobody at the address": ("unreachable", "acceptance/test_bad_input.py::test_nothing_answers"),
    "a certificate of nobody": ("untrusted", "acceptance/test_network.py::test_a_certificate_of_nobody"),
    "each fault of a server": ("transient", "acceptance/test_run.py::test_faults_are_overcome"),
    "a means that a model lacks": ("unsupported", "integration/test_doors.py::test_a_means_that_a_model_lacks_is_replaced"),
    "what every provider says": ("quota-exhausted", "unit/test_verdict.py::test_what_each_provider_means"),
}  # fmt: skip
FAMILIES = {"error", "call"}
"""Nothing raises them as such."""
WITHOUT_EXAMPLE = FAMILIES | {"stopped"}


def situation(kind: str, status: int | None = None) -> Callable[[Situation], Situation]:
    def add(run: Situation) -> Situation:
        SITUATIONS[run.__name__.replace("_", " ")] = kind, status, run
        return run

    return add


def said(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


def told(ended: Ended) -> Told:
    return Told(ended.error, ended.status)


def at(url: str) -> tuple[str, ...]:
    return ("--model", "openai:m", "--base-url", url)


def prompt_of(asked: Asked) -> str:
    text: str = asked.body["messages"][0]["content"]
    return text


def rows_of(cli: Cli) -> Path:
    return cli.table("a.csv", [f"row {number}" for number in range(ROWS)])


def pays_once(cli: Cli, failing: Callable[[], Ended], mended: Callable[[], Ended], asked: list[Asked]) -> Told:
    """Some are answered, then it fails; the same command again asks about the rest alone."""
    first = failing()
    answered = {prompt_of(each) for each in asked}
    before = len(asked)
    again = mended()
    assert again.status == 0, again.err
    assert len(cli.run("runs", "export", "a").rows) == ROWS
    assert not answered & {prompt_of(each) for each in asked[before:]}
    return told(first)


# Before the calls.


@situation("usage", 2)
def a_column_that_is_not_there(folder: Path) -> Told:
    """The prompt names what the table has not."""
    cli = Cli(folder)
    rows_of(cli)
    return told(cli.run("run", "a.csv", "--ask", "In one word: {txt}", "--model", "sim:"))


@situation("missing-key", 2)
def no_key(folder: Path) -> Told:
    """OpenAI's own address, and no key in the environment."""
    cli = Cli(folder)
    rows_of(cli)
    return told(cli.run("run", "a.csv", *ASK, "--model", "openai:gpt-5-nano"))


@situation("missing-extra", 2)
def a_package_that_is_not_installed(folder: Path) -> Told:
    """A database needs its driver."""
    cli = Cli(folder)
    cli.file("without/psycopg.py", "raise ImportError\n")
    cli.environ["PYTHONPATH"] = f"{folder / 'without'}{os.pathsep}{cli.environ['PYTHONPATH']}"
    return told(
        cli.run("run", "postgresql://me@db.example/shop", "--query", "select text from r", *ASK, "--model", "sim:")
    )


@situation("input", 2)
def a_file_that_is_not_there(folder: Path) -> Told:
    """A slip of the pen."""
    cli = Cli(folder)
    rows_of(cli)
    cli.table("calls.csv", ["a"])
    return told(cli.run("run", "cals.csv", *ASK, "--model", "sim:"))


@situation("input", 2)
def nul_bytes(folder: Path) -> Told:
    """In the middle of a file: what stands before is answered and kept, and the mended file continues."""
    cli = Cli(folder)
    good = "text\n" + "".join(f"row {number}\n" for number in range(ROWS - 1))
    cli.file("a.csv", good.encode() + b"a \x00 b\n")
    with endpoint() as server:
        words = ("run", "a.csv", *ASK, *at(server.url))

        def mended() -> Ended:
            cli.file("a.csv", good + "a b\n")
            return cli.run(*words)

        return pays_once(cli, lambda: cli.run(*words), mended, server.asked)


@situation("input", 2)
def an_input_that_may_not_be_read(folder: Path) -> Told:
    """Another user's file."""
    cli = Nobody(folder)
    rows_of(cli).chmod(0o600)
    return told(cli.run("run", "a.csv", *ASK, "--model", "sim:", "--store", "mine/s.db"))


@situation("output", 2)
def a_folder_that_is_not_there(folder: Path) -> Told:
    """It is told before anything is asked."""
    cli = Cli(folder)
    rows_of(cli)
    with endpoint() as server:
        ended = cli.run("run", "a.csv", *ASK, *at(server.url), "-o", "nowhere/out.csv")
        assert not server.asked
    return told(ended)


@situation("output", 2)
def a_folder_that_may_not_be_written(folder: Path) -> Told:
    """Another user's folder."""
    cli = Nobody(folder)
    rows_of(cli)
    (folder / "theirs").mkdir(mode=0o755)
    return told(cli.run("run", "a.csv", *ASK, "--model", "sim:", "--store", "mine/s.db", "-o", "theirs/out.csv"))


@situation("output", 2)
def results_on_a_full_disk(folder: Path) -> Told:
    """The answers are in the store: they are exported elsewhere without a call."""
    cli = Cli(folder)
    rows_of(cli)
    with small_disk(folder) as disk, endpoint() as server:
        fill(disk)
        ended = cli.run("run", "a.csv", *ASK, *at(server.url), "-o", f"{disk}/out.csv")
        assert len(server.asked) == ROWS
        assert cli.run("runs", "export", "a", "-o", "out.csv").status == 0
        assert len((folder / "out.csv").read_text().splitlines()) == ROWS + 1
        assert len(server.asked) == ROWS
    return told(ended)


@situation("store", 2)
def a_store_on_a_full_disk(folder: Path) -> Told:
    """Nothing is asked that could not be kept."""
    cli = Cli(folder)
    rows_of(cli)
    with small_disk(folder) as disk, endpoint() as server:
        fill(disk)
        ended = cli.run("run", "a.csv", *ASK, *at(server.url), "--store", f"{disk}/s.db")
        assert not server.asked
    return told(ended)


@situation("store", 2)
def a_locked_store(folder: Path) -> Told:
    """Another program holds it; once that is done, nothing is paid for again."""
    cli = Cli(folder)
    rows_of(cli)
    with endpoint() as server:
        words = ("run", "a.csv", *ASK, *at(server.url))
        assert cli.run(*words).status == 0
        with closing(sqlite3.connect(folder / ".headrace" / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            ended = cli.run(*words)
        assert cli.run(*words).status == 0
        assert len(server.asked) == ROWS
    return told(ended)


@situation("store", 2)
def a_store_that_may_not_be_written(folder: Path) -> Told:
    """Another user's folder."""
    cli = Nobody(folder)
    rows_of(cli)
    (folder / "theirs").mkdir(mode=0o755)
    return told(cli.run("run", "a.csv", *ASK, "--model", "sim:", "--store", "theirs/s.db"))


@situation("store", 2)
def a_store_of_a_later_version(folder: Path) -> Told:
    """It is left as it is."""
    cli = Cli(folder)
    rows_of(cli)
    with closing(sqlite3.connect(folder / "later.db")) as later:
        later.executescript("PRAGMA application_id = 1752326499; PRAGMA user_version = 99; CREATE TABLE answers (a)")
    return told(cli.run("run", "a.csv", *ASK, "--model", "sim:", "--store", "later.db"))


@situation("run-is-live", 2)
def a_run_that_goes_on(folder: Path) -> Told:
    """A second process resumes it meanwhile; the first does not notice."""
    cli = Cli(folder)
    rows_of(cli)
    with simulator("--latency", "3600") as provider, cli.start("run", "a.csv", *ASK, *at(provider.url)) as first:
        first.until(lambda: provider.ledger(items=False)["in_flight"])
        ended = cli.run("runs", "resume", "a")
        assert first.process.poll() is None
        first.signal(signal.SIGINT)
        first.signal(signal.SIGINT)
    return told(ended)


# Of calls, where the run ends.


def refusing(folder: Path, answer: Answer) -> Told:
    """After some answers the provider refuses the account: what was answered is kept, and a rerun does the rest."""
    cli = Cli(folder, OPENAI_API_KEY="sk-0123456789abcdef")
    rows_of(cli)
    refuses = [True]

    def answered(asked: Asked) -> Answer:
        number = int(re.findall(r"row (\d+)", prompt_of(asked))[0])
        return answer if refuses[0] and number >= 4 else completion("yes")

    with endpoint(answered) as server:
        words = ("run", "a.csv", *ASK, *at(server.url), "--concurrency", "1")
        first = cli.run(*words)
        assert len(server.asked) == 5, "nothing is begun after a refusal of all"
        refuses[0] = False
        again = cli.run(*words)
        assert (again.status, len(again.rows)) == (0, ROWS), again.err
        assert len(server.asked) == ROWS + 1, "the refused item is asked again, and what was answered is not"
    return told(first)


@situation("credentials", 3)
def a_key_that_is_refused(folder: Path) -> Told:
    """401."""
    return refusing(folder, (401, said("Incorrect API key provided.", code="invalid_api_key")))


@situation("model-not-found", 3)
def a_model_that_is_not_there(folder: Path) -> Told:
    """404."""
    return refusing(folder, (404, said("The model `m` does not exist.", code="model_not_found")))


@situation("quota-exhausted", 3)
def a_quota_that_is_gone(folder: Path) -> Told:
    """429, with the code that says that no waiting helps."""
    return refusing(folder, (429, said("You exceeded your current quota.", code="insufficient_quota")))


@situation("systemic-failure", 3)
def more_failures_than_are_allowed(folder: Path) -> Told:
    """After what --max-failure-rate allows."""
    cli = Cli(folder)
    cli.table("a.csv", [f"row {number}" for number in range(300)])
    with endpoint(lambda _: (400, said("Unknown parameter: 'sead'."))) as server:
        words = ("run", "a.csv", *ASK, *at(server.url), "--param", "sead=1", "--concurrency", "4")
        ended = cli.run(*words, "--max-failure-rate", "10%")
        assert len(server.asked) < 300
    return told(ended)


@situation(errors.INTERNAL, 3)
def a_fault_of_its_own(folder: Path) -> Told:
    """What nobody thought of is a sentence too, and the store has what was answered."""
    cli = Cli(folder)
    rows_of(cli)
    cli.file(
        "broken/sitecustomize.py",
        "import headrace.results\ndef broken(*_): raise RuntimeError('no such case')\nheadrace.results.write_result = broken\n",
    )
    path = cli.environ["PYTHONPATH"]
    with endpoint() as server:
        words = ("run", "a.csv", *ASK, *at(server.url), "-o", "out.csv")

        def mended() -> Ended:
            cli.environ["PYTHONPATH"] = path
            return cli.run(*words)

        cli.environ["PYTHONPATH"] = f"{folder / 'broken'}{os.pathsep}{path}"
        return pays_once(cli, lambda: cli.run(*words), mended, server.asked)


# Of items: the rest goes on.

OF_ITEMS: dict[str, Answer] = {
    "rejected": (400, said("Unknown parameter: 'sead'.")),
    "context-too-long": (400, said("This model's maximum context length is 8192 tokens.", code="context_length_exceeded")),
    "filtered": (400, said("The prompt was flagged.", code="content_filter")),
    "larger-than-limit": (413, said("Request too large.")),
    "answer": completion('{"label": "neither"}'),
    "truncated": (200, json.dumps({"choices": [{"message": {"content": '{"la'}, "finish_reason": "length"}]})),
    "refusal": (200, json.dumps({"choices": [{"message": {"refusal": "I cannot."}, "finish_reason": "stop"}]})),
}  # fmt: skip


def failed_row(folder: Path, kind: str, *, table: str = "", words: tuple[str, ...] = ()) -> Told:
    """One row fails, with its kind before its message, and no other. A rerun asks about that row alone."""
    cli = Cli(folder)
    cli.file("a.csv", table or f"id,text\n1,good\n2,{kind}\n3,fine\n")

    def answered(asked: Asked) -> Answer:
        return OF_ITEMS.get(prompt_of(asked)[8:-1], completion('{"label": "good"}'))

    with endpoint(answered) as server:
        command = ("run", "a.csv", *ASK, *at(server.url), "--returns", "label: good|bad", *words)
        ended = cli.run(*command)
        assert not ended.sentences, "a row that fails is no error of the command"
        failed = [row for row in ended.rows if row["error"]]
        assert (len(ended.rows), len(failed)) == (3, 1), ended.err
        assert f"1 failed, {kind}: " in ended.err
        answered_before = {prompt_of(each) for each in server.asked} - {f"What is {kind}?"}
        count = len(server.asked)
        assert cli.run(*command).status == 1
        assert not answered_before & {prompt_of(each) for each in server.asked[count:]}
    return Told(failed[0]["error"], ended.status)


def fails_as(kind: str) -> Situation:
    return lambda folder: failed_row(folder, kind)


SITUATIONS.update({f"a row: {kind}": (kind, 1, fails_as(kind)) for kind in OF_ITEMS})


@situation("item", 1)
def a_row_with_nothing_in_it(folder: Path) -> Told:
    """It is not asked about."""
    return failed_row(folder, "item", table="id,text\n1,good\n2,\n3,fine\n")


@situation("repeated-key", 1)
def a_key_that_is_there_twice(folder: Path) -> Told:
    """The first has it."""
    return failed_row(folder, "repeated-key", table="id,text\n1,good\n2,fine\n1,bad\n", words=("--key", "id"))


# Of items, where only patience that is shorter than the command's makes it quick.


def failed_item(folder: Path, answer: Callable[[], Any], **how: Any) -> Told:
    """One item of three fails, in Python; the others have their answers."""

    async def asked(item: str) -> str:
        return "yes" if item != "odd" else await answer()

    retry = hr.Retry(attempts=2, base_s=0.0, cap_s=0.0, patience_s=0.2)
    run = hr.run(
        hr.Map(asked, name="f", version="1"), ["good", "odd", "fine"], store=folder / "s.db", retry=retry, **how
    )
    assert (run.ok, run.failed) == (2, 1)
    (failed,) = run.failures()
    assert failed.error is not None
    assert failed.item == "odd"
    return Told(str(failed.error))


class Refused(Exception):
    """As an SDK's error: it carries the status of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__("The server is not well.")
        self.status_code = status


def raising(error: Exception) -> Callable[[], Any]:
    async def answer() -> str:
        raise error

    return answer


@situation("transient")
def a_server_that_fails(folder: Path) -> Told:
    """Every time it is asked about this item."""
    return failed_item(folder, raising(Refused(500)))


@situation("throttled")
def a_server_that_says_slow_down(folder: Path) -> Told:
    """To this item alone, for longer than one waits."""
    return failed_item(folder, raising(Refused(429)))


@situation("overloaded")
def a_server_that_is_overloaded(folder: Path) -> Told:
    """For this item alone, for longer than one waits."""
    return failed_item(folder, raising(Refused(503)))


@situation("unreachable")
def a_connection_that_is_refused(folder: Path) -> Told:
    """It is no item's failure: it is waited out, here until a deadline, and what was not done is pending."""
    events: list[Any] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        model = hr.Model("openai:m", base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        ask = hr.Ask("Count {item}", model=model)
        run = hr.run(ask, ["one"], store=folder / "s.db", on_event=events.append, deadline=1.0)
    assert (run.ok, run.failed, run.pending) == (0, 0, 1)
    return failed_call(events)


@situation("timeout")
def an_answer_that_does_not_come(folder: Path) -> Told:
    """Within the time that an attempt has."""
    return failed_item(folder, asyncio.Event().wait, timeout=0.2)


@situation("function")
def a_function_that_raises(folder: Path) -> Told:
    """With its type and its text."""
    return failed_item(folder, raising(ValueError("no such customer")))


@situation("worker-died")
def a_process_that_is_killed(folder: Path) -> Told:
    """The system ends the process that works on an item: that item fails, and no other."""

    def work(text: str) -> str:
        if text == "one":
            os.kill(os.getpid(), signal.SIGKILL)
        return text

    run = hr.run(hr.cpu_bound(work), ["one", "two"], store=folder / "s.db")
    assert run.ok == 1
    return Told(str(next(run.failures()).error))


@situation("document")
def a_document_that_is_broken(folder: Path) -> Told:
    """It ends where it begins."""
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    run = hr.run(hr.Extract(source="file"), [{"file": str(folder / "broken.pdf")}], store=folder / "s.db")
    return Told(str(next(run.failures()).error))


@situation("page")
def a_page_of_this_machine(folder: Path) -> Told:
    """An address that a web page has no business with, unless it is allowed by name."""
    run = hr.run(hr.Fetch("{item}"), ["http://127.0.0.1:9/"], store=folder / "s.db")
    return Told(str(next(run.failures()).error))


@situation("budget-spent", 3)
def a_budget_that_is_spent(folder: Path) -> Told:
    """It stops before it is passed, and a larger one goes on with what is left."""
    cli = Cli(folder)
    rows_of(cli)
    cli.file("prices.toml", '["openai:m"]\ninput = 10\noutput = 10\n')
    asked: list[Asked] = []

    def answered(each: Asked) -> Answer:
        asked.append(each)
        return completion("fine")

    with endpoint(answered) as server:
        words = ("run", "a.csv", *ASK, *at(server.url), "--prices", "prices.toml", "--max-tokens", "100")
        return pays_once(
            cli, lambda: cli.run(*words, "--budget", "0.0042"), lambda: cli.run(*words, "--budget", "1"), asked
        )


@situation("unsupported")
def a_means_that_a_model_lacks(folder: Path) -> Told:
    """It costs one refused call, and is no item's failure."""
    events: list[Any] = []

    def answered(asked: Asked) -> Answer:
        refused = 400, said("response_format is not supported by this model.")
        return refused if "response_format" in asked.body else completion('{"n": 3}')

    with endpoint(answered) as server:
        model = hr.Model("openai:m", base_url=server.url)
        ask = hr.Ask("Count {item}", returns="n: int", model=model)
        run = hr.run(ask, ["one"], store=folder / "s.db", on_event=events.append)
    assert run.ok == 1
    return failed_call(events)


def failed_call(events: list[Any]) -> Told:
    failed = next(event for event in events if isinstance(event, CallEnded) and event.error)
    return Told(f"{failed.error}: {failed.message}")


# The table.


def kinds() -> set[str]:
    there = [value for value in vars(errors).values() if isinstance(value, type)]
    return {error.kind for error in there if issubclass(error, errors.HeadraceError)} | {errors.INTERNAL}


def examples() -> dict[str, str]:
    """What the page says that each looks like."""
    sections = re.split(r"^### ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = {
        each.partition("\n")[0]: re.search(r"^```text\n(.+?)\n```$", each, re.MULTILINE | re.DOTALL)
        for each in sections
    }
    return {kind: " ".join(example[1].split()) for kind, example in found.items() if example}


def general(text: str, folder: Path) -> str:
    """Without what is this test's alone."""
    text = re.sub(r"'a-[0-9a-f]{6}'", "'a'", text.replace(f"{folder}/", "").replace("small/", ""))
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text)


SEEN: dict[str, set[str]] = {}


@pytest.mark.parametrize("name", SITUATIONS)
def test_it_is_told_by_its_name(name: str, tmp_path: Path) -> None:
    """The exit status, one sentence, and the heading that explains it; or `kind: message` where an item failed."""
    kind, status, happen = SITUATIONS[name]
    found = happen(tmp_path)
    assert found.status == status
    if found.text.startswith("headrace: "):
        assert found.text.endswith(f" [{kind}]"), found.text
    else:
        assert found.text.startswith(f"{kind}: "), found.text
    assert "\n" not in found.text
    assert "Traceback" not in found.text
    SEEN.setdefault(kind, set()).add(general(found.text, tmp_path))


def test_every_kind_is_walked() -> None:
    """Each kind has a situation here or a test elsewhere, which is there."""
    shown = {kind for kind, _, _ in SITUATIONS.values()}
    for kind, place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, place
        shown.add(kind)
    assert shown == kinds() - FAMILIES


def test_what_the_page_shows_is_what_is_said(tmp_path: Path) -> None:
    """Each section shows a message, as it comes in one of the situations above; those that ran elsewhere run here."""
    shown = examples()
    assert set(shown) == kinds() - WITHOUT_EXAMPLE
    for name, (kind, _, happen) in SITUATIONS.items():
        if kind in shown and shown[kind] not in SEEN.get(kind, ()):
            folder = tmp_path / name
            folder.mkdir()
            SEEN.setdefault(kind, set()).add(general(happen(folder).text, folder))
    for kind, example in shown.items():
        if kind in SEEN:  # a certificate is met elsewhere
            assert example in SEEN[kind], f"{kind}: {SEEN[kind]}"


@pytest.mark.parametrize("step", ["back", "forward", "to and fro"])
def test_clock_jumps(step: str, tmp_path: Path) -> None:
    """The wall clock is set by hours during a run: all is answered once, no time is negative, and a rerun asks nothing."""
    cli = Cli(tmp_path)
    cli.table("a.csv", [f"row {number}" for number in range(60)])
    jump = {"back": "-7200.0", "forward": "7200.0", "to and fro": "(7200.0 if seen % 2 else -7200.0)"}[step]
    cli.file(
        "clock/sitecustomize.py",
        "import time\nreal, seen = time.time, 0\ndef shifted():\n    global seen\n    seen += 1\n"
        f"    return real() + ({jump} if seen > 8 else 0.0)\ntime.time = shifted\n",
    )
    cli.environ["PYTHONPATH"] = f"{tmp_path / 'clock'}{os.pathsep}{cli.environ['PYTHONPATH']}"
    with simulator("--latency", "0.05", "--faults", "429=0.05,500=0.05,retry_after=0.1") as provider:
        words = ("run", "a.csv", *ASK, *at(provider.url), "--concurrency", "4")
        ended = cli.run(*words, "--report", "r.html", "-o", "out.csv")
        assert ended.status == 0, ended.err
        assert provider.ledger(items=False)["paid"] == 60
        assert cli.run(*words).status == 0
        assert provider.ledger(items=False)["paid"] == 60
    shown = [cli.run("runs", *more) for more in (("list",), ("list", "--json"), ("show", "a"), ("show", "a", "--json"))]
    assert [each.status for each in shown] == [0] * 4
    text = "".join(each.out for each in [ended, *shown]) + ended.err
    assert not re.search(r"(?<![\w-])-\d+(\.\d+)? ?(s|min|h|ms)\b", text), text
    for each in (shown[1], shown[3]):
        found = json.loads(each.out)
        assert all(run["seconds"] >= 0 for run in (found if isinstance(found, list) else [found]))
    assert "Traceback" not in text


# Other users, and disks that are full.


class Nobody(Cli):
    """The command as another user, in a folder that is not theirs but for `mine`."""

    def __init__(self, folder: Path) -> None:
        if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root on Linux can be somebody else")
        super().__init__(folder)
        (folder / "mine").mkdir()
        os.chown(folder / "mine", 65534, 65534)
        folder.chmod(0o755)
        for above in folder.parents:  # pytest's own folders are closed to others
            if "pytest-" in str(above):
                above.chmod(0o755)
        if self.run("--version").status:
            pytest.skip("somebody else cannot read this source or its Python")

    @staticmethod
    def _command(words: Any) -> list[str]:
        return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "headrace", *words]


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
