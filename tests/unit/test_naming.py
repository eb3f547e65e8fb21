"""Column names as tables have them, and what becomes of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from headrace.data.naming import column_names
from headrace.data.source import open_source
from headrace.task.prompt import Template
from unit.reading import data


def test_plain_names_stay() -> None:
    """Names with commas, quotes, line breaks, accents and parentheses are names; nothing is told."""
    names = ["id", "Call Transcript (final)", 'a, "b"', "Größe\nin cm", "語", "a.b", "😀"]
    assert column_names(names, "t") == (tuple(names), ())


def test_odd_names_are_mended_and_told() -> None:
    """Blanks, braces, missing names, names that appear twice: one sentence for each kind."""
    made, notices = column_names([" a ", "b{c}", "", "x", "x", "x_2", "  "], "t.csv")
    assert made == ("a", "b(c)", "column_3", "x", "x_3", "x_2", "column_7")
    assert len(notices) == 4
    assert all(notice.startswith("t.csv: ") and notice.endswith(".") for notice in notices)
    told = " ".join(notices)
    for part in ("' a ' is 'a'", "'b{c}' is 'b(c)'", "'column_3', 'column_7'", "'x' is 'x_3'"):
        assert part in told


def test_blanks_that_tell_names_apart_stay() -> None:
    """`a` and `a ` are two columns; taking the blank off would make them one."""
    assert column_names(["a", "a "], "t") == (("a", "a "), ())


def test_what_was_made_does_not_clash() -> None:
    """A number or a parenthesis that is taken already is not given again."""
    made, _ = column_names(["column_3", "a{b}", "", "a(b)", "t", "t_2", "t"], "t")
    assert made == ("column_3", "a(b)", "column_3_2", "a(b)_2", "t", "t_2", "t_3")


def test_many_changes_are_one_sentence() -> None:
    """A table of a thousand nameless columns is told in a line."""
    made, (notice,) = column_names([""] * 1000, "t")
    assert len(set(made)) == 1000
    assert "and 995 more" in notice
    assert len(notice) < 200


@given(
    st.lists(st.sampled_from(["", " ", "a", " a", "a_2", "a_3", "{a}", "(a)", "column_1", "column_2_2"]), max_size=9)
)
def test_names_are_unique_and_fit_a_prompt(names: list[str]) -> None:
    """Whatever they were: each there once, none empty, none with a brace; what was fine keeps its name."""
    made, notices = column_names(names, "t")
    assert len(set(made)) == len(made) == len(names)
    assert all(name and not {"{", "}"} & set(name) for name in made)
    assert bool(notices) == (list(made) != names)


def test_prompts_name_odd_columns(tmp_path: Path) -> None:
    """`{Call Transcript (final)}` and a name with a line break, a comma and quotes are filled in."""
    path = tmp_path / "t.csv"
    path.write_text('Call Transcript (final),"Größe, ""x""\nin cm",a{b}\n1,2,3\n')
    source = open_source(path)
    template = Template('{Call Transcript (final)}/{Größe, "x"\nin cm}/{a(b)}')
    template.check(source.fields or ())
    (row,) = data(path)
    assert template.fill(row) == "1/2/3"
    assert len(source.notices) == 1
    assert "a(b)" in source.notices[0]


def test_parquet_columns_too(tmp_path: Path) -> None:
    """A Parquet file may have a column twice; the types follow the new names."""
    path = tmp_path / "t.parquet"
    columns = [pa.array([1, 2]), pa.array(["x", "y"]), pa.array([0.5, None])]
    pq.write_table(pa.Table.from_arrays(columns, names=["a", "a", "{b}"]), path)
    source = open_source(path)
    assert source.fields == ("a", "a_2", "(b)")
    assert len(source.notices) == 2
    assert data(path) == [{"a": 1, "a_2": "x", "(b)": 0.5}, {"a": 2, "a_2": "y", "(b)": None}]
    assert source.arrow_schema is not None
    schema = pa.ipc.read_schema(pa.py_buffer(source.arrow_schema))
    assert (schema.names, schema.types) == (["a", "a_2", "(b)"], [pa.int64(), pa.string(), pa.float64()])
