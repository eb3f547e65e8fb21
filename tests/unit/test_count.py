"""The forecast of a table's rows."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.data import count


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00")), min_size=2, max_size=2), min_size=1
    ),
    end=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_csv_rows_are_counted_as_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: bool, chunk: int
) -> None:
    """Quoted line breaks, quotes in quotes, a missing last line end, any chunk size: the csv module's own count."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["a", "b"], *rows])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(text.getvalue() if end else text.getvalue().removesuffix("\n"), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "_CHUNK_BYTES", chunk)
        assert count.csv_rows(path) == len(rows)


def test_lines_are_counted(tmp_path: Path) -> None:
    """With and without a last line end; what is too large or not there has no count."""
    path = tmp_path / "t.jsonl"
    path.write_text("1\n2\n3")
    assert count.lines(path) == 3
    path.write_text("1\n2\n")
    assert count.lines(path) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "MOST_BYTES", 1)
        assert count.lines(path) is None
        assert count.csv_rows(path) is None
    assert count.lines(tmp_path / "none") is None
