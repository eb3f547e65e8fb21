"""When a run that has never succeeded is given up. Enters calls as they begin and end, leaves yes or no."""


class FirstSuccess:
    """Nothing but failures for `patience_s` before a first success means a systemic fault: a wrong address, a server
    that is down, a request that this model never accepts. After a first success it has no more to say.

    Calls that began before the first failure may still succeed, so the verdict waits for them. Where earlier answers
    came from the store, a request of this kind has worked once: then only failures of the endpoint itself count.
    """

    def __init__(self, patience_s: float = 30.0) -> None:
        self.patience_s = patience_s
        self._failing_since_s: float | None = None
        self._succeeded = False
        self._served = False
        self._in_flight = 0
        self._begun_before = 0

    def began(self) -> None:
        self._in_flight += 1

    def ended(self, start_s: float) -> None:
        """A call that began at `start_s` is over, however."""
        self._in_flight -= 1
        if self._failing_since_s is not None and start_s <= self._failing_since_s and self._begun_before:
            self._begun_before -= 1

    def success(self) -> None:
        self._succeeded = True

    def served(self) -> None:
        """An answer came from the store."""
        self._served = True

    def failure(self, now_s: float, *, of_endpoint: bool) -> bool:
        """True where this failure is the one too many."""
        if self._succeeded or (self._served and not of_endpoint):
            return False
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            self._begun_before = self._in_flight
        return now_s - self._failing_since_s >= self.patience_s and not self._begun_before
