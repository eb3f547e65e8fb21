"""What the five applications take beside what the teams of SYSTEMS.md reported: each of their figures made again.

    python benchmarks/applications.py [--only tweets] [--faster 1]
    python benchmarks/applications.py --humans TWEETS.csv [--sample 500]

Each runs over HTTP against the simulated provider, with the latencies that they give: lognormal, 95 % of the calls within
what they say. Beside our time stand theirs, what one call after the other takes, and the ideal: the critical path at that
concurrency, of the same calls in the same order, as long as each took. The ratio to the ideal is the figure that counts:
where one is more than it may be at most, the status is 1. A second of theirs is a tenth of one here, so that whatever
headrace adds weighs ten times as much; times are told as theirs.
"""

import argparse
import asyncio
import csv
import functools
import heapq
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import make_tests

import headrace as hr
from headrace.apps import audit as audit_app
from headrace.apps import calls as calls_app
from headrace.apps import documents as documents_app
from headrace.apps import quality as quality_app
from headrace.apps import tweets as tweets_app

SEEDS = (1, 2, 3)
NEUTRAL = 0.5
"""What people rate between this and its negative is neither positive nor negative."""
WORST_RATIO = 1.25
"""Of the ideal, in tenths of their seconds; what is worse fails the benchmark."""


class Took(msgspec.Struct, frozen=True):
    """Seconds of one run."""

    ours: float
    ideal: float
    sequential: float

    def times(self, factor: float) -> "Took":
        return Took(factor * self.ours, factor * self.ideal, factor * self.sequential)


class Figure(msgspec.Struct, frozen=True):
    what: str
    theirs: str
    sequential_theirs: str
    runs: tuple[Took, ...]

    def told(self, faster: float) -> str:
        ours, ideal, sequential = (
            faster * statistics.median(getattr(run, name) for run in self.runs)
            for name in ("ours", "ideal", "sequential")
        )
        return (
            f"  {self.what:34} {ours:9.1f} {ideal:9.1f} {self.ratio:7.2f} {WORST_RATIO:8g} {sequential:11.1f}   "
            f"{self.theirs:>12} {self.sequential_theirs:>14}"
        )

    @property
    def ratio(self) -> float:
        return statistics.median(run.ours / run.ideal for run in self.runs)


class Heard:
    """The events of one run: when each call began and how long it took, stage by stage."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self.stages: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.began_s = self.ended_s = math.nan

    def __call__(self, event: Any) -> None:
        match type(event).__name__:
            case "RunStarted":
                self.began_s = event.at_s
                self.kinds = {stage.name: stage.kind for stage in event.stages}
            case "CallEnded":
                self.calls[event.stage].append((event.at_s - event.seconds, event.seconds))
            case "StageEnded":
                self.stages[event.stage] = event.seconds
            case "RunEnded":
                self.ended_s = event.at_s

    def seconds(self, stage: str = "") -> list[float]:
        """Of its calls, in the order in which they began."""
        return [seconds for _, seconds in sorted(self.calls[stage])]

    def asked(self) -> list[float]:
        """Of all calls to models, in the order in which they began."""
        kinds = self.kinds
        calls = [call for stage, calls in self.calls.items() if kinds.get(stage, "ask") == "ask" for call in calls]
        return [seconds for _, seconds in sorted(calls)]

    @property
    def wall_s(self) -> float:
        return self.ended_s - self.began_s


def critical_path(seconds: Iterable[float], concurrency: int) -> float:
    """How long these calls take in their order, so many at once, where nothing else takes time."""
    free = [0.0] * concurrency
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def latency(least_s: float, most_s: float, faster: float) -> str:
    """95 % of the calls within these."""
    return f"lognormal:{math.sqrt(least_s * most_s) / faster:.4f},{math.log(most_s / least_s) / (2 * 1.96):.4f}"


@contextmanager
def provider(*words: str) -> Iterator[str]:
    """The base URL of a simulated provider in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "headrace.sim.command", "--port", "0", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("headrace simulate: ").strip()
        finally:
            process.terminate()


def measured(run: Callable[..., object], items: object, *, seed: int, latency: str, **how: Any) -> Heard:
    """The events of one run over these items, in an empty store."""
    heard = Heard()
    with provider("--latency", latency, "--seed", str(seed)) as url, tempfile.TemporaryDirectory() as folder:
        model = hr.Model("openai:simulated", base_url=url, api_key="none")
        run(
            items, model=model, key="id", name="benchmark", store=Path(folder) / "store.db", on_event=heard,
            progress=False, **how,
        )  # fmt: skip
    return heard


def tweets(faster: float) -> Iterator[Figure]:
    """T: stage 1 over a feed of 100 tweets with 50 calls at once; stage 2 over 3, 5 and 10 picks. A call takes 2-6 s."""
    feed = [{"id": f"t{number}", "text": f"tweet number {number}"} for number in range(100)]
    reported = {3: ("6-15 s", "12-28 s"), 5: ("6-20 s", "20-40 s"), 10: ("6-30 s", "40-80 s")}
    whole: tuple[Took, ...] = ()
    for top, (theirs, sequential) in reported.items():
        heard = [
            measured(tweets_app.scan, feed, seed=seed, latency=latency(2, 6, faster), top=top, limits=hr.Limits(50))
            for seed in SEEDS
        ]
        if top == 3:
            screened = [(critical_path(each.seconds("screen"), 50), each) for each in heard]
            yield Figure(
                "stage 1, 100 tweets", "5-15 s", "5-15 s",
                tuple(Took(each.stages["screen"], ideal, sum(each.seconds("screen"))) for ideal, each in screened),
            )  # fmt: skip
            whole = tuple(
                Took(
                    each.wall_s, ideal + max(each.seconds("deep dive")),
                    sum(each.seconds("screen")) + sum(each.seconds("deep dive")),
                )
                for ideal, each in screened
            )  # fmt: skip
        dives = tuple(
            Took(each.stages["deep dive"], max(each.seconds("deep dive")), sum(each.seconds("deep dive")))
            for each in heard
        )
        yield Figure(f"stage 2, {top} tweets", theirs, sequential, dives)
    yield Figure("the whole scan, 3 of 100", "11-30 s", "17-43 s", whole)


def calls(faster: float) -> Iterator[Figure]:
    """C: 40 calls, and 49 in what was a batch of 40 and one of 9, with 40 at once. A call takes 3-6 s."""
    for rows, theirs, sequential in ((40, "12-24 s", "120-240 s"), (49, "30-60 s", "300-600 s")):
        table = [{"id": f"c{number}", "transcript": f"call number {number}"} for number in range(rows)]
        heard = [
            measured(
                calls_app.analyse, table, seed=seed, latency=latency(3, 6, faster), themes=False, limits=hr.Limits(40)
            )
            for seed in SEEDS
        ]
        took = tuple(Took(each.wall_s, critical_path(each.seconds(), 40), sum(each.seconds())) for each in heard)
        yield Figure(f"{rows} calls", theirs, sequential, took)


def audit(faster: float) -> Iterator[Figure]:
    """A: 10 calls at a time; a call takes 15-25 s (here a hundredth of that), a site 5-10 s."""
    slower = 10.0
    brands = [{"id": f"b{n}", "brand": f"brand{n}", "product": "kettles"} for n in range(12)]
    given = [
        {"brand": f"brand{n % 12}", "query": "Which?", "response": f"brand{n % 12} or another, {n}"} for n in range(192)
    ]
    collected = functools.partial(_audited, responses=given)
    for what, run, theirs, sequential in (
        ("192 responses analysed", collected, "300-600 s", "3,600-10,800 s"),
        ("the whole audit, 12 brands", _audited, "1,320-1,620 s", "5,400-12,600 s"),
    ):
        heard = [
            measured(run, brands, seed=seed, latency=latency(15, 25, slower * faster), limits=hr.Limits(10))
            for seed in SEEDS
        ]
        took = tuple(Took(one.wall_s, critical_path(one.asked(), 10), sum(one.asked())).times(slower) for one in heard)
        yield Figure(what, theirs, sequential, took)
    for what, domains, theirs, sequential in (
        ("192 domains fetched", 192, "960 s", "1,920 s"),
        ("192 domains, half of them known", 96, "480 s", "1,920 s"),
    ):
        took = tuple(_fetched(domains, seed, faster) for seed in SEEDS)
        yield Figure(what, theirs, sequential, took)


def _audited(brands: Any, *, model: hr.Model, **how: Any) -> object:
    return audit_app.audit(brands, assistants=[model], queries=16, **how)


def _fetched(domains: int, seed: int, faster: float) -> Took:
    """192 front pages, one after another address of this machine, 64 at once."""
    draw = random.Random(seed)
    waits = {f"127.0.1.{n + 1}": math.exp(draw.gauss(math.log(7), 0.18)) / faster for n in range(domains)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(waits[writer.get_extra_info("sockname")[0]])
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
        )
        writer.close()

    async def main(folder: str) -> Took:
        server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=256)
        port = server.sockets[0].getsockname()[1]
        pages = [{"url": f"http://127.0.1.{n % domains + 1}:{port}/{n}"} for n in range(192)]
        heard = Heard()
        fetch = hr.Fetch(by="domain", allow=("127.0.0.0/8",))
        await hr.arun(fetch, pages, store=Path(folder) / "store.db", name="fetch", on_event=heard, progress=False)
        server.close()
        ideal = critical_path([waits[page["url"].split("/")[2].partition(":")[0]] for page in pages[:domains]], 64)
        return Took(heard.wall_s, ideal, 192 / domains * sum(waits.values()))

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(main(folder))


def quality(faster: float) -> Iterator[Figure]:
    """Q: 10 at once. A call takes 0.5 s, here too, so that rules count as they are: they come first, in the ideal as well."""
    for files, uncertain, theirs, sequential in ((38, 91, "5 s", "45 s"), (50, 120, "6 s", "60 s")):
        asking, whole = [], []
        for seed in SEEDS:
            took: list[float] = []
            judged = functools.partial(_judged, took=took)
            with tempfile.TemporaryDirectory() as folder:
                make_tests.make(Path(folder), files=files, uncertain=uncertain, seed=seed)
                judged(folder, strategy="rules")
                heard = measured(judged, folder, seed=seed, latency="0.5")
            rules_s, whole_s = took
            ideal_s, one_by_one_s = (critical_path(heard.seconds(), at_once) for at_once in (10, 1))
            asking.append(Took(heard.wall_s, ideal_s, one_by_one_s).times(1 / faster))
            whole.append(Took(whole_s, rules_s + ideal_s, rules_s + one_by_one_s).times(1 / faster))
        yield Figure(f"{uncertain} calls", theirs, sequential, tuple(asking))
        yield Figure(f"{files} files, rules included", theirs, sequential, tuple(whole))


def _judged(folder: str, *, took: list[float], key: str = "", name: str = "", **how: Any) -> None:  # noqa: ARG001 - it has its own
    start_s = time.perf_counter()
    report = quality_app.analyse(folder, concurrency=10, **how)
    took.append(time.perf_counter() - start_s)
    assert not report.is_partial


def documents(faster: float) -> Iterator[Figure]:
    """D: 24 documents, 4 questions each, 3 workers. They tell how many times faster; a call of 2-6 s is taken."""
    for mode, theirs in (("async", "2.33-2.55 x"), ("process", "2.64 x"), ("sync", "1 x")):
        runs = []
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                for number in range(24):
                    (Path(folder) / f"{number}.txt").write_text(f"Document {number} is about mills and weirs.")
                run = functools.partial(_read, mode=mode)
                heard = measured(run, folder, seed=seed, latency=latency(2, 6, faster))
            ideal = critical_path(heard.asked(), 1 if mode == "sync" else 3)
            runs.append(Took(heard.wall_s, ideal, sum(heard.asked())))
        yield Figure(f"24 documents, {mode}", theirs, "1 x", tuple(runs))


def _read(folder: str, *, model: hr.Model, key: str, name: str, **how: Any) -> object:  # noqa: ARG001 - it has its own
    return documents_app.analyse(folder, model=model, every=True, synthesis=False, **how)


APPLICATIONS: Mapping[str, Callable[[float], Iterator[Figure]]] = {
    "tweets": tweets,
    "calls": calls,
    "audit": audit,
    "quality": quality,
    "documents": documents,
}
"""Each gives its figures; the number is how many seconds of theirs are one of ours."""


def agreement(path: Path, model: str, sample: int) -> None:
    """How far the screening of real tweets agrees with people. The table has the columns text and human_sentiment, -4 to 4."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"], "human": float(row["human_sentiment"])} for row in csv.DictReader(file)]
    rows = random.Random(1).sample(rows, min(sample, len(rows)))
    screen = next(iter(tweets_app.pipeline(model, temperature=0.0)))
    with tempfile.TemporaryDirectory() as folder:
        run = hr.run(screen, rows, store=Path(folder) / "store.db", progress=True)
        told = [(outcome.item["human"], outcome.value.sentiment) for outcome in run if outcome.value is not None]
    people = [_mood(human) for human, _ in told]
    agreed = statistics.fmean(_mood(human) == mood for human, mood in told)
    most = max(people.count(mood) for mood in set(people)) / len(people)
    clear = [(human, mood) for human, mood in told if abs(human) >= 1]
    opposite = statistics.fmean(mood in ("positive", "negative") and mood != _mood(human) for human, mood in clear)
    print(f"\n{len(rows)} real tweets, {model}: {len(told) / len(rows):.1%} became valid typed values")
    print(f"  sentiment as people have it {agreed:.1%}; always their most frequent one would be {most:.1%}")
    print(f"  of {len(clear)} that people find clear, {opposite:.1%} were taken for the opposite")


def _mood(human: float) -> str:
    return "positive" if human >= NEUTRAL else "negative" if human <= -NEUTRAL else "neutral"


def main() -> None:
    words = argparse.ArgumentParser(description="The applications beside the systems that they replace.")
    words.add_argument("--only", choices=APPLICATIONS)
    words.add_argument(
        "--faster", type=float, default=10.0, help="how many seconds of theirs are one here (10); 1 is real time"
    )
    words.add_argument(
        "--humans", type=Path, metavar="FILE", help="real tweets with human sentiment: only the agreement with them"
    )
    words.add_argument("--model", default="local", help="which model is to agree with people (local)")
    words.add_argument("--sample", type=int, default=500, help="on how many tweets (500)")
    args = words.parse_args()
    if args.humans is not None:
        agreement(args.humans, args.model, args.sample)
        return
    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            del os.environ[name]
    slow: list[str] = []
    for name, figures in APPLICATIONS.items():
        if args.only not in (None, name):
            continue
        print(f"\n{name}: {(figures.__doc__ or '').strip()}")
        print(
            f"  {'seconds':34} {'headrace':>9} {'ideal':>9} {'ratio':>7} {'at most':>8} {'sequential':>11}   "
            f"{'reported':>12} {'before':>14}"
        )
        for figure in figures(args.faster):
            print(figure.told(args.faster), flush=True)
            slow += [figure.what] if figure.ratio > WORST_RATIO else []
    if slow:
        raise SystemExit(f"More than {WORST_RATIO:g} of the ideal: {', '.join(slow)}.")


if __name__ == "__main__":
    main()
