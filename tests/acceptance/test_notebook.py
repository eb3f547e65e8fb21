"""headrace in a notebook: a real kernel runs real cells, what they show is looked at, interrupting one ends its run."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, when they are imported
    import nbformat
    from nbclient import NotebookClient

PROGRAM = """
import asyncio, os, signal, sys, threading
import headrace as hr

begun = []
interrupted = threading.Event()

async def slow(item):
    begun.append(item)
    if len(begun) == 20:
        os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0)
    return item

async def cell():
    try:
        hr.run(slow, range(100_000), limits=hr.Limits(concurrency=10), store=sys.argv[1])
    except KeyboardInterrupt:
        return len(begun), threading.active_count()

loop = asyncio.new_event_loop()
at_interrupt, threads = loop.run_until_complete(cell())
print(at_interrupt, threads, not any(thread.name == "headrace-run" for thread in threading.enumerate()), len(begun))
"""


def test_an_interrupted_cell_ends_its_run(tmp_path: Path) -> None:
    """Ctrl-C while `hr.run` waits for its thread cancels the run: when it returns, no call is made any more."""
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "s.db")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    begun, _, gone, begun_later = ended.stdout.split()
    assert gone == "True"
    assert begun == begun_later
    assert int(begun) < 1000


class Notebook(NotebookClient):
    """Cells run by a kernel, and how often each changed what it had shown."""

    def __init__(self, cells: list[str], folder: Path) -> None:
        v4: Any = nbformat.v4
        book = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
        super().__init__(book, timeout=90, resources={"metadata": {"path": str(folder)}}, kernel_name="python3")
        self.changes: list[str] = []

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.changes.append(msg["content"]["data"]["text/html"])
        return super().process_message(msg, cell, cell_index)

    def shown(self, number: int) -> Iterator[tuple[str, str]]:
        """What a cell shows in the end: the kind of each output, as HTML where it is, else as text."""
        for output in self.nb.cells[number].outputs:
            data = output.get("data", {})
            text = data.get("text/html") or data.get("text/plain") or output.get("text") or str(output)
            yield output["output_type"], text


CELLS = [
    """
import warnings
warnings.simplefilter("error")
import headrace as hr
import pandas as pd
frame = pd.DataFrame({"id": [f"r{n}" for n in range(24)], "text": [f"<b>{n}</b>" for n in range(24)]})
ask = hr.Ask("Judge {text}", returns="label: good|bad", model="sim:latency=0.3")
limits = hr.Limits(concurrency=8)
""",
    "run = hr.run(ask, frame, key='id', store='s.db', limits=limits)",
    "run",
    "again = await hr.arun(ask, frame, key='id', store='t.db', limits=limits)",
    "hr.run(ask, frame, key='id', store='u.db', limits=limits, progress=False).ok",
    "[outcome.key async for outcome in hr.stream(ask, frame, key='id', store='s.db')][:1]",
    "hr.run(hr.Ask('{nowhere}', model='sim:'), frame)",
]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    book = Notebook(CELLS, tmp_path_factory.mktemp("notebook"))
    book.allow_errors = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernel's own: it is not encrypted on loopback
        book.execute()
    return book


@pytest.mark.parametrize("number", [1, 3])
def test_a_cell_shows_how_its_run_goes(notebook: Notebook, number: int) -> None:
    """`run` and `await arun` show one place in their own cell, which in the end says how the run ended."""
    assert list(notebook.shown(0)) == []
    ((kind, html),) = notebook.shown(number)
    assert kind == "display_data"
    assert "Done." in html
    assert "24 items: 24 ok, 0 failed" in html


def test_what_is_shown_changes_in_its_place(notebook: Notebook) -> None:
    """While a run of a second goes on, its figures are written anew a few times a second."""
    going = [html for html in notebook.changes if " / 24" in html]
    assert len(going) >= 3
    assert len(set(going)) >= 3
    assert all("all well" in html for html in going)


def test_a_run_is_a_table(notebook: Notebook) -> None:
    """A cell that ends in a run shows its first answers, and what is markup in the items stands there as text."""
    ((kind, html),) = notebook.shown(2)
    assert kind == "execute_result"
    assert html.count("<tr>") == 11
    assert "&lt;b&gt;9&lt;/b&gt;" in html
    assert "<b>9</b>" not in html
    assert "and 14 more rows" in html


def test_progress_can_be_turned_off(notebook: Notebook) -> None:
    """Then a cell shows what it says, and nothing else."""
    assert list(notebook.shown(4)) == [("execute_result", "24")]


def test_a_stream_shows_its_progress_too(notebook: Notebook) -> None:
    """Beside what the loop makes of the outcomes."""
    kinds = dict(notebook.shown(5))
    assert "24 came from the store" in kinds["display_data"]
    assert kinds["execute_result"].startswith("['r")


def test_an_error_is_told_in_its_cell(notebook: Notebook) -> None:
    """A run that cannot begin raises its sentence, and shows no progress."""
    ((kind, text),) = notebook.shown(6)
    assert kind == "error"
    assert "The prompt names {nowhere}" in text
