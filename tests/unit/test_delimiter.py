"""Which character ends the fields of a CSV file."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.data.delimiter import COMMON, found_delimiter, stated_in
from headrace.data.source import open_source
from headrace.data.table import Table
from unit.reading import data, refused


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1;2\n", ";"),
        ("a\tb\n1\t2\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),  # decimal commas
        ("id;text\n1;one, two, three\n2;four\n", ";"),
        ("id,text\n1,a;b;c\n2,d|e\n", ","),
        ('"a;x","b;y"\n"1;2;3","4"\n', ","),  # in quotes it does not count
        ('id;"text, with a comma"\n1;"x, y"\n', ";"),
        ("id|note;more\n1|x\n2|y\n", "|"),
        ("last, first;age\nDoe, J;5\nRoe, R;6\n", ";"),  # both fit; one is followed by blanks, as in text
        ("text\nhello; you\nso|what\n", ","),  # one column
        ("name|alias\nx\ny\nz\n", ","),  # one column with an odd name
        ("a;b\n1;2;3\n4;5;6\n", ";"),  # ragged, and told as such
        ("a,b\n1;2\n", ","),
        ("a;b;c", ";"),  # a header alone
        ("", ","),
        ('a;b\n1;"x\ny,z"\n2;"\n\n"\n', ";"),  # quoted line breaks
        ("\n\n;;\na;b\n1;2\n", ";"),
        ("a\tb,c\n1\t2,3\n4\t5,6\n", "\t"),
        ("a;b\r1;2\r", ";"),
    ],
)
def test_the_delimiter_is_found(text: str, mark: str) -> None:
    """From the header and the first rows, not from what stands inside fields."""
    assert found_delimiter(text, whole=True) == mark


def test_a_row_that_is_cut_does_not_count() -> None:
    """The start of a large file ends in the middle of a row."""
    assert found_delimiter("a;b\n1;2\n3", whole=False) == ";"
    assert found_delimiter("a;b\n3", whole=False) == ";"


words = st.text(st.sampled_from('ab ,;|\t"\n1.é'), max_size=12)


@given(
    mark=st.sampled_from(list(COMMON)),
    rows=st.lists(st.lists(words, min_size=3, max_size=3), min_size=3, max_size=30),
)
def test_quoted_tables_are_told_apart(mark: str, rows: list[list[str]]) -> None:
    """Where the header is plain words, any content that csv quotes as needed leaves the delimiter clear."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark).writerows([["id", "text", "label"], *rows])
    assert found_delimiter(text.getvalue(), whole=True) == mark


def test_excels_first_line_states_it(tmp_path: Path) -> None:
    """`sep=;` is no header; line numbers count it, the forecast of rows does not."""
    path = tmp_path / "t.csv"
    for line in ("sep=;\r\n", '"sep=;"\n', "SEP=;\r", "\nsep=;;;\n"):
        path.write_text(f"{line}a;b\r\n1;2\r\n3;4\r\n", newline="")
        source = open_source(path)
        assert source.fields == ("a", "b")
        assert data(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    path.write_text("sep=|\na|b\n1|2\n3|4\n5\n")
    assert open_source(path).total == 3
    path.write_text("sep=|\na|b\n1\n")
    assert "line 3: expected 2 fields" in refused(path)
    path.write_text("sep=\t\na\tb\n1\t2\n")
    assert data(path) == [{"a": "1", "b": "2"}]
    assert stated_in("separator,a\n") is None


def test_a_stated_delimiter_is_the_one(tmp_path: Path) -> None:
    """Also one nobody would look for, and one that is written as a shell can; a row that does not fit says so."""
    path = tmp_path / "t.csv"
    path.write_text("a^b,c\n1^2,3\n")
    assert data(Table(path, delimiter="^")) == [{"a": "1", "b,c": "2,3"}]
    path.write_text("text\nHello, you\n")
    assert "--delimiter" in refused(path)
    assert data(Table(path, delimiter="\\t")) == data(Table(path, delimiter="\t")) == [{"text": "Hello, you"}]
    path.write_text("a;b\n1;2;3\n")
    assert "hold a semicolon" in refused(path)
    assert "--delimiter" not in refused(Table(path, delimiter=";"))
    plain = tmp_path / "t.txt"
    plain.write_text("a|b\n1|2\n")
    assert data(Table(plain, delimiter="|")) == [{"a": "1", "b": "2"}]


def test_tsv_is_separated_by_tabs(tmp_path: Path) -> None:
    """Its name says so, also where a header of one column has commas."""
    for name in ("t.tsv", "t.tab", "T.TSV"):
        path = tmp_path / name
        path.write_text("a\tb\n1,5\tx\n")
        assert data(path) == [{"a": "1,5", "b": "x"}]
        path.write_text("last, first\nDoe, J\n")
        assert data(path) == [{"last, first": "Doe, J"}]


def test_quotes_in_tsv_may_be_text(tmp_path: Path) -> None:
    """Databases write tabs without CSV's quotes; where rows fit only so, they are read so, and that is told."""
    path = tmp_path / "t.tsv"
    rows = [{"a": '"Great" film', "b": "5"}, {"a": 'a 5" disk', "b": '"'}, {"a": "", "b": "x"}]
    path.write_text("a\tb\n" + "".join(f"{row['a']}\t{row['b']}\n" for row in rows))
    assert data(path) == rows
    (notice,) = open_source(path).notices
    assert "quotes were read as part of the text" in notice
    path.write_text("a\tb\n" + '1\t"x\n' * 100_000)
    assert data(path)[-1] == {"a": "1", "b": '"x'}


@pytest.mark.parametrize(
    "text", ['1\t"x"\n', '1\t"x\ty"\n', '1\t"x\ny"\n', '1\t"x ""y"""\n', '"1"\t"' + "x\n" * 200_000 + '"\n']
)
def test_quotes_in_tsv_are_csvs_where_they_fit(tmp_path: Path, text: str) -> None:
    """As spreadsheets write it."""
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n" + text * 3)
    assert open_source(path).notices == ()
    assert data(path)[0]["a"] == "1"
    assert not data(path)[0]["b"].startswith('"')


def test_the_end_mark_of_dos(tmp_path: Path) -> None:
    """A control-Z at the end is no row."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\r\n1,2\r\n\x1a")
    assert data(path) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("mark", ["", ";;", '"', "\n", "\r", "\0", "\ud800"])
def test_what_is_no_delimiter_is_refused(mark: str) -> None:
    """One character, and none that CSV has another use for."""
    with pytest.raises(UsageError, match="delimiter"):
        Table("t.csv", delimiter=mark)
