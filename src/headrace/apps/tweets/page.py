"""A scan on a page: what is worth a closer look first, then the feed it came from."""

from collections.abc import Mapping
from typing import Any

import headrace as hr
from headrace.apps.tweets.asking import Screening
from headrace.apps.tweets.scanning import Pick, Scan

_VERDICT = frozenset(Screening.model_fields)


def sections(scan: Scan, text: str = "text") -> list[hr.Section]:
    """For `run.report(path, sections=...)`."""
    return [_closely(scan, text), _feed(scan, text)]


def _closely(scan: Scan, text: str) -> hr.Section:
    section = hr.Section("Worth a closer look")
    if scan.partial:
        section.text(f"This is a partial result. {scan.reason}")
    if not scan.picks:
        section.text("No tweet was looked at closely.")
    for number, pick in enumerate(scan.picks, 1):
        section.quote(f"{number}. {_words(pick.tweet, text)}", _about(pick, text))
        section.figures({"score": pick.score, "risk": pick.dive.risk, "stance": pick.dive.stance})
        section.table(
            [
                {
                    "context": pick.dive.context,
                    "claims to check": pick.dive.claims,
                    "suggested reply": pick.dive.reply,
                }
            ]
        )
    return section


def _about(pick: Pick, text: str) -> str:
    """All that the feed says of it beside its words."""
    return " · ".join(
        f"{name} {value}" for name, value in pick.tweet.items() if name != text and name not in _VERDICT and value
    )


def _feed(scan: Scan, text: str) -> hr.Section:
    section = hr.Section("The feed")
    section.figures(
        {"screened": scan.screened, "with a claim": scan.claims, "looked at closely": len(scan.picks), "failed": len(scan.failed)}
    )  # fmt: skip
    section.bars("Sentiment", dict(scan.sentiments.most_common()), "tweets")
    rows: list[Mapping[str, Any]] = [
        {"tweet": _words(row, text), "score": score, **{name: row[name] for name in Screening.model_fields}}
        for score, row in scan.others
    ]
    return section.table(rows, "The next best")


def _words(row: Mapping[str, Any], text: str) -> str:
    return str(row.get(text, ""))
