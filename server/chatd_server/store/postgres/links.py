"""A small set of raw connections, pinned to this process.

Taking one is a pop from a list: a pool that checks and resets its connections costs more than the
commit that it is used for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.ports.clock import Clock
from chatd_server.store.postgres.link import AWAY, connect, unavailable


class Links:
    """Up to `size` connections, made when they are first needed and after they were lost."""

    def __init__(self, url: str, clock: Clock, size: int) -> None:
        self._url = url
        self._clock = clock
        self._size = size
        #: Made, or being made, and not lost.
        self._count = 0
        #: Free connections; the last one used is the first to be used again.
        self._free: list[asyncpg.Connection] = []
        #: Callers that wait for one, first come first served. None means: make one.
        self._waiting: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection; raises DatabaseUnavailable for an error of AWAY."""
        link = await self.take()
        try:
            yield link
        except AWAY as error:
            raise self.lost(link, error) from error
        finally:
            self.give(link)

    def take_free(self) -> asyncpg.Connection | None:
        """Return a free connection, or None; `give` it back later."""
        while self._free:
            link = self._free.pop()
            if not link.is_closed():
                return link
            self._count -= 1
        return None

    async def take(self) -> asyncpg.Connection:
        """Return a connection; `give` it back later. Raises DatabaseUnavailable."""
        free = self.take_free()
        if free is not None:
            return free
        if self._closed:
            raise DatabaseUnavailable("the store is closed")
        if self._count < self._size:
            return await self._make()
        turn: asyncio.Future[asyncpg.Connection | None]
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            link = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            raise
        return await self._make() if link is None else link

    def give(self, link: asyncpg.Connection) -> None:
        """Take a connection back, whole or broken."""
        if self._closed:
            link.terminate()
        if link.is_closed():
            self._count -= 1
            self._pass_on(None)
        else:
            self._pass_on(link)

    def lost(self, link: asyncpg.Connection, error: BaseException) -> DatabaseUnavailable:
        """Drop a broken connection; return the error to raise.

        If the server closed it, it has most likely closed the free ones too: the next try begins
        with a new connection.
        """
        if link.is_closed():
            free, self._free = self._free, []
            self._count -= len(free)
            for other in free:
                other.terminate()
        # It may still wait for an answer, which the next user must not get.
        link.terminate()
        return unavailable(error)

    async def close(self) -> None:
        """Close all of them. Callers that wait for one get DatabaseUnavailable."""
        self._closed = True
        free, self._free = self._free, []
        self._count -= len(free)
        while self._waiting:
            self._pass_on(None)
        for link in free:
            try:
                async with self._clock.timeout(1.0, "postgres.close"):
                    await link.close()
            except AWAY:
                link.terminate()

    def _pass_on(self, link: asyncpg.Connection | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(link)
                return
        if link is not None:
            self._free.append(link)

    async def _make(self) -> asyncpg.Connection:
        if self._closed:
            raise DatabaseUnavailable("the store is closed")
        self._count += 1
        try:
            return await connect(self._url, self._clock)
        except BaseException:
            self._count -= 1
            self._pass_on(None)
            raise
