"""How a connection to PostgreSQL is made, and which failures mean that the database is away.

Every connection of chatd is a raw asyncpg one, opened here.
"""

import os
import socket

import asyncpg

from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.ports.clock import Clock

CONNECT_SECONDS_MAX = 10.0
"""Longer than a managed database needs to answer during a failover, shorter than a client waits."""
SILENCE_SECONDS_MAX = 30
"""A server that has acknowledged nothing for this time is gone, although no error came."""
STATEMENTS_MAX = 256
"""Prepared statements of one connection: more than there are."""

AWAY = (
    OSError,  # refused, reset, no such host; TimeoutError is one of them
    asyncpg.InterfaceError,  # the connection was closed
    asyncpg.InternalClientError,  # cut in the middle of the protocol
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.InsufficientPrivilegeError,  # its owner has to allow it first
    asyncpg.OperatorInterventionError,  # class 57: shut down, starting up, cancelled
    asyncpg.InsufficientResourcesError,  # class 53: disk full, out of memory, too many clients
    asyncpg.PostgresIOError,  # class 58
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
    asyncpg.TransactionRollbackError,  # class 40: a deadlock with a stranger's statement
)
"""Errors of the driver while the database cannot be reached or cannot do the work."""

_SESSION = {
    "application_name": "chatd",
    "default_transaction_isolation": "read committed",
    # Each of our statements has one plan for all arguments.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # A replica whose machine has died must not hold a row's lock.
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_TCP_OPTIONS = {
    "TCP_KEEPIDLE": SILENCE_SECONDS_MAX // 3,
    "TCP_KEEPINTVL": SILENCE_SECONDS_MAX // 6,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": SILENCE_SECONDS_MAX * 1000,
}


async def connect(url: str, clock: Clock, **settings: str) -> asyncpg.Connection:
    """Open a connection; `settings` are parameters of the session. Raises DatabaseUnavailable."""
    try:
        async with clock.timeout(CONNECT_SECONDS_MAX, "postgres.connect"):
            link = await asyncpg.connect(
                dsn=plain_url(url),
                server_settings=_SESSION | settings,
                statement_cache_size=STATEMENTS_MAX,
                max_cached_statement_lifetime=0,
            )
    except AWAY as error:
        raise unavailable(error) from error
    _notice_silence(link)
    return link


def _notice_silence(link: asyncpg.Connection) -> None:
    """Let the kernel end the connection when the other machine died without closing it.

    It costs a statement nothing, where a timer for each would.
    """
    transport = link._transport  # noqa: SLF001  the driver has no public way to its socket
    # A second handle on the same socket: the transport's own is read-only.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as handle:
        if handle.family not in (socket.AF_INET, socket.AF_INET6):
            return
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TCP_OPTIONS.items():
            # Not every system has all of them.
            if hasattr(socket, option):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def plain_url(url: str) -> str:
    """Return the URL without the driver that SQLAlchemy writes into the scheme."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """Return the store's error for a failure of AWAY; it never carries the URL.

    A wrong argument is a defect of ours, although the driver's error has the same class: it is
    raised again.
    """
    if isinstance(error, ValueError):
        raise error
    return DatabaseUnavailable(f"PostgreSQL cannot do this now ({type(error).__name__}): {error}")
