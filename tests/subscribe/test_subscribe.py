"""What Subscribe promises beside the nine guarantees: snapshots, ends, heartbeats, limits, cost."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.command import (
    DeleteChat,
    EditMessage,
    UpdateChat,
)
from chatd_server.domain.failure import ModelFailure
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import ANSWER_BYTES_MAX, KIB, MIB
from chatd_server.domain.message import Text
from chatd_server.hub.hub import WATCH_TAG
from chatd_server.hub.pulse import HEARTBEAT_TAG
from tests.kit.fold import fold, shown
from tests.kit.server import refused
from tests.subscribe.scene import Chat, Edge

pytestmark = pytest.mark.timeout(120)


# --- snapshots -------------------------------------------------------------------------------


async def test_a_snapshot_equals_the_chat_and_the_fold_of_its_log(edge: Edge) -> None:
    """Snapshot, GetChat with ListMessages, and the log tell the same."""
    chat = await edge.chat("first")
    await chat.answer("one")
    await chat.send("second")
    await chat.finish()
    await chat.acquire()
    await chat.do(UpdateChat(command_id=chat.command_id(), title="named", labels={"a": "b"}))
    await chat.do(EditMessage(command_id=chat.command_id(), position=3, parts=(Text("third"),)))
    await chat.acquire()
    await chat.answer("two")
    await chat.send("queued")

    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    assert follower.snapshot is not None
    got = await edge.call("GetChat", pb.GetChatRequest(chat_id=chat.id))
    listed = await edge.call("ListMessages", pb.ListMessagesRequest(chat_id=chat.id))
    assert follower.snapshot.chat == got.chat
    assert follower.messages == list(listed.messages)
    assert [entry.preview for entry in follower.snapshot.queue] == ["queued"]

    state = await edge.store.load(chat.id)
    page = await edge.store.events(chat.id, after=0, limit=1000, bytes_max=MIB)
    messages, _ = await edge.store.messages(chat.id, after_position=0, limit=1000, bytes_max=MIB)
    assert fold(page.events) == shown(state, messages)
    assert [it.message_id for it in follower.messages] == [it.id for it in messages]
    await follower.close()


async def long_chat(edge: Edge, answers: int) -> Chat:
    """Return a chat with long answers."""
    chat = await edge.chat()
    for number in range(answers):
        await chat.answer(f"{number:08}" * (64 * KIB))
    return chat


async def test_a_long_history_comes_in_pages_that_fit_any_client(edge: Edge) -> None:
    """6 MiB of messages, none lost, no response above 1 MiB, with and without a cut."""
    chat = await long_chat(edge, 12)
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    assert [it.position for it in follower.messages] == list(range(1, 14))
    assert follower.kinds.count("snapshot_messages") >= 6
    await follower.close()


async def test_a_history_that_is_edited_while_its_snapshot_is_read_ends_up_right(
    edge: Edge,
) -> None:
    """No read transaction waits for a client: what changes meanwhile is told by events."""
    chat = await long_chat(edge, 12)
    follower = edge.follow(chat.id)
    await follower.until("snapshot_messages")
    edit = EditMessage(command_id=chat.command_id(), position=1, parts=(Text("again"),))
    await chat.do(edit)
    await chat.acquire()
    await chat.answer("short")
    await follower.until("caught_up")
    await follower.until_sequence(chat.state.head_sequence)
    first_removed = next(
        event.history_truncated.first_removed_position
        for event in follower.events
        if event.WhichOneof("event") == "history_truncated"
    )
    positions = [it.position for it in follower.messages if it.position < first_removed]
    positions += [
        event.message_committed.message.position
        for event in follower.events
        if event.WhichOneof("event") == "message_committed"
    ]
    listed = await edge.call("ListMessages", pb.ListMessagesRequest(chat_id=chat.id))
    assert positions == [it.position for it in listed.messages]
    await follower.close()


async def test_a_cursor_of_an_unfinished_snapshot_gets_a_new_one(edge: Edge) -> None:
    """Every response before caught_up says so, the open attempt's pieces too."""
    chat = await edge.chat()
    (await chat.begin()).text(0, "so it goes")
    follower = edge.follow(chat.id)
    for kind in ("snapshot", "snapshot_messages", "message_part"):
        await follower.until(kind)
        assert follower.cursor is not None
        assert follower.cursor.snapshot_unfinished
        follower.cut()
        follower.open_attempt, follower.offset = "", 0
    follower.kinds.clear()
    follower.previews.clear()
    await follower.until("caught_up")
    assert follower.kinds == ["snapshot", "snapshot_messages", "message_part", "caught_up"]
    assert follower.cursor is not None
    assert not follower.cursor.snapshot_unfinished
    assert follower.cursor.delta_offset == len("so it goes")
    await follower.close()


# --- how a stream ends -------------------------------------------------------------------------


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
    """Who wants no pieces gets none, and cursors without an attempt."""
    chat = await edge.chat()
    follower = edge.follow(chat.id, include_deltas=False)
    await follower.until("caught_up")
    follower.kinds.clear()
    await chat.answer("one")
    await chat.answer("two")
    await follower.until_sequence(chat.state.head_sequence)
    assert follower.kinds == ["message_committed", "message_committed"]
    await follower.close()


async def test_a_drain_ends_every_stream_and_refuses_new_ones(edge: Edge) -> None:
    """Streams are told, so that clients come back elsewhere."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(5)]
    for follower in followers:
        await follower.until("caught_up")
    edge.hub.drain()
    for follower in followers:
        assert (await follower.to_the_end()).reason == event_pb2.STREAM_END_REASON_DRAINING
    refusal = await refused(edge.follow(chat.id).next)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_deleted_chat_ends_its_streams(edge: Edge) -> None:
    """Behind the last event of the chat."""
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
    """The deletion of an idle chat logs nothing; the hint alone makes the hub look."""
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


# --- heartbeats --------------------------------------------------------------------------------


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
    (await chat.begin()).text(0, "so")
    await follower.until("message_part")
    follower.kinds.clear()
    await edge.clock.advance(14)
    chat.writer.text(0, " it goes")
    await follower.until("message_part")
    assert follower.kinds == ["message_part"]
    await edge.clock.advance(15)
    await follower.until("heartbeat")
    assert follower.kinds == ["message_part", "heartbeat"]
    await follower.close()


async def test_a_client_chooses_the_pause_between_heartbeats(edge: Edge) -> None:
    """A shorter pause than that of the others counts at once."""
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
    """The events go out instead of the beat."""
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
    await follower.close()


# --- other processes ---------------------------------------------------------------------------


async def test_commits_of_another_process_come_with_its_hint(edge: Edge) -> None:
    """One read of the log serves all who are level, and nothing is sent twice."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(5)]
    for follower in followers:
        await follower.until("caught_up")
    edge.go_deaf()
    await chat.send("one")
    await chat.send("two")
    counting = CountingReads(edge.store)
    edge.hub._broadcast.store = counting
    edge.hub.hinted(chat.id, chat.state.revision - 1, chat.state.status)
    edge.hub.hinted(chat.id, chat.state.revision, chat.state.status)
    for follower in followers:
        await follower.until_sequence(chat.state.head_sequence)
        assert [len(event.queue_changed.entries) for event in follower.events] == [1, 2]
    assert counting.reads == ["events"]
    await chat.send("three")
    edge.hub.hints_missed()
    for follower in followers:
        await follower.until_sequence(chat.state.head_sequence)
        await follower.close()


async def test_a_commit_of_ours_behind_one_of_another_process_leaves_no_gap(edge: Edge) -> None:
    """What this process was not told of is read from the log before what it was told of."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    edge.go_deaf()
    await chat.send("of another process")
    ours = await chat.send("of this one")
    edge.hub.committed(ours)
    await follower.until_sequence(chat.state.head_sequence)
    assert [len(event.queue_changed.entries) for event in follower.events] == [1, 2]
    await follower.close()


@pytest.mark.parametrize("open_store", ["postgres"], indirect=True)
async def test_another_replica_gives_exactly_the_missing_text_when_it_is_committed(
    serve: Any,
) -> None:
    """A cursor inside an attempt that another replica holds is kept, not reset."""
    async with serve() as owner, serve() as other:
        chat = await owner.chat()
        follower = owner.follow(chat.id)
        await follower.until("caught_up")
        (await chat.begin()).text(0, "so it ")
        await follower.until("message_part")
        follower.cut()
        moved = other.follow(chat.id, resume_from=follower.cursor)
        moved.open_attempt, moved.offset = chat.attempt_id, follower.offset
        moved.previews = follower.previews
        await moved.until("caught_up")
        assert moved.kinds == ["caught_up"]
        chat.writer.text(0, "goes")
        await chat.commit("so it goes")
        other.hub.hinted(chat.id, chat.state.revision, chat.state.status)
        await moved.until("message_committed")
        assert moved.kinds == ["caught_up", "message_part", "message_committed"]
        assert moved.complete(chat.attempt_id)
        await moved.close()


async def test_a_wait_for_the_log_ends_with_the_next_event(edge: Edge) -> None:
    """ListEvents waits on the hub, for so long and no longer."""
    chat = await edge.chat()
    head = chat.state.head_sequence
    listing = pb.ListEventsRequest(chat_id=chat.id, after_sequence=head, wait=Duration(seconds=20))
    waiting = asyncio.ensure_future(edge.call("ListEvents", listing))
    await edge.clock.sleeping(WATCH_TAG)
    await chat.send("now")
    response = await waiting
    assert [event.sequence for event in response.events] == [head + 1]
    listing.after_sequence = chat.state.head_sequence
    waiting = asyncio.ensure_future(edge.call("ListEvents", listing))
    await edge.clock.sleeping(WATCH_TAG)
    await edge.clock.advance(20)
    assert not (await waiting).events
    assert edge.hub.chat_count == 0


# --- cost and limits ---------------------------------------------------------------------------


async def test_level_subscribers_share_one_serialisation_per_delta(edge: Edge) -> None:
    """However many follow: bytes are made once for each delta and once for each event."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(50)]
    for follower in followers:
        await follower.until("caught_up")
    writer = await chat.begin()
    before = edge.hub.serialisations
    words = ["so", " it", " goes"]
    for word in words:
        writer.text(0, word)
        for follower in followers:
            await follower.until("message_part")
    assert edge.hub.serialisations - before == len(words)
    before = edge.hub.serialisations
    await chat.commit("".join(words))
    for follower in followers:
        await follower.until("message_committed")
        assert follower.complete(chat.attempt_id)
        await follower.close()
    assert edge.hub.serialisations - before == 1


class CountingReads:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.reads.append(name)
        return getattr(self._store, name)


async def test_a_level_subscriber_costs_no_database_statement(edge: Edge) -> None:
    """On the replica that commits, events come from memory."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    counting = CountingReads(edge.store)
    edge.hub._broadcast.store = counting
    for number in range(5):
        await chat.answer(f"answer {number}")
        await follower.until_sequence(chat.state.head_sequence)
    assert counting.reads == []
    await follower.close()


async def test_a_thousand_subscribers_of_one_chat_all_get_everything(edge: Edge) -> None:
    """Each of them gets every piece and every event."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(1000)]
    await asyncio.gather(*(follower.until("caught_up") for follower in followers))
    assert edge.hub.stream_count == 1000
    writer = await chat.begin()
    for word in ("so", " it", " goes"):
        writer.text(0, word)
    await chat.commit("so it goes")
    head = chat.state.head_sequence
    await asyncio.gather(*(follower.until_sequence(head) for follower in followers))
    assert all(follower.complete(chat.attempt_id) for follower in followers)
    for follower in followers:
        await follower.close()


async def test_deltas_merge_while_a_reader_is_away(edge: Edge) -> None:
    """A thousand deltas that were not read yet are one response."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin()
    for number in range(1000):
        writer.text(0, f"{number} ")
    await follower.until_offset(3890)
    assert follower.kinds[follower.kinds.index("caught_up") :] == ["caught_up", "message_part"]
    await follower.close()


async def test_too_many_streams_are_refused(serve: Any) -> None:
    """Per chat and per key, with the limit in the answer; a place that is free is given."""
    async with serve(subscribers_per_chat_max=2, streams_per_owner_max=3) as edge:
        chat, other = await edge.chat(), await edge.chat()
        first, second = edge.follow(chat.id), edge.follow(chat.id)
        await first.until("caught_up")
        await second.until("caught_up")
        refusal = await refused(edge.follow(chat.id).next)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_STREAMS",
        )
        third = edge.follow(other.id)
        await third.until("caught_up")
        refusal = await refused(edge.follow(other.id).next)
        assert refusal.reason == "TOO_MANY_STREAMS"
        edge.hub.drain()
        for follower in (first, second, third):
            await follower.to_the_end()


async def test_a_client_that_leaves_leaves_nothing_behind(edge: Edge) -> None:
    """Cancelled while it waits or while it is being written to: hub and timer are empty."""
    chat = await edge.chat()
    waiting, stuffed = edge.follow(chat.id), edge.follow(chat.id)
    await waiting.until("caught_up")
    await stuffed.until("caught_up")
    for _ in range(30):
        await chat.answer("x" * 700_000)
    assert edge.hub.stream_count == 2
    waiting.cut()
    stuffed.cut()
    while edge.hub.stream_count or HEARTBEAT_TAG in edge.clock.tags():
        await edge.clock.sleep(0, "the server notices")
    assert edge.hub.chat_count == 0


async def test_an_idle_chat_costs_nothing(edge: Edge) -> None:
    """Nothing is kept of a chat that nobody follows, while it runs and after."""
    chat = await edge.chat()
    assert edge.hub.chat_count == 0
    await chat.begin()
    assert edge.hub.chat_count == 1
    await chat.commit("done")
    assert edge.hub.chat_count == 0
    await chat.begin()
    chat.writer.abandon()
    assert edge.hub.chat_count == 0
    assert HEARTBEAT_TAG not in edge.clock.tags()


async def test_an_answer_beyond_its_limit_fails_for_the_writer(edge: Edge) -> None:
    """What was shown stays until the attempt is closed; then it is taken back."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin()
    writer.text(0, "x" * ANSWER_BYTES_MAX)
    with pytest.raises(ModelFailure):
        writer.text(0, "y")
    await follower.until_offset(ANSWER_BYTES_MAX)
    writer.abandon()
    await follower.until("preview_reset")
    await follower.close()


# --- who may -----------------------------------------------------------------------------------


async def test_a_strangers_chat_is_not_found(edge: Edge) -> None:
    """With a snapshot and with a cursor, and for an id that is none."""
    chat = await edge.chat()
    _, edge.key = await edge.keys.create(OwnerId("stranger"), "other")
    for follower in (
        edge.follow(chat.id),
        edge.follow(chat.id, resume_from=chat_pb2.Cursor()),
        edge.follow("no-uuid"),
    ):
        refusal = await refused(follower.next)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CHAT_NOT_FOUND")
        assert follower.responses == 0
