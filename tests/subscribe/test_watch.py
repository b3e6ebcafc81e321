"""WatchChats: all chats of an owner on one stream, over a real channel, on both databases."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatConfig
from chatd_server.domain.command import Create, DeleteChat, RequireAction, UpdateChat
from chatd_server.domain.ids import ChatId, OwnerId, ToolCallId, new_uuid
from chatd_server.domain.message import Executor, ToolCall
from chatd_server.hub import feed
from tests.kit.server import refused
from tests.subscribe.scene import OWNER, CountingReads, Edge
from tests.subscribe.watching import Watching

WRITERS = 16
EVENTS = 7
"""Of one chat: its fields, its status, and its titles."""


def _title(edge: Edge, title: str) -> UpdateChat:
    return UpdateChat(command_id=new_uuid(edge.clock.now()), title=title)


def _create(edge: Edge, owner: OwnerId = OWNER, **config: Any) -> Create:
    now = edge.clock.now()
    return Create(
        command_id=new_uuid(now),
        chat_id=ChatId(new_uuid(now)),
        owner_id=owner,
        config=ChatConfig(model="scripted", **config),
    )


async def test_a_watch_follows_a_turn_of_any_chat(edge: Edge) -> None:
    """From now on: a new chat, what it does, its title, its end; nothing of others."""
    await edge.chat("before")
    watching = Watching(edge)
    await watching.until("caught_up")
    assert watching.events == []

    chat = await edge.chat("hello")
    await chat.answer("done")
    await chat.finish()
    foreign = _create(edge, OwnerId("somebody"))
    await edge.store.apply(foreign.chat_id, foreign)
    await chat.do(_title(edge, "named"))
    await chat.do(DeleteChat(command_id=chat.command_id()))
    await watching.until("chat_deleted")

    assert {chat_id for chat_id, _ in watching.events} == {chat.id}
    kinds = [event.WhichOneof("event") for _, event in watching.events]
    statuses = [
        event.status_changed.status
        for _, event in watching.events
        if event.HasField("status_changed")
    ]
    assert kinds[-2:] == ["chat_updated", "chat_deleted"]
    assert statuses == [
        chat_pb2.CHAT_STATUS_PENDING,
        chat_pb2.CHAT_STATUS_RUNNING,
        chat_pb2.CHAT_STATUS_WAITING,
    ]
    watching.cut()


async def test_a_watch_says_what_the_client_has_to_do(edge: Edge) -> None:
    """action_required comes with its calls."""
    watching = Watching(edge)
    await watching.until("caught_up")
    chat = await edge.chat()
    await chat.begin()
    calls = [ToolCall(ToolCallId(it), "ls", "{}", Executor.CLIENT, edge.clock.now()) for it in "ab"]
    await chat.commit(*calls)
    await chat.do(RequireAction(**chat.hold()))

    event = await watching.until("action_required")
    asked = event.action_required.action.tool_calls
    assert [it.tool_call_id for it in asked] == ["a", "b"]
    watching.cut()


async def test_a_cut_after_every_response_loses_and_doubles_nothing(edge: Edge) -> None:
    """A watch that goes on at the last cursor, every time."""
    watching = Watching(edge)
    await watching.until("caught_up")
    chats = [await edge.chat(f"{number}") for number in range(3)]
    for chat in chats:
        await chat.answer("done")
        await chat.finish()

    expected = {chat.id: await _watched(edge, chat.id) for chat in chats}
    total = sum(map(len, expected.values()))
    while len(watching.events) < total:
        watching.cut()
        await watching.next()

    assert dict(watching.sequences) == expected
    watching.cut()
    await watching.until("caught_up")
    assert len(watching.events) == total
    watching.cut()


async def test_a_watch_misses_nothing_while_many_write(edge: Edge) -> None:
    """With cuts in between; a slow reader is sent each event by itself."""
    watching = Watching(edge)
    await watching.until("caught_up")

    async def write(number: int) -> ChatId:
        create = _create(edge)
        await edge.store.apply(create.chat_id, create)
        for turn in range(EVENTS - 2):
            await edge.store.apply(create.chat_id, _title(edge, f"{number} {turn}"))
        return create.chat_id

    async def let_time_pass() -> None:
        while True:  # transactions that are open hold others back for a while
            await edge.clock.sleeping("feed.held_back")
            await edge.clock.advance_to("feed.held_back")

    passing = asyncio.create_task(let_time_pass())
    writing = [asyncio.create_task(write(number)) for number in range(WRITERS)]
    for count in range(0, WRITERS * EVENTS, EVENTS):
        await watching.until_events(count)
        watching.cut()
    chats = await asyncio.gather(*writing)
    await watching.until_events(WRITERS * EVENTS)
    passing.cancel()

    assert dict(watching.sequences) == {it: await _watched(edge, it) for it in chats}
    watching.cut()


async def test_a_watch_of_a_family_or_of_labels_gets_only_these(edge: Edge) -> None:
    """The others are passed over, and the cursor is one of this watch alone."""
    red = _create(edge, labels={"team": "red", "x": "1"})
    await edge.store.apply(red.chat_id, red)
    family = Watching(edge, root_chat_id=red.chat_id)
    labelled = Watching(edge, labels={"team": "red"})
    for watching in (family, labelled):
        await watching.until("caught_up")

    other = _create(edge, labels={"team": "blue"})
    await edge.store.apply(other.chat_id, other)
    await edge.store.apply(red.chat_id, _title(edge, "named"))

    for watching in (family, labelled):
        await watching.until("chat_updated")
        assert list(watching.sequences) == [red.chat_id]
        watching.cut()
    moved = Watching(edge, labels={"team": "blue"})
    moved.cursor = labelled.cursor
    refusal = await refused(moved.next)
    assert refusal.fields == ["cursor"]


async def test_many_watchers_cost_one_read(edge: Edge) -> None:
    """Of one owner: what is new is read once, whoever waits for it."""
    watchers = [Watching(edge) for _ in range(20)]
    for watching in watchers:
        await watching.until("caught_up")
    counting = CountingReads(edge.store)
    for one in edge.feeds._feeds.values():
        one._store = counting
    for watcher in edge.feeds._watchers[OWNER]:
        watcher._store = counting

    chat = await edge.chat("")

    for watching in watchers:
        await watching.until("status_changed")
        assert list(watching.sequences) == [chat.id]
        watching.cut()
    assert counting.reads.count("watched") <= 2


async def test_a_watcher_that_is_far_behind_reads_for_itself(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process keeps is bounded; nothing is lost."""
    monkeypatch.setattr(feed, "KEPT_EVENTS_MAX", 3)
    watching = Watching(edge)
    await watching.until("caught_up")
    quick = Watching(edge)
    await quick.until("caught_up")
    watching.cut()
    chat = await edge.chat("")
    for number in range(10):
        await chat.do(_title(edge, f"{number}"))
        await quick.until("chat_updated")

    await watching.until_events(11)

    assert dict(watching.sequences) == dict(quick.sequences)
    watching.cut()
    quick.cut()


async def test_a_silent_watch_sends_heartbeats_with_a_newer_cursor(edge: Edge) -> None:
    """At the interval of the request."""
    watching = Watching(edge, heartbeat_interval=Duration(seconds=5))
    await watching.until("caught_up")
    beating = asyncio.create_task(watching.until("heartbeat"))
    await edge.clock.sleeping("feed.heartbeat")

    await edge.clock.advance(5)

    await beating
    assert watching.cursor
    watching.cut()


async def test_a_watch_ends_when_the_server_drains(edge: Edge) -> None:
    """With a reason and a delay, and a new one is refused."""
    watching = Watching(edge)
    await watching.until("caught_up")

    edge.feeds.drain()

    await watching.until("stream_end")
    assert await watching.next() == ""
    assert (await refused(Watching(edge).next)).reason == "DRAINING"


async def test_a_cursor_older_than_the_retention_is_refused(serve: Any) -> None:
    """Events after it may be gone: the client lists its chats and begins from now."""
    async with serve(event_retention_seconds=60) as edge:
        watching = Watching(edge)
        await watching.until("caught_up")
        watching.cut()

        await edge.clock.advance(61)

        assert (await refused(watching.next)).reason == "CURSOR_EXPIRED"


@pytest.mark.parametrize("open_store", ["postgres"], indirect=True)
async def test_a_watch_hears_of_another_process_by_its_hint(serve: Any) -> None:
    """Of a chat that this process has never seen."""
    async with serve() as here, serve() as there:
        watching = Watching(here)
        await watching.until("caught_up")

        chat = await there.chat("")
        here.feeds.hinted(chat.id, chat.state.revision, chat.state.status)

        await watching.until("status_changed")
        assert list(watching.sequences) == [chat.id]
        watching.cut()


async def test_the_family_of_another_owner_is_not_found(edge: Edge) -> None:
    """Like any chat of another owner."""
    foreign = _create(edge, OwnerId("somebody"))
    await edge.store.apply(foreign.chat_id, foreign)

    refusal = await refused(Watching(edge, root_chat_id=foreign.chat_id).next)

    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def _watched(edge: Edge, chat_id: ChatId) -> list[int]:
    request = pb.ListEventsRequest(chat_id=chat_id, page_size=200)
    page = await edge.call("ListEvents", request)
    return [it.sequence for it in page.events if _is_watched(it)]


def _is_watched(event: event_pb2.ChatEvent) -> bool:
    return event.WhichOneof("event") in {
        "status_changed",
        "action_required",
        "action_resolved",
        "chat_updated",
        "subagent_changed",
        "chat_deleted",
    }
