"""Tables with how to read them: what goes to which reader, what identifies it, which options belong to what."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.data.source import open_source
from headrace.data.table import Table
from unit.reading import data, refused


@pytest.fixture
def some_csv(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    return path


def test_a_table_is_read_as_its_path(some_csv: Path) -> None:
    """With the same name, fields, keys and rows, as text and as a path."""
    for items in (some_csv, str(some_csv), Table(some_csv), Table(str(some_csv))):
        source = open_source(items, key="a", first=1)
        assert (source.name, source.fields, source.total) == (f"{some_csv}#first=1", ("a", "b"), 1)
    assert data(Table(some_csv)) == data(some_csv)


def test_how_it_is_written_is_no_part_of_its_name(some_csv: Path) -> None:
    """The rows are the same, so a run of them is."""
    assert open_source(Table(some_csv, encoding="ascii", delimiter=",")).name == str(some_csv)


def test_which_rows_are_read_is_part_of_its_name(tmp_path: Path) -> None:
    """Another query is another source, also under a given name; a password is in no name."""
    import sqlite3

    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a UNION SELECT 2")
    connection.close()
    url = f"sqlite:///{path}"
    one, two = (Table(url, query=f"SELECT a FROM t WHERE a = {number}") for number in (1, 2))
    names = {
        open_source(one).name,
        open_source(two).name,
        open_source(one, name="n").name,
        open_source(one, first=1).name,
    }
    assert len(names) == 4
    assert open_source(one).name == open_source(one).name
    assert open_source(one, name="n").name.startswith("n#query=")
    assert data(two) == [{"a": 2}]
    assert "no query" in refused(url)


def test_another_sheet_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with two sheets is two sources."""
    from headrace.data import xlsx
    from headrace.data.files import Rows

    asked = []

    def open_xlsx(path: Path, where: str, sheet: str | None) -> Rows:
        asked.append((path, where, sheet))
        return Rows(lambda: iter([{"a": 1}]), ("a",), 1)

    monkeypatch.setattr(xlsx, "open_xlsx", open_xlsx)
    for name in ("t.xlsx", "t.XLSM"):
        path = tmp_path / name
        path.write_bytes(b"PK")
        assert open_source(Table(path, sheet="Two")).name == f"{path}#sheet=Two"
        assert open_source(path).name == str(path)
        assert asked[-2:] == [(path, str(path), "Two"), (path, str(path), None)]


def test_options_that_do_not_belong_are_refused(some_csv: Path, tmp_path: Path) -> None:
    """A word that would have no effect is told before anything is asked."""
    parquet, lines, array, texts = (tmp_path / name for name in ("t.parquet", "t.jsonl", "t.json", "f"))
    pq.write_table(pa.table({"a": [1]}), parquet)
    lines.write_text("1\n")
    array.write_text("[1]")
    texts.mkdir()
    (texts / "a.txt").write_text("x")
    for path, options in {
        some_csv: ("sheet", "query"),
        parquet: ("sheet", "query", "encoding", "delimiter"),
        lines: ("sheet", "query", "delimiter"),
        array: ("sheet", "query", "delimiter"),
        texts: ("sheet", "query", "delimiter"),
    }.items():
        for option in options:
            value = "," if option == "delimiter" else "x"
            message = refused(Table(path, **{option: value}))
            assert f"has no {option}" in message
            assert str(path) in message
    for option in ("sheet", "query"):
        assert f"Standard input has no {option}" in refused(Table("-", **{option: "x"}))
    for option in ("sheet", "encoding", "delimiter"):
        value = "," if option == "delimiter" else "x"
        assert f"has no {option}" in refused(Table("sqlite:///t.db", query="SELECT 1", **{option: value}))


def test_addresses_that_are_no_databases(tmp_path: Path) -> None:
    """A page is not fetched; its password is not repeated."""
    message = refused("https://someone:secret@example.org/t.csv")
    assert "Download it" in message
    assert "secret" not in message
