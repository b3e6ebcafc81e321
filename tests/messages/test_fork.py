"""ForkChat over the API: a new chat with the history of another one."""

from typing import Any

import grpc
import msgspec
import pytest

from chatd.v1 import chat_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatConfig, ForkedFrom
from chatd_server.domain.command import ClearContext, Create, History
from chatd_server.domain.ids import ChatId, new_uuid
from chatd_server.domain.limits import FORK_MESSAGES_MAX
from chatd_server.domain.message import Usage
from tests.kit.script import MODEL
from tests.kit.server import Served, said
from tests.messages import states
from tests.messages.states import STATES, queue, refusal
from tests.subscribe.scene import OWNER, Chat, Edge


async def forked(edge: Edge, chat: Chat, **more: Any) -> chat_pb2.Chat:
    """Fork a chat."""
    answer = await edge.call("ForkChat", pb.ForkChatRequest(chat_id=chat.id, **more))
    assert answer.sequence == answer.chat.head_sequence
    fork: chat_pb2.Chat = answer.chat
    return fork


async def messages_of(edge: Edge, fork: chat_pb2.Chat) -> list[Any]:
    """Return the messages of a fork."""
    found = await edge.call("ListMessages", pb.ListMessagesRequest(chat_id=fork.chat_id))
    return list(found.messages)


async def words_of(edge: Edge, fork: chat_pb2.Chat) -> list[str]:
    """Return the texts of a fork."""
    return [states.text_of(it) for it in await messages_of(edge, fork)]


@pytest.mark.parametrize("name", STATES)
async def test_a_chat_is_forked_in_every_status(edge: Edge, name: str) -> None:
    """The fork waits, without a queue; what it was made from is as it was, its log included."""
    chat = await STATES[name](edge)
    if name not in {"waiting", "failed"}:
        await queue(edge, chat, "later")
    before = await states.get(edge, chat)
    history = await states.history(edge, chat)
    log = await states.events(edge, chat)

    fork = await forked(edge, chat)

    assert fork.status == chat_pb2.CHAT_STATUS_WAITING
    assert fork.queued_message_count == 0
    assert fork.forked_from == chat_pb2.ForkedFrom(
        chat_id=chat.id, message_id=history[-1].message_id
    )
    assert (fork.parent_chat_id, fork.root_chat_id) == ("", fork.chat_id)
    copied = (await messages_of(edge, fork))[: len(history)]
    assert [it.parts for it in copied] == [it.parts for it in history]
    assert await states.get(edge, chat) == before
    assert not before.HasField("forked_from")
    assert await states.history(edge, chat) == history
    assert await states.events(edge, chat) == log


async def test_calls_that_still_run_are_answered_in_the_fork_alone(edge: Edge) -> None:
    """The source still waits for its results, and gets them."""
    chat = await states.asking(edge)
    fork = await forked(edge, chat)
    results = [part.tool_result for part in (await messages_of(edge, fork))[-1].parts]
    assert [it.tool_call_id for it in results] == ["c1", "c2"]
    assert {it.error_kind for it in results} == {message_pb2.TOOL_ERROR_KIND_INTERRUPTED}
    submit = pb.SubmitToolResultsRequest(chat_id=chat.id)
    for call_id in ("c1", "c2"):
        submit.results.add(tool_call_id=call_id, output_text="seen")
    assert not (await edge.call("SubmitToolResults", submit)).missing_tool_call_ids


async def test_a_fork_ends_with_the_message_that_is_named(edge: Edge) -> None:
    """That one included; ids and positions are new."""
    chat = await states.waiting(edge)
    await chat.send("second")
    await chat.acquire()
    await chat.answer("second answer")
    await chat.finish()
    history = await states.history(edge, chat)
    fork = await forked(edge, chat, message_id=history[1].message_id)
    assert await words_of(edge, fork) == ["hello", "hello"]
    assert fork.forked_from.message_id == history[1].message_id
    copied = await messages_of(edge, fork)
    assert [it.position for it in copied] == [1, 2]
    assert {it.chat_id for it in copied} == {fork.chat_id}
    assert not {it.message_id for it in copied} & {it.message_id for it in history}
    assert [it.create_time for it in copied] == [it.create_time for it in history[:2]]


@pytest.mark.parametrize("which", ["unknown", "no uuid", "removed", "queued", "another chat's"])
async def test_a_message_that_is_not_in_the_history_is_not_found(edge: Edge, which: str) -> None:
    """MESSAGE_NOT_FOUND, and no chat is made."""
    chat = await states.running(edge)
    message_id = {"unknown": states.new_id(), "no uuid": "x"}.get(which, "")
    if which == "removed":
        message_id = (await states.history(edge, chat))[0].message_id
        edit = pb.EditMessageRequest(chat_id=chat.id, message_id=message_id, message=said("new"))
        await edge.call("EditMessage", edit)
    if which == "queued":
        (message_id,) = await queue(edge, chat, "later")
    if which == "another chat's":
        message_id = (await states.history(edge, await states.running(edge)))[0].message_id
    count = len((await edge.call("ListChats", pb.ListChatsRequest())).chats)
    request = pb.ForkChatRequest(chat_id=chat.id, message_id=message_id)
    told = await refusal(edge, "ForkChat", request)
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert len((await edge.call("ListChats", pb.ListChatsRequest())).chats) == count


async def test_a_fork_has_the_config_of_its_source_but_for_labels(edge: Edge) -> None:
    """The title too, unless another one is given; the etag is one of its own."""
    config = ChatConfig(
        title="source",
        model=MODEL,
        system_prompt="be brief",
        labels={"thread": "7"},
        tools=states.LOOK.tools,
        action_timeout_seconds=7,
        version=9,
    )
    chat = await edge.chat("hello", config=config)
    before = await states.get(edge, chat)
    same = await forked(edge, chat)
    other = await forked(edge, chat, title="", labels={"thread": "8"})
    for fork in (same, other):
        for field in ("model", "system_prompt", "tools", "action_timeout"):
            assert getattr(fork, field) == getattr(before, field)
    assert (same.title, dict(same.labels)) == ("source", {})
    assert (other.title, dict(other.labels)) == ("", {"thread": "8"})


async def test_what_was_paid_once_is_not_counted_again(edge: Edge) -> None:
    """Messages say what they cost; the total of the fork begins at nothing."""
    chat = await states.running(edge)
    await chat.begin()
    await chat.do(states.answered(chat, "answer", Usage(input_tokens=7, cost_micros=11)))
    await chat.finish()
    fork = await forked(edge, chat)
    assert (await messages_of(edge, fork))[1].usage.cost_micros == 11
    assert fork.usage_total == message_pb2.Usage()
    assert (await states.get(edge, chat)).usage_total.cost_micros == 11


async def test_the_context_of_a_fork_begins_where_that_of_its_source_does(edge: Edge) -> None:
    """After a cleared context the model sees nothing of before; a fork from before sees all."""
    chat = await states.waiting(edge)
    await chat.do(ClearContext(command_id=chat.command_id()))
    history = await states.history(edge, chat)
    boundaries = []
    for last in ("", history[0].message_id, history[1].message_id):
        fork = await forked(edge, chat, message_id=last)
        boundaries.append((await edge.store.load(ChatId(fork.chat_id))).boundary_position)
    assert boundaries == [3, 1, 3]


async def test_a_fork_is_told_from_its_first_event(edge: Edge) -> None:
    """A subscriber gets every message in order, by a snapshot and by the log alike."""
    chat = await states.waiting(edge)
    fork = await forked(edge, chat)
    snapshot = edge.follow(fork.chat_id)
    await snapshot.until("caught_up")
    log = edge.follow(fork.chat_id, resume_from=chat_pb2.Cursor())
    await log.until_sequence(fork.head_sequence)
    committed = [it.message_committed for it in log.events if it.HasField("message_committed")]
    assert [it.message for it in committed] == snapshot.messages
    assert snapshot.snapshot is not None
    assert snapshot.snapshot.chat == fork
    await snapshot.close()
    await log.close()


async def test_a_history_that_is_too_long_is_refused_with_the_limit(edge: Edge) -> None:
    """Up to an earlier message it is copied."""
    (first,) = (await (await states.waiting(edge)).send("x")).messages
    many = tuple(
        msgspec.structs.replace(first, position=it) for it in range(1, FORK_MESSAGES_MAX + 2)
    )
    chat_id = ChatId(new_uuid(edge.clock.now()))
    create = Create(
        command_id=new_uuid(edge.clock.now()),
        chat_id=chat_id,
        owner_id=OWNER,
        config=states.LOOK,
        history=History(ForkedFrom(chat_id), many),
    )
    made = await edge.store.apply(chat_id, create)
    told = await refusal(edge, "ForkChat", pb.ForkChatRequest(chat_id=chat_id))
    assert told.fields == ["message_id"]
    assert "10000 messages" in told.message
    early = made.messages[4].id
    request = pb.ForkChatRequest(chat_id=chat_id, message_id=early)
    fork = (await edge.call("ForkChat", request)).chat
    assert len(await messages_of(edge, fork)) == 5


async def test_a_fork_and_its_source_go_on_by_themselves(served: Served) -> None:
    """A worker answers in both, and neither sees what is said in the other."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("!say one")))
    source = created.chat.chat_id
    await served.settled(source)
    answer = await served.call("ForkChat", pb.ForkChatRequest(chat_id=source))
    fork = answer.chat.chat_id
    for chat_id, text in ((source, "!say in the source"), (fork, "!say in the fork")):
        await served.call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said(text)))
        await served.settled(chat_id)
        listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
        texts = [states.text_of(it) for it in listed.messages]
        assert texts == ["!say one", "one", text, text.removeprefix("!say ")]
