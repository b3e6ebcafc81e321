"""The stores that sit the exam. A new one is a subclass of `Stores` and a name in STORES."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from chatd_server.clock import RealClock
from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId
from chatd_server.ports.keys import KeyStore
from chatd_server.ports.store import Applied, Store
from chatd_server.store.postgres.keys import PostgresKeyStore
from chatd_server.store.postgres.migrate import migrate
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.sqlite.keys import SqliteKeyStore
from chatd_server.store.sqlite.store import SqliteStore
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver
from tests.kit.postgres import Postgres, PostgresUnavailableError
from tests.kit.require import missing
from tests.store.desk import Desk


class HeardCommits:
    """A `CommitListener` that remembers."""

    def __init__(self) -> None:
        self.commits: list[Applied] = []

    def committed(self, applied: Applied) -> None:
        """Take a commit."""
        self.commits.append(applied)


class HeardHints:
    """A `Wake` that remembers."""

    def __init__(self) -> None:
        self.hints: list[tuple[ChatId, int, Status]] = []

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Take a hint."""
        self.hints.append((chat_id, revision, status))

    def listen(self, callback: Callable[[ChatId, int, Status], None]) -> Callable[[], None]:
        """Nobody listens in these tests."""
        raise NotImplementedError

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Nobody listens in these tests."""
        raise NotImplementedError


class Stores:
    """Opens stores on one fresh database, with a clock that the test holds."""

    #: Whether two stores may be open on the database at once.
    shared = False

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.heard = HeardCommits()
        self.hints = HeardHints()
        self.observer = RecordingObserver()

    async def open(self) -> Store:
        """Open the database; with `shared`, once more."""
        raise NotImplementedError

    async def close(self, store: Store) -> None:
        """Close one of the open stores."""
        raise NotImplementedError

    async def close_all(self) -> None:
        """Close what is open."""
        raise NotImplementedError

    async def reopen(self, store: Store) -> Store:
        """Close a store and open its database again, as a restart of the server does."""
        await self.close(store)
        return await self.open()


class SqliteStores(Stores):
    """The embedded store on a real file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "chatd.db"
        self._open: list[SqliteStore] = []

    async def open(self) -> SqliteStore:
        """Open the file."""
        store = await SqliteStore.open(
            self.path, clock=self.clock, wake=self.hints, observer=self.observer
        )
        store.listen(self.heard)
        self._open.append(store)
        return store

    async def close(self, store: Store) -> None:
        """Close it."""
        assert isinstance(store, SqliteStore)
        self._open.remove(store)
        await store.close()

    async def close_all(self) -> None:
        """Close it if it is open."""
        for store in list(self._open):
            await self.close(store)


class PostgresStores(Stores):
    """The shared store on a real server. Its time is the test's, not PostgreSQL's."""

    shared = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._open: list[PostgresStore] = []

    async def open(self) -> PostgresStore:
        """Connect to the database once more."""
        store = await PostgresStore.open(
            self.url,
            clock=RealClock(),
            wake=self.hints,
            observer=self.observer,
            writers=WRITERS,
            held_time=self.clock.now,
        )
        store.listen(self.heard)
        self._open.append(store)
        return store

    async def close(self, store: Store) -> None:
        """Close it."""
        assert isinstance(store, PostgresStore)
        self._open.remove(store)
        await store.close()

    async def close_all(self) -> None:
        """Close what is open."""
        for store in list(self._open):
            await self.close(store)


def key_store(store: Store) -> KeyStore:
    """Return the keys of a store's database."""
    if isinstance(store, PostgresStore):
        return PostgresKeyStore(store)
    assert isinstance(store, SqliteStore)
    return SqliteKeyStore(store)


STORES = ("sqlite", "postgres")
WRITERS = 4
"""Connections of a store in these tests: fewer than the writers of some."""


def make_stores(request: pytest.FixtureRequest, folder: Path) -> Stores:
    """Return the stores that a parameter names; a server's URL comes from its own fixture."""
    if request.param == "postgres":
        return PostgresStores(request.getfixturevalue("migrated_url"))
    return SqliteStores(folder)


@pytest.fixture(scope="session")
def template_url(postgres: Postgres | PostgresUnavailableError) -> str:
    """Migrate a database once, to be copied for each test."""
    if isinstance(postgres, PostgresUnavailableError):
        missing("postgres", str(postgres))
    url = postgres.create_database()
    with ThreadPoolExecutor(1) as aside:  # the caller may be on a loop already
        aside.submit(lambda: asyncio.run(migrate(url))).result()
    return url


@pytest.fixture
def migrated_url(postgres: Postgres | PostgresUnavailableError, template_url: str) -> Iterator[str]:
    """Give the URL of a fresh database with the newest schema."""
    assert isinstance(postgres, Postgres)
    url = postgres.create_database(template_url.rpartition("/")[2])
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=STORES)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Give each store in turn its fresh database."""
    opened = make_stores(request, tmp_path)
    yield opened
    await opened.close_all()


@pytest.fixture
async def store(stores: Stores) -> Store:
    """Give a store on a fresh database."""
    return await stores.open()


@pytest.fixture
def desk(stores: Stores, store: Store) -> Desk:
    """Give the verbs of the exam on that store."""
    return Desk(store, stores.clock)


@pytest.fixture
async def sqlite_stores(tmp_path: Path) -> AsyncIterator[SqliteStores]:
    """Give the embedded store alone, for what only it promises."""
    opened = SqliteStores(tmp_path)
    yield opened
    await opened.close_all()


@pytest.fixture
async def replicas(migrated_url: str) -> AsyncIterator[PostgresStores]:
    """Give the shared store alone, for what only it promises."""
    opened = PostgresStores(migrated_url)
    yield opened
    await opened.close_all()


@pytest.fixture
async def stranger(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection to the shared store's database that is not chatd's."""
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()
