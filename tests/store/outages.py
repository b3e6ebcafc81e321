"""How a test cuts chatd off from PostgreSQL, and counts what it sends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from chatd_server.domain.ids import ChatId
from chatd_server.store.postgres.store import PostgresStore


async def cut_off(stranger: asyncpg.Connection) -> int:
    """End every connection of chatd to this database; return how many."""
    ended = await stranger.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'chatd' AND datname = current_database()"
    )
    return len(ended)


async def until_blocked(stranger: asyncpg.Connection, count: int = 1) -> None:
    """Wait until this number of chatd's statements wait for a lock."""
    while (
        await stranger.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chatd'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        < count
    ):
        pass


@asynccontextmanager
async def locked(url: str, chat_id: ChatId) -> AsyncIterator[None]:
    """Hold a chat's row, so that whatever writes it waits."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM chats WHERE uuid = $1 FOR UPDATE", chat_id)
            yield
    finally:
        await connection.close()


class LosesAnswers:
    """A connection that is cut after its next write was committed, before the answer is read."""

    def __init__(self, link: asyncpg.Connection) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write, and lose the answer."""
        await self._link.fetchval(statement, *arguments)
        self._link.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")


class Dead:
    """A connection that ended while nobody used it, which is not known until somebody does."""

    def __init__(self) -> None:
        self._used = False

    def is_closed(self) -> bool:
        """Say what the driver would say."""
        return self._used

    def terminate(self) -> None:
        """End it for good."""
        self._used = True

    async def fetchval(self, *_: object) -> object:
        """Find out."""
        self._used = True
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")

    fetchrow = fetch = fetchval


class Interrupted(LosesAnswers):
    """A connection on which something else happens between its next look and the write."""

    def __init__(self, link: asyncpg.Connection, between: Callable[[], Awaitable[object]]) -> None:
        super().__init__(link)
        self._between: Callable[[], Awaitable[object]] | None = between

    async def fetchrow(self, statement: str, *arguments: object) -> object:
        """Look, and let it happen."""
        row = await self._link.fetchrow(statement, *arguments)
        between, self._between = self._between, None
        if between is not None:
            await between()
        return row

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write."""
        return await self._link.fetchval(statement, *arguments)


class AnswersLate(LosesAnswers):
    """A connection whose next answer comes when the test says so."""

    def __init__(self, link: asyncpg.Connection) -> None:
        super().__init__(link)
        self.written = asyncio.Event()
        self.answer = asyncio.Event()

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write, and wait."""
        value = await self._link.fetchval(statement, *arguments)
        self.written.set()
        await self.answer.wait()
        return value


class LosesCommits(LosesAnswers):
    """A connection that is cut after its next transaction was committed."""

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write, inside the transaction."""
        return await self._link.fetchval(statement, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit, and lose the answer."""
        async with self._link.transaction():
            yield
        self._link.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")


def lose_the_next_answer(store: PostgresStore) -> None:
    """Let the connection that is used next lose an answer."""
    store.writers._free[-1] = LosesAnswers(store.writers._free[-1])


def statements_of(store: PostgresStore) -> Counter[str]:
    """Count the statements that a store sends from now on."""
    sent: Counter[str] = Counter()

    def count(record: Any) -> None:
        # The driver asks once for each connection what the types of our arrays are.
        if "typeinfo_tree" not in record.query and "current_setting" not in record.query:
            sent[record.query] += 1

    for link in (*store.writers._free, *store.readers._free):
        link.add_query_logger(count)
    return sent
