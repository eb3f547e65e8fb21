"""Draws docs/terminal.svg from a real run: `python docs/make_terminal.py [MODEL]`.

The words and figures are those the command shows; the picture holds two moments of one run, a third of the way and the
end, because the live lines are taken off a terminal when a run ends. Without MODEL it asks the model that runs here.
"""

import asyncio
import io
import json
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import headrace as hr
from headrace.cli.preview import preview
from headrace.data.columns import columns_of
from headrace.data.sink import jsonl_line
from headrace.engine.snapshot import Snapshot
from headrace.engine.tally import Tally
from headrace.report.lines import live_lines
from headrace.report.signs import UNICODE, Part
from headrace.report.summary import summary_lines
from headrace.task.schema import returns_of

HERE = Path(__file__).parent
TABLE = "examples/calls.csv"
ASK = "examples/calls-prompt.txt"
SYSTEM = "examples/calls-system.txt"
RETURNS = "examples/calls-schema.json"
LEFT_OUT = {"date", "agent", "duration_s", "transcript", "attempts", "seconds"}
WIDTH = 100
THEME = TerminalTheme(
    (24, 27, 33), (214, 219, 226),
    [(24, 27, 33), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (171, 178, 191)],
)  # fmt: skip
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def measured(model: str, folder: Path) -> tuple[Snapshot, Snapshot, list[dict[str, Any]]]:
    """Snapshots at a third of the run and at its end, and its first rows."""
    tally = Tally()
    clock = asyncio.get_running_loop().time
    returns = json.loads((HERE.parent / RETURNS).read_text("utf-8"))
    ask = hr.Ask(  # as `make demo` asks
        (HERE.parent / ASK).read_text("utf-8"), system=(HERE.parent / SYSTEM).read_text("utf-8"), returns=returns,
        model=model, temperature=0.2, max_tokens=110, params={"frequency_penalty": 0.8},
    )  # fmt: skip
    running = asyncio.create_task(
        hr.arun(ask, HERE.parent / TABLE, key="id", store=folder / "store.db", on_event=tally.add)
    )
    middle: Snapshot | None = None
    while not running.done():
        await asyncio.sleep(0.05)
        now = tally.snapshot(clock())
        if middle is None and 3 * now.done >= now.read > 0:
            middle = now
    run = await running
    end = tally.snapshot(clock())
    columns = columns_of(None, returns_of(returns).schema)
    return middle or end, end, [msgspec.json.decode(jsonl_line(outcome, columns)) for outcome in islice(run, 8)]


def drawn(middle: Snapshot, end: Snapshot, rows: list[dict[str, Any]], model: str) -> str:
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", markup=False,
        highlight=False, legacy_windows=False,
    )  # fmt: skip

    def say(*parts: Part) -> None:
        line = Text(no_wrap=True, overflow="crop")
        for text, style in parts:
            line.append(text, style=style)
        console.print(line)

    say(("$ ", "dim"), (f"headrace run {TABLE} --key id --ask @{ASK} \\", "bold"))
    say((f"    --system @{SYSTEM} --returns {RETURNS} --model {model} \\", "bold"))
    say(("    --temperature 0.2 --param frequency_penalty=0.8 --max-tokens 110", "bold"))
    say(("", ""))
    for line in live_lines(_short(middle), WIDTH - 1, UNICODE):
        say(*line)
    say(("", ""))
    for part in summary_lines(_short(end), UNICODE):
        say(part)
    say(("", ""))
    preview(console, rows, [name for name in rows[0] if name not in LEFT_OUT])
    return console.export_svg(theme=THEME, code_format=SVG, title="", unique_id="t")


def _short(snapshot: Snapshot) -> Snapshot:
    """With the table's name as it is in the repository: the full path is the machine's business."""
    return msgspec.structs.replace(snapshot, source=TABLE)


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "local"
    with tempfile.TemporaryDirectory() as folder:
        picture = drawn(*asyncio.run(measured(model, Path(folder))), model)
    (HERE / "terminal.svg").write_text("\n".join(line.rstrip() for line in picture.splitlines() if line.strip()) + "\n")


if __name__ == "__main__":
    main()
