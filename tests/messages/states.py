"""A chat in each status that the API shows, held there by the test as its worker."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.chat import ChatConfig, ClientTool
from chatd_server.domain.command import CommitAnswer, Fail, FinishInterruption, RequireAction
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.ids import AttemptId, ToolCallId
from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import Executor, FinishReason, Text, ToolCall, Usage
from tests.kit.script import MODEL
from tests.kit.server import Refusal, refused, said
from tests.subscribe.scene import Chat, Edge

Build = Callable[[Edge], Awaitable[Chat]]
TEXT = PieceKind.TEXT
LOOK = ChatConfig(model=MODEL, tools=(ClientTool("look"),))


async def waiting(edge: Edge) -> Chat:
    """One turn is over."""
    chat = await running(edge)
    await chat.answer("hello")
    await chat.finish()
    return chat


async def pending(edge: Edge) -> Chat:
    """A message waits for a worker."""
    chat = await waiting(edge)
    await chat.send("again")
    return chat


async def running(edge: Edge) -> Chat:
    """The test holds it as its worker."""
    return await edge.chat("hello", config=LOOK)


async def interrupting(edge: Edge) -> Chat:
    """The worker was asked to stop, in the middle of an answer."""
    chat = await running(edge)
    await chat.begin()
    await edge.call("InterruptChat", pb.InterruptChatRequest(chat_id=chat.id))
    await refresh(chat)
    return chat


async def asking(edge: Edge) -> Chat:
    """The client owes two results."""
    chat = await running(edge)
    await chat.begin()
    await chat.commit(*(client_call(it) for it in ("c1", "c2")))
    await chat.do(RequireAction(**chat.hold()))
    return chat


async def failed(edge: Edge) -> Chat:
    """The turn failed."""
    chat = await running(edge)
    await fail(chat)
    return chat


STATES: dict[str, Build] = {
    "waiting": waiting,
    "pending": pending,
    "running": running,
    "interrupting": interrupting,
    "asking": asking,
    "failed": failed,
}
BUSY = ("pending", "running", "interrupting", "asking")


async def fail(chat: Chat) -> None:
    """End the turn with an error."""
    await chat.do(Fail(**chat.hold(), error=failure(ErrorKind.AUTH, "no key").error))


async def stop(chat: Chat, *parts: Any) -> None:
    """Save the partial step and stop, as a worker does that was asked to."""
    attempt_id = chat.attempt_id if parts else AttemptId("")
    await chat.do(FinishInterruption(**chat.hold(), attempt_id=attempt_id, parts=parts))


async def refresh(chat: Chat) -> None:
    """Learn what others did to the chat."""
    chat.state = await chat.edge.store.load(chat.id)


def answered(chat: Chat, text: str, usage: Usage) -> CommitAnswer:
    """Return the command that commits the open attempt's answer, with what it cost."""
    return CommitAnswer(
        **chat.hold(),
        attempt_id=chat.attempt_id,
        parts=(Text(text),),
        finish_reason=FinishReason.END_TURN,
        model=MODEL,
        usage=usage,
    )


async def failed_with(edge: Edge, *texts: str) -> Chat:
    """Return a chat whose turn failed while these messages were queued."""
    chat = await running(edge)
    await queue(edge, chat, *texts)
    await refresh(chat)
    await fail(chat)
    return chat


def client_call(call_id: str) -> ToolCall:
    """Return a call of the client's tool."""
    return ToolCall(ToolCallId(call_id), "look", "{}", Executor.CLIENT, created_at=0)


async def queue(edge: Edge, chat: Chat, *texts: str) -> list[str]:
    """Queue messages over the API; return their ids."""
    ids = []
    for text in texts:
        request = pb.SendMessageRequest(chat_id=chat.id, message=said(text))
        sent = await edge.call("SendMessage", request)
        ids.append(sent.queued_message.message_id)
    assert all(ids)
    return ids


async def listed(edge: Edge, chat: Chat) -> list[str]:
    """Return the texts of the queue."""
    found = await edge.call("ListQueuedMessages", pb.ListQueuedMessagesRequest(chat_id=chat.id))
    return [it.parts[0].text.text for it in found.queued_messages]


async def history(edge: Edge, chat: Chat) -> list[Any]:
    """Return the messages."""
    found = await edge.call("ListMessages", pb.ListMessagesRequest(chat_id=chat.id))
    return list(found.messages)


async def words(edge: Edge, chat: Chat) -> list[str]:
    """Return the text of each message; of a result, what it says is wrong."""
    return [text_of(it) for it in await history(edge, chat)]


def text_of(message: Any) -> str:
    """Return the text of a message."""
    return "".join(
        part.tool_result.output_text or part.text.text or part.tool_call.tool_call_id
        for part in message.parts
    )


async def events(edge: Edge, chat: Chat) -> Sequence[Any]:
    """Return the whole log."""
    found = await edge.call("ListEvents", pb.ListEventsRequest(chat_id=chat.id))
    return list(found.events)


async def get(edge: Edge, chat: Chat) -> Any:
    """Return the chat."""
    return (await edge.call("GetChat", pb.GetChatRequest(chat_id=chat.id))).chat


async def refusal(edge: Edge, method: str, request: Any) -> Refusal:
    """Call an RPC that must be refused."""
    return await refused(lambda: edge.call(method, request))


def new_id() -> str:
    """Return a request id."""
    return str(uuid.uuid4())
