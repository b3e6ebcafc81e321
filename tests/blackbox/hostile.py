"""Thousands of bad requests to a real server: it refuses each one properly and keeps running."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status

from chatd.v1 import admin_service_pb2, chat_service_pb2
from tests.blackbox.calls import Caller
from tests.blackbox.follower import SETTLED, Follower, Story
from tests.blackbox.hostile_messages import Composer, garble, odd_metadata
from tests.blackbox.oracle import judge
from tests.blackbox.rules import ViolationError, first_of
from tests.blackbox.servers import Server
from tests.blackbox.storm import look_at_the_log_of
from tests.blackbox.waits import OWED_SECONDS, ended, pause

AT_ONCE = 8
MEMORY_GROWTH_MAX = 96 * 1024 * 1024
"""From the middle of a run to its end: by then buffers and caches are full."""
DETAILS_BYTES_MAX = 4096
REQUEST_BYTES_MAX = 4_194_304
LOOK_SECONDS = 0.3
"""How long to read a stream, or a call that may wait."""
WAITS = {"Subscribe", "WatchChats", "RunTurn", "ListEvents"}
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
OURS = {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
ERRORS_PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def documented_reasons() -> dict[str, str]:
    """Return the status code of each reason in docs/errors.md."""
    row = re.compile(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", re.MULTILINE)
    return dict(row.findall(ERRORS_PAGE.read_text(encoding="utf-8")))


def methods() -> Iterator[MethodDescriptor]:
    """Yield every RPC of the contract."""
    for file in (admin_service_pb2, chat_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


@dataclass
class Attack:
    """A number of requests from one seed, to one server."""

    server: Server
    caller: Caller
    seed: int
    requests: int
    told: Callable[["Attack"], None] = lambda _: None
    counted: Counter[str] = field(default_factory=Counter)
    """Calls by outcome."""
    memory_in_the_middle: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.composer = Composer(self.rng)
        self.reasons = documented_reasons()
        self.methods = list(methods())
        self.numbers = iter(range(self.requests))

    async def run(self) -> None:
        """Send everything; raise the first violation."""
        names = await self.caller.implemented()
        self.implemented = [method for method in self.methods if method.name in names]
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(AT_ONCE):
                    lanes.create_task(self._lane())
        except* ViolationError as violations:
            raise first_of(violations) from None
        look_at_the_log_of(self.server)
        await self._answers_afterwards()
        growth = self.server.memory() - self.memory_in_the_middle
        if growth > MEMORY_GROWTH_MAX:
            raise ViolationError(f"{growth:,} bytes more memory after the second half")

    async def _lane(self) -> None:
        for number in self.numbers:
            if number == self.requests // 2:
                self.memory_in_the_middle = self.server.memory()
            if self.rng.random() < 0.01:
                await self._no_http_at_all()
            else:
                known = self.implemented if self.rng.random() < 0.9 else self.methods
                await self._send(self.rng.choice(known))
            self.told(self)

    async def _send(self, method: MethodDescriptor) -> None:
        request = self.composer.request(method.input_type)
        wire = request.SerializeToString()
        garbled = self.rng.random() < 0.25
        if garbled:
            wire = garble(wire, self.rng)
        metadata = odd_metadata(self.rng, self.server.key)
        call = self._call(method, wire, metadata)
        if self.rng.random() < 0.1:
            cancel = asyncio.create_task(self._cancel_soon(call))
            await self._outcome(method, call, request, wire)
            await cancel
        else:
            await self._outcome(method, call, request, wire)

    def _call(self, method: MethodDescriptor, wire: bytes, metadata: object) -> Any:
        service = method.containing_service.full_name
        path = f"/{service}/{method.name}"
        if self.rng.random() < 0.01:
            path += self.rng.choice(["X", "/", "/..", "%00"])
        answer = message_factory.GetMessageClass(method.output_type)
        # Bytes are sent unchanged; a streaming call also receives the one response of a unary RPC.
        open_call: Any = self.caller.channel.unary_stream(path, None, answer.FromString)
        seconds = LOOK_SECONDS if method.name in WAITS else OWED_SECONDS
        return open_call(wire, metadata=metadata, timeout=seconds)

    async def _cancel_soon(self, call: Any) -> None:
        await pause(self.rng.uniform(0, 0.01))
        call.cancel()

    async def _outcome(
        self, method: MethodDescriptor, call: Any, request: Message, wire: bytes
    ) -> None:
        """Read the response, collect ids from it, and check how it ended."""
        try:
            async for response in call:
                self._learn(response)
            self.counted["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.counted[error.code().name] += 1
            wrong = self._wrong_with(error, wire)
            if wrong is not None:
                what = f"{method.full_name}: {error.code().name} {error.details()}: {wrong}"
                violation = ViolationError(what)
                violation.add_note(f"request: {str(request)[:2000]}\nwire: {wire[:1000].hex()}")
                raise violation from error
        except asyncio.CancelledError:
            # Either we cancelled the call, or this task was cancelled and must end.
            self.counted["CANCELLED"] += 1
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise

    def _wrong_with(self, error: grpc.aio.AioRpcError, wire: bytes) -> str | None:
        code = error.code()
        if code in NEVER:
            return "a request made the server fail"
        if code in OURS:
            return None
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        if status is None:
            bare = code is grpc.StatusCode.UNIMPLEMENTED or len(wire) > REQUEST_BYTES_MAX
            return None if bare else "no google.rpc.Status"
        infos = [detail for detail in status.details if detail.Is(_info().DESCRIPTOR)]
        if len(infos) != 1:
            return f"{len(infos)} ErrorInfo"
        info = _info()
        infos[0].Unpack(info)
        if info.domain != "chatd" or self.reasons.get(info.reason) != code.name:
            return f"docs/errors.md has no {info.domain} {info.reason} with this status"
        if sum(detail.ByteSize() for detail in status.details) > DETAILS_BYTES_MAX:
            return "details of more than 4 KiB"
        return None

    def _learn(self, message: Message) -> None:
        """Remember values for later requests."""
        for known, value in message.ListFields():
            if known.message_type is not None and not known.is_repeated:
                self._learn(value)
            elif known.name.endswith(("_id", "_token", "etag")) and isinstance(value, str):
                self.composer.remember(known.name.removeprefix("next_"), value)

    async def _no_http_at_all(self) -> None:
        """Open a connection and send bytes that are not HTTP."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        with suppress(ConnectionError):
            if self.rng.random() < 0.5:
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            writer.write(self.rng.randbytes(self.rng.choice([0, 1, 9, 5000])))
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.counted["nonsense"] += 1

    async def _answers_afterwards(self) -> None:
        """Run one ordinary conversation."""
        created = await self.caller.create("!text 20\n!call current_time\n!step\n!say Still here.")
        story = Story(created.chat.chat_id, created.sequence)
        follower = Follower("after the attack", story, lambda: self.caller, until=SETTLED)
        following = asyncio.create_task(follower.follow())
        if not await ended(following, 2 * OWED_SECONDS):
            following.cancel()
            raise ViolationError("the server does not finish a turn after the attack")
        await following
        await judge(self.caller, story, [follower])


def _info() -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo()
