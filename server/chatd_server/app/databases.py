"""Opens what a database URL names, and migrates it.

A database's driver is imported with its file here, and only when it is the one that is used.
"""

from collections.abc import Awaitable, Callable

from chatd_server.app.database import Database
from chatd_server.config.settings import Config
from chatd_server.domain.ids import WorkerId
from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore


async def open_database(
    config: Config, worker_id: WorkerId, clock: Clock, observer: Observer
) -> Database:
    """Open what the URL names. Raises StoreError, DatabaseUnavailable, BadConfig."""
    if config.is_postgres:
        from chatd_server.app import postgres

        return await postgres.open_database(config, worker_id, clock, observer)
    from chatd_server.app import sqlite

    return await sqlite.open_database(config, clock, observer)


async def open_keys(
    config: Config, clock: Clock, *, may_create: bool
) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    """Open the keys alone, also while a server runs; return how to close them too.

    Raises NoDatabase for a file that is not there, unless it may be created.
    """
    if config.is_postgres:
        from chatd_server.app import postgres

        return await postgres.open_keys(config, clock)
    from chatd_server.app import sqlite

    return await sqlite.open_keys(config, clock, may_create=may_create)


async def migrate_database(config: Config, clock: Clock) -> tuple[str | None, str]:
    """Bring the database to this server's schema; return the one before and the one now.

    Raises SchemaTooNew, DatabaseInUse, DatabaseUnavailable.
    """
    if config.is_postgres:
        from chatd_server.app import postgres

        return await postgres.migrate_database(config)
    from chatd_server.app import sqlite

    return await sqlite.migrate_database(config, clock)
