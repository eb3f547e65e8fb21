"""A report as SARIF 2.1.0, which code scanning and editors read. Knows the format, and nothing of how findings came."""

from hashlib import sha256
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

import headrace as hr
from headrace.apps.quality.doubts import QUESTIONS
from headrace.apps.quality.findings import Finding, QualityReport
from headrace.apps.quality.rule import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"high": "error", "medium": "warning", "low": "note"}


def sarif(report: QualityReport) -> dict[str, Any]:
    """The log of one run. A file that could not be read and a question that was not answered are notifications."""
    rules = [*_rules(), *_questions()]
    place = {each["id"]: index for index, each in enumerate(rules)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "headrace quality", "version": hr.__version__, "rules": rules}},
                "invocations": [{"executionSuccessful": not report.stopped, "toolExecutionNotifications": _notices(report)}],
                "results": [_result(each, place) for each in report.findings],
            }
        ],
    }  # fmt: skip


def _rules() -> list[dict[str, Any]]:
    return [
        {
            "id": each.id, "name": each.name, "shortDescription": {"text": each.title}, "fullDescription": {"text": " ".join(each.why.split())},
            "defaultConfiguration": {"level": _LEVELS[each.severity]},
        }
        for _, each in sorted(RULES.items())
    ]  # fmt: skip


def _questions() -> list[dict[str, Any]]:
    return [
        {"id": each.id, "name": each.name, "shortDescription": {"text": each.title}, "fullDescription": {"text": each.text}}
        for each in QUESTIONS.values()
    ]  # fmt: skip


def _result(finding: Finding, place: dict[str, int]) -> dict[str, Any]:
    same = sha256(f"{finding.rule}\n{finding.path}\n{finding.test}".encode()).hexdigest()
    return {
        "ruleId": finding.rule,
        "ruleIndex": place[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message} {finding.advice}".strip()},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": _uri(finding.path)}, "region": {"startLine": finding.line}},
                "logicalLocations": [{"fullyQualifiedName": finding.test, "kind": "function"}],
            }
        ],
        "partialFingerprints": {"headraceTest/v1": same},
    }  # fmt: skip


def _notices(report: QualityReport) -> list[dict[str, Any]]:
    unread = [_notice(each.path, each.reason) for each in report.unread]
    return unread + [
        _notice(each.path, f"{each.test}, {each.question}: {each.message}", each.line) for each in report.unanswered
    ]


def _notice(path: str, text: str, line: int = 1) -> dict[str, Any]:
    where = {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": line}}
    return {"level": "warning", "message": {"text": text}, "locations": [{"physicalLocation": where}]}


def _uri(path: str) -> str:
    """Relative paths stay so: whoever reads it knows where the repository is."""
    if PureWindowsPath(path).drive:
        return "file:///" + quote(path, safe="/:")
    return ("file://" if PurePosixPath(path).is_absolute() else "") + quote(str(PurePosixPath(path)))
