"""Draws docs/images/report-*.png from a real run over the example, in a real browser: `python docs/make_report.py`.

The answers are those of the simulated model: of the right type, and made up. The browser is found as the tests find it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from acceptance.browser import Page, browser  # noqa: E402 - the tests' own, which is no package

IMAGES = ROOT / "docs" / "images"
PROMPT = "Read this phone call and fill in the form.\n\n{transcript}"
RETURNS = (
    "category: support|sales|complaint|cancellation|other, sentiment: positive|neutral|negative, "
    "urgency: int 1..5, refund: float 0..80, topics: [billing|line|router|tariff|moving], callback: date?"
)
MODEL = "sim:latency=lognormal:1.2,0.5,500=0.06,malformed=0.03,seed=11"
WIDTH, HEIGHT = 1180, 820


def run(folder: Path) -> Path:
    """The example's report."""
    for name in ("calls.csv",):
        (folder / name).write_bytes((ROOT / "examples" / name).read_bytes())
    words = [
        "run", "calls.csv", "--key", "id", "--name", "calls", "--ask", PROMPT, "--returns", RETURNS, "--model", MODEL,
        "--rpm", "200", "--quiet", "-o", "answers.csv", "--report", "calls.html",
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-m", "headrace", *words], cwd=folder, env=environ, check=False)
    return folder / "calls.html"


def draw(page: Page, path: Path) -> None:
    """The parts that are worth seeing, light and dark, on a laptop and on a phone."""
    page.look(WIDTH, HEIGHT)
    page.open(path)
    page.picture(IMAGES / "report-head.png")
    see(page, "answers", "report-answers.png")
    page.value(
        "Array.from(document.querySelectorAll('#answers [role=button]'))"
        ".find((each) => each.textContent === 'complaint').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    see(page, "items", "report-items.png")
    page.look(WIDTH, HEIGHT, dark=True)
    page.open(path)
    see(page, "bound", "report-course.png")
    page.look(390, 844)
    page.open(path)
    see(page, "answers", "report-phone.png")


def see(page: Page, part: str, name: str) -> None:
    page.value(f"document.getElementById('{part}').scrollIntoView()")
    page.picture(IMAGES / name)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = run(folder)
        with browser(folder) as there:
            draw(there.page(), path)


if __name__ == "__main__":
    main()
