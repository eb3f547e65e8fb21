"""What an answer says about limits. Enters headers and, of a refusal, its complaint; leaves Hints; never raises.

It runs on every answer: where something is told is found once for the names that a server sends, and remembered.
"""

from collections.abc import Mapping

import msgspec

from headrace.core.limits import LONGEST_WAIT_S, Hints, Told, Unit
from headrace.provider.complaint import Complaint, complaint_of
from headrace.provider.notation import amount, bounded_s, moment_s, wait_s
from headrace.provider.ratelimit import Policy, policies_of, told_by
from headrace.provider.window import BARE, DAY_S, HOUR_S, MINUTE_S, MONTH_S, NAMED, SECOND_S, window_of

LONGEST_RESET_S = 120.0
"""A limit of a minute or less that claims to need longer to refill does not tell the truth."""
LONGEST_RENEWAL_S = 75.0
"""How long an empty limit of a minute is waited out where the provider's own hint is shorter than its window (Azure)."""

_LIMIT, _REMAINING, _RESET, _RENEWAL = range(4)
_FIELDS = {"limit": _LIMIT, "remaining": _REMAINING, "reset": _RESET, "renewalperiod": _RENEWAL}
_UNITS = {
    "requests": Unit.REQUESTS, "req": Unit.REQUESTS, "tokens": Unit.TOKENS,
    "input-tokens": Unit.INPUT_TOKENS, "output-tokens": Unit.OUTPUT_TOKENS,
    "tokens-prompt": Unit.INPUT_TOKENS, "tokens-generated": Unit.OUTPUT_TOKENS,
    "project-requests": Unit.REQUESTS, "project-tokens": Unit.TOKENS,
}  # fmt: skip
_PARTS = (Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS)
_WINDOWS = {"second": SECOND_S, "minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S, "month": MONTH_S}


class _Group(msgspec.Struct, frozen=True, eq=False):
    """The headers of one limit; more than one window where the name does not say which."""

    unit: Unit
    windows: tuple[float, ...]
    exact: bool = False
    """Whether its reset is when the next call fits, rather than when all of it is there again."""
    is_whole: bool = False
    """Anthropic's `tokens`: only the tightest of its limits of input and output, wherever these are told."""


_OTHERS = {"retry-after", "retry-after-ms", "date", "x-ratelimit-type", "x-ratelimit-tokens-query-cost",
           "ratelimit", "ratelimit-policy"}  # fmt: skip
_Slot = tuple[_Group | None, int]


def _slots() -> dict[str, _Slot]:
    """Every header that tells of a limit: OpenAI, Azure, Groq; Cerebras, Mistral, Kong; Anthropic; OpenRouter, IETF."""
    slots: dict[str, _Slot] = dict.fromkeys(_OTHERS, (None, 0))
    for name, unit in _UNITS.items():
        group = _Group(unit, NAMED if unit is Unit.REQUESTS else (MINUTE_S,))
        slots |= {f"x-ratelimit-{field}-{name}": (group, number) for field, number in _FIELDS.items()}
        for window, seconds in _WINDOWS.items():
            group = _Group(unit, (seconds,))
            slots |= {f"x-ratelimit-{field}-{name}-{window}": (group, number) for field, number in _FIELDS.items()}
        group = _Group(unit, (MINUTE_S,), is_whole=name == "tokens")
        slots |= {f"anthropic-ratelimit-{name}-{field}": (group, number) for field, number in _FIELDS.items()}
    for window, seconds in _WINDOWS.items():
        group = _Group(Unit.REQUESTS, (seconds,))
        slots |= {f"x-ratelimit-{field}-{window}": (group, number) for field, number in _FIELDS.items()}
        group = _Group(Unit.TOKENS, (seconds,))
        slots |= {f"x-ratelimitbysize-{field}-{window}": (group, number) for field, number in _FIELDS.items()}
    group = _Group(Unit.TOKENS, (MINUTE_S,))
    slots |= {f"ratelimitbysize-{field}": (group, number) for field, number in _FIELDS.items()}
    for start in ("x-ratelimit", "x-rate-limit", "ratelimit"):
        group = _Group(Unit.REQUESTS, BARE, exact=True)
        slots |= {f"{start}-{field}": (group, number) for field, number in _FIELDS.items()}
    return slots


_SLOTS = _slots()


class _Plan(msgspec.Struct, frozen=True):
    """Where in an answer's headers something is told: a server sends the same names in the same order."""

    limits: tuple[tuple[_Group, tuple[int, ...]], ...]
    """Of each limit, the places of its fields; -1 where there is none."""
    others: tuple[tuple[str, int], ...]
    tells: bool
    """Whether there is more than a date."""


_MOST_PLANS = 256
_LONGEST_NAMES = 8192
_plans: dict[tuple[str, ...], _Plan] = {}


def hints_of(
    headers: Mapping[str, str], complaint: Complaint | bytes | str | None = None, now_wall_s: float = 0.0
) -> Hints | None:
    """What the headers of any answer say about limits, and the body of a refusal; None where neither says anything.

    `headers` may be spelt in any case; `now_wall_s` is seconds since 1970.
    """
    names = tuple(headers)
    plan = _plans.get(names) or _plan_of(names)
    if complaint is None and not plan.tells:
        return None
    values = tuple(headers.values())
    others = {name: values[place] for name, place in plan.others}
    now_wall_s = moment_s(others.get("date", "")) or now_wall_s  # their clock, where they say what it shows
    if complaint is None:
        told, _ = _told(plan, values, others, now_wall_s)
        hints = Hints(told, _retry_after_s(others, None, now_wall_s), charged=_charged(others))
    else:
        hints = _of_refusal(plan, values, others, _complaint(complaint), now_wall_s)
    return None if hints == _SILENT else hints


_SILENT = Hints()


def allows_nothing(headers: Mapping[str, str]) -> bool:
    """Whether a limit is told to be zero, or a month's to be used up: then waiting does not help."""
    values = tuple(headers.values())
    for group, places in _plan_of(tuple(headers)).limits:
        limit, remaining = places[_LIMIT], places[_REMAINING]
        if limit >= 0 and amount(values[limit]) == 0:
            return True
        if group.windows[0] > DAY_S and remaining >= 0 and amount(values[remaining]) == 0:
            return True
    return False


def _plan_of(names: tuple[str, ...]) -> _Plan:
    limits: dict[_Group, list[int]] = {}
    others: dict[str, int] = {}
    for place, name in enumerate(names):
        lower = name.lower()
        if (slot := _SLOTS.get(lower)) is None:
            continue
        group, field = slot
        if group is None:
            others[lower] = place
        else:
            limits.setdefault(group, [-1, -1, -1, -1])[field] = place
    if any(group.unit in _PARTS for group in limits):
        limits = {group: places for group, places in limits.items() if not group.is_whole}
    tells = bool(limits or others.keys() - {"date"})
    plan = _Plan(tuple((group, tuple(places)) for group, places in limits.items()), tuple(others.items()), tells)
    if sum(map(len, names)) < _LONGEST_NAMES:  # they come from outside: no more than so many are kept
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[names] = plan
    return plan


def _complaint(complaint: Complaint | bytes | str) -> Complaint:
    if isinstance(complaint, Complaint):
        return complaint
    return complaint_of(complaint if isinstance(complaint, bytes) else complaint.encode("utf-8", "replace"))


# What is told.


def _told(
    plan: _Plan, values: tuple[str, ...], others: Mapping[str, str], now_wall_s: float
) -> tuple[tuple[Told, ...], float]:
    """All limits told, one for each unit and window; and how long the empty ones make us wait (0: not at all)."""
    policies = policies_of(others["ratelimit-policy"]) if "ratelimit-policy" in others else []
    told: list[Told] = []
    wait = 0.0
    for group, places in plan.limits:
        one = _one(group, places, values, policies, now_wall_s)
        if one is not None:
            _add(told, one)
            if one.remaining == 0 and (group.exact or places[_RENEWAL] >= 0 or one.window_s > MINUTE_S):
                wait = max(wait, _empty_for_s(one))
    if "ratelimit" in others or (policies and not told):
        for one in told_by(others.get("ratelimit", ""), policies):
            _add(told, one)
            wait = max(wait, _empty_for_s(one))
    return tuple(told), wait


def _empty_for_s(one: Told) -> float:
    if one.remaining is None or one.remaining >= 1 or one.reset_s is None:
        return 0.0
    return min(one.reset_s, LONGEST_RENEWAL_S) if one.window_s <= MINUTE_S else one.reset_s


def _one(
    group: _Group, places: tuple[int, ...], values: tuple[str, ...], policies: list[Policy], now_wall_s: float
) -> Told | None:
    at_limit, at_remaining, at_reset, at_renewal = places
    limit = amount(values[at_limit]) if at_limit >= 0 else None
    remaining = amount(values[at_remaining]) if at_remaining >= 0 else None
    reset_s = wait_s(values[at_reset], now_wall_s) if at_reset >= 0 else None
    if not limit:  # a limit of nothing is none to go by
        limit = None
        if remaining is None:
            return None
    if at_renewal >= 0 and (renewal_s := wait_s(values[at_renewal], now_wall_s)):
        return _renewed(group.unit, limit, remaining, reset_s, renewal_s)
    windows = group.windows
    if policies and group.exact:
        windows = next(((each.window_s,) for each in policies if each.limit == limit), windows)
    seconds = window_of(windows, limit, remaining, reset_s)
    if reset_s is not None and reset_s > LONGEST_RESET_S and seconds <= MINUTE_S:
        reset_s = LONGEST_RESET_S
    return Told(group.unit, limit, remaining, reset_s, seconds)


def _renewed(unit: Unit, limit: float | None, remaining: float | None, reset_s: float | None, renewal_s: float) -> Told:
    """Azure's: told for a minute, watched over each renewal period, and empty until the next whatever the reset says."""
    if renewal_s < MINUTE_S and limit is not None:
        limit *= renewal_s / MINUTE_S
        remaining = remaining if remaining is not None and remaining < limit else None
    if remaining is not None and remaining < 1:
        reset_s = max(reset_s or 0.0, renewal_s)
    if reset_s is not None:
        reset_s = min(reset_s, max(renewal_s, LONGEST_RESET_S))
    return Told(unit, limit, remaining, reset_s, renewal_s)


def _add(told: list[Told], one: Told) -> None:
    """The same limit told twice (of a project and of its organisation, say) is the tighter of both."""
    for place, other in enumerate(told):
        if other.unit is one.unit and other.window_s == one.window_s:
            told[place] = Told(
                one.unit,
                _least(one.limit, other.limit),
                _least(one.remaining, other.remaining),
                max((s for s in (one.reset_s, other.reset_s) if s is not None), default=None),
                one.window_s,
            )
            return
    told.append(one)


def _least(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


# What a refusal adds.


def _of_refusal(
    plan: _Plan, values: tuple[str, ...], others: Mapping[str, str], complaint: Complaint, now_wall_s: float
) -> Hints:
    told, empty_s = _told(plan, values, others, now_wall_s)
    unit, window_s = _blamed(others, complaint)
    if unit not in (None, Unit.CONCURRENCY) and complaint.limit and window_s is not None:
        left = None if complaint.used is None else max(0.0, complaint.limit - complaint.used)
        merged = list(told)
        _add(merged, Told(unit, complaint.limit, left, None, window_s))
        told = tuple(merged)
    retry_s = _retry_after_s(others, complaint, now_wall_s)
    renews = any(places[_RENEWAL] >= 0 for _, places in plan.limits)
    if empty_s and unit is not Unit.CONCURRENCY and (renews or not retry_s):  # Azure asks to wait for 0 or 1 s
        retry_s = max(retry_s or 0.0, empty_s)
    if retry_s is not None and retry_s <= LONGEST_WAIT_S and window_s is not None and window_s <= MINUTE_S:
        retry_s = min(retry_s, LONGEST_RESET_S)
    charged = complaint.requested or _charged(others)
    return Hints(told, retry_s, unit, charged, blamed_window_s=window_s or MINUTE_S)


def _blamed(others: Mapping[str, str], complaint: Complaint) -> tuple[Unit | None, float | None]:
    """The limit that a refusal names, in its body or in Azure's and GitHub's header ("Tokens", "UserByModelByDay")."""
    if complaint.blamed is not None or "x-ratelimit-type" not in others:
        return complaint.blamed, complaint.window_s
    kind = others["x-ratelimit-type"].lower()
    window_s = next((seconds for period, seconds in _WINDOWS.items() if f"by{period}" in kind), None)
    if "concurren" in kind:
        return Unit.CONCURRENCY, None
    if "token" in kind:
        return Unit.TOKENS, window_s
    return (Unit.REQUESTS if "request" in kind or "user" in kind else None), window_s


def _retry_after_s(others: Mapping[str, str], complaint: Complaint | None, now_wall_s: float) -> float | None:
    """Milliseconds before seconds before the body's words; a moment that has passed is now."""
    milliseconds = amount(others["retry-after-ms"]) if "retry-after-ms" in others else None
    if milliseconds:
        return bounded_s(milliseconds / 1000)
    seconds = wait_s(others["retry-after"], now_wall_s) if "retry-after" in others else None
    if seconds or complaint is None:
        return seconds
    if complaint.until_s is not None:
        return bounded_s(complaint.until_s - now_wall_s)
    return complaint.wait_s if complaint.wait_s is not None else seconds


def _charged(others: Mapping[str, str]) -> float | None:
    """Mistral's: what the provider counts for this call, in tokens."""
    cost = others.get("x-ratelimit-tokens-query-cost")
    return amount(cost) if cost is not None else None
