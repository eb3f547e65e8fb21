"""The RateLimit and RateLimit-Policy headers of draft-ietf-httpapi-ratelimit-headers, in all its versions.

Enters their text, leaves what it tells; never raises. `100;w=60` and `limit=100, remaining=50, reset=5` are the older
forms, `"default";q=100;w=60` and `"default";r=50;t=30` the later ones.
"""

import re
from collections.abc import Iterator

import msgspec

from headrace.core.limits import Told, Unit
from headrace.provider.notation import amount, wait_s
from headrace.provider.window import BARE, MINUTE_S, window_of

_LONGEST = 1000
_ITEM = re.compile(r'(?:"[^"]*"|[^",])+')
_PART = re.compile(r'(?:"[^"]*"|[^";])+')


class Policy(msgspec.Struct, frozen=True, gc=False):
    name: str
    unit: Unit
    limit: float
    window_s: float


def policies_of(text: str) -> list[Policy]:
    """What a RateLimit-Policy header tells; policies of bytes and of connections are left out."""
    policies = []
    for names, fields in _items(text):
        limit = amount(fields.get("q", "") or (names[0] if names else ""))
        seconds = wait_s(fields.get("w", ""), 0.0) or MINUTE_S
        unit = _unit(" ".join(names), fields.get("qu", ""))
        if limit and unit is not None:
            policies.append(Policy(names[-1] if names else "", unit, limit, seconds))
    return policies


def told_by(text: str, policies: list[Policy]) -> list[Told]:
    """What a RateLimit header tells, with the policies to its names."""
    told: list[Told] = []
    rest = {policy.name: policy for policy in policies}
    items = list(_items(text))
    merged = {name: value for names, fields in items for name, value in fields.items() if not names}
    if "limit" in merged or "remaining" in merged:
        limit, remaining = amount(merged.get("limit", "")) or None, amount(merged.get("remaining", ""))
        policy = next((each for each in policies if each.limit == limit), None)
        items = []
        if limit is not None or remaining is not None:
            told.append(_told(Unit.REQUESTS, limit, remaining, merged.get("reset", ""), policy))
            rest.clear()
    for names, fields in items:
        name = names[-1] if names else ""
        policy = rest.pop(name, None) or (rest.popitem()[1] if len(items) == len(rest) == 1 else None)
        unit = policy.unit if policy is not None else _unit(name, "")
        remaining = amount(fields.get("r", ""))
        if unit is not None and remaining is not None:
            told.append(_told(unit, policy.limit if policy else None, remaining, fields.get("t", ""), policy))
    return told + [Told(each.unit, each.limit, None, None, each.window_s) for each in rest.values()]


def _told(unit: Unit, limit: float | None, remaining: float | None, reset: str, policy: Policy | None) -> Told:
    reset_s = wait_s(reset, 0.0)
    windows = (policy.window_s,) if policy is not None else BARE
    seconds = window_of(windows, limit, remaining, reset_s)
    return Told(unit, limit, remaining, reset_s, seconds)


def _unit(name: str, unit: str) -> Unit | None:
    if "token" in name.lower() or "token" in unit.lower():
        return Unit.TOKENS
    return Unit.REQUESTS if unit in ("", "requests") else None


def _items(text: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    for item in _ITEM.findall(text[:_LONGEST]):
        names, fields = [], {}
        for part in _PART.findall(item):
            name, equals, value = part.strip().partition("=")
            if equals and not name.startswith('"'):
                fields[name.strip().lower()] = value.strip().strip('"')
            elif name:
                names.append(part.strip().strip('"'))
        if names or fields:
            yield names, fields
