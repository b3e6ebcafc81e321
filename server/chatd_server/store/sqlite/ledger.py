"""The writer's side of the database: load, decide, write. Runs in the writer's thread only."""

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from chatd_server.domain.chain import Chain, closes_unseen, decide
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command, Create, DeleteChat, SetArchived
from chatd_server.domain.family import Step, advance_child, advance_family, news_of
from chatd_server.domain.ids import ChatId, Instant, OwnerId
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import LeaseLost, Refused
from chatd_server.domain.transition import Transition
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.shared import replay, rows
from chatd_server.store.shared.changes import NO_SIDE_ROWS, changed_columns, is_step, side_rows
from chatd_server.store.shared.codec import command_key, decode_message
from chatd_server.store.shared.columns import BYTES, Column, Columns, Row
from chatd_server.store.shared.ownership import writable
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.loading import read_answer, read_state

Commits: TypeAlias = tuple[Applied, ...]

ROW_IDS_MAX = 100_000
"""Row ids of chats that are remembered, about 20 MB; they never change."""

STATE_BYTES_STEP = 512
"""`chats.state` is filled up with spaces to a multiple of this. SQLite writes a row of the same
length in place; when a row grows by a byte, it writes all of it, with the configuration."""

SHORT_MESSAGES_MAX = 16
SHORT_BYTES_MAX = 4096
"""A context of so many messages, each of so many bytes, is read by the writer, which all commits
wait for. That takes 0.1 ms; a reader's thread would add as much to each turn."""

_SPACES = b" " * STATE_BYTES_STEP


class Ledger:
    """Reads and writes inside the writer's transaction, which the group commit opens and ends."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._executemany = self._cursor.executemany
        # Rows of the steps of one group, until `flush`.
        self._messages: list[Row] = []
        self._events: list[Row] = []
        self._commands: list[Row] = []
        self._row_ids: OrderedDict[ChatId, int] = OrderedDict()
        newest = self._execute(sql.NEWEST_TXID).fetchone()
        self._txid: int = newest[0] if newest is not None else 0

    def now(self) -> Instant:
        return self._clock.now()

    # --- transactions ----------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction; undo one that could not be undone before."""
        if self.connection.in_transaction:
            self._execute("ROLLBACK")
        self._messages, self._events, self._commands = [], [], []
        # Rises with each commit, also across a restart with a clock that was set back.
        self._txid = max(self._txid + 1, self._clock.now())
        self._execute("BEGIN IMMEDIATE")

    def flush(self) -> None:
        """Insert the rows of the steps so far: before anything is read, and before the commit.

        Inserted together they cost two thirds of what they cost one by one.
        """
        if self._commands:
            self._executemany(sql.INSERT_COMMAND, self._commands)
            self._commands = []
        if self._messages:
            self._executemany(sql.INSERT_MESSAGE, self._messages)
            self._messages = []
        if self._events:
            self._executemany(sql.INSERT_EVENT, self._events)
            self._events = []

    def is_recorded(self, key: bytes) -> bool:
        """Say whether a command with this key was committed."""
        return self._execute(sql.FIND_COMMAND, (key,)).fetchone() is not None

    # --- loading ---------------------------------------------------------------------------

    def row_id(self, chat_id: ChatId) -> int | None:
        """Return the row id of a chat. It is remembered, which saves a look-up per write."""
        known = self._row_ids.get(chat_id)
        if known is not None:
            return known
        found = self._execute(sql.CHAT_ROW, (chat_id,)).fetchone()
        return None if found is None else self._remember(chat_id, found[0])

    def _remember(self, chat_id: ChatId, row_id: int) -> int:
        if len(self._row_ids) >= ROW_IDS_MAX:
            self._row_ids.popitem(last=False)
        self._row_ids[chat_id] = row_id
        return row_id

    def load(self, chat_id: ChatId) -> tuple[int, ChatState] | None:
        """Return a chat's row id and its state, queue contents and journal included."""
        row = self._execute(sql.LOAD, (chat_id,)).fetchone()
        return None if row is None else read_state(self._cursor, row)

    def short_context(self, state: ChatState) -> tuple[Message, ...] | None:
        """Return the messages that the model's context begins with; None when they are long."""
        if state.next_position - state.boundary_position > SHORT_MESSAGES_MAX:
            return None
        row_id = self.row_id(state.id)
        wanted = {"chat": row_id, "first": state.boundary_position, "bytes": SHORT_BYTES_MAX}
        found = self._execute(sql.SHORT_MESSAGES, wanted).fetchall()
        if any(content is None for _, content in found):
            return None
        return tuple(decode_message(version, content) for version, content in found)

    # --- deciding --------------------------------------------------------------------------

    def step(
        self, command: Command | Chain, chat_id: ChatId, key: bytes, known: ChatState
    ) -> Applied | None:
        """Decide on the state that the lease holder has; None when it is not the newest.

        Three kinds of transitions are left to `decide`, on fresh rows: those that keep the lease
        but write more than a step does, because heartbeats move the lease outside of the revision;
        those that close calls, whose outcomes stand in the journal; and those that a parent is
        told of.
        """
        now = self._clock.now()
        try:
            transition = decide(known, command, now)
        except (Refused, LeaseLost):
            return None
        new = transition.state
        if new.parent_id is not None and news_of(known, new) is not None:
            return None
        row_id = self._row_ids.get(chat_id) or self.row_id(chat_id)
        if row_id is None:
            return None
        if is_step(known, new):
            written = transition.changed and self._write_step(row_id, known, new)
        elif new.lease is None and not closes_unseen(command, known, new):
            written = self._write_chat(row_id, known, new, sql.COMPARE)
        else:
            written = False
        if not written:
            return None
        self._messages += sql.MESSAGE.rows(transition.messages, row_id)
        self._events += sql.EVENT.rows(transition.events, row_id, self._txid)
        self._write_sides(row_id, known, transition)
        self._commands.append((row_id, *replay.record_of(key, known, transition, now, None)))
        return replay.applied_by(transition)

    def decide(
        self,
        command: Command | Chain,
        chat_id: ChatId,
        key: bytes,
        request: RequestKey | None,
        owner_id: OwnerId | None,
        *,
        with_children: bool = False,
    ) -> tuple[Applied, Commits]:
        """Decide on fresh rows and write; return the commits, too. A command that was carried out
        before is answered as it was then. `with_children`: a root takes its children along.
        """
        self.flush()
        found = self._execute(sql.FIND_COMMAND, (key,)).fetchone()
        if found is not None:
            return read_answer(self._cursor, found, request), ()
        loaded = self.load(chat_id)
        old = None if loaded is None else loaded[1]
        if not isinstance(command, Create):
            old = writable(old, chat_id, command, owner_id)
        elif old is not None:
            return replay.found_again(old, command), ()
        if with_children and old is not None and old.parent_id is None:
            assert isinstance(command, SetArchived | DeleteChat)
            steps = advance_family(old, self._children(chat_id), command, self._clock.now())
            return self._carry_out(steps, key, request)
        return self.carry_out(old, command, key, request)

    def _children(self, chat_id: ChatId) -> list[ChatState]:
        ids = self._execute(sql.CHILDREN, (chat_id,)).fetchall()
        found = (self.load(child_id) for (child_id,) in ids)
        return [it[1] for it in found if it is not None]

    def carry_out(
        self,
        old: ChatState | None,
        command: Command | Chain,
        key: bytes,
        request: RequestKey | None = None,
    ) -> tuple[Applied, Commits]:
        """Decide on the state of rows just loaded, and write; return the commits, too."""
        now = self._clock.now()
        transition = decide(old, command, now)
        parent_id = transition.state.parent_id
        if parent_id is None or news_of(old, transition.state) is None:
            steps: Sequence[Step] = (Step(old, transition, command.command_id),)
        else:
            parent = self.load(parent_id)
            steps = advance_child(None if parent is None else parent[1], old, command, now)
        return self._carry_out(steps, key, request)

    def _carry_out(
        self, steps: Sequence[Step], key: bytes, request: RequestKey | None
    ) -> tuple[Applied, Commits]:
        """Write the steps; the first is that of the chat which the command names."""
        now = self._clock.now()
        commits = tuple(replay.applied_by(it.transition) for it in steps if it.transition.changed)
        for step in steps:
            old, transition = step.old, step.transition
            row_id = 0 if old is None else self.row_id(old.id) or 0
            if transition.changed:
                row_id = self._write(row_id, old, transition)
            if step is steps[0]:
                if not commits and request is None:
                    continue
                record = replay.record_of(key, old, transition, now, request)
            elif transition.changed:
                own = command_key(transition.state.id, step.command_id)
                record = replay.record_of(own, old, transition, now, None)
            else:
                continue
            self._execute(sql.INSERT_COMMAND, (row_id, *record))
        return replay.applied_by(steps[0].transition), commits

    # --- writing ---------------------------------------------------------------------------

    def _write(self, row_id: int, old: ChatState | None, transition: Transition) -> int:
        new = transition.state
        if old is None:
            row_id = self._insert_chat(new)
        elif not self._write_chat(row_id, old, new, sql.COMPARE_JOURNAL, old.journal):
            raise AssertionError("a row changed inside the writer's transaction")
        if transition.removed_from is not None:
            self._execute(
                sql.REMOVE_MESSAGES,
                {"revision": new.revision, "chat": row_id, "position": transition.removed_from},
            )
        self._executemany(sql.INSERT_MESSAGE, sql.MESSAGE.rows(transition.messages, row_id))
        self._executemany(sql.INSERT_EVENT, sql.EVENT.rows(transition.events, row_id, self._txid))
        self._write_sides(row_id, old, transition)
        return row_id

    def _insert_chat(self, new: ChatState) -> int:
        self._execute(sql.INSERT_CHAT, _values(rows.NEW_CHAT, new))
        row_id = self._cursor.lastrowid
        assert row_id is not None
        return self._remember(new.id, row_id)

    def _write_step(self, row_id: int, old: ChatState, new: ChatState) -> bool:
        self._execute(_UPDATE_STEP, (*_STEP.values(new), row_id, old.revision, old.epoch))
        return self._cursor.rowcount == 1

    def _write_chat(
        self, row_id: int, old: ChatState, new: ChatState, compare: str, *compared: int
    ) -> bool:
        groups = changed_columns(old, new)
        self._execute(
            sql.update_chat(groups, compare),
            (*_values(groups, new), row_id, old.revision, old.epoch, *compared),
        )
        return self._cursor.rowcount == 1

    def _write_sides(self, row_id: int, old: ChatState | None, transition: Transition) -> None:
        """Write the queue and the journal."""
        side = side_rows(old, transition.state)
        many = self._executemany
        if side is not NO_SIDE_ROWS:
            many(sql.INSERT_QUEUED, sql.QUEUED.rows(side.enqueued, row_id))
            many(sql.DELETE_QUEUED, [(row_id, one) for one in side.dequeued])
            many(sql.RECORD_OUTCOME, sql.OUTCOME.rows(side.outcomes, row_id))
            many(sql.CLOSE_CALL, [(row_id, one) for one in side.closed])
        if transition.started:
            many(sql.START_CALL, sql.STARTED.rows(transition.started, row_id))


def _padded_state(state: ChatState) -> bytes:
    hot = rows.hot_state(state)
    return hot + _SPACES[len(hot) % STATE_BYTES_STEP :]


_STEP = rows.STEP.replacing(Column("state", BYTES, _padded_state))
_UPDATE_STEP = sql.update_chat((_STEP,), sql.COMPARE_LEASE)


def _values(groups: Sequence[Columns], new: ChatState) -> Row:
    return tuple(value for group in groups for value in group.values(new))
