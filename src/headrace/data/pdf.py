"""PDF becomes a document: its pages' text, its title, and headings where its outline names them. Enter bytes.

What is looked at is bounded: so many pages, and of one page so many bytes of instructions.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

from headrace.data.document import MOST_TITLE, Document, blocks_of, line, refuse

MOST_PAGE = 4_000_000
"""Bytes of one page's instructions, unpacked: a page of text has some ten thousand, and a drawing millions."""
_MOST_OUTLINE = 500
_HYPHEN = re.compile(r"(\w)[-\u00ad]\n(?=[a-zß-öø-ÿ])")
_PARAGRAPH = re.compile(r"\n[ \t]*\n|(?<=[.!?:])\n(?=[A-ZÀ-Þ0-9•\-])")


def read_pdf(data: bytes, *, most_pages: int) -> Document:
    """Raises DocumentError where there is no text to be had: broken, locked, empty, scanned."""
    import logging  # noqa: PLC0415 - with the library below

    import pypdf  # noqa: PLC0415 - an extra

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every small fault that it mends
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        _unlock(reader)
        pages = len(reader.pages)
    except (pypdf.errors.PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError, AssertionError) as error:  # fmt: skip
        refuse(f"The PDF is broken ({_said(error)}).", "Open it in a viewer and save it anew, or fetch it again.")
    if not pages:
        refuse("The PDF has no pages.", "There is nothing to read in it.")
    headings = dict(_outline(reader))
    texts: list[tuple[str, int]] = []
    unread: list[str] = []
    pictures = 0
    for number in range(min(pages, most_pages)):
        text, has_pictures = _page(reader, number, unread)
        pictures += has_pictures
        texts += _paragraphs(text, headings)
    blocks = blocks_of(texts)
    if not blocks:
        _without_text(len(unread), pictures)
    if pages > most_pages:
        unread.append(f"Of {pages:,} pages the first {most_pages:,} were read.")
    return Document(_title(reader), blocks, pages=pages, language=_language(reader), unread=" ".join(unread[:3]))


def _without_text(unread: int, pictures: int) -> None:
    if unread:
        refuse("No page of the PDF can be read.", "Open it in a viewer and save it anew.")
    if pictures:
        refuse(
            "The PDF is scanned: its pages are pictures without text.",
            "Run it through text recognition first (for example ocrmypdf), or ask a model that sees with images=.",
        )
    refuse("The PDF has no text.", "There is nothing to read in it.")


def _unlock(reader: Any) -> None:
    """Many are locked against printing only, and open without a password."""
    from pypdf.errors import DependencyError  # noqa: PLC0415 - an extra

    if not reader.is_encrypted:
        return
    try:
        opened = reader.decrypt("")
    except (DependencyError, NotImplementedError):
        opened = 0
    if not opened:
        refuse("The PDF is encrypted.", "Save it without a password first.")


def _page(reader: Any, number: int, unread: list[str]) -> tuple[str, bool]:
    """Its text, and whether it shows pictures. A page that cannot be read is told and left out."""
    try:
        page = reader.pages[number]
        content = page.get_contents()
        if content is not None and len(content.get_data()) > MOST_PAGE:
            unread.append(f"Page {number + 1} was not read: it is a drawing of many parts.")
            return "", False
        return page.extract_text() or "", _has_pictures(page)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - broken pages raise anything, and the others may be fine
        unread.append(f"Page {number + 1} cannot be read ({_said(error)}).")
        return "", False


def _has_pictures(page: Any) -> bool:
    if "/XObject" not in page.get("/Resources", {}):
        return False
    objects = page["/Resources"]["/XObject"]
    return any(objects[name].get("/Subtype") == "/Image" for name in objects)


def _paragraphs(text: str, headings: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Lines that the outline names are headings; the rest is put together to paragraphs."""
    held: list[str] = []
    for row in _HYPHEN.sub(r"\1", text).split("\n"):
        level = headings.get(line(row).casefold(), 0)
        if level:
            yield from ((part, 0) for part in _PARAGRAPH.split("\n".join(held)))
            held = []
            yield row, level
        else:
            held.append(row)
    yield from ((part, 0) for part in _PARAGRAPH.split("\n".join(held)))


def _outline(reader: Any) -> Iterator[tuple[str, int]]:
    try:
        waiting = [(each, 1) for each in reversed(reader.outline)]
    except Exception:  # noqa: BLE001 - a broken outline is none
        return
    told = 0
    while waiting and told < _MOST_OUTLINE:
        each, level = waiting.pop()
        if isinstance(each, list):
            waiting += [(inner, level + 1) for inner in reversed(each)]
            continue
        told += 1
        title = line(str(getattr(each, "title", "") or ""))
        if title:
            yield title.casefold(), min(6, level + 1)


def _title(reader: Any) -> str:
    try:
        title = line(str(reader.metadata.title or "")) if reader.metadata else ""
    except Exception:  # noqa: BLE001 - a broken entry is none
        return ""
    return title if len(title) <= MOST_TITLE else ""


def _language(reader: Any) -> str:
    try:
        return line(str(reader.trailer["/Root"].get("/Lang", "")))[:35]
    except Exception:  # noqa: BLE001 - as above
        return ""


def _said(error: Exception) -> str:
    return line(str(error))[:200] or type(error).__name__
