"""Plain text and Markdown become a document: paragraphs, and in Markdown headings and links. Enters text."""

import re
from collections.abc import Iterator

from headrace.data.document import MOST_LINKS, MOST_TITLE, Document, Link, blocks_of, line

_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-{3,})\s*$")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_ENTRY = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s+")
_LINK = re.compile(r"(?<!!)\[([^\[\]\n]{1,500})\]\(\s*<?(https?://[^\s<>()]{1,2000})>?[^()\n]{0,200}\)")


def read_text(text: str, *, markdown: bool) -> Document:
    rows = text.splitlines()
    texts = list(_markdown(rows) if markdown else _plain(rows))
    blocks = blocks_of(texts)
    title = next((block.text for block in blocks if block.level), "")
    if not markdown and blocks and not title:
        first = rows[next(number for number, row in enumerate(rows) if line(row))]
        title = line(first) if 0 < len(line(first)) <= 100 and len(blocks) > 1 and blocks[0].text == line(first) else ""
        if title:
            blocks = blocks[1:]
    links = tuple(_links(text)) if markdown else ()
    return Document(title if len(title) <= MOST_TITLE else "", blocks, links)


def _plain(rows: list[str]) -> Iterator[tuple[str, int]]:
    held: list[str] = []
    for row in rows:
        if row.strip():
            held.append(row)
        else:
            yield " ".join(held), 0
            held = []
    yield " ".join(held), 0


def _markdown(rows: list[str]) -> Iterator[tuple[str, int]]:
    held: list[str] = []
    fence = ""
    for row in rows:
        mark = _FENCE.match(row)
        if fence or mark:
            if fence and mark and mark[1] == fence:
                fence = ""
            elif not fence and mark:
                fence = mark[1]
            else:
                held.append(row)
            continue
        heading, under = _HEADING.match(row), _UNDERLINE.match(row)
        if heading:
            yield " ".join(held), 0
            held = []
            yield heading[2], len(heading[1])
        elif under and len(held) == 1:
            yield held.pop(), 1 if under[1].startswith("=") else 2
        elif not row.strip() or under:
            yield " ".join(held), 0
            held = []
        else:
            if _ENTRY.match(row):
                yield " ".join(held), 0
                held = []
            held.append(_LINK.sub(r"\1", row))
    yield " ".join(held), 0


def _links(text: str) -> Iterator[Link]:
    seen: set[str] = set()
    for found in _LINK.finditer(text):
        if found[2] not in seen and len(seen) < MOST_LINKS:
            seen.add(found[2])
            yield Link(line(found[1])[:MOST_TITLE], found[2])
