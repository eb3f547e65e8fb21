"""The cells of the flow benchmark: what the provider does, what is asked of it, what is stated, and the ideal.

An ideal is the shortest time in which the provider as simulated can give that many answers to anyone, whoever asks and
however; so it is the same for all contenders. Where they may have as many calls in flight as they like it is at 100.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

TOKENS_PER_MINUTE, TOKENS_AT_ONCE = 120_000, 4_000
CHARACTERS_PER_TOKEN = 4
"""As the simulated provider counts."""
LEAST_ITEMS, MOST_ITEMS = 30, 60
"""Of a quick look."""
LATENCY_S = 0.4
"""Of a call, where a rate is what limits: 10 calls in flight are then 25 a second, a little more than is allowed."""
HIDDEN, KNEE, TAIL_S = 37, 40, 8.0


@dataclass(frozen=True)
class Cell:
    """`in_flight`, `rpm` and `backup` are what a contender is told; None: it has to find out."""

    name: str
    title: str
    provider: tuple[str, ...]
    """Words of `headrace simulate`."""
    items: int
    work_s: Callable[[Sequence[str]], float]
    """The ideal for these prompts, without outages."""
    how: str
    """The ideal in words."""
    in_flight: int | None = None
    rpm: int | None = None
    backup: float = 0.0
    median_characters: int = 120
    outage_s: tuple[float, float] | None = None
    """From and to, after the first call."""
    stating: bool = False
    """Whether it is about stating a limit: then who cannot is left out."""
    by_tokens: bool = False
    """Whether what is done counts by its tokens, not by its items."""

    def prompts(self) -> list[str]:
        """All different, of different lengths, the same in every run."""
        chance = random.Random(self.name)
        return [f"{self.name} {number}: " + _text(chance, self.median_characters) for number in range(self.items)]

    def words(self) -> tuple[str, ...]:
        """Of `headrace simulate`."""
        if self.outage_s is None:
            return self.provider
        return (*self.provider, "--outage", "{:g}-{:g}=503".format(*self.outage_s))

    def ideal_s(self, prompts: Sequence[str]) -> float:
        from_s, to_s = self.outage_s or (0.0, 0.0)
        return self.work_s(prompts) + to_s - from_s

    def quick(self) -> "Cell":
        """For a look whether everything works; its figures say little."""
        items = max(LEAST_ITEMS, min(MOST_ITEMS, self.items // 10))
        in_flight = self.in_flight and min(self.in_flight, 10)
        return replace(self, items=items, in_flight=in_flight, outage_s=self.outage_s and (0.5, 2.5))


def _text(chance: random.Random, median: int) -> str:
    length = min(20 * median, int(chance.lognormvariate(math.log(median), 0.6)))
    return ("The water is fine, if a little cold for the season. " * (length // 52 + 1))[:length]


def tokens_of(prompts: Sequence[str]) -> int:
    return sum(-(-len(prompt) // CHARACTERS_PER_TOKEN) for prompt in prompts)


def evenly(seconds: float, in_flight: int) -> Callable[[Sequence[str]], float]:
    """Calls of so many seconds, so many at once."""
    return lambda prompts: math.ceil(len(prompts) / in_flight) * seconds


def bucket(prompts: Sequence[str]) -> float:
    return max(0, len(prompts) - 20) / 20 + LATENCY_S


def minute(prompts: Sequence[str]) -> float:
    return (len(prompts) - 1) // 1200 * 60 + LATENCY_S


def token_bucket(prompts: Sequence[str]) -> float:
    return max(0, tokens_of(prompts) - TOKENS_AT_ONCE) / (TOKENS_PER_MINUTE / 60) + LATENCY_S


def tail(prompts: Sequence[str]) -> float:
    return len(prompts) * (0.98 * 1.0 + 0.02 * TAIL_S) / 100


_RATE = ("--latency", str(LATENCY_S), "--limit")
_BUCKET = (*_RATE, "requests=1200/60,kind=bucket,capacity=20", "--headers")
_MINUTE = (*_RATE, "requests=1200/60,kind=sliding", "--headers")
_TOKENS = f"tokens={TOKENS_PER_MINUTE}/60,kind=bucket,capacity={TOKENS_AT_ONCE}"
_FAULTS = "hang=0.007,500=0.02,503=0.008,429=0.01,reset=0.01,malformed=0.01,cut=0.005"
_BUCKET_IDEAL = "(items - 20) / 20 a second, and one call"
_MINUTE_IDEAL = "a minute for each 1,200 before the last, and one call"

CELLS = (
    Cell(
        "seed", "91 calls of 0.5 s at 10", ("--latency", "0.5", "--limit", "concurrency=10"), 91,
        evenly(0.5, 10), "items / 10, rounded up, x 0.5 s", in_flight=10,
    ),
    Cell(
        "wide", "10,000 calls of 0.2 s at 500", ("--latency", "0.2", "--limit", "concurrency=500"), 10_000,
        evenly(0.2, 500), "items / 500 x 0.2 s", in_flight=500,
    ),
    Cell("bucket-told", "1,200 a minute, bucket of 20, headers", (*_BUCKET, "openai"), 800, bucket, _BUCKET_IDEAL),
    Cell("bucket-untold", "1,200 a minute, bucket of 20, no headers", (*_BUCKET, "none"), 800, bucket, _BUCKET_IDEAL),
    Cell(
        "bucket-stated", "1,200 a minute, bucket of 20, no headers, stated", (*_BUCKET, "none"), 800,
        bucket, _BUCKET_IDEAL, rpm=1200, stating=True,
    ),
    Cell("minute-told", "1,200 in any minute, headers", (*_MINUTE, "openai"), 1220, minute, _MINUTE_IDEAL),
    Cell("minute-untold", "1,200 in any minute, no headers", (*_MINUTE, "none"), 2420, minute, _MINUTE_IDEAL),
    Cell(
        "tokens", "120,000 tokens a minute, 4,000 at once, headers", (*_RATE, _TOKENS, "--headers", "openai"), 300,
        token_bucket, "(tokens - 4,000) / 2,000 a second, and one call", median_characters=1200, by_tokens=True,
    ),
    Cell(
        "hidden", "37 calls in flight, untold", ("--latency", "0.5", "--limit", f"concurrency={HIDDEN}", "--headers", "none"),
        2000, evenly(0.5, HIDDEN), "items / 37, rounded up, x 0.5 s",
    ),
    Cell(
        "knee", "slower past 40 in flight", ("--latency", "0.5", "--knee", f"{KNEE},1.5"), 1500,
        evenly(0.5, KNEE), "items / 40 x 0.5 s",
    ),
    Cell(
        "tail", "2 % of the calls take 8 s, the others 1 s", ("--latency", "1", "--tail", f"0.02={TAIL_S:g}"), 1000,
        tail, "all seconds of all calls / 100", in_flight=100, backup=0.02,
    ),
    Cell(
        "faults", "7 % of the calls fail, a tenth of these by silence", ("--latency", "0.5", "--faults", _FAULTS), 2000,
        evenly(0.5, 100), "items / 100 x 0.5 s", in_flight=100,
    ),
    Cell(
        "outage", "20 s of nothing but 503", ("--latency", "0.5"), 1500,
        evenly(0.5, 100), "items / 100 x 0.5 s, and the 20 s", in_flight=100, outage_s=(3, 23),
    ),
)  # fmt: skip
"""In the order of the table."""
