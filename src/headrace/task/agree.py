"""Several answers to one question become one, and a number that says how far they agree. Pure.

The one that stands for all is the one that is nearest to the others (the medoid), so it was truly given. How near two
answers are is the mean over their fields: text and choices are equal or not, numbers as near as their ratio, lists by
what they have in common (Jaccard). The agreement is the mean over all pairs, from 0 to 1.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import msgspec

from headrace.core.jsonform import json_form

_encode = msgspec.json.Encoder(enc_hook=json_form, order="deterministic").encode


def agreed(values: Sequence[Any]) -> tuple[int, float]:
    """Which of them, and the agreement. Of those equally near the first."""
    plain = [msgspec.json.decode(_encode(value)) for value in values]
    pairs = {(one, other): nearness(plain[one], plain[other]) for one, other in combinations(range(len(plain)), 2)}
    if not pairs:
        return 0, 1.0
    total = [0.0] * len(plain)
    for (one, other), near in pairs.items():
        total[one] += near
        total[other] += near
    return max(range(len(plain)), key=lambda at: total[at]), sum(pairs.values()) / len(pairs)


def nearness(one: Any, other: Any) -> float:
    """From 0 to 1, of what JSON can hold."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return sum(nearness(one.get(name), other.get(name)) for name in names) / len(names) if names else 1.0
    if isinstance(one, list) and isinstance(other, list):
        left, right = {_encode(each) for each in one}, {_encode(each) for each in other}
        return len(left & right) / len(left | right) if left or right else 1.0
    if isinstance(one, str) and isinstance(other, str):
        return float(" ".join(one.casefold().split()) == " ".join(other.casefold().split()))
    if _is_number(one) and _is_number(other):
        largest = max(abs(one), abs(other))
        return 1.0 if one == other else max(0.0, 1.0 - abs(one - other) / largest)
    return float(one == other and type(one) is type(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
