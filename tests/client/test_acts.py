"""What a client does to a chat besides talking to it: queue, edit, retry, fork, update, archive."""

import asyncio
from contextlib import aclosing
from uuid import uuid4

import pytest

from chatd.v1 import chat_pb2, message_pb2
from chatd_client import (
    ChatHandle,
    ChatView,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    SyncClient,
    TurnFailed,
    tool,
)
from chatd_client.sync import SyncChat
from chatd_client.turn import text_of
from tests.kit.server import Served

STALLED = "!say before\n!stall 5\n!say after"


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"{at} is there"


async def busy(served: Served, client: Client) -> ChatHandle:
    """Return a chat in the middle of an answer, with the messages a, b and c in its queue."""
    chat = await client.create_chat(STALLED)
    await served.clock.sleeping("sandbox.stall")
    for text in "abc":
        await chat.send(f"!say {text}")
    return chat


async def said(chat: ChatHandle) -> list[str]:
    """Return the text of each message."""
    return [text_of(it) for it in await chat.messages()]


async def settled(chat: ChatHandle) -> None:
    """Wait until no turn is open."""
    async for _ in chat.resume():
        pass


async def test_the_queue_is_listed_reordered_and_cut(served: Served, client: Client) -> None:
    """What is left has its turns in the order that the client named."""
    chat = await busy(served, client)
    first, second, third = (it.message_id for it in await chat.queued_messages())
    await chat.reorder_queued([third, first, second])
    assert (await chat.delete_queued(second)).queued_message_count == 2
    assert [it.message_id for it in await chat.queued_messages()] == [third, first]
    with pytest.raises(InvalidRequest, match="list them again"):
        await chat.reorder_queued([first])
    await served.clock.advance_to("sandbox.stall")
    await settled(chat)
    assert await said(chat) == [STALLED, "before\nafter", "!say c", "c", "!say a", "a"]


async def test_a_promoted_message_is_the_next_one(served: Served, client: Client) -> None:
    """The answer so far is kept before it."""
    chat = await busy(served, client)
    second = (await chat.queued_messages())[1].message_id
    await chat.promote_queued(second)
    await settled(chat)
    assert (await said(chat))[1:4] == ["before", "!say b", "b"]
    with pytest.raises(Conflict):
        await chat.promote_queued(second)


async def test_an_edit_is_followed_by_its_answer(served: Served, client: Client) -> None:
    """A view that was fed before and after shows what the chat has: no message twice, no queue."""
    chat = await busy(served, client)
    view = ChatView()
    async with aclosing(chat.follow()) as responses:
        async for response in responses:
            view.apply(response)
            if view.is_caught_up and "before" in view.live_text:
                break
    assert len(view.queue) == 3
    edited = await chat.edit(view.messages[0].message_id, "!say anew")
    async for response in chat.resume(view.cursor):
        view.apply(response)
        if response.event.HasField("history_truncated"):
            assert not view.messages
            assert not view.live_text
    assert [text_of(it) for it in view.messages] == ["!say anew", "anew"]
    assert view.messages == await chat.messages()
    assert view.messages[0].message_id == edited.message.message_id
    assert view.queue == []
    assert view.chat.queued_message_count == 0
    with pytest.raises(NotFound):
        await chat.edit(str(uuid4()), "nobody")


async def test_a_failed_turn_is_tried_again(client: Client) -> None:
    """The events of the retry follow the chat that it returns."""
    chat = await client.create_chat()
    with pytest.raises(TurnFailed):
        await chat.ask("!error auth")
    tried = await chat.retry()
    assert tried.status == chat_pb2.CHAT_STATUS_PENDING
    begun = [
        it.event.status_changed.status
        async for it in chat.resume(chat_pb2.Cursor(sequence=tried.head_sequence))
        if it.event.HasField("status_changed")
    ]
    assert begun[0] == chat_pb2.CHAT_STATUS_RUNNING
    idle = await client.create_chat()
    with pytest.raises(Conflict):
        await idle.retry()


async def test_a_fork_goes_on_with_the_same_tools(client: Client) -> None:
    """Its handle answers their calls; the other chat stays as it was."""
    chat = await client.create_chat(tools=[look], title="source")
    await chat.ask("!say one")
    before = await said(chat)
    last = (await chat.messages())[0].message_id
    fork = await chat.fork(last, labels={"of": "mine"})
    assert await said(fork) == before[:1]
    assert await fork.ask('!call look {"at": "the sky"}\n!step\n!say Thank you.') == "Thank you."
    assert (await fork.get()).forked_from.chat_id == chat.id
    assert await said(chat) == before


async def test_fields_are_changed_one_by_one(client: Client) -> None:
    """What is not named stays; an old etag is refused."""
    chat = await client.create_chat(title="old", labels={"a": "1"})
    read = await chat.get()
    changed = await chat.update(title="", system_prompt="be brief", etag=read.etag)
    assert (changed.title, changed.system_prompt) == ("", "be brief")
    assert dict(changed.labels) == {"a": "1"}
    with pytest.raises(Conflict) as stale:
        await chat.update(title="late", etag=read.etag)
    assert stale.value.reason == "ETAG_MISMATCH"
    assert (await chat.update()) == await chat.get()
    with pytest.raises(InvalidRequest) as wrong:
        await chat.update(model="nobody/nothing")
    assert [field for field, _ in wrong.value.violations] == ["chat.model"]


async def test_tools_that_were_added_later_are_answered(client: Client) -> None:
    """The handle knows them from then on."""
    chat = await client.create_chat()
    await chat.update(tools=[look], labels={}, action_timeout_seconds=7)
    answer = await chat.ask('!call look {"at": "the sea"}\n!step\n!say Thank you.')
    assert answer == "Thank you."
    assert (await chat.get()).action_timeout.seconds == 7


async def test_an_archived_chat_comes_back_and_a_deleted_one_does_not(client: Client) -> None:
    """Conflict, and NotFound."""
    chat = await client.create_chat("!say hello")
    await settled(chat)
    assert (await chat.archive()).archived
    with pytest.raises(Conflict):
        await chat.send("anybody?")
    assert not (await chat.unarchive()).archived
    await chat.delete()
    with pytest.raises(NotFound):
        await chat.get()


async def test_a_child_is_made_once_for_its_call_and_goes_with_its_parent(client: Client) -> None:
    """It is in the list of its parent alone; archiving and deleting take it along."""
    parent = await client.create_chat()
    first, again = [
        await client.create_chat(parent=parent.id, parent_tool_call="call") for _ in range(2)
    ]
    assert first.id == again.id
    assert [it.chat_id async for it in client.list_chats(parent=parent.id)] == [first.id]
    assert first.id not in [it.chat_id async for it in client.list_chats()]
    with pytest.raises(InvalidRequest):
        await client.create_chat(parent=first.id)
    await parent.archive()
    assert (await first.get()).archived
    with pytest.raises(Conflict):
        await client.create_chat(parent=parent.id)
    await parent.delete()
    with pytest.raises(NotFound):
        await first.get()


def acted(chat: SyncChat) -> list[str]:
    """Do all that can be done to an idle chat; return its titles and those of its fork."""
    (message,) = (it for it in chat.messages() if it.role == message_pb2.ROLE_USER)
    chat.edit(message.message_id, "!say anew", request_id=str(uuid4()))
    list(chat.resume())
    fork = chat.fork(title="fork")
    titles = [chat.update(title="new").title, fork.get().title]
    assert chat.queued_messages() == []
    chat.delete_queued("absent")
    with pytest.raises(Conflict):
        chat.retry()
    with pytest.raises(Conflict):
        chat.promote_queued("x")
    with pytest.raises(InvalidRequest):
        chat.reorder_queued(["x"])
    chat.archive()
    chat.unarchive()
    chat.delete()
    with pytest.raises(NotFound):
        chat.get()
    return titles


async def test_the_synchronous_twin_does_the_same(served: Served) -> None:
    """With the same options and errors."""

    def script() -> list[str]:
        with SyncClient(served.app.address, served.key) as client:
            chat = client.create_chat("!say old")
            list(chat.resume())
            return acted(chat)

    assert await asyncio.to_thread(script) == ["new", "fork"]


def test_the_synchronous_twin_has_every_method() -> None:
    """What the asynchronous handle can do, a script can do."""
    public = {name for name in dir(ChatHandle) if not name.startswith("_")}
    assert public <= set(dir(SyncChat))


async def test_a_model_writes_a_title_on_request(client: Client) -> None:
    """From what was said; refused while nothing was."""
    chat = await client.create_chat("!say Hello.")
    await settled(chat)
    assert (await chat.regenerate_title()).title == "About !say Hello."
    empty = await client.create_chat()
    with pytest.raises(Conflict, match="nobody has said anything"):
        await empty.regenerate_title()
