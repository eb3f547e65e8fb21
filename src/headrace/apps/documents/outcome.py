"""What was found in documents, as values."""

from dataclasses import dataclass
from typing import Any

import headrace as hr
from headrace.apps.documents.asking import Document, Synthesis


@dataclass(frozen=True)
class DocumentsReport:
    """What was found in the documents."""

    run: hr.Run[Any]
    documents: tuple[Document, ...]
    """In the order in which they were named."""
    failures: tuple[hr.Outcome[Any], ...]
    """Documents that could not be read, and questions that were not answered."""
    synthesis: Synthesis | None = None
    without_synthesis: str = ""
    """Why there is none."""

    @property
    def closer(self) -> int:
        """Documents at which a closer look was taken."""
        return sum(1 for each in self.documents if each.answers)

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        pending = (
            "" if self.run.pending == 0 else f", {'some' if self.run.pending is None else self.run.pending} pending"
        )
        return f"{_plural(len(self.documents), 'document')} read, {self.closer} of them closely; {_plural(len(self.failures), 'failure')}{pending}."


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def documents_of(run: hr.Run[Any]) -> tuple[Document, ...]:
    """Those of a run, in the order in which they were named."""
    return tuple(Document.model_validate(outcome.value) for outcome in run if outcome.ok)
