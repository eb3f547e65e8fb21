"""A report as a page: counts, findings, what was not looked at. All of its text is foreign, and shown as text."""

import os
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import headrace as hr
from headrace.apps.quality.findings import SEVERITIES, STORE, QualityReport

TITLE = "Quality of tests"
_SHOWN = 20


def write_page(path: str | os.PathLike[str], report: QualityReport, store: str | os.PathLike[str] = STORE) -> None:
    """The page, with all of the run that asked the model; where none was asked, the rules are the run. Raises
    OutputError."""
    if report.run:
        run = next(run for run in hr.runs(store) if run.name == report.run)
        run.report(path, sections(report), TITLE)
        return
    with TemporaryDirectory() as folder:
        rules = hr.Map(lambda _row: report.counts, name="rules")
        run = hr.run(
            rules, [{"path": report.path}], key="path", store=Path(folder, "store.db"), name="rules", progress=False
        )
        run.report(path, sections(report), TITLE)


def sections(report: QualityReport) -> list[hr.Section]:
    """For `run.report(path, sections=...)`."""
    return [_summary(report), *_findings(report), *_missing(report)]


def _summary(report: QualityReport) -> hr.Section:
    section = hr.Section("Summary", report.sentence)
    if report.stopped:
        section.text(f"Stopped early: {report.stopped}")
    if not report.findings:
        return section
    rules = Counter(f"{each.rule} {each.name}" for each in report.findings)
    section.bars("Severity", {str(severity): count for severity, count in report.counts.items()}, "findings").bars(
        "Rule", dict(rules.most_common(_SHOWN)), "findings"
    )
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in report.findings:
        files[each.path][each.severity] += 1
    most = sorted(files.items(), key=lambda file: (-file[1].total(), file[0]))[:_SHOWN]
    rows = {path: {str(severity): count[severity] for severity in reversed(SEVERITIES)} for path, count in most}
    return section.shares("Files with most findings", rows, bad=["high"], faint=["low"])


def _findings(report: QualityReport) -> list[hr.Section]:
    rows = [
        {
            "severity": each.severity, "rule": f"{each.rule} {each.name}", "where": f"{each.path}:{each.line}",
            "test": each.test, "finding": each.message, "advice": each.advice, "by": each.by,
        }
        for each in report.findings
    ]  # fmt: skip
    return [hr.Section("Findings", "Severest first.").table(rows)] if rows else []


def _missing(report: QualityReport) -> list[hr.Section]:
    """What could not be read or answered."""
    rows = [{"where": each.path, "test": "", "question": "", "why": each.reason} for each in report.unread]
    rows += [
        {"where": f"{each.path}:{each.line}", "test": each.test, "question": each.question, "why": each.message}
        for each in report.unanswered
    ]
    return [hr.Section("Not looked at").table(rows)] if rows else []
