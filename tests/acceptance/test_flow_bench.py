"""The benchmark of flow control works: a few items of two of its cells, with headrace alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

from acceptance.cli import SOURCE

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "flow.py"


def figures(*words: str) -> dict[str, list[str]]:
    """Each row of the table: what stands after the contender, by the cell's title."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH", ""))))
    ended = subprocess.run(
        [sys.executable, str(BENCHMARK), *words], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rows = [
        [part.strip() for part in line.strip("|").split("|")] for line in ended.stdout.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[2:] for row in rows[2:]}


def test_a_few_items_of_two_cells() -> None:
    """Nothing is lost or paid twice; ten calls at once are not refused where ten are allowed, faults are overcome."""
    rows = figures("--quick", "--cells", "seed,faults")
    assert len(rows) == 2
    for ratio, seconds, _, lost, paid_twice, _ in rows.values():
        assert re.fullmatch(r"\d+\.\d\d", ratio), "in brackets where something was lost"
        assert float(seconds) > 0
        assert (lost, paid_twice) == ("0", "0")
    (*_, at_ten), (*_, faulty) = rows.values()
    assert int(at_ten) == 30
    assert int(faulty) > 60


def test_a_cell_that_is_not_there() -> None:
    """It says which ones there are."""
    words = [sys.executable, str(BENCHMARK), "--cells", "seed,nonsense"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "there is no nonsense" in ended.stderr
    assert "seed" in ended.stderr
