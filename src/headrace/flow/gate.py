"""Whether a call may start now. Rules of this file:

1. `ask` and `settle` are synchronous and total: every ask gets one of three answers, every ticket is settled once.
2. Nothing here waits, reads a clock or knows what a call is; whoever asks performs the answer.
3. All limits are decided together, so no permit is held while another is awaited. Lowering never pre-empts.
"""

import math

import msgspec


class Ticket(msgspec.Struct, frozen=True):
    """The right to make one call, to be settled when the call is off the wire."""

    number: int
    at_s: float


class NotBefore(msgspec.Struct, frozen=True):
    """No call may start before `at_s`; infinity means until a ticket is settled."""

    at_s: float


class Refused(msgspec.Struct, frozen=True):
    """No call will start any more."""

    reason: str


class Gate:
    """The limits of one account at one endpoint: calls in flight, a pause the provider asked for, an end."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.held_until_s = -math.inf
        self.held_for = ""
        self.closed_for = ""
        self._issued = 0
        self._open: set[int] = set()

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def ask(self, now_s: float) -> Ticket | NotBefore | Refused:
        if self.closed_for:
            return Refused(self.closed_for)
        if now_s < self.held_until_s:
            return NotBefore(self.held_until_s)
        if len(self._open) >= self.concurrency:
            return NotBefore(math.inf)
        self._issued += 1
        self._open.add(self._issued)
        return Ticket(self._issued, now_s)

    def settle(self, ticket: Ticket) -> None:
        """The call is off the wire. Raises KeyError for a ticket that was settled before."""
        self._open.remove(ticket.number)

    def hold(self, until_s: float, reason: str) -> bool:
        """Start no call before `until_s`; never shortens a pause. True where it lengthened one."""
        if until_s <= self.held_until_s:
            return False
        self.held_until_s, self.held_for = until_s, reason
        return True

    def close(self, reason: str) -> None:
        """Start no call any more; those in flight go on."""
        self.closed_for = self.closed_for or reason

    def __repr__(self) -> str:
        state = f"closed: {self.closed_for}" if self.closed_for else "open"
        return f"<Gate {self.in_flight}/{self.concurrency} in flight, {state}>"
