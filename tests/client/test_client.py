"""Unary calls: tried again with the same request id, and errors that say what to do."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import grpc
import msgspec
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, tool_pb2
from chatd_client import (
    Client,
    Endpoint,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    SyncClient,
    ToolFailed,
    ToolRunner,
    find_endpoint,
    tool,
)
from chatd_client.tools import RESULT_BYTES_MAX
from tests.client.scripted import Script, delta, ended, scripted_server


@tool
async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> dict[str, str]:
    """Say what the weather is in a city."""
    if city == "Nowhere":
        raise ToolFailed("there is no such city")
    return {"city": city, "temperature": f"21 {unit}"}


@tool
def broken(count: int) -> str:
    """Fail with a defect."""
    return str(1 // count)


@tool
def long(size: int) -> str:
    """Return this many bytes."""
    return "x" * size


async def test_a_write_is_tried_again_with_the_same_request_id() -> None:
    """A lost answer makes one chat, not two: the id is made once per call, not per try."""
    answers: list[Any] = [
        grpc.StatusCode.UNAVAILABLE,
        chat_service_pb2.CreateChatResponse(chat=chat_pb2.Chat(chat_id="c1")),
    ]
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = lambda _: answers.pop(0)
        chat = await client.create_chat("hello")
        assert chat.id == "c1"
        first, second = service.calls
        assert first.request_id == second.request_id != ""


async def test_an_answer_of_the_server_is_not_tried_again() -> None:
    """Another try would also get NOT_FOUND."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = lambda _: grpc.StatusCode.NOT_FOUND
        with pytest.raises(NotFound):
            await client.chat("c").get()
        assert len(service.calls) == 1


def test_the_schema_of_a_tool_comes_from_its_type_hints() -> None:
    """The schema is an object with exactly the parameters of the function."""
    schema = msgspec.json.decode(get_weather.input_schema_json)
    assert schema["type"] == "object"
    assert schema["required"] == ["city"]
    assert schema["properties"]["city"] == {"type": "string"}
    assert schema["properties"]["unit"] == {"enum": ["C", "F"], "default": "C"}
    assert get_weather.description == "Say what the weather is in a city."


@pytest.mark.parametrize(
    ("call", "text", "is_error"),
    [
        pytest.param('{"city":"Oslo"}', '{"city":"Oslo","temperature":"21 C"}', False, id="runs"),
        pytest.param('{"city":"Nowhere"}', "there is no such city", True, id="says why"),
        pytest.param('{"town":"Oslo"}', "the arguments do not fit", True, id="bad arguments"),
        pytest.param("{", "the arguments do not fit", True, id="no JSON"),
    ],
)
async def test_a_call_gives_one_result_whatever_happens(
    call: str, text: str, is_error: bool
) -> None:
    """Success, ToolFailed, and wrong arguments all give a result."""
    pending = tool_pb2.PendingToolCall(
        tool_call_id="1", tool_name="get_weather", arguments_json=call
    )
    result = await get_weather.result(pending)
    assert result.tool_call_id == "1"
    assert (result.output_json or result.output_text).startswith(text)
    assert result.is_error is is_error


async def test_of_a_defect_the_model_gets_the_type_only() -> None:
    """A traceback may hold secrets, so the model gets only the type of the exception."""
    pending = tool_pb2.PendingToolCall(tool_call_id="1", arguments_json='{"count":0}')
    result = await broken.result(pending)
    assert result.output_text == "broken failed: ZeroDivisionError"


async def test_a_result_that_is_too_large_is_an_error_for_the_model() -> None:
    """Submitted as it is, it would be refused, and the turn would wait for its deadline."""
    pending = tool_pb2.PendingToolCall(tool_call_id="1", arguments_json='{"size":524289}')
    result = await long.result(pending)
    assert result.is_error
    assert "524289 bytes" in result.output_text
    pending.arguments_json = '{"size":524288}'
    assert len((await long.result(pending)).output_text) == RESULT_BYTES_MAX


@pytest.mark.parametrize("words", ["ä" * RESULT_BYTES_MAX, "a\ud800b"], ids=["long", "no UTF-8"])
async def test_the_text_of_a_failure_is_cut_to_the_limit(words: str) -> None:
    """The text often comes from elsewhere; it must not end the run."""

    @tool
    def failing() -> None:
        """Fail in these words."""
        raise ToolFailed(words)

    result = await failing.result(tool_pb2.PendingToolCall(tool_call_id="1"))
    assert result.is_error
    assert 0 < len(result.output_text.encode()) <= RESULT_BYTES_MAX
    assert result.output_text[0] == words[0]


async def test_a_tool_does_not_run_for_an_action_that_is_over() -> None:
    """A log tells of it, somebody answered it long ago: the effect must not come again. The
    open one is run with the arguments that it has now: the log leaves long ones out.
    """
    over, owed = (
        tool_pb2.PendingAction(
            sequence=sequence,
            tool_calls=[
                tool_pb2.PendingToolCall(
                    tool_call_id=str(sequence),
                    tool_name="get_weather",
                    arguments_json='{"city":"Oslo"}',
                )
            ],
        )
        for sequence in (3, 7)
    )

    def answer(request: Any) -> Any:
        if isinstance(request, chat_service_pb2.ListPendingActionsRequest):
            return chat_service_pb2.ListPendingActionsResponse(actions=[owed])
        return chat_service_pb2.SubmitToolResultsResponse()

    logged = tool_pb2.PendingAction()
    logged.CopyFrom(owed)
    logged.tool_calls[0].arguments_json = ""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = answer
        required = [
            chat_service_pb2.SubscribeResponse(
                event=event_pb2.ChatEvent(action_required=event_pb2.ActionRequired(action=action))
            )
            for action in (over, logged)
        ]
        end = ended(event_pb2.STREAM_END_REASON_UNTIL_REACHED)
        service.scripts = [Script([*required, end])]
        async for _ in ToolRunner(client.chat("c"), [get_weather]).follow():
            pass
    submitted = [
        (it.results[0].tool_call_id, it.results[0].is_error)
        for it in service.calls
        if isinstance(it, chat_service_pb2.SubmitToolResultsRequest)
    ]
    assert submitted == [("7", False)]


async def test_calls_of_one_action_are_submitted_together() -> None:
    """One submit answers every call of the action."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.answer = lambda _: chat_service_pb2.SubmitToolResultsResponse()
        action = tool_pb2.PendingAction(
            tool_calls=[
                tool_pb2.PendingToolCall(
                    tool_call_id=str(number), tool_name="get_weather", arguments_json=arguments
                )
                for number, arguments in enumerate(('{"city":"Oslo"}', "{}"))
            ]
        )
        await ToolRunner(client.chat("c"), [get_weather]).answer(action)
        (request,) = service.calls
        assert [(it.tool_call_id, it.is_error) for it in request.results] == [
            ("0", False),
            ("1", True),
        ]
        assert not request.allow_partial


async def test_the_sync_twin_does_the_same() -> None:
    """Scripts without an event loop get the same answers."""
    async with scripted_server() as (service, address):
        service.answer = lambda r: chat_service_pb2.GetChatResponse(
            chat=chat_pb2.Chat(chat_id=r.chat_id, title="t")
        )

        def script() -> str:
            with SyncClient(address, "chatd_k") as client:
                return client.chat("c").get().title

        assert await asyncio.to_thread(script) == "t"


async def test_a_client_without_a_key_is_told_where_keys_come_from() -> None:
    """The server's message is for programs that write the metadata themselves."""
    async with (
        scripted_server() as (service, address),
        Client(endpoint=Endpoint(address, "")) as client,
    ):
        service.answer = lambda _: grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(PermissionDenied, match=r"CHATD_KEY.*CHATD_HOME"):
            await client.create_chat()


async def test_the_sync_twin_lists_what_its_chats_wait_for() -> None:
    """A script can answer all of them, as its asynchronous twin can."""
    async with scripted_server() as (service, address):
        action = tool_pb2.PendingAction(chat_id="c", sequence=7)
        service.answer = lambda _: chat_service_pb2.ListPendingActionsResponse(actions=[action])

        def script() -> list[str]:
            with SyncClient(address, "chatd_k") as client:
                return [it.chat_id for it in client.pending_actions()]

        assert await asyncio.to_thread(script) == ["c"]


@pytest.mark.parametrize(
    "address",
    [
        *("localhost", "127.0.0.1:99999", "h:0", "http://h:1", "a:1,b:2", "::1:7410", "h:", ":1"),
        *("h:1 ", "h:1/x", "dns:///h:1", "[::1]", "h:\u0663"),
    ],
)
def test_an_invalid_address_is_refused_before_it_is_used(address: str) -> None:
    """With grpc it would mean another port, or an unclear message."""
    words = f"'{address}' is not an address of a server: give host:port, such as 127.0.0.1:7410"
    makers: list[Callable[[], object]] = [
        lambda: Client(address, "chatd_k"),
        lambda: SyncClient(address, "chatd_k"),
        lambda: Endpoint(address, "chatd_k"),
    ]
    for make in makers:
        with pytest.raises(InvalidRequest) as refused:
            make()
        assert str(refused.value) == words


@pytest.mark.parametrize("address", ["h:1", "[::1]:65535", "a-b.example.org:443", "my_host:7410"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    """An IPv6 host is in brackets."""
    assert Endpoint(address, "chatd_k").address == address


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"chatd_a\nchatd_b\n"])
def test_an_invalid_root_key_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    """The message names the file: it may be damaged, or belong to another program."""
    monkeypatch.delenv("CHATD_KEY", raising=False)
    monkeypatch.setenv("CHATD_HOME", str(tmp_path))
    (tmp_path / "root.key").write_bytes(content)
    with pytest.raises(PermissionDenied, match=r"root\.key"):
        find_endpoint()


@pytest.mark.parametrize(
    "content, address",
    [
        ("", "127.0.0.1:7410"),
        ("port = 7777\n", "127.0.0.1:7777"),
        ('host = "0.0.0.0"\nport = 7777\n', "127.0.0.1:7777"),
        ('host = "::"\n', "[::1]:7410"),
    ],
)
def test_the_root_key_of_a_home_goes_to_the_server_of_that_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, address: str
) -> None:
    """Its settings say where that is; another program may listen on the default port."""
    for name in ("CHATD_ADDRESS", "CHATD_HOST", "CHATD_PORT", "CHATD_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "root.key").write_text("chatd_secret\n")
    (tmp_path / "chatd.toml").write_text(content)
    assert find_endpoint(home=tmp_path) == Endpoint(address, "chatd_secret")
    (tmp_path / "chatd.toml").write_text("port = ")
    with pytest.raises(PermissionDenied, match=r"chatd\.toml"):
        find_endpoint(home=tmp_path)


def test_a_key_never_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The root key is found in the home folder, and a repr does not tell it."""
    monkeypatch.delenv("CHATD_KEY", raising=False)
    monkeypatch.setenv("CHATD_HOME", str(tmp_path))
    (tmp_path / "root.key").write_text("chatd_secret\n")
    endpoint = find_endpoint()
    assert endpoint == Endpoint(endpoint.address, "chatd_secret")
    assert "secret" not in repr(endpoint)


async def test_the_sync_twin_says_that_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Closing again is nothing; using it is said in its own words, also by an open stream. No task
    is left that asyncio would complain of.
    """

    def script(address: str) -> None:
        with SyncClient(address, "chatd_k") as client:
            chat = client.chat("c")
            stream = chat.follow()
            next(stream)
        client.close()
        for use in (
            client.server_info,
            chat.get,
            lambda: next(stream),
            client.list_chats().__next__,
        ):
            with pytest.raises(RuntimeError, match="this client is closed"):
                use()

    async with scripted_server() as (service, address):
        service.scripts = [Script([delta("a", at=0)])]
        await asyncio.to_thread(script, address)
    gc.collect()
    assert [it.message for it in caplog.records if it.name == "asyncio"] == []
