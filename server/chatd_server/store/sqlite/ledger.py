"""The writer's side of the database: load, decide, write. Runs in the writer's thread only."""

import sqlite3
from collections import OrderedDict

import msgspec

from chatd_server.domain.chain import Chain, closes_unseen, decide
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import ApiCommand, Command, Create
from chatd_server.domain.ids import ChatId, Instant, OwnerId
from chatd_server.domain.message import CONTENT_VERSION
from chatd_server.domain.refusal import (
    ChatArchived,
    ChatNotFound,
    LeaseLost,
    Refused,
    RequestIdReused,
)
from chatd_server.domain.transition import CallStart, Reply, Transition
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.shared.codec import decode_message
from chatd_server.store.shared.rows import (
    NO_SIDE_ROWS,
    Row,
    SideRows,
    decode_response,
    deleted_at,
    due_at,
    encode_response,
    event_rows,
    hot_state,
    is_step,
    message_rows,
    outcome_rows,
    queue_order,
    side_rows,
)
from chatd_server.store.sqlite import statements as sql
from chatd_server.store.sqlite.loading import read_state

ROW_IDS_MAX = 100_000
"""Row ids of chats that are remembered, about 20 MB; they never change."""

STATE_BYTES_STEP = 512
"""`chats.state` is filled up with spaces to a multiple of this. SQLite writes a row of the same
length in place; one that grew by a byte it writes anew, with all of the configuration."""

_SPACES = b" " * STATE_BYTES_STEP
_ROW_ID = 0


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
        """Return the time of the store."""
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
        """Return the row id of a chat; a few bytes of memory save a look-up per write."""
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
        return None if row is None else (row[_ROW_ID], read_state(self._cursor, row))

    # --- deciding --------------------------------------------------------------------------

    def step(
        self, command: Command | Chain, chat_id: ChatId, key: bytes, known: ChatState
    ) -> Applied | None:
        """Decide on the state that the lease holder has; None when it is not the newest.

        What keeps the lease but writes more than a step does is decided on fresh rows, because
        heartbeats move the lease outside of the revision; so is what closes calls, whose outcomes
        stand in the journal.
        """
        now = self._clock.now()
        try:
            transition = decide(known, command, now)
        except (Refused, LeaseLost):
            return None
        new = transition.state
        row_id = self._row_ids.get(chat_id) or self.row_id(chat_id)
        if row_id is None:
            return None
        if is_step(known, new):
            written = transition.changed and self._write_step(row_id, known, new)
        elif new.lease is None and not closes_unseen(command, known, new):
            written = self._write_chat(row_id, known, new, sql.UPDATE_HELD_CHAT)
        else:
            written = False
        if not written:
            return None
        self._messages += message_rows(transition.messages, row_id)
        self._events += event_rows(transition.events, row_id, self._txid)
        side = side_rows(known, new)
        if side is not NO_SIDE_ROWS:
            self._write_side(row_id, known, side)
        if transition.started:
            self._start_calls(row_id, transition.started)
        self._commands.append((key, row_id, new.head_sequence, now, None, None))
        return Applied(
            new, transition.reply, new.head_sequence, transition.events, transition.messages
        )

    def decide(
        self,
        command: Command | Chain,
        chat_id: ChatId,
        key: bytes,
        request: RequestKey | None,
        owner_id: OwnerId | None,
    ) -> tuple[Applied, bool]:
        """Decide on fresh rows and write; say whether anything changed."""
        self.flush()
        recorded = self._execute(sql.FIND_COMMAND, (key,)).fetchone()
        if recorded is not None:
            return self._replay(recorded, request), False
        row_id, old = 0, None
        loaded = self.load(chat_id)
        if isinstance(command, Create):
            if loaded is not None:
                # A child's id derives from its call: a spawn that is done again finds it.
                return _found_again(loaded[1], command), False
            self._check_root(command)
        else:
            row_id, old = _owned(loaded, chat_id, command, owner_id)
        transition = decide(old, command, self._clock.now())
        if transition.changed:
            row_id = self._write(row_id, old, transition)
        if transition.changed or request is not None:
            self._record(row_id, key, old, transition, request)
        return _applied(transition), transition.changed

    def _check_root(self, command: Create) -> None:
        if command.root_id is None:
            return
        root = self._execute(sql.LOAD, (command.root_id,)).fetchone()
        if root is None:
            raise ChatNotFound(command.root_id)
        state = read_state(self._cursor, root)
        if state.deleted:
            raise ChatNotFound(command.root_id)
        if state.archived:
            raise ChatArchived(state.status, "the root chat is archived")

    def _replay(self, recorded: Row, request: RequestKey | None) -> Applied:
        row_id, sequence, body_hash, response = recorded
        if request is not None and body_hash != request.body_hash:
            raise RequestIdReused(
                "this request id was used with another request: take a new id for a new request"
            )
        now = read_state(self._cursor, self._execute(sql.LOAD_ROW, (row_id,)).fetchone())
        if response is None:
            return Applied(now, Reply(), sequence, replayed=True)
        stored = decode_response(response)
        state, reply = stored.state, stored.reply
        if not stored.has_config:
            state = msgspec.structs.replace(state, config=now.config)
        if stored.position is not None:
            found = self._execute(sql.MESSAGE_AT, (row_id, stored.position)).fetchone()
            reply = msgspec.structs.replace(reply, message=decode_message(*found))
        return Applied(state, reply, sequence, replayed=True)

    # --- writing ---------------------------------------------------------------------------

    def _write(self, row_id: int, old: ChatState | None, transition: Transition) -> int:
        if old is None:
            row_id = self._insert_chat(transition.state)
        elif not self._write_chat(row_id, old, transition.state, sql.UPDATE_CHAT, old.journal):
            raise AssertionError("a row changed inside the writer's transaction")
        self._write_rows(row_id, old, transition)
        return row_id

    def _insert_chat(self, new: ChatState) -> int:
        config, labels = side_rows(None, new).config or (b"", b"")
        self._execute(
            sql.INSERT_CHAT,
            (
                new.id,
                new.owner_id,
                new.parent_id,
                new.parent_call_id,
                new.root_id,
                new.status.value,
                new.archived,
                deleted_at(new),
                new.revision,
                new.head_sequence,
                new.oldest_sequence,
                new.next_position,
                new.epoch,
                due_at(new),
                new.created_at,
                new.updated_at,
                CONTENT_VERSION,
                hot_state(new),
                config,
                labels,
                queue_order(new),
            ),
        )
        row_id = self._cursor.lastrowid
        assert row_id is not None
        return self._remember(new.id, row_id)

    def _write_step(self, row_id: int, old: ChatState, new: ChatState) -> bool:
        state = hot_state(new)
        self._execute(
            sql.UPDATE_STEP,
            (
                new.revision,
                new.head_sequence,
                new.next_position,
                new.updated_at,
                state + _SPACES[len(state) % STATE_BYTES_STEP :],
                row_id,
                old.revision,
                old.epoch,
            ),
        )
        return self._cursor.rowcount == 1

    def _write_chat(
        self, row_id: int, old: ChatState, new: ChatState, statement: str, *compared: int
    ) -> bool:
        lease = new.lease
        self._execute(
            statement,
            (
                new.owner_id,
                new.status.value,
                new.archived,
                deleted_at(new),
                new.revision,
                new.head_sequence,
                new.next_position,
                new.epoch,
                None if lease is None else lease.worker_id,
                None if lease is None else lease.expires_at,
                due_at(new),
                new.updated_at,
                CONTENT_VERSION,
                hot_state(new),
                queue_order(new),
                row_id,
                old.revision,
                old.epoch,
                *compared,
            ),
        )
        return self._cursor.rowcount == 1

    def _write_rows(self, row_id: int, old: ChatState | None, transition: Transition) -> None:
        new = transition.state
        if transition.removed_from is not None:
            self._execute(sql.REMOVE_MESSAGES, (new.revision, row_id, transition.removed_from))
        self._executemany(sql.INSERT_MESSAGE, message_rows(transition.messages, row_id))
        self._executemany(sql.INSERT_EVENT, event_rows(transition.events, row_id, self._txid))
        side = side_rows(old, new)
        if side is not NO_SIDE_ROWS:
            self._write_side(row_id, old, side)
        if transition.started:
            self._start_calls(row_id, transition.started)

    def _start_calls(self, row_id: int, calls: tuple[CallStart, ...]) -> None:
        self._executemany(
            sql.START_CALL,
            [(row_id, call.call_id, call.started_at, CONTENT_VERSION) for call in calls],
        )

    def _write_side(self, row_id: int, old: ChatState | None, side: SideRows) -> None:
        if side.config is not None and old is not None:
            self._execute(sql.UPDATE_CONFIG, (*side.config, row_id))
        if side.enqueued:
            self._executemany(sql.INSERT_QUEUED, [(row_id, *row) for row in side.enqueued])
        if side.dequeued:
            self._executemany(sql.DELETE_QUEUED, [(row_id, one) for one in side.dequeued])
        if side.outcomes:
            self._executemany(
                sql.RECORD_OUTCOME, [(row_id, *row) for row in outcome_rows(side.outcomes)]
            )
        if side.closed:
            self._executemany(sql.CLOSE_CALL, [(row_id, one) for one in side.closed])

    def _record(
        self,
        row_id: int,
        key: bytes,
        old: ChatState | None,
        transition: Transition,
        request: RequestKey | None,
    ) -> None:
        """Write down that a command was carried out, and what it answered."""
        self._execute(
            sql.INSERT_COMMAND,
            (
                key,
                row_id,
                transition.state.head_sequence,
                self._clock.now(),
                None if request is None else request.body_hash,
                None if request is None else encode_response(old, transition),
            ),
        )


def _applied(transition: Transition) -> Applied:
    state = transition.state
    return Applied(
        state, transition.reply, state.head_sequence, transition.events, transition.messages
    )


def _found_again(state: ChatState, command: Create) -> Applied:
    if state.owner_id != command.owner_id or state.parent_id != command.parent_id:
        raise ChatNotFound(command.chat_id)
    return Applied(state, Reply(), state.head_sequence, replayed=True)


def _owned(
    loaded: tuple[int, ChatState] | None,
    chat_id: ChatId,
    command: Command | Chain,
    owner_id: OwnerId | None,
) -> tuple[int, ChatState]:
    if loaded is None:
        raise ChatNotFound(chat_id)
    state = loaded[1]
    if owner_id is not None and state.owner_id != owner_id:
        raise ChatNotFound(chat_id)
    if state.deleted and isinstance(command, ApiCommand):
        raise ChatNotFound(chat_id)
    return loaded
