"""What the engine asks of the outside: a task, a store, a source. Narrow on purpose."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from headrace.core.call import Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import AnswerError, HeadraceError
from headrace.core.item import Item, Outcome

RunStatus = Literal["running", "finished", "stopped", "interrupted"]


class Task(Protocol):
    """How an item becomes a request, and a reply a value."""

    @property
    def digest(self) -> Digest:
        """Identity of the task: all that can change an answer, apart from the item."""
        ...

    @property
    def reusable(self) -> bool:
        """Whether a stored answer may be served again (a user's function needs a name and a version for that)."""
        ...

    @property
    def samples(self) -> int:
        """How often each item is asked about."""
        ...

    def request(self, item: Item, sample: int = 0) -> Request:
        """Raises ItemError where this item cannot be asked about."""
        ...

    def value(self, reply: Reply) -> Any:
        """Raises AnswerError where the reply is no value of the type asked for."""
        ...

    def again(self, request: Request, reply: Reply, error: AnswerError) -> Request | None:
        """What to ask instead, once, after a reply that was no value; None where asking again would not help."""
        ...

    def agreed(self, values: Sequence[Any]) -> tuple[int, float]:
        """Of several samples the one that stands for all, and how far they agree, from 0 to 1."""
        ...

    def failed(self, value: Any) -> HeadraceError | None:
        """Why the item fails, where the value is a failure that is remembered."""
        ...

    def onward(self, item: Item, value: Any) -> Item:
        """The item as the next stage gets it."""
        ...


class Answered(msgspec.Struct, frozen=True):
    """An accepted answer; releases the claim on its digest."""

    digest: Digest
    reply: Reply


class Rejected(msgspec.Struct, frozen=True):
    """An answer that did not validate: evidence, never served; releases the claim."""

    digest: Digest
    reply: Reply
    reason: str


class Released(msgspec.Struct, frozen=True):
    """A claim given back without an answer."""

    digest: Digest


class Done(msgspec.Struct, frozen=True):
    """An item's outcome in a run."""

    run: str
    outcome: Outcome


class Figures(msgspec.Struct, frozen=True):
    """How a run goes so far: replaces what was written before. Not vital, so it may be lost with the machine's power."""

    run: str
    data: bytes


Record = Answered | Rejected | Released | Done | Figures


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the store knows it. Times are seconds since 1970."""

    id: str
    name: str
    source: str
    spec: dict[str, Any]
    """What was asked, as JSON: enough to show and to export the run, and to resume it where its source is a path."""
    status: RunStatus = "running"
    reason: str = ""
    started_at: float = 0.0
    ended_at: float | None = None
    session: int = 0
    """How often the run was started; an outcome belongs to the last session that saw its item."""
    total: int | None = None
    """Items the source had at the end of the last complete reading, and those that were made of them."""
    figures: bytes | None = None
    """How the last session that made calls went, an engine.snapshot.Snapshot as JSON: of a killed run up to 30 s before
    its end; None where none was written, and in lists of runs."""


class Counts(msgspec.Struct, frozen=True):
    ok: int = 0
    failed: int = 0
    pending: int | None = None
    """Items read or known of without an outcome; None where the source was not read to its end."""
    calls: int = 0
    """Of this run; what came from the store cost it no call and no token."""
    input_tokens: int = 0
    output_tokens: int = 0
    dropped: int = 0
    """Taken out of the pipeline although nothing failed; no part of the results."""
    usd: float | None = None
    """What its calls cost, as far as that is known; None where it is of none."""


Decide = Callable[[str, Mapping[str, bytes]], bytes]
"""From this holder's name and the leases of the other live holders by theirs, this holder's lease. Quick and pure: it
runs inside a transaction, maybe in another thread."""


class Leases(Protocol):
    """What processes tell each other of an endpoint's limits. Endpoints are names without secrets.

    A holder is one open store; its leases end with it, also where its process is killed. Whatever goes wrong here
    raises StoreError, and leaves the rest of the store in order.
    """

    async def lease(self, endpoint: str, decide: Decide) -> bytes:
        """Read what all live holders have, decide, and write this holder's lease, in one step; returns it."""
        ...

    async def unlease(self, endpoint: str) -> None:
        """Give this holder's lease back."""
        ...

    async def remembered(self, endpoint: str, *, since: float = 0.0) -> bytes | None:
        """What was last remembered of this endpoint, if that is not older than `since` (seconds since 1970)."""
        ...

    def remember(self, endpoint: str, data: bytes) -> None:
        """Keep this for later runs; not waited for."""
        ...


class Drawn(msgspec.Struct, frozen=True):
    """Where a budget stands after a draw, in billionths of a dollar."""

    limit: int
    spent: int
    """By all purses, as far as they have told; what a purse held that died counts as spent."""
    taken: int
    """By this purse since it was opened: what it has spent, and what it holds."""
    others: int
    """What other live purses hold."""


class Budgets(Protocol):
    """What runs on one store have taken out of budgets, so that all of them together never spend more.

    A purse is one run's part, and lives as long as the store that opened it is open. Amounts are whole billionths of a
    dollar. Whatever goes wrong here raises StoreError.
    """

    async def draw(self, budget: str, purse: str, *, spent: int, hold: int, limit: int | None = None) -> Drawn:
        """This purse has spent so much since it was opened, and wants to hold so much beyond that: more or less than
        before. It gets as much as the limit leaves; durable before this returns. `limit` opens the purse, and is the
        budget's from now on."""
        ...

    async def budget(self, budget: str) -> Drawn | None:
        """Where it stands, for who only looks; None where nothing was ever drawn."""
        ...


class Store(Leases, Budgets, Protocol):
    """Durable memory. Batch first: every verb of items takes many."""

    async def find(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply]:
        """The accepted answers there are, none older than `since` (seconds since 1970); no lock, no claim."""
        ...

    async def claim(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply | None]:
        """Claim these for this process, in one step with a look for answers.

        A digest absent from the result is ours now; one with a reply was answered meanwhile; one with None is
        claimed by another live process.
        """
        ...

    async def commit(self, records: Sequence[Record]) -> None:
        """Returns once all of them are durable, and all that was posted or committed before."""
        ...

    def post(self, records: Sequence[Record]) -> None:
        """Commit these before whatever is committed or claimed next, without waiting for it."""
        ...

    async def open_run(self, info: RunInfo) -> RunInfo:
        """Take this run for this process and start its next session; raises RunIsLive."""
        ...

    async def close_run(self, info: RunInfo) -> None:
        """Write how the session ended and give the run free."""
        ...

    async def outcomes(self, run: str, keys: Sequence[str]) -> dict[str, tuple[int, Outcome]]:
        """Session and outcome of these keys, whichever session they are from."""
        ...

    async def close(self) -> None: ...


class History(Protocol):
    """What the store remembers of runs, for whoever reads it from outside. Works while a run writes."""

    def runs(self) -> list[RunInfo]:
        """All runs, the last started first; without their figures, which may be large."""
        ...

    def run(self, run: str) -> RunInfo | None:
        """The run of this id with its figures."""
        ...

    def counts(self, run: str) -> Counts: ...

    def scan(self, run: str, *, failed_only: bool = False, dropped: bool = False) -> Iterator[Outcome]:
        """The run's outcomes in the order of its source, in bounded memory: without those that were dropped, or those
        alone."""
        ...


class Source(Protocol):
    """Items, in batches as they come. Iterating twice reads twice."""

    @property
    def name(self) -> str:
        """What identifies it across runs; empty for what cannot be read again."""
        ...

    @property
    def arrow_schema(self) -> bytes | None:
        """The columns' types as a serialized Arrow schema, where the source has typed columns."""
        ...

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Column names, where they are known before reading."""
        ...

    @property
    def total(self) -> int | None: ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of how it was read: sentences, each to be told once."""
        ...

    def __aiter__(self) -> AsyncIterator[list[Item]]: ...
