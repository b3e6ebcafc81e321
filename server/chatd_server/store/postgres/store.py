"""The shared store: `ports.Store` on PostgreSQL, for any number of processes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import Command, DeleteChat, SetArchived
from chatd_server.domain.ids import ChatId, Instant, MessageId, OwnerId, WorkerId
from chatd_server.domain.limits import RESPONSE_BYTES_MAX
from chatd_server.domain.message import Message, ToolResult
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import Observer, spans
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import (
    Acquired,
    Acquisition,
    Applied,
    Beat,
    ChatPage,
    CommitListener,
    EventPage,
    RequestKey,
)
from chatd_server.ports.wake import Wake
from chatd_server.ports.watch import Place, WatchPage
from chatd_server.store.postgres import reads
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.applier import Applier
from chatd_server.store.postgres.families import Families
from chatd_server.store.postgres.lanes import Lanes
from chatd_server.store.postgres.links import Links
from chatd_server.store.postgres.migrate import schema_version
from chatd_server.store.postgres.own_tasks import OwnTasks
from chatd_server.store.postgres.slots import Slots
from chatd_server.store.postgres.submission import answered, submitted
from chatd_server.store.postgres.sweeps import Sweeper
from chatd_server.store.postgres.time import StoreTime
from chatd_server.store.postgres.write_env import WriteEnv
from chatd_server.store.shared import sweeps
from chatd_server.store.shared.delivery import Delivery
from chatd_server.store.shared.ownership import lease_over
from chatd_server.store.shared.pages import ChatFilter
from chatd_server.store.shared.rows import OUTCOME
from chatd_server.store.shared.sweeps import PRUNE_CHATS_MAX, PRUNE_COMMANDS_MAX, lease_micros
from chatd_server.store.shared.upgrade import check_version

READERS = 4
"""Connections for reads: a long page must not hold up a commit."""
REACHABLE_SECONDS_MAX = 2.0
"""A health check that takes longer has failed."""
VOID_SECONDS_MAX = 5.0
"""How long a start waits for rows that another process has locked, to end the leases of dead
servers."""
T = TypeVar("T")


class PostgresStore:
    """A database that several processes share. Use `open`."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        wake: Wake,
        observer: Observer,
        writers: int,
        held_time: Callable[[], Instant] | None = None,
    ) -> None:
        """Use `open`. `writers` is the number of connections for writes; `held_time` replaces
        PostgreSQL's clock in tests.
        """
        self._clock = clock
        self._observer = observer
        self._delivery = Delivery(wake)
        self._time = StoreTime(clock, held_time)
        self._own = OwnTasks()
        self._slots: Slots | None = None
        self.writers = Links(url, clock, writers)
        self.readers = Links(url, clock, READERS)
        env = WriteEnv(self.writers, clock, self._time, Lanes(), observer, self._delivery)
        self._families = Families(env)
        self._applier = Applier(env, self._families)
        self._sweeper = Sweeper(env, self._families)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock,
        wake: Wake,
        observer: Observer,
        writers: int,
        held_time: Callable[[], Instant] | None = None,
    ) -> "PostgresStore":
        """Connect and check the schema; to migrate it is a decision of the operator.

        Raises SchemaOutdated, SchemaTooNew, DatabaseUnavailable.
        """
        store = cls(
            url, clock=clock, wake=wake, observer=observer, writers=writers, held_time=held_time
        )
        try:
            async with store.writers.use() as link:
                check_version(await schema_version(link))
                before = clock.now()
                now = await link.fetchval(*sql.PRESENT(now=store._time.given))
                store._time.saw(before, now, clock.now())
                if await link.fetchval(*sql.HAS_FUTURE_LABELS()):
                    await link.execute(*sql.FORGET_LABELS())
        except BaseException:
            await store.close()
            raise
        return store

    async def take_place(self, slots: Slots, worker_id: WorkerId) -> None:
        """End the leases of the servers that are dead by these slots, so that the first rescue
        finds them, and hold a slot as this worker until the store is closed.
        """
        self._slots = slots
        if slots.dead:
            try:
                async with (
                    self.writers.use() as link,
                    self._clock.timeout(VOID_SECONDS_MAX, "postgres.void"),
                ):
                    dead = sql.VOID_LEASES(worker_ids=slots.dead, now=self._time.given)
                    await link.execute(*dead)
            except DatabaseUnavailable as error:
                # The start goes on: these leases end by their time.
                self._observer.note(spans.DatabaseFailed(what="void", error=str(error)))
        slots.take(worker_id)

    async def close(self) -> None:
        """Let the writes that have begun end, and disconnect."""
        await self._own.wait()
        await self.writers.close()
        await self.readers.close()
        if self._slots is not None:
            self._slots.release()

    def listen(self, listener: CommitListener) -> None:
        """Tell a listener of every commit from now on, before its caller learns of it."""
        self._delivery.listen(listener)

    # --- writes ----------------------------------------------------------------------------

    async def apply(
        self,
        chat_id: ChatId,
        command: Command | Chain,
        *,
        known: ChatState | None = None,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        return await self._own.run(self._applier.apply(chat_id, command, known, request, owner_id))

    async def apply_family(
        self,
        chat_id: ChatId,
        command: SetArchived | DeleteChat,
        *,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        order = submitted(chat_id, command, request, owner_id)
        return await self._own.run(self._families.apply_family(order))

    async def finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        await self._own.run(self._finish_call(chat_id, epoch, result))

    async def acquire(self, worker_id: WorkerId, slots: int, lease_seconds: float) -> Acquisition:
        if slots <= 0:
            return Acquisition()
        return await self._own.run(self._acquire(worker_id, slots, lease_seconds))

    async def heartbeat(
        self, worker_id: WorkerId, held: Sequence[tuple[ChatId, int]], lease_seconds: float
    ) -> Sequence[Beat]:
        if not held:
            return []
        return await self._own.run(self._beat(worker_id, held, lease_seconds))

    async def rescue(self, worker_id: WorkerId, limit: int) -> int:
        sweep = self._sweeper.sweep(sql.EXPIRED_LEASES, limit, sweeps.rescue(worker_id))
        return len((await self._own.run(sweep)).chats)

    async def expire_actions(self, worker_id: WorkerId, limit: int) -> int:
        sweep = self._sweeper.sweep(sql.EXPIRED_ACTIONS, limit, sweeps.expire(worker_id))
        return len((await self._own.run(sweep)).chats)

    async def prune_events(self, before: Instant) -> int:
        total, after, found = 0, 0, PRUNE_CHATS_MAX
        while found == PRUNE_CHATS_MAX:
            async with self.writers.use() as link:
                row = await link.fetchrow(
                    *sql.PRUNE_EVENTS(after=after, before=before, limit=PRUNE_CHATS_MAX)
                )
            dropped, found, after = row
            total += dropped
        return total

    async def prune_commands(self, before: Instant) -> int:
        total, dropped = 0, PRUNE_COMMANDS_MAX
        while dropped == PRUNE_COMMANDS_MAX:
            async with self.writers.use() as link:
                dropped = await link.fetchval(
                    *sql.PRUNE_COMMANDS(before=before, limit=PRUNE_COMMANDS_MAX)
                )
            total += dropped
        return total

    # --- reads -----------------------------------------------------------------------------

    async def answered(self, request: RequestKey) -> Applied | None:
        return await self._read(answered, request)

    async def load(self, chat_id: ChatId, owner_id: OwnerId | None = None) -> ChatState:
        return await self._read(reads.load, chat_id, owner_id)

    async def next_due(self) -> Instant | None:
        """Return when the earliest retry, deadline or end of a lease is due, by our own clock."""
        due = await self._read(reads.next_due, self._time.given)
        return None if due is None else self._time.to_local(due)

    async def list_chats(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None = None,
        include_archived: bool = False,
        labels: Mapping[str, str] | None = None,
        statuses: Sequence[Status] = (),
        parent_id: ChatId | None = None,
    ) -> ChatPage:
        wanted = ChatFilter(after_key, include_archived, labels or {}, statuses, parent_id)
        return await self._read(reads.list_chats, self._clock, owner_id, limit, wanted)

    async def list_actions(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None = None,
        chat_id: ChatId | None = None,
    ) -> ChatPage:
        return await self._read(
            reads.list_actions, self._clock, owner_id, limit, after_key, chat_id
        )

    async def messages(
        self, chat_id: ChatId, *, after_position: int, limit: int, bytes_max: int
    ) -> tuple[Sequence[Message], bool]:
        return await self._read(
            reads.messages, self._clock, chat_id, after_position, limit, bytes_max
        )

    async def message_position(self, chat_id: ChatId, message_id: MessageId) -> Message:
        return await self._read(reads.message, chat_id, message_id)

    async def events(self, chat_id: ChatId, *, after: int, limit: int, bytes_max: int) -> EventPage:
        return await self._read(reads.events, self._clock, chat_id, after, limit, bytes_max)

    async def watch_head(self) -> Place:
        return await self._read(reads.watch_head)

    async def watched(self, owner_id: OwnerId, *, after: Place, limit: int) -> WatchPage:
        return await self._read(reads.watched, owner_id, after, limit)

    async def messages_as_of(
        self, state: ChatState, *, after_position: int
    ) -> tuple[Sequence[Message], bool]:
        bytes_max = RESPONSE_BYTES_MAX // 2
        return await self._read(reads.messages_as_of, self._clock, state, after_position, bytes_max)

    async def secret(self, name: str) -> bytes:
        async with self.writers.use() as link:
            return await reads.secret(link, name)

    async def is_reachable(self) -> bool:
        try:
            async with self._clock.timeout(REACHABLE_SECONDS_MAX, "postgres.reachable"):
                return await self._read(_one)
        except (DatabaseUnavailable, TimeoutError):
            return False

    # --- inside ----------------------------------------------------------------------------

    async def _read(self, query: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async with self.readers.use() as link:
            return await query(link, *arguments)

    async def _finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        call_id, outcome = OUTCOME.values(result)
        asked = sql.FINISH_CALL(uuid=chat_id, epoch=epoch, call_id=call_id, outcome=outcome)
        try:
            async with self.writers.use() as link:
                written = await link.fetchval(*asked)
        except DatabaseUnavailable as error:
            self._observer.note(spans.DatabaseFailed(what="journal", error=str(error)))
            # If the first try was committed, to write the same row again changes nothing.
            async with self.writers.use() as link:
                written = await link.fetchval(*asked)
        if written is None:
            raise lease_over(chat_id, epoch)

    async def _acquire(self, worker_id: WorkerId, slots: int, lease_seconds: float) -> Acquisition:
        swept = await self._sweeper.sweep(sql.WORK, slots, sweeps.acquire(worker_id, lease_seconds))
        taken = swept.chats
        if not taken:
            return Acquisition((), swept.passed_over_seconds)
        # Only the new holder adds to these chats, and the messages are read as of the commit.
        try:
            contexts = await self._read(reads.contexts, self._clock, taken)
        except DatabaseUnavailable as error:
            self._observer.note(spans.DatabaseFailed(what="acquire", error=str(error)))
            # If only this connection failed, these chats need not wait for their leases to end.
            contexts = await self._read(reads.contexts, self._clock, taken)
        chats = [Acquired(chat.state, tuple(contexts[chat.row_id])) for chat in taken]
        return Acquisition(chats, swept.passed_over_seconds)

    async def _beat(
        self, worker_id: WorkerId, held: Sequence[tuple[ChatId, int]], lease_seconds: float
    ) -> Sequence[Beat]:
        before = self._time.local()
        async with self.writers.use() as link:
            rows = await link.fetch(
                *sql.BEAT(
                    uuids=[chat_id for chat_id, _ in held],
                    epochs=[epoch for _, epoch in held],
                    worker_id=worker_id,
                    lease_micros=lease_micros(lease_seconds),
                    now=self._time.given,
                )
            )
        if rows:
            self._time.saw(before, rows[0]["now"], self._time.local())
        return [
            Beat(chat_id, epoch, revision, Status(status))
            for chat_id, epoch, revision, status, _ in rows
        ]


async def _one(link: Any) -> bool:
    return await link.fetchval("SELECT 1 FROM chats LIMIT 1") in (1, None)
