"""What changes around a simulated provider: outages, capacity, overload. Times of the run come in, what is so then goes out.

Pure: seconds are counted from the first call.
"""

import math
from collections.abc import Sequence

import msgspec

from headrace.core.errors import UsageError
from headrace.provider.chance import Fault
from headrace.provider.quota import UNITS
from headrace.provider.wording import number, one_of

CHANGEABLE = (*UNITS, "knee", "latency")
"""What may change during a run: any limit, the knee, the median latency."""


class Outage(msgspec.Struct, frozen=True):
    """Whatever arrives from `from_s` and before `to_s` ends in `fault`, at once."""

    from_s: float
    to_s: float
    fault: Fault

    def __post_init__(self) -> None:
        if not 0 <= self.from_s < self.to_s:
            raise UsageError(
                f"An outage from {self.from_s:g} to {self.to_s:g} s is none.", hint="Write FROM-TO=FAULT in seconds."
            )

    @classmethod
    def parse(cls, text: str) -> "Outage":
        """`30-50=503`; without an end (`30-=reset`) it lasts."""
        times, found, fault = text.partition("=")
        first, dash, last = times.strip().partition("-")
        if not (found and dash):
            raise UsageError(
                f"{text!r} is no outage.", hint="Write FROM-TO=FAULT in seconds of the run, for example 30-50=503."
            )
        word = one_of("outage", fault.strip(), tuple(fault.value for fault in Fault))
        return cls(number("outage", first), number("outage", last) if last else math.inf, Fault(word))


class Knee(msgspec.Struct, frozen=True):
    """Above `at` calls in flight latency grows with their number to the power of `exponent`.

    So 1 keeps throughput flat there, and with more it falls.
    """

    at: float
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.at < 1e9 and 0 < self.exponent <= 10):
            raise UsageError(
                f"A knee at {self.at:g} calls with exponent {self.exponent:g} is out of bounds.",
                hint="Write CALLS,EXPONENT with 1 call or more and an exponent above 0, at most 10: 40,1.5.",
            )

    @classmethod
    def parse(cls, text: str) -> "Knee":
        """`40,1.5`, or `40` with exponent 1."""
        at, _, exponent = text.partition(",")
        return cls(number("knee", at), number("knee", exponent or "1"))

    def stretch(self, in_flight: int) -> float:
        """How much longer a call takes that is the last of so many."""
        return float((in_flight / self.at) ** self.exponent) if in_flight > self.at else 1.0


class Change(msgspec.Struct, frozen=True):
    """At `at_s` the limit, knee or latency named `word` becomes `value`."""

    at_s: float
    word: str
    value: float

    def __post_init__(self) -> None:
        least = 0 if self.word == "latency" else 1
        if not (self.at_s >= 0 and least <= self.value < 1e15):
            raise UsageError(
                f"{self.word}={self.value:g} at {self.at_s:g} s is out of bounds.",
                hint=f"Give seconds from 0 and {least} or more for {self.word}.",
            )

    @classmethod
    def parse(cls, text: str) -> "Change":
        """`60:requests=400`: after 60 s the limit is 400 in the window that it has."""
        at, found, setting = text.partition(":")
        word, equals, value = setting.partition("=")
        if not (found and equals):
            raise UsageError(f"{text!r} is no change.", hint="Write SECONDS:WORD=NUMBER, for example 60:requests=400.")
        return cls(number("change", at), one_of("change", word.strip(), CHANGEABLE), number(word, value))


class Weather:
    """Outages and changes of one run, read off as its time goes on."""

    def __init__(self, outages: Sequence[Outage] = (), changes: Sequence[Change] = ()) -> None:
        self.outages = tuple(outages)
        self.changes = tuple(sorted(changes, key=lambda change: change.at_s))
        self._done = 0

    def reset(self) -> None:
        self._done = 0

    def outage(self, now_s: float) -> Fault | None:
        for outage in self.outages:
            if outage.from_s <= now_s < outage.to_s:
                return outage.fault
        return None

    def due(self, now_s: float) -> Sequence[Change]:
        """The changes whose time has come since they were last asked for."""
        first = self._done
        while self._done < len(self.changes) and self.changes[self._done].at_s <= now_s:
            self._done += 1
        return self.changes[first : self._done]
