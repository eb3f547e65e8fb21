"""One process's part of an endpoint's limits, taken and renewed by leases in the store, and what was learnt of them kept.

Enters a store and a gate, leaves in the gate what it may use. Decides nothing: flow/lease.py does.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from headrace.core.errors import StoreError
from headrace.core.limits import Calls, Learnt, Unit
from headrace.core.ports import Leases
from headrace.flow.experience import with_earlier
from headrace.flow.lease import Lease, Share, share_out

RENEW_S = 2.0
"""How often a holder looks whether others came, went, or want more or less. Doorman's 8 s suit a network; this is a file."""
EAGER = 8
"""So many times as often while somebody waits for what another gives back."""
REMEMBER_S = 30.0
STALE_S = 7 * 86_400.0
"""What is older was learnt of another tier, model or day."""

Amounts = Mapping[Unit, float]
"""Calls in flight; requests and tokens by the minute."""

_lease_json = msgspec.json.Encoder(order="deterministic")
_lease_of = msgspec.json.Decoder(Lease)
_learnt_of = msgspec.json.Decoder(Learnt)
_UNITS = {unit.value: unit for unit in Unit}


class Borrower(Protocol):
    """Whose limits are shared."""

    def learnt(self) -> Learnt: ...

    def limits(self) -> Amounts:
        """The limits that are known here, stated or told; not what was found, and not what was lent."""
        ...

    def wants(self, now_s: float) -> Amounts:
        """What could be used now: the use of late, and more where calls wait. A unit left out: as much as there is."""
        ...

    def holds(self, now_s: float) -> Amounts:
        """What is in use and cannot be given back yet, such as calls in flight."""
        ...

    def lend(self, amounts: Amounts) -> None:
        """From now on start nothing that would take more than this. A unit that is left out is not lent."""
        ...


class Lender:
    """`open` before the first call, `run` beside the calls, `close` after the last.

    There is one for each endpoint and open store, and its store outlives it. A lease has no date: it lasts as long as
    its process, so whoever cannot renew keeps what it has, and nobody else can be lent that.
    """

    def __init__(
        self,
        store: Leases,
        endpoint: str,
        gate: Borrower,
        *,
        renew_s: float = RENEW_S,
    ) -> None:
        self._store, self._endpoint, self._gate = store, endpoint, gate
        self._renew_s = renew_s
        self._lent: dict[str, float] = {}
        self._served = 0
        self._eager = False
        self._kept: Learnt | None = None
        self._earlier = Calls()
        self._kept_at_s = 0.0

    async def open(self) -> Learnt:
        """Take the first lease; returns what was learnt by earlier runs. Raises StoreError."""
        self._lend({unit.value: 0.0 for unit in self._gate.limits()})
        await self._renew()
        self._kept_at_s = asyncio.get_running_loop().time()
        learnt = await recall(self._store, self._endpoint)
        if not self._gate.learnt().calls.ended:  # else those of before have this process's own among them
            self._earlier = learnt.calls
        return learnt

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._renew_s / EAGER if self._eager else self._renew_s)
            try:
                await self._renew()
            except StoreError:  # keeps what it has: nobody else can be lent that, and the run's own writes will tell
                self._eager = False
            if asyncio.get_running_loop().time() >= self._kept_at_s + REMEMBER_S:
                self._remember()

    async def close(self) -> None:
        """Give the lease back, but for what is still in use, and keep what was learnt. No call starts after it."""
        self._remember()
        self._lend(dict.fromkeys(self._lent, 0.0))
        held = _named(self._gate.holds(asyncio.get_running_loop().time()))
        with suppress(StoreError):  # the lease ends with its process anyway
            if any(held.values()):
                await self._store.lease(self._endpoint, lambda holder, _: _lease_json.encode(_left(holder, held)))
            else:
                await self._store.unlease(self._endpoint)

    async def _renew(self) -> None:
        now_s = asyncio.get_running_loop().time()
        limits = _named(self._gate.limits())
        wanted = _named(self._gate.wants(now_s))
        in_use = limits | self._lent  # a limit that was told since the last renewal is not shared yet
        for unit, amount in _named(self._gate.holds(now_s)).items():
            in_use[unit] = max(amount, in_use.get(unit, 0.0))
        served = self._served
        shares: list[Share] = []

        def decide(holder: str, rows: Mapping[str, bytes]) -> bytes:
            mine = Lease(holder=holder, limits=limits, wanted=wanted, served=served)
            shares.append(share_out(mine, [_read(row) for row in rows.values()], in_use))
            return _lease_json.encode(shares[0].lease)

        await self._store.lease(self._endpoint, decide)
        share = shares[0]
        self._served, self._eager = share.lease.served, share.short or share.owing
        self._lend(share.lent)  # what is less than before is written off at the next renewal, when it is no longer used

    def _lend(self, amounts: Mapping[str, float]) -> None:
        self._lent = dict(amounts)
        self._gate.lend({_UNITS[unit]: amount for unit, amount in amounts.items()})

    def _remember(self) -> None:
        self._kept_at_s = asyncio.get_running_loop().time()
        learnt = self._gate.learnt()
        if learnt not in (self._kept, Learnt()):
            self._kept = learnt
            calls = with_earlier(learnt.calls, self._earlier)
            now = msgspec.structs.replace(learnt, at=time.time(), calls=calls)
            self._store.remember(self._endpoint, msgspec.json.encode(now))


async def recall(store: Leases, endpoint: str) -> Learnt:
    """What was learnt of an endpoint within the last week; nothing where what is there cannot be read."""
    data = await store.remembered(endpoint, since=time.time() - STALE_S)
    try:
        return _learnt_of.decode(data) if data is not None else Learnt()
    except msgspec.DecodeError:  # of an earlier headrace: worth no word, it is learnt anew
        return Learnt()


def _named(amounts: Amounts) -> dict[str, float]:
    """What is infinite is no limit, and a want without bound."""
    return {unit.value: amount for unit, amount in amounts.items() if math.isfinite(amount)}


def _left(holder: str, held: Mapping[str, float]) -> Lease:
    return Lease(holder=holder, wanted=dict.fromkeys(_UNITS, 0.0), granted=held)


def _read(row: bytes) -> Lease:
    try:
        return _lease_of.decode(row)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"A lease in the store cannot be read ({error}).",
            hint="Let the runs of other versions of headrace on this store end first.",
        ) from error
