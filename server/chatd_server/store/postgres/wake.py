"""Hints that a chat changed, between processes: PostgreSQL's LISTEN and NOTIFY."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import asyncpg

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import Observer, spans
from chatd_server.ports.clock import Clock
from chatd_server.store.postgres.link import AWAY, connect, unavailable
from chatd_server.store.shared.wake import Callback, LocalWake

CHANNEL = "chatd_wake"
PAYLOAD_BYTES_MAX = 7_900
"""PostgreSQL refuses a payload of 8,000 bytes."""
PENDING_MAX = 10_000
"""Chats whose hint waits for the connection. More hints are dropped: polls find those chats."""
RECONNECT_SECONDS_FIRST = 0.1
RECONNECT_SECONDS_MAX = 5.0
QUIET_SECONDS_MAX = 30.0
"""After this time without a hint to send, the connection is tested: a dead one stays silent."""
STATEMENT_SECONDS_MAX = 10.0
"""A NOTIFY that takes longer counts as a lost connection."""


class Hint(NamedTuple):
    """One hint, as it travels."""

    chat_id: ChatId
    revision: int
    status: Status


class PostgresWake:
    """Hints of all processes on one database, through one connection of its own.

    Listeners of this process get its hints at once. The other processes get all pending hints in
    one statement, outside the transactions that changed the chats: a NOTIFY inside a transaction
    makes all commits of the database wait for each other.
    """

    def __init__(self, url: str, clock: Clock, observer: Observer) -> None:
        self._url = url
        self._clock = clock
        self._observer = observer
        self._local = LocalWake()
        #: The newest hint of each chat that was not sent to the other processes yet.
        self._pending: dict[ChatId, Hint] = {}
        #: There is a hint to send, or the connection was lost.
        self._stir = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and run until `stop`. Raises DatabaseUnavailable."""
        connection = await self._connect()
        self._task = asyncio.create_task(self._run(connection), name="wake")

    async def failed(self) -> None:
        """Wait until it is stopped; raises its error. A lost connection is not one."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Disconnect. Hints that were not sent are lost, as hints may be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Tell this process at once and the others soon."""
        self._local.hint(chat_id, revision, status)
        if len(self._pending) < PENDING_MAX or chat_id in self._pending:
            self._pending[chat_id] = Hint(chat_id, revision, status)
            self._stir.set()

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call back for each hint; return how to stop it."""
        return self._local.listen(callback)

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when hints may have been missed, so poll now; return how to stop it."""
        return self._local.listen_gaps(callback)

    async def _run(self, connection: asyncpg.Connection) -> None:
        while True:
            try:
                await self._send(connection)
            except (*AWAY, asyncpg.PostgresError) as error:
                self._observer.note(
                    spans.DatabaseFailed(what="wake", error=str(unavailable(error)))
                )
            finally:
                connection.terminate()
            connection = await self._reconnect()
            self._observer.note(spans.WakeReconnected())
            self._local.tell_gap()

    async def _send(self, connection: asyncpg.Connection) -> None:
        """Send hints as they come; raise what the driver raises once the connection is lost."""
        while True:
            try:
                async with self._clock.timeout(QUIET_SECONDS_MAX, "wake.quiet"):
                    await self._stir.wait()
            except TimeoutError:
                async with self._clock.timeout(STATEMENT_SECONDS_MAX, "wake.statement"):
                    await connection.execute("SELECT 1")
                continue
            self._stir.clear()
            if connection.is_closed():
                raise ConnectionResetError("the connection of the hints was closed")
            if self._pending:
                await self._send_pending(connection)

    async def _send_pending(self, connection: asyncpg.Connection) -> None:
        batch, self._pending = self._pending, {}
        try:
            async with self._clock.timeout(STATEMENT_SECONDS_MAX, "wake.statement"):
                await connection.execute(
                    "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
                    CHANNEL,
                    list(pack(batch.values())),
                )
        except BaseException:
            self._pending = batch | self._pending
            raise

    async def _connect(self) -> asyncpg.Connection:
        # A NOTIFY commits. To wait for the disk would delay every hint and protect nothing.
        connection = await connect(self._url, self._clock, synchronous_commit="off")
        connection.add_termination_listener(lambda _: self._stir.set())
        try:
            await connection.add_listener(CHANNEL, self._receive)
        except AWAY as error:
            connection.terminate()
            raise unavailable(error) from error
        self._connection = connection
        self._stir.set()
        return connection

    async def _reconnect(self) -> asyncpg.Connection:
        delay = RECONNECT_SECONDS_FIRST
        while True:
            await self._clock.sleep(delay, "wake.reconnect")
            try:
                return await self._connect()
            except DatabaseUnavailable:
                # Noted when the connection was lost; the store notes that it is still away.
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    def _receive(
        self,
        connection: asyncpg.Connection,
        process_id: int,
        channel: str,  # noqa: ARG002  the driver's signature
        payload: str,
    ) -> None:
        if process_id == connection.get_server_pid():
            return
        for hint in unpack(payload):
            self._local.hint(*hint)


def pack(hints: Iterable[Hint]) -> Iterator[str]:
    """Return payloads with all of these hints, each of at most PAYLOAD_BYTES_MAX."""
    lines: list[str] = []
    size = 0
    for hint in hints:
        line = f"{hint.chat_id} {hint.revision} {hint.status}"
        if lines and size + len(line) > PAYLOAD_BYTES_MAX:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield "\n".join(lines)


def unpack(payload: str) -> Iterator[Hint]:
    """Return the hints of a payload. Lines that another version wrote in another form are skipped:
    a hint may be lost.
    """
    for line in payload.split("\n"):
        fields = line.split(" ")
        if len(fields) == len(Hint._fields) and fields[1].isdecimal() and fields[2] in _STATUSES:
            yield Hint(ChatId(fields[0]), int(fields[1]), Status(fields[2]))


_STATUSES = frozenset(Status)
