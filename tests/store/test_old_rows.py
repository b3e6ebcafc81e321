"""A database of each revision, with rows in every table, is migrated and read by this server."""

from functools import partial
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from chatd_server.domain.chat import Status
from chatd_server.domain.event import ChatUpdated, MessageCommitted, QueueChanged, StatusChanged
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.message import Role, Text
from chatd_server.ports.store import RequestKey
from chatd_server.store.postgres import migrate as postgres
from chatd_server.store.shared import upgrade
from chatd_server.store.sqlite import migrate as sqlite
from tests.store.conftest import STORES, PostgresStores, SqliteStores, Stores, key_store
from tests.store.desk import Desk, assert_gap_free
from tests.store.old_rows import AT, CHAT, KEY_HASH, SECRET, rows_of


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade.__file__).parent / "migrations"))
    return config


REVISIONS = [it.revision for it in ScriptDirectory.from_config(_alembic()).walk_revisions()]


@pytest.fixture(params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Give each kind of store in turn; its database is empty."""
    if request.param == "postgres":
        return PostgresStores(request.getfixturevalue("postgres_url"))
    return SqliteStores(tmp_path)


async def made(stores: Stores, revision: str) -> str | None:
    """Make a database of a revision, and migrate it; return what the migration found."""
    if isinstance(stores, PostgresStores):
        connect = partial(asyncpg.connect, stores.url)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
        async with engine.begin() as connection:
            await connection.run_sync(partial(fill, revision=revision))
        await engine.dispose()
        return await postgres.migrate(stores.url)
    assert isinstance(stores, SqliteStores)
    file = sa.create_engine(f"sqlite:///{stores.path}")
    with file.begin() as link:
        fill(link, revision)
    file.dispose()
    return sqlite.migrate(stores.path)


def fill(connection: sa.Connection, revision: str) -> None:
    """Make the tables of a revision, and insert its rows into every table."""
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    database = sa.MetaData()
    database.reflect(connection)
    rows = rows_of(revision)
    tables = [it for it in database.sorted_tables if it.name != "alembic_version"]
    assert {it.name for it in tables} == rows.keys(), "give each table of the revision a row"
    for table in tables:
        connection.execute(sa.insert(table), rows[table.name])


@pytest.mark.parametrize("revision", REVISIONS)
async def test_rows_of_each_revision_are_read_after_the_migration(
    stores: Stores, revision: str
) -> None:
    """Nothing that an earlier server wrote is lost, and a worker goes on with it."""
    assert await made(stores, revision) == revision
    store = await stores.open()
    try:
        desk = Desk(store, stores.clock)
        state = await store.load(CHAT)
        assert (state.status, state.revision, state.config.title) == (Status.PENDING, 8, "old")
        assert state.config.labels == {"team": "a"}
        assert [it.parts for it in state.queue] == [(Text("later"),)]
        assert [(it.id, it.started_at, it.outcome and it.outcome.output) for it in state.calls] == [
            ("a", AT, "seen"),
            ("b", None, None),
        ]

        log = await desk.log(CHAT)
        assert_gap_free(log, state)
        kinds = [ChatUpdated, MessageCommitted, StatusChanged, MessageCommitted, QueueChanged]
        assert [type(it.event) for it in log] == kinds
        messages, _ = await store.messages(CHAT, after_position=0, limit=9, bytes_max=1 << 20)
        assert [(it.role, it.parts[0]) for it in messages] == [
            (Role.USER, Text("hello")),
            (Role.ASSISTANT, Text("answer")),
        ]
        again = await desk.send(CHAT, "later", request=RequestKey("ann/SendMessage/r1", b"body"))
        assert again.replayed
        assert again.reply.queued == state.queue[0]

        key = await key_store(store).find_key(KEY_HASH)
        assert key is not None
        assert (key.id, key.owner_id) == ("k1", OwnerId("ann"))
        assert (await store.secret("pages") == SECRET) is ("secrets" in rows_of(revision))

        (acquired,) = await desk.acquire()
        assert acquired.state.calls == state.calls
        assert [it.position for it in acquired.messages] == [1, 2]
        assert await desk.create() != CHAT
    finally:
        await stores.close_all()
