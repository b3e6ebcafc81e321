"""HTTP to model vendors: the only file that knows the HTTP libraries.

httpx's interface on aiohttp's transport: a paced event costs a third of what httpx alone costs.
Every failure is named by its cause (connect, timeout, reset, protocol), whatever exception the
libraries chose for it: refused, DNS and a full pool all arrive as a connect timeout, and some
escape as aiohttp's own.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

CONNECTIONS_MAX = 10_000
"""Open streams to all vendors; httpx's default of 100 refused 500 of 1,000 streams."""
CONNECT_SECONDS = 10.0
READ_SECONDS = 300.0
"""Longest silence between two reads. Vendors think for minutes before the first byte."""
ERROR_BODY_BYTES_MAX = 64 * 1024
"""How much of an error's body is read."""


class Cause(StrEnum):
    """Why a request failed before the vendor's own word was complete."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"


class TransportFailure(Exception):
    """The network failed. `cause` says how; the text names no URL, for it may hold a key."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Response(msgspec.Struct, frozen=True):
    """An answer whose body is still on its way. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


async def read_body(response: Response, bytes_max: int = ERROR_BODY_BYTES_MAX) -> bytes:
    """Return a body, at most `bytes_max` of it."""
    body = bytearray()
    async for chunk in response.chunks:
        body += chunk
        if len(body) >= bytes_max:
            break
    return bytes(body[:bytes_max])


class Transport:
    """One pool of connections to vendors, opened with the first request."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Response]:
        """Send a request and hand out its answer; leaving the context drops the connection.

        Raises TransportFailure.
        """
        client = self._client or await self._open()
        request = client.build_request(
            "POST", url, headers={"accept-encoding": "identity", **headers}, content=body
        )
        try:
            response = await client.send(request, stream=True)
        except _FAILURES as error:
            raise _named(error) from error
        try:
            yield Response(
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                chunks=_chunks(response),
            )
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                # In a thread: to read all authorities takes up to 90 ms, and the streams of
                # other chats go on meanwhile.
                trusted = await asyncio.to_thread(httpx.create_ssl_context)
                self._client = _client(trusted)
            return self._client


def _client(trusted: ssl.SSLContext) -> httpx.AsyncClient:
    limits = httpx.Limits(
        max_connections=CONNECTIONS_MAX,
        max_keepalive_connections=CONNECTIONS_MAX,
        keepalive_expiry=30.0,
    )
    return httpx.AsyncClient(
        transport=_ShortTransport(verify=trusted, limits=limits),
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
    )


_FAILURES = (
    httpx.HTTPError,
    httpx.StreamError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,
    ssl.SSLError,
    asyncio.IncompleteReadError,
    TimeoutError,
    ValueError,
)


class _ShortTransport(AiohttpTransport):
    """Also hands out how aiohttp itself is read.

    Between that and httpx's `aiter_raw` lie four generators, and each token would pass them all.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and put the stream where `_chunks` finds it."""
        response = await super().handle_async_request(request)
        answer = getattr(response.stream, "_aiohttp_response", None)
        if isinstance(answer, aiohttp.ClientResponse):
            response.extensions[_READ] = answer.content.readany
        return response


_READ = "chatd.read"


class _Chunks:
    """The chunks of a body as they come. No generator: each one costs every token its passage."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._read()
        except _FAILURES as error:
            raise _named(error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


def _chunks(response: httpx.Response) -> _Chunks:
    read = response.extensions.get(_READ)
    if read is None:
        raw = response.aiter_raw()

        async def read() -> bytes:
            return await anext(raw, b"")

    return _Chunks(read)


def _named(error: BaseException) -> TransportFailure:
    """Return the failure that lies at the bottom of an exception."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) and below not in chain:
        chain.append(below)
    for member in reversed(chain):
        for kinds, cause, words in _CAUSES:
            if isinstance(member, kinds):
                return TransportFailure(cause, words)
    words = f"the answer is not valid HTTP ({type(error).__name__})"
    return TransportFailure(Cause.PROTOCOL, words)


# The first match from the bottom of the chain wins, so the narrow ones stand first.
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], Cause, str], ...] = (
    ((aiohttp.ClientConnectorError,), Cause.CONNECT, "the connection could not be made"),
    ((httpx.UnsupportedProtocol, httpx.InvalidURL), Cause.PROTOCOL, "the address is not valid"),
    ((ssl.SSLError,), Cause.CONNECT, "the TLS handshake failed"),
    ((ConnectionRefusedError,), Cause.CONNECT, "the connection was refused"),
    ((aiohttp.ServerDisconnectedError,), Cause.RESET, "the connection was closed too early"),
    ((aiohttp.ClientPayloadError,), Cause.RESET, "the connection was closed too early"),
    ((ConnectionError, asyncio.IncompleteReadError), Cause.RESET, "the connection was reset"),
    ((aiohttp.SocketTimeoutError, httpx.ReadTimeout), Cause.TIMEOUT, "nothing came for too long"),
    ((aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout), Cause.CONNECT, "connecting hung"),
    ((httpx.ConnectError, OSError), Cause.CONNECT, "the connection could not be made"),
    ((TimeoutError, httpx.TimeoutException), Cause.TIMEOUT, "nothing came for too long"),
    ((httpx.NetworkError,), Cause.RESET, "the connection was reset"),
)
