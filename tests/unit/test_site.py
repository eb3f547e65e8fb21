"""The site of the documentation is built without a warning, and has every page and every public name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import headrace

ROOT = Path(__file__).parents[2]
pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", str(folder / "read")]
    built = subprocess.run(
        [*command, ".", str(folder / "site")], cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout
    return folder / "site"


def test_it_has_every_page(site: Path) -> None:
    """Each Markdown file of docs is a page, and so are the map, the changelog and how to contribute; the door opens."""
    pages = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")),
    ]
    for page in pages:
        assert (site / page.relative_to(ROOT).with_suffix(".html")).is_file(), page
    door = (site / "index.html").read_text("utf-8")
    found = re.search(r"url=([^\"]+)", door)
    assert found is not None
    assert (site / found[1]).is_file()


def test_it_has_every_public_name_with_its_signature(site: Path) -> None:
    """Each exported name is generated from the code, with a place of its own to link to."""
    text = (site / "docs" / "reference" / "signatures.html").read_text("utf-8")
    assert set(re.findall(r'id="headrace\.(\w+)"', text)) == set(headrace.__all__)
    assert "&lt;factory&gt;" not in text


def test_it_asks_no_other_host(site: Path) -> None:
    """Who reads it is known to nobody: no script, style, letter or picture comes from elsewhere."""
    for page in site.rglob("*.html"):
        loaded = re.findall(r'(?:src|<link[^>]*href)="(https?://[^"]+)"', page.read_text("utf-8"))
        assert not loaded, f"{page.name}: {loaded}"
