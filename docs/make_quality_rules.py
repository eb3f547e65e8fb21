"""Writes docs/reference/quality-rules.md from the rules themselves: `python docs/make_quality_rules.py`."""

import re
from pathlib import Path

from headrace.apps.quality import QUESTIONS, RULES

PAGE = Path(__file__).parent / "reference" / "quality-rules.md"
HEAD = """\
# Rules of `headrace quality`

Made from the rules themselves by `docs/make_quality_rules.py`. What they are for and how to run them is in
[Test quality](../guides/quality.md). Each rule has an example in which it finds something and one in which it finds
nothing; the tests run both.

A line with `# noqa: HQ004` silences one rule there; on the line of a `def` it holds for the whole test. `--ignore HQ004`
takes the rule out.
"""
QUESTIONS_HEAD = """\
## Questions

What rules cannot judge is asked of the model, one call for each question. How severe it is, the model says.
"""


def page() -> str:
    """The whole page."""
    rules = "\n".join(
        f"### {each.id} {each.name}\n\n*{each.severity.capitalize()}.* {each.title}\n\n{each.why}\n\n"
        f"```python\n{_short(each.bad)}\n```\n\nInstead:\n\n```python\n{_short(each.good)}\n```\n"
        for _, each in sorted(RULES.items())
    )
    questions = "\n".join(
        f"### {each.id} {each.name}\n\n{each.title} It is asked:\n\n> {each.text}\n" for each in QUESTIONS.values()
    )
    return f"{HEAD}\n## Rules\n\n{rules}\n{QUESTIONS_HEAD}\n{questions}"


def _short(code: str) -> str:
    spaced = re.sub(r"\n\n(?=def |async def |class |@)", "\n\n\n", code)  # as the formatter has it
    lines = spaced.rstrip().splitlines()
    return "\n".join(lines if len(lines) <= 16 else [*lines[:4], "    ..."])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
