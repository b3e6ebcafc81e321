"""The stores that sit the exam. A new one is a subclass of `Stores` and a name in STORES."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId
from chatd_server.ports import Applied, Store
from chatd_server.store.sqlite.store import SqliteStore
from tests.kit.clock import ManualClock
from tests.kit.observer import RecordingObserver


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


STORES = ("sqlite",)


def make_stores(request: pytest.FixtureRequest, folder: Path) -> Stores:
    """Return the stores that a parameter names; a server's URL comes from its own fixture."""
    assert request.param == "sqlite"
    return SqliteStores(folder)


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
async def sqlite_stores(tmp_path: Path) -> AsyncIterator[SqliteStores]:
    """Give the embedded store alone, for what only it promises."""
    opened = SqliteStores(tmp_path)
    yield opened
    await opened.close_all()
