"""Politeness: what is known of each host, for one run. Enters how attempts ended, leaves whether another may be made.

1. Of all attempts so many are at one host at once; who waits for one has no permit, so a slow host holds up nobody else.
2. A host that asks to wait (Retry-After) is not asked before; a wait that is longer than a minute is not waited for.
3. A host that has answered nothing for `SILENT_S`, in `SILENT` attempts or more, is not asked for a minute.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.data.trouble import Troubled

MOST_WAIT_S = 60.0
SILENT = 6
SILENT_S = 10.0
REST_S = 60.0
_MANY = 10_000
"""Of so many hosts, those with nothing to remember are forgotten."""


class Host:
    __slots__ = ("name", "not_before_s", "places", "resting", "silence", "since_s", "status", "users", "ways")

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.ways = asyncio.Semaphore(most)
        """For pages that are asked for here."""
        self.places = asyncio.Semaphore(most)
        """For attempts, which come by redirects, too. Whoever has one waits for no other."""
        self.users = 0
        self.not_before_s = 0.0
        self.resting = False
        self.status: int | None = None
        self.silence = 0
        self.since_s = 0.0

    def check(self, now_s: float) -> None:
        """Raises Troubled while it is not to be asked."""
        left_s = self.not_before_s - now_s
        if left_s <= 0:
            self.resting = False
        elif self.resting:
            raise Troubled("silent", f"{self.name} has answered nothing for some time, and is left alone.", near=True)
        else:
            raise self._busy(left_s)

    def answered(self, now_s: float, wait_s: float | None = None, status: int | None = None) -> None:
        """It answered, and asks to be left alone for so long."""
        self.silence = 0
        if wait_s:
            self.not_before_s = max(self.not_before_s, now_s + wait_s)
            self.status, self.resting = status, False

    def silent(self, now_s: float) -> None:
        """It did not answer."""
        self.since_s = self.since_s if self.silence else now_s
        self.silence += 1
        if self.silence >= SILENT and now_s - self.since_s >= SILENT_S:
            self.not_before_s, self.resting = now_s + REST_S, True

    def _busy(self, left_s: float) -> Troubled:
        """Waited for where that is not long."""
        return Troubled(
            "busy",
            f"{self.name} answered {self.status} and asks to wait {left_s:.0f} s.",
            passing=left_s <= MOST_WAIT_S,
            status=self.status,
            wait_s=left_s,
            near=True,
        )


class Hosts:
    def __init__(self, per_host: int) -> None:
        self._most = per_host
        self._known: dict[str, Host] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[Host]:
        """The host, known for as long as somebody is about it, or there is something to remember."""
        host = self._known.get(name)
        if host is None:
            host = self._known[name] = Host(name, self._most)
        host.users += 1
        try:
            yield host
        finally:
            host.users -= 1
            if not host.users and not host.silence and not host.not_before_s:
                self._known.pop(name, None)
            elif len(self._known) > _MANY:
                self._forget()

    def _forget(self) -> None:
        for name, host in list(self._known.items())[: _MANY // 2]:
            if not host.users:
                del self._known[name]
