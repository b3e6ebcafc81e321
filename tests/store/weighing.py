"""What the shared store asks for and sends at once, and who has a turn meanwhile."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar

import asyncpg

from chatd_server.clock import RealClock
from chatd_server.store.postgres.store import PostgresStore
from tests.store.outages import until_blocked


class Weighed:
    """A connection that remembers what came and went at once, in bytes."""

    def __init__(self, link: asyncpg.Connection) -> None:
        self._link = link
        #: The heaviest row that came: the driver decodes a row in one go.
        self.row = 0
        #: The heaviest answer: what a page is cut from.
        self.answer = 0
        #: The heaviest arguments: the driver encodes those of a statement in one go.
        self.arguments = 0
        #: What happens before the next statement that contains some words.
        self.before: tuple[str, Callable[[], Awaitable[object]]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    @property
    def has_happened(self) -> bool:
        """Whether the statement of `before` came."""
        return self.before is None

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        """Ask, and weigh."""
        await self._goes(statement, arguments)
        rows = await self._link.fetch(statement, *arguments)
        weights = [weight(row) for row in rows]
        self.row = max([self.row, *weights])
        self.answer = max(self.answer, sum(weights))
        return rows

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        """Ask, and weigh."""
        await self._goes(statement, arguments)
        row = await self._link.fetchrow(statement, *arguments)
        self.row = max(self.row, weight(row))
        return row

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """Ask, and weigh."""
        await self._goes(statement, arguments)
        return await self._link.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        """Do, and weigh."""
        await self._goes(statement, arguments)
        return await self._link.execute(statement, *arguments)

    async def _goes(self, statement: str, arguments: Sequence[Any]) -> None:
        self.arguments = max(self.arguments, weight(arguments))
        if self.before is not None and self.before[0] in statement:
            (_, happens), self.before = self.before, None
            await happens()


def weight(value: Any) -> int:
    """Return the bytes of contents in a value of the driver."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list | tuple | asyncpg.Record):
        return sum(map(weight, value))
    return 0


class PiecesClock(RealClock):
    """A clock that counts how often somebody let the others have their turn."""

    def __init__(self) -> None:
        self.turns: Counter[str] = Counter()

    async def sleep(self, seconds: float, tag: str) -> None:
        """Count, and sleep."""
        self.turns[tag] += 1
        await super().sleep(seconds, tag)


class Beside:
    """Something that another server does, which either ends or waits for a lock of ours."""

    def __init__(
        self, stranger: asyncpg.Connection, do: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        self._stranger = stranger
        self._do = do
        self.task: asyncio.Task[object]

    async def begin(self) -> None:
        """Begin it, and return when it has ended or waits."""
        self.task = asyncio.create_task(self._do())
        blocked = asyncio.create_task(until_blocked(self._stranger))
        await asyncio.wait({self.task, blocked}, return_when=asyncio.FIRST_COMPLETED)
        blocked.cancel()
        await asyncio.wait({blocked})


class Measured(str):
    """A text that knows which threads have looked at its bytes."""

    __slots__ = ()
    threads: ClassVar[set[int]] = set()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Note the thread."""
        self.threads.add(threading.get_ident())
        return super().encode(encoding, errors)


async def weighed_link(store: PostgresStore) -> Weighed:
    """Return the one connection that the store uses from now on."""
    link = Weighed(await store.writers.take())
    for links in (store.writers, store.readers):
        links._free[:] = [link]
        links._count = links._size
    return link
