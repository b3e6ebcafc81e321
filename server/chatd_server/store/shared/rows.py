"""What one transition writes, as rows; and a chat's state from its rows. Pure, for both stores."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, Lease, Queued, Status
from chatd_server.domain.event import LoggedEvent, MessageCommitted
from chatd_server.domain.ids import Instant, MessageId
from chatd_server.domain.message import CONTENT_VERSION, Message, ToolResult, Value
from chatd_server.domain.transition import Reply, Transition
from chatd_server.store.shared.codec import (
    EVENT_KINDS,
    MESSAGE_EVENT,
    ContentTooNew,
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
from chatd_server.store.shared.open_calls import Journal, with_journal, without_journal

Row: TypeAlias = Sequence[Any]

STATE_COLUMNS = (
    "id",
    "uuid",
    "owner_id",
    "parent_id",
    "parent_call_id",
    "root_id",
    "status",
    "archived",
    "deleted_at",
    "revision",
    "head_sequence",
    "oldest_sequence",
    "next_position",
    "epoch",
    "worker_id",
    "lease_expires_at",
    "journal",
    "created_at",
    "updated_at",
    "content_version",
    "state",
    "config",
    "queue",
)
"""Columns of `chats` that `state_of` takes, in this order."""

_STATUSES = {status.value: status for status in Status}


def state_of(
    row: Row,
    queued: Mapping[MessageId, Queued] | None,
    journal: Journal,
) -> ChatState:
    """Return a chat's state from STATE_COLUMNS, its queue and its journal.

    `queued` None leaves the contents of the queue out and keeps its length.
    """
    (
        _,
        uuid,
        owner_id,
        parent_id,
        parent_call_id,
        root_id,
        status,
        archived,
        deleted_at,
        revision,
        head_sequence,
        oldest_sequence,
        next_position,
        epoch,
        worker_id,
        lease_expires_at,
        journal_count,
        created_at,
        updated_at,
        version,
        state,
        config,
        queue,
    ) = row
    hot = decode_hot_state(version, state)
    return ChatState(
        id=uuid,
        owner_id=owner_id,
        root_id=root_id,
        created_at=created_at,
        updated_at=updated_at,
        parent_id=parent_id,
        parent_call_id=parent_call_id,
        revision=revision,
        head_sequence=head_sequence,
        oldest_sequence=oldest_sequence,
        next_position=next_position,
        boundary_position=hot.boundary_position,
        status=_STATUSES[status],
        archived=bool(archived),
        deleted=deleted_at is not None,
        lease=None if worker_id is None else Lease(worker_id, epoch, lease_expires_at),
        epoch=epoch,
        journal=journal_count,
        rescues=hot.rescues,
        turn=hot.turn,
        stop_reason=hot.stop_reason,
        last_error=hot.last_error,
        calls=with_journal(hot.calls, journal) if journal else hot.calls,
        action=hot.action,
        queue=_queue_of(queue, queued),
        usage_total=hot.usage_total,
        config=decode_config(version, config),
    )


def _queue_of(order: bytes | None, queued: Mapping[MessageId, Queued] | None) -> tuple[Queued, ...]:
    if queued is None:
        return tuple(Queued(one, (), 0) for one in decode_order(order))
    return tuple(queued[one] for one in decode_order(order))


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
            state.usage_total,
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


def deleted_at(state: ChatState) -> Instant | None:
    """Return the value of `chats.deleted_at`."""
    return state.updated_at if state.deleted else None


def is_step(old: ChatState | None, new: ChatState) -> bool:
    """Say whether the transition leaves status, lease, queue and configuration as they are.

    Such a transition writes no indexed column of `chats`: the common case of a running turn.
    """
    return (
        old is not None
        and old.lease is not None
        and new.status is old.status
        and new.lease == old.lease
        and new.queue is old.queue
        and new.config is old.config
        and new.archived is old.archived
        and new.deleted is old.deleted
        and new.owner_id == old.owner_id
    )


def keeps_lease(old: ChatState | None, new: ChatState) -> bool:
    """Say whether a heartbeat may have moved the lease meanwhile: then it is not written."""
    return old is not None and new.lease == old.lease


def message_rows(messages: Sequence[Message], *prefix: int) -> list[Row]:
    """Return (*prefix, position, uuid, role, sequence, content) for each."""
    return [
        (
            *prefix,
            message.position,
            message.id,
            str(message.role),
            message.sequence,
            encode(message),
        )
        for message in messages
    ]


def event_rows(events: Sequence[LoggedEvent], *prefix: int) -> list[Row]:
    """Return (*prefix, sequence, kind, at, position, payload) for each.

    What a committed message says stands in its row, but for one that does not close the attempt
    that wrote it: results that are followed by more of the same batch.
    """
    return [
        (
            *prefix,
            logged.sequence,
            MESSAGE_EVENT,
            logged.at,
            event.position,
            None if _is_closed_by(logged, event) else encode(event),
        )
        if type(event := logged.event) is MessageCommitted
        else (
            *prefix,
            logged.sequence,
            EVENT_KINDS[type(event)],
            logged.at,
            None,
            encode(event),
        )
        for logged in events
    ]


def _is_closed_by(logged: LoggedEvent, event: MessageCommitted) -> bool:
    message = logged.message
    return message is not None and event.attempt_id == message.attempt_id


def event_of(row: Row) -> LoggedEvent:
    """Return an event from (sequence, kind, at, position, content_version, payload,
    content_version of its message, content of its message).
    """
    sequence, kind, at, position, version, payload, message_version, content = row
    if kind == MESSAGE_EVENT:
        message = decode_message(message_version, content)
        if payload is None:
            event = MessageCommitted(position, message.attempt_id)
            return LoggedEvent(sequence, at, event, message)
        return LoggedEvent(sequence, at, decode_event(version, payload), message)
    return LoggedEvent(sequence, at, decode_event(version, payload))


def event_weight(row: Row) -> int:
    """Return what such a row counts in a page that is bounded by bytes."""
    payload, content = row[5], row[7]
    return len(payload or b"") + (0 if content is None else page_weight(content))


class SideRows(msgspec.Struct, frozen=True):
    """What a transition writes beside the chat, its messages and its events. Mostly nothing."""

    #: (config, labels) when they changed.
    config: tuple[bytes, bytes] | None = None
    #: (uuid, content_version, content) of messages that entered the queue.
    enqueued: tuple[Row, ...] = ()
    #: Ids of messages that left it.
    dequeued: tuple[str, ...] = ()
    #: Results of client calls answered in part.
    outcomes: tuple[ToolResult, ...] = ()
    #: Ids of calls that are not open any more: their journal goes.
    closed: tuple[str, ...] = ()


NO_SIDE_ROWS = SideRows()


def side_rows(old: ChatState | None, new: ChatState) -> SideRows:
    """Return what changed beside the chat's row."""
    if old is None:
        return SideRows(config=(encode(new.config), encode_labels(new.config.labels)))
    if new.config is old.config and new.queue is old.queue and not old.calls:
        return NO_SIDE_ROWS
    config = None
    if new.config is not old.config and new.config != old.config:
        config = (encode(new.config), encode_labels(new.config.labels))
    enqueued: tuple[Row, ...] = ()
    dequeued: tuple[str, ...] = ()
    if new.queue is not old.queue:
        before = {queued.id for queued in old.queue}
        after = {queued.id for queued in new.queue}
        enqueued = tuple(
            (queued.id, CONTENT_VERSION, encode(queued))
            for queued in new.queue
            if queued.id not in before
        )
        dequeued = tuple(one for one in before if one not in after)
    outcomes: tuple[ToolResult, ...] = ()
    closed: tuple[str, ...] = ()
    if new.calls is not old.calls and old.calls:
        known = {call.id: call.outcome for call in old.calls}
        outcomes = tuple(
            call.outcome
            for call in new.calls
            if call.outcome is not None and call.outcome != known.get(call.id)
        )
        still_open = {call.id for call in new.calls}
        closed = tuple(one for one in known if one not in still_open)
    if config is None and not (enqueued or dequeued or outcomes or closed):
        return NO_SIDE_ROWS
    return SideRows(config, enqueued, dequeued, outcomes, closed)


def outcome_rows(results: Sequence[ToolResult]) -> list[Row]:
    """Return (call_id, content_version, outcome) for each."""
    return [(result.call_id, CONTENT_VERSION, encode(result)) for result in results]


def queue_order(state: ChatState) -> bytes | None:
    """Return the value of `chats.queue`."""
    return encode_order(state.queue)


class StoredResponse(Value, frozen=True):
    """What a request with an id was told. The queue has lost its contents, the calls their
    journal, and the message stands in the history.
    """

    version: int
    state: ChatState
    reply: Reply
    #: Position of `reply.message`.
    position: int | None = None
    #: Whether `state.config` is the one of then. It is stored only by the request that made it;
    #: else it is the chat's of now.
    has_config: bool = False


_responses = msgspec.json.Decoder(StoredResponse)


def encode_response(old: ChatState | None, transition: Transition) -> bytes:
    """Return the value of `commands.response`."""
    state, reply = transition.state, transition.reply
    has_config = old is None or state.config != old.config
    message = reply.message
    return encode(
        StoredResponse(
            CONTENT_VERSION,
            msgspec.structs.replace(
                state,
                queue=tuple(Queued(queued.id, (), 0) for queued in state.queue),
                calls=without_journal(state.calls),
                config=state.config if has_config else ChatConfig(),
            ),
            reply if message is None else msgspec.structs.replace(reply, message=None),
            None if message is None else message.position,
            has_config,
        )
    )


def decode_response(content: bytes) -> StoredResponse:
    """Return a stored response; raises ContentTooNew."""
    response = _responses.decode(content)
    if response.version > CONTENT_VERSION:
        raise ContentTooNew(response.version)
    return response
