"""A silent vendor times out, on a clock that the test controls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.failure import ErrorKind, ModelFailure
from chatd_server.providers.anthropic.model import AnthropicModel
from chatd_server.providers.http.causes import Cause, TransportFailure
from chatd_server.providers.http.silence import LOOKS, TAG
from chatd_server.providers.http.transport import READ_SECONDS, Response, Transport
from tests.kit.clock import ManualClock
from tests.providers.sandbox_kit import request

STEP = READ_SECONDS / LOOKS
"""Seconds between two checks of the watch."""
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Vendor:
    """A vendor on loopback that sends what the test writes, when the test writes it."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.left = asyncio.Event()
        self._asked: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def asked(self) -> asyncio.StreamWriter:
        """Wait for the next request; return the writer of its response."""
        return await self._asked.get()

    async def answer(self) -> asyncio.StreamWriter:
        """Wait for the next request, and begin a stream."""
        writer = await self.asked()
        writer.write(HEAD)
        return writer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests until the client disconnects."""
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                self._asked.put_nowait(writer)
        self.left.set()
        writer.close()


class Line:
    """Both ends of a stream."""

    def __init__(self, response: Response, writer: asyncio.StreamWriter) -> None:
        self._response = response
        self._writer = writer

    def say(self, words: bytes) -> None:
        """Send a chunk, as the vendor; an empty one ends the answer."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(words), words))

    def read(self) -> "asyncio.Task[bytes]":
        """Begin to read a chunk, as the adapter; b"" is the end."""
        return asyncio.create_task(self._next())

    async def _next(self) -> bytes:
        return await anext(self._response.chunks, b"")


@asynccontextmanager
async def stream(transport: Transport, vendor: Vendor) -> AsyncIterator[Line]:
    """Open a stream: its headers have arrived, and nothing else."""
    answering = asyncio.create_task(vendor.answer())
    async with transport.post(vendor.url, {}, b"{}") as response:
        yield Line(response, await answering)


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock for the test to advance."""
    return ManualClock()


@pytest.fixture
async def transport(clock: ManualClock) -> AsyncIterator[Transport]:
    """Open a pool and close it."""
    transport = Transport(clock)
    yield transport
    await transport.close()


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """Serve until the test ends."""
    vendor = Vendor()
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    vendor.url = f"http://{host}:{port}"
    yield vendor
    server.close()


async def watching(clock: ManualClock) -> int:
    """Return the number of watch tasks, each of which sleeps."""
    await clock.advance(0)
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == TAG]
    assert clock.tags() == [TAG] * len(tasks)
    return len(tasks)


def timers(transport: Transport) -> list[Any]:
    """Return aiohttp's running timers for open requests."""
    assert transport._pool is not None
    connections: Any = transport._pool.get_client().connector
    handles = [protocol._read_timeout_handle for protocol in connections._acquired]
    return [handle for handle in handles if handle is not None]


# --- which streams time out, and when ----------------------------------------------------------


@pytest.mark.parametrize("began", [0, 1, STEP - 1, STEP])
async def test_a_silent_vendor_is_a_timeout(
    clock: ManualClock, transport: Transport, vendor: Vendor, began: float
) -> None:
    """Never before the limit, and at most one check later; the connection is not used again."""
    async with stream(transport, vendor) as line:
        await clock.advance(began)
        reading = line.read()
        await clock.advance(READ_SECONDS)
        assert not reading.done()
        await clock.advance(STEP)
        with pytest.raises(TransportFailure, match="nothing came for too long") as failed:
            await reading
    assert failed.value.cause is Cause.TIMEOUT
    await vendor.left.wait()


async def test_a_vendor_that_says_something_now_and_then_is_waited_for(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """The limit applies to each silence, and to nothing else."""
    async with stream(transport, vendor) as line:
        for _ in range(3 * LOOKS):
            reading = line.read()
            await clock.advance(READ_SECONDS - 1)
            line.say(b"hm")
            assert await reading == b"hm"


async def test_a_slow_reader_is_not_failed(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """Time without a read is not the vendor's silence, whether data arrived or not."""
    async with stream(transport, vendor) as line:
        line.say(b"a")
        assert await line.read() == b"a"
        line.say(b"b")
        await clock.advance(10 * READ_SECONDS)
        assert await line.read() == b"b"

        await clock.advance(10 * READ_SECONDS)
        reading = line.read()
        await clock.advance(READ_SECONDS - 1)
        line.say(b"c")
        assert await reading == b"c"


async def test_a_read_that_was_given_up_is_not_counted(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """The next read has the full limit."""
    async with stream(transport, vendor) as line:
        given_up = line.read()
        await clock.advance(READ_SECONDS - 1)
        given_up.cancel()
        await clock.advance(READ_SECONDS)
        reading = line.read()
        await clock.advance(READ_SECONDS)
        assert not reading.done()
        await clock.advance(STEP)
        with pytest.raises(TransportFailure):
            await reading


async def test_each_stream_is_watched_for_itself(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """An active stream does not affect another one."""
    async with stream(transport, vendor) as silent, stream(transport, vendor) as lively:
        waits = silent.read()
        for _ in range(LOOKS + 1):
            reading = lively.read()
            await clock.advance(STEP)
            lively.say(b"hm")
            assert await reading == b"hm"
        with pytest.raises(TransportFailure):
            await waits


async def test_a_silent_model_is_asked_again(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """Silence is a failure of the vendor, and the next attempt may succeed."""
    model = AnthropicModel("m", api_key="k", base_url=vendor.url, transport=transport)
    parts = model.conversation().stream(request("hello"))

    async def first() -> AnswerPart:
        return await anext(parts)

    asking = asyncio.create_task(first())
    await vendor.answer()
    await clock.sleeping(TAG)
    await clock.advance(READ_SECONDS + STEP)

    with pytest.raises(ModelFailure) as failed:
        await asking
    assert (failed.value.error.kind, failed.value.error.retryable) == (ErrorKind.TIMEOUT, True)


async def test_the_wait_for_headers_is_bounded(transport: Transport, vendor: Vendor) -> None:
    """By aiohttp, even on a connection whose last stream the watch handled."""
    async with stream(transport, vendor) as line:
        line.say(b"")
        assert await line.read() == b""
    asking = asyncio.create_task(transport.post(vendor.url, {}, b"{}").__aenter__())
    await vendor.asked()
    assert vendor.connections == 1

    (timer,) = timers(transport)
    timer._run()

    with pytest.raises(TransportFailure) as failed:
        await asking
    assert failed.value.cause is Cause.TIMEOUT


# --- its cost ----------------------------------------------------------------------------------


async def test_a_chunk_sets_no_timer(transport: Transport, vendor: Vendor) -> None:
    """Only the watch has a timer."""
    async with stream(transport, vendor) as line:
        assert not timers(transport)
        line.say(b"a")
        assert await line.read() == b"a"
        assert not timers(transport)


async def test_one_task_watches_as_long_as_a_stream_is_open(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """A server without streams has no timer."""
    assert await watching(clock) == 0
    async with stream(transport, vendor):
        async with stream(transport, vendor):
            assert await watching(clock) == 1
        assert await watching(clock) == 1
    assert await watching(clock) == 0
    async with stream(transport, vendor):
        assert await watching(clock) == 1
    assert await watching(clock) == 0


async def test_a_cancelled_reader_leaves_no_task(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """A turn that is stopped stops its watch."""

    async def read() -> None:
        async with stream(transport, vendor) as line:
            await line._next()

    reader = asyncio.create_task(read())
    await clock.sleeping(TAG)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await watching(clock) == 0


async def test_closing_fails_the_streams_that_are_open(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """A reader does not wait for a closed connection, and no task is left."""
    async with stream(transport, vendor) as line:
        reading = line.read()
        assert await watching(clock) == 1
        await transport.close()
        with pytest.raises(TransportFailure) as failed:
            await reading
        assert failed.value.cause is Cause.RESET
        assert await watching(clock) == 0


async def test_a_stream_of_before_the_closing_stops_no_other_watch(
    clock: ManualClock, transport: Transport, vendor: Vendor
) -> None:
    """It is no longer watched, so its end changes nothing."""
    before, after = stream(transport, vendor), stream(transport, vendor)
    await before.__aenter__()
    await transport.close()
    async with after:
        await before.__aexit__(None, None, None)
        assert await watching(clock) == 1
    assert await watching(clock) == 0
