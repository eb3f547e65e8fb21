"""What is seen of a text before it is read: the forecast of its rows, and whether it is UTF-8."""

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import InputError
from headrace.data import count
from headrace.data.count import Check, CsvLines, Lines, Looked, look


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00")), min_size=2, max_size=2), min_size=1
    ),
    end=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_csv_rows_are_counted_as_they_are_read(rows: list[list[str]], end: bool, chunk: int) -> None:
    """Quoted line breaks, quotes in quotes, a missing last line end, any chunk size: the csv module's own count."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["a", "b"], *rows])
    content = (text.getvalue() if end else text.getvalue().removesuffix("\n")).encode()
    assert look(pieces(content, chunk), "t", None, CsvLines()) == Looked("utf-8", len(content), len(rows))


def test_lines_are_counted() -> None:
    """With and without a last line end, with carriage returns alone; an empty text has no count."""
    assert look(iter([b"1\n2\n", b"3"]), "t", None, Lines()).rows == 3
    assert look(iter([b"1\n2\n"]), "t", None, Lines()).rows == 2
    assert look(iter([b'a,b\r1,"\r"\r', b"3,4"]), "t", None, CsvLines()).rows == 2
    assert look(iter([b"a,b\r1,2\r"]), "t", None, CsvLines()).rows == 1
    assert look(iter([]), "t", None, Lines()) == Looked("utf-8", 0, None)


def test_wide_text_is_counted_as_it_reads() -> None:
    """A line break of UTF-16 is two bytes, and one of them may be a half of another letter."""
    text = "a,b\n1,Ċ\n2,਀\n"
    for codec in ("utf-16", "utf-32"):
        assert look(pieces(text.encode(codec), 5), "t", None, CsvLines()).rows == 2


def test_what_is_too_large_has_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """But its start is looked at."""
    monkeypatch.setattr(count, "MOST_BYTES", 10)
    assert look(iter([b"a\n\xe4\n", b"1\n" * 50]), "t", None, Lines()).codec == "cp1252"
    assert look(iter([b"a\n1\n", b"1\n" * 50, b"\xe4"]), "t", None, Lines()) == Looked("utf-8")


@given(text=st.text(st.characters(exclude_characters="\0")), size=st.integers(1, 9))
def test_any_utf8_passes(text: str, size: int) -> None:
    """Wherever it is cut."""
    check = Check("t")
    for chunk in pieces(text.encode("utf-8", "ignore"), size):
        check.add(chunk)
    check.ended()
    assert check.judged() == ("utf-8", "")


@given(before=st.text("ab\n", max_size=30), size=st.integers(1, 9), bad=st.sampled_from([b"\xff", b"\xe4a", b"\xc3"]))
def test_the_place_of_a_bad_byte(before: str, size: int, bad: bytes) -> None:
    """Line and byte are right wherever the chunks are cut, also at the very end."""
    line, at = before.count("\n") + 1, len(before) - before.rfind("\n")

    def judge() -> None:
        check = Check("t", stated=True)
        for chunk in pieces(before.encode() + bad, size):
            check.add(chunk)
        check.ended()

    with pytest.raises(InputError) as caught:
        judge()
    assert f"t, line {line}, byte {at} (0x{bad[0]:02x})" in str(caught.value)


@given(before=st.text("abé\n", max_size=20), size=st.integers(1, 9))
def test_the_line_of_a_nul(before: str, size: int) -> None:
    """Right wherever the chunks are cut, in UTF-8 and where every letter has two bytes."""
    line = before.count("\n") + 1
    for codec, stated in (("utf-8", None), ("utf-16-be", "utf-16-be"), ("cp1252", "cp1252")):
        with pytest.raises(InputError) as caught:
            look(pieces((before + "\0x").encode(codec), size), "t", stated, Lines())
        assert f"t, line {line}: there is a NUL byte" in str(caught.value)
