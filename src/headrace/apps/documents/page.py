"""Documents as pages: one for each, a table of all, and the sections of the report. All text is foreign, and escaped."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import headrace as hr
from headrace.apps.documents.asking import Document
from headrace.apps.documents.outcome import DocumentsReport

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} .soft {{ opacity: .7 }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: top }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class PageWriter:
    """Writes a document's page into a folder, as soon as the document is done: several at once, each whole or not at
    all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, row: Document) -> str:
        name = file_of(row.document)
        target = self.folder / name
        part = target.with_name(f".{name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(page(row), "utf-8", "replace")
            part.replace(target)
        except OSError as error:
            raise hr.OutputError(
                f"{target} cannot be written: {error.strerror}.", hint="Name another folder."
            ) from None
        return name


def file_of(document: str) -> str:
    """The name of its page: readable, and another one for each document."""
    words = "-".join("".join(sign if sign.isascii() and sign.isalnum() else " " for sign in document.lower()).split())
    return f"{words[-60:].strip('-') or 'document'}-{sha256(document.encode()).hexdigest()[:8]}.html"


def page(row: Document) -> str:
    """One document."""
    title = row.title or row.document
    facts = [each for each in (row.kind, row.audience, row.language) if each]
    parts = [
        '<p><a href="index.html">All documents</a></p>',
        f'<h1 dir="auto">{escape(title)}</h1>',
        f'<p class="soft">{escape(row.document)}</p>',
        f'<p class="soft">{escape(" · ".join(facts))}</p>',
        f'<p dir="auto">{escape(row.summary)}</p>',
        *(f"<h2>{escape(name)}</h2>\n{_answer(answer)}" for name, answer in row.answers.items()),
    ]
    if row.unread:
        parts.append(f'<p class="soft">Not read: {escape(row.unread)}</p>')
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _answer(answer: Mapping[str, Any]) -> str:
    return "".join(f"<h3>{escape(name)}</h3>{_value(value)}" for name, value in answer.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        points = "".join(f'<li dir="auto">{escape(str(each))}</li>' for each in value)
        return f"<ul>{points}</ul>" if points else '<p class="soft">none</p>'
    return f'<p dir="auto">{escape("-" if value is None else str(value))}</p>'


def write_index(folder: str | os.PathLike[str], documents: Iterable[Document]) -> Path:
    """The table of all documents, with links to their pages."""
    rows = "".join(
        f'<tr><td><a href="{escape(file_of(each.document))}">{escape(each.title or each.document)}</a></td>'
        f"<td>{escape(each.kind)}</td><td>{escape(each.summary)}</td></tr>\n"
        for each in documents
    )
    body = f"<h1>Documents</h1>\n<table><tr><th>Document</th><th>Kind</th><th>Summary</th></tr>\n{rows}</table>"
    target = Path(folder) / "index.html"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_PAGE.format(title="Documents", body=body), "utf-8", "replace")
    except OSError as error:
        raise hr.OutputError(f"{target} cannot be written: {error.strerror}.", hint="Name another folder.") from None
    return target


def sections(report: DocumentsReport) -> list[hr.Section]:
    """What was found, for `run.report(path, sections=...)`."""
    documents = report.documents
    together = hr.Section("All documents together", report.sentence)
    together.figures({
        "documents": len(documents), "looked at closely": report.closer, "failures": len(report.failures),
        "characters": sum(each.chars for each in documents),
    })  # fmt: skip
    if report.synthesis is not None:
        together.text(report.synthesis.overview)
        for name in ("themes", "disagreements", "read_first"):
            found = getattr(report.synthesis, name)
            if found:
                together.text(f"{name.replace('_', ' ').capitalize()}:").points(found)
    else:
        together.text(f"There is no synthesis: {report.without_synthesis}")
    together.bars("Kinds", dict(Counter(each.kind for each in documents).most_common()), "documents")
    table = hr.Section("Each document").table([
        {
            "document": each.document, "title": each.title, "kind": each.kind, "summary": each.summary,
            **{name: _told(answer) for name, answer in each.answers.items()},
        }
        for each in documents
    ])  # fmt: skip
    return [together, table]


def _told(answer: Mapping[str, Any]) -> list[str]:
    """An answer's values as points."""
    found = []
    for name, value in answer.items():
        found += [str(each) for each in value] if isinstance(value, list) else [f"{name}: {value}"]
    return found
