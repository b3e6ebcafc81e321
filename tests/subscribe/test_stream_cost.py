"""What a subscriber costs, and how many there may be."""

import asyncio
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2
from chatd_server.domain.failure import ModelFailure
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import ANSWER_BYTES_MAX
from chatd_server.domain.live import PieceKind
from chatd_server.hub.pulse import HEARTBEAT_TAG
from tests.kit.server import refused
from tests.subscribe.scene import CountingReads, Edge


async def test_level_subscribers_share_one_serialisation_per_delta(edge: Edge) -> None:
    """Bytes are made once for each delta and each event, for any number of subscribers."""
    chat = await edge.chat()
    followers = [edge.follow(chat.id) for _ in range(50)]
    for follower in followers:
        await follower.until("caught_up")
    writer = await chat.begin()
    before = edge.hub.serialisations
    words = ["so", " it", " goes"]
    for word in words:
        writer.append(0, PieceKind.TEXT, word)
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
        writer.append(0, PieceKind.TEXT, word)
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
        writer.append(0, PieceKind.TEXT, f"{number} ")
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
    """Nothing is kept of a chat without subscribers, while it runs and after."""
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
    """What was shown stays until the attempt is closed; then it is reset."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin()
    writer.append(0, PieceKind.TEXT, "x" * ANSWER_BYTES_MAX)
    with pytest.raises(ModelFailure):
        writer.append(0, PieceKind.TEXT, "y")
    await follower.until_offset(ANSWER_BYTES_MAX)
    writer.abandon()
    await follower.until("preview_reset")
    await follower.close()


async def test_a_strangers_chat_is_not_found(edge: Edge) -> None:
    """With a snapshot, with a cursor, and for a malformed id."""
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
