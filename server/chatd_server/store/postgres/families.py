"""Transitions of several chats of a family: one transaction, rows locked root first, then by id.

A parent is older than its children, so this is also the order of the row ids, in which heartbeats
lock. The lanes of all members are held before a row is locked: whoever has a lane waits for rows,
and nobody who has a row waits for a lane.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Create, DeleteChat, SetArchived
from chatd_server.domain.family import Step, advance_child, advance_family
from chatd_server.domain.ids import ChatId, Instant
from chatd_server.domain.refusal import ChatNotFound, DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.ports.store import Applied
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.deciding import is_large
from chatd_server.store.postgres.loading import Row, read_state
from chatd_server.store.postgres.submission import Submission, check_is_record, own, replayed
from chatd_server.store.postgres.write_env import WriteEnv
from chatd_server.store.postgres.writing import write, write_answer, write_rest
from chatd_server.store.shared import replay
from chatd_server.store.shared.codec import command_key
from chatd_server.store.shared.columns import Row as Record
from chatd_server.store.shared.ownership import writable

TRIES = 8
"""Each is lost to a child that was made, or to a repeated request, at the same moment."""
CUTS_MAX = 1
"""After a lost connection the outcome is looked up on another one, once."""


class _Overtaken(Exception):
    """Something came in between: nothing is written."""


class Families:
    """Applies what concerns a chat and its relatives, and tells of the commits."""

    def __init__(self, env: WriteEnv) -> None:
        self._env = env

    async def apply_family(self, order: Submission) -> Applied:
        """Apply SetArchived or DeleteChat. Must not be cancelled: see `Applier.apply`."""
        async with self._env.links.use() as link:
            found = await link.fetchrow(*sql.PARENT(uuid=order.chat_id))
        if found is None:
            raise ChatNotFound(order.chat_id)
        return await self.apply(order, found["parent_id"] or order.chat_id)

    async def apply(self, order: Submission, root_id: ChatId) -> Applied:
        """Apply a command to a root and its children, or to one child and the root's log."""
        members = {order.chat_id}
        cuts = 0
        for _ in range(TRIES):
            async with self._lanes(root_id, members):
                commits: list[Applied] = []
                try:
                    async with self._env.links.use() as link, link.transaction():
                        applied = await self._locked(link, order, root_id, members, commits)
                except asyncpg.UniqueViolationError as error:
                    check_is_record(error)
                    order.sent = None
                    continue
                except _Overtaken:
                    continue
                except DatabaseUnavailable as error:
                    self._env.observer.note(spans.DatabaseFailed(what="family", error=str(error)))
                    if cuts == CUTS_MAX:
                        raise
                    cuts += 1
                    continue
                for commit in commits:
                    self._env.delivery.tell(commit)
                return applied
        raise DatabaseUnavailable("the family changes faster than it can be written")

    @asynccontextmanager
    async def _lanes(self, root_id: ChatId, members: Iterable[ChatId]) -> AsyncIterator[None]:
        entered = [root_id, *sorted(it for it in members if it != root_id)]
        for chat_id in entered:
            turn = self._env.lanes.enter(chat_id)
            if turn is not None:
                await turn
        try:
            yield
        finally:
            for chat_id in entered:
                self._env.lanes.leave(chat_id)

    async def _locked(
        self,
        link: Any,
        order: Submission,
        root_id: ChatId,
        members: set[ChatId],
        commits: list[Applied],
    ) -> Applied:
        """Lock, look the command up, decide on fresh rows, and write."""
        is_root = order.chat_id == root_id
        await link.fetchval(*sql.LOCK(uuid=root_id))
        relatives = []
        if is_root:
            relatives = await link.fetch(*sql.LOCK_CHILDREN(parent_id=root_id))
            new = {row["uuid"] for row in relatives} - members
            if new:
                members |= new
                raise _Overtaken
        else:
            await link.fetchval(*sql.LOCK(uuid=order.chat_id))
        before = self._env.time.local()
        asked = sql.LOAD_FOR(uuid=order.chat_id, key=order.key, now=self._env.time.given)
        row = await link.fetchrow(*asked)
        now = row["now"]
        self._env.time.saw(before, now, self._env.time.local())
        if row["command_key"] is not None:
            if (applied := own(order, row)) is not None:
                commits += order.commits
                return applied
            return await replayed(link, row, order.request)
        old = None if row["id"] is None else await read_state(link, row)
        if not isinstance(order.command, Create):
            old = writable(old, order.chat_id, order.command, order.owner_id)
        elif old is not None:
            return replay.found_again(old, order.command)
        if is_root:
            children = await self._states(link, [row["id"] for row in relatives])
            assert old is not None
            assert isinstance(order.command, SetArchived | DeleteChat)
            steps = advance_family(old, children, order.command, now)
        else:
            parent = await link.fetchrow(*sql.LOAD(uuid=root_id))
            known = None if parent is None else await read_state(link, parent)
            if is_large(old, order.command):
                steps = await asyncio.to_thread(advance_child, known, old, order.command, now)
            else:
                steps = advance_child(known, old, order.command, now)
        await self._write(link, order, steps, now)
        commits += order.commits
        return replay.applied_by(steps[0].transition)

    async def _states(self, link: Any, row_ids: list[int]) -> list[ChatState]:
        if not row_ids:
            return []
        rows: Sequence[Row] = await link.fetch(
            *sql.LOAD_MANY(ids=row_ids, now=self._env.time.given)
        )
        return [await read_state(link, row) for row in rows]

    async def _write(
        self, link: Any, order: Submission, steps: Sequence[Step], now: Instant
    ) -> None:
        """Write the steps; the first is that of the chat which the command names."""
        order.commits = [replay.applied_by(it.transition) for it in steps if it.transition.changed]
        order.sent = steps[0].transition, now
        for step in steps:
            old, transition = step.old, step.transition
            if step is steps[0]:
                record = replay.record_of(order.key, old, transition, now, order.request)
                is_recorded = bool(order.commits) or order.request is not None
            else:
                own_key = command_key(transition.state.id, step.command_id)
                record = replay.record_of(own_key, old, transition, now, None)
                is_recorded = transition.changed
            if is_recorded:
                await _write_step(link, order, step, record)


async def _write_step(link: Any, order: Submission, step: Step, record: Record) -> None:
    old, transition = step.old, step.transition
    if transition.changed:
        asked = write(
            old,
            transition,
            record,
            compare_journal=old is not None and bool(old.calls),
            in_pieces=is_large(old, order.command),
        )
    else:
        assert old is not None
        asked = write_answer(old, record)
    row_id = await link.fetchval(asked.statement, *asked.arguments)
    if row_id is None:
        raise _Overtaken
    await write_rest(link, row_id, asked.messages, asked.outcomes, asked.events)
