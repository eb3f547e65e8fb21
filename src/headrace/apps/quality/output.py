"""A report as text for people, as JSON for programs, as SARIF for code scanning. What a model or a file says is foreign:
on a terminal it cannot act."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import headrace as hr
from headrace.apps.quality.findings import Finding, QualityReport
from headrace.apps.quality.sarif import sarif

_COLOURS = {"high": "31", "medium": "33", "low": "36"}
FORMATS = ("text", "json", "sarif")
ENDINGS = {".txt": "text", ".json": "json", ".sarif": "sarif", ".sarif.json": "sarif"}


def format_of(path: str | os.PathLike[str], said: str | None = None) -> str:
    """The format of a file: what is said, or what its ending says. Raises UsageError where these are two."""
    name = Path(path).name.lower()
    ending = max((each for each in ENDINGS if name.endswith(each)), key=len, default="")
    if said is None and not ending:
        raise hr.UsageError(
            f"The ending of {path} says no format.", hint=f"Endings are {', '.join(ENDINGS)}; or say the format."
        )
    if said is not None and ending and ENDINGS[ending] != said:
        raise hr.UsageError(f"{path} does not end as {said} does.", hint="Change the ending or the format.")
    return said or ENDINGS[ending]


def rendered(report: QualityReport, form: str = "text", *, coloured: bool = False) -> str:
    """The report in one of FORMATS, with a line end at its end."""
    if form == "text":
        return "".join(f"{line}\n" for line in _lines(report, _coloured if coloured else _plain))
    value = sarif(report) if form == "sarif" else report.as_dict()
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


Style = Callable[[str, str], str]


def _plain(text: str, _code: str) -> str:
    return text


def _coloured(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _lines(report: QualityReport, style: Style) -> Iterator[str]:
    by_file: dict[str, list[Finding]] = {}
    for finding in report.findings:  # severest first, and so is the order of the files
        by_file.setdefault(finding.path, []).append(finding)
    for path, findings in by_file.items():
        yield style(safe(path), "1")
        for each in findings:
            mark = style(f"{each.severity:<6}", _COLOURS[each.severity])
            by = " (model)" if each.by == "model" else ""
            yield f"  {mark}  {each.line:>5}  {each.rule} {each.name}{by}  {safe(each.test)}"
            yield f"          {safe(each.message)}"
            if each.advice:
                yield style(f"          {safe(each.advice)}", "2")
        yield ""
    yield from _troubles(report)
    if not report.files and not report.unread:
        yield f"No test files at or below {safe(report.path)}: test_*.py and *_test.py are looked at."
    yield style(report.sentence, "1")


def _troubles(report: QualityReport) -> Iterator[str]:
    for file in report.unread:
        yield f"Not read: {safe(file.path)}. {safe(file.reason)}"
    for each in report.unanswered:
        yield f"Not answered: {safe(each.path)}:{each.line} {safe(each.test)}, {each.question} [{each.kind}] {safe(each.message)}"
    if report.stopped:
        yield f"Stopped early: {safe(report.stopped)}"
    if report.unread or report.unanswered or report.stopped:
        yield ""


def safe(text: str) -> str:
    """On one line, without what a terminal or the order of letters would act on."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
