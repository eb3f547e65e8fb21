"""Any document becomes a row: title, text, headings, links. Enters where it is or what was fetched, leaves columns.

What it is, is seen from its content; what is said of it counts only where that tells nothing. Runs in a process.
"""

import gc
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import msgspec

from headrace.core.errors import DocumentError, MissingExtra
from headrace.data.document import READABLE, Document, refuse
from headrace.data.encoding import WESTERN, looks_western, told_by_head
from headrace.data.excerpt import excerpt

NAME, VERSION = "headrace extract", "1"
"""Under which what was extracted is kept; another version extracts anew."""
MEMORY = 1024 * 1024 * 1024
"""Bytes that reading one document may take, beyond what the process has."""
NEEDED = {"trafilatura": "trafilatura", "pypdf": "pypdf", "docx": "python-docx"}
_MOST_TEXT = 20_000_000
"""Bytes of HTML or text that are looked at, however many may be read."""
_HEAD = 4096
_TAGS = re.compile(rb"<(?:!doctype\s+html|html|head|body|article|div|p|h1|table|title|meta)\b", re.IGNORECASE)
_SITEMAP = re.compile(rb"<(?:urlset|sitemapindex)\b")
"""XML whose words are addresses: it is read as it stands."""
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.IGNORECASE)
_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OTHERS = {"xl/": "an XLSX workbook", "ppt/": "a PPTX presentation", "mimetype": "an ODT, EPUB or the like"}


def need_readers() -> None:
    """Raises MissingExtra where what reads documents is not installed."""
    missing = [package for name, package in NEEDED.items() if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"Reading documents needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            hint="Install it: pip install 'headrace[documents]'",
        )


def located(name: str, folder: Path, most_bytes: int) -> tuple[str, bytes]:
    """Where a document lies that a column names, and the digest of what is read of it; empty where it cannot be read."""
    path = folder / name
    if not path.exists() and Path(name).exists():
        path = Path(name)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            known = (
                file_digest(file, "sha256")
                if size <= most_bytes
                else sha256(f"{size} ".encode() + file.read(_MOST_TEXT))
            )
            return str(path.absolute()), known.digest()
    except (OSError, ValueError):
        return str(path), b""


def read_document(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are asked for (`keep`) of a file (`path`) or of what was fetched (`body`, `content_type`,
    `charset`, `url`), with at most `max_chars` of text. Raises DocumentError where it cannot be read."""
    need_readers()
    try:
        with _bounded(MEMORY):
            document = _document(given)
            row = _row(document, given["max_chars"], given["keep"])
    except MemoryError:
        raise DocumentError(
            f"Reading the document takes more than {MEMORY // 1024**2:,} MB of memory.",
            hint="It is broken, or made to do harm; save it anew, or as plain text.",
        ) from None
    finally:
        gc.collect(0)
    return row


def _row(document: Document, max_chars: int, keep: tuple[str, ...]) -> dict[str, Any]:
    text = excerpt(document.title, document.blocks, max_chars)
    columns: dict[str, Any] = {
        "title": document.title,
        "text": text,
        "headings": [block.text for block in document.blocks if block.level],
        "links": [{"text": link.text, "url": link.url} for link in document.links],
        "language": document.language,
        "pages": document.pages,
        "unread": document.unread,
    }
    return {name: columns[name] for name in keep}


def _document(given: Mapping[str, Any]) -> Document:
    body = given.get("body")
    name = str(given.get("path") or given.get("url") or "")
    charset = str(given.get("charset") or "")
    if body is None:
        body = _read(given["path"], given["max_bytes"])
    elif isinstance(body, str):
        body, charset = body.encode("utf-8", "replace"), "utf-8"
    if not body.strip(b"\0 \t\r\n"):
        refuse("The document is empty.", "There is nothing to read in it.")
    kind = kind_of(body[: 64 * 1024], str(given.get("content_type") or ""), name)
    if kind == "zip":
        kind = _package(body)
    if kind in ("pdf", "docx") and len(body) > given["max_bytes"]:
        _too_large(len(body), given["max_bytes"])
    document = _parsed(kind, body, charset, given)
    if not document.blocks and not document.title:
        refuse("The document has no text.", "There is nothing to read in it; a page may be made by its scripts.")
    return document


def _parsed(kind: str, body: bytes, charset: str, given: Mapping[str, Any]) -> Document:
    if kind == "pdf":
        from headrace.data.pdf import read_pdf  # noqa: PLC0415 - one kind needs one of them

        return read_pdf(body, most_pages=given["max_pages"])
    if kind == "docx":
        from headrace.data.docx import read_docx  # noqa: PLC0415 - as above

        return read_docx(body)
    most = min(given["max_bytes"], _MOST_TEXT)
    text = text_of(body[:most], charset, html=kind == "html")
    if kind == "html":
        from headrace.data.html import read_html  # noqa: PLC0415 - as above

        document = read_html(text.encode(), str(given.get("url") or ""))
    else:
        from headrace.data.prose import read_text  # noqa: PLC0415 - as above

        document = read_text(text, markdown=kind == "markdown")
    if len(body) > most:
        return msgspec.structs.replace(document, unread=f"Of more than {most:,} bytes the first {most:,} were read.")
    return document


def kind_of(head: bytes, content_type: str = "", name: str = "") -> str:
    """pdf, zip, html, markdown or text, by the content first. Raises DocumentError for what is none of them."""
    told = content_type.partition(";")[0].strip().lower()
    ending = PurePath(name.partition("?")[0].partition("#")[0]).suffix.lower()
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if start.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not _is_text(told, ending)):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    _refuse_known(head)
    wide = told_by_head(head) is not None
    if not wide and head[:_HEAD].count(0) > max(1, len(head[:_HEAD]) // 1000):
        refuse("The document is no text, and of a kind that is not known.", READABLE)
    plain = head.replace(b"\0", b"") if wide else start
    if told in ("text/markdown", "text/x-markdown") or (ending in (".md", ".markdown") and told in ("", "text/plain")):
        return "markdown"
    if _SITEMAP.search(plain[:_HEAD]):
        return "text"
    if _TAGS.search(plain[:_HEAD]) and (told != "text/plain" or plain[:200].lower().lstrip().startswith(b"<")):
        return "html"
    if told in ("text/html", "application/xhtml+xml") and b"<" in plain:
        return "html"
    return "html" if told.endswith("xml") or plain.startswith(b"<?xml") else "text"


def _is_text(told: str, ending: str) -> bool:
    """Whether it is said to be text, which may quote anything."""
    return told.startswith("text/") or ending in (".md", ".markdown", ".txt", ".rst")


def _refuse_known(head: bytes) -> None:
    """Raises DocumentError for kinds that are known and not read."""
    if head.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in head:
            refuse("The document is encrypted.", "Save it without a password first.")
        refuse("The document is an old Office file.", f"Save it as DOCX. {READABLE}")
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        refuse("The document is a picture.", "Ask a model that sees about it: Ask(images=...).")


def text_of(body: bytes, charset: str, *, html: bool) -> str:
    """As it is stated, marked, or declared in the page; else UTF-8, else Windows-1252, else what can be read of it."""
    marked = told_by_head(body[:_HEAD])
    declared = _META.search(body[:_HEAD]) if html else None
    names = [marked[0] if marked else "", charset, declared[1].decode() if declared else "", "utf-8"]
    if looks_western(body[: 1024 * 1024]):
        names.append(WESTERN)
    for name in filter(None, names):
        with suppress(UnicodeDecodeError, LookupError, ValueError):
            return _decoded(body, name)
    return body.decode("utf-8", "replace")


def _decoded(body: bytes, name: str) -> str:
    """Raises where it is not written so; what is cut off at the end, or one bad byte in a thousand, does not count."""
    try:
        return body.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError:
        text = body.decode(name, "replace").removeprefix("\ufeff")
        if text.count("\ufffd") > len(text) // 1000:
            raise
        return text


def _read(path: str, most_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(1024)
            if size > most_bytes and (b"%PDF-" in head or head.startswith(b"PK")):
                _too_large(size, most_bytes)
            return head + file.read(max(0, most_bytes + 1 - len(head)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"The document {path} cannot be read: {reason}.", hint="See that it is there.") from error


def _too_large(size: int, most_bytes: int) -> None:
    refuse(f"The document has {size:,} bytes; at most {most_bytes:,} are read.", "Allow more with max_bytes=.")


def _package(body: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as package:
            names = package.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        if b"word/" in body[:_HEAD] or b"[Content_Types].xml" in body[:_HEAD]:
            return "docx"  # which says what is wrong with it
        refuse("The document is a broken package.", "Fetch it again, or save it anew.")
    if any(name.startswith("word/") for name in names):
        return "docx"
    known = next((what for start, what in _OTHERS.items() if any(name.startswith(start) for name in names)), "")
    return refuse(f"The document is {known or 'a ZIP archive'}.", READABLE)


@contextmanager
def _bounded(memory: int) -> Iterator[None]:
    """Within it, asking for more memory than this raises MemoryError, where the system can do that. It is the whole
    process that is bounded, so this is for a process that does nothing else."""
    limits = _resource()
    if limits is None:
        yield
        return
    soft, hard = limits.getrlimit(limits.RLIMIT_DATA)
    with open("/proc/self/statm", "rb") as file:
        now = int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    most = now + memory if hard == limits.RLIM_INFINITY else min(now + memory, hard)
    limits.setrlimit(limits.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        limits.setrlimit(limits.RLIMIT_DATA, (soft, hard))


def _resource() -> Any:
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    return resource if hasattr(resource, "RLIMIT_DATA") and Path("/proc/self/statm").exists() else None
