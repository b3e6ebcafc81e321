"""How a stream ends, and how it stays alive when nothing happens."""

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.command import (
    DeleteChat,
)
from chatd_server.domain.live import PieceKind
from chatd_server.domain.refusal import Draining
from chatd_server.hub.pulse import HEARTBEAT_TAG
from tests.kit.server import refused
from tests.subscribe.scene import Edge


async def test_until_settled_ends_when_the_turn_is_over(edge: Edge) -> None:
    """Not before caught_up, and at once when the chat is idle already."""
    chat = await edge.chat()
    follower = edge.follow(chat.id, until=pb.SUBSCRIBE_UNTIL_SETTLED)
    await follower.until("caught_up")
    await chat.answer("done")
    await chat.finish()
    end = await follower.to_the_end()
    assert end.reason == event_pb2.STREAM_END_REASON_UNTIL_REACHED
    assert follower.kinds[-2:] == ["status_changed", "stream_end"]
    idle = edge.follow(chat.id, until=pb.SUBSCRIBE_UNTIL_SETTLED)
    await idle.to_the_end()
    assert idle.kinds[-2:] == ["caught_up", "stream_end"]
    replayed = edge.follow(chat.id, until=pb.SUBSCRIBE_UNTIL_SETTLED, resume_from=chat_pb2.Cursor())
    await replayed.to_the_end()
    assert len(replayed.events) == chat.state.head_sequence


async def test_without_deltas_only_durable_events_come(edge: Edge) -> None:
    """Without deltas there are no pieces, and cursors have no attempt."""
    chat = await edge.chat()
    follower = edge.follow(chat.id, include_deltas=False)
    await follower.until("caught_up")
    follower.kinds.clear()
    await chat.answer("one")
    await chat.answer("two")
    await follower.until_sequence(chat.state.head_sequence)
    assert follower.kinds == ["message_committed", "message_committed"]
    await follower.close()


async def test_pieces_that_are_held_are_taken_back_also_without_deltas(edge: Edge) -> None:
    """A client that comes back for durable events alone is told that its pieces are void."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    (await chat.begin()).append(0, PieceKind.TEXT, "lost")
    await follower.until("message_part")
    follower.cut()
    thrifty = edge.follow(chat.id, include_deltas=False, resume_from=follower.cursor)
    thrifty.open_attempt, thrifty.offset = follower.open_attempt, follower.offset
    await thrifty.until("caught_up")
    assert thrifty.cursor is not None
    assert follower.cursor is not None
    assert thrifty.cursor == follower.cursor
    await chat.retry()
    await thrifty.until("retry_scheduled")
    reset = await thrifty.until("preview_reset")
    assert reset.preview_reset.attempt_id == follower.cursor.attempt_id
    assert not thrifty.cursor.attempt_id
    (await chat.begin()).append(0, PieceKind.TEXT, "found")
    await chat.commit("found")
    await thrifty.until_sequence(chat.state.head_sequence)
    assert "message_part" not in thrifty.kinds
    await follower.close()
    await thrifty.close()


async def test_a_drain_ends_every_stream_and_refuses_new_ones(edge: Edge) -> None:
    """Streams end with a reason, so that clients go to another server."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(5)]
    for follower in followers:
        await follower.until("caught_up")
    edge.hub.drain()
    for follower in followers:
        end = await follower.to_the_end()
        assert end.reason == event_pb2.STREAM_END_REASON_DRAINING
        assert end.retry_delay.ToTimedelta().total_seconds() == Draining.retry_seconds
    refusal = await refused(edge.follow(chat.id).next)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_deleted_chat_ends_its_streams(edge: Edge) -> None:
    """After the last event of the chat."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    await chat.do(DeleteChat(command_id=chat.command_id()))
    end = await follower.to_the_end()
    assert end.reason == event_pb2.STREAM_END_REASON_CHAT_DELETED
    assert follower.events[-1].sequence == chat.state.head_sequence
    refusal = await refused(edge.follow(chat.id).next)
    assert refusal.reason == "CHAT_NOT_FOUND"


async def test_an_idle_chat_that_another_process_deletes_ends_its_streams(edge: Edge) -> None:
    """The hint makes the hub read the event."""
    chat = await edge.chat("")
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    edge.go_deaf()
    await chat.do(DeleteChat(command_id=chat.command_id()))
    edge.hub.hinted(chat.id, chat.state.revision, chat.state.status)
    end = await follower.to_the_end()
    assert end.reason == event_pb2.STREAM_END_REASON_CHAT_DELETED


async def test_a_stream_ends_when_it_is_old_and_can_be_resumed(serve: Any) -> None:
    """MAX_DURATION, at most the jitter earlier than the setting says."""
    async with serve(stream_seconds_max=100.0, heartbeat_seconds=1000.0) as edge:
        chat = await edge.chat()
        follower = edge.follow(chat.id)
        await follower.until("caught_up")
        assert 90 <= await edge.clock.sleeping(HEARTBEAT_TAG) <= 100
        await edge.clock.advance(100)
        end = await follower.to_the_end()
        assert end.reason == event_pb2.STREAM_END_REASON_MAX_DURATION
        resumed = edge.follow(chat.id, resume_from=follower.cursor)
        await resumed.until("caught_up")
        assert resumed.kinds == ["caught_up"]
        await resumed.close()


async def test_a_silent_stream_beats_and_a_busy_one_does_not(edge: Edge) -> None:
    """15 seconds after the last response, not after the last beat."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    before = follower.cursor
    assert await edge.clock.sleeping(HEARTBEAT_TAG) == 15
    await edge.clock.advance(15)
    beat = await follower.until("heartbeat")
    assert beat.heartbeat.head_sequence == chat.state.head_sequence
    assert follower.cursor == before
    await edge.clock.advance(10)
    (await chat.begin()).append(0, PieceKind.TEXT, "so")
    await follower.until("message_part")
    follower.kinds.clear()
    await edge.clock.advance(14)
    chat.writer.append(0, PieceKind.TEXT, " it goes")
    await follower.until("message_part")
    assert follower.kinds == ["message_part"]
    await edge.clock.advance(15)
    await follower.until("heartbeat")
    assert follower.kinds == ["message_part", "heartbeat"]
    await follower.close()


async def test_streams_beat_together_when_they_are_due_about_the_same_time(edge: Edge) -> None:
    """The later one beats up to 50 ms early; one that is due later than that waits."""
    chat = await edge.chat()
    followers = []
    for _ in range(3):
        followers.append(edge.follow(chat.id))
        await followers[-1].until("caught_up")
        await edge.clock.advance(0.04)
    first, second, third = followers
    await edge.clock.advance(14.88)
    await first.until("heartbeat")
    await second.until("heartbeat")
    assert "heartbeat" not in third.kinds
    await edge.clock.advance(0.08)
    await third.until("heartbeat")
    assert [it.kinds.count("heartbeat") for it in followers] == [1, 1, 1]
    for follower in followers:
        await follower.close()


async def test_a_client_chooses_the_pause_between_heartbeats(edge: Edge) -> None:
    """A pause shorter than the others' takes effect at once."""
    chat = await edge.chat()
    usual = edge.follow(chat.id)
    await usual.until("caught_up")
    quick = edge.follow(chat.id, heartbeat_interval=Duration(seconds=2))
    await quick.until("caught_up")
    await edge.clock.advance(2)
    await quick.until("heartbeat")
    await edge.clock.advance(2)
    await quick.until("heartbeat")
    assert "heartbeat" not in usual.kinds
    await usual.close()
    await quick.close()


async def test_a_heartbeat_finds_what_a_lost_hint_left_behind(edge: Edge) -> None:
    """The events are sent in place of the heartbeat."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    edge.go_deaf()
    await chat.send("from elsewhere")
    await edge.clock.sleeping(HEARTBEAT_TAG)
    await edge.clock.advance(15)
    follower.kinds.clear()
    await follower.until("queue_changed")
    assert follower.kinds == ["queue_changed"]
    assert edge.hub.silences == 1, "what was owed in silence is counted"
    await follower.close()
