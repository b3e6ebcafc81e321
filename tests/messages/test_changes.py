"""UpdateChat, ArchiveChat, UnarchiveChat and DeleteChat over the API."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from chatd.v1 import chat_pb2, event_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.script import MODEL
from tests.kit.server import said
from tests.messages import states
from tests.messages.states import BUSY, STATES, refusal
from tests.subscribe.scene import Chat, Edge

TOOL = tool_pb2.ToolDefinition(name="see", input_schema_json='{"type": "object"}')
VALUES: dict[str, Any] = {
    "title": "new",
    "labels": {"of": "mine"},
    "model": MODEL,
    "system_prompt": "be brief",
    "tools": [TOOL],
    "action_timeout": Duration(seconds=7),
}


def updating(chat: Chat, *paths: str, etag: str = "", **values: Any) -> pb.UpdateChatRequest:
    """Return a request that sets these fields."""
    return pb.UpdateChatRequest(
        chat_id=chat.id,
        chat=chat_pb2.Chat(**values),
        update_mask=FieldMask(paths=paths),
        etag=etag,
    )


@pytest.mark.parametrize("name", STATES)
async def test_fields_change_in_every_status(edge: Edge, name: str) -> None:
    """Without a mask all that are set; the run goes on, and the status stays."""
    chat = await STATES[name](edge)
    before = await states.get(edge, chat)
    answer = await edge.call("UpdateChat", updating(chat, **VALUES))
    assert answer.chat.status == before.status
    for field, value in VALUES.items():
        changed = getattr(answer.chat, field)
        assert (dict(changed) if field == "labels" else changed) == value
    assert answer.chat.etag != before.etag
    newest = (await states.events(edge, chat))[-1]
    assert newest.sequence == answer.sequence
    assert newest.chat_updated.title == "new"
    assert newest.chat_updated.tools.names == ["see"]
    assert await states.get(edge, chat) == answer.chat


@pytest.mark.parametrize("field", VALUES)
async def test_only_fields_of_the_mask_are_read(edge: Edge, field: str) -> None:
    """The others of the request have no effect; the response is the whole chat."""
    chat = await states.waiting(edge)
    await edge.call("UpdateChat", updating(chat, title="old", labels={"a": "1"}))
    before = await states.get(edge, chat)
    answer = await edge.call("UpdateChat", updating(chat, field, **VALUES))
    changed = {
        it.name
        for it in chat_pb2.Chat.DESCRIPTOR.fields
        if getattr(answer.chat, it.name) != getattr(before, it.name)
    }
    own = {"etag", "head_sequence", "revision", "update_time"}
    assert changed - own == ({field} if field != "model" else set())


async def test_a_field_that_the_mask_names_and_the_chat_leaves_out_is_reset(edge: Edge) -> None:
    """To empty; the model to the server's default, the time to five minutes."""
    chat = await states.waiting(edge)
    await edge.call("UpdateChat", updating(chat, **VALUES))
    answer = await edge.call("UpdateChat", updating(chat, *VALUES))
    assert (answer.chat.title, answer.chat.system_prompt) == ("", "")
    assert not answer.chat.labels
    assert not answer.chat.tools
    assert answer.chat.model == MODEL
    assert answer.chat.action_timeout == Duration(seconds=300)


async def test_nothing_is_written_when_nothing_changes(edge: Edge) -> None:
    """No event, no new etag."""
    chat = await states.waiting(edge)
    first = await edge.call("UpdateChat", updating(chat, title="same"))
    assert await edge.call("UpdateChat", updating(chat, title="same")) == first
    assert await edge.call("UpdateChat", updating(chat)) == first


@pytest.mark.parametrize("etag", ["v1", "nonsense", "v", "v0", "v" + "9" * 64])
async def test_an_old_etag_is_refused(edge: Edge, etag: str) -> None:
    """ETAG_MISMATCH: the caller changes what it has not read. The run does not change the etag."""
    chat = await states.waiting(edge)
    await edge.call("UpdateChat", updating(chat, title="first"))
    told = await refusal(edge, "UpdateChat", updating(chat, title="second", etag=etag))
    assert (told.code, told.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    read = await states.get(edge, chat)
    await chat.send("a turn does not matter")
    assert (await edge.call("UpdateChat", updating(chat, title="3", etag=read.etag))).chat.title


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"title": "x" * 201}, "chat.title"),
        ({"labels": {"x" * 64: "1"}}, 'chat.labels["' + "x" * 64 + '"]'),
        ({"system_prompt": "x" * 262_145}, "chat.system_prompt"),
        ({"tools": [TOOL, TOOL]}, "chat.tools"),
        ({"tools": [tool_pb2.ToolDefinition(name="1")]}, "chat.tools[0].name"),
        (
            {"tools": [tool_pb2.ToolDefinition(name="a", input_schema_json="{")]},
            "chat.tools[0].input_schema_json",
        ),
        ({"action_timeout": Duration(seconds=604_801)}, "chat.action_timeout"),
        ({"model": "nobody/nothing"}, "chat.model"),
    ],
)
async def test_the_rules_of_a_new_chat_hold(edge: Edge, values: dict[str, Any], field: str) -> None:
    """Each violation names its field; a field that is not read breaks no rule."""
    chat = await states.waiting(edge)
    told = await refusal(edge, "UpdateChat", updating(chat, **values))
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.fields == [field]
    other = "title" if "title" not in values else "labels"
    await edge.call("UpdateChat", updating(chat, other, **values))


async def test_a_mask_names_only_what_can_be_changed(edge: Edge) -> None:
    """The words list what can."""
    chat = await states.waiting(edge)
    told = await refusal(edge, "UpdateChat", updating(chat, "status", "title", title="x"))
    assert told.fields == ["update_mask"]
    assert "action_timeout" in told.message


# --- archive and delete ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["waiting", "failed", "failed with a queue"])
async def test_an_idle_chat_is_archived_and_comes_back(edge: Edge, name: str) -> None:
    """Its status, its error and its queue stay; twice is success without a write."""
    builds = STATES | {"failed with a queue": lambda it: states.failed_with(it, "a")}
    chat = await builds[name](edge)
    before = await states.get(edge, chat)
    archive = pb.ArchiveChatRequest(chat_id=chat.id)
    answer = await edge.call("ArchiveChat", archive)
    assert answer.chat.archived
    assert answer.chat.status == before.status
    assert answer.chat.last_error == before.last_error
    assert await edge.call("ArchiveChat", archive) == pb.ArchiveChatResponse(
        chat=answer.chat, sequence=answer.sequence
    )
    newest = (await states.events(edge, chat))[-1].status_changed
    assert newest.archived
    back = await edge.call("UnarchiveChat", pb.UnarchiveChatRequest(chat_id=chat.id))
    assert not back.chat.archived
    assert back.chat.queued_message_count == before.queued_message_count


@pytest.mark.parametrize("name", BUSY)
async def test_a_busy_chat_is_not_archived(edge: Edge, name: str) -> None:
    """WRONG_STATUS with the status: interrupt it first."""
    chat = await STATES[name](edge)
    told = await refusal(edge, "ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    assert (told.reason, told.metadata["status"]) == ("WRONG_STATUS", chat.state.status.name)
    assert not (await states.get(edge, chat)).archived


async def test_an_archived_chat_is_read_but_not_written(edge: Edge) -> None:
    """Every write but labels, unarchive and delete is CHAT_ARCHIVED."""
    chat = await states.failed_with(edge, "a")
    message_id = (await states.history(edge, chat))[0].message_id
    queued = await edge.call("ListQueuedMessages", pb.ListQueuedMessagesRequest(chat_id=chat.id))
    queued_id = queued.queued_messages[0].message_id
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    of: dict[str, Any] = {"chat_id": chat.id}
    refused: dict[str, Any] = {
        "SendMessage": pb.SendMessageRequest(**of, message=said("x")),
        "EditMessage": pb.EditMessageRequest(**of, message_id=message_id, message=said("x")),
        "DeleteQueuedMessage": pb.DeleteQueuedMessageRequest(**of, message_id=queued_id),
        "PromoteQueuedMessage": pb.PromoteQueuedMessageRequest(**of, message_id=queued_id),
        "ReorderQueuedMessages": pb.ReorderQueuedMessagesRequest(**of, message_ids=[queued_id]),
        "RetryTurn": pb.RetryTurnRequest(**of),
        "InterruptChat": pb.InterruptChatRequest(**of),
        "UpdateChat": updating(chat, title="x"),
    }
    for method, request in refused.items():
        assert (method, (await refusal(edge, method, request)).reason) == (method, "CHAT_ARCHIVED")
    labelled = await edge.call("UpdateChat", updating(chat, labels={"a": "1"}))
    assert labelled.chat.archived
    assert await states.listed(edge, chat) == ["a"]
    fork = await edge.call("ForkChat", pb.ForkChatRequest(chat_id=chat.id))
    assert not fork.chat.archived
    await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=chat.id))


async def test_archived_chats_are_listed_only_when_asked_for(edge: Edge) -> None:
    """include_archived shows them."""
    chat = await states.waiting(edge)
    await edge.call("ArchiveChat", pb.ArchiveChatRequest(chat_id=chat.id))
    assert not (await edge.call("ListChats", pb.ListChatsRequest())).chats
    listed = await edge.call("ListChats", pb.ListChatsRequest(include_archived=True))
    assert [it.chat_id for it in listed.chats] == [chat.id]


@pytest.mark.parametrize("name", STATES)
async def test_a_chat_is_deleted_in_every_status_and_its_streams_end(edge: Edge, name: str) -> None:
    """stream_end says CHAT_DELETED; from then on the chat is not found."""
    chat = await STATES[name](edge)
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    answer = await edge.call("DeleteChat", pb.DeleteChatRequest(chat_id=chat.id))
    assert answer.sequence >= chat.state.head_sequence
    end = await follower.to_the_end()
    assert end.reason == event_pb2.STREAM_END_REASON_CHAT_DELETED
    for method, request in {
        "GetChat": pb.GetChatRequest(chat_id=chat.id),
        "DeleteChat": pb.DeleteChatRequest(chat_id=chat.id),
        "SendMessage": pb.SendMessageRequest(chat_id=chat.id, message=said("x")),
        "ForkChat": pb.ForkChatRequest(chat_id=chat.id),
    }.items():
        assert (method, (await refusal(edge, method, request)).reason) == (method, "CHAT_NOT_FOUND")
    assert not (await edge.call("ListChats", pb.ListChatsRequest())).chats
