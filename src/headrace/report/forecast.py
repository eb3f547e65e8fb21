"""A run's forecast beside what happened, as a section of the page. Enters a Plan and a snapshot, leaves a table."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from headrace.core.ports import Counts, History, RunInfo
from headrace.engine.forecast import Plan, Range, forecast_name, plan_of
from headrace.engine.snapshot import Snapshot
from headrace.report.html import esc, note
from headrace.report.text import dollars, duration, number

_CLOSE = 0.005


@runtime_checkable
class _Remembers(Protocol):
    def memory_of(self, name: str) -> bytes | None: ...


def kept_plan(history: History, run: str) -> Plan | None:
    """The forecast that was made of this run, where one was."""
    return plan_of(history.memory_of(forecast_name(run))) if isinstance(history, _Remembers) else None


def forecast(plan: Plan | None, info: RunInfo, counts: Counts, snapshot: Snapshot | None) -> str:
    """Nothing where no forecast was made, or none before the session that is told of here."""
    if plan is None or snapshot is None or not plan.calls.p50:
        return ""
    began = snapshot.started_at or info.started_at
    if began and plan.made_at > began:
        return ""
    rows = [
        _row("Time", plan.seconds, snapshot.seconds, duration),
        _row("Calls", plan.calls, float(snapshot.calls), _whole),
        _row("Tokens in", plan.input_tokens, float(snapshot.input_tokens), _whole),
        _row("Tokens out", plan.output_tokens, float(snapshot.output_tokens), _whole),
    ]
    if plan.usd is not None:
        rows.append(_row("Cost", plan.usd, counts.usd if counts.usd is not None else None, dollars))
    heads = "".join(f'<th scope="col" class="n">{word}</th>' for word in ("P10", "likely", "P90", "happened", "off by"))
    table = f'<div class="scroll"><table class="plain"><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    return f"{table}{note(_said(plan, snapshot))}"


def _row(label: str, foretold: Range, happened: float | None, said: Callable[[float], str]) -> str:
    told = "" if happened is None else said(happened)
    cells = (said(foretold.p10), said(foretold.p50), said(foretold.p90), told, _off(foretold, happened))
    return f'<tr><th scope="row">{esc(label)}</th>{"".join(f"<td class=n>{esc(cell)}</td>" for cell in cells)}</tr>'


def _off(foretold: Range, happened: float | None) -> str:
    """How far what happened is from what was likely."""
    if happened is None or foretold.p50 <= 0:
        return ""
    off = happened / foretold.p50 - 1
    return "as foretold" if abs(off) < _CLOSE else f"{100 * off:+.0f} %"


def _said(plan: Plan, snapshot: Snapshot) -> str:
    binding = f"{plan.binding.capitalize()} was to bind." if plan.binding else "No limit was to bind."
    waited = max(snapshot.waited_s, key=lambda cause: snapshot.waited_s[cause], default="")
    happened = f" Calls waited most for {waited}." if waited and snapshot.waited_s[waited] > 0 else ""
    inside = plan.seconds.p10 <= snapshot.seconds <= plan.seconds.p90
    return (
        f"{binding}{happened} Of ten runs, eight are expected between P10 and P90; the time of this one was "
        f"{'inside' if inside else 'outside'}."
    )


def _whole(value: float) -> str:
    return number(float(round(value)))
