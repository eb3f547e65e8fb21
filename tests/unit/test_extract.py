"""What a person asks for of documents, and where a function runs: values and words, refused where they cannot work."""

import functools
from typing import Any

import pytest

from headrace.core.call import Reply
from headrace.core.errors import DocumentError, ItemError, MissingExtra, UsageError
from headrace.core.item import Item
from headrace.core.page import Page
from headrace.data import extract
from headrace.data.extract import kind_of, text_of
from headrace.task.extract import Extract, ExtractTask
from headrace.task.mode import MODES, cpu_bound, mode_of
from headrace.task.pipeline import Pipeline


def task(**settings: Any) -> ExtractTask:
    return ExtractTask(Extract(**settings), lambda name: (f"/d/{name}", name.encode()), name="n", version="1")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"keep": ("title", "colour")}, "no columns"),
        ({"keep": ()}, "no columns"),
        ({"keep": "text"}, "no columns"),
        ({"max_chars": 5}, "say nothing"),
        ({"max_chars": -1}, "say nothing"),
        ({"max_pages": 0}, "at least one page"),
        ({"max_bytes": 0}, "at least one page"),
    ],
)
def test_an_extract_that_cannot_work_is_refused(settings: dict[str, Any], says: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=says):
        Extract(**settings)


def test_an_extract_is_printable() -> None:
    """It shows what was said and nothing else."""
    assert repr(Extract()) == "Extract()"
    assert repr(Extract(source="file", max_chars=0)) == "Extract(source='file', max_chars=0)"


def test_an_item_without_a_document() -> None:
    """A column that nobody has, or no Fetch before it, is a mistake of the pipeline; an empty name is the item's."""
    with pytest.raises(UsageError, match="There is no column 'file'"):
        task(source="file").request(Item("k", 0, {"path": "a"}))
    with pytest.raises(ItemError, match="no page to read"):
        task().request(Item("k", 0, {"path": "a"}))
    for nothing in (None, "", "  ", 7):
        with pytest.raises(ItemError, match="names no document"):
            task(source="file").request(Item("k", 0, {"file": nothing}))


def test_what_was_said_of_a_page_belongs_to_its_identity() -> None:
    """The same bytes with another type, charset or address may be another document."""
    pages = [
        Page(url="u", data=b"x"),
        Page(url="v", data=b"x"),
        Page(url="u", data=b"y"),
        Page(url="u", data=b"x", content_type="text/html"),
        Page(url="u", text="x", charset="utf-8"),
    ]
    digests = [task().request(Item("k", 0, {}, page=page)).digest for page in pages]
    assert len(set(digests)) == len(pages)
    assert task().digest != task(max_chars=0).digest != task(source="file").digest


def test_onward_has_the_columns_and_no_page() -> None:
    """The item's own columns stay; what was read replaces those of its name."""
    value = task().value(Reply('{"title": "T", "text": "new"}'))
    item = Item("k", 0, {"id": 1, "text": "old"}, page=Page(url="u"))
    onward = task().onward(item, value)
    assert (onward.data, onward.page) == ({"id": 1, "text": "new", "title": "T"}, None)


@pytest.mark.parametrize(
    ("head", "content_type", "name", "kind"),
    [
        (b"%PDF-1.4", "text/html", "", "pdf"),
        (b"junk before %PDF-1.4", "", "", "pdf"),
        (b"PK\x03\x04", "text/plain", "a.txt", "zip"),
        (b"<!DOCTYPE HTML><p>x", "", "", "html"),
        (b"\xef\xbb\xbf\n<html>", "application/pdf", "", "html"),
        ("<html>".encode("utf-16"), "", "", "html"),
        (b"plain <b>words</b>", "text/html; charset=x", "", "html"),
        (b"<?xml version='1.0'?><rss/>", "", "", "html"),
        (b"A mention of <p> in text", "text/plain", "a.txt", "text"),
        (b"# Title", "text/markdown", "", "markdown"),
        (b"# Title", "", "https://x.example/a.md?raw=1#x", "markdown"),
        (b"# Title", "", "", "text"),
    ],
)
def test_a_kind_is_known_by_its_content(head: bytes, content_type: str, name: str, kind: str) -> None:
    """What is said of it counts where the content says nothing."""
    assert kind_of(head, content_type, name) == kind


def test_a_text_is_decoded_as_it_is_written() -> None:
    """Marks before statements, statements before declarations; one bad byte spoils nothing."""
    assert text_of("grün".encode("utf-16"), "utf-8", html=False) == "grün"
    assert text_of("grün".encode("cp1252"), "", html=False) == "grün"
    assert text_of("зима".encode("koi8-r"), "koi8-r", html=False) == "зима"
    assert text_of(b"<meta charset=koi8-r>" + "зима".encode("koi8-r"), "", html=True).endswith("зима")
    assert text_of("grün ".encode() * 1000 + b"\xff", "", html=False).startswith("grün grün")


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(extract, "find_spec", lambda name: None if name == "pypdf" else name)
    with pytest.raises(MissingExtra, match=r"needs pypdf, which is not installed.*headrace\[documents\]"):
        extract.need_readers()


def test_too_much_memory_is_a_documents_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take the machine's memory ends as this document's error."""

    def greedy(_given: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(extract, "_document", greedy)
    with pytest.raises(DocumentError, match="takes more than 1,024 MB"):
        extract.read_document({"body": b"x", "max_chars": 0, "keep": ("text",)})


def plain(item: Any) -> Any:
    return item


async def on_loop(item: Any) -> Any:
    return item


@cpu_bound
def heavy(item: Any) -> Any:
    return item


class Heavy:
    @cpu_bound
    def __call__(self, item: Any) -> Any:
        return item


def test_a_function_runs_where_it_is_best() -> None:
    """Async ones on the loop, marked ones in processes, others in threads; a word overrides."""
    assert [mode_of(each) for each in (plain, on_loop, heavy)] == ["thread", "async", "process"]
    assert mode_of(functools.partial(heavy)) == mode_of(Heavy()) == mode_of(cpu_bound(len)) == "process"
    assert cpu_bound(len)("abc") == 3
    assert [mode_of(plain, mode) for mode in ("sync", "thread", "process")] == ["sync", "thread", "process"]
    assert mode_of(on_loop, "process") == "process"
    assert mode_of(on_loop, "sync") == "sync"
    assert "hybrid" in MODES


@pytest.mark.parametrize(("function", "mode"), [(plain, "async"), (on_loop, "thread"), (plain, "quick")])
def test_a_mode_that_does_not_fit_is_refused(function: Any, mode: str) -> None:
    """A plain function would hold up the loop, an async one has no thread, and there are no other words."""
    with pytest.raises(UsageError):
        mode_of(function, mode)


def test_a_value_of_the_pipeline_is_frozen() -> None:
    """It can be shared and compared."""
    assert Extract() == Extract()
    with pytest.raises(AttributeError):
        Extract().max_chars = 5  # type: ignore[misc]
    assert Pipeline.from_dict(Pipeline(Extract()).to_dict()) == Pipeline(Extract())
