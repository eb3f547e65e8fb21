"""A report on calls as sections of a page."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import headrace as hr
from headrace.apps.calls.analysing import CallReport
from headrace.apps.calls.asking import CallInsight
from headrace.apps.calls.figures import agents, best, counts, worst

MOODS = ("positive", "neutral", "negative")


def sections(report: CallReport) -> list[hr.Section]:
    """For `run.report(path, sections=...)`."""
    return [
        _summary(report),
        _themes(report),
        _distributions(report),
        *_agents(report),
        *_extremes(report),
        *_failed(report),
    ]


def _summary(report: CallReport) -> hr.Section:
    known = [each.insight for each in report.insights if each.insight is not None]
    section = hr.Section("Summary")
    if report.partial:
        section.text(f"This is a partial result. {report.run.reason}")
    figures: dict[str, Any] = {"calls": len(report.insights), "understood": len(known), "failed": len(report.failures)}
    if known:
        figures["mean score, 1 to 5"] = fmean(each.score for each in known)
        figures["resolved"] = f"{fmean(each.resolved for each in known):.0%}"
        figures["callers content"] = f"{fmean(each.sentiment == 'positive' for each in known):.0%}"
        figures["callers not"] = f"{fmean(each.sentiment == 'negative' for each in known):.0%}"
    return section.figures(figures)


def _themes(report: CallReport) -> hr.Section:
    section = hr.Section("Themes")
    if report.themes is None:
        return section.text(f"There are none. {report.without_themes}")
    return section.points(report.themes.themes).text(f"Advice: {report.themes.advice}")


def _distributions(report: CallReport) -> hr.Section:
    section = hr.Section("Distributions")
    for heading, field in (("Length", "category"), ("Topic", "topic"), ("Sentiment", "sentiment"), ("Score", "score")):
        found = counts(report.insights, field)
        section.bars(heading, dict(sorted(found.items())) if field == "score" else found, "calls")
    return section


def _agents(report: CallReport) -> list[hr.Section]:
    found = agents(report.insights)
    if not found:
        return []
    section = hr.Section("Agents compared", "By mean score. Few calls say little.")
    section.table(
        [
            {
                "agent": each.agent, "calls": each.calls, "mean score": each.score,
                "resolved": None if each.resolved is None else f"{each.resolved:.0%}",
                "mean minutes": None if each.seconds is None else each.seconds / 60,
            }
            for each in found
        ]
    )  # fmt: skip
    moods = {each.agent: {mood: each.sentiments[mood] for mood in MOODS} for each in found}
    section.shares("How callers feel at the end", moods, bad=["negative"], faint=["neutral"])
    return [section]


def _extremes(report: CallReport) -> list[hr.Section]:
    section = hr.Section(
        "Best and worst calls", "By score, then whether the matter was resolved, then how the caller felt."
    )
    for heading, calls in (("Best", best(report.insights)), ("Worst", worst(report.insights))):
        section.table(_told(calls), heading)
    return [section]


def _told(calls: Sequence[CallInsight]) -> list[dict[str, Any]]:
    return [
        {
            "call": each.key, "agent": each.agent, "score": each.insight.score, "why": each.insight.summary,
            "caller": each.insight.sentiment, "resolved": "yes" if each.insight.resolved else "no",
        }
        for each in calls if each.insight is not None
    ]  # fmt: skip


def _failed(report: CallReport) -> list[hr.Section]:
    if not report.failures:
        return []
    section = hr.Section("Calls without an insight")
    return [section.table([{"call": each.key, "agent": each.agent, "why": each.error} for each in report.failures])]
