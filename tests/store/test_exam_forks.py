"""The exam of every store: a chat that begins with the history of another one."""

import msgspec
import pytest

from chatd_server.domain.chat import ChatConfig, ForkedFrom, Status
from chatd_server.domain.command import Create, History
from chatd_server.domain.ids import ChatId, new_uuid
from chatd_server.domain.message import Message, Text
from chatd_server.domain.refusal import RequestIdReused
from chatd_server.ports.store import RequestKey, Store
from tests.store.desk import ANN, Desk, assert_gap_free

KEY = RequestKey("ann/fork/1", b"body")


def fork_of(desk: Desk, source: ChatId, messages: list[Message]) -> Create:
    """Return the command that makes a fork with these messages."""
    return Create(
        command_id=desk.id(),
        chat_id=ChatId(new_uuid(desk.clock.now())),
        owner_id=ANN,
        config=ChatConfig(model="sandbox/echo", title="fork"),
        history=History(ForkedFrom(source, messages[-1].id), tuple(messages)),
    )


async def history_of(store: Store, chat_id: ChatId) -> list[Message]:
    """Return all messages of a chat."""
    found: list[Message] = []
    more = True
    while more:
        after = found[-1].position if found else 0
        page, more = await store.messages(
            chat_id, after_position=after, limit=200, bytes_max=1 << 20
        )
        found += page
    return found


async def test_a_fork_is_read_as_it_was_written(store: Store, desk: Desk) -> None:
    """Its messages, its log and its state; the source keeps its own."""
    state = await desk.running()
    await desk.finish(await desk.answered(state))
    source = await store.load(state.id)
    messages = await history_of(store, state.id)
    command = fork_of(desk, state.id, messages)

    made = await store.apply(command.chat_id, command, owner_id=ANN)

    loaded = await store.load(command.chat_id, ANN)
    assert loaded == made.state
    assert loaded.forked_from == ForkedFrom(state.id, messages[-1].id)
    copied = await history_of(store, loaded.id)
    assert copied == list(made.messages)
    assert [it.parts for it in copied] == [it.parts for it in messages]
    assert_gap_free(await desk.log(loaded.id), loaded)
    assert await store.load(state.id) == source
    assert await history_of(store, state.id) == messages


async def test_a_long_history_is_copied_whole(store: Store, desk: Desk) -> None:
    """Hundreds of messages and several megabytes are one commit, and each has its event."""
    chat_id = await desk.create("")
    (first,) = (await desk.send(chat_id, "x")).messages
    messages = [
        msgspec.structs.replace(first, position=number, parts=(Text(f"{number} " + "x" * 20_000),))
        for number in range(1, 301)
    ]
    command = fork_of(desk, chat_id, messages)

    made = await store.apply(command.chat_id, command, owner_id=ANN)

    assert [it.parts for it in await history_of(store, made.state.id)] == [
        it.parts for it in messages
    ]
    assert made.state.head_sequence == 300 + 2  # its title, and its status


async def test_a_fork_that_is_asked_for_twice_is_made_once(store: Store, desk: Desk) -> None:
    """The second request has another chat id in its command, and gets the first chat."""
    state = await desk.running()
    messages = await history_of(store, state.id)
    first = await store.apply(
        (one := fork_of(desk, state.id, messages)).chat_id, one, owner_id=ANN, request=KEY
    )
    again = await store.apply(
        (two := fork_of(desk, state.id, messages)).chat_id, two, owner_id=ANN, request=KEY
    )
    assert again.replayed
    assert again.state == first.state
    assert len((await store.list_chats(ANN, limit=9)).chats) == 2


async def test_the_answer_of_a_request_is_found_without_its_command(
    store: Store, desk: Desk
) -> None:
    """What was carried out is told again; another body is refused; a new id has no answer."""
    chat_id = await desk.create()
    assert await store.answered(KEY) is None
    sent = await desk.send(chat_id, "later", request=KEY)
    told = await store.answered(KEY)
    assert told is not None
    assert told.replayed
    assert (told.state.status, told.sequence) == (Status.PENDING, sent.sequence)
    assert told.reply == sent.reply
    with pytest.raises(RequestIdReused):
        await store.answered(RequestKey(KEY.key, b"another body"))
