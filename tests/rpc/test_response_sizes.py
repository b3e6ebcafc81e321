"""No response is larger than any client takes, with every limit of a chat at its maximum."""

import json
from typing import Any

import pytest

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import (
    CLIENT_TOOLS_BYTES_MAX,
    CLIENT_TOOLS_MAX,
    KIB,
    QUEUE_LENGTH_MAX,
    RESPONSE_BYTES_MAX,
    USER_MESSAGE_BYTES_MAX,
)
from tests.kit.server import Served, said

HALF = "x" * (USER_MESSAGE_BYTES_MAX // 2)
WIDE = "𝄞" * (USER_MESSAGE_BYTES_MAX // 8)


def largest_chat(message: message_pb2.UserMessage | None = None) -> pb.CreateChatRequest:
    """Return all that a chat may be configured with."""
    schema = {"type": "object", "description": ""}
    room = CLIENT_TOOLS_BYTES_MAX // CLIENT_TOOLS_MAX - 64 - len(json.dumps(schema))
    schema["description"] = "d" * room
    return pb.CreateChatRequest(
        title="t" * 200,
        system_prompt="p" * 256 * KIB,
        labels={f"{n:063}": "v" * 256 for n in range(64)},
        tools=[
            tool_pb2.ToolDefinition(name=f"t{n:063}", input_schema_json=json.dumps(schema))
            for n in range(CLIENT_TOOLS_MAX)
        ],
        message=message,
    )


def largest_message(text: str = HALF) -> message_pb2.UserMessage:
    """Return a message of as many bytes as one may have."""
    return message_pb2.UserMessage(parts=[*said(text).parts, *said(text).parts])


def fits(response: Any) -> bool:
    """Say whether a response keeps its limit."""
    return bool(response.ByteSize() <= RESPONSE_BYTES_MAX)


async def listed(served: Served, chat_id: str) -> list[message_pb2.Message]:
    """Return the first page of a chat's messages."""
    page = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    return list(page.messages)


async def test_the_largest_chat_with_the_largest_message_is_created_in_one_response(
    served: Served,
) -> None:
    """The chat is whole, and the message without the parts that the caller has just sent."""
    request = largest_chat(largest_message())
    created = await served.call("CreateChat", request)
    assert fits(created)
    assert created.chat.system_prompt == request.system_prompt
    assert list(created.chat.tools) == list(request.tools)
    assert created.message.message_id
    assert not created.message.parts
    (message, *_) = await listed(served, created.chat.chat_id)
    assert message.message_id == created.message.message_id
    assert [it.text.text for it in message.parts] == [HALF, HALF]
    assert fits(await served.call("GetChat", pb.GetChatRequest(chat_id=created.chat.chat_id)))


async def test_a_message_that_fits_beside_its_chat_comes_back_whole(served: Served) -> None:
    """Only what is too large is left out: here the chat is small."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=largest_message()))
    assert [it.text.text for it in created.message.parts] == [HALF, HALF]


@pytest.mark.parametrize("placed", ["message", "queued_message"])
async def test_the_largest_message_is_sent_to_the_largest_chat(served: Served, placed: str) -> None:
    """Into the history and into the queue: the answer has its id and not its parts."""
    first = said("!stall 5") if placed == "queued_message" else None
    chat = (await served.call("CreateChat", largest_chat(first))).chat
    if first is not None:
        await served.clock.sleeping("sandbox.stall")
    request = pb.SendMessageRequest(chat_id=chat.chat_id, message=largest_message())
    sent = await served.call("SendMessage", request)
    assert fits(sent)
    assert sent.WhichOneof("placed") == placed
    assert getattr(sent, placed).message_id
    assert not getattr(sent, placed).parts


async def test_a_snapshot_of_the_largest_chat_with_a_full_queue_is_one_response(
    served: Served,
) -> None:
    """Its action has 256 calls whose arguments are as long as an answer may be; its queue has 50
    messages of the widest characters.
    """
    calls = [f'!call t{0:063} "{n} {"a" * 1800}"' for n in range(256)]
    half = len(calls) // 2
    asks = message_pb2.UserMessage(
        parts=[*said("\n".join(calls[:half])).parts, *said("\n".join(calls[half:])).parts]
    )
    created = await served.call("CreateChat", largest_chat(asks))
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    for _ in range(QUEUE_LENGTH_MAX):
        queued = pb.SendMessageRequest(chat_id=chat_id, message=said(WIDE[:1000]))
        assert fits(await served.call("SendMessage", queued))
    responses = await served.settled(chat_id)
    snapshot = responses[0].event.snapshot
    assert len(snapshot.pending_action.tool_calls) == 256
    assert len(snapshot.queue) == QUEUE_LENGTH_MAX
    assert all(map(fits, responses))
    actions = await served.call("ListPendingActions", pb.ListPendingActionsRequest())
    assert fits(actions)
    assert all(len(it.arguments_json) > 1800 for it in actions.actions[0].tool_calls)
    events = await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat_id))
    assert all(map(fits, events.events))


async def test_a_list_of_the_largest_chats_has_one_or_two_on_each_page(served: Served) -> None:
    """A page has a budget of bytes, and each chat of it fits alone."""
    for _ in range(3):
        await served.call("CreateChat", largest_chat())
    request, found = pb.ListChatsRequest(), list[chat_pb2.Chat]()
    while True:
        page = await served.call("ListChats", request)
        assert 1 <= len(page.chats) <= 2
        found += page.chats
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(found) == 3
    assert all(map(fits, found))
