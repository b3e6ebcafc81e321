"""The main path: create, send, read, over a real channel."""

from chatd.v1 import admin_service_pb2, chat_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said


async def test_a_message_is_answered_and_everything_can_be_read_again(served: Served) -> None:
    """Create, send, follow to the end; chat, messages and events tell the same story."""
    created = await served.call("CreateChat", pb.CreateChatRequest(title="first"))
    chat_id = created.chat.chat_id
    assert created.chat.status == chat_pb2.CHAT_STATUS_WAITING
    assert created.chat.model == "sandbox/echo"
    assert not created.HasField("message")

    request = pb.SendMessageRequest(chat_id=chat_id, message=said("hello there"))
    sent = await served.call("SendMessage", request)
    assert sent.message.parts[0].text.text == "hello there"
    assert sent.sequence >= sent.message.sequence > created.sequence
    await served.settled(chat_id)

    chat = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat
    assert chat.status == chat_pb2.CHAT_STATUS_WAITING
    assert chat.stop_reason == chat_pb2.STOP_REASON_END_TURN
    messages = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    roles = [it.role for it in messages.messages]
    assert roles == [message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT]
    assert "hello there" in messages.messages[1].parts[0].text.text
    events = await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat_id))
    assert [it.sequence for it in events.events] == list(range(1, chat.head_sequence + 1))
    assert events.head_sequence == chat.head_sequence


async def test_a_chat_may_begin_with_its_first_message(served: Served) -> None:
    """One request instead of two; the response carries the message."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
    assert created.message.position == 1
    await served.settled(created.chat.chat_id)


async def test_server_info_needs_no_key_and_lists_what_works(served: Served) -> None:
    """A client learns limits and RPCs before it has a key."""
    info = await served.admin.GetServerInfo(admin_service_pb2.GetServerInfoRequest())
    assert "chatd.v1.ChatService/Subscribe" in info.implemented_rpcs
    assert info.default_model == "sandbox/echo"
    assert {it.name for it in info.limits} >= {"request_bytes", "page_size"}
    assert info.heartbeat_interval.seconds == 15
