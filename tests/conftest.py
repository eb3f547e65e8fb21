"""What holds for every test: a clean environment, the same examples in each run."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

SOURCE = Path(__file__).parents[1] / "src"
_SECRET_OR_STEERING = ("HEADRACE_", "OPENAI_", "AZURE_", "ANTHROPIC_", "GEMINI_", "GOOGLE_")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}

# Before anything of headrace is imported: no key of this machine's user reaches a test, and no proxy stands between a
# test and its server on this machine.
for name in list(os.environ):
    if name == "HEADRACE_SCALE":  # how much of what is counted in thousands the tests run: a tenth, or all (make bench)
        continue
    if name.startswith(_SECRET_OR_STEERING) or name.lower() in _PROXIES or name in {"NO_COLOR", "FORCE_COLOR"}:
        del os.environ[name]

settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="how often the kill -9 test kills (make bench: 200)")
    parser.addoption("--rows", type=int, default=200_000, help="rows of the largest table of the memory test")
    parser.addoption(
        "--table-mb", type=int, default=200, help="size of the tables of the test of reading (make bench: 5000)"
    )


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture
def table_mb(request: pytest.FixtureRequest) -> int:
    megabytes: int = request.config.getoption("--table-mb")
    return megabytes


@pytest.fixture
def most_rows(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--rows")
    return count


@pytest.fixture(autouse=True)
def _children_find_headrace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes run this source, whether or not it is installed."""
    if "headrace" in sys.modules and str(SOURCE) in str(sys.modules["headrace"].__file__):
        monkeypatch.setenv("PYTHONPATH", str(SOURCE))
