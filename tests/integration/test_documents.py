"""Documents of each kind, good and bad, read as the pipeline reads them; the hostile ones in processes of their own."""

import asyncio
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pypdf
import pytest
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NumberObject, StreamObject

import documents
from headrace.core.call import Request
from headrace.core.digest import Digest
from headrace.core.errors import DocumentError
from headrace.core.item import Item
from headrace.core.page import Page
from headrace.data.extract import NAME, VERSION, located, read_document
from headrace.provider.processes import Processes, process_call
from headrace.task.extract import COLUMNS, Extract, ExtractTask

MB = 1_000_000


def read(body: bytes | str, **given: Any) -> dict[str, Any]:
    return read_document(
        {"body": body, "max_chars": 0, "keep": COLUMNS, "max_pages": 500, "max_bytes": 100 * MB, **given}
    )


def in_process(body: bytes | str, **given: Any) -> tuple[Any, float]:
    """What came of it, and how many MB its process took at most."""

    def peak_mb(_item: Any) -> float:  # in here, so that the process need not import this file
        status = Path("/proc/self/status").read_text("utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1000

    async def story() -> tuple[Any, float]:
        pool = Processes(1)
        asked = {"body": body, "max_chars": 10_000, "keep": COLUMNS, "max_pages": 500, "max_bytes": 100 * MB, **given}
        try:
            call = process_call(read_document, pool)
            try:
                made = msgspec.json.decode((await asyncio.wait_for(call(Request(Digest(b""), item=asked)), 120)).text)
            except DocumentError as error:
                made = error
            peak = process_call(peak_mb, pool)
            return made, float((await peak(Request(Digest(b"")))).text)
        finally:
            await pool.close()

    return asyncio.run(story())


# Good ones.


def test_a_page_becomes_its_main_text() -> None:
    """Title, headings, text and table without menu, footer, script and style; links are whole addresses."""
    row = read(documents.page().encode(), content_type="text/html", url="https://mill.example/a/b")
    assert row["title"] == "The Mill"
    assert row["language"] == "en"
    assert row["text"].startswith(
        "# The Mill\n\nThis is the lead of the page, and it is grün.\n\n## Part 0\n\n0: The mill"
    )
    assert "stone | 2 t" in row["text"]
    assert "See part 3." in row["text"]
    for hidden in ("Menu 3", "Imprint", "not to be read", "color"):
        assert hidden not in row["text"]
    assert row["headings"][:3] == ["The Mill", "Part 0", "Part 1"]
    assert {"text": "part 3", "url": "https://mill.example/part/3#x"} in row["links"]
    assert row["unread"] == ""


def test_a_short_page_is_read_whole() -> None:
    """A page with little text has no main text to be told apart: all of it is taken."""
    row = read("<title>Hi</title><p>Only this.</p><div>And this <b>too</b>.</div>")
    assert row["title"] == "Hi"
    assert "Only this." in row["text"]
    assert "And this too" in row["text"]


def test_a_pdf_becomes_its_text() -> None:
    """Title, its chapters as headings, all pages."""
    row = read(documents.pdf(), content_type="application/pdf")
    assert (row["title"], row["pages"]) == ("The Mill", 3)
    assert row["headings"] == ["Chapter 1", "Chapter 2", "Chapter 3"]
    assert "## Chapter 2\n\n2.0 The mill by the river" in row["text"]
    assert "3.29 The mill" in row["text"]


def test_a_docx_becomes_its_text() -> None:
    """Title, headings by their style, paragraphs and tables in their order."""
    row = read(documents.word())
    assert row["title"] == "The Mill"
    assert row["text"].startswith("# The Mill\n\nThis is the lead of the document.\n\n## Part 0\n\n0: The mill")
    assert row["text"].endswith("stone | 2 t\n\nwheel | 5 m\n\n## Conclusions\n\nThe mill works.")
    assert row["headings"][1] == "Part 0"


def test_markdown_and_plain_text() -> None:
    """Headings and links of Markdown are known; plain text is paragraphs."""
    marked = "The Mill\n========\n\nA lead with [a link](https://mill.example/x).\n\n## Part\n\n- one\n- two\n\n```\n# no heading\n```\n"
    row = read(marked.encode(), path="a.md")
    assert row["title"] == "The Mill"
    assert row["headings"] == ["The Mill", "Part"]
    assert row["links"] == [{"text": "a link", "url": "https://mill.example/x"}]
    assert row["text"] == "# The Mill\n\nA lead with a link.\n\n## Part\n\n- one\n\n- two\n\n# no heading"
    row = read(b"A title\n\nThe first paragraph,\non two lines.\n\nThe second.", path="a.txt")
    assert row["text"] == "# A title\n\nThe first paragraph, on two lines.\n\nThe second."


def test_the_guides_of_this_project_are_read() -> None:
    """Real Markdown, from this repository: each guide has its title and its headings."""
    for guide in sorted((Path(__file__).parents[2] / "docs" / "guides").glob("*.md")):
        text = guide.read_text("utf-8")
        row = read(text.encode(), path=str(guide), max_chars=2000)
        assert f"# {row['title']}" == text.splitlines()[0].replace("`", "`")
        assert len(row["text"]) <= 2000


@pytest.mark.parametrize(
    ("body", "said", "has"),
    [
        (documents.pdf(1), "text/html", "1.0 The mill"),
        (documents.word(1), "application/pdf", "0: The mill"),
        (documents.page(3).encode(), "application/pdf", "1: The mill"),
        (documents.page(3).encode(), "application/octet-stream", "1: The mill"),
        (b"Just words.", "application/msword", "Just words."),
        (b"\n\n  " + documents.pdf(1), "", "1.0 The mill"),
    ],
    ids=["pdf as html", "docx as pdf", "html as pdf", "html as bytes", "text as word", "pdf after blanks"],
)
def test_content_counts_more_than_what_is_said_of_it(body: bytes, said: str, has: str) -> None:
    """A header that lies deceives nobody."""
    assert has in read(body, content_type=said)["text"]


@pytest.mark.parametrize("charset", ["utf-8", "windows-1252", "utf-16", "iso-8859-15"])
def test_a_page_in_any_charset(charset: str) -> None:
    """As it is marked, declared or stated, and where the statement is wrong."""
    body = documents.page(3, charset=charset).encode(charset)
    assert "it is grün." in read(body)["text"]
    assert "it is grün." in read(body, charset=charset, content_type="text/html")["text"]
    assert "it is grün." in read(documents.page(3).encode(), charset="no-such-charset")["text"]
    assert "it is grün." in read(documents.page(3), content_type="text/html")["text"]


def test_a_text_is_cut_to_its_budget() -> None:
    """10 KB of a long page, with its title, its lead and all that fits."""
    row = read(documents.page(500).encode(), max_chars=10_000)
    assert 9_000 < len(row["text"]) <= 10_000
    assert row["text"].startswith("# The Mill\n\nThis is the lead")
    assert "[...]" in row["text"]
    assert set(read(b"Words.", keep=("text",))) == {"text"}


# Large ones.


def test_a_pdf_of_200_pages_in_bounded_memory() -> None:
    """All of its pages, and a process below 120 MB."""
    row, peak = in_process(documents.pdf(200, lines=55))
    assert row["pages"] == 200
    assert len(row["text"]) <= 10_000
    assert row["unread"] == ""
    assert peak < 120


def test_more_pages_than_are_asked_for() -> None:
    """The rest is not read, and the row says so."""
    row = read(documents.pdf(5), max_pages=2)
    assert row["unread"] == "Of 5 pages the first 2 were read."
    assert "2.0 The mill" in row["text"]
    assert "3.0 The mill" not in row["text"]


def test_a_page_of_50_mb_in_bounded_memory() -> None:
    """It is read to where its tree would be too large; the row says so; its process stays below 450 MB."""
    part = documents.page(2000)
    more = "".join(f"<p>{number} {documents.SENTENCE}</p>" for number in range(1000))
    body = part.replace("</article>", more * (50 * MB // len(more)) + "</article>").encode()
    assert len(body) > 49 * MB
    row, peak = in_process(body)
    assert row["title"] == "The Mill"
    assert "were read." in row["unread"]
    assert 9_000 < len(row["text"]) <= 10_000
    assert peak < 450


def test_scripts_do_not_use_up_what_is_read() -> None:
    """Ten megabytes of script before the text are passed over."""
    body = documents.page(20).replace("</head>", "<script>" + "var a = 1;" * MB + "</script></head>").encode()
    row, _ = in_process(body)
    assert "19: The mill" in row["text"]


# Bad ones.


def broken_pdf() -> bytes:
    return documents.pdf()[:600]


def encrypted_docx() -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600)


def package(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b" \n\0 ", "is empty"),
        (documents.pdf(password="secret"), "PDF is encrypted"),
        (encrypted_docx(), "is encrypted"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old Office file"),
        (documents.pdf(2, text=False, picture=True), "PDF is scanned"),
        (documents.pdf(2, text=False), "PDF has no text"),
        (b"%PDF-1.7\nnothing more", "PDF is broken"),
        (broken_pdf(), "PDF is broken"),
        (documents.word()[:2000], "DOCX is broken"),
        (package("word/other.xml"), "DOCX is broken"),
        (documents.repacked(documents.word(), {"word/document.xml": b"<w:document"}), "DOCX is broken"),
        (package("xl/workbook.xml"), "an XLSX workbook"),
        (package("ppt/presentation.xml"), "a PPTX presentation"),
        (package("a.txt"), "a ZIP archive"),
        (b"PK\x03\x04 and no more", "broken package"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture"),
        (bytes(range(256)) * 20, "no text"),
        (b"<html><body><script>all()</script></body></html>", "has no text"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, says: str) -> None:
    """Encrypted, broken, empty, scanned or of another kind: one sentence, with what to do."""
    with pytest.raises(DocumentError, match=says) as raised:
        read(body)
    assert raised.value.hint
    assert "\n" not in str(raised.value)


def test_a_pdf_that_is_locked_against_printing_alone_is_read() -> None:
    """It opens without a password."""
    assert "1.0 The mill" in read(documents.pdf(1, owner="owner"))["text"]


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    """Each with its own sentence; a text is read as far as it may be."""
    with pytest.raises(DocumentError, match="cannot be read: No such file"):
        read_document(
            {"path": str(tmp_path / "a.pdf"), "max_chars": 0, "keep": ("text",), "max_pages": 1, "max_bytes": 9}
        )
    (tmp_path / "b.pdf").write_bytes(documents.pdf())
    given = {"path": str(tmp_path / "b.pdf"), "max_chars": 0, "keep": COLUMNS, "max_pages": 1, "max_bytes": 900}
    with pytest.raises(DocumentError, match="at most 900 are read"):
        read_document(given)
    with pytest.raises(DocumentError, match="at most 900 are read"):
        read(documents.pdf(), max_bytes=900)
    (tmp_path / "c.txt").write_bytes(b"some words " * 1000)
    row = read_document({**given, "path": str(tmp_path / "c.txt")})
    assert len(row["text"]) <= 900
    assert row["unread"]


# Hostile ones.


def bomb(page_bytes: int) -> bytes:
    """A PDF of some kilobytes whose one page unpacks to this."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(100, 100)
    stream = StreamObject()
    stream._data = zlib.compress(b"BT (x) Tj ET\n" * (page_bytes // 13), 9)
    stream[NameObject("/Filter")] = NameObject("/FlateDecode")
    page[NameObject("/Contents")] = writer._add_object(stream)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def looped() -> bytes:
    """A PDF whose pages are their own parents."""
    return documents.pdf(1, outline=False).replace(b"/Kids [ ", b"/Kids [ 99 0 R ")


def knotted() -> bytes:
    """A PDF whose page shows a form that shows itself."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(100, 100)
    form = DecodedStreamObject()
    form.set_data(b"/F Do BT (round) Tj ET " * 20)
    form.update({NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Form")})
    form[NameObject("/BBox")] = ArrayObject([NumberObject(0)] * 4)
    at = writer._add_object(form)
    form[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/XObject"): DictionaryObject({NameObject("/F"): at})}
    )
    shown = DecodedStreamObject()
    shown.set_data(b"/F Do")
    page[NameObject("/Contents")] = writer._add_object(shown)
    page[NameObject("/Resources")] = form["/Resources"]
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha ha ha ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    + ']><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
    "<w:t>&m;</w:t></w:r></w:p></w:body></w:document>"
).encode()
WINDOW = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><w:document xmlns:w="http://schemas.'
    b'openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>before &f; after</w:t></w:r></w:p></w:body>'
    b"</w:document>"
)


@pytest.mark.parametrize(
    "body",
    [
        bomb(20 * MB), bomb(200 * MB), looped(), knotted(),
        documents.repacked(documents.word(), {"word/document.xml": LAUGHS}),
        documents.repacked(documents.word(), {"word/document.xml": b" " * 200 * MB}),
        documents.repacked(documents.word(), {"word/document.xml": b"<w:p>" * MB}),
        ("<div>" * 50_000 + "deep" + "</div>" * 50_000).encode(),
        ("<p>" + "<b>" * 100_000 + "bold").encode(),
        ("<table><tr><td>" * 20_000 + "cell").encode(),
        ("<a href='x" * 200_000).encode(),
        ("<" * MB).encode(),
        ("<!--" * MB).encode(),
        ("<script" * MB).encode(),
        ("[" * 200_000 + "](" * 200_000).encode(),
        ("word" * MB).encode(),
        ("\n# " * 300_000).encode(),
    ],
    ids=[
        "pdf of 20 MB", "pdf of 200 MB", "pdf of circles", "pdf of knots", "laughs", "zip bomb", "xml bomb", "deep html",
        "deep bold", "deep tables", "open quotes", "brackets", "comments", "scripts", "markdown", "one word", "headings",
    ],
)  # fmt: skip
def test_hostile_documents_cost_little(body: bytes) -> None:
    """Each ends within a minute and 700 MB, with a row or with a DocumentError; none takes its process down."""
    made, peak = in_process(body, path="a.md" if body.startswith((b"[", b"\n#")) else "")
    assert isinstance(made, dict | DocumentError), made
    assert peak < 700


def test_no_file_is_read_through_a_document() -> None:
    """An entity that names a file of this machine brings nothing of it."""
    row = read(documents.repacked(documents.word(), {"word/document.xml": WINDOW}))
    assert Path("/etc/hostname").read_text("utf-8").strip() not in row["text"]


# As a stage.


def test_a_document_is_read_once_for_its_content(tmp_path: Path) -> None:
    """Its request is known by content and options, not by where it lies; what was fetched by what was said of it too."""
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("# One\n\nText.")
    (tmp_path / "c.md").write_text("# Two\n\nText.")

    def task(**settings: Any) -> ExtractTask:
        work = Extract(source="file", **settings)
        return ExtractTask(work, lambda name: located(name, tmp_path, work.max_bytes), name=NAME, version=VERSION)

    def digest(name: str, **settings: Any) -> bytes:
        return task(**settings).request(Item("k", 0, {"file": name})).digest

    assert digest("a.md") == digest("b.md") != digest("c.md")
    assert digest("a.md", max_chars=500) != digest("a.md")
    assert digest("nothing.md") != digest("none.md")
    (tmp_path / "b.md").write_text("# Other")
    assert digest("b.md") != digest("a.md")

    async def story() -> Item:
        pool, item = Processes(1), Item("k", 0, {"file": "a.md", "id": 7})
        try:
            reply = await process_call(read_document, pool)(task().request(item))
            return task().onward(item, task().value(reply))
        finally:
            await pool.close()

    assert asyncio.run(story()).data == {"file": "a.md", "id": 7, "title": "One", "text": "# One\n\nText."}


def given_of(task: ExtractTask, item: Item) -> dict[str, Any]:
    given = task.request(item).item
    assert isinstance(given, dict)
    return given


def test_a_fetched_page_is_read() -> None:
    """Its body, its type and its address come from the page; onward it is dropped."""
    task = ExtractTask(Extract(keep=("title", "links")), lambda name: (name, b""), name=NAME, version=VERSION)
    page = Page(
        url="https://mill.example", final_url="https://mill.example/de/", content_type="text/html", charset="utf-8",
        text=documents.page(3),
    )  # fmt: skip
    item = Item("k", 0, {"url": page.url}, page=page)
    row = read_document(given_of(task, item))
    assert row["title"] == "The Mill"
    assert row["links"][0]["url"].startswith("https://mill.example/")
    assert task.onward(item, row).page is None
    data = Page(url="https://mill.example/a.pdf", content_type="application/pdf", data=documents.pdf(1))
    assert read_document(given_of(task, Item("k", 0, {}, page=data)))["title"] == "The Mill"


def test_nothing_of_this_process_is_left_behind() -> None:
    """Reading starts no process and leaves its own limits as they were."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    read(b"Words.")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert not [each for each in psutil.Process().children() if "worker" in " ".join(each.cmdline())]
