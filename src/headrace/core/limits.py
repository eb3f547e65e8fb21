"""What a call costs, what it came to, and what a provider says about its limits: values between provider and gate."""

import math
from collections.abc import Mapping
from enum import Enum

import msgspec

LONGEST_WAIT_S = 600.0
"""Who is asked to wait longer is better told so than kept waiting: that is no limit, but a quota that is gone."""


class Unit(Enum):
    """What a limit counts. Token units count what the provider charges, which is not always what was used."""

    CONCURRENCY = "concurrency"
    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"


class Told(msgspec.Struct, frozen=True, gc=False):
    """One limit as the provider tells it, in a header or in the body of a refusal. None: not told."""

    unit: Unit
    limit: float | None = None
    """So much in any `window_s`; calls in flight where the unit is CONCURRENCY."""
    remaining: float | None = None
    reset_s: float | None = None
    """Seconds until all of it is there again."""
    window_s: float = 60.0


class Hints(msgspec.Struct, frozen=True):
    """All that one answer says about limits."""

    told: tuple[Told, ...] = ()
    retry_after_s: float | None = None
    """How long to wait before the next call."""
    blamed: Unit | None = None
    """The limit that a refusal names."""
    charged: float | None = None
    """What the provider itself counts for this call, in the unit that it blames ("Requested 4412"); in tokens where it
    blames none."""
    calm_s: float = 0.0
    """The provider asks for slower growth for so long ("Slow Down")."""
    blamed_window_s: float = 60.0


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What a call takes of each limit; tokens are estimates before it and the truth, where that is told, after it."""

    tokens: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    least: float = math.inf
    """Of the tokens, so many are certain; the rest is a guess."""
    usd: float = 0.0
    """What it may cost at most, where there is a budget; else 0."""

    def least_of(self, unit: Unit) -> float:
        """What it takes of this limit for certain."""
        return self.of(unit) if unit is Unit.REQUESTS else min(self.of(unit), self.least)

    def of(self, unit: Unit) -> float:
        if unit is Unit.TOKENS:
            return self.tokens
        if unit is Unit.INPUT_TOKENS:
            return self.input_tokens
        return self.output_tokens if unit is Unit.OUTPUT_TOKENS else 1.0


class End(Enum):
    """How a call ended, as far as flow control is concerned."""

    OK = "ok"
    """Answered: the limits in force were not in the way."""
    THROTTLED = "throttled"
    """Refused for a limit of this account."""
    OVERLOADED = "overloaded"
    """The provider has too much to do, whoever asks."""
    FAILED = "failed"
    """No answer, for a reason that may be the endpoint's: a 5xx, a reset, a timeout, nobody there."""
    IGNORED = "ignored"
    """Says nothing about the endpoint: cancelled, or the request's own fault."""


class Use(msgspec.Struct, frozen=True, gc=False):
    """How much of one limit is in use: calls in flight, or what was charged in the window. None: no limit is known."""

    unit: Unit
    used: float
    allowed: float | None
    window_s: float = 0.0
    learnt: bool = False
    """Whether it was found by headrace, rather than stated or told."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """Sums over points, enough for the straight line through them."""

    count: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0


class Calls(msgspec.Struct, frozen=True):
    """The shape of calls that were made: how long, how large, how they ended. Bins are those of flow.quantiles."""

    seconds: Mapping[int, int] = {}
    """Answered calls by how long they took."""
    output_tokens: Mapping[int, int] = {}
    """Answered calls by tokens out."""
    input_tokens: Line = Line()
    """Tokens in over characters of the prompt."""
    ended: Mapping[str, int] = {}
    """Calls by the kind of error they ended in; empty for those that were answered."""
    failed_s: Mapping[str, float] = {}
    """Mean seconds until they failed, by kind."""

    @property
    def answered(self) -> int:
        return self.ended.get("", 0)


class Learnt(msgspec.Struct, frozen=True):
    """What is worth remembering of an endpoint's limits for the next run."""

    concurrency: int | None = None
    told: tuple[Told, ...] = ()
    per_s: Mapping[str, float] = {}
    """The rates that were found, by unit."""
    spent: Mapping[str, float] = {}
    """What was charged in the last minute, by unit."""
    at: float = 0.0
    """When that was, in seconds since 1970."""
    held_by: str = ""
    """What showed that so many calls in flight are the most: refused or knee; empty where nothing did."""
    calls: Calls = Calls()
