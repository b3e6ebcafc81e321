"""Messages while a real worker runs the turn: whole servers, real streams of a vendor."""

from pathlib import Path
from typing import Any

import pytest

from chatd.v1 import chat_pb2, error_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.observe import spans
from tests.kit.server import Served, said, serving
from tests.messages.states import text_of
from tests.messages.vendor import gated_vendor

STALLED = "!say before\n!stall 5\n!say after"


async def chat_of(served: Served, chat_id: str) -> chat_pb2.Chat:
    """Return the chat."""
    chat: chat_pb2.Chat = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
    return chat


async def messages_of(served: Served, chat_id: str) -> list[Any]:
    """Return the messages."""
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    return list(listed.messages)


async def busy(served: Served, **options: Any) -> str:
    """Return a chat in the middle of an answer."""
    created = await served.call(
        "CreateChat", pb.CreateChatRequest(message=said(STALLED), **options)
    )
    await served.clock.sleeping("sandbox.stall")
    return str(created.chat.chat_id)


async def send(served: Served, chat_id: str, text: str, **options: Any) -> str:
    """Queue a message; return its id."""
    request = pb.SendMessageRequest(
        chat_id=chat_id, message=said(text), options=chat_pb2.TurnOptions(**options)
    )
    sent = await served.call("SendMessage", request)
    return str(sent.queued_message.message_id)


async def test_each_queued_message_has_a_turn_of_its_own_options(served: Served) -> None:
    """In the order of the queue, the first when the open turn ends; no poll is needed for it."""
    chat_id = await busy(served)
    ids = [await send(served, chat_id, "!text 9", max_output_tokens=length) for length in (2, 3, 4)]
    await served.clock.advance_to("sandbox.stall")
    await served.settled(chat_id)
    messages = await messages_of(served, chat_id)
    assert [it.message_id for it in messages[2::2]] == ids
    assert [len(text_of(it).split()) for it in messages[3::2]] == [2, 3, 4]
    assert len({it.turn_id for it in messages}) == 4


async def test_a_queued_message_has_its_own_model_and_its_failure_holds_the_queue(
    served: Served,
) -> None:
    """The model without a key fails its turn alone; what is behind it waits for a person."""
    chat_id = await busy(served)
    await send(served, chat_id, "to another one", model="anthropic/claude-sonnet-4-6")
    await send(served, chat_id, "!say last")
    await served.clock.advance_to("sandbox.stall")
    await served.settled(chat_id)
    chat = await chat_of(served, chat_id)
    assert chat.status == chat_pb2.CHAT_STATUS_ERROR
    assert chat.last_error.provider == "anthropic"
    assert chat.last_error.kind == error_pb2.ERROR_KIND_MISSING_KEY
    assert chat.queued_message_count == 1
    assert chat.model == "sandbox/echo"

    queue = await served.call("ListQueuedMessages", pb.ListQueuedMessagesRequest(chat_id=chat_id))
    promote = pb.PromoteQueuedMessageRequest(
        chat_id=chat_id, message_id=queue.queued_messages[0].message_id
    )
    await served.call("PromoteQueuedMessage", promote)
    await served.settled(chat_id)
    assert text_of((await messages_of(served, chat_id))[-1]) == "last"


@pytest.mark.parametrize("how", ["SendMessage", "PromoteQueuedMessage"])
async def test_what_interrupts_stands_behind_what_was_cut(served: Served, how: str) -> None:
    """Queue first, save the partial answer, then promote: positions and sequences prove it."""
    chat_id = await busy(served)
    if how == "SendMessage":
        request: Any = pb.SendMessageRequest(
            chat_id=chat_id,
            message=said("!say now"),
            busy_behavior=chat_pb2.BUSY_BEHAVIOR_INTERRUPT,
        )
        answer = await served.call(how, request)
        message_id = answer.queued_message.message_id
    else:
        await send(served, chat_id, "!say later")
        message_id = await send(served, chat_id, "!say now")
        request = pb.PromoteQueuedMessageRequest(chat_id=chat_id, message_id=message_id)
        answer = await served.call(how, request)
    assert answer.chat.status == chat_pb2.CHAT_STATUS_INTERRUPTING
    await served.settled(chat_id)
    messages = await messages_of(served, chat_id)
    partial, promoted, next_answer = messages[1:4]
    assert text_of(partial) == "before"
    assert (promoted.message_id, text_of(next_answer)) == (message_id, "now")
    assert partial.position < promoted.position < next_answer.position
    assert answer.sequence < partial.sequence < promoted.sequence
    if how == "PromoteQueuedMessage":
        assert text_of(messages[-1]) == "later"


@pytest.mark.parametrize("hears", [True, False], ids=["told", "deaf"])
async def test_an_edit_on_another_server_fences_the_run_in_the_middle_of_its_stream(
    tmp_path: Path, postgres_url: str, hears: bool
) -> None:
    """The vendor goes on with the old answer, and nothing of it is written; the new turn runs
    elsewhere meanwhile.
    """
    async with gated_vendor() as vendor:
        settings = {
            "database_url": postgres_url,
            "migrate": True,
            "anthropic_api_key": "key",
            "anthropic_base_url": vendor.url,
            "default_model": "anthropic/any",
        }
        async with serving(tmp_path / "one", **settings) as one:
            created = await one.call("CreateChat", pb.CreateChatRequest(message=said("first")))
            chat_id = created.chat.chat_id
            await vendor.stands_still()
            if not hears:
                wake: Any = one.app.database.wake
                wake._local._callbacks.clear()
            async with serving(tmp_path / "two", **settings) as two:
                edit = pb.EditMessageRequest(
                    chat_id=chat_id, message_id=created.message.message_id, message=said("second")
                )
                await two.call("EditMessage", edit, one.key)
                events = await two.subscribe(
                    pb.SubscribeRequest(
                        chat_id=chat_id,
                        resume_from=chat_pb2.Cursor(),
                        until=pb.SUBSCRIBE_UNTIL_SETTLED,
                    ),
                    one.key,
                )
                head = events[-1].cursor.sequence
                vendor.gate.set()
                if hears:
                    await one.observer.until(spans.RunFinished, chat=chat_id)
                else:
                    await one.observer.until(spans.LeaseLost, chat=chat_id)
                listed = await two.call(
                    "ListMessages", pb.ListMessagesRequest(chat_id=chat_id), one.key
                )
                chat = (await two.call("GetChat", pb.GetChatRequest(chat_id=chat_id), one.key)).chat
    assert [text_of(it) for it in listed.messages] == ["second", "new"]
    assert chat.head_sequence == head
    committed = [
        text_of(it.event.message_committed.message)
        for it in events
        if it.event.HasField("message_committed")
    ]
    assert committed == ["first", "second", "new"]
    assert ["second" in it for it in vendor.asked] == [False, True]
