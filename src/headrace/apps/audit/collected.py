"""Responses that were collected before, in place of asking: a file of them, and the stage that gives a brand its own."""

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import headrace as hr

_ANSWER = ("response", "answer", "text")
_ASSISTANT = ("assistant", "model")


class Collected:
    """Of a brand: a row for each response about it."""

    def __init__(self, responses: Sequence[Mapping[str, Any]]) -> None:
        self._by_brand: dict[str, list[dict[str, str]]] = {}
        for row in responses:
            made = {
                "query": _of(row, ("query",)), "assistant": _of(row, _ASSISTANT) or "collected", "answer": _of(row, _ANSWER),
            }  # fmt: skip
            self._by_brand.setdefault(_plain(_of(row, ("brand",))), []).append(made)

    @classmethod
    def stage(cls, responses: Sequence[Mapping[str, Any]]) -> hr.Expand:
        """Its version is what was collected, so that other responses make another run."""
        seen = sha256(json.dumps(list(responses), sort_keys=True, default=str).encode()).hexdigest()[:16]
        return hr.Expand(hr.Map(cls(responses), name="responses", version=seen), name="responses")

    def __call__(self, row: Mapping[str, Any]) -> list[dict[str, str]]:
        return self._by_brand.get(_plain(str(row["brand"])), [])


def read_responses(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a CSV or JSON Lines file with the columns brand, query, assistant (or model) and answer (or response).
    Raises InputError."""
    file = Path(path)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(_json_rows(lines) if file.suffix.lower() in (".jsonl", ".ndjson") else csv.DictReader(lines))
    except OSError as error:
        raise hr.InputError(
            f"{file} cannot be read: {error.strerror}.", hint="Name a CSV or JSON Lines file."
        ) from None
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise hr.InputError(f"{file} cannot be read: {error}.", hint="Write CSV or JSON Lines, in UTF-8.") from None
    for number, row in enumerate(rows, 1):
        if not _of(row, ("brand",)) or not any(name in row for name in _ANSWER):
            raise hr.InputError(
                f"{file}: response {number} has no brand, or no column response.",
                hint="Its columns are brand, query, assistant and response.",
            )
    if not rows:
        raise hr.InputError(f"{file} has no responses.", hint="There is nothing to analyse.")
    return rows


def _json_rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            yield row


def _of(row: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(row[name]) for name in names if row.get(name) is not None), "")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
