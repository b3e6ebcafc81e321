"""Who may call: every RPC but health and GetServerInfo needs a valid key."""

import asyncio
import stat
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import tool_pb2
from chatd_server.hub.watch import WATCH_TAG
from chatd_server.rpc.calls import GROUPS, SERVICES
from chatd_server.rpc.edge.auth import KEY_CACHE_SECONDS
from chatd_server.service.keys import Keys
from tests.kit.server import Refusal, Served, bearer, refused, said

METHODS = [
    (f"/{service.full_name}/{method.name}", method.server_streaming)
    for service in SERVICES
    for method in service.methods
    if method.name != "GetServerInfo"
]


def opened(served: Served, path: str, is_streaming: bool, metadata: Any) -> Any:
    """Begin a call with an empty request."""
    kind = served.channel.unary_stream if is_streaming else served.channel.unary_unary
    made: Any = kind(path)
    return made(b"", metadata=metadata)


async def test_every_rpc_needs_a_key(served: Served) -> None:
    """Without one the answer is UNAUTHENTICATED, before any other check."""
    for path, is_streaming in METHODS:

        async def call(path: str = path, is_streaming: bool = is_streaming) -> None:
            opening = opened(served, path, is_streaming, ())
            await (opening.read() if is_streaming else opening)

        refusal = await refused(call)
        assert (path, refusal.reason) == (path, "UNAUTHENTICATED")
        assert refusal.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header",
    ["Bearer nonsense", "Basic chatd_x", "Bearer chatd_unknown", "chatd_x", "Bearer " + "x" * 3000],
    ids=range(5),
)
async def test_a_wrong_key_is_refused_with_words(served: Served, header: str) -> None:
    """The message says what a key looks like, and never repeats what was sent."""
    refusal = await refused(
        lambda: served.chats.ListChats(pb.ListChatsRequest(), metadata=(("authorization", header),))
    )
    assert refusal.reason == "UNAUTHENTICATED"
    assert header.rsplit(maxsplit=1)[-1] not in refusal.message


async def test_reflection_needs_a_key_too(served: Served) -> None:
    """Its answer is the whole contract, which is for callers with a key."""
    channel: Any = served.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")

    async def services(metadata: Any) -> set[str]:
        call = stub.ServerReflectionInfo(iter([ask]), metadata=metadata)
        answer = await call.read()
        return {it.name for it in answer.list_services_response.service}

    refusal = await refused(lambda: services(()))
    assert refusal.reason == "UNAUTHENTICATED"
    assert "chatd.v1.ChatService" in await services(served.auth)


async def test_the_root_key_is_readable_by_its_owner_alone(served: Served) -> None:
    """No other user of the machine may read it."""
    path = served.app.config.root_key_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert served.key.startswith("chatd_")


NO_ID = "00000000-0000-7000-8000-000000000000"


def requests_about_a_chat(message_id: str = NO_ID) -> dict[str, Any]:
    """Return a sound request of every RPC about a chat; only its `chat_id` is missing."""
    result = tool_pb2.ToolResultInput(tool_call_id="c1", output_text="x")
    sound: dict[str, Any] = {
        "GetChat": pb.GetChatRequest(),
        "SendMessage": pb.SendMessageRequest(message=said("x")),
        "ListMessages": pb.ListMessagesRequest(),
        "UpdateChat": pb.UpdateChatRequest(),
        "ArchiveChat": pb.ArchiveChatRequest(),
        "UnarchiveChat": pb.UnarchiveChatRequest(),
        "DeleteChat": pb.DeleteChatRequest(),
        "ForkChat": pb.ForkChatRequest(),
        "EditMessage": pb.EditMessageRequest(message_id=message_id, message=said("x")),
        "ListQueuedMessages": pb.ListQueuedMessagesRequest(),
        "DeleteQueuedMessage": pb.DeleteQueuedMessageRequest(message_id=message_id),
        "PromoteQueuedMessage": pb.PromoteQueuedMessageRequest(message_id=message_id),
        "ReorderQueuedMessages": pb.ReorderQueuedMessagesRequest(message_ids=[message_id]),
        "RegenerateTitle": pb.RegenerateTitleRequest(),
        "RetryTurn": pb.RetryTurnRequest(),
        "InterruptChat": pb.InterruptChatRequest(),
        "CompactChat": pb.CompactChatRequest(),
        "ClearContext": pb.ClearContextRequest(),
        "SubmitToolResults": pb.SubmitToolResultsRequest(results=[result]),
        "ListPendingActions": pb.ListPendingActionsRequest(),
        "ListEvents": pb.ListEventsRequest(),
        "Subscribe": pb.SubscribeRequest(),
        "RunTurn": pb.RunTurnRequest(message=said("x")),
    }
    rpcs = {method.name: method for service in SERVICES for method in service.methods}
    answered = {name for group in GROUPS for name in group}
    about_a_chat = {it for it in answered if "chat_id" in rpcs[it].input_type.fields_by_name}
    assert sound.keys() == about_a_chat, "give each RPC about a chat a request that is sound"
    return sound


async def refusal_by(served: Served, method: str, request: Any, key: str) -> Refusal:
    """Call an RPC that must be refused, a stream by its first read."""
    call = getattr(served.chats, method)(request, metadata=bearer(key))
    return await refused(call.read if hasattr(call, "read") else partial(_answer, call))


async def _answer(call: Any) -> Any:
    return await call


async def test_a_strangers_chat_is_not_found(served: Served) -> None:
    """Another owner learns nothing, not even that the chat exists, whatever else is wrong."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hello")))
    chat_id, message_id = created.chat.chat_id, created.message.message_id
    stranger, _ = await served.another_key("stranger")
    wrong: dict[str, Any] = {
        "ListMessages": pb.ListMessagesRequest(page_size=-1),
        "UpdateChat": pb.UpdateChatRequest(update_mask=FieldMask(paths=["status"])),
        "ListQueuedMessages": pb.ListQueuedMessagesRequest(page_token="x"),
        "EditMessage": pb.EditMessageRequest(message_id="no uuid", message=said("x")),
        "ForkChat": pb.ForkChatRequest(message_id="no uuid"),
        "InterruptChat": pb.InterruptChatRequest(request_id="no uuid"),
        "SubmitToolResults": pb.SubmitToolResultsRequest(),
        "ListEvents": pb.ListEventsRequest(after_sequence=99),
    }
    for method, request in (*requests_about_a_chat(message_id).items(), *wrong.items()):
        request.chat_id = chat_id
        refusal = await refusal_by(served, method, request, stranger)
        assert (method, refusal.reason) == (method, "CHAT_NOT_FOUND")
        assert refusal.details == ["ResourceInfo"]
    assert not (await served.call("ListChats", pb.ListChatsRequest(), stranger)).chats


async def test_keys_of_one_owner_see_the_same_chats(served: Served) -> None:
    """A key is a way in; the chats belong to the owner."""
    first, _ = await served.another_key("ann")
    second, _ = await served.another_key("ann")
    made = await served.call("CreateChat", pb.CreateChatRequest(), first)
    found = await served.call("GetChat", pb.GetChatRequest(chat_id=made.chat.chat_id), second)
    assert found.chat.chat_id == made.chat.chat_id


async def test_a_revoked_key_stops_to_work_within_seconds(served: Served) -> None:
    """It is trusted for KEY_CACHE_SECONDS after the last look-up, and no longer."""
    key, key_id = await served.another_key("ann")
    await served.call("ListChats", pb.ListChatsRequest(), key)
    assert await Keys(served.app.database.keys, served.clock).revoke(key_id)
    await served.call("ListChats", pb.ListChatsRequest(), key)
    await served.clock.advance(KEY_CACHE_SECONDS)
    refusal = await served.refused("ListChats", pb.ListChatsRequest(), key)
    assert refusal.reason == "UNAUTHENTICATED"


async def test_an_open_stream_of_a_revoked_key_gets_nothing_more(served: Served) -> None:
    """It ends with UNAUTHENTICATED in place of its next response."""
    key, key_id = await served.another_key("ann")
    other, _ = await served.another_key("ann")
    chat_id = (await served.call("CreateChat", pb.CreateChatRequest(), key)).chat.chat_id
    request = pb.SubscribeRequest(chat_id=chat_id)
    revoked, counting = (
        served.chats.Subscribe(request, metadata=bearer(it)) for it in (key, other)
    )
    for stream in (revoked, counting):
        while not (await stream.read()).event.HasField("caught_up"):
            pass
    assert await Keys(served.app.database.keys, served.clock).revoke(key_id)
    await served.clock.advance(KEY_CACHE_SECONDS)
    message = pb.SendMessageRequest(chat_id=chat_id, message=said("a secret"))
    await served.call("SendMessage", message, other)
    refusal = await refused(revoked.read)
    assert refusal.reason == "UNAUTHENTICATED"
    assert (await counting.read()).event.HasField("message_committed")
    counting.cancel()


async def test_a_revoked_key_gets_nothing_that_it_waited_for(served: Served) -> None:
    """The key is checked again when the wait of ListEvents ends."""
    key, key_id = await served.another_key("ann")
    other, _ = await served.another_key("ann")
    created = await served.call("CreateChat", pb.CreateChatRequest(), key)
    request = pb.ListEventsRequest(
        chat_id=created.chat.chat_id, after_sequence=created.sequence, wait=Duration(seconds=60)
    )
    waiting = asyncio.ensure_future(served.call("ListEvents", request, key))
    await served.clock.sleeping(WATCH_TAG)
    assert await Keys(served.app.database.keys, served.clock).revoke(key_id)
    await served.clock.advance(KEY_CACHE_SECONDS)
    message = pb.SendMessageRequest(chat_id=created.chat.chat_id, message=said("a secret"))
    await served.call("SendMessage", message, other)
    refusal = await refused(lambda: waiting)
    assert refusal.reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("wrong", [{"page_size": -1}, {"page_token": "x"}])
async def test_a_strangers_chat_is_not_found_whatever_else_is_wrong(
    served: Served, wrong: dict[str, Any]
) -> None:
    """Also where the chat is optional."""
    created = await served.call("CreateChat", pb.CreateChatRequest())
    key, _ = await served.another_key("ann")
    request = pb.ListPendingActionsRequest(chat_id=created.chat.chat_id, **wrong)
    assert (await served.refused("ListPendingActions", request, key)).reason == "CHAT_NOT_FOUND"


@pytest.mark.parametrize("second", ["the same", "unknown", "nonsense", "of a stranger"])
async def test_two_keys_in_one_call_are_refused(served: Served, second: str) -> None:
    """A proxy between client and server may check a different one than we do."""
    stranger, _ = await served.another_key("stranger")
    keys = {"the same": served.key, "unknown": "chatd_x", "of a stranger": stranger}
    metadata = (*served.auth, ("authorization", f"Bearer {keys.get(second, '')}"))
    for headers in (metadata, metadata[::-1]):
        refusal = await refused(
            lambda it=headers: served.chats.ListChats(pb.ListChatsRequest(), metadata=it)  # type: ignore[misc]  # bound per turn
        )
        assert refusal.reason == "UNAUTHENTICATED"
        assert "more than one" in refusal.message


async def test_the_scheme_is_no_matter_of_case(served: Served) -> None:
    """HTTP's schemes are case-insensitive, and clients use every spelling."""
    metadata = (("authorization", f"bEARER {served.key}"),)
    await served.chats.ListChats(pb.ListChatsRequest(), metadata=metadata)
    assert bearer("") == ()
