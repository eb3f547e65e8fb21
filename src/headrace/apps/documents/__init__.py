"""Documents from addresses, a folder or a sitemap: what each is, what it says, and what all say together.

Begin with `asking.py`: the pipeline and its questions. `places.py` finds the documents, `analysing.py` runs it, `page.py`
shows.
"""

from headrace.apps.documents.analysing import aanalyse, analyse, in_flight_of, report_of
from headrace.apps.documents.asking import (
    MODES,
    QUESTIONS,
    Context,
    Document,
    Mode,
    Question,
    Synthesis,
    pipeline,
    read_questions,
    synthesis_pipeline,
)
from headrace.apps.documents.outcome import DocumentsReport, documents_of
from headrace.apps.documents.page import PageWriter, sections, write_index
from headrace.apps.documents.places import Places, find

__all__ = [
    "MODES",
    "QUESTIONS",
    "Context",
    "Document",
    "DocumentsReport",
    "Mode",
    "PageWriter",
    "Places",
    "Question",
    "Synthesis",
    "aanalyse",
    "analyse",
    "documents_of",
    "find",
    "in_flight_of",
    "pipeline",
    "read_questions",
    "report_of",
    "sections",
    "synthesis_pipeline",
    "write_index",
]
