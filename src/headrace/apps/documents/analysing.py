"""From a place with documents to a report on each and on all."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import headrace as hr
from headrace.apps.documents.asking import QUESTIONS, Mode, Question, pipeline, synthesis_pipeline
from headrace.apps.documents.outcome import DocumentsReport, documents_of
from headrace.apps.documents.page import PageWriter, write_index
from headrace.apps.documents.places import Places, find

STORE = ".headrace/store.db"
_MOST_BYTES = 64 * 1024 * 1024
_MOST_IN_FLIGHT = 256


def analyse(where: str | os.PathLike[str], **how: Any) -> DocumentsReport:
    """`aanalyse` for programs without an event loop."""
    return asyncio.run(aanalyse(where, **how))


async def aanalyse(
    where: str | os.PathLike[str], *, model: str | hr.Model, questions: Mapping[str, Question] = QUESTIONS,
    max_workers: int = 5, mode: Mode = "async", workers: int = 3, batch_size: int = 0, allow: Sequence[str] = (),
    pages: str | os.PathLike[str] | None = None, every: bool = False, synthesis: bool = True, asked: Mapping[str, Any] = {},
    store: str | os.PathLike[str] = STORE, **how: Any,
) -> DocumentsReport:  # fmt: skip
    """What documents are and say, one by one and together.

    Args:
        where: A file of addresses, a folder of documents, or a sitemap (an address or a file).
        model: As for `hr.Ask`.
        questions: Asked of each document that is worth a closer look, each in a call of its own.
        max_workers: Downloads at once.
        mode: "async", "sync", "process" or "hybrid": how documents are read; see `pipeline`.
        workers: Questions at once.
        batch_size: Documents in flight; 0 follows their size.
        allow: Private hosts that may be fetched.
        pages: A folder, where each document gets a page.
        every: Whether the closer look is taken at all.
        synthesis: Whether to ask what all say together.
        asked: What all questions are asked with, as `temperature`.
        store: Where answers and pages are kept.
        how: All else that `hr.run` takes.

    What fails is a part of the report. Raises what `hr.run` does.
    """
    places = await asyncio.to_thread(find, where, allow=allow, store=store)
    work = pipeline(
        model, are_files=places.are_files, questions=questions, max_workers=max_workers, mode=mode, workers=workers,
        in_flight=batch_size or in_flight_of(places, max_workers + workers), allow=allow,
        every=every, write=None if pages is None else PageWriter(Path(pages)), **asked,
    )  # fmt: skip
    how = {"limits": hr.Limits(1 if mode == "sync" else workers), "name": places.name, **how}
    if isinstance(how.get("budget"), int | float):  # one for both runs
        how["budget"] = hr.Budget(how["budget"], f"documents of {how['name']}")
    run = await hr.arun(work, places.rows, key="document", store=store, **how)
    shared = {name: how[name] for name in ("limits", "retry", "timeout", "prices", "budget") if name in how}
    report = await report_of(run, model if synthesis else None, asked=asked, store=store, **shared)
    if pages is not None:
        write_index(pages, report.documents)
    return report


def in_flight_of(places: Places, workers: int) -> int:
    """As many documents as their nature allows: of files so many that the largest of them together have 64 MB, of what
    is still to be downloaded four for each worker."""
    if not places.are_files:
        return min(4 * workers, _MOST_IN_FLIGHT)
    room, count = _MOST_BYTES, 0
    for size in sorted((int(row["bytes"]) for row in places.rows), reverse=True):
        room -= size
        if room < 0:
            break
        count += 1
    return min(max(count, 1), _MOST_IN_FLIGHT)


async def report_of(
    run: hr.Run[Any], model: str | hr.Model | None = None, *, asked: Mapping[str, Any] = {}, **how: Any
) -> DocumentsReport:
    """What a run came to, and with a model what its documents say together."""
    documents = documents_of(run)
    failures = tuple(run.failures())
    if model is None:
        return DocumentsReport(run, documents, failures, without_synthesis="It was not asked for.")
    if not documents:
        return DocumentsReport(run, documents, failures, without_synthesis="No document was read.")
    work = synthesis_pipeline(model, len(documents), **asked)
    rows = [each.model_dump(include={"document", "kind", "summary"}) for each in documents]
    try:
        whole = await hr.arun(work, rows, name=f"{run.name}-synthesis", progress=False, **how)
    except hr.CallError as error:
        return DocumentsReport(run, documents, failures, without_synthesis=error.message)
    found = next((outcome.value for outcome in whole if outcome.value is not None), None)
    why = next((str(outcome.error) for outcome in whole.failures()), whole.reason)
    return DocumentsReport(run, documents, failures, found, "" if found else why)
