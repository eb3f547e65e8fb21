"""Whether an endpoint that fails is asked at all. Enters how calls ended, leaves when the next one may go.

Rules of this file:

1. Closed, every call may go. It opens on 10 failures in a row, or when half of 20 or more outcomes of the last 30 s
   are failures.
2. Open, no call goes for a pause of 1 s, then 2, then 3, counted from the moment the failed probe was sent: probes of an
   endpoint that takes seconds to fail are no further apart than of one that fails at once.
3. Then it is half-open: one probe goes. Each that is answered doubles the places, 1, 2, 4; the third in a row closes it.
   One that fails opens it again.
4. A probe that is silent for `probe_s` counts as failed: its place goes to another, which is the only one again. Should
   it be answered after all, that counts as any answer, and later probes are given twice that time.
5. Only calls sent since it last opened or closed count: the outcomes of older ones tell of an older state.
6. Refusals and cancelled calls count neither way. A probe that ends so gives its place back.

A provider is back at full rate within 10 s of the end of an outage, where calls take up to 2 s: at most 3 s until the
next probe, two rounds of 2 s, and 2 s until what was then let in is answered. So the pause ends at 3 s, where others
wait for minutes: one call in three seconds burdens no provider. Half of 20 calls are Hystrix's defaults; that a half-open
breaker must not trust its probes to end is to be learnt from resilience4j (issue 903).
"""

import math
from collections import deque
from enum import Enum

FAILURES_IN_A_ROW = 10
SHARE = 0.5
LEAST_OUTCOMES = 20
WINDOW_S = 30.0
PAUSES_S = (1.0, 2.0, 3.0)
PLACES_CLOSED = 8
"""So many places for probes, and it needs to count them no longer."""
PROBE_S = 3.0


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Sign(Enum):
    """What moves a breaker from one state to another."""

    FAILING = "too many calls failed"
    PROBED = "a probe was sent"
    FAILED = "a probe failed"
    ANSWERED = "a probe was answered"
    WELL = "enough probes in a row were answered"


NEXT = {
    (State.CLOSED, Sign.FAILING): State.OPEN,
    (State.OPEN, Sign.PROBED): State.HALF_OPEN,
    (State.OPEN, Sign.ANSWERED): State.HALF_OPEN,  # one that had been silent for too long
    (State.OPEN, Sign.WELL): State.CLOSED,
    (State.HALF_OPEN, Sign.FAILED): State.OPEN,
    (State.HALF_OPEN, Sign.WELL): State.CLOSED,
}
"""A sign that is not here changes nothing."""


class Breaker:
    """One for each endpoint. Who asks `earliest` and sends a call tells `sent`, and with the number that it gives, how
    the call ended: `ok`, `failed` or `ignore`, once."""

    def __init__(self, *, probe_s: float = PROBE_S) -> None:
        self.probe_s = probe_s
        """How long a probe may be silent, as long as nothing shows that calls take longer."""
        self.opened_at_s: float | None = None
        """Since when it has not been closed."""
        self._state = State.CLOSED
        self._number = 0
        """The last number given. All calls sent while it is closed have the same, each probe has its own."""
        self._in_a_row = 0
        self._seconds: deque[list[float]] = deque(maxlen=math.ceil(WINDOW_S))
        """[since, outcomes, failures] of each second in which calls ended."""
        self._failed_probes = 0
        self._until_s = -math.inf
        self._patience_s = probe_s
        self._places = 1
        self._probes: dict[int, float] = {}
        """When each was sent, the oldest first."""
        self._silent: dict[int, float] = {}
        """Probes that were given up and have not ended."""

    @property
    def is_closed(self) -> bool:
        return self._state is State.CLOSED

    @property
    def state(self) -> str:
        """For people."""
        return self._state.value

    def earliest(self, now_s: float) -> float:  # noqa: ARG002 - of one shape with all that the gate asks
        """When a call may go, as far as is known: where all probes are out, when the first will have been silent for
        too long; infinity where `probe_s` is."""
        if self._state is State.CLOSED:
            return -math.inf
        if len(self._probes) < self._places:
            return self._until_s
        return max(self._until_s, next(iter(self._probes.values())) + self._patience_s)

    def sent(self, now_s: float) -> int:
        """A call goes; the number to tell its end with."""
        if self._state is State.CLOSED:
            return self._number
        self._give_up(now_s)
        self._move(Sign.PROBED)
        self._number += 1
        self._probes[self._number] = now_s
        return self._number

    def ok(self, now_s: float, generation: int) -> None:
        if self._state is State.CLOSED:
            if generation == self._number:
                self._in_a_row = 0
                self._second(now_s)[1] += 1
            return
        if self._probes.pop(generation, None) is None:
            sent_s = self._silent.pop(generation, None)
            if sent_s is None:
                return
            self._patience_s = max(self._patience_s, 2 * (now_s - sent_s))
        self._answered()

    def failed(self, now_s: float, generation: int) -> None:
        if self._state is not State.CLOSED:
            sent_s = self._probes.get(generation)
            self._silent.pop(generation, None)
            if sent_s is not None:
                self._pause(sent_s)
                self._move(Sign.FAILED)
        elif generation == self._number:
            self._in_a_row += 1
            second = self._second(now_s)
            second[1] += 1
            second[2] += 1
            if self._in_a_row >= FAILURES_IN_A_ROW or self._half_failed(now_s):
                self._open(now_s)

    def ignore(self, now_s: float, generation: int) -> None:  # noqa: ARG002 - as above
        """It ended in a way that tells nothing about the endpoint."""
        self._probes.pop(generation, None)
        self._silent.pop(generation, None)

    def _second(self, now_s: float) -> list[float]:
        seconds = self._seconds
        if not seconds or now_s - seconds[-1][0] >= 1:
            seconds.append([now_s, 0, 0])
        return seconds[-1]

    def _half_failed(self, now_s: float) -> bool:
        recent = [second for second in self._seconds if now_s - second[0] < WINDOW_S]
        outcomes = sum(second[1] for second in recent)
        return outcomes >= LEAST_OUTCOMES and sum(second[2] for second in recent) >= SHARE * outcomes

    def _open(self, now_s: float) -> None:
        self._move(Sign.FAILING)
        self.opened_at_s = now_s
        self._failed_probes = 0
        self._patience_s = self.probe_s
        self._pause(now_s)

    def _pause(self, since_s: float) -> None:
        """Back to one probe, and that after a pause."""
        self._until_s = since_s + PAUSES_S[min(self._failed_probes, len(PAUSES_S) - 1)]
        self._failed_probes += 1
        self._places = 1
        self._probes.clear()

    def _give_up(self, now_s: float) -> None:
        """Wait no longer for probes that are silent for too long."""
        for number, sent_s in list(self._probes.items()):
            if sent_s + self._patience_s <= now_s:
                self._silent[number] = self._probes.pop(number)
                self._places = 1

    def _answered(self) -> None:
        self._places *= 2
        self._failed_probes = 0
        self._until_s = -math.inf
        if self._places < PLACES_CLOSED:
            self._move(Sign.ANSWERED)
            return
        self._move(Sign.WELL)
        self.opened_at_s = None
        self._number += 1
        self._in_a_row = 0
        self._places = 1
        self._seconds.clear()
        self._probes.clear()
        self._silent.clear()

    def _move(self, sign: Sign) -> None:
        self._state = NEXT.get((self._state, sign), self._state)

    def __repr__(self) -> str:
        if self.opened_at_s is None:
            return f"<Breaker {self.state}>"
        return (
            f"<Breaker {self.state} since {self.opened_at_s:.1f} s, {len(self._probes)}/{self._places} probes out, "
            f"next at {self._until_s:.1f} s>"
        )
