"""Sections that a program adds to a page: plain values in, markup out that holds them as text."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace as hr

WORDS = st.text(max_size=30) | st.sampled_from(
    ["<script>x</script>", '" onload="x', "]]>", "</td></table>", "\u202e\x1b["]
)
KNOWN = {
    "div", "p", "h3", "header", "blockquote", "dl", "dt", "dd", "ul", "li", "table", "thead", "tbody", "tr", "th", "td",
    "colgroup", "col", "svg", "rect", "title", "span", "details", "summary",
}  # fmt: skip


class Read(HTMLParser):
    """What a browser would make of it: elements, attributes, and whether each that is opened is closed."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "col":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@given(
    WORDS,
    st.lists(WORDS, max_size=3),
    st.dictionaries(WORDS, st.integers(0, 50), max_size=4),
    st.lists(
        st.dictionaries(WORDS, WORDS | st.integers() | st.none() | st.lists(WORDS, max_size=2), max_size=3), max_size=3
    ),
)
def test_no_text_becomes_markup(
    text: str, texts: list[str], counts: dict[str, int], rows: list[dict[str, Any]]
) -> None:
    """Whatever it is given, a section has known elements alone, all closed, and no attribute that does anything."""
    section = hr.Section(text, text).quote(text, text).points(texts).figures(counts).bars(text, counts)
    section.shares(text, {text: counts}, bad=texts, faint=texts).table(rows, text)
    read = Read(section.html)
    assert read.tags <= KNOWN
    assert not any(name.startswith("on") or name in ("href", "src", "style") for name in read.attributes)
    assert not read.open


def test_its_parts_stand_in_the_order_in_which_they_were_added() -> None:
    """One after the other, cards of bars side by side."""
    section = hr.Section("T", "one").bars("B", {"b": 2}).bars("C", {"c": 1}).text("two").table([{"n": 3, "t": "x"}])
    assert re.findall(r"one|<h3>[BC]|two|>n<", section.html) == ["one", "<h3>B", "<h3>C", "two", ">n<"]
    assert section.html.count('<div class="fields">') == 1


@pytest.mark.parametrize("section", [hr.Section("T"), hr.Section("T").table([]).points([]).figures({})])
def test_what_is_empty_is_nothing(section: hr.Section) -> None:
    """A section without content is left out of the page."""
    assert section.html == ""


def test_long_tables_and_long_texts_are_cut() -> None:
    """A page stays one that opens: a thousand rows, and text behind its beginning."""
    html = hr.Section("T").table([{"text": "long " * 3000}] * 1200).html
    assert html.count("<tr>") == 1001
    assert "200 more." in html
    assert len(html) < 6_000_000
    assert "<details" in html
