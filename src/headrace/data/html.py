"""HTML becomes a document: its main text with headings, title, links. Enter UTF-8 bytes; knows no network.

What is looked at is bounded: scripts and the like are taken out first, then so many bytes are parsed.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from headrace.data.document import MOST_LINKS, MOST_TITLE, Document, Link, blocks_of, line

MOST_PARSED = 2_000_000
"""Bytes. A tree takes some thirty times as much memory, and a second for two million."""
_FULL = 500_000
"""Bytes up to which a second method is tried where the first finds little."""
_LEAST = 200
"""Characters: a page with less text than this has no main text to be told from the rest."""
_DEEPEST = 200
"""Elements within each other: far more than any page needs, and what recursive code can walk."""
_NO_TEXT = re.compile(rb"<!--|<(script|style|svg|noscript|template|iframe|canvas)(?=[\s/>])")
_TO_THE_END = {b"<!--", b"<script", b"<style"}
"""Where they are not closed, nothing after them is shown."""
_BLOCKS = {"head", "p", "item", "list", "table", "row", "quote"}
_INLINE = {
    "a",
    "b",
    "i",
    "em",
    "strong",
    "span",
    "code",
    "sup",
    "sub",
    "small",
    "abbr",
    "mark",
    "q",
    "u",
    "font",
    "time",
}


def read_html(data: bytes, url: str = "") -> Document:
    """A page; `url` is where it is from, for its links."""
    from lxml import etree  # noqa: PLC0415 - an extra
    from lxml import html as tags  # noqa: PLC0415 - as above

    seen = _shown(data)
    unread = ""
    if len(seen) > MOST_PARSED:
        unread = f"Of {len(seen):,} bytes of HTML the first {MOST_PARSED:,} were read."
        seen = seen[:MOST_PARSED].decode("utf-8", "ignore").encode()
    try:
        tree = tags.document_fromstring(seen, parser=tags.HTMLParser(encoding="utf-8", remove_comments=True))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):  # nothing in it
        return Document(unread=unread)
    _flatten(tree)
    links = tuple(_links(tree, url))
    title, language = (
        _title(tree),
        line(tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or ""),
    )
    texts = list(_main(tree, fast=len(seen) > _FULL))
    if sum(len(text) for text, level in texts if not level) < _LEAST:
        everything = list(_all(tree))
        if sum(len(text) for text, _ in everything) > 2 * sum(len(text) for text, _ in texts):
            texts = everything
    return Document(title, blocks_of(texts), links, language=language[:35], unread=unread)


def _shown(data: bytes) -> bytes:
    """Without what is not shown as text. One way through, whatever is left open."""
    lower, parts, at = data.lower(), [], 0
    never: set[bytes] = set()
    look = 0
    while found := _NO_TEXT.search(lower, look):
        close = b"</" + found[1] if found[1] else b"-->"
        end = -1 if close in never else lower.find(close, found.end())
        if end < 0 and found[0] not in _TO_THE_END:
            never.add(close)
            look = found.end()
            continue
        parts.append(data[at : found.start()])
        at = lower.find(b">", end) + 1 if end >= 0 else 0
        if at == 0:
            return b" ".join(parts)
        look = at
    return b" ".join([*parts, data[at:]])


def _flatten(tree: Any) -> None:
    """Cut what lies too deep: its text is kept in the element that it lies in."""
    from lxml import etree  # noqa: PLC0415 - an extra

    depth, deep = 0, []
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if event == "start" and depth == _DEEPEST:
            deep.append(element)
    for element in deep:
        text = " ".join(element.itertext())
        tail = element.tail
        for child in list(element):
            element.remove(child)
        element.text, element.tail = text, tail


def _title(tree: Any) -> str:
    """The page's main heading where there is just one, else what it calls itself."""
    headings = [line(each.text_content()) for each in tree.iter("h1")]
    named = [line(each.get("content") or "") for each in tree.iter("meta") if each.get("property") == "og:title"]
    titles = [line(each.text_content()) for each in tree.iter("title")]
    found = [*(headings if len(headings) == 1 else []), *named, *titles[:1], *headings]
    return next((text for text in found if 0 < len(text) <= MOST_TITLE), "")


def _links(tree: Any, url: str) -> Iterator[Link]:
    seen: set[str] = set()
    for element in tree.iter("a"):
        try:
            target = urljoin(url, (element.get("href") or "").strip())
            scheme = urlsplit(target).scheme
        except ValueError:
            continue
        text = line(element.text_content())
        if scheme in ("http", "https", "") and target and not target.startswith("#") and text and target not in seen:
            seen.add(target)
            yield Link(text[:MOST_TITLE], target)
        if len(seen) == MOST_LINKS:
            return


def _main(tree: Any, *, fast: bool) -> Iterator[tuple[str, int]]:
    import copy  # noqa: PLC0415 - with the library below
    import logging  # noqa: PLC0415 - as above

    import trafilatura  # noqa: PLC0415 - an extra, and slow to import

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # what it finds nothing in is no news
    found = trafilatura.bare_extraction(
        copy.deepcopy(tree), fast=fast, include_comments=False, include_tables=True, include_links=False
    )
    body = getattr(found, "body", None)
    for element in body.iter("head", "p", "item", "row", "quote", "code") if body is not None else ():
        if next(element.iterancestors("row"), None) is not None or _is_inline(element):
            continue
        rend = element.get("rend") or ""
        level = (int(rend[1:]) if rend[1:].isdigit() else 2) if element.tag == "head" else 0
        if element.tag == "row":
            yield " | ".join(line(" ".join(cell.itertext())) for cell in element.iter("cell")), 0
        else:
            yield _own(element), level


def _is_inline(element: Any) -> bool:
    return element.tag == "code" and element.getparent().tag not in ("body", "quote")


def _own(element: Any) -> str:
    """The text of an element without that of the blocks in it, which are told by themselves."""
    parts = [element.text or ""]
    for child in element:
        apart = child.tag in _BLOCKS
        parts += [
            "" if apart else "".join(child.itertext()),
            " " if apart or child.tag == "lb" else "",
            child.tail or "",
        ]
    return "".join(parts)


def _all(tree: Any) -> Iterator[tuple[str, int]]:
    """Every text of a page in its order, for what has no main text."""
    body = tree.find("body")
    for element in (body if body is not None else tree).iter():
        if not isinstance(element.tag, str) or element.tag in _INLINE or element.tag in ("title", "head"):
            continue
        level = int(element.tag[1]) if re.fullmatch("h[1-6]", element.tag) else 0
        parts = [element.text or ""]
        for child in element:
            if child.tag in _INLINE:
                parts.append("".join(child.itertext()))
            parts.append(child.tail or "")
        yield " ".join(parts), level
