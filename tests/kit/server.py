"""A whole server in the test's process: a real SQLite file, a real channel on a loopback port."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)

from chatd.v1 import (
    admin_service_pb2_grpc,
    chat_service_pb2,
    chat_service_pb2_grpc,
    message_pb2,
)
from chatd_server.app.compose import build
from chatd_server.app.server import App
from chatd_server.config.load import load
from chatd_server.domain.ids import OwnerId
from chatd_server.service.keys import Keys
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver


@dataclass
class Refusal:
    """An error as a client sees it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    #: (field, description) of each violation.
    violations: list[tuple[str, str]]
    #: Short names of the details besides ErrorInfo.
    details: list[str]

    @property
    def fields(self) -> list[str]:
        """The fields of the violations."""
        return [field for field, _ in self.violations]


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Unpack an error; fails unless it carries exactly one ErrorInfo, as the first detail."""
    trailing = dict(error.trailing_metadata() or ())
    packed = trailing.get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(packed)
    names = [it.TypeName().removeprefix("google.rpc.") for it in status.details]
    assert names[:1] == ["ErrorInfo"], f"{error.code()} {error.details()} carries {names}"
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert info.domain == "chatd"
    bad = error_details_pb2.BadRequest()
    for detail in status.details[1:]:
        detail.Unpack(bad)
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=[(it.field, it.description) for it in bad.field_violations],
        details=names[1:],
    )


@dataclass
class Served:
    """A running server and a client of it."""

    app: App
    clock: ManualClock
    observer: RecordingObserver
    channel: grpc.aio.Channel
    key: str
    chats: Any
    admin: Any

    @property
    def auth(self) -> tuple[tuple[str, str], ...]:
        """Metadata with the root key."""
        return bearer(self.key)

    async def another_key(self, owner: str) -> tuple[str, str]:
        """Create a key for an owner; return (key, id)."""
        keys = Keys(self.app.database.keys, self.clock)
        record, key = await keys.create(OwnerId(owner), owner)
        return key, record.id

    async def call(self, method: str, request: Message, key: str | None = None) -> Any:
        """Call a unary RPC of ChatService."""
        stub = getattr(self.chats, method)
        return await stub(request, metadata=bearer(self.key if key is None else key))

    async def refused(self, method: str, request: Message, key: str | None = None) -> Refusal:
        """Call an RPC that must be refused."""
        return await refused(lambda: self.call(method, request, key))

    async def raw(self, method: str, body: bytes, key: str | None = None) -> bytes:
        """Send raw bytes to a unary RPC of ChatService."""
        call: Any = self.channel.unary_unary(f"/chatd.v1.ChatService/{method}")
        answer: bytes = await call(body, metadata=bearer(self.key if key is None else key))
        return answer

    async def subscribe(
        self, request: chat_service_pb2.SubscribeRequest, key: str | None = None
    ) -> list[chat_service_pb2.SubscribeResponse]:
        """Follow a chat to the end of the stream."""
        metadata = bearer(self.key if key is None else key)
        return [it async for it in self.chats.Subscribe(request, metadata=metadata)]

    async def settled(self, chat_id: str) -> Sequence[chat_service_pb2.SubscribeResponse]:
        """Wait until a chat is idle."""
        until = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
        request = chat_service_pb2.SubscribeRequest(chat_id=chat_id, until=until)
        return await self.subscribe(request)


async def refused(call: Callable[[], Awaitable[object]]) -> Refusal:
    """Await a call that must be refused."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the call was not refused")


def said(text: str) -> message_pb2.UserMessage:
    """Return a user's message of one text."""
    part = message_pb2.UserPart(text=message_pb2.UserText(text=text))
    return message_pb2.UserMessage(parts=[part])


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a key; none for an empty one."""
    return (("authorization", f"Bearer {key}"),) if key else ()


@asynccontextmanager
async def serving(home: Path, **settings: object) -> AsyncIterator[Served]:
    """Run a server on a free port until the context exits."""
    clock, observer = ManualClock(), RecordingObserver()
    config = load({"home": str(home), "port": 0, **settings}, {}).config
    app = await build(config, clock=clock, observer=observer)
    await app.start()
    try:
        # Its own subchannel pool: a reused port must not find an old connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(app.address, options=options) as channel:
            yield Served(
                app=app,
                clock=clock,
                observer=observer,
                channel=channel,
                key=config.root_key_path.read_text(encoding="utf-8").strip(),
                chats=chat_service_pb2_grpc.ChatServiceStub(channel),
                admin=admin_service_pb2_grpc.AdminServiceStub(channel),
            )
    finally:
        await app.stop()
