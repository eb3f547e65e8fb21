"""How much a second a limit allows that nobody tells: found from refusals. Enters what was sent and what was refused.

Three states. START: nothing was refused yet, nothing is paced. BLOCK: after a refusal nothing is sent but single probes.
RUN: paced around what was measured, a little below it after each refusal, then slowly above it (CUBIC, RFC 9438, with
the time to return as a constant, so that no unit matters). Rules:

1. One cut per episode: refusals of calls sent before the cut, or between it and the end of the block, cut no more.
2. What is measured is what was let in over a whole cycle, from the end of one block to the end of the next, never
   what a cut left over. A cycle under `CYCLE_S` measures nothing: it only makes the next approach gentler.
3. A block ends by silence: a refusal comes back in a fraction of a second, an answer may take a minute.
4. What was let in within a window in the last three is proof of half that rate, whatever is measured: a fixed window
   or a full bucket shows at most twice its rate.
5. A rate that goes unused does not grow, and unused time is not measured.
6. A limit's refusals depend on the pace; those at random do not. A single one at a pace below what was measured, with
   all around it let in, is a stray: the estimate stands, and as many are expected from then on (`Background`).
7. Strays put the limit itself in doubt. On appeal, after 1, 2, 4 ... of them, the pace is doubled every few seconds: more
   refusals than before confirm the estimate; twice of all that it can have been without them, and it is forgotten.
"""

import math

from headrace.flow.blame import Background
from headrace.flow.window import Guard, Pacer

BELOW = 0.95
"""Where a run begins, of what was measured. After cycles that were too short: this to the power 2, 4, 8, 16, 21."""
BELOW_MOST = 20
RETURN_S, RETURN_MOST_S, RETURN_CALLS = 30.0, 300.0, 50
"""From there back to what was measured; for as long as so many calls take, so that probing is some 2 % of them."""
RISE_S, RISE_FAST_S = 30.0, 10.0
"""From there to as much above it, and to eight times as much above it in twice that. Fast: what was remembered."""
PROBE_S, PROBE_MOST_S, PROBE_FIRST_MOST_S = 0.25, 16.0, 2.0
"""Between a refusal and a probe: doubled each time; at first as long as one call takes of the rate."""
SILENCE_S, SILENCE_MOST_S = 0.5, 2.0
"""A probe that is not refused by then was let in; twice what the slowest refusal of a probe took, where that is more."""
CYCLE_S, RUN_S = 10.0, 3.0
"""Shorter cycles, and such as were blocked but for so long, measure nothing: that collapses the estimate."""
UP, DOWN = 1.5, 0.5
"""The most that one measurement changes the one before."""
FEW, DOUBLE_S, APPEAL_DOUBLE_S = 10, 10.0, 3.0
"""Fewer calls than that let in before the first refusal measure nothing (a window full of an earlier run's calls): the
rate is then searched for, twice as much every so many seconds. The last: on appeal."""
LARGE, PROOF = 0.02, 0.95
"""An amount of so much of a window is not sent where the window has never held more, if it has held nearly what the
estimate says: a small one would be let in, so its refusal would say nothing of the rate."""
LOW, STRAY_CALLS = 0.5, 20
"""A refusal by so much of the way back to the estimate, after so many calls were let in, is none of a limit's, if no call
sent beside it is refused, nor the probe after it. Buckets that are far from full refuse again sooner."""
RUN_OF_SHARE = 0.4
"""Where so large a share is refused that the calls between are fewer: so much of their mean."""
BEYOND = 2.0
"""An estimate that is passed so far, with no more refusals than before, is no limit's."""
DISPROVED = 2.2
"""A window that was refused holds at most twice what it held then: fixed ones and buckets twice, sliding ones as much."""


class Learner:
    """The rate of one limit, as refusals show it."""

    __slots__ = (
        "_appeal",
        "_back_s",
        "_background",
        "_below",
        "_calm_from_s",
        "_calm_until_s",
        "_crowded",
        "_double_s",
        "_first_s",
        "_forgotten",
        "_guard",
        "_let_in",
        "_pace",
        "_pacer",
        "_probe_amount",
        "_probe_s",
        "_refused_s",
        "_resume_s",
        "_return_s",
        "_rise_s",
        "_room_s",
        "_run",
        "_searching",
        "_silence_s",
        "_since_s",
        "_stray",
        "_strays",
        "_strays_due",
        "_sure",
        "_unused_s",
        "blocked",
        "estimate",
        "generation",
        "heard",
        "mean",
    )

    def __init__(self, guard: Guard, pacer: Pacer) -> None:
        self._guard, self._pacer = guard, pacer
        self.estimate: float | None = None
        self.generation = 0
        self.blocked = False
        self.heard = False
        """Whether there is anything to hold back for: a refusal, or what an earlier run found."""
        self.mean = 1.0
        """Charge of a call, of late."""
        self._sure = False  # whether the estimate was ever measured over a whole cycle
        self._searching = False
        self._below = 0
        self._since_s = math.nan  # when the cycle began
        self._unused_s = 0.0
        self._let_in = 0.0
        self._pace = 0.0  # when the cycle's run ended
        self._return_s = RETURN_S
        self._rise_s = RISE_S
        self._first_s = math.nan  # from when growth counts
        self._refused_s = self._resume_s = -math.inf
        self._back_s = PROBE_S
        self._room_s = math.inf
        self._silence_s = SILENCE_S
        self._probe_s = math.nan
        self._probe_amount = 0.0
        self._calm_from_s = self._calm_until_s = -math.inf
        self._background = Background()
        self._run = 0  # calls since the last refusal
        self._stray = False  # whether the refusal that is examined may be none of a limit's
        self._strays, self._strays_due = 0, 1  # since the last appeal, and for the next
        self._appeal = False  # whether the estimate is passed to see whether that changes anything
        self._double_s = DOUBLE_S
        self._forgotten = 0.0  # the estimate that was given up last
        self._crowded = 0.0  # the most let in within a window where it was refused

    def start(self, per_s: float) -> None:
        """What an earlier run found: taken for true until a refusal, and passed sooner if none comes."""
        self.estimate, self.heard, self._sure = per_s, True, True

    def rate(self, now_s: float) -> float:
        """Charge a second to be sent at; infinity before anything is known."""
        estimate = self.estimate
        if estimate is None:
            return math.inf
        if self._calm_from_s > -math.inf:
            now_s = self._growing_s(now_s)
        if self._searching:
            return estimate * math.exp2(min(30.0, max(0.0, now_s - self._first_s) / self._double_s))
        seconds = now_s - self._first_s - self._return_s
        if seconds < 0:
            return estimate * (1.0 + (1.0 - BELOW ** (1 + self._below)) * (seconds / self._return_s) ** 3)
        return estimate * (1.0 + (1.0 - BELOW) * (seconds / self._rise_s) ** 3) if seconds > 0 else estimate

    def room_at(self, now_s: float, amount: float) -> float:
        """No more in a window than the most that was let in, until growth passes it: exact where windows slide."""
        estimate = self.estimate
        if estimate is None or self.blocked:
            return now_s
        by_rate = estimate * self._guard.window_s
        if amount < LARGE * by_rate or (best := self._guard.best(now_s)) < PROOF * by_rate:
            return now_s
        ceiling = best * max(1.0, self.rate(now_s) / estimate)
        return self._guard.accepted_at(now_s, amount, max(ceiling, amount))

    def held_until(self, now_s: float) -> float:
        """Until when a block lets nothing through; the past where one probe may go, or all."""
        if not self.blocked:
            return self._resume_s
        probe_s = self._probe_s
        if math.isnan(probe_s):  # none is out
            return self._resume_s
        if now_s >= probe_s + self._silence_s:
            self._recovered(probe_s + self._silence_s)
            return self._resume_s
        return max(self._resume_s, probe_s + self._silence_s)

    def sent(self, now_s: float, amount: float) -> bool:
        """Whether this is a probe."""
        if self.blocked:
            self._probe_s, self._probe_amount = now_s, amount
            return True
        self.mean += 0.05 * (amount - self.mean)
        self._let_in += amount
        self._run += 1
        self._background.let_in()
        if self._is_low(now_s):
            self._background.at_low_pace()
        if math.isnan(self._since_s):
            self.mean = amount
            self._since_s = self._first_s = now_s
            if self.estimate is not None:
                self._rise_s, self._first_s = RISE_FAST_S, now_s - self._return_s
        return False

    def unused(self, now_s: float, seconds: float) -> None:
        """The rate was not used for so long."""
        self._unused_s += seconds
        if self._first_s < now_s:
            self._first_s = min(now_s, self._first_s + seconds)

    def calm(self, now_s: float, seconds: float) -> None:
        """No growth for so long."""
        if now_s >= self._calm_until_s:
            self._settle_calm(now_s)
            self._calm_from_s = now_s
        self._calm_until_s = max(self._calm_until_s, now_s + seconds)

    def _growing_s(self, now_s: float) -> float:
        if now_s < self._calm_until_s:
            return max(self._calm_from_s, self._first_s)
        self._settle_calm(now_s)
        return now_s

    def _settle_calm(self, now_s: float) -> None:
        if self._calm_from_s > -math.inf:
            self._first_s += max(0.0, min(now_s, self._calm_until_s) - max(self._calm_from_s, self._first_s))
            self._calm_from_s = -math.inf

    def _is_low(self, now_s: float) -> bool:
        """Whether the pace is one that the limit was measured to allow."""
        return self.estimate is not None and not self._searching and now_s - self._first_s < LOW * self._return_s

    # What became of a call.

    def expects(self, now_s: float, *, generation: int) -> bool:
        """Whether this refusal is no more than what comes at any pace: then it is not to be learnt from."""
        if self.estimate is None or self.blocked or generation != self.generation or not self._background.explains():
            return False
        run, self._run = self._run, 0
        if run < min(STRAY_CALLS, RUN_OF_SHARE / max(1e-9, self._background.share)):
            return True
        if self._is_low(now_s):
            self._strayed(now_s)
        elif self.rate(now_s) >= BEYOND * self.estimate:
            if self._is_disproved:
                self._forget()
            elif not self._appeal:
                self._rise(now_s)
        return True

    def assume(self, now_s: float, share: float) -> None:
        """So many are refused whatever the pace: that alone is no sign of a limit, so see whether there is one."""
        self._background.assume(share)
        if self.estimate is not None:
            self._rise(now_s)

    def _strayed(self, now_s: float) -> None:
        """A refusal was none of a limit's. So the limit itself is in doubt: see what a higher pace changes, each time
        after twice as many."""
        self._background.stray()
        self._strays += 1
        if self.estimate is not None and self._strays >= self._strays_due:
            self._strays, self._strays_due = 0, 2 * self._strays_due
            self._rise(now_s)

    @property
    def _is_disproved(self) -> bool:
        """More was let in within a window than a limit that refused what it did, whatever its kind, allows."""
        return self._guard.accepted > DISPROVED * self._crowded

    def _rise(self, now_s: float) -> None:
        self._first_s = now_s
        self._searching, self._appeal, self._double_s = True, True, APPEAL_DOUBLE_S

    def _forget(self) -> None:
        """What was found was no limit; if one is found soon again, it is no lower."""
        self._forgotten = self.estimate or 0.0
        self.estimate, self.heard, self._sure, self._searching, self._below = None, False, False, False, 0
        self._appeal, self._double_s, self._strays, self._strays_due = False, DOUBLE_S, 0, 1
        self._since_s, self._unused_s, self._let_in, self._crowded = math.nan, 0.0, 0.0, 0.0
        self._pacer.due_s = -math.inf

    def unsent(self, sent_s: float) -> None:
        """A probe was not made after all: another takes its place."""
        if self.blocked and self._probe_s == sent_s:
            self._probe_s = math.nan

    def uncount(self, sent_s: float, amount: float) -> None:
        """What was sent then was not let in, or less than was thought."""
        if sent_s >= self._since_s:
            self._let_in -= amount

    def ok(self, now_s: float, sent_s: float) -> None:
        """A probe was answered."""
        if self.blocked and self._probe_s == sent_s:
            self._recovered(now_s)

    def refused(
        self, now_s: float, amount: float, *, generation: int, sent_s: float, probe: bool, retry_after_s: float | None
    ) -> bool:
        """True when it opened an episode. A hint is a floor for whatever is sent next, from whichever refusal it came."""
        self.heard = True
        self._stray = self._stray and not self.blocked
        if probe:
            self._silence_s = min(SILENCE_MOST_S, max(self._silence_s, 2.0 * (now_s - sent_s)))
        floor_s = now_s + (retry_after_s or 0.0)
        if self.blocked and probe and self._probe_s == sent_s:
            self._back_s = min(PROBE_MOST_S, 2.0 * self._back_s)
            self._probe_s = math.nan
            floor_s = max(floor_s, self._next_probe(now_s))
        self._resume_s = max(self._resume_s, floor_s)
        if self.blocked or generation != self.generation:
            return False
        self._stray = self._run >= STRAY_CALLS and self._is_low(now_s)
        self._crowded = max(self._crowded, self._guard.accepted)
        self._run = 0
        self._pace = self.rate(now_s) if self.estimate is not None else 0.0
        self._refused_s = now_s
        if self._appeal and self.estimate is not None:
            if self._is_disproved:
                self.estimate = max(self.estimate, self._pace / BEYOND)
            self._pace = self.estimate
        elif self._searching:
            self.estimate = self._pace
        self.generation += 1
        self.blocked, self._probe_s = True, math.nan
        self._room_s = self._guard.freed_s(now_s, amount)
        call_s = PROBE_S if self.estimate is None else self.mean / self.estimate
        self._back_s = max(PROBE_S, min(PROBE_FIRST_MOST_S, call_s))
        self._resume_s = max(self._resume_s, self._next_probe(now_s))
        return True

    def _next_probe(self, now_s: float) -> float:
        """Later and later; but once when room is certain, if the limit is a sliding window of this length."""
        at_s, room_s = now_s + self._back_s, self._room_s
        return room_s if now_s < room_s < at_s else at_s

    def _recovered(self, now_s: float) -> None:
        sent_s, amount = self._probe_s, self._probe_amount
        if self._stray and self.estimate is not None:
            self._go_on(now_s, sent_s, amount, self.estimate)
            return
        appeal, self._appeal, self._double_s = self._appeal, False, DOUBLE_S
        self._searching = self._searching and not appeal
        self._guard.expire(now_s)
        seconds = sent_s - self._since_s - self._unused_s
        if appeal and self._sure:  # it is a limit, and was known better before
            self._since_s, self._unused_s, self._let_in = sent_s, 0.0, 0.0
        elif self.estimate is None or (seconds >= CYCLE_S and self._refused_s - self._since_s >= RUN_S):
            self._measure(now_s, seconds, amount)
            if self.estimate is not None and self.estimate < self._forgotten:
                self.estimate, self._searching = self._forgotten, False
            self._forgotten = 0.0
            self._since_s, self._unused_s, self._let_in = sent_s, 0.0, 0.0
        elif not self._sure:  # a full bucket makes the first estimate far too high; a window's worth is its floor
            self.estimate = max(DOWN * self.estimate, min(self.estimate, self._guard.accepted / self._guard.window_s))
        else:
            self._below = min(2 * self._below + 1, BELOW_MOST)
        if self.estimate is not None:
            self._rise_s = RISE_S
            self._return_s = max(RETURN_S, min(RETURN_MOST_S, RETURN_CALLS * self.mean / self.estimate))
            self._pacer.due_s = sent_s + amount / self.estimate
        self._let_in += amount
        self.blocked, self._probe_s, self._back_s = False, math.nan, PROBE_S
        self._first_s = now_s

    def _go_on(self, now_s: float, sent_s: float, amount: float, estimate: float) -> None:
        """The refusal was no limit's: as before, and where the estimate rests on little, sooner up."""
        self._unused_s += sent_s - self._refused_s
        self._first_s += now_s - self._refused_s
        self._let_in += amount
        self._pacer.due_s = sent_s + amount / estimate
        self.blocked, self._probe_s, self._back_s, self._stray = False, math.nan, PROBE_S, False
        self._strayed(now_s)
        self._background.explains()

    def _measure(self, now_s: float, seconds: float, amount: float) -> None:
        window_s = self._guard.window_s
        if not seconds > 0:  # nothing is known from before: begin anew
            return
        let_in = max(self._let_in, amount)
        measured = let_in / max(seconds, 1e-3)
        if self.estimate is None and let_in < FEW * self.mean:
            self.estimate = let_in / max(1.0, self._refused_s - self._since_s)
            self._searching = True
            return
        if self.estimate is None:
            self.estimate = max(measured, self._guard.accepted / min(window_s, max(seconds, 1.0)))
            return
        if self._below == 0 and self._pace > measured:  # the approach counts too low: half way to where it ended
            measured = 0.5 * (measured + min(self._pace, 2.0 * measured))
        proven = 0.5 * self._guard.best(now_s) / window_s
        self.estimate = min(max(measured, DOWN * self.estimate, proven), UP * self.estimate)
        self._sure, self._searching = True, False
        self._below = 0
