"""Which limit a refusal was for that names none: calls in flight, or calls in a window. Rules of this file:

1. A concurrency limit accepts again as soon as fewer are in flight; a window does not. So after a first refusal nothing
   is sent until a fifth of what was accepted has ended; then one call. Refused: a window.
2. A bucket has refilled a little by then, and a window of a second is open again. So after the one call comes a trial:
   about as many as were in flight, never more than four fifths of them at a time, then slowly more, to five fourths.
   Refused early: a window. Refused about where it was refused before: concurrency. Never: once, and if nothing else was
   refused, no limit at all; else a window that was crowded.
3. A refusal with (nearly) nothing else in flight is no concurrency limit's. Refusals that come, episode after episode,
   exactly when most calls are in flight are no window's. So a wrong verdict is found out.
4. One refusal, one verdict; those of calls sent before a doubt was settled belong to it.
5. Past a limit, most calls are refused. So where nearly all sent after the refused one were let in, it was for no limit;
   and a trial goes on after a refusal that comes long after the one before.
"""

import math
from collections import deque
from typing import Protocol

from headrace.core.limits import Unit
from headrace.flow.concurrency import Mark

EASED = 0.8
"""Of what was accepted: so far calls in flight must fall to prove something, and may rise while in doubt. Calls on
their way blur what the server holds by about a tenth where they take seconds."""
PATIENCE_S = 30.0
"""After so long without enough ends, a call is sent anyway."""
SILENCE_S, SILENCE_MOST_S = 0.5, 5.0
"""A call that was not refused by then was let in; longer where refusals have taken longer than half of it."""
TRIAL_LEAST = 3
"""Calls of the even part of a trial, or as many as are in flight."""
CLIMB, CLIMB_CALLS, SAME = 1.25, 1.5, 0.85
"""Where a trial ends, in how many calls, and from where on a refusal in it is the same again; of what was accepted. It
ends higher where calls are on their way for a good part of their time: the server has fewer of them than we count."""
WAY_MOST = 0.6
"""Of its time, that a call is taken to be on its way at most."""
TIMED_S = 2.0
"""Only a window knows when it opens: a hint longer than this is one's."""
PROOF = 0.25
"""Of what was accepted within a minute: a refusal so low is not for concurrency. So low when it was sent and when it was refused:
calls overtake each other on their way."""
EPISODES, EPISODE_S, TOP = 5, 5.0, 0.9
"""So many episodes in a row, so far apart, refused above so many of the levels of the last minute: concurrency."""
LEVELS_S, LEVEL_EVERY_S = 60.0, 0.25
STRAY_CALLS = 20
"""A trial goes on after a refusal that comes so many calls after the one before: past a limit, the next are refused too."""
FEW = 0.05
"""So small a share of the calls beside a refused one, refused as well: it was for no limit. Past one, most are refused."""
CROWDED, CERTAIN = 0.05, 4.0
"""Share of refusals past a limit, at least, and the likelihood ratio (its logarithm) from which they are one's. Where 1 %
are refused by chance, that is three within some forty calls, which chance brings once in 3,600; of 10 % it takes 34."""
CALLS, CALLS_MOST, STRAYS_MOST = 100.0, 1000.0, 0.02
"""The first stray is taken for one in so many at least; calls older than the last so many count half; and a larger share
is not taken for chance, unless `Chance` has proven it."""
TIMES, PROVEN = 2.0, 3.0
"""What is crowded, of a larger share; and as how many strays it counts when it is proven: what comes then counts more."""


class Sent(Protocol):
    """What is known of a call: its number in the order of sending, when, and at what level."""

    number: int
    at_s: float
    level: Mark


Verdict = tuple[Unit, Sent, int, float | None]
"""The limit, the call that was refused, how many were let in beside it, and the provider's hint."""


class Doubt:
    """One refusal under examination: hold, one call, a trial."""

    def __init__(
        self, now_s: float, ticket: Sent, accepted: int, last: int, retry_after_s: float | None, way_s: float
    ) -> None:
        self.ticket = ticket
        self.accepted = accepted
        """In flight at the refusal, less those that were refused as well."""
        self.last = last
        """The last call sent before."""
        self.retry_after_s = retry_after_s
        self.in_trial = False
        self._way_s = way_s
        self._climb = CLIMB
        self._until_s = now_s + PATIENCE_S
        self._probe_s = math.inf
        self._sent = 0
        self._probe = self._stray = 0
        self._refused = 1
        self._beside = [1, 0]
        """Of the calls sent after the refused one and before the doubt: refused, with itself, and answered."""
        self._over_s = math.inf

    @property
    def _even(self) -> int:
        """Calls of the even part, the first one included."""
        return 1 + max(TRIAL_LEAST, int(EASED * self.accepted))

    @property
    def _most(self) -> int:
        """In flight, at this point of the trial."""
        climbed = max(0, self._sent - self._even) / max(TRIAL_LEAST, CLIMB_CALLS * self.accepted)
        most = EASED + (self._climb - EASED) * min(1.0, climbed)
        return max(1, int(most * self.accepted), self.accepted + 1 if climbed >= 1.0 else 0)

    def earliest(self, now_s: float, in_flight: int, silence_s: float) -> float:
        if self._sent == 0:
            eased = in_flight == 0 or in_flight <= EASED * self.accepted or now_s >= self._until_s
            return now_s if eased else math.inf
        if not self.in_trial:
            if now_s < self._probe_s + silence_s:
                return self._probe_s + silence_s
            self.in_trial = True
        return now_s if in_flight < self._most else math.inf

    def sent(self, now_s: float, number: int, in_flight: int) -> None:
        self._sent += 1
        if self._sent == 1:
            self._probe, self._probe_s = number, now_s
        if self._over_s == math.inf and in_flight >= max(self.accepted + 1, int(self._climb * self.accepted)):
            self._over_s = now_s

    @property
    def is_single(self) -> bool:
        """Whether the one call was all that was refused."""
        return self._refused == 1

    def strays(self, number: int) -> bool:
        """Whether this refusal, in the trial, came after so many calls that it may be chance."""
        after, self._stray = number - max(self._stray, self._probe), number
        self._refused += 1
        return self.in_trial and after >= STRAY_CALLS

    def unsent(self, number: int) -> None:
        self._sent = max(0, self._sent - 1)
        if number == self._probe and not self.in_trial:
            self._probe, self._probe_s, self._sent = 0, math.inf, 0

    def ended(self, number: int, *, refused: bool) -> bool:
        """Whether enough of those beside the refused call were let in."""
        if number == self._probe and not refused:
            self.in_trial = True
        if number <= self.last:
            self._refused += refused
            if number > self.ticket.number:
                self._beside[not refused] += 1
        refusals, answers = self._beside
        return refusals <= FEW * (refusals + answers)

    def call_took(self, seconds: float) -> None:
        """In the mean; a refusal spends all of its time on the way, so both together tell how many are there."""
        self._climb = CLIMB / (1.0 - min(WAY_MOST, self._way_s / max(seconds, 1e-3)))

    def over(self, now_s: float, silence_s: float) -> bool:
        """The trial has come to its end, and nothing of it was refused."""
        return now_s >= self._over_s + silence_s

    def same(self, ticket: Sent) -> bool:
        """Whether this refusal, in the trial, came about where the first one did."""
        return self.in_trial and ticket.level.in_flight > SAME * self.accepted


class Blame:
    """A verdict for each refusal, at once or later. What was found holds until it is disproved."""

    def __init__(self) -> None:
        self.found: Unit | None = None
        self._doubt: Doubt | None = None
        self._last = 0
        self._settled = 0
        self._acquitted = False
        self._silence_s = SILENCE_S
        self._call_s = 0.0
        self._levels: deque[tuple[float, int]] = deque()
        self._ranks: deque[float] = deque(maxlen=EPISODES)
        self._ranked_s = -math.inf

    @property
    def doubts(self) -> bool:
        """Whether a refusal is under examination: else nothing here holds a call, or decides."""
        return self._doubt is not None

    def earliest(self, now_s: float, in_flight: int) -> float:
        """When a call may go; infinity: when one has ended."""
        return self._doubt.earliest(now_s, in_flight, self._silence_s) if self._doubt is not None else -math.inf

    def sent(self, now_s: float, number: int, in_flight: int) -> None:
        """`in_flight` counts this call."""
        self._last = number
        if self._doubt is not None:
            self._doubt.sent(now_s, number, in_flight)
        levels = self._levels
        if not levels or now_s >= levels[-1][0] + LEVEL_EVERY_S:
            levels.append((now_s, in_flight))
            while levels[0][0] < now_s - LEVELS_S:
                levels.popleft()
        elif in_flight > levels[-1][1]:
            levels[-1] = levels[-1][0], in_flight

    def unsent(self, number: int) -> None:
        """That call was not made: it proves nothing."""
        if self._doubt is not None:
            self._doubt.unsent(number)

    def ok(self, now_s: float, ticket: Sent) -> None:
        """A call was answered: where it is the one that was sent in doubt, it begins the trial before its silence is over."""
        self._call_s += 0.05 * (now_s - ticket.at_s - self._call_s) if self._call_s else now_s - ticket.at_s
        doubt = self._doubt
        if doubt is not None:
            doubt.call_took(self._call_s)
            if doubt.ended(ticket.number, refused=False):
                self._acquit()

    def throttled(
        self, now_s: float, ticket: Sent, in_flight: int, retry_after_s: float | None, accepted: int = 0
    ) -> Unit | None:
        """The limit to cut, or None where that is not known yet or was done already.

        `in_flight` is without this call, `accepted` the most in flight that was let in within the last minute.
        """
        way_s = now_s - ticket.at_s
        self._silence_s = min(SILENCE_MOST_S, max(0.99 * self._silence_s, SILENCE_S, 2.0 * way_s))
        if ticket.number <= self._settled:
            return None
        if self._doubt is not None:
            return self._examined(self._doubt, ticket)
        if self.found is None:
            if retry_after_s is not None and retry_after_s > TIMED_S:
                return self._settle(Unit.REQUESTS)
            self._doubt = Doubt(now_s, ticket, max(1, in_flight), self._last, retry_after_s, way_s)
            if self._call_s:
                self._doubt.call_took(self._call_s)
            return None
        if self.found is Unit.CONCURRENCY:
            if max(ticket.level.in_flight, in_flight + 1) <= max(1.0, PROOF * accepted):
                return self._settle(Unit.REQUESTS)
        elif self._at_the_top(now_s, ticket):
            self.found = Unit.CONCURRENCY
        return self.found

    def _examined(self, doubt: Doubt, ticket: Sent) -> Unit | None:
        """One more refusal while in doubt."""
        if ticket.number <= doubt.last:
            doubt.accepted = max(1, doubt.accepted - 1)
            doubt.ended(ticket.number, refused=True)
            return None
        if doubt.same(ticket):
            return self._settle(Unit.CONCURRENCY)
        return None if doubt.strays(ticket.number) else self._settle(Unit.REQUESTS)

    def decided(self, now_s: float) -> Verdict | None:
        """A verdict that time has brought, once."""
        doubt = self._doubt
        if doubt is None or not doubt.over(now_s, self._silence_s):
            return None
        if not self._acquitted and doubt.is_single:  # once: a window that is crowded will be so again
            self._acquitted = True
            self._acquit()
            return None
        return self._settle(Unit.REQUESTS), doubt.ticket, doubt.accepted, doubt.retry_after_s

    def forget(self) -> None:
        """What was found was no limit, nor is what is in doubt."""
        self.found, self._acquitted = None, False
        self._acquit()

    def _acquit(self) -> None:
        """The refusal was for no limit."""
        if self._doubt is not None:
            self._settled = self._doubt.last
        self._doubt = None

    def _settle(self, unit: Unit) -> Unit:
        if self._doubt is not None:
            self._settled = self._doubt.last
        self.found, self._doubt = unit, None
        self._ranks.clear()
        return unit

    def _at_the_top(self, now_s: float, ticket: Sent) -> bool:
        if ticket.at_s < self._ranked_s + EPISODE_S or not self._levels:
            return False
        self._ranked_s = now_s
        self._ranks.append(sum(level < ticket.level.in_flight for _, level in self._levels) / len(self._levels))
        if len(self._ranks) < EPISODES or min(self._ranks) < TOP:
            return False
        self._ranks.clear()
        return True


class Background:
    """The share of calls that are refused at any pace, and whether there are more of late: CUSUM (Page, 1954)."""

    __slots__ = ("_calls", "_excess", "_most", "_strays", "_unsure")

    def __init__(self) -> None:
        self._calls, self._strays = CALLS, 0.0
        self._most = STRAYS_MOST
        self._excess = 0.0
        self._unsure = 0  # strays that belong to the excess

    def assume(self, share: float) -> None:
        """So large a share was proven to be chance."""
        self._calls, self._strays = PROVEN / share, PROVEN
        self._excess, self._unsure = 0.0, 0
        self._most = max(STRAYS_MOST, share)

    @property
    def share(self) -> float:
        return min(self._most, self._strays / self._calls)

    @property
    def _crowded(self) -> float:
        return max(CROWDED, TIMES * self.share)

    def let_in(self) -> None:
        if self._excess > 0.0:
            self._excess = max(0.0, self._excess + math.log((1.0 - self._crowded) / (1.0 - self.share)))
            if self._excess == 0.0:
                self._unsure = 0

    def at_low_pace(self) -> None:
        """A call was sent at a pace at which no limit refuses."""
        self._calls += 1.0
        if self._calls > CALLS_MOST:
            self._calls, self._strays = 0.5 * self._calls, 0.5 * self._strays

    def stray(self) -> None:
        """One of those was refused."""
        self._strays += 1.0
        self._unsure += 1

    def explains(self) -> bool:
        """Whether one more refusal is to be expected; where it is not, those that led up to it were a limit's as well."""
        if self._strays < 1.0:
            return False
        self._excess += math.log(self._crowded / self.share)
        if self._excess < CERTAIN:
            return True
        self._strays = max(0.0, self._strays - self._unsure)
        self._excess, self._unsure = 0.0, 0
        return False
