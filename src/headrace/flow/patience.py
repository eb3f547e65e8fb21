"""When a run that has never succeeded is given up. Enters calls and outcomes with their times, leaves yes or no."""


class FirstSuccess:
    """Nothing but failures for `patience_s` before a first success means a systemic fault: a wrong address, a server
    that is down, a request that this model never accepts. After a first success it has no more to say."""

    def __init__(self, patience_s: float = 30.0) -> None:
        self.patience_s = patience_s
        self._failing_since_s: float | None = None
        self._succeeded = False

    def success(self) -> None:
        self._succeeded = True

    def failure(self, now_s: float) -> bool:
        """True where this failure is the one too many."""
        if self._succeeded:
            return False
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        return now_s - self._failing_since_s >= self.patience_s
