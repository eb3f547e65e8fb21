"""How a run goes about its work: a few frozen values with defaults for who sets nothing."""

from pathlib import Path

import msgspec

from headrace.core.errors import UsageError
from headrace.flow.retry import Retry

DEFAULT_STORE = Path(".headrace") / "store.db"


class Limits(msgspec.Struct, frozen=True):
    """What the provider allows. `concurrency` is how many calls are in flight at once; None takes the model's default."""

    concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.concurrency is not None and not 1 <= self.concurrency <= 10_000:
            raise UsageError(f"A concurrency of {self.concurrency} cannot work.", hint="Give a number from 1 to 10000.")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run may be told apart from its work and its items."""

    key: str | None = None
    """The column whose values identify the items."""
    name: str | None = None
    """Names the run, so that one over an unnamed source can be resumed."""
    first: int | None = None
    """Only so many items."""
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeout_s: float = 300.0
    """Of one attempt."""
    store: Path = DEFAULT_STORE
    ordered: bool = False
    fresh: bool = False
    retry_failed: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError(
                f"A timeout of {self.timeout_s:g} s cannot work.", hint="Give a number of seconds above 0."
            )
        if self.first is not None and self.first < 1:
            raise UsageError(f"The first {self.first} items are none.", hint="Give a number from 1 up.")
        if "://" in str(self.store) or str(self.store).startswith(("postgresql:", "sqlite:")):
            raise UsageError(
                f"The store {self.store} is no file.", hint="Name a file; a database server is not supported."
            )
