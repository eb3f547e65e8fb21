"""The report in a real browser: what it shows, what it does, and what foreign text in it cannot do."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from acceptance.browser import Browser, Page, needs_chromium
from acceptance.cli import Cli

pytestmark = needs_chromium

SIZES = {"phone": (390, 844), "laptop": (1280, 800), "wide": (1920, 1080)}
NASTY = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style></title></textarea><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" style="position:fixed;inset:0" x="',
    "' onclick='alert(1)' autofocus onfocus='alert(1)",
    "--><svg onload=alert(1)><a href=javascript:alert(1)>click</a>",
    "javascript:alert(1) https://evil.example/?q=1",
    "{{style}} {{script}} {{body}}",
    "<base href=//evil.example><meta http-equiv=refresh content='0;url=//evil.example'><link rel=stylesheet href=//evil.example>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><object data=//evil.example></object>",
    "\u202egnp.exe\u202c \u2066x\u2069 \x1b[31mred\x1b]0;title\x07 \x9b1m",
    "\u200f\u0645\u0631\u062d\u0628\u0627 </table></div></main><h1>mine</h1>",
    "${alert(1)} `alert(1)` \\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pages with hostile text in every place that a user, a table or a model can fill."""
    folder = tmp_path_factory.mktemp("hostile")
    cli = Cli(folder)

    def answer(row: dict[str, str]) -> Any:
        number = int(row["id"])
        text = NASTY[number % len(NASTY)]
        if number % 3 == 2:
            raise ValueError(text)
        return {"label": text, text: text, "list": [text, text], "deep": {text: {text: [{text: text}]}}, "n": number}

    rows = [{"id": str(i), "text": text, text: text} for i, text in enumerate(NASTY * 3)]
    run = hr.run(answer, rows, name=f"{NASTY[0]} {NASTY[3]}", store=folder / "s.db")
    assert (run.ok, run.failed) == (26, 13)
    made = cli.run("runs", "report", run.id, "--store", "s.db", "-o", "function.html")
    assert made.status == 0, made.err

    properties = {text: {"enum": [text, "plain"], "description": text} for text in NASTY}
    cli.file("schema.json", json.dumps({"type": "object", "properties": properties, "required": NASTY}))
    cli.file("prompt.txt", "\n".join(text.replace("{", "{{").replace("}", "}}") for text in NASTY) + "{text}")
    cli.file("rows.jsonl", "".join(json.dumps({"text": text, text: text}) + "\n" for text in NASTY))
    made = cli.run(
        "run", "rows.jsonl", "--ask", "@prompt.txt", "--system", "@prompt.txt", "--returns", "schema.json", "--model",
        "sim:", "--name", NASTY[1], "--param", f"note={NASTY[2]}", "-o", "o.jsonl", "--report", "ask.html",
    )  # fmt: skip
    assert made.status == 0, made.err
    return [folder / "function.html", folder / "ask.html"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 150 items with all kinds of fields, some of which fail."""
    folder = tmp_path_factory.mktemp("plain")

    def answer(row: dict[str, Any]) -> Any:
        number = row["id"]
        if number % 25 == 7:
            raise ValueError(f"item {number} cannot be read")
        return {
            "mood": ("calm", "angry", "bored")[number % 3],
            "score": number / 150,
            "stars": 1 + number % 5,
            "tags": ["odd"] if number % 2 else ["even", "round"],
            "when": f"2026-{1 + number % 12:02}-01",
            "author": {"age": 20 + number % 40},
            "why": None if number % 10 == 0 else f"because of {number}, " + "and so on, " * (number % 30),
        }

    run = hr.run(answer, [{"id": i, "text": f"item <{i}>"} for i in range(150)], name="plain", store=folder / "s.db")
    assert run.failed == 6
    made = Cli(folder).run("runs", "report", "plain", "--store", "s.db", "-o", "plain.html")
    assert made.status == 0, made.err
    return folder / "plain.html"


def opened(chromium: Browser, path: Path, size: str = "laptop", **how: bool) -> Page:
    """The page as it is looked at."""
    page = chromium.page()
    page.look(*SIZES[size], **how)
    page.open(path)
    return page


def rows_shown(page: Page) -> list[str]:
    """The keys of the rows that are seen."""
    shown: list[str] = page.value(
        "Array.from(document.querySelectorAll('#rows tbody tr')).filter((row) => !row.hidden)"
        ".map((row) => row.cells[0].textContent)"
    )
    return shown


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_foreign_text_does_nothing(chromium: Browser, hostile: list[Path], size: str, dark: bool) -> None:
    """No script of it runs, nothing is asked for, nothing of the page is broken, at any size, light or dark."""
    for path in hostile:
        page = opened(chromium, path, size, dark=dark)
        # Whatever reacts to being touched is touched.
        page.value(
            "document.querySelectorAll('summary, [role=button], th button').forEach((each) => {"
            "each.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); each.focus && each.focus();"
            "each.dispatchEvent(new MouseEvent('click', {bubbles: true})); })"
        )
        assert page.dialogs == []
        assert page.requests == []
        assert page.complaints == []
        there = page.value(
            "({scripts: document.scripts.length, styles: document.querySelectorAll('style').length,"
            " mains: document.querySelectorAll('body > main').length, titles: document.querySelectorAll('h1').length,"
            " children: document.body.children.length,"
            " foreign: document.querySelectorAll('img, iframe, object, embed, link, base, form, [style], textarea').length,"
            " handlers: Array.from(document.querySelectorAll('*')).filter((each) => Array.from(each.attributes)"
            "   .some((one) => one.name.startsWith('on') || /^\\s*javascript:/i.test(one.value) && one.name === 'href')).length,"
            " links: Array.from(document.links).filter((each) => !each.getAttribute('href').startsWith('#')).length,"
            " wider: document.documentElement.scrollWidth - window.innerWidth, at: location.href})"
        )
        assert there.pop("wider") <= 0
        assert there.pop("at").startswith("file:")
        assert there == {
            "scripts": 1, "styles": 1, "mains": 1, "titles": 1, "children": 2, "foreign": 0, "handlers": 0, "links": 0,
        }  # fmt: skip
        said = page.value("document.body.textContent")
        assert all(text in said for text in NASTY if text.isprintable() and "<title" not in text)
        assert "⟨U+202E⟩gnp.exe" in said


def test_rows_are_searched_sorted_and_paged(chromium: Browser, plain: Path) -> None:
    """Fifty rows at a time; a search finds rows on any page; a column's head sorts, numbers as numbers."""
    page = opened(chromium, plain)
    assert len(rows_shown(page)) == 50
    page.value("document.querySelector('#pager button:last-child').click()")
    assert page.value("document.querySelector('#pager span').textContent") == "51 to 100 of 150"
    page.value("document.getElementById('filter').focus()")
    page.tell("Input.insertText", text="item <149>")
    assert len(rows_shown(page)) == 1
    assert page.value("document.getElementById('matches').textContent") == "1 of the 150 rows on this page"
    assert page.value("document.getElementById('pager').hidden") is True
    page.value("(() => { const box = document.getElementById('filter'); box.value = '';"
               "box.dispatchEvent(new Event('input')); })()")  # fmt: skip
    for down in (False, True):
        page.value(
            "Array.from(document.querySelectorAll('#rows th button')).find((b) => b.textContent === 'author.age').click()"
        )
        ages = page.value(
            "Array.from(document.querySelectorAll('#rows tbody tr')).map((row) => row.querySelector('[data-name=\"author.age\"]'))"
            ".filter(Boolean).map((cell) => Number(cell.dataset.n))"
        )
        assert len(ages) == 144
        assert ages == sorted(ages, reverse=down)


def test_a_bar_that_is_clicked_shows_its_items(chromium: Browser, plain: Path) -> None:
    """Choices, bins, dates, parts of lists and kinds of failures filter the rows, together too, and by the keyboard."""
    page = opened(chromium, plain)

    def pick(sought: str) -> str:
        return (
            "(() => { const found = Array.from(document.querySelectorAll('[role=button]'))"
            f".find((each) => each.getAttribute('aria-label').startsWith({json.dumps(sought)}));"
            " found.dispatchEvent(new MouseEvent('click', {bubbles: true})); return found.getAttribute('aria-label'); })()"
        )

    def matching() -> int:
        found = re.match(r"\d+", page.value("document.getElementById('matches').textContent") or "150")
        assert found is not None
        return int(found[0])

    for label, count in (
        ("mood: angry", 48), ("stars: 3", 24), ("tags: round", 75), ("when: Mar 2026", 12), ("score: 0.5 to", 5),
    ):  # fmt: skip
        page.value(pick(label))
        shown = matching()
        assert abs(shown - count) <= 4, (label, shown)
        assert page.value("document.querySelectorAll('#chips button').length") == 1
        page.value("document.querySelector('#chips button').click()")
        assert matching() == 150
    page.value(pick("mood: angry"))
    page.value(pick("mood: calm"))
    assert 90 < matching() < 100
    page.value(pick("tags: odd"))
    assert 40 < matching() < 55
    page.value("document.querySelector('[aria-pressed]').focus()")
    page.press("Enter")
    assert 20 < matching() < 30


def test_without_script_all_is_there(chromium: Browser, plain: Path) -> None:
    """All rows are seen, the charts too, and nothing that would need the script."""
    page = opened(chromium, plain, script=False)
    page.look(*SIZES["laptop"], script=True)  # to ask it; the page's own script has not run
    assert len(rows_shown(page)) == 150
    assert page.value("document.getElementById('tools').hidden && document.getElementById('pager').hidden") is True
    assert page.value("document.querySelectorAll('[role=button]').length") == 0
    assert page.value("document.querySelectorAll('.plot').length") > 4
    assert page.value("getComputedStyle(document.querySelector('[data-script]')).display") == "none"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(chromium: Browser, plain: Path, dark: bool) -> None:
    """All colours of text have the contrast that WCAG's level AA asks for."""
    page = opened(chromium, plain, dark=dark)
    colours = page.value(
        "Object.fromEntries(['paper', 'ink', 'soft', 'accent', 'bad', 'wash', 'mark'].map((name) =>"
        " [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()]))"
    )
    assert (luminance(colours["paper"]) < 0.5) is dark
    for ground, texts in (("paper", ("ink", "soft", "accent", "bad")), ("wash", ("ink", "soft")), ("mark", ("ink",))):
        for text in texts:
            light, shade = sorted((luminance(colours[ground]), luminance(colours[text])), reverse=True)
            assert (light + 0.05) / (shade + 0.05) >= 4.5, (ground, text)


def luminance(colour: str) -> float:
    """How bright a colour is, from 0 to 1, as WCAG has it."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_can_be_read_without_being_seen(chromium: Browser, plain: Path) -> None:
    """One heading of the first rank, no rank left out, every chart and table with its words, nothing without a name."""
    page = opened(chromium, plain)
    ranks = page.value("Array.from(document.querySelectorAll('h1, h2, h3')).map((each) => Number(each.tagName[1]))")
    assert ranks.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(ranks))
    assert page.value("document.documentElement.lang") == "en"
    unnamed = page.value(
        "Array.from(document.querySelectorAll('svg')).filter((each) => !each.closest('[aria-hidden]') &&"
        " !each.parentElement.closest('svg') && !each.getAttribute('aria-label')).length +"
        " Array.from(document.querySelectorAll('button, [role=button]')).filter((each) =>"
        " !(each.getAttribute('aria-label') || each.textContent)).length +"
        " Array.from(document.querySelectorAll('table')).filter((each) => !each.querySelector('th')).length"
    )
    assert unnamed == 0


def test_on_paper_it_is_dark_on_white(chromium: Browser, plain: Path) -> None:
    """Printed from a dark screen it is white, without what is only for a screen, and has a few pages."""
    page = opened(chromium, plain, dark=True, paper=True)
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value("getComputedStyle(document.getElementById('filter')).display") == "none"
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20


def test_a_report_of_now_and_one_of_later_are_the_same(tmp_path: Path) -> None:
    """What `run --report` writes, `runs report` writes again from the store, with the course of the run."""
    cli = Cli(tmp_path)
    cli.table("rows.csv", [f"row {i}" for i in range(20)])
    run = ("run", "rows.csv", "--ask", "{text}", "--returns", "label: a|b", "--model", "sim:latency=0.1", "--name", "r")
    assert cli.run(*run, "--concurrency", "4", "--quiet", "-o", "o.csv", "--report", "now.html").status == 0
    assert cli.run("runs", "report", "r", "-o", "later.html").status == 0
    now, later = ((tmp_path / name).read_text("utf-8") for name in ("now.html", "later.html"))
    assert now == later
    assert "Where the time went" in now
    assert cli.run(*run, "--quiet", "-o", "o.csv", "--report", "again.html").status == 0
    again = (tmp_path / "again.html").read_text("utf-8")
    assert "session 1 of 2, the last one that made calls" in again
    assert "Calls in flight, and the limit" in again


def test_a_programs_tables_scroll_on_a_phone_and_break_no_word(chromium: Browser, tmp_path: Path) -> None:
    """A table that is wider than a phone scrolls within its box: words stay whole, the page is no wider than the screen,
    and what is a text has room. A bar has its colour on paper too."""
    rows = [
        {
            "brand": "Brookline",
            "product": "kettles",
            "sentiment": "positive",
            "assistant": "simulated",
            "why": "well " * 8,
        }
    ] * 3
    section = hr.Section("Visibility").table(rows).shares("Named", {"Brookline": {"named": 2, "not named": 1}})
    hr.run(str.upper, ["a"], store=tmp_path / "s.db").report(tmp_path / "r.html", sections=[section])
    page = opened(chromium, tmp_path / "r.html", "phone")
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    assert page.value("(box => box.scrollWidth > box.clientWidth)(document.querySelector('.told .scroll'))")
    lines = (
        "[...document.querySelectorAll('.told td span')].map(each => [each.textContent, each.getClientRects().length])"
    )
    assert {words.strip(): count for words, count in page.value(lines) if " " not in words} == {
        "Brookline": 1, "kettles": 1, "positive": 1, "simulated": 1,
    }  # fmt: skip
    assert page.value("document.querySelector('.told td.long').clientWidth") >= 150
    page = opened(chromium, tmp_path / "r.html", paper=True)
    bars = "getComputedStyle(document.querySelector('.told .share rect')).printColorAdjust"
    assert page.value(bars) == "exact"
