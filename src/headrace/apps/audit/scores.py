"""From a brand's answers and the sites they cite to its scores. Pure: the formula, and nothing else.

- visibility, 0 to 100: the mean over all answers of 0 where the brand is not named, 0.5 + 0.5 / rank where it is, 0.5
  where it is named without a rank.
- sentiment, -1 to 1: the mean over the answers that name it.
- citations, 0 to 100: the mean over all citations of 0 for a site that cannot be reached or read, else 0.5, with 0.25
  more where it is not the brand's own and 0.25 more where its front page names the brand.
- share of voice, 0 to 100: mentions of the brand of all mentions of it and its rivals; a brand counts once in an answer.
- score, 0 to 100: 0.4 visibility + 0.2 sentiment (as 0 to 100) + 0.2 citations + 0.2 share of voice; what is not known is
  left out, and the others weigh more.

A brand counts as named where the analysis says so and the name stands in the answer; a rival where its name does.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel

from headrace.apps.audit.citations import domain_of

WEIGHTS = {"visibility": 0.4, "sentiment": 0.2, "citations": 0.2, "share_of_voice": 0.2}
_SHOWN = 10


class Source(BaseModel):
    """A site that answers cite."""

    domain: str
    cited: int
    state: str
    """reached, or why it was not."""
    own: bool
    names_brand: bool


class BrandScore(BaseModel):
    """One brand on the dashboard. None: nothing is known of it."""

    brand: str
    product: str
    score: float | None
    visibility: float | None
    sentiment: float | None
    citations: float | None
    share_of_voice: float | None
    responses: int
    mentions: int
    citations_made: int
    by_assistant: dict[str, float]
    """Visibility in the answers of each."""
    rivals: dict[str, int]
    """The ten that are named in most answers."""
    sources: list[Source]
    """The ten that are cited most."""


def scored(rows: Sequence[Mapping[str, Any]]) -> BrandScore:
    """The scores of one brand: a row for each answer, and one for each citation."""
    brand, own = str(rows[0]["brand"]), domain_of(str(rows[0].get("site") or ""))
    answers = [row for row in rows if not row["domain"]]
    sites = [row for row in rows if row["domain"]]
    named = [row for row in answers if is_named(row)]
    rivals = Counter(rival for row in answers for rival in rivals_of(row))
    told = len(named) + rivals.total()
    parts = {
        "visibility": _percent(visible(row) for row in answers),
        "sentiment": _mean([float(row["sentiment"]) for row in named]),
        "citations": _percent(quality(row, own) for row in sites),
        "share_of_voice": round(100 * len(named) / told, 1) if told else None,
    }
    assistants = dict.fromkeys(str(row["assistant"]) for row in answers)
    return BrandScore(
        brand=brand, product=str(rows[0].get("product") or ""), score=total(parts), **parts, responses=len(answers),
        mentions=len(named), citations_made=len(sites), rivals=dict(rivals.most_common(_SHOWN)), sources=_sources(sites, own),
        by_assistant={
            name: _percent(visible(row) for row in answers if row["assistant"] == name) or 0.0 for name in assistants
        },
    )  # fmt: skip


def is_named(row: Mapping[str, Any]) -> bool:
    return bool(row.get("mentioned")) and str(row["brand"]).casefold() in str(row["answer"]).casefold()


def visible(row: Mapping[str, Any]) -> float:
    """Of one answer, 0 to 1."""
    if not is_named(row):
        return 0.0
    return 0.5 + 0.5 / float(row["rank"]) if row.get("rank") else 0.5


def rivals_of(row: Mapping[str, Any]) -> set[str]:
    answer, brand = str(row["answer"]).casefold(), str(row["brand"]).casefold()
    names = {" ".join(str(each).split()) for each in row.get("rivals") or ()}
    return {name for name in names if name and name.casefold() != brand and name.casefold() in answer}


def quality(row: Mapping[str, Any], own: str) -> float:
    """Of one citation, 0 to 1."""
    if row.get("unreachable") or row.get("unreadable"):
        return 0.0
    return 0.5 + 0.25 * (str(row["domain"]) != own) + 0.25 * names_brand(row)


def names_brand(row: Mapping[str, Any]) -> bool:
    """Whether a cited site's front page does."""
    return str(row["brand"]).casefold() in f"{row.get('title') or ''}\n{row.get('text') or ''}".casefold()


def total(parts: Mapping[str, float | None]) -> float | None:
    """The weighted mean of what is known."""
    known = {name: value for name, value in parts.items() if value is not None}
    if not known:
        return None
    points = {name: 50 * (value + 1) if name == "sentiment" else value for name, value in known.items()}
    return round(sum(WEIGHTS[name] * value for name, value in points.items()) / sum(WEIGHTS[name] for name in known), 1)


def _sources(sites: Sequence[Mapping[str, Any]], own: str) -> list[Source]:
    cited = Counter(str(row["domain"]) for row in sites)
    rows = {str(row["domain"]): row for row in sites}
    return [
        Source(
            domain=domain, cited=count, own=domain == own, names_brand=names_brand(rows[domain]),
            state=rows[domain].get("unreachable") or rows[domain].get("unreadable") or "reached",
        )
        for domain, count in cited.most_common(_SHOWN)
    ]  # fmt: skip


def _percent(parts: Any) -> float | None:
    found = _mean(list(parts))
    return None if found is None else round(100 * found, 1)


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 3) if values else None
