"""What a stream without a cursor begins with."""

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.command import (
    EditMessage,
    UpdateChat,
)
from chatd_server.domain.ids import ChatId
from chatd_server.domain.limits import KIB, MIB
from chatd_server.domain.live import Follow, PieceKind
from chatd_server.domain.message import Text
from tests.kit.fold import fold, shown
from tests.subscribe.scene import OWNER, Chat, CountingReads, Edge


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
    """No read transaction waits for a client: events report what changes meanwhile."""
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
    (await chat.begin()).append(0, PieceKind.TEXT, "so it goes")
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


async def test_a_snapshot_is_read_a_page_at_a_time_and_only_when_it_is_sent(edge: Edge) -> None:
    """A subscriber that stops reading holds one page of a long history, and no more is read."""
    chat = await edge.chat()
    for _ in range(3):
        await chat.answer("z" * 600 * KIB)
    reads = CountingReads(edge.store)
    edge.hub._broadcast.store = reads
    with edge.hub.follow(ChatId(chat.id), OWNER, Follow()) as stream:
        await stream.next()
        assert reads.reads == ["load"]
        for page in range(1, 5):
            await stream.next()
            assert reads.reads == ["load", *["messages_as_of"] * page]
