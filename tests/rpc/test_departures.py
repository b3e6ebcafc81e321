"""Clients that leave while they are answered: the log has lines of JSON and nothing else."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc
from tests.cli.programs import Serving, serving
from tests.kit.http2 import RawConnection, data, grpc_message, reset
from tests.kit.server import bearer, said

pytestmark = pytest.mark.timeout(120)

CLIENTS = 40
"""Of each kind; each sends several requests."""

SERVICE = b"/chatd.v1.ChatService/"


class Hostile:
    """Clients of one server that leave at any moment."""

    def __init__(self, server: Serving, key: str, chat_id: str) -> None:
        self.server = server
        self.key = key
        self.other = RawConnection(server.address)
        self.random = random.Random(7)
        requests: list[tuple[bytes, Any]] = [
            (b"ListMessages", pb.ListMessagesRequest(chat_id=chat_id)),
            (b"ListEvents", pb.ListEventsRequest(chat_id=chat_id)),
            (b"Subscribe", pb.SubscribeRequest(chat_id=chat_id)),
            (b"CreateChat", pb.CreateChatRequest(title="left")),
            (b"GetChat", pb.GetChatRequest(chat_id="none")),
        ]
        self.requests = [(SERVICE + name, it.SerializeToString()) for name, it in requests] + [
            (b"/grpc.health.v1.Health/Check", b""),
            (b"/grpc.health.v1.Health/Watch", b""),
            (b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\x3a\x00"),
            (b"/no/such", b""),
            (b"/\xff/\xfe", b""),
        ]

    def clients(self, call: "Call") -> None:
        """Let clients connect, make calls, and go."""
        for _ in range(CLIENTS):
            window = self.random.choice((None, 0, 10))
            client = RawConnection(self.server.address, window=window)
            for path, body in self.random.choices(self.requests, k=6):
                number, opening = client.headers(path, self.random.choice((self.key, "")))
                call(self, client, number, opening, grpc_message(body))
            self.wait()
            self.random.choice((client.leave, client.break_off))()

    def wait(self) -> None:
        """Let the server run for as long as some answers to another client take."""
        for _ in range(self.random.randrange(6)):
            self.other.call(b"/no/such", b"")
            self.other.receive()


Call = Callable[[Hostile, RawConnection, int, bytes, bytes], None]


def whole(_: Hostile, client: RawConnection, number: int, opening: bytes, message: bytes) -> None:
    """Send the call, and leave while it is answered."""
    client.send(opening + data(number, message))


def at_once(_: Hostile, client: RawConnection, number: int, opening: bytes, message: bytes) -> None:
    """Send the call and cancel it."""
    client.send(opening + data(number, message) + reset(number))


def soon(
    hostile: Hostile, client: RawConnection, number: int, opening: bytes, message: bytes
) -> None:
    """Send the call and cancel it while it is answered."""
    client.send(opening + data(number, message))
    hostile.wait()
    client.send(reset(number))


def cut(_: Hostile, client: RawConnection, number: int, opening: bytes, message: bytes) -> None:
    """Cancel in the middle of the request."""
    client.send(opening + data(number, message[: len(message) // 2], end=False) + reset(number))


def unsaid(
    _: Hostile, client: RawConnection, _number: int, opening: bytes, _message: bytes
) -> None:
    """Send no request."""
    client.send(opening)


async def patience(server: Serving, key: str, chat_id: str) -> None:
    """Let deadlines of grpc clients pass, in calls and in streams."""
    moments = random.Random(7)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)

        async def one(number: int) -> None:
            limit, metadata = moments.random() / 50, bearer(key)
            try:
                if number % 2:
                    request = pb.ListMessagesRequest(chat_id=chat_id)
                    await stub.ListMessages(request, metadata=metadata, timeout=limit)
                else:
                    follow = pb.SubscribeRequest(chat_id=chat_id)
                    async for _ in stub.Subscribe(follow, metadata=metadata, timeout=limit):
                        pass
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017  an answer in time is fine too

        for _ in range(5):
            await asyncio.gather(*(one(number) for number in range(CLIENTS)))


async def a_chat(server: Serving, key: str) -> str:
    """Make a chat that answers for as long as the test takes, with a long message in it."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        message = said("!text 100000 200/s")
        message.parts.add().text.text = "x" * 200_000
        request = pb.CreateChatRequest(message=message)
        chat = (await stub.CreateChat(request, metadata=bearer(key))).chat
        return str(chat.chat_id)


async def answers(server: Serving, key: str) -> bool:
    """Say whether the server answers a new client."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        found = await stub.ListChats(pb.ListChatsRequest(), metadata=bearer(key))
        return bool(found.chats)


def test_clients_that_leave_do_not_write_into_the_log(tmp_path: Path) -> None:
    """Cancelled, cut, late, gone: hundreds of them, and no traceback."""
    arguments = ("--log-level", "warning", "--drain-seconds", "0")
    with serving(tmp_path, *arguments) as server:
        key = (tmp_path / "root.key").read_text(encoding="utf-8").strip()
        chat_id = asyncio.run(a_chat(server, key))
        hostile = Hostile(server, key, chat_id)
        for call in (whole, at_once, soon, cut, unsaid):
            hostile.clients(call)
        hostile.other.leave()
        asyncio.run(patience(server, key, chat_id))
        assert asyncio.run(answers(server, key))
        assert server.stop() == 0
        written = server.logged()
    for line in written:
        assert isinstance(json.loads(line), dict), line
        assert "trace" not in json.loads(line)
