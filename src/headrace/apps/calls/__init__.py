"""A table of phone calls in; out comes an insight for each, and a report on all of them.

Begin with `asking.py`: what is asked. `analysing.py` runs it, `figures.py` reckons, `page.py` shows.
"""

from headrace.apps.calls.analysing import CallReport, aanalyse, analyse, report_of
from headrace.apps.calls.asking import CallInsight, Insight, Themes, category, question, themes
from headrace.apps.calls.figures import AgentFigures, agents, best, counts, worst
from headrace.apps.calls.page import sections

__all__ = [
    "AgentFigures",
    "CallInsight",
    "CallReport",
    "Insight",
    "Themes",
    "aanalyse",
    "agents",
    "analyse",
    "best",
    "category",
    "counts",
    "question",
    "report_of",
    "sections",
    "themes",
    "worst",
]
