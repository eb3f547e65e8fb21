"""What a simulated provider answers where it answers nothing good, and what it tells of its limits, truly or not.

Levels, refusals and faults come in; status, body and header lines go out. No clock: whoever asks says what time it is.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from headrace.core.errors import CallError, UsageError
from headrace.core.limits import Hints, Unit
from headrace.provider.chance import Fault
from headrace.provider.error_body import DAY_S
from headrace.provider.hints import hints_of
from headrace.provider.manner import MANNERS, Manner
from headrace.provider.quota import Level, Refusal
from headrace.provider.verdict import error_of
from headrace.provider.wording import number, one_of, words

PARTS = ("retry", "remaining")
_LYING = "openai,retry=0,remaining=full"
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

Remaining = Literal["true", "full", "empty"]
_REMAINING: tuple[Remaining, ...] = ("true", "full", "empty")


class Answer(msgspec.Struct, frozen=True):
    """An answer that is no completion; `lines` are header lines, each with its end."""

    status: int
    body: bytes
    lines: str = ""
    kind: str = "application/json"

    def error(self, wall_s: float) -> CallError:
        """What a client makes of it, in process or at the other end of a wire."""
        status = 502 if self.status == 200 else self.status
        return error_of(status, headers(self.lines), self.body, wall_s, who="The simulated provider")


_SAID = {
    Fault.ERROR_500: (500, "server_error", None, "The simulated provider had an error."),
    Fault.UNAVAILABLE_503: (503, "server_error", "overloaded", "The simulated provider is overloaded."),
    Fault.OVERLOADED_529: (529, "overloaded_error", "overloaded", "The simulated provider is overloaded."),
    Fault.SLOW_DOWN: (503, "server_error", "slow_down", "Slow Down"),
    Fault.HIDDEN: (200, "server_error", "provider_unavailable", "The provider behind this one returned an error."),
}
"""Status, type, code and message."""


class Notice(msgspec.Struct, frozen=True):
    """In whose words limits are told (`plain`: only Retry-After; `none`: not even that), and how truly."""

    name: str = "plain"
    retry_s: float | None = None
    """A constant that every refusal asks to wait, infinity for none; None: as long as it takes."""
    remaining: Remaining = "true"
    """Or always all of the limit, or nothing of it."""

    def __post_init__(self) -> None:
        if self.retry_s is not None and not self.retry_s >= 0:
            raise UsageError(f"retry={self.retry_s:g} is no wait.", hint="Give seconds from 0, exact or none.")

    @classmethod
    def parse(cls, text: str) -> "Notice":
        """`openai`, `azure,retry=0`, `openai,retry=none,remaining=full`; `lying` is openai with both lies."""
        if text == "lying":
            text = _LYING
        name, _, rest = text.partition(",")
        given = words(rest, PARTS, "The word for headers")
        retry = given.get("retry", "exact")
        name = one_of("headers", name.strip(), (*MANNERS,))
        retry_s = None if retry == "exact" else math.inf if retry == "none" else number("retry", retry)
        return cls(name, retry_s, one_of("remaining", given.get("remaining", "true"), _REMAINING))

    @property
    def manner(self) -> Manner:
        return MANNERS[self.name]

    def lines(self, levels: Sequence[Level], wall_s: float) -> str:
        """What headers say of these levels."""
        manner = self.manner
        return manner.lines(self._shown(levels), wall_s)

    def hints(self, levels: Sequence[Level], wall_s: float) -> Hints | None:
        """What a client makes of those headers on a good answer."""
        return hints_of(headers(self.lines(levels, wall_s)), None, wall_s)

    def refuse(self, refusal: Refusal, levels: Sequence[Level], *, model: str, wall_s: float, else_s: float) -> Answer:
        """A 429. `else_s` is what it asks to wait where no limit says how long that is."""
        manner = self.manner
        never = refusal.wait_s == math.inf
        wait_s = self._wait_s(refusal, else_s)
        lines = self.lines(levels, wall_s)
        if wait_s is not None and manner.wait_lines is not None:
            lines += manner.wait_lines(wait_s)
        body = msgspec.json.encode(manner.body(refusal, model, wait_s))
        return Answer(manner.too_large if never else 429, body, lines)

    def fault(self, fault: Fault) -> Answer | None:
        """How a fault is told; None for those that are not told but done."""
        if fault is Fault.HTML:
            return Answer(502, _PAGE, kind="text/html")
        if fault is Fault.QUOTA:
            return self._quota()
        if fault not in _SAID:
            return None
        status, kind, said_code, message = _SAID[fault]
        if fault is Fault.HIDDEN:
            error = {"message": message, "code": 502, "metadata": {"error_type": said_code}}
            return Answer(200, msgspec.json.encode({"error": error}))
        return Answer(status, self.body(status, kind, None, said_code, message))

    def body(self, status: int, kind: str, param: str | None, code: str | None, message: str) -> bytes:
        """Any error in this provider's shape."""
        return msgspec.json.encode(self.manner.shape(status, kind, param, code, message))

    def _quota(self) -> Answer:
        if self.manner.quota is None:
            return Answer(429, msgspec.json.encode(self.manner.body(Refusal(Unit.REQUESTS, window_s=DAY_S), "", None)))
        status, kind, code = self.manner.quota
        return Answer(status, self.body(status, kind, None, code, "The credit of this account is used up."))

    def _wait_s(self, refusal: Refusal, else_s: float) -> float | None:
        if self.name == "none" or math.inf in (self.retry_s, refusal.wait_s):
            return None
        if self.retry_s is not None:
            return self.retry_s
        return else_s if refusal.wait_s is None else _rounded_up(refusal.wait_s)

    def _shown(self, levels: Sequence[Level]) -> list[Level]:
        shown = self.manner.shown(levels)
        if self.remaining == "true":
            return shown
        return [
            msgspec.structs.replace(level, remaining=level.limit, reset_s=0.0)
            if self.remaining == "full"
            else msgspec.structs.replace(level, remaining=0.0, reset_s=level.window_s)
            for level in shown
        ]


def headers(lines: str) -> dict[str, str]:
    """Header lines as a client's library gives them: by name, in lower case."""
    pairs = [line.split(": ", 1) for line in lines.split("\r\n") if line]
    return {name.lower(): value for name, value in pairs}


def _rounded_up(seconds: float) -> float:
    """To the next millisecond, so that who comes back then is not too early by a rounding."""
    return (math.floor(seconds * 1000) + 1) / 1000
