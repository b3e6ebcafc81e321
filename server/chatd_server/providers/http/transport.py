"""HTTP requests to model vendors.

httpx's interface on aiohttp's transport: an event of a paced stream costs a third of httpx alone.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from chatd_server.ports.clock import Clock
from chatd_server.providers.http.causes import FAILURES, Cause, TransportFailure, named
from chatd_server.providers.http.silence import SilenceWatch

CONNECTIONS_MAX = 10_000
"""Open streams to all vendors together; httpx's default of 100 refused 500 of 1,000 streams."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 300.0
"""Longest wait for the headers, and then for each chunk. Models may think for minutes before the
first byte."""
KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept open."""
ERROR_BODY_BYTES_MAX = 64 * 1024
"""How much of an error body is read."""

SLICE_BYTES = 64 * 1024
"""Bytes per read of an answer. A fast vendor sends thousands of tokens at once; between slices,
other tasks run."""
BODY_SLICE_BYTES = 1024 * 1024
"""Bytes per write of a request."""


class Response(msgspec.Struct, frozen=True):
    """A response whose body has not been read. The case of a header's name does not matter."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


async def read_body(response: Response, bytes_max: int = ERROR_BODY_BYTES_MAX) -> bytes:
    """Return the body, up to `bytes_max` bytes."""
    body = bytearray()
    async for chunk in response.chunks:
        body += chunk
        if len(body) >= bytes_max:
            break
    return bytes(body[:bytes_max])


class Transport:
    """One pool of connections to vendors, opened by the first request.

    It uses httpx's transport, not its client: vendors need nothing that a client adds (cookies,
    redirects, authentication), which costs as much as the request itself.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silence: SilenceWatch[_Chunks] = SilenceWatch(clock, READ_SECONDS)
        self._pool: _ShortTransport | None = None
        self._opening = asyncio.Lock()
        self._urls: dict[str, httpx.URL] = {}

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Response]:
        """Send a request and yield its response; leaving the context drops the connection.

        Raises TransportFailure.
        """
        pool = self._pool or await self._open()
        try:
            response = await pool.handle_async_request(self._request(url, headers, body))
        except FAILURES as error:
            raise named(error) from error
        chunks = _chunks(response, self._clock)
        try:
            with self._silence.over(chunks):
                yield Response(
                    status=response.status_code,
                    headers=response.headers,
                    chunks=chunks,
                )
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections; open streams fail."""
        for chunks in self._silence.stop():
            chunks.fail(TransportFailure(Cause.RESET, "the connection was closed"))
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    def _request(self, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        # An adapter has one or two addresses, and parsing a URL costs more than the rest of this.
        parsed = self._urls.get(url)
        if parsed is None:
            parsed = self._urls[url] = httpx.URL(url)
        sent = {**_HEADERS, **headers}
        if len(body) > BODY_SLICE_BYTES:
            sent["content-length"] = str(len(body))
            slices = self._slices(body)
            return httpx.Request("POST", parsed, headers=sent, content=slices, extensions=_LIMITS)
        # With a stream httpx adds no headers of its own, which takes ten times as long as the rest;
        # aiohttp adds host and length anyway.
        stream = httpx.ByteStream(body)
        request = httpx.Request("POST", parsed, headers=sent, stream=stream, extensions=_LIMITS)
        request.read()
        return request

    async def _slices(self, body: bytes) -> AsyncIterator[bytes]:
        """Yield a long body in slices, so that writing it does not block other tasks."""
        for start in range(0, len(body), BODY_SLICE_BYTES):
            if start:
                await self._clock.sleep(0, "http.slice")
            yield body[start : start + BODY_SLICE_BYTES]

    async def _open(self) -> "_ShortTransport":
        async with self._opening:
            if self._pool is None:
                # In a thread: loading all certificate authorities takes up to 90 ms, and other
                # chats keep streaming meanwhile.
                trusted = await asyncio.to_thread(httpx.create_ssl_context)
                self._pool = _ShortTransport(trusted)
            return self._pool


_HEADERS = {"accept-encoding": "identity", "user-agent": "chatd"}
_LIMITS = {
    "timeout": {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "pool": CONNECT_SECONDS},
}


class _ShortTransport(AiohttpTransport):
    """Also gives access to aiohttp's own reader.

    httpx's `aiter_raw` adds four generators on top of it, and each token would pass them all.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_SECONDS, ssl=trusted
        )
        # A cookie from one chat's response must not be sent with another chat's request.
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        super().__init__(verify=trusted, client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, and keep the stream where `_chunks` finds it."""
        response = await super().handle_async_request(request)
        answer = getattr(response.stream, "_aiohttp_response", None)
        if isinstance(answer, aiohttp.ClientResponse):
            response.extensions[_BODY] = answer.content
            _leave_silence_to_the_watch(answer)
        return response


def _leave_silence_to_the_watch(answer: aiohttp.ClientResponse) -> None:
    """Stop aiohttp's timer, which it resets for each chunk, until the next request."""
    connection = answer.connection
    if connection is not None and connection.protocol is not None:
        connection.protocol.read_timeout = None
        connection.protocol.start_timeout()  # with a timeout of None this stops the running timer


_BODY = "chatd.body"


class _Chunks:
    """The chunks of a body as they arrive. Not a generator, which would add a cost per token.

    Without `body` (httpx reads the response), aiohttp watches for silence.
    """

    __slots__ = ("_body", "_clock", "_left", "_read", "reads")

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes]],
        body: aiohttp.StreamReader | None,
        clock: Clock,
    ) -> None:
        self._read = read
        self._body = body
        self._clock = clock
        #: The rest of a chunk that was longer than a slice.
        self._left = b""
        self.reads = 0

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        if self._left:
            await self._clock.sleep(0, "http.slice")
            return self._slice(self._left)
        self.reads += 1
        try:
            chunk = await self._read()
        except FAILURES as error:
            raise named(error) from error
        finally:
            self.reads += 1
        if not chunk:
            raise StopAsyncIteration
        return chunk if len(chunk) <= SLICE_BYTES else self._slice(chunk)

    def _slice(self, chunk: bytes) -> bytes:
        self._left = chunk[SLICE_BYTES:]
        return chunk[:SLICE_BYTES]

    def time_out(self) -> None:
        """Fail the waiting read, because the vendor is silent."""
        self.fail(TransportFailure(Cause.TIMEOUT, "nothing came for too long"))

    def fail(self, failure: TransportFailure) -> None:
        """Fail the waiting read, or the next one."""
        if self._body is not None:
            self._body.set_exception(failure)


def _chunks(response: httpx.Response, clock: Clock) -> _Chunks:
    body: aiohttp.StreamReader | None = response.extensions.get(_BODY)
    if body is not None:
        return _Chunks(body.readany, body, clock)
    raw = response.aiter_raw()

    async def read() -> bytes:
        return await anext(raw, b"")

    return _Chunks(read, None, clock)
