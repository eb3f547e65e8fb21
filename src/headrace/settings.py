"""How a run goes about its work: a few frozen values with defaults for who sets nothing."""

import math
from pathlib import Path
from typing import Literal, get_args

import msgspec

from headrace.core.errors import UsageError
from headrace.core.limits import Unit
from headrace.core.outline import outline
from headrace.flow.queue import LEAST_WEIGHT, MOST_WEIGHT, Priority
from headrace.flow.retry import Retry

MOST_IN_FLIGHT = 10_000
_LEAST_USD, _MOST_USD = 1e-6, 1e9
DEFAULT_STORE = Path(".headrace") / "store.db"


def _is_number(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool)


def _above_zero(number: float | None, message: str, hint: str) -> None:
    if number is not None and not (_is_number(number) and 0 < number < math.inf):
        raise UsageError(message.format(_said(number)), hint=hint)


def _share(number: float | None, message: str, hint: str, most: float) -> None:
    if number is not None and not (_is_number(number) and 0 <= number <= most):
        raise UsageError(message.format(_said(number)), hint=hint)


def _said(number: object) -> str:
    return f"{number:g}" if isinstance(number, int | float) and not isinstance(number, bool) else repr(number)


class Limits(msgspec.Struct, frozen=True):
    """What the provider allows, where you know it; what you leave out is found and held by itself.

    They belong to the account at the endpoint: runs that share it share them, and the strictest statement holds.
    """

    concurrency: int | Literal["auto"] = "auto"
    """Calls in flight at once. A stated number applies from the first call and is never passed."""
    rpm: float | None = None
    """Requests per minute."""
    tpm: float | None = None
    """Tokens per minute, as the provider counts them."""

    def __post_init__(self) -> None:
        wrong = isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int | str)
        if wrong or (isinstance(self.concurrency, str) and self.concurrency != "auto"):
            raise UsageError(f"A concurrency of {self.concurrency!r} cannot work.", hint="Give a number, or auto.")
        if isinstance(self.concurrency, int) and not 1 <= self.concurrency <= MOST_IN_FLIGHT:
            raise UsageError(
                f"A concurrency of {self.concurrency} cannot work.", hint=f"Give a number from 1 to {MOST_IN_FLIGHT}."
            )
        for limit, unit in ((self.rpm, "requests"), (self.tpm, "tokens")):
            if limit is not None and not (_is_number(limit) and 1 <= limit < math.inf):
                raise UsageError(
                    f"A limit of {_said(limit)} {unit} per minute lets no call through.",
                    hint="Give a number from 1 up.",
                )

    def __repr__(self) -> str:
        return outline(self)

    @property
    def stated(self) -> dict[Unit, float]:
        """Only what is stated: calls in flight, requests and tokens per minute."""
        each = {Unit.REQUESTS: self.rpm, Unit.TOKENS: self.tpm}
        stated = {unit: float(limit) for unit, limit in each.items() if limit is not None}
        return stated if self.concurrency == "auto" else {Unit.CONCURRENCY: self.concurrency, **stated}


class Budget(msgspec.Struct, frozen=True):
    """The most dollars that may be spent on calls to models, at worst, over all sessions of a run.

    With a `name` it is shared by all runs and processes on one store that give the same name; the limit that was given
    last holds.
    """

    usd: float
    name: str | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.usd) and _LEAST_USD <= self.usd <= _MOST_USD):
            raise UsageError(
                f"A budget of {_said(self.usd)} dollars cannot work.",
                hint="Give dollars above 0, for example 5 or 0.50.",
            )
        name: object = self.name  # a Struct does not look at what it is given
        if name is not None and not (isinstance(name, str) and name.strip()):
            raise UsageError("The budget has an empty name.", hint="Name it, or leave the name out.")

    def __repr__(self) -> str:
        return outline(self, named=False)

    def known_as(self, run: str) -> str:
        """Its name in the store: of a budget without a name that of the run."""
        return f"run {run}" if self.name is None else f"name {self.name}"


def budget_of(given: Budget | float | None, name: str | None = None) -> Budget | None:
    """From a Budget or from dollars, and its name where that stands apart."""
    if given is None and name is not None:
        raise UsageError("A budget has a name and no amount.", hint="Give its dollars too, with --budget USD.")
    return given if given is None or isinstance(given, Budget) else Budget(given, name)


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
    """Of one attempt, at most: it follows what the calls take."""
    deadline_s: float | None = None
    """Of the whole run: what is not done by then stays pending."""
    backup: float = 0.0
    """The share of calls that may be second calls for stragglers at the end; 0.02 is 2 %."""
    budget: Budget | None = None
    """What may be spent."""
    max_failure_rate: float | None = None
    """The share of items that may fail; more of them stop the run."""
    weight: float = 1.0
    """This run's part of what it shares with others at the same endpoint."""
    priority: Priority = "normal"
    store: Path = DEFAULT_STORE
    prices: Path | None = None
    """A file of prices, which go before those that headrace knows; left out, the one that HEADRACE_PRICES names."""
    ordered: bool = False
    keep_prompts: bool = True
    """Off: of prompts and items nothing is written into the store, only keys, digests and answers."""
    fresh: bool = False
    retry_failed: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        given: tuple[object, object] = (self.limits, self.retry)  # a Struct does not look at what it is given
        if not isinstance(given[0], Limits) or not isinstance(given[1], Retry):
            raise UsageError(
                "limits= takes a Limits and retry= a Retry.", hint="Write for example limits=hr.Limits(concurrency=10)."
            )
        if self.timeout_s is None:
            raise UsageError("A timeout of None cannot work.", hint="Give a number of seconds above 0.")
        _above_zero(self.timeout_s, "A timeout of {} s cannot work.", "Give a number of seconds above 0.")
        _above_zero(self.deadline_s, "A deadline of {} s leaves no time.", "Give a number of seconds above 0.")
        if not (_is_number(self.weight) and LEAST_WEIGHT <= self.weight <= MOST_WEIGHT):
            raise UsageError(
                f"A weight of {_said(self.weight)} cannot work.",
                hint=f"Give a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}; 1 is usual.",
            )
        _share(
            self.backup,
            "{} of the calls cannot be backups.",
            "Give a share from 0 to 0.5, for example 0.02 or 2%.",
            0.5,
        )
        _share(
            self.max_failure_rate, "A failure rate of {} cannot be passed.",
            "Give a share from 0 to 1, for example 0.1 or 10%.", 1.0,
        )  # fmt: skip
        if self.priority not in get_args(Priority):
            raise UsageError(
                f"There is no priority {self.priority!r}.", hint=f"Choose from {', '.join(get_args(Priority))}."
            )
        if self.first is not None and self.first < 1:
            raise UsageError(f"The first {self.first} items are none.", hint="Give a number from 1 up.")
        if "://" in str(self.store) or str(self.store).startswith(("postgresql:", "sqlite:")):
            raise UsageError(
                f"The store {self.store} is no file.", hint="Name a file; a database server is not supported."
            )
