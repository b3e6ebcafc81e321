"""The embedded store: `ports.Store` on one SQLite file of one process."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from chatd_server.store.shared import sweeps
from chatd_server.store.shared.delivery import Delivery
from chatd_server.store.shared.pages import ChatFilter
from chatd_server.store.shared.secret import new_secret
from chatd_server.store.shared.sweeps import PRUNE_CHATS_MAX, PRUNE_COMMANDS_MAX
from chatd_server.store.sqlite import files, jobs, reads
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.failures import translated
from chatd_server.store.sqlite.ledger import Ledger
from chatd_server.store.sqlite.migrate import migrate
from chatd_server.store.sqlite.readers import Readers
from chatd_server.store.sqlite.writer import GroupCommit, Job, Writer

VOID_LEASES_MAX = 500
"""How many leases one job of the start releases."""

T = TypeVar("T")


class SqliteStore:
    """The database of one process. Every lease in it is void when it is opened."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        wake: Wake,
        observer: Observer,
        connect: files.Connect | None = None,
    ) -> None:
        """Use `open`. `connect` makes the writer's connection, so that a test can break it."""
        self._lock = files.FileLock(path)
        try:
            migrate(path)
            self._lock.serves()
            connection = files.writing(path) if connect is None else connect()
            self._ledger = Ledger(connection, clock)
        except sqlite3.OperationalError as error:
            self._lock.release()
            raise translated(error) from error
        except BaseException:
            self._lock.release()
            raise
        self._observer = observer
        self._delivery = Delivery(wake)
        self.readers = Readers(lambda: files.reading(path))
        self.writer = Writer(GroupCommit(self._ledger), self._delivered)

    @classmethod
    async def open(
        cls, path: Path, *, clock: Clock, wake: Wake, observer: Observer
    ) -> "SqliteStore":
        """Lock the file, migrate it, and give back every chat that a dead server held.

        Raises DatabaseInUse, SchemaTooNew, NotADatabase, DatabaseUnavailable.
        """
        store = cls(path, clock=clock, wake=wake, observer=observer)
        await store.void_leases()
        return store

    async def void_leases(self) -> int:
        """Give back every chat that is held: no other process can hold one. Return how many."""
        await self._submit(jobs.StatementJob(self._ledger, sql.VOID_LEASES, (self._ledger.now(),)))
        total = 0
        while rescued := await self.rescue(WorkerId("start"), VOID_LEASES_MAX):
            total += rescued
        if total:
            self._observer.note(spans.ChatsRescuedAtStart(count=total))
        return total

    async def close(self) -> None:
        """Write the queued jobs, close every connection, and release the file."""
        await self.writer.close()
        await self.readers.close()
        self._ledger.connection.close()
        self._lock.release()

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
        return await self.writer.submit(
            jobs.ApplyJob(
                self._ledger,
                chat_id,
                command,
                known if jobs.is_of_every_turn(command) else None,
                request,
                owner_id,
                savepoint=False,
            )
        )

    async def apply_family(
        self,
        chat_id: ChatId,
        command: SetArchived | DeleteChat,
        *,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        return await self._submit(
            jobs.ApplyJob(
                self._ledger, chat_id, command, None, request, owner_id, with_children=True
            )
        )

    async def finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        await self._submit(jobs.FinishCallJob(self._ledger, chat_id, epoch, result))

    async def acquire(self, worker_id: WorkerId, slots: int, lease_seconds: float) -> Acquisition:
        if slots <= 0:
            return Acquisition()
        order = sweeps.acquire(worker_id, lease_seconds)
        job = jobs.AcquireJob(self._ledger, sql.WORK, slots, order)
        states = [applied.state for applied in await self._submit(job)]
        taken = list(zip(states, job.contexts, strict=True))
        # Only the new holder adds to these chats, and the messages are read as of the commit.
        long = [state for state, context in taken if context is None]
        read = iter(await self.readers.read(reads.contexts, long) if long else ())
        return Acquisition(
            tuple(Acquired(state, next(read) if it is None else it) for state, it in taken)
        )

    async def heartbeat(
        self, worker_id: WorkerId, held: Sequence[tuple[ChatId, int]], lease_seconds: float
    ) -> Sequence[Beat]:
        if not held:
            return []
        return await self._submit(jobs.BeatJob(self._ledger, worker_id, held, lease_seconds))

    async def rescue(self, worker_id: WorkerId, limit: int) -> int:
        return len(await self._sweep(sql.EXPIRED_LEASES, limit, sweeps.rescue(worker_id)))

    async def expire_actions(self, worker_id: WorkerId, limit: int) -> int:
        return len(await self._sweep(sql.EXPIRED_ACTIONS, limit, sweeps.expire(worker_id)))

    async def prune_events(self, before: Instant) -> int:
        total, after = 0, 0
        while True:
            dropped, last = await self._submit(
                jobs.PruneEventsJob(self._ledger, before, after, PRUNE_CHATS_MAX)
            )
            total += dropped
            if last is None:
                return total
            after = last

    async def prune_commands(self, before: Instant) -> int:
        total = 0
        while True:
            dropped = await self._submit(
                jobs.PruneCommandsJob(self._ledger, before, PRUNE_COMMANDS_MAX)
            )
            total += dropped
            if dropped < PRUNE_COMMANDS_MAX:
                return total

    async def write(
        self, statement: str, parameters: Mapping[str, object] | tuple[object, ...] = ()
    ) -> int:
        """Execute one of the store's statements; return how many rows it changed."""
        return await self._submit(jobs.StatementJob(self._ledger, statement, parameters))

    # --- reads -----------------------------------------------------------------------------

    async def answered(self, request: RequestKey) -> Applied | None:
        return await self.readers.read(reads.answered, request)

    async def load(self, chat_id: ChatId, owner_id: OwnerId | None = None) -> ChatState:
        return await self.readers.read(reads.load, chat_id, owner_id)

    async def next_due(self) -> Instant | None:
        """Return when the earliest retry, action deadline or end of a lease is due, if any."""
        return await self.readers.read(reads.next_due, self._ledger.now())

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
        return await self.readers.read(
            reads.list_chats,
            owner_id,
            limit,
            ChatFilter(after_key, include_archived, labels or {}, statuses, parent_id),
        )

    async def list_actions(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None = None,
        chat_id: ChatId | None = None,
    ) -> ChatPage:
        return await self.readers.read(reads.list_actions, owner_id, limit, after_key, chat_id)

    async def messages(
        self, chat_id: ChatId, *, after_position: int, limit: int, bytes_max: int
    ) -> tuple[Sequence[Message], bool]:
        return await self.readers.read(reads.messages, chat_id, after_position, limit, bytes_max)

    async def message_position(self, chat_id: ChatId, message_id: MessageId) -> Message:
        return await self.readers.read(reads.message, chat_id, message_id)

    async def events(self, chat_id: ChatId, *, after: int, limit: int, bytes_max: int) -> EventPage:
        return await self.readers.read(reads.events, chat_id, after, limit, bytes_max)

    async def watch_head(self) -> Place:
        return await self.readers.read(reads.watch_head)

    async def watched(self, owner_id: OwnerId, *, after: Place, limit: int) -> WatchPage:
        return await self.readers.read(reads.watched, owner_id, after, limit)

    async def messages_as_of(
        self, state: ChatState, *, after_position: int
    ) -> tuple[Sequence[Message], bool]:
        bytes_max = RESPONSE_BYTES_MAX // 2
        return await self.readers.read(reads.messages_as_of, state, after_position, bytes_max)

    async def secret(self, name: str) -> bytes:
        found = await self.readers.read(reads.secret, name)
        if found is None:
            await self.write(sql.INSERT_SECRET, {"name": name, "value": new_secret()})
            found = await self.readers.read(reads.secret, name)
        assert found is not None
        return found

    async def is_reachable(self) -> bool:
        try:
            return await self.readers.read(reads.one)
        except DatabaseUnavailable:
            return False

    # --- the loop's side of the writer -----------------------------------------------------

    async def _submit(self, job: Job[T]) -> T:
        return await self.writer.submit(job)

    async def _sweep(self, query: str, limit: int, order: sweeps.OrderFor) -> list[Applied]:
        return await self._submit(jobs.SweepJob(self._ledger, query, limit, order))

    def _delivered(self, done: Sequence[Job[Any]]) -> None:
        """Tell of a committed group: the listeners first, then the callers."""
        for job in done:
            for applied in job.commits:
                self._delivery.tell(applied)
            future = job.future
            if job.error is None:
                if not future.done():
                    future.set_result(job.value)
                continue
            if isinstance(job.error, DatabaseUnavailable):
                self._observer.note(spans.DatabaseFailed(error=str(job.error)))
            if not future.done():
                future.set_exception(job.error)
