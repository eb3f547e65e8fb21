"""The pages of the documentation: what they show is typed into an empty folder, in order, and does what they say."""

import re
from pathlib import Path

import pytest

from acceptance.tour import FENCE, ROOT, Reader, blocks

DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("*.md"))]
SHOWN = {"console", "text", "toml", "json"}
"""Fences that are not run: commands that need a key or a server, and what is shown."""


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.kind in ("sh", "python") for b in blocks(page))], ids=name
)
def test_every_block_of_a_page(page: Path, tmp_path: Path) -> None:
    """Each `sh` and `python` block ends with the status it names, or 0, and shows what the `text` block after it has."""
    assert Reader(tmp_path).follows(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_goes_unseen(page: Path) -> None:
    """Every fence is of a kind that is run or known to be only shown; what is run asks nobody but `sim:`."""
    text = page.read_text("utf-8")
    found = list(blocks(page))
    assert {block.kind for block in found} <= SHOWN | {"sh", "python"}
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(FENCE.findall(text))
    for block in found:
        if block.kind in ("sh", "python"):
            assert not re.search(r"openai:|anthropic:|\blocal\b(?! pull)", block.text), (
                f"{page.name}, line {block.line}"
            )
