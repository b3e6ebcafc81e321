"""The embedded database, put together."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chatd_server.app.database import Database
from chatd_server.config.settings import Config
from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore
from chatd_server.store.shared.errors import DatabaseInUse, NoDatabase
from chatd_server.store.shared.upgrade import SCHEMA
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.files import FileLock
from chatd_server.store.sqlite.key_file import SqliteKeyFile
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.migrate import migrate
from chatd_server.store.sqlite.store import SqliteStore

T = TypeVar("T")

_log = logging.getLogger("chatd_server")

MIGRATION_PAUSE_SECONDS = 0.25
"""Between two looks whether a file is migrated."""
MIGRATION_TRIES_MAX = 40
"""Ten seconds: a new file is migrated in less than one, on a slow machine in a few."""
MIGRATION_TRIES_UNTIL_SAID = 5
"""After a second a person wants to know what takes so long."""


async def open_database(config: Config, clock: Clock, observer: Observer) -> Database:
    wake = LocalWake()
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await _when_migrated(
        lambda: SqliteStore.open(path, clock=clock, wake=wake, observer=observer), clock
    )
    keys = SqliteKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=store.close)


async def open_keys(
    config: Config, clock: Clock, *, may_create: bool
) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    if not may_create and not config.sqlite_path.exists():
        raise NoDatabase(str(config.sqlite_path))
    config.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def keys() -> KeyStore:
        return SqliteKeyFile(config.sqlite_path)

    return await _when_migrated(keys, clock), _nothing_to_close


async def migrate_database(config: Config, clock: Clock) -> tuple[str | None, str]:
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def locked() -> FileLock:
        return FileLock(path)

    lock = await _when_migrated(locked, clock)
    try:
        return migrate(path), SCHEMA
    finally:
        lock.release()


async def _when_migrated(opened: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Open a database file; while another process migrates it, wait and try again.

    Two commands may be the first of a home at the same time. Raises StoreError.
    """
    tries = 0
    while True:
        try:
            return await opened()
        except DatabaseInUse as taken:
            tries += 1
            if not taken.migrates or tries > MIGRATION_TRIES_MAX:
                raise
            if tries == MIGRATION_TRIES_UNTIL_SAID:
                _log.warning("%s. Trying again for a few seconds", taken)
        await clock.sleep(MIGRATION_PAUSE_SECONDS, "database.migrates")


async def _nothing_to_close() -> None:
    """Do nothing: the file is open only while a statement runs."""
