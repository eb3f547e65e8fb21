"""What is left of a run that keeps no prompts: keys, answers, figures. Enters records, leaves what may be written.

Messages may quote what was sent: a provider's, a function's, a source's. Only sentences of our own are let through.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.core.item import Failure, Outcome
from headrace.core.ports import RunInfo

UNSAID = "What was said is not kept, because it may quote a prompt."
_KEPT = frozenset(
    {
        "work", "name", "version", "typed", "model", "base_url", "temperature", "max_tokens", "path", "key", "first",
        "named", "sheet", "encoding", "delimiter", "images", "keep_prompts",
        "budget",
    }
)  # fmt: skip
"""Of a run's spec, as they are. The answer's type is kept without its descriptions, of parameters what is no text."""
_OF_ANSWERS = frozenset({"answer", "truncated", "refusal", "repeated-key"})
"""Kinds whose message has nothing of an item but its key: what they quote is the answer."""
_OF_A_VALIDATOR = re.compile(r"(: a validator of the type refused it): .*", re.DOTALL)
"""The words of a person's own code, as a function's: it can say whatever it knows."""
_OUR_OWN = re.compile(
    r"interrupted$|(?:Every column that the prompt names is empty|The deadline of [\d.e+]+ s has passed"
    r"|(?:The provider|The simulated provider|The server that the function asked) answered \d{3}"
    r"|The budget of \$[\d.,e-]+ has no room for another call: \$[\d.,e-]+ are spent, \$[\d.,e-]+ are left, and the "
    r"next call may cost \$[\d.,e-]+"
    r"|Nothing but failures for \d+ (?:s|min)|[\d,]+ of [\d,]+ items? failed: more than the \d+% that are allowed)"
    r"(?=[.:])"
)
_DESCRIPTIONS = frozenset({"title", "description", "examples", "default", "$comment"})
_FREE_TEXT = frozenset({"message", "reason", "hint"})
_OUR_TEXT = frozenset({"changes"})
"""Of figures: what they say of limits is never a provider's sentence."""


def is_discreet(info: RunInfo) -> bool:
    return not info.spec.get("keep_prompts", True)


def quiet_run(info: RunInfo) -> RunInfo:
    """The run without the question, its items' columns, and what ended it in words of others."""
    spec = {name: value for name, value in info.spec.items() if name in _KEPT}
    returns, params = info.spec.get("returns"), info.spec.get("params") or {}
    spec["returns"] = returns if isinstance(returns, str) else _shape(returns)
    spec["schema"] = _shape(info.spec.get("schema"))
    spec["params"] = {name: value for name, value in params.items() if isinstance(value, int | float)}
    spec |= {"prompt": None, "system": None, "fields": [_column(info)], "arrow_schema": None}
    figures = None if info.figures is None else quiet_figures(info.figures)
    return msgspec.structs.replace(info, spec=spec, reason=_own(info.reason), figures=figures)


def quiet_outcome(info: RunInfo, outcome: Outcome) -> Outcome:
    """The outcome with its key in place of its item."""
    error = outcome.error
    if error is not None and (error.kind not in _OF_ANSWERS or info.spec.get("work") != "ask"):
        error = Failure(error.kind, _own(error.message))
    elif error is not None:
        error = msgspec.structs.replace(error, message=quiet_rejection(error.message))
    return msgspec.structs.replace(outcome, item={_column(info): outcome.key}, error=error)


def quiet_rejection(reason: str) -> str:
    """Why an answer was no value, without what a person's own validator said about it."""
    return _OF_A_VALIDATOR.sub(rf"\1. {UNSAID}", reason)


def quiet_figures(figures: bytes) -> bytes:
    """A snapshot without sentences that are not our own."""
    return msgspec.json.encode(_quiet(msgspec.json.decode(figures)))


def _column(info: RunInfo) -> str:
    return info.spec.get("key") or "key"


def _own(text: str) -> str:
    """The text as far as it is one of our own sentences."""
    found = _OUR_OWN.match(text)
    if found is None:
        return UNSAID if text else ""
    rest = text[found.end() :]
    return text if rest in ("", ".") else f"{found[0]}. {UNSAID}"


def _quiet(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner if name in _OUR_TEXT else _quiet_field(name, inner) for name, inner in value.items()}
    return [_quiet(inner) for inner in value] if isinstance(value, list) else value


def _quiet_field(name: str, value: Any) -> Any:
    return _own(value) if name in _FREE_TEXT and isinstance(value, str) else _quiet(value)


def _shape(schema: Any) -> Any:
    """A JSON schema without its descriptions, which are a part of the question."""
    if isinstance(schema, list):
        return [_shape(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        name: {field: _shape(each) for field, each in inner.items()}
        if name in ("properties", "$defs") and isinstance(inner, Mapping)
        else _shape(inner)
        for name, inner in schema.items()
        if name not in _DESCRIPTIONS
    }
