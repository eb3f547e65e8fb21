"""The built wheel works in an empty environment."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ran(*words: str | Path, folder: Path) -> str:
    """Without this checkout on the path."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.serial
def test_the_wheel_installs_and_works(tmp_path: Path) -> None:
    """Built, installed with its pinned dependencies into an empty environment, it runs a table and writes a report."""
    ran(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, folder=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    ran(
        bin_ / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        ROOT / "constraints.txt",
        wheel,
        folder=tmp_path,
    )
    assert ran(bin_ / "headrace", "--version", folder=tmp_path).startswith("headrace 0.")
    (tmp_path / "t.csv").write_text("text\nhello\nworld\n")
    words = ["--ask", "Sentiment of: {text}", "--returns", "label: a|b", "--model", "sim:", "--quiet"]
    ran(bin_ / "headrace", "run", "t.csv", *words, "-o", "out.jsonl", "--report", "r.html", folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["hello", "world"]
    assert all(row["label"] in ("a", "b") for row in rows)
    assert "</html>" in (tmp_path / "r.html").read_text()
