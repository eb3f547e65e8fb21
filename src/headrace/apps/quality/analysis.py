"""From a path to a report: rules on every file, then one run that asks the model about all tests in doubt together."""

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import headrace as hr
from headrace.apps.quality import rules_checks, rules_reach, rules_shape, rules_state, rules_world
from headrace.apps.quality.doubts import GENERAL, PROMPT, QUESTIONS, SYSTEM, VERDICT, Doubt, doubts, shown
from headrace.apps.quality.findings import (
    STORE,
    STRATEGIES,
    Finding,
    QualityReport,
    Strategy,
    Unanswered,
    Uncertain,
    Unread,
)
from headrace.apps.quality.reading import Function, Module, read
from headrace.apps.quality.rule import RULES

FILES_OF_RULES = (rules_checks, rules_reach, rules_world, rules_state, rules_shape)
"""Being imported, they are in RULES."""
CONCURRENCY = 10
MOST_CONCURRENCY = 50
CONCURRENCY_VARIABLE = "HEADRACE_QUALITY_CONCURRENCY"
TIMEOUT_S = 120.0


@dataclass
class _Looked:
    """What rules come to, file by file."""

    files: int
    tests: int
    findings: list[Finding]
    uncertain: list[Uncertain]
    unread: list[Unread]
    items: list[dict[str, str]]
    """The questions: rows of the run."""


def analyse(path: str | os.PathLike[str], **how: Any) -> QualityReport:
    """`aanalyse` for programs without an event loop."""
    return asyncio.run(aanalyse(path, **how))


async def aanalyse(
    path: str | os.PathLike[str], *, strategy: Strategy = "hybrid", model: str | hr.Model | None = None,
    concurrency: int | None = None, timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - of each call
    store: str | os.PathLike[str] = STORE, params: Mapping[str, Any] = {}, temperature: float | None = None,
    max_tokens: int | None = None, exclude: Sequence[str] = (), ignore: Collection[str] = (), **how: Any,
) -> QualityReport:  # fmt: skip
    """What is wrong with the tests at or below `path`, as rules and a model find it.

    Args:
        path: A folder, looked through for `test_*.py` and `*_test.py`, or one file. Nothing in it is run.
        strategy: "rules" asks no model; "hybrid" asks it about tests that rules cannot judge; "model" about all, and
            rules have no say.
        model: As for `hr.Ask`.
        concurrency: Calls in flight at most, 1 to 50; 1 is one after the other. Left out, HEADRACE_QUALITY_CONCURRENCY
            says so, else 10.
        timeout: The most seconds for one call.
        params: As `temperature` and `max_tokens`, for `hr.Ask`.
        temperature: Sent as it is.
        max_tokens: Of an answer.
        store: Where answers are kept: what is not changed is not asked again.
        exclude: Patterns of paths below `path` that are not looked at, such as "data/*".
        ignore: Ids of rules and questions that have no say.
        how: All else that `hr.stream` takes, such as `deadline=60`.

    A call that fails is a part of the report. Raises UsageError and InputError before the first call.
    """
    if strategy not in STRATEGIES:
        raise hr.UsageError(f"There is no strategy {strategy!r}.", hint=f"Choose from {', '.join(STRATEGIES)}.")
    if strategy != "rules" and model is None:
        raise hr.UsageError(
            f"The strategy {strategy} asks a model, and none is named.", hint="Name one, or choose the strategy rules."
        )
    unknown = sorted(set(ignore) - {*RULES, *QUESTIONS})
    if unknown:
        raise hr.UsageError(
            f"There is no rule {unknown[0]!r}.", hint=f"Rules are {', '.join(sorted({*RULES, *QUESTIONS}))}."
        )
    calls_at_once = concurrency_of(concurrency)
    looked = await asyncio.to_thread(_look, path, strategy, exclude, ignore)
    report = QualityReport(
        path=str(path), strategy=strategy, files=looked.files, tests=looked.tests, findings=_sorted(looked.findings),
        uncertain=tuple(looked.uncertain), questions=len(looked.items), unread=tuple(looked.unread),
    )  # fmt: skip
    if model is None or not looked.items:
        return report
    ask = hr.Ask(
        PROMPT,
        system=SYSTEM,
        returns=VERDICT,
        model=model,
        params=params,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    how = {"limits": hr.Limits(calls_at_once), "timeout": timeout, "store": store, **how}
    return await _asked(report, ask, looked.items, how)


def concurrency_of(given: int | str | None, environ: Mapping[str, str] = os.environ) -> int:
    """The number that is given, else the environment's, else 10. Raises UsageError where it is none from 1 to 50."""
    said, where = given, "The concurrency"
    if said is None and environ.get(CONCURRENCY_VARIABLE, "").strip():
        said, where = environ[CONCURRENCY_VARIABLE], CONCURRENCY_VARIABLE
    if said is None:
        return CONCURRENCY
    try:
        number = int(said)
    except ValueError:
        number = 0
    if isinstance(said, bool) or str(number) != str(said).strip() or not 1 <= number <= MOST_CONCURRENCY:
        raise hr.UsageError(f"{where} is {said!r}.", hint=f"Give a whole number from 1 to {MOST_CONCURRENCY}.")
    return number


def _look(path: str | os.PathLike[str], strategy: Strategy, exclude: Sequence[str], ignore: Collection[str]) -> _Looked:
    modules, unread = read(path, exclude)
    looked = _Looked(0, 0, [], [], unread, [])
    for module in modules:
        try:
            _look_at(module, strategy, looked, ignore)
        except RecursionError:  # the parser takes a little more than those who walk what it made
            unread.append(Unread(module.path, "It is nested too deeply."))
    unread.sort(key=lambda each: each.path)
    return looked


def _look_at(module: Module, strategy: Strategy, looked: _Looked, ignore: Collection[str]) -> None:
    """All of a file, or where that is nested too deeply nothing of it."""
    rules = [] if strategy == "model" else [each for each in RULES.values() if each.id not in ignore]
    findings: list[Finding] = []
    uncertain: list[Uncertain] = []
    items: list[dict[str, str]] = []
    for test in module.tests:
        found = [each for rule in rules for each in rule.findings(test)]
        findings += found
        left = [each for each in _left(test, strategy, found) if each[0] not in ignore]
        if not left:
            continue
        questions, reasons = zip(*left, strict=True)
        doubt = Uncertain(module.path, test.node.lineno, test.name, questions, reasons)
        uncertain.append(doubt)
        if strategy != "rules":
            items += _items(doubt, shown(test))
    looked.files += 1
    looked.tests += len(module.tests)
    looked.findings += findings
    looked.uncertain += uncertain
    looked.items += items


def _left(test: Function, strategy: Strategy, found: Sequence[Finding]) -> Iterable[Doubt]:
    """What is to be asked about a test."""
    if strategy == "model":
        return [(question, "every test is asked about") for question in GENERAL]
    if any(each.severity == "high" for each in found):  # it is to be rewritten anyway
        return []
    return doubts(test)


def _items(doubt: Uncertain, code: str) -> list[dict[str, str]]:
    """The columns of the prompt are the question and the code alone: identical functions are asked about once."""
    where = {"path": doubt.path, "line": str(doubt.line), "test": doubt.test}
    return [
        {"id": f"{doubt.path}:{doubt.line}:{doubt.test}:{each}", **where, "rule": each, "question": QUESTIONS[each].text, "code": code}
        for each in doubt.questions
    ]  # fmt: skip


async def _asked(
    report: QualityReport, ask: hr.Ask[dict[str, Any]], items: Sequence[dict[str, str]], how: dict[str, Any]
) -> QualityReport:
    """The report with what the model says, as far as it got."""
    name = f"quality-{uuid4().hex[:8]}"
    waiting = dict(enumerate(items))
    findings: list[Finding] = []
    failed: list[Unanswered] = []
    calls, stopped = 0, ""
    try:
        async for outcome in hr.stream(ask, items, key="id", name=name, **how):
            item = waiting.pop(outcome.position)
            calls += outcome.attempts
            if outcome.value is not None:
                findings += _finding(item, outcome.value)
            elif outcome.error is not None:
                failed.append(_unanswered(item, outcome.error.kind, outcome.error.message))
    except hr.CallError as error:
        stopped = f"{error.message} {error.hint}".strip()
    failed += [_unanswered(item, "pending", "It was not asked in time.") for item in waiting.values()]
    return replace(
        report, findings=_sorted([*report.findings, *findings]), calls=calls, stopped=stopped, run=name,
        unanswered=tuple(sorted(failed, key=lambda each: (each.path, each.line, each.question))),
    )  # fmt: skip


def _finding(item: Mapping[str, str], verdict: Mapping[str, Any]) -> list[Finding]:
    if not verdict["problem"]:
        return []
    question = QUESTIONS[item["rule"]]
    return [
        Finding(
            question.id, question.name, verdict["severity"], item["path"], int(item["line"]), item["test"],
            verdict["reason"].strip() or question.title, verdict["advice"].strip(), "model",
        )
    ]  # fmt: skip


def _unanswered(item: Mapping[str, str], kind: str, message: str) -> Unanswered:
    return Unanswered(item["path"], int(item["line"]), item["test"], item["rule"], kind, message)


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda each: each.order))
