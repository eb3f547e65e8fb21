"""G5: memory follows what is in flight, not the number of items."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import headrace as hr
from headrace.engine.meter import most_memory_bytes

table, folder = sys.argv[1:3]
made = hr.run(
    hr.Ask("Sentiment of: {text}", returns="label: positive|negative|neutral, score: float 0..1", model="sim:"),
    table, store=Path(folder, "s.db"), limits=hr.Limits(64), to=Path(folder, "out.jsonl"),
)
print(json.dumps({"ok": made.ok, "mb": most_memory_bytes() / 2**20}))
"""
MOST_MB = 150
MOST_MB_OF_A_MILLION = 200
MOST_GROWTH_MB = 25


def peak_mb(folder: Path, rows: int) -> float:
    folder.mkdir()
    table = folder / "t.csv"
    with table.open("w") as file:
        file.write("id,text\n")
        file.writelines(f"{number},row {number} of a table about nothing in particular\n" for number in range(rows))
    done = subprocess.run([sys.executable, "-c", PROGRAM, table, folder], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["ok"] == rows
    return float(found["mb"])


@pytest.mark.serial
def test_memory_has_no_slope(tmp_path: Path, most_rows: int) -> None:
    """Ten times the rows take the same memory, result file included: 200,000 here, a million in `make bench`."""
    small, large = peak_mb(tmp_path / "small", most_rows // 10), peak_mb(tmp_path / "large", most_rows)
    assert large - small < MOST_GROWTH_MB
    assert large <= (MOST_MB if most_rows <= 200_000 else MOST_MB_OF_A_MILLION)
