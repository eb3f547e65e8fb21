"""A run in, one HTML page out that opens anywhere: no script or style from elsewhere, nothing loaded, all text escaped.

Reads the outcomes once, in bounded memory. Knows neither store nor command line.
"""

import base64
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from headrace.core.errors import OutputError, UsageError
from headrace.core.item import Outcome
from headrace.core.ports import Counts, History, RunInfo
from headrace.engine.forecast import Plan
from headrace.engine.snapshot import Snapshot, snapshot_of
from headrace.report.answers import answers
from headrace.report.asked import asked_list
from headrace.report.cost import cost
from headrace.report.course import bound, course
from headrace.report.failures import failures, slowest
from headrace.report.forecast import forecast, kept_plan
from headrace.report.html import esc
from headrace.report.items import columns_of, items
from headrace.report.limits import limits
from headrace.report.opening import footer, of_session, opening, totals
from headrace.report.section import Section
from headrace.report.stages import stages
from headrace.report.survey import survey
from headrace.task.prompt import Template

_ENDINGS = frozenset({".html", ".htm"})


def report(
    path: str | os.PathLike[str], info: RunInfo, history: History, sections: Iterable[Section] = (), title: str = ""
) -> None:
    """Write the page of this run, from what the store has of it. A program's own sections stand first; `title` takes
    the place of the run's name. Raises OutputError and StoreError."""
    check_name(path)
    kept = history.run(info.id) or info
    plan = kept_plan(history, kept.id)
    kept = msgspec.structs.replace(kept, name=title or kept.name)
    write(path, render(kept, history.counts(kept.id), lambda: history.scan(kept.id), plan, [*sections]))


def render(
    info: RunInfo, counts: Counts, outcomes: Callable[[], Iterator[Outcome]], plan: Plan | None = None,
    own: Sequence[Section] = (),
) -> str:  # fmt: skip
    """The page; `plan` is what was foretold of the run, `own` what a program has to say of it."""
    schema, snapshot = info.spec.get("schema"), snapshot_of(info.figures)
    found = survey(outcomes(), schema if isinstance(schema, Mapping) else None, seed=info.id, asked=_asked(info.spec))
    sections = [
        *((f"own-{number}", esc(section.title), section.html) for number, section in enumerate(own, 1)),
        ("asked", "What was asked", asked_list(info.source, info.spec)),
        ("answers", "Answers", answers(found, columns_of(found.fields))),
        ("items", "Items and answers", items(found, counts)),
        ("failures", "Failures", failures(found)),
        ("slowest", "Slowest items", slowest(found)),
        ("cost", "Cost, time and tokens", cost(found, counts, snapshot)),
        *_of_the_session(info, snapshot),
        ("forecast", "What was forecast", forecast(plan, info, counts, snapshot)),
    ]
    there = [(place, title, content) for place, title, content in sections if content]
    body = [
        opening(info, counts, found),
        totals(info, counts, found, snapshot),
        _contents([(place, title) for place, title, _ in there]),
        *(f'<section id="{place}">\n<h2>{title}</h2>\n{content}\n</section>' for place, title, content in there),
        footer(info),
    ]
    return _filled(info.name or info.source or info.id, "\n".join(part for part in body if part))


def _asked(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that the prompt names."""
    prompt = spec.get("prompt")
    try:
        return Template(prompt).fields if isinstance(prompt, str) else ()
    except UsageError:  # a prompt of a store that was changed by hand; the page shows it as it is
        return ()


def _of_the_session(info: RunInfo, snapshot: Snapshot | None) -> list[tuple[str, str, str]]:
    said = of_session(info, snapshot)
    parts = [
        ("stages", "The stages", stages(snapshot)),
        ("bound", "Where the time went", bound(snapshot)),
        ("course", "How the run went", course(snapshot)),
        ("limits", "Limits and calls", limits(snapshot)),
    ]
    there = [(place, title, content) for place, title, content in parts if content]
    if not there:
        return [("course", "How the run went", said)] if said else []
    return [(place, title, said + content if i == 0 else content) for i, (place, title, content) in enumerate(there)]


def _contents(sections: list[tuple[str, str]]) -> str:
    links = "".join(f'<li><a href="#{place}">{title}</a></li>' for place, title in sections)
    return f'<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>' if len(sections) > 2 else ""


def _filled(name: str, body: str) -> str:
    script, style = _asset("page.js"), _asset("page.css")
    parts: Mapping[str, Any] = {
        "title": esc(f"{name}, headrace"),
        "style": style,
        "script": script,
        "style_hash": _csp_hash(style),
        "script_hash": _csp_hash(script),
        "body": body,
    }
    # One pass: what is filled in is never searched for further places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def write(path: str | os.PathLike[str], page: str) -> None:
    """Put the page there in one step: a reader sees the old file or the new one. Raises OutputError."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(target, error) from error


def check_name(path: str | os.PathLike[str]) -> None:
    """Raises OutputError for a name that no browser would take for a page."""
    target = Path(path)
    if target.suffix.lower() not in _ENDINGS:
        what = f"ends in {target.suffix}" if target.suffix else "has no ending"
        raise OutputError(
            f"The report {path} {what}; a report is a page of HTML.",
            hint=f"Name it {target.with_suffix('.html') if target.name else 'report.html'}; a browser prints it as PDF.",
        )


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where a report could not be written; for before the first call rather than after the last."""
    check_name(path)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> OutputError:
    reason = (error.strerror or str(error)).lower()
    missing = not target.parent.is_dir()
    hint = f"Create the folder {target.parent} first." if missing else "Choose another file for the report."
    return OutputError(f"The report {target} cannot be written: {reason}.", hint=hint)


@cache
def _asset(name: str) -> str:
    return resources.files("headrace.report").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"
