"""Commits of which this process learns late, or by a hint alone."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.live import PieceKind
from chatd_server.hub.watch import WATCH_TAG
from tests.subscribe.scene import CountingReads, Edge


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
    """Commits that this process did not hear of are read from the log before those that it did."""
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
        (await chat.begin()).append(0, PieceKind.TEXT, "so it ")
        await follower.until("message_part")
        follower.cut()
        moved = other.follow(chat.id, resume_from=follower.cursor)
        moved.open_attempt, moved.offset = chat.attempt_id, follower.offset
        moved.previews = follower.previews
        await moved.until("caught_up")
        assert moved.kinds == ["caught_up"]
        chat.writer.append(0, PieceKind.TEXT, "goes")
        await chat.commit("so it goes")
        other.hub.hinted(chat.id, chat.state.revision, chat.state.status)
        await moved.until("message_committed")
        assert moved.kinds == ["caught_up", "message_part", "message_committed"]
        assert moved.complete(chat.attempt_id)
        await moved.close()


async def test_a_wait_for_the_log_ends_with_the_next_event(edge: Edge) -> None:
    """ListEvents waits on the hub, for the time of the request and no longer."""
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
    # The log is read each second; time stands meanwhile.
    for _ in range(20):
        assert await edge.clock.advance_to(WATCH_TAG) == 1
    assert not (await waiting).events
    assert edge.hub.chat_count == 0
