"""A client that checks every rule of Subscribe on the wire as it reads, and can be cut."""

from typing import Any

import grpc

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import RESPONSE_BYTES_MAX, TEXT_SLICE_BYTES_MAX

WORKING = {chat_pb2.CHAT_STATUS_RUNNING, chat_pb2.CHAT_STATUS_INTERRUPTING}


PIECES = {"message_part", "tool_call_started", "tool_call_finished", "compaction_started"}


class Follower:
    """One client of one chat. It survives cuts: `cut`, then read on."""

    def __init__(self, stub: Any, auth: Any, chat_id: str, request: dict[str, Any]) -> None:
        self._stub = stub
        self._auth = auth
        self._chat_id = chat_id
        self._request = request
        self._call: Any = None
        self._iterator: Any = None
        self.cursor: chat_pb2.Cursor | None = request.pop("resume_from", None)
        #: Durable events, by their number.
        self.events: list[event_pb2.ChatEvent] = []
        self.snapshot: event_pb2.Snapshot | None = None
        self.messages: list[Any] = []
        #: Every kind of event, in the order of arrival.
        self.kinds: list[str] = []
        self.responses = 0
        self.previews: dict[str, dict[int, str]] = {}
        self.open_attempt = ""
        self.offset = 0
        self.closed: set[str] = set()
        self.resets: list[str] = []
        self.end: event_pb2.StreamEnd | None = None

    # --- reading -------------------------------------------------------------------------------

    async def next(self) -> event_pb2.ChatEvent | None:
        """Read one response and check it; None at the end of the stream."""
        if self._call is None:
            request = pb.SubscribeRequest(
                chat_id=self._chat_id, resume_from=self.cursor, **self._request
            )
            self._call = self._stub.Subscribe(request, metadata=self._auth)
        response = await self._call.read()
        if response is grpc.aio.EOF:
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    code,
                    await self._call.initial_metadata(),
                    await self._call.trailing_metadata(),
                    await self._call.details(),
                )
            return None
        self._take(response)
        event: event_pb2.ChatEvent = response.event
        return event

    async def until(self, kind: str) -> event_pb2.ChatEvent:
        """Read up to and including the next event of a kind."""
        while (event := await self.next()) is not None:
            if event.WhichOneof("event") == kind:
                return event
        raise AssertionError(f"the stream ended before {kind}")

    async def until_sequence(self, sequence: int) -> None:
        """Read up to a durable event."""
        while self.cursor is None or self.cursor.sequence < sequence:
            assert await self.next() is not None, f"the stream ended before {sequence}"

    async def until_offset(self, offset: int) -> None:
        """Read up to a place in the open attempt."""
        while self.offset < offset:
            assert await self.next() is not None, f"the stream ended before byte {offset}"

    async def to_the_end(self) -> event_pb2.StreamEnd:
        """Read until the stream ends on purpose."""
        while await self.next() is not None:
            pass
        assert self.end is not None, "the stream was cut"
        return self.end

    def cut(self) -> None:
        """Cut the stream; the next read resumes at the last cursor."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def close(self) -> None:
        """Leave for good."""
        self.cut()

    # --- checking ------------------------------------------------------------------------------

    def _take(self, response: pb.SubscribeResponse) -> None:
        assert response.ByteSize() <= RESPONSE_BYTES_MAX
        self.responses += 1
        event = response.event
        kind = event.WhichOneof("event")
        assert kind is not None
        self.kinds.append(kind)
        if kind == "snapshot":
            self.snapshot = event.snapshot
            self.messages = []
            self.events = []
            self.cursor = None
            self.open_attempt, self.offset = "", 0
        elif kind == "snapshot_messages":
            self.messages.extend(event.snapshot_messages.messages)
        elif event.sequence:
            self._take_durable(event, kind, response.cursor)
        elif kind in PIECES:
            self._take_piece(getattr(event, kind), kind, response.cursor)
        elif kind == "preview_reset":
            assert event.preview_reset.attempt_id == self.open_attempt
            self.closed.add(self.open_attempt)
            self.resets.append(self.open_attempt)
            self.open_attempt, self.offset = "", 0
        elif kind == "stream_end":
            self.end = event.stream_end
        if self.cursor is not None and not self.cursor.snapshot_unfinished:
            assert response.cursor.sequence >= self.cursor.sequence
        assert response.cursor.attempt_id in {"", self.open_attempt}
        self.cursor = response.cursor

    def _take_durable(self, event: event_pb2.ChatEvent, kind: str, cursor: chat_pb2.Cursor) -> None:
        known = self.cursor.sequence if self.cursor is not None else 0
        assert event.sequence == known + 1, "no gap, no repetition"
        assert cursor.sequence == event.sequence
        self.events.append(event)
        closed = ""
        if kind == "message_committed":
            committed = event.message_committed
            closed = committed.attempt_id
            self._check_pieces(closed, committed.message)
            if closed == self.open_attempt:
                self.open_attempt, self.offset = "", 0
        elif kind == "retry_scheduled":
            closed = event.retry_scheduled.attempt_id
        elif kind == "compaction_finished":
            closed = event.compaction_finished.attempt_id
        elif kind == "status_changed" and event.status_changed.status not in WORKING:
            closed = self.open_attempt
        if closed:
            self.closed.add(closed)

    def _check_pieces(self, attempt_id: str, message: Any) -> None:
        texts = committed_texts(message)
        for index, text in self.previews.get(attempt_id, {}).items():
            assert texts[index].startswith(text), "pieces are a prefix of the committed text"

    def _take_piece(self, piece: Any, kind: str, cursor: chat_pb2.Cursor) -> None:
        attempt_id = piece.attempt_id
        assert attempt_id not in self.closed, "no piece after the event that closed its attempt"
        if not self.open_attempt:
            self.open_attempt, self.offset = attempt_id, 0
        assert attempt_id == self.open_attempt, "a reset comes before another attempt"
        assert piece.delta_offset == self.offset, "no gap, no overlap"
        self.offset = cursor.delta_offset
        if kind != "message_part":
            return
        preview = self.previews.setdefault(attempt_id, {})
        text = piece.text or piece.reasoning or piece.refusal or piece.tool_call.arguments_json
        assert len(text.encode()) <= TEXT_SLICE_BYTES_MAX
        preview[piece.part_index] = preview.get(piece.part_index, "") + text

    def complete(self, attempt_id: str) -> bool:
        """Say whether the pieces of a committed attempt equal its text."""
        for event in self.events:
            committed = event.message_committed
            if committed.attempt_id == attempt_id:
                shown = self.previews.get(attempt_id, {})
                return {i: it for i, it in shown.items() if it} == {
                    i: it for i, it in committed_texts(committed.message).items() if it
                }
        return False


def committed_texts(message: Any) -> dict[int, str]:
    """Return the text of each part of a message."""
    return {
        index: part.text.text
        or part.reasoning.text
        or part.refusal.text
        or part.tool_call.arguments_json
        for index, part in enumerate(message.parts)
    }
