"""DOCX becomes a document: paragraphs, headings by their style, tables, links. Enter bytes.

A file that unpacks to far more than it is, is refused before it is unpacked.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from headrace.data.document import MOST_LINKS, MOST_TITLE, Document, Link, blocks_of, line, refuse

MOST_UNPACKED = 64_000_000
"""Bytes of all of its XML: a book has five million. A tree takes some ten times as much memory."""
_BODY = "word/document.xml"
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_TITLES = {"title": 1}
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read_docx(data: bytes) -> Document:
    """Raises DocumentError where there is no text to be had."""
    _look_into(data)
    import docx  # noqa: PLC0415 - an extra
    from docx.opc.exceptions import OpcError  # noqa: PLC0415 - as above
    from lxml import etree  # noqa: PLC0415 - as above

    try:
        document = docx.Document(io.BytesIO(data))
        texts = list(_texts(document))
        links = tuple(_links(document))
        title = line(str(document.core_properties.title or ""))
        language = line(str(document.core_properties.language or ""))[:35]
    except (OpcError, etree.LxmlError, zipfile.BadZipFile, ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError, NotImplementedError) as error:  # fmt: skip
        refuse(
            f"The DOCX is broken ({line(str(error))[:200] or type(error).__name__}).",
            "Open it in an office program and save it anew, or fetch it again.",
        )
    blocks = blocks_of(texts)
    if not blocks:
        refuse("The DOCX has no text.", "There is nothing to read in it; pictures in it are not read.")
    if not title:
        title = next((block.text for block in blocks if block.level == 1), "")
    return Document(title if len(title) <= MOST_TITLE else "", blocks, links, language=language)


def _look_into(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            parts = package.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        refuse("The DOCX is broken: it is no whole package.", "Fetch it again, or save it anew.")
    if any(part.flag_bits & 1 for part in parts):
        refuse("The DOCX is encrypted.", "Save it without a password first.")
    if _BODY not in {part.filename for part in parts}:
        refuse("The DOCX is broken: it holds no text part.", "Open it in an office program and save it anew.")
    unpacked = sum(part.file_size for part in parts if not part.filename.startswith("word/media/"))
    if unpacked > MOST_UNPACKED or len(parts) > 10_000:
        refuse(
            f"The DOCX unpacks to {unpacked:,} bytes; at most {MOST_UNPACKED:,} are read.",
            "Split it, or save it as plain text.",
        )


def _texts(document: Any) -> Iterator[tuple[str, int]]:
    from docx.table import Table  # noqa: PLC0415 - an extra

    levels: dict[str, int] = {}
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            for row in part._tbl.tr_lst:  # noqa: SLF001 - its own cells are slow beyond use in large tables
                cells = (" ".join(_text(each) for each in cell.iter(f"{_W}p")) for cell in row.tc_lst)
                yield " | ".join(text for text in map(line, cells) if text), 0
        else:
            style = part._p.style or ""  # noqa: SLF001 - as above
            if style not in levels:
                levels[style] = _level(part)
            yield _text(part._p), levels[style]  # noqa: SLF001 - as above


def _text(paragraph: Any) -> str:
    """Of all runs, also those in links and changes that were accepted; what was deleted is not there."""
    parts = paragraph.iter(f"{_W}t", f"{_W}tab", f"{_W}br", f"{_W}cr")
    return "".join((each.text or "") if each.tag == f"{_W}t" else " " for each in parts)


def _level(paragraph: Any) -> int:
    name = (paragraph.style.name if paragraph.style is not None else "") or ""
    found = _HEADING.match(name)
    return int(found[1]) if found else _TITLES.get(name.lower(), 0)


def _links(document: Any) -> Iterator[Link]:
    seen: set[str] = set()
    for each in document.element.body.iter(f"{_W}hyperlink"):
        name = each.get("{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id")
        relation = document.part.rels.get(name) if name else None
        if relation is None or not relation.is_external or relation.target_ref in seen or len(seen) == MOST_LINKS:
            continue
        text = line(_text(each))
        if text and relation.target_ref.startswith(("http://", "https://")):
            seen.add(relation.target_ref)
            yield Link(text[:MOST_TITLE], relation.target_ref)
