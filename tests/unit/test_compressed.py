"""Packed tables."""

import bz2
import gzip
import lzma
import os
import random
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import InputError
from headrace.data.compressed import unpacked
from headrace.data.source import open_source
from unit.reading import data, refused, refused_later

ROWS = b"a,b\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(20_000))
NOISE = b"a\n" + b"".join(os.urandom(40).hex().encode() + b"\n" for _ in range(20_000))


def zst(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@given(
    parts=st.lists(st.binary(max_size=500), max_size=4),
    size=st.integers(1, 64),
    pack=st.sampled_from([gzip.compress, zst]),
    seed=st.integers(0, 9),
)
def test_any_bytes_come_back(parts: list[bytes], size: int, pack: object, seed: int) -> None:
    """Any number of members, wherever the reads are cut."""
    noise = random.Random(seed).randbytes(300)
    parts = [*parts, noise]
    packed = b"".join(pack(part) for part in parts)  # type: ignore[operator]
    assert b"".join(unpacked(pieces(packed, size), "t")) == b"".join(parts)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.csv", "T.CSV.GZ"])
@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_packed_tables_are_tables(tmp_path: Path, name: str, pack: object) -> None:
    """By their first bytes, whatever they are named; they iterate twice and know their total."""
    path = tmp_path / name
    path.write_bytes(pack(ROWS))  # type: ignore[operator]
    source = open_source(path)
    assert (source.fields, source.total, source.notices) == (("a", "b"), 20_000, ())
    assert data(path) == data(path)
    assert data(path)[-1] == {"a": "19999", "b": "row 19999"}


def test_every_format_of_text_may_be_packed(tmp_path: Path) -> None:
    """JSON Lines, arrays and TSV too; a file that is named so and is not packed is read as it is."""
    for name, content in {
        "t.jsonl.gz": b'{"a":"1"}\n',
        "t.ndjson.zst": b'{"a":"1"}\n',
        "t.json.gz": b'[{"a":"1"}]',
        "t.tsv.gz": b"a\n1\n",
    }.items():
        path = tmp_path / name
        for packed in (gzip.compress(content), zst(content), content):
            path.write_bytes(packed)
            assert data(path) == [{"a": "1"}]


def test_members_and_padding(tmp_path: Path) -> None:
    """Two archives in one file are one text, as for gzip itself; zeros after the last are padding."""
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,") + gzip.compress(b"") + gzip.compress(b"2\n") + b"\0" * 700)
    assert data(path) == [{"a": "1", "b": "2"}]
    path = tmp_path / "t.csv.zst"
    path.write_bytes(zst(b"a,b\n1,") + zst(b"2\n"))
    assert data(path) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_a_cut_archive_is_told_before_any_call(tmp_path: Path, pack: object) -> None:
    """Wherever it was cut: after how many bytes it ends."""
    whole = pack(NOISE)  # type: ignore[operator]
    for keep in (5, 20, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "t.csv.gz"
        path.write_bytes(whole[:keep])
        message = refused(path)
        assert "t.csv.gz ends in the middle" in message
        assert f"{keep:,} bytes" in message


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    """With the part of the file where unpacking failed; bytes that follow an archive are damage too."""
    path = tmp_path / "t.csv.gz"
    packed = bytearray(gzip.compress(NOISE))
    packed[-5] ^= 1  # the check sum
    path.write_bytes(packed)
    assert "is damaged" in refused(path)
    for pack in (gzip.compress, zst):
        packed = bytearray(pack(NOISE))
        packed[400_000:500_000] = b"\xff" * 100_000
        path.write_bytes(packed)
        message = refused(path)
        assert "is damaged" in message
        low, high = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?= and| \()", message)[-2:])
        assert low < high <= len(packed)
        assert high >= 400_000
        path.write_bytes(pack(b"a\n1\n") + b"something else")
        assert "is damaged" in refused(path)


def test_damage_beyond_the_look_is_told_when_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows before it are delivered."""
    monkeypatch.setattr("headrace.data.count.MOST_BYTES", 1024 * 1024)
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress(NOISE * 3)
    path.write_bytes(whole[:-1000])
    assert open_source(path).total is None
    assert "ends in the middle" in refused_later(path)


def test_a_bomb_is_unpacked_piece_by_piece() -> None:
    """A gigabyte of nothing in a megabyte: nobody holds more than a step of it."""
    million = gzip.compress(b"\0" * 200_000_000, 1)
    tracemalloc.start()
    try:
        total = sum(map(len, unpacked(pieces(million, 131_072), "t")))
        assert total == 200_000_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_other_things_are_named(tmp_path: Path) -> None:
    """What is no text by its first bytes is told as what it is."""
    path = tmp_path / "t.csv"
    for content, told in {
        b"PK\x03\x04\x14\0": "XLSX",
        bz2.compress(ROWS): "bzip2",
        lzma.compress(ROWS): "xz",
        b"%PDF-1.7\n": "PDF",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Office",
        b"SQLite format 3\0": "SQLite",
    }.items():
        path.write_bytes(content)
        assert told in refused(path)
    pq.write_table(pa.table({"a": [1]}), path)
    assert "Parquet" in refused(path)
    # words of a header that begin like one
    for header in ("PAR1,b", "BZh,b", "PK,b", "SQLite,b", "%PDF,b"):
        path.write_text(f"{header}\n1,2\n")
        assert len(data(path)) == 1


def test_an_error_of_reading_stays_one(tmp_path: Path) -> None:
    """What fails below the archive is not told as damage of the archive."""

    def broken() -> Iterator[bytes]:
        yield zst(NOISE)[:1000]
        raise InputError("The disk broke.", hint="Buy one.")

    with pytest.raises(InputError, match="The disk broke"):
        list(unpacked(broken(), "t"))
