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
KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept."""
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
    """One pool of connections to vendors, opened with the first request.

    It is httpx's transport and not its client: what a client adds (cookies, redirects,
    authentication) is nothing that a vendor asks for, and costs as much as the request itself.
    """

    def __init__(self) -> None:
        self._pool: _ShortTransport | None = None
        self._opening = asyncio.Lock()
        self._urls: dict[str, httpx.URL] = {}

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Response]:
        """Send a request and hand out its answer; leaving the context drops the connection.

        Raises TransportFailure.
        """
        pool = self._pool or await self._open()
        try:
            response = await pool.handle_async_request(self._request(url, headers, body))
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
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    def _request(self, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        # An adapter has one or two addresses, and parsing one costs more than the rest.
        parsed = self._urls.get(url)
        if parsed is None:
            parsed = self._urls[url] = httpx.URL(url)
        return httpx.Request(
            "POST",
            parsed,
            headers={**_HEADERS, **headers},
            content=body,
            extensions={"timeout": _TIMEOUTS},
        )

    async def _open(self) -> "_ShortTransport":
        async with self._opening:
            if self._pool is None:
                # In a thread: to read all authorities takes up to 90 ms, and the streams of
                # other chats go on meanwhile.
                trusted = await asyncio.to_thread(httpx.create_ssl_context)
                self._pool = _ShortTransport(trusted)
            return self._pool


_HEADERS = {"accept-encoding": "identity", "user-agent": "chatd"}
_TIMEOUTS = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "pool": CONNECT_SECONDS}

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

    def __init__(self, trusted: ssl.SSLContext) -> None:
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_SECONDS, ssl=trusted
        )
        # What one chat's answer sets is nothing that another chat's request may carry.
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        super().__init__(verify=trusted, client=session)

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
