"""A client that trusts nothing: it checks each response against the contract and the truth.

The truth is the store's log: its events, where each attempt began, and what closed it.
"""

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import AttemptId
from tests.hub.model import ModelStore

_PIECES = ("message_part", "tool_call_started", "tool_call_finished", "compaction_started")


class Witness:
    """The state of one client. It survives cuts of its stream."""

    def __init__(self, store: ModelStore, *, deltas: bool) -> None:
        self._store = store
        self._deltas = deltas
        self.cursor: chat_pb2.Cursor | None = None
        #: Newest durable event that it knows, from a snapshot or by itself; None before the first.
        self.sequence: int | None = None
        #: The attempt whose pieces it shows, its offset, and the text of each part.
        self.attempt = ""
        self.offset = 0
        self.texts: dict[int, str] = {}
        #: For the open stream: head of the log when the server read it, and the attempt inside
        #: which the client resumed.
        self.live_from = 0
        self.inside = ""
        self._looked = False
        self._began_with_snapshot = False
        self.caught_up = False
        self.ended: str = ""
        #: Number of responses on the open stream.
        self.responses = 0
        self.beats = 0

    def holds(self, attempt: str, text: str) -> None:
        """Begin with pieces of an attempt, from an earlier stream."""
        self.attempt, self.offset, self.texts = attempt, len(text.encode()), {0: text}

    # --- the stream ----------------------------------------------------------------------------

    def subscribes(self, *, to_snapshot: bool) -> None:
        """Begin a stream, with the held cursor or with a snapshot."""
        self.caught_up, self.ended, self.inside = False, "", ""
        self.responses, self.live_from = 0, 0
        self._looked, self._began_with_snapshot = False, to_snapshot

    def server_looks(self) -> None:
        """Note that the server reads the chat's state, where the stream begins."""
        if self._looked:
            return
        self._looked, self.live_from = True, self._store.head
        turn = self._store.state.turn
        if self.attempt and turn is not None and turn.attempt is not None:
            self.inside = self.attempt if turn.attempt.id == self.attempt else ""

    def take(self, frame: bytes) -> None:
        """Check one response, and fold it."""
        response = pb.SubscribeResponse.FromString(frame)
        event = response.event
        kind = event.WhichOneof("event")
        assert kind is not None
        assert not self.ended, f"{kind} after the end of the stream"
        self.responses += 1
        if kind == "snapshot":
            self._snapshot(response.cursor.sequence)
        elif kind == "snapshot_messages":
            assert self._began_with_snapshot
        elif event.sequence:
            self._durable(event, kind)
        elif kind in _PIECES:
            self._piece(getattr(event, kind), kind, response.cursor.delta_offset)
        elif kind == "preview_reset":
            self._reset(event.preview_reset.attempt_id)
        elif kind == "caught_up":
            assert not self.caught_up, "caught_up came twice"
            assert self.sequence is not None
            assert self.sequence >= self.live_from, "caught_up before all was sent"
            self.caught_up = True
        elif kind == "heartbeat":
            self.beats += 1
            assert self.caught_up
        elif kind == "stream_end":
            self.ended = event_pb2.StreamEndReason.Name(event.stream_end.reason)
        self._cursor(response.cursor)

    def _cursor(self, cursor: chat_pb2.Cursor) -> None:
        assert cursor.sequence == self.sequence, "the cursor differs from the events sent"
        assert cursor.snapshot_unfinished == (not self.caught_up and self._began_with_snapshot)
        if not cursor.snapshot_unfinished:
            assert cursor.attempt_id == self.attempt, "the cursor differs from the pieces sent"
            assert not self.attempt or cursor.delta_offset == self.offset
        self.cursor = cursor

    # --- what comes ----------------------------------------------------------------------------

    def _snapshot(self, head: int) -> None:
        assert self.responses == 1, "a snapshot came after other responses"
        assert self._began_with_snapshot, "a snapshot came to a resumed stream"
        self.sequence = head
        assert head == self.live_from
        self.attempt, self.offset, self.texts, self.inside = "", 0, {}, ""

    def _durable(self, event: event_pb2.ChatEvent, kind: str) -> None:
        known = 0 if self.sequence is None else self.sequence
        assert event.sequence == known + 1, f"event {event.sequence} after {known}"
        assert event.sequence <= self._store.head, "an event that was never committed"
        if kind == "message_committed" and event.message_committed.attempt_id:
            self._committed(event.sequence, event.message_committed)
        self.sequence = event.sequence

    def _committed(self, sequence: int, committed: event_pb2.MessageCommitted) -> None:
        attempt = AttemptId(committed.attempt_id)
        closed_at, _ = self._store.closed[attempt]
        message = committed.message
        is_shown = message.role == message_pb2.ROLE_ASSISTANT or message.compressed
        if sequence == closed_at and is_shown:
            whole = {
                index: part.text.text or part.tool_call.arguments_json
                for index, part in enumerate(message.parts)
            }
            held = self.texts if self.attempt == attempt else {}
            for index, text in held.items():
                assert whole[index].startswith(text), "pieces are a prefix of the answer"
            if self._deltas and (sequence > self.live_from or attempt == self.inside):
                assert held == whole, f"pieces {held} of a connected client, not {whole}"
        if self.attempt == attempt:
            self.attempt, self.offset, self.texts = "", 0, {}

    def _piece(self, piece: event_pb2.MessagePart, kind: str, end: int) -> None:
        attempt = AttemptId(piece.attempt_id)
        assert self._deltas
        assert self.sequence is not None
        began = self._store.began[attempt]
        assert began <= self.sequence, "a piece before the events that precede its attempt"
        closed_at, _ = self._store.closed.get(attempt, (None, None))
        assert closed_at is None or self.sequence < closed_at, (
            f"a piece of {attempt} after event {closed_at}, which closed it"
        )
        if not self.attempt:
            self.attempt, self.offset, self.texts = attempt, 0, {}
        assert self.attempt == attempt, "a reset comes before another attempt"
        assert piece.delta_offset == self.offset, "pieces have no gap and no overlap"
        assert end > self.offset
        self.offset = end
        if kind == "message_part":
            text = piece.text or piece.tool_call.arguments_json
            self.texts[piece.part_index] = self.texts.get(piece.part_index, "") + text

    def _reset(self, attempt: str) -> None:
        assert self.attempt, "a reset came, but no pieces are held"
        assert attempt == self.attempt
        self.attempt, self.offset, self.texts = "", 0, {}

    # --- the end of a history ------------------------------------------------------------------

    def is_level(self, shown: tuple[str, int] | None) -> None:
        """Check that nothing is owed. `shown`: the attempt that is open here, and its size."""
        assert self.sequence == self._store.head, (
            f"a stream stopped at {self.sequence} of {self._store.head}"
        )
        assert self.caught_up, "caught_up never came"
        if not self._deltas or shown is None or not shown[1]:
            assert not self.attempt or self._is_elsewhere(), f"pieces of {self.attempt} are left"
        else:
            assert (self.attempt, self.offset) == shown, "pieces of the open attempt are missing"

    def _is_elsewhere(self) -> bool:
        """Return whether the held pieces belong to an attempt on another server."""
        turn = self._store.state.turn
        is_open = turn is not None and turn.attempt is not None and turn.attempt.id == self.attempt
        return is_open and self.attempt not in self._store.closed

    def __repr__(self) -> str:
        """Return the position, for failures."""
        return f"<witness at {self.sequence}, {self.attempt}:{self.offset}, {self.ended}>"
