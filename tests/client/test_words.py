"""Error messages for a call that fails inside grpc."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import Client, InvalidRequest, Unavailable
from tests.client.scripted import scripted_server
from tests.client.test_retry_seconds import held
from tests.kit.server import serving

WORDS_OF_GRPC = ("ipv4:", "connect to", "UNAVAILABLE", "errno", "larger than max", "SERVER:")
LONE = "a\ud800"


def nobody() -> str:
    """Return an address where no server listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        return f"127.0.0.1:{other.getsockname()[1]}"


def is_plain(error: Exception) -> bool:
    """Say whether an error is one line without text of grpc."""
    words = str(error)
    return not any(word in words for word in (*WORDS_OF_GRPC, "\n"))


async def test_a_server_that_is_not_there_is_reported_in_one_sentence() -> None:
    """The address, how long it was tried, what to do; grpc's error is the cause."""
    address = nobody()
    async with Client(address, "chatd_k") as client:
        held(client)
        with pytest.raises(Unavailable) as raised:
            await client.server_info()
    assert str(raised.value).startswith(f"no server answers at {address} (tried for 10 s): ")
    assert "`chatd serve`" in str(raised.value)
    assert is_plain(raised.value)
    assert isinstance(raised.value.__cause__, grpc.aio.AioRpcError)


async def test_a_call_that_is_tried_once_says_so() -> None:
    """There was no wait."""
    async with Client(nobody(), "chatd_k", retry_seconds=0) as client:
        with pytest.raises(Unavailable, match=r"\(tried once\)") as raised:
            await client.server_info()
    assert is_plain(raised.value)


async def test_a_stream_that_gives_up_says_the_same() -> None:
    """With the number of tries."""
    address = nobody()
    async with Client(address, "chatd_k") as client:
        with pytest.raises(Unavailable) as raised:
            _ = [it async for it in client.chat("c").follow(failures_max=1)]
    assert str(raised.value).startswith(f"no server answers at {address} (tried 2 times): ")
    assert is_plain(raised.value)


async def test_a_request_above_the_limit_of_grpc_is_an_invalid_request(tmp_path: Path) -> None:
    """As with the server's own limit; it is not tried again."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        clock = held(client)
        with pytest.raises(
            InvalidRequest, match=r"the request has 500\d+ bytes.* 4194304"
        ) as raised:
            await client.create_chat("x" * 5_000_000)
        assert raised.value.reason == "MESSAGE_TOO_LARGE"
        assert is_plain(raised.value)
        assert clock.pauses == []


async def test_a_response_above_the_limit_of_the_client_is_reported() -> None:
    """The message does not blame the request."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        chat = chat_pb2.Chat(title="x" * 17 * 1024 * 1024)
        service.answer = lambda _: chat_service_pb2.GetChatResponse(chat=chat)
        with pytest.raises(InvalidRequest, match="the response has 178") as raised:
            await client.chat("c").get()
        assert raised.value.reason == "MESSAGE_TOO_LARGE"
        assert is_plain(raised.value)


async def test_a_text_without_utf8_is_an_invalid_request() -> None:
    """In every argument; nothing is sent."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        chat = client.chat("c")
        service.answer = lambda _: grpc.StatusCode.NOT_FOUND
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: chat.send(LONE),
            lambda: client.create_chat(LONE),
            lambda: client.create_chat(title=LONE),
            lambda: client.create_chat(labels={"a": LONE}),
            lambda: anext(client.list_chats(labels={"a": LONE})),
        ]
        for call in calls:
            with pytest.raises(InvalidRequest, match=r"UTF-8: character 1 .*surrogate"):
                await call()
        assert service.calls == []


async def test_an_answer_is_not_asked_for_without_utf8(tmp_path: Path) -> None:
    """`ask` gets the chat first, and raises the same."""
    async with serving(tmp_path) as served, Client(served.app.address, served.key) as client:
        chat = await client.create_chat()
        with pytest.raises(InvalidRequest, match="as UTF-8"):
            await chat.ask(LONE)
