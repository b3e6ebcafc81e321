"""Sends a message to a chat, or creates a chat with it."""

from dataclasses import dataclass
from typing import TypeAlias

from chatd.v1 import chat_pb2, chat_service_pb2, tool_pb2
from chatd_client import ChatHandle, Client
from chatd_client.acts import user_message

Response: TypeAlias = (
    chat_service_pb2.CreateChatResponse
    | chat_service_pb2.SendMessageResponse
    | chat_service_pb2.EditMessageResponse
    | chat_service_pb2.RetryTurnResponse
    | chat_service_pb2.PromoteQueuedMessageResponse
)
UNTIL_ANSWERED = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED


@dataclass(frozen=True)
class Sent:
    """A message that the server has accepted."""

    handle: ChatHandle
    response: Response
    message_id: str
    #: Just before the message.
    cursor: chat_pb2.Cursor
    #: The turn, where it is no new message that begins it.
    turn_id: str = ""


async def sent(client: Client, words: str, chat_id: str, model: str) -> Sent:
    """Send a message. A new chat is created by the same request: a refused one creates no chat."""
    if chat_id:
        return await _to(client.chat(chat_id), words, model)
    request = chat_service_pb2.CreateChatRequest(model=model, message=user_message(words))
    response = await client.call(client.chats.CreateChat, request)
    handle = client.chat(response.chat.chat_id)
    return Sent(handle, response, response.message.message_id, chat_pb2.Cursor())


async def _to(handle: ChatHandle, words: str, model: str) -> Sent:
    before = (await handle.get()).head_sequence
    response = await handle.send(words, options=chat_pb2.TurnOptions(model=model))
    message_id = response.message.message_id or response.queued_message.message_id
    return Sent(handle, response, message_id, chat_pb2.Cursor(sequence=before))


async def edited(handle: ChatHandle, message_id: str, words: str, model: str = "") -> Sent:
    """Replace a message of the chat."""
    before = (await handle.get()).head_sequence
    options = chat_pb2.TurnOptions(model=model)
    response = await handle.edit(message_id, words, options=options)
    return Sent(handle, response, response.message.message_id, chat_pb2.Cursor(sequence=before))


async def retried(handle: ChatHandle) -> Sent:
    """Begin the failed turn again."""
    chat = await handle.retry()
    response = chat_service_pb2.RetryTurnResponse(chat=chat, sequence=chat.head_sequence)
    cursor = chat_pb2.Cursor(sequence=chat.head_sequence)
    return Sent(handle, response, "", cursor, turn_id=chat.turn_id)


async def promoted(handle: ChatHandle, message_id: str) -> Sent:
    """Let a queued message be the next one."""
    before = (await handle.get()).head_sequence
    chat = await handle.promote_queued(message_id)
    response = chat_service_pb2.PromoteQueuedMessageResponse(chat=chat)
    return Sent(handle, response, message_id, chat_pb2.Cursor(sequence=before))


async def why_it_waits(message: Sent) -> str:
    """Return why the message waits and what to do; empty if it does not wait for tools."""
    response = message.response
    if not isinstance(response, chat_service_pb2.SendMessageResponse):
        return ""
    waits = response.chat.status == chat_pb2.CHAT_STATUS_REQUIRES_ACTION
    if not waits or not response.HasField("queued_message"):
        return ""
    action = await message.handle.pending_action()
    return "" if action is None else f"queued: {what_it_waits_for(action)}"


def what_it_waits_for(action: tool_pb2.PendingAction) -> str:
    names = ", ".join(sorted({call.tool_name for call in action.tool_calls}))
    return (
        f"the chat waits for results of client tools ({names}). The program that runs these tools "
        f"must submit them; to stop that turn instead: chatd interrupt {action.chat_id}"
    )
