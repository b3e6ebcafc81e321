"""The embedded database, put together."""

from collections.abc import Awaitable, Callable

from chatd_server.app.database import Database
from chatd_server.config.settings import Config
from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.keys import KeyStore
from chatd_server.store.shared.errors import NoDatabase
from chatd_server.store.shared.upgrade import SCHEMA
from chatd_server.store.shared.wake import LocalWake
from chatd_server.store.sqlite.files import FileLock
from chatd_server.store.sqlite.key_file import SqliteKeyFile
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.migrate import migrate
from chatd_server.store.sqlite.store import SqliteStore


async def open_database(config: Config, clock: Clock, observer: Observer) -> Database:
    wake = LocalWake()
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await SqliteStore.open(path, clock=clock, wake=wake, observer=observer)
    keys = SqliteKeyStore(store)
    return Database(store=store, keys=keys, wake=wake, listen=store.listen, close=store.close)


async def open_keys(
    config: Config, *, may_create: bool
) -> tuple[KeyStore, Callable[[], Awaitable[None]]]:
    if not may_create and not config.sqlite_path.exists():
        raise NoDatabase(str(config.sqlite_path))
    config.sqlite_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteKeyFile(config.sqlite_path), _nothing_to_close


def migrate_database(config: Config) -> tuple[str | None, str]:
    path = config.sqlite_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        return migrate(path), SCHEMA
    finally:
        lock.release()


async def _nothing_to_close() -> None:
    """Do nothing: the file is open only while a statement runs."""
