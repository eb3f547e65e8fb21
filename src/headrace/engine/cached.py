"""A call that pays once: it looks in the store, joins an equal call in flight, and claims before it calls.

Enters requests, leaves replies whose value the task has accepted; what the task rejects is kept as evidence.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from headrace.core.call import Call, Reply, Request
from headrace.core.digest import Digest
from headrace.core.errors import AnswerError, HeadraceError
from headrace.core.ports import Answered, Record, Rejected, Released, Store

POLL_S = 0.2
"""How often to look whether another process has answered what it claimed: no message crosses between processes."""

Again = Callable[[Request, Reply, AnswerError], Request | None]


class _Left(Exception):
    """Whoever made the call was cancelled."""


class Cached:
    """The answers of one task at one store. Answers older than `since` (seconds since 1970) are not served."""

    def __init__(
        self,
        store: Store,
        value: Callable[[Reply], Any],
        pause: Callable[[float], Awaitable[None]],
        *,
        again: Again | None = None,
        since: float = 0.0,
    ) -> None:
        """`again` gives the request to make once more after an answer that was no value."""
        self._store = store
        self._value = value
        self._again = again
        self._pause = pause
        self._since = since
        self._flying: dict[Digest, asyncio.Future[Reply]] = {}
        self._ours: set[Digest] = set()

    async def known_or_claimed(self, requests: Sequence[Request]) -> dict[Digest, Reply]:
        """The answers that the store has; what it has not is claimed at once, so that its calls need not wait for that."""
        wanted = list({request.digest for request in requests if request.digest not in self._flying})
        found = self._accepted(await self._store.find(wanted, since=self._since))
        missing = [digest for digest in wanted if digest not in found and digest not in self._flying]
        if missing:
            claimed = await self._store.claim(missing, since=self._since)
            found.update(self._accepted({d: reply for d, reply in claimed.items() if reply is not None}))
            self._ours.update(digest for digest in missing if digest not in claimed)
        return found

    def cache(self, call: Call) -> Call:
        async def cached(request: Request) -> Reply:
            while (flying := self._flying.get(request.digest)) is not None:
                with suppress(_Left):  # then another of those who waited asks
                    return await _joined(flying)
            mine = self._flying[request.digest] = asyncio.get_running_loop().create_future()
            try:
                reply = await self._lead(request, call)
            except BaseException as error:
                mine.set_exception(error if isinstance(error, HeadraceError) else _Left())
                mine.exception()  # whether or not anybody waits for it
                raise
            else:
                mine.set_result(reply)
                return reply
            finally:
                del self._flying[request.digest]

        return cached

    def keep(self, request: Request, reply: Reply) -> None:
        """Store an answer that came after its call was given up: it was paid for."""
        try:
            self._value(reply)
        except HeadraceError:
            return
        self._store.post([Answered(request.digest, reply)])

    async def _lead(self, request: Request, call: Call) -> Reply:
        """Claim, call, and post what came: it is durable before the outcome that is committed after it."""
        digest = request.digest
        ours = digest in self._ours
        self._ours.discard(digest)
        while not ours and digest in (found := await self._store.claim([digest], since=self._since)):
            answered = found[digest]
            if answered is None:
                await self._pause(POLL_S)
            elif digest in (accepted := self._accepted({digest: answered})):
                return accepted[digest]
        evidence: list[Record] = []
        try:
            answer = await self._accepted_answer(request, call, evidence)
        except BaseException:
            self._store.post([*evidence, Released(digest)])
            raise
        self._store.post([*evidence, Answered(digest, msgspec.structs.replace(answer, value=None))])
        return answer

    async def _accepted_answer(self, request: Request, call: Call, evidence: list[Record]) -> Reply:
        """The first answer, or the second where the task asks again; what is no value goes to `evidence`."""
        first = await call(request)
        try:
            return valued(self._value, first)
        except HeadraceError as error:
            evidence.append(_rejected(request, first, error))
            if not isinstance(error, AnswerError) or self._again is None:
                raise
            asked = self._again(request, first, error)
            if asked is None:
                raise
        try:
            second = _both(first, await call(asked))
        except HeadraceError as error:
            error.attempts += first.attempts
            error.reply = error.reply or first  # that one was paid for
            raise
        try:
            return valued(self._value, second)
        except HeadraceError as error:
            evidence.append(_rejected(request, second, error))
            raise

    def _accepted(self, found: dict[Digest, Reply]) -> dict[Digest, Reply]:
        """With their values. What the task no longer accepts, because its type has changed, is evidence from now on."""
        accepted: dict[Digest, Reply] = {}
        for digest, reply in found.items():
            try:
                accepted[digest] = valued(self._value, reply)
            except HeadraceError as error:
                self._store.post([Rejected(digest, reply, error.message)])
        return accepted


def _rejected(request: Request, reply: Reply, error: HeadraceError) -> Record:
    reason = error.message if isinstance(error, AnswerError) else error.kind
    return Rejected(request.digest, reply, reason)


def _both(first: Reply, second: Reply) -> Reply:
    """The second answer, with what both took."""
    return msgspec.structs.replace(
        second, attempts=first.attempts + second.attempts, input_tokens=_sum(first.input_tokens, second.input_tokens),
        output_tokens=_sum(first.output_tokens, second.output_tokens),
        cached_tokens=_sum(first.cached_tokens, second.cached_tokens),
        reasoning_tokens=_sum(first.reasoning_tokens, second.reasoning_tokens),
        usd=None if first.usd is None or second.usd is None else first.usd + second.usd,
    )  # fmt: skip


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else first + second


def valued(value: Callable[[Reply], Any], reply: Reply) -> Reply:
    """The reply with its value; an error of the task's says what was paid for it."""
    try:
        return msgspec.structs.replace(reply, value=value(reply))
    except HeadraceError as error:
        error.attempts, error.reply = reply.attempts, reply
        raise


async def _joined(flying: asyncio.Future[Reply]) -> Reply:
    """An equal call's reply or error, as one that took no call of its own."""
    try:
        reply = await asyncio.shield(flying)
    except HeadraceError as error:
        shared = copy.copy(error)
        shared.attempts, shared.reply = 0, None
        raise shared from error
    return msgspec.structs.replace(reply, attempts=0)
