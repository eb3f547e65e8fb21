"""The made-up inputs of `examples/`: the files are what their generators make, large and odd enough, and name nobody."""

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import make_audit  # noqa: E402
import make_site  # noqa: E402
import make_tests  # noqa: E402
import make_tweets  # noqa: E402


def rows(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_feed_of_tweets() -> None:
    """T6: 200 tweets as the generator makes them, with ids for people, duplicates, an empty one and foreign scripts."""
    found = rows("tweets.csv")
    assert found == make_tweets.tweets()
    assert len({row["id"] for row in found}) == len(found) == 200
    texts = [row["text"] for row in found]
    assert 15 <= 200 - len(set(texts)) <= 50
    assert "" in texts
    assert any(not text.isascii() for text in texts)
    assert all(re.fullmatch(r"u\d{3}", row["author"]) for row in found)
    assert max(map(len, texts)) <= 280


def test_the_brands_and_their_responses() -> None:
    """A2: 12 brands with 16 responses each, 192 in all; some name the brand, some do not; all domains lead nowhere."""
    brands = rows("brands.csv")
    found = [json.loads(line) for line in (EXAMPLES / "responses.jsonl").read_text("utf-8").splitlines()]
    assert (brands, found) == (make_audit.brands(), make_audit.responses())
    assert (len(brands), len(found)) == (12, 192)
    assert {sum(row["brand_id"] == brand["id"] for row in found) for brand in brands} == {16}
    named = sum(row["brand"] in row["response"] for row in found)
    assert 60 < named < 180
    hosts = {host for row in found for host in re.findall(r"(?:https?|ftp)://([\w.-]+)", row["response"])}
    assert len(hosts) > 10
    assert all(host.endswith(".example") for host in hosts)


class Text(HTMLParser):
    """Whether a page parses, and what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def test_the_documentation_site(tmp_path: Path) -> None:
    """D12: 100 pages and a sitemap; links lead somewhere; one page is very long, one empty; the same seed, the same site."""
    made = make_site.make(tmp_path / "site", address="http://127.0.0.1:8000/")
    assert len(made) == len(list((tmp_path / "site").rglob("*.html"))) == 100
    sitemap = (tmp_path / "site" / "sitemap.xml").read_text("utf-8")
    assert sitemap.count("<loc>http://127.0.0.1:8000/") == 100
    sizes = []
    for page in made:
        path = tmp_path / "site" / page.name
        parser = Text()
        parser.feed(path.read_text("utf-8"))
        sizes.append(path.stat().st_size)
        for link in parser.links:
            assert link.startswith("https://sluicegate.example/") or (path.parent / link.partition("#")[0]).is_file(), (
                link
            )
    assert max(sizes) > 100_000
    assert make_site.make(tmp_path / "again") == made


def test_the_same_seed_makes_the_same_tests(tmp_path: Path) -> None:
    """Q1: the folder of tests can be made anew anywhere, and another seed makes another one."""
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        make_tests.make(tmp_path / name, seed=seed)
    texts = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
