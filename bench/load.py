"""The load client, in its own process: the same for product, floor and naive stack.

It reads its task as one line of JSON, prepares chats and streams, prints `{"ready": true}`, waits
for another line, does the task, and prints the result. The process that started it measures the
server meanwhile.
"""

import asyncio
import contextlib
import gc
import json
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import grpc
import msgspec

from bench.loop import run_fast
from chatd.v1 import chat_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb

STREAMS_PER_CHANNEL = 64
"""Below 100, the usual limit of streams per connection."""
CHANNELS_MAX = 160
SENDERS = 4
AT_ONCE = 50
"""Concurrent RPCs while chats are created and messages are sent."""

_STAMP = re.compile(r"@(\d{19}) ")
_SERVICE = "/chatd.v1.ChatService/"


class Task(msgspec.Struct, frozen=True):
    """A task. `kind`: stream (a message to each chat, until each turn has ended), hold (only
    streams), send (a message to each chat, without streams), replay (streams of one chat, one after
    the other, until caught up).
    """

    kind: str
    address: str
    key: str = ""
    model: str = ""
    chats: int = 1
    #: Number of open turns, with one subscriber each; latencies are then from SendMessage to the
    #: first delta. 0: all at once, and latencies are those of the deltas.
    turns: int = 0
    subscribers: int = 1
    text: str = ""
    #: Deltas or events that each subscriber must get; any other number is a failure.
    tokens: int = 0
    #: The chat that is replayed.
    chat_id: str = ""


class Seen(msgspec.Struct):
    """The result of a task."""

    seconds: float = 0.0
    tokens: int = 0
    frames: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class Client:
    """Many users in one process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        streams = task.chats * task.subscribers
        count = max(1, min(CHANNELS_MAX, streams // STREAMS_PER_CHANNEL))
        self._streams = [_channel(task.address) for _ in range(count)]
        self._senders = [_channel(task.address) for _ in range(SENDERS)]
        self._metadata = (("authorization", f"Bearer {task.key}"),) if task.key else ()
        self._chat_ids: list[str] = []
        self._latencies: list[int] = []
        self._caught_up = asyncio.Semaphore(0)
        self._following: list[asyncio.Task[int]] = []
        #: When the first delta of each chat arrived.
        self._first: dict[str, int] = {}
        #: Gets the first failure of a stream.
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> None:
        """Create the chats and open the streams."""
        if self._task.kind == "replay":
            return
        request = pb.CreateChatRequest(model=self._task.model)
        made = await self._calls("CreateChat", [request] * self._task.chats, pb.CreateChatResponse)
        self._chat_ids = [response.chat.chat_id for response in made]
        if self._task.kind == "send":
            return
        for number in range(self._task.chats * self._task.subscribers):
            chat_id = self._chat_ids[number % self._task.chats]
            follow = self._follow(self._streams[number % len(self._streams)], chat_id)
            self._following.append(asyncio.create_task(follow))
            self._following[-1].add_done_callback(self._ended)
            if number % AT_ONCE == AT_ONCE - 1:
                await self._until_caught_up(AT_ONCE)
        await self._until_caught_up(len(self._following) % AT_ONCE)

    async def work(self) -> Seen:
        """Do the measured part."""
        began = time.perf_counter()
        if self._task.kind == "replay":
            events = sum([await self._replay() for _ in range(self._task.subscribers)])
            _check(events, self._task.tokens * self._task.subscribers)
            return Seen(seconds=time.perf_counter() - began, tokens=events, frames=events)
        woken = await self._wake_all() if self._task.turns else []
        if not woken:
            await self._calls("SendMessage", self._requests(), pb.SendMessageResponse)
        if self._task.kind == "send":
            return Seen(seconds=time.perf_counter() - began)
        frames = sum(await asyncio.gather(*self._following))
        seen = Seen(seconds=time.perf_counter() - began, frames=frames, tokens=len(self._latencies))
        _check(seen.tokens, self._task.tokens * len(self._following))
        late = sorted(woken or self._latencies)
        seen.p50_ms = late[len(late) // 2] / 1e6
        seen.p99_ms = late[len(late) * 99 // 100] / 1e6
        return seen

    async def close(self) -> None:
        """Close all channels."""
        for follow in self._following:
            follow.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        self._failed.cancel()
        for channel in (*self._streams, *self._senders):
            await channel.close()

    # --- inside ------------------------------------------------------------------------------

    async def _wake_all(self) -> list[int]:
        """Send to one chat after the other and follow its turn; return the nanoseconds until the
        first delta.
        """
        waited: list[int] = []
        left = iter(zip(self._requests(), self._following, strict=True))

        async def user() -> None:
            for request, following in left:
                began = time.perf_counter_ns()
                await self._calls("SendMessage", [request], pb.SendMessageResponse)
                await following
                waited.append(self._first[request.chat_id] - began)

        await asyncio.gather(*(user() for _ in range(self._task.turns)))
        return waited

    async def _replay(self) -> int:
        """Read the log of a chat from its beginning; return the number of events."""
        request = pb.SubscribeRequest(chat_id=self._task.chat_id)
        request.resume_from.SetInParent()
        call = _subscribe(self._streams[0])(request, metadata=self._metadata)
        events = 0
        async for response in call:
            if response.event.sequence:
                events += 1
            elif response.event.HasField("caught_up"):
                call.cancel()
                return events
        raise AssertionError(f"a stream ended before it caught up: {await call.code()}")

    async def _until_caught_up(self, streams: int) -> None:
        caught_up = asyncio.create_task(self._acquired(streams))
        # If a stream fails, do not wait for it.
        await asyncio.wait([caught_up, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if not caught_up.done():
            caught_up.cancel()
            self._failed.result()

    async def _acquired(self, streams: int) -> None:
        for _ in range(streams):
            await self._caught_up.acquire()

    def _ended(self, follow: "asyncio.Task[int]") -> None:
        error = None if follow.cancelled() else follow.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _follow(self, channel: grpc.aio.Channel, chat_id: str) -> int:
        """Read a stream until its turn ends; return the number of frames after its beginning."""
        call = _subscribe(channel)(pb.SubscribeRequest(chat_id=chat_id), metadata=self._metadata)
        frames = 0
        keep = self._latencies.append
        async for response in call:
            now = time.time_ns()
            event = response.event
            kind = event.WhichOneof("event")
            if kind == "message_part":
                if not frames:
                    self._first[chat_id] = time.perf_counter_ns()
                frames += 1
                for stamp in _STAMP.findall(event.message_part.text):
                    keep(now - int(stamp))
            elif kind == "caught_up":
                self._caught_up.release()
            elif kind == "status_changed" and _is_end(event.status_changed):
                call.cancel()
                return frames
        raise AssertionError(f"a stream ended before its turn: {await call.code()}")

    def _requests(self) -> list[pb.SendMessageRequest]:
        said = message_pb2.UserPart(text=message_pb2.UserText(text=self._task.text))
        message = message_pb2.UserMessage(parts=[said])
        return [
            pb.SendMessageRequest(chat_id=chat_id, message=message) for chat_id in self._chat_ids
        ]

    async def _calls(self, name: str, requests: Sequence[Any], response: Any) -> list[Any]:
        """Call all of them, with AT_ONCE calls in flight."""
        methods = [
            channel.unary_unary(
                f"{_SERVICE}{name}",
                request_serializer=type(requests[0]).SerializeToString,
                response_deserializer=response.FromString,
            )
            for channel in self._senders
        ]
        answers: list[Any] = [None] * len(requests)
        left = iter(enumerate(requests))

        async def user(number: int) -> None:
            method = methods[number % len(methods)]
            for index, request in left:
                answers[index] = await method(request, metadata=self._metadata)

        await asyncio.gather(*map(user, range(min(AT_ONCE, len(requests)))))
        return answers


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise AssertionError(f"expected {expected}, got {found}")


def _subscribe(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(
        f"{_SERVICE}Subscribe",
        request_serializer=pb.SubscribeRequest.SerializeToString,
        response_deserializer=pb.SubscribeResponse.FromString,
    )


def _is_end(changed: Any) -> bool:
    if changed.status == chat_pb2.CHAT_STATUS_ERROR:
        raise AssertionError(f"a turn failed: {changed.last_error}")
    return bool(
        changed.status == chat_pb2.CHAT_STATUS_WAITING
        and changed.stop_reason != chat_pb2.STOP_REASON_UNSPECIFIED
    )


def _channel(address: str) -> grpc.aio.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 26)]
    return grpc.aio.insecure_channel(address, options=options)


async def main(task: Task) -> None:
    """Prepare, wait for the start line, work, print the result."""
    loop = asyncio.get_running_loop()
    client = Client(task)
    await client.prepare()
    gc.collect()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    if task.kind != "hold":
        print(msgspec.json.encode(await client.work()).decode(), flush=True)
    await client.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run_fast(main(msgspec.json.decode(sys.stdin.readline(), type=Task)))
