"""What a simulated provider does with a call: how long it takes and which fault strikes.

Enters seed, prompt and attempt, leaves a plan. Pure: the same three give the same plan, in whatever order.
"""

import math
from collections.abc import Sequence
from enum import Enum
from hashlib import blake2b
from struct import Struct

import msgspec

from headrace.core.errors import UsageError
from headrace.provider.wording import number, words

_SCALE = 2.0**-53
_numbers = Struct("<3Q").unpack


class Fault(Enum):
    """One way to fail; the value is its word on the command line and in the ledger."""

    ERROR_500 = "500"
    THROTTLED_429 = "429"
    RESET = "reset"
    HANG = "hang"
    MALFORMED = "malformed"
    CUT = "cut"
    UNAVAILABLE_503 = "503"
    OVERLOADED_529 = "529"
    SLOW_DOWN = "slow_down"
    """A 503 that asks for slower growth."""
    HTML = "html"
    """A gateway's 502 with a page for people."""
    HIDDEN = "hidden"
    """A 200 that holds an error."""
    QUOTA = "quota"
    """The credit is gone."""


class Latency(msgspec.Struct, frozen=True):
    """Seconds until the answer: `median_s`, or lognormal around it where `sigma` is above 0; but a share has `tail_s`."""

    median_s: float = 0.0
    sigma: float = 0.0
    tail: float = 0.0
    tail_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.median_s < 1e6 and 0 <= self.sigma < 10):
            raise UsageError(
                f"The latency of {self.median_s:g} s with sigma {self.sigma:g} is out of bounds.",
                hint="Give seconds from 0 to a million and a sigma from 0 to 10.",
            )
        if not (0 <= self.tail <= 1 and 0 <= self.tail_s < 1e6):
            raise UsageError(
                f"A tail of {self.tail:g} of the calls with {self.tail_s:g} s is out of bounds.",
                hint="Write SHARE=SECONDS with a share from 0 to 1, for example 0.02=8.",
            )

    @property
    def by_chance(self) -> bool:
        return self.sigma > 0 or self.tail > 0

    def with_tail(self, text: str) -> "Latency":
        """`0.02=8`: two of a hundred calls take 8 s."""
        share, found, seconds = text.partition("=")
        if not found:
            raise UsageError(f"{text!r} is no tail.", hint="Write SHARE=SECONDS, for example 0.02=8.")
        return msgspec.structs.replace(self, tail=number("tail", share), tail_s=number("tail", seconds))

    @classmethod
    def parse(cls, text: str) -> "Latency":
        """`0.2` is fixed, `lognormal:2,0.5` has a median of 2 s and a sigma of 0.5."""
        kind, found, values = text.strip().partition(":")
        try:
            if not found:
                return cls(float(kind))
            median, _, sigma = values.partition(",")
            if kind == "lognormal":
                return cls(float(median), float(sigma))
        except ValueError:
            pass
        raise UsageError(
            f"{text!r} is no latency.", hint="Write seconds (0.2) or lognormal:MEDIAN_SECONDS,SIGMA (lognormal:2,0.5)."
        )

    def sample(self, first: float, second: float) -> float:
        """Seconds, from two independent numbers that are uniform in [0, 1)."""
        if self.tail:
            if first < self.tail:
                return self.tail_s
            first = (first - self.tail) / (1 - self.tail)  # uniform again
        if not self.sigma:
            return self.median_s
        normal = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
        return self.median_s * math.exp(self.sigma * normal)


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How likely each fault is, from 0 to 1; together at most 1."""

    error_500: float = 0.0
    throttled_429: float = 0.0
    reset: float = 0.0
    hang: float = 0.0
    malformed: float = 0.0
    cut: float = 0.0
    unavailable_503: float = 0.0
    overloaded_529: float = 0.0
    slow_down: float = 0.0
    html: float = 0.0
    hidden: float = 0.0
    quota: float = 0.0
    retry_after_s: float = 1.0
    """What a 429 asks the client to wait where no limit says how long that is."""

    def __post_init__(self) -> None:
        if not all(0 <= chance <= 1 for _, chance in self.table()) or self.any > 1 + 1e-9:
            raise UsageError(
                "The probabilities of faults are out of bounds.", hint="Each is from 0 to 1, and together at most 1."
            )
        if not 0 <= self.retry_after_s < 1e6:
            raise UsageError(f"retry_after={self.retry_after_s:g} is out of bounds.", hint="Give seconds from 0.")

    @property
    def any(self) -> float:
        """How likely it is that some fault strikes."""
        return sum(chance for _, chance in self.table())

    def table(self) -> tuple[tuple[Fault, float], ...]:
        return tuple((fault, getattr(self, fault.name.lower())) for fault in Fault)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """`500=0.02,429=0.01,reset=0.01,hang=0.005,malformed=0.01,cut=0.01,retry_after=1`, any of them."""
        return cls.of(words(text, FAULT_WORDS))

    @classmethod
    def of(cls, given: dict[str, str]) -> "Faults":
        return cls(**{FAULT_WORDS[word]: number(word, value) for word, value in given.items()})


FAULT_WORDS = {**{fault.value: fault.name.lower() for fault in Fault}, "retry_after": "retry_after_s"}
AT_ONCE = frozenset({Fault.THROTTLED_429, Fault.QUOTA})
"""Refusals do not wait for the latency of an answer."""


class Plan(msgspec.Struct, frozen=True):
    """What happens to one call."""

    latency_s: float
    fault: Fault | None = None


def decide(latency: Latency, table: Sequence[tuple[Fault, float]], *, seed: int, prompt: bytes, attempt: int) -> Plan:
    """The plan for the `attempt`-th (from 0) try of this prompt; `table` says how likely each fault is."""
    digest = blake2b(prompt, digest_size=24, key=f"{seed}:{attempt}".encode()).digest()
    which, first, second = _numbers(digest)
    latency_s = latency.sample((first >> 11) * _SCALE, (second >> 11) * _SCALE)
    share = (which >> 11) * _SCALE
    for fault, chance in table:
        if share < chance:
            return Plan(0.0 if fault in AT_ONCE else latency_s, fault)
        share -= chance
    return Plan(latency_s)
