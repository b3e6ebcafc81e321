"""Frames of deltas, whose messages are used again and again."""

import psutil
import pytest

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.event import Cursor
from chatd_server.domain.ids import AttemptId, ToolCallId
from chatd_server.domain.live import CallHead, Piece, PieceKind
from chatd_server.domain.message import Executor
from chatd_server.rpc.streams.frames import REUSES_MAX, EventFrames

FIRST, SECOND = AttemptId("attempt-1"), AttemptId("attempt-2")


def _response(part: event_pb2.MessagePart, cursor: chat_pb2.Cursor) -> pb.SubscribeResponse:
    return pb.SubscribeResponse(event=event_pb2.ChatEvent(message_part=part), cursor=cursor)


@pytest.mark.parametrize("before", [0, 1, REUSES_MAX - 1, REUSES_MAX, 2 * REUSES_MAX])
@pytest.mark.parametrize("kind", [PieceKind.TEXT, PieceKind.REASONING])
def test_nothing_of_an_earlier_delta_is_left(kind: PieceKind, before: int) -> None:
    """The next frame does not depend on how often the message was filled before."""
    frames = EventFrames()
    other = Piece(3, kind, 7, 10, "abc")
    for _ in range(before):
        frames.piece(FIRST, other, Cursor(9, FIRST, 10, snapshot_unfinished=True))
    frame = frames.piece(SECOND, Piece(0, kind, 0, 1, "z"), Cursor(0, SECOND, 1))
    part = event_pb2.MessagePart(attempt_id=SECOND)
    setattr(part, kind.value, "z")
    expected = _response(part, chat_pb2.Cursor(attempt_id=SECOND, delta_offset=1))
    assert pb.SubscribeResponse.FromString(frame) == expected


def test_a_call_that_follows_another_has_only_its_own_fields() -> None:
    """All fields of the call are set again, too."""
    frames = EventFrames()
    first = CallHead(ToolCallId("call-1"), "search", Executor.CLIENT)
    frames.piece(FIRST, Piece(1, PieceKind.CALL, 0, 40, '{"q":', first), Cursor(1, FIRST, 40))
    second = CallHead(ToolCallId("call-2"), "time", Executor.SERVER)
    frame = frames.piece(FIRST, Piece(2, PieceKind.CALL, 40, 70, "", second), Cursor(1, FIRST, 70))
    call = event_pb2.ToolCallPiece(
        tool_call_id="call-2",
        tool_name="time",
        executor=message_pb2.TOOL_EXECUTOR_SERVER,
    )
    part = event_pb2.MessagePart(attempt_id=FIRST, part_index=2, delta_offset=40, tool_call=call)
    expected = _response(part, chat_pb2.Cursor(sequence=1, attempt_id=FIRST, delta_offset=70))
    assert pb.SubscribeResponse.FromString(frame) == expected


def test_deltas_leave_no_memory_behind() -> None:
    """A message keeps the memory of every text that it held, so it is replaced."""
    frames = EventFrames()
    piece = Piece(0, PieceKind.TEXT, 0, 65_536, "x" * 65_536)
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(4_000):
        frames.piece(FIRST, piece, Cursor(1, FIRST, 65_536))
    grown = process.memory_info().rss - before
    assert grown < 64 * 2**20, f"{grown} bytes more, of {4_000 * 65_536} that were sent"
