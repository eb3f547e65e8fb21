"""What an analysis comes to, as plain values: findings, functions in doubt, and what could not be read or answered."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Severity = Literal["low", "medium", "high"]
Strategy = Literal["rules", "model", "hybrid"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
STORE = ".headrace/store.db"
"""Where answers are kept, if nothing is said."""


def rank(severity: Severity) -> int:
    """0 for low, 2 for high."""
    return SEVERITIES.index(severity)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one test."""

    rule: str
    """Its id, such as HQ004."""
    name: str
    severity: Severity
    path: str
    line: int
    test: str
    """The function, with its class: `TestLogin.test_wrong_password`."""
    message: str
    advice: str = ""
    by: Literal["rules", "model"] = "rules"

    @property
    def order(self) -> tuple[Any, ...]:
        """Severest first, then as one reads: the same order however the answers came."""
        return (-rank(self.severity), self.path, self.line, self.rule, self.test, self.message)


@dataclass(frozen=True)
class Uncertain:
    """A test that rules cannot judge, and the questions that they leave."""

    path: str
    line: int
    test: str
    questions: tuple[str, ...]
    """Ids such as HQ101."""
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Unread:
    """A file that is none of the analysis, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Unanswered:
    """A question that came to nothing: its call failed, or the run ended before it."""

    path: str
    line: int
    test: str
    question: str
    kind: str
    message: str


@dataclass(frozen=True)
class QualityReport:
    """What `analyse` returns. All parts are in an order that depends on the code alone."""

    path: str
    strategy: Strategy
    files: int
    """That were read."""
    tests: int
    findings: tuple[Finding, ...]
    """Severest first."""
    uncertain: tuple[Uncertain, ...]
    questions: int = 0
    """That were put to the model."""
    calls: int = field(default=0, compare=False)
    """That were sent for them; fewer where functions are identical or were answered before."""
    unread: tuple[Unread, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    stopped: str = ""
    """Why the provider refused to go on; empty where it did not."""
    run: str = field(default="", compare=False)
    """The name of the run that asked the model: `hr.runs()` has it."""

    @property
    def counts(self) -> dict[Severity, int]:
        """Findings by severity, severest first."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in reversed(SEVERITIES)}

    @property
    def is_partial(self) -> bool:
        """Whether something could not be read or answered."""
        return bool(self.unread or self.unanswered or self.stopped)

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        counts = ", ".join(f"{count} {severity}" for severity, count in self.counts.items() if count)
        found = f"{_plural(len(self.findings), 'finding')} ({counts})" if counts else "no findings"
        parts = [f"{_plural(self.tests, 'test')} in {_plural(self.files, 'file')}: {found}"]
        if self.uncertain:
            parts.append(f"{_plural(len(self.uncertain), 'test')} in doubt")
        if self.questions:
            parts.append(f"{_plural(self.questions, 'question')}, {_plural(self.calls, 'call')}")
        if self.unanswered:
            parts.append(f"{len(self.unanswered)} not answered")
        return "; ".join(parts) + "."

    def reaches(self, severity: Severity) -> bool:
        """Whether a finding is at least so severe."""
        return any(rank(finding.severity) >= rank(severity) for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON, but for the run."""
        lists = {
            name: [asdict(each) for each in value] for name, value in vars(self).items() if isinstance(value, tuple)
        }
        return {**vars(self), **lists, "counts": self.counts}


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
