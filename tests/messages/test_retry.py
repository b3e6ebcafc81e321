"""RetryTurn over the API: the failed turn again, without a new message."""

import pytest

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said
from tests.messages import states
from tests.messages.states import STATES, refusal
from tests.subscribe.scene import Edge


async def test_the_failed_turn_is_open_again(edge: Edge) -> None:
    """The same turn and the same messages; the error is gone from the chat and stays in the log."""
    chat = await states.running(edge)
    turn_id = (await states.get(edge, chat)).turn_id
    await states.fail(chat)
    assert (await states.get(edge, chat)).last_error.message
    answer = await edge.call("RetryTurn", pb.RetryTurnRequest(chat_id=chat.id))
    assert answer.chat.status == chat_pb2.CHAT_STATUS_PENDING
    assert answer.chat.turn_id == turn_id
    assert not answer.chat.HasField("last_error")
    assert answer.chat.stop_reason == chat_pb2.STOP_REASON_UNSPECIFIED
    assert await states.words(edge, chat) == ["hello"]

    await states.refresh(chat)
    await chat.acquire()
    await chat.answer("now it works")
    await chat.finish()
    assert await states.words(edge, chat) == ["hello", "now it works"]
    failures = [it.status_changed.HasField("last_error") for it in await states.events(edge, chat)]
    assert failures.count(True) == 1


async def test_the_queue_waits_for_the_end_of_the_turn_that_is_tried_again(edge: Edge) -> None:
    """A retry is no end of a turn: the head begins when this one is over."""
    chat = await states.failed_with(edge, "a", "b")
    await edge.call("RetryTurn", pb.RetryTurnRequest(chat_id=chat.id))
    assert await states.listed(edge, chat) == ["a", "b"]
    await chat.acquire()
    await chat.answer("done")
    await chat.finish()
    assert await states.words(edge, chat) == ["hello", "done", "a"]
    assert await states.listed(edge, chat) == ["b"]


@pytest.mark.parametrize("name", sorted(STATES.keys() - {"failed"}))
async def test_only_a_failed_turn_is_tried_again(edge: Edge, name: str) -> None:
    """WRONG_STATUS with the status; nothing changes."""
    chat = await STATES[name](edge)
    before = await states.get(edge, chat)
    told = await refusal(edge, "RetryTurn", pb.RetryTurnRequest(chat_id=chat.id))
    assert told.reason == "WRONG_STATUS"
    assert told.metadata["status"] == chat.state.status.name
    assert await states.get(edge, chat) == before


async def test_a_worker_runs_the_turn_again(served: Served) -> None:
    """Not only the status says so: the turn is acquired, and the model is asked."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("!error auth 1")))
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    assert (await got(served, chat_id)).status == chat_pb2.CHAT_STATUS_ERROR
    again = await served.call("RetryTurn", pb.RetryTurnRequest(chat_id=chat_id))
    events = await served.subscribe(
        pb.SubscribeRequest(
            chat_id=chat_id,
            resume_from=chat_pb2.Cursor(sequence=again.sequence),
            until=pb.SUBSCRIBE_UNTIL_SETTLED,
        )
    )
    seen = [it.event.status_changed.status for it in events if it.event.HasField("status_changed")]
    assert chat_pb2.CHAT_STATUS_RUNNING in seen


async def got(served: Served, chat_id: str) -> chat_pb2.Chat:
    """Return the chat."""
    chat: chat_pb2.Chat = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
    return chat
