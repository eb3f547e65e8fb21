"""The programs in examples: each runs as it stands, offline, and shows what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHOWN = {
    "langchain_chain": ["[('r1', 'good'), ('r2', 'good'), ('r3', 'good')]", "asked again: 0", "3"],
    "langgraph_node": ["of 20 guests are happy."],
    "opentelemetry_console": ["chat sim, ", "run weather\n", "nightly job\n"],
    "pandas_frame": ["'id', 'text', 'day', 'mood', 'score', 'error'", "2 days", "r3"],
    "python_face": ["r1 ", "finished, 3 ok, 0 failed"],
}


def test_every_program_is_tested() -> None:
    """Here, or by the test that names it."""
    elsewhere = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert path.stem in SHOWN or path.stem in elsewhere, path.name


@pytest.mark.parametrize("name", SHOWN)
def test_it_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    """In an empty folder, which is empty afterwards too, with no key, no network and no warning."""
    environ = {
        "PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT / "src"), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")], cwd=tmp_path, env=environ, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for each in SHOWN[name]:
        assert each in done.stdout
    assert list(tmp_path.iterdir()) == []
