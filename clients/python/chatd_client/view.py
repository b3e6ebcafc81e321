"""A chat as a person sees it: the fold of all responses of a stream.

Feed it each response. Cuts and repeated responses do not change the result. Live pieces are shown
until the committed message replaces them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, message_pb2, tool_pb2
from chatd_client.turn import text_of

FORMAT: Final = b"chatd.ChatView "
"""The first bytes of a stored view; the number of its format and a line break follow."""
FORMAT_NUMBER: Final = 1
"""Rises when `_Stored` changes."""

_WORDS: Final = frozenset({"text", "reasoning", "refusal"})
"""Kinds of pieces that are only text."""
_OF_AN_ATTEMPT: Final = frozenset(
    {"message_part", "tool_call_started", "tool_call_finished", "compaction_started"}
)
"""Live events with a position in an attempt."""
_WORKING: Final = frozenset({chat_pb2.CHAT_STATUS_RUNNING, chat_pb2.CHAT_STATUS_INTERRUPTING})
"""In every other status no attempt is open."""

_COMPACTION: Final = -1
"""Where the mark of a compaction stands among the live parts."""

_BEGIN_AGAIN = "follow the chat without a cursor to start again with a snapshot"


@dataclass
class LivePart:
    """One part of the answer in progress."""

    kind: str
    text: str = ""
    tool_call_id: str = ""
    tool_name: str = ""


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A view as it is stored; messages of the contract are bytes."""

    chat: bytes
    messages: list[bytes]
    queue: list[bytes]
    pending_action: bytes | None
    retry: bytes | None
    attempt_id: str
    live: dict[int, LivePart]
    running_tools: dict[str, str]
    is_caught_up: bool
    cursor: bytes | None


@dataclass
class ChatView:
    """The state that the events describe, without messages for the model alone.

    Feed it each response of a stream that began without a cursor, and it shows the whole chat. To
    continue after a restart, store `dump()`, then use `ChatView.load(data)` and
    `chat.resume(view.cursor)` (or `follow`).
    """

    chat: chat_pb2.Chat = field(default_factory=chat_pb2.Chat)
    messages: list[message_pb2.Message] = field(default_factory=list)
    queue: list[event_pb2.QueueEntry] = field(default_factory=list)
    pending_action: tool_pb2.PendingAction | None = None
    retry: event_pb2.RetryScheduled | None = None
    #: The answer in progress: its attempt and its parts by index.
    attempt_id: str = ""
    live: dict[int, LivePart] = field(default_factory=dict)
    running_tools: dict[str, str] = field(default_factory=dict)
    is_caught_up: bool = False
    #: Where the stream continues after what is in this view; None before the first response.
    cursor: chat_pb2.Cursor | None = None

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the view that was stored. Raises ValueError for bytes that `dump` did not make,
        or that a newer version of this library made.
        """
        stored = _read(data)
        try:
            return cls(
                chat=chat_pb2.Chat.FromString(stored.chat),
                messages=[message_pb2.Message.FromString(it) for it in stored.messages],
                queue=[event_pb2.QueueEntry.FromString(it) for it in stored.queue],
                pending_action=None
                if stored.pending_action is None
                else tool_pb2.PendingAction.FromString(stored.pending_action),
                retry=None
                if stored.retry is None
                else event_pb2.RetryScheduled.FromString(stored.retry),
                attempt_id=stored.attempt_id,
                live=stored.live,
                running_tools=stored.running_tools,
                is_caught_up=stored.is_caught_up,
                cursor=None if stored.cursor is None else chat_pb2.Cursor.FromString(stored.cursor),
            )
        except DecodeError as error:
            raise _damaged() from error

    def dump(self) -> bytes:
        """Return the view and its cursor as bytes, to be stored together and loaded by `load`.

        They hold every message of the chat, so a program with a long chat does this when a message
        was committed rather than for each piece: `load` goes on from the cursor in the bytes.
        """
        stored = _Stored(
            chat=self.chat.SerializeToString(),
            messages=_each(self.messages),
            queue=_each(self.queue),
            pending_action=_bytes(self.pending_action),
            retry=_bytes(self.retry),
            attempt_id=self.attempt_id,
            live=self.live,
            running_tools=self.running_tools,
            is_caught_up=self.is_caught_up,
            cursor=_bytes(self.cursor),
        )
        return FORMAT + b"%d\n" % FORMAT_NUMBER + msgspec.msgpack.encode(stored)

    @property
    def status(self) -> chat_pb2.ChatStatus.ValueType:
        """The status of the chat."""
        return self.chat.status

    @property
    def answer(self) -> str:
        """The text, or refusal, of the newest committed answer of the chat, of any turn. Empty if
        there is no answer, or if it only calls tools.

        After a turn without an answer, this is the answer of an earlier turn: see `turn_answer`.
        """
        for message in reversed(self.messages):
            if message.role == message_pb2.ROLE_ASSISTANT:
                return text_of(message)
        return ""

    @property
    def turn_answer(self) -> str:
        """The text of the last committed answer of the newest turn, as `ChatHandle.ask` returns it;
        empty if there is none.
        """
        of_messages = (message.turn_id for message in reversed(self.messages) if message.turn_id)
        newest = self.chat.turn_id or next(of_messages, "")
        for message in reversed(self.messages):
            if message.role == message_pb2.ROLE_ASSISTANT and message.turn_id == newest:
                return text_of(message)
        return ""

    @property
    def live_text(self) -> str:
        """The text of the answer in progress; empty if there is none, or if it is void."""
        return "".join(
            self.live[index].text for index in sorted(self.live) if self.live[index].kind == "text"
        )

    @property
    def is_compacting(self) -> bool:
        """Whether the context is being summarised: the live parts are then the summary."""
        return _COMPACTION in self.live

    def apply(self, response: chat_service_pb2.SubscribeResponse) -> None:
        """Apply one response. What the view has is not applied again: durable events up to its
        cursor, and pieces that it has or whose message was committed. A snapshot replaces all.
        """
        event = response.event
        kind = event.WhichOneof("event")
        if kind == "snapshot":
            self.cursor = None
        elif self._is_old(response):
            return
        if kind is not None:
            said = getattr(event, kind)
            if kind == "message_part":
                said = self._without_what_is_held(said, response.cursor)
            getattr(self, f"_on_{kind}", self._on_other)(said)
        if event.sequence:
            self.chat.head_sequence = event.sequence
        if response.HasField("cursor"):
            self.cursor = self._moved(response.cursor)

    def _is_old(self, response: chat_service_pb2.SubscribeResponse) -> bool:
        """Say whether the view has all of a response: a stream that repeats a turn begins at the
        start of the turn, whatever the view has.
        """
        at, to, event = self.cursor, response.cursor, response.event
        if at is None or not response.HasField("cursor"):
            return False
        if event.sequence:
            return event.sequence <= at.sequence
        kind = event.WhichOneof("event")
        if kind == "preview_reset":
            return to.sequence < at.sequence
        if kind not in _OF_AN_ATTEMPT:
            return False
        attempt_id = getattr(event, kind).attempt_id
        if attempt_id == self.attempt_id == at.attempt_id:
            return to.delta_offset <= at.delta_offset
        if kind == "message_part" and self._has_answer(attempt_id):
            return True
        return to.sequence < at.sequence

    def _has_answer(self, attempt_id: str) -> bool:
        return any(
            message.attempt_id == attempt_id and message.role == message_pb2.ROLE_ASSISTANT
            for message in reversed(self.messages)
        )

    def _without_what_is_held(
        self, part: event_pb2.MessagePart, end: chat_pb2.Cursor
    ) -> event_pb2.MessagePart:
        """Return a piece without the bytes that the view has."""
        at = self.cursor
        if at is None or not part.attempt_id == self.attempt_id == at.attempt_id:
            return part
        if part.delta_offset >= at.delta_offset:
            return part
        rest = event_pb2.MessagePart()
        rest.CopyFrom(part)
        new = end.delta_offset - at.delta_offset
        kind = part.WhichOneof("piece")
        if kind == "tool_call":
            rest.tool_call.arguments_json = _last_bytes(part.tool_call.arguments_json, new)
        elif kind in _WORDS:
            setattr(rest, kind, _last_bytes(getattr(part, kind), new))
        return rest

    def _moved(self, to: chat_pb2.Cursor) -> chat_pb2.Cursor:
        """Return the cursor after a response; it never moves back."""
        at = self.cursor
        if at is None:
            return to
        holds = bool(self.attempt_id) and self.attempt_id == at.attempt_id
        if not holds:
            return at if to.sequence < at.sequence else to
        goes_on = to.attempt_id == at.attempt_id
        return chat_pb2.Cursor(
            sequence=max(at.sequence, to.sequence),
            attempt_id=at.attempt_id,
            delta_offset=max(at.delta_offset, to.delta_offset if goes_on else 0),
            snapshot_unfinished=to.snapshot_unfinished,
        )

    def _on_other(self, event: object) -> None:
        """Ignore kinds that this client does not show."""

    def _on_snapshot(self, event: event_pb2.Snapshot) -> None:
        self.chat.CopyFrom(event.chat)
        self.messages.clear()
        self.queue = list(event.queue)
        self.pending_action = event.pending_action if event.HasField("pending_action") else None
        self.retry = None
        self.is_caught_up = False
        self._forget_attempt()

    def _on_snapshot_messages(self, event: event_pb2.SnapshotMessages) -> None:
        self.messages.extend(filter(_is_for_people, event.messages))

    def _on_caught_up(self, _: event_pb2.CaughtUp) -> None:
        self.is_caught_up = True

    def _on_message_committed(self, event: event_pb2.MessageCommitted) -> None:
        if _is_for_people(event.message):
            self.messages.append(event.message)
        if event.attempt_id:  # of this attempt or a later one: the shown attempt is over
            self._forget_attempt()

    def _on_status_changed(self, event: event_pb2.StatusChanged) -> None:
        self.chat.status = event.status
        self.chat.turn_id = "" if event.stop_reason else event.turn_id
        self.chat.stop_reason = event.stop_reason
        self.chat.archived = event.archived
        self.chat.ClearField("last_error")
        if event.HasField("last_error"):
            self.chat.last_error.CopyFrom(event.last_error)
        self.retry = None
        if event.status not in _WORKING:
            self._forget_attempt()

    def _on_queue_changed(self, event: event_pb2.QueueChanged) -> None:
        self.queue = list(event.entries)
        self.chat.queued_message_count = len(event.entries)

    def _on_action_required(self, event: event_pb2.ActionRequired) -> None:
        self.pending_action = event.action

    def _on_action_resolved(self, _: event_pb2.ActionResolved) -> None:
        self.pending_action = None

    def _on_retry_scheduled(self, event: event_pb2.RetryScheduled) -> None:
        self.retry = event
        self._forget_attempt()

    def _on_history_truncated(self, event: event_pb2.HistoryTruncated) -> None:
        first = event.first_removed_position
        self.messages = [m for m in self.messages if m.position < first]
        self._forget_attempt()

    def _on_chat_updated(self, event: event_pb2.ChatUpdated) -> None:
        for name in ("title", "model"):
            if event.HasField(name):
                setattr(self.chat, name, getattr(event, name))
        if event.HasField("labels"):
            self.chat.labels.clear()
            self.chat.labels.update(event.labels.entries)

    def _on_preview_reset(self, event: event_pb2.PreviewReset) -> None:
        if event.attempt_id in ("", self.attempt_id):
            self._forget_attempt()

    def _on_tool_call_started(self, event: event_pb2.ToolCallStarted) -> None:
        self._enter_attempt(event.attempt_id)
        self.running_tools[event.tool_call_id] = event.tool_name

    def _on_tool_call_finished(self, event: event_pb2.ToolCallFinished) -> None:
        self._enter_attempt(event.attempt_id)
        self.running_tools.pop(event.result.tool_call_id, None)

    def _on_compaction_started(self, event: event_pb2.CompactionStarted) -> None:
        self._enter_attempt(event.attempt_id)
        self.live[_COMPACTION] = LivePart("compaction")

    def _on_compaction_finished(self, event: event_pb2.CompactionFinished) -> None:
        if event.outcome == event_pb2.COMPACTION_OUTCOME_FAILED:
            self._forget_attempt()

    def _on_message_part(self, event: event_pb2.MessagePart) -> None:
        self._enter_attempt(event.attempt_id)
        kind = event.WhichOneof("piece") or ""
        shown_as = "summary" if self.is_compacting else kind
        part = self.live.setdefault(event.part_index, LivePart(shown_as))
        if kind == "tool_call":
            part.tool_call_id = event.tool_call.tool_call_id
            part.tool_name = event.tool_call.tool_name
            part.text += event.tool_call.arguments_json
        elif kind in _WORDS:
            part.text += getattr(event, kind)

    def _enter_attempt(self, attempt_id: str) -> None:
        if attempt_id != self.attempt_id:
            self._forget_attempt()
            self.attempt_id = attempt_id

    def _forget_attempt(self) -> None:
        self.attempt_id = ""
        self.live.clear()
        self.running_tools.clear()


def _is_for_people(message: message_pb2.Message) -> bool:
    return message.visibility != message_pb2.VISIBILITY_MODEL


def _last_bytes(words: str, count: int) -> str:
    encoded = words.encode()
    return encoded[max(0, len(encoded) - count) :].decode(errors="ignore")


def _each(messages: Iterable[ProtoMessage]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def _bytes(message: ProtoMessage | None) -> bytes | None:
    return None if message is None else message.SerializeToString()


def _read(data: bytes) -> _Stored:
    """Return what was stored. Raises ValueError."""
    head, _, body = data.partition(b"\n")
    number = head.removeprefix(FORMAT)
    if number == head or not number.isdigit():
        raise ValueError("these bytes are not a stored ChatView: give load() what dump() returned")
    if int(number) != FORMAT_NUMBER:
        raise ValueError(
            f"the ChatView was stored by a newer chatd_client, in format {int(number)}; this one "
            f"reads format {FORMAT_NUMBER}: update it, or {_BEGIN_AGAIN}"
        )
    try:
        return msgspec.msgpack.decode(body, type=_Stored)
    except msgspec.DecodeError as error:
        raise _damaged() from error


def _damaged() -> ValueError:
    return ValueError(f"the stored ChatView is damaged: {_BEGIN_AGAIN}")
