"""grpc's asyncio server, without three weaknesses that a hostile client can use and one that
costs time.

- It decodes the path of each call in its main loop, so one path that is not UTF-8 ends the server
  for all clients. Here every method is registered by name and C-core compares the bytes; any other
  path is answered UNIMPLEMENTED and never decoded.
- It logs a traceback whenever a client leaves while its response is sent.
- It has no deadline for the request of a call (see `edge.arrivals`).
- Its main loop waits for all methods together, and begins that wait again for every call: with 30
  methods a quarter of what a small call costs. Here each method is served by a task of its own.

The first and the last need private parts of grpc. Where those are not as expected, grpc's own
server is used as it is.
"""

# ruff: noqa: SLF001  the private parts are the point

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # Cython has no types

from chatd_server.rpc.edge.wakes import read_at_once

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Options: TypeAlias = Iterable[tuple[str, int]]

UNKNOWN = "(unknown)"
"""The method's name in grpc's own log, in place of what the client sent."""


def new_server(options: Options) -> grpc.aio.Server:
    """Return a server that answers registered methods only."""
    logging.getLogger(cygrpc.__name__).addFilter(_is_worth_a_line)
    options = tuple(options)
    with read_at_once(asyncio.get_running_loop()):
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
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._answered: dict[str, Handler] = {}

    def add_registered_method_handlers(self, handlers: Mapping[str, Handler]) -> None:
        super().add_registered_method_handlers(handlers)
        self._answered.update(handlers)

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[None]":
        """Return a task that serves a method, or all that are not registered (None), until the
        server stops. The main loop waits for these tasks and is given no call.
        """
        return asyncio.get_running_loop().create_task(self._serve(method), name="rpc.serve")

    async def _serve(self, method: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        name = UNKNOWN if method is None else method.decode()
        methods = cygrpc._MethodResolver([], {} if method is None else self._answered)
        open_calls: set[asyncio.Task[None]] = set()
        while True:
            if method is None:
                state = await self._request_call()
            else:
                state = await self._request_registered_call(method)
            answer = cygrpc._handle_rpc(name, methods, (), state, loop, False)
            call = loop.create_task(cygrpc._schedule_rpc_coro(answer, state, loop, name))
            open_calls.add(call)
            call.add_done_callback(open_calls.discard)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Drop what grpc logs when it cannot send because the client has left, and when a header is
    not UTF-8: that line shows the bytes, and they may be a key.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, (grpc.aio.InternalError, UnicodeDecodeError))
