"""An audit from a table of brands to its result: scores, figures, what failed; as dashboard data and as a page."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import headrace as hr
from headrace.apps.audit.scores import BrandScore
from headrace.apps.audit.stages import QUERIES, pipeline

_SHOWN = 100


@dataclass(frozen=True)
class Failed:
    """A query, a response or a brand that came to nothing."""

    key: str
    stage: str
    kind: str
    message: str


@dataclass(frozen=True)
class AuditReport:
    """What an audit comes to. Brands are in the order of their table."""

    brands: tuple[BrandScore, ...]
    """Those whose scores are made."""
    successful: int
    """Responses that are part of a score."""
    failed: int
    pending: int | None
    """What was not reached; None where the table was not read to its end."""
    failures: tuple[Failed, ...]
    """The first hundred."""
    seconds: float
    cache_hit_rate: float | None
    """Of the sites that were looked up, those that needed no fetch."""
    calls: int
    usd: float | None
    status: str
    reason: str
    run: str
    """The run's name: `hr.runs()` has it."""

    @property
    def total(self) -> int:
        return self.successful + self.failed

    @property
    def per_second(self) -> float:
        return round(self.total / self.seconds, 3) if self.seconds else 0.0

    @property
    def error_rate(self) -> float:
        return round(self.failed / self.total, 4) if self.total else 0.0

    @property
    def sentence(self) -> str:
        """How it ended, in one line."""
        pending = "" if self.pending == 0 else f", {'some' if self.pending is None else self.pending} pending"
        brands = "1 brand" if len(self.brands) == 1 else f"{len(self.brands)} brands"
        hits = "" if self.cache_hit_rate is None else f" {self.cache_hit_rate:.0%} of the cited sites were known."
        return (
            f"{self.successful} successful, {self.failed} failed{pending}; {brands} scored in "
            f"{self.seconds:.1f} s ({self.per_second:g} responses/s).{hits}"
        )

    def dashboard(self) -> dict[str, Any]:
        """All of it, for JSON."""
        told = {**vars(self), "brands": [each.model_dump() for each in self.brands]}
        told["failures"] = [asdict(each) for each in self.failures]
        return {**told, "total": self.total, "per_second": self.per_second, "error_rate": self.error_rate}


def audit(brands: Any, **how: Any) -> AuditReport:
    """`aaudit` for programs without an event loop."""
    return asyncio.run(aaudit(brands, **how))


async def aaudit(
    brands: Any, *, assistants: Sequence[str | hr.Model] = (), analyst: str | hr.Model | None = None,
    queries: int = QUERIES, responses: Any = None, allow: Sequence[str] = (), **how: Any,
) -> AuditReport:  # fmt: skip
    """How visible brands are in what models answer.

    Args:
        brands: A table with the columns brand and product, and site where a brand has one; or rows of it.
        assistants: The models that are asked.
        analyst: The model that writes the queries and judges the answers; left out, the first assistant.
        queries: For each brand; each is put to each assistant.
        responses: Rows of brand, query, assistant and response that were collected before; then no assistant is asked.
        allow: Private hosts that may be fetched.
        how: All else that `hr.run` takes, such as `deadline=600`.

    What fails is a part of the report. Raises what `hr.run` does.
    """
    judge = analyst or next(iter(assistants), None)
    if judge is None:
        raise hr.UsageError("No model is named.", hint="Name an analyst, or assistants.")
    work = pipeline(assistants, analyst=judge, queries=queries, responses=responses, allow=allow)
    return report_of(await hr.arun(work, brands, **how))


def report_of(run: hr.Run[Any]) -> AuditReport:
    """What a run of the pipeline came to, also where it ended early."""
    brands = tuple(BrandScore.model_validate(outcome.value) for outcome in run if outcome.ok)
    failures = [
        Failed(outcome.key, outcome.stage, outcome.error.kind, outcome.error.message)
        for outcome in run.failures()
        if outcome.error is not None
    ]
    known = [
        not outcome.attempts
        for outcome in run.drops()
        if outcome.stage == "scores" and outcome.item and outcome.item.get("domain")
    ]
    return AuditReport(
        brands=brands, successful=sum(each.responses for each in brands), failed=len(failures), pending=run.pending,
        failures=tuple(failures[:_SHOWN]), seconds=run.seconds or 0.0,
        cache_hit_rate=round(sum(known) / len(known), 3) if known else None, calls=run.calls, usd=run.usd,
        status=run.status, reason=run.reason, run=run.name,
    )  # fmt: skip


def write_dashboard(path: str | os.PathLike[str], report: AuditReport) -> None:
    """The dashboard's data as JSON. Raises OutputError."""
    try:
        Path(path).write_text(json.dumps(report.dashboard(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise hr.OutputError(f"{path} cannot be written: {error.strerror}.", hint="Write elsewhere.") from None


def sections(report: AuditReport) -> list[hr.Section]:
    """The dashboard, for `run.report(path, sections=...)`."""
    best = sorted(report.brands, key=lambda each: -(each.score or 0.0))
    head = hr.Section("Dashboard", report.sentence)
    head.figures({
        "brands": len(best), "successful": report.successful, "failed": report.failed, "responses/s": report.per_second,
        "sites known": "-" if report.cache_hit_rate is None else f"{report.cache_hit_rate:.0%}",
        "error rate": f"{report.error_rate:.1%}",
    })  # fmt: skip
    head.table([
        {
            "brand": each.brand, "product": each.product, "score": each.score, "visibility": each.visibility,
            "sentiment": each.sentiment, "citations": each.citations, "share of voice": each.share_of_voice,
            "named in": f"{each.mentions} of {each.responses}",
        }
        for each in best
    ])  # fmt: skip
    named = {each.brand: {"named": each.mentions, "not named": each.responses - each.mentions} for each in best}
    head.shares("Answers that name the brand", named)
    voices = hr.Section("Rivals and assistants").table([
        {
            "brand": each.brand, **{f"visibility, {name}": value for name, value in each.by_assistant.items()},
            "rivals": [f"{name} ({count})" for name, count in each.rivals.items()],
        }
        for each in best
    ])  # fmt: skip
    cited = hr.Section("Cited sites").table([
        {
            "brand": each.brand, "site": source.domain, "cited": source.cited, "state": source.state,
            "own": "yes" if source.own else "", "names the brand": "yes" if source.names_brand else "",
        }
        for each in best
        for source in each.sources
    ])  # fmt: skip
    return [head, voices, cited]
