"""How each provider tells of its limits: their levels come in, header lines go out; and which body its refusals have.

Sources: the providers' pages on rate limits and errors, and answers seen in the field; the forms differ in the names,
in how a reset is written (Go durations, bare seconds, RFC 3339, epoch milliseconds) and in where a wait is told.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from time import gmtime, strftime

import msgspec

from headrace.core.limits import Unit
from headrace.provider import error_body
from headrace.provider.error_body import DAY_S, HOUR_S, Body, Shape, by_minute, decimal, go_duration
from headrace.provider.quota import MINUTE_S, Level

Shown = Callable[[Sequence[Level]], list[Level]]
Lines = Callable[[Sequence[Level], float], str]


def _nothing(_levels: Sequence[Level]) -> list[Level]:
    return []


def _no_lines(_levels: Sequence[Level], _wall_s: float) -> str:
    return ""


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's way to tell."""

    body: Body
    """Of a refusal, with the model's name and the seconds to wait."""
    shape: Shape = error_body.openai_shape
    """Of any error: status, type, param, code and message."""
    shown: Shown = _nothing
    """The levels that it tells of, as it tells them."""
    lines: Lines = _no_lines
    """Those as header lines; the second argument is seconds since 1970."""
    wait_lines: Callable[[float], str] | None = None
    """Seconds to wait as header lines."""
    always: bool = True
    """Whether good answers have those lines as well."""
    quota: tuple[int, str, str] | None = (429, "insufficient_quota", "insufficient_quota")
    """Status, type and code where the credit is gone; None: it is told as a limit of nothing."""
    too_large: int = 429
    """The status of a call that alone is more than a limit."""


def _by_minute(level: Level) -> Level:
    if level.window_s == MINUTE_S or level.window_s >= HOUR_S:
        return level
    return msgspec.structs.replace(level, limit=by_minute(level.limit, level.window_s), window_s=MINUTE_S)


def _first_of(*units: Unit) -> Shown:
    """The first limit of each unit, as so much a minute."""

    def shown(levels: Sequence[Level]) -> list[Level]:
        found: dict[Unit, Level] = {}
        for level in levels:
            if level.unit in units:
                found.setdefault(level.unit, level)
        return [_by_minute(level) for level in found.values()]

    return shown


# Header lines.


def _openai_lines(levels: Sequence[Level], _wall_s: float) -> str:
    said = ""
    for level in levels:
        name = level.unit.value
        said += (
            f"x-ratelimit-limit-{name}: {int(level.limit)}\r\nx-ratelimit-remaining-{name}: {int(level.remaining)}\r\n"
            f"x-ratelimit-reset-{name}: {go_duration(level.reset_s)}\r\n"
        )
    return said


def _azure_lines(levels: Sequence[Level], _wall_s: float) -> str:
    said = ""
    for level in levels:
        name = level.unit.value
        said += (
            f"x-ratelimit-limit-{name}: {int(level.limit)}\r\nx-ratelimit-remaining-{name}: {int(level.remaining)}\r\n"
            f"x-ratelimit-reset-{name}: {math.ceil(level.reset_s)}\r\n"
            f"x-ratelimit-renewalperiod-{name}: {level.window_s:g}\r\n"
        )
    return said


@lru_cache(maxsize=256)
def _rfc_3339(wall_s: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(wall_s))


def _anthropic_lines(levels: Sequence[Level], wall_s: float) -> str:
    lines = []
    for level in levels:
        name = f"anthropic-ratelimit-{level.unit.value.replace(' ', '-')}"
        reset = _rfc_3339(math.ceil(wall_s + level.reset_s))
        lines.append(
            f"{name}-limit: {level.limit:.0f}\r\n{name}-remaining: {level.remaining:.0f}\r\n{name}-reset: {reset}\r\n"
        )
    return "".join(lines)


def _mistral_lines(levels: Sequence[Level], _wall_s: float) -> str:
    return "".join(
        [
            f"x-ratelimit-limit-{name}-minute: {level.limit:.0f}\r\n"
            f"x-ratelimit-remaining-{name}-minute: {int(level.remaining)}\r\n"
            for level in levels
            for name in ["req" if level.unit is Unit.REQUESTS else "tokens"]
        ]
    )


def _openrouter_lines(levels: Sequence[Level], wall_s: float) -> str:
    return "".join(
        [
            f"X-RateLimit-Limit: {level.limit:.0f}\r\nX-RateLimit-Remaining: {int(level.remaining)}\r\n"
            f"X-RateLimit-Reset: {math.ceil((wall_s + level.reset_s) * 1000)}\r\n"
            for level in levels
        ]
    )


def _ietf_lines(levels: Sequence[Level], _wall_s: float) -> str:
    return "".join(
        [
            f'RateLimit-Policy: "default";q={level.limit:.0f};w={level.window_s:g}\r\n'
            f'RateLimit: "default";r={int(level.remaining)};t={math.ceil(level.reset_s)}\r\n'
            for level in levels
        ]
    )


def _anthropic_shown(levels: Sequence[Level]) -> list[Level]:
    """Tokens are told to the nearest thousand."""
    return [
        level
        if level.unit is Unit.REQUESTS
        else msgspec.structs.replace(level, remaining=float(round(level.remaining, -3)))
        for level in _first_of(Unit.REQUESTS, Unit.TOKENS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS)(levels)
    ]


def _azure_shown(levels: Sequence[Level]) -> list[Level]:
    """Told for a minute and watched over its renewal period, which is told as well."""
    first = [next((level for level in levels if level.unit is unit), None) for unit in (Unit.REQUESTS, Unit.TOKENS)]
    return [
        msgspec.structs.replace(level, limit=by_minute(level.limit, min(level.window_s, MINUTE_S)))
        for level in first
        if level is not None
    ]


def _groq_shown(levels: Sequence[Level]) -> list[Level]:
    """Of requests it tells those of a day, of tokens those of a minute, and of nothing else."""
    days = [level for level in levels if level.unit is Unit.REQUESTS and level.window_s >= DAY_S]
    minutes = [_by_minute(level) for level in levels if level.unit is Unit.TOKENS and level.window_s < HOUR_S]
    return days[:1] + minutes[:1]


def _requests(levels: Sequence[Level]) -> list[Level]:
    return [level for level in levels if level.unit is Unit.REQUESTS][:1]


# What is told of a wait.


def _whole(wait_s: float) -> str:
    return f"retry-after: {math.ceil(wait_s)}\r\n"


def _fraction(wait_s: float) -> str:
    return f"Retry-After: {decimal(wait_s)}\r\n"


def _both(wait_s: float) -> str:
    return f"retry-after: {math.ceil(wait_s)}\r\nretry-after-ms: {wait_s * 1000:.0f}\r\n"


def _azure_wait(wait_s: float) -> str:
    """Never less than a second in the first, whatever the second says."""
    return f"retry-after: {max(1, math.ceil(wait_s))}\r\nretry-after-ms: {wait_s * 1000:.0f}\r\n"


_BOTH = _first_of(Unit.REQUESTS, Unit.TOKENS)

MANNERS: Mapping[str, Manner] = {
    "plain": Manner(body=error_body.plain_body, wait_lines=_fraction, always=False),
    "none": Manner(body=error_body.plain_body, always=False),
    "openai": Manner(
        shown=_BOTH,
        lines=_openai_lines,
        wait_lines=_both,
        body=error_body.numbered("min", "organization org-simulated"),
    ),
    "azure": Manner(
        shown=_azure_shown,
        lines=_azure_lines,
        wait_lines=_azure_wait,
        body=error_body.azure_body,
    ),
    "anthropic": Manner(
        shown=_anthropic_shown,
        lines=_anthropic_lines,
        wait_lines=_whole,
        body=error_body.anthropic_body,
        shape=error_body.anthropic_shape,
        quota=(402, "billing_error", "billing_error"),
    ),
    "gemini": Manner(body=error_body.gemini_body, shape=error_body.gemini_shape, always=False, quota=None),
    "groq": Manner(
        shown=_groq_shown,
        lines=_openai_lines,
        wait_lines=_fraction,
        body=error_body.numbered("minute", "organization `org_simulated` service tier `on_demand`"),
        too_large=413,
    ),
    "openrouter": Manner(
        shown=_requests,
        lines=_openrouter_lines,
        body=error_body.openrouter_body,
        shape=error_body.openrouter_shape,
        always=False,
        quota=(402, "payment_required", "payment_required"),
    ),
    "mistral": Manner(
        shown=_BOTH,
        lines=_mistral_lines,
        wait_lines=_whole,
        body=error_body.mistral_body,
        shape=error_body.mistral_shape,
    ),
    "ietf": Manner(shown=_requests, lines=_ietf_lines, wait_lines=_whole, body=error_body.plain_body),
}
