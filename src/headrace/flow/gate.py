"""Whether a call may start now: all limits of one account at one endpoint, decided together. Rules of this file:

1. `ask` and `settle` are synchronous and total: every ask gets one of three answers, every ticket is settled once.
2. Nothing here waits, reads a clock or knows what a call is; whoever asks performs the answer.
3. All limits are decided before any is taken, so no permit is held while another is awaited. Lowering never pre-empts.
4. A refusal by the provider makes one limit smaller, never two: the one it names, else the one that `Blame` finds.
5. Where few of many calls are refused, a refusal that names no limit, nor shows one used up, is that call's own matter:
   some gateways refuse at random. It waits as it was told; the others go on. Once a rate was found, only where as many
   were refused below it (`Learner.expects`); not where calls in flight were cut and hardly any call of late was answered
   that was sent with as many in flight. Of many calls, where slower was no cure (`Chance`).
"""

import math
from collections import deque
from collections.abc import Mapping

import msgspec

from headrace.core.limits import Cost, End, Hints, Learnt, Unit, Use
from headrace.flow.blame import Blame
from headrace.flow.breaker import Breaker
from headrace.flow.chance import Chance
from headrace.flow.concurrency import Concurrency
from headrace.flow.concurrency import Mark as Level
from headrace.flow.rate import Mark, Rate
from headrace.flow.retry import RetryBudget

MINUTE_S = 60.0
SINGLE = 4
"""Where no more calls are in flight, those that fail are mostly made for items that have failed before."""
FEW, MANY, MEMORY = 0.05, 10, 200
"""So small a share is few, or the only one of so many at least; calls older than the last so many hardly count."""
SEEN, ENOUGH = 64, 24
"""Where so many of the last so many answers were to calls sent with as many in flight, that many are no limit."""


class Ticket(msgspec.Struct, gc=False):
    """The right to make one call, to be settled when the call is off the wire."""

    number: int
    at_s: float
    cost: Cost
    level: Level
    breaker: int
    """The breaker's generation."""
    charged: list[tuple[Rate, float, Mark]]


class NotBefore(msgspec.Struct, frozen=True, gc=False):
    """No call may start before `at_s`; infinity means until a ticket is settled. `cause` names what is in the way."""

    at_s: float
    cause: str


class Refused(msgspec.Struct, frozen=True):
    """This call will never be let in: it alone is larger than a limit."""

    reason: str


_FULL = NotBefore(math.inf, Unit.CONCURRENCY.value)
"""Infinity is never waited out: some call's end will tell."""


class Gate:
    """Everything that may hold a call back, and what each answer teaches about it."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self.breaker = Breaker()
        self.retries = RetryBudget()
        """Asked before a call that failed stands in line again, so that it holds up no other."""
        self.answered_at_s = -math.inf
        self.rates: dict[tuple[Unit, float], Rate] = {}
        self.held_until_s = -math.inf
        self.held_for = ""
        self._blame = Blame()
        self._chance = Chance()
        self._limited = False
        """Whether a limit was met."""
        self._answered: deque[int] = deque(maxlen=SEEN)
        """In flight when those were sent that were answered last."""
        self._refused = 0.0
        """The share of calls that were refused of late."""
        self._issued = 0
        self._open: set[int] = set()
        self._rate(Unit.REQUESTS)  # counted from the first call, so that a limit found later holds for it too

    # What is known before the first call.

    def state(self, stated: Mapping[Unit, float], *, most: int) -> None:
        """From now on these limits hold (calls in flight, others per minute), whatever the provider tells. Where no
        calls in flight are stated, they are searched for, up to `most`."""
        in_flight = stated.get(Unit.CONCURRENCY)
        self.concurrency.state(None if in_flight is None else int(in_flight), most=most)
        for unit in (Unit.REQUESTS, Unit.TOKENS):
            if unit in stated or (unit, MINUTE_S) in self.rates:
                self._rate(unit).state(stated.get(unit, math.inf))

    def recall(self, learnt: Learnt, now_s: float = 0.0, age_s: float = math.inf) -> None:
        """Begin where an earlier run ended: a start, which headers and refusals correct. What was charged less than a
        window before is charged still."""
        if learnt.concurrency is not None:
            self.concurrency.recall(learnt.concurrency)
        for told in learnt.told:
            self._rate(told.unit, told.window_s).remember(told)
        for unit, per_s in learnt.per_s.items():
            self._rate(Unit(unit)).start(per_s)
        for unit, amount in learnt.spent.items():
            if age_s < MINUTE_S and amount > 0:
                self._rate(Unit(unit)).take(now_s - max(0.0, age_s), amount)

    @property
    def in_flight(self) -> int:
        return len(self._open)

    # Before a call.

    def ask(self, now_s: float, cost: Cost = Cost()) -> Ticket | NotBefore | Refused:
        if self._blame.doubts:
            self._decide(now_s)
        if len(self._open) >= self.concurrency.limit(now_s):
            return _FULL
        for (unit, window_s), rate in self.rates.items():
            if rate.most < math.inf and not rate.fits(cost.least_of(unit)):
                return Refused(_too_large(cost.least_of(unit), unit, rate, window_s))
        return self._wait(now_s, cost) or self._ticket(now_s, cost)

    def _wait(self, now_s: float, cost: Cost) -> NotBefore | None:
        """What is furthest in the way, or None."""
        at_s, cause = now_s, ""
        if self.held_until_s > at_s:
            at_s, cause = self.held_until_s, "backoff"
        if (until_s := self.breaker.earliest(now_s)) > at_s:
            at_s, cause = until_s, "breaker"
        for (unit, _), rate in self.rates.items():
            if (until_s := rate.earliest(now_s, min(cost.of(unit), rate.most))) > at_s:
                at_s, cause = until_s, unit.value
        if self._blame.doubts and (until_s := self._blame.earliest(now_s, len(self._open))) > at_s:
            at_s, cause = until_s, "backoff"
        return NotBefore(at_s, cause) if at_s > now_s else None

    def _ticket(self, now_s: float, cost: Cost) -> Ticket:
        self._issued += 1
        self._open.add(self._issued)
        in_flight = len(self._open)
        self._blame.sent(now_s, self._issued, in_flight)
        self._chance.sent(now_s, self._issued)
        charged = []
        for (unit, _), rate in self.rates.items():
            amount = min(cost.of(unit), rate.most)
            charged.append((rate, amount, rate.take(now_s, amount)))
        level = self.concurrency.sent(now_s, in_flight)
        return Ticket(self._issued, now_s, cost, level, self.breaker.sent(now_s), charged)

    # After a call.

    def settle(
        self,
        ticket: Ticket,
        now_s: float,
        end: End,
        *,
        cost: Cost | None = None,
        hints: Hints | None = None,
        again: bool = False,
    ) -> bool:
        """The call is off the wire. `cost` is what it truly took, where that is known. `again`: its item has failed
        before, so that a failure is more likely its own than the endpoint's.

        True where it was refused for no limit that concerns others. Raises KeyError for a ticket that was settled before.
        """
        self._open.remove(ticket.number)
        in_flight = len(self._open)
        self._refused += ((end is End.THROTTLED) - self._refused) / min(self._issued, MEMORY)
        alone = end is End.THROTTLED and self._is_alone(ticket, now_s, hints)
        if hints is not None:
            self._hear(ticket, now_s, end, hints, alone=alone)
        if end is End.OK:
            self._blame.ok(now_s, ticket)
            self._answered.append(ticket.level.in_flight)
            self.answered_at_s = now_s
            self.retries.deposit()
            self.breaker.ok(now_s, ticket.breaker)
            tokens = (cost or ticket.cost).output_tokens
            self.concurrency.ok(now_s, ticket.level, in_flight, now_s - ticket.at_s, tokens)
        elif end is End.THROTTLED:
            self.breaker.ignore(now_s, ticket.breaker)
            if not alone:
                self._throttled(ticket, now_s, in_flight, hints or Hints())
        elif end is End.IGNORED:
            self.breaker.ignore(now_s, ticket.breaker)
        else:
            own = again and self.breaker.is_closed and self.concurrency.limit(now_s) > SINGLE
            (self.breaker.ignore if own else self.breaker.failed)(now_s, ticket.breaker)
            self.concurrency.failed(now_s)
        for rate, amount, mark in ticket.charged:
            rate.settle(
                now_s,
                mark,
                amount,
                self._truth(rate, end, cost, amount),
                accepted=end not in (End.THROTTLED, End.OVERLOADED),
            )
        return alone

    @staticmethod
    def _truth(rate: Rate, end: End, cost: Cost | None, reserved: float) -> float:
        """What a limit was charged in truth: a call counts whatever becomes of it, its tokens only if it was let in."""
        if rate.unit is Unit.REQUESTS or cost is None:
            return 0.0 if end is End.THROTTLED and rate.unit is not Unit.REQUESTS else reserved
        return cost.of(rate.unit)

    def _is_alone(self, ticket: Ticket, now_s: float, hints: Hints | None) -> bool:
        """Whether a refusal is this call's own matter."""
        if hints is not None and (hints.blamed is not None or self._empty(hints) is not None):
            return False
        if self._chance.refused(ticket.number, ticket.at_s, ticket.level.in_flight):
            self._assume(now_s, self._chance.share)
            return True
        if any(rate.learnt for rate in self.rates.values()):
            return self._blame.found is not Unit.CONCURRENCY and self._is_expected(ticket, now_s)
        if self._chance.share:
            return self._chance.explains()
        few = self._refused <= max(FEW, 1.0 / max(1, self._issued))
        if not few or self._issued < MANY:
            return False
        level = ticket.level.in_flight
        return not self._limited or sum(each >= level for each in self._answered) >= ENOUGH

    def _assume(self, now_s: float, share: float) -> None:
        """So many are refused whatever is done: what was made of refusals so far is void, or has to be shown anew."""
        self._limited, self._refused = False, share
        self._blame.forget()
        self.concurrency.forget()
        for rate in self.rates.values():
            rate.assume(now_s, share)

    def _is_expected(self, ticket: Ticket, now_s: float) -> bool:
        """Whether the rate that was found is refused at any pace so often."""
        expected = False
        for rate, _, mark in ticket.charged:
            if rate.unit is Unit.REQUESTS and rate.window_s == MINUTE_S and rate.learnt is not None:
                expected = rate.expects(now_s, mark)
                if rate.learnt is None:
                    self._blame.forget()
        return expected

    def _throttled(self, ticket: Ticket, now_s: float, in_flight: int, hints: Hints) -> None:
        self._limited = True
        unit = hints.blamed or self._empty(hints)
        if unit is None:
            accepted = self.concurrency.accepted
            unit = self._blame.throttled(now_s, ticket, in_flight, hints.retry_after_s, accepted)
            if unit is Unit.REQUESTS:
                self.concurrency.acquit(now_s)
        if unit is not None:
            self._cut(unit, ticket, now_s, in_flight, hints.retry_after_s, hints.blamed_window_s)

    def _cut(
        self, unit: Unit, ticket: Ticket, now_s: float, in_flight: int, retry_after_s: float | None,
        window_s: float = MINUTE_S,
    ) -> None:  # fmt: skip
        if unit is Unit.CONCURRENCY:
            self.concurrency.throttled(now_s, ticket.level, in_flight, retry_after_s)
            return
        rate = self._rate(unit, window_s)
        mark = next((mark for charged, _, mark in ticket.charged if charged is rate), None)
        rate.throttled(now_s, mark, ticket.cost.of(unit), retry_after_s)

    def _decide(self, now_s: float) -> None:
        """Act on a doubt about an earlier refusal that was settled by what came, or did not come, since."""
        decided = self._blame.decided(now_s)
        if decided is not None:
            unit, ticket, in_flight, retry_after_s = decided
            if isinstance(ticket, Ticket):
                self._cut(unit, ticket, now_s, in_flight, retry_after_s)

    def _hear(self, ticket: Ticket, now_s: float, end: End, hints: Hints, *, alone: bool) -> None:
        for told in hints.told:
            self._rate(told.unit, told.window_s).hear(now_s, told, sent_s=ticket.at_s)
        if hints.calm_s:
            self.concurrency.calm(now_s, hints.calm_s)
            for rate in self.rates.values():
                rate.calm(now_s, hints.calm_s)
        if hints.retry_after_s and end in (End.OVERLOADED, End.THROTTLED) and not alone:
            self.hold(now_s + hints.retry_after_s, "The provider asks to wait.")

    @staticmethod
    def _empty(hints: Hints) -> Unit | None:
        """The limit that a refusal's own headers show to be used up."""
        empty = [told.unit for told in hints.told if told.remaining is not None and told.remaining < 1]
        return empty[0] if empty else None

    def _rate(self, unit: Unit, window_s: float = MINUTE_S) -> Rate:
        rate = self.rates.get((unit, window_s))
        if rate is None:
            rate = self.rates[unit, window_s] = Rate(unit, window_s)
        return rate

    # From outside.

    def hold(self, until_s: float, reason: str) -> None:
        """Start no call before `until_s`; never shortens a pause."""
        if until_s > self.held_until_s:
            self.held_until_s, self.held_for = until_s, reason

    def give_back(self, ticket: Ticket, now_s: float) -> None:
        """The call was not made."""
        self._open.remove(ticket.number)
        self.breaker.ignore(now_s, ticket.breaker)
        self._blame.unsent(ticket.number)
        for rate, amount, mark in ticket.charged:
            rate.give_back(now_s, mark, amount)

    def why(self, cause: str) -> str:
        """What is in the way, for people."""
        if cause == "breaker":
            return "The provider does not answer; it is asked again now and then."
        if cause == "backoff":
            return self.held_for or "The provider refuses calls; one is tried now and then."
        return f"The limit of {cause} is used up."

    def uses(self, now_s: float) -> list[Use]:
        """How much of every limit is in use."""
        limit = self.concurrency.limit(now_s)
        uses = [Use(Unit.CONCURRENCY, len(self._open), limit, learnt=self.concurrency.adaptive)]
        uses += [
            Use(unit, rate.used(now_s), rate.allowed(now_s), window_s, learnt=rate.learnt is not None)
            for (unit, window_s), rate in self.rates.items()
        ]
        return uses

    def is_warm(self, now_s: float) -> bool:
        """Whether what was begun here still counts: calls in flight, or charges in a window."""
        return bool(self._open) or any(rate.used(now_s) > 0 for rate in self.rates.values())

    def learnt(self, now_s: float) -> Learnt:
        """What the next run may start from."""
        told = tuple(told for rate in self.rates.values() if (told := rate.told) is not None)
        per_s = {unit.value: found for (unit, w), rate in self.rates.items() if (found := rate.learnt) is not None}
        spent = {unit.value: rate.used(now_s) for (unit, w), rate in self.rates.items() if w == MINUTE_S}
        held_by = "" if self._blame.found is Unit.REQUESTS else self.concurrency.held_by
        return Learnt(self.concurrency.learnt, told, per_s, spent, held_by=held_by)

    # A share of a limit, where several processes use it.

    def limits(self) -> dict[Unit, float]:
        """The limits that are known, whole."""
        known = {unit: rate.most for (unit, window_s), rate in self.rates.items() if window_s == MINUTE_S}
        if not self.concurrency.adaptive:
            known[Unit.CONCURRENCY] = self.concurrency.most
        return {unit: limit for unit, limit in known.items() if limit < math.inf}

    def lend(self, now_s: float, amounts: Mapping[Unit, float]) -> None:
        """Use no more than so much of each limit: the rest is lent to others. What is not named is not lent."""
        self.concurrency.cap(amounts.get(Unit.CONCURRENCY, math.inf))
        for unit in {unit for unit, window_s in self.rates if window_s == MINUTE_S} | amounts.keys():
            if unit is not Unit.CONCURRENCY:
                self._rate(unit).lend(now_s, amounts.get(unit, math.inf))

    def __repr__(self) -> str:
        return f"<Gate {self.in_flight}/{self.concurrency!r} in flight, {self.breaker!r}>"


def _too_large(amount: float, unit: Unit, rate: Rate, window_s: float) -> str:
    per = "a minute" if window_s == MINUTE_S else f"in {window_s:g} s"
    return f"The call needs {amount:.0f} {unit.value} at least, more than the {rate.most:.0f} {per} that are allowed."
