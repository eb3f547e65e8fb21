"""The store's twin in memory: the same verbs and meanings without threads or files, for virtual time and rehearsals.

A `Memory` is what survives; a `MemoryStore` is one process's use of it, which can `crash`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import msgspec

from headrace.core.call import Reply
from headrace.core.digest import Digest
from headrace.core.errors import RunIsLive
from headrace.core.item import Outcome
from headrace.core.ports import Answered, Counts, Decide, Done, Drawn, Figures, Record, Rejected, RunInfo
from headrace.store import purses, tables
from headrace.store.discreet import is_discreet, quiet_figures, quiet_outcome, quiet_rejection, quiet_run


class Memory:
    """What several stores share, as processes share a file."""

    def __init__(self) -> None:
        self.answers: dict[Digest, tuple[float, Reply]] = {}
        self.evidence: list[tuple[Digest, Reply, str]] = []
        self.claims: dict[Digest, int] = {}
        self.runs: dict[str, RunInfo] = {}
        self.owners: dict[str, int] = {}
        self.outcomes: dict[str, dict[str, tuple[int, Outcome]]] = {}
        self.leases: dict[str, dict[int, bytes]] = {}
        self.endpoints: dict[str, tuple[float, bytes]] = {}
        self.budgets: dict[str, purses.Budget] = {}
        self.alive: set[int] = set()
        self._numbers = count(1)

    def new_owner(self) -> int:
        owner = next(self._numbers)
        self.alive.add(owner)
        return owner


class MemoryStore:
    """`commit_s` is how long a commit takes, as the writer's group does."""

    def __init__(self, memory: Memory | None = None, *, commit_s: float = 0.0) -> None:
        self.memory = memory or Memory()
        self._owner = self.memory.new_owner()
        self._commit_s = commit_s
        self._jobs: list[tuple[Callable[[], None], asyncio.Future[None] | None]] = []

    async def find(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply]:
        return self._answers(digests, since)

    async def claim(self, digests: Sequence[Digest], *, since: float = 0.0) -> dict[Digest, Reply | None]:
        claimed: dict[Digest, Reply | None] = {}
        await self._transaction(lambda: claimed.update(self._claimed(digests, since)))
        return claimed

    async def commit(self, records: Sequence[Record]) -> None:
        kept = [_through_json(record) for record in records]
        await self._transaction(lambda: self._apply(kept))

    def post(self, records: Sequence[Record]) -> None:
        kept = [_through_json(record) for record in records]
        self._ask(lambda: self._apply(kept))

    async def outcomes(self, run: str, keys: Sequence[str]) -> dict[str, tuple[int, Outcome]]:
        known = self.memory.outcomes[run]
        return {key: known[key] for key in keys if key in known}

    async def open_run(self, info: RunInfo) -> RunInfo:
        memory = self.memory
        info = quiet_run(info) if is_discreet(info) else info
        if memory.owners.get(info.id) in memory.alive:
            raise RunIsLive(f"The run {info.name!r} is going on in another process.", hint="Wait for it or end it.")
        before = memory.runs.get(info.id)
        opened = msgspec.structs.replace(info, status="running", session=before.session + 1 if before else 1)
        known = msgspec.structs.replace(opened, figures=before.figures if before else None)
        memory.runs[info.id], memory.owners[info.id] = known, self._owner
        journal = memory.outcomes.setdefault(info.id, {})
        if is_discreet(info):
            journal.update({key: (session, quiet_outcome(info, kept)) for key, (session, kept) in journal.items()})
        return opened

    async def close_run(self, info: RunInfo) -> None:
        kept = quiet_run(info) if is_discreet(info) else info
        await self._transaction(lambda: self._close(kept))

    async def lease(self, endpoint: str, decide: Decide) -> bytes:
        written: list[bytes | Exception] = []
        await self._transaction(lambda: written.append(self._leased(endpoint, decide)))
        if isinstance(written[0], Exception):
            raise written[0]
        return written[0]

    async def unlease(self, endpoint: str) -> None:
        await self._transaction(lambda: self._unlease(endpoint))

    async def remembered(self, endpoint: str, *, since: float = 0.0) -> bytes | None:
        at, data = self.memory.endpoints.get(endpoint, (0.0, None))
        return data if at >= since else None

    def remember(self, endpoint: str, data: bytes) -> None:
        at = time.time()
        self._ask(lambda: self.memory.endpoints.update({endpoint: (at, data)}))

    async def draw(self, budget: str, purse: str, *, spent: int, hold: int, limit: int | None = None) -> Drawn:
        told: list[Drawn] = []
        await self._transaction(lambda: told.append(self._drawn(purses.Draw(budget, purse, spent, hold, limit))))
        return told[0]

    async def budget(self, budget: str) -> Drawn | None:
        found = self.memory.budgets.get(budget)
        return None if found is None else purses.stands(found)

    def runs(self) -> list[RunInfo]:
        found = sorted(self.memory.runs.values(), key=lambda info: -info.started_at)
        return [msgspec.structs.replace(info, figures=None) for info in found]

    def run(self, run: str) -> RunInfo | None:
        return self.memory.runs.get(run)

    def counts(self, run: str) -> Counts:
        outcomes = [outcome for _, outcome in self.memory.outcomes.get(run, {}).values()]
        known = [outcome.usd for outcome in outcomes if outcome.usd is not None and not outcome.cached]
        row = (
            len(outcomes), sum(outcome.ok for outcome in outcomes), sum(outcome.attempts for outcome in outcomes),
            sum(outcome.input_tokens or 0 for outcome in outcomes if not outcome.cached),
            sum(outcome.output_tokens or 0 for outcome in outcomes if not outcome.cached),
            sum(bool(outcome.dropped) for outcome in outcomes), sum(known) if known else None,
        )  # fmt: skip
        return tables.counts_of(row, self.memory.runs[run].total if run in self.memory.runs else None)

    def scan(self, run: str, *, failed_only: bool = False, dropped: bool = False) -> Iterator[Outcome]:
        known = self.memory.outcomes.get(run, {}).values()
        outcomes = [
            outcome for _, outcome in known if bool(outcome.dropped) is dropped and not (failed_only and outcome.ok)
        ]
        yield from sorted(outcomes, key=lambda outcome: (outcome.position, outcome.key))

    async def close(self) -> None:
        if self._owner in self.memory.alive:
            self._flush()  # what was posted
            budgets = self.memory.budgets
            for name, budget in budgets.items():
                budgets[name] = purses.closed(budget, lambda _, owner: owner != str(self._owner))
        self.crash()

    def crash(self) -> None:
        """End as `kill -9` does: claims and runs stay behind, held by nobody alive."""
        self.memory.alive.discard(self._owner)

    def _answers(self, digests: Sequence[Digest], since: float) -> dict[Digest, Reply]:
        known = ((digest, self.memory.answers.get(digest)) for digest in digests)
        return {
            digest: msgspec.structs.replace(entry[1], attempts=0, value=None)
            for digest, entry in known
            if entry is not None and entry[0] >= since
        }

    def _claimed(self, digests: Sequence[Digest], since: float) -> dict[Digest, Reply | None]:
        memory = self.memory
        claimed: dict[Digest, Reply | None] = dict(self._answers(digests, since))
        for digest in digests:
            if digest in claimed:
                continue
            holder = memory.claims.get(digest)
            if holder is None or holder == self._owner or holder not in memory.alive:
                memory.claims[digest] = self._owner
            else:
                claimed[digest] = None
        return claimed

    def _apply(self, records: Sequence[Record]) -> None:
        memory = self.memory
        for record in records:
            if isinstance(record, Done):
                self._settle(record.run, record.outcome)
                continue
            if isinstance(record, Figures):
                known = memory.runs[record.run]
                data = quiet_figures(record.data) if is_discreet(known) else record.data
                memory.runs[record.run] = msgspec.structs.replace(known, figures=data)
                continue
            if isinstance(record, Answered):
                memory.answers[record.digest] = (time.time(), record.reply)
            elif isinstance(record, Rejected):
                discreet = any(map(is_discreet, memory.runs.values()))
                reason = quiet_rejection(record.reason) if discreet else record.reason
                memory.evidence.append((record.digest, record.reply, reason))
                memory.answers.pop(record.digest, None)
            if memory.claims.get(record.digest) == self._owner:
                del memory.claims[record.digest]

    def _leased(self, endpoint: str, decide: Decide) -> bytes | Exception:
        memory = self.memory
        alive = {holder: lease for holder, lease in memory.leases.get(endpoint, {}).items() if holder in memory.alive}
        rows = {str(holder): lease for holder, lease in alive.items() if holder != self._owner}
        try:
            lease = decide(str(self._owner), rows)
        except Exception as error:  # noqa: BLE001 - its caller's alone, as in the file
            return error
        memory.leases[endpoint] = {**alive, self._owner: lease}
        return lease

    def _drawn(self, asked: purses.Draw) -> Drawn:
        memory = self.memory
        known = memory.budgets.get(asked.budget)
        after, drawn = purses.drawn(known, asked, str(self._owner), lambda owner: int(owner) in memory.alive)
        memory.budgets[asked.budget] = after
        return drawn

    def _unlease(self, endpoint: str) -> None:
        self.memory.leases.get(endpoint, {}).pop(self._owner, None)

    def _close(self, info: RunInfo) -> None:
        memory = self.memory
        before = memory.runs[info.id]
        session = before.session
        memory.runs[info.id] = msgspec.structs.replace(info, session=session, figures=info.figures or before.figures)
        del memory.owners[info.id]
        if info.status == "finished":
            known = memory.outcomes[info.id]
            memory.outcomes[info.id] = {key: entry for key, entry in known.items() if entry[0] == session}

    def _settle(self, run: str, outcome: Outcome) -> None:
        info = self.memory.runs[run]
        session = info.session
        if is_discreet(info):
            outcome = quiet_outcome(info, outcome)
        before = self.memory.outcomes[run].get(outcome.key)
        if before is not None and outcome.cached and before[1].ok and bool(before[1].dropped) is bool(outcome.dropped):
            outcome = msgspec.structs.replace(before[1], position=outcome.position, item=outcome.item)
        self.memory.outcomes[run][outcome.key] = (session, outcome)

    async def _transaction(self, work: Callable[[], None]) -> None:
        done = asyncio.get_running_loop().create_future()
        self._ask(work, done)
        await done

    def _ask(self, work: Callable[[], None], done: asyncio.Future[None] | None = None) -> None:
        if not self._jobs:
            asyncio.get_running_loop().call_later(self._commit_s, self._flush)
        self._jobs.append((work, done))

    def _flush(self) -> None:
        jobs, self._jobs = self._jobs, []
        if self._owner not in self.memory.alive:
            return  # a dead process commits nothing and hears nothing
        for work, done in jobs:
            work()
            if done is not None and not done.done():
                done.set_result(None)


def _through_json(record: Record) -> Record:
    """What comes back is what JSON keeps, as from the file."""
    if isinstance(record, Done):
        return Done(record.run, tables.outcome_of(tables.outcome_row(record.outcome)))
    return record
