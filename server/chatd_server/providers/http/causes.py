"""Why an HTTP request failed, independent of the exception that the libraries raise.

A refused connection, a failed DNS lookup and a full pool all arrive as a connect timeout, and some
failures arrive as aiohttp's own exceptions.
"""

import asyncio
import ssl
from enum import StrEnum

import aiohttp
import httpx

FAILURES = (
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


class Cause(StrEnum):
    """Why a request failed before the response was complete."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    #: The configured address is not a valid HTTP URL.
    ADDRESS = "address"


class TransportFailure(Exception):
    """A network failure. The message names no URL, because a URL may contain a key."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def named(error: BaseException) -> TransportFailure:
    """Return the failure for the root cause of an exception."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) and below not in chain:
        chain.append(below)
    for member in reversed(chain):
        for kinds, cause, words in _CAUSES:
            if isinstance(member, kinds):
                return TransportFailure(cause, words)
    words = f"the answer is not valid HTTP ({type(error).__name__})"
    return TransportFailure(Cause.PROTOCOL, words)


# The first match from the root of the chain wins, so narrow types come first.
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], Cause, str], ...] = (
    ((aiohttp.ClientConnectorError,), Cause.CONNECT, "the connection could not be made"),
    ((httpx.UnsupportedProtocol, httpx.InvalidURL), Cause.ADDRESS, "the address is not valid"),
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
