"""A survey in; what failed, by reason, and what took longest out."""

from headrace.report.chart import Bar, bars
from headrace.report.html import element, esc, excerpt, folded
from headrace.report.items import main_of
from headrace.report.sample import Row
from headrace.report.survey import FailedKind, Reason, Survey
from headrace.report.text import duration, key_told, percent, plural

_REASONS_SHOWN = 6


def failures(found: Survey) -> str:
    if not found.failures:
        return ""
    rows = [Bar(kind.kind, kind.count, f' data-kind-of="{esc(kind.kind)}"', "f-bad") for kind in found.failures]
    overview = bars(rows, found.failed, ("kind", "items")) if len(rows) > 1 else ""
    said = f'<p class="soft small">{found.failed:,} of {plural(found.items, "item")} ({percent(found.failed, found.items)}).</p>'
    return said + element("div", overview, "kinds") + "\n".join(_kind(kind) for kind in found.failures)


def _kind(kind: FailedKind) -> str:
    ranked = kind.ranked
    told = "".join(_reason(reason, alone=len(ranked) == 1) for reason in ranked[:_REASONS_SHOWN])
    rest = sum(reason.count for reason in ranked[_REASONS_SHOWN:])
    more = f'<p class="soft small">and {plural(rest, "item")} with other messages</p>' if rest else ""
    head = f'<span class="bad">{esc(kind.kind)}</span> · {plural(kind.count, "item")}'
    return f'<article class="failure"><h3>{head}</h3>{told}{more}</article>'


def _reason(reason: Reason, *, alone: bool) -> str:
    hint = f'<p class="cure" dir="auto">{esc(reason.hint)}</p>' if reason.hint else ""
    count = "" if alone else f'<span class="soft n">{reason.count:,} \u00d7 </span>'
    examples = "".join(f"<li>{_example(row, reason.message)}</li>" for row in reason.examples)
    return f'<p>{count}<span dir="auto">{esc(reason.message)}</span></p>{hint}<ul class="small">{examples}</ul>'


def _example(row: Row, message: str) -> str:
    text = excerpt(main_of(row).text)
    own = f'<br><span dir="auto">{esc(row.message)}</span>' if row.message != message else ""
    raw = f'<br><span class="soft">it answered:</span> {folded(row.raw)}' if row.raw.text else ""
    return f'<span class="mono soft">{esc(excerpt(key_told(row.key), 60))}</span> <span dir="auto">{esc(text)}</span>{own}{raw}'


def slowest(found: Survey) -> str:
    if len(found.slowest) < 2:
        return ""
    most = found.slowest[0].seconds
    median = f" The median call took {duration(found.seconds.median)}." if found.seconds is not None else ""
    said = f'<p class="soft small">The last attempt of each, without the time before it.{esc(median)}</p>'
    head = '<thead class="away"><tr><th scope="col">item</th><th scope="col">bar</th><th scope="col">time</th></tr></thead>'
    rows = "".join(_slow(row, most) for row in found.slowest)
    widths = '<colgroup><col class="c-name"><col><col class="c-n"></colgroup>'
    return f'{said}<table class="slow">{widths}{head}<tbody>{rows}</tbody></table>'


def _slow(row: Row, most: float) -> str:
    css = "f-bad" if row.kind else "f-bar"
    rect = f'<rect class="{css}" width="{100 * row.seconds / most:.2f}%" height="100%"/>'
    failed = f' <span class="bad">{esc(row.kind)}</span>' if row.kind else ""
    tries = f", {plural(row.attempts, 'call')}" if row.attempts > 1 else ""
    return (
        f'<tr><th scope="row" dir="auto"><span class="mono soft">{esc(excerpt(key_told(row.key), 60))}</span>{failed} '
        f'{esc(excerpt(main_of(row).text))}</th><td><svg aria-hidden="true">{rect}</svg></td>'
        f'<td class="n">{esc(duration(row.seconds))}{esc(tries)}</td></tr>'
    )
