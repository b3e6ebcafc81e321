"""What `commands` keeps of a command, and what a command that was carried out before is told."""

from typing import NamedTuple

import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatConfig, ChatState, Queued
from chatd_server.domain.command import Command, Create
from chatd_server.domain.ids import ChatId, Instant
from chatd_server.domain.message import CONTENT_VERSION, Message, Value
from chatd_server.domain.refusal import ChatNotFound, RequestIdReused
from chatd_server.domain.transition import Reply, Transition
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.shared.codec import ContentTooNew, command_key, encode, request_key
from chatd_server.store.shared.columns import Row
from chatd_server.store.shared.open_calls import without_journal


class Record(NamedTuple):
    """A row of `commands`, without its chat."""

    key: bytes
    #: Head of the log after the command.
    sequence: int
    created_at: Instant
    body_hash: bytes | None
    response: bytes | None


class StoredResponse(Value, frozen=True):
    """What a request with an id was told. The queue has lost its contents, the calls their
    journal, and the message is in the history.
    """

    version: int
    state: ChatState
    reply: Reply
    #: Position of `reply.message`.
    position: int | None = None
    #: Whether `state.config` is stored: only the request that made it stores it. Else the answer
    #: takes the chat's present one.
    has_config: bool = False


_responses = msgspec.json.Decoder(StoredResponse)


def record_key(chat_id: ChatId, order: Command | Chain, request: RequestKey | None) -> bytes:
    """Return the key under which an order is recorded."""
    if request is None:
        return command_key(chat_id, order.command_id)
    return request_key(request.key)


def record_of(
    key: bytes,
    old: ChatState | None,
    transition: Transition,
    now: Instant,
    request: RequestKey | None,
) -> Row:
    """Return the fields of a Record; with the answer, if the order was a request with an id."""
    head = transition.state.head_sequence
    if request is None:
        return key, head, now, None, None
    return key, head, now, request.body_hash, _encoded(old, transition)


def _encoded(old: ChatState | None, transition: Transition) -> bytes:
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


def applied_by(transition: Transition) -> Applied:
    """Return what a committed transition did."""
    state = transition.state
    return Applied(
        state, transition.reply, state.head_sequence, transition.events, transition.messages
    )


def recalled(record: Record, request: RequestKey | None) -> StoredResponse | None:
    """Return the stored answer; None where only the id is recorded: then `told_now` answers.

    Raises RequestIdReused, ContentTooNew.
    """
    if request is not None and record.body_hash != request.body_hash:
        raise RequestIdReused(
            "this request id was used with another request: take a new id for a new request"
        )
    if record.response is None:
        return None
    stored = _responses.decode(record.response)
    if stored.version > CONTENT_VERSION:
        raise ContentTooNew(stored.version)
    return stored


def told_now(record: Record, state: ChatState) -> Applied:
    """Return the answer for a command without a stored one: the chat as it is."""
    return Applied(state, Reply(), record.sequence, replayed=True)


def told_again(
    record: Record, stored: StoredResponse, config: ChatConfig | None, message: Message | None
) -> Applied:
    """Return the stored answer, with what it does not hold itself: the chat's present config unless
    `stored.has_config`, and the message at `stored.position`.
    """
    state, reply = stored.state, stored.reply
    if config is not None:
        state = msgspec.structs.replace(state, config=config)
    if message is not None:
        reply = msgspec.structs.replace(reply, message=message)
    return Applied(state, reply, record.sequence, replayed=True)


def found_again(state: ChatState, command: Create) -> Applied:
    """Return the chat that a Create would make a second time; raises ChatNotFound for a chat of
    another owner or parent, and for one that is deleted.

    A child's id derives from its call, so a spawn that is done again finds its child.
    """
    if (state.owner_id, state.parent_id, state.deleted) != (
        command.owner_id,
        command.parent_id,
        False,
    ):
        raise ChatNotFound(command.chat_id)
    return Applied(state, Reply(), state.head_sequence, replayed=True)
