"""Sweeps: one order for all the chats that a query finds.

The rows are locked first, so no other process changes them while they are decided on; PostgreSQL's
clock is read after the lock. One statement writes as many chats as make a piece, all in one
transaction.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command
from chatd_server.domain.family import news_of
from chatd_server.domain.ids import ChatId, Instant
from chatd_server.domain.limits import KIB
from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.domain.transition import Transition
from chatd_server.observe import spans
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.deciding import decide
from chatd_server.store.postgres.families import Families
from chatd_server.store.postgres.loading import Row, read_state
from chatd_server.store.postgres.pieces import in_pieces
from chatd_server.store.postgres.query import Query, arrays, unnest
from chatd_server.store.postgres.submission import submitted
from chatd_server.store.postgres.write_env import WriteEnv
from chatd_server.store.postgres.writing import LABEL, first_piece, write_rest
from chatd_server.store.shared.changes import side_rows
from chatd_server.store.shared.codec import command_key
from chatd_server.store.shared.columns import BIGINT, TEXT, Column
from chatd_server.store.shared.replay import applied_by, record_of
from chatd_server.store.shared.rows import COMMAND, EVENT, LEASE, MESSAGE, STATUS, STEP
from chatd_server.store.shared.sweeps import NOT_DUE, OrderFor, passed_over_seconds

_CHAT = Column("chat", BIGINT)
# What a sweep writes of each chat: rows of these columns.
_WRITTEN = (*STEP, *STATUS, *LEASE)
_CHATS = (_CHAT, Column("old_revision", BIGINT), *_WRITTEN)
_MESSAGES = (_CHAT, *MESSAGE)
_EVENTS = (_CHAT, *EVENT)
_EVENT = EVENT.under("chat")
_COMMANDS = (_CHAT, *COMMAND)
_CLOSED = (_CHAT, Column("call_id", TEXT))

_WRITE = Query(f"""
WITH given AS (SELECT * FROM {unnest("g", _CHATS)}), written AS (
    UPDATE chats AS c SET {", ".join(f"{it.name} = g.{it.name}" for it in _WRITTEN)},
        content_version = {CONTENT_VERSION}
    FROM given AS g WHERE c.id = g.chat AND c.revision = g.old_revision
    RETURNING c.id, {LABEL.replace("chats.", "c.")} AS txid
), write_messages AS (
    INSERT INTO messages ({", ".join(it.name for it in _MESSAGES)}, content_version)
    SELECT m.*, {CONTENT_VERSION} FROM written AS w
    JOIN {unnest("m", _MESSAGES)} ON m.chat = w.id
), write_events AS (
    INSERT INTO events ({", ".join(it.name for it in _EVENTS)}, content_version, txid)
    SELECT e.*, {CONTENT_VERSION}, w.txid FROM written AS w
    JOIN {unnest("e", _EVENTS)} ON e.chat = w.id
), write_commands AS (
    INSERT INTO commands ({", ".join(it.name for it in _COMMANDS)})
    SELECT k.* FROM written AS w JOIN {unnest("k", _COMMANDS)} ON k.chat = w.id
), write_closed AS (
    DELETE FROM tool_journal AS j USING {unnest("o", _CLOSED)}
    WHERE j.chat = o.chat AND j.call_id = o.call_id AND o.chat IN (SELECT id FROM written)
)
SELECT count(*) FROM written
""")


CHAT_BYTES = 8 * KIB
"""What each chat adds to a piece: it takes as long as to read or write this number of bytes."""


class Decided(msgspec.Struct, frozen=True):
    """The transition of one chat in a sweep."""

    row_id: int
    old: ChatState
    transition: Transition
    key: bytes
    order: Command | Chain


class Swept(msgspec.Struct, frozen=True):
    """A chat after a sweep."""

    row_id: int
    state: ChatState


class Sweep(msgspec.Struct, frozen=True):
    """What a sweep did."""

    chats: Sequence[Swept] = ()
    #: For how long the newest chat that is being written, and so was left out, has been due.
    passed_over_seconds: float | None = None


class Sweeper:
    """Finds chats and sends the same kind of order to each."""

    def __init__(self, env: WriteEnv, families: Families) -> None:
        self._env = env
        self._families = families

    async def sweep(self, query: Query, limit: int, order: OrderFor) -> Sweep:
        """Send the order to at most `limit` chats that the query finds.

        Not to be cancelled: the caller gives it a task of its own.
        """
        sent: list[Decided] = []
        told: list[Decided] = []
        try:
            swept = await self._sweep(query, limit, order, sent, told)
        except DatabaseUnavailable as error:
            self._env.observer.note(spans.DatabaseFailed(what="sweep", error=str(error)))
            if not sent:
                raise
        else:
            return Sweep((*swept.chats, *await self._tell_parents(told)), swept.passed_over_seconds)
        # The statement may have been committed nevertheless: then the chats are ours.
        async with self._env.links.use() as link, link.transaction():
            await link.fetch(*sql.AWAIT_WRITERS(ids=[step.row_id for step in sent]))
            committed = await link.fetchval(*sql.RECORDED(key=sent[0].key))
        return Sweep(await self._told(sent) if committed else ())

    async def _tell_parents(self, told: Sequence[Decided]) -> Sequence[Swept]:
        """Carry out what parents' logs tell of: each in a transaction with its parent, for a sweep
        waits for no row.
        """
        swept = []
        for step in told:
            assert step.old.parent_id is not None
            order = submitted(step.old.id, step.order)
            with suppress(*NOT_DUE):
                applied = await self._families.apply(order, step.old.parent_id)
                swept.append(Swept(step.row_id, applied.state))
        return swept

    async def _sweep(
        self,
        query: Query,
        limit: int,
        order: OrderFor,
        sent: list[Decided],
        told: list[Decided],
    ) -> Sweep:
        async with self._env.links.use() as link:
            with ExitStack() as lanes:
                async with link.transaction():
                    found = await link.fetchrow(*query(now=self._env.time.given, limit=limit))
                    free, passed_over = self._free(found)
                    if not free:
                        return Sweep((), passed_over)
                    lanes.enter_context(self._env.lanes.held(free.values()))
                    steps, now = await self._decide(link, list(free), order)
                    told += [it for it in steps if news_of(it.old, it.transition.state)]
                    sent += [it for it in steps if it not in told]
                    for piece in in_pieces(sent, _size):
                        await _write(link, piece, now)
                return Sweep(await self._told(sent), passed_over)

    def _free(self, found: Row) -> tuple[dict[int, ChatId], float | None]:
        """Return the free chats, and for how long the newest of the others has been due.

        Chats that this process is writing are passed over too, so that commits of one chat are told
        in order.
        """
        free: dict[int, ChatId] = {}
        passed_over = [] if found["passed_over"] is None else [found["passed_over"]]
        for row_id, chat_id, due in found["free"]:
            if self._env.lanes.is_busy(chat_id):
                passed_over.append(due)
            else:
                free[row_id] = chat_id
        return free, passed_over_seconds(passed_over, found["now"])

    async def _decide(
        self, link: Any, row_ids: list[int], order: OrderFor
    ) -> tuple[list[Decided], Instant]:
        time = self._env.time
        before = time.local()
        rows: Sequence[Row] = await link.fetch(*sql.LOAD_MANY(ids=row_ids, now=time.given))
        now: Instant = rows[0]["now"]
        time.saw(before, now, time.local())
        by_id = {row["id"]: row for row in rows}
        steps: list[Decided] = []
        for number, piece in enumerate(in_pieces(row_ids, lambda it: _row_size(by_id[it]))):
            if number:
                await self._env.clock.sleep(0, "postgres.piece")
            for row_id in piece:
                old = await read_state(link, by_id[row_id])
                wanted = order(old, now)
                try:
                    transition = await decide(old, wanted, now)
                except NOT_DUE:
                    continue
                if transition.changed:
                    key = command_key(old.id, wanted.command_id)
                    steps.append(Decided(row_id, old, transition, key, wanted))
        return steps, now

    async def _told(self, steps: Sequence[Decided]) -> Sequence[Swept]:
        for number, piece in enumerate(in_pieces(steps, _size)):
            if number:
                await self._env.clock.sleep(0, "postgres.piece")
            for step in piece:
                self._env.delivery.tell(applied_by(step.transition))
        return [Swept(step.row_id, step.transition.state) for step in steps]


def _row_size(row: Row) -> int:
    inline = sum(len(it[3] or b"") for it in row["queued"] or ())
    inline += sum(len(it[4] or b"") for it in row[-1])
    return CHAT_BYTES + len(row["state"]) + len(row["config"]) + inline


def _size(step: Decided) -> int:
    results = [it for message in step.transition.messages for it in message.results]
    return CHAT_BYTES + sum(len(it.output) for it in results)


async def _write(link: Any, steps: Sequence[Decided], now: Instant) -> None:
    chats, messages, events, commands, closed = [], [], [], [], []
    left = []
    for step in steps:
        row_id, old, new = step.row_id, step.old, step.transition.state
        assert new.config is old.config, "no sweep changes what the owner chose"
        side = side_rows(old, new)
        assert not any((side.enqueued, side.dequeued, side.outcomes)), "no sweep moves the queue"
        chats.append(
            (row_id, old.revision, *STEP.values(new), *STATUS.values(new), *LEASE.values(new))
        )
        first = first_piece(step.transition.messages, MESSAGE)
        messages += [(row_id, *row) for row in first]
        left.append(step.transition.messages[len(first) :])
        events += _EVENT.rows(step.transition.events, row_id)
        record = record_of(step.key, old, step.transition, now, None)
        commands.append((row_id, *record))
        closed += [(row_id, call_id) for call_id in side.closed]
    asked = _WRITE(
        **arrays("g", _CHATS, chats),
        **arrays("m", _MESSAGES, messages),
        **arrays("e", _EVENTS, events),
        **arrays("k", _COMMANDS, commands),
        **arrays("o", _CLOSED, closed),
    )
    await link.fetchval(*asked)
    for step, rest in zip(steps, left, strict=True):
        await write_rest(link, step.row_id, rest)
