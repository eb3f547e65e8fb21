"""An audit of brands: what models answer about them, on which sources, and what that comes to.

Begin with `stages.py`, the pipeline; `scores.py` is the formula.
"""

from headrace.apps.audit.collected import read_responses
from headrace.apps.audit.outcome import AuditReport, Failed, aaudit, audit, report_of, sections, write_dashboard
from headrace.apps.audit.scores import BrandScore, Source, scored
from headrace.apps.audit.stages import Analysis, pipeline

__all__ = [
    "Analysis",
    "AuditReport",
    "BrandScore",
    "Failed",
    "Source",
    "aaudit",
    "audit",
    "pipeline",
    "read_responses",
    "report_of",
    "scored",
    "sections",
    "write_dashboard",
]
