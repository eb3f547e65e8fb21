"""headrace beside the OpenAI SDK (a semaphore of 10, and of 100) and LiteLLM's Router: how near each comes to what the
provider allows, and what it breaks on the way. One table from one run, in real time over HTTP.

    python benchmarks/flow.py [--cells seed,hidden] [--only headrace,litellm] [--cap 180] [--quick] [--why]

Each row has a fresh provider (`headrace simulate`) and a fresh client, each a process of its own, one after the other;
the clock runs from the first item given to the last answer had, without the client's imports. The provider's own books
say what was refused and paid. The peers live in environments of their own: `sh benchmarks/peers/setup` makes them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_control.cells import CELLS, Cell, tokens_of

HERE = Path(__file__).parent
PEERS = HERE.parent / ".bench"
CAP_S, QUICK_CAP_S = 180.0, 20.0
GRACE_S = 60.0
"""For a child's imports and its end."""


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    script: str
    """Its module."""
    peer: str = ""
    """Its environment; empty: this one."""
    in_flight: int = 100
    """Where the cell states no other."""
    fixed: bool = False
    """Whether it keeps to that whatever the cell states."""
    states: bool = True
    """Whether a limit on requests can be stated to it."""

    @property
    def python(self) -> str:
        return str(PEERS / self.peer / "bin" / "python") if self.peer else sys.executable

    def job(self, cell: Cell, url: str, prompts: list[str], cap_s: float) -> dict[str, Any]:
        in_flight = self.in_flight if self.fixed or cell.in_flight is None else cell.in_flight
        return {
            "url": url, "prompts": prompts, "in_flight": in_flight, "stated": cell.in_flight, "rpm": cell.rpm,
            "backup": cell.backup, "cap_s": cap_s,
        }  # fmt: skip


CONTENDERS = (
    Contender("headrace", "headrace", "ours"),
    Contender("sdk-10", "SDK, 10", "sdk", peer="openai", in_flight=10, fixed=True, states=False),
    Contender("sdk-100", "SDK, 100", "sdk", peer="openai", in_flight=100, fixed=True, states=False),
    Contender("litellm", "LiteLLM", "router", peer="litellm"),
)


@dataclass(frozen=True)
class Row:
    """What one contender made of one cell."""

    cell: Cell
    contender: Contender
    items: int
    ideal_s: float
    ok: int
    share: float
    """Of the work, what was done."""
    seconds: float
    refusals: int
    paid_twice: int
    calls: int
    version: str
    why: Any

    @property
    def lost(self) -> int:
        return self.items - self.ok

    @property
    def ratio(self) -> float | None:
        """Of the time for what was done to the ideal time for that; None where nothing was."""
        return self.seconds / (self.ideal_s * self.share) if self.share else None


@contextmanager
def provider(*words: str) -> Iterator[str]:
    """Its base URL, while it runs."""
    command = [sys.executable, "-m", "headrace.sim.command", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("headrace simulate: http://"), f"the provider did not start: {line!r}"
            yield line.removeprefix("headrace simulate: ").strip()
        finally:
            process.terminate()


def books(url: str) -> dict[str, Any]:
    """The provider's ledger."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url.removesuffix("/v1") + "/ledger", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def measured(cell: Cell, contender: Contender, cap_s: float) -> Row:
    """Raises AssertionError where a contender claims more than its provider was paid for."""
    prompts = cell.prompts()
    environ = {**os.environ, "NO_PROXY": "127.0.0.1"}
    if contender.peer:
        environ.pop("PYTHONPATH", None)
    with provider(*cell.words()) as url:
        child = subprocess.run(
            [contender.python, "-m", f"flow_control.{contender.script}"], cwd=HERE, env=environ, capture_output=True,
            input=json.dumps(contender.job(cell, url, prompts, cap_s)), text=True, timeout=cap_s + GRACE_S, check=False,
        )  # fmt: skip
        ledger = books(url)
    assert child.returncode == 0, f"{contender.name} broke in {cell.name}:\n{child.stderr[-2000:]}"
    found = json.loads(child.stdout.splitlines()[-1])
    paid = ledger["items"]
    assert found["ok"] <= len(paid), f"{contender.name} has {found['ok']} answers of {len(paid)} paid in {cell.name}"
    share = ledger["input_tokens"] / tokens_of(prompts) if cell.by_tokens else found["ok"] / len(prompts)
    return Row(
        cell, contender, len(prompts), cell.ideal_s(prompts), found["ok"], share, found["seconds"],
        refusals=ledger["by_status"].get("429", 0), paid_twice=sum(paid.values()) - len(paid),
        calls=ledger["requests"], version=found["version"], why=found["why"],
    )  # fmt: skip


_HEAD = ("cell", "contender", "x ideal", "seconds", "429s", "lost", "paid twice", "calls")
_WIDTHS = (50, 10, 8, 8, 6, 6, 10, 7)


def line(texts: tuple[str, ...]) -> str:
    cells = [
        text.ljust(width) if place < 2 else text.rjust(width)
        for place, (text, width) in enumerate(zip(texts, _WIDTHS, strict=True))
    ]
    return "| " + " | ".join(cells) + " |"


def shown(row: Row, *, first: bool) -> str:
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return line(
        (
            row.cell.title if first else "", row.contender.title, f"({ratio})" if row.lost else ratio,
            f"{row.seconds:.1f}", f"{row.refusals:,}", f"{row.lost:,}", f"{row.paid_twice:,}", f"{row.calls:,}",
        )
    )  # fmt: skip


def compare(cells: list[Cell], contenders: list[Contender], cap_s: float, *, why: bool) -> list[Row]:
    """Runs everything, and prints each row as it comes."""
    print(line(_HEAD))
    print("|" + "|".join("-" * (width + 1) + ("-" if place < 2 else ":") for place, width in enumerate(_WIDTHS)) + "|")
    rows: list[Row] = []
    for cell in cells:
        first = True
        for contender in contenders:
            if cell.stating and not contender.states:
                continue
            row = measured(cell, contender, cap_s)
            rows.append(row)
            print(shown(row, first=first), flush=True)
            first = False
            if why:
                print(f"    {json.dumps(row.why, indent=1)}".replace("\n", "\n    "), file=sys.stderr, flush=True)
    return rows


def explained(rows: list[Row], cap_s: float) -> str:
    """What the table cannot say itself."""
    versions = {row.contender.peer or "headrace": row.version for row in rows}
    ideals = {row.cell.title: (row.ideal_s, row.cell.how) for row in rows}
    lines = [
        f"\nIn brackets: for what it did alone, since items were lost (failed, or not done after {cap_s:g} s).",
        "SDK: the OpenAI SDK under a semaphore of 10, or of 100; LiteLLM: its Router, at what the cell states, or at 100.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"Machine: {os.cpu_count()} cores, {platform.system()}, load {os.getloadavg()[0]:.1f} at the end",
        "Ideals:",
        *(f"  {title}: {ideal_s:.1f} s = {how}" for title, (ideal_s, how) in ideals.items()),
    ]
    return "\n".join(lines)


def chosen(names: str | None, there: tuple[Any, ...]) -> list[Any]:
    if names is None:
        return list(there)
    by_name = {each.name: each for each in there}
    wrong = [name for name in names.split(",") if name not in by_name]
    if wrong:
        raise SystemExit(f"flow.py: there is no {', '.join(wrong)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cells", help=",".join(cell.name for cell in CELLS))
    words.add_argument("--only", help=",".join(contender.name for contender in CONTENDERS))
    words.add_argument("--cap", type=float, help=f"most seconds for a row ({CAP_S:g})")
    words.add_argument("--quick", action="store_true", help="a few items, to see that it works; headrace alone")
    words.add_argument("--why", action="store_true", help="on standard error: what held each row up, and what failed")
    args = words.parse_args()
    cells: list[Cell] = chosen(args.cells, CELLS)
    contenders: list[Contender] = chosen(args.only or ("headrace" if args.quick else None), CONTENDERS)
    missing = {each.peer for each in contenders if each.peer and not Path(each.python).exists()}
    if missing:
        raise SystemExit(
            f"flow.py: no environment for {', '.join(sorted(missing))}: sh benchmarks/peers/setup makes it"
        )
    cap_s = args.cap or (QUICK_CAP_S if args.quick else CAP_S)
    rows = compare([cell.quick() for cell in cells] if args.quick else cells, contenders, cap_s, why=args.why)
    print(explained(rows, cap_s))


if __name__ == "__main__":
    main()
