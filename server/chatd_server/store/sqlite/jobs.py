"""The writer's jobs. Each is done whole or not at all; see `writer.Job`."""

from collections.abc import Mapping, Sequence

import msgspec

from chatd_server.domain.chain import Chain, commands_of
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import (
    Command,
    CommitAnswer,
    CommitResults,
    FinishTurn,
    RequireAction,
    ScheduleRetry,
    StartAttempt,
)
from chatd_server.domain.ids import ChatId, Instant, OwnerId, WorkerId
from chatd_server.domain.message import Message, ToolResult
from chatd_server.ports.store import Applied, Beat, RequestKey
from chatd_server.store.shared.codec import command_key
from chatd_server.store.shared.ownership import lease_over
from chatd_server.store.shared.replay import record_key
from chatd_server.store.shared.sweeps import NOT_DUE, OrderFor, lease_micros
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
    #: The state that the lease holder has, for what it sends every turn.
    known: ChatState | None
    request: RequestKey | None
    owner_id: OwnerId | None
    #: A root takes its children along.
    with_children: bool = False

    def run(self, again: bool) -> Applied:
        """Decide on the lease holder's state if it is the newest, else on fresh rows."""
        command, chat_id, request = self.command, self.chat_id, self.request
        key = record_key(chat_id, command, request)
        if self.known is not None and not again:
            applied = self.ledger.step(command, chat_id, key, self.known)
            if applied is not None:
                self.key = key
                self.commits.append(applied)
                return applied
        applied, commits = self.ledger.decide(
            command, chat_id, key, request, self.owner_id, with_children=self.with_children
        )
        if commits:
            self.key = key
            self.commits += commits
        return applied


class SweepJob(Job[list[Applied]], eq=False):
    """A sweep: the order is sent to each chat that the query finds."""

    ledger: Ledger
    query: str
    limit: int
    order: OrderFor

    def run(self, again: bool) -> list[Applied]:  # noqa: ARG002  found rows are always fresh
        ledger = self.ledger
        due = {"now": ledger.now(), "limit": self.limit}
        found = ledger.connection.execute(self.query, due).fetchall()
        done: list[Applied] = []
        for (chat_id,) in found:
            loaded = ledger.load(chat_id)
            if loaded is None:
                continue
            order = self.order(loaded[1], ledger.now())
            key = command_key(chat_id, order.command_id)
            try:
                # The order is of the state just loaded, so it was not carried out before.
                applied, commits = ledger.carry_out(loaded[1], order, key)
            except NOT_DUE:
                continue
            if commits:
                self.key = self.key or key
                self.commits += commits
                done.append(applied)
        return done


class AcquireJob(SweepJob, eq=False):
    """The sweep that takes chats with work."""

    #: Their contexts; None for a long one.
    contexts: Sequence[tuple[Message, ...] | None] = ()

    def run(self, again: bool) -> list[Applied]:
        """Take the chats, and read their contexts."""
        taken = super().run(again)
        self.contexts = [self.ledger.short_context(applied.state) for applied in taken]
        return taken


class FinishCallJob(Job[None], eq=False):
    """The outcome of a call."""

    ledger: Ledger
    chat_id: ChatId
    epoch: int
    result: ToolResult

    def run(self, again: bool) -> None:  # noqa: ARG002  the first outcome stands
        execute = self.ledger.connection.execute
        held = {"uuid": self.chat_id, "epoch": self.epoch}
        found = execute(sql.COUNT_JOURNAL, held).fetchone()
        if found is None:
            raise lease_over(self.chat_id, self.epoch)
        execute(sql.RECORD_OUTCOME, sql.OUTCOME.values(self.result, found[0]))


class BeatJob(Job[list[Beat]], eq=False):
    """A heartbeat for all chats of a worker, in one statement."""

    ledger: Ledger
    worker_id: WorkerId
    held: Sequence[tuple[ChatId, int]]
    lease_seconds: float

    def run(self, again: bool) -> list[Beat]:  # noqa: ARG002  the newest time counts
        """Extend the leases that this worker still has."""
        extension = {
            "expires_at": self.ledger.now() + lease_micros(self.lease_seconds),
            "held": msgspec.json.encode(self.held).decode(),
            "worker_id": self.worker_id,
        }
        rows = self.ledger.connection.execute(sql.BEAT, extension)
        return [
            Beat(chat_id, epoch, revision, Status(status))
            for chat_id, epoch, revision, status in rows.fetchall()
        ]


class PruneEventsJob(Job[tuple[int, int | None]], eq=False):
    """Drop old events of some chats; returns how many, and the row to go on after."""

    ledger: Ledger
    before: Instant
    after: int
    chats_max: int

    def run(self, again: bool) -> tuple[int, int | None]:  # noqa: ARG002  to delete twice is to delete once
        """Delete, and say where the log begins now."""
        execute = self.ledger.connection.execute
        wanted = {"after": self.after, "before": self.before, "limit": self.chats_max}
        found = execute(sql.WITH_OLD_EVENTS, wanted).fetchall()
        dropped = 0
        for row_id, oldest in found:
            old = {"chat": row_id, "oldest": oldest, "before": self.before}
            young = execute(sql.FIRST_YOUNG_EVENT, old).fetchone()
            head = execute(sql.HEAD, (row_id,)).fetchone()
            kept = {"chat": row_id, "first": head[0] + 1 if young is None else young[0]}
            dropped += execute(sql.DELETE_EVENTS, kept).rowcount
            execute(sql.MOVE_OLDEST, kept)
        return dropped, found[-1][0] if len(found) == self.chats_max else None


class PruneCommandsJob(Job[int], eq=False):
    """Drop the oldest command records."""

    ledger: Ledger
    before: Instant
    rows_max: int

    def run(self, again: bool) -> int:  # noqa: ARG002  to delete twice is to delete once
        """Delete; fewer than asked for means that no older ones are left."""
        execute = self.ledger.connection.execute
        oldest = {"limit": self.rows_max, "before": self.before}
        return execute(sql.DELETE_COMMANDS, oldest).rowcount


class StatementJob(Job[int], eq=False):
    """One statement; returns how many rows it changed."""

    ledger: Ledger
    statement: str
    parameters: Mapping[str, object] | tuple[object, ...]

    def run(self, again: bool) -> int:  # noqa: ARG002  nothing of the first run is left
        return self.ledger.connection.execute(self.statement, self.parameters).rowcount
