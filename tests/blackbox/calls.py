"""A client's calls besides streams: unary calls, repeated until they are answered."""

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status

from chatd.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    chat_service_pb2,
    chat_service_pb2_grpc,
    event_pb2,
    message_pb2,
    tool_pb2,
)
from tests.blackbox.servers import Server
from tests.blackbox.waits import OWED_SECONDS, RECONNECT_SECONDS, now, pause

# A killed server is back within a second or two; gRPC would wait up to two minutes.
CHANNEL: list[tuple[str, int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Channels of one process would share connections, and one reader could slow another.
    ("grpc.use_local_subchannel_pool", 1),
]
ANSWER_SECONDS = 2 * OWED_SECONDS
"""A unary call is answered within this time, including restarts of the server."""


class Caller:
    """A connection to one server."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self.stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self.admin: Any = admin_service_pb2_grpc.AdminServiceStub(channel)
        self.metadata = (("authorization", f"Bearer {server.key}"),)

    async def ask(self, method: str, request: Any) -> Any:
        """Call until there is a response; the request id makes the repetitions one request."""
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = request.request_id or str(uuid.uuid4())
        call = getattr(self.admin if method == "GetServerInfo" else self.stub, method)
        options = {"metadata": self.metadata, "timeout": ANSWER_SECONDS, "wait_for_ready": True}
        began = now()
        while True:
            try:
                return await call(request, **options)
            except grpc.aio.AioRpcError as error:
                lost = error.code() is grpc.StatusCode.UNAVAILABLE
                if not lost or now() - began > ANSWER_SECONDS:
                    raise
            await pause(RECONNECT_SECONDS)

    async def implemented(self) -> set[str]:
        """Return the names of the RPCs that this server implements."""
        info = await self.ask("GetServerInfo", admin_service_pb2.GetServerInfoRequest())
        return {name.rpartition("/")[2] for name in info.implemented_rpcs}

    async def create(
        self, text: str = "", tools: Iterable[str] = ()
    ) -> chat_service_pb2.CreateChatResponse:
        """Create a chat, with a first message unless it is empty."""
        request = chat_service_pb2.CreateChatRequest(model="sandbox/echo")
        request.tools.extend(tool_pb2.ToolDefinition(name=name) for name in tools)
        if text:
            request.message.CopyFrom(user(text))
        response: chat_service_pb2.CreateChatResponse = await self.ask("CreateChat", request)
        return response

    async def events(self, chat_id: str, after: int = 0) -> list[event_pb2.ChatEvent]:
        """Return the log after a sequence, page by page."""
        found: list[event_pb2.ChatEvent] = []
        while True:
            request = chat_service_pb2.ListEventsRequest(
                chat_id=chat_id, after_sequence=after + len(found), page_size=200
            )
            page = await self.ask("ListEvents", request)
            found.extend(page.events)
            if not page.events or after + len(found) >= page.head_sequence:
                return found

    async def messages(self, chat_id: str) -> list[message_pb2.Message]:
        """Return all messages, page by page."""
        found: list[message_pb2.Message] = []
        token = ""
        while True:
            request = chat_service_pb2.ListMessagesRequest(
                chat_id=chat_id, page_size=7, page_token=token
            )
            page = await self.ask("ListMessages", request)
            found.extend(page.messages)
            token = page.next_page_token
            if not token:
                return found


def user(text: str) -> message_pb2.UserMessage:
    """Return a user's message of one text."""
    return message_pb2.UserMessage(
        parts=[message_pb2.UserPart(text=message_pb2.UserText(text=text))]
    )


def reason_of(error: grpc.RpcError) -> str:
    """Return the stable reason of a refusal; empty if it has none."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Caller]:
    """Connect to a server until the context exits."""
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL) as channel:
        yield Caller(server, channel)
