"""Where the documents are: a file of addresses, a folder, a sitemap. Leaves a row for each; fetches sitemaps only."""

import csv
import html
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import headrace as hr

ENDINGS = (".html", ".htm", ".xhtml", ".pdf", ".docx", ".md", ".markdown", ".rst", ".txt")
"""Files of a folder that are documents."""
MOST_URLS = 1_000_000
_MOST_SITEMAPS = 1_000
_LOCATION = re.compile(r"<loc>\s*(?:<!\[CDATA\[)?\s*(.*?)\s*(?:\]\]>)?\s*</loc>", re.IGNORECASE | re.DOTALL)
_WEB = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Places:
    """Documents that were found."""

    rows: Sequence[dict[str, Any]]
    """Each with `document`, what it is called, and `url` or `path`."""
    are_files: bool
    name: str
    """The same for the same place: a run over them is continued by it."""


def find(where: str | os.PathLike[str], *, allow: Sequence[str] = (), store: str | os.PathLike[str]) -> Places:
    """The documents of a file of addresses (a line each, or a CSV file with the column url), of a folder, or of a
    sitemap (an address or a file). Raises InputError where there are none."""
    text = os.fspath(where)
    path = Path(text)
    is_web = _WEB.match(text) is not None
    name = f"{'site' if is_web else path.resolve().stem}-{sha256((text if is_web else str(path.resolve())).encode()).hexdigest()[:6]}"
    if is_web:
        rows = _of_addresses(_of_sitemaps([text], allow, store))
    elif path.is_dir():
        rows = _of_folder(path)
    else:
        rows = _of_addresses(_of_file(path, allow, store))
    if not rows:
        raise hr.InputError(
            f"{text} names no documents.", hint=f"Documents end in {', '.join(ENDINGS)}; addresses begin with http."
        )
    return Places(rows, path.is_dir() and not is_web, name)


def _of_folder(folder: Path) -> list[dict[str, Any]]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for file in sorted(files):
            path = Path(parent, file)
            if path.suffix.lower() in ENDINGS and not file.startswith(".") and path.is_file():
                document = _said(path.relative_to(folder).as_posix())
                found.append({"document": document, "path": str(path.absolute()), "bytes": path.stat().st_size})
    return found


def _of_addresses(addresses: Iterable[str]) -> list[dict[str, Any]]:
    seen = dict.fromkeys(each for each in addresses)
    return [{"document": _said(each), "url": each} for each in seen]


def _of_file(path: Path, allow: Sequence[str], store: str | os.PathLike[str]) -> Iterator[str]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise hr.InputError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}.",
            hint="Name a file of addresses, a folder of documents or a sitemap.",
        ) from None
    if "<loc>" in text[:10_000].lower() or path.suffix.lower() == ".xml":
        yield from _of_sitemaps([], allow, store, first=text)
    elif path.suffix.lower() in (".csv", ".tsv"):
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        if "url" not in (rows.fieldnames or ()):
            raise hr.InputError(f"{path} has no column url.", hint="Name the column of the addresses so.")
        yield from (row["url"].strip() for row in rows if (row["url"] or "").strip())
    else:
        yield from (line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _of_sitemaps(
    waiting: list[str], allow: Sequence[str], store: str | os.PathLike[str], first: str = ""
) -> Iterator[str]:
    """The pages of these sitemaps, and of those that they name."""
    read: set[str] = set()
    found = 0
    text = first
    while True:
        places = [html.unescape(each) for each in _LOCATION.findall(text)]
        if "<sitemapindex" in text[:10_000].lower():
            waiting += places
        else:
            yield from places[: MOST_URLS - found]
            found += len(places)
        waiting = [each for each in dict.fromkeys(waiting) if each not in read]
        if not waiting or len(read) >= _MOST_SITEMAPS or found >= MOST_URLS:
            return
        at = waiting.pop(0)
        read.add(at)
        text = _fetched(at, allow, store)


def _fetched(address: str, allow: Sequence[str], store: str | os.PathLike[str]) -> str:
    look = hr.Pipeline(
        hr.Fetch(allow=tuple(allow), max_bytes=50_000_000, max_age_s=0), hr.Extract(max_chars=0, keep=("text",))
    )
    for outcome in hr.run(look, [{"url": address}], store=store, progress=False):
        if outcome.value is not None and "<loc>" in outcome.value["text"].lower():
            return str(outcome.value["text"])
        if outcome.error is not None:
            raise hr.InputError(
                f"The sitemap {address} cannot be read: {outcome.error.message}", hint=outcome.error.hint
            )
    raise hr.InputError(
        f"{address} is no sitemap: it names no <loc>.", hint="Name a sitemap, or write addresses in a file."
    )


def _said(name: str) -> str:
    """File names may be no Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()
