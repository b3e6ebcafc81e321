"""EditMessage over the API: from any status, a new message in the place of an old one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import TurnOptions
from chatd_server.domain.command import ClearContext
from chatd_server.domain.message import Usage
from chatd_server.domain.refusal import LeaseLost
from tests.kit.script import MODEL
from tests.kit.server import refusal_of, said
from tests.messages import states
from tests.messages.states import BUSY, STATES, queue, refusal
from tests.subscribe.scene import Chat, Edge

EDITS = 10


async def first_id(edge: Edge, chat: Chat) -> str:
    """Return the id of the first message."""
    message_id: str = (await states.history(edge, chat))[0].message_id
    return message_id


async def editing(edge: Edge, chat: Chat, text: str = "anew", **more: Any) -> pb.EditMessageRequest:
    """Return a request that replaces the first message of a chat."""
    more.setdefault("message_id", await first_id(edge, chat))
    return pb.EditMessageRequest(chat_id=chat.id, message=said(text), **more)


@pytest.mark.parametrize("name", STATES)
async def test_an_edit_begins_a_turn_from_any_status(edge: Edge, name: str) -> None:
    """The new message has an id of its own, the tail is gone, and no worker holds the chat."""
    chat = await STATES[name](edge)
    request = await editing(edge, chat)
    answer = await edge.call("EditMessage", request)
    assert answer.chat.status == chat_pb2.CHAT_STATUS_PENDING
    assert answer.message.message_id != request.message_id
    (only,) = await states.history(edge, chat)
    assert only == answer.message
    assert states.text_of(only) == "anew"
    await states.refresh(chat)
    assert chat.state.lease is None
    assert not chat.state.calls


async def test_an_archived_chat_is_not_edited(edge: Edge) -> None:
    """CHAT_ARCHIVED; nothing is removed."""
    chat = await states.waiting(edge)
    request = await editing(edge, chat)
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    assert (await refusal(edge, "EditMessage", request)).reason == "CHAT_ARCHIVED"
    assert len(await states.history(edge, chat)) == 2


@pytest.mark.parametrize("name", [*BUSY, "failed"])
async def test_an_edit_empties_the_queue(edge: Edge, name: str) -> None:
    """The queued messages were said to a conversation that is gone."""
    if name == "failed":
        chat = await states.failed_with(edge, "a", "b")
    else:
        chat = await STATES[name](edge)
        await queue(edge, chat, "a", "b")
    before = (await states.get(edge, chat)).head_sequence
    answer = await edge.call("EditMessage", await editing(edge, chat))
    assert answer.chat.queued_message_count == 0
    assert await states.listed(edge, chat) == []
    new = [it for it in await states.events(edge, chat) if it.sequence > before]
    kinds = [it.WhichOneof("event") for it in new]
    assert kinds[:2] == ["history_truncated", "message_committed"]
    assert "queue_changed" in kinds
    assert new[0].history_truncated.first_removed_position == 1
    ended = [it.status_changed for it in new if it.HasField("status_changed")]
    replaced = [it.stop_reason for it in ended if it.stop_reason]
    assert replaced == ([] if name == "failed" else [chat_pb2.STOP_REASON_REPLACED])


async def test_what_is_before_the_edited_message_stays_and_its_cost_is_counted(edge: Edge) -> None:
    """Positions are never used twice, and what the removed answers cost stays in the total."""
    chat = await states.waiting(edge)
    await chat.send("second")
    await chat.acquire()
    await chat.begin()
    await chat.do(states.answered(chat, "second answer", Usage(input_tokens=7, output_tokens=3)))
    await chat.finish()
    spent = (await states.get(edge, chat)).usage_total
    assert spent.input_tokens == 7
    second = (await states.history(edge, chat))[2]

    answer = await edge.call(
        "EditMessage", await editing(edge, chat, "other", message_id=second.message_id)
    )
    assert await states.words(edge, chat) == ["hello", "hello", "other"]
    assert answer.message.position == 5
    assert answer.chat.usage_total == spent


@pytest.mark.parametrize("when", ["connected", "before the edit", "in the middle of the answer"])
async def test_every_subscriber_learns_that_the_history_was_cut(edge: Edge, when: str) -> None:
    """Also one that comes back with a cursor from before: what was said, then what was removed."""
    chat = await states.running(edge)
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    if when == "in the middle of the answer":
        writer = await chat.begin()
        writer.append(0, states.TEXT, "half of an")
        await follower.until("message_part")
    if when != "connected":
        follower.cut()
    answer = await edge.call("EditMessage", await editing(edge, chat))
    cut = await follower.until("history_truncated")
    assert cut.history_truncated.first_removed_position == 1
    committed = await follower.until("message_committed")
    assert committed.message_committed.message == answer.message
    await follower.until_sequence(answer.sequence)
    assert [it for it in follower.kinds if it == "history_truncated"] == ["history_truncated"]
    await follower.close()


async def test_a_replay_tells_what_was_said_and_that_it_was_removed(edge: Edge) -> None:
    """The log is never rewritten: the removed messages come in full, and then the truncation."""
    chat = await states.waiting(edge)
    await edge.call("EditMessage", await editing(edge, chat))
    follower = edge.follow(chat.id, resume_from=chat_pb2.Cursor())
    await follower.until("history_truncated")
    said_before = [
        states.text_of(it.message_committed.message)
        for it in follower.events
        if it.HasField("message_committed")
    ]
    assert said_before == ["hello", "hello"]
    await follower.close()


@pytest.mark.parametrize("which", ["unknown", "no uuid", "removed", "queued"])
async def test_a_message_that_is_not_in_the_history_is_not_found(edge: Edge, which: str) -> None:
    """MESSAGE_NOT_FOUND; nothing is cut."""
    chat = await states.running(edge)
    message_id = {"unknown": states.new_id(), "no uuid": "x"}.get(which, "")
    if which == "removed":
        message_id = await first_id(edge, chat)
        await edge.call("EditMessage", await editing(edge, chat))
    if which == "queued":
        (message_id,) = await queue(edge, chat, "later")
    before = await states.get(edge, chat)
    told = await refusal(edge, "EditMessage", await editing(edge, chat, message_id=message_id))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert await states.get(edge, chat) == before


async def test_only_a_users_message_is_edited(edge: Edge) -> None:
    """An answer is the model's."""
    chat = await states.waiting(edge)
    answer_id = (await states.history(edge, chat))[1].message_id
    told = await refusal(edge, "EditMessage", await editing(edge, chat, message_id=answer_id))
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.fields == ["message_id"]


async def test_of_edits_at_once_one_wins(edge: Edge) -> None:
    """The others do not find the message any more: none removes what another one wrote."""
    chat = await states.running(edge)
    message_id = await first_id(edge, chat)

    async def edit(number: int) -> str:
        request = await editing(edge, chat, f"edit {number}", message_id=message_id)
        try:
            await edge.call("EditMessage", request)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason
        return "won"

    outcomes = sorted(await asyncio.gather(*(edit(it) for it in range(EDITS))))
    assert outcomes == ["MESSAGE_NOT_FOUND"] * (EDITS - 1) + ["won"]
    cut = [it for it in await states.events(edge, chat) if it.HasField("history_truncated")]
    assert len(cut) == 1


LATE: dict[str, Callable[[Chat], Awaitable[object]]] = {
    "answer": lambda chat: chat.commit("too late"),
    "attempt": lambda chat: chat.begin(),
    "end of the turn": lambda chat: chat.finish(),
}


@pytest.mark.parametrize("late", LATE)
async def test_a_late_write_of_the_run_that_was_replaced_is_refused(edge: Edge, late: str) -> None:
    """The lease is gone with the edit: nothing of the old run is saved."""
    chat = await states.running(edge)
    await chat.begin()
    await edge.call("EditMessage", await editing(edge, chat))
    before = await states.get(edge, chat)
    with pytest.raises(LeaseLost):
        await LATE[late](chat)
    assert await states.get(edge, chat) == before
    assert await states.words(edge, chat) == ["anew"]


async def test_an_edit_with_an_unknown_model_leaves_everything(edge: Edge) -> None:
    """MODEL_NOT_FOUND before anything is removed; a known one is that of the new turn alone."""
    chat = await states.waiting(edge)
    before = await states.get(edge, chat)
    options = chat_pb2.TurnOptions(model="nobody/nothing")
    request = await editing(edge, chat, options=options)
    assert (await refusal(edge, "EditMessage", request)).reason == "MODEL_NOT_FOUND"
    assert await states.get(edge, chat) == before
    assert len(await states.history(edge, chat)) == 2

    request.options.CopyFrom(chat_pb2.TurnOptions(model=MODEL, max_steps=3))
    assert (await edge.call("EditMessage", request)).chat.model == before.model
    await states.refresh(chat)
    assert chat.state.turn is not None
    assert chat.state.turn.options == TurnOptions(model=MODEL, max_steps=3)


async def test_a_compaction_inside_the_removed_part_is_gone_with_it(edge: Edge) -> None:
    """The context begins at the first message again: what stands is all that the model sees."""
    chat = await states.waiting(edge)
    await chat.do(ClearContext(command_id=chat.command_id()))
    await edge.call("EditMessage", await editing(edge, chat))
    await states.refresh(chat)
    assert chat.state.boundary_position == 1
