"""request_id of every write: once, whoever repeats it, whatever has become of its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.rpc.calls import GROUPS, SERVICES
from tests.kit.server import said
from tests.messages import states
from tests.messages.states import queue, refusal
from tests.subscribe.conftest import Serve
from tests.subscribe.scene import Edge

COPIES = 10

Sound = Callable[[Edge], Awaitable[tuple[Any, Mapping[str, Any]]]]
"""Makes a chat, and returns a request about it and fields that make another request of it."""


async def create(_: Edge) -> tuple[Any, Mapping[str, Any]]:
    """A chat with a message."""
    return pb.CreateChatRequest(title="once", message=said("hello")), {"title": "other"}


async def send(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """A message for a busy chat."""
    chat = await states.running(edge)
    return pb.SendMessageRequest(chat_id=chat.id, message=said("later")), {"message": said("x")}


async def edit(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The message that it names is gone when the request is repeated."""
    chat = await states.running(edge)
    message_id = (await states.history(edge, chat))[0].message_id
    request = pb.EditMessageRequest(chat_id=chat.id, message_id=message_id, message=said("anew"))
    return request, {"message": said("x")}


async def delete_queued(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The first of two queued messages."""
    chat = await states.running(edge)
    first, second = await queue(edge, chat, "a", "b")
    return pb.DeleteQueuedMessageRequest(chat_id=chat.id, message_id=first), {"message_id": second}


async def promote(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The message has left the queue when the request is repeated."""
    chat = await states.pending(edge)
    first, second = await queue(edge, chat, "a", "b")
    return pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=first), {"message_id": second}


async def reorder(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """Two queued messages change places."""
    chat = await states.running(edge)
    ids = await queue(edge, chat, "a", "b")
    request = pb.ReorderQueuedMessagesRequest(chat_id=chat.id, message_ids=ids[::-1])
    return request, {"message_ids": ids}


async def interrupt(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """There is nothing to stop when the request is repeated."""
    chat = await states.asking(edge)
    return pb.InterruptChatRequest(chat_id=chat.id), {"expected_turn_id": "x"}


async def retry(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The chat is not failed any more when the request is repeated."""
    chat = await states.failed(edge)
    return pb.RetryTurnRequest(chat_id=chat.id), {"chat_id": (await states.failed(edge)).id}


async def update(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The etag is an old one when the request is repeated."""
    chat = await states.waiting(edge)
    etag = (await states.get(edge, chat)).etag
    request = pb.UpdateChatRequest(chat_id=chat.id, chat=chat_pb2.Chat(title="new"), etag=etag)
    return request, {"chat": chat_pb2.Chat(title="other")}


async def compact(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The chat is busy when the request is repeated."""
    chat = await states.waiting(edge)
    return pb.CompactChatRequest(chat_id=chat.id), {"chat_id": (await states.waiting(edge)).id}


async def clear(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The context is empty when the request is repeated."""
    chat = await states.waiting(edge)
    return pb.ClearContextRequest(chat_id=chat.id), {"chat_id": (await states.waiting(edge)).id}


async def archive(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """An idle chat."""
    chat = await states.waiting(edge)
    return pb.ArchiveChatRequest(chat_id=chat.id), {"chat_id": (await states.waiting(edge)).id}


async def unarchive(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """An archived one."""
    chat = await states.waiting(edge)
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    return pb.UnarchiveChatRequest(chat_id=chat.id), {"chat_id": (await states.waiting(edge)).id}


async def delete(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The chat is not found when the request is repeated."""
    chat = await states.running(edge)
    return pb.DeleteChatRequest(chat_id=chat.id), {"chat_id": (await states.running(edge)).id}


async def fork(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """Each new one would be another chat."""
    chat = await states.waiting(edge)
    return pb.ForkChatRequest(chat_id=chat.id, title="fork"), {"title": "other"}


async def submit(edge: Edge) -> tuple[Any, Mapping[str, Any]]:
    """The chat does not wait any more when the request is repeated."""
    chat = await states.asking(edge)
    request = pb.SubmitToolResultsRequest(chat_id=chat.id)
    for call_id in ("c1", "c2"):
        request.results.add(tool_call_id=call_id, output_text="seen")
    return request, {"allow_partial": True}


WRITES: dict[str, Sound] = {
    "CreateChat": create,
    "UpdateChat": update,
    "CompactChat": compact,
    "ClearContext": clear,
    "ArchiveChat": archive,
    "UnarchiveChat": unarchive,
    "DeleteChat": delete,
    "ForkChat": fork,
    "SendMessage": send,
    "EditMessage": edit,
    "DeleteQueuedMessage": delete_queued,
    "PromoteQueuedMessage": promote,
    "ReorderQueuedMessages": reorder,
    "InterruptChat": interrupt,
    "RetryTurn": retry,
    "SubmitToolResults": submit,
}
ELSEWHERE = {
    "RunTurn": "a stream: tests/subscribe/test_run_turn.py",
    "RegenerateTitle": "asks a model: tests/service/test_titles.py",
}
"""Writes whose repetition has a test of its own."""


def test_every_write_is_in_the_table() -> None:
    """A write is an RPC whose request has a request_id."""
    rpcs = {it.name: it.input_type for service in SERVICES for it in service.methods}
    answered = {name for group in GROUPS for name in group}
    writes = {it for it in answered if "request_id" in rpcs[it].fields_by_name}
    assert WRITES.keys() | ELSEWHERE.keys() == writes


async def once(edge: Edge, method: str) -> tuple[Any, Mapping[str, Any]]:
    """Return a request with an id, and what makes another one of it."""
    request, other = await WRITES[method](edge)
    request.request_id = states.new_id()
    return request, other


def with_other(request: Any, other: Mapping[str, Any]) -> Any:
    """Return another request with the same id."""
    changed = type(request)()
    changed.CopyFrom(request)
    for field in other:
        changed.ClearField(field)
    changed.MergeFrom(type(request)(**other))
    return changed


async def all_events(edge: Edge) -> dict[str, int]:
    """Return how far the log of each chat is."""
    listed = await edge.call("ListChats", pb.ListChatsRequest(include_archived=True))
    return {it.chat_id: it.head_sequence for it in listed.chats}


@pytest.mark.parametrize("method", WRITES)
async def test_a_request_is_carried_out_once_and_answered_the_same(edge: Edge, method: str) -> None:
    """Copies at once, and a later one: every answer is the first one, and nothing more happens."""
    request, _ = await once(edge, method)
    answers = await asyncio.gather(*(edge.call(method, request) for _ in range(COPIES)))
    assert all(it == answers[0] for it in answers)
    after = await all_events(edge)
    assert await edge.call(method, request) == answers[0]
    assert await all_events(edge) == after
    if method != "DeleteChat":
        assert after[answers[0].chat.chat_id] == answers[0].sequence


@pytest.mark.parametrize("method", WRITES)
async def test_the_same_id_with_another_body_is_refused(edge: Edge, method: str) -> None:
    """REQUEST_ID_REUSED, whatever else the other request would meet; nothing is written."""
    request, other = await once(edge, method)
    await edge.call(method, request)
    after = await all_events(edge)
    told = await refusal(edge, method, with_other(request, other))
    assert (told.code, told.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await all_events(edge) == after


@pytest.mark.parametrize("method", WRITES)
async def test_a_request_whose_answer_was_lost_with_the_server_is_told_again(
    serve: Serve, method: str
) -> None:
    """The commit stands in the database: another server gives the answer that nobody got."""
    async with serve() as edge:
        request, _ = await once(edge, method)
        lost = await edge.call(method, request)
    async with serve() as edge:
        before = await all_events(edge)
        assert await edge.call(method, request) == lost
        assert await all_events(edge) == before


@pytest.mark.parametrize("method", ["EditMessage", "ForkChat"])
async def test_a_repeated_request_needs_nothing_of_what_it_named(edge: Edge, method: str) -> None:
    """It is answered after its chat was deleted."""
    request, _ = await once(edge, method)
    first = await edge.call(method, request)
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=request.chat_id))
    assert await edge.call(method, request) == first
