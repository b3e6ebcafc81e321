"""grpc's asyncio server, without three weaknesses that a hostile client can use.

- It decodes the path of each call in its main loop, so one path that is not UTF-8 ends the server
  for all clients. Here every method is registered by name and C-core compares the bytes; any other
  path is answered UNIMPLEMENTED and never decoded.
- It logs a traceback whenever a client leaves while its response is sent.
- It has no deadline for the request of a call (see `edge.arrivals`).

The first needs private parts of grpc. Where those are not as expected, grpc's own server is used
as it is.
"""

# ruff: noqa: SLF001  the private parts are the point

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # Cython has no types

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Options: TypeAlias = Iterable[tuple[str, int]]

UNKNOWN = "(unknown)"
"""The method's name in grpc's own log, in place of what the client sent."""


def new_server(options: Options) -> grpc.aio.Server:
    """Return a server that answers registered methods only."""
    logging.getLogger(cygrpc.__name__).addFilter(_is_worth_a_line)
    options = tuple(options)
    server: Any = grpc.aio.server(options=options)
    try:
        server._server = _AioServer(server._loop, None, (), None, options, None)
    except TypeError:
        logging.getLogger(__name__).warning(
            "grpc %s has a different server inside, and a path that is not UTF-8 ends it; "
            "install the version of grpcio that chatd is tested with",
            grpc.__version__,
        )
    answer: grpc.aio.Server = server
    return answer


def register(server: grpc.aio.Server, handlers: Mapping[str, Handler]) -> None:
    """Let a server answer methods, named "package.Service/Method"."""
    for name, handler in handlers.items():
        service, _, method = name.partition("/")
        server.add_registered_method_handlers(service, {method: handler})


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # Cython has no types
    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Return the next call of a registered method. The task for all other calls gives no call
        to the main loop: it refuses them until the server stops.
        """
        if method is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown(), name="rpc.unknown")

    async def _refuse_unknown(self) -> None:
        loop = asyncio.get_running_loop()
        nothing = cygrpc._MethodResolver([], {})
        refusing: set[asyncio.Task[None]] = set()
        while True:
            state = await self._request_call()
            refusal = cygrpc._handle_rpc(UNKNOWN, nothing, (), state, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, state, loop, UNKNOWN))
            refusing.add(task)
            task.add_done_callback(refusing.discard)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Drop what grpc logs when it cannot send because the client has left, and when a header is
    not UTF-8: that line shows the bytes, and they may be a key.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, (grpc.aio.InternalError, UnicodeDecodeError))
