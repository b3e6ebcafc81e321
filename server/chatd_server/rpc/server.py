"""The gRPC server: what listens, what it promises to connections, and how it leaves."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import grpc
import msgspec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_NAME
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from chatd_server.domain.refusal import Refused, Unavailable
from chatd_server.ports import Clock, Store
from chatd_server.rpc import errors
from chatd_server.rpc.auth import Authenticator
from chatd_server.rpc.dispatch import Dispatch
from chatd_server.rpc.table import SERVICES

PING_INTERVAL_MIN_SECONDS = 20
"""Clients may ping this often, also without calls; more often is cut as too_many_pings. grpc's
own floor of 5 minutes cuts clients behind balancers that need a ping a minute."""

KEEPALIVE_SECONDS = 60
"""How often the server pings a silent connection, to notice one whose peer is gone."""

KEEPALIVE_TIMEOUT_SECONDS = 20

CONNECTION_AGE_SECONDS_MAX = 30 * 60
"""Balancers spread connections, not RPCs: a connection is told to go after this time, and new
calls go to another replica."""

CONNECTION_GRACE_SECONDS = 60 * 60
"""Open streams may finish after that; above Subscribe's own longest duration."""

STREAMS_PER_CONNECTION_MAX = 20_000
"""Not the protection against too many streams (that is per owner and per chat): a client library
multiplexes all its calls over one connection."""

GRPC_RECEIVE_BYTES_MAX = 4 * 1024 * 1024
"""grpc's own limit, its default. Ours lies below it and has an error that says so; above it
grpc answers a bare RESOURCE_EXHAUSTED by itself."""

HEALTH_POLL_SECONDS = 5.0
"""How often the database is asked whether it answers, for health."""


class PortInUse(Exception):
    """The address cannot be listened on."""


class Listen(msgspec.Struct, frozen=True):
    """Where to listen. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 7717
    #: Let several processes share the port; the kernel spreads connections over them.
    reuse_port: bool = False

    @property
    def address(self) -> str:
        """The address as grpc takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class RpcServer:
    """Listens, answers, and leaves in order."""

    def __init__(
        self,
        dispatch: Dispatch,
        authenticator: Authenticator,
        store: Store,
        clock: Clock,
        listen: Listen,
    ) -> None:
        self._listen = listen
        self._store = store
        self._clock = clock
        self._health = health_aio.HealthServicer()
        self._health_task: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(options=_options(listen))
        self._server.add_generic_rpc_handlers((dispatch,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # so in the stubs
            GuardedReflection(service_names(), authenticator), self._server
        )
        self.port = 0

    async def start(self) -> int:
        """Listen; return the port. Raises PortInUse."""
        try:
            self.port = self._server.add_insecure_port(self._listen.address)
        except RuntimeError as error:
            raise PortInUse(self._listen.address) from error
        await self._set_health(serving=True)
        await self._server.start()
        self._health_task = asyncio.create_task(self._watch_health(), name="rpc.health")
        return self.port

    async def enter_drain(self) -> None:
        """Say NOT_SERVING, so that balancers send nobody any more; still answer."""
        await self._stop_watching_health()
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let open ones finish for so long, then cut them."""
        await self._stop_watching_health()
        await self._server.stop(grace_seconds)

    async def _watch_health(self) -> None:
        """Follow the database: a server without it cannot serve, and says so."""
        serving = True
        while True:
            await self._clock.sleep(HEALTH_POLL_SECONDS, "rpc.health")
            reachable = await self._store.is_reachable()
            if reachable != serving:
                serving = reachable
                await self._set_health(serving=serving)

    async def _stop_watching_health(self) -> None:
        task, self._health_task = self._health_task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _set_health(self, *, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, status)


class GuardedReflection(reflection_pb2_grpc.ServerReflectionServicer):
    """Reflection for callers with a key."""

    def __init__(self, names: Sequence[str], authenticator: Authenticator) -> None:
        self._reflection = reflection_aio.ReflectionServicer(names)
        self._authenticator = authenticator

    async def ServerReflectionInfo(
        self,
        request_iterator: AsyncIterable[reflection_pb2.ServerReflectionRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer what the contract looks like."""
        requests = aiter(request_iterator)
        # grpc's own client fails by itself when it is refused before it could ask.
        first = await anext(requests, None)
        try:
            await self._authenticator.caller(context.invocation_metadata() or ())
        except (Refused, Unavailable) as error:
            failure = errors.failure_of(error)
            assert failure is not None
            await context.abort(
                failure.code,
                failure.message,
                trailing_metadata=((errors.DETAILS_KEY, failure.details),),
            )
        # The stubs take the generator for a coroutine.
        told: Any = self._reflection.ServerReflectionInfo(_again(first, requests), context)
        async for response in told:
            yield response


async def _again(
    first: reflection_pb2.ServerReflectionRequest | None,
    rest: AsyncIterator[reflection_pb2.ServerReflectionRequest],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    """Yield what was read already, and then the rest."""
    if first is not None:
        yield first
    async for request in rest:
        yield request


def service_names() -> Sequence[str]:
    """Return the full names of all services of this server."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    return (*(service.full_name for service in SERVICES), health, REFLECTION_NAME)


def _options(listen: Listen) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(listen.reuse_port)),
        ("grpc.max_receive_message_length", GRPC_RECEIVE_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS_MAX * 1000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1000),
    ]
