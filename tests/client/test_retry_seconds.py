"""How long a unary call is retried, on a held clock."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import Client, NotFound, SyncClient, Unavailable
from chatd_client.clock import Clock
from chatd_server.demo.server import ServerProcess
from tests.client.scripted import scripted_server


@dataclass
class HeldClock(Clock):
    """Time that passes only in pauses."""

    seconds: float = 1000.0
    pauses: list[float] = field(default_factory=list)
    on_pause: Callable[[float], None] = lambda _: None

    def now(self) -> float:
        return self.seconds

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds
        self.on_pause(self.seconds)


def held(client: Client) -> HeldClock:
    """Give a client a clock that is held."""
    client._clock = clock = HeldClock()
    return clock


@pytest.mark.parametrize("retry_seconds", [None, 60.0], ids=["by default", "as it was told"])
async def test_a_call_is_tried_for_so_long(retry_seconds: float | None) -> None:
    """Waits grow to one second; the last ends with the time, and one try follows."""
    options: dict[str, Any] = {} if retry_seconds is None else {"retry_seconds": retry_seconds}
    async with (
        scripted_server() as (service, address),
        Client(address, "chatd_k", **options) as client,
    ):
        service.answer = lambda _: grpc.StatusCode.UNAVAILABLE
        clock = held(client)
        with pytest.raises(Unavailable):
            await client.chat("c").get()
        assert sum(clock.pauses) == pytest.approx(retry_seconds or 10.0)
        assert max(clock.pauses) <= 1.0
        assert len(service.calls) == len(clock.pauses) + 1


async def test_a_server_that_comes_back_in_time_is_waited_for() -> None:
    """A call that failed for nine seconds succeeds."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        clock = held(client)

        def answer(request: Any) -> Any:
            if clock.seconds < 1009.0:
                return grpc.StatusCode.UNAVAILABLE
            return chat_service_pb2.GetChatResponse(chat=chat_pb2.Chat(chat_id=request.chat_id))

        service.answer = answer
        assert (await client.chat("c").get()).chat_id == "c"


@pytest.mark.parametrize(
    ("retry_seconds", "code", "error"),
    [
        pytest.param(0.0, grpc.StatusCode.UNAVAILABLE, Unavailable, id="told to try once"),
        pytest.param(10.0, grpc.StatusCode.NOT_FOUND, NotFound, id="an answer of the server"),
        pytest.param(10.0, grpc.StatusCode.DEADLINE_EXCEEDED, Unavailable, id="a try of 30 s"),
    ],
)
async def test_a_call_is_tried_once(
    retry_seconds: float, code: grpc.StatusCode, error: type[Exception]
) -> None:
    """The program wants one try, or another try would not help."""
    async with (
        scripted_server() as (service, address),
        Client(address, "chatd_k", retry_seconds=retry_seconds) as client,
    ):
        service.answer = lambda _: code
        clock = held(client)
        with pytest.raises(error):
            await client.chat("c").get()
        assert (clock.pauses, len(service.calls)) == ([], 1)


async def test_the_sync_twin_tries_as_long_as_it_is_told() -> None:
    """Its keyword is the same."""
    async with scripted_server() as (service, address):
        service.answer = lambda _: grpc.StatusCode.UNAVAILABLE

        def script() -> None:
            with SyncClient(address, "chatd_k", retry_seconds=0) as client:
                client.chat("c").get()

        with pytest.raises(Unavailable):
            await asyncio.to_thread(script)
        assert len(service.calls) == 1


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_an_invalid_time_is_refused(seconds: float) -> None:
    """At once, and no thread of the twin is left."""
    with pytest.raises(ValueError, match="retry_seconds"):
        SyncClient("127.0.0.1:1", "chatd_k", retry_seconds=seconds)


@pytest.mark.timeout(120)
async def test_a_call_bridges_a_restart(tmp_path: Path) -> None:
    """The server is killed before the call and started again while it is tried."""
    server = ServerProcess(tmp_path)
    await server.start()
    async with Client(f"127.0.0.1:{server.port}", server.key, retry_seconds=60.0) as client:
        chat = await client.create_chat(model="sandbox/echo")
        await server.kill()
        call = asyncio.create_task(chat.get())
        await server.start()
        assert (await call).chat_id == chat.id
    await server.stop()
