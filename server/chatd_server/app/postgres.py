"""The shared database, put together."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from chatd_server.app.database import Database
from chatd_server.config.load import BadConfig
from chatd_server.config.settings import Config
from chatd_server.domain.ids import WorkerId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import NullObserver, Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.link import AWAY, unavailable
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.slots import Slots
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.postgres.wake import PostgresWake
from chatd_server.store.shared.upgrade import SCHEMA


async def open_database(
    config: Config, worker_id: WorkerId, clock: Clock, observer: Observer
) -> Database:
    """Open it for a server, which takes the place of the one before it in this home."""
    database, store = await _opened(config, clock, observer)
    try:
        await store.take_place(Slots(config.home_path, config.shown_database), worker_id)
    except BaseException:
        await database.close()
        raise
    return database


async def open_keys(config: Config, clock: Clock) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    database, _ = await _opened(config, clock, NullObserver())
    return database.keys, database.close


async def migrate_database(config: Config) -> tuple[str | None, str]:
    with _named(config):
        try:
            return await migrate(config.database.database_url), SCHEMA
        except AWAY as error:
            raise unavailable(error) from error


async def _opened(
    config: Config, clock: Clock, observer: Observer
) -> tuple[Database, PostgresStore]:
    with _named(config):
        if config.database.migrate:
            await migrate_database(config)
        wake = PostgresWake(config.database.database_url, clock, observer)
        store = await PostgresStore.open(
            config.database.database_url,
            clock=clock,
            wake=wake,
            observer=observer,
            writers=config.database.postgres_connections,
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
        return Database(store, keys, wake, listen=store.listen, close=close), store


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
