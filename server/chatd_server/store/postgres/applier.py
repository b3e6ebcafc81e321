"""One command or one chain, from the decision to the commit.

First try: decide, then one statement that compares. If another write was faster, or the outcome of
the statement is unknown: take the row's lock, look the command up, load, decide, write.
"""

from typing import Any

import asyncpg

from chatd_server.domain.chain import Chain, closes_unseen, commands_of
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import WITHOUT_LEASE, ApiCommand, Command, Create
from chatd_server.domain.family import news_of
from chatd_server.domain.ids import ChatId, Instant, OwnerId
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost, Refused
from chatd_server.domain.transition import Transition
from chatd_server.observe import spans
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.deciding import decide, is_large
from chatd_server.store.postgres.families import Families
from chatd_server.store.postgres.link import AWAY
from chatd_server.store.postgres.loading import is_whole, read_state
from chatd_server.store.postgres.submission import (
    Submission,
    check_is_record,
    own,
    replayed,
    submitted,
)
from chatd_server.store.postgres.write_env import WriteEnv
from chatd_server.store.postgres.writing import write, write_answer, write_rest
from chatd_server.store.shared import replay
from chatd_server.store.shared.ownership import writable

LOCKED_TRIES = 3
"""Decisions under the lock. Two are needed when another request with the same id commits between
our look-up and our insert; a third, when that happens twice."""


class _TellsParent(Exception):
    """The parent's log tells of this transition: both are written, or none."""

    def __init__(self, parent_id: ChatId) -> None:
        super().__init__(parent_id)
        self.parent_id = parent_id


class Applier:
    """Applies commands, in order per chat, and tells of the commits."""

    def __init__(self, env: WriteEnv, families: Families) -> None:
        self._env = env
        self._families = families

    async def apply(
        self,
        chat_id: ChatId,
        command: Command | Chain,
        known: ChatState | None,
        request: RequestKey | None,
        owner_id: OwnerId | None,
    ) -> Applied:
        """Apply a command. Must not be cancelled: the caller gives it a task of its own."""
        order = submitted(chat_id, command, request, owner_id, known)
        if isinstance(command, Create) and command.parent_id is not None:
            return await self._families.apply(order, command.parent_id)
        turn = self._env.lanes.enter(chat_id)
        if turn is not None:
            await turn
        try:
            applied = await self._carry_out(order)
            if order.changed:
                self._env.delivery.tell(applied)
            return applied
        except _TellsParent as told:
            parent_id = told.parent_id
        finally:
            self._env.lanes.leave(chat_id)
        return await self._families.apply(order, parent_id)

    async def _carry_out(self, order: Submission) -> Applied:
        try:
            applied = await self._first_try(order)
            return await self._locked(order) if applied is None else applied
        except DatabaseUnavailable as error:
            self._env.observer.note(spans.DatabaseFailed(what="apply", error=str(error)))
        # Again, on another connection: if the first one committed, the record says so; if it still
        # runs, this one waits for the lock that it holds.
        order.changed = False
        return await self._locked(order)

    async def _first_try(self, order: Submission) -> Applied | None:
        """Return the result; None when the command has to be decided under the lock."""
        kind = type(order.command)
        if _needs_lock(order.command):
            return None
        link = self._env.links.take_free() or await self._env.links.take()
        try:
            if order.known is not None and not issubclass(kind, ApiCommand):
                return await self._step(link, order, order.known)
            if kind is Create:
                return await self._create(link, order)
            return await self._decide(link, order, locked=False)
        except asyncpg.UniqueViolationError as error:
            check_is_record(error)
            order.sent = None
            return None
        except AWAY as error:
            raise self._env.links.lost(link, error) from error
        finally:
            self._env.links.give(link)

    async def _locked(self, order: Submission) -> Applied:
        for _ in range(LOCKED_TRIES):
            try:
                async with self._env.links.use() as link, link.transaction():
                    await link.fetchval(*sql.LOCK(uuid=order.chat_id))
                    applied = await self._decide(link, order, locked=True)
            except asyncpg.UniqueViolationError as error:
                check_is_record(error)
                order.sent, order.changed = None, False
                continue
            if applied is not None:
                return applied
        raise DatabaseUnavailable("the chat changes faster than it can be written")

    # --- deciding --------------------------------------------------------------------------

    async def _create(self, link: Any, order: Submission) -> Applied | None:
        now = self._env.time.now()
        transition = await decide(None, order.command, now)
        return await self._write(link, order, None, transition, now, compare_journal=False)

    async def _step(self, link: Any, order: Submission, known: ChatState) -> Applied | None:
        """Decide on the state that the lease holder has: one statement."""
        now = self._env.time.now()
        try:
            transition = await decide(known, order.command, now)
        except (Refused, LeaseLost):
            return None
        if not transition.changed:
            return None
        compare_journal = closes_unseen(order.command, known, transition.state)
        return await self._write(link, order, known, transition, now, compare_journal)

    async def _decide(self, link: Any, order: Submission, *, locked: bool) -> Applied | None:
        """Look the command up, decide on fresh rows, and write; None when a comparison failed, or
        when the state is read in pieces and the chat is not locked.
        """
        before = self._env.time.local()
        asked = sql.LOAD_FOR(uuid=order.chat_id, key=order.key, now=self._env.time.given)
        row = await link.fetchrow(*asked)
        now = row["now"]
        self._env.time.saw(before, now, self._env.time.local())
        if not (locked or row["id"] is None or is_whole(row)):
            return None
        if row["command_key"] is not None:
            return own(order, row) or await replayed(link, row, order.request)
        old = None
        if row["id"] is not None:
            old = await read_state(link, row)
            if not is_whole(row):
                # The last piece was decoded just now; what is written may be as large.
                await self._env.clock.sleep(0, "postgres.piece")
        if not isinstance(order.command, Create):
            old = writable(old, order.chat_id, order.command, order.owner_id)
        elif old is not None:
            return replay.found_again(old, order.command)
        transition = await decide(old, order.command, now)
        if transition.changed:
            compare_journal = old is not None and bool(old.calls)
            return await self._write(link, order, old, transition, now, compare_journal)
        if order.request is not None:
            assert old is not None
            answer = write_answer(
                old, replay.record_of(order.key, old, transition, now, order.request)
            )
            if await link.fetchval(answer.statement, *answer.arguments) is None:
                return None
        return replay.applied_by(transition)

    async def _write(
        self,
        link: Any,
        order: Submission,
        old: ChatState | None,
        transition: Transition,
        now: Instant,
        compare_journal: bool,
    ) -> Applied | None:
        parent_id = transition.state.parent_id
        if parent_id is not None and news_of(old, transition.state) is not None:
            raise _TellsParent(parent_id)
        asked = write(
            old,
            transition,
            replay.record_of(order.key, old, transition, now, order.request),
            compare_journal=compare_journal,
            in_pieces=is_large(old, order.command),
        )
        if asked.is_large:
            await self._env.clock.sleep(0, "postgres.piece")
        order.sent = transition, now
        if asked.is_whole:
            row_id = await link.fetchval(asked.statement, *asked.arguments)
        else:
            async with link.transaction():
                row_id = await link.fetchval(asked.statement, *asked.arguments)
                if row_id is not None:
                    await write_rest(link, row_id, asked.messages, asked.outcomes, asked.events)
        if row_id is None:
            order.sent = None
            return None
        order.changed = True
        return replay.applied_by(transition)


def _needs_lock(order: Command | Chain) -> bool:
    # The clock decides: no heartbeat may come between the decision and the write.
    return any(type(command) in WITHOUT_LEASE for command in commands_of(order))
