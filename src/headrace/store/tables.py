"""All SQL of the store, and how records become rows. Enters and leaves tuples; opens no connection.

Every write takes many rows in one statement: sqlite3 gives the interpreter's lock away once a statement, and getting
it back from a busy event loop is what costs.
"""

from functools import lru_cache
from typing import Any

import msgspec

from headrace.core.call import Reply
from headrace.core.item import Failure, Outcome
from headrace.core.jsonform import json_form
from headrace.core.ports import RunInfo

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
STEPS = (_FIRST, _SECOND)
"""What each version added. Steps only add, so that every version that was ever written can be read."""
VERSION = len(STEPS)

_REPLY = "text, finish, input_tokens, output_tokens, cached_tokens, model, seconds"
_RUN = "id, name, source, spec, status, reason, started_at, ended_at, session, total"
_OUTCOME = "key, position, item, value, error, attempts, seconds, usd, cached, stage, input_tokens, output_tokens"

RUNS = f"SELECT {_RUN}, owner FROM runs ORDER BY started_at DESC, number DESC"
RUN = f"SELECT {_RUN}, owner, number FROM runs WHERE id = ?"
ADD_RUN = f"INSERT INTO runs ({_RUN}, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
OPEN_RUN = """
UPDATE runs SET name = ?, source = ?, spec = ?, status = 'running', reason = '', started_at = ?, ended_at = NULL,
    session = session + 1, owner = ? WHERE id = ?"""
CLOSE_RUN = "UPDATE runs SET status = ?, reason = ?, ended_at = ?, total = ?, owner = NULL WHERE id = ?"
FORGET_GONE = "DELETE FROM outcomes WHERE run = ? AND session < ?"
COUNTS = """
SELECT count(*), coalesce(sum(error IS NULL), 0), coalesce(sum(attempts), 0), coalesce(sum(input_tokens), 0),
    coalesce(sum(output_tokens), 0) FROM outcomes WHERE run = (SELECT number FROM runs WHERE id = ?)"""
SCAN = f"""
SELECT {_OUTCOME} FROM outcomes WHERE run = (SELECT number FROM runs WHERE id = ?)
    AND position >= ? AND (position > ? OR key > ?) ORDER BY position, key LIMIT ?"""
RELEASE_ALL = "DELETE FROM claims WHERE owner = ?"
LEASES = "SELECT holder, lease FROM leases WHERE endpoint = ?"
LEASE = "INSERT OR REPLACE INTO leases (endpoint, holder, lease) VALUES (?, ?, ?)"
UNLEASE = "DELETE FROM leases WHERE endpoint = ? AND holder = ?"
UNLEASE_ALL = "DELETE FROM leases WHERE holder = ?"
REMEMBERED = "SELECT learnt FROM endpoints WHERE endpoint = ? AND at >= ?"
REMEMBER = "INSERT OR REPLACE INTO endpoints (endpoint, learnt, at) VALUES (?, ?, ?)"


@lru_cache(maxsize=4096)
def _places(rows: int, columns: int) -> str:
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


def find_answers(count: int) -> str:
    return f"SELECT digest, {_REPLY} FROM answers WHERE at >= ? AND digest IN {_places(1, count)}"


def add_answers(count: int) -> str:
    return f"INSERT OR REPLACE INTO answers (digest, {_REPLY}, at) VALUES {_places(count, 9)}"


def add_evidence(count: int) -> str:
    return f"INSERT INTO evidence (digest, {_REPLY}, at, reason) VALUES {_places(count, 10)}"


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


_KEPT = ("value", "error", "attempts", "seconds", "usd", "cached", "stage", "input_tokens", "output_tokens")
_SERVED_AGAIN = "excluded.cached AND outcomes.error IS NULL"


def add_outcomes(count: int) -> str:
    """A rerun that served an item from the store keeps what the first answer took: attempts, seconds, tokens."""
    kept = ", ".join(
        f"{name} = CASE WHEN {_SERVED_AGAIN} THEN outcomes.{name} ELSE excluded.{name} END" for name in _KEPT
    )
    return f"""
INSERT INTO outcomes (run, session, {_OUTCOME}) VALUES {_places(count, 14)}
    ON CONFLICT (run, key) DO UPDATE SET session = excluded.session, position = excluded.position,
    item = excluded.item, {kept}"""


_json = msgspec.json.Encoder(enc_hook=json_form)
_failure = msgspec.json.Decoder(Failure)


def reply_row(reply: Reply) -> tuple[Any, ...]:
    return (
        reply.text, reply.finish, reply.input_tokens, reply.output_tokens, reply.cached_tokens, reply.model,
        reply.seconds,
    )  # fmt: skip


def reply_of(row: tuple[Any, ...]) -> Reply:
    """A stored reply cost no call now: its attempts are 0."""
    text, finish, input_tokens, output_tokens, cached_tokens, model, seconds = row
    return Reply(text, finish, input_tokens, output_tokens, cached_tokens, model, attempts=0, seconds=seconds)


def outcome_row(outcome: Outcome) -> tuple[Any, ...]:
    failed = outcome.error is not None
    return (
        outcome.key, outcome.position, _json.encode(outcome.item).decode(),
        None if failed else _json.encode(outcome.value).decode(),
        _json.encode(outcome.error).decode() if failed else None,
        outcome.attempts, outcome.seconds, outcome.usd, outcome.cached, outcome.stage, outcome.input_tokens,
        outcome.output_tokens,
    )  # fmt: skip


def outcome_of(row: tuple[Any, ...]) -> Outcome:
    key, position, item, value, error, attempts, seconds, usd, cached, stage, input_tokens, output_tokens = row
    return Outcome(
        key=key, position=position, item=msgspec.json.decode(item),
        value=None if value is None else msgspec.json.decode(value),
        error=None if error is None else _failure.decode(error),
        attempts=attempts, seconds=seconds, usd=usd, cached=bool(cached), stage=stage,
        input_tokens=input_tokens, output_tokens=output_tokens,
    )  # fmt: skip


def run_of(row: tuple[Any, ...]) -> RunInfo:
    run, name, source, spec, status, reason, started_at, ended_at, session, total = row
    return RunInfo(
        id=run, name=name, source=source, spec=msgspec.json.decode(spec), status=status, reason=reason,
        started_at=started_at, ended_at=ended_at, session=session, total=total,
    )  # fmt: skip


def spec_text(info: RunInfo) -> str:
    return _json.encode(info.spec).decode()
