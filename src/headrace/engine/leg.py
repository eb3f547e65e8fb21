"""One stage's way to its endpoint: its lane through the governor, what may be asked twice, what it shares with other
processes. Enters what a stage calls, leaves the call that a stage makes."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.errors import AnswerError, HeadraceError
from headrace.core.event import AskedAgain, Event, SourceRead, StageEnded, StageInfo
from headrace.core.item import Item
from headrace.core.limits import Unit
from headrace.core.ports import Store, Task
from headrace.engine.backup import BackUp
from headrace.engine.cached import Cached
from headrace.engine.governed import Governed
from headrace.engine.governor import Account, Governor, Lane, governor_of
from headrace.engine.lender import Lender
from headrace.engine.reasons import Reasons
from headrace.engine.roll import Roll
from headrace.engine.stage import After, Next, Stage
from headrace.engine.warm import Warm
from headrace.engine.watch import Watch
from headrace.flow.backup import Backups
from headrace.flow.estimate import Charge, Estimator
from headrace.flow.queue import Priority
from headrace.flow.retry import Retry
from headrace.flow.timeout import CallTimeout
from headrace.task.price import Price

_READ_AHEAD = 256


class Calling(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that makes calls, as a run is given it."""

    info: StageInfo
    task: Task
    call: Call
    account: Account
    stated: Mapping[Unit, float] = {}
    """Limits that the user states: calls in flight, requests and tokens per minute."""
    charge: Charge = Charge("usage")
    timeout_s: float
    """Of one attempt, at most: it follows what the calls take."""
    around: Callable[[Call], Call] | None = None
    """Goes round the retries and permits of its calls."""
    steady: bool = False
    """Whether its attempts end by themselves and in their own time: none is taken off sooner than `timeout_s`, and none
    is made twice."""
    batch: int = 256
    """So many items are looked up in the store together: fewer where what is stored is large."""
    warm: bool = False
    """Whether the first call goes alone, because the provider's prompt cache has nothing before its answer."""
    price: Price | None = None
    late_price: Callable[[], Price | None] | None = None
    """Looks the price up where that takes long: the first call does not wait for it, its answer does."""
    since: float = 0.0
    """Nothing that was stored before is served, in seconds since 1970."""
    after: After = After.EXTEND
    when: Callable[[Item], bool] | None = None
    """Items for which it is not so pass by."""
    failure: str = ""
    """The column for why an item failed here; with one it goes on, without one it ends."""


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How all stages of one run make their calls."""

    backup_share: float = 0.0
    """How many of the calls may be second ones for stragglers."""
    weight: float = 1.0
    priority: Priority = "normal"
    retry: Retry = Retry()
    seed: int | None = None


Beside = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Leg:
    """One stage of one run, from open to closed."""

    def __init__(
        self,
        calling: Calling,
        manner: Manner,
        store: Store,
        *,
        named: bool,
        emit: Callable[[Event], None],
        fatal: Callable[[HeadraceError], None],
        beside: Beside,
    ) -> None:
        """`named`: its events carry the stage's name, because there are others. `beside` begins what goes on beside
        the stages and ends with the run."""
        self.calling = calling
        self.name = calling.info.name if named else ""
        self._manner, self._store = manner, store
        self._tell, self._fatal, self._beside = emit, fatal, beside
        self._governor: Governor | None = None
        self._back_up: BackUp | None = None
        self._reasons = Reasons(self.name, self._is_down)
        self.lane = Lane(
            stated=calling.stated, emit=self._emit, fatal=fatal, weight=manner.weight, priority=manner.priority
        )

    async def open(self) -> None:
        governor = self._governor = governor_of(self.calling.account)
        governor.enter(self.lane)
        await self._share(governor)

    def close(self, reason: str) -> None:
        """Begin no call any more."""
        if self._governor is not None:
            self._governor.close(self.lane, reason)
        else:
            self.lane.close(reason)

    def leave(self) -> None:
        if self._governor is not None:
            self._governor.meter.tell(_now(), [self.lane], last=True)
            self._governor.leave(self.lane)

    @property
    def at_once(self) -> int:
        """Calls that may be in flight now."""
        return self._governor.limit if self._governor is not None else 0

    @property
    def places(self) -> int:
        return self.at_once * 2 + _READ_AHEAD

    def hears(self, event: Event) -> HeadraceError | None:
        """What the run tells; the error that ends it, where this is one too many."""
        last = isinstance(event, StageEnded) and event.stage == self.name
        if self._back_up is not None and (last or (not self.name and isinstance(event, SourceRead))):
            self._beside(self._back_up.run())
        return self._reasons.add(event)

    def stage(self, roll: Roll, onward: Next | None, since: float | None) -> Stage:
        """The calls in reading order: cached, governed, the provider; a backup goes round the first two. Answers older
        than `since` are not served."""
        calling, manner, governor = self.calling, self._manner, self._governor
        if governor is None:
            raise RuntimeError("a leg is opened before it has a stage")
        cached = None
        if calling.task.reusable:
            cached = Cached(
                self._store, calling.task.value, self.lane.pause, again=self._again, since=max(since or 0.0, calling.since)
            )  # fmt: skip
        share = 0.0 if calling.steady else manner.backup_share
        backups = Backups(share)
        governed = Governed(
            governor, self.lane, retry=manner.retry, late=cached.keep if cached else None,
            price=calling.price, late_price=calling.late_price, stage=self.name, watch=Watch(CallTimeout(calling.timeout_s, learns=not calling.steady), backups), estimator=Estimator(calling.charge),
            chance=random.Random(manner.seed).random,  # noqa: S311 - jitter, no secret
        )  # fmt: skip
        if share:
            self._back_up = BackUp(governed, calling.call, backups)
        call = governed.govern(calling.call)
        if calling.around is not None:
            call = calling.around(call)
        if calling.warm:
            call = Warm().warm(call)
        return Stage(
            calling.task, cached.cache(call) if cached else call, roll=roll, onward=onward,
            places=lambda: governor.limit * 2 + _READ_AHEAD, fatal=self._fatal, cached=cached, name=self.name, said=calling.info.name, after=calling.after,
            when=calling.when, failure=calling.failure, batch=calling.batch, begin_no_more=self.close,
        )  # fmt: skip

    async def _share(self, governor: Governor) -> None:
        """Share the account's limits with other processes. One run does it for all of this process; when it ends, the
        next takes over."""
        if not self.calling.account.lasting:
            governor.ready.set()
            return
        lending = self._beside(self._lend(governor))
        ready = asyncio.create_task(governor.ready.wait())
        await asyncio.wait((lending, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if lending.done():
            lending.result()  # raises why there is no lease

    async def _lend(self, governor: Governor) -> None:
        async with governor.lending:
            lender = Lender(self._store, self.calling.account.name, governor)
            learnt = await lender.open()
            if not governor.ready.is_set():
                governor.gate.recall(learnt, _now(), time.time() - learnt.at)
                governor.ready.set()
            try:
                await lender.run()
            finally:
                await lender.close()

    def _again(self, request: Request, reply: Reply, error: AnswerError) -> Request | None:
        asked = self.calling.task.again(request, reply, error)
        if asked is not None:
            self._emit(AskedAgain(_now(), error.kind, reply.usd))
        return asked

    def _emit(self, event: Event) -> None:
        """An event of this stage's calls."""
        error = self._reasons.add(event)
        if self.name and not getattr(event, "stage", self.name):
            event = msgspec.structs.replace(event, stage=self.name)
        self._tell(event)
        if error is not None:
            self._fatal(error)

    def _is_down(self) -> bool:
        return self._governor is not None and not self._governor.gate.breaker.is_closed


def _now() -> float:
    return asyncio.get_running_loop().time()
