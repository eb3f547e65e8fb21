"""A survey and a snapshot in, the section on cost, time and tokens out: how they are distributed, and what they add up
to."""

from collections.abc import Iterator

from headrace.core.ports import Counts
from headrace.engine.snapshot import Snapshot
from headrace.report.answers import estimated, histogram
from headrace.report.html import element, esc, note
from headrace.report.lines import cost_line, paid_again_line
from headrace.report.measure import Summary
from headrace.report.survey import Survey
from headrace.report.text import dollars, duration, number, percent, plural

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
    paid = element("p", esc(" ".join(_paid(found, counts, snapshot))))
    return f"{paid}{_table(known)}{note(said.strip())}\n{element('div', cards, 'fields')}"


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


def _paid(found: Survey, counts: Counts, snapshot: Snapshot | None) -> Iterator[str]:
    """What it cost, over all sessions, and what of the last one was paid more than once."""
    asked = found.items - found.cached
    if counts.usd is not None:
        each = (
            f", {dollars(counts.usd / asked)} for each of the {plural(asked, 'item')} that took a call" if asked else ""
        )
        yield f"The answers cost {dollars(counts.usd)}{each}."
    elif counts.input_tokens or counts.output_tokens:
        yield "What the answers cost is not known: the model has no price."
    if snapshot is None:
        return
    if counts.usd is not None and snapshot.unpriced:
        yield f"Last session: {cost_line(snapshot)}."
    if again := paid_again_line(snapshot):
        yield f"Perhaps paid for and not used in the last session: {again}."
    stages = {name: usd for name, usd in snapshot.stage_usd.items() if name}
    if len(stages) > 1:
        yield f"By stage: {', '.join(f'{name} {dollars(usd)}' for name, usd in stages.items())}."


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
