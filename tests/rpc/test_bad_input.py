"""Bad input: a clear error each time, nothing written, and the server goes on."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from chatd.v1 import chat_pb2, message_pb2, tool_pb2
from chatd.v1 import chat_service_pb2 as pb
from chatd_server.domain.ids import ChatId
from chatd_server.domain.limits import (
    REQUEST_BYTES_MAX,
    REQUEST_VALUES_MAX,
    USER_MESSAGE_BYTES_MAX,
)
from chatd_server.rpc.calls import GROUPS
from tests.kit.server import Served, refused, said
from tests.rpc.test_auth import refusal_by, requests_about_a_chat

ANSWERS = {name: answer for group in GROUPS for name, answer in group.items()}
UNKNOWN = "01890000-0000-7000-8000-000000000000"


@asynccontextmanager
async def nothing_changes(served: Served, chat_id: str) -> AsyncIterator[None]:
    """Hold that a chat, its rows and the list of chats are the same afterwards, and that a new
    request is answered.
    """

    async def everything() -> Mapping[str, Any]:
        messages = pb.ListMessagesRequest(chat_id=chat_id)
        return {
            "chat": await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id)),
            "messages": await served.call("ListMessages", messages),
            "events": await served.call("ListEvents", pb.ListEventsRequest(chat_id=chat_id)),
            "chats": await served.call("ListChats", pb.ListChatsRequest()),
            "revision": (await served.app.database.store.load(ChatId(chat_id))).revision,
        }

    before = await everything()
    yield
    assert await everything() == before


@pytest.fixture
async def chat_id(served: Served) -> str:
    """An idle chat with one answered message."""
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said("hi")))
    await served.settled(created.chat.chat_id)
    return str(created.chat.chat_id)


def tool(name: str = "look", schema: str = "") -> tool_pb2.ToolDefinition:
    """Return a client tool."""
    return tool_pb2.ToolDefinition(name=name, input_schema_json=schema)


CREATES: dict[str, tuple[pb.CreateChatRequest, str, list[str]]] = {
    "unknown model": (pb.CreateChatRequest(model="nobody/none"), "MODEL_NOT_FOUND", ["model"]),
    "model without provider": (pb.CreateChatRequest(model="x"), "MODEL_NOT_FOUND", ["model"]),
    "unknown model of the turn": (
        pb.CreateChatRequest(message=said("x"), options=chat_pb2.TurnOptions(model="n/n")),
        "MODEL_NOT_FOUND",
        ["options.model"],
    ),
    "empty message": (
        pb.CreateChatRequest(message=message_pb2.UserMessage()),
        "INVALID_FIELD",
        ["message.parts"],
    ),
    "empty text": (
        pb.CreateChatRequest(message=said("")),
        "INVALID_FIELD",
        ["message.parts[0].text.text"],
    ),
    "only white space": (
        pb.CreateChatRequest(message=said(" \n ")),
        "INVALID_FIELD",
        ["message.parts"],
    ),
    "part of no kind": (
        pb.CreateChatRequest(message=message_pb2.UserMessage(parts=[message_pb2.UserPart()])),
        "INVALID_FIELD",
        ["message.parts[0].kind"],
    ),
    "duplicate tool names": (
        pb.CreateChatRequest(tools=[tool(), tool()]),
        "INVALID_FIELD",
        ["tools"],
    ),
    "tool name of a built-in": (
        pb.CreateChatRequest(tools=[tool("current_time")]),
        "INVALID_FIELD",
        ["tools[0].name"],
    ),
    "tool name with a space": (
        pb.CreateChatRequest(tools=[tool("a b")]),
        "INVALID_FIELD",
        ["tools[0].name"],
    ),
    "schema that is no JSON": (
        pb.CreateChatRequest(tools=[tool(schema="{")]),
        "INVALID_FIELD",
        ["tools[0].input_schema_json"],
    ),
    "schema that is no object's": (
        pb.CreateChatRequest(tools=[tool(schema='{"type":"string"}')]),
        "INVALID_FIELD",
        ["tools[0].input_schema_json"],
    ),
    "no uuid as request id": (
        pb.CreateChatRequest(request_id="once"),
        "INVALID_FIELD",
        ["request_id"],
    ),
    "options without a message": (
        pb.CreateChatRequest(options=chat_pb2.TurnOptions(max_steps=1)),
        "INVALID_FIELD",
        ["options"],
    ),
    "a deadline of eight days": (
        pb.CreateChatRequest(action_timeout=Duration(seconds=8 * 86_400)),
        "INVALID_FIELD",
        ["action_timeout"],
    ),
    "long label": (
        pb.CreateChatRequest(labels={"k": "v" * 257}),
        "INVALID_FIELD",
        ['labels["k"]'],
    ),
    "everything at once": (
        pb.CreateChatRequest(
            request_id="x",
            title="t" * 201,
            model="nobody/none",
            tools=[tool("current_time"), tool("a b", "[")],
            message=said(" "),
            options=chat_pb2.TurnOptions(max_steps=0),
        ),
        "INVALID_FIELD",
        [
            "request_id",
            "title",
            "tools[1].name",
            "options.max_steps",
            "model",
            "tools[0].name",
            "tools[1].input_schema_json",
            "message.parts",
        ],
    ),
}


@pytest.mark.parametrize("name", CREATES)
async def test_a_chat_that_breaks_a_rule_is_not_made(
    served: Served, chat_id: str, name: str
) -> None:
    """All violations at once, each with its field."""
    request, reason, fields = CREATES[name]
    async with nothing_changes(served, chat_id):
        refusal = await served.refused("CreateChat", request)
        assert (refusal.reason, refusal.fields) == (reason, fields)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.details == ["BadRequest"]
        assert all(words for _, words in refusal.violations)


async def test_an_unknown_model_is_told_with_models_that_exist(served: Served) -> None:
    """The metadata lists some for machines, and the message for people."""
    refusal = await served.refused("CreateChat", pb.CreateChatRequest(model="no/no"))
    assert "sandbox/echo" in refusal.metadata["models"]


@pytest.mark.parametrize("unknown", [UNKNOWN, "no-uuid", "", "' OR 1=1 --", UNKNOWN.upper() + "x"])
async def test_an_unknown_chat_is_not_found(served: Served, chat_id: str, unknown: str) -> None:
    """A malformed id is refused like the id of another owner's chat, by every RPC about a chat."""
    async with nothing_changes(served, chat_id):
        for method, request in requests_about_a_chat().items():
            if not (unknown or ANSWERS[method].is_about_a_chat):
                continue  # it may be about all chats
            request.chat_id = unknown
            refusal = await refusal_by(served, method, request, served.key)
            assert (method, refusal.reason) == (method, "CHAT_NOT_FOUND")
            assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_a_message_of_too_many_bytes_is_refused_by_its_size(
    served: Served, chat_id: str
) -> None:
    """Several parts are below their own limit, and too large together."""
    part = message_pb2.UserPart(text=message_pb2.UserText(text="x" * 200_000))
    message = message_pb2.UserMessage(parts=[part] * 3)
    async with nothing_changes(served, chat_id):
        request = pb.SendMessageRequest(chat_id=chat_id, message=message)
        refusal = await served.refused("SendMessage", request)
        assert refusal.fields == ["message.parts"]
        assert str(USER_MESSAGE_BYTES_MAX) in refusal.violations[0][1]


async def test_a_request_above_our_limit_is_refused_in_our_words(
    served: Served, chat_id: str
) -> None:
    """The limit of gRPC itself is higher, and its answer is documented."""
    async with nothing_changes(served, chat_id):
        body = b"\x0a" + b"x" * REQUEST_BYTES_MAX
        refusal = await refused(lambda: served.raw("SendMessage", body))
        assert refusal.reason == "MESSAGE_TOO_LARGE"
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.message.startswith("the request has")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.raw("SendMessage", b"x" * (5 * 1024 * 1024))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "body",
    [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x05ab", b"\x00", b"\x0a\x03\xed\xa0\x80"],
    ids=["no message", "invalid UTF-8", "cut", "field zero", "a lone surrogate"],
)
async def test_bytes_that_are_no_request_are_malformed(
    served: Served, chat_id: str, body: bytes
) -> None:
    """Also without a key: decoding comes first, and reveals nothing."""
    async with nothing_changes(served, chat_id):
        for key in (None, ""):
            refusal = await refused(partial(served.raw, "GetChat", body, key))
            assert refusal.reason == "MALFORMED_REQUEST"
            assert "chatd.v1.GetChatRequest" in refusal.message


async def test_nul_in_a_message_survives(served: Served) -> None:
    """NUL is text; it passes through store and wire unchanged."""
    words = "a\x00b\U0001f600"
    created = await served.call("CreateChat", pb.CreateChatRequest(message=said(words)))
    await served.settled(created.chat.chat_id)
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=created.chat.chat_id))
    assert listed.messages[0].parts[0].text.text == words


async def test_a_wrong_cursor_is_refused_with_what_the_log_has(
    served: Served, chat_id: str
) -> None:
    """Beyond the head: after the restore of a backup, for example."""
    head = (await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))).chat.head_sequence
    async with nothing_changes(served, chat_id):
        request = pb.ListEventsRequest(chat_id=chat_id, after_sequence=head + 1)
        by_page = await served.refused("ListEvents", request)
        cursor = chat_pb2.Cursor(sequence=head + 1)
        subscribe = pb.SubscribeRequest(chat_id=chat_id, resume_from=cursor)
        by_stream = await refused(lambda: served.subscribe(subscribe))
        for refusal in (by_page, by_stream):
            assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
            assert refusal.reason == "CURSOR_AHEAD"
            assert refusal.metadata == {"oldest_sequence": "1", "head_sequence": str(head)}


async def test_pages_refuse_sizes_and_tokens_that_make_no_sense(
    served: Served, chat_id: str
) -> None:
    """Negative sizes, invented tokens, tokens of another list."""
    async with nothing_changes(served, chat_id):
        bad = [
            ("ListChats", pb.ListChatsRequest(page_size=-1), "page_size"),
            ("ListChats", pb.ListChatsRequest(page_token="zzz"), "page_token"),
            ("ListMessages", pb.ListMessagesRequest(chat_id=chat_id, page_size=-5), "page_size"),
            (
                "ListMessages",
                pb.ListMessagesRequest(chat_id=chat_id, page_token="AAAA"),
                "page_token",
            ),
            ("ListPendingActions", pb.ListPendingActionsRequest(page_token="x"), "page_token"),
            (
                "ListEvents",
                pb.ListEventsRequest(chat_id=chat_id, after_sequence=-1),
                "after_sequence",
            ),
            (
                "ListEvents",
                pb.ListEventsRequest(chat_id=chat_id, wait=Duration(seconds=61)),
                "wait",
            ),
        ]
        for method, request, field in bad:
            refusal = await served.refused(method, request)
            assert (method, refusal.reason, refusal.fields) == (method, "INVALID_FIELD", [field])


async def test_a_wrong_status_is_told_with_the_actual_one(served: Served, chat_id: str) -> None:
    """Results that were not asked for."""
    request = pb.SubmitToolResultsRequest(chat_id=chat_id)
    request.results.add(tool_call_id="call_1", output_text="x")
    async with nothing_changes(served, chat_id):
        refusal = await served.refused("SubmitToolResults", request)
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.reason == "NOT_WAITING_FOR_ACTION"
        assert refusal.metadata["status"] == "WAITING"
        assert refusal.details == ["PreconditionFailure"]


async def test_interrupting_what_does_not_run_is_success_and_changes_nothing(
    served: Served, chat_id: str
) -> None:
    """There is nothing to stop: interrupted is false."""
    async with nothing_changes(served, chat_id):
        answer = await served.call("InterruptChat", pb.InterruptChatRequest(chat_id=chat_id))
        assert not answer.interrupted


MANY: dict[str, tuple[str, Message]] = {
    "parts": (
        "SendMessage",
        pb.SendMessageRequest(
            chat_id="x", message=message_pb2.UserMessage(parts=[message_pb2.UserPart()] * 100_000)
        ),
    ),
    "labels": ("CreateChat", pb.CreateChatRequest(labels={str(n): "" for n in range(10_000)})),
    "tools": ("CreateChat", pb.CreateChatRequest(tools=[tool_pb2.ToolDefinition()] * 100_000)),
    "results": (
        "SubmitToolResults",
        pb.SubmitToolResultsRequest(chat_id="x", results=[tool_pb2.ToolResultInput()] * 100_000),
    ),
    "statuses": (
        "ListChats",
        pb.ListChatsRequest(statuses=[chat_pb2.CHAT_STATUS_ERROR] * 100_000),
    ),
    "tool names": (
        "ListPendingActions",
        pb.ListPendingActionsRequest(tool_names=["a"] * 100_000),
    ),
}


@pytest.mark.parametrize(("method", "request_"), MANY.values(), ids=MANY.keys())
async def test_a_request_of_very_many_values_is_refused_before_it_is_decoded(
    served: Served, method: str, request_: Message
) -> None:
    """To decode and validate a million of them would block all clients for seconds."""
    refusal = await served.refused(method, request_)
    assert refusal.reason == "MESSAGE_TOO_LARGE"
    assert f"more than {REQUEST_VALUES_MAX} values" in refusal.message


LISTS: dict[str, tuple[str, Message, str, int]] = {
    "parts": (
        "CreateChat",
        pb.CreateChatRequest(
            title="x" * 300,
            message=message_pb2.UserMessage(parts=[message_pb2.UserPart()] * 257),
        ),
        "message.parts",
        256,
    ),
    "labels": (
        "CreateChat",
        pb.CreateChatRequest(labels={str(n): "" for n in range(65)}),
        "labels",
        64,
    ),
    "tools": (
        "CreateChat",
        pb.CreateChatRequest(tools=[tool_pb2.ToolDefinition(name=f"t{n}") for n in range(1_300)]),
        "tools",
        128,
    ),
    "statuses": (
        "ListChats",
        pb.ListChatsRequest(statuses=[chat_pb2.CHAT_STATUS_ERROR] * 257),
        "statuses",
        256,
    ),
    "tool names": (
        "ListPendingActions",
        pb.ListPendingActionsRequest(tool_names=["a"] * 257),
        "tool_names",
        256,
    ),
}


@pytest.mark.parametrize(("method", "request_", "field", "most"), LISTS.values(), ids=LISTS.keys())
async def test_a_list_that_is_too_long_is_named_and_not_looked_into(
    served: Served, method: str, request_: Message, field: str, most: int
) -> None:
    """Its items and the other fields are not validated, because that takes too long."""
    refusal = await served.refused(method, request_)
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.fields == [field]
    assert f"at most {most}" in refusal.violations[0][1]


async def test_a_list_that_is_too_long_says_nothing_about_foreign_chats(served: Served) -> None:
    """For another owner the chat does not exist, whatever else is wrong."""
    results = [tool_pb2.ToolResultInput()] * 257
    request = pb.SubmitToolResultsRequest(chat_id=UNKNOWN, results=results)
    assert (await served.refused("SubmitToolResults", request)).reason == "CHAT_NOT_FOUND"


async def test_a_status_that_is_named_often_filters_once(served: Served, chat_id: str) -> None:
    """It means what one id means."""
    waiting = chat_pb2.CHAT_STATUS_WAITING
    listed = await served.call("ListChats", pb.ListChatsRequest(statuses=[waiting] * 256))
    assert [chat.chat_id for chat in listed.chats] == [chat_id]
