"""The gRPC server: what listens, what it promises to connections, and how it leaves."""

import asyncio
from collections.abc import Sequence

import msgspec

from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Upkeep
from chatd_server.rpc.edge import health, reflection
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.dispatch import Dispatch
from chatd_server.rpc.edge.grpc_server import new_server, register
from chatd_server.rpc.edge.health import Health
from chatd_server.rpc.edge.reflection import Reflection
from chatd_server.rpc.edge.table import SERVICES

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

PENDING_CALLS_MAX = 10_000
"""Calls that arrived and that Python has not seen yet. grpc's own bound is about 1,000, and it
answers CANCELLED beyond it, which a client takes for its own doing: of 5,000 calls that one
client made at once, a third were lost."""

HANDSHAKE_SECONDS_MAX = 10
"""How long a new connection may take to begin to speak HTTP/2; grpc's own default is 120."""

CONNECTION_IDLE_SECONDS_MAX = 5 * 60
"""A connection without a call is told to go after this time; a client library connects again with
its next call and does not notice."""

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
        arrivals: Arrivals,
        store: Upkeep,
        clock: Clock,
        listen: Listen,
    ) -> None:
        self._listen = listen
        self._store = store
        self._clock = clock
        self._arrivals = arrivals
        self._health = Health((it.full_name for it in SERVICES), arrivals)
        self._reflection = Reflection(service_names(), authenticator, arrivals)
        self._tasks: list[asyncio.Task[None]] = []
        self._server = new_server(_options(listen))
        for part in (dispatch, self._health, self._reflection):
            register(self._server, part.handlers)
        self.port = 0

    async def start(self) -> int:
        """Listen; return the port. Raises PortInUse."""
        try:
            self.port = self._server.add_insecure_port(self._listen.address)
        except RuntimeError as error:
            raise PortInUse(self._listen.address) from error
        self._health.set(serving=True)
        await self._server.start()
        self._tasks = [
            asyncio.create_task(self._watch_health(), name="rpc.health"),
            asyncio.create_task(self._arrivals.sweep(), name="rpc.arrivals"),
        ]
        return self.port

    async def failed(self) -> None:
        """Wait until it is stopped; raises what it died of when nobody stopped it."""
        await self._server.wait_for_termination()

    async def enter_drain(self) -> None:
        """Say NOT_SERVING, so that balancers send nobody any more; still answer."""
        self._health.leave()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let open ones finish for so long, then cut them."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.stop(grace_seconds)

    async def _watch_health(self) -> None:
        """Follow the database: a server without it cannot serve, and says so."""
        serving = True
        while True:
            await self._clock.sleep(HEALTH_POLL_SECONDS, "rpc.health")
            reachable = await self._store.is_reachable()
            if reachable != serving:
                serving = reachable
                self._health.set(serving=serving)


def service_names() -> Sequence[str]:
    """Return the full names of all services of this server."""
    return (*(service.full_name for service in SERVICES), health.SERVICE, reflection.SERVICE)


def _options(listen: Listen) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(listen.reuse_port)),
        ("grpc.max_receive_message_length", GRPC_RECEIVE_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS_MAX * 1000),
        ("grpc.max_connection_idle_ms", CONNECTION_IDLE_SECONDS_MAX * 1000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS_MAX * 1000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1000),
    ]
