"""Opens what a database URL names, and migrates it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec

from chatd_server.config.load import BadConfig, Config
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import NullObserver, Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore
from chatd_server.ports.store import CommitListener, Store
from chatd_server.store.postgres import migrate as postgres
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.link import AWAY, unavailable
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.postgres.wake import PostgresWake
from chatd_server.store.shared.errors import NoDatabase
from chatd_server.store.shared.upgrade import SCHEMA
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite import migrate as sqlite
from chatd_server.store.sqlite.files import FileLock
from chatd_server.store.sqlite.key_file import SqliteKeyFile
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.store import SqliteStore


class Database(msgspec.Struct, frozen=True):
    """An open database and its parts."""

    store: Store
    keys: KeyStore
    wake: LocalWake | PostgresWake
    listen: Callable[[CommitListener], None]
    close: Callable[[], Awaitable[None]]


async def open_database(config: Config, clock: Clock, observer: Observer) -> Database:
    """Open what the URL names. Raises StoreError, DatabaseUnavailable."""
    if config.is_postgres:
        with _named(config):
            return await _postgres(config, clock, observer)
    wake = LocalWake()
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await SqliteStore.open(path, clock=clock, wake=wake, observer=observer)
    keys = SqliteKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=store.close)


@contextmanager
def _named(config: Config) -> Iterator[None]:
    """Name the database in the error, and what to check."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(
            f"the database {config.shown_database} cannot be used: {error}. Check that it is "
            "running, that this host can reach it, that the user has the privilege, and that "
            "database_url is right"
        ) from error
    except ValueError as error:
        raise BadConfig(
            f"database_url = {config.shown_database} cannot be used: {error}"
        ) from error


async def _postgres(config: Config, clock: Clock, observer: Observer) -> Database:
    if config.migrate:
        await migrate_database(config)
    wake = PostgresWake(config.database_url, clock, observer)
    store = await PostgresStore.open(
        config.database_url,
        clock=clock,
        wake=wake,
        observer=observer,
        writers=config.postgres_connections,
    )

    async def close() -> None:
        await wake.stop()
        await store.close()

    try:
        await wake.start()
    except BaseException:
        await store.close()
        raise
    keys = PostgresKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=close)


async def open_keys(
    config: Config, clock: Clock, *, may_create: bool
) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    """Open the keys alone, also while a server runs; return how to close them too.

    Raises NoDatabase for a file that is not there, unless it may be created.
    """
    if config.is_postgres:
        database = await open_database(config, clock, NullObserver())
        return database.keys, database.close
    if not may_create and not config.sqlite_path.exists():
        raise NoDatabase(str(config.sqlite_path))
    config.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteKeyFile(config.sqlite_path), _nothing_to_close


async def migrate_database(config: Config) -> tuple[str | None, str]:
    """Bring the database to this server's schema; return the one before and the one now.

    Raises SchemaTooNew, DatabaseInUse, DatabaseUnavailable.
    """
    if config.is_postgres:
        with _named(config):
            try:
                return await postgres.migrate(config.database_url), SCHEMA
            except AWAY as error:
                raise unavailable(error) from error
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        return sqlite.migrate(path), SCHEMA
    finally:
        lock.release()


async def _nothing_to_close() -> None:
    """Do nothing: the file is open only while a statement runs."""
