"""The floor: from a vendor's stream through a hub to Subscribe, with the same building blocks.

httpx's interface on aiohttp's transport, a splitter of a few lines, msgspec, frames serialised once
for all subscribers, grpc.aio, uvloop where it is installed. No database, no key, no retry, no
resume: only what any server of this kind must do.
"""

import asyncio
import contextlib
import gc
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal, TypeAlias

import grpc
import httpx
import msgspec
from httpx_aiohttp import HttpxAiohttpClient

from bench.directive import HOLD
from bench.floors import frames
from bench.loop import run_fast
from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb

TIME = '{"time":"2026-01-01T00:00:00+00:00","weekday":"Thursday","timezone":"UTC"}'
"""The tool's result, as long as the product's."""
_BODY_HEAD = b'{"model":"bench","max_tokens":32000,"stream":true,"messages":['


class _Delta(msgspec.Struct):
    text: str = ""
    stop_reason: str = ""


class _Block(msgspec.Struct):
    id: str = ""


class _Event(msgspec.Struct):
    type: str
    delta: _Delta | None = None
    content_block: _Block | None = None


_decode = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.encode


class Answer:
    """The result of one model call."""

    __slots__ = ("call_id", "stop_reason", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.call_id = ""
        self.stop_reason = ""


Commit: TypeAlias = Literal["send", "begin", "answer", "results", "last"]
"""The commits of a turn, as the product makes them; see `rows.Recording`."""


class Subscriber:
    """Waiting frames, and the stream that waits for them."""

    __slots__ = ("frames", "woken")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.woken: asyncio.Future[None] | None = None

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)

    async def wait(self) -> None:
        self.woken = asyncio.get_running_loop().create_future()
        await self.woken
        self.woken = None


class Chat:
    """Subscribers, and the history as JSON that is encoded only once."""

    __slots__ = ("history", "offset", "subscribers")

    def __init__(self) -> None:
        self.subscribers: list[Subscriber] = []
        self.history: list[bytes] = []
        self.offset = 0

    def add(self, role: str, content: list[dict[str, object]]) -> None:
        # With a trailing comma, so that one join makes the body of a request.
        self.history.append(_encode({"role": role, "content": content}) + b",")

    def tell(self, frame: bytes) -> None:
        for subscriber in self.subscribers:
            subscriber.put(frame)

    def delta(self, text: str) -> None:
        self.tell(frames.text("attempt", self.offset, text).SerializeToString())
        self.offset += len(text)


class Floor:
    """The server."""

    def __init__(self, provider: str) -> None:
        self._url = f"http://{provider}/v1/messages"
        limits = httpx.Limits(max_connections=20_000, max_keepalive_connections=20_000)
        self._http = HttpxAiohttpClient(limits=limits, timeout=300)
        self._chats: dict[str, Chat] = {}
        self._turns: set[asyncio.Task[None]] = set()

    def made(self, chat_id: str) -> Chat:  # noqa: ARG002  for the durable floor
        """Return a new chat."""
        return Chat()

    async def commit(self, chat: Chat, what: Commit) -> None:
        """Make a commit durable; this floor has no database."""

    # --- RPCs --------------------------------------------------------------------------------

    async def create(self, request: bytes, context: object) -> bytes:  # noqa: ARG002  grpc's
        chat_id = f"chat-{len(self._chats)}"
        self._chats[chat_id] = self.made(chat_id)
        return pb.CreateChatResponse(chat=chat_pb2.Chat(chat_id=chat_id)).SerializeToString()

    async def send(self, request: bytes, context: object) -> bytes:  # noqa: ARG002  grpc's
        """Answer SendMessage: begin a turn, unless the client only measures the RPC itself."""
        asked = pb.SendMessageRequest.FromString(request)
        await self.commit(self._chats[asked.chat_id], "send")
        if HOLD not in frames.user_text(asked):
            turn = asyncio.create_task(self._turn(asked))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)
        answered = chat_pb2.Chat(chat_id=asked.chat_id)
        return pb.SendMessageResponse(chat=answered, sequence=1).SerializeToString()

    async def subscribe(self, request: bytes, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        chat = self._chats[pb.SubscribeRequest.FromString(request).chat_id]
        subscriber = Subscriber()
        chat.subscribers.append(subscriber)
        try:
            await context.write(frames.caught_up().SerializeToString())
            while True:
                if not subscriber.frames:
                    await subscriber.wait()
                while subscriber.frames:
                    await context.write(subscriber.frames.popleft())
        finally:
            chat.subscribers.remove(subscriber)

    # --- turns -------------------------------------------------------------------------------

    async def _turn(self, request: pb.SendMessageRequest) -> None:
        chat = self._chats[request.chat_id]
        text = frames.user_text(request)
        chat.add("user", [{"type": "text", "text": text}])
        await self.commit(chat, "begin")
        while True:
            answer = await self._answer(chat)
            said: list[dict[str, object]] = [{"type": "text", "text": "".join(answer.texts)}]
            if answer.stop_reason != "tool_use":
                chat.add("assistant", said)
                await self.commit(chat, "last")
                break
            call: dict[str, object] = {"id": answer.call_id, "name": "current_time", "input": {}}
            said.append({"type": "tool_use", **call})
            await self.commit(chat, "answer")
            result: dict[str, object] = {
                "type": "tool_result",
                "tool_use_id": answer.call_id,
                "content": TIME,
            }
            chat.add("assistant", said)
            chat.add("user", [{"type": "tool_result", **result}])
            await self.commit(chat, "results")
        chat.tell(frames.finished().SerializeToString())

    async def _answer(self, chat: Chat) -> Answer:
        answer = Answer()
        body = b"".join((_BODY_HEAD, *chat.history, b"{}]}"))
        headers = {"accept-encoding": "identity", "content-type": "application/json"}
        async with self._http.stream("POST", self._url, headers=headers, content=body) as response:
            async for event in _events(response):
                if event.delta is not None and event.delta.text:
                    answer.texts.append(event.delta.text)
                    chat.delta(event.delta.text)
                elif event.delta is not None and event.delta.stop_reason:
                    answer.stop_reason = event.delta.stop_reason
                elif event.content_block is not None and event.content_block.id:
                    answer.call_id = event.content_block.id
        return answer


async def _events(response: httpx.Response) -> AsyncIterator[_Event]:
    rest = b""
    async for chunk in response.aiter_raw():
        *whole, rest = (rest + chunk).split(b"\n\n")
        for event in whole:
            yield _decode(event[event.find(b"data: ") + 6 :])


Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]  # type: ignore[type-arg]


async def serve(floor: Floor) -> None:
    """Listen on a free port and print it."""
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "CreateChat": grpc.unary_unary_rpc_method_handler(floor.create),
        "SendMessage": grpc.unary_unary_rpc_method_handler(floor.send),
        "Subscribe": grpc.unary_stream_rpc_method_handler(floor.subscribe),
    }
    handler = grpc.method_handlers_generic_handler(frames.SERVICE, handlers)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.collect()
    gc.freeze()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


async def main(provider: str) -> None:
    await serve(Floor(provider))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run_fast(main(sys.argv[1]))
