"""One request or token limit: what is known of it, what was charged, and when the next amount may go.

Enters what the user stated, what headers tell, what was sent, refused and settled; leaves times. Knows no provider.
Rules of this file:

1. A limit that the user stated is never passed, whatever is told or learnt. What is told lowers at once and raises by a
   quarter a minute. What an earlier run found is a start, and no more.
2. `remaining` is believed one way: where it shows less than what was sent explains, the rest is someone else's. It never
   gives room. Answers come out of order: what was sent before something that was heard is not heard.
3. A day is not paced, and only held when nothing of it remains.
4. While nothing is known, nothing is held; it is counted, so that what comes to be known holds for what was sent too.
"""

import math

import msgspec

from headrace.core.limits import Told, Unit
from headrace.flow.learner import Learner
from headrace.flow.window import BURST_S, Bucket, Guard, Pacer

LONG_S = 3600.0
"""Windows longer than this are not paced."""
RAISE, RAISE_EVERY_S = 1.25, 60.0
FOREIGN = 0.02
"""What may be missing, of a limit, before it is taken for someone else's."""
HOLD_MOST_S = 75.0
LEARNT_BURST_S = 0.1
UNUSED_S = 1.0
"""For how long a rate may go unused before that holds its growth up."""


class Mark(msgspec.Struct, gc=False):
    """What one call was charged, and where."""

    bucket: Bucket
    amount: float
    at_s: float
    generation: int
    probe: bool
    counted: bool = True
    """Whether it is counted as let in."""


class Rate:
    """A limit of so much in any `window_s` seconds."""

    def __init__(self, unit: Unit, window_s: float) -> None:
        self.unit, self.window_s = unit, window_s
        self.told: Told | None = None
        self._guard = Guard(window_s)
        self._pacer = Pacer()
        self._learner = Learner(self._guard, self._pacer)
        self._long = window_s > LONG_S
        self._stated = self._heard = math.inf
        self._remembered = False
        self._raised_s = -math.inf
        self._lent = math.inf
        self._whole_until_s = -math.inf
        self._known = False
        self._heard_sent_s = -math.inf
        self._held_until_s = -math.inf
        self._foreign = 0.0
        self._foreign_until_s = -math.inf
        self._set()

    # What is known.

    def state(self, limit: float) -> None:
        self._stated = limit
        self._set()

    def remember(self, told: Told) -> None:
        if told.limit is not None and told.limit > 0:
            self._heard, self._remembered, self.told = told.limit, True, told
            self._set()

    def start(self, per_s: float) -> None:
        if per_s > 0:
            self._learner.start(per_s)

    def lend(self, now_s: float, amount: float) -> None:
        """Send no more than so much per window; the rest is another process's. Infinity: all of it is this one's.

        The pace changes at once, which is what keeps all processes together within the limit. The bound of the window
        follows a window later: what was sent at the earlier pace was this process's to send.
        """
        if self.used(now_s) > amount:
            self._whole_until_s = now_s + self._guard.span_s
        self._lent = amount
        self._set()

    @property
    def learnt(self) -> float | None:
        estimate = self._learner.estimate
        return estimate if estimate is not None and estimate * self.window_s < self.most else None

    def used(self, now_s: float) -> float:
        self._guard.expire(now_s)
        return self._guard.charged

    def allowed(self, now_s: float) -> float | None:
        """Per window: the known limit, or less where refusals show it."""
        allowed = min(self._own, self._learner.rate(now_s) * self.window_s)
        return allowed if allowed < math.inf else None

    def _set(self) -> None:
        self.most = min(self._stated, self._heard)
        """What is known of the limit, whole."""
        self._own = min(self.most, self._lent)
        self._known = self._own < math.inf
        self._guarded = self._known and (not self._long or self._stated < math.inf)
        self._cap = math.inf if self._long else max(self._own, 1e-9) / self._guard.span_s

    # Before a call.

    def fits(self, amount: float) -> bool:
        return amount <= self.most

    def earliest(self, now_s: float, amount: float) -> float:
        """When `amount` may be sent; `now_s` or less: now."""
        learner, at_s = self._learner, self._held_until_s
        burst_s = BURST_S
        if learner.heard:
            at_s = max(at_s, learner.held_until(now_s), learner.room_at(now_s, amount))
            burst_s = math.inf if learner.blocked else LEARNT_BURST_S
        if (due_s := self._pacer.due_s - burst_s) > at_s:
            at_s = due_s
        if self._guarded and (room_s := self._room_at(now_s, amount)) > at_s:
            at_s = room_s
        return at_s

    def _room_at(self, now_s: float, amount: float) -> float:
        """An amount larger than this process's share, but not than the limit, goes when the share is all free."""
        if self._own <= 0:
            return math.inf
        own = self.most if now_s < self._whole_until_s and self.most < math.inf else self._own
        limit = own if amount <= own else min(amount, self.most)
        at_s = self._guard.earliest(now_s, amount, limit)
        if self._foreign_until_s > now_s:
            less = min(limit, self.most - self._foreign)
            at_s = max(at_s, min(self._foreign_until_s, self._guard.earliest(now_s, amount, less)))
        return at_s

    def take(self, now_s: float, amount: float) -> Mark:
        """Charge `amount`: it is sent now."""
        learner = self._learner
        bucket = self._guard.add(now_s, amount)
        probe = learner.sent(now_s, amount)
        if not probe:
            rate = self._cap if learner.estimate is None else min(self._cap, learner.rate(now_s))
            if rate < math.inf:
                unused_s = self._pacer.add(now_s, amount, rate)
                if UNUSED_S < unused_s < math.inf and learner.estimate is not None:
                    learner.unused(now_s, unused_s)
        return Mark(bucket, amount, now_s, learner.generation, probe)

    def _pace(self, now_s: float) -> float:
        if self._learner.estimate is None:
            return self._cap
        return min(self._cap, self._learner.rate(now_s))

    # After a call.

    def settle(self, now_s: float, mark: Mark, reserved: float, actual: float, *, accepted: bool) -> None:
        """The truth instead of the estimate. `accepted` False: it was refused, here or by another limit, or failed."""
        if accepted:
            if mark.probe:
                self._learner.ok(now_s, mark.at_s)
        elif mark.counted:
            self._uncount(now_s, mark)
        if actual != reserved:
            self._correct(now_s, mark, actual - reserved)

    def _correct(self, now_s: float, mark: Mark, more: float) -> None:
        self._guard.settle(now_s, mark.bucket, more, accepted=mark.counted)
        if mark.probe:
            return
        if mark.counted:
            self._learner.uncount(mark.at_s, -more)
        rate = self._pace(now_s)
        if rate < math.inf:
            self._pacer.due_s += more / rate

    def _uncount(self, now_s: float, mark: Mark) -> None:
        mark.counted = False
        self._guard.refuse(now_s, mark.bucket, mark.amount)
        if not mark.probe:
            self._learner.uncount(mark.at_s, mark.amount)

    def give_back(self, now_s: float, mark: Mark, amount: float) -> None:
        """The call of `mark` was not made."""
        if mark.probe:
            self._learner.unsent(mark.at_s)
        self.settle(now_s, mark, amount, 0.0, accepted=False)

    def assume(self, now_s: float, share: float) -> None:
        """So large a share of calls is refused whatever the pace."""
        self._learner.assume(now_s, share)

    def expects(self, now_s: float, mark: Mark) -> bool:
        """Whether so few calls are refused beside that of `mark` that it is none of this limit's."""
        return self._learner.expects(now_s, generation=mark.generation)

    def throttled(self, now_s: float, mark: Mark | None, amount: float, retry_after_s: float | None) -> bool:
        """This limit refused the call of `mark`; None: one sent before this was known to be a limit."""
        learner = self._learner
        if mark is None:
            return learner.refused(
                now_s, amount, generation=0, sent_s=-math.inf, probe=False, retry_after_s=retry_after_s
            )
        if mark.counted:
            self._uncount(now_s, mark)
        return learner.refused(
            now_s, amount, generation=mark.generation, sent_s=mark.at_s, probe=mark.probe, retry_after_s=retry_after_s
        )

    def calm(self, now_s: float, seconds: float) -> None:
        """Grow no faster than now for so long: neither what is learnt nor, from headers, what is known."""
        self._learner.calm(now_s, seconds)
        self._raised_s = max(self._raised_s, now_s + seconds - RAISE_EVERY_S)

    def hear(self, now_s: float, told: Told, *, sent_s: float) -> None:
        """What the answer to a call sent then tells of this limit."""
        if sent_s < self._heard_sent_s:
            return
        self._heard_sent_s = sent_s
        if told.limit is not None and told.limit > 0:
            self._hear_limit(now_s, told.limit)
            self.told = told
        if told.remaining is not None:
            self._hear_remaining(now_s, told.remaining, told.reset_s, sent_s)

    def _hear_limit(self, now_s: float, limit: float) -> None:
        if limit > self._heard and not self._remembered:
            if now_s < self._raised_s + RAISE_EVERY_S:
                return
            self._raised_s = now_s
            limit = min(limit, RAISE * self._heard)
        elif limit == self._heard and not self._remembered:
            return
        self._heard, self._remembered = limit, False
        self._set()

    def _hear_remaining(self, now_s: float, remaining: float, reset_s: float | None, sent_s: float) -> None:
        if self._long or not self._known:
            if remaining < 1 and reset_s is not None:
                wait_s = reset_s if self._long else min(HOLD_MOST_S, reset_s)
                self._held_until_s = max(self._held_until_s, now_s + min(wait_s, max(self.window_s, HOLD_MOST_S)))
            return
        missing = self.most - remaining
        slack = max(FOREIGN * self.most, 2.0 * self._learner.mean)
        if missing - self._guard.charged <= slack:
            return
        own = self._guard.most_at(sent_s, self._guard.span_s - self.window_s)
        if own is not None and missing - own > slack:
            self._foreign = missing - own
            self._foreign_until_s = now_s + min(self.window_s if reset_s is None else reset_s, self.window_s)
