"""request_id: the same request twice is one request, with one answer."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from chatd.v1 import chat_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said

CHAT_COUNT = 20


def new_id() -> str:
    """Return a request id."""
    return str(uuid.uuid4())


@pytest.fixture
async def busy(served: Served) -> str:
    """A chat whose turn does not end by itself: the sandbox's tool waits on the clock."""
    message = said('!call sandbox_wait {"seconds": 60}')
    created = await served.call("CreateChat", pb.CreateChatRequest(message=message))
    return str(created.chat.chat_id)


async def test_the_same_creation_makes_one_chat(served: Served) -> None:
    """The second answer is the first one, byte for byte."""
    request = pb.CreateChatRequest(
        request_id=new_id(), title="once", labels={"b": "1", "a": "2"}, system_prompt="be brief"
    )
    first = await served.call("CreateChat", request)
    assert await served.call("CreateChat", request) == first
    assert len((await served.call("ListChats", pb.ListChatsRequest())).chats) == 1


async def test_the_same_message_is_sent_once(served: Served) -> None:
    """Also when the chat went on meanwhile: the answer is the stored one."""
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    request = pb.SendMessageRequest(request_id=new_id(), chat_id=chat_id, message=said("hello"))
    first = await served.call("SendMessage", request)
    await served.settled(chat_id)
    assert await served.call("SendMessage", request) == first
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    assert len(listed.messages) == 2


async def test_a_request_id_is_the_same_in_capitals(served: Served) -> None:
    """It is a UUID: libraries write it in both ways."""
    request = pb.CreateChatRequest(request_id=new_id())
    first = await served.call("CreateChat", request)
    request.request_id = request.request_id.upper()
    assert await served.call("CreateChat", request) == first


async def test_the_same_queued_message_is_queued_once(served: Served, busy: str) -> None:
    """The stored answer has the queued message, its text and the length of the queue."""
    requests = [
        pb.SendMessageRequest(request_id=new_id(), chat_id=busy, message=said(f"queued {it}"))
        for it in range(2)
    ]
    first = [await served.call("SendMessage", it) for it in requests]
    assert [it.chat.queued_message_count for it in first] == [1, 2]
    assert first[0].queued_message.parts[0].text.text == "queued 0"
    assert [await served.call("SendMessage", it) for it in requests] == first


async def test_the_same_interrupt_answers_the_same(served: Served, busy: str) -> None:
    """Although the second one would find nothing to stop."""
    request = pb.InterruptChatRequest(request_id=new_id(), chat_id=busy)
    first = await served.call("InterruptChat", request)
    assert first.interrupted
    await served.settled(busy)
    assert await served.call("InterruptChat", request) == first


async def test_the_same_id_with_another_request_is_refused(served: Served) -> None:
    """The stored answer is that of the first one."""
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest())).chat.chat_id
    once = new_id()
    first = pb.SendMessageRequest(request_id=once, chat_id=chat_id, message=said("one"))
    other = pb.SendMessageRequest(request_id=once, chat_id=chat_id, message=said("two"))
    await served.call("SendMessage", first)
    await served.settled(chat_id)
    head = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat.head_sequence
    refusal = await served.refused("SendMessage", other)
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "REQUEST_ID_REUSED"
    after = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
    assert after.head_sequence == head


def create_with(request_id: str) -> pb.CreateChatRequest:
    """Return a request in which each kind of field is set."""
    tool = tool_pb2.ToolDefinition(name="look", input_schema_json='{"type": "object"}')
    return pb.CreateChatRequest(
        request_id=request_id,
        title="\u00e9",
        labels={"a": "1", "b": "2"},
        tools=[tool],
        message=said("hello"),
    )


async def test_the_same_request_may_be_written_in_another_order(served: Served) -> None:
    """What counts is the message that the bytes mean: fields and entries of maps in any order,
    repeated singular fields (the last one counts), defaults written out.
    """
    once = new_id()
    first = await served.call("CreateChat", create_with(once))
    fields = [
        pb.CreateChatRequest(labels={"b": "2"}),
        create_with(""),
        pb.CreateChatRequest(labels={"a": "1"}, request_id=once.upper()),
    ]
    fields[1].ClearField("labels")
    number = pb.CreateChatRequest.DESCRIPTOR.fields_by_name["system_prompt"].number
    default = bytes([number << 3 | 2, 0])
    early_title = pb.CreateChatRequest(title="overwritten").SerializeToString()
    body = early_title + default + b"".join(it.SerializeToString() for it in fields)
    assert body != create_with(once).SerializeToString()
    assert pb.CreateChatResponse.FromString(await served.raw("CreateChat", body)) == first


def _with_another_normal_form(request: pb.CreateChatRequest) -> None:
    request.title = "e\u0301"


def _with_another_blank_in_the_schema(request: pb.CreateChatRequest) -> None:
    request.tools[0].input_schema_json = '{"type":"object"}'


def _with_an_optional_field_that_says_its_default(request: pb.CreateChatRequest) -> None:
    request.options.SetInParent()


def _with_a_field_that_nobody_knows(request: pb.CreateChatRequest) -> None:
    request.MergeFromString(b"\xf8\x7f\x01")  # field 2047


@pytest.mark.parametrize(
    "change",
    [
        _with_another_normal_form,
        _with_another_blank_in_the_schema,
        _with_an_optional_field_that_says_its_default,
        _with_a_field_that_nobody_knows,
    ],
)
async def test_no_text_is_normalised_to_be_the_same(
    served: Served, change: Callable[[pb.CreateChatRequest], None]
) -> None:
    """Text and JSON count by their bytes, presence counts, and so do fields of a later contract."""
    once = new_id()
    await served.call("CreateChat", create_with(once))
    other = create_with(once)
    change(other)
    assert (await served.refused("CreateChat", other)).reason == "REQUEST_ID_REUSED"


async def test_the_same_id_for_another_rpc_or_owner_is_another_request(served: Served) -> None:
    """The key of an answer is owner, method and id together."""
    once = new_id()
    chat = (await served.call("CreateChat", pb.CreateChatRequest(request_id=once))).chat
    await served.call(
        "InterruptChat", pb.InterruptChatRequest(request_id=once, chat_id=chat.chat_id)
    )
    other, _ = await served.another_key("other")
    theirs = await served.call("CreateChat", pb.CreateChatRequest(request_id=once), other)
    assert theirs.chat.chat_id != chat.chat_id


async def test_a_refusal_is_judged_anew(served: Served, busy: str) -> None:
    """Only successes are stored: what was refused may be tried again with the same id."""
    request = pb.SendMessageRequest(
        request_id=new_id(),
        chat_id=busy,
        message=said("now"),
        busy_behavior=chat_pb2.BUSY_BEHAVIOR_REJECT,
    )
    assert (await served.refused("SendMessage", request)).reason == "CHAT_BUSY"
    await served.call("InterruptChat", pb.InterruptChatRequest(chat_id=busy))
    await served.settled(busy)
    assert (await served.call("SendMessage", request)).message.parts[0].text.text == "now"


async def test_duplicates_at_once_are_one_request(served: Served) -> None:
    """Twenty copies in flight together: one chat, twenty equal answers."""
    request: Message = pb.CreateChatRequest(request_id=new_id(), title="once")
    answers: list[Any] = await asyncio.gather(
        *(served.call("CreateChat", request) for _ in range(CHAT_COUNT))
    )
    assert all(it == answers[0] for it in answers)
    assert len((await served.call("ListChats", pb.ListChatsRequest())).chats) == 1
