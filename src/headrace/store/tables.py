"""All SQL of the store, and how records become rows. Enters and leaves tuples; opens no connection.

Every write takes many rows in one statement: sqlite3 gives the interpreter's lock away once a statement, and getting
it back from a busy event loop is what costs.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from headrace.core.call import Reply
from headrace.core.item import Failure, Outcome
from headrace.core.jsonform import json_form
from headrace.core.ports import Counts, RunInfo

APPLICATION_ID = 0x68726163  # "hrac"

_FIRST = """
CREATE TABLE answers (
    digest BLOB PRIMARY KEY, text TEXT NOT NULL, finish TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER,
    cached_tokens INTEGER, model TEXT, seconds REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE evidence (
    digest BLOB NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER,
    cached_tokens INTEGER, model TEXT, seconds REAL NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE claims (digest BLOB PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, source TEXT NOT NULL, spec TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL, session INTEGER NOT NULL,
    total INTEGER, owner TEXT);
CREATE TABLE outcomes (
    run INTEGER NOT NULL REFERENCES runs (number), key TEXT NOT NULL, position INTEGER NOT NULL,
    session INTEGER NOT NULL, item TEXT NOT NULL, value TEXT, error TEXT, attempts INTEGER NOT NULL,
    seconds REAL NOT NULL, usd REAL, cached INTEGER NOT NULL, stage TEXT NOT NULL, input_tokens INTEGER,
    output_tokens INTEGER, PRIMARY KEY (run, key));
CREATE INDEX outcomes_in_order ON outcomes (run, position);
"""
_SECOND = """
CREATE TABLE leases (
    endpoint TEXT NOT NULL, holder TEXT NOT NULL, lease BLOB NOT NULL, PRIMARY KEY (endpoint, holder)) WITHOUT ROWID;
CREATE TABLE endpoints (endpoint TEXT PRIMARY KEY, learnt BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""
_THIRD = """
ALTER TABLE runs ADD COLUMN figures BLOB;
ALTER TABLE runs ADD COLUMN counts TEXT;
ALTER TABLE evidence ADD COLUMN run INTEGER;
ALTER TABLE answers ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE evidence ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE outcomes ADD COLUMN samples TEXT;
ALTER TABLE outcomes ADD COLUMN agreement REAL;
"""
_FOURTH = """
ALTER TABLE outcomes ADD COLUMN dropped TEXT;
ALTER TABLE answers ADD COLUMN usd REAL;
ALTER TABLE evidence ADD COLUMN usd REAL;
CREATE TABLE budgets (budget TEXT PRIMARY KEY, most INTEGER NOT NULL, spent INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE purses (
    budget TEXT NOT NULL, purse TEXT NOT NULL, owner TEXT NOT NULL, taken INTEGER NOT NULL, spent INTEGER NOT NULL,
    PRIMARY KEY (budget, purse)) WITHOUT ROWID;
"""
STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""What each version added. Steps only add, so that every version that was ever written can be read."""
VERSION = len(STEPS)

_REPLY = "text, finish, input_tokens, output_tokens, cached_tokens, reasoning_tokens, model, seconds, usd"
_RUN = "id, name, source, spec, status, reason, started_at, ended_at, session, total"
_THIRD_COLUMNS = 3
"""The version that brought figures, samples and agreement. A store of an earlier one is read without them."""
_DROPPED = 4
"""The version that brought outcomes that are no results."""
PRUNED = "pruned"
"""The status of a run of which only rows are left that are still to be removed. Nobody sees it."""
_FIRST_OUTCOME = "key, position, item, value, error, attempts, seconds, usd, cached, stage, input_tokens, output_tokens"
_OUTCOME = f"{_FIRST_OUTCOME}, samples, agreement, dropped"

RUNS = f"SELECT {_RUN}, NULL, owner FROM runs WHERE status != '{PRUNED}' ORDER BY started_at DESC, number DESC"
"""The last started first: as for `run_of`, without figures, which may be large; then its owner."""
RUN = f"SELECT {_RUN}, owner, number FROM runs WHERE id = ?"
ADD_RUN = f"INSERT INTO runs ({_RUN}, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
OPEN_RUN = """
UPDATE runs SET name = ?, source = ?, spec = ?, status = 'running', reason = '', started_at = ?, ended_at = NULL,
    session = session + 1, counts = NULL, owner = ? WHERE id = ?"""
CLOSE_RUN = """
UPDATE runs SET status = ?, reason = ?, ended_at = ?, total = ?, figures = coalesce(?, figures), owner = NULL
    WHERE id = ?"""
QUIET = """
UPDATE outcomes SET item = json_object(?, key), error = CASE WHEN error IS NULL THEN NULL
    ELSE json_object('kind', json_extract(error, '$.kind'), 'message', ?) END WHERE run = ?"""
"""What an earlier session kept is taken back."""
QUIET_EVIDENCE = "UPDATE evidence SET reason = ? WHERE run = ?"
FIGURES = "UPDATE runs SET figures = ? WHERE number = ?"
FORGET_GONE = "DELETE FROM outcomes WHERE run = ? AND session < ?"
_COUNTS = """
SELECT count(*) AS n, coalesce(sum(error IS NULL), 0) AS ok, coalesce(sum(attempts), 0) AS calls,
    coalesce(sum(input_tokens) FILTER (WHERE NOT cached), 0) AS input_tokens,
    coalesce(sum(output_tokens) FILTER (WHERE NOT cached), 0) AS output_tokens, {dropped} AS dropped,
    sum(usd) FILTER (WHERE NOT cached) AS usd
    FROM outcomes WHERE run = (SELECT number FROM runs WHERE id = ?)"""
_SUM_DROPPED = "coalesce(sum(dropped IS NOT NULL), 0)"
KEEP_COUNTS = f"""
UPDATE runs SET counts = (SELECT json_array(c.n, c.ok, c.calls, c.input_tokens, c.output_tokens, c.dropped, c.usd)
    FROM ({_COUNTS.format(dropped=_SUM_DROPPED)}) AS c) WHERE id = ?"""
"""Of a run that is over, so that nobody need count again."""
RELEASE_ALL = "DELETE FROM claims WHERE owner = ?"
LEASES = "SELECT holder, lease FROM leases WHERE endpoint = ?"
LEASE = "INSERT OR REPLACE INTO leases (endpoint, holder, lease) VALUES (?, ?, ?)"
UNLEASE = "DELETE FROM leases WHERE endpoint = ? AND holder = ?"
UNLEASE_ALL = "DELETE FROM leases WHERE holder = ?"
REMEMBERED = "SELECT learnt FROM endpoints WHERE endpoint = ? AND at >= ?"
REMEMBER = "INSERT OR REPLACE INTO endpoints (endpoint, learnt, at) VALUES (?, ?, ?)"

BUDGET = "SELECT most, spent FROM budgets WHERE budget = ?"
SET_BUDGET = "INSERT OR REPLACE INTO budgets (budget, most, spent) VALUES (?, ?, ?)"
PURSES = "SELECT purse, owner, taken, spent FROM purses WHERE budget = ?"
SET_PURSE = "INSERT OR REPLACE INTO purses (budget, purse, owner, taken, spent) VALUES (?, ?, ?, ?, ?)"
CLOSE_PURSE = "DELETE FROM purses WHERE budget = ? AND purse = ?"
OWN_BUDGETS = "SELECT DISTINCT budget FROM purses WHERE owner = ?"

NUMBER = "SELECT number, name, owner FROM runs WHERE id = ?"
TAKE_OUT = f"""
UPDATE runs SET id = 'pruned ' || number, name = '', source = '', spec = '{{}}', reason = '', figures = NULL,
    status = '{PRUNED}', owner = ? WHERE id = ?"""
FORGET_BUDGET = "DELETE FROM budgets WHERE budget = 'run ' || ?"
FORGET_FORECAST = "DELETE FROM endpoints WHERE endpoint = 'forecast:' || ?"
"""What was forecast of a run, as engine/forecast.py names it."""
LEFT = f"SELECT number, owner FROM runs WHERE status = '{PRUNED}'"
ADOPT = "UPDATE runs SET owner = ? WHERE number = ?"
FORGET_RUN = f"DELETE FROM runs WHERE number = ? AND status = '{PRUNED}'"
_TEXTS = "length(CAST(text AS BLOB))"
OUTCOMES_SIZE = """
SELECT count(*), coalesce(sum(length(CAST(item AS BLOB)) + coalesce(length(CAST(value AS BLOB)), 0)
    + coalesce(length(CAST(error AS BLOB)), 0)), 0) FROM outcomes WHERE run = ?"""
EVIDENCE_SIZE = f"SELECT count(*), coalesce(sum({_TEXTS}), 0) FROM evidence WHERE run = ?"
OLD_EVIDENCE_SIZE = f"SELECT count(*), coalesce(sum({_TEXTS}), 0) FROM evidence WHERE at < ?"
ANSWERS_SIZE = f"SELECT count(*), coalesce(sum({_TEXTS}), 0) FROM answers WHERE at < ?"


_OUTCOMES_TO_GO = "SELECT rowid FROM outcomes WHERE run = ?1 AND ?2 >= 0 LIMIT ?3"
"""Along the index: what has gone is no longer found, so that no rowid is needed."""


def rows_to_go(table: str, where: str) -> str:
    """With what `where` asks for, the last rowid that was seen, and how many."""
    if table == "outcomes":
        return _OUTCOMES_TO_GO
    return f"SELECT rowid FROM {table} WHERE {where} AND rowid > ? ORDER BY rowid LIMIT ?"


def counts(version: int) -> str:
    """Outcomes, those without error, calls, tokens in and out, those that were dropped, and dollars, as for `counts_of`."""
    return _COUNTS.format(dropped=_SUM_DROPPED if version >= _DROPPED else "0")


def counts_of(row: Sequence[Any], items: int | None) -> Counts:
    """`items` is how many there were at the last complete reading."""
    total, ok, calls, input_tokens, output_tokens, *later = row
    out, usd = (*later, None, None)[:2]
    out = out or 0
    return Counts(
        ok=ok - out, failed=total - ok, dropped=out, pending=None if items is None else max(0, items - total),
        calls=calls, input_tokens=input_tokens, output_tokens=output_tokens, usd=usd,
    )  # fmt: skip


def scan(version: int, *, failed_only: bool, dropped: bool = False) -> str:
    """A page of a run's results in their order, as for `outcome_of`."""
    columns = _OUTCOME if version >= _DROPPED else f"{_FIRST_OUTCOME}, samples, agreement, NULL"
    columns = columns if version >= _THIRD_COLUMNS else f"{_FIRST_OUTCOME}, NULL, NULL, NULL"
    out = f"AND dropped IS {'NOT ' if dropped else ''}NULL"
    kept = out if version >= _DROPPED else "AND NULL" if dropped else ""
    return f"""
SELECT {columns} FROM outcomes WHERE run = (SELECT number FROM runs WHERE id = ?)
    AND position >= ? AND (position > ? OR key > ?) {kept} {"AND error IS NOT NULL" if failed_only else ""}
    ORDER BY position, key LIMIT ?"""


def kept_counts(version: int) -> str:
    """The run's items at the last complete reading, and its counts as JSON where it is over."""
    return f"SELECT total, {'counts' if version >= _THIRD_COLUMNS else 'NULL'} FROM runs WHERE id = ?"


def run_with_figures(version: int) -> str:
    """One run, as for `run_of`, and its owner."""
    figures = "figures" if version >= _THIRD_COLUMNS else "NULL"
    return f"SELECT {_RUN}, {figures}, owner FROM runs WHERE id = ?"


@lru_cache(maxsize=4096)
def _places(rows: int, columns: int) -> str:
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


def find_answers(count: int) -> str:
    return f"SELECT digest, {_REPLY} FROM answers WHERE at >= ? AND digest IN {_places(1, count)}"


def add_answers(count: int) -> str:
    return f"INSERT OR REPLACE INTO answers (digest, {_REPLY}, at) VALUES {_places(count, 11)}"


def add_evidence(count: int) -> str:
    return f"INSERT INTO evidence (digest, {_REPLY}, at, reason, run) VALUES {_places(count, 13)}"


def forget_answers(count: int) -> str:
    return f"DELETE FROM answers WHERE digest IN {_places(1, count)}"


def claim(count: int) -> str:
    return f"INSERT OR IGNORE INTO claims (digest, owner) VALUES {_places(count, 2)}"


def holders(count: int) -> str:
    return f"SELECT digest, owner FROM claims WHERE digest IN {_places(1, count)}"


def take_over(count: int) -> str:
    return f"UPDATE claims SET owner = ? WHERE digest IN {_places(1, count)}"


def release(count: int) -> str:
    return f"DELETE FROM claims WHERE owner = ? AND digest IN {_places(1, count)}"


def find_outcomes(count: int) -> str:
    return f"SELECT session, {_OUTCOME} FROM outcomes WHERE run = ? AND key IN {_places(1, count)}"


_KEPT = (
    "value", "error", "attempts", "seconds", "usd", "cached", "stage", "input_tokens", "output_tokens", "samples",
    "agreement", "dropped",
)  # fmt: skip
_SERVED_AGAIN = "excluded.cached AND outcomes.error IS NULL AND (outcomes.dropped IS NULL) = (excluded.dropped IS NULL)"


def add_outcomes(count: int) -> str:
    """A rerun that served an item from the store keeps what the first answer took: attempts, seconds, tokens."""
    kept = ", ".join(
        f"{name} = CASE WHEN {_SERVED_AGAIN} THEN outcomes.{name} ELSE excluded.{name} END" for name in _KEPT
    )
    return f"""
INSERT INTO outcomes (run, session, {_OUTCOME}) VALUES {_places(count, 17)}
    ON CONFLICT (run, key) DO UPDATE SET session = excluded.session, position = excluded.position,
    item = excluded.item, {kept}"""


_json = msgspec.json.Encoder(enc_hook=json_form)
_failure = msgspec.json.Decoder(Failure)


def reply_row(reply: Reply) -> tuple[Any, ...]:
    return (
        reply.text, reply.finish, reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens,
        reply.model, reply.seconds, reply.usd,
    )  # fmt: skip


def reply_of(row: tuple[Any, ...]) -> Reply:
    """A stored reply cost no call now: its attempts are 0."""
    text, finish, input_tokens, output_tokens, cached_tokens, reasoning_tokens, model, seconds, usd = row
    return Reply(
        text, finish, input_tokens, output_tokens, cached_tokens=cached_tokens, reasoning_tokens=reasoning_tokens,
        model=model, attempts=0, seconds=seconds, usd=usd,
    )  # fmt: skip


def outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    failed = outcome.error is not None
    return (
        outcome.key, outcome.position, _json.encode(outcome.item).decode(),
        None if failed else _json.encode(outcome.value).decode(),
        _json.encode(outcome.error).decode() if failed else None,
        outcome.attempts, outcome.seconds, outcome.usd, outcome.cached, outcome.stage, outcome.input_tokens,
        outcome.output_tokens, _json.encode(outcome.samples).decode() if outcome.samples else None, outcome.agreement,
        outcome.dropped or None,
    )  # fmt: skip


def outcome_of(row: tuple[Any, ...]) -> Outcome:
    key, position, item, value, error, attempts, seconds, usd, cached, stage, *rest = row
    input_tokens, output_tokens, samples, agreement, dropped = rest
    return Outcome(
        key=key, position=position, item=msgspec.json.decode(item),
        value=None if value is None else msgspec.json.decode(value),
        error=None if error is None else _failure.decode(error),
        attempts=attempts, seconds=seconds, usd=usd, cached=bool(cached), stage=stage,
        input_tokens=input_tokens, output_tokens=output_tokens, agreement=agreement,
        samples=() if samples is None else tuple(msgspec.json.decode(samples)), dropped=dropped or "",
    )  # fmt: skip


def run_of(row: tuple[Any, ...]) -> RunInfo:
    run, name, source, spec, status, reason, started_at, ended_at, session, total, figures = row
    return RunInfo(
        id=run, name=name, source=source, spec=msgspec.json.decode(spec), status=status, reason=reason,
        started_at=started_at, ended_at=ended_at, session=session, total=total, figures=figures,
    )  # fmt: skip


def spec_text(info: RunInfo) -> str:
    return _json.encode(info.spec).decode()
