"""`headrace audit` as a user runs it: collected responses, several assistants, cited sites, scores, failures, the page."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.browser import NASTY, Browser, needs_chromium
from acceptance.cli import Cli, fine
from acceptance.endpoint import Answer, Asked, completion, endpoint
from acceptance.site import site
from headrace.apps import audit
from headrace.apps.audit.citations import domains
from simulator import simulator

EXAMPLES = Path(__file__).parents[2] / "examples"
BRANDS, RESPONSES = str(EXAMPLES / "brands.csv"), str(EXAMPLES / "responses.jsonl")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, OPENAI_API_KEY="sk-none")


def answered(**more: Any) -> Answer:
    said = {"mentioned": True, "rank": 1, "sentiment": 0.5, "rivals": []}
    return completion(json.dumps({**said, **more}))


def brands(cli: Cli, *names: str) -> str:
    return str(
        cli.file(
            "brands.jsonl",
            "".join(json.dumps({"brand": n, "product": "kettles", "site": f"{n}.example"}) + "\n" for n in names),
        )
    )


def responses(cli: Cli, *rows: dict[str, str]) -> str:
    lines = [json.dumps({"query": "Which?", "model": "m", **row}) for row in rows]
    return str(cli.file("responses.jsonl", "".join(f"{line}\n" for line in lines)))


def without_links(cli: Cli) -> str:
    """The 192 example responses with no site in them: names that lead nowhere take a resolver's time."""
    rows = [json.loads(line) for line in Path(RESPONSES).read_text("utf-8").splitlines()]
    for row in rows:
        row["response"] = row["response"].replace(".example", " example").replace("://", " ")
    return str(cli.file("plain.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))


def test_the_example_is_audited(cli: Cli) -> None:
    """A1, A2, A6: 12 brands with 192 responses become 12 scores and a dashboard with all figures; a rerun pays nothing."""
    with simulator("--latency", "0.02") as provider:
        words = (
            "audit", BRANDS, "--responses", without_links(cli), "--model", "openai:m", "--base-url", provider.url, "--key", "id",
            "--concurrency", "10", "--dashboard", "d.json", "-o", "scores.csv",
        )  # fmt: skip
        ended = fine(cli.run(*words))
        books = provider.ledger()
        assert books["paid"] <= 192
        assert books["most_in_flight"] == 10
        assert "192 successful, 0 failed; 12 brands scored" in ended.err
        told = json.loads((cli.folder / "d.json").read_text("utf-8"))
        assert (told["total"], told["successful"], told["failed"], told["pending"]) == (192, 192, 0, 0)
        assert told["per_second"] > 0
        assert told["error_rate"] == 0
        assert [each["brand"] for each in told["brands"]][:2] == ["Brookline", "Torvald"]
        assert {each["responses"] for each in told["brands"]} == {16}
        assert all(set(each["by_assistant"]) == {"assistant-a", "assistant-b"} for each in told["brands"])
        header = (cli.folder / "scores.csv").read_text("utf-8").splitlines()[0]
        assert "visibility,sentiment,citations,share_of_voice" in header
        fine(cli.run(*words))
        assert provider.ledger()["paid"] == books["paid"]


def test_a_brand_is_scored_before_the_last_answer_is_there(cli: Cli) -> None:
    """A1: each stage starts on what the one before has finished, and a brand's scores wait for that brand alone."""
    with simulator("--latency", "0.1") as provider:
        words = (
            "audit", BRANDS, "--model", "openai:a", "--assistant", "openai:a", "--assistant", "openai:b", "--queries", "4",
            "--base-url", provider.url, "--concurrency", "4",
        )  # fmt: skip
        with cli.start(*words) as child:
            first = json.loads(child.line())
            so_far = provider.ledger(items=False)["paid"]
            ended = fine(child.end())
        assert first["responses"] == 8
        assert set(first["by_assistant"]) == {"openai:a", "openai:b"}
        assert so_far < provider.ledger(items=False)["paid"]
        assert "96 successful, 0 failed" in ended.err


def test_one_failure_ends_nothing(cli: Cli) -> None:
    """A2: what cannot be analysed is counted and told with its stage; all else is scored; the status is 1."""
    table = brands(cli, "Alder", "Birch")
    given = responses(
        cli, *({"brand": name, "response": f"{name} {n}{' poison' if n == 3 else ''}"} for name in ("Alder", "Birch") for n in range(6))
    )  # fmt: skip

    def answer(asked: Asked) -> Answer:
        poisoned = "Alder 3 poison" in json.dumps(asked.body)
        return (400, '{"error": {"message": "no"}}') if poisoned else answered()

    with endpoint(answer) as there:
        ended = fine(
            cli.run(
                "audit",
                table,
                "--responses",
                given,
                "--model",
                "openai:m",
                "--base-url",
                there.url,
                "--dashboard",
                "d.json",
            ),
            1,
        )
    assert "11 successful, 1 failed; 2 brands scored" in ended.err
    told = json.loads((cli.folder / "d.json").read_text())
    assert [each["responses"] for each in told["brands"]] == [5, 6]
    assert told["failures"][0]["stage"] == "analysis"
    assert told["error_rate"] == pytest.approx(1 / 12, abs=1e-4)


def test_cited_sites_are_fetched_once_and_remembered(cli: Cli) -> None:
    """A3: one request for a domain, however many answers cite it; a failure is remembered as a page is, and a rerun asks
    for neither."""
    table = brands(cli, "kettles", "Birch")
    with site() as good, site() as other, endpoint(lambda _asked: answered()) as there:
        rows = [
            {
                "brand": brand,
                "response": f"{brand}: see {good.url}/a{n} and ({other.url}/b{n}). Also http://127.0.0.1:1/x",
            }
            for brand in ("kettles", "Birch")
            for n in range(5)
        ]
        words = (
            "audit", table, "--responses", responses(cli, *rows), "--model", "openai:m", "--base-url", there.url, "--allow",
            "127.0.0.1", "--dashboard", "d.json",
        )  # fmt: skip
        fine(cli.run(*words))
        assert (sum(good.asked.values()), sum(other.asked.values())) == (1, 1)
        told = json.loads((cli.folder / "d.json").read_text())
        assert told["cache_hit_rate"] >= 0.3
        by_name = {each["brand"]: each for each in told["brands"]}
        sources = {each["domain"]: each for each in by_name["Birch"]["sources"]}
        assert len(sources) == 3
        assert sources["127.0.0.1:1"]["state"] != "reached"
        assert {each["cited"] for each in sources.values()} == {5}
        assert by_name["kettles"]["citations"] == pytest.approx(100 * (1 + 1 + 0) / 3, abs=0.1)
        assert by_name["Birch"]["citations"] == pytest.approx(100 * (0.75 + 0.75 + 0) / 3, abs=0.1)
        fine(cli.run(*words))
        assert (sum(good.asked.values()), sum(other.asked.values())) == (1, 1)


def test_private_sites_are_not_fetched(cli: Cli) -> None:
    """A3: an answer that cites an address of this machine gets nobody there, and the brand its scores."""
    with site() as there, endpoint(lambda _asked: answered()) as model:
        given = responses(
            cli, {"brand": "Alder", "response": f"Alder, see {there.url}/admin and http://169.254.169.254/latest"}
        )
        ended = fine(
            cli.run("audit", brands(cli, "Alder"), "--responses", given, "--model", "openai:m", "--base-url", model.url)
        )
        assert not there.asked
    assert json.loads(ended.out)["citations"] == 0.0


def test_an_audit_that_is_killed_goes_on(cli: Cli) -> None:
    """A5: an analysis is stored as it completes: after kill -9 the same command repeats at most what was in flight."""
    given = without_links(cli)
    with simulator("--latency", "0.1") as provider:
        words = (
            "audit",
            BRANDS,
            "--responses",
            given,
            "--model",
            "openai:m",
            "--base-url",
            provider.url,
            "--concurrency",
            "8",
        )
        with cli.start(*words) as child:
            child.until(lambda: provider.ledger(items=False)["paid"] >= 60)
            child.signal(signal.SIGKILL)
            child.process.wait(30)
        ended = fine(cli.run(*words))
        assert "192 successful, 0 failed" in ended.err
        assert provider.ledger()["paid"] <= 192 + 2 * 8


def test_a_deadline_leaves_the_rest_pending(cli: Cli) -> None:
    """A2: brands whose answers were analysed in time are scored and told; the report says so."""
    given = without_links(cli)
    with simulator("--latency", "0.2") as provider:
        ended = fine(
            cli.run(
                "audit", BRANDS, "--responses", given, "--model", "openai:m", "--base-url", provider.url, "--concurrency", "8",
                "--deadline", "3", "--report", "r.html", "-o", "s.jsonl",
            ), 1,
        )  # fmt: skip
    scored = (cli.folder / "s.jsonl").read_text().splitlines()
    assert 0 < len(scored) < 12
    assert f"{16 * len(scored)} successful, 0 failed" in ended.err
    assert "The deadline of 3 s has passed." in (cli.folder / "r.html").read_text("utf-8")


def test_a_provider_that_refuses_stops_it_early(cli: Cli) -> None:
    """Status 3 and one sentence; the rest of the responses is not burnt."""
    with simulator("--faults", "quota=1") as provider:
        ended = cli.run(
            "audit", BRANDS, "--responses", without_links(cli), "--model", "openai:m", "--base-url", provider.url
        )
        assert provider.ledger()["requests"] < 60
    assert ended.status == 3
    assert len(ended.error) < 400


def test_the_use_of_limits_is_shown(cli: Cli) -> None:
    """A8: how much of the stated requests and tokens a minute was used, on the page."""
    fine(
        cli.run(
            "audit", BRANDS, "--responses", without_links(cli), "--model", "sim:latency=0.05", "--rpm", "6000", "--tpm", "900000",
            "--report", "r.html",
        )
    )  # fmt: skip
    page = (cli.folder / "r.html").read_text("utf-8")
    assert "of 6,000 (" in page
    assert "of 900,000 (" in page


def test_answers_and_sites_are_in_memory_for_so_many_brands() -> None:
    """A9: brands are begun when earlier ones are scored, so that memory does not grow with their number."""
    made = audit.pipeline(["sim:"], analyst="sim:")
    assert made.in_flight == 32
    fetch = next(stage for stage in made if isinstance(stage, hr.Fetch))
    read = next(stage for stage in made if isinstance(stage, hr.Extract))
    assert (fetch.by, fetch.timeout_s, read.max_chars) == ("domain", 5.0, 10_000)


def test_the_formula() -> None:
    """As the guide has it: by hand."""
    base = {
        "brand": "Alder",
        "product": "kettles",
        "site": "https://www.alder.example/",
        "assistant": "a",
        "domain": "",
    }
    rows: list[dict[str, Any]] = [
        {
            **base,
            "answer": "Alder, then Birch.",
            "mentioned": True,
            "rank": 1,
            "sentiment": 1.0,
            "rivals": ["Birch", "Nobody"],
        },
        {
            **base,
            "answer": "Birch, ALDER.",
            "mentioned": True,
            "rank": 2,
            "sentiment": 0.0,
            "rivals": ["birch ", "Alder"],
        },
        {**base, "answer": "Birch.", "mentioned": True, "rank": 1, "sentiment": -1.0, "rivals": ["Birch"]},
        {**base, "answer": ""},
        {**base, "domain": "alder.example", "answer": "", "text": "We are Alder."},
        {**base, "domain": "news.example", "answer": "", "text": "Nothing of it."},
        {**base, "domain": "gone.example", "answer": "", "unreachable": "gone"},
    ]
    made = audit.scored(rows)
    assert made.visibility == pytest.approx(100 * (1 + 0.75 + 0 + 0) / 4, abs=0.1)
    assert made.sentiment == 0.5
    assert made.citations == pytest.approx(100 * (0.75 + 0.75 + 0) / 3, abs=0.1)
    assert made.share_of_voice == pytest.approx(100 * 2 / (2 + 3), abs=0.1)
    assert made.score == pytest.approx(0.4 * 43.8 + 0.2 * 75 + 0.2 * 50 + 0.2 * 40, abs=0.1)
    assert (made.responses, made.mentions) == (4, 2)
    assert [each.own for each in made.sources] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("See https://www.Example.org/a?b#c, and lab.example.", ["example.org", "lab.example"]),
        ("([x](https://a.example/p(1)))", ["a.example"]),
        ("http://a.example:8080/x http://a.example:80/", ["a.example:8080", "a.example"]),
        ("me@mail.example wrote setup.py, readme.md and v1.2.3 e.g. now", []),
        ("As Daily-Ledger.example says, and DAILY-LEDGER.example again", ["daily-ledger.example"]),
        ("http://[::1/ https:// http://user:pass@/ //", []),
        ("a." * 50_000, []),
    ],
)
def test_cited_domains_are_found_in_the_text(text: str, found: list[str]) -> None:
    """Addresses and bare domains, each once; at once, whatever is there."""
    assert domains(text) == found


def test_from_python(tmp_path: Path) -> None:
    """A function, sync and async, with rows in and a typed result out."""
    rows = [{"brand": "Alder", "product": "kettles"}]
    made = audit.audit(rows, assistants=["sim:"], queries=3, store=tmp_path / "s.db")
    assert (made.successful, made.failed, len(made.brands)) == (3, 0, 1)
    again = asyncio.run(audit.aaudit(rows, assistants=["sim:"], queries=3, store=tmp_path / "s.db"))
    assert again.brands == made.brands
    with pytest.raises(hr.UsageError):
        audit.audit(rows)
    with pytest.raises(hr.UsageError, match="twice"):
        audit.audit(rows, assistants=["sim:", "sim:"])


@pytest.mark.parametrize(
    ("table", "given", "status", "said"),
    [
        ("", None, 2, "empty"),
        ("brand,product\n", None, 2, "no rows"),
        ("name\nAlder\n", None, 2, "product"),
        ("brand,product\nAlder,kettles\n", "", 2, "no responses"),
        ("brand,product\nAlder,kettles\n", "{broken\n", 2, "cannot be read"),
        ("brand,product\nAlder,kettles\n", "[1]\n", 2, "no object"),
        ("brand,product\nAlder,kettles\n", '{"brand": "Alder"}\n', 2, "response 1"),
        ("brand,product\nAlder,kettles\n", '{"brand": "Other", "response": "x"}\n', 0, "0 brands scored"),
        ('brand,product\n"A(l{d}er* \U0001f525 </b>",kettles\n', '{"brand": "a(l{d}er* \U0001f525  </b>", "response": null}\n', 0, "1 brand scored"),
        ('brand,product\n"A(l{d}er* \U0001f525 </b>",kettles\n', '{"brand": "a(l{d}er* \U0001f525  </b>", "response": ""}\n', 0, "1 brand scored"),
    ],
)  # fmt: skip
def test_the_worst_tables(table: str, given: str | None, status: int, said: str, cli: Cli) -> None:
    """Empty, without columns, of odd names, with broken responses: a result or one sentence."""
    cli.file("b.csv", table)
    more: tuple[str, ...] = ()
    if given is not None:
        cli.file("r.jsonl", given)
        more = ("--responses", "r.jsonl")
    ended = fine(cli.run("audit", "b.csv", "--model", "sim:", *more), status)
    assert said in ended.err
    if status == 2:
        assert len(ended.error) < 500


@needs_chromium
def test_the_dashboard_shows_scores_and_runs_nothing(chromium: Browser, tmp_path: Path) -> None:
    """In a real browser: scores, rivals and sites are there as text, whatever a brand, an answer or a model says."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-none")
    table = brands(cli, f"Alder {NASTY}", "Birch")
    given = responses(
        cli, *({"brand": f"Alder {NASTY}", "response": f"Alder {NASTY} beats Birch {NASTY} {n}", "model": NASTY} for n in range(3)),
        {"brand": "Birch", "response": "Birch"},
    )  # fmt: skip
    with endpoint(lambda _asked: answered(rivals=[NASTY[:60]])) as there:
        fine(
            cli.run(
                "audit",
                table,
                "--responses",
                given,
                "--model",
                "openai:m",
                "--base-url",
                there.url,
                "--report",
                "r.html",
            )
        )
    for width in (390, 1280):
        page = chromium.page()
        page.look(width, 900)
        page.open(tmp_path / "r.html")
        assert (page.dialogs, page.requests, page.complaints) == ([], [], [])
        assert page.value("document.querySelectorAll('img').length") == 0
        assert page.value("document.scripts.length") == 1
        assert page.value("document.querySelector('h1').textContent") == "Visibility of brands"
        said = page.value("document.querySelector('#own-1').textContent")
        assert "4 successful, 0 failed" in said
        assert "share of voice" in said
        assert page.value("document.querySelectorAll('#own-1 svg.share').length") == 2
        assert "<script>alert(1)</script>" in page.value("document.querySelector('#own-2').textContent")
        assert page.value("document.documentElement.scrollWidth - window.innerWidth") <= 0
