"""What a simulated provider does with a call: how long it takes and which fault strikes.

Enters seed, prompt and attempt, leaves a plan. Pure: the same three give the same plan, in whatever order.
"""

import math
from enum import Enum
from hashlib import blake2b
from struct import Struct

import msgspec

from headrace.core.errors import UsageError

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


class Latency(msgspec.Struct, frozen=True):
    """Seconds until the answer: always `median_s`, or lognormal around it where `sigma` is above 0."""

    median_s: float = 0.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.median_s < 1e6 and 0 <= self.sigma < 10):
            raise UsageError(
                f"The latency of {self.median_s:g} s with sigma {self.sigma:g} is out of bounds.",
                hint="Give seconds from 0 to a million and a sigma from 0 to 10.",
            )

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
    retry_after_s: float = 1.0
    """What a 429 asks the client to wait."""

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
        return self.error_500 + self.throttled_429 + self.reset + self.hang + self.malformed + self.cut

    def table(self) -> tuple[tuple[Fault, float], ...]:
        return (
            (Fault.ERROR_500, self.error_500),
            (Fault.THROTTLED_429, self.throttled_429),
            (Fault.RESET, self.reset),
            (Fault.HANG, self.hang),
            (Fault.MALFORMED, self.malformed),
            (Fault.CUT, self.cut),
        )

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """`500=0.02,429=0.01,reset=0.01,hang=0.005,malformed=0.01,cut=0.01,retry_after=1`, any of them."""
        return cls.of(words(text, FAULT_WORDS))

    @classmethod
    def of(cls, given: dict[str, str]) -> "Faults":
        return cls(**{FAULT_WORDS[word]: number(word, value) for word, value in given.items()})


FAULT_WORDS = {
    "500": "error_500",
    "429": "throttled_429",
    "reset": "reset",
    "hang": "hang",
    "malformed": "malformed",
    "cut": "cut",
    "retry_after": "retry_after_s",
}


def words(text: str, known: dict[str, str]) -> dict[str, str]:
    """`a=1,b=2` as a mapping. A piece without `=` belongs to the value before it (`latency=lognormal:2,0.5`)."""
    given: dict[str, str] = {}
    last = ""
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        word, found, value = piece.partition("=")
        if not found and last:
            given[last] += f",{piece}"
            continue
        last = word.strip()
        if not found or last not in known:
            raise UsageError(
                f"The simulated provider does not know {piece!r}.", hint=f"Write WORD=VALUE with: {', '.join(known)}."
            )
        if last in given:
            raise UsageError(f"{last} is given twice in {text!r}.", hint="Give it once.")
        given[last] = value.strip()
    return given


def number(word: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"{word}={value} is no number.", hint=f"Write for example {word}=0.5.") from None


class Plan(msgspec.Struct, frozen=True):
    """What happens to one call."""

    latency_s: float
    fault: Fault | None = None


def decide(latency: Latency, faults: Faults, *, seed: int, prompt: bytes, attempt: int) -> Plan:
    """The plan for the `attempt`-th (from 0) try of this prompt. A 429 comes at once, whatever the latency."""
    digest = blake2b(prompt, digest_size=24, key=f"{seed}:{attempt}".encode()).digest()
    which, first, second = _numbers(digest)
    latency_s = latency.sample((first >> 11) * _SCALE, (second >> 11) * _SCALE)
    share = (which >> 11) * _SCALE
    if share < faults.any:
        for fault, chance in faults.table():
            if share < chance:
                return Plan(0.0 if fault is Fault.THROTTLED_429 else latency_s, fault)
            share -= chance
    return Plan(latency_s)
