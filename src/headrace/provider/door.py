"""Who is let in to a simulated provider as its run goes on: limits, outages, a knee, and what changes of them when.

Readings of a clock come in, a refusal, a fault or nothing goes out. The run's time begins with its first call.
"""

from collections.abc import Sequence

import msgspec

from headrace.core.errors import UsageError
from headrace.core.limits import Unit
from headrace.provider.chance import Fault, Latency
from headrace.provider.quota import UNITS, Level, Quota, Quotas, Refusal
from headrace.provider.weather import Change, Knee, Outage, Weather


class Door:
    """Limits and weather of one run."""

    def __init__(
        self,
        *,
        latency: Latency,
        limits: Sequence[Quota] = (),
        outages: Sequence[Outage] = (),
        changes: Sequence[Change] = (),
        knee: Knee | None = None,
    ) -> None:
        self.quotas = Quotas(limits)
        self.weather = Weather(outages, changes)
        self.limits_anything = bool(limits)
        self.watched = bool(limits or outages or changes)
        """Whether anything depends on the time or on other calls; else nobody need ask."""
        self.charges_usage = any(limit.charge == "usage" for limit in limits)
        self._initial = (latency, knee)
        for change in changes:
            self._check(change)
        self.reset()

    def reset(self) -> None:
        """As at first; the time begins anew with the next call."""
        self.latency, self.knee = self._initial
        self.quotas.reset()
        self.weather.reset()
        self._began_s: float | None = None
        self._read_s = 0.0

    def now_s(self, clock_s: float) -> float:
        """The run's time. A clock that begins anew, as that of another loop, goes on where the last one ended."""
        if self._began_s is None:
            self._began_s = clock_s
        elif clock_s < self._read_s:
            self._began_s -= self._read_s - clock_s
        self._read_s = clock_s
        return clock_s - self._began_s

    def stop(self, clock_s: float, in_flight: int, input_tokens: int, most_output: int) -> Fault | Refusal | None:
        """Why a call is not let in; it is charged, and an outage goes before all limits."""
        now_s = self.now_s(clock_s)
        for change in self.weather.due(now_s):
            self._change(now_s, change)
        return self.weather.outage(now_s) or self.quotas.admit(now_s, in_flight, input_tokens, most_output)

    def produced(self, clock_s: float, output_tokens: int) -> None:
        """A call that was let in is answered with so many tokens."""
        self.quotas.produced(self.now_s(clock_s), output_tokens)

    def levels(self, clock_s: float) -> list[Level]:
        now_s = self.now_s(clock_s)
        for change in self.weather.due(now_s):
            self._change(now_s, change)
        return self.quotas.levels(now_s)

    def stretch(self, in_flight: int) -> float:
        """How much longer the call takes that is the last of so many."""
        return 1.0 if self.knee is None else self.knee.stretch(in_flight)

    def _change(self, now_s: float, change: Change) -> None:
        if change.word == "latency":
            self.latency = msgspec.structs.replace(self.latency, median_s=change.value)
        elif change.word == "knee" and self.knee is not None:
            self.knee = msgspec.structs.replace(self.knee, at=change.value)
        elif change.word in UNITS:
            self.quotas.change(now_s, UNITS[change.word], change.value)

    def _check(self, change: Change) -> None:
        """Only what is there can change."""
        there = {quota.word for quota in self.quotas.quotas} | {"latency"} | ({"knee"} if self._initial[1] else set())
        if change.word not in there:
            raise UsageError(
                f"{change.word} is to change after {change.at_s:g} s, but there is none.",
                hint=f"Give it for the beginning as well, or change one of: {', '.join(sorted(there))}.",
            )
        if UNITS.get(change.word) is Unit.CONCURRENCY and not change.value.is_integer():
            raise UsageError(f"concurrency={change.value:g} is no whole number.", hint="Give a whole number of calls.")
