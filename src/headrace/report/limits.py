"""A snapshot in; the limits, how far each was used, how they changed, which calls failed and what was paid twice, out."""

from collections.abc import Iterable, Sequence

from headrace.engine.snapshot import LimitChange, LimitUse, Snapshot
from headrace.report.chart import Bar, bars
from headrace.report.course import CAUSES, OTHER_CAUSE
from headrace.report.html import element, esc, figures, note
from headrace.report.text import allowance, duration, limit_of, percent, plural, size


def limits(snapshot: Snapshot | None) -> str:
    """Nothing where no calls were made, or where their session is over and told elsewhere."""
    if snapshot is None:
        return ""
    rest = [_errors(snapshot), _paid_again(snapshot), _process(snapshot)]
    parts = [_limits(snapshot), _changes(snapshot.changes, snapshot.uses), _grid(rest)]
    return "\n".join(part for part in parts if part)


def _grid(cards: Iterable[str]) -> str:
    return element("div", "\n".join(card for card in cards if card), "fields")


def _card(title: str, said: str, content: str) -> str:
    return f'<article class="field"><h3>{esc(title)}</h3>{note(said)}{content}</article>'


def _limits(snapshot: Snapshot) -> str:
    uses = [use for use in snapshot.uses if use.allowed is not None or use.most_allowed is not None or use.most > 0]
    if not uses:
        return ""
    last = {(each.unit, each.window_s): each for each in snapshot.changes}
    rows = "".join(_limit(use, last.get((use.unit, use.window_s))) for use in uses)
    heads = "".join(
        f'<th scope="col"{css}>{name}</th>'
        for name, css in (("Limit", ""), ("known", ""), ("used at most", ' class="n"'), ("on average", ' class="n"'))
    )
    return f'<div class="scroll"><table class="plain limits"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _limit(use: LimitUse, change: LimitChange | None) -> str:
    known = change.reason if change is not None else "" if use.learnt else "stated"
    if use.learnt and (change is None or change.limit != use.allowed):  # it has moved since, in small steps
        known = "found"
    if use.allowed is None:
        known = (change.reason if change is not None else "") or "none known"
    most = allowance(use.most, 0.0)
    if use.most_allowed:
        most += f" of {allowance(use.most_allowed, 0.0)} ({percent(use.most, use.most_allowed)})"
    mean = "" if use.mean_pace is None else percent(use.mean_pace, 100)
    return (
        f'<tr><th scope="row">{esc(limit_of(use.unit, use.allowed, use.window_s, about=use.learnt))}</th>'
        f'<td class="soft" dir="auto">{esc(known)}</td><td class="n">{esc(most)}</td><td class="n">{esc(mean)}</td></tr>'
    )


def _changes(changes: Sequence[LimitChange], uses: Sequence[LimitUse]) -> str:
    if not changes:
        return ""
    learnt = {(use.unit, use.window_s) for use in uses if use.learnt}
    rows = "".join(
        f'<tr><td class="n">{esc(duration(max(0.0, each.after_s)))}</td>'
        f"<td>{esc(limit_of(each.unit, each.limit, each.window_s, about=(each.unit, each.window_s) in learnt))}</td>"
        f'<td class="soft" dir="auto">{esc(each.reason)}</td></tr>'
        for each in changes
    )
    said = plural(len(changes), "change")
    return (
        f'<details class="changes"><summary>{said} of a limit, with the reason</summary>'
        f'<table class="plain"><tbody>{rows}</tbody></table></details>'
    )


def _errors(snapshot: Snapshot) -> str:
    if not snapshot.call_errors:
        return ""
    failed = sum(each.count for each in snapshot.call_errors)
    calls = max(snapshot.calls, failed)
    rows = [
        Bar(each.kind if each.status is None else f"{each.status} {each.kind}", each.count, css=CAUSES["breaker"])
        for each in snapshot.call_errors
    ]
    return _card("Failed calls", f"of {plural(calls, 'call')}", bars(rows, calls, ("status", "calls")))


def _paid_again(snapshot: Snapshot) -> str:
    if not snapshot.paid_again:
        return ""
    ranked = sorted(snapshot.paid_again.items(), key=lambda pair: -pair[1])
    rows = [Bar(cause, count, css=OTHER_CAUSE) for cause, count in ranked]
    said = plural(snapshot.backups, "backup") + " sent" if snapshot.backups else ""
    return _card("Perhaps paid twice", said, bars(rows, max(snapshot.calls, ranked[0][1]), ("cause", "calls")))


def _process(snapshot: Snapshot) -> str:
    entries = []
    if snapshot.cpu_s:
        entries.append(("CPU", duration(snapshot.cpu_s), ""))
    if snapshot.cpu_share is not None:
        entries.append(("of one core", percent(snapshot.cpu_share, 1.0), ""))
    if snapshot.memory_bytes:
        entries.append(("most memory", size(snapshot.memory_bytes), ""))
    return _card("This process", "", figures("figures", entries)) if entries else ""
