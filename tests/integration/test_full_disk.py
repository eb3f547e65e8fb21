"""A file system that is truly full, in every format of results: the old file stays, and nothing else is left."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import disk
from headrace.core.errors import OutputError
from headrace.core.item import Outcome
from headrace.data.sink import write_outcomes

ENDINGS = ("jsonl", "json", "csv", "tsv", "xlsx", "parquet", "jsonl.gz", "csv.zst")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk.small_disk(tmp_path) as made:
        yield made


def outcomes(rows: int) -> Iterator[Outcome]:
    rng = random.Random(rows)
    for n in range(rows):
        yield Outcome(key=str(n), position=n, item={"n": n, "text": rng.randbytes(400).hex()}, value="yes")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file(small_disk: Path, ending: str) -> None:
    """The error names the reason and what to do; once there is room, the same write succeeds."""
    path = small_disk / f"out.{ending}"
    assert write_outcomes(path, lambda: outcomes(5)) == 5
    old = path.read_bytes()
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_outcomes(path, lambda: outcomes(20_000))
    assert "Free space" in caught.value.hint
    assert path.read_bytes() == old
    assert os.listdir(small_disk) == [path.name]
    assert write_outcomes(path, lambda: outcomes(6)) == 6


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_is_full_already(small_disk: Path, ending: str) -> None:
    """Not even a small file is begun and left behind."""
    with open(small_disk / "rest", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    with pytest.raises(OutputError, match="No space left on device"):
        write_outcomes(small_disk / f"out.{ending}", lambda: outcomes(5))
    assert os.listdir(small_disk) == ["rest"]
