"""How good forecasts are: runs over HTTP beside what `headrace plan` said of them, and what a rehearsal takes.

    python benchmarks/plan.py [--only NAME] [--calls 100000]

Each of six settings is a `headrace simulate`. An earlier run meets it first, so limits and latencies are learnt and never
told by the user; then the plan is made, then the run. Forecast and run are over other items than the earlier run. Where
the middle of a forecast is further off than it may be, or the rehearsal takes too long, the status is 1.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

import headrace as hr
from headrace.core.limits import Unit
from headrace.engine.forecast import Plan
from headrace.engine.snapshot import snapshot_of
from headrace.settings import Settings
from headrace.sim.likeness import Known
from headrace.sim.outlook import lognormal
from headrace.sim.plan import plan
from headrace.sim.rehearsal import Work, rehearse
from headrace.store.history import SqliteHistory

PRICES = '["openai:m"]\ninput = 1.0\noutput = 4.0\n'
LEARNT_FROM = 1000
MOST_OFF = 0.05
"""Of a run's time and of its cost."""
MOST_S_OF_CALL = 15.0 / 100_000


class Setting(msgspec.Struct, frozen=True):
    words: tuple[str, ...]
    items: int
    concurrency: int | Literal["auto"] = "auto"
    mixed: bool = False


SETTINGS: Mapping[str, Setting] = {
    "RPM bound": Setting(("--latency", "lognormal:0.5,0.5", "--limit", "requests=1200/60", "--headers", "openai"), 600),
    "TPM bound": Setting(
        ("--latency", "lognormal:0.5,0.5", "--limit", "tokens=60000,charge=usage", "--headers", "openai"), 600
    ),
    "concurrency bound": Setting(("--latency", "lognormal:0.8,0.5", "--limit", "concurrency=24"), 700),
    "tail": Setting(("--latency", "lognormal:0.4,0.4", "--tail", "0.03=3"), 2000, concurrency=40),
    "faults": Setting(
        ("--latency", "lognormal:0.5,0.4", "--faults", "500=0.03,reset=0.01,malformed=0.01,cut=0.01"), 900, 20
    ),
    "mixed lengths": Setting(
        ("--latency", "lognormal:0.5,0.5", "--limit", "tokens=120000,charge=usage", "--headers", "openai"), 600,
        mixed=True,
    ),
}  # fmt: skip


@contextmanager
def simulate(*words: str) -> Iterator[str]:
    command = [sys.executable, "-m", "headrace", "simulate", "--port", "0", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert server.stdout is not None
        yield server.stdout.readline().removeprefix("headrace simulate: ").strip()
    finally:
        server.terminate()
        server.wait()


def texts(count: int, seed: int, *, mixed: bool) -> list[str]:
    chance = random.Random(seed)
    return [
        f"{seed} {place} " + "word " * (min(2000, int(chance.lognormvariate(3.5, 1.0))) if mixed else 40)
        for place in range(count)
    ]


def compared(name: str, setting: Setting, folder: Path) -> bool:
    """Whether the forecast was near enough."""
    store, prices = folder / "store.db", folder / "prices.toml"
    prices.write_text(PRICES)
    os.environ["HEADRACE_PRICES"] = str(prices)
    limits = hr.Limits(concurrency=setting.concurrency)
    with simulate(*setting.words) as url:
        ask = hr.Ask("Say {item}", model=hr.Model("openai:m", base_url=url, api_key="k"))
        learnt_from = texts(min(LEARNT_FROM, 2 * setting.items), 1, mixed=setting.mixed)
        hr.run(ask, learnt_from, store=store, limits=limits, name="earlier")
        if "openai" in setting.words:  # what the earlier run was charged leaves the window: the plan is for later
            time.sleep(61)
        items = texts(setting.items, 2, mixed=setting.mixed)
        settings = Settings(store=store, limits=limits, name="later")
        began_s = time.perf_counter()
        forecast = plan(ask, items, settings, os.environ)
        took_s = time.perf_counter() - began_s
        run = hr.run(ask, items, store=store, limits=limits, name="later")
    return told(name, forecast, run, store, took_s)


def told(name: str, forecast: Plan, run: "hr.Run[object]", store: Path, took_s: float) -> bool:
    info = SqliteHistory(store).run(run.id)
    snapshot = snapshot_of(info.figures if info is not None else None)
    assert snapshot is not None
    assert forecast.usd is not None
    assert run.usd is not None
    s, usd = forecast.seconds, forecast.usd
    off_s, off_usd = s.p50 / snapshot.seconds - 1, usd.p50 / run.usd - 1
    print(
        f"{name:18} {s.p50:7.1f} s ({s.p10:6.1f} to {s.p90:6.1f}) ran {snapshot.seconds:7.1f} s {100 * off_s:+5.1f} %   "
        f"${usd.p50:.4f} ran ${run.usd:.4f} {100 * off_usd:+5.1f} %   calls {forecast.calls.p50:.0f} ran {snapshot.calls}   "
        f"{forecast.binding or 'nothing'} binds, ran {max(snapshot.waited_s, key=snapshot.waited_s.__getitem__, default='')}   planned in {took_s:.1f} s",
        flush=True,
    )  # fmt: skip
    return max(abs(off_s), abs(off_usd)) <= MOST_OFF


def speed(calls: int) -> bool:
    """Whether it was fast enough."""
    known = Known(seconds=lognormal(1.0, 0.5), output_tokens=lognormal(50.0, 0.5), stated={Unit.CONCURRENCY: 64.0})
    began_s, cpu_s = time.perf_counter(), time.process_time()
    course = rehearse(Work(tokens=[100] * calls, timeout_s=300.0), known, 1)
    wall_s = time.perf_counter() - began_s
    print(
        f"{calls:,} calls, {course.seconds:,.0f} virtual s: rehearsed in {wall_s:.1f} s, "
        f"{time.process_time() - cpu_s:.1f} s of CPU"
    )
    return wall_s <= calls * MOST_S_OF_CALL


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--only")
    words.add_argument("--calls", type=int, default=100_000)
    args = words.parse_args()
    missed: list[str] = []
    for name, setting in SETTINGS.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                missed += [] if compared(name, setting, Path(folder)) else [name]
    if args.only in (None, "speed"):
        missed += [] if speed(args.calls) else ["speed"]
    if missed:
        raise SystemExit(f"Missed its target: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
