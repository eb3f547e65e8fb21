"""A document's text within a budget: never longer, in order, the parts that matter first."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.document import Block
from headrace.data.excerpt import GAP, excerpt

WORDS = st.text("abcdefgäßжд中0123456789,;'-", min_size=1, max_size=12)
SENTENCES = st.lists(WORDS, min_size=1, max_size=30).map(lambda words: " ".join(words) + ".")
TEXTS = st.lists(SENTENCES, min_size=1, max_size=8).map(" ".join)
BLOCKS = st.lists(st.builds(Block, TEXTS, st.sampled_from([0, 0, 0, 1, 2, 3])), max_size=30)
TITLES = st.lists(WORDS, max_size=6).map(" ".join)


def words_of(text: str) -> list[str]:
    return re.sub(r"(?m)^#+ ", "", text).replace(GAP, " ").split()


@settings(deadline=None, max_examples=60)
@given(TITLES, BLOCKS, st.integers(0, 3000))
def test_it_is_never_longer_than_the_room(title: str, blocks: list[Block], most: int) -> None:
    """Whatever the document is, its text fits; where there is no limit or room enough, nothing is left out."""
    text = excerpt(title, blocks, most)
    whole = excerpt(title, blocks)
    assert most == 0 or len(text) <= most
    assert text == whole if most == 0 or len(whole) <= most else True
    assert GAP not in whole


@settings(deadline=None, max_examples=60)
@given(TITLES, BLOCKS, st.integers(200, 3000))
def test_it_holds_whole_words_in_their_order(title: str, blocks: list[Block], most: int) -> None:
    """The words that are given are words of the document, in the document's order."""
    given_words, all_words = words_of(excerpt(title, blocks, most)), iter(words_of(excerpt(title, blocks)))
    assert all(word in all_words for word in given_words)  # each is looked for behind the one before it


@settings(deadline=None, max_examples=60)
@given(TITLES, BLOCKS, st.integers(300, 3000))
def test_the_title_and_the_lead_are_kept(title: str, blocks: list[Block], most: int) -> None:
    """The title stands first; of the first text the beginning is there."""
    text = excerpt(title, blocks, most)
    assert not title or text.startswith(f"# {title}")
    first = next((block.text for block in blocks if not block.level), None)
    if first is not None:
        assert first.split()[0] in text


@settings(deadline=None, max_examples=60)
@given(TITLES, BLOCKS, st.integers(200, 3000))
def test_what_is_left_out_is_marked_once_for_each_place(title: str, blocks: list[Block], most: int) -> None:
    """A mark stands where something is missing: between any two there is text."""
    text = excerpt(title, blocks, most)
    assert not re.search(r"\[\.\.\.\]\s*\[\.\.\.\]", text)
    assert (GAP in text) == (text != excerpt(title, blocks))


def paper(sections: int = 30) -> list[Block]:
    blocks = [Block("The mill", 1), Block("This is the lead. It says what follows.")]
    for number in range(sections):
        more = f"Sentence of section {number} that nobody needs to read. " * 12
        blocks += [
            Block(f"Part {number}", 2),
            Block(f"Part {number} begins so. {more}".strip()),
            Block(more.strip()),
        ]
    return [*blocks, Block("Conclusions", 2), Block("The mill works. Water is enough.")]


def test_what_matters_comes_first() -> None:
    """Title, lead, all headings, how sections begin, and the conclusions are in a tenth of the text."""
    blocks = paper()
    most = len(excerpt("The mill", blocks)) // 10
    text = excerpt("The mill", blocks, most)
    assert text.startswith("# The mill\n\nThis is the lead. It says what follows.\n\n## Part 0\n\nPart 0 begins so.")
    assert "## Conclusions\n\nThe mill works. Water is enough." in text
    assert all(f"## Part {number}\n" in text for number in range(30))
    assert sum(f"Part {number} begins so." in text for number in range(30)) >= 20
    assert most * 0.9 <= len(text) <= most


def test_a_first_heading_that_is_the_title_is_said_once() -> None:
    """The title is not repeated by the heading that it was taken from."""
    assert excerpt("The mill", paper(0)).count("The mill\n") == 1


def test_a_text_without_spaces_is_cut_where_it_must_be() -> None:
    """A word longer than the room is cut, and put together again without a space."""
    text = "".join(chr(97 + number % 26) for number in range(5000))
    assert excerpt("", [Block(text)]) == text
    cut = excerpt("", [Block(text)], 500)
    assert len(cut) <= 500
    assert text.startswith(cut.removesuffix(f" {GAP}"))
    assert len(cut) > 400


def test_sentences_of_a_script_without_spaces_stay_together() -> None:
    """Sentences that end without a space are joined without one."""
    text = "水车转动。石磨磨面。" * 50
    assert excerpt("", [Block(text)]) == text
    assert text.startswith(excerpt("", [Block(text)], 300).removesuffix(f" {GAP}"))
