"""Numbers and texts within the bounds of a JSON schema, from rolls of seeded dice. Pure."""

import math
from collections.abc import Callable
from typing import Any

from headrace.core.errors import Rejected

MOST_ROLLS = 100_000
LONGEST_TEXT = 100_000

_WORDS = ("amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "knoll", "larch", "mill")


def refusal(why: str) -> Rejected:
    return Rejected(f"The JSON schema {why}.", hint="Change the schema of the answer.", status=400)


class Dice:
    """A stream of small numbers that a seed decides, and a bound on how much is made of them."""

    __slots__ = ("left", "state")

    def __init__(self, seed: int) -> None:
        self.state = seed & 0xFFFFFFFFFFFFFFFF
        self.left = MOST_ROLLS

    def spend(self, rolls: int) -> None:
        self.left -= rolls
        if self.left < 0:
            raise refusal("asks for too large a value")

    def roll(self, sides: int) -> int:
        """From 0 to sides - 1."""
        self.left -= 1
        if self.left < 0:
            self.spend(0)
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self.state >> 24) % sides


def bounds(schema: dict[str, Any], low: str, high: str, largest: int) -> tuple[int, int]:
    """The least and the most of a count such as minItems and maxItems."""
    least = math.ceil(schema.get(low, 0))
    most = min(math.floor(schema.get(high, largest)), largest)
    if least > most or least < 0:
        raise refusal(f"has {low} {least}, which cannot be made (at most {most} here)")
    return least, most


def _limits(schema: dict[str, Any]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Inclusive and exclusive lower bounds, inclusive and exclusive upper ones; also as booleans, as they once were."""
    sides: list[list[Any]] = []
    for plain, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        inclusive = [schema[plain]] if schema.get(plain) is not None else []
        exclusive = [schema[strict]] if schema.get(strict) is not None else []
        if exclusive and isinstance(exclusive[0], bool):
            inclusive, exclusive = ([], inclusive) if exclusive[0] else (inclusive, [])
        sides += [inclusive, exclusive]
    return sides[0], sides[1], sides[2], sides[3]


def whole(schema: dict[str, Any]) -> Callable[[Dice], int]:
    least, above, most, below = _limits(schema)
    low = max([math.ceil(x) for x in least] + [math.floor(x) + 1 for x in above], default=None)
    high = min([math.floor(x) for x in most] + [math.ceil(x) - 1 for x in below], default=None)
    step = _whole_step(schema.get("multipleOf", 1))
    last = None if high is None else high // step
    first = (0 if last is None or last >= 0 else last - 100) if low is None else -(-low // step)
    if last is None:
        last = first + 100
    if first > last:
        raise refusal("leaves no number between its minimum and its maximum")
    sides = last - first + 1
    return lambda dice: (first + dice.roll(sides)) * step


def _whole_step(step: float) -> int:
    if step <= 0:
        raise refusal("has a multipleOf that is not above 0")
    if step == int(step):
        return int(step)
    if (1 / step).is_integer():
        return 1
    raise refusal(f"has multipleOf {step} for whole numbers")


def real(schema: dict[str, Any]) -> Callable[[Dice], float]:
    least, above, most, below = _limits(schema)
    low = max([float(x) for x in least] + [math.nextafter(x, math.inf) for x in above], default=None)
    high = min([float(x) for x in most] + [math.nextafter(x, -math.inf) for x in below], default=None)
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - 100
    if high is None:
        high = low + 100
    if low > high:
        raise refusal("leaves no number between its minimum and its maximum")
    step = schema.get("multipleOf")
    return _stepped(low, high, float(step)) if step is not None else _between(low, high)


def _between(low: float, high: float) -> Callable[[Dice], float]:
    def make(dice: Dice) -> float:
        share = dice.roll(1_000_001) / 1_000_000
        exact = min(max(low * (1 - share) + high * share, low), high)
        rounded = round(exact, 3)
        return rounded if low <= rounded <= high else exact

    return make


def _stepped(low: float, high: float, step: float) -> Callable[[Dice], float]:
    if step <= 0:
        raise refusal("has a multipleOf that is not above 0")
    first, last = math.ceil(low / step), math.floor(high / step)
    sides = max(1, last - first + 1)

    def make(dice: Dice) -> float:
        start = dice.roll(sides)
        for offset in range(min(sides, 100)):
            number = round((first + (start + offset) % sides) * step, 12)
            if low <= number <= high and (number / step).is_integer():
                return number
        raise refusal(f"leaves no multiple of {step} between its minimum and its maximum")

    return make


def text(schema: dict[str, Any]) -> Callable[[Dice], str]:
    least, most = bounds(schema, "minLength", "maxLength", LONGEST_TEXT)
    if (form := _FORMATS.get(str(schema.get("format")))) is not None:

        def formatted(dice: Dice) -> str:
            made = form(dice)
            if not least <= len(made) <= most:
                raise refusal(f"wants a {schema['format']} of another length")
            return made

        return formatted

    def plain(dice: Dice) -> str:
        made = f"{_WORDS[dice.roll(len(_WORDS))]} {dice.roll(0x10000):04x}"
        if len(made) < least:
            dice.spend(least // 16)
            made = (made + " ") * (least // (len(made) + 1) + 1)
            return made[:least]
        return made[:most]

    return plain


def _day(dice: Dice) -> str:
    return f"20{dice.roll(30):02d}-{1 + dice.roll(12):02d}-{1 + dice.roll(28):02d}"


def _clock(dice: Dice) -> str:
    return f"{dice.roll(24):02d}:{dice.roll(60):02d}:{dice.roll(60):02d}Z"


def _uuid(dice: Dice) -> str:
    digits = "".join(f"{dice.roll(0x10000):04x}" for _ in range(8))
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


_FORMATS: dict[str, Callable[[Dice], str]] = {
    "date": _day,
    "time": _clock,
    "date-time": lambda dice: f"{_day(dice)}T{_clock(dice)}",
    "duration": lambda dice: f"P{1 + dice.roll(9)}D",
    "uuid": _uuid,
    "email": lambda dice: f"name{dice.roll(1000):03d}@example.com",
    "idn-email": lambda dice: f"name{dice.roll(1000):03d}@example.com",
    "uri": lambda dice: f"https://example.com/{dice.roll(1000):03d}",
    "uri-reference": lambda dice: f"/{dice.roll(1000):03d}",
    "hostname": lambda dice: f"host{dice.roll(1000):03d}.example.com",
    "ipv4": lambda dice: f"192.0.2.{dice.roll(256)}",
    "ipv6": lambda dice: f"2001:db8::{1 + dice.roll(0xFFFE):x}",
}
