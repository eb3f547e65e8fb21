"""What insights come to: distributions, agents side by side, the best and the worst. No model is asked."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from headrace.apps.calls.asking import CallInsight

SHOWN = 5


@dataclass(frozen=True)
class AgentFigures:
    agent: str
    calls: int
    score: float | None
    """The mean; None where no call of theirs was understood."""
    resolved: float | None
    """The share."""
    sentiments: Counter[str]
    seconds: float | None
    """The mean."""


def counts(insights: Iterable[CallInsight], field: str) -> dict[str, int]:
    """How often each value was found, the most frequent first."""
    found = Counter(str(row[field]) for row in (each.row() for each in insights) if row[field] is not None)
    return dict(found.most_common())


def agents(insights: Iterable[CallInsight]) -> list[AgentFigures]:
    """The best mean score first."""
    by_agent: defaultdict[str, list[CallInsight]] = defaultdict(list)
    for each in insights:
        if each.agent:
            by_agent[each.agent].append(each)
    figures = [_of_agent(agent, calls) for agent, calls in by_agent.items()]
    return sorted(figures, key=lambda each: (-(each.score or 0), each.agent))


def _of_agent(agent: str, calls: list[CallInsight]) -> AgentFigures:
    known = [each.insight for each in calls if each.insight is not None]
    seconds = [each.seconds for each in calls if each.seconds is not None]
    return AgentFigures(
        agent, len(calls), fmean(each.score for each in known) if known else None,
        fmean(each.resolved for each in known) if known else None,
        Counter({"positive": 0, "neutral": 0, "negative": 0}) + Counter(each.sentiment for each in known),
        fmean(seconds) if seconds else None,
    )  # fmt: skip


def best(insights: Iterable[CallInsight], count: int = SHOWN) -> list[CallInsight]:
    return sorted((each for each in insights if each.insight), key=_merit, reverse=True)[:count]


def worst(insights: Iterable[CallInsight], count: int = SHOWN) -> list[CallInsight]:
    return sorted((each for each in insights if each.insight), key=_merit)[:count]


def _merit(each: CallInsight) -> tuple[int, bool, int]:
    """By score, then whether it was resolved, then how the caller felt."""
    known = each.insight
    if known is None:
        return 0, False, 0
    return known.score, known.resolved, ("negative", "neutral", "positive").index(known.sentiment)
