"""What a run is expected to take, as values: made by rehearsals, shown by the command and the report. Knows neither."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from headrace.core.outline import dollars


class Range(msgspec.Struct, frozen=True):
    """Of ten outcomes one is expected below `p10`, one above `p90`, and half of them on either side of `p50`."""

    p10: float
    p50: float
    p90: float

    def scaled(self, factor: float) -> "Range":
        return Range(self.p10 * factor, self.p50 * factor, self.p90 * factor)


class WhatIf(msgspec.Struct, frozen=True):
    """What another limit would give."""

    limit: str
    """concurrency, requests or tokens."""
    to: float
    """The limit then: calls in flight, requests or tokens per minute."""
    seconds: float
    """How long the run would take, P50."""
    of_now: float
    """That as a share of the plan's own P50: 0.5 is half as long."""
    stage: str = ""
    """Of a pipeline: whose limit it is."""


class Stone(msgspec.Struct, frozen=True):
    """A milestone: when this share of the items is done, in seconds from the start."""

    share: float
    seconds: Range


class Assumed(msgspec.Struct, frozen=True):
    """Something that the forecast takes for granted, and where that comes from."""

    what: str
    """concurrency, requests, tokens, input tokens, output tokens, seconds of a call, tokens out, tokens in, failures."""
    value: str
    """In words, with its unit."""
    origin: str
    """stated, told, learnt or assumed."""


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a pipeline."""

    name: str
    kind: str
    model: str = ""
    """PROVIDER:NAME, where it asks a model."""
    items: Range
    """That come to it."""
    calls: Range
    input_tokens: Range
    output_tokens: Range
    usd: Range | None = None
    """Dollars; None where it asks no model, or its price is not known."""
    binding: str = ""
    """What will hold its calls back most; empty where nothing does."""
    waits: Mapping[str, float] = {}
    """The share of the run, 0 to 1, in which its calls wait for each limit."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would take, and what it would gain from other limits. Nothing of it was spent, but a pilot."""

    run: str = ""
    """The id of the run that it is a forecast of."""
    made_at: float = 0.0
    """Seconds since 1970."""
    items: int
    """Items of the source."""
    stored: int = 0
    """Answers that the store has already: they cost nothing."""
    pilot: int = 0
    """Items that were paid for to learn of it; their answers are kept."""
    seconds: Range
    """From start to end."""
    calls: Range
    """Calls sent, also those that fail and are tried again."""
    input_tokens: Range
    output_tokens: Range
    usd: Range | None = None
    """Dollars; None where the model's price is not known."""
    binding: str = ""
    """What will hold calls back most: concurrency, requests, tokens, input tokens, output tokens, budget; empty where
    nothing does."""
    binding_stage: str = ""
    """Of a pipeline: the stage whose calls it holds back."""
    waits: Mapping[str, float] = {}
    """The share of the run, 0 to 1, in which calls wait for each limit; of a pipeline, at the stage that waits most."""
    stages: tuple[StagePlan, ...] = ()
    """Of a pipeline of several stages."""
    in_flight: float = 0.0
    """Calls in flight, in the mean."""
    what_ifs: Sequence[WhatIf] = ()
    course: Sequence[Stone] = ()
    assumed: Sequence[Assumed] = ()
    notes: Sequence[str] = ()
    """What a person should know of how it was made: sentences."""
    rehearsals: int = 0
    """How many times the run was rehearsed, apart from the what-ifs."""
    rehearsed_calls: int = 0
    """Calls of the longest rehearsal; fewer than the run's where the rest is extrapolated from its steady state."""
    budget_usd: float | None = None
    """What is left of the budget."""
    budget_calls: int | None = None
    """Calls that the budget pays for, at the mean price of one; None without budget or price."""
    deadline_s: float | None = None
    in_time: float | None = None
    """The share of rehearsals that ended before the deadline."""

    def __repr__(self) -> str:
        """The middle of each range, and how far it goes; `headrace plan` draws it all."""
        parts = [f"{self.items:,} items", f"{self.calls.p50:,.0f} calls", _range(self.seconds, "{:,.3g} s".format)]
        if self.usd is not None:
            parts.append(_range(self.usd, dollars))
        if self.binding:
            parts.append(f"bound by {self.binding}")
        return f"<Plan: {', '.join(parts)}>"

    @property
    def spread(self) -> float:
        """P90 to P10 of the time."""
        return self.seconds.p90 / self.seconds.p10 if self.seconds.p10 > 0 else 1.0


def plan_of(data: bytes | None) -> Plan | None:
    """What was kept; None where nothing was, or a later headrace kept what this one cannot read."""
    if not data:
        return None
    try:
        return _plan.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def forecast_name(run: str) -> str:
    """What a run's forecast is remembered by."""
    return f"forecast:{run}"


_plan = msgspec.json.Decoder(Plan)


def _range(found: Range, say: Callable[[float], str]) -> str:
    return f"{say(found.p50)} ({say(found.p10)} to {say(found.p90)})"
