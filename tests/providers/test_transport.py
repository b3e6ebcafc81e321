"""Every failure of a connection has a cause, whatever exception the libraries raise."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

from chatd_server.providers.http.causes import Cause, TransportFailure
from chatd_server.providers.http.transport import BODY_SLICE_BYTES, SLICE_BYTES, Transport
from tests.kit.clock import ManualClock


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """Open a pool and close it."""
    transport = Transport(ManualClock())
    yield transport
    await transport.close()


async def _body(transport: Transport, url: str) -> bytes:
    async with transport.post(url, {}, b"{}") as response:
        return b"".join([chunk async for chunk in response.chunks])


async def _served(answer: bytes, *, ends: bool = True) -> tuple[asyncio.Server, str]:
    """Serve these bytes, then close the connection, or leave that to the client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if not ends:
            await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    return server, f"http://{host}:{port}/v1"


async def test_a_refused_connection_is_connect(transport: Transport) -> None:
    """The port is closed."""
    server, url = await _served(b"")
    server.close()
    await server.wait_closed()
    with pytest.raises(TransportFailure) as failed:
        await _body(transport, url)
    assert failed.value.cause is Cause.CONNECT


async def test_a_name_that_does_not_exist_is_connect(transport: Transport) -> None:
    """The DNS lookup fails."""
    with pytest.raises(TransportFailure) as failed:
        await _body(transport, "http://nobody.invalid/v1")
    assert failed.value.cause is Cause.CONNECT


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(b"", Cause.RESET, id="closed before the answer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", Cause.RESET, id="cut by length"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Cause.RESET,
            id="cut between chunks",
        ),
        pytest.param(b"what is this\r\n\r\n", Cause.PROTOCOL, id="no HTTP"),
    ],
)
async def test_a_broken_answer_is_named(transport: Transport, answer: bytes, cause: Cause) -> None:
    """Each broken response has its cause, and the message names no URL."""
    server, url = await _served(answer)
    async with server:
        with pytest.raises(TransportFailure) as failed:
            await _body(transport, url)
    assert failed.value.cause is cause
    assert "127.0.0.1" not in str(failed.value)


async def test_an_address_that_http_cannot_use_is_named(transport: Transport) -> None:
    """A wrong configuration is not retried."""
    with pytest.raises(TransportFailure) as failed:
        await _body(transport, "ftp://127.0.0.1/v1")
    assert failed.value.cause is Cause.ADDRESS


async def test_nothing_of_httpx_lies_between_a_chunk_and_its_reader(transport: Transport) -> None:
    """A reader waits at aiohttp's own stream: the way through httpx works too, but costs more."""
    server, url = await _served(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", ends=False
    )
    async with server, transport.post(url, {}, b"{}") as response:
        assert await anext(response.chunks) == b"abc"
        reading: Any = response.chunks.__anext__()
        reading.send(None)  # now it waits for a chunk that never comes
        assert [*_files(reading)][-1].endswith("aiohttp/streams.py")
        assert not any("/httpx/" in file or "/httpx_aiohttp/" in file for file in _files(reading))
        reading.close()


async def test_the_first_request_does_not_hold_up_the_loop(transport: Transport) -> None:
    """TLS certificates are loaded in a thread, and other tasks continue meanwhile."""
    turns = 0
    loop = asyncio.get_running_loop()
    again: asyncio.Handle

    def turn() -> None:
        nonlocal turns, again
        turns += 1
        again = loop.call_soon(turn)

    again = loop.call_soon(turn)
    server, url = await _served(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    )
    async with server:
        turns = 0
        assert await _body(transport, url) == b"ok"
        first, turns = turns, 0
        assert await _body(transport, url) == b"ok"
    again.cancel()
    assert first > 4 * turns


def _files(waiting: Any) -> Iterator[str]:
    """Yield the file of each coroutine in a chain of awaits."""
    while isinstance(waiting, CoroutineType):
        yield Path(waiting.cr_code.co_filename).as_posix()
        waiting = waiting.cr_await


async def _received(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return head, await reader.readexactly(int(lines[b"content-length"]))


@pytest.mark.parametrize("size", [2, BODY_SLICE_BYTES, BODY_SLICE_BYTES + 1, 5_000_000])
async def test_a_request_of_any_length_arrives_as_it_is(transport: Transport, size: int) -> None:
    """A long one is written in slices, and has a content length like every other."""
    taken: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set_result(await _received(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with server, transport.post(f"http://{host}:{port}/v1", {}, body) as response:
        assert [chunk async for chunk in response.chunks] == [b"ok"]
    head, received = await taken
    assert received == body
    assert b"chunked" not in head.lower()


async def test_an_answer_that_comes_at_once_is_read_in_slices(transport: Transport) -> None:
    """A megabyte has thousands of tokens; other tasks run between slices of it."""
    body = bytes(range(256)) * 4096
    server, url = await _served(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    async with server, transport.post(url, {}, b"{}") as response:
        chunks = [chunk async for chunk in response.chunks]
    assert b"".join(chunks) == body
    assert max(map(len, chunks)) <= SLICE_BYTES
