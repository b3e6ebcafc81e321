"""Values of the domain as bytes of JSON, and back. No other module knows the form.

Each stored value has a version next to it. A reader of version n reads versions up to n, refuses
newer ones, and skips fields that it does not know.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from chatd_server.domain.chat import (
    Action,
    ChatConfig,
    ForkedFrom,
    OpenCall,
    Queued,
    StopReason,
    Turn,
)
from chatd_server.domain.context import ContextUse
from chatd_server.domain.event import (
    ActionRequired,
    ActionResolved,
    ChatDeleted,
    ChatUpdated,
    CompactionFinished,
    Event,
    HistoryTruncated,
    MessageCommitted,
    QueueChanged,
    RetryScheduled,
    StatusChanged,
    SubagentChanged,
)
from chatd_server.domain.failure import ChatError
from chatd_server.domain.ids import ChatId, MessageId
from chatd_server.domain.message import CONTENT_VERSION, Message, ToolResult, Usage, Value

KEY_BYTES = 16
"""Bytes of a command's key: among 2**40 commands a collision has a chance of 2**-49."""

PART_WEIGHT = 256
"""A part takes as long to show as this number of bytes of text."""

T = TypeVar("T")

EVENT_KINDS: Mapping[type, int] = {
    MessageCommitted: 1,
    StatusChanged: 2,
    QueueChanged: 3,
    ActionRequired: 4,
    ActionResolved: 5,
    RetryScheduled: 6,
    HistoryTruncated: 7,
    CompactionFinished: 8,
    ChatUpdated: 9,
    SubagentChanged: 10,
    ChatDeleted: 11,
}
"""Numbers of the kinds of events in the table. Stored: add, never change."""
MESSAGE_EVENT = EVENT_KINDS[MessageCommitted]


class ContentTooNew(Exception):
    """A newer version of chatd wrote this value."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"the database holds content of version {version}, and this chatd reads up to"
            f" {CONTENT_VERSION}: update chatd"
        )


class HotState(Value, frozen=True, omit_defaults=True):
    """The part of a chat's state that has no column and changes with the steps.

    The calls in it have no journal: that has a table of its own.
    """

    boundary_position: int = 1
    rescues: int = 0
    turn: Turn | None = None
    stop_reason: StopReason | None = None
    last_error: ChatError | None = None
    calls: tuple[OpenCall, ...] = ()
    action: Action | None = None
    #: None in rows of an older version too: the next answer tells.
    context: ContextUse | None = None
    usage_total: Usage = Usage()
    truncated_at: int = 0
    forked_from: ForkedFrom | None = None


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""Return the JSON of any value of the domain. Raises UnicodeEncodeError for a lone surrogate."""

_messages = msgspec.json.Decoder(Message)
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_hot_states = msgspec.json.Decoder(HotState)
_configs = msgspec.json.Decoder(ChatConfig)
_queued = msgspec.json.Decoder(Queued)
_results = msgspec.json.Decoder(ToolResult)
_orders = msgspec.json.Decoder(list[MessageId])


def _decode(decoder: msgspec.json.Decoder[T], version: int, content: bytes) -> T:
    if version > CONTENT_VERSION:
        raise ContentTooNew(version)
    return decoder.decode(content)


def decode_message(version: int, content: bytes) -> Message:
    """Raises ContentTooNew, like all of these functions."""
    return _decode(_messages, version, content)


def page_weight(content: bytes) -> int:
    """Return what a stored message counts in a page that is bounded by bytes.

    Parts of a byte each take the time of a hundred bytes to show, so parts count, and the message
    too. The mark of a part cannot stand in a text, where a quote is escaped.
    """
    return len(content) + PART_WEIGHT * (2 + content.count(b'"kind":'))


def decode_event(version: int, payload: bytes) -> Event:
    """Return an event that has a payload. A message_committed has one only if its message does not
    say it all.
    """
    return _decode(_events, version, payload)


def decode_hot_state(version: int, content: bytes) -> HotState:
    return _decode(_hot_states, version, content)


def decode_config(version: int, content: bytes) -> ChatConfig:
    return _decode(_configs, version, content)


def decode_queued(version: int, content: bytes) -> Queued:
    return _decode(_queued, version, content)


def decode_result(version: int, content: bytes) -> ToolResult:
    return _decode(_results, version, content)


def decode_order(content: bytes | None) -> list[MessageId]:
    """Return the ids of the queued messages, head first."""
    return [] if content is None else _orders.decode(content)


def encode_order(queue: Iterable[Queued]) -> bytes | None:
    """Return the ids of the queued messages; None for an empty queue."""
    order = [queued.id for queued in queue]
    return encode(order) if order else None


def encode_label(name: str, value: str) -> bytes:
    """Return one label as it is stored in `chats.labels`: a filter looks for these bytes.

    JSON has no raw control characters, so no label contains the frame of another.
    """
    return b"\x1e" + encode((name, value)) + b"\x1f"


def encode_labels(labels: Mapping[str, str]) -> bytes:
    """Return the labels in a form that a filter can search."""
    return b"".join(encode_label(name, labels[name]) for name in sorted(labels))


def command_key(chat_id: ChatId, command_id: str) -> bytes:
    """Return the key of a command without a request id."""
    text = f"{chat_id}\x1f{command_id}"
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def request_key(key: str) -> bytes:
    """Return the key of a request; it names no chat, because CreateChat has none yet."""
    text = f"request\x1f{key}"
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()
