"""The queue over the API, in every status: list, delete, reorder, promote."""

from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import QUEUE_LENGTH_MAX
from chatd_server.domain.message import Text
from tests.kit.server import said
from tests.messages import states
from tests.messages.states import BUSY, STATES, queue, refusal
from tests.subscribe.scene import LEASE_SECONDS, WORKER, Chat, Edge

WITH_QUEUE = [*BUSY, "failed"]


async def queueing(edge: Edge, name: str) -> tuple[Chat, list[str]]:
    """Return a chat in a status, with the messages a, b and c in its queue, and their ids."""
    if name == "failed":
        chat = await states.failed_with(edge, "a", "b", "c")
        found = await edge.call("ListQueuedMessages", pb.ListQueuedMessagesRequest(chat_id=chat.id))
        return chat, [it.message_id for it in found.queued_messages]
    chat = await STATES[name](edge)
    ids = await queue(edge, chat, "a", "b", "c")
    await states.refresh(chat)
    return chat, ids


@pytest.mark.parametrize("name", STATES)
async def test_the_queue_is_listed_in_every_status(edge: Edge, name: str) -> None:
    """Head first, with the contents; a waiting chat has none."""
    if name == "waiting":
        chat, expected = await states.waiting(edge), []
    else:
        chat, _ = await queueing(edge, name)
        expected = ["a", "b", "c"]
    assert await states.listed(edge, chat) == expected
    assert (await states.get(edge, chat)).queued_message_count == len(expected)


async def test_the_queue_comes_in_pages(edge: Edge) -> None:
    """Each message once, in order; the last page has no token."""
    chat, _ = await queueing(edge, "running")
    request = pb.ListQueuedMessagesRequest(chat_id=chat.id, page_size=2)
    first = await edge.call("ListQueuedMessages", request)
    request.page_token = first.next_page_token
    second = await edge.call("ListQueuedMessages", request)
    assert [len(it.queued_messages) for it in (first, second)] == [2, 1]
    assert not second.next_page_token
    assert second.queued_messages[0].parts[0].text.text == "c"


async def test_a_page_of_large_messages_ends_by_bytes(edge: Edge) -> None:
    """Five messages of 500 KiB are two pages of less than 3 MiB, whatever the page size says."""
    chat = await states.running(edge)
    large = ["x" * 250_000] * 2
    message = said(large[0])
    message.parts.extend(said(large[1]).parts)
    for _ in range(5):
        await edge.call("SendMessage", pb.SendMessageRequest(chat_id=chat.id, message=message))
    request = pb.ListQueuedMessagesRequest(chat_id=chat.id)
    pages = [await edge.call("ListQueuedMessages", request)]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(await edge.call("ListQueuedMessages", request))
    assert [len(it.queued_messages) for it in pages] == [4, 1]


async def test_a_page_token_of_another_chat_is_refused(edge: Edge) -> None:
    """A token belongs to one list."""
    chat, _ = await queueing(edge, "running")
    request = pb.ListQueuedMessagesRequest(chat_id=chat.id, page_size=1)
    token = (await edge.call("ListQueuedMessages", request)).next_page_token
    other = await states.running(edge)
    request = pb.ListQueuedMessagesRequest(chat_id=other.id, page_token=token)
    assert (await refusal(edge, "ListQueuedMessages", request)).fields == ["page_token"]


@pytest.mark.parametrize("name", WITH_QUEUE)
async def test_a_deleted_message_leaves_the_queue(edge: Edge, name: str) -> None:
    """The others keep their order, the status stays, and `queue_changed` tells of it."""
    chat, (_, second, _) = await queueing(edge, name)
    request = pb.DeleteQueuedMessageRequest(chat_id=chat.id, message_id=second)
    answer = await edge.call("DeleteQueuedMessage", request)
    assert await states.listed(edge, chat) == ["a", "c"]
    assert answer.chat.status == chat_pb2.ChatStatus.Value(f"CHAT_STATUS_{chat.state.status.name}")
    newest = (await states.events(edge, chat))[-1]
    assert newest.sequence == answer.sequence
    assert [it.preview for it in newest.queue_changed.entries] == ["a", "c"]


@pytest.mark.parametrize("name", STATES)
async def test_to_delete_an_absent_message_is_success(edge: Edge, name: str) -> None:
    """Nothing is written: the message may have begun its turn a moment ago."""
    chat = await STATES[name](edge)
    before = await states.get(edge, chat)
    request = pb.DeleteQueuedMessageRequest(chat_id=chat.id, message_id="nothing of ours")
    answer = await edge.call("DeleteQueuedMessage", request)
    assert answer.chat == before
    assert answer.sequence == before.head_sequence


@pytest.mark.parametrize("name", WITH_QUEUE)
async def test_the_queue_takes_the_order_that_is_named(edge: Edge, name: str) -> None:
    """The status stays."""
    chat, (first, second, third) = await queueing(edge, name)
    request = pb.ReorderQueuedMessagesRequest(chat_id=chat.id, message_ids=[third, first, second])
    answer = await edge.call("ReorderQueuedMessages", request)
    assert await states.listed(edge, chat) == ["c", "a", "b"]
    assert answer.chat.head_sequence == answer.sequence == chat.state.head_sequence + 1


@pytest.mark.parametrize("wrong", ["one is missing", "one is unknown"])
async def test_an_order_names_exactly_the_queue(edge: Edge, wrong: str) -> None:
    """A client that did not see the newest queue is refused and told how long it is."""
    chat, ids = await queueing(edge, "running")
    named = ids[:2] if wrong == "one is missing" else [*ids[:2], states.new_id()]
    request = pb.ReorderQueuedMessagesRequest(chat_id=chat.id, message_ids=named)
    told = await refusal(edge, "ReorderQueuedMessages", request)
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.fields == ["message_ids"]
    assert "3 queued messages" in told.message
    assert await states.listed(edge, chat) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["pending", "asking", "failed"])
async def test_a_promoted_message_begins_at_once_when_nobody_holds_the_chat(
    edge: Edge, name: str
) -> None:
    """Open calls are answered before it; the others keep their order."""
    chat, (_, second, _) = await queueing(edge, name)
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=second)
    answer = await edge.call("PromoteQueuedMessage", request)
    assert answer.chat.status == chat_pb2.CHAT_STATUS_PENDING
    messages = await states.history(edge, chat)
    assert messages[-1].message_id == second
    assert await states.listed(edge, chat) == ["a", "c"]
    if name == "asking":
        results = [part.tool_result for it in messages for part in it.parts][-3:-1]
        assert [(it.tool_call_id, it.is_error) for it in results] == [("c1", True), ("c2", True)]


@pytest.mark.parametrize("name", ["running", "interrupting"])
async def test_a_promoted_message_waits_until_the_partial_step_is_saved(
    edge: Edge, name: str
) -> None:
    """It moves to the head and keeps its id; positions prove the order: partial, then promoted."""
    chat, (_, second, _) = await queueing(edge, name)
    if name == "running":
        await chat.begin()
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=second)
    answer = await edge.call("PromoteQueuedMessage", request)
    assert answer.chat.status == chat_pb2.CHAT_STATUS_INTERRUPTING
    assert await states.listed(edge, chat) == ["b", "a", "c"]

    await states.refresh(chat)
    await states.stop(chat, Text("partial"))
    messages = await states.history(edge, chat)
    assert [states.text_of(it) for it in messages] == ["hello", "partial", "b"]
    assert [it.position for it in messages] == [1, 2, 3]
    assert messages[2].message_id == second
    assert await states.listed(edge, chat) == ["a", "c"]


@pytest.mark.parametrize("name", WITH_QUEUE)
async def test_a_message_that_is_not_queued_cannot_be_promoted(edge: Edge, name: str) -> None:
    """MESSAGE_NOT_FOUND; nothing is cut."""
    chat, _ = await queueing(edge, name)
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=states.new_id())
    told = await refusal(edge, "PromoteQueuedMessage", request)
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert (await states.get(edge, chat)).revision == chat.state.revision


async def test_a_chat_without_a_turn_has_nothing_to_promote(edge: Edge) -> None:
    """WRONG_STATUS with the status: the message has begun its turn, and it is over."""
    chat = await states.waiting(edge)
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=states.new_id())
    told = await refusal(edge, "PromoteQueuedMessage", request)
    assert (told.reason, told.metadata["status"]) == ("WRONG_STATUS", "WAITING")


async def test_the_queue_takes_as_many_messages_as_is_published(edge: Edge) -> None:
    """The next one is QUEUE_FULL, and nothing of it is kept."""
    chat = await states.running(edge)
    await queue(edge, chat, *(str(it) for it in range(QUEUE_LENGTH_MAX)))
    told = await refusal(
        edge, "SendMessage", pb.SendMessageRequest(chat_id=chat.id, message=said("one too many"))
    )
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUEUE_FULL")
    assert (await states.get(edge, chat)).queued_message_count == QUEUE_LENGTH_MAX


async def test_no_message_is_promoted_after_an_error_until_a_person_acts(edge: Edge) -> None:
    """The queue stays; a new message goes behind it, and the head begins its turn."""
    chat = await states.failed_with(edge, "a", "b")
    assert (await states.get(edge, chat)).status == chat_pb2.CHAT_STATUS_ERROR
    assert await states.listed(edge, chat) == ["a", "b"]
    sent = await edge.call("SendMessage", pb.SendMessageRequest(chat_id=chat.id, message=said("c")))
    assert sent.queued_message.parts[0].text.text == "c"
    assert sent.chat.status == chat_pb2.CHAT_STATUS_PENDING
    assert (await states.words(edge, chat))[-1] == "a"
    assert await states.listed(edge, chat) == ["b", "c"]


@pytest.mark.parametrize("method", ["DeleteQueuedMessage", "PromoteQueuedMessage"])
async def test_two_requests_for_the_same_message_do_not_both_take_it(
    edge: Edge, method: str
) -> None:
    """The message leaves the queue once, whoever comes first."""
    chat, (first, _, _) = await queueing(edge, "pending")
    request: Any = getattr(pb, f"{method}Request")(chat_id=chat.id, message_id=first)
    await edge.call(method, request)
    if method == "DeleteQueuedMessage":
        assert (await edge.call(method, request)).chat.queued_message_count == 2
    else:
        assert (await refusal(edge, method, request)).reason == "MESSAGE_NOT_FOUND"
    assert await states.listed(edge, chat) == ["b", "c"]


async def test_a_message_with_an_unknown_model_is_not_queued(edge: Edge) -> None:
    """MODEL_NOT_FOUND when it is sent, not when it has its turn."""
    chat = await states.running(edge)
    options = chat_pb2.TurnOptions(model="nobody/nothing")
    request = pb.SendMessageRequest(chat_id=chat.id, message=said("x"), options=options)
    assert (await refusal(edge, "SendMessage", request)).reason == "MODEL_NOT_FOUND"
    assert await states.listed(edge, chat) == []


async def test_a_promotion_does_not_wait_for_a_dead_worker(edge: Edge) -> None:
    """Another one takes the chat over when the lease has expired, and the message begins."""
    chat, (_, second, _) = await queueing(edge, "running")
    request = pb.PromoteQueuedMessageRequest(chat_id=chat.id, message_id=second)
    await edge.call("PromoteQueuedMessage", request)
    await edge.clock.advance(LEASE_SECONDS + 1)
    assert await edge.store.rescue(WORKER, 10) == 1
    await chat.acquire()
    await states.stop(chat)
    assert await states.words(edge, chat) == ["hello", "b"]
    assert (await states.get(edge, chat)).status == chat_pb2.CHAT_STATUS_PENDING


async def test_the_queue_of_a_chat_that_is_archived_waits(edge: Edge) -> None:
    """Nobody works on it; when the chat is back, the next message lets the head begin."""
    chat = await states.failed_with(edge, "a")
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    assert (await edge.store.acquire(WORKER, 10, LEASE_SECONDS)).chats == ()
    assert await states.listed(edge, chat) == ["a"]
    await edge.call("UnarchiveChat", pb.UnarchiveChatRequest(chat_id=chat.id))
    await edge.call("SendMessage", pb.SendMessageRequest(chat_id=chat.id, message=said("b")))
    assert (await states.words(edge, chat))[-1] == "a"
