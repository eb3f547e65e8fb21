"""From a table of calls to an insight for each, and to a report on all of them."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import headrace as hr
from headrace.apps.calls.asking import CallInsight, Insight, Themes, category, question, seconds_of
from headrace.apps.calls.asking import themes as themes_of

STORE = ".headrace/store.db"


@dataclass(frozen=True)
class CallReport:
    """All that was found. `figures.py` reckons with it, `page.py` shows it."""

    run: hr.Run[Insight]
    insights: tuple[CallInsight, ...]
    """One for each call that has an outcome, in the order of the table."""
    themes: Themes | None = None
    without_themes: str = ""
    """Why there are none."""
    lacks_themes: bool = False
    """Whether they were asked for, and that failed."""

    @property
    def failures(self) -> list[CallInsight]:
        return [each for each in self.insights if not each.analysis_success]

    @property
    def partial(self) -> bool:
        """Whether the run ended before its table; `run.reason` says why."""
        return self.run.status != "finished"

    def rows(self) -> list[dict[str, Any]]:
        """For `pandas.DataFrame(...)`."""
        return [each.row() for each in self.insights]


def analyse(calls: Any, **how: Any) -> CallReport:
    """`aanalyse` for programs without an event loop."""
    return asyncio.run(aanalyse(calls, **how))


async def aanalyse(
    calls: Any, *, model: str | hr.Model, text: str = "transcript", themes: bool = True,
    asked: Mapping[str, Any] = {}, store: str | os.PathLike[str] = STORE, **how: Any,
) -> CallReport:  # fmt: skip
    """What was said in a table of calls, call by call and all together.

    Args:
        calls: As for `hr.run`: a path, rows, a data frame. The columns `agent` and `duration_s` are used where they are.
        model: As for `hr.Ask`.
        text: The column of what was said.
        themes: Whether to ask what the calls have in common.
        asked: What all questions are asked with, as `temperature`.
        store: Where answers are kept: what was asked once is never paid for again.
        how: All else that `hr.run` takes.

    Calls that fail are part of the report. Raises what `hr.run` does.
    """
    if isinstance(how.get("budget"), int | float):  # one for both runs
        how["budget"] = hr.Budget(how["budget"], f"calls of {how.get('name') or calls}"[:200])
    run = await hr.arun(question(model, text=text, **asked), calls, store=store, **how)
    shared = {name: how[name] for name in ("limits", "retry", "timeout", "prices", "budget") if name in how}
    return await report_of(run, model if themes else None, asked=asked, store=store, **shared)


async def report_of(
    run: hr.Run[Insight], model: str | hr.Model | None = None, *, asked: Mapping[str, Any] = {}, **how: Any
) -> CallReport:
    """What a run came to, and with a model what its calls have in common."""
    insights = tuple(map(_insight, run))
    rows = [each.insight.model_dump() for each in insights if each.insight is not None]
    if model is None:
        return CallReport(run, insights, without_themes="They were not asked for.")
    if run.status != "finished":
        return CallReport(run, insights, without_themes="The run ended before its table.")
    if len(rows) < 2:
        return CallReport(run, insights, without_themes="Too few calls were understood.")
    found, why = await _themes(rows, model, asked, name=f"{run.name}-themes", **how)
    return CallReport(run, insights, found, why, lacks_themes=found is None)


async def _themes(
    rows: Sequence[Mapping[str, Any]], model: str | hr.Model, asked: Mapping[str, Any], **how: Any
) -> tuple[Themes | None, str]:
    """The themes, or why there are none: that is no reason to lose the insights."""
    try:
        run = await hr.arun(themes_of(model, len(rows), **asked), rows, progress=False, **how)
    except hr.CallError as error:
        return None, error.message
    for outcome in run:
        if outcome.value is not None:
            return outcome.value, ""
    return None, next((str(outcome.error) for outcome in run.failures()), run.reason)


def _insight(outcome: hr.Outcome[Insight]) -> CallInsight:
    row = outcome.item if isinstance(outcome.item, Mapping) else {}
    return CallInsight(
        key=outcome.key, agent=str(row.get("agent") or ""), seconds=seconds_of(row), category=category(row),
        analysis_success=outcome.ok, error=str(outcome.error or ""), insight=outcome.value,
    )  # fmt: skip
