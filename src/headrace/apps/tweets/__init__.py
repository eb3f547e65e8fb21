"""A feed of tweets in; out come the few that are worth a closer look, each looked at closely.

Begin with `asking.py`: two questions and a choice between them are the whole application.
"""

from headrace.apps.tweets.asking import DeepDive, Screening, pipeline, score
from headrace.apps.tweets.page import sections
from headrace.apps.tweets.scanning import Pick, Scan, ascan, scan, scan_of

__all__ = ["DeepDive", "Pick", "Scan", "Screening", "ascan", "pipeline", "scan", "scan_of", "score", "sections"]
