"""The guarantees of the contract while contexts are compacted, on both databases."""

import random
from collections.abc import AsyncIterator

import pytest

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.live import PieceKind
from tests.subscribe.conftest import Serve
from tests.subscribe.follower import Follower
from tests.subscribe.scene import Chat, Edge

INTRODUCTION = "Before: "
SLICES = ("so it ", "gœs 😀", " and on")
SUMMARY = "".join(SLICES)


async def compacts(chat: Chat, *, unanswered: str = "") -> AsyncIterator[None]:
    """Compact in small steps; the caller reads between them."""
    writer = await chat.begin_compaction()
    yield
    writer.append(0, PieceKind.TEXT, INTRODUCTION)
    yield
    for slice_ in SLICES:
        writer.append(1, PieceKind.TEXT, slice_)
        yield
    await chat.commit_compaction(INTRODUCTION, SUMMARY, unanswered=unanswered)
    yield


async def fails(chat: Chat) -> AsyncIterator[None]:
    """Begin a compaction that fails."""
    writer = await chat.begin_compaction()
    yield
    writer.append(0, PieceKind.TEXT, INTRODUCTION)
    yield
    await chat.fail_compaction()
    writer.abandon()
    yield


async def whole(chat: Chat) -> AsyncIterator[None]:
    """A turn with an answer, a failed compaction, one that is done, and another answer."""
    await chat.answer("hello there")
    yield
    async for _ in fails(chat):
        yield
    async for _ in compacts(chat, unanswered="and this?"):
        yield
    await chat.answer("going on")
    yield
    await chat.send("queued")
    await chat.finish()
    yield
    await chat.acquire()
    async for _ in compacts(chat):
        yield
    await chat.answer("the end")
    await chat.finish()
    yield


async def listed(edge: Edge, chat: Chat) -> list[event_pb2.ChatEvent]:
    """Return the whole log."""
    request = pb.ListEventsRequest(chat_id=chat.id, page_size=200)
    return list((await edge.call("ListEvents", request)).events)


@pytest.mark.parametrize("seed", range(10))
async def test_every_guarantee_holds_for_subscribers_that_are_cut_at_random(
    edge: Edge, seed: int
) -> None:
    """No gap, no repetition, pieces that are a prefix of the message, nothing after a close; the
    follower asserts each of them for each response.
    """
    chance = random.Random(seed)
    chat = await edge.chat()
    followers = [edge.follow(chat.id, resume_from=chat_pb2.Cursor()) for _ in range(3)]
    followers.append(edge.follow(chat.id))
    async for _ in whole(chat):
        for follower in followers:
            await _read_some(follower, chat, chance)
    log = await listed(edge, chat)
    for follower in followers:
        await follower.until_sequence(chat.state.head_sequence)
        first = follower.events[0].sequence if follower.events else len(log) + 1
        assert follower.events == log[first - 1 :]
        while follower.open_attempt:
            await follower.next()  # the reset of an attempt that was void comes after its event
        await follower.close()


async def _read_some(follower: Follower, chat: Chat, chance: random.Random) -> None:
    what = chance.random()
    if what < 0.3:
        follower.cut()
    elif what < 0.5:
        await follower.until_sequence(chance.randint(0, chat.state.head_sequence))
    elif what < 0.6:
        await follower.until_sequence(chat.state.head_sequence)
    elif what < 0.9 and chat.state.turn is not None and chat.state.turn.attempt is not None:
        # Up to somewhere inside what is shown now, which a cut then leaves half read.
        await follower.until_sequence(chat.state.head_sequence)
        await follower.until_offset(chance.randint(0, chat.shown_bytes))


async def test_a_connected_subscriber_gets_the_whole_summary_before_its_message(
    edge: Edge,
) -> None:
    """Started, pieces, message, finished: in this order, byte for byte."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    async for _ in compacts(chat):
        pass
    await follower.until("compaction_finished")
    kinds = [it for it in follower.kinds if it != "message_part"]
    assert kinds[-3:] == ["compaction_started", "message_committed", "compaction_finished"]
    assert follower.complete(chat.attempt_id)
    assert follower.previews[chat.attempt_id] == {0: INTRODUCTION, 1: SUMMARY}
    await follower.close()


async def test_a_subscriber_that_comes_back_inside_a_summary_gets_exactly_the_rest(
    edge: Edge,
) -> None:
    """Its cursor counts bytes of the summary, the mark of its beginning included."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin_compaction()
    writer.append(0, PieceKind.TEXT, INTRODUCTION)
    writer.append(1, PieceKind.TEXT, SLICES[0])
    await follower.until("message_part")
    follower.cut()
    for slice_ in SLICES[1:]:
        writer.append(1, PieceKind.TEXT, slice_)
    await follower.until("message_part")
    await chat.commit_compaction(INTRODUCTION, SUMMARY)
    await follower.until("compaction_finished")
    assert follower.complete(chat.attempt_id)
    await follower.close()


async def test_nothing_of_a_compaction_is_shown_after_the_event_that_says_it_failed(
    edge: Edge,
) -> None:
    """Also when its worker goes on writing: the follower asserts that no piece comes after it."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin_compaction()
    await follower.until("compaction_started")
    await chat.fail_compaction()
    writer.append(0, PieceKind.TEXT, INTRODUCTION)
    await follower.until("compaction_finished")
    await follower.until("preview_reset")
    await chat.finish()
    await follower.until("status_changed")
    assert follower.previews == {}
    await follower.close()


async def test_a_failed_compaction_resets_what_was_shown(edge: Edge) -> None:
    """No later piece may belong to it."""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    async for _ in fails(chat):
        pass
    await chat.answer("hello")
    await follower.until("message_committed")
    assert "preview_reset" in follower.kinds or "compaction_started" not in follower.kinds
    assert follower.complete(chat.attempt_id)
    await follower.close()


@pytest.mark.parametrize("open_store", ["postgres"], indirect=True)
async def test_a_subscriber_of_another_server_gets_the_summary_with_its_message(
    serve: Serve,
) -> None:
    """All at once, rebuilt from the message: a cursor of the first server counts the same bytes."""
    async with serve() as here, serve() as there:
        chat = await here.chat()
        level, back = there.follow(chat.id), here.follow(chat.id)
        await level.until("caught_up")
        await back.until("caught_up")
        writer = await chat.begin_compaction()
        writer.append(0, PieceKind.TEXT, INTRODUCTION)
        writer.append(1, PieceKind.TEXT, SLICES[0])
        await back.until_offset(chat.shown_bytes)
        back.cut()
        moved = there.follow(chat.id, resume_from=back.cursor)
        moved.open_attempt, moved.offset = chat.attempt_id, back.offset
        moved.previews = back.previews
        await moved.until("caught_up")
        for slice_ in SLICES[1:]:
            writer.append(1, PieceKind.TEXT, slice_)
        await chat.commit_compaction(INTRODUCTION, SUMMARY)
        there.hub.hinted(chat.id, chat.state.revision, chat.state.status)
        for follower in (level, moved):
            await follower.until("compaction_finished")
            assert follower.complete(chat.attempt_id)
            await follower.close()
        assert "compaction_started" in level.kinds
