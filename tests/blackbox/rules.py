"""The guarantees of Subscribe, checked at every response of one stream.

The numbers in the messages are those of the guarantees in proto/chatd/v1/chat_service.proto. Checks
that need the finished log (that pieces came neither too early nor too late, that every event came)
are in `oracle.py`.
"""

from dataclasses import dataclass, field

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2
from tests.blackbox.preview import Preview
from tests.blackbox.view import SETTLED, ChatView

RESPONSE_BYTES_MAX = 1_048_576
PIECES = {"message_part", "tool_call_started", "tool_call_finished", "compaction_started"}
SNAPSHOT = {"snapshot", "snapshot_messages"}
WORKING = {chat_pb2.CHAT_STATUS_RUNNING, chat_pb2.CHAT_STATUS_INTERRUPTING}
# Events that may be committed while an attempt is open; all others open or close one.
WHILE_OPEN = {"queue_changed", "chat_updated", "subagent_changed"}
ENDS_AT = {
    chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED: SETTLED,
    chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED: {
        *SETTLED,
        chat_pb2.CHAT_STATUS_REQUIRES_ACTION,
    },
}


class ViolationError(Exception):
    """The server broke its contract."""


@dataclass
class Known:
    """What a subscriber keeps from one stream to the next."""

    view: ChatView = field(default_factory=ChatView)
    cursor: chat_pb2.Cursor | None = None
    closed: set[str] = field(default_factory=set)
    """Attempts that a durable event closed."""

    def copy(self) -> "Known":
        """Return a copy for another subscriber."""
        cursor = None
        if self.cursor is not None:
            cursor = chat_pb2.Cursor()
            cursor.CopyFrom(self.cursor)
        return Known(self.view.copy(), cursor, set(self.closed))


@dataclass
class StreamRules:
    """The rules of one stream, from its request to its last response."""

    request: chat_service_pb2.SubscribeRequest
    known: Known
    head: int = 0
    """A sequence that was committed before the stream began."""
    pieces_promised: bool = True
    """False if several servers share a database: see docs/concepts/events-and-resume.md."""
    caught_up: bool = False
    snapshot: bool = False
    ended: chat_service_pb2.SubscribeResponse | None = None
    touched: str = ""
    """The newest attempt whose pieces arrived on this stream."""
    connected: bool = False
    """Whether this stream was live when the open attempt began."""

    def take(self, response: chat_service_pb2.SubscribeResponse) -> None:
        """Check a response and fold it into the known state. Raises ViolationError."""
        event, cursor = response.event, response.cursor
        kind = event.WhichOneof("event") or ""
        self._not_after_the_end(kind)
        _require(response.HasField("cursor"), "every response carries a cursor")
        _require(response.ByteSize() <= RESPONSE_BYTES_MAX, "a response has at most 1 MiB")
        self._check_position(kind, event, cursor)
        self._check_kind(kind, event, cursor)
        self.known.view.fold(event)
        self.known.cursor = cursor
        self._check_cursor_inside(kind, cursor)
        if kind == "stream_end":
            self.ended = response

    @property
    def at(self) -> int:
        """The sequence up to which this subscriber has received events."""
        return self.known.cursor.sequence if self.known.cursor is not None else 0

    @property
    def end_is_due(self) -> bool:
        """Whether `until` requires the stream to end now."""
        stops = ENDS_AT.get(self.request.until, set())
        return self.caught_up and self.ended is None and self.known.view.status in stops

    def _not_after_the_end(self, kind: str) -> None:
        _require(self.ended is None, f"{kind} came after stream_end")
        allowed = {"stream_end", "preview_reset", "heartbeat"}
        status = chat_pb2.ChatStatus.Name(self.known.view.status)
        _require(
            not self.end_is_due or kind in allowed,
            f"the stream should have ended at {status}, and goes on with {kind}",
        )

    def _check_position(
        self, kind: str, event: event_pb2.ChatEvent, cursor: chat_pb2.Cursor
    ) -> None:
        if kind == "snapshot":
            head = event.snapshot.chat.head_sequence
            _require(cursor.sequence == head, f"the snapshot is of {head}, its cursor of another")
            return
        if event.sequence:
            _require(event.sequence == self.at + 1, f"1: {event.sequence} follows {self.at}")
            _require(event.HasField("event_time"), "a durable event says when it happened")
            _require(cursor.sequence == event.sequence, "the cursor names another sequence")
        _require(
            cursor.sequence == (event.sequence or self.at),
            f"a live event moves the cursor from {self.at} to {cursor.sequence}",
        )

    def _check_kind(self, kind: str, event: event_pb2.ChatEvent, cursor: chat_pb2.Cursor) -> None:
        if kind in SNAPSHOT:
            self._check_snapshot(kind, event)
        elif kind in PIECES:
            self._check_piece(kind, event, cursor)
        elif kind == "caught_up":
            self._check_caught_up(cursor)
        elif kind == "message_committed":
            self._check_message(event.message_committed)
        elif kind == "retry_scheduled":
            self.known.closed.add(event.retry_scheduled.attempt_id)
        elif kind == "heartbeat":
            head = event.heartbeat.head_sequence
            _require(head >= self.at, f"the head is {head}, and {self.at} was sent")
        elif kind == "stream_end":
            self._check_end(event.stream_end)
        if event.sequence and kind not in WHILE_OPEN and not _is_interrupting(event):
            # This stream will see the beginning of any later attempt.
            self.connected = self.caught_up

    def _check_snapshot(self, kind: str, event: event_pb2.ChatEvent) -> None:
        if kind == "snapshot":
            resumed = self.request.HasField("resume_from")
            finished = resumed and not self.request.resume_from.snapshot_unfinished
            _require(not finished, "2: a snapshot came to a stream that resumed")
            _require(not self.snapshot, "a stream has one snapshot")
            self.snapshot = True
        else:
            _require(self.snapshot, "messages of a snapshot came without a snapshot")
            self.known.closed |= {m.attempt_id for m in event.snapshot_messages.messages} - {""}
        _require(not self.caught_up, "a snapshot comes before caught_up")

    def _check_piece(self, kind: str, event: event_pb2.ChatEvent, cursor: chat_pb2.Cursor) -> None:
        attempt = getattr(event, kind).attempt_id
        view = self.known.view
        status = chat_pb2.ChatStatus.Name(view.status)
        wanted = not self.request.HasField("include_deltas") or self.request.include_deltas
        _require(wanted, "a piece came, and the request asked for none")
        _require(attempt not in self.known.closed, f"5: a piece after {attempt} was closed")
        _require(view.status in WORKING, f"5: a piece came while the status was {status}")
        _require(
            view.preview is None or view.preview.attempt_id == attempt,
            f"5: a piece of {attempt} came without preview_reset",
        )
        _require(cursor.attempt_id == attempt, "the cursor of a piece names another attempt")
        view.preview = view.preview or Preview(attempt)
        wrong = view.preview.add(event, cursor.delta_offset)
        _require(wrong is None, f"4: {wrong}")
        self.touched = attempt

    def _check_caught_up(self, cursor: chat_pb2.Cursor) -> None:
        _require(not self.caught_up, "caught_up came twice")
        _require(not cursor.snapshot_unfinished, "at caught_up the snapshot is still unfinished")
        begins_anew = (
            not self.request.HasField("resume_from") or self.request.resume_from.snapshot_unfinished
        )
        _require(self.snapshot == begins_anew, "2: caught_up came without a snapshot")
        _require(self.at >= self.head, f"caught up at {self.at}, {self.head} was there before")
        self.caught_up = True

    def _check_message(self, committed: event_pb2.MessageCommitted) -> None:
        message, attempt = committed.message, committed.attempt_id
        _require(message.position not in self.known.view.messages, "a message was committed twice")
        _require(not attempt or attempt not in self.known.closed, "an attempt was closed twice")
        preview = self.known.view.preview
        seen = preview is not None and preview.attempt_id == message.attempt_id != ""
        if not seen:
            preview = Preview(message.attempt_id)
        assert preview is not None
        wanted = not self.request.HasField("include_deltas") or self.request.include_deltas
        there = self.connected or self.touched == message.attempt_id
        whole = bool(attempt) and wanted and there and self.pieces_promised
        if seen or whole:
            wrong = preview.contradiction(message, whole=whole)
            _require(wrong is None, f"4: {wrong}, and the committed message says otherwise")
        if attempt:
            self.known.closed.add(attempt)

    def _check_end(self, end: event_pb2.StreamEnd) -> None:
        if end.reason == event_pb2.STREAM_END_REASON_UNTIL_REACHED:
            status = chat_pb2.ChatStatus.Name(self.known.view.status)
            _require(self.end_is_due, f"the stream ended as if `until` were reached at {status}")

    def _check_cursor_inside(self, kind: str, cursor: chat_pb2.Cursor) -> None:
        """Check the cursor against the received pieces: a resume begins there."""
        if not self.caught_up and self.snapshot:
            _require(cursor.snapshot_unfinished, "before caught_up the snapshot is unfinished")
            return
        preview = self.known.view.preview
        if cursor.attempt_id:
            held = preview is not None and preview.attempt_id == cursor.attempt_id
            _require(held, f"after {kind} the cursor names an attempt without pieces")
            assert preview is not None
            _require(cursor.delta_offset == preview.end, "the cursor is not where the pieces end")


def _is_interrupting(event: event_pb2.ChatEvent) -> bool:
    return event.status_changed.status == chat_pb2.CHAT_STATUS_INTERRUPTING


def _require(holds: object, rule: str) -> None:
    if not holds:
        raise ViolationError(rule)


def first_of(group: BaseExceptionGroup[ViolationError]) -> ViolationError:
    """Return one violation of several: the others are often its consequences."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
