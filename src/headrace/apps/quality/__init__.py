"""The quality of tests: rules look at every test function of a folder, and a model at those that rules cannot judge.

Begin with `analysis.py`. A rule is a function with an example of what is bad and one of what is good: see `rules_*.py`.
"""

from headrace.apps.quality.analysis import aanalyse, analyse, concurrency_of
from headrace.apps.quality.doubts import QUESTIONS, Question
from headrace.apps.quality.findings import (
    SEVERITIES,
    STRATEGIES,
    Finding,
    QualityReport,
    Severity,
    Strategy,
    Unanswered,
    Uncertain,
    Unread,
)
from headrace.apps.quality.output import FORMATS, format_of, rendered
from headrace.apps.quality.page import sections, write_page
from headrace.apps.quality.rule import RULES, Rule

__all__ = [
    "FORMATS",
    "QUESTIONS",
    "RULES",
    "SEVERITIES",
    "STRATEGIES",
    "Finding",
    "QualityReport",
    "Question",
    "Rule",
    "Severity",
    "Strategy",
    "Unanswered",
    "Uncertain",
    "Unread",
    "aanalyse",
    "analyse",
    "concurrency_of",
    "format_of",
    "rendered",
    "sections",
    "write_page",
]
