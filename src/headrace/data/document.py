"""What was read of a document: blocks of text in their order. Knows no format and no file."""

import re
from typing import NoReturn

import msgspec

from headrace.core.errors import DocumentError

MOST_LINKS = 200
MOST_TITLE = 300
"""Characters; what is longer is no title."""
READABLE = "HTML, PDF, DOCX, Markdown and plain text can be read."

_SPACE = re.compile(r"\s+")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Block(msgspec.Struct, frozen=True, gc=False):
    """A heading, or a paragraph, list entry or row of a table. Its text has no line breaks."""

    text: str
    level: int = 0
    """Of a heading, from 1; 0 is no heading."""


class Link(msgspec.Struct, frozen=True, gc=False):
    text: str
    url: str


class Document(msgspec.Struct, frozen=True):
    title: str = ""
    blocks: tuple[Block, ...] = ()
    links: tuple[Link, ...] = ()
    language: str = ""
    """As the document says it itself."""
    pages: int | None = None
    """How many it has, where it has pages."""
    unread: str = ""
    """What of it was not read at all, as a sentence."""


def line(text: str) -> str:
    """Text on one line, without characters that nobody sees."""
    return _SPACE.sub(" ", _UNSEEN.sub("", text)).strip()


def blocks_of(texts: list[tuple[str, int]]) -> tuple[Block, ...]:
    """Texts with the levels of headings, on one line each; empty ones are left out."""
    lines = [(line(text), level) for text, level in texts]
    return tuple(Block(text, level) for text, level in lines if text)


def refuse(message: str, hint: str) -> NoReturn:
    raise DocumentError(message, hint=hint)
