"""`headrace documents` as a user runs it: addresses, folders, sitemaps, modes, pages, a synthesis, failures."""

import json
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import documents as made_documents
import headrace as hr
from acceptance.browser import NASTY, Browser, needs_chromium
from acceptance.cli import Cli, fine
from acceptance.endpoint import Answer, Asked, completion, endpoint
from acceptance.site import site
from headrace.apps import documents
from simulator import simulator

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import make_site


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, OPENAI_API_KEY="sk-none")


def example(folder: Path) -> Path:
    """The 100 pages of the example's site."""
    for each in make_site.pages():
        path = folder / each.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"<!doctype html><html lang={each.language}><title>{each.title}</title><main><h1>{each.title}</h1>{each.body}</main>"
        )
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder as a site; its address, with a slash at the end."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def context(closer: bool, text: str = "What it says.") -> Answer:
    return completion(json.dumps({"kind": "guide", "summary": text, "audience": text, "closer": closer}))


def reply(asked: Asked, *, closer: bool = True, text: str = "a point") -> Answer:
    """Of the right type for each question."""
    prompt = asked.body["messages"][-1]["content"]
    if "What is this document" in prompt:
        return context(closer, text)
    if "Which facts" in prompt:
        return completion(json.dumps({"facts": [text], "numbers": []}))
    if "tell its reader" in prompt:
        return completion(json.dumps({"actions": [text], "warnings": []}))
    if "How clear" in prompt:
        return completion(json.dumps({"clarity": 3, "gaps": [text]}))
    if "Note what" in prompt:
        return completion("notes")
    return completion(json.dumps({"overview": text, "themes": [text], "disagreements": [], "read_first": [text]}))


def test_addresses_are_downloaded_five_at_once(cli: Cli) -> None:
    """D1: five at a time, or as many as are asked for; what is gone is told and the rest is there."""
    with site(0.15) as there:
        cli.file(
            "urls.txt",
            "# pages\n" + "".join(f"{there.url}/p{n}\n" for n in range(20)) + f"{there.url}/gone\n{there.url}/p1\n",
        )
        words = ("documents", "urls.txt", "--model", "sim:", "--allow", "127.0.0.1", "--no-synthesis")
        ended = fine(cli.run(*words), 1)
        assert there.most == 5
        assert sum(there.asked.values()) == 21
        assert "20 documents read" in ended.err
        assert "1 failure" in ended.err
        there.most = 0
        fine(cli.run(*words, "--max-workers", "9", "--fresh"), 1)
        assert there.most == 9


def test_the_modes_give_the_same(cli: Cli) -> None:
    """D2: async, sync, process and hybrid differ in what is at work at once, and in nothing else."""
    example(cli.folder / "site")
    found: dict[str, list[Any]] = {}
    with simulator("--latency", "0.01") as provider:
        for mode, most in (("async", 3), ("sync", 1), ("process", 2), ("hybrid", 4)):
            provider.reset()
            words = (
                "--parallelism-mode",
                mode,
                "--store",
                f"{mode}.db",
                "--analysis-workers",
                str(most),
                "--no-synthesis",
            )
            ended = fine(cli.run("documents", "site/faq", "--model", "openai:m", "--base-url", provider.url, *words))
            assert provider.ledger()["most_in_flight"] == most
            told = [
                {name: row[name] for name in ("document", "title", "kind", "summary", "answers")} for row in ended.rows
            ]
            found[mode] = sorted(told, key=lambda row: row["document"])
    assert found["async"]
    assert found["async"] == found["sync"] == found["process"] == found["hybrid"]


def test_context_is_made_while_others_are_downloaded(cli: Cli) -> None:
    """D3: documents are read and asked about before the last one is there."""
    with site(0.1) as there, simulator() as provider:
        cli.file("urls.txt", "".join(f"{there.url}/p{n}\n" for n in range(40)))
        words = (
            "documents",
            "urls.txt",
            "--model",
            "openai:m",
            "--base-url",
            provider.url,
            "--allow",
            "127.0.0.1",
            "--max-workers",
            "2",
        )
        with cli.start(*words) as child:
            first = json.loads(child.line())
            so_far = sum(there.asked.values())
            fine(child.end())
        assert first["summary"]
        assert so_far < 40


def test_documents_that_need_no_closer_look_get_none(cli: Cli) -> None:
    """D2: one question for each tells; the others are for those that are worth it, each in a call of its own."""
    for name in ("deep", "flat"):
        cli.file(f"docs/{name}.txt", f"This is the {name} document, and it goes on for a while.")

    def answer(asked: Asked) -> Answer:
        return reply(asked, closer="the deep" in json.dumps(asked.body))

    with endpoint(answer) as there:
        ended = fine(
            cli.run("documents", "docs", "--model", "openai:m", "--base-url", there.url, "--no-synthesis", "--ordered")
        )
        assert len(there.asked) == 2 + 3
        rows = {row["document"]: row for row in ended.rows}
        assert rows["flat.txt"]["answers"] == {}
        assert set(rows["deep.txt"]["answers"]) == {"facts", "actions", "quality"}
        assert "2 documents read, 1 of them closely" in ended.err
        fine(cli.run("documents", "docs", "--model", "openai:m", "--base-url", there.url, "--every"))
        assert len(there.asked) == 5 + 3 + 1


def test_questions_of_ones_own(cli: Cli) -> None:
    """Each with its type, from a file; one that fails costs its document nothing else."""
    cli.file("docs/a.md", "# Terms\n\nYou pay 40 a month.")
    cli.file(
        "q.toml",
        '[price]\nask = "Price?\\n\\n{text}"\nreturns = "price: float, currency: str?"\n[tone]\nask = "Tone? {text}"\n',
    )

    def answer(asked: Asked) -> Answer:
        prompt = asked.body["messages"][-1]["content"]
        if prompt.startswith("Price?"):
            return completion('{"price": 40, "currency": null}')
        return (400, '{"error": {"message": "no"}}') if prompt.startswith("Tone?") else reply(asked)

    with endpoint(answer) as there:
        ended = fine(
            cli.run(
                "documents",
                "docs",
                "--model",
                "openai:m",
                "--base-url",
                there.url,
                "--questions",
                "q.toml",
                "-o",
                "o.jsonl",
            ),
            1,
        )
    row = next(row for row in map(json.loads, (cli.folder / "o.jsonl").read_text().splitlines()) if not row["error"])
    assert row["answers"] == {"price": {"price": 40, "currency": None}}
    assert "1 failure" in ended.err


def test_progress_and_where_the_time_went(cli: Cli) -> None:
    """D9, D10: phases are announced, and the page tells of each stage what it took and what bound the run."""
    example(cli.folder / "site")
    ended = fine(cli.run("documents", "site/faq", "--model", "sim:latency=0.05", "--report", "r.html"))
    assert re.search(r"context begins with \d+ items?", ended.err)
    page = (cli.folder / "r.html").read_text("utf-8")
    for heading in ("The stages", "Where the time went", "How the run went", "Limits and calls"):
        assert heading in page
    assert "at work" in page


def test_a_hanging_page_is_timed_out_and_a_dead_host_left_alone(cli: Cli) -> None:
    """D9: a time-out for each attempt; documents of other hosts are read meanwhile."""
    with site() as there:
        cli.file("urls.txt", "".join(f"http://127.0.0.1:1/{n}\n" for n in range(5)) + f"{there.url}/good\n")
        ended = fine(cli.run("documents", "urls.txt", "--model", "sim:", "--allow", "127.0.0.1"), 1)
    assert "1 document read" in ended.err
    assert "5 failures" in ended.err


def test_a_page_for_each_document_and_a_table_of_all(cli: Cli) -> None:
    """D11: pages are written as documents are done, and the index names them all."""
    example(cli.folder / "site")
    with (
        simulator("--latency", "0.05") as provider,
        cli.start(
            "documents", "site", "--model", "openai:m", "--base-url", provider.url, "--pages", "out/pages"
        ) as child,
    ):
        child.line()
        child.line()
        early = len(list((cli.folder / "out/pages").glob("*.html")))
        fine(child.end())
    assert 0 < early < 100
    pages = {path.name for path in (cli.folder / "out/pages").iterdir()}
    assert len(pages) == 101
    index = (cli.folder / "out/pages/index.html").read_text("utf-8")
    assert {name.replace("&amp;", "&") for name in re.findall(r'href="([^"]+)"', index)} == pages - {"index.html"}


def test_a_hundred_documents_end_to_end(cli: Cli) -> None:
    """D12: the example's 100 pages, from a sitemap on a site, in notes of 25 and one synthesis; a rerun pays nothing."""
    example(cli.folder / "site")
    with served(cli.folder / "site") as at, simulator("--latency", "0.01") as provider:
        names = [each.name for each in make_site.pages()]
        for number, part in enumerate((names[:60], names[60:])):
            places = "".join(f"<url><loc>{at}{name}?a=1&amp;b=2</loc></url>" for name in part)
            cli.file(f"site/map{number}.xml", f'<?xml version="1.0"?><urlset>{places}</urlset>')
        maps = "".join(f"<sitemap><loc><![CDATA[{at}map{number}.xml]]></loc></sitemap>" for number in range(2))
        cli.file("site/sitemap.xml", f'<?xml version="1.0"?><sitemapindex>{maps}</sitemapindex>')
        words = (
            "documents", f"{at}sitemap.xml", "--model", "openai:m", "--base-url", provider.url, "--allow", "127.0.0.1",
            "--max-workers", "8", "--report", "r.html", "-o", "o.parquet",
        )  # fmt: skip
        ended = fine(cli.run(*words))
        assert "100 documents read" in ended.err
        paid = provider.ledger()["paid"]
        assert paid >= 100 + 4 + 1
        fine(cli.run(*words))
        assert provider.ledger()["paid"] == paid
        assert len(hr.run(lambda row: row["document"], cli.folder / "o.parquet", store=cli.folder / "x.db")) == 100


def test_large_documents_stay_within_memory(cli: Cli) -> None:
    """D12: eight files of 3 MB, two in flight."""
    text = "".join(f"Part {n} is about mills, weirs and water. {'It goes on. ' * 500}\n\n" for n in range(500))
    for number in range(8):
        cli.file(f"docs/{number}.txt", f"Number {number}\n\n{text}")
    ended = fine(cli.run("documents", "docs", "--model", "sim:", "--batch-size", "2", "--no-synthesis"))
    assert "8 documents read" in ended.err
    megabytes = re.search(r"at most ([\d,]+) MB of memory", ended.err)
    assert megabytes is not None
    assert int(megabytes[1].replace(",", "")) < 300


@pytest.mark.parametrize(
    ("sizes", "are_files", "expected"),
    [([12_000_000] * 12, True, 5), ([1_000] * 5_000, True, 256), ([900_000_000], True, 1), ([0] * 9, False, 32), ([], True, 1)],
)  # fmt: skip
def test_documents_in_flight_follow_their_nature(sizes: list[int], are_files: bool, expected: int) -> None:
    """D12: of files as many as have 64 MB together at worst; of addresses four for each worker."""
    places = documents.Places([{"document": str(n), "bytes": size} for n, size in enumerate(sizes)], are_files, "x")
    assert documents.in_flight_of(places, 8) == expected


def test_a_folder_of_every_kind(cli: Cli) -> None:
    """HTML, PDF, DOCX, Markdown and text, also in folders below; what is broken is told, what is no document is left."""
    files: dict[str, bytes | str] = {
        "a.pdf": made_documents.pdf(), "b/c.docx": made_documents.word(), "b/d.md": "# D\n\nText of D, which is short.",
        "e.txt": "Text of E, which is short.", "f.HTML": "<h1>F</h1><p>Text of F, which is short.</p>",
        "broken.pdf": made_documents.pdf()[:900], "empty.txt": b"", ".hidden/x.txt": "hidden", "picture.png": b"\x89PNG\r\n",
        "fake.html": bytes(range(256)) * 99, "odd \u202e name \U0001f525.txt": "A name that is odd, and a text that is not.",
    }  # fmt: skip
    for name, content in files.items():
        cli.file(f"docs/{name}", content)
    ended = fine(cli.run("documents", "docs", "--model", "sim:", "-o", "o.jsonl", "--pages", "p"), 1)
    rows = [json.loads(line) for line in (cli.folder / "o.jsonl").read_text("utf-8").splitlines()]
    good = {row["document"] for row in rows if not row["error"]}
    assert good >= {"a.pdf", "b/c.docx", "b/d.md", "e.txt", "f.HTML", "odd \u202e name \U0001f525.txt"}
    failed = {row["document"] for row in rows if row["error"]}
    assert failed >= {"broken.pdf", "empty.txt"}
    assert not (good | failed) & {".hidden/x.txt", "picture.png"}
    assert f"{len(failed)} failures" in ended.err


def test_a_run_that_is_killed_goes_on(cli: Cli) -> None:
    """D12: after kill -9 the same command downloads and asks at most what was in flight again."""
    with site() as there, simulator("--latency", "0.05") as provider:
        cli.file("urls.txt", "".join(f"{there.url}/p{n}\n" for n in range(60)))
        words = (
            "documents",
            "urls.txt",
            "--model",
            "openai:m",
            "--base-url",
            provider.url,
            "--allow",
            "127.0.0.1",
            "--every",
            "--no-synthesis",
        )
        with cli.start(*words) as child:
            child.until(lambda: provider.ledger(items=False)["paid"] >= 80)
            child.signal(signal.SIGKILL)
            child.process.wait(30)
        ended = fine(cli.run(*words))
        assert "60 documents read, 60 of them closely" in ended.err
        assert provider.ledger()["paid"] <= 60 * 4 + 3
        assert Counter(there.asked.values())[1] >= 60 - 5


def test_a_provider_that_refuses_stops_it_early(cli: Cli) -> None:
    """Status 3 and one sentence; the rest of the documents is not asked about."""
    example(cli.folder / "site")
    with simulator("--faults", "quota=1") as provider:
        ended = cli.run("documents", "site", "--model", "openai:m", "--base-url", provider.url)
        assert provider.ledger()["requests"] < 30
    assert ended.status == 3
    assert len(ended.error) < 400


def test_from_python(tmp_path: Path) -> None:
    """A function with a typed result: documents, failures, the synthesis."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"Document {number} is about mills and weirs.")
    report = documents.analyse(
        folder, model="sim:", questions={"tone": documents.Question("Tone?\n\n{text}", None)}, store=tmp_path / "s.db",
        pages=tmp_path / "pages", batch_size=1,
    )  # fmt: skip
    assert [each.document for each in report.documents] == ["0.txt", "1.txt", "2.txt"]
    assert isinstance(report.synthesis, documents.Synthesis)
    assert all(set(each.answers) <= {"tone"} for each in report.documents)
    assert {each.page for each in report.documents} < {path.name for path in (tmp_path / "pages").iterdir()}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing.txt", "", "names no documents"),
        ("nothing.csv", "link\nhttp://a.example/\n", "no column url"),
        ("nothing.xml", "<urlset></urlset>", "names no documents"),
        ("binary.txt", bytes(range(256)), "cannot be read"),
        ("missing", None, "cannot be read"),
        ("empty/.keep", "", "names no documents"),
    ],
)
def test_places_without_documents(name: str, content: str | bytes | None, said: str, cli: Cli) -> None:
    """One sentence, status 2."""
    if content is not None:
        cli.file(name, content)
    where = name.partition("/")[0]
    assert said in fine(cli.run("documents", where, "--model", "sim:"), 2).error


def test_odd_addresses_fail_alone(cli: Cli) -> None:
    """What is no address, or a private one, is an error of its document."""
    cli.file("urls.txt", "javascript:alert(1)\nhttp://127.0.0.1:1/\nnot an address\nhttp://[::1\nfile:///etc/passwd\n")
    ended = fine(cli.run("documents", "urls.txt", "--model", "sim:", "--report", "r.html"), 1)
    assert "0 documents read" in ended.err
    assert "5 failures" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch-size", "-1"), "--batch-size -1"),
        (("--max-workers", "0"), "--max-workers 0"),
        (("--analysis-workers", "0"), "--analysis-workers 0"),
        (("--questions", "none.toml"), "cannot be read"),
        (("--pages", "file.txt"), "is no folder"),
        (("--report", "r.pdf"), "a report is a page"),
    ],
)
def test_words_that_cannot_work_are_told_before_any_call(words: tuple[str, ...], said: str, cli: Cli) -> None:
    """A sentence each, status 2."""
    cli.file("file.txt", "http://a.example/\n")
    assert said in fine(cli.run("documents", "file.txt", "--model", "sim:", *words), 2).error


@needs_chromium
def test_the_pages_show_documents_and_run_nothing(chromium: Browser, tmp_path: Path) -> None:
    """In a real browser: report, index and pages hold what documents and models say as text, and nothing runs."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-none")
    escaped = NASTY.replace("<", "&lt;").replace(">", "&gt;")
    for number in range(3):
        cli.file(
            f"docs/{number} <img src=x onerror=alert(3)>.html",
            f"<title>{escaped}</title><h1>{escaped}</h1><p>Text {number} {escaped}</p>",
        )
    with endpoint(lambda asked: reply(asked, text=NASTY[:60])) as there:
        words = (
            "documents",
            "docs",
            "--model",
            "openai:m",
            "--base-url",
            there.url,
            "--report",
            "r.html",
            "--pages",
            "p",
        )
        fine(cli.run(*words))
    for width in (390, 1280):
        for path in (tmp_path / "r.html", *sorted((tmp_path / "p").iterdir())):
            page = chromium.page()
            page.look(width, 900)
            page.open(path)
            assert (page.dialogs, page.requests, page.complaints) == ([], [], [])
            assert page.value("document.querySelectorAll('img').length") == 0
            assert page.value("document.scripts.length") == (1 if path.name == "r.html" else 0)
            assert "<script>alert(1)</script>" in page.value("document.body.textContent")
            if path.name == "r.html":
                assert "3 documents read, 3 of them closely" in page.value(
                    "document.querySelector('#own-1').textContent"
                )
                assert "guide" in page.value("document.querySelector('#own-1 table.bars').textContent")
                assert page.value("document.querySelectorAll('#own-2 tbody tr').length") == 3
            assert page.value("document.documentElement.scrollWidth - window.innerWidth") <= 0
