"""Lists: newest first or in order, every item once, pages of bounded count and bytes."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.limits import PAGE_BYTES_MAX, PAGE_SIZE_MAX, PARTS_MAX
from tests.kit.server import Served, said


async def pages(served: Served, method: str, request: Any, items: str) -> list[list[Any]]:
    """Read a list to its end."""
    found = []
    while True:
        page = await served.call(method, request)
        found.append(list(getattr(page, items)))
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_chats_come_newest_first_and_each_once(served: Served) -> None:
    """Also when chats are made between the pages."""
    made = []
    for number in range(7):
        created = await served.call("CreateChat", pb.CreateChatRequest(title=str(number)))
        made.append(created.chat.title)
    request = pb.ListChatsRequest(page_size=3)
    first = await served.call("ListChats", request)
    await served.call("CreateChat", pb.CreateChatRequest(title="late"))
    request.page_token = first.next_page_token
    rest = await pages(served, "ListChats", request, "chats")
    titles = [it.title for it in first.chats] + [it.title for page in rest for it in page]
    assert titles == list(reversed(made))
    assert [len(page) for page in rest] == [3, 1]


async def test_chats_are_found_by_labels_and_status(served: Served) -> None:
    """All labels must be there; any of the statuses."""
    labels = [{"a": "1"}, {"a": "1", "b": "2"}, {"a": "2"}]
    for it in labels:
        await served.call("CreateChat", pb.CreateChatRequest(labels=it))

    async def count(**filters: Any) -> int:
        return len((await served.call("ListChats", pb.ListChatsRequest(**filters))).chats)

    assert await count(labels={"a": "1"}) == 2
    assert await count(labels={"a": "1", "b": "2"}) == 1
    assert await count(statuses=[chat_pb2.CHAT_STATUS_WAITING]) == 3
    assert await count(statuses=[chat_pb2.CHAT_STATUS_ERROR]) == 0


async def test_a_token_keeps_its_filters(served: Served) -> None:
    """With other filters it would skip chats silently."""
    for _ in range(3):
        await served.call("CreateChat", pb.CreateChatRequest(labels={"a": "1"}))
    page = await served.call("ListChats", pb.ListChatsRequest(page_size=1, labels={"a": "1"}))
    other = pb.ListChatsRequest(page_size=1, page_token=page.next_page_token)
    refusal = await served.refused("ListChats", other)
    assert refusal.fields == ["page_token"]


async def test_a_page_of_large_chats_stays_below_its_bytes(served: Served) -> None:
    """Ten chats with 250 KiB of prompt each do not fit one page, and none is lost."""
    for number in range(10):
        request = pb.CreateChatRequest(title=str(number), system_prompt="p" * 250 * 1024)
        await served.call("CreateChat", request)
    found = await pages(served, "ListChats", pb.ListChatsRequest(), "chats")
    assert [it.title for page in found for it in page] == [str(9 - it) for it in range(10)]
    assert len(found) == 2
    assert all(sum(it.ByteSize() for it in page) <= PAGE_BYTES_MAX for page in found)


async def _with_many_parts(served: Served, messages: int) -> str:
    """Make a chat whose messages have as many parts as they may."""
    part = message_pb2.UserPart(text=message_pb2.UserText(text="!"))
    message = message_pb2.UserMessage(parts=[part] * PARTS_MAX)
    created = await served.call("CreateChat", pb.CreateChatRequest())
    chat_id = str(created.chat.chat_id)
    for _ in range(messages):
        await served.call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=message))
        await served.settled(chat_id)
    return chat_id


async def test_parts_count_in_a_page_like_bytes(served: Served) -> None:
    """Messages of very many parts make small pages, and no message is lost."""
    chat_id = await _with_many_parts(served, 24)
    history = pb.ListMessagesRequest(chat_id=chat_id, page_size=PAGE_SIZE_MAX)
    found = await pages(served, "ListMessages", history, "messages")
    assert [it.position for page in found for it in page] == list(range(1, 49))
    stream = await served.settled(chat_id)
    snapshots = [it.event.snapshot_messages.messages for it in stream]
    assert max(sum(len(it.parts) for it in page) for page in snapshots) <= 16 * PARTS_MAX


async def test_messages_come_in_order_in_pages(served: Served) -> None:
    """By position, from any position on."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("0")))
    chat_id = created.chat.chat_id
    for number in range(1, 4):
        await served.settled(chat_id)
        await served.call(
            "SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said(str(number)))
        )
    await served.settled(chat_id)
    request = pb.ListMessagesRequest(chat_id=chat_id, page_size=3)
    found = await pages(served, "ListMessages", request, "messages")
    assert [len(page) for page in found] == [3, 3, 2]
    assert [it.position for page in found for it in page] == list(range(1, 9))
    behind = pb.ListMessagesRequest(chat_id=chat_id, after_position=6)
    assert [it.position for it in (await served.call("ListMessages", behind)).messages] == [7, 8]


async def test_a_page_of_large_messages_stays_below_its_bytes(served: Served) -> None:
    """Count limits alone do not protect a client with default limits."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    chat_id = created.chat.chat_id
    for _ in range(4):
        message = said("x" * 250_000)
        message.parts.add().text.text = "y" * 250_000
        await served.call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=message))
        await served.settled(chat_id)
    request = pb.ListMessagesRequest(chat_id=chat_id)
    found = await pages(served, "ListMessages", request, "messages")
    assert [it.position for page in found for it in page] == list(range(1, 9))
    assert len(found) > 1
    assert all(sum(it.ByteSize() for it in page) <= 4 * 1024 * 1024 for page in found)


async def test_events_come_in_pages_without_a_gap(served: Served) -> None:
    """after_sequence is the token: the log has numbers."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
    chat_id = created.chat.chat_id
    await served.settled(chat_id)
    numbers: list[int] = []
    while True:
        after = numbers[-1] if numbers else 0
        request = pb.ListEventsRequest(chat_id=chat_id, after_sequence=after, page_size=2)
        page = await served.call("ListEvents", request)
        if not page.events:
            break
        numbers += [it.sequence for it in page.events]
    assert numbers == list(range(1, page.head_sequence + 1))


async def test_waiting_for_an_event_ends_with_the_event(served: Served) -> None:
    """A caller that cannot stream gets it as soon as it is committed."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    chat_id = created.chat.chat_id
    request = pb.ListEventsRequest(
        chat_id=chat_id, after_sequence=created.sequence, wait=Duration(seconds=60)
    )
    waiting = served.chats.ListEvents(request, metadata=served.auth)
    await served.clock.sleeping("hub.watch")
    await served.call("SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said("x")))
    page = await waiting
    assert page.events[0].sequence == created.sequence + 1
    await served.settled(chat_id)


async def test_waiting_for_an_event_has_a_bound(served: Served) -> None:
    """Nothing was committed: an empty page, and the present head."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    request = pb.ListEventsRequest(
        chat_id=created.chat.chat_id, after_sequence=created.sequence, wait=Duration(seconds=3)
    )
    waiting = served.chats.ListEvents(request, metadata=served.auth)
    for _ in range(3):
        await served.clock.advance_to("hub.watch")
    page = await waiting
    assert not page.events
    assert page.head_sequence == created.sequence


@pytest.mark.parametrize("names, found", [([], 1), (["look"], 1), (["other"], 0)])
async def test_pending_actions_are_listed_by_tool(
    served: Served, names: list[str], found: int
) -> None:
    """A runner asks for the tools that it can run, over all of its chats."""
    tool = tool_pb2.ToolDefinition(name="look", input_schema_json='{"type":"object"}')
    message = said('!call look {"at":"sky"}')
    created = await served.call("CreateChat", pb.CreateChatRequest(tools=[tool], message=message))
    await served.settled(created.chat.chat_id)
    request = pb.ListPendingActionsRequest(tool_names=names)
    actions = (await served.call("ListPendingActions", request)).actions
    assert len(actions) == found
    for action in actions:
        assert action.chat_id == created.chat.chat_id
        assert action.tool_calls[0].tool_name == "look"
        assert action.deadline.seconds > 0
