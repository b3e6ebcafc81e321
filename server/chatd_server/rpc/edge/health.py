"""grpc.health.v1: whether this server serves. Balancers and probes have no key.

The library's servicer is not used because it holds a lock while it sends: one watcher that does not
read stops every later change of the status, and keeps the server from leaving.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from chatd_server.domain.limits import WATCHES_MAX, WATCHES_PER_CONNECTION_MAX
from chatd_server.domain.refusal import Refused, TooManyStreams
from chatd_server.rpc.edge import errors
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.grpc_server import Handler
from chatd_server.rpc.edge.wire import decoded

SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
Status: TypeAlias = int
"""A value of HealthCheckResponse.ServingStatus."""
_Response = health_pb2.HealthCheckResponse


class Health:
    """The status of every service: all the same, because they share the database."""

    def __init__(self, services: Iterable[str], arrivals: Arrivals) -> None:
        self._services = frozenset(services)
        self._arrivals = arrivals
        self._status: Status = _Response.NOT_SERVING
        self._is_final = False
        #: Set when the status changes, and then replaced.
        self._changed = asyncio.Event()
        self._watches: Counter[str] = Counter()

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """How its methods are answered."""
        return {
            f"{SERVICE}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"{SERVICE}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def set(self, *, serving: bool) -> None:
        """Change the status and tell the watchers; nothing changes after `leave`."""
        if self._is_final:
            return
        self._status = _Response.SERVING if serving else _Response.NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def leave(self) -> None:
        """Say NOT_SERVING from now on."""
        self.set(serving=False)
        self._is_final = True

    async def _check(self, _requests: object, context: Any) -> bytes:
        status = self._status_of(await self._asked(context))
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _Response(status=status).SerializeToString()

    async def _watch(self, _requests: object, context: Any) -> None:
        service = await self._asked(context)
        peer = context.peer()
        if self._watches[peer] >= WATCHES_PER_CONNECTION_MAX:
            what = f"this connection has {WATCHES_PER_CONNECTION_MAX} health watches open"
            await errors.abort(context, TooManyStreams(f"{what}; share one of them"))
        if self._watches.total() >= WATCHES_MAX:
            what = f"this server has {WATCHES_MAX} health watches open"
            await errors.abort(context, TooManyStreams(f"{what}; use Check"))
        self._watches[peer] += 1
        try:
            await self._tell(service, context)
        finally:
            self._watches[peer] -= 1
            self._watches += Counter()  # forgets connections without any

    async def _tell(self, service: str, context: Any) -> None:
        told: Status | None = None
        while True:
            changed = self._changed
            status = self._status_of(service)
            if status != told:
                await context.write(_Response(status=status).SerializeToString())
                told = status
            await changed.wait()

    async def _asked(self, context: Any) -> str:
        try:
            raw = await self._arrivals.request(context)
            request: Any = decoded(health_pb2.HealthCheckRequest, raw)
        except Refused as error:
            await errors.abort(context, error)
        service: str = request.service
        return service

    def _status_of(self, service: str) -> Status:
        is_known = not service or service in self._services
        return self._status if is_known else _Response.SERVICE_UNKNOWN
