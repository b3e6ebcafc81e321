"""A ChatService that plays scripts: what each Subscribe sends, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from chatd.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc, event_pb2


@dataclass
class Script:
    """One Subscribe: responses, then an end ("ok", or a status code to abort with)."""

    responses: list[chat_service_pb2.SubscribeResponse]
    end: grpc.StatusCode | None = None
    #: It does not end by itself.
    is_silent: bool = False


@dataclass
class ScriptedService(chat_service_pb2_grpc.ChatServiceServicer):
    """Plays one script for each Subscribe; `subscribes` are the requests that it got."""

    scripts: list[Script] = field(default_factory=list)
    subscribes: list[chat_service_pb2.SubscribeRequest] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    answer: Callable[[Any], Any] = lambda request: request

    async def Subscribe(  # type: ignore[override]  # the writing style of grpc.aio
        self, request: Any, context: Any
    ) -> None:
        """Play the next script."""
        self.subscribes.append(request)
        script = self.scripts.pop(0)
        for response in script.responses:
            await context.write(response)
        if script.is_silent:
            await asyncio.get_running_loop().create_future()
        if script.end is not None:
            await context.abort(script.end, "cut by the script")

    async def GetChat(self, request: Any, context: Any) -> Any:
        """Answer as scripted."""
        return await self._answered(request, context)

    async def CreateChat(self, request: Any, context: Any) -> Any:
        """Answer as scripted."""
        return await self._answered(request, context)

    async def SendMessage(self, request: Any, context: Any) -> Any:
        """Answer as scripted."""
        return await self._answered(request, context)

    async def SubmitToolResults(self, request: Any, context: Any) -> Any:
        """Answer as scripted."""
        return await self._answered(request, context)

    async def ListPendingActions(self, request: Any, context: Any) -> Any:
        """Answer as scripted."""
        return await self._answered(request, context)

    async def _answered(self, request: Any, context: Any) -> Any:
        self.calls.append(request)
        answer = self.answer(request)
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "refused by the script")
        return answer


@asynccontextmanager
async def scripted_server() -> AsyncIterator[tuple[ScriptedService, str]]:
    """Serve a script on loopback; yields the service and its address."""
    service = ScriptedService()  # type: ignore[abstract]  # the others are unimplemented
    server = grpc.aio.server()
    chat_service_pb2_grpc.add_ChatServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def delta(text: str, *, at: int, attempt: str = "a") -> chat_service_pb2.SubscribeResponse:
    """Return a piece of text that begins at this offset."""
    piece = event_pb2.MessagePart(attempt_id=attempt, delta_offset=at, text=text)
    cursor = chat_pb2.Cursor(sequence=1, attempt_id=attempt, delta_offset=at + len(text.encode()))
    return chat_service_pb2.SubscribeResponse(
        event=event_pb2.ChatEvent(message_part=piece), cursor=cursor
    )


def ended(reason: event_pb2.StreamEndReason.ValueType) -> chat_service_pb2.SubscribeResponse:
    """Return a stream_end."""
    event = event_pb2.ChatEvent(stream_end=event_pb2.StreamEnd(reason=reason))
    return chat_service_pb2.SubscribeResponse(event=event, cursor=chat_pb2.Cursor(sequence=1))
