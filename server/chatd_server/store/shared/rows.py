"""The rows of the tables: what is written in each column, and what is read from it.

A column of `chats` that belongs to the state is in ChatRow and `state_of`, which read it, and in
the one group of columns with which it is written.
"""

from collections.abc import Mapping
from typing import NamedTuple

from chatd_server.domain.chat import ChatState, Lease, Queued, Status
from chatd_server.domain.event import Event, LoggedEvent, MessageCommitted
from chatd_server.domain.ids import (
    ChatId,
    Instant,
    MessageId,
    OwnerId,
    ToolCallId,
    WorkerId,
)
from chatd_server.store.shared.codec import (
    EVENT_KINDS,
    MESSAGE_EVENT,
    HotState,
    decode_config,
    decode_event,
    decode_hot_state,
    decode_message,
    decode_order,
    encode,
    encode_labels,
    encode_order,
    page_weight,
)
from chatd_server.store.shared.columns import (
    BIGINT,
    BOOLEAN,
    BYTES,
    SMALLINT,
    TEXT,
    Column,
    Columns,
    Row,
)
from chatd_server.store.shared.open_calls import Journal, with_journal, without_journal

# --- chats: reading ------------------------------------------------------------------------


class ChatRow(NamedTuple):
    """The columns of `chats` that make a state, in the order in which they are selected."""

    id: int
    uuid: ChatId
    owner_id: OwnerId
    parent_id: ChatId | None
    parent_call_id: ToolCallId | None
    root_id: ChatId
    status: str
    archived: bool | int
    deleted_at: Instant | None
    revision: int
    head_sequence: int
    oldest_sequence: int
    next_position: int
    epoch: int
    worker_id: WorkerId | None
    lease_expires_at: Instant | None
    journal: int
    created_at: Instant
    updated_at: Instant
    content_version: int
    state: bytes
    config: bytes
    queue: bytes | None


STATE_COLUMNS = ChatRow._fields
STATE_WIDTH = len(STATE_COLUMNS)

_STATUSES = {status.value: status for status in Status}


def state_of(
    row: ChatRow, queued: Mapping[MessageId, Queued] | None, journal: Journal
) -> ChatState:
    """Return a chat's state from its row, its queue and its journal.

    `queued` None leaves the contents of the queue out and keeps its length.
    """
    hot = decode_hot_state(row.content_version, row.state)
    return ChatState(
        id=row.uuid,
        owner_id=row.owner_id,
        root_id=row.root_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        parent_id=row.parent_id,
        parent_call_id=row.parent_call_id,
        revision=row.revision,
        head_sequence=row.head_sequence,
        oldest_sequence=row.oldest_sequence,
        next_position=row.next_position,
        boundary_position=hot.boundary_position,
        status=_STATUSES[row.status],
        archived=bool(row.archived),
        deleted=row.deleted_at is not None,
        lease=_lease_of(row),
        epoch=row.epoch,
        journal=row.journal,
        rescues=hot.rescues,
        turn=hot.turn,
        stop_reason=hot.stop_reason,
        last_error=hot.last_error,
        calls=with_journal(hot.calls, journal) if journal else hot.calls,
        action=hot.action,
        queue=_queue_of(row.queue, queued),
        context=hot.context,
        usage_total=hot.usage_total,
        config=decode_config(row.content_version, row.config),
        truncated_at=hot.truncated_at,
        forked_from=hot.forked_from,
    )


def _lease_of(row: ChatRow) -> Lease | None:
    if row.worker_id is None or row.lease_expires_at is None:
        return None
    return Lease(row.worker_id, row.epoch, row.lease_expires_at)


def _queue_of(order: bytes | None, queued: Mapping[MessageId, Queued] | None) -> tuple[Queued, ...]:
    if queued is None:
        return tuple(Queued(one, (), 0) for one in decode_order(order))
    return tuple(queued[one] for one in decode_order(order))


# --- chats: writing ------------------------------------------------------------------------


def hot_state(state: ChatState) -> bytes:
    """Return the value of `chats.state`."""
    return encode(
        HotState(
            state.boundary_position,
            state.rescues,
            state.turn,
            state.stop_reason,
            state.last_error,
            without_journal(state.calls) if state.calls else (),
            state.action,
            state.context,
            state.usage_total,
            state.truncated_at,
            state.forked_from,
        )
    )


def due_at(state: ChatState) -> Instant | None:
    """Return when a worker should look at the chat: for work, or for a missed deadline."""
    if state.deleted or state.lease is not None:
        return None
    if state.status is Status.REQUIRES_ACTION and state.action is not None:
        return state.action.deadline
    if state.status is Status.PENDING and state.turn is not None:
        return state.turn.next_attempt_at or state.updated_at
    if state.status in (Status.PENDING, Status.INTERRUPTING):
        return state.updated_at
    return None


# Written when the chat is made. Retention moves `oldest_sequence`, each entry counts `journal`.
CREATED = Columns(
    Column("uuid", TEXT, "id"),
    Column("parent_id", TEXT),
    Column("parent_call_id", TEXT),
    Column("root_id", TEXT),
    Column("oldest_sequence", BIGINT),
    Column("journal", BIGINT),
    Column("created_at", BIGINT),
)
# Written by every transition, with content_version. None of them is in an index.
STEP = Columns(
    Column("revision", BIGINT),
    Column("head_sequence", BIGINT),
    Column("next_position", BIGINT),
    Column("updated_at", BIGINT),
    Column("state", BYTES, hot_state),
)
# Written unless the transition is a step; see `changes.is_step`.
STATUS = Columns(
    Column("status", TEXT, "status.value"),
    Column("due_at", BIGINT, due_at),
)
OWNED = Columns(
    Column("owner_id", TEXT),
    Column("archived", BOOLEAN),
    Column("deleted_at", BIGINT, lambda it: it.updated_at if it.deleted else None),
    Column("queue", BYTES, lambda it: encode_order(it.queue)),
)
# Written by the transitions that grant or end a lease.
LEASE = Columns(
    Column("epoch", BIGINT),
    Column("worker_id", TEXT, lambda it: it.lease.worker_id if it.lease else None),
    Column("lease_expires_at", BIGINT, lambda it: it.lease.expires_at if it.lease else None),
)
# Written when the owner changes it.
CONFIG = Columns(
    Column("config", BYTES, lambda it: encode(it.config)),
    Column("labels", BYTES, lambda it: encode_labels(it.config.labels)),
)
NEW_CHAT = (CREATED, STEP, STATUS, OWNED, LEASE, CONFIG)

# --- messages and events -------------------------------------------------------------------


def _position(logged: LoggedEvent) -> int | None:
    event = logged.event
    return event.position if type(event) is MessageCommitted else None


def _payload(logged: LoggedEvent) -> bytes | None:
    """Return the event, unless the message's row says it all: then the message closes the attempt
    that wrote it. Results that are followed by more of the same batch do not.
    """
    event, message = logged.event, logged.message
    if (
        type(event) is MessageCommitted
        and message is not None
        and event.attempt_id == message.attempt_id
    ):
        return None
    return encode(event)


MESSAGE = Columns(
    Column("position", BIGINT),
    Column("uuid", TEXT, "id"),
    Column("role", TEXT, "role.value"),
    Column("sequence", BIGINT),
    Column("content", BYTES, encode),
)
EVENT = Columns(
    Column("sequence", BIGINT),
    Column("kind", SMALLINT, lambda it: EVENT_KINDS[type(it.event)]),
    Column("at", BIGINT),
    Column("position", BIGINT, _position),
    Column("payload", BYTES, _payload),
)


def event_of(row: Row) -> LoggedEvent:
    """Return an event from (sequence, kind, at, position, content_version, payload,
    content_version of its message, content of its message).
    """
    sequence, kind, at, position, version, payload, message_version, content = row
    if kind != MESSAGE_EVENT:
        return LoggedEvent(sequence, at, decode_event(version, payload))
    message = decode_message(message_version, content)
    event: Event = (
        MessageCommitted(position, message.attempt_id)
        if payload is None
        else decode_event(version, payload)
    )
    return LoggedEvent(sequence, at, event, message)


def event_weight(row: Row) -> int:
    """Return what such a row counts in a page that is bounded by bytes."""
    payload, content = row[5], row[7]
    return len(payload or b"") + (0 if content is None else page_weight(content))


# --- the other tables ----------------------------------------------------------------------

# From a Queued, a ToolResult, a CallStart, a replay.Record, a KeyRecord.
QUEUED = Columns(
    Column("uuid", TEXT, "id"),
    Column("content", BYTES, encode),
)
OUTCOME = Columns(
    Column("call_id", TEXT),
    Column("outcome", BYTES, encode),
)
STARTED = Columns(
    Column("call_id", TEXT),
    Column("started_at", BIGINT),
)
COMMAND = Columns(
    Column("key", BYTES),
    Column("sequence", BIGINT),
    Column("created_at", BIGINT),
    Column("body_hash", BYTES),
    Column("response", BYTES),
)
KEY = Columns(
    Column("id", TEXT),
    Column("owner_id", TEXT),
    Column("name", TEXT),
    Column("created_at", BIGINT),
    Column("revoked_at", BIGINT),
)
