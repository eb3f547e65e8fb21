"""A survey and a snapshot in, the section on time and tokens out: how they are distributed, and what they add up to."""

from headrace.core.ports import Counts
from headrace.engine.snapshot import Snapshot
from headrace.report.answers import estimated, histogram
from headrace.report.html import element, esc, note
from headrace.report.measure import Summary
from headrace.report.survey import Survey
from headrace.report.text import duration, number, percent, plural

_PERCENTILES = (("median", "median"), ("p90", "P90"), ("p95", "P95"), ("p99", "P99"), ("most", "most"))


def cost(found: Survey, counts: Counts, snapshot: Snapshot | None) -> str:
    measured = [
        ("Seconds of a call", "s", found.seconds),
        ("Input tokens", "tokens", found.input_tokens),
        ("Output tokens", "tokens", found.output_tokens),
    ]
    known = [(name, unit, each) for name, unit, each in measured if each is not None and each.most > 0]
    if not known:
        return ""
    cards = "\n".join(_card(name, unit, each) for name, unit, each in known if each.least < each.most)
    said = _sentences(found, counts, snapshot)
    if cards:
        said = f"The dashed lines are the median and P95. {said}"
    return f"{_table(known)}{note(said.strip())}\n{element('div', cards, 'fields')}"


def _card(name: str, unit: str, numbers: Summary) -> str:
    marks = (("median", numbers.median), ("P95", numbers.p95))
    counted = "answers" if unit == "s" else "items"
    drawn = histogram(numbers, name, "seconds" if unit == "s" else unit, counted, marks=marks)
    return f'<article class="field"><h3>{esc(name)}</h3>{drawn}{estimated(numbers)}</article>'


def _table(known: list[tuple[str, str, Summary]]) -> str:
    heads = "".join(f'<th scope="col" class="n">{word}</th>' for _, word in _PERCENTILES)
    rows = "".join(
        f'<tr><th scope="row">{esc(name)}</th>'
        + "".join(f'<td class="n">{esc(_amount(getattr(numbers, field), unit))}</td>' for field, _ in _PERCENTILES)
        + f'<td class="n">{esc(_amount(numbers.mean, unit))}</td><td class="n">{esc(_amount(numbers.total, unit))}</td></tr>'
        for name, unit, numbers in known
    )
    return (
        '<div class="scroll"><table class="plain"><thead><tr><td></td>'
        f'{heads}<th scope="col" class="n">mean</th><th scope="col" class="n">sum</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _amount(value: float, unit: str) -> str:
    return duration(value) if unit == "s" else number(float(round(value)))


def _sentences(found: Survey, counts: Counts, snapshot: Snapshot | None) -> str:
    said = []
    if found.cached:
        said.append(
            f"{plural(found.cached, 'item')} ({percent(found.cached, found.items)}) took no call: from the store."
        )
    if found.retried:
        said.append(f"{plural(found.retried, 'item')} took more than one call.")
    if not (counts.input_tokens or counts.output_tokens) and found.input_tokens is None:
        said.append("The model did not tell how many tokens it took.")
    if snapshot is not None and snapshot.backups:
        said.append(f"{plural(snapshot.backups, 'call')} of the last session were second ones for stragglers.")
    return " ".join(said)
