"""Pictures in prompts: columns of paths and addresses, sent to a real server, known by their content."""

import asyncio
import base64
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

import headrace as hr
from acceptance.endpoint import Asked, completion, endpoint
from headrace.core.errors import UsageError
from headrace.core.event import CallEnded, Event
from simulator import simulator

PNG = b"\x89PNG\r\n\x1a\n" + b"one picture"
JPEG = b"\xff\xd8\xff\xe0" + b"another"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with pictures beside it, read from elsewhere."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(PNG)
    (tmp_path / "photos" / "copy of 1.png").write_bytes(PNG)
    (tmp_path / "photos" / "2.png").write_bytes(JPEG)  # its name lies
    (tmp_path / "photos" / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-tests-only")
    return tmp_path


def ask(url: str, **more: Any) -> hr.Ask:
    return hr.Ask(
        more.pop("prompt", "What is in it? {id}"), model=hr.Model("openai:sees", base_url=url + "/v1"),
        images=("photo",), **more,
    )  # fmt: skip


def parts_of(asked: Asked) -> Any:
    return asked.body["messages"][-1]["content"]


def table(folder: Path, *rows: tuple[str, str]) -> Path:
    path = folder / "items.csv"
    path.write_text("id,photo\n" + "".join(f"{key},{photo}\n" for key, photo in rows), encoding="utf-8")
    return path


def address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_pictures_follow_the_prompt(folder: Path) -> None:
    """A path is read from the table's folder and told by its content, not its name; an address goes as it is; no
    picture is no part."""
    far = "https://pictures.example/3.webp"
    path = table(folder, ("a", "photos/1.png"), ("b", "photos/2.png"), ("c", far), ("d", ""))
    with endpoint() as server:
        run = hr.run(ask(server.url), path, key="id", limits=hr.Limits(concurrency=1))
    assert run.ok == 4
    shown = {
        parts[0]["text"] if isinstance(parts, list) else parts: parts[1:] if isinstance(parts, list) else []
        for parts in map(parts_of, server.asked)
    }
    assert shown == {
        "What is in it? a": [{"type": "image_url", "image_url": {"url": address("image/png", PNG)}}],
        "What is in it? b": [{"type": "image_url", "image_url": {"url": address("image/jpeg", JPEG)}}],
        "What is in it? c": [{"type": "image_url", "image_url": {"url": far}}],
        "What is in it? d": [],
    }


def test_a_list_of_pictures_and_a_prompt_without_columns(folder: Path) -> None:
    """One item may hold several; with pictures the prompt may be the same for all."""
    items = [{"photo": [str(folder / "photos/1.png"), str(folder / "photos/2.png")]}]
    with endpoint() as server:
        assert hr.run(ask(server.url, prompt="What differs?"), items).ok == 1
    assert [part["type"] for part in parts_of(server.asked[0])] == ["text", "image_url", "image_url"]


def test_what_is_no_picture_fails_its_item_alone(folder: Path) -> None:
    """A missing file, a text and a number are told by name; nothing is sent for them."""
    items: list[dict[str, Any]] = [
        {"id": 1, "photo": "nowhere.png"}, {"id": 2, "photo": str(folder / "photos/notes.txt")}, {"id": 3, "photo": 7},
        {"id": 4, "photo": str(folder / "photos/1.png")}, {"id": 5, "photo": str(folder / "photos")},
    ]  # fmt: skip
    with endpoint() as server:
        run = hr.run(ask(server.url), items)
    said = [str(outcome.error) for outcome in run]
    assert (run.ok, run.failed, len(server.asked)) == (1, 4, 1)
    assert "nowhere.png cannot be read: No such file" in said[0]
    assert "notes.txt is no picture that models see" in said[1]
    assert "'photo' holds int" in said[2]
    assert "cannot be read: Is a directory" in said[4] or sys.platform == "win32"


def test_a_picture_is_known_by_its_content(folder: Path) -> None:
    """The same content under another name is not paid for again; other content under the same name is."""
    path = table(folder, ("a", "photos/1.png"))
    with endpoint() as server:
        same = ask(server.url, prompt="What is in it?")
        hr.run(same, path)
        hr.run(same, [{"photo": str(folder / "photos/copy of 1.png")}])
        assert len(server.asked) == 1
        (folder / "photos/1.png").write_bytes(PNG + b"!")
        hr.run(same, path)
    assert len(server.asked) == 2
    assert parts_of(server.asked[1])[1]["image_url"]["url"] == address("image/png", PNG + b"!")


def test_a_picture_that_changes_during_the_run(folder: Path) -> None:
    """What was read first is what the answer is remembered for: a file that is another by the time it is sent fails
    its item, and nothing is sent."""
    path = table(folder, *((str(number), "photos/1.png") for number in range(3)))

    def change(_asked: Asked) -> tuple[int, str]:
        (folder / "photos/1.png").write_bytes(JPEG)
        return completion("yes")

    with endpoint(change) as server:
        run = hr.run(ask(server.url), path, key="id", limits=hr.Limits(concurrency=1))
    assert (run.ok, run.failed, len(server.asked)) == (1, 2, 1)
    assert "was changed while the run went on" in str(list(run)[1].error)


def test_what_cannot_work_is_told_before_any_call(folder: Path) -> None:
    """A column that is not there, a name in place of names, a model that reads text only."""
    path = table(folder, ("a", "photos/1.png"))
    with pytest.raises(UsageError, match="no column 'foto' to take pictures from"):
        hr.run(hr.Ask("x", model="sim:", images=("foto",)), path)
    with pytest.raises(UsageError, match="Name columns"):
        hr.Ask("x", model="sim:", images="photo")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="reads text only"):
        hr.run(hr.Ask("x", model="local", images=("photo",)), path)


def test_the_simulated_server_sees_pictures(folder: Path) -> None:
    """Over HTTP: as many tokens more as a picture takes, another answer for another picture, and a refusal for what
    is no base64."""
    events: list[Event] = []
    path = table(folder, ("a", "photos/1.png"), ("a", "photos/2.png"), ("a", "photos/copy of 1.png"))
    with simulator() as server:
        made = hr.Model("openai:sees", base_url=server.url)
        run = hr.run(hr.Ask("{id}", model=made, images=("photo",), returns="n: int"), path, on_event=events.append)
        broken = hr.run(hr.Ask("{id}", model=made, images=("photo",)), [{"id": 1, "photo": "data:image/png;base64,%"}])
    one, other, again = run
    assert one.value == again.value != other.value
    assert one.input_tokens is not None
    assert one.input_tokens > 765
    assert sum(isinstance(event, CallEnded) for event in events) == 2
    assert "Invalid base64" in str(next(iter(broken)).error)


def test_pictures_are_not_held(folder: Path) -> None:
    """G5: sixty pictures of a megabyte each go through in the memory of those in flight."""
    for number in range(60):
        (folder / "photos" / f"big{number}.png").write_bytes(PNG + number.to_bytes(2, "big") * 500_000)

    async def items() -> Any:
        for number in range(60):
            yield {"id": number, "photo": str(folder / "photos" / f"big{number}.png")}

    seen: list[bytes] = []

    def look(asked: Asked) -> tuple[int, str]:
        seen.append(sha256(parts_of(asked)[1]["image_url"]["url"].encode()).digest())
        server.asked.clear()
        return completion("yes")

    process = psutil.Process()
    with endpoint(look) as server:
        before = process.memory_info().rss
        run = asyncio.run(hr.arun(ask(server.url), items(), name="big", limits=hr.Limits(concurrency=2)))
        grown = process.memory_info().rss - before
    assert (run.ok, len(set(seen))) == (60, 60)
    assert grown < 60e6
