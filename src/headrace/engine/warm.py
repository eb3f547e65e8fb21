"""One call goes first, and the others once it is answered. Enters calls, leaves the same calls, later.

For providers whose prompt cache has nothing before a first answer began: calls sent together would each pay for the
prefix that they share. Anthropic: "for parallel requests wait for the first response before sending the rest".
"""

import asyncio

from headrace.core.call import Call, Reply, Request


class Warm:
    def __init__(self) -> None:
        self._is_warm = False
        self._first: asyncio.Future[None] | None = None

    def warm(self, call: Call) -> Call:
        async def warmed(request: Request) -> Reply:
            while not self._is_warm:
                if self._first is None:
                    return await self._lead(call, request)
                await asyncio.shield(self._first)
            return await call(request)

        return warmed

    async def _lead(self, call: Call, request: Request) -> Reply:
        """Where it fails, another goes first."""
        first = self._first = asyncio.get_running_loop().create_future()
        try:
            reply = await call(request)
            self._is_warm = True
            return reply
        finally:
            self._first = None
            first.set_result(None)
