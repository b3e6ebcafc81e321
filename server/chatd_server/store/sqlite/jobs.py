"""What the writer is asked to do. Each job is whole or not at all; see `writer.Job`."""

from collections.abc import Callable, Sequence

import msgspec

from chatd_server.domain.acquisition import acquisition
from chatd_server.domain.chain import Chain, commands_of
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Command,
    CommitAnswer,
    CommitResults,
    ExpireAction,
    FinishTurn,
    RequireAction,
    Rescue,
    ScheduleRetry,
    StartAttempt,
)
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant, OwnerId, WorkerId
from chatd_server.domain.message import CONTENT_VERSION, ToolResult
from chatd_server.domain.refusal import LeaseLost, Refused
from chatd_server.ports.store import Applied, Beat, RequestKey
from chatd_server.store.shared.codec import command_key, encode, request_key
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.ledger import Ledger
from chatd_server.store.sqlite.writer import Job

_OF_EVERY_TURN = frozenset(
    {StartAttempt, ScheduleRetry, CommitAnswer, CommitResults, RequireAction, FinishTurn}
)


def is_of_every_turn(order: Command | Chain) -> bool:
    """Say whether the lease holder may send this with the state that it knows."""
    return all(type(command) in _OF_EVERY_TURN for command in commands_of(order))


class ApplyJob(Job[Applied], eq=False):
    """One command, or one chain of them."""

    ledger: Ledger
    chat_id: ChatId
    command: Command | Chain
    known: ChatState | None
    request: RequestKey | None
    owner_id: OwnerId | None

    def run(self, again: bool) -> Applied:
        """Decide on what the lease holder knows, if that is the newest; else on fresh rows."""
        command, chat_id, request = self.command, self.chat_id, self.request
        key = (
            command_key(chat_id, command.command_id)
            if request is None
            else request_key(request.key)
        )
        if not self.savepoint and not again:
            assert self.known is not None
            applied = self.ledger.step(command, chat_id, key, self.known)
            if applied is not None:
                self.key = key
                self.commits.append(applied)
                return applied
        applied, changed = self.ledger.decide(command, chat_id, key, request, self.owner_id)
        if changed:
            self.key = key
            self.commits.append(applied)
        return applied


class SweepJob(Job[list[Applied]], eq=False):
    """The same kind of order for several chats that a query finds: acquire, rescue, expire."""

    ledger: Ledger
    query: str
    limit: int
    #: What is done to a chat that was found, and when.
    order: Callable[[ChatState, Instant], Command | Chain]

    def run(self, again: bool) -> list[Applied]:  # noqa: ARG002  found rows are always fresh
        """Carry the order out for each chat that takes it."""
        ledger = self.ledger
        found = ledger.connection.execute(self.query, (ledger.now(), self.limit)).fetchall()
        for (chat_id,) in found:
            loaded = ledger.load(chat_id)
            if loaded is None:
                continue
            order = self.order(loaded[1], ledger.now())
            key = command_key(chat_id, order.command_id)
            try:
                applied, changed = ledger.decide(order, chat_id, key, None, None)
            except (Refused, LeaseLost):
                # The query asks roughly, the machine exactly.
                continue
            if changed:
                self.key = self.key or key
                self.commits.append(applied)
        return self.commits


def acquire(ledger: Ledger, worker_id: WorkerId, slots: int, lease_seconds: float) -> SweepJob:
    """Return the job that takes chats with work, oldest work first."""

    def order(state: ChatState, now: Instant) -> Command | Chain:
        return acquisition(state, worker_id, lease_seconds, now)

    return SweepJob(ledger, sql.WORK, slots, order)


def rescue(ledger: Ledger, worker_id: WorkerId, limit: int) -> SweepJob:
    """Return the job that gives back chats whose lease has expired."""

    def order(state: ChatState, _: Instant) -> Command:
        return Rescue(command_id=f"rescue:{state.epoch}", worker_id=worker_id, epoch=state.epoch)

    return SweepJob(ledger, sql.EXPIRED_LEASES, limit, order)


def expire_actions(ledger: Ledger, worker_id: WorkerId, limit: int) -> SweepJob:
    """Return the job that answers actions past their deadline."""

    def order(state: ChatState, _: Instant) -> Command:
        asked = 0 if state.action is None else state.action.sequence
        return ExpireAction(command_id=f"expire:{asked}", worker_id=worker_id, epoch=state.epoch)

    return SweepJob(ledger, sql.EXPIRED_ACTIONS, limit, order)


class FinishCallJob(Job[None], eq=False):
    """The outcome of a call."""

    ledger: Ledger
    chat_id: ChatId
    epoch: int
    result: ToolResult

    def run(self, again: bool) -> None:  # noqa: ARG002  the first outcome stands
        """Compare the epoch and write."""
        execute = self.ledger.connection.execute
        found = execute(sql.COUNT_JOURNAL, (self.chat_id, self.epoch)).fetchone()
        if found is None:
            raise LeaseLost(f"the lease {self.epoch} of chat {self.chat_id} is over")
        execute(
            sql.RECORD_OUTCOME,
            (found[0], self.result.call_id, CONTENT_VERSION, encode(self.result)),
        )


class BeatJob(Job[list[Beat]], eq=False):
    """A heartbeat for all chats of a worker, in one statement."""

    ledger: Ledger
    worker_id: WorkerId
    held: Sequence[tuple[ChatId, int]]
    lease_seconds: float

    def run(self, again: bool) -> list[Beat]:  # noqa: ARG002  the newest time counts
        """Move the leases that still are this worker's."""
        expires_at = self.ledger.now() + round(self.lease_seconds * MICROSECONDS)
        held = msgspec.json.encode(self.held).decode()
        rows = self.ledger.connection.execute(sql.BEAT, (expires_at, held, self.worker_id))
        return [
            Beat(chat_id, epoch, revision, Status(status))
            for chat_id, epoch, revision, status in rows.fetchall()
        ]


class PruneEventsJob(Job[tuple[int, int | None]], eq=False):
    """Drop old events of some chats; answers how many, and after which row to go on."""

    ledger: Ledger
    before: Instant
    after: int
    chats_max: int

    def run(self, again: bool) -> tuple[int, int | None]:  # noqa: ARG002  what is gone is gone
        """Delete, and say where the log begins now."""
        execute = self.ledger.connection.execute
        found = execute(sql.WITH_OLD_EVENTS, (self.after, self.before, self.chats_max)).fetchall()
        dropped = 0
        for row_id, oldest in found:
            young = execute(sql.FIRST_YOUNG_EVENT, (row_id, oldest, self.before)).fetchone()
            head = execute(sql.HEAD, (row_id,)).fetchone()
            first = head[0] + 1 if young is None else young[0]
            dropped += execute(sql.DELETE_EVENTS, (row_id, first)).rowcount
            execute(sql.MOVE_OLDEST, (first, row_id))
        return dropped, found[-1][0] if len(found) == self.chats_max else None


class PruneCommandsJob(Job[int], eq=False):
    """Drop the oldest command records."""

    ledger: Ledger
    before: Instant
    rows_max: int

    def run(self, again: bool) -> int:  # noqa: ARG002  what is gone is gone
        """Delete; fewer than asked for means that no older ones are left."""
        execute = self.ledger.connection.execute
        return execute(sql.DELETE_COMMANDS, (self.rows_max, self.before)).rowcount


class StatementJob(Job[int], eq=False):
    """One statement; answers how many rows it changed."""

    ledger: Ledger
    statement: str
    parameters: tuple[object, ...]

    def run(self, again: bool) -> int:  # noqa: ARG002  nothing of the first run is left
        """Execute it."""
        return self.ledger.connection.execute(self.statement, self.parameters).rowcount
