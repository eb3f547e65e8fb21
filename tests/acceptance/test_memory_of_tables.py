"""G5: a table of any size is read in the memory of a few rows, whatever its format: 200 MB here, 5 GB in `make bench`."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from headrace.data.source import open_source
from headrace.engine.meter import most_memory_bytes

async def main():
    source = open_source(sys.argv[1], key="id")
    rows = size = 0
    async for batch in source:
        rows += len(batch)
        size += sum(len(item.data["text"]) for item in batch)
    print(json.dumps({"rows": rows, "size": size, "mb": most_memory_bytes() / 2**20}))

asyncio.run(main())
"""
TEXT = "".join(
    f"Sentence {number} of a call about nothing in particular, with a comma; and more. " for number in range(50)
)
BLOCK_ROWS = 1000
MOST_MB = 70
MOST_MB_OF_PARQUET = 220
"""Arrow itself takes a hundred, and a page of a column is held whole."""


def blocks(megabytes: int, row: str, between: str = "\n") -> Iterator[bytes]:
    block = between.join(row.replace("ID", str(number)) for number in range(BLOCK_ROWS)).encode()
    for number in range(max(1, megabytes * 1024**2 // len(block))):
        yield (between.encode() if number else b"") + block


def write_csv(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        file.write(b"id,text\n")
        file.writelines(blocks(megabytes, f'ID,"{TEXT}"'))


def write_wide_csv(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        file.write("\ufeffid,text\n".encode("utf-16-le"))
        for block in blocks(megabytes // 2, f'ID,"{TEXT}"'):
            file.write(block.decode().encode("utf-16-le"))


def write_packed_csv(path: Path, megabytes: int) -> None:
    with gzip.open(path, "wb", 1) as file:
        file.write(b"id,text\n")
        for block in blocks(megabytes, f'ID,"{TEXT}"'):
            file.write(block)


def write_json_lines(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        file.writelines(blocks(megabytes, f'{{"id":ID,"text":"{TEXT}"}}'))


def write_array(path: Path, megabytes: int) -> None:
    """All on one line, as most programs write it."""
    with path.open("wb") as file:
        file.write(b"[")
        file.writelines(blocks(megabytes, f'{{"id":ID,"text":"{TEXT}"}}', ", "))
        file.write(b"]")


def write_parquet(path: Path, megabytes: int, *, group_rows: int = BLOCK_ROWS) -> None:
    batch = pa.record_batch({"id": list(range(BLOCK_ROWS)), "text": [f"{n} {TEXT}" for n in range(BLOCK_ROWS)]})
    table = pa.Table.from_batches([batch] * max(1, megabytes * 1024**2 // batch.nbytes))
    pq.write_table(table, path, row_group_size=group_rows, compression="zstd", use_dictionary=False)


def write_one_group(path: Path, megabytes: int) -> None:
    write_parquet(path, megabytes, group_rows=50_000_000)
    assert pq.ParquetFile(path).num_row_groups == 1


@pytest.mark.parametrize(
    ("name", "write", "most_mb"),
    [
        ("t.csv", write_csv, MOST_MB),
        ("wide.csv", write_wide_csv, MOST_MB),
        ("t.csv.gz", write_packed_csv, MOST_MB),
        ("t.jsonl", write_json_lines, MOST_MB),
        ("t.json", write_array, MOST_MB),
        ("t.parquet", write_parquet, MOST_MB_OF_PARQUET),
        ("one.parquet", write_one_group, MOST_MB_OF_PARQUET),
    ],
)
def test_reading_has_no_slope(
    tmp_path: Path, name: str, write: Callable[[Path, int], None], most_mb: int, table_mb: int
) -> None:
    """Everything arrives, and the process that read it never had more than a constant."""
    path = tmp_path / name
    write(path, table_mb)
    try:
        done = subprocess.run([sys.executable, "-c", PROGRAM, path], check=True, capture_output=True, text=True)
    finally:
        path.unlink()
    found = json.loads(done.stdout)
    assert found["rows"] % BLOCK_ROWS == 0
    assert found["size"] > 0.4 * table_mb * 1024**2
    assert found["mb"] <= most_mb, found
