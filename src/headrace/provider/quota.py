"""The limits of an account as its provider keeps them: charges and their times come in, refusals and levels go out.

Pure: time is an argument and never goes back. Rules of this file:
1. All limits are looked at before any is charged; a refused call is charged only where a limit counts refusals.
2. A refusal names the limit that takes longest to free itself, and how long that is.
3. What is charged for usage (`charge=usage`) comes after the answer and may pass a limit; then it is a debt.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headrace.core.errors import UsageError
from headrace.core.limits import Unit
from headrace.provider.limiter import Bucket, Fixed, Limiter, Sliding, Trace
from headrace.provider.wording import number, one_of, words

MINUTE_S = 60.0
Kind = Literal["sliding", "fixed", "bucket"]
Charge = Literal["admission", "sum", "usage"]

UNITS = {unit.value.replace(" ", "_"): unit for unit in Unit}
PARTS = ("kind", "capacity", "phase", "charge", "refused")
"""What may follow the number of a limit."""
_KINDS: tuple[Kind, ...] = ("sliding", "fixed", "bucket")
_CHARGES: tuple[Charge, ...] = ("admission", "sum", "usage")
_MOST = 1e15


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: `limit` of `unit` in `window_s`. Of calls in flight there is no window.

    Tokens are charged as the call is admitted, the larger of its maximum output and its input (`admission`, as OpenAI)
    or both together (`sum`, as Azure); or its input then and its output once it is answered (`usage`).
    """

    unit: Unit
    limit: float
    window_s: float = MINUTE_S
    kind: Kind = "sliding"
    capacity: float | None = None
    """Of a bucket: so much at once; None is all of `limit`."""
    phase_s: float = 0.0
    """Of fixed windows: one of them begins then."""
    charge: Charge = "admission"
    counts_refused: bool = False
    """Whether refused calls are charged as well, down to a debt of one `limit`."""

    def __post_init__(self) -> None:
        word = self.word
        if not 1 <= self.limit <= _MOST:
            raise UsageError(f"The limit {word}={self.limit:g} allows no call.", hint="Give 1 or more.")
        if not 1e-3 <= self.window_s <= 1e9:
            raise UsageError(f"The limit of {word} has a window of {self.window_s:g} s.", hint="Give 0.001 to 1e9 s.")
        if self.unit is Unit.CONCURRENCY and not float(self.limit).is_integer():
            raise UsageError(
                f"concurrency={self.limit:g} is no whole number.", hint="Write for example concurrency=37."
            )
        if self.capacity is not None and (self.kind != "bucket" or not 1 <= self.capacity <= _MOST):
            raise UsageError(
                f"The limit of {word} cannot have capacity={self.capacity:g}.",
                hint="A capacity is 1 or more and needs kind=bucket.",
            )
        if self.phase_s and (self.kind != "fixed" or not 0 <= self.phase_s < self.window_s):
            raise UsageError(
                f"The limit of {word} cannot have phase={self.phase_s:g}.",
                hint="A phase is less than the window and needs kind=fixed.",
            )

    @property
    def word(self) -> str:
        return self.unit.value.replace(" ", "_")

    @classmethod
    def parse(cls, text: str) -> "Quota":
        """`requests=1200/60,kind=bucket,capacity=20`, `tokens=200000,charge=usage`, `concurrency=37`."""
        given = words(text, (*UNITS, *PARTS), "A limit")
        named = [word for word in given if word in UNITS]
        if len(named) != 1:
            raise UsageError(
                f"{text!r} is not one limit.", hint=f"Write UNIT=NUMBER/SECONDS with one of: {', '.join(UNITS)}."
            )
        word = named[0]
        unit, parts = UNITS[word], given.keys() - {word}
        amount, found, window = given[word].partition("/")
        alien = parts if unit is Unit.CONCURRENCY else parts & {"charge"} if unit is Unit.REQUESTS else set()
        if alien or (found and unit is Unit.CONCURRENCY):
            raise UsageError(
                f"A limit of {word} takes no {', '.join(sorted(alien)) or 'window'}.", hint=f"Write {word}={amount}."
            )
        return cls(
            unit=unit,
            limit=number(word, amount),
            window_s=number(word, window) if found else MINUTE_S,
            kind=one_of("kind", given.get("kind", "bucket" if "capacity" in given else "sliding"), _KINDS),
            capacity=number("capacity", given["capacity"]) if "capacity" in given else None,
            phase_s=number("phase", given.get("phase", "0")),
            charge=one_of("charge", given.get("charge", "admission"), _CHARGES),
            counts_refused=one_of("refused", given.get("refused", "free"), ("free", "counted")) == "counted",
        )

    def admission(self, input_tokens: int, most_output: int) -> float:
        """What a call is charged as it comes in; `most_output` is 0 where the request names no maximum."""
        if self.unit is Unit.REQUESTS:
            return 1.0
        if self.unit is Unit.INPUT_TOKENS:
            return float(input_tokens)
        if self.unit is Unit.OUTPUT_TOKENS:
            return 0.0 if self.charge == "usage" else float(most_output)
        if self.charge == "usage":
            return float(input_tokens)
        return float(input_tokens + most_output if self.charge == "sum" else max(input_tokens, most_output))

    def afterwards(self, output_tokens: int) -> float:
        """What its answer is charged."""
        late = self.charge == "usage" and self.unit in (Unit.TOKENS, Unit.OUTPUT_TOKENS)
        return float(output_tokens) if late else 0.0


class Level(msgspec.Struct, frozen=True, gc=False):
    """How one limit stands."""

    unit: Unit
    limit: float
    window_s: float
    remaining: float
    """What would be admitted now; never below 0."""
    reset_s: float
    """Until all of it is there again."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a call was not let in. `unit` None: no limit, just a refusal."""

    unit: Unit | None = None
    limit: float = 0.0
    window_s: float = MINUTE_S
    used: float = 0.0
    requested: float = 1.0
    wait_s: float | None = None
    """Until it would be let in, if nobody else came; infinity: never; None: nobody knows."""


class _Limit:
    """A quota at work, with its books: what was asked for and what was let in."""

    __slots__ = ("admitted", "asked", "limiter", "own_books", "quota", "refused")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.refused = 0
        self.asked = Trace(quota.window_s)
        self.admitted = Trace(quota.window_s)
        self.own_books = True
        """Whether what is admitted is not already traced by the limiter itself."""
        self.limiter: Limiter
        if quota.kind == "bucket":
            self.limiter = Bucket(quota.limit, quota.window_s, quota.capacity)
        elif quota.kind == "fixed":
            self.limiter = Fixed(quota.limit, quota.window_s, quota.phase_s)
        else:
            self.limiter = sliding = Sliding(quota.limit, quota.window_s)
            if not quota.counts_refused:
                self.admitted, self.own_books = sliding.trace, False

    def take(self, now_s: float, amount: float) -> None:
        self.limiter.take(now_s, amount)
        if self.own_books:
            self.admitted.add(now_s, amount)

    def level(self, now_s: float) -> Level:
        remaining = max(0.0, self.limiter.remaining(now_s))
        return Level(self.quota.unit, self.limiter.limit, self.quota.window_s, remaining, self.limiter.reset_s(now_s))

    def refusal(self, now_s: float, amount: float) -> Refusal:
        limiter = self.limiter
        used = limiter.limit - limiter.remaining(now_s)
        wait_s = limiter.wait_s(now_s, amount)
        limit = limiter.most if amount > limiter.most else limiter.limit
        return Refusal(self.quota.unit, limit, self.quota.window_s, used, amount, wait_s)

    def count_refused(self, now_s: float, amount: float) -> None:
        """Charge it although it was refused; the debt is at most one limit, or a stubborn client is never heard."""
        amount = min(amount, self.limiter.limit + self.limiter.remaining(now_s))
        if amount > 0:
            self.limiter.take(now_s, amount)


class Quotas:
    """All limits of an account together. Calls in flight are counted by whoever asks."""

    def __init__(self, quotas: Sequence[Quota] = ()) -> None:
        self.quotas = tuple(quotas)
        self.reset()

    def reset(self) -> None:
        """As at first: nothing charged, nothing counted, no limit changed."""
        self._limits = [_Limit(quota) for quota in self.quotas if quota.unit is not Unit.CONCURRENCY]
        slots = [int(quota.limit) for quota in self.quotas if quota.unit is Unit.CONCURRENCY]
        self.slots: int | None = min(slots, default=None)
        """Calls in flight at most."""
        self.most_in_flight = 0
        """Of those that were let in."""
        self.refused_for_slots = 0

    def admit(self, now_s: float, in_flight: int, input_tokens: int, most_output: int = 0) -> Refusal | None:
        """Charge a call, or say why it is refused. `in_flight` does not count the call itself."""
        refusal: Refusal | None = None
        full = self.slots is not None and in_flight >= self.slots
        charges = []
        for limit in self._limits:
            amount = limit.quota.admission(input_tokens, most_output)
            charges.append(amount)
            limit.asked.add(now_s, amount)
            if amount > limit.limiter.remaining(now_s):
                limit.refused += 1
                told = limit.refusal(now_s, amount)
                if refusal is None or (told.wait_s or 0.0) > (refusal.wait_s or 0.0):
                    refusal = told
        if full:
            self.refused_for_slots += 1
            refusal = refusal or Refusal(Unit.CONCURRENCY, float(self.slots or 0), used=float(in_flight))
        for limit, amount in zip(self._limits, charges, strict=True):
            if refusal is None:
                limit.take(now_s, amount)
            elif limit.quota.counts_refused:
                limit.count_refused(now_s, amount)
        if refusal is None and in_flight >= self.most_in_flight:
            self.most_in_flight = in_flight + 1
        return refusal

    def produced(self, now_s: float, output_tokens: int) -> None:
        """A call that was let in is answered with so many tokens."""
        for limit in self._limits:
            amount = limit.quota.afterwards(output_tokens)
            if amount:
                limit.asked.add(now_s, amount)
                limit.take(now_s, amount)

    def change(self, now_s: float, unit: Unit, value: float) -> None:
        """From now on `value` is the first limit of this unit; what was charged before stays charged."""
        if unit is Unit.CONCURRENCY:
            self.slots = int(value)
            return
        for limit in self._limits:
            if limit.quota.unit is unit:
                limit.limiter.change(now_s, value)
                return

    def levels(self, now_s: float) -> list[Level]:
        """How each limit stands, but for calls in flight, of which no provider tells."""
        return [limit.level(now_s) for limit in self._limits]

    def as_json(self) -> list[dict[str, Any]]:
        """Each limit with what was asked and admitted at most in any of its windows, and how often it refused."""
        shown: list[dict[str, Any]] = [
            {
                "unit": limit.quota.word,
                "limit": limit.limiter.limit,
                "window_s": limit.quota.window_s,
                "kind": limit.quota.kind,
                "most_asked": limit.asked.most,
                "most_admitted": limit.admitted.most,
                "refused": limit.refused,
            }
            for limit in self._limits
        ]
        if self.slots is not None:
            slots = {"unit": "concurrency", "limit": self.slots, "most_admitted": self.most_in_flight}
            shown.append({**slots, "refused": self.refused_for_slots})
        return shown
