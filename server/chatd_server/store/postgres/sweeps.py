"""Orders for all the chats that a query finds: acquire, rescue, expire.

The rows are locked first, so the machine decides on what nobody can change, by PostgreSQL's clock
as it is behind the lock. What it decides is written by one statement for as many chats as make a
piece, all in one transaction.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain.acquisition import acquisition
from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command, ExpireAction, Rescue
from chatd_server.domain.ids import MICROSECONDS, ChatId, Instant, WorkerId
from chatd_server.domain.limits import KIB
from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost, Refused
from chatd_server.domain.transition import Transition
from chatd_server.observe import Observer, Span
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.applier import applied_by
from chatd_server.store.postgres.deciding import decide
from chatd_server.store.postgres.lanes import Lanes
from chatd_server.store.postgres.links import Links
from chatd_server.store.postgres.loading import Row, read_state
from chatd_server.store.postgres.pieces import in_pieces
from chatd_server.store.postgres.time import StoreTime
from chatd_server.store.postgres.writing import first_piece, write_rest
from chatd_server.store.shared.codec import command_key
from chatd_server.store.shared.rows import due_at, event_rows, hot_state, message_rows, side_rows

Order: TypeAlias = Callable[[ChatState, Instant], Command | Chain]
"""What is done to a chat that was found, at a moment."""

_WRITE = f"""
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[],
        $12::bytea[])
    AS g(id, old_revision, status, revision, head_sequence, next_position, epoch, worker_id,
        lease_expires_at, due_at, updated_at, state)
), written AS (
    UPDATE chats AS c SET status = g.status, revision = g.revision,
        head_sequence = g.head_sequence, next_position = g.next_position, epoch = g.epoch,
        worker_id = g.worker_id, lease_expires_at = g.lease_expires_at, due_at = g.due_at,
        updated_at = g.updated_at, content_version = {CONTENT_VERSION}, state = g.state
    FROM given AS g WHERE c.id = g.id AND c.revision = g.old_revision
    RETURNING c.id
), write_messages AS (
    INSERT INTO messages (chat, position, uuid, role, sequence, content, content_version)
    SELECT m.*, {CONTENT_VERSION} FROM written AS w JOIN unnest($13::bigint[], $14::bigint[],
        $15::text[], $16::text[], $17::bigint[], $18::bytea[])
    AS m(chat, position, uuid, role, sequence, content) ON m.chat = w.id
), write_events AS (
    INSERT INTO events (chat, sequence, kind, at, position, payload, content_version, txid)
    SELECT e.*, {CONTENT_VERSION}, pg_current_xact_id()::text::bigint FROM written AS w
    JOIN unnest($19::bigint[], $20::bigint[], $21::smallint[], $22::bigint[], $23::bigint[],
        $24::bytea[])
    AS e(chat, sequence, kind, at, position, payload) ON e.chat = w.id
), write_commands AS (
    INSERT INTO commands (key, chat, sequence, created_at)
    SELECT k.key, w.id, k.sequence, $25::bigint FROM written AS w
    JOIN unnest($26::bytea[], $27::bigint[], $28::bigint[]) AS k(key, chat, sequence)
        ON k.chat = w.id
), write_closed AS (
    DELETE FROM tool_journal AS j USING unnest($29::bigint[], $30::text[]) AS o(chat, call_id)
    WHERE j.chat = o.chat AND j.call_id = o.call_id AND o.chat IN (SELECT id FROM written)
)
SELECT count(*) FROM written
"""


STEP_BYTES = 8 * KIB
"""What a chat counts in a piece by itself: it takes as long as to read or write so many bytes."""


class Step(msgspec.Struct, frozen=True):
    """What a sweep does to one chat."""

    row_id: int
    old: ChatState
    transition: Transition
    key: bytes


class Swept(msgspec.Struct, frozen=True):
    """A chat after a sweep."""

    row_id: int
    state: ChatState


class Sweep(msgspec.Struct, frozen=True):
    """What a sweep did."""

    chats: Sequence[Swept] = ()
    #: For how long the newest chat has been due that was left out, because it is being written.
    passed_over_seconds: float | None = None


class Sweeper:
    """Finds chats and carries the same kind of order out for each."""

    def __init__(
        self,
        links: Links,
        clock: Clock,
        time: StoreTime,
        lanes: Lanes,
        observer: Observer,
        tell: Callable[[Applied], None],
    ) -> None:
        self._links = links
        self._clock = clock
        self._time = time
        self._lanes = lanes
        self._observer = observer
        self._tell = tell

    async def sweep(self, query: str, limit: int, order: Order) -> Sweep:
        """Carry the order out for at most `limit` chats that the query finds and that take it.

        Not to be cancelled: the caller gives it a task of its own.
        """
        sent: list[Step] = []
        try:
            return await self._sweep(query, limit, order, sent)
        except DatabaseUnavailable as error:
            self._observer.note(Span.DATABASE_FAILED, what="sweep", error=str(error))
            if not sent:
                raise
        # The statement may have been committed all the same: then the chats are ours.
        async with self._links.use() as link, link.transaction():
            await link.fetch(sql.AWAIT_WRITERS, [step.row_id for step in sent])
            committed = await link.fetchval(sql.RECORDED, sent[0].key)
        return Sweep(await self._told(sent) if committed else ())

    async def _sweep(self, query: str, limit: int, order: Order, sent: list[Step]) -> Sweep:
        async with self._links.use() as link:
            with ExitStack() as lanes:
                async with link.transaction():
                    free, passed_over = self._free(
                        await link.fetchrow(query, self._time.given, limit)
                    )
                    if not free:
                        return Sweep((), passed_over)
                    lanes.enter_context(self._lanes.held(free.values()))
                    steps, now = await self._decide(link, list(free), order)
                    sent += steps
                    for piece in in_pieces(sent, _size):
                        await _write(link, piece, now)
                return Sweep(await self._told(sent), passed_over)

    def _free(self, found: Row) -> tuple[dict[int, ChatId], float | None]:
        """Return who is free, and for how long the newest of the others has been due.

        What this process is writing is passed over too, so that commits of one chat are told in
        order.
        """
        free: dict[int, ChatId] = {}
        passed_over = [] if found["passed_over"] is None else [found["passed_over"]]
        for row_id, chat_id, due in found["free"]:
            if self._lanes.is_busy(chat_id):
                passed_over.append(due)
            else:
                free[row_id] = chat_id
        if not passed_over:
            return free, None
        return free, (found["now"] - max(passed_over)) / MICROSECONDS

    async def _decide(
        self, link: Any, row_ids: list[int], order: Order
    ) -> tuple[list[Step], Instant]:
        before = self._time.local()
        rows: Sequence[Row] = await link.fetch(sql.LOAD_MANY, row_ids, self._time.given)
        now: Instant = rows[0]["now"]
        self._time.saw(before, now, self._time.local())
        by_id = {row["id"]: row for row in rows}
        steps: list[Step] = []
        for number, piece in enumerate(in_pieces(row_ids, lambda it: _row_size(by_id[it]))):
            if number:
                await self._clock.sleep(0, "postgres.piece")
            for row_id in piece:
                old = await read_state(link, by_id[row_id])
                wanted = order(old, now)
                try:
                    transition = await decide(old, wanted, now)
                except (Refused, LeaseLost):
                    # The query asks roughly, the machine exactly.
                    continue
                if transition.changed:
                    key = command_key(old.id, wanted.command_id)
                    steps.append(Step(row_id, old, transition, key))
        return steps, now

    async def _told(self, steps: Sequence[Step]) -> Sequence[Swept]:
        for number, piece in enumerate(in_pieces(steps, _size)):
            if number:
                await self._clock.sleep(0, "postgres.piece")
            for step in piece:
                self._tell(applied_by(step.transition))
        return [Swept(step.row_id, step.transition.state) for step in steps]


def acquire(worker_id: WorkerId, lease_seconds: float) -> Order:
    """Return who takes a chat."""
    return lambda state, now: acquisition(state, worker_id, lease_seconds, now)


def rescue(worker_id: WorkerId) -> Order:
    """Return who gives a chat back whose lease has expired."""
    return lambda state, _: Rescue(
        command_id=f"rescue:{state.epoch}", worker_id=worker_id, epoch=state.epoch
    )


def expire(worker_id: WorkerId) -> Order:
    """Return who answers an action past its deadline."""
    return lambda state, _: ExpireAction(
        command_id=f"expire:{0 if state.action is None else state.action.sequence}",
        worker_id=worker_id,
        epoch=state.epoch,
    )


def _row_size(row: Row) -> int:
    inline = sum(len(it[3] or b"") for it in row["queued"] or ())
    inline += sum(len(it[4] or b"") for it in row[-1])
    return STEP_BYTES + len(row["state"]) + len(row["config"]) + inline


def _size(step: Step) -> int:
    results = [it for message in step.transition.messages for it in message.results]
    return STEP_BYTES + sum(len(it.output) for it in results)


async def _write(link: Any, steps: Sequence[Step], now: Instant) -> None:
    firsts = [first_piece(step.transition.messages, message_rows) for step in steps]
    await link.fetchval(_WRITE, *_arguments(steps, firsts, now))
    for step, first in zip(steps, firsts, strict=True):
        await write_rest(link, step.row_id, step.transition.messages[len(first) :])


def _arguments(steps: Sequence[Step], firsts: Sequence[list[Row]], now: Instant) -> list[Any]:
    """Return the arguments of _WRITE; `firsts` are rows of messages, step by step."""
    chats, messages, events, commands, closed = [], [], [], [], []
    for step, first in zip(steps, firsts, strict=True):
        new, row_id = step.transition.state, step.row_id
        chats.append(_chat_row(step))
        messages += [(row_id, *row) for row in first]
        events += [(row_id, *row) for row in event_rows(step.transition.events)]
        commands.append((step.key, row_id, new.head_sequence))
        side = side_rows(step.old, new)
        assert side.config is None, "no sweep changes what the owner chose"
        assert not any((side.enqueued, side.dequeued, side.outcomes)), "no sweep moves the queue"
        closed += [(row_id, call_id) for call_id in side.closed]
    return [
        *_columns(chats, 12),
        *_columns(messages, 6),
        *_columns(events, 6),
        now,
        *_columns(commands, 3),
        *_columns(closed, 2),
    ]


def _chat_row(step: Step) -> Row:
    new = step.transition.state
    lease = new.lease
    return (
        step.row_id,
        step.old.revision,
        new.status.value,
        new.revision,
        new.head_sequence,
        new.next_position,
        new.epoch,
        None if lease is None else lease.worker_id,
        None if lease is None else lease.expires_at,
        due_at(new),
        new.updated_at,
        hot_state(new),
    )


def _columns(rows: Sequence[Row], width: int) -> Sequence[Row]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
