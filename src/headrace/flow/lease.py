"""How processes share an endpoint's known limits: what each may use of them. Rules of this file:

1. What is lent never comes to more than the limit, at no moment: a holder takes only what is on nobody's books, and
   what it uses stays on its own books until it is given back (Doorman: capacity minus outstanding leases).
2. Lowering never pre-empts. A holder first stops to use what it will give back, and only then writes it off.
3. Shares are max-min fair by what each wants; what nobody wants is spread evenly, so that whoever is alone has it all.
4. Where holders know different limits, the strictest holds. A limit that nobody knows is not lent.

Enters what each holder has written, leaves what one of them may write next. Knows no store, clock or process.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from headrace.core.limits import Unit

WHOLE = frozenset({Unit.CONCURRENCY.value})
"""Units that are lent in whole numbers."""
FOOT = 0.01
"""Of an even part of a rate: what an idle holder keeps, so that it can begin before its next renewal."""
TURN = 10
"""Renewals for which a holder keeps a place, where there are fewer places than holders that want one: some 20 s,
long beside the 2 s that handing a place over takes."""


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one holder has written for the others to read; amounts by unit, rates by the minute."""

    holder: str
    limits: Mapping[str, float] = {}
    """What it knows by itself: stated by its user or told by the provider."""
    wanted: Mapping[str, float] = {}
    """What it could use; a unit that is missing is wanted without bound."""
    granted: Mapping[str, float] = {}
    """What is on its books: others take none of it."""
    served: int = 0
    """Renewals at which it had a place while others went without one."""


class Share(msgspec.Struct, frozen=True):
    """One holder's part, as of now."""

    lease: Lease
    """What it writes."""
    lent: Mapping[str, float]
    """What it may use, once that is written. Less than what is granted until it has stopped to use the rest."""
    short: bool
    """Whether others still hold what should be its own."""
    owing: bool
    """Whether it still holds what others lack."""


def share_out(mine: Lease, others: Sequence[Lease], in_use: Mapping[str, float]) -> Share:
    """What `mine` may have beside the other live holders.

    `mine` says what its holder knows and wants; `in_use` is all that it may be using until this is written: what it was
    last lent, or what it has in flight where that is more.
    """
    everyone = [mine, *others]
    lent: dict[str, float] = {}
    granted: dict[str, float] = {}
    short = owing = False
    served = _caught_up(mine, others)
    for unit, limit in strictest(everyone).items():
        fair = _fair(unit, limit, everyone)
        using = in_use.get(unit, 0.0)
        free = limit - sum(other.granted.get(unit, 0.0) for other in others)
        part = min(fair[0], max(using, free))
        lent[unit], granted[unit] = part, max(part, using)
        short |= _lacks(mine, unit, fair[0], part)
        if granted[unit] > part:
            owing |= any(
                _lacks(other, unit, due, other.granted.get(unit, 0.0))
                for other, due in zip(others, fair[1:], strict=True)
            )
        if unit in WHOLE and granted[unit] >= 1 and _crowd(unit, limit, everyone):
            served += 1
    lease = Lease(holder=mine.holder, limits=mine.limits, wanted=mine.wanted, granted=granted, served=served)
    return Share(lease, lent, short, owing)


def strictest(leases: Sequence[Lease]) -> dict[str, float]:
    """The limit that holds for each unit that somebody knows a limit of."""
    limits: dict[str, float] = {}
    for lease in leases:
        for unit, limit in lease.limits.items():
            whole = math.floor(limit) if unit in WHOLE else limit
            limits[unit] = max(0.0, min(whole, limits.get(unit, math.inf)))
    return limits


def _fair(unit: str, limit: float, leases: Sequence[Lease]) -> list[float]:
    """The max-min fair part of each; all holders come to the same result from the same leases."""
    whole = unit in WHOLE
    crowd = _crowd(unit, limit, leases)
    enough = not whole or len(leases) <= limit
    least = (1.0 if whole else FOOT * limit / len(leases)) if enough else 0.0
    wants = [max(least, min(1.0 if crowd else limit, _want(lease, unit, limit))) for lease in leases]
    # The last in line get what does not divide evenly, and the only places there are: who was served least, then by name.
    line = sorted(range(len(leases)), key=lambda n: (leases[n].served // TURN, leases[n].holder), reverse=True)
    parts = _fill(limit, wants, sorted(line, key=lambda n: wants[n]), whole=whole)
    spare = _fill(limit - sum(parts), [limit] * len(parts), line, whole=whole)
    return [part + more for part, more in zip(parts, spare, strict=True)]


def _fill(amount: float, wants: Sequence[float], line: Sequence[int], *, whole: bool) -> list[float]:
    """Water filling: in order of what they want, each gets that or an even part of what is left."""
    parts = [0.0] * len(wants)
    for place, n in enumerate(line):
        even = amount / (len(line) - place)
        parts[n] = max(0.0, min(wants[n], math.floor(even) if whole else even))
        amount -= parts[n]
    return parts


def _want(lease: Lease, unit: str, limit: float) -> float:
    want = lease.wanted.get(unit, limit)
    return float(math.ceil(want)) if unit in WHOLE else want


def _lacks(lease: Lease, unit: str, due: float, has: float) -> bool:
    """Whether it could use more than it has, and is due it. Crumbs are not worth a renewal."""
    return has < 0.99 * min(due, lease.wanted.get(unit, due))


def _crowd(unit: str, limit: float, leases: Sequence[Lease]) -> bool:
    """Whether more holders want a place than there are places: then they take turns."""
    return unit in WHOLE and sum(_want(lease, unit, limit) > 0 for lease in leases) > limit


def _caught_up(mine: Lease, others: Sequence[Lease]) -> int:
    """Who comes late or was idle has no claim to the turns it did not take (as in stride scheduling), but to one."""
    return max(mine.served, max((other.served for other in others), default=0) - TURN)
