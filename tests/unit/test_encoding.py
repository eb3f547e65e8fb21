"""What tables are written in, and how that is found."""

import codecs
import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.core.errors import UsageError
from headrace.data import count, lines
from headrace.data.delimiter import COMMON
from headrace.data.encoding import as_utf8, codec_of
from headrace.data.source import open_source
from headrace.data.table import Table
from unit.reading import data, refused, refused_later

TEXT = 'id,text\r\n1,"Grüße, 語\n😀"\r\n2,x\r\n'
ROWS = [{"id": "1", "text": "Grüße, 語\n😀"}, {"id": "2", "text": "x"}]
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_a_byte_order_mark_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, chunk: int) -> None:
    """Both byte orders, wherever the reads are cut; nothing is told, as nothing was guessed."""
    monkeypatch.setattr(lines, "_CHUNK_BYTES", max(chunk, 4))
    path = tmp_path / "t.csv"
    contents = [TEXT.encode(codec)]
    if codec in ("utf-16", "utf-32"):
        contents.append(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"))
        contents.append(codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"))
    for content in contents:
        path.write_bytes(content)
        source = open_source(path)
        assert (source.fields, source.total, source.notices) == (("id", "text"), 2, ())
        assert data(path) == ROWS


@pytest.mark.parametrize("codec", [each for each in WIDE if each.endswith("e")])
def test_nuls_tell_utf16_and_utf32(tmp_path: Path, codec: str) -> None:
    """Without a mark it is a guess, so it is told."""
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.encode(codec))
    (notice,) = open_source(path).notices
    assert codec.upper() in notice
    assert "--encoding" in notice
    assert data(path) == ROWS
    assert open_source(Table(path, encoding=codec)).notices == ()


@pytest.mark.parametrize("text", ["Grüße", "“quoted” it\u2019s 5 €", "“…”", "»É«…", "ÀÉ", "Ångström", "café"])
def test_western_text_is_read_and_told(tmp_path: Path, text: str) -> None:
    """What is no UTF-8 and looks like Windows-1252 is that; a person is told once, and how to say otherwise."""
    for name, content in {"t.csv": f"id,text\n1,{text}\n", "t.jsonl": f'{{"id":"1","text":"{text}"}}\n'}.items():
        path = tmp_path / name
        path.write_bytes(content.encode("cp1252"))
        source = open_source(path)
        assert source.notices == (f"{path} is not UTF-8; it was read as Windows-1252. --encoding says otherwise.",)
        assert source.total == 1
        assert data(path) == [{"id": "1", "text": text}]


def test_a_western_header_and_a_western_last_byte(tmp_path: Path) -> None:
    """The letter may be the first or the very last byte."""
    path = tmp_path / "t.csv"
    path.write_bytes("Größe,b\n1,2\n".encode("cp1252"))
    assert open_source(path).fields == ("Größe", "b")
    path.write_bytes("a,b\n1,é".encode("cp1252"))
    assert data(path) == [{"a": "1", "b": "é"}]


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("cp1251", "Привет как дела"),
        ("koi8-r", "Привет как дела"),
        ("shift_jis", "こんにちは世界"),
        ("gbk", "你好世界 今天天气很好"),
        ("big5", "你好世界 今天天氣很好"),
        ("euc_kr", "안녕하세요 세계"),
        ("cp1253", "Καλημέρα κόσμε"),
        ("iso8859_8", "שלום עולם"),
    ],
)
def test_other_scripts_are_not_guessed(tmp_path: Path, codec: str, text: str) -> None:
    """A model would be paid for reading other letters than were written: it is refused, and the encoding asked for."""
    path = tmp_path / "t.csv"
    path.write_bytes(f"id,text\n1,{text}\n".encode(codec))
    message = refused(path)
    assert "line 2, byte 3" in message
    assert "--encoding" in message
    assert data(Table(path, encoding=codec)) == [{"id": "1", "text": text}]


def test_damage_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    """UTF-8 with one bad byte further down is told with its place, not read as other letters."""
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,ü\n".encode() + b"2,x\n" * 50_000 + b"3,y\xe4\n")
    message = refused(path)
    assert "line 50003, byte 4 (0xe4) is no UTF-8" in message
    assert "damaged" in message
    assert data(Table(path, encoding="cp1252"))[0] == {"a": "1", "b": "Ã¼"}


def test_what_is_found_too_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is looked through, a byte that is no UTF-8 is an error with file, line and byte; so is a NUL."""
    monkeypatch.setattr(count, "MOST_BYTES", 20_000)
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 4096)
    for name, row in {"t.csv": b"1,2\n", "t.jsonl": b'{"a":1}\n'}.items():
        path = tmp_path / name
        start = (b"a,b\n" if name == "t.csv" else b"") + row * 70_000
        end = start.count(b"\n") + 1
        path.write_bytes(start + (b"1,\xe4\n" if name == "t.csv" else b'{"a":"\xe4"}\n'))
        message = refused_later(path)
        assert f"line {end}" in message
        assert "(0xe4) is no UTF-8" in message
        assert "--encoding" in message
        assert len(data(path, first=1000)) == 1000
        path.write_bytes(start + b"\0")
        assert f"line {end}: there is a NUL byte" in refused_later(path)
    path = tmp_path / "t.json"
    path.write_bytes(b"[" + b'{"a":1},\n' * 50_000 + b'{"a":"\xe4"}]')
    message = refused_later(path)
    assert "line 50001, character 7" in message
    assert "0xe4 is no UTF-8" in message


def test_a_character_cut_where_the_look_ends_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking through stops in the middle of a letter of two bytes."""
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 7)
    monkeypatch.setattr(count, "MOST_BYTES", 7)
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,üü\n".encode())
    assert open_source(path).notices == ()
    assert data(path) == [{"a": "1", "b": "üü"}]


def test_nul_bytes_are_refused(tmp_path: Path) -> None:
    """A NUL in a table is damage or UTF-16, never text: told with its line before any call. Escaped in JSON it is one."""
    for name in ("t.csv", "t.jsonl", "t.json"):
        path = tmp_path / name
        path.write_bytes(b'["a",\n"b\0"]')
        message = refused(path)
        assert "line 2: there is a NUL byte" in message
        assert "tr -d" in message
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"a":"\\u0000"}\n')
    assert data(path) == [{"a": "\0"}]


def test_a_stated_encoding_is_the_one(tmp_path: Path) -> None:
    """Any of Python's for text, by any of its names; a mark is no part of the text."""
    path = tmp_path / "t.csv"
    for codec, text in {
        "latin-1": "Grüße",
        "Windows-1252": "5 €",
        "mac_roman": "Grüße",
        "cp437": "Grüße",
        "iso8859-15": "5 €",
        "utf8": "語",
        "UTF-16": "語",
        "utf-16-le": "語",
        "utf-7": "語 ü",
        "hz": "你好",
        "iso2022_jp": "こんにちは",
        "gb18030": "你好😀",
    }.items():
        path.write_bytes(f"a,b\n1,{text}\n".encode(codec))
        assert data(Table(path, encoding=codec)) == [{"a": "1", "b": text}]
        assert open_source(Table(path, encoding=codec)).notices == ()
    path.write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert data(Table(path, encoding="utf-8")) == [{"a": "1", "b": "2"}]
    path.write_bytes("\ufeffa,b\n1,2\n".encode("utf-16-le"))
    assert data(Table(path, encoding="utf-16-le")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("codec", "content", "place"),
    [
        ("utf-8", b"a,b\n1,\xe4\n", "line 2, byte 3 (0xe4)"),
        ("ascii", b"a,b\n1,2\n1,\xe4\n", "line 3: byte 11 of the file (0xe4)"),
        ("cp1252", b"a,b\n1,\x81\n", "line 2: byte 7 of the file (0x81)"),
        ("utf-16-le", "a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8\x20\x00", "line 3: byte 17 of the file"),
        ("utf-16-le", "a,b\n1,2\n".encode("utf-16-le") + b"x", "line 3: byte 17 of the file"),
        ("shift_jis", b"a,b\n1,\x82\n", "line 2"),
    ],
)
def test_what_a_stated_encoding_cannot_hold_is_told(tmp_path: Path, codec: str, content: bytes, place: str) -> None:
    """With file, line and byte, before any call where it is looked through."""
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    message = refused(Table(path, encoding=codec))
    assert f"t.csv, {place}" in message
    assert "--encoding" in message


@pytest.mark.parametrize("name", ["utf9", "hex", "zlib", "rot13", "nonsense", "", "a\0b", "undefined", "../x", "é"])
def test_what_is_no_encoding_is_refused(tmp_path: Path, name: str) -> None:
    """A codec that is none, or none of text; the hint has names."""
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    with pytest.raises(UsageError, match="There is no text encoding") as caught:
        open_source(Table(path, encoding=name))
    assert "utf-8" in caught.value.hint
    if name == "utf9":
        assert "Did you mean utf-8?" in caught.value.hint


@settings(max_examples=40)
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), size=st.integers(1, 9))
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", *WIDE, "utf-7", "gb18030"])
def test_any_text_is_recoded(codec: str, text: str, size: int) -> None:
    """Wherever the bytes are cut; one mark at the start is no part of the text."""
    got = b"".join(as_utf8(pieces(text.encode(codec), size), "t", codec_of(codec))).decode()
    assert got == text.removeprefix("\ufeff")


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
names = st.lists(
    st.text("abcdéß (x)", min_size=1, max_size=5).filter(lambda name: name == name.strip()),
    min_size=2,
    max_size=4,
    unique=True,
)
table = names.flatmap(
    lambda fields: st.tuples(
        st.just(fields), st.lists(st.lists(plain, min_size=len(fields), max_size=len(fields)), min_size=1, max_size=6)
    )
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=table,
    mark=st.sampled_from(list(COMMON)),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]),
    packing=st.sampled_from([".csv", ".csv.gz", ".csv.zst"]),
    end=st.sampled_from(["\n", "\r\n"]),
    stated=st.booleans(),
)
def test_any_table_reads_back(
    table: tuple[list[str], list[list[str]]],
    mark: str,
    codec: str,
    packing: str,
    end: str,
    stated: bool,
    tmp_path: Path,
) -> None:
    """What csv writes with any delimiter, encoding and packing comes back equal; what is stated or marked is not guessed."""
    fields, rows = table
    if end == "\n":  # csv writes a carriage return without quotes then
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark, lineterminator=end).writerows([fields, *rows])
    content = text.getvalue().encode(codec)
    pack = {".csv.gz": gzip.compress, ".csv.zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    path = tmp_path / f"t{packing}"
    path.write_bytes(pack[packing](content) if packing in pack else content)
    how = Table(path, encoding=codec) if stated or codec in ("utf-16-le", "utf-16-be") else Table(path)
    assert data(how) == [dict(zip(fields, row, strict=True)) for row in rows]


def test_folders_are_read_in_what_their_files_are_written_in(tmp_path: Path) -> None:
    """Each file by itself; those that are not UTF-8 are told in one sentence."""
    for name, codec in {"a.txt": "utf-8", "b.txt": "cp1252", "c.md": "utf-16", "d.txt": "utf-8-sig"}.items():
        (tmp_path / name).write_bytes("Grüße".encode(codec))
    source = open_source(tmp_path)
    assert [row["text"] for row in data(tmp_path)] == ["Grüße"] * 4
    (notice,) = source.notices
    assert "b.txt is not UTF-8; it was read as Windows-1252" in notice
    for number in range(5):
        (tmp_path / f"x{number}.txt").write_bytes(b"\xe4")
    (notice,) = open_source(tmp_path).notices
    assert "b.txt, x0.txt, x1.txt and 3 more are not UTF-8" in notice
    (tmp_path / "e.txt").write_bytes("Привет".encode("cp1251"))
    assert "e.txt, line 1, byte 1 (0xcf) is no UTF-8" in refused_later(tmp_path)
    (tmp_path / "russian").mkdir()
    (tmp_path / "e.txt").rename(tmp_path / "russian" / "e.txt")
    assert data(Table(tmp_path / "russian", encoding="cp1251")) == [{"path": "e.txt", "text": "Привет"}]


def test_a_folder_beyond_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was not looked through and is no UTF-8 is told, not guessed in silence."""
    monkeypatch.setattr("headrace.data.folder._LOOKED_AT_FILES", 1)
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "b.txt").write_bytes(b"\xe4")
    assert open_source(tmp_path).notices == ()
    assert "b.txt, line 1, byte 1 (0xe4)" in refused_later(tmp_path)
