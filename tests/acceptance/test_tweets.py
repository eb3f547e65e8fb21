"""`headrace tweets` as a user runs it: screening, choice, deep dives, deadlines, feeds, failures, the page."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.browser import NASTY, Browser, needs_chromium
from acceptance.cli import Cli, fine
from acceptance.endpoint import Answer, Asked, completion, endpoint
from headrace.apps import tweets
from simulator import simulator

FEED = Path(__file__).parents[2] / "examples" / "tweets.csv"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def feed(count: int, *, distinct: int | None = None) -> list[dict[str, str]]:
    return [{"id": f"t{n}", "author": f"u{n % 7}", "text": f"tweet {n % (distinct or count)}"} for n in range(count)]


def dives(events: list[Any]) -> Any:
    """What was told of the end of the second question's stage."""
    return next(e for e in events if type(e).__name__ == "StageEnded" and e.stage == "deep dive")


def test_the_example_is_screened_and_the_best_are_looked_at(cli: Cli) -> None:
    """T1, T3: all are screened, three go on; the empty tweet is a record with its own row."""
    ended = fine(cli.run("tweets", str(FEED), "--model", "sim:", "--key", "id"), 1)
    rows = ended.rows
    failed = [row for row in rows if row["error"]]
    assert (len(rows), len(failed)) == (4, 1)
    assert failed[0]["author"].startswith("u")
    for row in rows:
        if not row["error"]:
            assert row["sentiment"] in ("negative", "neutral", "positive")
            assert row["risk"] in ("low", "medium", "high")
            assert row["reply"]
    assert "199 tweets screened" in ended.err


@pytest.mark.parametrize("top", [1, 5, 10])
def test_how_many_go_on_is_a_setting(top: int, tmp_path: Path) -> None:
    """T1: as many as are asked for, the best first, and none that is worse than one that was left."""
    scan = tweets.scan(feed(40), model="sim:", top=top, store=tmp_path / "s.db")
    assert len(scan.picks) == top
    scores = [pick.score for pick in scan.picks]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= max(score for score, _ in scan.others)
    assert scan.screened == 40
    assert not scan.partial


def test_all_picks_are_looked_at_at_once(tmp_path: Path) -> None:
    """T2: five deep dives take as long as the slowest of them, not as their sum."""
    events: list[Any] = []
    scan = tweets.scan(
        feed(20), model="sim:latency=0.4", top=5, limits=hr.Limits(20), store=tmp_path / "s.db", on_event=events.append
    )
    assert len(scan.picks) == 5
    assert 0.4 <= dives(events).seconds < 1.2, "one after the other it is 2 s"


def test_what_fails_is_a_record_with_its_own_data(tmp_path: Path) -> None:
    """T3: failures of either question keep the row that they were of; nothing is lost, nothing escapes."""

    def answer(asked: Asked) -> Answer:
        text = asked.body["messages"][-1]["content"]
        if text == "tweet 3" or (text == "tweet 5" and "look closely" in asked.body["messages"][0]["content"]):
            return 400, json.dumps({"error": {"message": "no such luck"}})
        return screening(relevance=int(text.split()[1])) if "Judge" in asked.body["messages"][0]["content"] else dive()

    with endpoint(answer) as there:
        model = hr.Model("openai:m", base_url=there.url)
        scan = tweets.scan(feed(6), model=model, key="id", top=2, store=tmp_path / "s.db")
    failed = {outcome.key: outcome for outcome in scan.failed}
    assert set(failed) == {"t3", "t5"}
    assert failed["t3"].item == {"id": "t3", "author": "u3", "text": "tweet 3"}
    assert (failed["t5"].stage, failed["t5"].item["sentiment"]) == ("deep dive", "neutral")
    assert [pick.key for pick in scan.picks] == ["t4"]
    assert scan.screened == 5


def test_a_long_feed_is_read_as_far_as_it_is_worked_on(tmp_path: Path) -> None:
    """T4: neither memory nor the provider's load grows with the feed."""
    read = ended = most_ahead = 0

    async def long() -> AsyncIterator[dict[str, str]]:
        nonlocal read, most_ahead
        for row in feed(4000):
            read += 1
            most_ahead = max(most_ahead, read - ended)
            yield row

    def heard(event: Any) -> None:
        nonlocal ended
        ended += len(getattr(event, "outcomes", ()))

    scan = asyncio.run(
        tweets.ascan(long(), model="sim:", limits=hr.Limits(5), store=tmp_path / "s.db", name="long", on_event=heard)
    )
    assert (scan.screened, len(scan.picks)) == (4000, 3)
    assert most_ahead < 1500


def test_refusals_are_waited_out(cli: Cli) -> None:
    """T5: calls that are refused for their rate, or fail in passing, are tried again with growing waits."""
    with simulator("--faults", "500=0.05", "--limit", "requests=60/1", "--latency", "0.01") as provider:
        ended = fine(cli.run("tweets", str(FEED), "--model", "openai:m", "--base-url", provider.url, "--key", "id"), 1)
        books = provider.ledger()
    assert books["by_status"]["429"] >= 1
    assert books["by_status"]["500"] >= 1
    assert Counter(bool(row["error"]) for row in ended.rows) == {False: 3, True: 1}


def test_duplicates_are_asked_about_and_chosen_once(tmp_path: Path) -> None:
    """T6: sixty tweets with twelve texts are twelve questions; the picks are different tweets."""
    with simulator("--latency", "0.05") as provider:
        model = hr.Model("openai:m", base_url=provider.url)
        scan = tweets.scan(feed(60, distinct=12), model=model, key="id", store=tmp_path / "s.db")
        assert provider.ledger()["paid"] == 12 + 3
    assert scan.screened == 60
    assert len({pick.tweet["text"] for pick in scan.picks}) == 3
    assert all(int(pick.key[1:]) < 12 for pick in scan.picks), "the first of its kind"


def test_a_feed_without_end_gives_results_as_they_complete(cli: Cli) -> None:
    """T7, T8: while standard input stays open, each window's best are on standard output, and stages are announced."""
    words = ("tweets", "-", "--model", "sim:", "--window", "0.5", "--top", "2", "--key", "id")
    with cli.start(*words) as child:
        for start in (0, 30):
            child.write("".join(json.dumps(row) + "\n" for row in feed(60)[start : start + 30]))
            first, second = json.loads(child.line()), json.loads(child.line())
            assert {first["error"], second["error"]} == {None}
            assert start <= int(first["id"][1:]) < start + 30
        child.told("deep dive begins with 2 items")
        ended = child.end()
    fine(ended)
    assert ended.out == ""
    assert "60 tweets screened" in ended.err


def test_a_finite_standard_input_needs_no_window(cli: Cli) -> None:
    """A file that is piped in ends before its window: its best are the best of all."""
    there = fine(cli.run("tweets", "-", "--model", "sim:", "--key", "id", stdin=FEED.read_bytes()), 1)
    file = fine(cli.run("tweets", str(FEED), "--model", "sim:", "--key", "id"), 1)
    assert {row["id"] for row in there.rows} == {row["id"] for row in file.rows}


def test_phases_are_announced_with_their_count(cli: Cli) -> None:
    """T8: in the log, and for programs as events."""
    cli.file("feed.jsonl", "".join(json.dumps(row) + "\n" for row in feed(25)))
    words = ("tweets", "feed.jsonl", "--model", "sim:latency=0.3", "--concurrency", "25")
    told = fine(cli.run(*words, "--top", "4")).err
    assert "25 items of " in told
    assert "25 calls at a time" in told
    assert "screen begins with 25 items" in told
    assert "deep dive begins with 4 items" in told
    assert "top begins" not in told
    events = [json.loads(line) for line in fine(cli.run(*words, "--top", "4", "--json")).err.splitlines()]
    stages = [(event["stage"], event["items"]) for event in events if event["event"] == "stage"]
    assert ("deep dive", 4) in stages


def test_a_terminal_is_told_of_rows_that_there_are(cli: Cli) -> None:
    """What was taken out of the feed is no row: of 200 tweets there are as many rows as were looked at, and the one that
    failed."""
    with cli.terminal("tweets", str(FEED), "--model", "sim:", "--key", "id", "--top", "12") as terminal:
        assert terminal.end() == 1
    assert b"The first 10 of 13 rows." in terminal.shown


def test_a_deadline_gives_what_is_done_marked_partial(cli: Cli) -> None:
    """T9: at half the deadline the best so far are chosen, looked at, and there in time; the rerun pays for the rest."""
    cli.file("feed.jsonl", "".join(json.dumps(row) + "\n" for row in feed(150)))
    with simulator("--latency", "0.5") as provider:
        words = (
            "tweets", "feed.jsonl", "--model", "openai:m", "--base-url", provider.url, "--concurrency", "10", "--key",
            "id", "--report", "r.html",
        )  # fmt: skip
        start = time.monotonic()
        ended = fine(cli.run(*words, "--deadline", "4"), 1)
        assert time.monotonic() - start < 8
        assert len(ended.rows) == 3
        assert "A partial result." in ended.err
        assert " tweets were not screened in time." in ended.err
        assert "This is a partial result." in (cli.folder / "r.html").read_text()
        assert "was not written" not in ended.err
        paid = provider.ledger()["paid"]
        assert paid < 120
        rest = fine(cli.run(*words))
        assert "150 tweets screened" in rest.err
        assert provider.ledger()["paid"] <= 150 + 6 + 10  # what the deadline took off the wire is asked again
        assert "This is a partial result." not in (cli.folder / "r.html").read_text()


def test_a_scan_that_is_killed_goes_on(cli: Cli) -> None:
    """T9: started in the background and killed with -9, the same command goes on; at most what was in flight is repeated."""
    cli.file("feed.jsonl", "".join(json.dumps(row) + "\n" for row in feed(120)))
    with simulator("--latency", "0.1") as provider:
        words = (
            "tweets", "feed.jsonl", "--model", "openai:m", "--base-url", provider.url, "--concurrency", "8", "--key", "id",
        )  # fmt: skip
        with cli.start(*words) as child:
            child.until(lambda: provider.ledger(items=False)["paid"] >= 30)
            child.signal(signal.SIGKILL)
            child.process.wait(30)
        ended = fine(cli.run(*words))
        assert len(ended.rows) == 3
        assert 123 <= provider.ledger()["paid"] <= 123 + 2 * 8


def test_systemic_failure_stops_early_and_says_why(cli: Cli) -> None:
    """T10: half of the tweets failing is no matter of single tweets; nor is a quota that is gone."""
    rows = "".join(json.dumps({"text": f"t{n}" if n % 4 == 0 else ""}) + "\n" for n in range(4000))
    cli.file("feed.jsonl", rows)
    with simulator() as provider:
        ended = cli.run("tweets", "feed.jsonl", "--model", "openai:m", "--base-url", provider.url)
        assert provider.ledger()["paid"] < 900
    assert ended.status == 3
    assert "more than the 50% that are allowed" in ended.error
    with simulator("--faults", "quota=1") as provider:
        ended = cli.run("tweets", str(FEED), "--model", "openai:m", "--base-url", provider.url)
        assert ended.status == 3
        assert provider.ledger()["requests"] < 100, "the rest of the list is not burnt"
    with pytest.raises(hr.CallError):
        tweets.scan(feed(50), model="sim:quota=1", store=cli.folder / "p.db")


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("empty.csv", b"id,text\n", 2, "has a header but no rows"),
        ("one.csv", "id,text\nt1,\U0001f525 \u706b\u4e8b \u202e\x07 \U0001f468\u200d\U0001f469\u200d\U0001f467\n".encode(), 0, "1 tweets"),
        ("long.csv", b"id,text\nt1," + b"very " * 20_000 + b"long\n", 0, "1 tweets screened"),
        ("other.csv", b"id,tweet\nt1,hello\n", 2, "text"),
        ("binary.csv", bytes(range(256)) * 40, 2, ""),
        ("nothing.jsonl", b"", None, ""),
    ],
)  # fmt: skip
def test_the_worst_feeds(name: str, content: bytes, status: int | None, said: str, cli: Cli) -> None:
    """Empty, of one tweet, of emoji, very long, without the column, binary: a result or one sentence."""
    cli.file(name, content)
    ended = cli.run("tweets", name, "--model", "sim:", "--report", "r.html")
    assert "Traceback" not in ended.err
    assert ended.status == status if status is not None else ended.status in {0, 2}
    assert said in ended.err
    if ended.status == 2:
        assert len(ended.error) < 500


def test_words_that_cannot_work_are_told_before_any_call(cli: Cli) -> None:
    """A sentence each, status 2."""
    for words, said in (
        (("--top", "0"), "The best 0 items are none."),
        (("--window", "-1"), "Within -1.0 s"),
        (("--text", "a{b"), "cannot be asked about"),
        (("--report", "r.pdf"), "a report is a page"),
    ):
        assert said in fine(cli.run("tweets", str(FEED), "--model", "sim:", *words), 2).error
    assert "--model" in fine(cli.run("tweets", str(FEED)), 2).error


def test_the_pipeline_is_a_value(tmp_path: Path) -> None:
    """It can be streamed, written as JSON, and read again: it is the same pipeline."""
    made = tweets.pipeline("sim:", top=2, within=5)
    assert hr.Pipeline.from_dict(made.to_dict()) == made

    async def first() -> str:
        async for outcome in hr.stream(made, feed(10), key="id", name="mine", store=tmp_path / "s.db"):
            return outcome.key
        return ""

    assert asyncio.run(first()).startswith("t")


def screening(**more: Any) -> Answer:
    said = {"relevance": 5, "sentiment": "neutral", "claim": True, "urgency": 5, **more}
    return completion(json.dumps(said))


def dive(text: str = "what there is to know") -> Answer:
    said = {"context": text, "claims": [text[:120]], "stance": "unclear", "risk": "high", "reply": text}
    return completion(json.dumps(said))


@needs_chromium
def test_the_page_shows_the_picks_and_runs_nothing_of_them(chromium: Browser, tmp_path: Path) -> None:
    """In a real browser: tweets, verdicts and replies are there as text, whatever a tweet or a model writes."""
    cli = Cli(tmp_path, OPENAI_API_KEY="sk-none")
    rows = [{"id": f"{NASTY} {n}", "text": f"{NASTY} {n}", NASTY: NASTY} for n in range(5)]
    cli.file("feed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def answer(asked: Asked) -> Answer:
        return screening() if "Judge" in asked.body["messages"][0]["content"] else dive(NASTY)

    with endpoint(answer) as there:
        fine(cli.run("tweets", "feed.jsonl", "--model", "openai:m", "--base-url", there.url, "--report", "r.html"))
    for width in (390, 1280):
        page = chromium.page()
        page.look(width, 900)
        page.open(tmp_path / "r.html")
        assert (page.dialogs, page.requests, page.complaints) == ([], [], [])
        assert page.value("document.querySelectorAll('img').length") == 0
        assert page.value("document.scripts.length") == 1
        assert page.value("document.querySelector('h1').textContent") == "Tweets worth a closer look"
        assert page.value("document.querySelectorAll('blockquote').length") == 3
        said = page.value("document.querySelector('#own-1').textContent")
        assert said.count("<script>alert(1)</script>") > 9
        assert "suggested reply" in said
        assert "Sentiment" in page.value("document.querySelector('#own-2 table.bars').closest('.field').textContent")
        assert page.value("document.documentElement.scrollWidth - window.innerWidth") <= 0
