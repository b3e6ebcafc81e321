"""The naive stack: the obvious first implementation, with the best-known libraries.

httpx and httpx-sse, json, asyncio's own loop, a queue per subscriber, one typed message built and
serialised per delta and subscriber, SQLAlchemy's ORM for durable data. It checks no keys and
resumes nothing: it does less than the product.
"""

import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import httpx_sse

from bench.directive import HOLD
from bench.floors import frames
from bench.floors.orm import Event, Message, OrmDatabase, orm_database
from bench.floors.server import TIME
from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb


class Chat:
    """A chat in memory."""

    def __init__(self, row_id: int) -> None:
        self.row_id = row_id
        self.queues: list[asyncio.Queue[str | None]] = []
        self.messages: list[dict[str, Any]] = []


class Naive:
    """The server."""

    def __init__(self, provider: str, database: OrmDatabase) -> None:
        self._url = f"http://{provider}/v1/messages"
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=300)
        self._database = database
        self._chats: dict[str, Chat] = {}
        self._turns: set[asyncio.Task[None]] = set()
        # SQLite allows one writer at a time.
        self._writes = asyncio.Lock()

    # --- RPCs --------------------------------------------------------------------------------

    async def create(
        self,
        request: pb.CreateChatRequest,  # noqa: ARG002  grpc's
        context: object,  # noqa: ARG002  grpc's
    ) -> pb.CreateChatResponse:
        chat_id = str(uuid.uuid4())
        async with self._writes:
            self._chats[chat_id] = Chat(await self._database.add_chat(chat_id))
        return pb.CreateChatResponse(chat=chat_pb2.Chat(chat_id=chat_id))

    async def send(
        self,
        request: pb.SendMessageRequest,
        context: object,  # noqa: ARG002  grpc's
    ) -> pb.SendMessageResponse:
        chat = self._chats[request.chat_id]
        text = frames.user_text(request)
        await self._add(chat, "user", [{"type": "text", "text": text}])
        if HOLD not in text:
            turn = asyncio.create_task(self._turn(chat))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)
        return pb.SendMessageResponse(chat=chat_pb2.Chat(chat_id=request.chat_id), sequence=1)

    async def subscribe(self, request: pb.SubscribeRequest, context: Any) -> None:
        chat = self._chats[request.chat_id]
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        chat.queues.append(queue)
        offset = 0
        try:
            await context.write(frames.caught_up())
            while True:
                text = await queue.get()
                if text is None:
                    await context.write(frames.finished())
                else:
                    await context.write(frames.text("attempt", offset, text))
                    offset += len(text)
        finally:
            chat.queues.remove(queue)

    # --- turns -------------------------------------------------------------------------------

    async def _turn(self, chat: Chat) -> None:
        while await self._step(chat):
            pass
        for queue in chat.queues:
            queue.put_nowait(None)

    async def _step(self, chat: Chat) -> bool:
        """Call the model and run its tool, if it calls one; return whether it did."""
        text, call_id = "", ""
        async for event in self._events(chat):
            if event["type"] == "content_block_start":
                call_id = event["content_block"].get("id", call_id)
            elif event["type"] == "content_block_delta" and "text" in event["delta"]:
                text += event["delta"]["text"]
                for queue in chat.queues:
                    queue.put_nowait(event["delta"]["text"])
        said: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if not call_id:
            await self._add(chat, "assistant", said)
            return False
        call = {"type": "tool_use", "id": call_id, "name": "current_time", "input": {}}
        await self._add(chat, "assistant", [*said, call])
        result = {"type": "tool_result", "tool_use_id": call_id, "content": TIME}
        await self._add(chat, "user", [result])
        return True

    async def _events(self, chat: Chat) -> AsyncIterator[dict[str, Any]]:
        body = {"model": "bench", "max_tokens": 32000, "stream": True, "messages": chat.messages}
        async with httpx_sse.aconnect_sse(self._http, "POST", self._url, json=body) as source:
            async for event in source.aiter_sse():
                yield json.loads(event.data)

    async def _add(self, chat: Chat, role: str, content: list[dict[str, Any]]) -> None:
        """Add a message in one transaction."""
        chat.messages.append({"role": role, "content": content})
        async with self._writes, self._database.session.begin() as session:
            row = await self._database.chat(session, chat.row_id)
            row.revision += 1
            row.head_sequence += 1
            row.updated_at = time.time_ns() // 1000
            position = row.next_position
            row.next_position += 1
            session.add(
                Message(
                    chat=row.id,
                    position=position,
                    uuid=str(uuid.uuid4()),
                    role=role,
                    sequence=row.head_sequence,
                    content_version=1,
                    content=json.dumps(content).encode(),
                )
            )
            session.add(
                Event(
                    chat=row.id,
                    sequence=row.head_sequence,
                    kind=1,
                    at=row.updated_at,
                    position=position,
                    content_version=1,
                    payload=None,
                    txid=row.updated_at,
                )
            )


async def main(provider: str, database_url: str) -> None:
    """Listen on a free port and print it."""
    async with orm_database(database_url) as database:
        server = grpc.aio.server()
        naive = Naive(provider, database)
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "CreateChat": grpc.unary_unary_rpc_method_handler(
                naive.create,
                pb.CreateChatRequest.FromString,
                pb.CreateChatResponse.SerializeToString,
            ),
            "SendMessage": grpc.unary_unary_rpc_method_handler(
                naive.send,
                pb.SendMessageRequest.FromString,
                pb.SendMessageResponse.SerializeToString,
            ),
            "Subscribe": grpc.unary_stream_rpc_method_handler(
                naive.subscribe,
                pb.SubscribeRequest.FromString,
                pb.SubscribeResponse.SerializeToString,
            ),
        }
        handler = grpc.method_handlers_generic_handler(frames.SERVICE, handlers)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2]))
