"""One port: what it listens on, what answers there, and what it promises to connections."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import grpc
import msgspec

from chatd_server.rpc.edge.grpc_server import Handler, new_server, register

PING_INTERVAL_MIN_SECONDS = 20
"""Clients may ping this often, also without calls; more often is cut as too_many_pings. grpc's
own floor of 5 minutes cuts clients behind balancers that need a ping a minute."""

KEEPALIVE_SECONDS = 60
"""How often the server pings a silent connection, to find one whose peer is gone."""

KEEPALIVE_TIMEOUT_SECONDS = 20

CONNECTION_AGE_SECONDS_MAX = 30 * 60
"""Balancers spread connections, not RPCs: a connection is told to go after this time, and new
calls go to another replica."""

CONNECTION_GRACE_SECONDS = 60 * 60
"""Open streams may finish after that; above Subscribe's own longest duration."""

PENDING_CALLS_MAX = 10_000
"""Calls that arrived and that Python has not seen yet. grpc's own bound is about 1,000, and it
answers CANCELLED beyond it, which looks to a client as if it had cancelled by itself: of 5,000
calls that one client made at once, a third were lost."""

HANDSHAKE_SECONDS_MAX = 10
"""How long a new connection may take to begin to speak HTTP/2; grpc's own default is 120."""

CONNECTION_IDLE_SECONDS_MAX = 5 * 60
"""A connection without a call is told to go after this time; a client library connects again with
its next call and does not notice."""

STREAMS_PER_CONNECTION_MAX = 20_000
"""Not the protection against too many streams (that is per owner and per chat): a client library
multiplexes all its calls over one connection."""

GRPC_RECEIVE_BYTES_MAX = 4 * 1024 * 1024
"""grpc's own limit, its default. Ours is lower and has an error that says so; above it grpc
answers a bare RESOURCE_EXHAUSTED by itself."""


class PortInUse(Exception):
    """The address cannot be listened on."""


class Service(Protocol):
    """Something that answers methods."""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """How its methods are answered, by "package.Service/Method"."""


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and how."""

    host: str
    #: 0 takes a free one.
    port: int
    #: Let several processes share the port; the kernel spreads connections over them.
    reuse_port: bool = False
    #: How connections are secured: not at all until there is TLS.
    credentials: grpc.ServerCredentials = grpc.insecure_server_credentials()

    @property
    def address(self) -> str:
        """The address as grpc takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Listener:
    """One port, and the services that answer on it."""

    def __init__(self, listen: Listen, services: Iterable[Service]) -> None:
        self._listen = listen
        self._server = new_server(_options(listen))
        for service in services:
            register(self._server, service.handlers)
        self.port = 0

    async def start(self) -> None:
        """Take the port and answer calls. Raises PortInUse."""
        address = self._listen.address
        try:
            self.port = self._server.add_secure_port(address, self._listen.credentials)
        except RuntimeError as error:
            raise PortInUse(address) from error
        await self._server.start()

    async def ended(self) -> None:
        """Wait until it is stopped; raises its exception when it fails."""
        await self._server.wait_for_termination()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let open ones finish for this long, then cut them."""
        await self._server.stop(grace_seconds)


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
