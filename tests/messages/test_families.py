"""Families over the API: children, their lists, and what happens to all of them."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_pb2, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.command import SendMessage
from chatd_server.domain.ids import ChatId, OwnerId
from chatd_server.domain.message import Text
from tests.kit.server import Served, bearer, refused, said
from tests.messages import states
from tests.messages.states import refusal
from tests.subscribe.scene import Chat, Edge


async def child_of(edge: Edge, parent: Any, text: str = "", **fields: Any) -> Chat:
    """Make a child; with a text the test holds it as its worker."""
    message = said(text) if text else None
    request = pb.CreateChatRequest(parent_chat_id=parent.id, message=message, **fields)
    made = (await edge.call("CreateChat", request)).chat
    chat = Chat(edge, ChatId(made.chat_id), await edge.store.load(ChatId(made.chat_id)))
    if text:
        await chat.acquire()
    return chat


async def children(edge: Edge, parent: Any, **fields: Any) -> list[str]:
    """Return the ids of the children, newest first."""
    request = pb.ListChatsRequest(parent_chat_id=parent.id, **fields)
    return [it.chat_id for it in (await edge.call("ListChats", request)).chats]


async def told(edge: Edge, parent: Chat) -> list[Any]:
    """Return what the parent's log says of children."""
    log = await states.events(edge, parent)
    assert [it.sequence for it in log] == list(range(1, len(log) + 1))
    return [it.subagent_changed for it in log if it.WhichOneof("event") == "subagent_changed"]


async def test_a_child_says_where_it_belongs_and_is_listed_there(edge: Edge) -> None:
    """In the list of its parent; the list of all has root chats."""
    parent = await states.waiting(edge)
    child = await child_of(edge, parent, title="look", parent_tool_call_id="c1")
    read = await states.get(edge, child)
    assert (read.parent_chat_id, read.root_chat_id) == (parent.id, parent.id)
    assert await children(edge, parent) == [child.id]
    listed = (await edge.call("ListChats", pb.ListChatsRequest())).chats
    assert [it.chat_id for it in listed] == [parent.id]
    assert await children(edge, child) == []


async def test_a_list_of_children_is_paged_and_filtered_as_every_list(edge: Edge) -> None:
    """A token of one parent is no token of another."""
    parent, other = await states.waiting(edge), await states.waiting(edge)
    made = [await child_of(edge, parent, labels={"n": str(n)}) for n in range(3)]
    assert await children(edge, parent, labels={"n": "1"}) == [made[1].id]
    assert await children(edge, parent, statuses=[chat_pb2.CHAT_STATUS_ERROR]) == []
    request = pb.ListChatsRequest(parent_chat_id=parent.id, page_size=2)
    first = await edge.call("ListChats", request)
    assert [it.chat_id for it in first.chats] == [made[2].id, made[1].id]
    request.page_token = first.next_page_token
    assert [it.chat_id for it in (await edge.call("ListChats", request)).chats] == [made[0].id]
    request.parent_chat_id = other.id
    assert (await refusal(edge, "ListChats", request)).fields == ["page_token"]


async def test_a_spawn_that_is_done_again_finds_its_child(edge: Edge) -> None:
    """Also ten at once, and when the parent is archived since; another call makes another child."""
    parent = await states.waiting(edge)
    request = pb.CreateChatRequest(parent_chat_id=parent.id, parent_tool_call_id="c1", title="a")
    made = await asyncio.gather(*(edge.call("CreateChat", request) for _ in range(10)))
    assert len({it.chat.chat_id for it in made}) == 1
    assert {it.sequence for it in made} == {2}
    other = await child_of(edge, parent, parent_tool_call_id="c2")
    assert await children(edge, parent) == [other.id, made[0].chat.chat_id]
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=parent.id))
    again = await edge.call("CreateChat", request)
    assert again.chat.chat_id == made[0].chat.chat_id
    assert again.chat.archived
    assert len(await told(edge, parent)) == 4


async def test_without_a_call_each_child_is_a_new_one(edge: Edge) -> None:
    """But for a request that is sent twice."""
    parent = await states.waiting(edge)
    request = pb.CreateChatRequest(parent_chat_id=parent.id, request_id=states.new_id())
    first, again = [await edge.call("CreateChat", request) for _ in range(2)]
    assert first == again
    await child_of(edge, parent)
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=parent.id))
    assert await edge.call("CreateChat", request) == first


async def test_a_child_has_no_children(edge: Edge) -> None:
    """FAMILY_TOO_DEEP, and the words name the root."""
    parent = await states.waiting(edge)
    child = await child_of(edge, parent)
    told_so = await refusal(edge, "CreateChat", pb.CreateChatRequest(parent_chat_id=child.id))
    assert told_so.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (told_so.reason, told_so.fields) == ("FAMILY_TOO_DEEP", ["parent_chat_id"])
    assert parent.id in told_so.violations[0][1]


async def test_a_parent_must_be_the_callers_and_there(edge: Edge) -> None:
    """Of somebody else, deleted, or no id at all: CHAT_NOT_FOUND; archived: CHAT_ARCHIVED."""
    parent = await states.waiting(edge)
    request = pb.CreateChatRequest(parent_chat_id=parent.id, parent_tool_call_id="c")
    _, key = await edge.keys.create(OwnerId("somebody else"), "test")
    theirs = await refused(lambda: edge.stub.CreateChat(request, metadata=bearer(key)))
    assert (theirs.code, theirs.reason) == (grpc.StatusCode.NOT_FOUND, "CHAT_NOT_FOUND")
    odd = await refusal(edge, "CreateChat", pb.CreateChatRequest(parent_chat_id="x"))
    assert odd.reason == "CHAT_NOT_FOUND"
    lone = await refusal(edge, "CreateChat", pb.CreateChatRequest(parent_tool_call_id="c"))
    assert lone.fields == ["parent_tool_call_id"]
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=parent.id))
    archived = await refusal(edge, "CreateChat", request)
    assert (archived.reason, archived.metadata["chat_id"]) == ("CHAT_ARCHIVED", parent.id)
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=parent.id))
    assert (await refusal(edge, "CreateChat", request)).reason == "CHAT_NOT_FOUND"


async def test_a_family_is_archived_and_comes_back_together(edge: Edge) -> None:
    """chat_count says how many it was; a repeated request says the same."""
    parent = await states.waiting(edge)
    made = [await child_of(edge, parent) for _ in range(2)]
    archive = pb.ArchiveChatRequest(chat_id=parent.id, request_id=states.new_id())
    done = await edge.call("ArchiveChat", archive)
    assert (done.chat_count, done.chat.archived) == (3, True)
    assert [(await states.get(edge, it)).archived for it in made] == [True, True]
    assert await children(edge, parent) == []
    assert len(await children(edge, parent, include_archived=True)) == 2
    alone = await refusal(edge, "UnarchiveChat", pb.UnarchiveChatRequest(chat_id=made[0].id))
    assert (alone.reason, alone.metadata["chat_id"]) == ("CHAT_ARCHIVED", parent.id)
    back = await edge.call("UnarchiveChat", pb.UnarchiveChatRequest(chat_id=parent.id))
    assert back.chat_count == 3
    assert await edge.call("ArchiveChat", archive) == done
    assert not (await states.get(edge, parent)).archived


@pytest.mark.parametrize("whose", ["child", "parent"])
async def test_a_busy_member_refuses_for_its_family(edge: Edge, whose: str) -> None:
    """A child is named in the metadata; nobody is archived."""
    parent = await (states.waiting(edge) if whose == "child" else states.running(edge))
    idle = await child_of(edge, parent)
    busy = await child_of(edge, parent, "hello" if whose == "child" else "")
    request = pb.ArchiveChatRequest(chat_id=parent.id)
    told_so = await refusal(edge, "ArchiveChat", request)
    assert told_so.reason == "WRONG_STATUS"
    named = {"chat_id": busy.id} if whose == "child" else {}
    assert told_so.metadata == {"status": "RUNNING", **named}
    for one in (parent, idle, busy):
        assert not (await states.get(edge, one)).archived


async def test_deletion_takes_the_family_and_ends_its_streams(edge: Edge) -> None:
    """A running child, too: its stream ends with CHAT_DELETED."""
    parent = await states.running(edge)
    child = await child_of(edge, parent, "hello")
    followers = [edge.follow(it.id) for it in (parent, child)]
    for follower in followers:
        await follower.until("caught_up")
    done = await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=parent.id))
    assert done.chat_count == 2
    for follower in followers:
        end = await follower.to_the_end()
        assert end.reason == event_pb2.STREAM_END_REASON_CHAT_DELETED
    gone = await refusal(edge, "GetChat", pb.GetChatRequest(chat_id=child.id))
    assert gone.reason == "CHAT_NOT_FOUND"


@pytest.mark.parametrize("what", ["interrupt", "edit", "error"])
async def test_what_happens_to_a_parents_turn_leaves_its_children_alone(
    edge: Edge, what: str
) -> None:
    """Their state is the same to the last field, and they go on."""
    parent = await states.running(edge)
    child = await child_of(edge, parent, "hello")
    await states.refresh(parent)
    before = await edge.store.load(child.id)
    if what == "interrupt":
        await edge.call("InterruptChat", pb.InterruptChatRequest(chat_id=parent.id))
    elif what == "edit":
        message_id = (await states.history(edge, parent))[0].message_id
        edit = pb.EditMessageRequest(
            chat_id=parent.id, message_id=message_id, message=said("other")
        )
        await edge.call("EditMessage", edit)
    else:
        await states.fail(parent)
    assert await edge.store.load(child.id) == before
    await child.answer("done")
    await child.finish()
    assert (await states.get(edge, child)).status == chat_pb2.CHAT_STATUS_WAITING


async def test_a_parents_subscriber_sees_what_its_children_do(edge: Edge) -> None:
    """Made, failed, tried again and done, renamed, archived, deleted; no event of a step."""
    parent = await states.waiting(edge)
    follower = edge.follow(parent.id)
    await follower.until("caught_up")
    child = await child_of(edge, parent, "hello", title="look", parent_tool_call_id="c1")
    await states.fail(child)
    await child.do(SendMessage(command_id=child.command_id(), parts=(Text("again"),)))
    await child.acquire()
    await child.answer("done")
    await child.finish()
    rename = pb.UpdateChatRequest(chat_id=child.id, chat=chat_pb2.Chat(title="seen"))
    await edge.call("UpdateChat", rename)
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=child.id))
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=child.id))
    expected = await told(edge, parent)
    pending, waiting = chat_pb2.CHAT_STATUS_PENDING, chat_pb2.CHAT_STATUS_WAITING
    assert [(it.status, it.title, it.archived, it.deleted) for it in expected] == [
        (pending, "look", False, False),
        (chat_pb2.CHAT_STATUS_ERROR, "look", False, False),
        (waiting, "look", False, False),
        (waiting, "seen", False, False),
        (waiting, "seen", True, False),
        (waiting, "seen", True, True),
    ]
    assert {(it.chat_id, it.tool_call_id) for it in expected} == {(child.id, "c1")}
    seen = [(await follower.until("subagent_changed")).subagent_changed for _ in expected]
    assert seen == expected
    await follower.close()


async def test_a_child_runs_beside_its_parent_with_the_worker(served: Served) -> None:
    """A whole server: the worker ends both turns, and the parent's log tells of the child's end."""
    parent = (await served.call("CreateChat", pb.CreateChatRequest(message=said("!say a")))).chat
    request = pb.CreateChatRequest(parent_chat_id=parent.chat_id, message=said("!say b"))
    child = (await served.call("CreateChat", request)).chat
    seen: list[int] = []
    after = 0
    while chat_pb2.CHAT_STATUS_WAITING not in seen:
        page = await served.call(
            "ListEvents",
            pb.ListEventsRequest(
                chat_id=parent.chat_id, after_sequence=after, wait=Duration(seconds=10)
            ),
        )
        after = page.events[-1].sequence
        seen += [
            it.subagent_changed.status
            for it in page.events
            if it.WhichOneof("event") == "subagent_changed"
        ]
    assert seen == [chat_pb2.CHAT_STATUS_PENDING, chat_pb2.CHAT_STATUS_WAITING]
    read = await served.call("GetChat", pb.GetChatRequest(chat_id=child.chat_id))
    assert read.chat.status == chat_pb2.CHAT_STATUS_WAITING
