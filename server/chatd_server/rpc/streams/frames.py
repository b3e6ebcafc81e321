"""Responses of a stream as bytes; `ports.FrameCodec` for gRPC.

SubscribeResponse and RunTurnResponse have the same fields, so one frame serves both.
"""

from collections.abc import Callable, Sequence

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatState
from chatd_server.domain.context import ContextLevel
from chatd_server.domain.event import Cursor, LoggedEvent
from chatd_server.domain.ids import AttemptId, ChatId
from chatd_server.domain.live import (
    CallHead,
    CompactionStart,
    Piece,
    PieceKind,
    StreamEndReason,
)
from chatd_server.domain.message import CompactionSource, Executor, Message, ToolResult
from chatd_server.rpc import convert

REUSES_MAX = 64
"""How often one message is filled again. Python's protobuf frees memory, also that of overwritten
text, only with the whole message: a message that is reused without end grows with every delta. A
new message for each delta costs twice as much."""


class _Reused:
    """A response for deltas, and the messages in it that are filled for each delta."""

    __slots__ = ("_left", "cursor", "part", "wire")

    def __init__(self) -> None:
        self._renew()

    def take(self) -> "_Reused":
        """Return it, renewed after REUSES_MAX uses. The caller sets every field."""
        if not self._left:
            self._renew()
        self._left -= 1
        return self

    def _renew(self) -> None:
        self._left = REUSES_MAX
        self.wire = pb.SubscribeResponse()
        # Kept, because each access to them is a look-up by name and a new object.
        self.part = self.wire.event.message_part
        self.cursor = self.wire.cursor


class EventFrames:
    """Encodes responses. Deltas reuse their messages, at half of the cost of new ones."""

    def __init__(
        self, level_of: Callable[[ChatState], ContextLevel | None] = lambda _: None
    ) -> None:
        """`level_of` says how full the context of a chat is, for snapshots."""
        self._level_of = level_of
        self._text = _Reused()
        self._reasoning = _Reused()
        self._call = _Reused()
        self._source = {
            it: event_pb2.CompactionSource.Value(f"COMPACTION_SOURCE_{it.name}")
            for it in CompactionSource
        }
        self._executor = {it: convert.executor(it) for it in Executor}

    def event(self, chat_id: ChatId, event: LoggedEvent, cursor: Cursor) -> bytes:
        """Encode a durable event."""
        return _frame(convert.event(chat_id, event), cursor)

    def piece(self, attempt_id: AttemptId, piece: Piece, cursor: Cursor) -> bytes:
        """Encode a piece of the open attempt."""
        kind = piece.kind
        if kind is PieceKind.TEXT:
            reused = self._text.take()
            reused.part.text = piece.text
        elif kind is PieceKind.REASONING:
            reused = self._reasoning.take()
            reused.part.reasoning = piece.text
        elif kind is PieceKind.CALL:
            assert isinstance(piece.value, CallHead)
            reused = self._call.take()
            call = reused.part.tool_call
            call.tool_call_id = piece.value.id
            call.tool_name = piece.value.name
            call.arguments_json = piece.text
            call.executor = self._executor[piece.value.executor]
        else:
            return _frame(self._rare(attempt_id, piece), cursor)
        part = reused.part
        part.attempt_id = attempt_id
        part.part_index = piece.part
        part.delta_offset = piece.start
        _set_cursor(reused.cursor, cursor)
        return reused.wire.SerializeToString()

    def _rare(self, attempt_id: AttemptId, piece: Piece) -> event_pb2.ChatEvent:
        """Return the event of a piece that comes once and not once per token."""
        value = piece.value
        if piece.kind is PieceKind.TOOL_STARTED:
            assert isinstance(value, CallHead)
            started = event_pb2.ToolCallStarted(
                attempt_id=attempt_id,
                tool_call_id=value.id,
                tool_name=value.name,
                delta_offset=piece.start,
            )
            return event_pb2.ChatEvent(tool_call_started=started)
        if piece.kind is PieceKind.TOOL_FINISHED:
            assert isinstance(value, ToolResult)
            finished = event_pb2.ToolCallFinished(
                attempt_id=attempt_id,
                result=convert.tool_result(value),
                delta_offset=piece.start,
            )
            return event_pb2.ChatEvent(tool_call_finished=finished)
        if isinstance(value, CompactionStart):
            compaction = event_pb2.CompactionStarted(
                attempt_id=attempt_id,
                source=self._source[value.source],
                delta_offset=piece.start,
            )
            return event_pb2.ChatEvent(compaction_started=compaction)
        part = event_pb2.MessagePart(
            attempt_id=attempt_id, part_index=piece.part, delta_offset=piece.start
        )
        if piece.kind is PieceKind.REFUSAL:
            part.refusal = piece.text
        else:
            assert value is not None
            assert not isinstance(value, CallHead)
            part.part.CopyFrom(convert.part(value))
        return event_pb2.ChatEvent(message_part=part)

    def snapshot(self, state: ChatState, cursor: Cursor) -> bytes:
        """Encode the chat as it is."""
        return _frame(
            event_pb2.ChatEvent(snapshot=convert.snapshot(state, self._level_of(state))), cursor
        )

    def snapshot_messages(
        self, chat_id: ChatId, messages: Sequence[Message], cursor: Cursor
    ) -> bytes:
        """Encode messages of the snapshot."""
        wire: list[message_pb2.Message] = [convert.message(chat_id, it) for it in messages]
        page = event_pb2.SnapshotMessages(messages=wire)
        return _frame(event_pb2.ChatEvent(snapshot_messages=page), cursor)

    def preview_reset(self, attempt_id: AttemptId, cursor: Cursor) -> bytes:
        """Encode: forget the pieces of this attempt."""
        reset = event_pb2.PreviewReset(attempt_id=attempt_id)
        return _frame(event_pb2.ChatEvent(preview_reset=reset), cursor)

    def heartbeat(self, head_sequence: int, cursor: Cursor) -> bytes:
        """Encode: the stream is alive."""
        beat = event_pb2.Heartbeat(head_sequence=head_sequence)
        return _frame(event_pb2.ChatEvent(heartbeat=beat), cursor)

    def caught_up(self, cursor: Cursor) -> bytes:
        """Encode: from here on it is live."""
        return _frame(event_pb2.ChatEvent(caught_up=event_pb2.CaughtUp()), cursor)

    def stream_end(self, reason: StreamEndReason, cursor: Cursor) -> bytes:
        """Encode: the stream ends on purpose."""
        return _frame(event_pb2.ChatEvent(stream_end=convert.stream_end(reason)), cursor)


def _frame(event: event_pb2.ChatEvent, cursor: Cursor) -> bytes:
    return pb.SubscribeResponse(event=event, cursor=convert.cursor(cursor)).SerializeToString()


def _set_cursor(wire: chat_pb2.Cursor, cursor: Cursor) -> None:
    wire.sequence = cursor.sequence
    wire.attempt_id = cursor.attempt_id
    wire.delta_offset = cursor.delta_offset
    wire.snapshot_unfinished = cursor.snapshot_unfinished
