"""Extract: what a person asks for of documents, and the task that it becomes. Knows no format and no file."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import Digest, digest_of
from headrace.core.errors import AnswerError, ItemError, UsageError
from headrace.core.item import Item, extended
from headrace.core.outline import outline
from headrace.core.page import Page
from headrace.task.work import check_when

COLUMNS = ("title", "text", "headings", "links", "language", "pages", "unread")
"""What can be known of a document."""
_LEAST_CHARS = 200
NO_PAGE = "There is no page to read."
NO_PAGE_HINT = "Put Fetch before Extract, or name the column with the file's path: Extract(source=...)."

Locate = Callable[[str], tuple[str, bytes]]
"""From what a column holds to where the file lies and the digest of its content, empty where it cannot be read."""


class Extract(msgspec.Struct, frozen=True):
    """Read a document: HTML, PDF, DOCX, Markdown or plain text, in processes of its own.

    `source` is the column with the file's path; without it, it is the page that a Fetch before it brought. `keep` says
    which columns the item gets: title, text, headings (a list), links (a list of text and url), language, pages, unread
    (what of it was not read, in words). The text has at most `max_chars` characters, 0 for all: the title, the lead,
    the headings, how each section begins and the conclusions first, in the document's order, with `[...]` where
    something is left out. Of a PDF the first `max_pages` are read. Of HTML and text the first `max_bytes` are; a
    larger PDF or DOCX is an error. `concurrency` is how many processes read, one on each core where it is not said. `when` and `failure` are as an Ask's.
    """

    source: str = ""
    max_chars: int = 10_000
    keep: tuple[str, ...] = ("title", "text")
    max_pages: int = 500
    max_bytes: int = 100_000_000
    concurrency: int | None = None
    name: str = ""
    when: str | Callable[[Any], Any] = ""
    failure: str = ""

    def __post_init__(self) -> None:
        check_when(self.when)
        given: object = self.keep  # a Struct does not look at what it is given
        if not isinstance(given, tuple | list) or not given or not set(map(str, given)) <= set(COLUMNS):
            raise UsageError(f"A document has no columns {given!r}.", hint=f"Choose from: {', '.join(COLUMNS)}.")
        if self.max_chars != 0 and self.max_chars < _LEAST_CHARS:
            raise UsageError(
                f"{self.max_chars} characters say nothing of a document.",
                hint=f"Give {_LEAST_CHARS} or more, or 0 for all of its text.",
            )
        if self.max_pages < 1 or self.max_bytes < 1:
            raise UsageError("Of a document at least one page and one byte must be read.", hint="Give 1 or more.")

    def __repr__(self) -> str:
        return outline(self)


class ExtractTask:
    """What was read of a document is served again for the same content, wherever it lies."""

    reusable = True
    samples = 1

    def __init__(self, work: Extract, locate: Locate, *, name: str, version: str) -> None:
        """`name` and `version` are those of what reads documents."""
        self._work = work
        self._locate = locate
        asked = [name, version, work.max_chars, list(work.keep), work.max_pages, work.max_bytes]
        self._checked = False
        self._prefix = digest_of({"task": "extract", "asked": asked})
        self.digest: Digest = digest_of({"task": "extract", "asked": asked, "source": work.source})

    def request(self, item: Item, sample: int = 0) -> Request:  # noqa: ARG002 - a document is read once
        given, content = self._of_file(item) if self._work.source else self._of_page(item)
        options = {
            "max_chars": self._work.max_chars, "keep": tuple(self._work.keep), "max_pages": self._work.max_pages,
            "max_bytes": self._work.max_bytes,
        }  # fmt: skip
        return Request(Digest(sha256(self._prefix + content).digest()), item={**given, **options})

    def _of_file(self, item: Item) -> tuple[dict[str, Any], bytes]:
        column = self._work.source
        row = item.data if isinstance(item.data, Mapping) else {"item": item.data}
        if column not in row and not self._checked:
            raise UsageError(
                f"There is no column {column!r} that names documents.", hint=f"The columns are: {', '.join(row)}."
            )
        self._checked = True
        name = row.get(column)
        if not isinstance(name, str) or not name.strip():
            raise ItemError(f"The column {column!r} names no document.", hint="There is nothing to read here.")
        path, digest = self._locate(name.strip())
        return {"path": path}, digest or b"\0where\0" + path.encode("utf-8", "surrogateescape")

    def _of_page(self, item: Item) -> tuple[dict[str, Any], bytes]:
        page = item.page
        if not isinstance(page, Page):
            raise ItemError(NO_PAGE, hint=NO_PAGE_HINT)
        body = page.text if page.is_text else page.data
        said = {"content_type": page.content_type, "charset": page.charset, "url": page.final_url or page.url}
        content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
        identity = digest_of({"said": said}) + sha256(content).digest()
        return {"body": body, **said}, identity

    def value(self, reply: Reply) -> Any:
        return msgspec.json.decode(reply.text)

    def again(self, request: Request, reply: Reply, error: AnswerError) -> None:
        """What reads it would read the same again."""

    def agreed(self, values: Sequence[Any]) -> tuple[int, float]:
        return len(values) - 1, 1.0

    def failed(self, value: Any) -> None:
        """What failed is no value."""

    def onward(self, item: Item, value: Any) -> Item:
        """With the document's columns, and without its page, which may be large."""
        return msgspec.structs.replace(extended(item, value, "text"), page=None)
