"""The exam of every store: the queue, edits, deletion, families and labels."""

import msgspec
import pytest

from chatd_server.domain.chat import ChatConfig, Status
from chatd_server.domain.command import (
    DeleteChat,
    DeleteQueued,
    ReorderQueue,
    SetArchived,
    UpdateChat,
)
from chatd_server.domain.message import Text
from chatd_server.domain.refusal import (
    ChatArchived,
    ChatNotFound,
    MessageNotFound,
)
from chatd_server.ports.store import Store
from tests.store.desk import ANN, Desk, assert_gap_free

WEIRD = "NUL \x00 and \x1e, 👩\u200d💻, \u2028"


# --- the queue -----------------------------------------------------------------------------


async def test_the_queue_keeps_the_order_of_a_reorder(store: Store, desk: Desk) -> None:
    """A new order is one write, also when every message changes its place."""
    chat_id = await desk.create()
    for text in "abcd":
        await desk.send(chat_id, text)
    ids = [queued.id for queued in (await store.load(chat_id)).queue]
    wanted = (ids[2], ids[0], ids[3], ids[1])

    await store.apply(chat_id, ReorderQueue(command_id="r", message_ids=wanted))
    await store.apply(chat_id, DeleteQueued(command_id="d", message_id=ids[0]))

    queue = (await store.load(chat_id)).queue
    assert [queued.parts[0] for queued in queue] == [Text("c"), Text("d"), Text("b")]


async def test_the_head_of_the_queue_becomes_the_next_turn(store: Store, desk: Desk) -> None:
    """At the end of a turn the head leaves the queue and enters the history."""
    state = await desk.running()
    await desk.send(state.id, "next")
    await desk.send(state.id, "later")
    state = await desk.answered(state)

    done = await desk.finish(state)

    assert done.state.status is Status.PENDING
    assert await desk.texts(state.id) == ["hello", "answer", "next"]
    loaded = await store.load(state.id)
    assert [queued.parts for queued in loaded.queue] == [(Text("later"),)]
    assert loaded == done.state


async def test_a_page_of_chats_has_the_length_of_a_queue_without_its_content(
    store: Store, desk: Desk
) -> None:
    """A list reads no queue; the number of messages in it is known all the same."""
    chat_id = await desk.create()
    await desk.send(chat_id, "queued")

    (listed,) = (await store.list_chats(ANN, limit=10)).chats

    assert len(listed.queue) == 1
    assert listed.queue[0].parts == ()
    full = await store.load(chat_id)
    assert msgspec.structs.replace(listed, queue=full.queue) == full


# --- edits and deletion --------------------------------------------------------------------


async def test_an_edit_hides_messages_and_the_log_still_tells_them(
    store: Store, desk: Desk
) -> None:
    """Removed messages leave the history and stay in the log as they were said."""
    state = await desk.running()
    state = await desk.answered(state, "first answer")
    await desk.finish(state)

    await desk.edit(state.id, 1, "other words")

    assert await desk.texts(state.id) == ["other words"]
    told = [logged.message for logged in await desk.log(state.id) if logged.message]
    assert [part.text for m in told for part in m.parts if isinstance(part, Text)] == [
        "hello",
        "first answer",
        "other words",
    ]
    assert_gap_free(await desk.log(state.id), await store.load(state.id))


async def test_a_removed_message_is_not_found(store: Store, desk: Desk) -> None:
    """A message is found by its id for as long as it stands."""
    chat_id = await desk.create()
    (message,) = (await store.messages(chat_id, after_position=0, limit=9, bytes_max=9))[0]
    assert await store.message_position(chat_id, message.id) == message

    await desk.edit(chat_id, message.position, "other words")

    with pytest.raises(MessageNotFound):
        await store.message_position(chat_id, message.id)


async def test_a_deleted_chat_is_gone_for_its_owner(store: Store, desk: Desk) -> None:
    """Whoever asks as an owner finds nothing; a stream that is open can still see the end."""
    chat_id = await desk.create()

    await store.apply(chat_id, DeleteChat(command_id="d"), owner_id=ANN)

    with pytest.raises(ChatNotFound):
        await store.load(chat_id, ANN)
    with pytest.raises(ChatNotFound):
        await desk.send(chat_id, "hi")
    assert (await store.list_chats(ANN, limit=10, include_archived=True)).chats == ()
    assert (await store.load(chat_id)).deleted
    assert await desk.acquire() == []


async def test_an_archived_chat_refuses_messages_and_is_listed_on_request(
    store: Store, desk: Desk
) -> None:
    """Archived chats stay out of the list unless asked for."""
    chat_id = await desk.create("")
    await store.apply(chat_id, SetArchived(command_id="a", archived=True))

    with pytest.raises(ChatArchived):
        await desk.send(chat_id, "hi")
    assert (await store.list_chats(ANN, limit=10)).chats == ()
    assert len((await store.list_chats(ANN, limit=10, include_archived=True)).chats) == 1


async def test_a_child_of_an_archived_root_is_refused(store: Store, desk: Desk) -> None:
    """Making a child looks at the root's row in the same transition."""
    root = await desk.create("")
    child = msgspec.structs.replace(desk.create_command(), parent_id=root, root_id=root)
    await store.apply(root, SetArchived(command_id="a", archived=True))

    with pytest.raises(ChatArchived):
        await store.apply(child.chat_id, child)

    with pytest.raises(ChatNotFound):
        await store.load(child.chat_id)


async def test_a_spawn_that_is_done_again_finds_its_child(store: Store, desk: Desk) -> None:
    """A child's id derives from the call that made it, so there is never a second one."""
    root = await desk.create("")
    child = msgspec.structs.replace(desk.create_command(), parent_id=root, root_id=root)
    first = await store.apply(child.chat_id, child)
    second = msgspec.structs.replace(child, command_id="again")

    again = await store.apply(child.chat_id, second)

    assert again.replayed
    assert again.state == first.state


async def test_changed_labels_are_found_and_the_old_ones_are_not(store: Store, desk: Desk) -> None:
    """The filter follows the configuration."""
    chat_id = await desk.create(config=ChatConfig(labels={"team": "red"}))

    await store.apply(chat_id, UpdateChat(command_id="u", labels={"team": "blue"}))

    assert (await store.list_chats(ANN, limit=9, labels={"team": "red"})).chats == ()
    (found,) = (await store.list_chats(ANN, limit=9, labels={"team": "blue"})).chats
    assert found == await store.load(chat_id)
