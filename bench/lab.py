"""A client of the watched server, for the cases of `loop_longest`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec

from bench.probe import Longest
from bench.servers import product_environment, program
from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import chat_service_pb2_grpc, message_pb2
from chatd_server.clock import RealClock
from chatd_server.domain.chat import ChatConfig
from chatd_server.domain.command import Create, Interrupt, SendMessage
from chatd_server.domain.ids import ChatId, OwnerId, new_uuid
from chatd_server.domain.message import Part
from chatd_server.observe import NullObserver
from chatd_server.ports.clock import Clock
from chatd_server.service.keys import ROOT_OWNER
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.store import SqliteStore

TEXT_BYTES_MAX = 262_144
"""Limit for one text part; two of them make the largest user's message."""
HOME = "watched"
SANDBOX = "sandbox/echo"
SETTLED = pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
STREAM_SECONDS_MAX = 120.0


class Lab:
    """A client with one channel."""

    def __init__(self, channel: grpc.aio.Channel, key: str, probe: str) -> None:
        self._stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._probe = probe

    async def longest(self) -> Longest:
        """Return the longest callbacks since the last call."""
        host, _, port = self._probe.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        told = await reader.read()
        writer.close()
        return msgspec.json.decode(told, type=Longest)

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, metadata=self._metadata)

    async def refused(self, method: str, request: Any) -> None:
        """Call an RPC that must be refused."""
        try:
            await self.call(method, request)
        except grpc.aio.AioRpcError:
            return
        raise AssertionError(f"{method} was not refused")

    async def chat(self, model: str = SANDBOX, **fields: Any) -> str:
        """Create a chat."""
        made = await self.call("CreateChat", pb.CreateChatRequest(model=model, **fields))
        return str(made.chat.chat_id)

    async def send(self, chat_id: str, *texts: str) -> None:
        request = pb.SendMessageRequest(chat_id=chat_id, message=message(*texts))
        await self.call("SendMessage", request)

    async def turn(self, chat_id: str, *texts: str) -> None:
        """Send a message and follow the chat until its turn ends."""
        await self.send(chat_id, *texts)
        await self.follow(chat_id)

    async def follow(self, chat_id: str, after: int | None = None, until: int = SETTLED) -> int:
        """Follow a chat until the stream ends; return the number of responses."""
        request = pb.SubscribeRequest(chat_id=chat_id, until=until)  # type: ignore[arg-type]  # a number of the enum
        if after is not None:
            request.resume_from.sequence = after
            request.resume_from.SetInParent()
        count = 0
        async with asyncio.timeout(STREAM_SECONDS_MAX):
            async for _ in self._stub.Subscribe(request, metadata=self._metadata):
                count += 1
        return count


def message(*texts: str) -> message_pb2.UserMessage:
    return message_pb2.UserMessage(
        parts=[message_pb2.UserPart(text=message_pb2.UserText(text=text)) for text in texts]
    )


def filled(piece: str, size: int = TEXT_BYTES_MAX) -> str:
    """Return a text of maximum length made of whole pieces."""
    return piece * (size // len(piece.encode()))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@asynccontextmanager
async def watched(folder: Path, vendor: str, url: str) -> AsyncIterator[Lab]:
    """Run the watched server and a client; without a URL its database is SQLite."""
    home = folder / HOME
    command = ["-m", "bench.probe", "--home", str(home)]
    environment = product_environment(vendor)
    if url:
        environment["CHATD_DATABASE_URL"] = url
    options = [("grpc.max_receive_message_length", 1 << 26)]
    async with (
        program(command, folder / "watched.log", environment) as (_, told),
        grpc.aio.insecure_channel(told["address"], options=options) as channel,
    ):
        key = _text(Path(told["root_key_file"])).strip()
        yield Lab(channel, key, told["probe"])


async def seed(
    home: Path, url: str, histories: Mapping[str, Sequence[tuple[Part, ...]]]
) -> dict[str, str]:
    """Write chats with these user messages before the server starts; return their ids.

    Each message begins a turn that is interrupted at once.
    """
    _make(home)
    clock = RealClock()
    store = await _opened(home, url, clock)
    ids: dict[str, str] = {}
    try:
        for name, messages in histories.items():
            model = name if "/" in name else SANDBOX
            chat_id = ChatId(new_uuid(clock.now()))
            ids[name] = chat_id
            owner = OwnerId(ROOT_OWNER)
            create = Create(
                command_id=new_uuid(clock.now()),
                chat_id=chat_id,
                owner_id=owner,
                config=ChatConfig(model=model),
            )
            await store.apply(chat_id, create, owner_id=owner)
            waits = []
            for number, parts in enumerate(messages):
                send = SendMessage(command_id=f"{chat_id}{number}s", parts=parts)
                stop = Interrupt(command_id=f"{chat_id}{number}i")
                waits += [
                    asyncio.ensure_future(store.apply(chat_id, it, owner_id=owner))
                    for it in (send, stop)
                ]
            await asyncio.gather(*waits)
    finally:
        await store.close()
    return ids


def _make(home: Path) -> None:
    home.mkdir(mode=0o700)


async def _opened(home: Path, url: str, clock: Clock) -> SqliteStore | PostgresStore:
    wake, observer = LocalWake(), NullObserver()
    if not url:
        return await SqliteStore.open(home / "chatd.db", clock=clock, wake=wake, observer=observer)
    await migrate(url)
    return await PostgresStore.open(url, clock=clock, wake=wake, observer=observer, writers=1)
